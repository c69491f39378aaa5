/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "store/record.h"
#include "store/tokens.h"

/*
 * Reading members of records: for record-read.c and record-lease.c.
 */
struct RecordParser {
    Tokens tokens;
};

#define INVALID(error, ...) g_set_error(error, RECORD_ERROR, RECORD_ERROR_INVALID, __VA_ARGS__)

/* A reader of members is a chain of "if (IS("name")) GET_…": its locals are tokens, i (the value),
 * key and error, and each GET_ returns from it. */
#define IS(name) (strcmp(key, name) == 0)

#define GET_UINT(min, max, field)                                       \
    do {                                                                \
        guint64 number;                                                 \
                                                                        \
        if (!tokens_get_uint(tokens, i, key, min, max, &number, error)) \
            return FALSE;                                               \
        (field) = (__typeof__(field))number;                            \
        return TRUE;                                                    \
    } while (0)

#define GET_NAME(prefix, Type, field)                                \
    do {                                                             \
        const char *text = tokens_get_string(tokens, i, key, error); \
        Type parsed;                                                 \
                                                                     \
        if (!text)                                                   \
            return FALSE;                                            \
        if (!prefix##_from_string(text, &parsed)) {                  \
            INVALID(error, "\"%s\" has no such value", key);         \
            return FALSE;                                            \
        }                                                            \
        (field) = parsed;                                            \
        return TRUE;                                                 \
    } while (0)

#define GET_STRING(copy, field)                                      \
    do {                                                             \
        const char *text = tokens_get_string(tokens, i, key, error); \
                                                                     \
        if (text)                                                    \
            (field) = copy(text);                                    \
        return text != NULL;                                         \
    } while (0)

/* Names that clients choose have a rule. */
#define GET_VALID(is_valid, copy, field)                             \
    do {                                                             \
        const char *text = tokens_get_string(tokens, i, key, error); \
                                                                     \
        if (text && !is_valid(text)) {                               \
            INVALID(error, "\"%s\" is not a valid name", key);       \
            return FALSE;                                            \
        }                                                            \
        if (text)                                                    \
            (field) = copy(text);                                    \
        return text != NULL;                                         \
    } while (0)

gboolean record_get_id(const Tokens *tokens, guint i, const char *key, Id *ret_id, GError **error);
void record_note_unknown(Record *record, const char *key);

/** record_read_lease: makes @op a PUT_LEASE of the object @object. */
gboolean record_read_lease(const Tokens *tokens, guint object, Record *record, RecordOp *op,
                           GError **error);
