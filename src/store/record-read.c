/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Reading one record. A checksum that holds says that the bytes are as they were written, not that
 * a friend wrote them: length and depth are bounded before json-glib sees the text (it recurses
 * without a limit), and every member is checked for its type and bounds.
 */
#include "store/record.h"

#include <json-glib/json-glib.h>
#include <string.h>

#include "store/crc32c.h"

G_DEFINE_QUARK(styxy - record - error - quark, record_error)

#define STRING_BYTES_MAX 4096
#define OPS_MAX 4096

struct RecordParser {
    JsonParser *json;
};

RecordParser *record_parser_new(void)
{
    RecordParser *parser = g_new0(RecordParser, 1);

    parser->json = json_parser_new_immutable();
    return parser;
}

RecordParser *record_parser_free(RecordParser *parser)
{
    if (!parser)
        return NULL;
    g_object_unref(parser->json);
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
        if (sequence > G_MAXINT64 / 16)
            return FALSE;
        sequence = sequence * 10 + (guint64)(text[i] - '0');
    }
    if (i == length || text[i] != ',')
        return FALSE;
    *ret_sequence = sequence;
    return TRUE;
}

static gboolean depth_is_fine(const char *text, size_t length)
{
    gboolean in_string = FALSE;
    guint depth = 0;

    for (size_t i = 0; i < length; i++) {
        char c = text[i];

        if (in_string) {
            if (c == '\\')
                i++;
            else if (c == '"')
                in_string = FALSE;
        } else if (c == '"') {
            in_string = TRUE;
        } else if (c == '{' || c == '[') {
            if (++depth > RECORD_DEPTH_MAX)
                return FALSE;
        } else if (c == '}' || c == ']') {
            if (depth-- == 0)
                return FALSE;
        }
    }
    return depth == 0 && !in_string;
}

/* ---- members, each with its type and bounds; the errors name the key ---- */

#define INVALID(error, ...) g_set_error(error, RECORD_ERROR, RECORD_ERROR_INVALID, __VA_ARGS__)

static gboolean get_uint(JsonNode *node, const char *key, guint64 min, guint64 max, guint64 *ret,
                         GError **error)
{
    gint64 value;

    if (!JSON_NODE_HOLDS_VALUE(node) || json_node_get_value_type(node) != G_TYPE_INT64) {
        INVALID(error, "\"%s\" is not a whole number", key);
        return FALSE;
    }
    value = json_node_get_int(node);
    if (value < 0 || (guint64)value < min || (guint64)value > max) {
        INVALID(error,
                "\"%s\" is %" G_GINT64_FORMAT ", not within %" G_GUINT64_FORMAT
                " to %" G_GUINT64_FORMAT,
                key, value, min, max);
        return FALSE;
    }
    *ret = (guint64)value;
    return TRUE;
}

/* Returns: (transfer none): NULL with @error. */
static const char *get_string(JsonNode *node, const char *key, GError **error)
{
    const char *text;

    if (!JSON_NODE_HOLDS_VALUE(node) || json_node_get_value_type(node) != G_TYPE_STRING) {
        INVALID(error, "\"%s\" is not a string", key);
        return NULL;
    }
    text = json_node_get_string(node);
    if (strlen(text) > STRING_BYTES_MAX) {
        INVALID(error, "\"%s\" is too long", key);
        return NULL;
    }
    return text;
}

static const char *get_valid_string(JsonNode *node, const char *key,
                                    gboolean (*is_valid)(const char *), GError **error)
{
    const char *text = get_string(node, key, error);

    if (text && !is_valid(text)) {
        INVALID(error, "\"%s\" is not a valid name", key);
        return NULL;
    }
    return text;
}

static gboolean get_id(JsonNode *node, const char *key, Id *ret_id, GError **error)
{
    const char *text = get_string(node, key, error);

    if (!text)
        return FALSE;
    if (!id_is_valid(text)) {
        INVALID(error, "\"%s\" is not an id", key);
        return FALSE;
    }
    memcpy(ret_id->text, text, ID_LENGTH + 1);
    return TRUE;
}

static void note_unknown(Record *record, const char *key)
{
    if (!record->unknown_key)
        record->unknown_key = g_strdup(key);
}

#define GET_NAME(prefix, Type, field)                        \
    do {                                                     \
        const char *text = get_string(node, key, error);     \
        Type parsed;                                         \
                                                             \
        if (!text)                                           \
            return FALSE;                                    \
        if (!prefix##_from_string(text, &parsed)) {          \
            INVALID(error, "\"%s\" has no such value", key); \
            return FALSE;                                    \
        }                                                    \
        (field) = parsed;                                    \
        return TRUE;                                         \
    } while (0)

