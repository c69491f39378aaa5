/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Writing state.json, while life goes on.
 *
 * SNAPSHOT_COMPACT, when the journal has grown:
 *   1. state.journal becomes state.journal.old and a new one is begun, unless the old one is still
 *      needed because the last snapshot did not succeed
 *   2. calls that wait for a sync are waited for: their records are in the journal already, but not
 *      in the source, and a snapshot that claims to be newer would swallow them
 *   3. the text is made from the source in slices; what changes meanwhile is in the journal, too,
 *      and since records put and drop whole leases, replaying them over any mixture of before and
 *      after ends in the same state
 *   4. the writer: state.json.new, fsync; state.json gets the second name state.json.previous;
 *      state.json.new is renamed over it; fsync of the folder
 *   state.journal.old is left, for the sake of state.json.previous.
 * A crash before the rename in 4 leaves the old snapshot with both journals, one after it the new
 * snapshot with both journals, of which the records up to its sequence number are passed over.
 *
 * SNAPSHOT_ANEW, at start and after failures, when nothing on the disk is to be relied on and no
 * appends are taken: calls that wait for a sync are waited for here as well; then the same text
 * under a number above all that were given; the writer: new
 * snapshot, fsync, rename, fsync of the folder; then a new journal over the present one, and
 * state.journal.old removed. Last a copy of the snapshot as state.json.previous: the snapshot
 * before must not be it, for what recovery dropped would come back with it.
 */
#include "store/store-private.h"

#include <errno.h>
#include <fcntl.h>

#include "store/backup.h"
#include "store/files.h"
#include "store/sys.h"
#include "util/fd.h"
#include "util/slices.h"

/* A slice is to be short beside a call; a chunk long beside a write(). */
#define RECORDS_A_SLICE 32
#define CHUNK_BYTES (256 * 1024)
#define CHUNKS_UNDER_WAY_MAX 4

#define RETRY_MSEC_MIN 1000
#define RETRY_MSEC_MAX 60000

struct Snapshot {
    Store *store;
    SnapshotKind kind;
    gboolean begun; /* steps 1 and 2 are done; ->sequence is set */
    gboolean rotated;
    gboolean cancelled;
    guint64 sequence;
    SnapshotText *text;
    guint64 bytes;
    guint under_way; /* jobs that the writer has */
    Slices *slices;  /* owned; NULL while waiting */
    /* the writer's own */
    int fd;
    int result;
    const char *doing; /* what failed, on which file */
    const char *name;
};

typedef struct SnapshotJob {
    WorkerJob job;
    Snapshot *snapshot;
    GString *text;    /* of a chunk; NULL = the last job */
    Journal *journal; /* made by the last job of SNAPSHOT_ANEW */
} SnapshotJob;

static void step(void *data);

/* ---- in the writer's thread (at start in the main one) ---- */

static gboolean failed(Snapshot *snapshot, int result, const char *doing, const char *name)
{
    if (result >= 0)
        return FALSE;
    snapshot->result = result;
    snapshot->doing = doing;
    snapshot->name = name;
    return TRUE;
}

static void write_chunk(Snapshot *snapshot, const GString *text)
{
    int dir_fd = snapshot->store->dir_fd;

    if (snapshot->result < 0)
        return;
    if (snapshot->fd < 0) {
        (void)sys_unlink(dir_fd, FILE_SNAPSHOT_NEW);
        snapshot->fd = sys_openat(dir_fd, FILE_SNAPSHOT_NEW, O_WRONLY | O_CREAT | O_EXCL);
        if (failed(snapshot, snapshot->fd, "create", FILE_SNAPSHOT_NEW))
            return;
    }
    (void)failed(snapshot, sys_write_all(snapshot->fd, text->str, text->len), "write",
                 FILE_SNAPSHOT_NEW);
}

