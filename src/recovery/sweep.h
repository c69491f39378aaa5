/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "recovery/health-private.h"

/** sweep_start: begins a sweep; does nothing while one is under way. */
void sweep_start(HealthMonitor *monitor);

/** sweep_cancel: drops the one under way; its cleanup requests are answered with an error. */
void sweep_cancel(HealthMonitor *monitor);
