/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "store/chain.h"
#include "store/journal.h"
#include "store/snapshot-text.h"
#include "store/store.h"
#include "store/worker.h"
#include "util/turns.h"

/*
 * The inside of the store, for its own files: store.c (appending, failing, recovering), durable.c
 * (calls that wait for a sync), snapshot.c (writing state.json), load.c (reading it), check.c
 * (reading it while life goes on).
 */

typedef enum StoreState {
    STORE_NEW, /* before store_start() */
    STORE_WORKING,
    STORE_STUMBLED, /* a write failed, the journal is whole: the next append tries again */
    STORE_FAILED,   /* the journal cannot be relied on: only a new snapshot and journal help */
} StoreState;

/** SnapshotKind: SNAPSHOT_ANEW takes the place of everything there is; see snapshot.c. */
typedef enum SnapshotKind {
    SNAPSHOT_COMPACT,
    SNAPSHOT_ANEW,
} SnapshotKind;

typedef struct Snapshot Snapshot;

struct Store {
    char *dir;
    int dir_fd;
    int lock_fd;
    gboolean backup_corrupted;
    guint backups_max;
    guint64 compact_bytes;
    StoreHealthChanged health_changed;
    StoreSnapshotFailed snapshot_failed;
    void *data;
    GMainContext *context;
    Worker *syncer; /* what calls wait for */
    Worker *writer; /* snapshots */

    StoreSource source;
    Id boot_id;
    StoreState state;
    GError *error;    /* why, in all states but NEW and WORKING */
    GSource *retry;   /* nullable */
    guint retry_msec; /* the pause before the next retry */
    gint64 recovered_usec;

    guint64 sequence;     /* of the last record */
    Journal *journal;     /* NULL before the first start that succeeded */
    Journal *old_journal; /* state.journal.old, nullable: open for drop_later() only */
    GString *line;        /* reused for each record */

    GQueue pending; /* of PendingCall, those that wait for a sync, oldest first */
    Turns *served;  /* of PendingCall, those that were served by one */
    GQueue untold;  /* of PendingCall, owned: both of them, oldest first */
    GSource *teller;
    guint64 last_ticket;

    struct StoreCheck *check;  /* under way, or NULL: no snapshot begins meanwhile */
    Snapshot *snapshot;        /* being written, or NULL */
    guint64 snapshot_sequence; /* what state.json holds */
    guint64 snapshot_bytes;    /* its size */
    guint64 old_sequence;      /* the last record in state.journal.old */
    gint64 compact_after_usec; /* CLOCK_MONOTONIC: no new try before */
    guint compact_retry_msec;
};

/* ---- store.c ---- */

/** store_fail: appends are refused from here on, until a snapshot anew has succeeded. */
void store_fail(Store *store, const GError *error);
/** store_recovered: everything is well again. */
void store_recovered(Store *store);

/* ---- durable.c ---- */

/** durable_init, durable_deinit: of a new store that has its context; of one that has nobody to
 * tell any more. */
void durable_init(Store *store);
void durable_deinit(Store *store);
/** durable_finish: waits for syncs under way and tells everybody. */
void durable_finish(Store *store);
/** durable_push: @done waits for the record that was just written, from @start on in the journal;
 * to be told it takes the turn of @uid. */
void durable_push(Store *store, guint64 start, uid_t uid, StoreDone done, void *data);
/** durable_barrier: no call is told "durable" before the new journal and its name are. */
void durable_barrier(Store *store);
/** durable_first_sequence: the oldest record whose call is not told yet; G_MAXUINT64 = none. */
guint64 durable_first_sequence(const Store *store);

/* ---- load.c ---- */

/** StoreReading: what reading needs to know of the store; a copy, good for another thread. */
typedef struct StoreReading {
    int dir_fd;
    const char *dir; /* borrowed */
    gboolean backup_corrupted;
    guint backups_max;
    gboolean running; /* the journal is being written to */
    gboolean dry_run;
    ChainLimits limits; /* ->unshared FALSE = none */
} StoreReading;

/** store_reading: of @store as it is now. In the main loop. */
StoreReading store_reading(const Store *store, gboolean dry_run);
/** store_read: store_load() but for what it does to the store. Any thread. */
StoreContents *store_read(const StoreReading *reading, GError **error);
/** store_have_read: the rest of it. In the main loop. */
void store_have_read(Store *store, const StoreContents *contents, gboolean dry_run);

/* ---- snapshot.c ---- */

/** snapshot_start: begins one unless one is under way. */
void snapshot_start(Store *store, SnapshotKind kind);
/** snapshot_go_on: a call that waited for a sync is done. */
void snapshot_go_on(Store *store);
/** snapshot_wanted: whether the journal is large enough and the time has come. */
gboolean snapshot_wanted(const Store *store);
/** snapshot_write_now: SNAPSHOT_ANEW in one go. Blocks. FALSE with @error. */
gboolean snapshot_write_now(Store *store, GError **error);
/** snapshot_abandon: drops the one under way and waits until the writer has nothing to do. */
void snapshot_abandon(Store *store);
