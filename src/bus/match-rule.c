/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "bus/match-rule.h"

#include <string.h>

/* Words and punctuation cannot make more than this out of MATCH_RULE_BYTES_MAX. */
#define TERMS_MAX 128

typedef struct Term {
    const char *key;
    const char *value;
} Term;

/*
 * Takes one key=value off *@cursor, with apostrophes and backslashes resolved as in a shell: within
 * apostrophes nothing is special, outside of them \' is an apostrophe.
 * Returns: FALSE when there is none.
 */
static gboolean next_term(const char **cursor, GStringChunk *strings, Term *ret_term)
{
    g_autoptr(GString) value = g_string_new(NULL);
    const char *p = *cursor;
    const char *equals = NULL;
    gboolean quoted = FALSE;

    while (*p == ' ')
        p++;
    equals = strchr(p, '=');
    if (!equals || equals == p)
        return FALSE;
    ret_term->key = g_string_chunk_insert_len(strings, p, equals - p);
    for (p = equals + 1; *p && (quoted || *p != ','); p++) {
        if (*p == '\'')
            quoted = !quoted;
        else if (!quoted && *p == '\\' && p[1] == '\'')
            g_string_append_c(value, *++p);
        else
            g_string_append_c(value, *p);
    }
    if (quoted)
        return FALSE;
    ret_term->value = g_string_chunk_insert(strings, value->str);
    *cursor = *p == ',' ? p + 1 : p;
    return TRUE;
}

static gboolean is_argument(const char *key)
{
    const char *p = key + 3;
    guint64 number;

    if (strncmp(key, "arg", 3) != 0 || !g_ascii_isdigit(*p))
        return FALSE;
    number = g_ascii_strtoull(p, (char **)&p, 10);
    return number <= 63 &&
           (*p == '\0' || strcmp(p, "path") == 0 || (number == 0 && strcmp(p, "namespace") == 0));
}

static gboolean is_known(const Term *term)
{
    static const char *const keys[] = {"type", "sender",         "interface",   "member",
                                       "path", "path_namespace", "destination", "eavesdrop"};
    static const char *const types[] = {"signal", "method_call", "method_return", "error"};

    if (strcmp(term->key, "type") == 0) {
        for (guint i = 0; i < G_N_ELEMENTS(types); i++)
            if (strcmp(term->value, types[i]) == 0)
                return TRUE;
        return FALSE;
    }
    for (guint i = 0; i < G_N_ELEMENTS(keys); i++)
        if (strcmp(term->key, keys[i]) == 0)
            return TRUE;
    return is_argument(term->key);
}

static gboolean in_namespace(const char *path, const char *prefix)
{
    size_t length = strlen(prefix);

    if (strcmp(prefix, "/") == 0)
        return TRUE;
    return strncmp(path, prefix, length) == 0 && (path[length] == '\0' || path[length] == '/');
}

/* Whether @term leaves it possible that the rule selects a signal of @source. */
static gboolean allows(const Term *term, const MatchSource *source)
{
    if (strcmp(term->key, "type") == 0)
        return strcmp(term->value, "signal") == 0;
    if (strcmp(term->key, "sender") == 0)
        return g_strv_contains(source->names, term->value);
    if (strcmp(term->key, "interface") == 0)
        return g_strv_contains(source->interfaces, term->value);
    if (strcmp(term->key, "path") == 0)
        return strcmp(term->value, source->path) == 0;
    if (strcmp(term->key, "path_namespace") == 0)
        return in_namespace(source->path, term->value);
    if (strcmp(term->key, "destination") == 0)
        return FALSE; /* ours go to everybody */
    return TRUE;
}

static int compare_terms(const void *a, const void *b)
{
    int order = strcmp(((const Term *)a)->key, ((const Term *)b)->key);

    return order ? order : strcmp(((const Term *)a)->value, ((const Term *)b)->value);
}

static char *canonical(Term *terms, size_t n_terms)
{
    GString *text = g_string_new(NULL);

    qsort(terms, n_terms, sizeof(*terms), compare_terms);
    for (size_t i = 0; i < n_terms; i++) /* the lengths keep two values from reading as one */
        g_string_append_printf(text, "%s=%zu:%s,", terms[i].key, strlen(terms[i].value),
                               terms[i].value);
    return g_string_free(text, FALSE);
}

char *match_rule_parse(const char *rule, const MatchSource *source, gboolean *ret_selects)
{
    g_autoptr(GStringChunk) strings = NULL;
    gboolean selects = TRUE;
    Term terms[TERMS_MAX];
    size_t n_terms = 0;

    if (strlen(rule) > MATCH_RULE_BYTES_MAX)
        return NULL;
    strings = g_string_chunk_new(256);
    while (*rule) {
        if (n_terms == TERMS_MAX || !next_term(&rule, strings, &terms[n_terms]) ||
            !is_known(&terms[n_terms]))
            return NULL;
        for (size_t i = 0; i < n_terms; i++)
            if (strcmp(terms[i].key, terms[n_terms].key) == 0)
                return NULL;
        selects = selects && allows(&terms[n_terms], source);
        n_terms++;
    }
    *ret_selects = selects;
    return canonical(terms, n_terms);
}
