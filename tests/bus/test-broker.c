/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* On a private broker: identities, departures, the name, and a broker that goes away. */
#include "fixture.h"

#include <signal.h>
#include <string.h>

#include <sys/resource.h>

#include "bus/ports-iface.h"

#define NOBODY 65534

static int release_foreign(Fixture *fixture, const void *data)
{
    g_autoptr(sd_bus) bus = fixture_connect(fixture->bus_address);
    G_GNUC_UNUSED g_autofree char *by_id = call_refused(bus, "NotOwner", "Release", "s", data);
    G_GNUC_UNUSED g_autofree char *reload = call_refused(bus, "NotAuthorized", "Reload", NULL);
    G_GNUC_UNUSED g_autofree char *low =
        call_refused(bus, "NotAuthorized", "Allocate", "sa{sv}", "dev", 1, "port", "q", 80);
    g_auto(sd_bus_error) error = SD_BUS_ERROR_NULL;

    g_assert_cmpint(sd_bus_set_property(bus, PORTS_NAME, "/org/freedesktop/LogControl1",
                                        "org.freedesktop.LogControl1", "LogLevel", &error, "s",
                                        "debug"),
                    <, 0);
    g_assert_cmpstr(error.name, ==, "org.styxy.Ports.Error.NotAuthorized");
    return 0;
}

static int leave_lease(Fixture *fixture, const void *data)
{
    g_autoptr(sd_bus) bus = fixture_connect(fixture->bus_address);

    (void)allocate(bus, NULL, "dev", "a{sv}", 0);
    return 0;
}

static guint32 uid_of(sd_bus *bus, const char *lease)
{
    g_autoptr(sd_bus_message) reply = call_ok(bus, "GetLease", "s", lease);
    guint32 uid = 7;
    const char *key;

    g_assert_cmpint(sd_bus_message_enter_container(reply, 'a', "{sv}"), >, 0);
    while (sd_bus_message_enter_container(reply, 'e', "sv") > 0) {
        g_assert_cmpint(sd_bus_message_read(reply, "s", &key), >, 0);
        g_assert_cmpint(g_str_equal(key, "uid") ? sd_bus_message_read(reply, "v", "u", &uid)
                                                : sd_bus_message_skip(reply, "v"),
                        >, 0);
        g_assert_cmpint(sd_bus_message_exit_container(reply), >, 0);
    }
    return uid;
}

static void test_identity(void)
{
    g_autoptr(Fixture) fixture = fixture_new(FIXTURE_BROKER, NULL);
    g_autoptr(sd_bus) bus = fixture_connect(fixture->bus_address);
    g_autoptr(sd_bus_message) released = NULL;
    g_autofree char *lease = NULL;

    g_assert_cmpuint(allocate(bus, &lease, "dev", "a{sv}", 0), ==, 20000);
    g_assert_cmpuint(uid_of(bus, lease), ==, 0);
    g_assert_cmpint(fixture_as(NOBODY, release_foreign, fixture, lease), ==, 0);
    g_assert_cmpint(fixture_as(NOBODY, leave_lease, fixture, NULL), ==, 0);
    g_assert_cmpuint(lease_count(bus), ==, 2);
    released = call_ok(bus, "ReleasePort", "qs", 20001, "tcp"); /* root may */
    g_assert_cmpuint(lease_count(bus), ==, 1);
}

/* ---- the first messages of a connection stand by until it is known, and keep their order ---- */

static int on_reply(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
    GString *answers = userdata;
    const sd_bus_error *refusal = sd_bus_message_get_error(m);
    guint16 port = 0;

    if (refusal)
        g_string_append_printf(answers, "%s ", strrchr(refusal->name, '.') + 1);
    else if (sd_bus_message_has_signature(m, ""))
        g_string_append(answers, "- ");
    else if (sd_bus_message_read(m, "q", &port) > 0)
        g_string_append_printf(answers, "%u ", port);
    return 0;
}

