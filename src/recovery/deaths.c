/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * A process that ends is noticed at once and given a grace: what forks to change its pid, or is
 * replaced by its unit, goes on serving the port. Only when the grace is over and nobody of the
 * same uid or unit serves the port is the lease stale.
 */
#include "recovery/deaths.h"

#include "recovery/events.h"
#include "recovery/metrics.h"
#include "recovery/observe.h"

static void on_grace_over(void *data);

static void arm_grace(HealthNote *note)
{
    const HealthSettings *settings =
        health_settings_of(note->monitor->manager->config, note->lease->service_type);

    note->grace = deadline_add(note->monitor->manager->deadlines,
                               g_get_monotonic_time() +
                                   (gint64)settings->process_grace_msec * G_TIME_SPAN_MILLISECOND,
                               on_grace_over, note);
}

/* Serving goes on without the process that was named: by another of its unit or of its owner. */
static void hand_over(HealthNote *note, const SocketEntry *entry)
{
    Manager *manager = note->monitor->manager;
    Lease *lease = note->lease;
    g_autofree char *unit = entry ? socket_entry_unit(entry) : NULL;
    StoreOp op = {.kind = STORE_PUT_LEASE, .lease = lease};

    deaths_unwatch(note->monitor, lease);
    registry_set_process(manager->registry, lease, (ProcessIdentity){0}, unit ? unit : lease->unit,
                         NULL);
    (void)store_append(manager->store, &op, 1, NULL);
    metrics_count(METRIC_HANDOVERS);
    event_handover(lease);
    MANAGER_TELL(manager, health_changed, lease, lease->health,
                 "its process ended and another of the same owner serves the port");
}

static void end_lease(HealthNote *note)
{
    HealthMonitor *monitor = note->monitor;
    Lease *lease = note->lease;

    deaths_unwatch(monitor, lease);
    if (lease->lifetime == LIFETIME_PERSISTENT) {
        registry_set_process(monitor->manager->registry, lease, (ProcessIdentity){0}, lease->unit,
                             NULL);
        health_set(monitor, lease, HEALTH_DORMANT, 0, 0, "its process ended");
        if (lease->on_unhealthy != ON_UNHEALTHY_RESTART)
            return;
    } else {
        health_set(monitor, lease, HEALTH_FAILING, lease->failures + 1, 0, "its process ended");
    }
    health_follow(monitor, lease, REASON_PROCESS_EXITED);
}

typedef struct UnitQuestion {
    Manager *manager;
    Id lease;
} UnitQuestion;

static void unit_answered(UnitState state, const GError *error, void *data)
{
    UnitQuestion *question = data;
    Manager *manager = question->manager;
    Lease *lease = registry_find(manager->registry, question->lease.text);
    HealthNote *note = lease ? g_hash_table_lookup(manager->health->notes, lease) : NULL;
    gint64 patience_usec;

    g_free(question);
    if (!note || !note->asking)
        return;
    note->asking = FALSE;
    patience_usec =
        note->died_usec +
        (gint64)health_settings_of(manager->config, lease->service_type)->startup_grace_msec *
            G_TIME_SPAN_MILLISECOND;
    if (state == UNIT_STARTING && g_get_monotonic_time() < patience_usec)
        arm_grace(note);
    else
        end_lease(note);
}

static void on_grace_over(void *data)
{
    HealthNote *note = data;
    Manager *manager = note->monitor->manager;
    Lease *lease = note->lease;
    g_autoptr(SocketTable) table =
        socket_table_dump((PortRange){lease->port, lease->port}, lease->protocol, NULL);
    const SocketEntry *entry = NULL;
    Fact by_owner;
    Fact served = observe_served(lease, table, &by_owner, &entry);

    note->grace = NULL;
    if (served == FACT_UNKNOWN) {
        arm_grace(note);
    } else if (by_owner == FACT_YES) {
        hand_over(note, entry);
    } else if (lease->unit && manager->services) {
        UnitQuestion *question = g_new0(UnitQuestion, 1);

        question->manager = manager;
        question->lease = lease->id;
        note->asking = TRUE;
        manager->services->query(lease->unit, lease->uid, unit_answered, question,
                                 manager->services_data);
    } else {
        end_lease(note);
    }
}

static void process_ended(HealthMonitor *monitor, Lease *lease)
{
    HealthNote *note = health_note(monitor, lease);

    if (note->grace || note->asking)
        return;
    metrics_count(METRIC_PROCESS_EXITS);
    event_process_exited(lease);
    note->died_usec = g_get_monotonic_time();
    arm_grace(note);
}

static void on_process_exit(pid_t pid, void *data)
{
    HealthMonitor *monitor = data;

    for (Lease *lease = registry_first_of_pid(monitor->manager->registry, pid); lease;
         lease = lease->by_pid.next)
        process_ended(monitor, lease);
}

static gboolean ensure_watch(HealthMonitor *monitor)
{
    g_autoptr(GError) error = NULL;

    if (!monitor->processes)
        monitor->processes =
            process_watch_new(monitor->manager->context, on_process_exit, monitor, &error);
    if (error)
        event_watch_failed(error);
    return monitor->processes != NULL;
}

void deaths_watch(HealthMonitor *monitor, Lease *lease)
{
    HealthNote *note = health_note(monitor, lease);
    g_autoptr(GError) error = NULL;
    int pidfd = -1;

    if (note->watched || !ensure_watch(monitor))
        return;
    switch (process_check(&lease->process, &pidfd)) {
    case PROCESS_ALIVE:
        note->watched = process_watch_add(monitor->processes, lease->process.pid, pidfd, &error);
        if (error) /* the sweep still sees whether its port is in use */
            event_watch_failed(error);
        return;
    case PROCESS_DEAD:
        process_ended(monitor, lease);
        return;
    case PROCESS_UNKNOWN:
    default:
        return;
    }
}

void deaths_unwatch(HealthMonitor *monitor, Lease *lease)
{
    HealthNote *note = g_hash_table_lookup(monitor->notes, lease);

    if (!note)
        return;
    if (note->watched)
        process_watch_remove(monitor->processes, lease->process.pid);
    note->watched = FALSE;
    note->asking = FALSE;
    note->grace = deadline_cancel(note->grace);
}
