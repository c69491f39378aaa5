/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Calls that wait for the disk.
 *
 * Each such call gets a ticket. A sync takes the youngest ticket when it begins, and so serves all
 * calls written before; while it runs the next ones gather for the next. The syncer works in order,
 * so a later ticket is never served before an earlier one, over a change of journals too.
 *
 * One sync may serve hundreds of calls of one user. Who was served is told in slices, users by
 * turns, so that nobody's answer stands behind all of somebody else's.
 *
 * After a failed sync nobody knows what is on the disk, and asking again proves nothing (the kernel
 * may have marked the pages clean; fsync(2), NOTES). So everybody who waits is refused, their
 * records are taken back by one that says so, and a snapshot anew replaces the journal.
 */
#include "store/store-private.h"

#include "store/files.h"
#include "store/record.h"
#include "store/sys.h"

/* Sequence numbers in one record. */
#define UNDO_MAX 1000
/* What telling has of one turn of the loop. */
#define TELL_USEC 500

typedef struct PendingCall {
    uid_t uid; /* whose turn it takes */
    guint64 ticket;
    guint64 sequence;
    guint64 start; /* of the record in the journal, in bytes */
    guint64 end;
    Journal *journal; /* borrowed, only compared */
    StoreDone done;
    void *data;
    GList link;   /* among the pending or the served ones */
    GList untold; /* among all of them */
} PendingCall;

typedef struct SyncJob {
    WorkerJob job;
    Store *store;
    Journal *journal;
    gboolean with_folder; /* the file is new: its name must be kept as well */
    guint64 ticket;
    int result;
} SyncJob;

static void run_sync(WorkerJob *job)
{
    SyncJob *sync = (SyncJob *)job;
    Journal *journal = sync->journal;

    if (sync->with_folder) {
        sync->result = sys_fsync(journal->fd);
        if (sync->result == 0)
            sync->result = sys_fsync(sync->store->dir_fd);
        return;
    }
    g_mutex_lock(&journal->lock);
    journal->sync_queued = FALSE;
    sync->ticket = journal->last_ticket;
    g_mutex_unlock(&journal->lock);
    sync->result = sys_fdatasync(journal->fd);
}

/* Best effort: the disk has just refused something. */
static void take_back(Store *store, GQueue *calls)
{
    g_autoptr(GArray) undone = g_array_new(FALSE, FALSE, sizeof(guint64));
    guint64 start = G_MAXUINT64, length = 0;
    gboolean dirty;

    for (GList *l = calls->head; l; l = l->next) {
        PendingCall *call = l->data;

        g_array_append_val(undone, call->sequence);
        if (call->journal == store->journal) {
            start = MIN(start, call->start);
            length += call->end - call->start;
        }
    }
    for (guint i = 0; i < undone->len; i += UNDO_MAX) {
        g_string_truncate(store->line, 0);
        record_write_undo(store->line, store->sequence + 1, &g_array_index(undone, guint64, i),
                          MIN(undone->len - i, UNDO_MAX));
        g_string_append_c(store->line, '\n');
        if (journal_append(store->journal, store->line, &dirty) == 0) {
            store->sequence++;
            continue;
        }
        /* at least where no other call's record comes after theirs */
        if (length > 0 && start + length == store->journal->size &&
            sys_ftruncate(store->journal->fd, start) == 0)
            store->journal->size = start;
        return;
    }
}

static void tell(Store *store, PendingCall *call, const GError *error)
{
    g_queue_unlink(&store->untold, &call->untold);
    call->done(error, call->data);
    g_free(call);
}

/* ---- who was served ---- */

typedef struct TellerSource {
    GSource base;
    Store *store;
} TellerSource;

/* A slice. */
static void tell_served(Store *store)
{
    gint64 end_usec = g_get_monotonic_time() + TELL_USEC;
    GList *link = NULL;

    do {
        link = turns_pop(store->served);
        if (link)
            tell(store, link->data, NULL);
    } while (link && g_get_monotonic_time() < end_usec);
    g_source_set_ready_time(store->teller, turns_is_empty(store->served) ? -1 : 0);
    snapshot_go_on(store);
}

