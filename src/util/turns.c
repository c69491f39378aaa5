/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "util/turns.h"

/* One with something in the queue. */
typedef struct Owner {
    guint number;
    GQueue links;
    GList turn;
} Owner;

struct Turns {
    GHashTable *owners; /* number -> Owner, owned */
    GQueue turns;       /* of Owner, borrowed: whose turn is next first */
};

Turns *turns_new(void)
{
    Turns *turns = g_new0(Turns, 1);

    turns->owners = g_hash_table_new_full(NULL, NULL, NULL, g_free);
    return turns;
}

Turns *turns_free(Turns *turns)
{
    if (!turns)
        return NULL;
    g_assert(turns_is_empty(turns));
    g_hash_table_unref(turns->owners);
    g_free(turns);
    return NULL;
}

void turns_push(Turns *turns, guint owner, GList *link)
{
    Owner *found = g_hash_table_lookup(turns->owners, GUINT_TO_POINTER(owner));

    if (!found) {
        found = g_new0(Owner, 1);
        found->number = owner;
        found->turn.data = found;
        g_hash_table_insert(turns->owners, GUINT_TO_POINTER(owner), found);
        g_queue_push_tail_link(&turns->turns, &found->turn);
    }
    g_queue_push_tail_link(&found->links, link);
}

GList *turns_pop(Turns *turns)
{
    GList *turn = g_queue_pop_head_link(&turns->turns);
    Owner *owner = turn ? turn->data : NULL;
    GList *link = NULL;

    if (!owner)
        return NULL;
    link = g_queue_pop_head_link(&owner->links);
    if (owner->links.length > 0)
        g_queue_push_tail_link(&turns->turns, turn);
    else
        g_hash_table_remove(turns->owners, GUINT_TO_POINTER(owner->number));
    return link;
}

gboolean turns_is_empty(const Turns *turns)
{
    return turns->turns.length == 0;
}
