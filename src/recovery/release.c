/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Ends of leases, asked for or not. The record comes first; what the disk refuses has not happened.
 * An end that nobody asked for and that could not be recorded is due again when the disk is back,
 * unless its cause is gone by then.
 */
#include "recovery/release.h"

#include "recovery/claims.h"
#include "recovery/events.h"
#include "recovery/expiry.h"
#include "recovery/health.h"
#include "recovery/metrics.h"
#include "recovery/startup.h"
#include "util/fdstore.h"

#define SLICE_USEC 1000

/* A release whose sockets the service manager has to let go of, too, before it is true. */
typedef struct Letting {
    Manager *manager; /* NULL: gone meanwhile */
    GArray *changes;
    ReleaseDone done;
    void *data;
    GList link;
} Letting;

void release_init(Manager *manager)
{
    g_queue_init(&manager->letting);
    g_queue_init(&manager->due_again);
    manager->unrecorded = g_hash_table_new_full(g_str_hash, g_str_equal, NULL, g_free);
}

void release_deinit(Manager *manager)
{
    GList *link = NULL;

    while ((link = g_queue_pop_head_link(&manager->letting)))
        ((Letting *)link->data)->manager = NULL;
    manager->retry_ends = deadline_cancel(manager->retry_ends);
    g_hash_table_unref(manager->unrecorded);
    g_queue_clear_full(&manager->due_again, g_free);
}

/* ---- the end --------------------------------------------------------------------------------- */

void manager_tell_released(Manager *manager, const GArray *changes)
{
    conflicts_tell(manager);
    for (guint i = 0; i < changes->len; i++) {
        const Change *change = &g_array_index(changes, Change, i);
        gboolean stale = change->reason != REASON_RELEASED;

        metrics_count(METRIC_RELEASES);
        if (stale)
            metrics_count(METRIC_STALE_RELEASES);
        MANAGER_TELL(manager, released, change->lease, change->reason, stale);
        event_released(change->lease, change->reason, stale);
    }
}

void release_tell(Manager *manager)
{
    for (GList *link = manager->letting.head; link; link = link->next) {
        Letting *letting = link->data;

        manager_tell_released(manager, letting->changes);
        g_array_set_size(letting->changes, 0);
    }
}

static void tell_end(Manager *manager, const GArray *changes, ReleaseDone done, void *data)
{
    if (done)
        done(NULL, data);
    manager_tell_released(manager, changes);
    manager_wake_parked(manager);
    if (manager->became_idle && registry_count(manager->registry) == 0)
        manager->became_idle(manager->became_idle_data);
}

static void let_go(void *data)
{
    Letting *letting = data;
    g_autoptr(GArray) changes = letting->changes;

    if (letting->manager) {
        g_queue_unlink(&letting->manager->letting, &letting->link);
        tell_end(letting->manager, changes, letting->done, letting->data);
    }
    g_free(letting);
}

static void remove_all(Manager *manager, GPtrArray *leases, Reason reason, ReleaseDone done,
                       void *data)
{
    g_autoptr(GArray) changes = change_array_new();
    gboolean wait = FALSE;
    Letting *letting = NULL;

    for (guint i = 0; i < leases->len; i++) {
        Lease *lease = leases->pdata[i];

        (void)g_hash_table_remove(manager->unrecorded, lease->id.text);
        expiry_disarm(manager, lease);
        claims_disarm(manager, lease);
        health_unwatch(manager->health, lease);
        wait |= hold_table_drop(manager->holds, lease);
        registry_remove(manager->registry, lease, reason, changes);
    }
    if (!wait) {
        tell_end(manager, changes, done, data);
        return;
    }
    letting = g_new0(Letting, 1);
    letting->manager = manager;
    letting->changes = g_steal_pointer(&changes);
    letting->done = done;
    letting->data = data;
    letting->link.data = letting;
    g_queue_push_tail_link(&manager->letting, &letting->link);
    fdstore_barrier(manager->context, let_go, letting);
}

