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
#include "recovery/unit-calls.h"
#include "util/fd.h"

/* Graces at once from which one picture of all ports is cheaper than one of each port. */
#define GRACES_SHARE_PICTURE 8
#define PICTURE_MAX_AGE_USEC (50 * G_TIME_SPAN_MILLISECOND)

/* The service manager may hear of a death, and start the unit again, this long before us. */
#define DEATH_NOTICED_USEC G_USEC_PER_SEC

static void on_grace_over(void *data);

static void arm_grace(HealthNote *note)
{
    const HealthSettings *settings =
        health_settings_of(note->monitor->manager->config, note->lease->service_type);

    g_assert(!note->grace);
    note->grace = deadline_add(note->monitor->manager->deadlines,
                               g_get_monotonic_time() +
                                   (gint64)settings->process_grace_msec * G_TIME_SPAN_MILLISECOND,
                               on_grace_over, note);
    note->monitor->graces++;
}

void deaths_end_grace(HealthNote *note)
{
    if (!note->grace)
        return;
    note->grace = deadline_cancel(note->grace);
    note->monitor->graces--;
}

/*
 * Serving goes on without the process that was named: by another of its unit or of its owner. What
 * may be restarted was judged when the lease was granted, so that unit stays: whose manager runs
 * the new one, and whose it is, is not known here.
 */
static void hand_over(HealthNote *note, const SocketEntry *entry)
{
    Manager *manager = note->monitor->manager;
    Lease *lease = note->lease;
    gboolean keep = !entry || lease->on_unhealthy == ON_UNHEALTHY_RESTART;
    g_autofree char *unit = keep ? NULL : socket_entry_unit(entry, NULL);

    deaths_unwatch(note->monitor, lease);
    registry_set_process(manager->registry, lease, (ProcessIdentity){0}, unit ? unit : lease->unit,
                         NULL);
    (void)manager_record(manager, lease, NULL); /* without it a restart finds it out again */
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
        /* What a restart brings is another process; the sweep watches its port from here on. */
        if (lease->on_unhealthy == ON_UNHEALTHY_RESTART)
            registry_set_process(monitor->manager->registry, lease, (ProcessIdentity){0},
                                 lease->unit, NULL);
    }
    health_follow(monitor, lease, REASON_PROCESS_EXITED);
}

/*
 * Whether its service may be on its way: to be started again, or started again since the process
 * ended and not at its port yet. "Unknown" is never taken for a no.
 */
static gboolean may_come_back(UnitSight sight, gint64 died_usec)
{
    switch (sight.state) {
    case UNIT_UNKNOWN:
    case UNIT_STARTING:
        return TRUE;
    case UNIT_RUNNING:
        return sight.active_since_usec > died_usec - DEATH_NOTICED_USEC;
    default:
        return FALSE;
    }
}

static void unit_answered(HealthMonitor *monitor, Lease *lease, const char *unit, UnitSight sight,
                          const GError *error)
{
    HealthNote *note = g_hash_table_lookup(monitor->notes, lease);
    gint64 patience_usec;

    if (!note || !note->asking)
        return;
    note->asking = FALSE;
    patience_usec =
        note->died_usec + (gint64)health_settings_of(monitor->manager->config, lease->service_type)
                                  ->startup_grace_msec *
                              G_TIME_SPAN_MILLISECOND;
    /* What comes has the time that a start may take. */
    if (may_come_back(sight, note->died_usec) && g_get_monotonic_time() < patience_usec)
        arm_grace(note);
    else
        end_lease(note);
}

/* (transfer none) (nullable): younger than the death, or a dying process would be seen in it. */
static const SocketTable *shared_picture(HealthMonitor *monitor, gint64 died_usec)
{
    gint64 now_usec = g_get_monotonic_time();

    if (monitor->picture && monitor->picture_usec > died_usec &&
        now_usec - monitor->picture_usec < PICTURE_MAX_AGE_USEC)
        return monitor->picture;
    g_clear_pointer(&monitor->picture, socket_table_free);
    monitor->picture =
        socket_table_dump_deep((PortRange){0, 0}, PROTOCOL_BOTH, SOCKET_DEPTH_LISTENING, NULL);
    monitor->picture_usec = now_usec;
    return monitor->picture;
}

