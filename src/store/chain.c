/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "store/chain.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "store/files.h"
#include "store/record.h"
#include "store/scan.h"
#include "store/sys.h"
#include "util/fd.h"

/* Sentences of one report; what comes after them is counted only. */
#define SENTENCES_MAX 5

typedef enum ReaderMode {
    READ_SNAPSHOT,
    READ_UNDONE, /* a first look at the journals, for the records that were taken back */
    READ_JOURNAL,
} ReaderMode;

typedef struct Reader {
    Chain *chain;
    RecordParser *parser;
    Record record;
    GHashTable *undone;    /* set of guint64: sequence numbers */
    guint64 journal_bytes; /* see ChainLimits */
    /* of the file that is being read */
    ReaderMode mode;
    FileReport *report;
    guint64 last_sequence; /* of this journal, 0 = none yet */
    gboolean other_version;
    guint kept;
    guint n_bad; /* records of the file that do not verify, since the last whole one */
    gboolean have_head;
    gboolean have_end;
    RecordCounts counts;
} Reader;

static void report(FileReport *report_, guint lost, const char *format, ...) G_GNUC_PRINTF(3, 4);

static void report(FileReport *report_, guint lost, const char *format, ...)
{
    va_list arguments;

    report_->lost += MIN(lost, G_MAXUINT - report_->lost);
    report_->n_what++;
    if (report_->n_what > SENTENCES_MAX) {
        if (report_->n_what == SENTENCES_MAX + 1)
            g_string_append(report_->what, "; and more of the kind");
        return;
    }
    if (report_->what->len > 0)
        g_string_append(report_->what, "; ");
    va_start(arguments, format);
    g_string_append_vprintf(report_->what, format, arguments);
    va_end(arguments);
}

/* ---- the tables; strings of sticky ports and chunks are unique, so they compare by address ----
 */

static guint sticky_hash(const void *data)
{
    const StickyPort *sticky = data;

    return g_direct_hash(sticky->service_type) ^ g_direct_hash(sticky->instance) * 31 ^
           sticky->uid * 2654435761u;
}

static gboolean sticky_equal(const void *a, const void *b)
{
    const StickyPort *one = a, *two = b;

    return one->uid == two->uid && one->service_type == two->service_type &&
           one->instance == two->instance;
}

static guint chunk_hash(const void *data)
{
    return g_direct_hash(((const Chunk *)data)->service_type);
}

static gboolean chunk_equal(const void *a, const void *b)
{
    return ((const Chunk *)a)->service_type == ((const Chunk *)b)->service_type;
}

static void unref_lease(void *data)
{
    lease_unref(data);
}

static void make_tables(Chain *chain)
{
    chain->leases = g_hash_table_new_full(g_str_hash, g_str_equal, NULL, unref_lease);
    chain->sticky = g_hash_table_new_full(sticky_hash, sticky_equal, g_free, NULL);
    chain->chunks = g_hash_table_new_full(chunk_hash, chunk_equal, g_free, NULL);
    chain->strings = g_string_chunk_new(4096);
}

static void free_tables(Chain *chain)
{
    g_queue_init(&chain->sticky_order);
    g_clear_pointer(&chain->leases, g_hash_table_unref);
    g_clear_pointer(&chain->sticky, g_hash_table_unref);
    g_clear_pointer(&chain->chunks, g_hash_table_unref);
    g_clear_pointer(&chain->strings, g_string_chunk_free);
}

/* One remembered port; they are kept in the order in which they were used last. */
typedef struct StickyEntry {
    StickyPort sticky; /* first: the tables compare it */
    GList link;
} StickyEntry;

static StickyPort make_sticky(Chain *chain, uid_t uid, const char *service_type,
                              const char *instance, guint16 port)
{
    return (StickyPort){
        .uid = uid,
        .service_type = g_string_chunk_insert_const(chain->strings, service_type),
        .instance = g_string_chunk_insert_const(chain->strings, instance),
        .port = port,
    };
}