/* The present snapshot becomes the previous one, without a moment in which there is none. */
static int keep_previous(int dir_fd)
{
    int r;

    (void)sys_unlink(dir_fd, FILE_PREVIOUS_NEW);
    r = sys_link(dir_fd, FILE_SNAPSHOT, FILE_PREVIOUS_NEW);
    if (r == -ENOENT)
        return 0;
    if (r == -EPERM || r == -EOPNOTSUPP || r == -ENOSYS)
        /* no hard links here; reading copes with the moment */
        return sys_rename(dir_fd, FILE_SNAPSHOT, FILE_PREVIOUS);
    return r < 0 ? r : sys_rename(dir_fd, FILE_PREVIOUS_NEW, FILE_PREVIOUS);
}

static void replace_snapshot(Snapshot *snapshot)
{
    int dir_fd = snapshot->store->dir_fd;

    if (failed(snapshot, sys_fsync(snapshot->fd), "sync", FILE_SNAPSHOT_NEW))
        return;
    snapshot->fd = fd_close(snapshot->fd);
    if (snapshot->kind == SNAPSHOT_COMPACT &&
        failed(snapshot, keep_previous(dir_fd), "keep", FILE_SNAPSHOT))
        return;
    if (failed(snapshot, sys_rename(dir_fd, FILE_SNAPSHOT_NEW, FILE_SNAPSHOT), "replace",
               FILE_SNAPSHOT))
        return;
    (void)failed(snapshot, sys_fsync(dir_fd), "sync", ".");
}

static void replace_journal(Snapshot *snapshot, Journal **ret_journal)
{
    const Store *store = snapshot->store;
    int dir_fd = store->dir_fd;
    g_autoptr(Journal) journal = NULL;
    int r;

    if (failed(
            snapshot,
            journal_create(dir_fd, FILE_JOURNAL_NEW, &store->boot_id, snapshot->sequence, &journal),
            "create", FILE_JOURNAL_NEW) ||
        failed(snapshot, sys_fsync(journal->fd), "sync", FILE_JOURNAL_NEW) ||
        failed(snapshot, sys_rename(dir_fd, FILE_JOURNAL_NEW, FILE_JOURNAL), "replace",
               FILE_JOURNAL))
        return;
    r = sys_unlink(dir_fd, FILE_JOURNAL_OLD);
    if (failed(snapshot, r == -ENOENT ? 0 : r, "remove", FILE_JOURNAL_OLD) ||
        failed(snapshot, sys_fsync(dir_fd), "sync", "."))
        return;
    *ret_journal = g_steal_pointer(&journal);
}

static void finish(Snapshot *snapshot, Journal **ret_journal)
{
    if (snapshot->result == 0)
        replace_snapshot(snapshot);
    if (snapshot->result == 0 && snapshot->kind == SNAPSHOT_ANEW)
        replace_journal(snapshot, ret_journal);
    snapshot->fd = fd_close(snapshot->fd);
    if (snapshot->result < 0)
        (void)sys_unlink(snapshot->store->dir_fd, FILE_SNAPSHOT_NEW);
}

static void run_job(WorkerJob *job)
{
    SnapshotJob *self = (SnapshotJob *)job;

    if (self->text)
        write_chunk(self->snapshot, self->text);
    else
        finish(self->snapshot, &self->journal);
}

/* ---- the copy after SNAPSHOT_ANEW ---- */

typedef struct TwinJob {
    WorkerJob job;
    Store *store;
} TwinJob;

static void run_twin(WorkerJob *job)
{
    int dir_fd = ((TwinJob *)job)->store->dir_fd;

    /* best effort: without it there is one snapshot only, as after a first start */
    (void)sys_unlink(dir_fd, FILE_PREVIOUS);
    (void)sys_unlink(dir_fd, FILE_PREVIOUS_NEW);
    if (backup_copy(dir_fd, FILE_SNAPSHOT, FILE_PREVIOUS_NEW) == 0)
        (void)sys_rename(dir_fd, FILE_PREVIOUS_NEW, FILE_PREVIOUS);
}

