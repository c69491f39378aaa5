/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "core/chunks.h"

typedef enum RecordState {
    RECORD_CLAIMED,
    RECORD_KNOWN,
    RECORD_GONE, /* given up while claims were open; in no table */
} RecordState;

typedef struct Record {
    Chunk chunk; /* service_type is a GRefString owned here; uid counts once it is known */
    RecordState state;
    GPtrArray *claims; /* of ChunkClaim *, borrowed: all open claims, whatever the state */
} Record;

struct ChunkClaim {
    Chunks *chunks;
    Record *record;
    uid_t uid;
};

struct Chunks {
    Charges *charges;    /* borrowed */
    GHashTable *records; /* type -> Record *, claimed and known */
    PortSet configured;
    PortSet used;
};

/* The charge of a claim is the uid's, not the claim's: two of one user cost one. */
static gboolean has_claim_of(const Record *record, uid_t uid)
{
    for (guint i = 0; i < record->claims->len; i++)
        if (((const ChunkClaim *)record->claims->pdata[i])->uid == uid)
            return TRUE;
    return FALSE;
}

static void drop_claim_charges(Chunks *chunks, const Record *record)
{
    for (guint i = 0; i < record->claims->len; i++) {
        uid_t uid = ((const ChunkClaim *)record->claims->pdata[i])->uid;
        gboolean seen = FALSE;

        for (guint j = 0; j < i && !seen; j++)
            seen = ((const ChunkClaim *)record->claims->pdata[j])->uid == uid;
        if (!seen)
            charges_drop(chunks->charges, uid, CHARGE_AUTO_TYPES, 1);
    }
}

static Record *record_new(Chunks *chunks, const char *service_type, PortRange range)
{
    Record *record = g_new0(Record, 1);

    record->chunk.service_type = g_ref_string_new_intern(service_type);
    record->chunk.range = range;
    record->state = RECORD_CLAIMED;
    record->claims = g_ptr_array_new();
    g_hash_table_insert(chunks->records, (char *)record->chunk.service_type, record);
    port_set_add_range(&chunks->used, range);
    return record;
}

static void record_free(Record *record)
{
    g_assert(record->claims->len == 0);
    g_ref_string_release((char *)record->chunk.service_type);
    g_ptr_array_unref(record->claims);
    g_free(record);
}

/* Takes the charges and the ports back; the record itself lives on while claims point to it. */
static void give_up(Chunks *chunks, Record *record)
{
    if (record->state == RECORD_CLAIMED)
        drop_claim_charges(chunks, record);
    else
        charges_drop(chunks->charges, record->chunk.uid, CHARGE_AUTO_TYPES, 1);
    port_set_remove_range(&chunks->used, record->chunk.range);
    record->state = RECORD_GONE;
    if (record->claims->len == 0)
        record_free(record);
}

Chunks *chunks_new(Charges *charges)
{
    Chunks *chunks = g_new0(Chunks, 1);

    chunks->charges = charges;
    chunks->records = g_hash_table_new(g_str_hash, g_str_equal);
    return chunks;
}

Chunks *chunks_free(Chunks *chunks)
{
    GHashTableIter iter;
    void *record;

    if (!chunks)
        return NULL;
    g_hash_table_iter_init(&iter, chunks->records);
    while (g_hash_table_iter_next(&iter, NULL, &record)) {
        g_hash_table_iter_steal(&iter);
        record_free(record);
    }
    g_hash_table_unref(chunks->records);
    g_free(chunks);
    return NULL;
}

static gboolean overlaps_set(const PortSet *set, PortRange range)
{
    return port_sets_find_member(&set, 1, range.first) <= range.last;
}

void chunks_set_configuration(Chunks *chunks, const Configuration *config)
{
    GHashTableIter iter;
    void *value;

    chunks->configured = (PortSet){0};
    for (guint i = 0; i < config->service_types->len; i++)
        port_set_add_range(&chunks->configured,
                           ((const ServiceType *)config->service_types->pdata[i])->range);

    g_hash_table_iter_init(&iter, chunks->records);
    while (g_hash_table_iter_next(&iter, NULL, &value)) {
        Record *record = value;

        if (!configuration_find_type(config, record->chunk.service_type) &&
            !overlaps_set(&chunks->configured, record->chunk.range))
            continue;
        g_hash_table_iter_steal(&iter);
        give_up(chunks, record);
    }
}

gboolean chunks_find_known(const Chunks *chunks, const char *service_type, PortRange *ret_range)
{
    const Record *record = g_hash_table_lookup(chunks->records, service_type);

    if (!record || record->state != RECORD_KNOWN)
        return FALSE;
    *ret_range = record->chunk.range;
    return TRUE;
}

