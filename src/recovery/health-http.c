/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * HTTP checks of leases with a health_url. A sweep starts one for each, spread over a part of the
 * interval; the verdict waits in the note for the next sweep, and counts once.
 */
#include "probe/http.h"

#include <string.h>
#include <sys/stat.h>

#include "recovery/events.h"
#include "recovery/health-private.h"
#include "recovery/metrics.h"
#include "recovery/observe.h"

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

gboolean health_url_check(const char *url, guint16 port, const char *address,
                          gboolean any_local_port, GError **error)
{
    g_autofree char *expanded = url_of(url, port);

    return http_url_check(expanded, port, address, any_local_port, error);
}

void health_socket_made(HealthMonitor *monitor, Lease *lease, int fd)
{
    struct stat status;

    if (lease->health_url && fstat(fd, &status) == 0)
        health_note(monitor, lease)->socket_inode = (guint32)status.st_ino;
}

/*
 * A check goes out with our name and reaches what the owner may not: what listens has to be his,
 * or he has the daemon ask the service of another. The URL may be one of several at the lease.
 */
static HttpVerdict aim(char **ret_address, const char **ret_reason, void *data)
{
    HealthNote *note = data;
    const Lease *lease = note->lease;
    g_autofree char *url = url_of(lease->health_url, lease->port);
    g_autoptr(SocketTable) table = socket_table_dump_deep(
        (PortRange){lease->port, lease->port}, PROTOCOL_TCP, SOCKET_DEPTH_LISTENING, NULL);
    const char *targets[HTTP_TARGETS_MAX];
    guint n = http_url_targets(url, lease->address, targets);
    gboolean foreign = FALSE;

    note->http_foreign = FALSE;
    if (!table) {
        *ret_reason = "who listens on its port could not be found out";
        return HTTP_UNKNOWN;
    }
    for (guint i = 0; i < n; i++) {
        switch (observe_listener(lease, table, targets[i], note->socket_inode)) {
        case LISTENER_OWN:
            *ret_address = g_strdup(targets[i]);
            return HTTP_HEALTHY;
        case LISTENER_FOREIGN:
            foreign = TRUE;
            break;
        case LISTENER_NONE:
            break;
        }
    }
    note->http_foreign = foreign;
    *ret_reason = foreign ? "somebody else listens on its port" : "nobody listens where it asks";
    return foreign ? HTTP_UNKNOWN : HTTP_UNHEALTHY;
}

/* What is not the lease's own was allowed by an administrator, who knows whose it is; so does root,
 * whose service may run as any user. */
static gboolean is_to_be_aimed(const HealthMonitor *monitor, const Lease *lease)
{
    return lease->uid != 0 && !monitor->manager->config->health_any_local_port &&
           health_url_check(lease->health_url, lease->port, lease->address, FALSE, NULL);
}

static void on_verdict(HttpVerdict verdict, const char *reason, void *data)
{
    HealthNote *note = data;
    g_autofree char *why = NULL;

    note->http = NULL;
    note->http_unasked = NULL;
    metrics_count(METRIC_HTTP_CHECKS);
    switch (verdict) {
    case HTTP_HEALTHY:
        note->http_healthy = FACT_YES;
        note->http_answered = TRUE;
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
        why = g_strdup_printf("its health check is not made: %s", reason);
        note->http_unasked = g_intern_string(why);
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
    note->http_foreign = FALSE;
    note->http = http_check_start(monitor->http, lease->uid, url,
                                  lease->health_timeout_msec > 0 ? lease->health_timeout_msec
                                                                 : settings->http_timeout_msec,
                                  is_to_be_aimed(monitor, lease) ? aim : NULL, on_verdict, note);
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

void health_http_init(HealthMonitor *monitor)
{
    monitor->http = http_checker_new(CONCURRENCY);
}

void health_http_free(HealthMonitor *monitor)
{
    monitor->http = http_checker_free(monitor->http);
}
