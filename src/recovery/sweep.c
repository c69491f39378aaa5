/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * One look at all leases: a picture of the socket table, taken on another thread because it takes
 * longer than a turn of the loop may, then two passes over the leases in slices. The first counts
 * what went silent, so that a look which is wrong about half of the machine is not believed; the
 * second judges.
 */
#include "recovery/sweep.h"

#include "recovery/deaths.h"
#include "recovery/events.h"
#include "recovery/hold.h"
#include "recovery/metrics.h"
#include "recovery/observe.h"
#include "util/slices.h"

#define SLICE_USEC 1000
/*
 * Sweeps in a row that may be doubted as a whole; after that the silence is believed. With the
 * default interval and max_failures even what is doubted first ends within five minutes.
 */
#define MASS_FAILURES_DOUBTED 5

typedef struct Sweep {
    HealthMonitor *monitor; /* NULL once it was cancelled */
    SocketTable *table;     /* NULL until the picture is there */
    Slices *slices;         /* owned, NULL until the picture is there */
    guint32 cursor;
    gboolean counting; /* the first pass */
    guint watched, silent;
    gboolean doubted;
    /* of a cleanup request */
    CleanupDone done;
    void *data;
    uid_t uid;
    gboolean dry_run;
    GArray *findings;
    guint unrecorded; /* ends that the disk refused */
    GList waiting;
} Sweep;

static void sweep_free(Sweep *sweep)
{
    sweep->slices = slices_stop(sweep->slices);
    g_clear_pointer(&sweep->table, socket_table_free);
    g_clear_pointer(&sweep->findings, g_array_unref);
    g_free(sweep);
}

static void start(HealthMonitor *monitor, Sweep *sweep);

static void finish(Sweep *sweep, const GError *error)
{
    HealthMonitor *monitor = sweep->monitor;
    Manager *manager = monitor->manager;
    GList *next = g_queue_pop_head_link(&monitor->cleanups);

    monitor->sweep = NULL;
    if (!error || error->code != OUTCOME_BUSY) {
        metrics_count(METRIC_HEALTH_SWEEPS);
        monitor->checked_usec = g_get_real_time();
    }
    if (next)
        start(monitor, next->data);
    if (sweep->done)
        sweep->done(sweep->findings, error, sweep->data);
    sweep_free(sweep);
    health_arm(monitor);
    if (manager->became_idle && manager_is_idle(manager))
        manager->became_idle(manager->became_idle_data);
}

static void finish_well(Sweep *sweep)
{
    g_autoptr(GError) error = NULL;

    if (sweep->unrecorded > 0)
        error = g_error_new(OUTCOME_ERROR, OUTCOME_STATE_UNAVAILABLE,
                            "%u releases could not be recorded, so those leases were not released",
                            sweep->unrecorded);
    finish(sweep, error);
}

/* ---- the second pass ------------------------------------------------------------------------- */

/*
 * The picture is older than this moment, and one absence in it proves nothing: before a lease ends
 * for it the kernel is asked about its port alone.
 */
static gboolean is_unused_now(const Lease *lease)
{
    return observe_now(lease).served == FACT_NO;
}

static void end_now(Sweep *sweep, Lease *lease, Reason reason)
{
    g_autoptr(Lease) kept = lease_ref(lease);
    CleanupFinding finding = {lease->id, lease->port, reason};

    if (!sweep->dry_run) {
        manager_end(sweep->monitor->manager, lease, reason);
        if (kept->in_registry && !kept->ending) {
            sweep->unrecorded++;
            return;
        }
    }
    g_array_append_val(sweep->findings, finding);
}

