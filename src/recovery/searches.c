/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "recovery/searches.h"

#include "recovery/job.h"

/* What all searches have of one turn of the loop. A probe of a port that is held takes some 10 us,
 * the turn itself not much more. */
#define SLICE_USEC 250

/* UserSearches: those of one user, as long as there is one. */
typedef struct UserSearches {
    uid_t uid;
    GQueue going;   /* of ManagerJob, borrowed: whose turn is next first */
    GQueue waiting; /* of ManagerJob, borrowed */
    GList link;     /* in the turns */
} UserSearches;

struct Searches {
    Manager *manager;
    GHashTable *users; /* uid -> UserSearches *, owned */
    GQueue turns;      /* of UserSearches, borrowed: whose turn is next first */
    Deadline *next;    /* NULL = nobody searches */
};

static void on_turn(void *data);

static void arm(Searches *searches)
{
    if (!searches->next && searches->turns.length > 0)
        searches->next =
            deadline_add(searches->manager->deadlines, g_get_monotonic_time(), on_turn, searches);
}

static void rotate(GQueue *queue)
{
    g_queue_push_tail_link(queue, g_queue_pop_head_link(queue));
}

/* A step may end its job, and with it the user's entry, or any other: nothing is kept over it. */
static void step_next(Searches *searches)
{
    UserSearches *user = searches->turns.head->data;
    ManagerJob *job = user->going.head->data;

    rotate(&searches->turns);
    rotate(&user->going);
    job_step(job);
}

static void on_turn(void *data)
{
    Searches *searches = data;
    gint64 end_usec = g_get_monotonic_time() + SLICE_USEC;

    searches->next = NULL; /* gone already */
    do
        step_next(searches);
    while (searches->turns.length > 0 && g_get_monotonic_time() < end_usec);
    arm(searches);
}

void searches_add(Searches *searches, ManagerJob *job)
{
    uid_t uid = job->request.uid;
    UserSearches *user = g_hash_table_lookup(searches->users, GUINT_TO_POINTER(uid));

    g_assert(!job->searching);
    if (!user) {
        user = g_new0(UserSearches, 1);
        user->uid = uid;
        user->link.data = user;
        g_hash_table_insert(searches->users, GUINT_TO_POINTER(uid), user);
        g_queue_push_tail_link(&searches->turns, &user->link);
    }
    job->searching = user->going.length < SEARCHES_AT_ONCE ? &user->going : &user->waiting;
    g_queue_push_tail_link(job->searching, &job->search_link);
    arm(searches);
}

void searches_remove(Searches *searches, ManagerJob *job)
{
    UserSearches *user = NULL;
    GList *link = NULL;

    if (!job->searching)
        return;
    user = g_hash_table_lookup(searches->users, GUINT_TO_POINTER(job->request.uid));
    g_queue_unlink(job->searching, &job->search_link);
    job->searching = NULL;
    if (user->going.length < SEARCHES_AT_ONCE && (link = g_queue_pop_head_link(&user->waiting))) {
        ((ManagerJob *)link->data)->searching = &user->going;
        g_queue_push_tail_link(&user->going, link);
    }
    if (user->going.length > 0)
        return;
    g_queue_unlink(&searches->turns, &user->link);
    g_hash_table_remove(searches->users, GUINT_TO_POINTER(user->uid));
    if (searches->turns.length == 0)
        searches->next = deadline_cancel(searches->next);
}

gboolean searches_has(const Searches *searches, uid_t uid)
{
    return g_hash_table_contains(searches->users, GUINT_TO_POINTER(uid));
}

Searches *searches_new(Manager *manager)
{
    Searches *searches = g_new0(Searches, 1);

    searches->manager = manager;
    searches->users = g_hash_table_new_full(NULL, NULL, NULL, g_free);
    return searches;
}

Searches *searches_free(Searches *searches)
{
    if (!searches)
        return NULL;
    g_assert(searches->turns.length == 0);
    g_hash_table_unref(searches->users);
    g_free(searches);
    return NULL;
}
