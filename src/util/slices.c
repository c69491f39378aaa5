/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "util/slices.h"

#define BUSY_MSEC 5

struct Slices {
    GSource *idle;  /* owned */
    GSource *timer; /* owned */
    SlicesFunc func;
    void *data;
    gboolean was_idle; /* since the timer went off last */
};

static gboolean on_idle(void *data)
{
    Slices *slices = data;

    slices->was_idle = TRUE;
    slices->func(slices->data); /* may have stopped it */
    return G_SOURCE_CONTINUE;
}

static gboolean on_timer(void *data)
{
    Slices *slices = data;

    if (slices->was_idle)
        slices->was_idle = FALSE;
    else
        slices->func(slices->data); /* may have stopped it */
    return G_SOURCE_CONTINUE;
}

static GSource *attach(GSource *source, GMainContext *context, const char *name, GSourceFunc func,
                       Slices *slices)
{
    g_source_set_static_name(source, name);
    g_source_set_callback(source, func, slices, NULL);
    (void)g_source_attach(source, context);
    return source;
}

Slices *slices_start(GMainContext *context, const char *name, SlicesFunc func, void *data)
{
    Slices *slices = g_new0(Slices, 1);

    slices->func = func;
    slices->data = data;
    slices->idle = attach(g_idle_source_new(), context, name, on_idle, slices);
    slices->timer = attach(g_timeout_source_new(BUSY_MSEC), context, name, on_timer, slices);
    return slices;
}

Slices *slices_stop(Slices *slices)
{
    if (!slices)
        return NULL;
    g_source_destroy(slices->idle);
    g_source_unref(slices->idle);
    g_source_destroy(slices->timer);
    g_source_unref(slices->timer);
    g_free(slices);
    return NULL;
}
