/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "util/json-check.h"

#include <string.h>

/* Every text goes through a block of just its size, so that a sanitizer sees each byte too many. */
static gboolean check_exact(const char *text, size_t length, guint max_depth,
                            JsonCheckFunc on_event, void *data, GError **error)
{
    g_autofree char *copy = g_memdup2(text, length);

    return json_check(copy, length, max_depth, on_event, data, error);
}

static void test_good(void)
{
    static const char *const texts[] = {
        "null",
        "true",
        " false\n",
        "0",
        "-0",
        "-0.0e-0",
        "1e9999",
        "123456789012345678901234567890",
        "3.25E+2",
        "\"\"",
        "\"\\\"\\\\\\/\\b\\f\\n\\r\\t\\u00e9\\ud83d\\ude00\"",
        "\"\xc3\xa9\x7f\"",
        "[]",
        "{}",
        "\t[\r\n ] ",
        "[1,\"a\",null,[],{}]",
        "{\"a\":1,\"b\":{\"a\":1},\"\":[{\"a\":1},{\"a\":1}]}",
        "{\"a\":1,\"A\":1,\"aa\":1}",
        "{\"\xf0\x9f\x98\x80\":\"\xf0\x9f\x98\x80\"}",
    };

    for (size_t i = 0; i < G_N_ELEMENTS(texts); i++) {
        g_autoptr(GError) error = NULL;

        g_test_message("%s", texts[i]);
        g_assert_true(check_exact(texts[i], strlen(texts[i]), 4, NULL, NULL, &error));
        g_assert_no_error(error);
    }
}

static void keep_last(const JsonEvent *event, void *data)
{
    JsonEvent *last = data;

    g_free((char *)last->key);
    g_free((char *)last->text);
    *last = *event;
    last->key = g_strdup(event->key);
    last->text = g_strdup(event->text);
}

