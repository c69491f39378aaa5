/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "recovery/unit-calls.h"

typedef struct UnitCall {
    HealthMonitor *monitor; /* borrowed; NULL once it is gone */
    Id lease;
    char *unit;
    UnitAnswered answered;
    GList link;
} UnitCall;

static void on_answer(UnitSight sight, const GError *error, void *data)
{
    UnitCall *call = data;
    HealthMonitor *monitor = call->monitor;
    Lease *lease = NULL;

    if (monitor) {
        g_queue_unlink(&monitor->unit_calls, &call->link);
        lease = registry_find(monitor->manager->registry, call->lease.text);
    }
    if (lease)
        call->answered(monitor, lease, call->unit, sight, error);
    g_free(call->unit);
    g_free(call);
}

static UnitCall *call_new(HealthMonitor *monitor, const Lease *lease, UnitAnswered answered)
{
    UnitCall *call = g_new0(UnitCall, 1);

    call->monitor = monitor;
    call->lease = lease->id;
    call->unit = g_strdup(lease->unit);
    call->answered = answered;
    call->link.data = call;
    g_queue_push_tail_link(&monitor->unit_calls, &call->link);
    return call;
}

gboolean unit_calls_possible(const HealthMonitor *monitor, const Lease *lease)
{
    return lease->unit && g_str_has_suffix(lease->unit, ".service") && monitor->manager->services;
}

void unit_calls_query(HealthMonitor *monitor, const Lease *lease, UnitAnswered answered)
{
    Manager *manager = monitor->manager;
    UnitCall *call = call_new(monitor, lease, answered);

    manager->services->query(call->unit, lease->uid, on_answer, call, manager->services_data);
}

void unit_calls_restart(HealthMonitor *monitor, const Lease *lease, UnitAnswered answered)
{
    Manager *manager = monitor->manager;
    UnitCall *call = call_new(monitor, lease, answered);

    manager->services->restart(call->unit, lease->uid, on_answer, call, manager->services_data);
}

void unit_calls_forget(HealthMonitor *monitor)
{
    GList *link = NULL;

    while ((link = g_queue_pop_head_link(&monitor->unit_calls)))
        ((UnitCall *)link->data)->monitor = NULL;
}
