/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "recovery/health-private.h"

void health_http_start(HealthMonitor *monitor, Lease *lease)
{
}
void health_http_cancel(HealthNote *note)
{
}
void health_http_free(HealthMonitor *monitor)
{
}
