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

static void restarted(HealthMonitor *monitor, Lease *lease, const char *unit, UnitState state,
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

static void restart_service(HealthMonitor *monitor, Lease *lease, Reason reason)
{
    Manager *manager = monitor->manager;
    const HealthSettings *settings = health_settings_of(manager->config, lease->service_type);
    HealthNote *note = health_note(monitor, lease);
    gint64 now_usec = g_get_monotonic_time();
    gint64 pause_usec = (gint64)manager->config->health_check_interval_msec * 1000;

    if (!unit_calls_possible(monitor, lease) || note->restarts >= settings->max_failures) {
        manager_end(manager, lease, reason);
        return;
    }
    if (note->restarts > 0 && now_usec < note->restart_again_usec)
        return;
    note->restarts++;
    note->restarted_usec = now_usec;
    note->restart_again_usec =
        now_usec + MIN(pause_usec << MIN(note->restarts, 16), RESTART_PAUSE_MAX_USEC);
    registry_set_health(manager->registry, lease, HEALTH_FAILING, 0, 0, NULL);
    unit_calls_restart(monitor, lease, restarted);
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
    Manager *manager = monitor->manager;

    if (!health_settings_of(manager->config, lease->service_type)->cleanup_stale_allocations)
        return;
    switch (lease->on_unhealthy) {
    case ON_UNHEALTHY_NOTIFY:
        /* That is about its health; what it is tied to ends it all the same. */
        if (reason == REASON_PROCESS_EXITED)
            manager_end(manager, lease, reason);
        return;
    case ON_UNHEALTHY_RESTART:
        restart_service(monitor, lease, reason);
        return;
    case ON_UNHEALTHY_RELEASE:
    default:
        manager_end(manager, lease, reason);
    }
}

gboolean health_is_young(const HealthMonitor *monitor, const Lease *lease)
{
    const HealthNote *note = g_hash_table_lookup(monitor->notes, lease);
    gint64 grace_usec = (gint64)health_settings_of(monitor->manager->config, lease->service_type)
                            ->startup_grace_msec *
                        G_TIME_SPAN_MILLISECOND;

    if (claims_is_waiting(monitor->manager, lease))
        return TRUE;
    if (note && note->restarts > 0)
        return g_get_monotonic_time() - note->restarted_usec < grace_usec;
    return !lease->ever_seen && g_get_real_time() - lease->created_usec < grace_usec;
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
    g_queue_init(&monitor->unit_calls);
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

    return note ? note->why : NULL;
}

gint64 health_last_check_usec(const HealthMonitor *monitor)
{
    return monitor->checked_usec;
}