/* ---- the record ------------------------------------------------------------------------------ */

typedef struct PendingRelease {
    Manager *manager;
    GPtrArray *leases;
    Reason reason;
    ReleaseDone done;
    void *data;
} PendingRelease;

static void refuse_release(const GError *cause, ReleaseDone done, void *data)
{
    g_autoptr(GError) error = g_error_new(
        OUTCOME_ERROR, OUTCOME_STATE_UNAVAILABLE,
        "the release could not be recorded, so nothing was released: %s", cause->message);

    if (done)
        done(error, data);
}

static void release_on_disk(const GError *error, void *data)
{
    PendingRelease *pending = data;
    Manager *manager = pending->manager;

    manager->releases_on_disk--;
    for (guint i = 0; i < pending->leases->len; i++) {
        Lease *lease = pending->leases->pdata[i];

        lease->ending = FALSE;
        /* Its time may have run out while it was ending. If it ends for that, it does so again
         * when the disk is back; armed now, it would be refused at once without end. */
        if (error && pending->reason != REASON_EXPIRED)
            expiry_arm(manager, lease);
    }
    if (error)
        refuse_release(error, pending->done, pending->data);
    else
        remove_all(manager, pending->leases, pending->reason, pending->done, pending->data);
    g_ptr_array_unref(pending->leases);
    g_free(pending);
    manager_wake_parked(manager);
}

static GPtrArray *referenced(GPtrArray *leases)
{
    GPtrArray *copy = lease_array_new();

    for (guint i = 0; i < leases->len; i++)
        g_ptr_array_add(copy, lease_ref(leases->pdata[i]));
    return copy;
}

void manager_release(Manager *manager, GPtrArray *leases, Reason reason, ReleaseDone done,
                     void *data)
{
    g_autofree StoreOp *ops = g_new0(StoreOp, leases->len);
    g_autoptr(GPtrArray) kept = referenced(leases);
    g_autoptr(GError) error = NULL;
    PendingRelease *pending = NULL;
    gboolean durable = FALSE;
    uid_t owner = 0;

    for (guint i = 0; i < leases->len; i++) {
        Lease *lease = leases->pdata[i];

        g_assert(lease->in_registry && !lease->ending);
        durable |= lease->lifetime == LIFETIME_PERSISTENT;
        owner = lease->uid; /* of any of them */
        ops[i] = (StoreOp){.kind = STORE_DROP_LEASE, .lease = lease, .reason = reason};
    }
    if (!durable) {
        if (store_append(manager->store, ops, leases->len, &error)) {
            metrics_count(METRIC_JOURNAL_RECORDS);
            remove_all(manager, kept, reason, done, data);
        } else {
            refuse_release(error, done, data);
        }
        return;
    }

    pending = g_new0(PendingRelease, 1);
    *pending = (PendingRelease){manager, g_ptr_array_ref(kept), reason, done, data};
    manager->releases_on_disk++;
    for (guint i = 0; i < kept->len; i++)
        ((Lease *)kept->pdata[i])->ending = TRUE;
    if (store_append_durable(manager->store, ops, leases->len, owner, release_on_disk, pending,
                             &error))
        metrics_count(METRIC_JOURNAL_RECORDS);
    else
        release_on_disk(error, pending);
}

/* ---- ends that nobody asked for -------------------------------------------------------------- */

typedef struct PendingEnd {
    Manager *manager;
    Id id;
    Reason reason;
} PendingEnd;

static void note_unrecorded(PendingEnd *end)
{
    g_hash_table_replace(end->manager->unrecorded, end->id.text, end);
}

static void end_done(const GError *error, void *data)
{
    if (error)
        note_unrecorded(data);
    else
        g_free(data);
}

void manager_end(Manager *manager, Lease *lease, Reason reason)
{
    g_autoptr(GPtrArray) one = NULL;
    PendingEnd *end = g_new0(PendingEnd, 1);

    *end = (PendingEnd){manager, lease->id, reason};
    if (lease->ending) { /* and if that comes to nothing, this one is due */
        note_unrecorded(end);
        return;
    }
    one = g_ptr_array_new();
    g_ptr_array_add(one, lease);
    manager_release(manager, one, reason, end_done, end);
}