static void put_sticky(Chain *chain, StickyPort sticky)
{
    StickyEntry *entry = g_hash_table_lookup(chain->sticky, &sticky);

    if (entry) {
        g_queue_unlink(&chain->sticky_order, &entry->link);
        entry->sticky.port = sticky.port;
    } else {
        entry = g_new0(StickyEntry, 1);
        entry->sticky = sticky;
        entry->link.data = entry;
        g_hash_table_add(chain->sticky, entry);
    }
    g_queue_push_tail_link(&chain->sticky_order, &entry->link);
}

static void drop_sticky(Chain *chain, StickyPort sticky)
{
    StickyEntry *entry = g_hash_table_lookup(chain->sticky, &sticky);

    if (!entry)
        return;
    g_queue_unlink(&chain->sticky_order, &entry->link);
    g_hash_table_remove(chain->sticky, entry);
}

/* Returns: whether the id was there already. */
static gboolean put_lease(Chain *chain, Lease *lease)
{
    /* A grant to an instance is also what that instance is remembered by. */
    if (lease->service_type && lease->instance)
        put_sticky(chain, make_sticky(chain, lease->uid, lease->service_type, lease->instance,
                                      lease->port));
    return !g_hash_table_replace(chain->leases, lease->id.text, lease);
}

static void apply(Reader *reader, RecordOp *op)
{
    Chain *chain = reader->chain;
    Chunk chunk;

    switch (op->kind) {
    case STORE_PUT_LEASE:
        if (put_lease(chain, g_steal_pointer(&op->lease)) && reader->mode == READ_SNAPSHOT)
            report(reader->report, 0, "a lease is there twice, the later one counts");
        break;
    case STORE_DROP_LEASE:
        g_hash_table_remove(chain->leases, op->lease_id.text);
        break;
    case STORE_PUT_STICKY:
        put_sticky(chain, make_sticky(chain, op->uid, op->service_type, op->instance, op->port));
        break;
    case STORE_DROP_STICKY:
        drop_sticky(chain, make_sticky(chain, op->uid, op->service_type, op->instance, op->port));
        break;
    case STORE_PUT_CHUNK:
        chunk = (Chunk){
            .service_type = g_string_chunk_insert_const(chain->strings, op->service_type),
            .range = op->range,
            .uid = op->uid,
        };
        g_hash_table_add(chain->chunks, g_memdup2(&chunk, sizeof(chunk)));
        break;
    default:
        g_assert_not_reached();
    }
}

static void apply_all(Reader *reader)
{
    for (guint i = 0; i < reader->record.ops->len; i++)
        apply(reader, &g_array_index(reader->record.ops, RecordOp, i));
    if (reader->record.unknown_key)
        report(reader->report, 0, "unknown key \"%s\", ignored", reader->record.unknown_key);
}

/* ---- one record ---- */

/* Returns: FALSE when it was reported instead. */
static gboolean parse(Reader *reader, const ScanRecord *found)
{
    g_autoptr(GError) error = NULL;

    if (record_parse(reader->parser, found->text, found->length, &reader->record, &error))
        return TRUE;
    if (g_error_matches(error, RECORD_ERROR, RECORD_ERROR_VERSION)) {
        reader->other_version = TRUE;
        report(reader->report, 1, "%s", error->message);
    } else {
        /* in a journal the gap in the sequence numbers says what is lost */
        report(reader->report, 1, "the record in line %" G_GUINT64_FORMAT " is wrong: %s",
               found->line, error->message);
    }
    return FALSE;
}

static void on_snapshot_record(const ScanRecord *found, void *data)
{
    Reader *reader = data;
    Record *record = &reader->record;
    Chain *chain = reader->chain;

    if (reader->other_version)
        return;
    reader->n_bad += found->gap->markers;
    if (!parse(reader, found))
        return;
    if (record->kind == RECORD_OPS && record->sequence == 0) {
        reader->kept++;
        apply_all(reader);
    } else if (record->kind == RECORD_HEAD || record->kind == RECORD_END) {
        chain->boot_id = record->boot_id;
        chain->sequence = record->sequence;
        reader->have_head = TRUE;
        if (record->kind == RECORD_END) {
            reader->have_end = TRUE;
            reader->counts = record->counts;
            if (record->counts.body_bytes != found->offset ||
                record->counts.body_crc != found->crc_before)
                report(reader->report, 0, "its text was changed");
        }
    } else {
        report(reader->report, 0, "a journal's record in line %" G_GUINT64_FORMAT ", ignored",
               found->line);
    }
}

