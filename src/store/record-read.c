/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Reading one record. A checksum that holds says that the bytes are as they were written, not that
 * a friend wrote them: the JSON is checked to the letter, with bounds on length and depth, and
 * every member for its type and bounds.
 */
#include <string.h>

#include "store/crc32c.h"
#include "store/record-members.h"

G_DEFINE_QUARK(styxy - record - error - quark, record_error)

#define OPS_MAX 4096

RecordParser *record_parser_new(void)
{
    RecordParser *parser = g_new0(RecordParser, 1);

    tokens_init(&parser->tokens);
    return parser;
}

RecordParser *record_parser_free(RecordParser *parser)
{
    if (!parser)
        return NULL;
    tokens_clear(&parser->tokens);
    g_free(parser);
    return NULL;
}

static void clear_op(void *data)
{
    RecordOp *op = data;

    lease_unref(op->lease);
    g_free(op->service_type);
    g_free(op->instance);
}

void record_init(Record *record)
{
    *record = (Record){
        .ops = g_array_new(FALSE, TRUE, sizeof(RecordOp)),
        .undone = g_array_new(FALSE, FALSE, sizeof(guint64)),
    };
    g_array_set_clear_func(record->ops, clear_op);
}

void record_clear(Record *record)
{
    g_clear_pointer(&record->ops, g_array_unref);
    g_clear_pointer(&record->undone, g_array_unref);
    g_clear_pointer(&record->unknown_key, g_free);
}

static void record_reset(Record *record)
{
    g_array_set_size(record->ops, 0);
    g_array_set_size(record->undone, 0);
    g_clear_pointer(&record->unknown_key, g_free);
    record->sequence = 0;
    record->version = 0;
    record->boot_id = (Id){""};
    record->counts = (RecordCounts){0};
}

gboolean record_verify(const char *text, size_t length)
{
    guint32 stored = 0;

    if (length <= RECORD_PREFIX_LENGTH || length > RECORD_BYTES_MAX || text[length - 1] != '}' ||
        memcmp(text, RECORD_MARKER, RECORD_MARKER_LENGTH) != 0 ||
        memcmp(text + RECORD_PREFIX_LENGTH - 2, "\",", 2) != 0)
        return FALSE;
    for (guint i = 0; i < 8; i++) {
        char c = text[RECORD_MARKER_LENGTH + i];

        /* upper case is not what was written, so it is damage */
        if (!g_ascii_isdigit(c) && !(c >= 'a' && c <= 'f'))
            return FALSE;
        stored = stored << 4 | (guint32)g_ascii_xdigit_value(c);
    }
    return stored == crc32c(0, text + RECORD_PREFIX_LENGTH, length - RECORD_PREFIX_LENGTH);
}

gboolean record_peek_sequence(const char *text, size_t length, guint64 *ret_sequence)
{
    static const char key[] = "\"seq\":";
    size_t i = RECORD_PREFIX_LENGTH + sizeof(key) - 1;
    guint64 sequence = 0;

    if (length <= i || memcmp(text + RECORD_PREFIX_LENGTH, key, sizeof(key) - 1) != 0)
        return FALSE;
    for (; i < length && g_ascii_isdigit(text[i]); i++) {
        sequence = sequence * 10 + (guint64)(text[i] - '0');
        if (sequence > RECORD_SEQUENCE_MAX)
            return FALSE;
    }
    if (i == length || text[i] != ',' || sequence == 0)
        return FALSE;
    *ret_sequence = sequence;
    return TRUE;
}

void record_note_unknown(Record *record, const char *key)
{
    if (!record->unknown_key)
        record->unknown_key = g_strdup(key);
}

gboolean record_get_id(const Tokens *tokens, guint i, const char *key, Id *ret_id, GError **error)
{
    const char *text = tokens_get_string(tokens, i, key, error);

    if (!text)
        return FALSE;
    if (!id_is_valid(text)) {
        INVALID(error, "\"%s\" is not an id", key);
        return FALSE;
    }
    memcpy(ret_id->text, text, ID_LENGTH + 1);
    return TRUE;
}

static gboolean is_array(const Tokens *tokens, guint i)
{
    return tokens_get(tokens, i)->kind == JSON_EVENT_ARRAY;
}

static gboolean is_object(const Tokens *tokens, guint i)
{
    return tokens_get(tokens, i)->kind == JSON_EVENT_OBJECT;
}

/* ---- what is not a lease: the end of one, a sticky port, a chunk ---- */