static void look(HealthNote *note, const SocketTable *table)
{
    const SocketEntry *entry = NULL;
    Fact by_owner;

    if (observe_served(note->lease, table, &by_owner, &entry) == FACT_UNKNOWN) {
        arm_grace(note);
    } else if (by_owner == FACT_YES) {
        hand_over(note, entry);
    } else if (unit_calls_possible(note->monitor, note->lease)) {
        note->asking = TRUE;
        unit_calls_query(note->monitor, note->lease, unit_answered);
    } else {
        end_lease(note);
    }
}

static void on_grace_over(void *data)
{
    HealthNote *note = data;
    HealthMonitor *monitor = note->monitor;
    const Lease *lease = note->lease;
    g_autoptr(SocketTable) table = NULL;

    note->grace = NULL;
    monitor->graces--;
    if (lease->ending) /* if that fails, the sweep finds the dead process */
        return;
    if (monitor->graces >= GRACES_SHARE_PICTURE) {
        look(note, shared_picture(monitor, note->died_usec));
        return;
    }
    table = socket_table_dump_deep((PortRange){lease->port, lease->port}, lease->protocol,
                                   SOCKET_DEPTH_LISTENING, NULL);
    look(note, table);
    g_clear_pointer(&monitor->picture, socket_table_free);
}

void deaths_begin_grace(HealthMonitor *monitor, Lease *lease)
{
    HealthNote *note = health_note(monitor, lease);

    if (note->grace || note->asking)
        return;
    note->died_usec = g_get_monotonic_time();
    arm_grace(note);
}

static void process_ended(HealthMonitor *monitor, Lease *lease)
{
    const HealthNote *note = health_note(monitor, lease);

    if (note->grace || note->asking)
        return;
    metrics_count(METRIC_PROCESS_EXITS);
    event_process_exited(lease);
    deaths_begin_grace(monitor, lease);
}

/*
 * The number may belong to another process by now, which has leases and is watched, too: each lease
 * is asked for its own.
 */
static void on_process_exit(pid_t pid, void *data)
{
    HealthMonitor *monitor = data;

    for (Lease *lease = registry_first_of_pid(monitor->manager->registry, pid); lease;
         lease = lease->by_pid.next) {
        HealthNote *note = g_hash_table_lookup(monitor->notes, lease);

        ProcessState state = PROCESS_ALIVE;

        if (note && note->watched)
            state = process_check(&lease->process, NULL);
        if (state == PROCESS_ALIVE)
            continue;
        note->watched = FALSE; /* the watch of this process is used up */
        if (state == PROCESS_DEAD)
            process_ended(monitor, lease); /* else the sweep asks again */
    }
}

static gboolean ensure_watch(HealthMonitor *monitor, GError **error)
{
    if (!monitor->processes)
        monitor->processes =
            process_watch_new(monitor->manager->context, on_process_exit, monitor, error);
    return monitor->processes != NULL;
}

/* Thousands of processes are refused together; one line says it until it works again. */
static void report_refusal(HealthMonitor *monitor, const GError *error)
{
    if (error && !monitor->watch_refused)
        event_watch_failed(error);
    monitor->watch_refused = error != NULL;
}

static void watch(HealthMonitor *monitor, HealthNote *note, int pidfd)
{
    g_autoptr(GError) error = NULL;

    if (ensure_watch(monitor, &error))
        note->watched =
            process_watch_add(monitor->processes, note->lease->process.pid, pidfd, &error);
    else
        (void)fd_close(pidfd);
    report_refusal(monitor, error);
}

void deaths_watch(HealthMonitor *monitor, Lease *lease)
{
    HealthNote *note = health_note(monitor, lease);
    int pidfd = -1;

    if (note->watched || note->grace || note->asking)
        return;
    switch (process_check(&lease->process, &pidfd)) {
    case PROCESS_ALIVE:
        watch(monitor, note, pidfd);
        return;
    case PROCESS_DEAD:
        process_ended(monitor, lease);
        return;
    case PROCESS_UNKNOWN:
    default:
        return;
    }
}

void deaths_check(HealthMonitor *monitor, Lease *lease)
{
    if (lease->process.pid > 0)
        deaths_watch(monitor, lease);
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
    deaths_end_grace(note);
}
