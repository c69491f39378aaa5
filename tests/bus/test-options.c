/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <stdarg.h>
#include <string.h>
#include <sys/socket.h>

#include "bus/options.h"
#include "bus/sd-bus-auto.h"

static sd_bus *bus; /* messages need one; nothing is sent on it */

static sd_bus_message *message(const char *types, ...)
{
    sd_bus_message *m = NULL;
    va_list ap;

    g_assert_cmpint(sd_bus_message_new_method_call(bus, &m, NULL, "/", "a.b", "C"), >=, 0);
    va_start(ap, types);
    g_assert_cmpint(sd_bus_message_appendv(m, types, ap), >=, 0);
    va_end(ap);
    g_assert_cmpint(sd_bus_message_seal(m, 1, 0), >=, 0);
    g_assert_cmpint(sd_bus_message_rewind(m, TRUE), >=, 0);
    return m;
}

/* Parses the options; the message of the refusal must hold @hint, NULL: they must be taken. */
static void check(sd_bus_message *owned, const char *hint)
{
    g_autoptr(sd_bus_message) m = owned;
    g_autoptr(GError) error = NULL;
    AllocateArguments arguments;
    gboolean taken = options_parse_allocate(m, &arguments, &error);

    g_assert_cmpint(taken, ==, error == NULL);
    if (!hint) {
        g_assert_no_error(error);
        return;
    }
    if (taken)
        g_error("taken, where \"%s\" was to be said", hint);
    g_assert_error(error, OUTCOME_ERROR, OUTCOME_INVALID_ARGUMENT);
    if (!strstr(error->message, hint))
        g_error("\"%s\" does not say \"%s\"", error->message, hint);
    g_assert_true(g_utf8_validate(error->message, -1, NULL));
}

#define ONE(key, type, ...) message("a{sv}", 1, key, type, __VA_ARGS__)

static void test_bounds(void)
{
    g_autofree char *long_text = g_strnfill(101, 'a');

    check(ONE("port", "q", 0), "'port': 0 is not a port");
    check(ONE("port", "q", 1), NULL);
    check(ONE("port", "q", 65535), NULL);
    check(ONE("range", "(qq)", 0, 10), "'range': 0 to 10");
    check(ONE("range", "(qq)", 10, 9), "'range': 10 to 9");
    check(ONE("range", "(qq)", 0, 0), "'range'");
    check(ONE("range", "(qq)", 10, 10), NULL);
    check(ONE("protocol", "s", "sctp"), "'protocol': 'sctp'");
    check(ONE("protocol", "s", ""), "'protocol'");
    check(ONE("address", "s", "localhost"), "'address': 'localhost'");
    check(ONE("address", "s", "1.2.3.4.5"), "'address'");
    check(ONE("address", "s", "fe80::1%lo"), "'address'");
    check(ONE("address", "s", ""), "'address'");
    check(ONE("instance", "s", ""), "'instance'");
    check(ONE("instance", "s", "a b"), "'instance': 'a b'");
    check(ONE("instance", "s", long_text), "'instance'");
    check(ONE("instance", "s", "ok_-9"), NULL);
    check(ONE("label", "s", "a/b"), "'label': 'a/b'");
    check(ONE("label", "s", "ok_.-9"), NULL);
    check(ONE("lifetime", "s", "forever"), "'lifetime': 'forever'");
    check(ONE("hold", "s", "hard"), "'hold': 'hard'");
    check(ONE("retries", "u", OPTIONS_RETRIES_MAX + 1), "'retries': 101");
    check(ONE("retries", "u", OPTIONS_RETRIES_MAX), NULL);
    check(ONE("ttl_ms", "u", 0), "'ttl_ms'");
    check(ONE("pid", "u", 0), "'pid'");
    check(ONE("pid", "u", 4294967295u), "'pid'");
    check(ONE("health_timeout_ms", "u", 0), "'health_timeout_ms'");
    check(ONE("health_timeout_ms", "u", 60001), "at most 60000");
    check(ONE("on_unhealthy", "s", "explode"), "'on_unhealthy': 'explode'");
    check(ONE("strict", "b", TRUE), "'strict' needs option 'port'");
    check(message("a{sv}", 2, "strict", "b", TRUE, "port", "q", 1), NULL);
    check(message("a{sv}", 3, "strict", "b", TRUE, "port", "q", 1, "range", "(qq)", 5, 9),
          "outside of option 'range'");
}

