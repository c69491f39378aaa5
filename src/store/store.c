/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "store/store-private.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "store/backup.h"
#include "store/files.h"
#include "store/record.h"
#include "store/sys.h"
#include "util/fd.h"
#include "util/file.h"

#define COMPACT_BYTES (4 * 1024 * 1024)
#define BACKUPS_MAX 10

#define RETRY_MSEC_MIN 100
#define RETRY_MSEC_MAX 30000
/* A look at a whole journal's disk costs next to nothing. */
#define PROBE_MSEC_MAX 2000
/* Trouble that comes back sooner is the same one, and its pauses go on growing. */
#define WELL_USEC (10 * G_USEC_PER_SEC)

static int open_folder(const char *dir, GError **error)
{
    int fd;

    if (g_mkdir_with_parents(dir, 0700) < 0) {
        sys_error(error, errno, "create", dir, "");
        return -1;
    }
    fd = sys_openat(AT_FDCWD, dir, O_RDONLY | O_DIRECTORY);
    if (fd < 0)
        sys_error(error, fd, "open", dir, "");
    return fd;
}

static int take_lock(int dir_fd, const char *dir, GError **error)
{
    AUTO_FD fd = -1;
    int r;

    fd = sys_openat(dir_fd, FILE_LOCK, O_RDWR | O_CREAT);
    if (fd < 0) {
        sys_error(error, fd, "open", dir, FILE_LOCK);
        return -1;
    }
    r = sys_flock(fd);
    if (r == -EWOULDBLOCK) {
        g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_AGAIN,
                    "another daemon is using the state in %s", dir);
        return -1;
    }
    if (r < 0) {
        sys_error(error, r, "lock", dir, FILE_LOCK);
        return -1;
    }
    return fd_steal(&fd);
}

Store *store_open(const StoreOptions *options, GMainContext *context, GError **error)
{
    AUTO_FD dir_fd = -1, lock_fd = -1;
    Store *store;

    dir_fd = open_folder(options->dir, error);
    if (dir_fd < 0)
        return NULL;
    lock_fd = take_lock(dir_fd, options->dir, error);
    if (lock_fd < 0)
        return NULL;

    store = g_new0(Store, 1);
    store->dir = g_strdup(options->dir);
    store->dir_fd = fd_steal(&dir_fd);
    store->lock_fd = fd_steal(&lock_fd);
    store->backup_corrupted = options->backup_corrupted;
    store->backups_max = options->backups_max > 0 ? options->backups_max : BACKUPS_MAX;
    store->compact_bytes = options->compact_bytes > 0 ? options->compact_bytes : COMPACT_BYTES;
    store->health_changed = options->health_changed;
    store->snapshot_failed = options->snapshot_failed;
    store->data = options->data;
    store->context = context ? g_main_context_ref(context) : NULL;
    store->syncer = worker_new("styxy-sync", context);
    store->writer = worker_new("styxy-snapshot", context);
    store->line = g_string_sized_new(4096);
    durable_init(store);
    return store;
}

static void stop_retry(Store *store)
{
    if (store->retry)
        g_source_destroy(store->retry);
    g_clear_pointer(&store->retry, g_source_unref);
}

Store *store_close(Store *store)
{
    if (!store)
        return NULL;
    durable_finish(store);
    snapshot_abandon(store);
    durable_finish(store); /* a check that ended there may have appended */
    snapshot_abandon(store); /* and that have begun another */
    worker_free(store->syncer);
    worker_free(store->writer);
    stop_retry(store);
    durable_deinit(store);
    journal_unref(store->journal);
    journal_unref(store->old_journal);
    (void)g_string_free(store->line, TRUE);
    g_clear_error(&store->error);
    g_clear_pointer(&store->context, g_main_context_unref);
    (void)fd_close(store->lock_fd);
    (void)fd_close(store->dir_fd);
    g_free(store->dir);
    g_free(store);
    return NULL;
}

/* ---- failing and recovering ---- */

static void write_failed(Store *store, int result, gboolean dirty, GError **error);

/* The journal is whole, so a record of nothing finds out; it succeeds or sets the next retry. */
static void probe(Store *store)
{
    int r = journal_reserve(store->journal);

    if (r < 0)
        write_failed(store, r, FALSE, NULL);
    else
        (void)store_append(store, NULL, 0, NULL);
}

static gboolean on_retry(void *data)
{
    Store *store = data;

    stop_retry(store);
    if (store->state == STORE_FAILED)
        snapshot_start(store, SNAPSHOT_ANEW);
    else if (store->state == STORE_STUMBLED)
        probe(store);
    return G_SOURCE_REMOVE;
}

static void enter_trouble(Store *store, StoreState state, const GError *error)
{
    gboolean was_well = store->state == STORE_WORKING || store->state == STORE_NEW;
    guint pause_max_msec = state == STORE_STUMBLED ? PROBE_MSEC_MAX : RETRY_MSEC_MAX;

    if (was_well && g_get_monotonic_time() - store->recovered_usec >= WELL_USEC)
        store->retry_msec = 0;
    store->state = state;
    g_clear_error(&store->error);
    store->error = g_error_copy(error);
    stop_retry(store);
    store->retry = g_timeout_source_new(MIN(store->retry_msec, pause_max_msec));
    g_source_set_callback(store->retry, on_retry, store, NULL);
    (void)g_source_attach(store->retry, store->context);
    store->retry_msec = CLAMP(store->retry_msec * 2, RETRY_MSEC_MIN, pause_max_msec);
    if (was_well && store->health_changed)
        store->health_changed(error, store->data);
}

void store_fail(Store *store, const GError *error)
{
    enter_trouble(store, STORE_FAILED, error);
}

