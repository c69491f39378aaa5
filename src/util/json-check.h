/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>

/*
 * JSON by the letter of RFC 8259, for texts that nobody vouches for.
 *
 * json-glib takes comments, single quotes and what follows the document, keeps the last of two
 * equal keys, knows no lines, and recurses into every bracket. A text that passed json_check()
 * holds none of that, so it may go to json-glib afterwards; or the events are enough and no tree is
 * needed.
 */

/** JSON_CHECK_BYTES_MAX: no text above this size is looked at. */
#define JSON_CHECK_BYTES_MAX ((size_t)1 << 30)

typedef enum JsonEventKind {
    JSON_EVENT_OBJECT, /* its members follow, up to the matching JSON_EVENT_END */
    JSON_EVENT_ARRAY,  /* its elements follow, up to the matching JSON_EVENT_END */
    JSON_EVENT_END,
    JSON_EVENT_STRING,
    JSON_EVENT_NUMBER,
    JSON_EVENT_TRUE,
    JSON_EVENT_FALSE,
    JSON_EVENT_NULL,
    JSON_EVENT_ERROR, /* the last event of a bad text */
} JsonEventKind;

/** JsonEvent: one step through the text. Borrowed for the call. */
typedef struct JsonEvent {
    JsonEventKind kind;
    /* Decoded name of the member whose value this is; NULL for an element, the root and an end. For
     * an error the member that it concerns, where there is one. */
    const char *key;
    /* STRING: decoded, with no NUL inside. NUMBER: as it is written. ERROR: what is wrong, without
     * the place. NULL otherwise. */
    const char *text;
    guint line;   /* from 1; of the key where there is one, else of the value */
    guint column; /* from 1, in characters; set for JSON_EVENT_ERROR alone, else 0 */
} JsonEvent;

typedef void (*JsonCheckFunc)(const JsonEvent *event, void *data);

#define JSON_CHECK_ERROR json_check_error_quark()
GQuark json_check_error_quark(void);

typedef enum JsonCheckError {
    JSON_CHECK_ERROR_SYNTAX,
    JSON_CHECK_ERROR_LIMIT, /* too large or too deep */
} JsonCheckError;

/**
 * json_check: whether @text is one JSON value and nothing else.
 * @text: @length bytes, not trusted; may hold NUL and need not end in one. NULL where @length is 0.
 * @max_depth: how many objects and arrays may be open at once; 0 = scalars only.
 * @on_event: (nullable): called for every value in order of the text, before it is known whether
 *     the rest is good; after a failure its last event is JSON_EVENT_ERROR.
 *
 * Refused beyond the grammar of RFC 8259, by its sections 4, 8 and 9 which allow that: two equal
 * names in one object (compared after decoding), a byte order mark, bytes that are not UTF-8,
 * lone surrogates and \u0000 (a C string could not hold it). Numbers may have any size.
 *
 * Iterative: the C stack does not grow with the input. O(n log n) time for any input, O(max_depth +
 * keys of the open objects) memory besides what @on_event keeps. Does not block.
 *
 * Returns: FALSE with @error in JSON_CHECK_ERROR, whose message begins with "line L, column C: ".
 */
gboolean json_check(const char *text, size_t length, guint max_depth, JsonCheckFunc on_event,
                    void *data, GError **error);