static void test_types(void)
{
    static const char *const keys[] = {
        "port",         "strict", "range",      "protocol",          "address",
        "instance",     "label",  "hold",       "lifetime",          "retries",
        "ttl_ms",       "pid",    "health_url", "health_timeout_ms", "pidfd",
        "on_unhealthy",
    };

    for (guint i = 0; i < G_N_ELEMENTS(keys); i++) {
        g_autofree char *hint = g_strdup_printf("'%s' is of type 'x'", keys[i]);
        g_autofree char *variant = g_strdup_printf("'%s' is of type 'v'", keys[i]);

        check(ONE(keys[i], "x", (gint64)7), hint);
        check(ONE(keys[i], "v", "s", "x"), variant);
    }
    check(ONE("port", "i", 80), "'port' is of type 'i' and should be 'q'");
    check(ONE("range", "aq", 2, 1, 2), "'range' is of type 'aq' and should be '(qq)'");
}

static void test_keys(void)
{
    g_autofree char *key = g_strnfill(99, 'k');
    g_autofree char *split = g_strconcat(key, "ä", "kkkk", NULL);

    check(ONE("prot", "s", "tcp"), "Unknown option 'prot'");
    check(ONE("", "s", "tcp"), "Unknown option ''");
    check(ONE("Port", "q", 80), "Unknown option 'Port'");
    check(ONE(split, "q", 80), "Unknown option 'kkkk"); /* cut between characters */
    check(message("a{sv}", 2, "port", "q", 80, "port", "q", 80), "'port' is given twice");
    check(message("a{sv}", 3, "port", "q", 80, "x", "s", "", "port", "q", 80),
          "Unknown option 'x'");
    check(message("a{sv}", 0), NULL);
}

static void test_values(void)
{
    g_autoptr(sd_bus_message) m =
        message("a{sv}", 9, "port", "q", 8080, "strict", "b", TRUE, "range", "(qq)", 8000, 9000,
                "protocol", "s", "udp", "address", "s", "::ffff:127.0.0.1", "instance", "s", "web",
                "label", "s", "l.1", "lifetime", "s", "persistent", "retries", "u", 4);
    g_autoptr(sd_bus_message) v6 = ONE("address", "s", "0:0::0001");
    g_autoptr(sd_bus_message) none = message("a{sv}", 0);
    g_autoptr(GError) error = NULL;
    AllocateArguments arguments;

    g_assert_true(options_parse_allocate(m, &arguments, &error));
    g_assert_cmpuint(arguments.request.port, ==, 8080);
    g_assert_true(arguments.request.strict);
    g_assert_cmpuint(arguments.request.range.first, ==, 8000);
    g_assert_cmpuint(arguments.request.range.last, ==, 9000);
    g_assert_cmpint(arguments.request.protocol, ==, PROTOCOL_UDP);
    g_assert_cmpstr(arguments.request.address, ==, "127.0.0.1");
    g_assert_cmpstr(arguments.request.instance, ==, "web");
    g_assert_cmpstr(arguments.request.label, ==, "l.1");
    g_assert_cmpint(arguments.request.lifetime, ==, LIFETIME_PERSISTENT);
    g_assert_cmpint(arguments.options.retries, ==, 4);

    g_assert_true(options_parse_allocate(v6, &arguments, &error));
    g_assert_cmpstr(arguments.request.address, ==, "::1");

    g_assert_true(options_parse_allocate(none, &arguments, &error));
    g_assert_cmpint(arguments.options.retries, ==, -1);
    g_assert_cmpuint(arguments.request.count, ==, 1);
    g_assert_null(arguments.request.address);
    g_assert_false(port_range_is_set(arguments.request.range));
}

static void test_combinations(void)
{
    check(ONE("lifetime", "s", "process"), "'process' needs option 'pid'");
    check(message("a{sv}", 2, "lifetime", "s", "process", "pid", "u", 1), NULL);
    check(message("a{sv}", 2, "pid", "u", 1, "pidfd", "h", 0), "exclude each other");
    check(ONE("health_timeout_ms", "u", 5), "needs option 'health_url'");
    check(message("a{sv}", 2, "hold", "s", "soft", "protocol", "s", "udp"), "'hold'");
    check(message("a{sv}", 2, "hold", "s", "soft", "protocol", "s", "tcp"), NULL);
}

