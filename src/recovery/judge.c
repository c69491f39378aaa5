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

/* Ranks leases of which not all can stay: the best first. */
typedef struct Ranking {
    Lease *const *leases;
    const LeaseFacts *facts;
} Ranking;

static int compare(gconstpointer a, gconstpointer b, gpointer data)
{
    const Ranking *ranking = data;
    guint i = *(const guint *)a, j = *(const guint *)b;
    const LeaseFacts *x = &ranking->facts[i], *y = &ranking->facts[j];
    gint64 x_usec = ranking->leases[i]->created_usec, y_usec = ranking->leases[j]->created_usec;

    if ((x->served_by_owner == FACT_YES) != (y->served_by_owner == FACT_YES))
        return x->served_by_owner == FACT_YES ? -1 : 1;
    if ((x->served == FACT_YES) != (y->served == FACT_YES))
        return x->served == FACT_YES ? -1 : 1;
    if (x_usec != y_usec)
        return x_usec > y_usec ? -1 : 1;
    return i < j ? -1 : i > j;
}

/* (transfer full): indices of all leases, the best first. */
static guint *rank(Lease *const *leases, const LeaseFacts *facts, guint n)
{
    Ranking ranking = {leases, facts};
    guint *order = g_new(guint, n);

    for (guint i = 0; i < n; i++)
        order[i] = i;
    g_qsort_with_data(order, (gint)n, sizeof *order, compare, &ranking);
    return order;
}

static gboolean takes(PortSet *set, const Lease *lease, Protocol protocol)
{
    return lease->protocol & protocol && port_set_contains(set, lease->port);
}

void judge_ports(Lease *const *leases, const LeaseFacts *facts, Verdict *verdicts, guint n)
{
    g_autofree guint *order = rank(leases, facts, n);
    g_autofree PortSet *tcp = g_new0(PortSet, 1);
    g_autofree PortSet *udp = g_new0(PortSet, 1);

    for (guint i = 0; i < n; i++) {
        const Lease *lease = leases[order[i]];
        Verdict *verdict = &verdicts[order[i]];

        if (verdict->drop)
            continue;
        if (takes(tcp, lease, PROTOCOL_TCP) || takes(udp, lease, PROTOCOL_UDP)) {
            drop(verdict, REASON_ORPHANED, "another record names the same port");
            continue;
        }
        if (lease->protocol & PROTOCOL_TCP)
            port_set_add(tcp, lease->port);
        if (lease->protocol & PROTOCOL_UDP)
            port_set_add(udp, lease->port);
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
            drop(&verdicts[i], REASON_EXPIRED, "its time has run out");
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
    g_autofree guint *order = rank(leases, facts, n);
    g_autoptr(GHashTable) kept = g_hash_table_new(g_str_hash, g_str_equal);

    for (guint i = 0; i < n; i++) {
        const Lease *lease = leases[order[i]];
        Verdict *verdict = &verdicts[order[i]];
        const ServiceType *type = NULL;

        if (verdict->drop || lease->health == HEALTH_QUARANTINED)
            continue;
        type = configuration_find_type(config, lease->service_type);
        if (type && type->single && !g_hash_table_add(kept, type->name))
            drop(verdict, REASON_DUPLICATE_SINGLETON,
                 "its service type is a singleton and has another lease");
    }
}
