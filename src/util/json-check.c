/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "util/json-check.h"

#include <string.h>

G_DEFINE_QUARK(styxy - json - check - error - quark, json_check_error)

/* Up to this many keys of an object are compared pair by pair; sorting pays for itself only beyond.
 */
#define FEW_KEYS 24

/** Key: the decoded name of a member; @hash only makes most comparisons short. */
typedef struct Key {
    const char *bytes;
    const char *place; /* where in the text it stands */
    guint32 hash;
    guint32 length;
} Key;

typedef struct Frame {
    gboolean object;
    guint first_key; /* its keys begin here in the array of all keys */
} Frame;

typedef enum Expect {
    EXPECT_VALUE,
    EXPECT_VALUE_OR_END, /* after '[' */
    EXPECT_KEY,
    EXPECT_KEY_OR_END, /* after '{' */
    EXPECT_COMMA_OR_END,
    EXPECT_NOTHING,
} Expect;

typedef struct Checker {
    const char *start;
    const char *end;
    const char *p;
    guint line;
    guint max_depth;
    Expect expect;
    GArray *frames;        /* of Frame, the open objects and arrays */
    GArray *keys;          /* of Key, those of all open objects */
    GStringChunk *decoded; /* keys that hold escapes; NULL until there is one */
    JsonCheckFunc on_event;
    void *data;
    GString *text;  /* a decoded string or a number for @on_event */
    GString *key;   /* the name whose value comes next, for @on_event */
    guint key_line; /* 0 = no such name */
} Checker;

static void checker_clear(Checker *c)
{
    g_array_unref(c->frames);
    g_array_unref(c->keys);
    g_clear_pointer(&c->decoded, g_string_chunk_free);
    g_string_free(c->text, TRUE);
    g_string_free(c->key, TRUE);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Checker, checker_clear)

/** fail: @place must lie behind valid UTF-8 only. @key: the member that is meant, or NULL. */
static gboolean fail(Checker *c, JsonCheckError code, const char *place, const char *key,
                     GError **error, const char *format, ...) G_GNUC_PRINTF(6, 7);
static gboolean fail(Checker *c, JsonCheckError code, const char *place, const char *key,
                     GError **error, const char *format, ...)
{
    g_autofree char *message = NULL;
    const char *line_start = c->start;
    guint line = 1, column;
    va_list args;

    for (const char *q = c->start; q < place; q++)
        if (*q == '\n') {
            line++;
            line_start = q + 1;
        }
    column = (guint)g_utf8_strlen(line_start, place - line_start) + 1;
    va_start(args, format);
    message = g_strdup_vprintf(format, args);
    va_end(args);
    if (c->on_event) {
        JsonEvent event = {JSON_EVENT_ERROR, key, message, line, column};

        c->on_event(&event, c->data);
    }
    g_set_error(error, JSON_CHECK_ERROR, code, "line %u, column %u: %s", line, column, message);
    return FALSE;
}

static const char *pending_key(const Checker *c)
{
    return c->key_line ? c->key->str : NULL;
}

/** fail_syntax: "@wanted, not @what stands at c->p". */
static gboolean fail_syntax(Checker *c, const char *wanted, GError **error)
{
    const char *key = pending_key(c);
    gunichar character;

    if (c->p == c->end)
        return fail(c, JSON_CHECK_ERROR_SYNTAX, c->p, key, error,
                    "%s expected, not the end of the text", wanted);
    character = g_utf8_get_char(c->p);
    if (character == '/' || character == '#')
        return fail(c, JSON_CHECK_ERROR_SYNTAX, c->p, key, error,
                    "%s expected, not \"%c\" (JSON has no comments)", wanted, (int)character);
    if (character == '\'')
        return fail(c, JSON_CHECK_ERROR_SYNTAX, c->p, key, error,
                    "%s expected, not \"'\" (strings and names stand in double quotes)", wanted);
    if (!g_unichar_isprint(character))
        return fail(c, JSON_CHECK_ERROR_SYNTAX, c->p, key, error, "%s expected, not U+%04X", wanted,
                    character);
    return fail(c, JSON_CHECK_ERROR_SYNTAX, c->p, key, error, "%s expected, not \"%.*s\"", wanted,
                (int)(g_utf8_next_char(c->p) - c->p), c->p);
}

static void emit(Checker *c, JsonEventKind kind, const char *text)
{
    if (c->on_event) {
        JsonEvent event = {kind, pending_key(c), text, c->key_line ? c->key_line : c->line, 0};

        c->on_event(&event, c->data);
    }
    c->key_line = 0;
}

