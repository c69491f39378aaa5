/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>

/** text_clean: a copy of @text that is valid UTF-8 and without control characters, which could
 * drive the terminal: each becomes "?". (transfer full) */
char *text_clean(const char *text);

/** text_width: the terminal cells that @text, valid UTF-8, takes: 2 for wide characters, 0 for
 * combining ones. */
guint text_width(const char *text);

/**
 * text_fit: shortens @text to at most @width cells, the last one then "…" ("~" where the locale is
 * not UTF-8).
 * @width: 0 gives "".
 * Returns: (transfer full).
 */
char *text_fit(const char *text, guint width);

/** text_ago: "3s", "5min", "2h", "4d" for a distance in microseconds, negative taken for 0.
 * (transfer full) */
char *text_ago(gint64 usec);

/** text_duration: "350us", "13ms", "1.5s" for a time that something took, in microseconds.
 * (transfer full) */
char *text_duration(guint64 usec);

/** text_time: a CLOCK_REALTIME time in µs as local time, "2026-01-31 13:05:00". (transfer full) */
char *text_time(gint64 usec);