static void on_undo_record(const ScanRecord *found, void *data)
{
    Reader *reader = data;
    Record *record = &reader->record;
    guint64 sequence;

    /* the parser is slow, and nearly all records are of the other kind */
    if (!record_peek_sequence(found->text, found->length, &sequence) ||
        !memmem(found->text, MIN(found->length, RECORD_PREFIX_LENGTH + 40), "\"undo\"", 6) ||
        !record_parse(reader->parser, found->text, found->length, record, NULL) ||
        record->kind != RECORD_UNDO)
        return;
    for (guint i = 0; i < record->undone->len; i++)
        g_hash_table_add(reader->undone,
                         g_memdup2(&g_array_index(record->undone, guint64, i), sizeof(guint64)));
}

/* The records up to @sequence are known: those between the last one and it are missing. */
static void go_on_from(Reader *reader, guint64 sequence)
{
    Chain *chain = reader->chain;

    if (sequence > chain->sequence) {
        guint64 missing = sequence - chain->sequence;

        if (chain->sequence == 0 && !chain->usable)
            /* without a snapshot nobody knows how many of them would matter today */
            report(reader->report, 1, "what came before record %" G_GUINT64_FORMAT " is missing",
                   sequence + 1);
        else
            report(reader->report, (guint)MIN(missing, G_MAXUINT),
                   "records %" G_GUINT64_FORMAT " to %" G_GUINT64_FORMAT " are missing",
                   chain->sequence + 1, sequence);
        chain->sequence = sequence;
    }
}

static void on_journal_head(Reader *reader, const ScanRecord *found)
{
    Record *record = &reader->record;
    Chain *chain = reader->chain;

    if (!parse(reader, found))
        return;
    if (record->kind != RECORD_HEAD) {
        report(reader->report, 0, "not a journal's record in line %" G_GUINT64_FORMAT ", ignored",
               found->line);
        return;
    }
    /* A journal that begins before the snapshot may be of an earlier boot. */
    if (record->sequence >= chain->sequence || chain->boot_id.text[0] == '\0')
        chain->boot_id = record->boot_id;
    go_on_from(reader, record->sequence);
    reader->have_head = TRUE;
}

static void on_journal_record(const ScanRecord *found, void *data)
{
    Reader *reader = data;
    Chain *chain = reader->chain;
    guint64 sequence;

    if (reader->other_version)
        return;
    if (found->gap->length > 0) {
        reader->n_bad += found->gap->markers;
        report(reader->report, 0,
               "%" G_GUINT64_FORMAT " bytes from byte %" G_GUINT64_FORMAT
               " (line %" G_GUINT64_FORMAT ") are not a record",
               found->gap->length, found->gap->offset, found->gap->line);
    }
    if (!record_peek_sequence(found->text, found->length, &sequence)) {
        on_journal_head(reader, found);
        return;
    }
    reader->n_bad = 0;
    if (sequence <= reader->last_sequence) {
        report(reader->report, 0,
               "record %" G_GUINT64_FORMAT " comes after record %" G_GUINT64_FORMAT, sequence,
               reader->last_sequence);
        return;
    }
    reader->last_sequence = sequence;
    if (sequence <= chain->sequence)
        return;
    go_on_from(reader, sequence - 1);
    chain->sequence = sequence;
    if (g_hash_table_contains(reader->undone, &sequence) || !parse(reader, found))
        return;
    apply_all(reader);
}

/* ---- whole files ---- */

/* Returns: FALSE with @error when nothing can be said about the file; else *@ret_fd is -1 where it
 * is not there or cannot be a file of ours. */
static gboolean open_file(Reader *reader, int dir_fd, const char *dir, int *ret_fd, GError **error)
{
    FileReport *file = reader->report;
    AUTO_FD fd = -1;
    struct stat st;

    *ret_fd = -1;
    fd = sys_openat(dir_fd, file->name, O_RDONLY | O_NONBLOCK);
    if (fd == -ENOENT)
        return TRUE;
    file->exists = TRUE;
    if (fd == -ELOOP || fd == -ENXIO || fd == -ENODEV) {
        report(file, 1, "not a regular file");
        return TRUE;
    }
    if (fd < 0) {
        sys_error(error, fd, "open", dir, file->name);
        return FALSE;
    }
    if (fstat(fd, &st) < 0) {
        sys_error(error, errno, "look at", dir, file->name);
        return FALSE;
    }
    if (!S_ISREG(st.st_mode)) {
        report(file, 1, "not a regular file");
        return TRUE;
    }
    *ret_fd = fd_steal(&fd);
    return TRUE;
}