static void test_first_messages(void)
{
    g_autoptr(Fixture) fixture = fixture_new(FIXTURE_BROKER, NULL);
    g_autoptr(sd_bus) bus = fixture_connect(fixture->bus_address);
    g_autoptr(GString) answers = g_string_new(NULL);
    g_autoptr(GString) expected = g_string_new(NULL);
    gint64 end_usec = g_get_monotonic_time() + 10 * G_USEC_PER_SEC;

    for (guint i = 0; i < 100; i++) { /* each pair works in this order only */
        g_assert_cmpint(sd_bus_call_method_async(bus, NULL, PORTS_NAME, PORTS_PATH, PORTS_INTERFACE,
                                                 "Allocate", on_reply, answers, "sa{sv}", "dev", 2,
                                                 "port", "q", 20050, "strict", "b", 1),
                        >=, 0);
        g_assert_cmpint(sd_bus_call_method_async(bus, NULL, PORTS_NAME, PORTS_PATH, PORTS_INTERFACE,
                                                 "ReleasePort", on_reply, answers, "qs", 20050,
                                                 "tcp"),
                        >=, 0);
        g_string_append(expected, "20050 - ");
    }
    while (answers->len < expected->len && g_get_monotonic_time() < end_usec)
        if (sd_bus_process(bus, NULL) == 0)
            (void)sd_bus_wait(bus, G_USEC_PER_SEC);
    g_assert_cmpstr(answers->str, ==, expected->str);
}

/* ---- turns ---- */

#define LOUD 60

/* Sends @n calls on @bus, without waiting for their answers. */
static void send_many(sd_bus *bus, guint n, GString *answers)
{
    for (guint i = 0; i < n; i++)
        g_assert_cmpint(sd_bus_call_method_async(bus, NULL, PORTS_NAME, PORTS_PATH, PORTS_INTERFACE,
                                                 "Allocate", on_reply, answers, "sa{sv}", "dev", 0),
                        >=, 0);
    g_assert_cmpint(sd_bus_flush(bus), >=, 0);
}

/* Returns once the broker has handled all that was sent on @bus. */
static void pass_broker(sd_bus *bus)
{
    g_autoptr(sd_bus_message) reply = NULL;

    g_assert_cmpint(sd_bus_call_method(bus, "org.freedesktop.DBus", "/org/freedesktop/DBus",
                                       "org.freedesktop.DBus", "GetId", NULL, &reply, NULL),
                    >=, 0);
}

static void wait_answers(sd_bus *bus, const GString *answers, guint n)
{
    gint64 end_usec = g_get_monotonic_time() + 10 * G_USEC_PER_SEC;
    guint words = 0;

    while (words < n && g_get_monotonic_time() < end_usec) {
        if (sd_bus_process(bus, NULL) == 0)
            (void)sd_bus_wait(bus, G_USEC_PER_SEC);
        words = 0;
        for (const char *c = answers->str; *c; c++)
            words += *c == ' ';
    }
    g_assert_cmpuint(words, ==, n);
}

/*
 * The server finds all of it at once: ports are given from the lowest on, so the number says who
 * was served when. One connection's calls keep their order, and another is not behind them all.
 */
static void test_turns(void)
{
    g_autoptr(Fixture) fixture = fixture_new(FIXTURE_BROKER, NULL);
    g_autoptr(sd_bus) loud = fixture_connect(fixture->bus_address);
    g_autoptr(sd_bus) quiet = fixture_connect(fixture->bus_address);
    g_autoptr(GString) loud_answers = g_string_new(NULL);
    g_autoptr(GString) quiet_answers = g_string_new(NULL);
    g_autoptr(GString) expected = g_string_new(NULL);
    guint mine;

    g_free(call_refused(loud, "UnknownServiceType", "Suggest", "su", "nope", 1));
    g_free(call_refused(quiet, "UnknownServiceType", "Suggest", "su", "nope", 1));
    g_assert_cmpint(kill(fixture->server, SIGSTOP), ==, 0);
    send_many(loud, LOUD, loud_answers);
    pass_broker(loud);
    send_many(quiet, 1, quiet_answers);
    pass_broker(quiet);
    g_assert_cmpint(kill(fixture->server, SIGCONT), ==, 0);
    wait_answers(quiet, quiet_answers, 1);
    wait_answers(loud, loud_answers, LOUD);
    mine = (guint)g_ascii_strtoull(quiet_answers->str, NULL, 10);
    g_test_message("%u were served before", mine - 20000);
    g_assert_cmpuint(mine, <, 20000 + LOUD / 2);
    for (guint port = 20000; port <= 20000 + LOUD; port++)
        if (port != mine)
            g_string_append_printf(expected, "%u ", port);
    g_assert_cmpstr(loud_answers->str, ==, expected->str);
}

