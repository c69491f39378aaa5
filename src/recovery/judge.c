/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "recovery/judge.h"

static void drop(Verdict *verdict, Reason reason, const char *why)
{
    verdict->drop = TRUE;
    verdict->reason = reason;
    verdict->why = why;
}

void judge_boot(Lease *const *leases, Verdict *verdicts, guint n, Fact same_boot)
{
    if (same_boot != FACT_NO)
        return;
    for (guint i = 0; i < n; i++) {
        if (verdicts[i].drop)
            continue;
        if (leases[i]->lifetime == LIFETIME_PERSISTENT) {
            verdicts[i].dormant = TRUE;
            verdicts[i].why = "persistent, its service may come back after the reboot";
        } else {
            drop(&verdicts[i], REASON_REBOOTED, "the machine was rebooted");
        }
    }
}

/* Whether a is the one to keep of two that cannot both stay. */
static gboolean is_better(const Lease *a, const LeaseFacts *a_facts, const Lease *b,
                          const LeaseFacts *b_facts)
{
    if (a_facts->served_by_owner != b_facts->served_by_owner) {
        if (a_facts->served_by_owner == FACT_YES)
            return TRUE;
        if (b_facts->served_by_owner == FACT_YES)
            return FALSE;
    }
    if (a_facts->served != b_facts->served) {
        if (a_facts->served == FACT_YES)
            return TRUE;
        if (b_facts->served == FACT_YES)
            return FALSE;
    }
    return a->created_usec > b->created_usec;
}

/* Keeps the better one of @i and the one in @keepers under @key, drops the other. */
static void keep_one(GHashTable *keepers, gconstpointer key, Lease *const *leases,
                     const LeaseFacts *facts, Verdict *verdicts, guint i, const char *why)
{
    gpointer found = NULL;
    guint other;

    if (!g_hash_table_lookup_extended(keepers, key, NULL, &found)) {
        g_hash_table_insert(keepers, (gpointer)key, GUINT_TO_POINTER(i));
        return;
    }
    other = GPOINTER_TO_UINT(found);
    if (verdicts[other].drop || is_better(leases[i], &facts[i], leases[other], &facts[other])) {
        if (!verdicts[other].drop)
            drop(&verdicts[other], REASON_DUPLICATE_SINGLETON, why);
        g_hash_table_insert(keepers, (gpointer)key, GUINT_TO_POINTER(i));
    } else {
        drop(&verdicts[i], REASON_DUPLICATE_SINGLETON, why);
    }
}

void judge_ports(Lease *const *leases, const LeaseFacts *facts, Verdict *verdicts, guint n)
{
    g_autoptr(GHashTable) tcp = g_hash_table_new(NULL, NULL);
    g_autoptr(GHashTable) udp = g_hash_table_new(NULL, NULL);
    static const char why[] = "another record names the same port";

    for (guint i = 0; i < n; i++) {
        gconstpointer port = GUINT_TO_POINTER(leases[i]->port);

        if (!verdicts[i].drop && leases[i]->protocol & PROTOCOL_TCP)
            keep_one(tcp, port, leases, facts, verdicts, i, why);
        if (!verdicts[i].drop && leases[i]->protocol & PROTOCOL_UDP)
            keep_one(udp, port, leases, facts, verdicts, i, why);
    }
}

void judge_orphans(Lease *const *leases, const LeaseFacts *facts, Verdict *verdicts, guint n,
                   gint64 now_usec)
{
    for (guint i = 0; i < n; i++) {
        const Lease *lease = leases[i];

        if (verdicts[i].drop || verdicts[i].dormant)
            continue;
        if (lease->expires_usec != 0 && lease->expires_usec <= now_usec)
            drop(&verdicts[i], REASON_EXPIRED, "its time ran out while the daemon was away");
        else if (lease->process.pid > 0 && facts[i].process_runs == FACT_NO &&
                 facts[i].served == FACT_NO && lease->lifetime != LIFETIME_PERSISTENT)
            drop(&verdicts[i], REASON_ORPHANED, "its process is gone and nobody serves the port");
        else if (lease->health == HEALTH_QUARANTINED && facts[i].served == FACT_NO)
            drop(&verdicts[i], REASON_NOT_IN_USE,
                 "quarantined, and nobody serves the port any more");
    }
}

void judge_singletons(Lease *const *leases, const LeaseFacts *facts, Verdict *verdicts, guint n,
                      const Configuration *config)
{
    g_autoptr(GHashTable) keepers = g_hash_table_new(g_str_hash, g_str_equal);

    for (guint i = 0; i < n; i++) {
        const ServiceType *type = NULL;

        if (verdicts[i].drop || leases[i]->health == HEALTH_QUARANTINED)
            continue;
        type = configuration_find_type(config, leases[i]->service_type);
        if (type && type->single)
            keep_one(keepers, leases[i]->service_type, leases, facts, verdicts, i,
                     "its service type is a singleton and has another lease");
    }
}
