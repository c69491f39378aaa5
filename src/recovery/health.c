/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "recovery/health.h"

#include "recovery/claims.h"
#include "recovery/deaths.h"
#include "recovery/events.h"
#include "recovery/health-private.h"
#include "recovery/metrics.h"
#include "recovery/sweep.h"
#include "recovery/unit-calls.h"

/* Pauses between restarts of one service grow from the check interval up to this. */
#define RESTART_PAUSE_MAX_USEC (10 * 60 * G_USEC_PER_SEC)

HealthNote *health_note(HealthMonitor *monitor, Lease *lease)
{
    HealthNote *note = g_hash_table_lookup(monitor->notes, lease);

    if (!note) {
        note = g_new0(HealthNote, 1);
        note->monitor = monitor;
        note->lease = lease;
        g_hash_table_insert(monitor->notes, lease, note);
    }
    return note;
}

static void note_free(gpointer data)
{
    HealthNote *note = data;

    deaths_end_grace(note);
    health_http_cancel(note);
    g_free(note);
}

void health_set(HealthMonitor *monitor, Lease *lease, Health health, guint32 failures,
                gint64 seen_usec, const char *why)
{
    Manager *manager = monitor->manager;
    Health before = lease->health;

    registry_set_health(manager->registry, lease, health, failures, seen_usec, NULL);
    if (why || g_hash_table_contains(monitor->notes, lease))
        health_note(monitor, lease)->why = why;
    if (before == health)
        return;
    /* That it was in use once is worth a record; when the disk refuses, the next sight says it. */
    (void)manager_record(manager, lease, NULL);
    event_health(lease, before, why);
    MANAGER_TELL(manager, health_changed, lease, before, why);
}

/* ---- what follows ---------------------------------------------------------------------------- */

static void restarted(HealthMonitor *monitor, Lease *lease, const char *unit, UnitSight sight,
                      const GError *error)
{
    guint restarts = health_note(monitor, lease)->restarts;

    if (error) {
        event_restart_failed(lease, unit, error);
        return;
    }
    metrics_count(METRIC_SERVICE_RESTARTS);
    event_restarted(lease, unit, restarts);
    MANAGER_TELL(monitor->manager, service_restarted, lease, unit, restarts);
}

static gboolean is_over(gpointer unit, gpointer again_usec, gpointer now_usec)
{
    return *(const gint64 *)again_usec <= *(const gint64 *)now_usec;
}

/* A unit may have many leases, and all of them fail at once: it is restarted once for all. */
static gboolean may_restart(HealthMonitor *monitor, const HealthNote *note, gint64 now_usec)
{
    (void)g_hash_table_foreach_remove(monitor->restarts, is_over, &now_usec);
    return !g_hash_table_contains(monitor->restarts, note->lease->unit) &&
           (note->restarts == 0 || now_usec >= note->restart_again_usec);
}

static void restart_now(HealthMonitor *monitor, Lease *lease)
{
    HealthNote *note = health_note(monitor, lease);
    gint64 now_usec = g_get_monotonic_time();
    gint64 pause_usec = (gint64)monitor->manager->config->health_check_interval_msec * 1000;

    if (!may_restart(monitor, note, now_usec)) /* another of its leases was quicker */
        return;
    note->restarts++;
    note->restarted_usec = now_usec;
    note->restart_again_usec =
        now_usec + MIN(pause_usec << MIN(note->restarts, 16), RESTART_PAUSE_MAX_USEC);
    g_hash_table_replace(monitor->restarts, g_strdup(lease->unit),
                         g_memdup2(&note->restart_again_usec, sizeof note->restart_again_usec));
    registry_set_health(monitor->manager->registry, lease, HEALTH_FAILING, 0, 0, NULL);
    unit_calls_restart(monitor, lease, restarted);
}

