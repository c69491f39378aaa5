/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>
#include <sys/types.h>

#include "core/names.h"
#include "core/port-set.h"

/*
 * The kernel's socket table through sock_diag netlink (sock_diag(7)): listening TCP sockets, bound
 * TCP sockets that do not listen (where the kernel reports them, 6.8 and later), and unconnected
 * bound UDP sockets. One dump answers for all ports and disturbs nobody.
 */
typedef struct SocketEntry {
    guint16 port; /* host byte order */
    Protocol protocol;
    gboolean listening; /* TCP: in LISTEN; UDP: always TRUE */
    gboolean v6;
    gboolean v6only;
    guint8 address[16]; /* network byte order; the first 4 bytes for IPv4 */
    uid_t uid;
    guint32 inode;
    guint64 cgroup_id; /* inode of the cgroup's folder, 0 = the kernel did not say */
} SocketEntry;

/** SocketTable: the entries sorted by port, then protocol; may be empty. */
typedef struct SocketTable {
    GArray *entries; /* of SocketEntry */
} SocketTable;

/**
 * socket_table_dump: takes a picture of the sockets whose local port is within @range.
 * @range: {0, 0} for all ports.
 *
 * Blocks for about 0.5 ms per 1,000 sockets; a receive timeout bounds each wait to 1 s.
 *
 * Returns: (transfer full): or NULL with @error in G_IO_ERROR; a partial dump is an error, never a
 *     short table, because a missing row would read as "not in use".
 */
SocketTable *socket_table_dump(PortRange range, Protocol protocol, GError **error);
SocketTable *socket_table_free(SocketTable *table);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(SocketTable, socket_table_free)

/** socket_table_find: the first entry of @port and @protocol, listening ones first; NULL = none. */
const SocketEntry *socket_table_find(const SocketTable *table, guint16 port, Protocol protocol);

/** socket_entry_address: "0.0.0.0", "::", "127.0.0.1", ... (transfer full) */
char *socket_entry_address(const SocketEntry *entry);

/**
 * socket_entry_unit: the systemd unit that the socket was made in, by its cgroup id.
 * Looks the id up in the cgroup tree (open_by_handle_at where permitted, else a walk of
 * /sys/fs/cgroup that is cached and refreshed when an id is not found). User units come as their
 * own name ("foo.service" below user@1000.service), sessions as "session-N.scope".
 *
 * Returns: (transfer full) (nullable): NULL where it cannot be known.
 */
char *socket_entry_unit(const SocketEntry *entry);