#define GET_UINT(min, max, field)                           \
    do {                                                    \
        guint64 number;                                     \
                                                            \
        if (!get_uint(node, key, min, max, &number, error)) \
            return FALSE;                                   \
        (field) = (__typeof__(field))number;                \
        return TRUE;                                        \
    } while (0)

#define GET_STRING(copy, field)                          \
    do {                                                 \
        const char *text = get_string(node, key, error); \
                                                         \
        if (text && !(field))                            \
            (field) = copy(text);                        \
        return text != NULL;                             \
    } while (0)

#define GET_VALID(is_valid, copy, field)                                 \
    do {                                                                 \
        const char *text = get_valid_string(node, key, is_valid, error); \
                                                                         \
        if (text && !(field))                                            \
            (field) = copy(text);                                        \
        return text != NULL;                                             \
    } while (0)

#define IS(name) (strcmp(key, name) == 0)

static gboolean read_lease_member(Record *record, Lease *lease, const char *key, JsonNode *node,
                                  GError **error)
{
    if (IS("lease"))
        return get_id(node, key, &lease->id, error);
    if (IS("port"))
        GET_UINT(1, 65535, lease->port);
    if (IS("protocol"))
        GET_NAME(protocol, Protocol, lease->protocol);
    if (IS("address"))
        GET_STRING(g_strdup, lease->address);
    if (IS("service_type"))
        GET_VALID(service_type_is_valid, g_ref_string_new_intern, lease->service_type);
    if (IS("instance"))
        GET_VALID(instance_is_valid, g_strdup, lease->instance);
    if (IS("label"))
        GET_VALID(label_is_valid, g_strdup, lease->label);
    if (IS("uid"))
        GET_UINT(0, G_MAXUINT32, lease->uid);
    if (IS("pid"))
        GET_UINT(1, G_MAXINT32, lease->process.pid);
    if (IS("start_ticks"))
        GET_UINT(0, G_MAXINT64, lease->process.start_ticks);
    if (IS("pidfd_inode"))
        GET_UINT(0, G_MAXINT64, lease->process.pidfd_inode);
    if (IS("unit"))
        GET_STRING(g_ref_string_new_intern, lease->unit);
    if (IS("lifetime"))
        GET_NAME(lifetime, Lifetime, lease->lifetime);
    if (IS("hold"))
        GET_NAME(hold, Hold, lease->hold);
    if (IS("health"))
        GET_NAME(health, Health, lease->health);
    if (IS("failures"))
        GET_UINT(0, G_MAXUINT32, lease->failures);
    if (IS("ever_seen")) {
        if (!JSON_NODE_HOLDS_VALUE(node) || json_node_get_value_type(node) != G_TYPE_BOOLEAN) {
            INVALID(error, "\"%s\" is not true or false", key);
            return FALSE;
        }
        lease->ever_seen = json_node_get_boolean(node) != FALSE;
        return TRUE;
    }
    if (IS("created_usec"))
        GET_UINT(0, G_MAXINT64, lease->created_usec);
    if (IS("last_seen_usec"))
        GET_UINT(0, G_MAXINT64, lease->last_seen_usec);
    if (IS("expires_usec"))
        GET_UINT(0, G_MAXINT64, lease->expires_usec);
    if (IS("ttl_ms"))
        GET_UINT(0, G_MAXUINT32, lease->ttl_msec);
    if (IS("health_url"))
        GET_STRING(g_strdup, lease->health_url);
    if (IS("health_timeout_ms"))
        GET_UINT(0, G_MAXUINT32, lease->health_timeout_msec);
    if (IS("on_unhealthy"))
        GET_NAME(on_unhealthy, OnUnhealthy, lease->on_unhealthy);
    if (!IS("crc"))
        note_unknown(record, key);
    return TRUE;
}

static gboolean read_lease(Record *record, JsonObject *object, RecordOp *op, GError **error)
{
    g_autoptr(Lease) lease = lease_new();
    JsonObjectIter iter;
    const char *key;
    JsonNode *node;

    json_object_iter_init(&iter, object);
    while (json_object_iter_next(&iter, &key, &node))
        if (!read_lease_member(record, lease, key, node, error))
            return FALSE;
    if (lease->id.text[0] == '\0' || lease->port == 0 || lease->protocol == 0) {
        INVALID(error, "\"%s\" is missing",
                lease->id.text[0] == '\0' ? "lease"
                : lease->port == 0        ? "port"
                                          : "protocol");
        return FALSE;
    }
    op->kind = STORE_PUT_LEASE;
    op->lease = g_steal_pointer(&lease);
    return TRUE;
}

