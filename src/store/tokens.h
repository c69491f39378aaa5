/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>

#include "util/json-check.h"

/*
 * One record's JSON as a flat list: no pointers, no recursion, and the same memory for one record
 * after the other.
 */
typedef struct Token {
    JsonEventKind kind;
    guint next;  /* the token after this one and all that is in it */
    size_t key;  /* where in the bytes its name is; 0 = it has none */
    size_t text; /* where its decoded text is, of strings and numbers */
} Token;

typedef struct Tokens {
    GArray *list;   /* of Token; the first is the root */
    GString *bytes; /* NUL-terminated texts one after the other; the first byte is not used */
    guint open[16]; /* containers that are not closed yet, while reading */
    guint n_open;
} Tokens;

void tokens_init(Tokens *tokens);
void tokens_clear(Tokens *tokens);

#define TOKENS_DEPTH_MAX 8

/** tokens_read: replaces the list. Returns: FALSE with @error in JSON_CHECK_ERROR. */
gboolean tokens_read(Tokens *tokens, const char *text, size_t length, GError **error);

static inline const Token *tokens_get(const Tokens *tokens, guint i)
{
    return &g_array_index(tokens->list, Token, i);
}

/** tokens_key, tokens_text: borrowed until the next tokens_read(). */
static inline const char *tokens_key(const Tokens *tokens, guint i)
{
    return tokens->bytes->str + tokens_get(tokens, i)->key;
}

static inline const char *tokens_text(const Tokens *tokens, guint i)
{
    return tokens->bytes->str + tokens_get(tokens, i)->text;
}

/** TOKENS_FOREACH: @i runs over the members or elements of the container @of. */
#define TOKENS_FOREACH(tokens, i, of)                              \
    for (guint i = (of) + 1; i < tokens_get((tokens), (of))->next; \
         i = tokens_get((tokens), i)->next)

/** tokens_find: the member of that name; 0 = none. */
guint tokens_find(const Tokens *tokens, guint object, const char *key);

/*
 * The value of token @i, or FALSE/NULL with @error in RECORD_ERROR; @key is for its message.
 * Strings are borrowed as above and at most RECORD_STRING_MAX bytes.
 */
#define RECORD_STRING_MAX 4096

gboolean tokens_get_uint(const Tokens *tokens, guint i, const char *key, guint64 min, guint64 max,
                         guint64 *ret_value, GError **error);
const char *tokens_get_string(const Tokens *tokens, guint i, const char *key, GError **error);
