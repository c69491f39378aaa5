/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "cli/arguments-tables.h"
#include "cli/arguments.h"

#include <string.h>

/* Command lines are written with '|' between the words, so that words may hold blanks. */
static Arguments *parse(const char *line, GStrv *ret_words, GError **error)
{
    *ret_words = g_strsplit(line, "|", -1);
    return arguments_parse(*ret_words, error);
}

static void test_refused(void)
{
    static const struct {
        const char *line;
        const char *says; /* a part of the message */
    } cases[] = {
        {"", "no verb"},
        {"--quiet", "no verb"},
        {"alocate|dev", "unknown verb 'alocate'"},
        {"allocate", "needs more: styxyctl allocate TYPE"},
        {"allocate|a_b", "'a_b' is not a service type"},
        {"allocate|dev|api", "does not take 'api'"},
        {"allocate|dev|--port", "--port needs a value"},
        {"allocate|dev|--port=80abc", "--port: '80abc' is not a port"},
        {"allocate|dev|--port|3.7", "'3.7'"},
        {"allocate|dev|--port|0", "'0'"},
        {"allocate|dev|--port|70000", "'70000'"},
        {"allocate|dev|--port|+5", "'+5'"},
        {"allocate|dev|--port| 5", "' 5'"},
        {"allocate|dev|--port|0x10", "'0x10'"},
        {"allocate|dev|--port=", "''"},
        {"allocate|dev|--strict=yes|--port=80", "--strict takes no value"},
        {"allocate|dev|--strict", "--strict needs --port"},
        {"allocate|dev|--prot=tcp", "unknown option '--prot'"},
        {"allocate|dev|--protocol=TCP", "'TCP' is not 'tcp', 'udp' or 'both'"},
        {"allocate|dev|--range=9-1", "--range: '9-1'"},
        {"allocate|dev|--instance=a b", "--instance"},
        {"allocate|dev|--label=a/b", "--label"},
        {"allocate|dev|--pid=0", "--pid: '0' is not a process id"},
        {"allocate|dev|--pid=2147483648", "--pid"},
        {"allocate|dev|--lifetime=client", "styxyctl run"},
        {"allocate|dev|--lifetime=process", "needs --pid"},
        {"allocate|dev|--lifetime=forever", "--lifetime: 'forever'"},
        {"allocate|dev|--hold=hard", "--hold: 'hard'"},
        {"allocate|dev|--ttl=0", "--ttl"},
        {"allocate|dev|--retries=-1", "--retries"},
        {"allocate|dev|--health-url=", "--health-url"},
        {"allocate|dev|--on-unhealthy=panic", "--on-unhealthy"},
        {"allocate|dev|--count=0", "--count"},
        {"allocate|dev|--count=65536", "--count"},
        {"allocate|dev|--address=localhost", "'localhost' is not a D-Bus address"},
        {"allocate|dev|--socket", "allocate does not take --socket"},
        {"allocate|dev|-x", "unknown option '-x'"},
        {"allocate|dev|-qx", "unknown option '-x'"},
        {"list|--address=127.0.0.1", "list does not take --address"},
        {"list|--strict", "list does not take --strict"},
        {"list|--uid=4294967295", "--uid"},
        {"list|--health=well", "--health"},
        {"list|dev", "list does not take 'dev'"},
        {"list|--json=yes", "--json: 'yes' is not 'short', 'pretty' or 'off'"},
        {"release", "needs more"},
        {"release|3000|--instance=x", "either leases or --instance"},
        {"run", "needs more"},
        {"run|dev", "needs a command: styxyctl run dev"},
        {"run|dev|--", "needs a command"},
        {"run|dev|ls", "put '--' before the command: styxyctl run dev -- ls"},
        {"run|dev|python3|-m|http.server", "put '--' before the command"},
        {"run|dev|--pid=5|--|ls", "run does not take --pid"},
        {"run|dev|--lifetime=auto|--|ls", "run does not take --lifetime"},
        {"run|dev|--socket|--protocol=both|--|ls", "one socket"},
        {"--|run|dev|ls", "put '--' before"},
    };

    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_auto(GStrv) words = NULL;
        g_autoptr(GError) error = NULL;
        g_autoptr(Arguments) args = parse(cases[i].line, &words, &error);

        g_test_message("%s", cases[i].line);
        g_assert_null(args);
        g_assert_error(error, CLI_ERROR, EXIT_STATUS_USAGE);
        g_test_message("  %s", error->message);
        g_assert_nonnull(strstr(error->message, cases[i].says));
        /* an error is a line, never the help text */
        g_assert_null(strchr(error->message, '\n'));
    }
}

static void test_anywhere(void)
{
    static const char *const lines[] = {
        "--user|--json=short|-q|allocate|dev|--port=80",
        "allocate|--user|dev|--json|short|--port|80|--quiet",
        "allocate|dev|--port=81|--port=80|--json=off|--json=short|--system|--user|-q",
        "--port=80|--user|allocate|--quiet|--json=short|--|dev",
    };

    for (size_t i = 0; i < G_N_ELEMENTS(lines); i++) {
        g_auto(GStrv) words = NULL;
        g_autoptr(GError) error = NULL;
        g_autoptr(Arguments) args = parse(lines[i], &words, &error);

        g_test_message("%s", lines[i]);
        g_assert_no_error(error);
        g_assert_cmpint(args->verb, ==, VERB_ALLOCATE);
        g_assert_true(arguments_has(args, OPTION_USER));
        g_assert_false(arguments_has(args, OPTION_SYSTEM));
        g_assert_true(arguments_has(args, OPTION_QUIET));
        g_assert_cmpint(args->json, ==, JSON_MODE_SHORT);
        g_assert_cmpuint(args->port, ==, 80);
        g_assert_cmpstr(arguments_operand(args, 0), ==, "dev");
        g_assert_null(arguments_operand(args, 1));
        g_assert_null(args->command);
    }
}

