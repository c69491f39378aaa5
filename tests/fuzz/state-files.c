/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "state-files.h"

#include <fcntl.h>
#include <glib/gstdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../store/fixture.h"
#include "store/chain.h"
#include "store/crc32c.h"
#include "store/files.h"
#include "store/record.h"
#include "store/snapshot-text.h"
#include "util/fd.h"

#define NO_CRC "00000000"
#define NO_BODY "\"body_bytes\":0,\"body_crc\":\"" NO_CRC "\""

static char *folder;

static void empty_folder(void)
{
    g_autoptr(GDir) dir = g_dir_open(folder, 0, NULL);

    for (const char *name; dir && (name = g_dir_read_name(dir));) {
        g_autofree char *path = g_build_filename(folder, name, NULL);

        (void)g_unlink(path);
    }
}

static void remove_folder(void)
{
    empty_folder();
    (void)g_rmdir(folder);
    g_clear_pointer(&folder, g_free);
}

/* In memory where there is such a place: the store syncs, and the disk is not what is tried. */
static void make_folder(void)
{
    if (folder) {
        empty_folder();
        return;
    }
    folder = g_build_filename(g_access("/dev/shm", W_OK) == 0 ? "/dev/shm" : g_get_tmp_dir(),
                              "styxy-fuzz-XXXXXX", NULL);
    if (!g_mkdtemp(folder))
        g_error("no folder can be made for the state");
    (void)atexit(remove_folder);
}

/* ---- checksums ---- */

/* Returns: the length of the record at @text, whose line ends at @end: up to the last brace, or of
 * a snapshot's end the one before it; 0 = it has none. */
static size_t record_length(const GString *text, const char *at, const char *end)
{
    gboolean is_last = at - text->str >= 6 && strncmp(at - 6, "\"end\":", 6) == 0;

    while (end > at && end[-1] != '}')
        end--;
    if (is_last && end > at)
        for (end--; end > at && end[-1] != '}'; end--)
            ;
    return (size_t)(end - at);
}

static void mend_body(GString *text, size_t record)
{
    const char *found = memmem(text->str + record, text->len - record, NO_BODY, strlen(NO_BODY));
    const char *newline = memchr(text->str + record, '\n', text->len - record);
    g_autofree char *body = NULL;
    size_t at;

    if (!found || (newline && found > newline))
        return;
    at = (size_t)(found - text->str);
    body = g_strdup_printf("\"body_bytes\":%zu,\"body_crc\":\"%08x\"", record,
                           crc32c(0, text->str, record));
    g_string_erase(text, (gssize)at, strlen(NO_BODY));
    g_string_insert(text, (gssize)at, body);
}

static void mend_record(GString *text, size_t record)
{
    const char *newline;
    char *at;
    size_t length;

    mend_body(text, record);
    at = text->str + record;
    newline = memchr(at, '\n', text->len - record);
    length = record_length(text, at, newline ? newline : text->str + text->len);
    if (length > RECORD_PREFIX_LENGTH) {
        g_autofree char *crc = g_strdup_printf(
            "%08x", crc32c(0, at + RECORD_PREFIX_LENGTH, length - RECORD_PREFIX_LENGTH));

        memcpy(at + RECORD_MARKER_LENGTH, crc, 8);
    }
}

static GString *mend(const guint8 *data, size_t length)
{
    static const char marker[] = RECORD_MARKER NO_CRC "\",";
    GString *text = g_string_new_len((const char *)data, (gssize)length);
    size_t from = 0;
    const char *at;

    while ((at = memmem(text->str + from, text->len - from, marker, strlen(marker)))) {
        from = (size_t)(at - text->str);
        mend_record(text, from);
        from += strlen(marker);
    }
    return text;
}

/* ---- reading ---- */

/* Contents: what one look at the folder gave; all borrowed from ->chain. */
typedef struct Contents {
    Chain *chain; /* owned */
    GPtrArray *leases;
    GArray *sticky; /* of StickyPort, in order */
    GArray *chunks; /* of Chunk */
} Contents;

