/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "util/deadline.h"

/* Entries called in one turn; more would keep the bus waiting behind a burst of expiries. */
#define DISPATCH_MAX 64

struct DeadlineQueue {
    GSource *source; /* owned */
    GSequence *entries;
    guint64 next_serial;
};

struct Deadline {
    GSequenceIter *iter;
    gint64 when_usec;
    guint64 serial; /* keeps the order of equal times */
    DeadlineFunc func;
    void *data;
};

typedef struct DeadlineSource {
    GSource base;
    DeadlineQueue *queue;
} DeadlineSource;

static int compare(gconstpointer a, gconstpointer b, gpointer unused)
{
    const Deadline *x = a, *y = b;

    if (x->when_usec != y->when_usec)
        return x->when_usec < y->when_usec ? -1 : 1;
    return x->serial < y->serial ? -1 : x->serial > y->serial;
}

static Deadline *first(const DeadlineQueue *queue)
{
    GSequenceIter *iter = g_sequence_get_begin_iter(queue->entries);

    return g_sequence_iter_is_end(iter) ? NULL : g_sequence_get(iter);
}

/*
 * The loop asks before each poll, which costs nothing; g_source_set_ready_time() would write to the
 * loop's eventfd each time the earliest entry changes.
 */
static gboolean prepare(GSource *source, int *timeout_msec)
{
    Deadline *earliest = first(((DeadlineSource *)source)->queue);
    gint64 left_usec;

    *timeout_msec = -1;
    if (!earliest)
        return FALSE;
    left_usec = earliest->when_usec - g_source_get_time(source);
    if (left_usec <= 0)
        return TRUE;
    *timeout_msec = (int)MIN((left_usec + 999) / 1000, G_MAXINT);
    return FALSE;
}

static gboolean check(GSource *source)
{
    Deadline *earliest = first(((DeadlineSource *)source)->queue);

    return earliest && earliest->when_usec <= g_source_get_time(source);
}

static gboolean dispatch(GSource *source, GSourceFunc callback, gpointer data)
{
    DeadlineQueue *queue = ((DeadlineSource *)source)->queue;
    gint64 now_usec = g_get_monotonic_time();

    for (guint i = 0; i < DISPATCH_MAX; i++) {
        Deadline *entry = first(queue);
        DeadlineFunc func = NULL;
        void *func_data = NULL;

        if (!entry || entry->when_usec > now_usec)
            break;
        func = entry->func;
        func_data = entry->data;
        g_sequence_remove(entry->iter);
        func(func_data);
        if (g_source_is_destroyed(source)) /* the callback freed the queue */
            return G_SOURCE_REMOVE;
    }
    return G_SOURCE_CONTINUE;
}

static GSourceFuncs source_funcs = {.prepare = prepare, .check = check, .dispatch = dispatch};

DeadlineQueue *deadline_queue_new(GMainContext *context)
{
    DeadlineQueue *queue = g_new0(DeadlineQueue, 1);

    queue->entries = g_sequence_new(g_free);
    queue->source = g_source_new(&source_funcs, sizeof(DeadlineSource));
    ((DeadlineSource *)queue->source)->queue = queue;
    g_source_set_static_name(queue->source, "deadlines");
    g_source_attach(queue->source, context);
    return queue;
}

DeadlineQueue *deadline_queue_free(DeadlineQueue *queue)
{
    if (!queue)
        return NULL;
    g_source_destroy(queue->source);
    g_source_unref(queue->source);
    g_sequence_free(queue->entries);
    g_free(queue);
    return NULL;
}

Deadline *deadline_add(DeadlineQueue *queue, gint64 when_usec, DeadlineFunc func, void *data)
{
    Deadline *entry = g_new0(Deadline, 1);

    entry->when_usec = when_usec;
    entry->serial = queue->next_serial++;
    entry->func = func;
    entry->data = data;
    entry->iter = g_sequence_insert_sorted(queue->entries, entry, compare, NULL);
    return entry;
}

Deadline *deadline_cancel(Deadline *deadline)
{
    if (deadline)
        g_sequence_remove(deadline->iter);
    return NULL;
}

guint deadline_queue_length(const DeadlineQueue *queue)
{
    return (guint)g_sequence_get_length(queue->entries);
}
