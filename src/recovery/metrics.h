/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>

/** Metric: monotonic counters. The XML of the interface says what each counts. */
typedef enum Metric {
    METRIC_ALLOCATIONS,
    METRIC_ALLOCATIONS_REUSED,
    METRIC_ALLOCATIONS_REFUSED,
    METRIC_RELEASES,
    METRIC_CONFLICTS,
    METRIC_CONFLICTS_NOT_TOLD,
    METRIC_CONFLICT_RETRIES,
    METRIC_STALE_RELEASES,
    METRIC_HEALTH_SWEEPS,
    METRIC_HEALTH_CHECKS_FAILED,
    METRIC_HTTP_CHECKS,
    METRIC_HTTP_CHECKS_FAILED,
    METRIC_PROCESS_EXITS,
    METRIC_HANDOVERS,
    METRIC_SERVICE_RESTARTS,
    METRIC_RECOVERIES,
    METRIC_RECOVERY_REPAIRS,
    METRIC_JOURNAL_RECORDS,
    METRIC_JOURNAL_FAILURES,
    METRIC_REQUESTS_REFUSED,
    METRIC_QUOTA_REFUSALS,
    METRIC_HEALTH_CHANGES,
    METRIC_HEALTH_SWEEPS_FAILED,
    METRIC_MASS_FAILURES,
    METRIC_HTTP_CHECKS_UNKNOWN,
    METRIC_SERVICE_RESTARTS_FAILED,
    METRIC_PROCESS_WATCHES_FAILED,
    METRIC_SNAPSHOT_FAILURES,
    METRIC_CONFIGURATIONS_LOADED,
    METRIC_CONFIGURATIONS_REFUSED,
    METRIC_BUS_FAILURES,
    METRIC_CONNECTION_PAUSES,
    METRIC_SIGNALS_LOST,
    METRIC_HOLDS_NOT_KEPT,
    METRIC_RENEWALS,
    METRIC_LOG_LINES_SUPPRESSED,
    _METRIC_MAX,
} Metric;

/** metrics_count: adds @n to a counter of the process. Single-threaded, never wraps in practice. */
void metrics_add(Metric metric, guint64 n);
static inline void metrics_count(Metric metric)
{
    metrics_add(metric, 1);
}
guint64 metrics_get(Metric metric);

/** metric_name: "allocations_total" and so on: [a-z_], counters end in _total. */
const char *metric_name(Metric metric);