void manager_undo_grant(Manager *manager, GPtrArray *leases)
{
    for (guint i = 0; i < leases->len; i++)
        manager_end(manager, leases->pdata[i], REASON_RELEASED);
}

/* Much may have happened while the disk was away: each end is asked anew whether it is still due.
 */
static void end_again(Manager *manager, Lease *lease, Reason reason)
{
    switch (reason) {
    case REASON_EXPIRED:
        expiry_arm(manager, lease); /* at once, unless it was renewed */
        return;
    case REASON_CLIENT_GONE:
        /* Else another connection has claimed it, or may yet. */
        if (!lease->client && !claims_is_waiting(manager, lease))
            manager_end(manager, lease, reason);
        return;
    case REASON_PROCESS_EXITED:
        health_process_exited(manager->health, lease);
        return;
    case REASON_NOT_IN_USE:
    case REASON_NEVER_BOUND:
    case REASON_UNHEALTHY:
        return; /* the next sweep finds it again, if it is still so */
    case REASON_DUPLICATE_SINGLETON:
        return; /* and so does the next recovery */
    case REASON_ORPHANED:
        if (startup_is_orphan(lease))
            manager_end(manager, lease, reason);
        return;
    default:
        manager_end(manager, lease, reason);
    }
}

static void on_retry_ends(void *data);

/* Later: the store says that it works from within an append that somebody is in the middle of. */
static void arm_retry(Manager *manager)
{
    if (!manager->retry_ends && manager->due_again.length > 0)
        manager->retry_ends =
            deadline_add(manager->deadlines, g_get_monotonic_time(), on_retry_ends, manager);
}

/* In slices, for whether an orphan's end is still due is asked of the kernel. */
static void on_retry_ends(void *data)
{
    Manager *manager = data;
    gint64 end_usec = g_get_monotonic_time() + SLICE_USEC;

    manager->retry_ends = NULL;
    do {
        PendingEnd *end = g_queue_pop_head(&manager->due_again);
        Lease *lease = end ? registry_find(manager->registry, end->id.text) : NULL;

        if (lease && lease->ending) {
            note_unrecorded(end);
            continue;
        }
        if (lease)
            end_again(manager, lease, end->reason);
        g_free(end);
    } while (manager->due_again.length > 0 && g_get_monotonic_time() < end_usec);
    arm_retry(manager);
}

void release_store_works_again(Manager *manager)
{
    GHashTableIter iter;
    gpointer end;

    g_hash_table_iter_init(&iter, manager->unrecorded);
    while (g_hash_table_iter_next(&iter, NULL, &end)) {
        g_hash_table_iter_steal(&iter);
        g_queue_push_tail(&manager->due_again, end);
    }
    arm_retry(manager);
}

static GPtrArray *leases_of_client(Manager *manager, const char *client)
{
    GPtrArray *leases = lease_array_new();

    for (Lease *lease = registry_first_of_client(manager->registry, client); lease;
         lease = lease->by_client.next)
        g_ptr_array_add(leases, lease_ref(lease));
    return leases;
}

void manager_client_gone(Manager *manager, const char *client)
{
    g_autoptr(GPtrArray) leases = leases_of_client(manager, client);

    for (guint i = 0; i < leases->len; i++) {
        Lease *lease = leases->pdata[i];

        /* Its connection is gone in any case, also where the disk refuses the end. */
        registry_set_client(manager->registry, lease, NULL);
        manager_end(manager, lease, REASON_CLIENT_GONE);
    }
}

void manager_client_lost(Manager *manager, const char *client)
{
    g_autoptr(GPtrArray) leases = leases_of_client(manager, client);

    for (guint i = 0; i < leases->len; i++) {
        registry_set_client(manager->registry, leases->pdata[i], NULL);
        claims_arm(manager, leases->pdata[i]);
    }
}
