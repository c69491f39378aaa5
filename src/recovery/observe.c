/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "recovery/observe.h"

#include "probe/process.h"

static gboolean is_owner(const Lease *lease, const SocketEntry *entry)
{
    g_autofree char *unit = NULL;

    if (entry->uid == lease->uid)
        return TRUE;
    if (!lease->unit)
        return FALSE;
    unit = socket_entry_unit(entry);
    return g_strcmp0(unit, lease->unit) == 0;
}

static void look_at(const Lease *lease, const SocketTable *table, Protocol protocol, Fact *served,
                    Fact *by_owner, const SocketEntry **ret_entry)
{
    const SocketEntry *entry = socket_table_find(table, lease->port, protocol);
    const SocketEntry *end = &g_array_index(table->entries, SocketEntry, 0) + table->entries->len;

    for (; entry && entry < end && entry->port == lease->port && entry->protocol == protocol;
         entry++) {
        if (!entry->listening || !socket_entry_covers(entry, lease->address))
            continue;
        if (*served != FACT_YES)
            *ret_entry = entry;
        *served = FACT_YES;
        if (!by_owner) /* the first one says it all */
            return;
        if (*by_owner != FACT_YES && is_owner(lease, entry)) {
            *by_owner = FACT_YES;
            *ret_entry = entry;
        }
    }
}

Fact observe_served(const Lease *lease, const SocketTable *table, Fact *ret_by_owner,
                    const SocketEntry **ret_entry)
{
    Fact served = FACT_NO;
    const SocketEntry *entry = NULL;

    if (ret_by_owner)
        *ret_by_owner = table ? FACT_NO : FACT_UNKNOWN;
    if (!table)
        return FACT_UNKNOWN;
    if (table->entries->len > 0 && lease->protocol & PROTOCOL_TCP)
        look_at(lease, table, PROTOCOL_TCP, &served, ret_by_owner, &entry);
    if (table->entries->len > 0 && lease->protocol & PROTOCOL_UDP &&
        (ret_by_owner || served != FACT_YES))
        look_at(lease, table, PROTOCOL_UDP, &served, ret_by_owner, &entry);
    if (ret_entry && entry)
        *ret_entry = entry;
    return served;
}

LeaseFacts *observe_leases(Lease *const *leases, guint n, const SocketTable *table)
{
    LeaseFacts *facts = g_new0(LeaseFacts, n);

    for (guint i = 0; i < n; i++) {
        facts[i].served = observe_served(leases[i], table, &facts[i].served_by_owner, NULL);
        if (leases[i]->process.pid <= 0)
            continue;
        switch (process_check(&leases[i]->process, NULL)) {
        case PROCESS_ALIVE:
            facts[i].process_runs = FACT_YES;
            break;
        case PROCESS_DEAD:
            facts[i].process_runs = FACT_NO;
            break;
        case PROCESS_UNKNOWN:
            break;
        }
    }
    return facts;
}
