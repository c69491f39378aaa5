/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <locale.h>
#include <string.h>

#include "cli/table.h"
#include "cli/text.h"

static const Column columns[] = {
    {"PORT", COLUMN_RIGHT},
    {"TYPE", COLUMN_FLEXIBLE},
    {"NOTE", COLUMN_FLEXIBLE | COLUMN_OPTIONAL},
    {"LEASE", COLUMN_FLEXIBLE},
};

static Table *example(gboolean with_note)
{
    Table *table = table_new(columns, G_N_ELEMENTS(columns));

    table_row(table);
    table_set(table, 0, "80", NULL);
    table_set(table, 1, "dev", NULL);
    table_set(table, 3, "0123456789abcdef", NULL);
    table_row(table);
    table_set_format(table, 0, "%u", 65535u);
    table_set(table, 1, "infrastructure", NULL);
    if (with_note)
        table_set(table, 2, "grüße", NULL);
    return table;
}

static void test_layout(void)
{
    g_autoptr(Table) table = example(TRUE);
    g_autofree char *text = table_format(table, 0, NULL);

    g_assert_cmpuint(table_n_rows(table), ==, 2);
    g_assert_cmpstr(text, ==,
                    " PORT  TYPE            NOTE   LEASE\n"
                    "   80  dev             -      0123456789abcdef\n"
                    "65535  infrastructure  grüße  -\n");
}

static void test_optional(void)
{
    g_autoptr(Table) table = example(FALSE);
    g_autofree char *text = table_format(table, 0, NULL);

    g_assert_cmpstr(text, ==,
                    " PORT  TYPE            LEASE\n"
                    "   80  dev             0123456789abcdef\n"
                    "65535  infrastructure  -\n");
}

static void test_shrinks_widest_first(void)
{
    g_autoptr(Table) table = example(FALSE);
    g_autofree char *text = table_format(table, 30, NULL);

    g_assert_cmpstr(text, ==,
                    " PORT  TYPE        LEASE\n"
                    "   80  dev         0123456789…\n"
                    "65535  infrastru…  -\n");
}

/* Whatever the width, no line is wider, none ends in blanks, and every row is there. */
static void test_every_width(void)
{
    for (guint width = 1; width <= 120; width++) {
        g_autoptr(Table) table = example(TRUE);
        g_autofree char *text = table_format(table, width, NULL);
        g_auto(GStrv) lines = g_strsplit(text, "\n", -1);

        g_assert_cmpuint(g_strv_length(lines), ==, 4); /* the last is behind the last newline */
        for (size_t i = 0; i < 3; i++) {
            g_assert_cmpuint(text_width(lines[i]), <=, width);
            g_assert_false(g_str_has_suffix(lines[i], " "));
        }
    }
}

/* Colours take no room, and only go round text. */
static void test_colours(void)
{
    g_autoptr(Table) table = table_new(columns, G_N_ELEMENTS(columns));
    g_autofree char *text = NULL;

    table_row(table);
    table_set(table, 0, "80", "\x1b[31m");
    table_set(table, 1, "dev", "");
    text = table_format(table, 0, "\x1b[1m");
    g_assert_cmpstr(text, ==,
                    "\x1b[1mPORT\x1b[0m  \x1b[1mTYPE\x1b[0m  \x1b[1mLEASE\x1b[0m\n"
                    "  \x1b[31m80\x1b[0m  dev   -\n");
}

/* What comes from others must not drive the terminal. */
static void test_hostile_text(void)
{
    g_autoptr(Table) table = table_new(columns, G_N_ELEMENTS(columns));
    g_autofree char *text = NULL;

    table_row(table);
    table_set(table, 1,
              "a\x1b[2Jb\nc\x9b"
              "d\xe2\x80\xa8"
              "e",
              NULL);
    text = table_format(table, 0, NULL);
    g_assert_null(strchr(text, '\x1b'));
    g_assert_null(strstr(text, "\xe2\x80\xa8"));
    g_assert_true(g_utf8_validate(text, -1, NULL));
    g_assert_nonnull(strstr(text, "a?[2Jb?c"));
}

static void test_fit(void)
{
    static const struct {
        const char *text;
        guint width;
        const char *fitted;
    } cases[] = {
        {"abc", 3, "abc"},
        {"abcd", 3, "ab…"},
        {"abcd", 1, "…"},
        {"abcd", 0, ""},
        {"", 0, ""},
        {"日本語", 6, "日本語"},
        {"日本語", 5, "日本…"},
        {"日本語", 4, "日…"},
        {"日本語", 2, "…"},
        {"e\xcc\x81xy", 3, "e\xcc\x81xy"},
        {"e\xcc\x81xyz", 3, "e\xcc\x81x…"},
    };

    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autofree char *fitted = text_fit(cases[i].text, cases[i].width);

        g_assert_cmpstr(fitted, ==, cases[i].fitted);
        g_assert_cmpuint(text_width(fitted), <=, cases[i].width);
    }
}

static void test_ago(void)
{
    static const struct {
        gint64 seconds;
        const char *text;
    } cases[] = {
        {-5, "0s"},   {0, "0s"},       {59, "59s"},    {60, "1min"},          {3599, "59min"},
        {3600, "1h"}, {172799, "47h"}, {172800, "2d"}, {86400 * 400, "400d"},
    };

    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autofree char *text = text_ago(cases[i].seconds * G_USEC_PER_SEC);

        g_assert_cmpstr(text, ==, cases[i].text);
    }
}

static void test_duration(void)
{
    static const struct {
        guint64 usec;
        const char *text;
    } cases[] = {
        {0, "0us"},        {999, "999us"},    {1000, "1ms"},       {999999, "999ms"},
        {1000000, "1.0s"}, {1990000, "1.9s"}, {61500000, "61.5s"},
    };

    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autofree char *text = text_duration(cases[i].usec);

        g_assert_cmpstr(text, ==, cases[i].text);
    }
}

int main(int argc, char **argv)
{
    /* the ellipsis depends on it */
    if (!setlocale(LC_ALL, "C.UTF-8"))
        return 77;
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/table/layout", test_layout);
    g_test_add_func("/table/optional", test_optional);
    g_test_add_func("/table/shrinks-widest-first", test_shrinks_widest_first);
    g_test_add_func("/table/every-width", test_every_width);
    g_test_add_func("/table/colours", test_colours);
    g_test_add_func("/table/hostile-text", test_hostile_text);
    g_test_add_func("/text/fit", test_fit);
    g_test_add_func("/text/ago", test_ago);
    g_test_add_func("/text/duration", test_duration);
    return g_test_run();
}