static gboolean read_range(JsonNode *node, const char *key, PortRange *ret_range, GError **error)
{
    JsonArray *array;
    guint64 first, last;

    if (!JSON_NODE_HOLDS_ARRAY(node) || json_array_get_length(json_node_get_array(node)) != 2) {
        INVALID(error, "\"%s\" is not [first, last]", key);
        return FALSE;
    }
    array = json_node_get_array(node);
    if (!get_uint(json_array_get_element(array, 0), key, 1, 65535, &first, error) ||
        !get_uint(json_array_get_element(array, 1), key, first, 65535, &last, error))
        return FALSE;
    *ret_range = (PortRange){(guint16)first, (guint16)last};
    return TRUE;
}

static gboolean read_memory_member(Record *record, RecordOp *op, const char *key, JsonNode *node,
                                   GError **error)
{
    if (IS("lease"))
        return get_id(node, key, &op->lease_id, error);
    if (IS("uid"))
        GET_UINT(0, G_MAXUINT32, op->uid);
    if (IS("service_type"))
        GET_VALID(service_type_is_valid, g_strdup, op->service_type);
    if (IS("instance"))
        GET_VALID(instance_is_valid, g_strdup, op->instance);
    if (IS("sticky_port") || IS("port"))
        GET_UINT(1, 65535, op->port);
    if (IS("chunk"))
        return read_range(node, key, &op->range, error);
    if (!IS("reason") && !IS("crc"))
        note_unknown(record, key);
    return TRUE;
}

/* What is not a lease: the end of one, a sticky port or a chunk. */
static gboolean read_memory(Record *record, JsonObject *object, StoreOpKind kind, RecordOp *op,
                            GError **error)
{
    const char *missing = NULL;
    JsonObjectIter iter;
    const char *key;
    JsonNode *node;

    op->kind = kind;
    json_object_iter_init(&iter, object);
    while (json_object_iter_next(&iter, &key, &node))
        if (!read_memory_member(record, op, key, node, error))
            return FALSE;
    if (kind == STORE_DROP_LEASE)
        missing = op->lease_id.text[0] == '\0' ? "lease" : NULL;
    else if (!op->service_type)
        missing = "service_type";
    else if (kind == STORE_PUT_CHUNK)
        missing = !port_range_is_set(op->range) ? "chunk" : NULL;
    else
        missing = !op->instance ? "instance" : op->port == 0 ? "sticky_port" : NULL;
    if (missing) {
        INVALID(error, "\"%s\" is missing", missing);
        return FALSE;
    }
    return TRUE;
}

static RecordOp *add_op(Record *record)
{
    RecordOp empty = {0};

    g_array_append_val(record->ops, empty);
    return &g_array_index(record->ops, RecordOp, record->ops->len - 1);
}

static gboolean read_op(Record *record, JsonNode *node, GError **error)
{
    static const struct {
        const char *key;
        StoreOpKind kind;
    } kinds[] = {
        {"put_lease", STORE_PUT_LEASE},   {"drop_lease", STORE_DROP_LEASE},
        {"put_sticky", STORE_PUT_STICKY}, {"drop_sticky", STORE_DROP_STICKY},
        {"put_chunk", STORE_PUT_CHUNK},
    };
    JsonObjectIter iter;
    JsonNode *value;
    const char *key;

    if (!JSON_NODE_HOLDS_OBJECT(node)) {
        INVALID(error, "\"ops\" holds something that is not an object");
        return FALSE;
    }
    json_object_iter_init(&iter, json_node_get_object(node));
    while (json_object_iter_next(&iter, &key, &value)) {
        size_t i = 0;

        while (i < G_N_ELEMENTS(kinds) && !IS(kinds[i].key))
            i++;
        if (i == G_N_ELEMENTS(kinds)) {
            note_unknown(record, key);
            continue;
        }
        if (!JSON_NODE_HOLDS_OBJECT(value)) {
            INVALID(error, "\"%s\" is not an object", key);
            return FALSE;
        }
        if (kinds[i].kind == STORE_PUT_LEASE
                ? !read_lease(record, json_node_get_object(value), add_op(record), error)
                : !read_memory(record, json_node_get_object(value), kinds[i].kind, add_op(record),
                               error))
            return FALSE;
    }
    return TRUE;
}

static gboolean read_list(Record *record, const char *key, JsonNode *node, GError **error)
{
    JsonArray *array;
    guint length;

    if (!JSON_NODE_HOLDS_ARRAY(node)) {
        INVALID(error, "\"%s\" is not an array", key);
        return FALSE;
    }
    array = json_node_get_array(node);
    length = json_array_get_length(array);
    if (IS("ops") && length > OPS_MAX) {
        INVALID(error, "\"%s\" is too long", key);
        return FALSE;
    }
    for (guint i = 0; i < length; i++) {
        JsonNode *element = json_array_get_element(array, i);
        guint64 sequence;

        if (IS("ops")) {
            if (!read_op(record, element, error))
                return FALSE;
            continue;
        }
        if (!get_uint(element, key, 1, G_MAXINT64, &sequence, error))
            return FALSE;
        g_array_append_val(record->undone, sequence);
    }
    return TRUE;
}