static void test_address(void)
{
    static const char line[] = "--address=unix:path=/x|allocate|dev|--address|::1";
    g_auto(GStrv) words = NULL;
    g_autoptr(GError) error = NULL;
    g_autoptr(Arguments) args = parse(line, &words, &error);

    g_assert_no_error(error);
    g_assert_cmpstr(args->bus_address, ==, "unix:path=/x");
    g_assert_cmpstr(args->bind_address, ==, "::1");
    g_assert_true(arguments_has(args, OPTION_BUS_ADDRESS));
    g_assert_true(arguments_has(args, OPTION_BIND_ADDRESS));
}

static void test_run(void)
{
    static const char line[] = "run|dev|--socket|--|prog|--port={port}|--|-x";
    g_auto(GStrv) words = NULL;
    g_autoptr(GError) error = NULL;
    g_autoptr(Arguments) args = parse(line, &words, &error);
    g_autofree char *command = NULL;

    g_assert_no_error(error);
    g_assert_true(arguments_has(args, OPTION_SOCKET));
    g_assert_false(arguments_has(args, OPTION_PORT));
    command = g_strjoinv("|", args->command);
    g_assert_cmpstr(command, ==, "prog|--port={port}|--|-x");
}

static void test_values(void)
{
    static const char line[] =
        "allocate|dev|--range=10-20|--protocol=both|--instance=i|--label=l|--pid=5|"
        "--lifetime=process|--hold=soft|--retries=0|--ttl=2|--health-url=http://x/|"
        "--health-timeout=3ms|--on-unhealthy=notify|--count=4";
    g_auto(GStrv) words = NULL;
    g_autoptr(GError) error = NULL;
    g_autoptr(Arguments) args = parse(line, &words, &error);

    g_assert_no_error(error);
    g_assert_cmpuint(args->range.first, ==, 10);
    g_assert_cmpuint(args->range.last, ==, 20);
    g_assert_cmpint((int)args->protocol, ==, PROTOCOL_BOTH);
    g_assert_cmpstr(args->instance, ==, "i");
    g_assert_cmpstr(args->label, ==, "l");
    g_assert_cmpuint(args->pid, ==, 5);
    g_assert_cmpint(args->lifetime, ==, LIFETIME_PROCESS);
    g_assert_cmpint(args->hold, ==, HOLD_SOFT);
    g_assert_true(arguments_has(args, OPTION_RETRIES));
    g_assert_cmpuint(args->retries, ==, 0);
    g_assert_cmpuint(args->ttl_msec, ==, 2000);
    g_assert_cmpstr(args->health_url, ==, "http://x/");
    g_assert_cmpuint(args->health_timeout_msec, ==, 3);
    g_assert_cmpint(args->on_unhealthy, ==, ON_UNHEALTHY_NOTIFY);
    g_assert_cmpuint(args->count, ==, 4);
}

/* --help needs no more than itself, even where the rest is not complete yet. */
static void test_help(void)
{
    static const char *const lines[] = {"--help", "-h", "allocate|--help", "run|-h|dev"};

    for (size_t i = 0; i < G_N_ELEMENTS(lines); i++) {
        g_auto(GStrv) words = NULL;
        g_autoptr(GError) error = NULL;
        g_autoptr(Arguments) args = parse(lines[i], &words, &error);

        g_assert_no_error(error);
        g_assert_true(arguments_has(args, OPTION_HELP));
    }
    for (guint verb = 0; verb <= _VERB_MAX; verb++) {
        g_autofree char *text = arguments_help((VerbId)verb);

        g_assert_nonnull(strstr(text, "--json=MODE"));
        if (verb < _VERB_MAX)
            g_assert_nonnull(strstr(text, verb_name((VerbId)verb)));
    }
}

/* Every option has a name of its own in each verb, and every verb can be found by its name. */
static void test_tables(void)
{
    for (guint verb = 0; verb < _VERB_MAX; verb++) {
        g_assert_cmpint(verb_from_name(verb_name((VerbId)verb)), ==, (int)verb);
        g_assert_cmpuint(verb_info((VerbId)verb)->operands_min, <=,
                         verb_info((VerbId)verb)->operands_max);
        g_assert_true(option_applies(OPTION_JSON, (VerbId)verb));
    }
    for (guint id = 0; id < _OPTION_MAX; id++) {
        guint verbs = 0;

        for (guint verb = 0; verb < _VERB_MAX; verb++)
            verbs += option_applies((OptionId)id, (VerbId)verb);
        g_assert_cmpuint(verbs, >, 0);
        g_assert_nonnull(option_find(option_name((OptionId)id), '\0'));
    }
    g_assert_cmpint(verb_from_name("nonsense"), ==, _VERB_MAX);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/arguments/refused", test_refused);
    g_test_add_func("/arguments/anywhere", test_anywhere);
    g_test_add_func("/arguments/address", test_address);
    g_test_add_func("/arguments/run", test_run);
    g_test_add_func("/arguments/values", test_values);
    g_test_add_func("/arguments/help", test_help);
    g_test_add_func("/arguments/tables", test_tables);
    return g_test_run();
}
