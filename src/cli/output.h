/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>

#include "cli/arguments.h"
#include "cli/table.h"

/*
 * Where text goes: results to stdout, through a pager where that is a terminal and the verb asks
 * for one; everything else to stderr with the program's name in front. Colours only on a terminal
 * and without NO_COLOR (no-color.org).
 */

typedef enum Colour {
    COLOUR_HEADER,
    COLOUR_GOOD,
    COLOUR_DOUBT,
    COLOUR_BAD,
    COLOUR_FAINT,
} Colour;

/** output_init: remembers what --json, --quiet and --no-pager say; @args is borrowed until the end.
 */
void output_init(const Arguments *args);

/** output_json_mode: what --json says. */
JsonMode output_json_mode(void);

/** output_colour: an escape sequence, or "" where stdout gets no colours. output_colour_end:
 * likewise. */
const char *output_colour(Colour colour);
const char *output_colour_end(void);

/** output_pager: pipes stdout into a pager from here on, where that makes sense. */
void output_pager(void);

/**
 * output_finish: flushes stdout, and waits for the pager.
 * Returns: FALSE with @error in CLI_ERROR where something that was printed could not be written.
 */
gboolean output_finish(GError **error);

/** output_note: one line for people on stderr; nothing with --quiet. @format ends without newline.
 */
void output_note(const char *format, ...) G_GNUC_PRINTF(1, 2);

/** output_error: one line on stderr, always. */
void output_error(const char *message);

/** output_table: prints @table, fitted to the terminal. */
void output_table(const Table *table);

/**
 * output_json: prints a value as one JSON document, short or pretty as --json says.
 * @value: sunk and freed here where floating. Containers become objects and arrays, variants what
 * they hold.
 */
void output_json(GVariant *value);