/* What only a cleanup on request ends: no user, not young, and no process that lives. */
static void judge_now(Sweep *sweep, Lease *lease, Fact served)
{
    HealthMonitor *monitor = sweep->monitor;
    HealthSettings at_once;
    HealthSight sight = {.served = served};
    HealthVerdict verdict;
    LeaseFacts now;

    if (served != FACT_NO || (sweep->uid != (uid_t)-1 && lease->uid != sweep->uid))
        return;
    sight.is_young = health_is_young(monitor, lease);
    at_once = *health_settings_of(monitor->manager->config, lease->service_type);
    at_once.max_failures = 1;
    verdict = health_judge(lease, &sight, &at_once);
    if (!verdict.stale)
        return;
    now = observe_now(lease);
    if (now.served != FACT_NO || (lease->process.pid > 0 && now.process_runs != FACT_NO))
        return;
    end_now(sweep, lease, verdict.reason);
}

static gboolean is_dying(const HealthNote *note)
{
    return note && (note->grace || note->asking);
}

/* Whose service has answered once, and is not what listens now, is not well. Where none ever did (a
 * proxy of another user stands before it, say), nothing better can be known. */
static gboolean is_unasked(const HealthNote *note)
{
    return note && note->http_unasked && !note->http_ill &&
           !(note->http_foreign && note->http_answered);
}

static void judge(Sweep *sweep, Lease *lease, Fact served)
{
    HealthMonitor *monitor = sweep->monitor;
    HealthNote *note = g_hash_table_lookup(monitor->notes, lease);
    HealthSight sight = {.served = served,
                         .http_healthy = note ? note->http_healthy : FACT_UNKNOWN,
                         .is_unasked = is_unasked(note)};
    HealthVerdict verdict;

    /* Its age tells nothing of one that is well, and most are. */
    if (served == FACT_NO || sight.http_healthy == FACT_NO)
        sight.is_young = health_is_young(monitor, lease);
    verdict = health_judge(lease, &sight,
                           health_settings_of(monitor->manager->config, lease->service_type));
    /* Its process has ended and is in its grace: that way is quicker, and decides alone. */
    if (is_dying(note))
        return;
    if (verdict.stale && served == FACT_NO && !is_unused_now(lease))
        return;
    if (note) {
        if (served == FACT_NO) { /* what comes next is another */
            note->http_unasked = NULL;
            note->http_ill = FALSE;
        }
        if (sight.http_healthy == FACT_NO && verdict.reason == REASON_UNHEALTHY)
            verdict.why = note->http_why;
        if (sight.http_healthy == FACT_YES)
            note->http_ill = FALSE;
        else if (sight.http_healthy == FACT_NO && served != FACT_NO && !sight.is_young)
            note->http_ill = TRUE;
        note->http_healthy = FACT_UNKNOWN; /* each answer counts once */
    }
    if (verdict.why)
        metrics_count(METRIC_HEALTH_CHECKS_FAILED);
    else if (verdict.health == HEALTH_ACTIVE)
        health_forgive_restarts(monitor, lease);
    health_set(monitor, lease, verdict.health, verdict.failures,
               verdict.seen ? g_get_real_time() : 0, verdict.why);
    if (verdict.stale)
        health_follow(monitor, lease, verdict.reason);
}

static void judge_one(Sweep *sweep, Lease *lease)
{
    Fact served = observe_served(lease, sweep->table, NULL, NULL);

    if (lease->ending)
        return;
    if (sweep->done) {
        judge_now(sweep, lease, served);
        return;
    }
    if (served == FACT_NO)
        (void)hold_renew(sweep->monitor->manager->holds, lease);
    deaths_check(sweep->monitor, lease);
    if (sweep->doubted && served == FACT_NO && lease->health == HEALTH_ACTIVE)
        return;
    if (lease->health_url && served != FACT_NO)
        health_http_start(sweep->monitor, lease);
    judge(sweep, lease, served);
}

/* ---- the first pass -------------------------------------------------------------------------- */

static void count_one(Sweep *sweep, const Lease *lease)
{
    if (lease->health != HEALTH_ACTIVE)
        return;
    sweep->watched++;
    if (observe_served(lease, sweep->table, NULL, NULL) == FACT_NO)
        sweep->silent++;
}