static void test_bad(void)
{
#define TEXT(literal) literal, sizeof(literal) - 1
    static const struct {
        const char *text;
        size_t length;
        const char *message; /* a prefix */
        const char *key;
    } cases[] = {
        {TEXT(""), "line 1, column 1: nothing there", NULL},
        {TEXT(" \n\t\n "), "line 3, column 2: nothing there", NULL},
        {TEXT("\xef\xbb\xbf{}"), "line 1, column 1: a byte order mark", NULL},
        {TEXT("\0"), "line 1, column 1: a NUL byte", NULL},
        {TEXT("{}\0"), "line 1, column 3: a NUL byte", NULL},
        {TEXT("[\"a\0b\"]"), "line 1, column 4: a NUL byte", NULL},
        {TEXT("\n\"\xc3\xa9\xff\""), "line 2, column 3: bytes that are not UTF-8", NULL},
        {TEXT("\"\xc3"), "line 1, column 2: bytes that are not UTF-8", NULL},
        {TEXT("\"\xc0\x80\""), "line 1, column 2: bytes that are not UTF-8", NULL},
        {TEXT("\"\xed\xa0\x80\""), "line 1, column 2: bytes that are not UTF-8", NULL},
        {TEXT("{} {}"), "line 1, column 4: the end of the text expected, not \"{\"", NULL},
        {TEXT("1 2"), "line 1, column 3: the end of the text expected", NULL},
        {TEXT("{}}"), "line 1, column 3: the end of the text expected", NULL},
        {TEXT("{"), "line 1, column 2: a name in double quotes expected, not the end", NULL},
        {TEXT("["), "line 1, column 2: a value expected, not the end of the text", NULL},
        {TEXT("[1"), "line 1, column 3: \",\" or \"]\" expected, not the end", NULL},
        {TEXT("[1}"), "line 1, column 3: \",\" or \"]\" expected, not \"}\"", NULL},
        {TEXT("{]"), "line 1, column 2: a name in double quotes expected, not \"]\"", NULL},
        {TEXT("]"), "line 1, column 1: a value expected, not \"]\"", NULL},
        {TEXT("[1,]"), "line 1, column 4: a comma before the closing bracket", NULL},
        {TEXT("[,1]"), "line 1, column 2: a value expected, not \",\"", NULL},
        {TEXT("[1 2]"), "line 1, column 4: \",\" or \"]\" expected, not \"2\"", NULL},
        {TEXT("{\"a\":1,}"), "line 1, column 8: a comma before the closing brace", NULL},
        {TEXT("{\"a\" 1}"), "line 1, column 6: \":\" expected, not \"1\"", "a"},
        {TEXT("{\"a\":}"), "line 1, column 6: a value expected, not \"}\"", "a"},
        {TEXT("{\"a\":]"), "line 1, column 6: a value expected, not \"]\"", "a"},
        {TEXT("{\"a\":1 \"b\":2}"), "line 1, column 8: \",\" or \"}\" expected, not \"\"\"", NULL},
        {TEXT("{a:1}"), "line 1, column 2: a name in double quotes expected, not \"a\"", NULL},
        {TEXT("{1:1}"), "line 1, column 2: a name in double quotes expected", NULL},
        {TEXT("{'a':1}"), "line 1, column 2: a name in double quotes expected, not \"'\" (str",
         NULL},
        {TEXT("// x\n1"), "line 1, column 1: a value expected, not \"/\" (JSON has no com", NULL},
        {TEXT("[1, /* x */ 2]"), "line 1, column 5: a value expected, not \"/\" (JSON", NULL},
        {TEXT("# x\n1"), "line 1, column 1: a value expected, not \"#\" (JSON", NULL},
        {TEXT("{\"a\":\n  tru}"), "line 2, column 3: a value expected, not \"t\"", "a"},
        {TEXT("TRUE"), "line 1, column 1: a value expected", NULL},
        {TEXT("truex"), "line 1, column 5: the end of the text expected", NULL},
        {TEXT("NaN"), "line 1, column 1: a value expected", NULL},
        {TEXT("-Infinity"), "line 1, column 2: a digit expected, not \"I\"", NULL},
        {TEXT("01"), "line 1, column 1: a number does not begin with a zero", NULL},
        {TEXT("-01"), "line 1, column 1: a number does not begin with a zero", NULL},
        {TEXT("-"), "line 1, column 2: a digit expected, not the end", NULL},
        {TEXT("+1"), "line 1, column 1: a value expected, not \"+\"", NULL},
        {TEXT("1."), "line 1, column 3: a digit after the point expected", NULL},
        {TEXT(".5"), "line 1, column 1: a value expected, not \".\"", NULL},
        {TEXT("1e"), "line 1, column 3: a digit in the exponent expected", NULL},
        {TEXT("1e+"), "line 1, column 4: a digit in the exponent expected", NULL},
        {TEXT("0x10"), "line 1, column 2: the end of the text expected, not \"x\"", NULL},
        {TEXT("\"a"), "line 1, column 1: a string that does not end", NULL},
        {TEXT("\"a\\"), "line 1, column 3: not an escape that JSON knows", NULL},
        {TEXT("\"\\x41\""), "line 1, column 2: not an escape that JSON knows", NULL},
        {TEXT("\"\\"), "line 1, column 2: not an escape that JSON knows", NULL},
        {TEXT("\"\\u"), "line 1, column 2: not a usable \\u escape", NULL},
        {TEXT("\"\\u12"), "line 1, column 2: not a usable \\u escape", NULL},
        {TEXT("\"\\u12g4\""), "line 1, column 2: not a usable \\u escape", NULL},
        {TEXT("\"\\u0000\""), "line 1, column 2: not a usable \\u escape", NULL},
        {TEXT("\"\\ud800\""), "line 1, column 2: not a usable \\u escape", NULL},
        {TEXT("\"\\ud800\\n\""), "line 1, column 2: not a usable \\u escape", NULL},
        {TEXT("\"\\ud800\\ud800\""), "line 1, column 2: not a usable \\u escape", NULL},
        {TEXT("\"\\udc00\\ud800\""), "line 1, column 2: not a usable \\u escape", NULL},
        {TEXT("\"\\ud83d\\ude0"), "line 1, column 2: not a usable \\u escape", NULL},
        {TEXT("[\"a\nb\"]"),
         "line 1, column 4: a control character in a string (write it as \\u000a)", NULL},
        {TEXT("{\"k\": \"\t\"}"), "line 1, column 8: a control character in a string", "k"},
        {TEXT("[\"\xc3\xa9\", x]"), "line 1, column 7: a value expected, not \"x\"", NULL},
        {TEXT("[\x01]"), "line 1, column 2: a value expected, not U+0001", NULL},
        {TEXT("[\xc2\xa0]"), "line 1, column 2: a value expected, not ", NULL},
        {TEXT("{\"a\":1,\n \"b\":2,\n\n \"a\":3\n}"), "line 4, column 2: the name stands twice",
         "a"},
        {TEXT("{\"b\":{\"a\":1,\"\\u0061\":2}}"), "line 1, column 13: the name stands twice", "a"},
        {TEXT("{\"\":1,\"\":2}"), "line 1, column 7: the name stands twice", ""},
        {TEXT("[[[[[1]]]]]"), "line 1, column 5: more than 4 objects and arrays inside", NULL},
        {TEXT("{\"a\":{\"a\":{\"a\":{\"a\":[]}}}}"), "line 1, column 21: more than 4 objects", "a"},
    };
#undef TEXT

    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autoptr(GError) error = NULL, quiet = NULL;
        JsonEvent last = {0};

        g_test_message("case %" G_GSIZE_FORMAT, i);
        g_assert_false(check_exact(cases[i].text, cases[i].length, 4, keep_last, &last, &error));
        g_assert_true(error && error->domain == JSON_CHECK_ERROR);
        g_test_message("  %s", error->message);
        g_assert_true(g_str_has_prefix(error->message, cases[i].message));
        g_assert_true(g_utf8_validate(error->message, -1, NULL));
        g_assert_cmpint(last.kind, ==, JSON_EVENT_ERROR);
        g_assert_cmpstr(last.key, ==, cases[i].key);
        g_assert_true(g_str_has_suffix(error->message, last.text));

        g_assert_false(check_exact(cases[i].text, cases[i].length, 4, NULL, NULL, &quiet));
        g_assert_cmpstr(quiet->message, ==, error->message);
        g_free((char *)last.key);
        g_free((char *)last.text);
    }
}

