/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "recovery/event-fields.h"
#include "recovery/events.h"
#include "recovery/message-ids.h"
#include "recovery/metrics.h"

void event_health(const Lease *lease, Health before, const char *why)
{
    EventFields fields = {.n = 0};

    metrics_count(METRIC_HEALTH_CHANGES);
    if (!event_rate_allows())
        return;
    event_add_lease(&fields, lease);
    event_add(&fields, "STYXY_HEALTH", health_to_string(lease->health));
    event_add(&fields, "STYXY_HEALTH_BEFORE", health_to_string(before));
    event_add(&fields, "STYXY_REASON", why);
    event_add_number(&fields, "STYXY_FAILURES", lease->failures);
    log_write(LOG_INFO, MESSAGE_HEALTH_CHANGED, fields.field, fields.n,
              "port %u/%s of service type %s is %s%s%s", lease->port,
              protocol_to_string(lease->protocol), lease->service_type,
              health_to_string(lease->health), why ? ": " : "", why ? why : "");
}

void event_process_exited(const Lease *lease)
{
    EventFields fields = {.n = 0};

    if (!event_rate_allows())
        return;
    event_add_lease(&fields, lease);
    log_write(LOG_INFO, MESSAGE_PROCESS_EXITED, fields.field, fields.n,
              "process %d with port %u/%s of service type %s has ended", (int)lease->process.pid,
              lease->port, protocol_to_string(lease->protocol), lease->service_type);
}

void event_handover(const Lease *lease)
{
    EventFields fields = {.n = 0};

    if (!event_rate_allows())
        return;
    event_add_lease(&fields, lease);
    log_write(LOG_INFO, MESSAGE_HANDOVER, fields.field, fields.n,
              "port %u/%s of service type %s is served on by another process of its owner",
              lease->port, protocol_to_string(lease->protocol), lease->service_type);
}

void event_restarted(const Lease *lease, const char *unit, guint restarts)
{
    EventFields fields = {.n = 0};

    event_add_lease(&fields, lease);
    event_add(&fields, "STYXY_RESTARTED_UNIT", unit);
    event_add_number(&fields, "STYXY_RESTARTS", restarts);
    log_write(LOG_NOTICE, MESSAGE_SERVICE_RESTARTED, fields.field, fields.n,
              "restarted %s, which does not answer on port %u/%s (restart %u)", unit, lease->port,
              protocol_to_string(lease->protocol), restarts);
}

void event_restart_failed(const Lease *lease, const char *unit, const GError *error)
{
    EventFields fields = {.n = 0};

    metrics_count(METRIC_SERVICE_RESTARTS_FAILED);
    event_add_lease(&fields, lease);
    event_add(&fields, "STYXY_RESTARTED_UNIT", unit);
    event_add(&fields, "STYXY_ERROR", error->message);
    log_write(LOG_WARNING, MESSAGE_RESTART_FAILED, fields.field, fields.n,
              "cannot restart %s, which does not answer on port %u/%s: %s", unit, lease->port,
              protocol_to_string(lease->protocol), error->message);
}

void event_mass_failure(guint watched, guint silent, gboolean doubted)
{
    EventFields fields = {.n = 0};

    metrics_count(METRIC_MASS_FAILURES);
    event_add_number(&fields, "STYXY_WATCHED", watched);
    event_add_number(&fields, "STYXY_SILENT", silent);
    log_write(LOG_WARNING, MESSAGE_MASS_FAILURE, fields.field, fields.n,
              "%u of %u services went silent at once, %s", silent, watched,
              doubted ? "which is more likely an error in looking; no lease ends for it now"
                      : "and stayed silent; their leases end by the usual rules");
}

void event_http_unknown(const Lease *lease, const char *why)
{
    EventFields fields = {.n = 0};

    metrics_count(METRIC_HTTP_CHECKS_UNKNOWN);
    if (!event_rate_allows())
        return;
    event_add_lease(&fields, lease);
    event_add(&fields, "STYXY_REASON", why);
    log_write(LOG_INFO, MESSAGE_HTTP_UNKNOWN, fields.field, fields.n,
              "port %u/%s of service type %s could not be asked by HTTP, which says nothing about "
              "it: %s",
              lease->port, protocol_to_string(lease->protocol), lease->service_type, why);
}

void event_sweep_failed(const GError *error)
{
    EventFields fields = {.n = 0};

    metrics_count(METRIC_HEALTH_SWEEPS_FAILED);
    event_add(&fields, "STYXY_ERROR", error->message);
    log_write(
        LOG_WARNING, MESSAGE_SWEEP_FAILED, fields.field, fields.n,
        "the kernel did not say who listens where, no lease ends for it, retrying at the next "
        "sweep: %s",
        error->message);
}

void event_watch_failed(const GError *error)
{
    EventFields fields = {.n = 0};

    metrics_count(METRIC_PROCESS_WATCHES_FAILED);
    event_add(&fields, "STYXY_ERROR", error->message);
    log_write(LOG_WARNING, MESSAGE_WATCH_FAILED, fields.field, fields.n,
              "the end of a process will only be noticed by the sweep: %s", error->message);
}