static void end_count(Sweep *sweep)
{
    HealthMonitor *monitor = sweep->monitor;

    sweep->counting = FALSE;
    sweep->cursor = 0;
    sweep->doubted = health_is_mass_failure(sweep->watched, sweep->silent);
    if (!sweep->doubted) {
        monitor->mass_failures = 0;
        return;
    }
    if (++monitor->mass_failures > MASS_FAILURES_DOUBTED)
        sweep->doubted = FALSE;
    event_mass_failure(sweep->watched, sweep->silent, sweep->doubted);
}

/* ---- slices ---------------------------------------------------------------------------------- */

static void slice(void *data)
{
    Sweep *sweep = data;
    const Registry *registry = sweep->monitor->manager->registry;
    gint64 end_usec = g_get_monotonic_time() + SLICE_USEC;

    do {
        Lease *lease = registry_next_port(registry, &sweep->cursor);

        if (!lease && !sweep->counting) {
            finish_well(sweep);
            return;
        }
        if (!lease)
            end_count(sweep);
        else if (sweep->counting)
            count_one(sweep, lease);
        else
            judge_one(sweep, lease);
    } while (g_get_monotonic_time() < end_usec);
}

/* ---- the picture ----------------------------------------------------------------------------- */

static void picture_taken(SocketTable *table, const GError *error, void *data)
{
    Sweep *sweep = data;

    sweep->table = table;
    if (!sweep->monitor) {
        sweep_free(sweep);
        return;
    }
    if (error) {
        g_autoptr(GError) refusal = g_error_new(
            OUTCOME_ERROR, OUTCOME_BUSY,
            "who listens where could not be found out, so nothing ends: %s", error->message);

        event_sweep_failed(error);
        finish(sweep, refusal);
        return;
    }
    sweep->counting = TRUE;
    sweep->slices = slices_start(sweep->monitor->manager->context, "sweep", slice, sweep);
}

static void start(HealthMonitor *monitor, Sweep *sweep)
{
    sweep->monitor = monitor;
    sweep->findings = g_array_new(FALSE, FALSE, sizeof(CleanupFinding));
    monitor->sweep = sweep;
    monitor->next_sweep = deadline_cancel(monitor->next_sweep);
    observe_take(monitor->manager->context, picture_taken, sweep);
}

void sweep_start(HealthMonitor *monitor)
{
    if (!monitor->sweep)
        start(monitor, g_new0(Sweep, 1));
}

void health_sweep_now(HealthMonitor *monitor, uid_t uid, gboolean dry_run, CleanupDone done,
                      void *data)
{
    Sweep *sweep = g_new0(Sweep, 1);

    sweep->done = done;
    sweep->data = data;
    sweep->uid = uid;
    sweep->dry_run = dry_run;
    sweep->waiting.data = sweep;
    if (monitor->sweep)
        g_queue_push_tail_link(&monitor->cleanups, &sweep->waiting);
    else
        start(monitor, sweep);
}

gboolean health_withdraw(HealthMonitor *monitor, const void *data)
{
    for (GList *link = monitor->cleanups.head; link; link = link->next) {
        Sweep *sweep = link->data;

        if (sweep->data != data)
            continue;
        g_queue_unlink(&monitor->cleanups, link);
        sweep_free(sweep);
        return TRUE;
    }
    return FALSE;
}

static void refuse(Sweep *sweep)
{
    g_autoptr(GArray) none = g_array_new(FALSE, FALSE, sizeof(CleanupFinding));
    g_autoptr(GError) error =
        g_error_new(OUTCOME_ERROR, OUTCOME_BUSY, "health monitoring was stopped; try again");

    if (sweep->done)
        sweep->done(none, error, sweep->data);
    sweep->done = NULL;
}

void sweep_cancel(HealthMonitor *monitor)
{
    Sweep *sweep = g_steal_pointer(&monitor->sweep);
    GList *link = NULL;

    while ((link = g_queue_pop_head_link(&monitor->cleanups))) {
        refuse(link->data);
        sweep_free(link->data);
    }
    if (!sweep)
        return;
    refuse(sweep);
    sweep->monitor = NULL;
    if (sweep->table) /* else the picture's arrival frees it */
        sweep_free(sweep);
}
