/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "recovery/health-private.h"

/** deaths_watch: notices the end of the lease's process from now on, also when it ended already. */
void deaths_watch(HealthMonitor *monitor, Lease *lease);

/** deaths_unwatch: nothing for a lease whose process is not watched. */
void deaths_unwatch(HealthMonitor *monitor, Lease *lease);

/** deaths_check: notices in a sweep the end of a process that the kernel does not watch for us. */
void deaths_check(HealthMonitor *monitor, Lease *lease);

/** deaths_begin_grace: the process of @lease has ended; nothing where its grace runs already. */
void deaths_begin_grace(HealthMonitor *monitor, Lease *lease);

/** deaths_end_grace: does nothing for a lease in no grace. */
void deaths_end_grace(HealthNote *note);
