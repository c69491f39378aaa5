/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * One match rule. Its canonical form says all of it: the terms put together to a rule again, in
 * another order and quoted throughout, mean the same.
 */
#include <string.h>

#include "bus/match-rule.h"
#include "fuzz.h"

static const char *const names[] = {"org.styxy.Ports", ":1.0", NULL};
static const char *const interfaces[] = {"org.styxy.Ports", "org.freedesktop.DBus.Properties",
                                         NULL};
static const MatchSource source = {names, "/org/styxy/Ports", interfaces};

typedef struct Term {
    char *key;
    char *value;
} Term;

static void term_clear(void *data)
{
    Term *term = data;

    g_free(term->key);
    g_free(term->value);
}

/* Takes "KEY=BYTES:VALUE," apart. */
static GArray *terms_of(const char *canonical)
{
    GArray *terms = g_array_new(FALSE, FALSE, sizeof(Term));

    g_array_set_clear_func(terms, term_clear);
    while (*canonical) {
        const char *equals = strchr(canonical, '=');
        char *colon = NULL;
        guint64 bytes = equals ? g_ascii_strtoull(equals + 1, &colon, 10) : 0;
        Term term;

        g_assert_true(equals && *colon == ':');
        g_assert_cmpuint(strnlen(colon + 1, bytes), ==, bytes);
        term.key = g_strndup(canonical, (gsize)(equals - canonical));
        term.value = g_strndup(colon + 1, bytes);
        g_array_append_val(terms, term);
        canonical = colon + 1 + bytes;
        g_assert_true(*canonical++ == ',');
    }
    return terms;
}

/* The last term first, every value within apostrophes but for the apostrophes themselves. */
static char *rule_of(const GArray *terms)
{
    GString *rule = g_string_new(NULL);

    for (guint i = terms->len; i-- > 0;) {
        const Term *term = &g_array_index(terms, Term, i);

        g_string_append_printf(rule, "%s='", term->key);
        for (const char *p = term->value; *p; p++)
            if (*p == '\'')
                g_string_append(rule, "'\\''");
            else
                g_string_append_c(rule, *p);
        g_string_append(rule, i > 0 ? "'," : "'");
    }
    return g_string_free(rule, FALSE);
}

/* What the D-Bus specification says of the terms that concern signals of ours, told anew. */
static gboolean may_select(const GArray *terms)
{
    for (guint i = 0; i < terms->len; i++) {
        const Term *term = &g_array_index(terms, Term, i);

        if (g_str_equal(term->key, "destination") ||
            (g_str_equal(term->key, "type") && !g_str_equal(term->value, "signal")) ||
            (g_str_equal(term->key, "sender") && !g_strv_contains(names, term->value)) ||
            (g_str_equal(term->key, "interface") && !g_strv_contains(interfaces, term->value)) ||
            (g_str_equal(term->key, "path") && !g_str_equal(term->value, source.path)))
            return FALSE;
        if (g_str_equal(term->key, "path_namespace")) {
            g_autofree char *below = g_strconcat(term->value, "/", NULL);

            if (!g_str_equal(term->value, "/") && !g_str_equal(term->value, source.path) &&
                !g_str_has_prefix(source.path, below))
                return FALSE;
        }
    }
    return TRUE;
}

int LLVMFuzzerTestOneInput(const guint8 *data, size_t length)
{
    g_autofree char *text = g_strndup(data ? (const char *)data : "", length);
    gboolean selects = 2, selects_again = 2;
    g_autofree char *canonical = match_rule_parse(text, &source, &selects);
    g_autoptr(GArray) terms = NULL;
    g_autofree char *rule = NULL, *again = NULL;

    if (!canonical) {
        g_assert_cmpint(selects, ==, 2);
        return 0;
    }
    g_assert_cmpuint(strlen(text), <=, MATCH_RULE_BYTES_MAX);
    terms = terms_of(canonical);
    g_assert_cmpint(selects, ==, may_select(terms));
    rule = rule_of(terms);
    if (strlen(rule) > MATCH_RULE_BYTES_MAX)
        return 0;
    again = match_rule_parse(rule, &source, &selects_again);
    g_assert_cmpstr(canonical, ==, again);
    g_assert_cmpint(selects, ==, selects_again);
    return 0;
}