/* Reads the file of ->report in the mode of ->mode. Returns as open_file(). */
static gboolean scan(Reader *reader, int dir_fd, const char *dir, ScanResult *ret_result,
                     GError **error)
{
    static const ScanFunc funcs[] = {
        [READ_SNAPSHOT] = on_snapshot_record,
        [READ_UNDONE] = on_undo_record,
        [READ_JOURNAL] = on_journal_record,
    };
    const Chain *chain = reader->chain;
    gboolean is_growing = reader->report->name == chain->journals[1].name;
    AUTO_FD fd = -1;
    int r;

    *ret_result = (ScanResult){0};
    reader->last_sequence = 0;
    reader->other_version = FALSE;
    reader->n_bad = 0;
    reader->have_head = FALSE;
    if (!open_file(reader, dir_fd, dir, &fd, error))
        return FALSE;
    if (fd < 0)
        return TRUE;
    r = scan_file(fd, is_growing ? reader->journal_bytes : SCAN_BYTES_MAX, funcs[reader->mode],
                  reader, ret_result);
    if (r < 0)
        report(reader->report, 1, "cannot be read to its end: %s", g_strerror(-r));
    if (ret_result->bytes == 0 && r == 0)
        report(reader->report, reader->mode == READ_SNAPSHOT, "empty");
    if (ret_result->too_large)
        report(reader->report, 1, "larger than %d bytes, the rest was not read", SCAN_BYTES_MAX);
    return TRUE;
}

/* Nothing in it can be read: perhaps because it was never meant to be read by us. */
static void look_for_version(Reader *reader, const ScanResult *result)
{
    static const char prefix[] = "{\"version\":";
    gint64 version;

    if (!g_str_has_prefix(result->start, prefix))
        return;
    version = g_ascii_strtoll(result->start + strlen(prefix), NULL, 10);
    if (version == RECORD_VERSION)
        return;
    reader->other_version = TRUE;
    report(reader->report, 1,
           "written in version %" G_GINT64_FORMAT " of the format, this program reads version %d",
           version, RECORD_VERSION);
}

static gboolean read_snapshot(Reader *reader, int dir_fd, const char *dir, GError **error)
{
    Chain *chain = reader->chain;
    FileReport *file = &chain->snapshot;
    ScanResult result;
    guint64 expected;

    reader->mode = READ_SNAPSHOT;
    reader->report = file;
    if (!scan(reader, dir_fd, dir, &result, error))
        return FALSE;
    if (result.bytes == 0)
        return TRUE;
    if (!reader->have_head && !reader->other_version)
        look_for_version(reader, &result);
    if (reader->other_version) {
        /* what was taken for records before may mean something else there */
        free_tables(chain);
        make_tables(chain);
        chain->boot_id = (Id){""};
        chain->sequence = 0;
        return TRUE;
    }
    chain->usable = reader->have_head;
    expected = reader->counts.allocations + reader->counts.sticky + reader->counts.chunks;
    if (!reader->have_end)
        report(file, MAX(reader->n_bad + result.tail.markers, 1), "its end is missing");
    else if (expected > reader->kept && expected - reader->kept > file->lost)
        report(file, (guint)MIN(expected - reader->kept - file->lost, G_MAXUINT),
               "%u of %" G_GUINT64_FORMAT " records are left", reader->kept, expected);
    if (!reader->have_head)
        report(file, 0, "neither its head nor its end can be read");
    return TRUE;
}

static gboolean tail_is_torn(const ScanGap *tail)
{
    return tail->all_nul || (tail->begins_like_record && !tail->has_newline);
}

