/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * HTTP checks of leases with a health_url. A sweep starts one for each, spread over a part of the
 * interval; the verdict waits in the note for the next sweep, and counts once.
 */
#include "probe/http.h"

#include <string.h>

#include "recovery/events.h"
#include "recovery/health-private.h"
#include "recovery/metrics.h"

/* A thousand services that hang for the default timeout take 80 s, or 160 s as one user's. */
#define CONCURRENCY 64
#define JITTER_MAX_MSEC 5000

#define PLACEHOLDER "{port}"

static char *url_of(const char *template, guint16 port)
{
    g_autofree char *number = g_strdup_printf("%u", port);
    GString *url = g_string_new(template);

    (void)g_string_replace(url, PLACEHOLDER, number, 1);
    return g_string_free(url, FALSE);
}

gboolean health_url_check(const char *url, guint16 port, gboolean any_local_port, GError **error)
{
    g_autofree char *expanded = url_of(url, port);

    return http_url_check(expanded, port, any_local_port, error);
}

static void on_verdict(HttpVerdict verdict, const char *reason, void *data)
{
    HealthNote *note = data;
    g_autofree char *why = NULL;

    note->http = NULL;
    metrics_count(METRIC_HTTP_CHECKS);
    switch (verdict) {
    case HTTP_HEALTHY:
        note->http_healthy = FACT_YES;
        return;
    case HTTP_UNHEALTHY:
        metrics_count(METRIC_HTTP_CHECKS_FAILED);
        why = g_strdup_printf("its health check fails: %s", reason);
        note->http_healthy = FACT_NO;
        note->http_why = g_intern_string(why); /* few: no word of it is the server's */
        return;
    case HTTP_UNKNOWN:
    default:
        event_http_unknown(note->lease, reason);
        note->http_healthy = FACT_UNKNOWN;
    }
}

static void on_delay_over(void *data)
{
    HealthNote *note = data;
    HealthMonitor *monitor = note->monitor;
    const Lease *lease = note->lease;
    const HealthSettings *settings =
        health_settings_of(monitor->manager->config, lease->service_type);
    g_autofree char *url = url_of(lease->health_url, lease->port);

    note->http_delay = NULL;
    if (!monitor->http)
        monitor->http = http_checker_new(CONCURRENCY);
    note->http = http_check_start(monitor->http, lease->uid, url,
                                  lease->health_timeout_msec > 0 ? lease->health_timeout_msec
                                                                 : settings->http_timeout_msec,
                                  on_verdict, note);
}

void health_http_start(HealthMonitor *monitor, Lease *lease)
{
    HealthNote *note = health_note(monitor, lease);
    guint jitter_msec =
        MIN(monitor->manager->config->health_check_interval_msec / 4, JITTER_MAX_MSEC);

    if (note->http || note->http_delay)
        return;
    note->http_delay =
        deadline_add(monitor->manager->deadlines,
                     g_get_monotonic_time() +
                         g_random_int_range(0, (gint32)jitter_msec + 1) * G_TIME_SPAN_MILLISECOND,
                     on_delay_over, note);
}

void health_http_cancel(HealthNote *note)
{
    note->http_delay = deadline_cancel(note->http_delay);
    if (note->http)
        http_check_cancel(note->http);
    note->http = NULL;
}

void health_http_free(HealthMonitor *monitor)
{
    monitor->http = http_checker_free(monitor->http);
}
