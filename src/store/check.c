/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Reading the state while life goes on. It is done by the thread that writes snapshots, so that no
 * file is replaced in the middle of it; the main loop, which renames journals, waits with that, and
 * so does a snapshot that takes the place of everything.
 */
#include "store/store-private.h"

typedef struct StoreCheck {
    WorkerJob job;
    Store *store;
    StoreReading reading;
    StoreContents *contents; /* owned */
    GError *error;
    StoreChecked done;
    void *data;
} StoreCheck;

static void run_check(WorkerJob *job)
{
    StoreCheck *check = (StoreCheck *)job;

    check->contents = store_read(&check->reading, &check->error);
}

static void check_done(WorkerJob *job)
{
    StoreCheck *check = (StoreCheck *)job;
    Store *store = check->store;
    g_autoptr(GError) error = check->error;

    store->check = NULL;
    if (check->contents)
        store_have_read(store, check->contents, check->reading.dry_run);
    snapshot_go_on(store);
    check->done(check->contents, error, check->data);
    g_free(check);
}

gboolean store_check(Store *store, gboolean dry_run, StoreChecked done, void *data, GError **error)
{
    StoreCheck *check = NULL;

    g_assert(!store->check && store->state != STORE_NEW);
    if (store->state == STORE_FAILED) { /* its journal may be replaced before the check's turn */
        g_propagate_error(error, g_error_copy(store->error));
        return FALSE;
    }
    check = g_new0(StoreCheck, 1);
    check->job = (WorkerJob){run_check, check_done};
    check->store = store;
    check->reading = store_reading(store, dry_run);
    check->reading.limits = (ChainLimits){
        .journal_bytes = store->journal->size,
        .unshared = TRUE,
    };
    check->done = done;
    check->data = data;
    store->check = check;
    worker_push(store->writer, &check->job);
    return TRUE;
}
