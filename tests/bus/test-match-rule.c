/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "bus/match-rule.h"

static const char *const names[] = {"org.example.Us", ":1.0", NULL};
static const char *const interfaces[] = {"org.example.Us", "org.freedesktop.DBus.Properties", NULL};
static const MatchSource source = {names, "/org/example/Us", interfaces};

static void test_selects(void)
{
    static const struct {
        const char *rule;
        gboolean selects;
    } cases[] = {
        {"", TRUE},
        {"type='signal'", TRUE},
        {"type=signal", TRUE},
        {"type='method_call'", FALSE},
        {"sender='org.example.Us'", TRUE},
        {"sender=':1.0',type='signal'", TRUE},
        {"sender='org.freedesktop.DBus'", FALSE},
        {"interface='org.example.Us',member='Anything'", TRUE},
        {"interface='org.freedesktop.DBus.Properties'", TRUE},
        {"interface='org.freedesktop.DBus',member='NameOwnerChanged'", FALSE},
        {"path='/org/example/Us'", TRUE},
        {"path='/org/example'", FALSE},
        {"path_namespace='/org/example'", TRUE},
        {"path_namespace='/org/example/Us'", TRUE},
        {"path_namespace='/org/exam'", FALSE},
        {"path_namespace='/'", TRUE},
        {"destination=':1.7'", FALSE},
        {"arg0='x',arg63path='/y',arg0namespace='z'", TRUE},
        {"eavesdrop='true'", TRUE},
        {" type='signal', sender='org.example.Us'", TRUE},
        {"type='signal',", TRUE},
        {"arg0='it'\\''s',type='signal'", TRUE},
        {"arg0='type=method_call,'", TRUE},
    };

    for (guint i = 0; i < G_N_ELEMENTS(cases); i++) {
        gboolean selects = 7;
        g_autofree char *rule = match_rule_parse(cases[i].rule, &source, &selects);

        if (!rule || selects != cases[i].selects)
            g_error("rule \"%s\": %s, %d", cases[i].rule, rule ? rule : "refused", selects);
    }
}

static void test_invalid(void)
{
    static const char *const rules[] = {
        "nonsense",
        "=x",
        "type='bogus'",
        "type",
        "sender='a",
        "color='red'",
        "arg64='x'",
        "arg='x'",
        "arg1namespace=",
        "argx='1'",
        "type='signal',type='signal'",
        "arg0='a',arg0='b'",
        "'type'='signal'",
    };
    g_autofree char *endless = g_strnfill(MATCH_RULE_BYTES_MAX + 1, ',');
    g_autoptr(GString) many = g_string_new(NULL);
    gboolean selects = 7;

    for (guint i = 0; i < G_N_ELEMENTS(rules); i++)
        if (match_rule_parse(rules[i], &source, &selects))
            g_error("taken for a rule: %s", rules[i]);
    g_assert_null(match_rule_parse(endless, &source, &selects));
    for (guint i = 0; i < 400; i++)
        g_string_append(many, "a=,");
    g_assert_null(match_rule_parse(many->str, &source, &selects));
    g_assert_cmpint(selects, ==, 7); /* untouched */
}

static void test_same(void)
{
    gboolean selects;
    g_autofree char *one = match_rule_parse("type='signal',member='M'", &source, &selects);
    g_autofree char *same = match_rule_parse("member=M, type=signal", &source, &selects);
    g_autofree char *quoted = match_rule_parse("member='x,type=signal'", &source, &selects);
    g_autofree char *plain = match_rule_parse("member='x',type='signal'", &source, &selects);

    g_assert_cmpstr(one, ==, same);
    g_assert_cmpstr(quoted, !=, plain);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/bus/match-rule/selects", test_selects);
    g_test_add_func("/bus/match-rule/invalid", test_invalid);
    g_test_add_func("/bus/match-rule/same", test_same);
    return g_test_run();
}