static gboolean scan_hex4(const char *p, const char *end, guint *ret_value)
{
    guint value = 0;

    if (end - p < 4)
        return FALSE;
    for (int i = 0; i < 4; i++) {
        if (!g_ascii_isxdigit(p[i]))
            return FALSE;
        value = value * 16 + (guint)g_ascii_xdigit_value(p[i]);
    }
    *ret_value = value;
    return TRUE;
}

/** scan_unicode: the escape at @p, "\uXXXX" or a pair of them; returns the place after it or NULL.
 */
static const char *scan_unicode(const char *p, const char *end, gunichar *ret_character)
{
    guint high, low;

    if (!scan_hex4(p + 2, end, &high) || high == 0 || (high >= 0xdc00 && high <= 0xdfff))
        return NULL;
    p += 6;
    if (high < 0xd800 || high > 0xdbff) {
        *ret_character = high;
        return p;
    }
    if (end - p < 6 || p[0] != '\\' || p[1] != 'u' || !scan_hex4(p + 2, end, &low) ||
        low < 0xdc00 || low > 0xdfff)
        return NULL;
    *ret_character = 0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00);
    return p + 6;
}

/** scan_string: c->p stands on the opening quote and is left behind the closing one. */
static gboolean scan_string(Checker *c, const char **ret_first, size_t *ret_length,
                            gboolean *ret_escapes, GError **error)
{
    const char *const opening = c->p, *p = c->p + 1;
    gboolean escapes = FALSE;
    gunichar character;

    for (; p < c->end && *p != '"'; p++) {
        if ((guchar)*p < 0x20)
            return fail(c, JSON_CHECK_ERROR_SYNTAX, p, pending_key(c), error,
                        "a control character in a string (write it as \\u%04x)", (guint)(guchar)*p);
        if (*p != '\\')
            continue;
        escapes = TRUE;
        if (c->end - p >= 2 && p[1] == 'u') {
            const char *next = scan_unicode(p, c->end, &character);

            if (!next)
                return fail(
                    c, JSON_CHECK_ERROR_SYNTAX, p, pending_key(c), error,
                    "not a usable \\u escape (four hexadecimal digits, not 0000, surrogates "
                    "in pairs)");
            p = next - 1;
        } else if (c->end - p >= 2 && p[1] != '\0' && strchr("\"\\/bfnrt", p[1])) {
            p++;
        } else {
            return fail(c, JSON_CHECK_ERROR_SYNTAX, p, pending_key(c), error,
                        "not an escape that JSON knows");
        }
    }
    if (p == c->end)
        return fail(c, JSON_CHECK_ERROR_SYNTAX, opening, pending_key(c), error,
                    "a string that does not end");
    *ret_first = opening + 1;
    *ret_length = (size_t)(p - opening - 1);
    *ret_escapes = escapes;
    c->p = p + 1;
    return TRUE;
}

/** decode: turns a string that passed scan_string() into what it means. */
static void decode(const char *p, size_t length, gboolean escapes, GString *into)
{
    static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
    const char *const end = p + length;
    gunichar character = 0;

    g_string_truncate(into, 0);
    if (!escapes) {
        g_string_append_len(into, p, (gssize)length);
        return;
    }
    while (p < end) {
        const char *run = p;

        while (p < end && *p != '\\')
            p++;
        g_string_append_len(into, run, p - run);
        if (p == end)
            return;
        if (p[1] == 'u') {
            p = scan_unicode(p, end, &character);
            g_string_append_unichar(into, character);
        } else {
            g_string_append_c(into, to[strchr(from, p[1]) - from]);
            p += 2;
        }
    }
}

static gboolean scan_key(Checker *c, GError **error)
{
    Key key = {.place = c->p, .hash = 5381};
    gboolean escapes;
    size_t length;

    if (!scan_string(c, &key.bytes, &length, &escapes, error))
        return FALSE;
    if (escapes || c->on_event)
        decode(key.bytes, length, escapes, c->key);
    if (escapes) {
        if (!c->decoded)
            c->decoded = g_string_chunk_new(1024);
        length = c->key->len;
        key.bytes = g_string_chunk_insert_len(c->decoded, c->key->str, (gssize)length);
    }
    for (size_t i = 0; i < length; i++)
        key.hash = key.hash * 33 + (guchar)key.bytes[i];
    key.length = (guint32)length;
    g_array_append_val(c->keys, key);
    c->key_line = c->line;
    return TRUE;
}

static int key_compare(const void *a, const void *b)
{
    const Key *x = a, *y = b;

    if (x->hash != y->hash)
        return x->hash < y->hash ? -1 : 1;
    if (x->length != y->length)
        return x->length < y->length ? -1 : 1;
    return memcmp(x->bytes, y->bytes, x->length);
}

