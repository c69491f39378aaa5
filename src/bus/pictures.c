/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "bus/pictures.h"

#include "recovery/observe.h"

/* Answers are written for so long in one turn of the loop: hundreds may come due at once. */
#define TURN_USEC 200

typedef struct Taking Taking;

/* Those who want pictures of one depth. */
typedef struct Line {
    GQueue waiting;    /* of Asker: for the next one */
    Taking *under_way; /* borrowed, NULL = none */
} Line;

struct Pictures {
    GMainContext *context; /* borrowed */
    BusSource *source;     /* borrowed */
    Line lines[SOCKET_DEPTH_BOUND + 1];
    GQueue answers; /* of Asker: who have their picture */
};

/* One picture in the making. Belongs to itself, since nothing calls it off. */
struct Taking {
    Pictures *pictures; /* borrowed; NULL once they have gone */
    Line *line;
    GQueue askers; /* of Asker */
};

typedef struct Asker {
    Call *call; /* borrowed */
    PictureWish wish;
    PictureTaken taken;
    GQueue *queue; /* where it is */
    GList node;
    SocketTable *table; /* owned reference */
    GError *error;      /* owned */
} Asker;

static void asker_free(Asker *asker)
{
    g_queue_unlink(asker->queue, &asker->node);
    asker->call->picture = NULL;
    (void)socket_table_free(asker->table);
    g_clear_error(&asker->error);
    g_free(asker);
}

static void move_to(GQueue *queue, Asker *asker)
{
    if (asker->queue)
        g_queue_unlink(asker->queue, &asker->node);
    asker->queue = queue;
    g_queue_push_tail_link(queue, &asker->node);
}

/* ---- taking ---- */

static void start(Pictures *pictures, Line *line);

static void on_taken(SocketTable *table, const GError *error, void *data)
{
    g_autofree Taking *taking = data;
    g_autoptr(SocketTable) owned = table;
    Pictures *pictures = taking->pictures;

    if (!pictures)
        return;
    while (taking->askers.head) {
        Asker *asker = taking->askers.head->data;

        asker->table = owned ? socket_table_ref(owned) : NULL;
        asker->error = error ? g_error_copy(error) : NULL;
        move_to(&pictures->answers, asker);
    }
    taking->line->under_way = NULL;
    start(pictures, taking->line);
    bus_source_wake(pictures->source);
}

/* Takes one picture that has all that those in @line want to see. */
static void start(Pictures *pictures, Line *line)
{
    Taking *taking = NULL;
    PictureWish all;

    if (line->under_way || !line->waiting.head)
        return;
    taking = g_new0(Taking, 1);
    taking->pictures = pictures;
    taking->line = line;
    line->under_way = taking;
    all = ((const Asker *)line->waiting.head->data)->wish;
    while (line->waiting.head) {
        Asker *asker = line->waiting.head->data;

        all.range.first = MIN(all.range.first, asker->wish.range.first);
        all.range.last = MAX(all.range.last, asker->wish.range.last);
        all.protocol |= asker->wish.protocol;
        move_to(&taking->askers, asker);
    }
    observe_take_range(pictures->context, all.range, all.protocol, all.depth, on_taken, taking);
}

void pictures_ask(Pictures *pictures, Call *call, const PictureWish *wish, PictureTaken taken)
{
    Asker *asker = g_new0(Asker, 1);
    Line *line = NULL;

    g_assert(!call->picture);
    g_assert(wish->depth < G_N_ELEMENTS(pictures->lines));
    line = &pictures->lines[wish->depth];
    asker->call = call;
    asker->wish = *wish;
    asker->taken = taken;
    asker->node.data = asker;
    call->picture = asker;
    move_to(&line->waiting, asker);
    start(pictures, line);
}

gboolean pictures_forget(Call *call)
{
    if (!call->picture)
        return FALSE;
    asker_free(call->picture);
    return TRUE;
}

/* ---- answering ---- */

static void answer(Asker *asker)
{
    g_autoptr(SocketTable) table = g_steal_pointer(&asker->table);
    g_autoptr(GError) error = g_steal_pointer(&asker->error);
    PictureWish wish = asker->wish;
    PictureTaken taken = asker->taken;
    Call *call = asker->call;

    asker_free(asker);
    taken(call, &wish, table, error);
}

gboolean pictures_work(Pictures *pictures)
{
    gint64 end_usec = 0;

    if (!pictures->answers.head)
        return FALSE;
    end_usec = g_get_monotonic_time() + TURN_USEC;
    do
        answer(pictures->answers.head->data);
    while (pictures->answers.head && g_get_monotonic_time() < end_usec);
    return pictures->answers.head != NULL;
}

/* ---- life ---- */

Pictures *pictures_new(GMainContext *context, BusSource *source)
{
    Pictures *pictures = g_new0(Pictures, 1);

    pictures->context = context;
    pictures->source = source;
    return pictures;
}

Pictures *pictures_free(Pictures *pictures)
{
    if (!pictures)
        return NULL;
    g_assert(pictures->answers.length == 0);
    for (guint i = 0; i < G_N_ELEMENTS(pictures->lines); i++) {
        Taking *taking = pictures->lines[i].under_way;

        g_assert(pictures->lines[i].waiting.length == 0);
        if (!taking)
            continue;
        g_assert(taking->askers.length == 0);
        taking->pictures = NULL;
    }
    g_free(pictures);
    return NULL;
}
