/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "cli/table.h"

#include "cli/text.h"

#define GAP 2
#define FLEXIBLE_MIN 6
#define COLOUR_OFF "\x1b[0m"

typedef struct Cell {
    char *text; /* owned, NULL = empty */
    const char *colour;
} Cell;

struct Table {
    const Column *columns; /* borrowed */
    size_t n_columns;
    GArray *cells; /* of Cell, row by row */
};

static void clear_cell(gpointer data)
{
    Cell *cell = data;

    g_clear_pointer(&cell->text, g_free);
}

Table *table_new(const Column *columns, size_t n_columns)
{
    Table *table = g_new0(Table, 1);

    table->columns = columns;
    table->n_columns = n_columns;
    table->cells = g_array_new(FALSE, TRUE, sizeof(Cell));
    g_array_set_clear_func(table->cells, clear_cell);
    return table;
}

Table *table_free(Table *table)
{
    if (!table)
        return NULL;
    g_array_unref(table->cells);
    g_free(table);
    return NULL;
}

void table_row(Table *table)
{
    g_array_set_size(table->cells, table->cells->len + (guint)table->n_columns);
}

guint table_n_rows(const Table *table)
{
    return table->cells->len / (guint)table->n_columns;
}

static const Cell *get_cell(const Table *table, guint row, size_t column)
{
    return &g_array_index(table->cells, Cell, row * table->n_columns + column);
}

void table_set(Table *table, size_t column, const char *text, const char *colour)
{
    Cell *cell;

    g_return_if_fail(column < table->n_columns && table_n_rows(table) > 0);
    cell = &g_array_index(table->cells, Cell, table->cells->len - table->n_columns + column);
    g_clear_pointer(&cell->text, g_free);
    if (text && *text)
        cell->text = text_clean(text);
    cell->colour = colour && *colour ? colour : NULL;
}

void table_set_format(Table *table, size_t column, const char *format, ...)
{
    g_autofree char *text = NULL;
    va_list args;

    va_start(args, format);
    text = g_strdup_vprintf(format, args);
    va_end(args);
    table_set(table, column, text, NULL);
}

/* The natural width of each column, 0 for one that is left out. */
static void measure(const Table *table, guint *widths)
{
    for (size_t c = 0; c < table->n_columns; c++) {
        gboolean any = FALSE;

        widths[c] = text_width(table->columns[c].title);
        for (guint r = 0; r < table_n_rows(table); r++) {
            const Cell *cell = get_cell(table, r, c);

            if (cell->text) {
                any = TRUE;
                widths[c] = MAX(widths[c], text_width(cell->text));
            }
        }
        if (!any && table->columns[c].flags & COLUMN_OPTIONAL)
            widths[c] = 0;
    }
}

static guint total_width(const guint *widths, size_t n)
{
    guint total = 0;

    for (size_t c = 0; c < n; c++)
        if (widths[c] > 0)
            total += widths[c] + (total > 0 ? GAP : 0);
    return total;
}

static void shrink(const Table *table, guint *widths, guint width)
{
    guint total = total_width(widths, table->n_columns);

    while (total > width) {
        guint *widest = NULL;

        for (size_t c = 0; c < table->n_columns; c++)
            if (table->columns[c].flags & COLUMN_FLEXIBLE && widths[c] > FLEXIBLE_MIN &&
                (!widest || widths[c] > *widest))
                widest = &widths[c];
        if (!widest)
            return;
        (*widest)--;
        total--;
    }
}

static void append_padding(GString *line, guint n)
{
    for (guint i = 0; i < n; i++)
        g_string_append_c(line, ' ');
}

typedef struct Line {
    GString *text;
    guint used;    /* cells, with the padding that is due */
    guint padding; /* blanks that only come when something follows */
    guint width;   /* 0 = no bound */
} Line;

static void append_cell(Line *line, const char *text, guint width, gboolean right,
                        const char *colour)
{
    g_autofree char *fitted = NULL;
    guint cells, room;

    if (line->used > 0) {
        line->padding += GAP;
        line->used += GAP;
    }
    room = line->width == 0 ? width : MIN(width, line->width - MIN(line->used, line->width));
    fitted = text_fit(text, room);
    cells = text_width(fitted);
    if (cells > 0) {
        append_padding(line->text, line->padding + (right ? room - cells : 0));
        line->padding = right ? 0 : room - cells;
        if (colour)
            g_string_append(line->text, colour);
        g_string_append(line->text, fitted);
        if (colour)
            g_string_append(line->text, COLOUR_OFF);
    }
    line->used += room;
}

char *table_format(const Table *table, guint width, const char *header_colour)
{
    g_autofree guint *widths = g_new0(guint, table->n_columns);
    GString *text = g_string_new(NULL);
    const char *colour = header_colour && *header_colour ? header_colour : NULL;

    measure(table, widths);
    if (width > 0)
        shrink(table, widths, width);

    for (guint r = 0; r <= table_n_rows(table); r++) {
        Line line = {.text = text, .width = width};

        for (size_t c = 0; c < table->n_columns; c++) {
            const Cell *cell = r > 0 ? get_cell(table, r - 1, c) : NULL;
            const char *content =
                r == 0 ? table->columns[c].title : (cell->text ? cell->text : "-");

            if (widths[c] > 0)
                append_cell(&line, content, widths[c], table->columns[c].flags & COLUMN_RIGHT,
                            r == 0 ? colour : cell->colour);
        }
        g_string_append_c(text, '\n');
    }
    return g_string_free(text, FALSE);
}
