/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "bus/errors.h"

#include <errno.h>
#include <stdarg.h>

#include "recovery/metrics.h"

#define ENTRY(outcome, name, number) [(outcome)-1] = SD_BUS_ERROR_MAP(BUS_ERROR_PREFIX name, number)

/* By Outcome, less the one for OUTCOME_OK; sd-bus keeps a reference for good. */
static const sd_bus_error_map map[_OUTCOME_MAX] = {
    ENTRY(OUTCOME_INVALID_ARGUMENT, "InvalidArgument", EINVAL),
    ENTRY(OUTCOME_UNKNOWN_SERVICE_TYPE, "UnknownServiceType", ENOENT),
    ENTRY(OUTCOME_UNKNOWN_LEASE, "UnknownLease", ENXIO),
    ENTRY(OUTCOME_PORT_IN_USE, "PortInUse", EADDRINUSE),
    ENTRY(OUTCOME_NO_PORT_AVAILABLE, "NoPortAvailable", EADDRNOTAVAIL),
    ENTRY(OUTCOME_NOT_OWNER, "NotOwner", EPERM),
    ENTRY(OUTCOME_NOT_AUTHORIZED, "NotAuthorized", EACCES),
    ENTRY(OUTCOME_QUOTA_EXCEEDED, "QuotaExceeded", EDQUOT),
    ENTRY(OUTCOME_STATE_UNAVAILABLE, "StateUnavailable", EIO),
    ENTRY(OUTCOME_DEGRADED, "Degraded", EHOSTDOWN),
    ENTRY(OUTCOME_BUSY, "Busy", EBUSY),
    [_OUTCOME_MAX - 1] = SD_BUS_ERROR_MAP_END,
};

void bus_errors_init(void)
{
    int r = sd_bus_error_add_map(map);

    g_assert(r >= 0 || r == -ENOMEM); /* anything else: the table above has a hole */
}

const char *bus_error_name(Outcome outcome)
{
    g_assert((unsigned)outcome < _OUTCOME_MAX);
    return outcome == OUTCOME_OK ? NULL : map[outcome - 1].name;
}

int bus_error_errno(Outcome outcome)
{
    g_assert((unsigned)outcome < _OUTCOME_MAX);
    return outcome == OUTCOME_OK ? 0 : map[outcome - 1].code;
}

int bus_error_set(sd_bus_error *error, Outcome outcome, const char *format, ...)
{
    va_list ap;

    metrics_count(METRIC_REQUESTS_REFUSED);
    if (outcome == OUTCOME_QUOTA_EXCEEDED)
        metrics_count(METRIC_QUOTA_REFUSALS);
    va_start(ap, format);
    (void)sd_bus_error_setfv(error, bus_error_name(outcome), format, ap);
    va_end(ap);
    return -bus_error_errno(outcome);
}

int bus_error_set_gerror(sd_bus_error *error, const GError *gerror)
{
    if (gerror->domain == OUTCOME_ERROR && gerror->code > OUTCOME_OK && gerror->code < _OUTCOME_MAX)
        return bus_error_set(error, (Outcome)gerror->code, "%s", gerror->message);
    metrics_count(METRIC_REQUESTS_REFUSED);
    return sd_bus_error_set(error, SD_BUS_ERROR_FAILED, gerror->message);
}