/* A persistent lease ends only when it is given back; that it fails is told all the same. */
static void end_stale(HealthMonitor *monitor, Lease *lease, Reason reason)
{
    if (lease->lifetime != LIFETIME_PERSISTENT)
        manager_end(monitor->manager, lease, reason);
}

/* Who stopped the unit wants it stopped: that is not for us to undo. */
static void decide_restart(HealthMonitor *monitor, Lease *lease, const char *unit, UnitSight sight,
                           const GError *error)
{
    HealthNote *note = g_hash_table_lookup(monitor->notes, lease);

    if (!note || !note->deciding)
        return;
    note->deciding = FALSE;
    switch (sight.state) {
    case UNIT_STOPPED:
        end_stale(monitor, lease, note->reason);
        return;
    case UNIT_STARTING: /* by the service manager, and in vain as often as by us */
        note->restarts++;
        note->restarted_usec = g_get_monotonic_time();
        return;
    default:
        restart_now(monitor, lease);
    }
}

static void restart_service(HealthMonitor *monitor, Lease *lease, Reason reason)
{
    const HealthSettings *settings =
        health_settings_of(monitor->manager->config, lease->service_type);
    HealthNote *note = health_note(monitor, lease);

    if (!unit_calls_possible(monitor, lease) || note->restarts >= settings->max_failures) {
        end_stale(monitor, lease, reason);
        return;
    }
    if (note->deciding || !may_restart(monitor, note, g_get_monotonic_time()))
        return;
    note->deciding = TRUE;
    note->reason = reason;
    unit_calls_query(monitor, lease, decide_restart);
}

void health_forgive_restarts(HealthMonitor *monitor, Lease *lease)
{
    HealthNote *note = g_hash_table_lookup(monitor->notes, lease);

    /* Not before the pause is over, or a service that falls over again and again never ends. */
    if (note && note->restarts > 0 && g_get_monotonic_time() >= note->restart_again_usec)
        note->restarts = 0;
}

void health_follow(HealthMonitor *monitor, Lease *lease, Reason reason)
{
    if (!health_settings_of(monitor->manager->config, lease->service_type)
             ->cleanup_stale_allocations)
        return;
    switch (lease->on_unhealthy) {
    case ON_UNHEALTHY_NOTIFY:
        /* That is about its health; what it is tied to ends it all the same. */
        if (reason == REASON_PROCESS_EXITED)
            end_stale(monitor, lease, reason);
        return;
    case ON_UNHEALTHY_RESTART:
        restart_service(monitor, lease, reason);
        return;
    case ON_UNHEALTHY_RELEASE:
    default:
        end_stale(monitor, lease, reason);
    }
}

static gboolean young_from_now(HealthMonitor *monitor, Lease *lease, gint64 grace_usec)
{
    HealthNote *note = health_note(monitor, lease);

    if (note->young_since_usec == 0)
        note->young_since_usec = g_get_monotonic_time();
    return g_get_monotonic_time() - note->young_since_usec < grace_usec;
}

gboolean health_is_young(HealthMonitor *monitor, Lease *lease)
{
    const HealthNote *note = g_hash_table_lookup(monitor->notes, lease);
    gint64 grace_usec = (gint64)health_settings_of(monitor->manager->config, lease->service_type)
                            ->startup_grace_msec *
                        G_TIME_SPAN_MILLISECOND;
    gint64 age_usec;

    if (claims_is_waiting(monitor->manager, lease))
        return TRUE;
    if (note && note->restarts > 0)
        return g_get_monotonic_time() - note->restarted_usec < grace_usec;
    age_usec = g_get_real_time() - lease->created_usec;
    /* The clock was set back, and what it said at the grant lies ahead of it for who knows how
     * long: such a lease is young for a grace from here. */
    if (!lease->ever_seen && age_usec < 0)
        return young_from_now(monitor, lease, grace_usec);
    return !lease->ever_seen && age_usec < grace_usec;
}

/* ---- life ------------------------------------------------------------------------------------ */