static Contents read_folder(void)
{
    AUTO_FD dir_fd = open(folder, O_PATH | O_DIRECTORY | O_CLOEXEC);
    g_autoptr(GError) error = NULL;
    Contents contents = {chain_read(dir_fd, folder, FILE_SNAPSHOT, NULL, &error)};
    GHashTableIter iter;
    void *value;

    g_assert_no_error(error);
    contents.leases = g_ptr_array_new();
    contents.sticky = g_array_new(FALSE, FALSE, sizeof(StickyPort));
    contents.chunks = g_array_new(FALSE, FALSE, sizeof(Chunk));
    g_hash_table_iter_init(&iter, contents.chain->leases);
    while (g_hash_table_iter_next(&iter, NULL, &value))
        g_ptr_array_add(contents.leases, value);
    for (GList *l = contents.chain->sticky_order.head; l; l = l->next)
        g_array_append_vals(contents.sticky, (const StickyPort *)l->data, 1);
    g_hash_table_iter_init(&iter, contents.chain->chunks);
    while (g_hash_table_iter_next(&iter, &value, NULL))
        g_array_append_vals(contents.chunks, value, 1);
    return contents;
}

static void contents_clear(Contents *contents)
{
    g_ptr_array_unref(contents->leases);
    g_array_unref(contents->sticky);
    g_array_unref(contents->chunks);
    (void)chain_free(contents->chain);
}

G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Contents, contents_clear)

static void write_file(const char *name, const GString *text)
{
    g_autofree char *path = g_build_filename(folder, name, NULL);
    g_autoptr(GError) error = NULL;

    (void)g_file_set_contents_full(path, text->str, (gssize)text->len, G_FILE_SET_CONTENTS_NONE,
                                   0600, &error);
    g_assert_no_error(error);
}

/* ---- where it comes from ---- */

/* Returns: the parts of @text that are records, each followed by a NUL. */
static GString *verified_parts(const GString *text)
{
    GString *parts = g_string_new(NULL);
    const char *end = text->str + text->len, *at = text->str;

    while ((at = memmem(at, (size_t)(end - at), RECORD_MARKER, RECORD_MARKER_LENGTH))) {
        const char *from = at++;
        const char *next = memmem(at, (size_t)(end - at), RECORD_MARKER, RECORD_MARKER_LENGTH);

        for (const char *p = from; (p = memchr(p, '}', (size_t)((next ? next : end) - p)));) {
            p++;
            if (!record_verify(from, (size_t)(p - from)))
                continue;
            g_string_append_len(parts, from, p - from);
            g_string_append_c(parts, '\0');
        }
    }
    return parts;
}

static gboolean comes_from(const GString *parts, const char *text)
{
    return memmem(parts->str, parts->len, text, strlen(text)) != NULL;
}

/* @literal: whether names are in the text as they are: no escapes. */
static void check_origin(const Contents *contents, const GString *parts, gboolean literal)
{
    g_autoptr(GHashTable) ids = g_hash_table_new(g_str_hash, g_str_equal);

    for (guint i = 0; i < contents->leases->len; i++) {
        const Lease *lease = contents->leases->pdata[i];
        g_autofree char *port = g_strdup_printf("%u", lease->port);

        g_assert_true(id_is_valid(lease->id.text));
        g_assert_true(g_hash_table_add(ids, (void *)lease->id.text));
        g_assert_true(!literal || comes_from(parts, lease->id.text));
        g_assert_true(comes_from(parts, port));
    }
    for (guint i = 0; literal && i < contents->sticky->len; i++) {
        const StickyPort *sticky = &g_array_index(contents->sticky, StickyPort, i);

        g_assert_true(comes_from(parts, sticky->service_type));
        g_assert_true(comes_from(parts, sticky->instance));
    }
    for (guint i = 0; literal && i < contents->chunks->len; i++)
        g_assert_true(comes_from(parts, g_array_index(contents->chunks, Chunk, i).service_type));
    g_assert_cmpuint(contents->chain->sequence, <=, RECORD_SEQUENCE_MAX);
}

/* ---- what is kept ---- */

static const Lease *next_lease(void *data, guint32 *cursor)
{
    const Contents *contents = data;

    return *cursor < contents->leases->len ? contents->leases->pdata[(*cursor)++] : NULL;
}

static void foreach_sticky(void *data, void (*func)(const StickyPort *sticky, void *func_data),
                           void *func_data)
{
    const Contents *contents = data;

    for (guint i = 0; i < contents->sticky->len; i++)
        func(&g_array_index(contents->sticky, StickyPort, i), func_data);
}

static void foreach_chunk(void *data, void (*func)(const Chunk *chunk, void *func_data),
                          void *func_data)
{
    const Contents *contents = data;

    for (guint i = 0; i < contents->chunks->len; i++)
        func(&g_array_index(contents->chunks, Chunk, i), func_data);
}

static gboolean is_singleton(void *data, const char *service_type)
{
    return service_type && service_type[0] == 'a';
}