static gboolean key_equal(const Key *x, const Key *y)
{
    return x->hash == y->hash && x->length == y->length &&
           memcmp(x->bytes, y->bytes, x->length) == 0;
}

/** find_duplicate: a key of @keys that stands a second time; NULL = none. Changes their order. */
static const Key *find_duplicate(Key *keys, guint n_keys)
{
    if (n_keys <= FEW_KEYS) {
        for (guint i = 1; i < n_keys; i++)
            for (guint j = 0; j < i; j++)
                if (key_equal(&keys[i], &keys[j]))
                    return &keys[i];
        return NULL;
    }
    /* Sorting rather than hashing: names that all hash alike cost no more than others. */
    qsort(keys, n_keys, sizeof(Key), key_compare);
    for (guint i = 1; i < n_keys; i++)
        if (key_equal(&keys[i - 1], &keys[i]))
            return keys[i - 1].place > keys[i].place ? &keys[i - 1] : &keys[i];
    return NULL;
}

static gboolean open_frame(Checker *c, gboolean object, GError **error)
{
    Frame frame = {object, c->keys->len};

    if (c->frames->len >= c->max_depth)
        return fail(c, JSON_CHECK_ERROR_LIMIT, c->p, pending_key(c), error,
                    "more than %u objects and arrays inside each other", c->max_depth);
    emit(c, object ? JSON_EVENT_OBJECT : JSON_EVENT_ARRAY, NULL);
    g_array_append_val(c->frames, frame);
    c->expect = object ? EXPECT_KEY_OR_END : EXPECT_VALUE_OR_END;
    c->p++;
    return TRUE;
}

static void after_value(Checker *c)
{
    c->expect = c->frames->len > 0 ? EXPECT_COMMA_OR_END : EXPECT_NOTHING;
}

static gboolean close_frame(Checker *c, GError **error)
{
    const Frame *frame = &g_array_index(c->frames, Frame, c->frames->len - 1);

    if (frame->object && c->keys->len > frame->first_key) {
        const Key *twice = find_duplicate(&g_array_index(c->keys, Key, frame->first_key),
                                          c->keys->len - frame->first_key);

        if (twice) {
            g_autofree char *name = g_strndup(twice->bytes, twice->length);

            return fail(c, JSON_CHECK_ERROR_SYNTAX, twice->place, name, error,
                        "the name stands twice in one object");
        }
        g_array_set_size(c->keys, frame->first_key);
    }
    emit(c, JSON_EVENT_END, NULL);
    g_array_set_size(c->frames, c->frames->len - 1);
    after_value(c);
    c->p++;
    return TRUE;
}

static gboolean scan_digits(Checker *c)
{
    const char *first = c->p;

    while (c->p < c->end && g_ascii_isdigit(*c->p))
        c->p++;
    return c->p > first;
}

/** scan_number: RFC 8259 section 6. */
static gboolean scan_number(Checker *c, GError **error)
{
    const char *const first = c->p;

    if (*c->p == '-')
        c->p++;
    if (c->p < c->end && *c->p == '0') {
        c->p++;
        if (c->p < c->end && g_ascii_isdigit(*c->p))
            return fail(c, JSON_CHECK_ERROR_SYNTAX, first, pending_key(c), error,
                        "a number does not begin with a zero");
    } else if (!scan_digits(c)) {
        return fail_syntax(c, "a digit", error);
    }
    if (c->p < c->end && *c->p == '.') {
        c->p++;
        if (!scan_digits(c))
            return fail_syntax(c, "a digit after the point", error);
    }
    if (c->p < c->end && (*c->p == 'e' || *c->p == 'E')) {
        c->p++;
        if (c->p < c->end && (*c->p == '+' || *c->p == '-'))
            c->p++;
        if (!scan_digits(c))
            return fail_syntax(c, "a digit in the exponent", error);
    }
    if (c->on_event)
        decode(first, (size_t)(c->p - first), FALSE, c->text);
    emit(c, JSON_EVENT_NUMBER, c->text->str);
    return TRUE;
}

static gboolean scan_word(Checker *c, const char *word, JsonEventKind kind, GError **error)
{
    size_t length = strlen(word);

    if ((size_t)(c->end - c->p) < length || memcmp(c->p, word, length) != 0)
        return fail_syntax(c, "a value", error);
    c->p += length;
    emit(c, kind, NULL);
    return TRUE;
}

