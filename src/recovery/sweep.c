/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * One look at all leases: a picture of the socket table, taken on another thread because it takes
 * longer than a turn of the loop may, then two passes over the leases in slices. The first counts
 * what went silent, so that a look which is wrong about half of the machine is not believed; the
 * second judges.
 */
#include "recovery/sweep.h"

#include <gio/gio.h>

#include "recovery/events.h"
#include "recovery/hold.h"
#include "recovery/metrics.h"
#include "recovery/observe.h"

#define SLICE_USEC 1000
#define LEASES_BETWEEN_CLOCK_READS 32
/* Sweeps in a row that may be doubted as a whole; after that the silence is believed. */
#define MASS_FAILURES_DOUBTED 10

typedef struct Sweep {
    HealthMonitor *monitor; /* NULL once it was cancelled */
    SocketTable *table;     /* NULL until the picture is there */
    guint slice_source;
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
} Sweep;

static void sweep_free(Sweep *sweep)
{
    if (sweep->slice_source)
        g_source_remove(sweep->slice_source);
    g_clear_pointer(&sweep->table, socket_table_free);
    g_clear_pointer(&sweep->findings, g_array_unref);
    g_free(sweep);
}

static void finish(Sweep *sweep, const GError *error)
{
    HealthMonitor *monitor = sweep->monitor;

    monitor->sweep = NULL;
    if (!error) {
        metrics_count(METRIC_HEALTH_SWEEPS);
        monitor->checked_usec = g_get_real_time();
    }
    if (sweep->done)
        sweep->done(sweep->findings, error, sweep->data);
    sweep_free(sweep);
    health_arm(monitor);
}

/* ---- the second pass ------------------------------------------------------------------------- */

/* What only a cleanup on request ends: no user, not young, and no process that lives. */
static void judge_now(Sweep *sweep, Lease *lease, Fact served)
{
    HealthMonitor *monitor = sweep->monitor;
    HealthSettings at_once = *health_settings_of(monitor->manager->config, lease->service_type);
    HealthSight sight = {.served = served, .is_young = health_is_young(monitor, lease)};
    HealthVerdict verdict;
    CleanupFinding finding;

    if (sweep->uid != (uid_t)-1 && lease->uid != sweep->uid)
        return;
    at_once.max_failures = 1;
    verdict = health_judge(lease, &sight, &at_once);
    if (!verdict.stale ||
        (lease->process.pid > 0 && process_check(&lease->process, NULL) != PROCESS_DEAD))
        return;
    finding = (CleanupFinding){lease->id, lease->port, verdict.reason};
    g_array_append_val(sweep->findings, finding);
    if (!sweep->dry_run)
        manager_end(monitor->manager, lease, verdict.reason);
}

static void judge(Sweep *sweep, Lease *lease, Fact served)
{
    HealthMonitor *monitor = sweep->monitor;
    const HealthNote *note = g_hash_table_lookup(monitor->notes, lease);
    HealthSight sight = {.served = served,
                         .http_healthy = note ? note->http_healthy : FACT_UNKNOWN,
                         .is_young = health_is_young(monitor, lease)};
    HealthVerdict verdict = health_judge(
        lease, &sight, health_settings_of(monitor->manager->config, lease->service_type));

    if (verdict.why)
        metrics_count(METRIC_HEALTH_CHECKS_FAILED);
    /* Its process has ended and is in its grace: that way is quicker, and decides alone. */
    if (note && note->grace)
        return;
    health_set(monitor, lease, verdict.health, verdict.failures,
               verdict.seen ? g_get_real_time() : 0, verdict.why);
    if (verdict.stale)
        health_follow(monitor, lease, verdict.reason);
}

static void judge_one(Sweep *sweep, Lease *lease)
{
    Fact by_owner;
    Fact served = observe_served(lease, sweep->table, &by_owner, NULL);

    if (lease->ending)
        return;
    if (served == FACT_NO)
        (void)hold_renew(sweep->monitor->manager->holds, lease);
    if (sweep->done) {
        judge_now(sweep, lease, served);
        return;
    }
    if (sweep->doubted && served == FACT_NO && lease->health == HEALTH_ACTIVE)
        return;
    if (lease->health_url && served != FACT_NO)
        health_http_start(sweep->monitor, lease);
    judge(sweep, lease, served);
}