static gboolean is_lease_of(const Lease *lease, const StickyPort *sticky)
{
    return lease->uid == sticky->uid && lease->port == sticky->port &&
           g_strcmp0(lease->service_type, sticky->service_type) == 0 &&
           g_strcmp0(lease->instance, sticky->instance) == 0;
}

/* A lease with an instance is remembered anew when it is read, whatever was dropped before. */
static gboolean follows_from_lease(const Contents *contents, const StickyPort *sticky)
{
    for (guint i = 0; i < contents->leases->len; i++)
        if (is_lease_of(contents->leases->pdata[i], sticky))
            return TRUE;
    return FALSE;
}

static gboolean same_sticky(const StickyPort *a, const StickyPort *b)
{
    return a->uid == b->uid && a->port == b->port &&
           g_str_equal(a->service_type, b->service_type) && g_str_equal(a->instance, b->instance);
}

static gboolean has_chunk(const Contents *contents, const Chunk *wanted)
{
    for (guint i = 0; i < contents->chunks->len; i++) {
        const Chunk *chunk = &g_array_index(contents->chunks, Chunk, i);

        if (g_str_equal(chunk->service_type, wanted->service_type))
            return chunk->range.first == wanted->range.first &&
                   chunk->range.last == wanted->range.last && chunk->uid == wanted->uid;
    }
    return FALSE;
}

static void check_kept(const Contents *before, const Contents *after)
{
    g_autoptr(GHashTable) leases = g_hash_table_new(g_str_hash, g_str_equal);
    guint k = 0;

    g_assert_cmpuint(before->leases->len, ==, after->leases->len);
    for (guint i = 0; i < after->leases->len; i++) {
        Lease *lease = after->leases->pdata[i];

        g_hash_table_insert(leases, lease->id.text, lease);
    }
    for (guint i = 0; i < before->leases->len; i++) {
        const Lease *lease = before->leases->pdata[i];
        const Lease *kept = g_hash_table_lookup(leases, lease->id.text);

        g_assert_true(kept && lease_equal(lease, kept));
    }
    /* in the same order, and nothing between them that does not follow from a lease */
    for (guint i = 0; i < after->sticky->len; i++) {
        const StickyPort *sticky = &g_array_index(after->sticky, StickyPort, i);

        if (k < before->sticky->len &&
            same_sticky(sticky, &g_array_index(before->sticky, StickyPort, k)))
            k++;
        else
            g_assert_true(follows_from_lease(before, sticky));
    }
    g_assert_cmpuint(k, ==, before->sticky->len);
    g_assert_cmpuint(before->chunks->len, ==, after->chunks->len);
    for (guint i = 0; i < before->chunks->len; i++)
        g_assert_true(has_chunk(after, &g_array_index(before->chunks, Chunk, i)));
    g_assert_cmpuint(after->chain->sequence, >=, before->chain->sequence);
}

/* Returns: (transfer full): state.json with @contents. */
static GString *snapshot_of(Contents *contents, const Id *boot_id)
{
    const StoreSource source = {next_lease, foreach_sticky, foreach_chunk, is_singleton, contents};
    g_autoptr(SnapshotText) snapshot =
        snapshot_text_new(&source, boot_id, contents->chain->sequence);

    while (snapshot_text_step(snapshot, 16))
        ;
    return snapshot_text_take(snapshot);
}

void state_files_check(const char *name, const guint8 *data, size_t length)
{
    g_autoptr(GString) text = mend(data, length), parts = verified_parts(text);
    g_autoptr(GString) snapshot = NULL, again = NULL;
    gboolean literal = memchr(text->str, '\\', text->len) == NULL;
    Id boot_id = {"00112233445566778899aabbccddeeff"};
    g_auto(Contents) contents = {NULL};
    g_auto(Contents) kept = {NULL};

    make_folder();
    write_file(name, text);
    contents = read_folder();
    g_assert_true(g_utf8_validate(contents.chain->snapshot.what->str, -1, NULL));
    g_assert_true(g_utf8_validate(contents.chain->journals[1].what->str, -1, NULL));
    check_origin(&contents, parts, literal);

    /* As at the next start: a new snapshot in place of what was there. */
    snapshot = snapshot_of(&contents, &boot_id);
    empty_folder();
    write_file(FILE_SNAPSHOT, snapshot);
    kept = read_folder();
    if (chain_damaged(kept.chain))
        g_error("what the store wrote itself: %s", kept.chain->snapshot.what->str);
    g_assert_cmpstr(kept.chain->boot_id.text, ==, boot_id.text);
    check_kept(&contents, &kept);
    again = snapshot_of(&kept, &boot_id);
    g_assert_cmpuint(again->len, >=, snapshot->len);
}