static gboolean scan_value(Checker *c, GError **error)
{
    gboolean escapes, good;
    const char *first;
    size_t length;

    switch (c->p < c->end ? *c->p : '\0') {
    case '{':
    case '[':
        return open_frame(c, *c->p == '{', error);
    case '"':
        if (!scan_string(c, &first, &length, &escapes, error))
            return FALSE;
        if (c->on_event)
            decode(first, length, escapes, c->text);
        emit(c, JSON_EVENT_STRING, c->text->str);
        good = TRUE;
        break;
    case 't':
        good = scan_word(c, "true", JSON_EVENT_TRUE, error);
        break;
    case 'f':
        good = scan_word(c, "false", JSON_EVENT_FALSE, error);
        break;
    case 'n':
        good = scan_word(c, "null", JSON_EVENT_NULL, error);
        break;
    case '-':
    case '0' ... '9':
        good = scan_number(c, error);
        break;
    default:
        return fail_syntax(c, "a value", error);
    }
    if (good)
        after_value(c);
    return good;
}

static void skip_space(Checker *c)
{
    for (; c->p < c->end; c->p++) {
        if (*c->p == '\n')
            c->line++;
        else if (*c->p != ' ' && *c->p != '\t' && *c->p != '\r')
            return;
    }
}

static gboolean step(Checker *c, GError **error)
{
    char character = c->p < c->end ? *c->p : '\0';
    gboolean object;

    switch (c->expect) {
    case EXPECT_VALUE_OR_END:
        if (character == ']')
            return close_frame(c, error);
        return scan_value(c, error);
    case EXPECT_VALUE:
        if (character == ']' && c->frames->len > 0 && !c->key_line)
            return fail(c, JSON_CHECK_ERROR_SYNTAX, c->p, NULL, error,
                        "a comma before the closing bracket");
        return scan_value(c, error);
    case EXPECT_KEY_OR_END:
        if (character == '}')
            return close_frame(c, error);
        G_GNUC_FALLTHROUGH;
    case EXPECT_KEY:
        if (character == '}')
            return fail(c, JSON_CHECK_ERROR_SYNTAX, c->p, NULL, error,
                        "a comma before the closing brace");
        if (character != '"')
            return fail_syntax(c, "a name in double quotes", error);
        if (!scan_key(c, error))
            return FALSE;
        skip_space(c);
        if (c->p == c->end || *c->p != ':')
            return fail_syntax(c, "\":\"", error);
        c->p++;
        c->expect = EXPECT_VALUE;
        return TRUE;
    case EXPECT_COMMA_OR_END:
        object = g_array_index(c->frames, Frame, c->frames->len - 1).object;
        if (character == (object ? '}' : ']'))
            return close_frame(c, error);
        if (character != ',')
            return fail_syntax(c, object ? "\",\" or \"}\"" : "\",\" or \"]\"", error);
        c->p++;
        c->expect = object ? EXPECT_KEY : EXPECT_VALUE;
        return TRUE;
    case EXPECT_NOTHING:
        break;
    }
    return fail_syntax(c, "the end of the text", error);
}

gboolean json_check(const char *text, size_t length, guint max_depth, JsonCheckFunc on_event,
                    void *data, GError **error)
{
    g_auto(Checker) c = {
        .start = text ? text : "",
        .line = 1,
        .max_depth = max_depth,
        .frames = g_array_new(FALSE, FALSE, sizeof(Frame)),
        .keys = g_array_new(FALSE, FALSE, sizeof(Key)),
        .on_event = on_event,
        .data = data,
        .text = g_string_new(NULL),
        .key = g_string_new(NULL),
    };
    const char *valid_end;

    c.p = c.start;
    c.end = c.start + length;
    if (length > JSON_CHECK_BYTES_MAX)
        return fail(&c, JSON_CHECK_ERROR_LIMIT, c.start, NULL, error,
                    "more than %" G_GSIZE_FORMAT " bytes", JSON_CHECK_BYTES_MAX);
    if (!g_utf8_validate_len(c.start, length, &valid_end))
        return fail(&c, JSON_CHECK_ERROR_SYNTAX, valid_end, NULL, error,
                    *valid_end == '\0' ? "a NUL byte" : "bytes that are not UTF-8");
    if (length >= 3 && memcmp(c.start, "\xef\xbb\xbf", 3) == 0)
        return fail(&c, JSON_CHECK_ERROR_SYNTAX, c.start, NULL, error,
                    "a byte order mark (save the file without it)");
    skip_space(&c);
    if (c.p == c.end)
        return fail(&c, JSON_CHECK_ERROR_SYNTAX, c.p, NULL, error, "nothing there");
    for (;;) {
        if (c.expect == EXPECT_NOTHING && c.p == c.end)
            return TRUE;
        if (!step(&c, error))
            return FALSE;
        skip_space(&c);
    }
}