static gboolean read_range(const Tokens *tokens, guint array, const char *key, PortRange *ret_range,
                           GError **error)
{
    gboolean good = is_array(tokens, array);
    guint64 ports[2] = {0};
    guint n = 0;

    if (good) {
        TOKENS_FOREACH (tokens, i, array) {
            good = good && n < 2 &&
                   tokens_get_uint(tokens, i, key, MAX(ports[0], 1), 65535, &ports[n], NULL);
            n++;
        }
    }
    if (!good || n != 2) {
        INVALID(error, "\"%s\" is not [first, last]", key);
        return FALSE;
    }
    *ret_range = (PortRange){(guint16)ports[0], (guint16)ports[1]};
    return TRUE;
}

static gboolean read_fact_member(const Tokens *tokens, guint i, Record *record, RecordOp *op,
                                 GError **error)
{
    const char *key = tokens_key(tokens, i);

    if (IS("lease"))
        return record_get_id(tokens, i, key, &op->lease_id, error);
    if (IS("uid"))
        GET_UINT(0, G_MAXUINT32, op->uid);
    if (IS("service_type"))
        GET_VALID(service_type_is_valid, g_strdup, op->service_type);
    if (IS("instance"))
        GET_VALID(instance_is_valid, g_strdup, op->instance);
    if (IS("sticky_port") || IS("port"))
        GET_UINT(1, 65535, op->port);
    if (IS("chunk"))
        return read_range(tokens, i, key, &op->range, error);
    if (!IS("reason") && !IS("crc"))
        record_note_unknown(record, key);
    return TRUE;
}

static gboolean read_fact(const Tokens *tokens, guint object, Record *record, StoreOpKind kind,
                          RecordOp *op, GError **error)
{
    const char *missing;

    op->kind = kind;
    TOKENS_FOREACH (tokens, i, object)
        if (!read_fact_member(tokens, i, record, op, error))
            return FALSE;
    if (kind == STORE_DROP_LEASE)
        missing = op->lease_id.text[0] == '\0' ? "lease" : NULL;
    else if (!op->service_type)
        missing = "service_type";
    else if (kind == STORE_PUT_CHUNK)
        missing = !port_range_is_set(op->range) ? "chunk" : NULL;
    else
        missing = !op->instance ? "instance" : op->port == 0 ? "sticky_port" : NULL;
    if (missing)
        INVALID(error, "\"%s\" is missing", missing);
    return missing == NULL;
}

/* ---- the journal's records ---- */

static RecordOp *add_op(Record *record)
{
    RecordOp empty = {0};

    g_array_append_val(record->ops, empty);
    return &g_array_index(record->ops, RecordOp, record->ops->len - 1);
}

static gboolean read_op_member(const Tokens *tokens, guint i, Record *record, GError **error)
{
    static const struct {
        const char *key;
        StoreOpKind kind;
    } kinds[] = {
        {"put_lease", STORE_PUT_LEASE},   {"drop_lease", STORE_DROP_LEASE},
        {"put_sticky", STORE_PUT_STICKY}, {"drop_sticky", STORE_DROP_STICKY},
        {"put_chunk", STORE_PUT_CHUNK},
    };
    const char *key = tokens_key(tokens, i);
    size_t k = 0;

    while (k < G_N_ELEMENTS(kinds) && !IS(kinds[k].key))
        k++;
    if (k == G_N_ELEMENTS(kinds)) {
        record_note_unknown(record, key);
        return TRUE;
    }
    if (!is_object(tokens, i)) {
        INVALID(error, "\"%s\" is not an object", key);
        return FALSE;
    }
    if (kinds[k].kind == STORE_PUT_LEASE)
        return record_read_lease(tokens, i, record, add_op(record), error);
    return read_fact(tokens, i, record, kinds[k].kind, add_op(record), error);
}

static gboolean read_ops(const Tokens *tokens, guint array, Record *record, GError **error)
{
    TOKENS_FOREACH (tokens, i, array) {
        if (!is_object(tokens, i) || record->ops->len >= OPS_MAX) {
            INVALID(error, "\"ops\" is too long or holds something that is not an object");
            return FALSE;
        }
        TOKENS_FOREACH (tokens, j, i)
            if (!read_op_member(tokens, j, record, error))
                return FALSE;
    }
    return TRUE;
}

static gboolean read_undone(const Tokens *tokens, guint array, Record *record, GError **error)
{
    TOKENS_FOREACH (tokens, i, array) {
        guint64 sequence;

        if (!tokens_get_uint(tokens, i, "undo", 1, RECORD_SEQUENCE_MAX, &sequence, error))
            return FALSE;
        g_array_append_val(record->undone, sequence);
    }
    return TRUE;
}

