/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>

/*
 * A table for a terminal. Layout is pure: it knows a width and gives lines; who prints them decides
 * about colours and pagers.
 */
typedef enum ColumnFlags {
    COLUMN_NONE = 0,
    COLUMN_RIGHT = 1 << 0,    /* numbers */
    COLUMN_FLEXIBLE = 1 << 1, /* may be shortened with an ellipsis */
    COLUMN_OPTIONAL = 1 << 2, /* left out where no row has text in it */
} ColumnFlags;

typedef struct Column {
    const char *title; /* static or outliving the table, translated */
    ColumnFlags flags;
} Column;

typedef struct Table Table;

/** table_new: @columns holds @n_columns entries and is borrowed for the life of the table. */
Table *table_new(const Column *columns, size_t n_columns);
Table *table_free(Table *table);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Table, table_free)

/** table_row: begins a row; its cells are empty until table_set(). */
void table_row(Table *table);

/**
 * table_set: puts text into a cell of the present row.
 * @text: copied and cleaned of control characters; NULL and "" leave the cell empty.
 * @colour: an escape sequence of static storage that goes round the text, NULL or "" = none.
 */
void table_set(Table *table, size_t column, const char *text, const char *colour);
void table_set_format(Table *table, size_t column, const char *format, ...) G_GNUC_PRINTF(3, 4);

guint table_n_rows(const Table *table);

/**
 * table_format: lays the table out.
 * @width: the cells of the terminal, 0 = no bound. No line is wider.
 * @header_colour: as of table_set(), for the line of titles.
 *
 * Flexible columns give way first, the widest most; what still does not fit is cut off at the end
 * of the line. A cell without text shows "-".
 *
 * Returns: (transfer full): the lines, each with its newline, without blanks at their ends.
 */
char *table_format(const Table *table, guint width, const char *header_colour);
