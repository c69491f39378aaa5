/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "recovery/metrics.h"

static guint64 values[_METRIC_MAX];

static const char *const names[_METRIC_MAX] = {
    [METRIC_ALLOCATIONS] = "allocations_total",
    [METRIC_ALLOCATIONS_REUSED] = "allocations_reused_total",
    [METRIC_ALLOCATIONS_REFUSED] = "allocations_refused_total",
    [METRIC_RELEASES] = "releases_total",
    [METRIC_CONFLICTS] = "conflicts_total",
    [METRIC_CONFLICTS_NOT_TOLD] = "conflicts_not_told_total",
    [METRIC_CONFLICT_RETRIES] = "conflict_retries_total",
    [METRIC_STALE_RELEASES] = "stale_releases_total",
    [METRIC_HEALTH_SWEEPS] = "health_sweeps_total",
    [METRIC_HEALTH_CHECKS_FAILED] = "health_checks_failed_total",
    [METRIC_HTTP_CHECKS] = "http_checks_total",
    [METRIC_HTTP_CHECKS_FAILED] = "http_checks_failed_total",
    [METRIC_PROCESS_EXITS] = "process_exits_total",
    [METRIC_HANDOVERS] = "handovers_total",
    [METRIC_SERVICE_RESTARTS] = "service_restarts_total",
    [METRIC_RECOVERIES] = "recoveries_total",
    [METRIC_RECOVERY_REPAIRS] = "recovery_repairs_total",
    [METRIC_JOURNAL_RECORDS] = "journal_records_total",
    [METRIC_JOURNAL_FAILURES] = "journal_failures_total",
    [METRIC_REQUESTS_REFUSED] = "requests_refused_total",
    [METRIC_QUOTA_REFUSALS] = "quota_refusals_total",
    [METRIC_HEALTH_CHANGES] = "health_changes_total",
    [METRIC_HEALTH_SWEEPS_FAILED] = "health_sweeps_failed_total",
    [METRIC_MASS_FAILURES] = "mass_failures_total",
    [METRIC_HTTP_CHECKS_UNKNOWN] = "http_checks_unknown_total",
    [METRIC_SERVICE_RESTARTS_FAILED] = "service_restarts_failed_total",
    [METRIC_PROCESS_WATCHES_FAILED] = "process_watches_failed_total",
    [METRIC_SNAPSHOT_FAILURES] = "snapshot_failures_total",
    [METRIC_CONFIGURATIONS_LOADED] = "configurations_loaded_total",
    [METRIC_CONFIGURATIONS_REFUSED] = "configurations_refused_total",
    [METRIC_BUS_FAILURES] = "bus_failures_total",
    [METRIC_CONNECTION_PAUSES] = "connection_pauses_total",
    [METRIC_SIGNALS_LOST] = "signals_lost_total",
    [METRIC_HOLDS_NOT_KEPT] = "holds_not_kept_total",
    [METRIC_RENEWALS] = "renewals_total",
    [METRIC_LOG_LINES_SUPPRESSED] = "log_lines_suppressed_total",
};

void metrics_add(Metric metric, guint64 n)
{
    values[metric] += n;
}

guint64 metrics_get(Metric metric)
{
    return values[metric];
}

const char *metric_name(Metric metric)
{
    return names[metric];
}