static void on_sweep_due(void *data)
{
    HealthMonitor *monitor = data;

    monitor->next_sweep = NULL;
    if (registry_count(monitor->manager->registry) == 0)
        return; /* no lease, no timer: the next grant arms it */
    sweep_start(monitor);
}

void health_arm(HealthMonitor *monitor)
{
    const Configuration *config = monitor->manager->config;

    if (!config->health_enabled || monitor->next_sweep || monitor->sweep)
        return;
    if (registry_count(monitor->manager->registry) == 0)
        return;
    monitor->next_sweep =
        deadline_add(monitor->manager->deadlines,
                     g_get_monotonic_time() +
                         (gint64)config->health_check_interval_msec * G_TIME_SPAN_MILLISECOND,
                     on_sweep_due, monitor);
}

HealthMonitor *health_monitor_new(Manager *manager)
{
    HealthMonitor *monitor = g_new0(HealthMonitor, 1);

    monitor->manager = manager;
    monitor->was_enabled = manager->config->health_enabled;
    monitor->notes = g_hash_table_new_full(NULL, NULL, NULL, note_free);
    g_queue_init(&monitor->cleanups);
    monitor->restarts = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
    g_queue_init(&monitor->unit_calls);
    health_http_init(monitor);
    return monitor;
}

HealthMonitor *health_monitor_free(HealthMonitor *monitor)
{
    if (!monitor)
        return NULL;
    sweep_cancel(monitor);
    unit_calls_forget(monitor);
    monitor->next_sweep = deadline_cancel(monitor->next_sweep);
    monitor->processes = process_watch_free(monitor->processes);
    g_hash_table_unref(monitor->notes);
    g_hash_table_unref(monitor->restarts);
    health_http_free(monitor);
    g_clear_pointer(&monitor->picture, socket_table_free);
    g_free(monitor);
    return NULL;
}

void health_watch(HealthMonitor *monitor, Lease *lease)
{
    if (!monitor->manager->config->health_enabled)
        return;
    if (lease->process.pid > 0)
        deaths_watch(monitor, lease);
    health_arm(monitor);
}

void health_unwatch(HealthMonitor *monitor, Lease *lease)
{
    deaths_unwatch(monitor, lease);
    g_hash_table_remove(monitor->notes, lease);
    if (registry_count(monitor->manager->registry) <= 1)
        monitor->next_sweep = deadline_cancel(monitor->next_sweep);
}

void health_process_exited(HealthMonitor *monitor, Lease *lease)
{
    if (monitor->manager->config->health_enabled)
        deaths_begin_grace(monitor, lease);
}

gboolean health_is_busy(const HealthMonitor *monitor)
{
    return monitor->sweep != NULL || monitor->cleanups.length > 0;
}

static void watch_all(HealthMonitor *monitor)
{
    guint32 cursor = 0;
    Lease *lease = NULL;

    while ((lease = registry_next_port(monitor->manager->registry, &cursor)))
        health_watch(monitor, lease);
}

void health_configuration_changed(HealthMonitor *monitor)
{
    gboolean enabled = monitor->manager->config->health_enabled;

    monitor->next_sweep = deadline_cancel(monitor->next_sweep);
    if (!enabled) {
        sweep_cancel(monitor);
        g_hash_table_remove_all(monitor->notes); /* before the watch that it refers to */
        monitor->processes = process_watch_free(monitor->processes);
    } else if (!monitor->was_enabled) {
        watch_all(monitor);
    }
    monitor->was_enabled = enabled;
    health_arm(monitor);
}

const char *health_reason(const HealthMonitor *monitor, const Lease *lease)
{
    const HealthNote *note = g_hash_table_lookup(monitor->notes, lease);

    if (!note)
        return NULL;
    return note->why ? note->why : note->http_unasked;
}

gint64 health_last_check_usec(const HealthMonitor *monitor)
{
    return monitor->checked_usec;
}
