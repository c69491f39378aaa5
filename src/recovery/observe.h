/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "probe/socket-table.h"
#include "recovery/judge.h"

/**
 * observe_served: whether somebody serves the port of @lease in @table (NULL: FACT_UNKNOWN).
 * A TCP socket that does not listen does not serve, so a held socket of our own does not count.
 * @ret_by_owner: (nullable): whether one of those has the lease's uid or sits in its unit. Costs a
 * look into the file system for each entry of another uid's, so it is asked for only where needed.
 * @ret_entry: (nullable): the entry, borrowed from the table; the owner's where there is one.
 */
Fact observe_served(const Lease *lease, const SocketTable *table, Fact *ret_by_owner,
                    const SocketEntry **ret_entry);

/** observe_lease: all facts about @lease. @table: (nullable): NULL = who listens is not known. */
LeaseFacts observe_lease(const Lease *lease, const SocketTable *table);

/** observe_now: the same from a picture of its ports alone, taken now. Blocks for a netlink call.
 */
LeaseFacts observe_now(const Lease *lease);

/** Listener: whose service a connection would meet. */
typedef enum Listener {
    LISTENER_NONE,    /* nobody listens */
    LISTENER_OWN,     /* all that listen are the lease's own */
    LISTENER_FOREIGN, /* somebody else does, or it cannot be told whose it is */
} Listener;

/**
 * observe_listener: who listens by TCP on the port of @lease, on one of its addresses.
 * @table: holds at least that port. @address: numeric.
 * @inode: of the socket that was made for the lease and handed over, 0 = none.
 *
 * Its own are the sockets of its uid and of its unit, as in observe_served(); the one handed over,
 * whose maker we are; and those of the socket unit by the name of its service, whose maker is the
 * service manager (where that made them in the socket unit's cgroup: with BPF firewalls, for IP).
 * May look into the file system.
 */
Listener observe_listener(const Lease *lease, const SocketTable *table, const char *address,
                          guint32 inode);

/** ObserveTaken: @table: (transfer full), or NULL with @error. */
typedef void (*ObserveTaken)(SocketTable *table, const GError *error, void *data);

/**
 * observe_take: takes a picture of all that listens, on another thread, because it takes longer
 * than a turn of the loop may.
 * @taken: called once, in @context; there is no way to call it off.
 */
void observe_take(GMainContext *context, ObserveTaken taken, void *data);

/** observe_take_range: the same of some ports, as socket_table_dump_deep() takes them. */
void observe_take_range(GMainContext *context, PortRange range, Protocol protocol,
                        SocketDepth depth, ObserveTaken taken, void *data);
