/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "core/stickies.h"

typedef struct Entry {
    StickyPort sticky; /* its strings are owned here: a GRefString and a copy */
    GList link;        /* in the user's queue, data is the entry */
} Entry;

struct Stickies {
    GHashTable *entries; /* set of Entry *, borrowed from the queues */
    GHashTable *users;   /* uid -> GQueue * of Entry, oldest first, never empty */
};

static guint entry_hash(gconstpointer key)
{
    const StickyPort *sticky = &((const Entry *)key)->sticky;

    return (g_str_hash(sticky->instance) * 31 + g_str_hash(sticky->service_type)) * 31 +
           sticky->uid;
}

static gboolean entry_equal(gconstpointer a, gconstpointer b)
{
    const StickyPort *x = &((const Entry *)a)->sticky;
    const StickyPort *y = &((const Entry *)b)->sticky;

    return x->uid == y->uid && g_str_equal(x->service_type, y->service_type) &&
           g_str_equal(x->instance, y->instance);
}

static void entry_free(Entry *entry)
{
    g_ref_string_release((char *)entry->sticky.service_type);
    g_free((char *)entry->sticky.instance);
    g_free(entry);
}

static void queue_free(void *data)
{
    GQueue *queue = data;
    GList *link;

    while ((link = g_queue_pop_head_link(queue)))
        entry_free(link->data);
    g_queue_free(queue);
}

Stickies *stickies_new(void)
{
    Stickies *stickies = g_new0(Stickies, 1);

    stickies->entries = g_hash_table_new(entry_hash, entry_equal);
    stickies->users = g_hash_table_new_full(NULL, NULL, NULL, queue_free);
    return stickies;
}

Stickies *stickies_free(Stickies *stickies)
{
    if (!stickies)
        return NULL;
    g_hash_table_unref(stickies->entries);
    g_hash_table_unref(stickies->users);
    g_free(stickies);
    return NULL;
}

static void forget(Stickies *stickies, GQueue *queue, Entry *entry)
{
    g_hash_table_remove(stickies->entries, entry);
    g_queue_unlink(queue, &entry->link);
    entry_free(entry);
}

void stickies_set(Stickies *stickies, const StickyPort *sticky, guint limit)
{
    const Entry like = {.sticky = *sticky};
    GQueue *queue = g_hash_table_lookup(stickies->users, GUINT_TO_POINTER(sticky->uid));
    Entry *entry = g_hash_table_lookup(stickies->entries, &like);

    if (!queue) {
        queue = g_queue_new();
        g_hash_table_insert(stickies->users, GUINT_TO_POINTER(sticky->uid), queue);
    }
    if (entry) {
        g_queue_unlink(queue, &entry->link);
        entry->sticky.port = sticky->port;
    } else {
        entry = g_new0(Entry, 1);
        entry->sticky = *sticky;
        entry->sticky.service_type = g_ref_string_new_intern(sticky->service_type);
        entry->sticky.instance = g_strdup(sticky->instance);
        entry->link.data = entry;
        g_hash_table_add(stickies->entries, entry);
    }
    g_queue_push_tail_link(queue, &entry->link);

    /* More than one is too many only after the limit was lowered. */
    while (queue->length > limit)
        forget(stickies, queue, queue->head->data);
    if (queue->length == 0)
        g_hash_table_remove(stickies->users, GUINT_TO_POINTER(sticky->uid));
}

guint16 stickies_find(const Stickies *stickies, uid_t uid, const char *service_type,
                      const char *instance)
{
    const Entry like = {.sticky = {uid, service_type, instance, 0}};
    const Entry *entry = g_hash_table_lookup(stickies->entries, &like);

    return entry ? entry->sticky.port : 0;
}

void stickies_foreach(const Stickies *stickies, void (*func)(const StickyPort *sticky, void *data),
                      void *data)
{
    GHashTableIter iter;
    void *queue;

    g_hash_table_iter_init(&iter, stickies->users);
    while (g_hash_table_iter_next(&iter, NULL, &queue))
        for (const GList *link = ((GQueue *)queue)->head; link; link = link->next)
            func(&((const Entry *)link->data)->sticky, data);
}