static void twin_done(WorkerJob *job)
{
    g_free(job);
}

static void push_twin(Store *store)
{
    TwinJob *twin = g_new0(TwinJob, 1);

    twin->job = (WorkerJob){run_twin, twin_done};
    twin->store = store;
    worker_push(store->writer, &twin->job);
}

/* ---- journals that are done with ---- */

typedef struct DropJob {
    WorkerJob job;
    Journal *journal;
} DropJob;

static void run_drop(WorkerJob *job)
{
    journal_unref(((DropJob *)job)->journal);
}

static void drop_done(WorkerJob *job)
{
    g_free(job);
}

/*
 * Closing the last descriptor of a file that was replaced frees it, which takes milliseconds. So a
 * journal is kept open as long as it has a name, and closed by the writer.
 * @journal: (transfer full) (nullable).
 */
static void drop_later(Store *store, Journal *journal)
{
    DropJob *drop;

    if (!journal)
        return;
    drop = g_new0(DropJob, 1);
    drop->job = (WorkerJob){run_drop, drop_done};
    drop->journal = journal;
    worker_push(store->writer, &drop->job);
}

/* ---- in the main loop ---- */

static Snapshot *snapshot_new(Store *store, SnapshotKind kind)
{
    Snapshot *snapshot = g_new0(Snapshot, 1);

    snapshot->store = store;
    snapshot->kind = kind;
    snapshot->fd = -1;
    return snapshot;
}

static void stop_slices(Snapshot *snapshot)
{
    snapshot->slices = slices_stop(snapshot->slices);
}

static Snapshot *snapshot_free(Snapshot *snapshot)
{
    stop_slices(snapshot);
    (void)fd_close(snapshot->fd);
    snapshot_text_free(snapshot->text);
    g_free(snapshot);
    return NULL;
}

static void start_slices(Snapshot *snapshot)
{
    if (!snapshot->slices)
        snapshot->slices = slices_start(snapshot->store->context, "snapshot", step, snapshot);
}

/* @journal: (transfer full) (nullable): the new one of SNAPSHOT_ANEW. */
static void succeeded(Snapshot *snapshot, Journal *journal)
{
    Store *store = snapshot->store;

    store->snapshot_sequence = snapshot->sequence;
    store->snapshot_bytes = snapshot->bytes;
    store->compact_retry_msec = 0;
    store->compact_after_usec = 0;
    if (!journal)
        return;
    drop_later(store, store->journal);
    drop_later(store, g_steal_pointer(&store->old_journal));
    store->journal = journal;
    store->old_sequence = 0;
    push_twin(store);
}

static void did_not_succeed(Snapshot *snapshot)
{
    g_autoptr(GError) error = NULL;
    Store *store = snapshot->store;

    sys_error(&error, snapshot->result, snapshot->doing, store->dir, snapshot->name);
    if (snapshot->kind == SNAPSHOT_ANEW) {
        store_fail(store, error);
        return;
    }
    store->compact_retry_msec =
        CLAMP(store->compact_retry_msec * 2, RETRY_MSEC_MIN, RETRY_MSEC_MAX);
    store->compact_after_usec = g_get_monotonic_time() + (gint64)store->compact_retry_msec * 1000;
    if (store->snapshot_failed)
        store->snapshot_failed(error, store->compact_retry_msec, store->data);
}

/* The last job was handed back, or none was pushed. */
static void end(Snapshot *snapshot, Journal *journal)
{
    Store *store = snapshot->store;
    gboolean anew = snapshot->kind == SNAPSHOT_ANEW;
    gboolean good = snapshot->result == 0 && !snapshot->cancelled;

    store->snapshot = NULL;
    if (good)
        succeeded(snapshot, journal);
    else if (!snapshot->cancelled)
        did_not_succeed(snapshot);
    snapshot_free(snapshot);
    if (good && anew)
        store_recovered(store);
    else if (store->state == STORE_FAILED && !anew)
        snapshot_start(store, SNAPSHOT_ANEW); /* it had to wait for this one's end */
}