static gboolean read_journal(Reader *reader, FileReport *file, gboolean is_last, int dir_fd,
                             const char *dir, GError **error)
{
    const ScanGap *tail;
    ScanResult result;

    reader->mode = READ_JOURNAL;
    reader->report = file;
    if (!scan(reader, dir_fd, dir, &result, error))
        return FALSE;
    tail = &result.tail;
    if (reader->other_version || result.bytes == 0)
        return TRUE;
    if (tail->length > 0 && is_last && reader->have_head && tail_is_torn(tail)) {
        reader->chain->torn_tail = TRUE;
        return TRUE;
    }
    if (tail->length > 0)
        /* the records of a bad tail have no successor whose number tells that they are missing */
        report(file, is_last ? MAX(reader->n_bad + tail->markers, 1) : 0,
               "%" G_GUINT64_FORMAT " bytes from byte %" G_GUINT64_FORMAT
               " (line %" G_GUINT64_FORMAT ") to the end are not a record",
               tail->length, tail->offset, tail->line);
    if (!reader->have_head)
        report(file, 0, "its first line is missing");
    return TRUE;
}

static gboolean file_exists(int dir_fd, const char *name)
{
    struct stat st;

    return fstatat(dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0;
}

static gboolean read_files(Reader *reader, int dir_fd, const char *dir, GError **error)
{
    Chain *chain = reader->chain;
    FileReport scratch = {.what = NULL};
    ScanResult ignored;

    if (!read_snapshot(reader, dir_fd, dir, error))
        return FALSE;
    for (guint i = 0; i < 2; i++) {
        scratch = (FileReport){.name = chain->journals[i].name, .what = g_string_new(NULL)};
        reader->mode = READ_UNDONE;
        reader->report = &scratch;
        if (!scan(reader, dir_fd, dir, &ignored, error)) {
            (void)g_string_free(scratch.what, TRUE);
            return FALSE;
        }
        (void)g_string_free(scratch.what, TRUE);
    }
    for (guint i = 0; i < 2; i++)
        if (!read_journal(reader, &chain->journals[i], i == 1 || !file_exists(dir_fd, FILE_JOURNAL),
                          dir_fd, dir, error))
            return FALSE;
    if (!chain->snapshot.exists && (chain->journals[0].exists || chain->journals[1].exists))
        report(&chain->snapshot, 0, "missing, though there is a journal");
    return TRUE;
}

Chain *chain_read(int dir_fd, const char *dir, const char *snapshot_name, const ChainLimits *limits,
                  GError **error)
{
    g_autoptr(Chain) chain = g_new0(Chain, 1);
    g_autoptr(RecordParser) parser = record_parser_new();
    g_autoptr(GHashTable) undone = NULL;
    Reader reader = {.chain = chain,
                     .parser = parser,
                     .journal_bytes = limits ? limits->journal_bytes : SCAN_BYTES_MAX};
    gboolean ok;

    chain->snapshot = (FileReport){.name = snapshot_name, .what = g_string_new(NULL)};
    chain->journals[0] = (FileReport){.name = FILE_JOURNAL_OLD, .what = g_string_new(NULL)};
    chain->journals[1] = (FileReport){.name = FILE_JOURNAL, .what = g_string_new(NULL)};
    make_tables(chain);
    undone = g_hash_table_new_full(g_int64_hash, g_int64_equal, g_free, NULL);
    reader.undone = undone;
    record_init(&reader.record);
    reader.record.unshared = limits && limits->unshared;
    ok = read_files(&reader, dir_fd, dir, error);
    record_clear(&reader.record);
    return ok ? g_steal_pointer(&chain) : NULL;
}

Chain *chain_free(Chain *chain)
{
    if (!chain)
        return NULL;
    (void)g_string_free(chain->snapshot.what, TRUE);
    for (guint i = 0; i < 2; i++)
        (void)g_string_free(chain->journals[i].what, TRUE);
    free_tables(chain);
    g_free(chain);
    return NULL;
}

guint chain_lost(const Chain *chain)
{
    guint64 lost =
        (guint64)chain->snapshot.lost + chain->journals[0].lost + chain->journals[1].lost;

    return (guint)MIN(lost, G_MAXUINT);
}

gboolean chain_damaged(const Chain *chain)
{
    return chain->snapshot.what->len > 0 || chain->journals[0].what->len > 0 ||
           chain->journals[1].what->len > 0;
}
