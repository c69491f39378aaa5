/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/lifecycle.h"

#include <systemd/sd-daemon.h>

#include "recovery/events.h"

#define IDLE_MSEC 30000

static gboolean feed(gpointer data)
{
    (void)sd_notify(FALSE, "WATCHDOG=1");
    return G_SOURCE_CONTINUE;
}

void lifecycle_watchdog(GMainContext *context)
{
    uint64_t interval_usec = 0;
    GSource *source = NULL;

    if (sd_watchdog_enabled(FALSE, &interval_usec) <= 0)
        return;
    /* Twice in each interval, as sd_watchdog_enabled(3) asks for. */
    source = g_timeout_source_new((guint)MIN(interval_usec / 2000, G_MAXUINT));
    g_source_set_callback(source, feed, NULL, NULL);
    g_source_set_static_name(source, "watchdog");
    g_source_attach(source, context);
    g_source_unref(source);
}

void lifecycle_ready(void)
{
    (void)sd_notify(FALSE, "READY=1");
}

void lifecycle_stopping(void)
{
    (void)sd_notify(FALSE, "STOPPING=1");
}

void lifecycle_status(const char *format, ...)
{
    static char *last;
    g_autofree char *status = NULL;
    g_autofree char *text = NULL;
    va_list ap;

    va_start(ap, format);
    text = g_strdup_vprintf(format, ap);
    va_end(ap);
    if (g_strcmp0(text, last) == 0)
        return;
    g_free(last);
    last = g_steal_pointer(&text);
    status = g_strconcat("STATUS=", last, NULL);
    (void)sd_notify(FALSE, status);
}

guint lifecycle_idle_msec(void)
{
    const char *setting = g_getenv("STYXY_IDLE_MSEC");
    guint64 msec;

    if (setting) {
        if (g_ascii_string_to_unsigned(setting, 10, 0, G_MAXINT, &msec, NULL))
            return (guint)msec;
        event_setting_ignored("STYXY_IDLE_MSEC", "number of milliseconds");
    }
    return g_getenv("LISTEN_FDS") || g_getenv("NOTIFY_SOCKET") || g_getenv("DBUS_STARTER_ADDRESS")
               ? IDLE_MSEC
               : 0;
}

guint lifecycle_compact_bytes(void)
{
    const char *setting = g_getenv("STYXY_COMPACT_BYTES");
    guint64 bytes;

    if (!setting)
        return 0;
    if (g_ascii_string_to_unsigned(setting, 10, 0, G_MAXINT, &bytes, NULL))
        return (guint)bytes;
    event_setting_ignored("STYXY_COMPACT_BYTES", "number of bytes");
    return 0;
}