static void job_done(WorkerJob *job)
{
    SnapshotJob *self = (SnapshotJob *)job;
    Snapshot *snapshot = self->snapshot;
    gboolean last = self->text == NULL;
    g_autoptr(Journal) journal = self->journal;

    if (self->text)
        (void)g_string_free(self->text, TRUE);
    g_free(self);
    snapshot->under_way--;
    if (last) {
        /* it was too late to stop it */
        snapshot->cancelled = FALSE;
        end(snapshot, g_steal_pointer(&journal));
    } else if (snapshot->cancelled && snapshot->under_way == 0) {
        (void)sys_unlink(snapshot->store->dir_fd, FILE_SNAPSHOT_NEW);
        end(snapshot, NULL);
    } else if (!snapshot->cancelled && snapshot->text) {
        start_slices(snapshot);
    }
}

/* @text: (transfer full) (nullable): NULL for the last job. */
static void push_job(Snapshot *snapshot, GString *text)
{
    SnapshotJob *job = g_new0(SnapshotJob, 1);

    job->job = (WorkerJob){run_job, job_done};
    job->snapshot = snapshot;
    job->text = text;
    snapshot->under_way++;
    worker_push(snapshot->store->writer, &job->job);
}

/* Step 1. */
static gboolean rotate(Snapshot *snapshot)
{
    Store *store = snapshot->store;
    g_autoptr(Journal) journal = NULL;
    int r;

    if (store->old_sequence > store->snapshot_sequence)
        return TRUE;
    if (failed(snapshot,
               journal_create(store->dir_fd, FILE_JOURNAL_NEW, &store->boot_id, store->sequence,
                              &journal),
               "create", FILE_JOURNAL_NEW))
        return FALSE;
    if (failed(snapshot, sys_rename(store->dir_fd, FILE_JOURNAL, FILE_JOURNAL_OLD), "set aside",
               FILE_JOURNAL)) {
        g_autoptr(GError) error = NULL;

        if (snapshot->result != -ENOENT)
            return FALSE;
        /* somebody removed it: what is written there is seen by nobody */
        sys_error(&error, ENOENT, "write", store->dir, FILE_JOURNAL);
        store_fail(store, error);
        return FALSE;
    }
    r = sys_rename(store->dir_fd, FILE_JOURNAL_NEW, FILE_JOURNAL);
    if (failed(snapshot, r, "replace", FILE_JOURNAL)) {
        g_autoptr(GError) error = NULL;

        if (sys_rename(store->dir_fd, FILE_JOURNAL_OLD, FILE_JOURNAL) == 0)
            return FALSE;
        sys_error(&error, r, "replace", store->dir, FILE_JOURNAL);
        store_fail(store, error);
        return FALSE;
    }
    store->old_sequence = store->sequence;
    drop_later(store, store->old_journal);
    store->old_journal = store->journal;
    store->journal = g_steal_pointer(&journal);
    durable_barrier(store);
    return TRUE;
}

/* Steps 1 and 2, once no check is under way. Returns: FALSE while there is nothing to do but wait,
 * or all is over. */
