/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "store/tokens.h"

#include <string.h>

#include "store/record.h"

G_STATIC_ASSERT(TOKENS_DEPTH_MAX <= G_N_ELEMENTS(((Tokens *)NULL)->open));

void tokens_init(Tokens *tokens)
{
    tokens->list = g_array_sized_new(FALSE, FALSE, sizeof(Token), 64);
    tokens->bytes = g_string_sized_new(1024);
    tokens->n_open = 0;
}

void tokens_clear(Tokens *tokens)
{
    g_clear_pointer(&tokens->list, g_array_unref);
    (void)g_string_free(tokens->bytes, TRUE);
    tokens->bytes = NULL;
}

static size_t keep(Tokens *tokens, const char *text)
{
    size_t place = tokens->bytes->len;

    if (!text)
        return 0;
    g_string_append_len(tokens->bytes, text, (gssize)strlen(text) + 1);
    return place;
}

static void on_event(const JsonEvent *event, void *data)
{
    Tokens *tokens = data;
    Token token = {.kind = event->kind};

    if (event->kind == JSON_EVENT_ERROR)
        return;
    if (event->kind == JSON_EVENT_END) {
        guint container = tokens->open[--tokens->n_open];

        g_array_index(tokens->list, Token, container).next = tokens->list->len;
        return;
    }
    if (event->kind == JSON_EVENT_OBJECT || event->kind == JSON_EVENT_ARRAY)
        tokens->open[tokens->n_open++] = tokens->list->len;
    token.next = tokens->list->len + 1;
    token.key = keep(tokens, event->key);
    token.text = keep(tokens, event->text);
    g_array_append_val(tokens->list, token);
}

gboolean tokens_read(Tokens *tokens, const char *text, size_t length, GError **error)
{
    g_array_set_size(tokens->list, 0);
    g_string_truncate(tokens->bytes, 0);
    g_string_append_c(tokens->bytes, '\0');
    tokens->n_open = 0;
    return json_check(text, length, TOKENS_DEPTH_MAX, on_event, tokens, error);
}

guint tokens_find(const Tokens *tokens, guint object, const char *key)
{
    TOKENS_FOREACH (tokens, i, object)
        if (strcmp(tokens_key(tokens, i), key) == 0)
            return i;
    return 0;
}

gboolean tokens_get_uint(const Tokens *tokens, guint i, const char *key, guint64 min, guint64 max,
                         guint64 *ret_value, GError **error)
{
    const char *text = tokens_text(tokens, i);
    guint64 value;

    /* also refuses a sign, a fraction and an exponent, which are JSON but not ours */
    if (tokens_get(tokens, i)->kind != JSON_EVENT_NUMBER ||
        !g_ascii_string_to_unsigned(text, 10, 0, G_MAXUINT64, &value, NULL)) {
        g_set_error(error, RECORD_ERROR, RECORD_ERROR_INVALID,
                    "\"%s\" is not a whole number from 0 on", key);
        return FALSE;
    }
    if (value < min || value > max) {
        g_set_error(error, RECORD_ERROR, RECORD_ERROR_INVALID,
                    "\"%s\" is %" G_GUINT64_FORMAT ", not within %" G_GUINT64_FORMAT
                    " to %" G_GUINT64_FORMAT,
                    key, value, min, max);
        return FALSE;
    }
    *ret_value = value;
    return TRUE;
}

const char *tokens_get_string(const Tokens *tokens, guint i, const char *key, GError **error)
{
    const char *text = tokens_text(tokens, i);

    if (tokens_get(tokens, i)->kind != JSON_EVENT_STRING) {
        g_set_error(error, RECORD_ERROR, RECORD_ERROR_INVALID, "\"%s\" is not a string", key);
        return NULL;
    }
    if (strlen(text) > RECORD_STRING_MAX) {
        g_set_error(error, RECORD_ERROR, RECORD_ERROR_INVALID, "\"%s\" is too long", key);
        return NULL;
    }
    return text;
}