static gboolean dispatch_teller(GSource *source, GSourceFunc callback, void *data)
{
    tell_served(((TellerSource *)source)->store);
    return G_SOURCE_CONTINUE;
}

void durable_init(Store *store)
{
    static GSourceFuncs funcs = {.dispatch = dispatch_teller};

    store->served = turns_new();
    store->teller = g_source_new(&funcs, sizeof(TellerSource));
    ((TellerSource *)store->teller)->store = store;
    g_source_set_static_name(store->teller, "styxy-told");
    (void)g_source_attach(store->teller, store->context);
}

void durable_finish(Store *store)
{
    do {
        worker_drain(store->syncer);
        while (!turns_is_empty(store->served))
            tell_served(store);
    } while (!g_queue_is_empty(&store->untold)); /* who is told may have more to say */
}

void durable_deinit(Store *store)
{
    g_source_destroy(store->teller);
    g_clear_pointer(&store->teller, g_source_unref);
    store->served = turns_free(store->served);
}

/* ---- syncs ---- */

static void refuse_all(Store *store, int result)
{
    g_autoptr(GError) error = NULL;
    GQueue refused = store->pending;
    GList *link = NULL;

    g_queue_init(&store->pending);
    take_back(store, &refused);
    sys_error(&error, result, "sync", store->dir, FILE_JOURNAL);
    store_fail(store, error);
    while ((link = g_queue_pop_head_link(&refused)))
        tell(store, link->data, error);
}

static gboolean is_waited_for(const Store *store, const SyncJob *sync)
{
    const PendingCall *oldest = g_queue_peek_head((GQueue *)&store->pending);

    return sync->journal == store->journal || (oldest && oldest->ticket <= sync->ticket);
}

static void sync_done(WorkerJob *job)
{
    SyncJob *sync = (SyncJob *)job;
    Store *store = sync->store;
    gboolean at_once = turns_is_empty(store->served);
    const PendingCall *oldest;

    if (sync->result < 0 && is_waited_for(store, sync)) {
        refuse_all(store, sync->result);
    } else if (sync->result == 0) {
        while ((oldest = g_queue_peek_head(&store->pending)) && oldest->ticket <= sync->ticket)
            turns_push(store->served, oldest->uid, g_queue_pop_head_link(&store->pending));
    }
    journal_unref(sync->journal);
    g_free(sync);
    if (at_once)
        tell_served(store);
}

static void push_sync(Store *store, gboolean with_folder)
{
    SyncJob *sync = g_new0(SyncJob, 1);

    sync->job = (WorkerJob){run_sync, sync_done};
    sync->store = store;
    sync->journal = journal_ref(store->journal);
    sync->with_folder = with_folder;
    worker_push(store->syncer, &sync->job);
}

void durable_push(Store *store, guint64 start, uid_t uid, StoreDone done, void *data)
{
    Journal *journal = store->journal;
    PendingCall *call = g_new0(PendingCall, 1);
    gboolean queued;

    *call = (PendingCall){
        .uid = uid,
        .ticket = ++store->last_ticket,
        .sequence = store->sequence,
        .start = start,
        .end = journal->size,
        .journal = journal,
        .done = done,
        .data = data,
    };
    call->link.data = call->untold.data = call;
    g_queue_push_tail_link(&store->pending, &call->link);
    g_queue_push_tail_link(&store->untold, &call->untold);
    g_mutex_lock(&journal->lock);
    queued = journal->sync_queued;
    journal->sync_queued = TRUE;
    journal->last_ticket = call->ticket;
    g_mutex_unlock(&journal->lock);
    if (!queued)
        push_sync(store, FALSE);
}

void durable_barrier(Store *store)
{
    push_sync(store, TRUE);
}

guint64 durable_first_sequence(const Store *store)
{
    const PendingCall *oldest = g_queue_peek_head((GQueue *)&store->untold);

    return oldest ? oldest->sequence : G_MAXUINT64;
}