static gboolean begin(Snapshot *snapshot)
{
    Store *store = snapshot->store;

    if (store->check && !snapshot->rotated) { /* it reads file by file, by their names */
        stop_slices(snapshot);
        return FALSE;
    }
    if (snapshot->kind == SNAPSHOT_ANEW) {
        /* who waits for a sync may yet be told that it is there, and is not in the source */
        if (durable_first_sequence(store) <= store->sequence) {
            stop_slices(snapshot);
            return FALSE;
        }
        /* whatever a failed write may have left behind has this number at most */
        snapshot->sequence = ++store->sequence;
    } else {
        if (!snapshot->rotated) {
            if (!rotate(snapshot)) {
                end(snapshot, NULL);
                return FALSE;
            }
            snapshot->rotated = TRUE;
            snapshot->sequence = store->sequence;
        }
        if (durable_first_sequence(store) <= snapshot->sequence) {
            stop_slices(snapshot);
            return FALSE;
        }
    }
    snapshot->begun = TRUE;
    snapshot->text = snapshot_text_new(&store->source, &store->boot_id, snapshot->sequence);
    return TRUE;
}

static void take_chunk(Snapshot *snapshot)
{
    GString *text = snapshot_text_take(snapshot->text);

    snapshot->bytes += text->len;
    push_job(snapshot, text);
}

/* A slice. */
static void step(void *data)
{
    Snapshot *snapshot = data;

    if (!snapshot->begun && !begin(snapshot))
        return;
    if (snapshot_text_step(snapshot->text, RECORDS_A_SLICE)) {
        if (snapshot->text->text->len < CHUNK_BYTES)
            return;
        take_chunk(snapshot);
        if (snapshot->under_way >= CHUNKS_UNDER_WAY_MAX)
            stop_slices(snapshot);
        return;
    }
    stop_slices(snapshot);
    take_chunk(snapshot);
    g_clear_pointer(&snapshot->text, snapshot_text_free);
    push_job(snapshot, NULL);
}

/* For the sake of SNAPSHOT_ANEW, which is started when this one has ended. */
static void cancel(Snapshot *snapshot)
{
    if (snapshot->kind == SNAPSHOT_ANEW)
        return;
    snapshot->cancelled = TRUE;
    stop_slices(snapshot);
    if (snapshot->under_way == 0)
        end(snapshot, NULL);
}

void snapshot_start(Store *store, SnapshotKind kind)
{
    if (store->snapshot) {
        if (kind == SNAPSHOT_ANEW)
            cancel(store->snapshot);
        return;
    }
    store->snapshot = snapshot_new(store, kind);
    start_slices(store->snapshot);
}

void snapshot_abandon(Store *store)
{
    if (store->snapshot) {
        store->snapshot->cancelled = TRUE;
        stop_slices(store->snapshot);
    }
    worker_drain(store->writer);
    g_clear_pointer(&store->snapshot, snapshot_free);
}

void snapshot_go_on(Store *store)
{
    Snapshot *snapshot = store->snapshot;

    if (snapshot && !snapshot->begun && !snapshot->cancelled)
        start_slices(snapshot);
}

gboolean snapshot_wanted(const Store *store)
{
    guint64 limit = MAX(store->compact_bytes, store->snapshot_bytes / 2);

    return store->journal->size >= limit && !store->snapshot &&
           (store->compact_after_usec == 0 || g_get_monotonic_time() >= store->compact_after_usec);
}

gboolean snapshot_write_now(Store *store, GError **error)
{
    Snapshot *snapshot = snapshot_new(store, SNAPSHOT_ANEW);
    Journal *journal = NULL;
    gboolean more;

    g_assert(!store->check); /* begin() would wait for it */
    (void)begin(snapshot);
    do {
        g_autoptr(GString) text = NULL;

        do
            more = snapshot_text_step(snapshot->text, RECORDS_A_SLICE);
        while (more && snapshot->text->text->len < CHUNK_BYTES);
        text = snapshot_text_take(snapshot->text);
        snapshot->bytes += text->len;
        write_chunk(snapshot, text);
    } while (more);
    finish(snapshot, &journal);
    if (snapshot->result < 0) {
        sys_error(error, snapshot->result, snapshot->doing, store->dir, snapshot->name);
        snapshot_free(snapshot);
        return FALSE;
    }
    succeeded(snapshot, journal);
    snapshot_free(snapshot);
    return TRUE;
}
