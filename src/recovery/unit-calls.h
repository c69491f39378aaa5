/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "recovery/health-private.h"

/*
 * Questions to the service manager about the unit of a lease. The answer finds its lease again by
 * id, and finds nobody when lease or monitor are gone by then.
 */

/** UnitAnswered: @lease lives; @error is set where the service manager refused. */
typedef void (*UnitAnswered)(HealthMonitor *monitor, Lease *lease, const char *unit,
                             UnitSight sight, const GError *error);

/**
 * unit_calls_possible: whether @lease is in a unit that can be started again, and there is somebody
 * to ask about it. A scope holds what others started: systemd never starts it again
 * (systemd.scope(5)).
 */
gboolean unit_calls_possible(const HealthMonitor *monitor, const Lease *lease);

void unit_calls_query(HealthMonitor *monitor, const Lease *lease, UnitAnswered answered);
void unit_calls_restart(HealthMonitor *monitor, const Lease *lease, UnitAnswered answered);

/** unit_calls_forget: no answer finds its monitor any more. */
void unit_calls_forget(HealthMonitor *monitor);