static gboolean read_journal_record(Record *record, JsonObject *object, GError **error)
{
    gboolean found = FALSE;
    JsonObjectIter iter;
    const char *key;
    JsonNode *node;

    json_object_iter_init(&iter, object);
    while (json_object_iter_next(&iter, &key, &node)) {
        if (IS("seq")) {
            if (!get_uint(node, key, 1, G_MAXINT64, &record->sequence, error))
                return FALSE;
        } else if (IS("ops") || IS("undo")) {
            record->kind = IS("ops") ? RECORD_OPS : RECORD_UNDO;
            found = TRUE;
            if (!read_list(record, key, node, error))
                return FALSE;
        } else if (!IS("crc")) {
            note_unknown(record, key);
        }
    }
    if (!found)
        INVALID(error, "\"ops\" is missing");
    return found;
}

static gboolean read_crc(JsonNode *node, const char *key, guint32 *ret_crc, GError **error)
{
    const char *text = get_string(node, key, error);
    guint64 value;

    if (!text)
        return FALSE;
    if (strlen(text) != 8 || !g_ascii_string_to_unsigned(text, 16, 0, G_MAXUINT32, &value, error)) {
        g_clear_error(error);
        INVALID(error, "\"%s\" is not a checksum", key);
        return FALSE;
    }
    *ret_crc = (guint32)value;
    return TRUE;
}

static gboolean read_head_member(Record *record, const char *key, JsonNode *node, GError **error)
{
    RecordCounts *counts = &record->counts;

    if (IS("boot_id"))
        return get_id(node, key, &record->boot_id, error);
    if (IS("sequence"))
        GET_UINT(0, G_MAXINT64, record->sequence);
    if (IS("allocations"))
        GET_UINT(0, G_MAXINT64, counts->allocations);
    if (IS("sticky"))
        GET_UINT(0, G_MAXINT64, counts->sticky);
    if (IS("chunks"))
        GET_UINT(0, G_MAXINT64, counts->chunks);
    if (IS("body_bytes"))
        GET_UINT(0, G_MAXINT64, counts->body_bytes);
    if (IS("body_crc")) {
        record->kind = RECORD_END;
        return read_crc(node, key, &counts->body_crc, error);
    }
    if (!IS("version") && !IS("crc"))
        note_unknown(record, key);
    return TRUE;
}

static gboolean read_head(Record *record, JsonObject *object, GError **error)
{
    JsonObjectIter iter;
    guint64 version;
    const char *key;
    JsonNode *node;

    record->kind = RECORD_HEAD;
    /* first of all: another version's other members may mean anything */
    if (!get_uint(json_object_get_member(object, "version"), "version", 0, G_MAXINT64, &version,
                  error))
        return FALSE;
    record->version = (gint64)version;
    if (version != RECORD_VERSION) {
        g_set_error(error, RECORD_ERROR, RECORD_ERROR_VERSION,
                    "written in version %" G_GUINT64_FORMAT
                    " of the format, this program reads version %d",
                    version, RECORD_VERSION);
        return FALSE;
    }
    json_object_iter_init(&iter, object);
    while (json_object_iter_next(&iter, &key, &node))
        if (!read_head_member(record, key, node, error))
            return FALSE;
    return TRUE;
}

gboolean record_parse(RecordParser *parser, const char *text, size_t length, Record *record,
                      GError **error)
{
    g_autoptr(GError) json_error = NULL;
    JsonObject *object;
    JsonNode *root;

    record_reset(record);
    if (length > RECORD_BYTES_MAX || !depth_is_fine(text, length) ||
        !g_utf8_validate_len(text, length, NULL)) {
        INVALID(error, "too long, too deep, or not UTF-8");
        return FALSE;
    }
    if (!json_parser_load_from_data(parser->json, text, (gssize)length, &json_error)) {
        INVALID(error, "not JSON: %s", json_error->message);
        return FALSE;
    }
    root = json_parser_get_root(parser->json);
    if (!root || !JSON_NODE_HOLDS_OBJECT(root)) {
        INVALID(error, "not a JSON object");
        return FALSE;
    }
    object = json_node_get_object(root);

    if (json_object_has_member(object, "version"))
        return read_head(record, object, error);
    if (json_object_has_member(object, "seq"))
        return read_journal_record(record, object, error);

    record->kind = RECORD_OPS;
    if (json_object_has_member(object, "lease"))
        return read_lease(record, object, add_op(record), error);
    if (json_object_has_member(object, "sticky_port"))
        return read_memory(record, object, STORE_PUT_STICKY, add_op(record), error);
    if (json_object_has_member(object, "chunk"))
        return read_memory(record, object, STORE_PUT_CHUNK, add_op(record), error);
    INVALID(error, "neither a lease nor anything else that is known");
    return FALSE;
}
