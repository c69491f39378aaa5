/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "recovery/events.h"

#include "recovery/event-fields.h"
#include "recovery/message-ids.h"
#include "recovery/metrics.h"
#include "recovery/startup.h"

#include "util/log.h"

/* Lines a client can cause: a burst, then what fits into each interval. */
#define RATE_INTERVAL_USEC (5 * G_USEC_PER_SEC)
#define RATE_LINES 200

void event_add(EventFields *fields, const char *name, const char *value)
{
    g_assert(fields->n < EVENT_FIELDS_MAX);
    fields->field[fields->n++] = (LogField){name, value};
}

void event_add_number(EventFields *fields, const char *name, guint64 value)
{
    char *text = fields->number[fields->n];

    (void)g_snprintf(text, sizeof fields->number[0], "%" G_GUINT64_FORMAT, value);
    event_add(fields, name, text);
}

void event_add_lease(EventFields *fields, const Lease *lease)
{
    event_add_number(fields, "STYXY_PORT", lease->port);
    event_add(fields, "STYXY_PROTO", protocol_to_string(lease->protocol));
    event_add(fields, "STYXY_SERVICE", lease->service_type);
    event_add(fields, "STYXY_LEASE", lease->id.text);
    event_add_number(fields, "STYXY_UID", lease->uid);
    event_add(fields, "STYXY_INSTANCE", lease->instance);
    if (lease->process.pid > 0)
        event_add_number(fields, "STYXY_PID", (guint64)lease->process.pid);
    event_add(fields, "STYXY_UNIT", lease->unit);
}

typedef struct Rate {
    gint64 interval_start_usec;
    guint lines;
    guint suppressed; /* of this interval */
} Rate;

static Rate usual, rare;

static gboolean rate_allows(Rate *rate)
{
    gint64 now_usec = g_get_monotonic_time();

    if (now_usec - rate->interval_start_usec >= RATE_INTERVAL_USEC) {
        if (rate->suppressed > 0) {
            EventFields fields = {.n = 0};

            event_add_number(&fields, "STYXY_SUPPRESSED", rate->suppressed);
            log_write(LOG_INFO, MESSAGE_LINES_SUPPRESSED, fields.field, fields.n,
                      "%u lines about what clients do were left out", rate->suppressed);
        }
        *rate = (Rate){.interval_start_usec = now_usec};
    }
    if (rate->lines < RATE_LINES) {
        rate->lines++;
        return TRUE;
    }
    rate->suppressed++;
    metrics_count(METRIC_LOG_LINES_SUPPRESSED);
    return FALSE;
}

gboolean event_rate_allows(void)
{
    return rate_allows(&usual);
}

gboolean event_rate_allows_rare(void)
{
    return rate_allows(&rare);
}

void event_granted(const Lease *lease, guint attempts)
{
    EventFields fields = {.n = 0};

    if (!event_rate_allows())
        return;
    event_add_lease(&fields, lease);
    event_add(&fields, "STYXY_LIFETIME", lifetime_to_string(lease->lifetime));
    event_add_number(&fields, "STYXY_ATTEMPTS", attempts);
    log_write(LOG_INFO, MESSAGE_PORT_GRANTED, fields.field, fields.n,
              "granted port %u/%s to service type %s of uid %u", lease->port,
              protocol_to_string(lease->protocol), lease->service_type, lease->uid);
}

void event_released(const Lease *lease, Reason reason, gboolean stale)
{
    EventFields fields = {.n = 0};

    if (!event_rate_allows())
        return;
    event_add_lease(&fields, lease);
    event_add(&fields, "STYXY_REASON", reason_to_string(reason));
    log_write(LOG_INFO, stale ? MESSAGE_STALE_RELEASED : MESSAGE_PORT_RELEASED, fields.field,
              fields.n, "released port %u/%s of service type %s, uid %u: %s", lease->port,
              protocol_to_string(lease->protocol), lease->service_type, lease->uid,
              reason_to_string(reason));
}

void event_conflict(const ConflictInfo *conflict)
{
    g_autofree char *holder = NULL;
    EventFields fields = {.n = 0};

    if (!event_rate_allows())
        return;
    event_add_number(&fields, "STYXY_PORT", conflict->port);
    event_add(&fields, "STYXY_PROTO", protocol_to_string(conflict->protocol));
    event_add(&fields, "STYXY_SERVICE", conflict->service_type);
    event_add(&fields, "STYXY_HOLDER_UNIT", conflict->unit);
    event_add(&fields, "STYXY_HOLDER_ADDRESS", conflict->address);
    if (conflict->has_uid)
        event_add_number(&fields, "STYXY_HOLDER_UID", conflict->uid);
    event_add_number(&fields, "ERRNO", (guint64)conflict->error);
    if (conflict->has_uid)
        holder = g_strdup_printf("%s%suid %u%s%s", conflict->unit ? conflict->unit : "",
                                 conflict->unit ? ", " : "", conflict->uid,
                                 conflict->address ? " on address " : "",
                                 conflict->address ? conflict->address : "");
    log_write(LOG_INFO, MESSAGE_PORT_CONFLICT, fields.field, fields.n,
              "port %u/%s, wanted for service type %s, is in use by %s", conflict->port,
              protocol_to_string(conflict->protocol), conflict->service_type,
              holder ? holder : "a program that the kernel does not name");
}