/* Who has more under way than can be kept is told so, and which limit it is. */
static void test_too_many(void)
{
    g_autoptr(Fixture) fixture =
        fixture_new(FIXTURE_BROKER, "\"pending_requests_per_connection\": 2");
    g_autoptr(sd_bus) bus = fixture_connect(fixture->bus_address);
    g_autoptr(GString) answers = g_string_new(NULL);

    g_assert_cmpint(kill(fixture->server, SIGSTOP), ==, 0);
    send_many(bus, 100, answers);
    pass_broker(bus);
    g_assert_cmpint(kill(fixture->server, SIGCONT), ==, 0);
    wait_answers(bus, answers, 100);
    g_assert_nonnull(strstr(answers->str, "QuotaExceeded"));
    g_assert_nonnull(strstr(answers->str, "20000 "));
}

/* ---- departures ---- */

static void test_client_lease(void)
{
    g_autoptr(Fixture) fixture = fixture_new(FIXTURE_BROKER, NULL);
    g_autoptr(sd_bus) watcher = fixture_connect(fixture->bus_address);
    sd_bus *client = fixture_connect(fixture->bus_address);
    Signals signals;

    signals_collect(&signals, watcher);
    (void)allocate(client, NULL, "dev", "a{sv}", 1, "lifetime", "s", "client");
    (void)allocate(client, NULL, "dev", "a{sv}", 0);
    g_assert_cmpuint(lease_count(watcher), ==, 2);
    client = sd_bus_flush_close_unref(client);
    signals_wait(&signals, watcher, "PortReleased", 1);
    signals_wait(&signals, watcher, "StaleReleased", 1);
    g_assert_cmpuint(signals_count(&signals, "PortAllocated"), ==, 2);
    g_assert_cmpuint(lease_count(watcher), ==, 1);
    signals_clear(&signals);
}

/* Those who leave one after the other, and nobody calls between: the first one's lease ends before
 * the last one has left. */
static void test_departures_without_end(void)
{
    g_autoptr(Fixture) fixture = fixture_new(FIXTURE_BROKER, NULL);
    g_autoptr(sd_bus) watcher = fixture_connect(fixture->bus_address);
    sd_bus *clients[120]; /* 40 ms each */
    guint left = 0;
    Signals signals;

    signals_collect(&signals, watcher);
    for (guint i = 0; i < G_N_ELEMENTS(clients); i++) {
        clients[i] = fixture_connect(fixture->bus_address);
        (void)allocate(clients[i], NULL, "big", "a{sv}", 1, "lifetime", "s", "client");
    }
    while (left < G_N_ELEMENTS(clients) && signals_count(&signals, "PortReleased") == 0) {
        gint64 end_usec = g_get_monotonic_time() + 40 * G_TIME_SPAN_MILLISECOND, rest_usec;

        clients[left] = sd_bus_flush_close_unref(clients[left]);
        left++;
        while ((rest_usec = end_usec - g_get_monotonic_time()) > 0) {
            int r = sd_bus_process(watcher, NULL);

            g_assert_cmpint(r, >=, 0);
            if (r == 0)
                (void)sd_bus_wait(watcher, (guint64)rest_usec);
        }
    }
    g_assert_cmpuint(left, <, G_N_ELEMENTS(clients));
    while (left < G_N_ELEMENTS(clients))
        sd_bus_flush_close_unref(clients[left++]);
    wait_lease_count(watcher, 0);
    signals_clear(&signals);
}