gboolean chunks_propose(const Chunks *chunks, const Configuration *config, const char *service_type,
                        PortRange *ret_range)
{
    const PortSet *const sets[] = {&chunks->configured, &chunks->used};
    const Record *record = g_hash_table_lookup(chunks->records, service_type);
    PortRange room = config->auto_range;
    guint size;
    guint16 first;

    if (record) {
        *ret_range = record->chunk.range;
        return TRUE;
    }
    room.first = MAX(room.first, 1024);
    if (!port_range_is_valid(room))
        return FALSE;
    size = MAX(configuration_chunk_size(config, service_type), 1);
    first = port_sets_find_free(sets, G_N_ELEMENTS(sets), room, size);
    if (first == 0)
        return FALSE;
    *ret_range = (PortRange){first, (guint16)(first + size - 1)};
    return TRUE;
}

gboolean chunks_is_charged(const Chunks *chunks, const char *service_type, uid_t uid)
{
    const Record *record = g_hash_table_lookup(chunks->records, service_type);

    return record &&
           (record->state == RECORD_KNOWN ? record->chunk.uid == uid : has_claim_of(record, uid));
}

ChunkClaim *chunks_claim(Chunks *chunks, const char *service_type, PortRange range, uid_t uid)
{
    ChunkClaim *claim = g_new0(ChunkClaim, 1);
    Record *record = g_hash_table_lookup(chunks->records, service_type);

    if (!record)
        record = record_new(chunks, service_type, range);
    g_assert(record->state == RECORD_CLAIMED && record->chunk.range.first == range.first &&
             record->chunk.range.last == range.last);
    if (!has_claim_of(record, uid))
        charges_add(chunks->charges, uid, CHARGE_AUTO_TYPES, 1);
    *claim = (ChunkClaim){chunks, record, uid};
    g_ptr_array_add(record->claims, claim);
    return claim;
}

gboolean chunk_claim_is_open(const ChunkClaim *claim, PortRange *ret_range)
{
    if (claim->record->state != RECORD_CLAIMED)
        return FALSE;
    *ret_range = claim->record->chunk.range;
    return TRUE;
}

void chunk_claim_confirm(ChunkClaim *claim)
{
    Record *record = claim->record;

    if (record->state != RECORD_CLAIMED)
        return;
    drop_claim_charges(claim->chunks, record);
    charges_add(claim->chunks->charges, claim->uid, CHARGE_AUTO_TYPES, 1);
    record->chunk.uid = claim->uid;
    record->state = RECORD_KNOWN;
}

ChunkClaim *chunk_claim_free(ChunkClaim *claim)
{
    Record *record;
    Chunks *chunks;

    if (!claim)
        return NULL;
    record = claim->record;
    chunks = claim->chunks;
    g_ptr_array_remove_fast(record->claims, claim);
    if (record->state == RECORD_CLAIMED) {
        if (!has_claim_of(record, claim->uid))
            charges_drop(chunks->charges, claim->uid, CHARGE_AUTO_TYPES, 1);
        if (record->claims->len == 0) {
            g_hash_table_steal(chunks->records, record->chunk.service_type);
            give_up(chunks, record);
        }
    } else if (record->state == RECORD_GONE && record->claims->len == 0) {
        record_free(record);
    }
    g_free(claim);
    return NULL;
}

gboolean chunks_insert(Chunks *chunks, const Configuration *config, const Chunk *chunk)
{
    Record *record;

    if (!service_type_is_valid(chunk->service_type) || !port_range_is_valid(chunk->range) ||
        chunk->range.first < 1024 || configuration_find_type(config, chunk->service_type) ||
        g_hash_table_contains(chunks->records, chunk->service_type) ||
        overlaps_set(&chunks->configured, chunk->range) ||
        overlaps_set(&chunks->used, chunk->range))
        return FALSE;
    record = record_new(chunks, chunk->service_type, chunk->range);
    record->state = RECORD_KNOWN;
    record->chunk.uid = chunk->uid;
    charges_add(chunks->charges, chunk->uid, CHARGE_AUTO_TYPES, 1);
    return TRUE;
}

void chunks_foreach(const Chunks *chunks, void (*func)(const Chunk *chunk, void *data), void *data)
{
    GHashTableIter iter;
    void *record;

    g_hash_table_iter_init(&iter, chunks->records);
    while (g_hash_table_iter_next(&iter, NULL, &record))
        if (((const Record *)record)->state == RECORD_KNOWN)
            func(&((const Record *)record)->chunk, data);
}
