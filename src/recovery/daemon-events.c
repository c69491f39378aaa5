/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "recovery/event-fields.h"
#include "recovery/events.h"
#include "recovery/message-ids.h"
#include "recovery/metrics.h"

void event_configuration_loaded(const Configuration *config)
{
    g_autofree char *files = config->files ? g_strjoinv(", ", config->files) : NULL;
    EventFields fields = {.n = 0};

    metrics_count(METRIC_CONFIGURATIONS_LOADED);
    event_add(&fields, "STYXY_CONFIG_FILES", files ? files : "nowhere");
    event_add_number(&fields, "STYXY_SERVICE_TYPES", config->service_types->len);
    log_write(LOG_NOTICE, MESSAGE_CONFIGURATION_LOADED, fields.field, fields.n,
              "configuration with %u service types loaded from %s", config->service_types->len,
              files ? files : "nowhere");
}

void event_configuration_refused(const GError *error)
{
    EventFields fields = {.n = 0};

    metrics_count(METRIC_CONFIGURATIONS_REFUSED);
    event_add(&fields, "STYXY_ERROR", error->message);
    log_write(LOG_ERR, MESSAGE_CONFIGURATION_REFUSED, fields.field, fields.n,
              "the configuration is not usable, keeping the running one: %s", error->message);
}

void event_configuration_invalid(const GError *error)
{
    EventFields fields = {.n = 0};

    event_add(&fields, "STYXY_ERROR", error->message);
    log_write(LOG_ERR, MESSAGE_CONFIGURATION_INVALID, fields.field, fields.n, "%s", error->message);
}

void event_daemon_failed(const GError *error)
{
    EventFields fields = {.n = 0};

    event_add(&fields, "STYXY_ERROR", error->message);
    log_write(LOG_ERR, MESSAGE_DAEMON_FAILED, fields.field, fields.n, "%s", error->message);
}

void event_bus_unreachable(int error, guint retry_msec)
{
    EventFields fields = {.n = 0};

    metrics_count(METRIC_BUS_FAILURES);
    event_add(&fields, "STYXY_ERROR", g_strerror(error));
    event_add_number(&fields, "ERRNO", (guint64)error);
    event_add_number(&fields, "STYXY_RETRY_MSEC", retry_msec);
    log_write(LOG_WARNING, MESSAGE_BUS_UNREACHABLE, fields.field, fields.n,
              "no connection to the message bus, serving the direct socket alone, trying again in "
              "%.1f s: %s",
              retry_msec / 1000.0, g_strerror(error));
}

void event_caller_not_served(const char *name)
{
    EventFields fields = {.n = 0};

    if (!event_rate_allows())
        return;
    event_add(&fields, "STYXY_CALLER", name);
    log_write(LOG_INFO, MESSAGE_CALLER_NOT_SERVED, fields.field, fields.n,
              "the bus refuses to tell when %s leaves, so it is not served", name);
}

void event_signal_lost(const char *signal, int error)
{
    EventFields fields = {.n = 0};

    metrics_count(METRIC_SIGNALS_LOST);
    event_add(&fields, "STYXY_SIGNAL", signal);
    event_add(&fields, "STYXY_ERROR", g_strerror(error));
    event_add_number(&fields, "ERRNO", (guint64)error);
    log_write(LOG_WARNING, MESSAGE_SIGNAL_LOST, fields.field, fields.n,
              "the signal %s cannot be put together, ignoring: %s", signal, g_strerror(error));
}

void event_connections_paused(int error)
{
    EventFields fields = {.n = 0};

    metrics_count(METRIC_CONNECTION_PAUSES);
    event_add(&fields, "STYXY_ERROR", g_strerror(error));
    event_add_number(&fields, "ERRNO", (guint64)error);
    log_write(LOG_WARNING, MESSAGE_CONNECTIONS_PAUSED, fields.field, fields.n,
              "direct connections cannot be taken, trying again in a second: %s",
              g_strerror(error));
}

void event_client_cut_off(uid_t uid, const char *why)
{
    EventFields fields = {.n = 0};

    if (!event_rate_allows_rare())
        return;
    event_add_number(&fields, "STYXY_UID", uid);
    event_add(&fields, "STYXY_REASON", why);
    log_write(LOG_INFO, MESSAGE_CLIENT_CUT_OFF, fields.field, fields.n,
              "cut off a direct connection of uid %u: %s", uid, why);
}

void event_descriptor_unknown(int fd, const char *name)
{
    EventFields fields = {.n = 0};

    event_add_number(&fields, "STYXY_DESCRIPTOR", (guint64)fd);
    event_add(&fields, "STYXY_DESCRIPTOR_NAME", name);
    log_write(LOG_WARNING, MESSAGE_DESCRIPTOR_UNKNOWN, fields.field, fields.n,
              "descriptor %d (%s) from the service manager is not one of ours, closing it", fd,
              name);
}

void event_hold_not_kept(const Lease *lease, int error)
{
    EventFields fields = {.n = 0};

    metrics_count(METRIC_HOLDS_NOT_KEPT);
    if (!event_rate_allows())
        return;
    event_add_lease(&fields, lease);
    event_add(&fields, "STYXY_ERROR", g_strerror(error));
    event_add_number(&fields, "ERRNO", (guint64)error);
    log_write(LOG_WARNING, MESSAGE_HOLD_NOT_KEPT, fields.field, fields.n,
              "the service manager does not keep the socket on port %u, a crash would open a gap: "
              "%s",
              lease->port, g_strerror(error));
}

void event_setting_ignored(const char *variable, const char *expected)
{
    EventFields fields = {.n = 0};

    event_add(&fields, "STYXY_VARIABLE", variable);
    log_write(LOG_WARNING, MESSAGE_SETTING_IGNORED, fields.field, fields.n,
              "the environment variable %s is no %s, ignoring", variable, expected);
}
