/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>

#include "core/lease.h"
#include "core/registry.h"

/*
 * The daemon's memory on disk: state.json (a snapshot) and state.journal (what happened since).
 * One process at a time: store_open() takes a lock that the kernel drops with the process.
 */
typedef struct Store Store;

typedef enum StoreOpKind {
    STORE_PUT_LEASE,  /* a new lease, or new contents of a known one */
    STORE_DROP_LEASE, /* the end of a lease */
    STORE_PUT_STICKY, /* a remembered port */
    STORE_DROP_STICKY,
    STORE_PUT_CHUNK, /* the range of an auto-allocated service type */
} StoreOpKind;

/** StoreOp: one fact; all pointers borrowed for the call. */
typedef struct StoreOp {
    StoreOpKind kind;
    const Lease *lease;       /* PUT_LEASE, DROP_LEASE */
    Reason reason;            /* DROP_LEASE */
    const StickyPort *sticky; /* PUT_STICKY, DROP_STICKY */
    const Chunk *chunk;       /* PUT_CHUNK */
} StoreOp;

/**
 * StoreHealthChanged: the store stopped working (@error, borrowed, says what failed on which file),
 * or works again (@error is NULL). From the main loop, or from within the call that failed.
 */
typedef void (*StoreHealthChanged)(const GError *error, void *data);

/**
 * StoreSnapshotFailed: a snapshot could not be written, another is tried in @retry_msec. Nothing is
 * lost and appends go on; the journal grows meanwhile. From the main loop.
 */
typedef void (*StoreSnapshotFailed)(const GError *error, guint retry_msec, void *data);

typedef struct StoreOptions {
    const char *dir;           /* state directory; made with mode 0700 where it is missing */
    gboolean backup_corrupted; /* keep NAME.corrupt.<UTC time> before repairing */
    guint backups_max;         /* the oldest beyond this many are removed; 0 = 10 */
    /* Journal size from which a snapshot is written, 0 = 4 MiB; where the snapshot is more than
     * twice as large, half of its size. */
    guint compact_bytes;
    StoreHealthChanged health_changed;   /* nullable */
    StoreSnapshotFailed snapshot_failed; /* nullable */
    void *data;
} StoreOptions;

/**
 * store_open: opens the folder and takes the lock. Blocks on the disk.
 * Returns: NULL with @error in G_FILE_ERROR; G_FILE_ERROR_AGAIN when another daemon has the lock.
 */
Store *store_open(const StoreOptions *options, GMainContext *context, GError **error);

/** store_close: waits for syncs under way, calls their StoreDone, drops the lock. Returns: NULL. */
Store *store_close(Store *store);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Store, store_close)

/** StoreDamage: one thing found wrong. */
typedef struct StoreDamage {
    char *file;   /* "state.json" */
    char *what;   /* for a person: what is wrong, where (line or byte) */
    char *backup; /* path of the copy, NULL where none was made */
    guint lost;   /* records that could not be kept */
} StoreDamage;

/** StoreContents: all that could be read and verified. The arrays may be empty, never NULL. */
typedef struct StoreContents {
    GPtrArray *leases; /* of Lease *, distinct ids; ports may still clash: startup decides */
    GArray *sticky;    /* of StickyPort, strings owned by @strings; those of @leases included;
                        * least recently used first */
    GArray *chunks;    /* of Chunk, strings owned by @strings */
    GStringChunk *strings;
    Id boot_id;             /* the boot that wrote it; empty text where not known */
    guint64 sequence;       /* of the last record */
    gboolean fresh;         /* neither file was there: a first start */
    gboolean torn_tail;     /* the last journal record was incomplete: normal after a crash */
    char *torn_backup;      /* the copy of that journal, NULL where none was made */
    gboolean from_previous; /* the snapshot was unreadable, its predecessor was used */
    GPtrArray *damage;      /* of StoreDamage */
} StoreContents;

/**
 * store_load: reads snapshot and journal, keeping every record whose checksum holds.
 * @dry_run: reads only; makes no backup, repairs nothing, may be called at any time.
 *
 * Bad contents are never an error, they are reported in ->damage. Blocks on the disk.
 * Returns: (transfer full): NULL with @error only where the folder cannot be read or backups cannot
 *     be made (the damaged file is left as it is then).
 */
StoreContents *store_load(Store *store, gboolean dry_run, GError **error);