void event_conflicts_not_told(guint n)
{
    usual.suppressed += n;
    metrics_add(METRIC_LOG_LINES_SUPPRESSED, n);
    metrics_add(METRIC_CONFLICTS_NOT_TOLD, n);
}

void event_no_port(const LeaseRequest *request, guint attempts, guint conflicts)
{
    EventFields fields = {.n = 0};

    if (!event_rate_allows())
        return;
    event_add(&fields, "STYXY_SERVICE", request->service_type);
    event_add_number(&fields, "STYXY_UID", request->uid);
    event_add_number(&fields, "STYXY_ATTEMPTS", attempts);
    event_add_number(&fields, "STYXY_CONFLICTS", conflicts);
    log_write(LOG_INFO, MESSAGE_NO_PORT, fields.field, fields.n,
              "no port for service type %s of uid %u after %u attempts, %u ports were in use",
              request->service_type, request->uid, attempts, conflicts);
}

void event_store_failed(const GError *error)
{
    EventFields fields = {.n = 0};

    event_add(&fields, "STYXY_ERROR", error->message);
    log_write(LOG_ERR, MESSAGE_STORE_FAILED, fields.field, fields.n,
              "the state cannot be written, nothing is granted or released until it can, "
              "retrying: %s",
              error->message);
}

void event_store_works_again(void)
{
    log_write(LOG_NOTICE, MESSAGE_STORE_WORKS_AGAIN, NULL, 0, "the state can be written again");
}

void event_snapshot_failed(const GError *error, guint retry_msec)
{
    EventFields fields = {.n = 0};

    metrics_count(METRIC_SNAPSHOT_FAILURES);
    event_add(&fields, "STYXY_ERROR", error->message);
    event_add_number(&fields, "STYXY_RETRY_MSEC", retry_msec);
    log_write(LOG_WARNING, MESSAGE_SNAPSHOT_FAILED, fields.field, fields.n,
              "the journal could not be folded into a snapshot, nothing is lost, retrying in %u s: "
              "%s",
              (retry_msec + 999) / 1000, error->message);
}

void event_recovery_started(const RecoveryReport *report)
{
    EventFields fields = {.n = 0};

    event_add(&fields, "STYXY_TRIGGER", report->trigger);
    log_write(LOG_INFO, MESSAGE_RECOVERY_STARTED, fields.field, fields.n, "%srecovery (%s) starts",
              report->dry_run ? "dry run: " : "", report->trigger);
}

void event_recovery_step(const RecoveryReport *report, int step)
{
    StepResult result = report->steps[step].result;
    int priority = result == STEP_FAILED    ? LOG_ERR
                   : result == STEP_WARNING ? LOG_WARNING
                                            : LOG_NOTICE;

    for (guint i = 0; i < report->steps[step].messages->len; i++) {
        EventFields fields = {.n = 0};

        event_add(&fields, "STYXY_STEP", recovery_step_to_string((RecoveryStep)step));
        event_add(&fields, "STYXY_RESULT", step_result_to_string(result));
        event_add(&fields, "STYXY_TRIGGER", report->trigger);
        log_write(priority, MESSAGE_RECOVERY_FINDING, fields.field, fields.n, "%s%s: %s",
                  report->dry_run ? "dry run: " : "", recovery_step_to_string((RecoveryStep)step),
                  (const char *)report->steps[step].messages->pdata[i]);
    }
}

void event_recovery_finished(const RecoveryReport *report)
{
    EventFields fields = {.n = 0};

    event_add(&fields, "STYXY_TRIGGER", report->trigger);
    event_add_number(&fields, "STYXY_KEPT", report->kept);
    event_add_number(&fields, "STYXY_RELEASED", report->dropped);
    event_add_number(&fields, "STYXY_REPAIRED", report->repaired);
    log_write(report->ok ? LOG_NOTICE : LOG_ERR, MESSAGE_RECOVERY_FINISHED, fields.field, fields.n,
              "%srecovery (%s) %s: %u leases kept, %u ended, %u repairs, %.1f ms",
              report->dry_run ? "dry run: " : "", report->trigger,
              report->ok ? "finished" : "failed", report->kept, report->dropped, report->repaired,
              (double)(report->finished_usec - report->started_usec) / G_TIME_SPAN_MILLISECOND);
}