/* ---- the first pass -------------------------------------------------------------------------- */

static void count_one(Sweep *sweep, const Lease *lease)
{
    Fact by_owner;

    if (lease->health != HEALTH_ACTIVE)
        return;
    sweep->watched++;
    if (observe_served(lease, sweep->table, &by_owner, NULL) == FACT_NO)
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

static gboolean slice(gpointer data)
{
    Sweep *sweep = data;
    const Registry *registry = sweep->monitor->manager->registry;
    gint64 end_usec = g_get_monotonic_time() + SLICE_USEC;

    for (guint i = 1;; i++) {
        Lease *lease = registry_next_port(registry, &sweep->cursor);

        if (!lease && !sweep->counting) {
            sweep->slice_source = 0;
            finish(sweep, NULL);
            return G_SOURCE_REMOVE;
        }
        if (!lease)
            end_count(sweep);
        else if (sweep->counting)
            count_one(sweep, lease);
        else
            judge_one(sweep, lease);
        if (i % LEASES_BETWEEN_CLOCK_READS == 0 && g_get_monotonic_time() >= end_usec)
            return G_SOURCE_CONTINUE;
    }
}

/* ---- the picture ----------------------------------------------------------------------------- */

static void take_picture(GTask *task, gpointer source, gpointer data, GCancellable *cancellable)
{
    GError *error = NULL;
    SocketTable *table = socket_table_dump((PortRange){0, 0}, PROTOCOL_BOTH, &error);

    if (table)
        g_task_return_pointer(task, table, (GDestroyNotify)(void (*)(void))socket_table_free);
    else
        g_task_return_error(task, error);
}

static void picture_taken(GObject *source, GAsyncResult *result, gpointer data)
{
    Sweep *sweep = data;
    g_autoptr(GError) error = NULL;

    sweep->table = g_task_propagate_pointer(G_TASK(result), &error);
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
    sweep->slice_source = g_idle_add(slice, sweep);
}

static void start(HealthMonitor *monitor, Sweep *sweep)
{
    g_autoptr(GTask) task = g_task_new(NULL, NULL, picture_taken, sweep);

    sweep->monitor = monitor;
    sweep->findings = g_array_new(FALSE, FALSE, sizeof(CleanupFinding));
    monitor->sweep = sweep;
    monitor->next_sweep = deadline_cancel(monitor->next_sweep);
    g_task_run_in_thread(task, take_picture);
}

void sweep_start(HealthMonitor *monitor)
{
    if (!monitor->sweep)
        start(monitor, g_new0(Sweep, 1));
}

void health_sweep_now(HealthMonitor *monitor, uid_t uid, gboolean dry_run, CleanupDone done,
                      void *data)
{
    Sweep *sweep = NULL;

    if (monitor->sweep) {
        g_autoptr(GArray) none = g_array_new(FALSE, FALSE, sizeof(CleanupFinding));
        g_autoptr(GError) error = g_error_new(OUTCOME_ERROR, OUTCOME_BUSY,
                                              "a health sweep is under way; try again in a moment");

        done(none, error, data);
        return;
    }
    sweep = g_new0(Sweep, 1);
    sweep->done = done;
    sweep->data = data;
    sweep->uid = uid;
    sweep->dry_run = dry_run;
    start(monitor, sweep);
}

void sweep_cancel(HealthMonitor *monitor)
{
    Sweep *sweep = monitor->sweep;

    if (!sweep)
        return;
    monitor->sweep = NULL;
    if (sweep->done) {
        g_autoptr(GError) error =
            g_error_new(OUTCOME_ERROR, OUTCOME_BUSY, "health monitoring was stopped");

        sweep->done(sweep->findings, error, sweep->data);
        sweep->done = NULL;
    }
    sweep->monitor = NULL;
    if (sweep->table) /* else the picture's arrival frees it */
        sweep_free(sweep);
}