static void write_event(const JsonEvent *event, void *data)
{
    static const char kinds[] = "{[.snTFN!";

    g_string_append_printf(data, "%u%c%s%s%s%s ", event->line, kinds[event->kind],
                           event->key ? event->key : "", event->key ? "=" : "",
                           event->text ? event->text : "", event->column ? "?" : "");
}

static void test_events(void)
{
    static const char text[] =
        "{\n \"a\\n\": [1, -2.5e3,\n true],\n \"b\":\n  \"\\u00e9\\\"\", \"\": null,"
        " \"c\":{\"d\":false}}";
    g_autoptr(GString) seen = g_string_new(NULL);
    g_autoptr(GError) error = NULL;

    g_assert_true(check_exact(text, strlen(text), 3, write_event, seen, &error));
    g_assert_no_error(error);
    g_assert_cmpstr(seen->str, ==,
                    "1{ 2[a\n= 2n1 2n-2.5e3 3T 3. 4sb=\xc3\xa9\" 5N= 5{c= 5Fd= 5. 5. ");
}

static void test_depth(void)
{
    enum { N = 80000 };
    static const char *const units[] = {"[", "{\"a\":", "[{\"\":"};

    for (size_t i = 0; i < G_N_ELEMENTS(units); i++) {
        g_autoptr(GString) text = g_string_new(NULL);
        g_autoptr(GError) error = NULL;

        for (int k = 0; k < N; k++)
            g_string_append(text, units[i]);
        g_assert_false(check_exact(text->str, text->len, 32, NULL, NULL, &error));
        g_assert_error(error, JSON_CHECK_ERROR, JSON_CHECK_ERROR_LIMIT);
    }
    {
        g_autofree char *text = g_malloc(2 * N);

        /* Not even a limit far too high makes it recurse. */
        memset(text, '[', N);
        memset(text + N, ']', N);
        g_assert_true(check_exact(text, 2 * N, N, NULL, NULL, NULL));
        g_assert_false(check_exact(text, 2 * N, N - 1, NULL, NULL, NULL));
    }
    g_assert_true(check_exact("1", 1, 0, NULL, NULL, NULL));
    g_assert_false(check_exact("[]", 2, 0, NULL, NULL, NULL));
}

/* "aA" and "b " give djb2's 33-fold hash the same value, so all of 2^17 names hash alike. */
static void append_alike(GString *text, guint n)
{
    for (guint bit = 0; bit < 17; bit++)
        g_string_append(text, (n >> bit) & 1 ? "aA" : "b ");
}

static void test_many_keys(void)
{
    enum { N = 1 << 17 };
    g_autoptr(GString) text = g_string_new("{");
    g_autoptr(GError) error = NULL;
    gint64 start_usec;
    size_t length;

    for (guint i = 0; i < N; i++) {
        g_string_append(text, i ? ",\n\"" : "\"");
        append_alike(text, i);
        g_string_append(text, "\":0");
    }
    length = text->len;
    g_string_append_c(text, '}');
    start_usec = g_get_monotonic_time();
    g_assert_true(check_exact(text->str, text->len, 1, NULL, NULL, &error));
    g_assert_no_error(error);
    /* Pair by pair this would be 8.6 * 10^9 comparisons of 34 bytes: minutes. */
    g_assert_cmpint(g_get_monotonic_time() - start_usec, <, 20 * G_USEC_PER_SEC);

    g_string_truncate(text, length);
    g_string_append(text, ",\n\"");
    append_alike(text, N / 2);
    g_string_append(text, "\":0}");
    g_assert_false(check_exact(text->str, text->len, 1, NULL, NULL, &error));
    g_assert_true(g_str_has_prefix(error->message, "line 131073, column 1: the name stands twice"));
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/json-check/good", test_good);
    g_test_add_func("/json-check/bad", test_bad);
    g_test_add_func("/json-check/events", test_events);
    g_test_add_func("/json-check/depth", test_depth);
    g_test_add_func("/json-check/many-keys", test_many_keys);
    return g_test_run();
}