static void test_filter(void)
{
    g_autoptr(sd_bus_message) m =
        message("a{sv}", 6, "service_type", "s", "dev", "instance", "s", "i", "uid", "u", 7,
                "protocol", "s", "tcp", "health", "s", "dormant", "range", "(qq)", 1, 2);
    g_autoptr(sd_bus_message) unknown = ONE("port", "q", 80);
    g_autoptr(sd_bus_message) bad = ONE("health", "s", "fine");
    g_autoptr(GError) error = NULL;
    LeaseFilter filter;

    g_assert_true(options_parse_filter(m, &filter, &error));
    g_assert_cmpstr(filter.service_type, ==, "dev");
    g_assert_cmpstr(filter.instance, ==, "i");
    g_assert_true(filter.has_uid && filter.uid == 7);
    g_assert_cmpint(filter.protocol, ==, PROTOCOL_TCP);
    g_assert_true(filter.has_health && filter.health == HEALTH_DORMANT);
    g_assert_cmpuint(filter.range.last, ==, 2);
    g_assert_false(options_parse_filter(unknown, &filter, &error));
    g_assert_error(error, OUTCOME_ERROR, OUTCOME_INVALID_ARGUMENT);
    g_clear_error(&error);
    g_assert_false(options_parse_filter(bad, &filter, &error));
    g_assert_error(error, OUTCOME_ERROR, OUTCOME_INVALID_ARGUMENT);
}

/* What needs an administrator's word: another port or address than the lease's. */
static void test_health_url(void)
{
    static const struct {
        const char *url, *address;
        guint16 port;
        gboolean foreign;
        const char *kept; /* NULL = as it was written */
    } cases[] = {
        {"http://127.0.0.1:{port}/a", NULL, 0, FALSE},
        {"http://[::1]:{port}/", NULL, 0, FALSE},
        {"http://localhost:{port}/", "127.0.0.1", 0, FALSE},
        {"http://127.0.0.9:{port}/", "127.0.0.9", 0, FALSE},
        {"http://127.0.0.1:{port}/", "127.0.0.9", 0, TRUE},
        {"http://localhost:{port}/", "192.0.2.1", 0, TRUE},
        {"http://127.0.0.9:{port}/", NULL, 0, TRUE},
        {"http://127.0.0.1:3000/", NULL, 3000, FALSE, "http://127.0.0.1:{port}/"},
        {"http://127.0.0.1:3000/", "127.0.0.9", 3000, TRUE},
        {"http://127.0.0.1:3000/", NULL, 0, TRUE},
        {"http://127.0.0.1:3000/", NULL, 3001, TRUE},
    };

    for (guint i = 0; i < G_N_ELEMENTS(cases); i++) {
        AllocateArguments arguments = {.request = {.health_url = cases[i].url,
                                                   .address = cases[i].address,
                                                   .port = cases[i].port},
                                       .pidfd = -1};
        g_autoptr(GError) error = NULL;
        gboolean foreign = FALSE;

        g_test_message("%s of %s", cases[i].url, cases[i].address);
        g_assert_true(options_resolve_health_url(&arguments, &foreign, &error));
        g_assert_no_error(error);
        g_assert_cmpint(foreign, ==, cases[i].foreign);
        g_assert_cmpstr(arguments.health_url, ==, cases[i].kept ? cases[i].kept : cases[i].url);
        g_free(arguments.health_url);
    }
}

int main(int argc, char **argv)
{
    int fds[2];
    int r;

    g_test_init(&argc, &argv, NULL);
    g_assert_cmpint(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), ==, 0);
    g_assert_cmpint(sd_bus_new(&bus), >=, 0);
    g_assert_cmpint(sd_bus_set_fd(bus, fds[0], fds[0]), >=, 0);
    g_assert_cmpint(sd_bus_negotiate_fds(bus, TRUE), >=, 0);
    g_assert_cmpint(sd_bus_start(bus), >=, 0);
    g_test_add_func("/bus/options/bounds", test_bounds);
    g_test_add_func("/bus/options/types", test_types);
    g_test_add_func("/bus/options/keys", test_keys);
    g_test_add_func("/bus/options/values", test_values);
    g_test_add_func("/bus/options/combinations", test_combinations);
    g_test_add_func("/bus/options/filter", test_filter);
    g_test_add_func("/bus/options/health-url", test_health_url);
    r = g_test_run();
    sd_bus_close(bus);
    sd_bus_unref(bus);
    close(fds[1]);
    return r;
}
