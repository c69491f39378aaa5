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

/** observe_leases: facts for all of @n leases from one table. (transfer full): an array of @n. */
LeaseFacts *observe_leases(Lease *const *leases, guint n, const SocketTable *table);