static gboolean read_journal_member(const Tokens *tokens, guint i, Record *record, GError **error)
{
    const char *key = tokens_key(tokens, i);

    if (IS("seq"))
        GET_UINT(1, RECORD_SEQUENCE_MAX, record->sequence);
    if (IS("ops") || IS("undo")) {
        record->kind = IS("ops") ? RECORD_OPS : RECORD_UNDO;
        if (is_array(tokens, i))
            return IS("ops") ? read_ops(tokens, i, record, error)
                             : read_undone(tokens, i, record, error);
        INVALID(error, "\"%s\" is not an array", key);
        return FALSE;
    }
    if (!IS("crc"))
        record_note_unknown(record, key);
    return TRUE;
}

/* ---- heads and ends ---- */

static gboolean read_checksum(const Tokens *tokens, guint i, const char *key, guint32 *ret_value,
                              GError **error)
{
    const char *text = tokens_get_string(tokens, i, key, error);
    guint64 value;

    if (!text)
        return FALSE;
    if (strlen(text) != 8 || !g_ascii_string_to_unsigned(text, 16, 0, G_MAXUINT32, &value, NULL)) {
        INVALID(error, "\"%s\" is not a checksum", key);
        return FALSE;
    }
    *ret_value = (guint32)value;
    return TRUE;
}

static gboolean read_head_member(const Tokens *tokens, guint i, Record *record, GError **error)
{
    const char *key = tokens_key(tokens, i);
    RecordCounts *counts = &record->counts;

    if (IS("boot_id"))
        return record_get_id(tokens, i, key, &record->boot_id, error);
    if (IS("sequence"))
        GET_UINT(0, RECORD_SEQUENCE_MAX, record->sequence);
    if (IS("allocations"))
        GET_UINT(0, G_MAXINT32, counts->allocations);
    if (IS("sticky"))
        GET_UINT(0, G_MAXINT32, counts->sticky);
    if (IS("chunks"))
        GET_UINT(0, G_MAXINT32, counts->chunks);
    if (IS("body_bytes"))
        GET_UINT(0, G_MAXINT64, counts->body_bytes);
    if (IS("body_crc")) {
        record->kind = RECORD_END;
        return read_checksum(tokens, i, key, &counts->body_crc, error);
    }
    if (!IS("version") && !IS("crc"))
        record_note_unknown(record, key);
    return TRUE;
}

static gboolean read_head(const Tokens *tokens, guint version_token, Record *record, GError **error)
{
    guint64 version;

    record->kind = RECORD_HEAD;
    /* first of all: another version's other members may mean anything */
    if (!tokens_get_uint(tokens, version_token, "version", 0, G_MAXINT64, &version, error))
        return FALSE;
    record->version = (gint64)version;
    if (version != RECORD_VERSION) {
        g_set_error(error, RECORD_ERROR, RECORD_ERROR_VERSION,
                    "written in version %" G_GUINT64_FORMAT
                    " of the format, this program reads version %d",
                    version, RECORD_VERSION);
        return FALSE;
    }
    TOKENS_FOREACH (tokens, i, 0)
        if (!read_head_member(tokens, i, record, error))
            return FALSE;
    return TRUE;
}

gboolean record_parse(RecordParser *parser, const char *text, size_t length, Record *record,
                      GError **error)
{
    const Tokens *tokens = &parser->tokens;
    g_autoptr(GError) json_error = NULL;
    guint i;

    record_reset(record);
    if (length > RECORD_BYTES_MAX || !tokens_read(&parser->tokens, text, length, &json_error)) {
        INVALID(error, "not JSON: %s", json_error ? json_error->message : "too long");
        return FALSE;
    }
    if (!is_object(tokens, 0)) {
        INVALID(error, "not a JSON object");
        return FALSE;
    }
    i = tokens_find(tokens, 0, "version");
    if (i > 0)
        return read_head(tokens, i, record, error);
    record->kind = RECORD_OPS;
    if (tokens_find(tokens, 0, "seq") > 0) {
        TOKENS_FOREACH (tokens, j, 0)
            if (!read_journal_member(tokens, j, record, error))
                return FALSE;
        return TRUE;
    }
    if (tokens_find(tokens, 0, "lease") > 0)
        return record_read_lease(tokens, 0, record, add_op(record), error);
    if (tokens_find(tokens, 0, "sticky_port") > 0)
        return read_fact(tokens, 0, record, STORE_PUT_STICKY, add_op(record), error);
    if (tokens_find(tokens, 0, "chunk") > 0)
        return read_fact(tokens, 0, record, STORE_PUT_CHUNK, add_op(record), error);
    INVALID(error, "neither a lease nor anything else that is known");
    return FALSE;
}
