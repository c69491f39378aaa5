/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "store/snapshot-text.h"

#include "store/crc32c.h"

typedef struct Singleton {
    Id lease;
    guint16 port;
} Singleton;

/* Counts what was not counted yet as body: the end record says how much came before it. */
static void count_body(SnapshotText *snapshot, size_t from)
{
    RecordCounts *counts = &snapshot->counts;
    GString *text = snapshot->text;

    counts->body_crc = crc32c(counts->body_crc, text->str + from, text->len - from);
    counts->body_bytes += text->len - from;
}

SnapshotText *snapshot_text_new(const StoreSource *source, const Id *boot_id, guint64 sequence)
{
    SnapshotText *snapshot = g_new0(SnapshotText, 1);
    g_autoptr(GDateTime) now = g_date_time_new_now_utc();
    g_autofree char *written = g_date_time_format(now, "%Y-%m-%dT%H:%M:%SZ");

    snapshot->source = source;
    snapshot->boot_id = *boot_id;
    snapshot->sequence = sequence;
    snapshot->singletons = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
    snapshot->text = g_string_sized_new(64 * 1024);
    g_string_printf(snapshot->text,
                    "{\"version\":%d,\"boot_id\":\"%s\",\"written\":\"%s\",\n\"head\":",
                    RECORD_VERSION, boot_id->text, written);
    record_write_head(snapshot->text, boot_id, sequence);
    g_string_append(snapshot->text, ",\n\"allocations\":[");
    count_body(snapshot, 0);
    return snapshot;
}

SnapshotText *snapshot_text_free(SnapshotText *snapshot)
{
    if (!snapshot)
        return NULL;
    (void)g_string_free(snapshot->text, TRUE);
    g_hash_table_unref(snapshot->singletons);
    g_clear_pointer(&snapshot->sticky, g_array_unref);
    g_clear_pointer(&snapshot->strings, g_string_chunk_free);
    g_free(snapshot);
    return NULL;
}

/* Between two records of a list. */
static void separate(SnapshotText *snapshot, guint64 *count)
{
    g_string_append(snapshot->text, *count > 0 ? ",\n" : "\n");
    (*count)++;
}

static void add_lease(SnapshotText *snapshot, const Lease *lease)
{
    const StoreSource *source = snapshot->source;

    separate(snapshot, &snapshot->counts.allocations);
    record_write_lease(snapshot->text, lease);
    if (lease->service_type && source->is_singleton(source->data, lease->service_type)) {
        Singleton *singleton = g_new0(Singleton, 1);

        /* A type may come twice while its lease is replaced between two steps: the later counts. */
        singleton->lease = lease->id;
        singleton->port = lease->port;
        g_hash_table_replace(snapshot->singletons, g_strdup(lease->service_type), singleton);
    }
}

static void collect_sticky(const StickyPort *sticky, void *data)
{
    SnapshotText *snapshot = data;
    StickyPort copy = *sticky;

    copy.service_type = g_string_chunk_insert_const(snapshot->strings, sticky->service_type);
    copy.instance = g_string_chunk_insert(snapshot->strings, sticky->instance);
    g_array_append_val(snapshot->sticky, copy);
}

static void add_chunk(const Chunk *chunk, void *data)
{
    SnapshotText *snapshot = data;

    separate(snapshot, &snapshot->counts.chunks);
    record_write_chunk(snapshot->text, chunk);
}

static void add_singletons(SnapshotText *snapshot)
{
    GString *text = snapshot->text;
    const char *comma = "";
    void *service_type, *value;
    GHashTableIter iter;

    g_hash_table_iter_init(&iter, snapshot->singletons);
    while (g_hash_table_iter_next(&iter, &service_type, &value)) {
        const Singleton *singleton = value;

        g_string_append(text, comma);
        g_string_append_c(text, '\n');
        record_append_string(text, service_type);
        g_string_append_printf(text, ":{\"lease\":\"%s\",\"port\":%u}", singleton->lease.text,
                               singleton->port);
        comma = ",";
    }
}

static gboolean step_leases(SnapshotText *snapshot, guint n)
{
    const StoreSource *source = snapshot->source;

    for (guint i = 0; i < n; i++) {
        const Lease *lease = source->next_lease(source->data, &snapshot->cursor);

        if (!lease)
            return FALSE;
        add_lease(snapshot, lease);
    }
    return TRUE;
}

static gboolean step_sticky(SnapshotText *snapshot, guint n)
{
    for (guint i = 0; i < n; i++) {
        guint at = (guint)snapshot->counts.sticky;

        if (at == snapshot->sticky->len)
            return FALSE;
        separate(snapshot, &snapshot->counts.sticky);
        record_write_sticky(snapshot->text, &g_array_index(snapshot->sticky, StickyPort, at));
    }
    return TRUE;
}

/* Returns: FALSE when only the end is missing. */
static gboolean step(SnapshotText *snapshot, guint n)
{
    const StoreSource *source = snapshot->source;
    GString *text = snapshot->text;

    if (!snapshot->sticky) {
        if (step_leases(snapshot, n))
            return TRUE;
        g_string_append(text, "\n],\n\"singletonServices\":{");
        add_singletons(snapshot);
        g_string_append(text, "\n},\n\"sticky\":[");
        snapshot->sticky = g_array_new(FALSE, FALSE, sizeof(StickyPort));
        snapshot->strings = g_string_chunk_new(4096);
        source->foreach_sticky(source->data, collect_sticky, snapshot);
        return TRUE;
    }
    if (step_sticky(snapshot, n))
        return TRUE;
    g_string_append(text, "\n],\n\"chunks\":[");
    source->foreach_chunk(source->data, add_chunk, snapshot);
    g_string_append(text, "\n],\n\"end\":");
    return FALSE;
}

gboolean snapshot_text_step(SnapshotText *snapshot, guint n)
{
    size_t from = snapshot->text->len;
    gboolean more = step(snapshot, n);

    count_body(snapshot, from);
    if (more)
        return TRUE;
    record_write_end(snapshot->text, &snapshot->boot_id, snapshot->sequence, &snapshot->counts);
    g_string_append(snapshot->text, "}\n");
    return FALSE;
}

GString *snapshot_text_take(SnapshotText *snapshot)
{
    GString *text = snapshot->text;

    if (text->len == 0)
        return NULL;
    snapshot->text = g_string_sized_new(64 * 1024);
    return text;
}
