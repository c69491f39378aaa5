/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <stdlib.h>

#include "fuzz-bus.h"

#define PAUSE_USEC (20 * G_TIME_SPAN_MILLISECOND)
#define NONE_USEC (120 * (guint64)G_USEC_PER_SEC)

struct Pinger {
    const World *world;
    GThread *thread;
    gint over; /* atomic */
    GArray *times_usec;
    char *wrong;
};

static void *pinger_main(void *data)
{
    Pinger *pinger = data;
    sd_bus *bus = world_connect(pinger->world, TRANSPORT_DIRECT);

    while (bus && !g_atomic_int_get(&pinger->over) && !pinger->wrong) {
        __attribute__((cleanup(sd_bus_error_free))) sd_bus_error error = SD_BUS_ERROR_NULL;
        sd_bus_message *m = NULL;
        gint64 took_usec, sent_usec = g_get_monotonic_time();

        (void)sd_bus_message_new_method_call(bus, &m, "org.styxy.Ports", "/org/styxy/Ports",
                                             "org.freedesktop.DBus.Peer", "Ping");
        if (sd_bus_call(bus, m, NONE_USEC, &error, NULL) < 0)
            pinger->wrong = g_strdup_printf("Ping: %s: %s", error.name, error.message);
        sd_bus_message_unref(m);
        took_usec = g_get_monotonic_time() - sent_usec;
        g_array_append_val(pinger->times_usec, took_usec);
        g_usleep(PAUSE_USEC);
    }
    if (!bus)
        pinger->wrong = g_strdup("Ping: no connection");
    sd_bus_close_unref(bus);
    return NULL;
}

Pinger *pinger_new(const World *world)
{
    Pinger *pinger = g_new0(Pinger, 1);

    pinger->world = world;
    pinger->times_usec = g_array_new(FALSE, FALSE, sizeof(gint64));
    pinger->thread = g_thread_new("ping", pinger_main, pinger);
    return pinger;
}

char *pinger_free(Pinger *pinger, GArray *times_usec)
{
    char *wrong = NULL;

    g_atomic_int_set(&pinger->over, TRUE);
    (void)g_thread_join(pinger->thread);
    g_array_append_vals(times_usec, pinger->times_usec->data, pinger->times_usec->len);
    g_array_unref(pinger->times_usec);
    wrong = pinger->wrong;
    g_free(pinger);
    return wrong;
}
