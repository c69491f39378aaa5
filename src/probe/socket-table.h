/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>
#include <sys/types.h>

#include "core/names.h"
#include "core/port-set.h"

/*
 * The kernel's socket table through sock_diag netlink (sock_diag(7), linux/inet_diag.h): listening
 * TCP sockets, bound TCP sockets that do not listen (where the kernel reports them, 6.8 and later),
 * and bound UDP sockets. One dump answers for all ports, disturbs nobody and needs no privilege.
 * It shows the network namespace of the caller alone.
 */
typedef enum SocketState {
    SOCKET_LISTENING, /* TCP in LISTEN, UDP that takes datagrams from anybody */
    SOCKET_BOUND,     /* TCP, bound and neither listening nor connected */
    SOCKET_CONNECTED, /* UDP with a peer; TCP with a peer or on its way */
    SOCKET_LINGERING, /* TCP in TIME_WAIT or closing, and no process has it any more */
} SocketState;

typedef struct SocketEntry {
    guint16 port; /* host byte order */
    Protocol protocol;
    gboolean listening; /* TCP: in LISTEN; UDP: always TRUE */
    SocketState state;
    gboolean v6;
    gboolean v6only;    /* of any IPv6 address but a dual-stack [::] and mapped ones */
    guint8 address[16]; /* network byte order; the first 4 bytes for IPv4 */
    uid_t uid;
    guint32 inode;
    guint64 cgroup_id; /* inode of the cgroup's folder, 0 = the kernel did not say */
} SocketEntry;

/**
 * SocketTable: the entries sorted by port, then protocol (TCP first), then listening ones first;
 * may be empty.
 */
typedef struct SocketTable {
    GArray *entries; /* of SocketEntry */
    guint32
        *first; /* owned: by port, 1 + index of its first entry, 0 = none; NULL: a small table */
    guint references; /* beside the first one */
} SocketTable;

/**
 * SocketDepth: how far a dump looks. Each one shows what the one before shows. The costs are for
 * 10,000 listeners, both families, tables of the size that a machine of some GiB has.
 */
typedef enum SocketDepth {
    SOCKET_DEPTH_LISTENING, /* listening TCP and all UDP: 9 ms, 0.1 ms where nothing is found */
    SOCKET_DEPTH_BOUND,     /* bound TCP, since Linux 6.8: 2 to 5 ms more, 1 ms where none is */
    SOCKET_DEPTH_USERS,     /* all of TCP: a walk through all connections of the machine */
} SocketDepth;

/**
 * socket_table_dump_deep: takes a picture of the sockets whose local port is within @range.
 * @range: {0, 0} for all ports.
 *
 * Blocks for as long as SocketDepth says; a receive timeout bounds each wait to 1 s. Where that is
 * too long for one turn of the main loop there is SocketDump.
 *
 * Returns: (transfer full): or NULL with @error in G_IO_ERROR; a partial dump is an error, never a
 *     short table, because a missing row would read as "not in use". One way to miss a row is left,
 *     and the kernel does not tell: a socket whose neighbours in the hash chain close between two
 *     packets of one dump. So a single absence proves nothing.
 */
SocketTable *socket_table_dump_deep(PortRange range, Protocol protocol, SocketDepth depth,
                                    GError **error);

/** socket_table_dump: socket_table_dump_deep() with SOCKET_DEPTH_BOUND. */
static inline SocketTable *socket_table_dump(PortRange range, Protocol protocol, GError **error)
{
    return socket_table_dump_deep(range, protocol, SOCKET_DEPTH_BOUND, error);
}

/**
 * socket_table_holder: who has the port: the listening socket, else a bound one, else a connection.
 * What lingers after a connection holds nothing and is passed over. Asks no deeper than it must.
 * @address: as for socket_entry_covers().
 * @ret_found: whether there is one, by the kernel's word.
 * @ret_entry: written when there is.
 *
 * Blocks for 0.1 ms where somebody listens, some milliseconds else.
 *
 * Returns: FALSE with @error as for socket_table_dump_deep().
 */
gboolean socket_table_holder(guint16 port, Protocol protocol, const char *address,
                             gboolean *ret_found, SocketEntry *ret_entry, GError **error);

/** socket_table_ref: another reference, for the same thread. Returns: @table. */
SocketTable *socket_table_ref(SocketTable *table);
/** socket_table_free: gives one reference back. NULL is fine. Returns: NULL. */
SocketTable *socket_table_free(SocketTable *table);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(SocketTable, socket_table_free)

/*
 * SocketDump: socket_table_dump_deep() in steps, for a caller that may not stay away from its main
 * loop while ten thousand rows come in.
 */
typedef struct SocketDump SocketDump;

typedef enum SocketDumpStatus {
    SOCKET_DUMP_MORE,   /* the time is up, call again */
    SOCKET_DUMP_DONE,   /* socket_dump_finish() has the table */
    SOCKET_DUMP_FAILED, /* only socket_dump_free() is left */
} SocketDumpStatus;

/** socket_dump_new: arguments and errors of socket_table_dump_deep(). Does not block. */
SocketDump *socket_dump_new(PortRange range, Protocol protocol, SocketDepth depth, GError **error);

/**
 * socket_dump_step: reads packets of the kernel (up to 32 KiB, about 250 rows, each) until
 * @until_usec (g_get_monotonic_time(), looked at after each packet), at least one.
 * With SOCKET_DEPTH_LISTENING a packet takes up to 0.5 ms; deeper ones walk whole tables for it.
 * @error: set with SOCKET_DUMP_FAILED, as for socket_table_dump_deep().
 */
SocketDumpStatus socket_dump_step(SocketDump *dump, gint64 until_usec, GError **error);

/** socket_dump_finish: sorts, O(n). Only after SOCKET_DUMP_DONE. Frees @dump. (transfer full) */
SocketTable *socket_dump_finish(SocketDump *dump);

/** socket_dump_free: gives a dump up. NULL is fine. Returns: NULL. */
SocketDump *socket_dump_free(SocketDump *dump);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(SocketDump, socket_dump_free)

/** socket_table_from: the index of the first entry at @port or above; the length = none. */
guint socket_table_from(const SocketTable *table, guint16 port);

/** socket_table_find: the first entry of @port and @protocol, listening ones first; NULL = none. */
const SocketEntry *socket_table_find(const SocketTable *table, guint16 port, Protocol protocol);

/** socket_entry_address: "0.0.0.0", "::", "127.0.0.1", ... (transfer full) */
char *socket_entry_address(const SocketEntry *entry);

/**
 * socket_entry_covers: whether the socket stands in the way of, and answers for, @address.
 * @address: numeric IPv4 or IPv6, a scope ("%eth0") is not looked at; NULL for every address.
 * A dual-stack [::] covers both families, a wildcard every address of its family. Text that is no
 * address is covered by everything.
 */
gboolean socket_entry_covers(const SocketEntry *entry, const char *address);

/**
 * socket_entry_unit: the systemd unit that the socket was made in, by its cgroup id
 * (cgroup_unit_of_id()).
 * @ret_user: (nullable): the uid whose user manager runs the unit, CGROUP_NO_USER (probe/cgroup.h)
 *     for the system's; untouched without a unit.
 *
 * Returns: (transfer full) (nullable): NULL where it cannot be known.
 */
char *socket_entry_unit(const SocketEntry *entry, uid_t *ret_user);