/**
 * StoreChecked: @contents (transfer full), or NULL with @error; as store_load() returns them, but
 * its leases have neither service type nor unit.
 */
typedef void (*StoreChecked)(StoreContents *contents, const GError *error, void *data);

/**
 * store_check: store_load() of a running store, on another thread: reads what is there now, and
 * not what is appended meanwhile. A snapshot that is to begin waits for its end. One at a time.
 * Does not block.
 * @done: called once, from the main loop or from within store_close(), never from within the call.
 * Returns: FALSE with @error where the disk is not to be relied on now, and is being written anew.
 */
gboolean store_check(Store *store, gboolean dry_run, StoreChecked done, void *data, GError **error);
StoreContents *store_contents_free(StoreContents *contents);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(StoreContents, store_contents_free)

/**
 * StoreSource: where snapshots come from: the registry, seen from below. Called from the main loop.
 */
typedef struct StoreSource {
    /** The next lease in any fixed order, NULL at the end; *@cursor is 0 to start with and stays
     * valid across any changes in between (registry_next_port()). */
    const Lease *(*next_lease)(void *data, guint32 *cursor);
    void (*foreach_sticky)(void *data, void (*func)(const StickyPort *sticky, void *func_data),
                           void *func_data);
    void (*foreach_chunk)(void *data, void (*func)(const Chunk *chunk, void *func_data),
                          void *func_data);
    /** Whether leases of that type are listed as singletonServices, too. */
    gboolean (*is_singleton)(void *data, const char *service_type);
    void *data;
} StoreSource;

/**
 * store_start: writes a first snapshot of @source under @boot_id and opens a new journal; from here
 * on appends are taken. Once, after store_load() where the old contents matter: they are replaced.
 * @source: copied; what it points to is borrowed until store_close().
 *
 * Later snapshots are taken in slices while life goes on. So what was appended must be in the
 * source before the main loop turns: after a store_append() that returned TRUE, and when StoreDone
 * has been called without an error.
 *
 * Blocks on the disk (once, at start-up).
 * Returns: FALSE with @error; the store is then failed and goes on trying by itself.
 */
gboolean store_start(Store *store, const StoreSource *source, const Id *boot_id, GError **error);

/**
 * store_append: writes one record holding @ops, all or none, into the kernel's page cache.
 * Does not wait for the disk.
 * Returns: FALSE with @error in G_FILE_ERROR: nothing of it will be there after a restart (as far
 *     as the disk allows: where even cutting it off again fails, until the next snapshot).
 */
gboolean store_append(Store *store, const StoreOp *ops, size_t n_ops, GError **error);

/** StoreDone: @error is NULL when the record is on the disk. From the main loop or from within
 * store_close(), never from within the call. */
typedef void (*StoreDone)(const GError *error, void *data);

/**
 * store_append_durable: store_append(), and @done after an fdatasync that many calls share.
 * @uid: for whom: those whom one sync serves are told user by user in turns, and each user's in the
 *     order of their calls; those whom it fails all at once.
 * Returns: FALSE with @error, and @done is not called, when the write itself failed. After a failed
 *     sync the record is taken back as far as the disk allows, so memory must not have it either.
 */
gboolean store_append_durable(Store *store, const StoreOp *ops, size_t n_ops, uid_t uid,
                              StoreDone done, void *data, GError **error);

/**
 * store_is_failed: whether the disk refused something and has not proven well since. Where the
 * journal is whole appends are still tried, and the first that succeeds is the proof.
 * @ret_why: (nullable) (transfer none).
 */
gboolean store_is_failed(const Store *store, const char **ret_why);

/** store_compact: starts a snapshot now, in slices between other work, written by the worker. */
void store_compact(Store *store);

/** store_idle: whether neither a sync nor a snapshot is under way, and everybody has been told. */
gboolean store_idle(const Store *store);

/**
 * store_note_start, store_note_recovered: the count of starts in a row that did not get through
 * recovery, kept in the file "starts" of the state folder.
 * Returns: the count with this start, 1 after a good one. Best effort: 1 when it cannot be kept.
 */
guint store_note_start(Store *store);
void store_note_recovered(Store *store);

/**
 * store_set_aside: moves the state files to NAME.corrupt.<UTC time> and starts empty.
 * Returns: FALSE with @error, nothing moved or only some.
 */
gboolean store_set_aside(Store *store, GError **error);