/* More callers than a broker allows match rules, each with something to lose. */
static void test_many_callers(void)
{
    g_autoptr(Fixture) fixture = fixture_new(FIXTURE_BROKER, NULL);
    g_autoptr(sd_bus) watcher = fixture_connect(fixture->bus_address);
    sd_bus *clients[600];

    for (guint i = 0; i < G_N_ELEMENTS(clients); i++) {
        clients[i] = fixture_connect(fixture->bus_address);
        (void)allocate(clients[i], NULL, "big", "a{sv}", 1, "lifetime", "s", "client");
    }
    g_assert_cmpuint(lease_count(watcher), ==, G_N_ELEMENTS(clients));
    for (guint i = 0; i < G_N_ELEMENTS(clients); i += 2)
        sd_bus_flush_close_unref(clients[i]);
    wait_lease_count(watcher, G_N_ELEMENTS(clients) / 2);
    for (guint i = 1; i < G_N_ELEMENTS(clients); i += 2)
        sd_bus_flush_close_unref(clients[i]);
    wait_lease_count(watcher, 0);
}

/* Those who have nothing to lose are forgotten, and known again when they come back. */
static void test_forgotten_callers(void)
{
    g_autoptr(Fixture) fixture = fixture_new(FIXTURE_BROKER, NULL);
    sd_bus *clients[300];

    for (guint round = 0; round < 2; round++)
        for (guint i = 0; i < G_N_ELEMENTS(clients); i++) {
            g_autoptr(sd_bus_message) released = NULL;
            g_autofree char *lease = NULL;

            if (round == 0)
                clients[i] = fixture_connect(fixture->bus_address);
            (void)allocate(clients[i], &lease, "dev", "a{sv}", 0);
            released = call_ok(clients[i], "Release", "s", lease);
        }
    for (guint i = 0; i < G_N_ELEMENTS(clients); i++)
        sd_bus_flush_close_unref(clients[i]);
}

/* ---- the name and the broker ---- */

static void test_name_taken(void)
{
    g_autoptr(Fixture) fixture = fixture_new(FIXTURE_BROKER | FIXTURE_NO_NAME, NULL);
    g_autoptr(sd_bus) direct = fixture_connect(fixture->direct_address);

    g_assert_cmpuint(lease_count(direct), ==, 0);
}

/* Told to stop, it says of every client that it left, before it hangs up on us. */
static void test_broker_restart(const void *signal)
{
    g_autoptr(Fixture) fixture = fixture_new(FIXTURE_BROKER, NULL);
    g_autoptr(sd_bus) direct = fixture_connect(fixture->direct_address);
    sd_bus *before[20], *after = NULL;
    g_autofree char *lost = NULL, *claimed = NULL;

    for (guint i = 0; i < G_N_ELEMENTS(before); i++) {
        before[i] = fixture_connect(fixture->bus_address);
        g_clear_pointer(&lost, g_free);
        (void)allocate(before[i], &lost, "dev", "a{sv}", 1, "lifetime", "s", "client");
    }
    fixture_stop_broker(fixture, GPOINTER_TO_INT(signal));
    g_assert_cmpint(fixture_wait_event(fixture), ==, 'l');
    (void)allocate(direct, NULL, "dev", "a{sv}", 0); /* the direct socket is served meanwhile */
    g_assert_cmpuint(lease_count(direct), ==, G_N_ELEMENTS(before) + 1);
    fixture_start_broker(fixture);
    while (fixture_wait_event(fixture) != 'r')
        ;
    after = fixture_connect(fixture->bus_address);
    g_assert_cmpuint(lease_count(after), ==, G_N_ELEMENTS(before) + 1);
    /* Who comes back claims what was his. */
    g_assert_cmpuint(allocate(after, &claimed, "dev", "a{sv}", 2, "lifetime", "s", "client", "port",
                              "q", 20000 + (int)G_N_ELEMENTS(before) - 1),
                     ==, 20000 + G_N_ELEMENTS(before) - 1);
    g_assert_cmpstr(claimed, ==, lost);
    for (guint i = 0; i < G_N_ELEMENTS(before); i++)
        sd_bus_close_unref(before[i]);
    /* His connection ends, and the lease with it: the others have their grace still. */
    sd_bus_flush_close_unref(after);
    wait_lease_count(direct, G_N_ELEMENTS(before));
}