void store_recovered(Store *store)
{
    store->state = STORE_WORKING;
    g_clear_error(&store->error);
    stop_retry(store);
    store->recovered_usec = g_get_monotonic_time();
    if (store->health_changed)
        store->health_changed(NULL, store->data);
}

gboolean store_is_failed(const Store *store, const char **ret_why)
{
    if (store->state == STORE_WORKING)
        return FALSE;
    if (ret_why)
        *ret_why = store->error ? store->error->message : "the store was not started";
    return TRUE;
}

/* ---- appending ---- */

gboolean store_start(Store *store, const StoreSource *source, const Id *boot_id, GError **error)
{
    g_autoptr(GError) failure = NULL;

    g_assert(store->state == STORE_NEW);
    store->source = *source;
    store->boot_id = *boot_id;
    if (snapshot_write_now(store, &failure)) {
        store->state = STORE_WORKING;
        return TRUE;
    }
    store_fail(store, failure);
    g_propagate_error(error, g_steal_pointer(&failure));
    return FALSE;
}

static gboolean is_taking(const Store *store, GError **error)
{
    if (store->state == STORE_WORKING || store->state == STORE_STUMBLED)
        return TRUE;
    if (store->error)
        g_propagate_error(error, g_error_copy(store->error));
    else
        g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_FAILED, "the store was not started");
    return FALSE;
}

static void write_failed(Store *store, int result, gboolean dirty, GError **error)
{
    g_autoptr(GError) failure = NULL;

    sys_error(&failure, result, "write", store->dir, FILE_JOURNAL);
    enter_trouble(store, dirty ? STORE_FAILED : STORE_STUMBLED, failure);
    g_propagate_error(error, g_steal_pointer(&failure));
}

gboolean store_append(Store *store, const StoreOp *ops, size_t n_ops, GError **error)
{
    GString *line = store->line;
    gboolean dirty;
    int r;

    if (!is_taking(store, error))
        return FALSE;
    g_string_truncate(line, 0);
    record_write_ops(line, store->sequence + 1, ops, n_ops);
    if (line->len > RECORD_BYTES_MAX) {
        g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_INVAL,
                    "a record of %" G_GSIZE_FORMAT " bytes is too long for the journal", line->len);
        return FALSE;
    }
    g_string_append_c(line, '\n');
    r = journal_append(store->journal, line, &dirty);
    if (r < 0) {
        write_failed(store, r, dirty, error);
        return FALSE;
    }
    store->sequence++;
    if (store->state == STORE_STUMBLED)
        store_recovered(store);
    if (snapshot_wanted(store))
        snapshot_start(store, SNAPSHOT_COMPACT);
    return TRUE;
}

gboolean store_append_durable(Store *store, const StoreOp *ops, size_t n_ops, uid_t uid,
                              StoreDone done, void *data, GError **error)
{
    guint64 start = store->journal ? store->journal->size : 0;

    if (!store_append(store, ops, n_ops, error))
        return FALSE;
    durable_push(store, start, uid, done, data);
    return TRUE;
}

void store_compact(Store *store)
{
    if (store->state == STORE_WORKING || store->state == STORE_STUMBLED)
        snapshot_start(store, SNAPSHOT_COMPACT);
}

gboolean store_idle(const Store *store)
{
    return g_queue_is_empty((GQueue *)&store->untold) && !store->snapshot &&
           worker_is_idle(store->syncer) && worker_is_idle(store->writer);
}

/* ---- starts that came to nothing ---- */

static guint read_starts(const Store *store)
{
    g_autofree char *text = NULL;
    guint64 count;
    size_t length;

    text = file_read(store->dir_fd, FILE_STARTS, FILE_READ_NONE, 16, &length, NULL);
    if (!text || !g_ascii_string_to_unsigned(g_strchomp(text), 10, 0, G_MAXUINT - 1, &count, NULL))
        return 0;
    return (guint)count;
}

/* Not synced: a power failure may cost the count, which only ever makes us try once more. */
static gboolean write_starts(const Store *store, guint count)
{
    g_autofree char *text = g_strdup_printf("%u\n", count);
    AUTO_FD fd = -1;

    (void)sys_unlink(store->dir_fd, FILE_STARTS_NEW);
    fd = sys_openat(store->dir_fd, FILE_STARTS_NEW, O_WRONLY | O_CREAT | O_EXCL);
    return fd >= 0 && sys_write_all(fd, text, strlen(text)) == 0 &&
           sys_rename(store->dir_fd, FILE_STARTS_NEW, FILE_STARTS) == 0;
}

guint store_note_start(Store *store)
{
    guint count = read_starts(store) + 1;

    return write_starts(store, count) ? count : 1;
}

void store_note_recovered(Store *store)
{
    (void)write_starts(store, 0);
}

gboolean store_set_aside(Store *store, GError **error)
{
    static const char *const names[] = {FILE_JOURNAL_OLD, FILE_JOURNAL, FILE_PREVIOUS,
                                        FILE_SNAPSHOT};

    g_assert(store->state == STORE_NEW);
    backup_make_room(store->dir_fd, store->backups_max, G_N_ELEMENTS(names));
    for (size_t i = 0; i < G_N_ELEMENTS(names); i++) {
        g_autofree char *backup = NULL;
        g_autoptr(GError) failure = NULL;

        if (!backup_make(store->dir_fd, store->dir, names[i], BACKUP_MOVE, &backup, &failure) &&
            !g_error_matches(failure, G_FILE_ERROR, G_FILE_ERROR_NOENT)) {
            g_propagate_error(error, g_steal_pointer(&failure));
            return FALSE;
        }
    }
    return TRUE;
}
