/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "recovery/health-private.h"

/** deaths_watch: notices the end of the lease's process from now on, also when it ended already. */
void deaths_watch(HealthMonitor *monitor, Lease *lease);

/** deaths_unwatch: nothing for a lease whose process is not watched. */
void deaths_unwatch(HealthMonitor *monitor, Lease *lease);