typedef struct Tally {
    guint answered;
    guint lost; /* taken by us and not answered */
    guint nobody_there;
} Tally;

static int on_answer(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
    Tally *tally = userdata;

    if (!sd_bus_message_is_method_error(m, NULL))
        tally->answered++;
    else if (sd_bus_message_is_method_error(m, SD_BUS_ERROR_NO_REPLY))
        tally->lost++;
    else
        tally->nobody_there++;
    return 0;
}

/* A daemon that leaves answers what came before the broker knew: no call is lost in between. */
static void test_leaving_loses_nothing(void)
{
    g_autoptr(Fixture) fixture = fixture_new(FIXTURE_BROKER, NULL);
    g_autoptr(sd_bus) bus = fixture_connect(fixture->bus_address);
    guint sent = 600;
    Tally tally = {0};
    gint64 end_usec = g_get_monotonic_time() + 10 * G_USEC_PER_SEC;

    for (guint i = 0; i < sent; i++) {
        if (i == sent / 2)
            fixture_stop_server(fixture);
        g_assert_cmpint(sd_bus_call_method_async(bus, NULL, PORTS_NAME, PORTS_PATH, PORTS_INTERFACE,
                                                 "Suggest", on_answer, &tally, "su", "dev", 1),
                        >=, 0);
        while (sd_bus_process(bus, NULL) > 0)
            ;
    }
    while (tally.answered + tally.lost + tally.nobody_there < sent &&
           g_get_monotonic_time() < end_usec)
        if (sd_bus_process(bus, NULL) == 0)
            (void)sd_bus_wait(bus, G_USEC_PER_SEC);
    g_assert_cmpuint(tally.lost, ==, 0);
    g_assert_cmpuint(tally.answered + tally.nobody_there, ==, sent);
    g_assert_cmpuint(tally.answered, >, 0);
    fixture_wait_server(fixture);
}

int main(int argc, char **argv)
{
    struct rlimit limit;

    fixture_init(&argc, &argv);
    g_assert_cmpint(getrlimit(RLIMIT_NOFILE, &limit), ==, 0);
    limit.rlim_cur = limit.rlim_max;
    g_assert_cmpint(setrlimit(RLIMIT_NOFILE, &limit), ==, 0);
    g_test_add_func("/bus/broker/identity", test_identity);
    g_test_add_func("/bus/broker/first-messages", test_first_messages);
    g_test_add_func("/bus/broker/turns", test_turns);
    g_test_add_func("/bus/broker/too-many", test_too_many);
    g_test_add_func("/bus/broker/client-lease", test_client_lease);
    g_test_add_func("/bus/broker/departures-without-end", test_departures_without_end);
    g_test_add_func("/bus/broker/many-callers", test_many_callers);
    g_test_add_func("/bus/broker/forgotten-callers", test_forgotten_callers);
    g_test_add_func("/bus/broker/name-taken", test_name_taken);
    g_test_add_data_func("/bus/broker/broker-killed", GINT_TO_POINTER(SIGKILL),
                         test_broker_restart);
    g_test_add_data_func("/bus/broker/broker-stopped", GINT_TO_POINTER(SIGTERM),
                         test_broker_restart);
    g_test_add_func("/bus/broker/leaving-loses-nothing", test_leaving_loses_nothing);
    return g_test_run();
}
