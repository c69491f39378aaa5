/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The direct socket as such: who is there, what a broker would answer, and what is cut off. */
#include "fixture.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <sys/socket.h>

#include "bus/ports-iface.h"
#include "util/fd.h"

#define NOBODY 65534
#define SOMEBODY 65533

/* ---- what a broker would answer ---- */

static sd_bus_message *driver(sd_bus *bus, sd_bus_error *error, const char *member,
                              const char *types, ...)
{
    g_autoptr(sd_bus_message) m = NULL;
    sd_bus_message *reply = NULL;
    va_list ap;

    g_assert_cmpint(sd_bus_message_new_method_call(bus, &m, "org.freedesktop.DBus",
                                                   "/org/freedesktop/DBus", "org.freedesktop.DBus",
                                                   member),
                    >=, 0);
    va_start(ap, types);
    g_assert_cmpint(sd_bus_message_appendv(m, types, ap), >=, 0);
    va_end(ap);
    if (sd_bus_call(bus, m, 0, error, &reply) < 0)
        return NULL;
    g_assert_cmpstr(sd_bus_message_get_sender(reply), ==, "org.freedesktop.DBus");
    return reply;
}

static void expect_text(sd_bus *bus, const char *text, const char *member, const char *types,
                        const char *argument)
{
    g_auto(sd_bus_error) error = SD_BUS_ERROR_NULL;
    g_autoptr(sd_bus_message) reply = driver(bus, &error, member, types, argument);
    const char *answer = NULL;

    g_assert_cmpstr(error.message, ==, NULL);
    g_assert_cmpint(sd_bus_message_read(reply, "s", &answer), >, 0);
    if (text)
        g_assert_cmpstr(answer, ==, text);
}

static void expect_error(sd_bus *bus, const char *name, const char *member, const char *types,
                         const char *argument)
{
    g_auto(sd_bus_error) error = SD_BUS_ERROR_NULL;
    g_autoptr(sd_bus_message) reply = driver(bus, &error, member, types, argument);

    g_assert_null(reply);
    g_assert_cmpstr(error.name, ==, name);
}

static void test_driver(void)
{
    g_autoptr(Fixture) fixture = fixture_new(FIXTURE_DIRECT, NULL);
    g_autoptr(sd_bus) bus = fixture_connect(fixture->direct_address);
    g_autoptr(sd_bus) other = fixture_connect(fixture->direct_address);
    g_auto(sd_bus_error) error = SD_BUS_ERROR_NULL;
    g_autoptr(sd_bus_message) started = NULL;
    const char *name = NULL, *other_name = NULL;
    guint32 code = 0;

    g_assert_cmpint(sd_bus_get_unique_name(bus, &name), >=, 0);
    g_assert_cmpint(sd_bus_get_unique_name(other, &other_name), >=, 0);
    g_assert_true(name[0] == ':');
    g_assert_cmpstr(name, !=, other_name);
    expect_text(bus, ":1.0", "GetNameOwner", "s", PORTS_NAME);
    expect_text(bus, name, "GetNameOwner", "s", name);
    expect_text(bus, "org.freedesktop.DBus", "GetNameOwner", "s", "org.freedesktop.DBus");
    expect_text(bus, NULL, "GetId", "", NULL);
    expect_error(bus, SD_BUS_ERROR_NAME_HAS_NO_OWNER, "GetNameOwner", "s", "org.example.None");
    expect_error(bus, SD_BUS_ERROR_NAME_HAS_NO_OWNER, "GetNameOwner", "s", other_name);
    expect_error(bus, SD_BUS_ERROR_FAILED, "Hello", "", NULL); /* a second time */
    expect_error(bus, SD_BUS_ERROR_MATCH_RULE_INVALID, "AddMatch", "s", "colour='red'");
    expect_error(bus, SD_BUS_ERROR_MATCH_RULE_NOT_FOUND, "RemoveMatch", "s", "type='signal'");
    expect_error(bus, SD_BUS_ERROR_UNKNOWN_METHOD, "BecomeMonitor", "", NULL);
    started = driver(bus, &error, "StartServiceByName", "su", PORTS_NAME, 0);
    g_assert_nonnull(started);
    g_assert_cmpint(sd_bus_message_read(started, "u", &code), >, 0);
    g_assert_cmpuint(code, ==, 2); /* already running */
}

static void test_destination(void)
{
    g_autoptr(Fixture) fixture = fixture_new(FIXTURE_DIRECT, NULL);
    g_autoptr(sd_bus) bus = fixture_connect(fixture->direct_address);
    static const char *const good[] = {PORTS_NAME, ":1.0", "org.freedesktop.DBus"};

    for (guint i = 0; i < G_N_ELEMENTS(good); i++)
        g_assert_cmpint(sd_bus_call_method(bus, good[i], "/", "org.freedesktop.DBus.Peer", "Ping",
                                           NULL, NULL, ""),
                        >=, 0);
    for (guint i = 0; i < 2; i++) {
        g_auto(sd_bus_error) error = SD_BUS_ERROR_NULL;

        g_assert_cmpint(sd_bus_call_method(bus, i ? "org.example.None" : ":1.77", PORTS_PATH,
                                           PORTS_INTERFACE, "GetMetrics", &error, NULL, ""),
                        <, 0);
        g_assert_cmpstr(error.name, ==, SD_BUS_ERROR_SERVICE_UNKNOWN);
    }
}

/* ---- signals ---- */

static void test_signals_by_match(void)
{
    g_autoptr(Fixture) fixture = fixture_new(FIXTURE_DIRECT, NULL);
    g_autoptr(sd_bus) listener = fixture_connect(fixture->direct_address);
    g_autoptr(sd_bus) deaf = fixture_connect(fixture->direct_address);
    g_autoptr(sd_bus) worker = fixture_connect(fixture->direct_address);
    g_autoptr(sd_bus_message) released = NULL;
    g_autofree char *lease = NULL;
    Signals heard, not_heard;

    signals_collect(&heard, listener);
    signals_collect(&not_heard, deaf);
    not_heard.slot = sd_bus_slot_unref(not_heard.slot); /* takes the match back */
    g_assert_cmpuint(allocate(worker, &lease, "dev", "a{sv}", 0), ==, 20000);
    released = call_ok(worker, "Release", "s", lease);
    signals_wait(&heard, listener, "PortReleased", 1);
    g_assert_cmpuint(signals_count(&heard, "PortAllocated"), ==, 1);
    g_assert_cmpstr(heard.order->pdata[0], ==, "PortAllocated");
    g_assert_cmpuint(signals_count(&heard, "StaleReleased"), ==, 0);
    /* What was sent to the deaf one would be there by now: the answer comes behind it. */
    g_assert_cmpuint(lease_count(deaf), ==, 0);
    while (sd_bus_process(deaf, NULL) > 0)
        ;
    g_assert_cmpuint(not_heard.order->len, ==, 0);
    signals_clear(&heard);
    signals_clear(&not_heard);
}

static void test_signals_by_subscription(void)
{
    g_autoptr(Fixture) fixture = fixture_new(FIXTURE_DIRECT, NULL);
    g_autoptr(sd_bus) listener = fixture_connect(fixture->direct_address);
    g_autoptr(sd_bus) worker = fixture_connect(fixture->direct_address);
    g_autoptr(sd_bus_message) on = NULL;
    g_autoptr(sd_bus_message) off = NULL;
    Signals signals;

    signals_collect(&signals, listener);
    signals.slot = sd_bus_slot_unref(signals.slot); /* no match at the other side */
    g_assert_cmpint(
        sd_bus_match_signal(listener, &signals.slot, NULL, "/no/such/path", NULL, NULL, NULL, NULL),
        >=, 0);
    on = call_ok(listener, "Subscribe", NULL);
    (void)allocate(worker, NULL, "dev", "a{sv}", 0);
    off = call_ok(listener, "Unsubscribe", NULL);
    (void)allocate(worker, NULL, "dev", "a{sv}", 0);
    g_assert_cmpuint(lease_count(listener), ==, 2);
    {
        guint64 queued = 0;

        g_assert_cmpint(sd_bus_get_n_queued_read(listener, &queued), >=, 0);
        g_assert_cmpuint(queued, ==, 1); /* that of the first grant, and no other */
    }
    signals_clear(&signals);
}

/* ---- identity ---- */

static int release_foreign(Fixture *fixture, const void *data)
{
    g_autoptr(sd_bus) bus = fixture_connect(fixture->direct_address);
    G_GNUC_UNUSED g_autofree char *by_id = call_refused(bus, "NotOwner", "Release", "s", data);
    G_GNUC_UNUSED g_autofree char *by_port =
        call_refused(bus, "NotOwner", "ReleasePort", "qs", 20000, "tcp");
    G_GNUC_UNUSED g_autofree char *reload = call_refused(bus, "NotAuthorized", "Reload", NULL);
    G_GNUC_UNUSED g_autofree char *recover =
        call_refused(bus, "NotAuthorized", "Recover", "a{sv}", 0);
    G_GNUC_UNUSED g_autofree char *low =
        call_refused(bus, "NotAuthorized", "Allocate", "sa{sv}", "dev", 1, "port", "q", 80);
    G_GNUC_UNUSED g_autofree char *low_type =
        call_refused(bus, "NotAuthorized", "Allocate", "sa{sv}", "low", 0);
    g_auto(sd_bus_error) error = SD_BUS_ERROR_NULL;
    g_autoptr(sd_bus_message) none = call_ok(bus, "ReleaseInstance", "s", "web");
    guint32 count = 7;

    g_assert_cmpint(sd_bus_message_read(none, "u", &count), >, 0);
    g_assert_cmpuint(count, ==, 0);
    g_assert_cmpint(sd_bus_set_property(bus, PORTS_NAME, "/org/freedesktop/LogControl1",
                                        "org.freedesktop.LogControl1", "LogLevel", &error, "s",
                                        "debug"),
                    <, 0);
    g_assert_cmpstr(error.name, ==, "org.styxy.Ports.Error.NotAuthorized");
    return 0;
}

/* Returns: whether GetLease shows a key of the lease to us. */
static gboolean shows(sd_bus *bus, const char *lease, const char *wanted)
{
    g_autoptr(sd_bus_message) reply = call_ok(bus, "GetLease", "s", lease);
    gboolean found = FALSE;
    const char *key;

    g_assert_cmpint(sd_bus_message_enter_container(reply, 'a', "{sv}"), >, 0);
    while (sd_bus_message_enter_container(reply, 'e', "sv") > 0) {
        g_assert_cmpint(sd_bus_message_read(reply, "s", &key), >, 0);
        found |= g_str_equal(key, wanted);
        g_assert_cmpint(sd_bus_message_skip(reply, "v"), >, 0);
        g_assert_cmpint(sd_bus_message_exit_container(reply), >, 0);
    }
    return found;
}

static int look_at_foreign(Fixture *fixture, const void *data)
{
    g_autoptr(sd_bus) bus = fixture_connect(fixture->direct_address);

    return shows(bus, data, "label") || !shows(bus, data, "port");
}

static int have_own(Fixture *fixture, const void *data)
{
    g_autoptr(sd_bus) bus = fixture_connect(fixture->direct_address);
    g_autofree char *lease = NULL;
    g_autoptr(sd_bus_message) released = NULL;

    (void)allocate(bus, &lease, "dev", "a{sv}", 1, "label", "s", "mine");
    g_assert_true(shows(bus, lease, "label"));
    released = call_ok(bus, "Release", "s", lease);
    return 0;
}

static void test_owner(void)
{
    g_autoptr(Fixture) fixture = fixture_new(FIXTURE_DIRECT, NULL);
    g_autoptr(sd_bus) bus = fixture_connect(fixture->direct_address);
    g_autoptr(sd_bus_message) released = NULL;
    g_autofree char *lease = NULL;

    g_assert_cmpuint(
        allocate(bus, &lease, "dev", "a{sv}", 2, "label", "s", "secret", "instance", "s", "web"),
        ==, 20000);
    g_assert_cmpint(fixture_as(NOBODY, release_foreign, fixture, lease), ==, 0);
    g_assert_cmpint(fixture_as(NOBODY, look_at_foreign, fixture, lease), ==, 0);
    g_assert_cmpint(fixture_as(NOBODY, have_own, fixture, NULL), ==, 0);
    g_assert_cmpuint(lease_count(bus), ==, 1);
    g_assert_true(shows(bus, lease, "label"));
    released = call_ok(bus, "Release", "s", lease);
    g_assert_cmpuint(lease_count(bus), ==, 0);
}

static int leave_lease(Fixture *fixture, const void *data)
{
    g_autoptr(sd_bus) bus = fixture_connect(fixture->direct_address);

    (void)allocate(bus, NULL, "dev", "a{sv}", 0);
    return 0;
}

static void test_root_may(void)
{
    g_autoptr(Fixture) fixture = fixture_new(FIXTURE_DIRECT, NULL);
    g_autoptr(sd_bus) bus = fixture_connect(fixture->direct_address);
    g_autoptr(sd_bus_message) released = NULL;
    g_autoptr(sd_bus_message) reloaded = NULL;

    g_assert_cmpint(fixture_as(NOBODY, leave_lease, fixture, NULL), ==, 0);
    g_assert_cmpuint(lease_count(bus), ==, 1);
    released = call_ok(bus, "ReleasePort", "qs", 20000, "both");
    g_assert_cmpuint(lease_count(bus), ==, 0);
    g_assert_cmpuint(allocate(bus, NULL, "low", "a{sv}", 0), ==, 900);
    reloaded = call_ok(bus, "Reload", NULL);
    g_assert_cmpint(sd_bus_set_property(bus, PORTS_NAME, "/org/freedesktop/LogControl1",
                                        "org.freedesktop.LogControl1", "LogLevel", NULL, "s",
                                        "err"),
                    >=, 0);
}

/* ---- the life of a connection ---- */

static void test_client_lease(void)
{
    g_autoptr(Fixture) fixture = fixture_new(FIXTURE_DIRECT, NULL);
    g_autoptr(sd_bus) watcher = fixture_connect(fixture->direct_address);
    sd_bus *client = fixture_connect(fixture->direct_address);
    Signals signals;

    signals_collect(&signals, watcher);
    (void)allocate(client, NULL, "dev", "a{sv}", 1, "lifetime", "s", "client");
    (void)allocate(client, NULL, "dev", "a{sv}", 1, "lifetime", "s", "auto");
    g_assert_cmpuint(lease_count(watcher), ==, 2);
    client = sd_bus_flush_close_unref(client);
    signals_wait(&signals, watcher, "PortReleased", 1);
    signals_wait(&signals, watcher, "StaleReleased", 1);
    g_assert_cmpuint(lease_count(watcher), ==, 1);
    signals_clear(&signals);
}

/* A request that waits leaves nothing behind when its client goes. */
static void test_client_leaves_waiting(void)
{
    g_autoptr(Fixture) fixture = fixture_new(FIXTURE_DIRECT, NULL);
    g_autoptr(sd_bus) watcher = fixture_connect(fixture->direct_address);
    sd_bus *client = fixture_connect(fixture->direct_address);
    g_autoptr(sd_bus_message) m = NULL;
    g_autofree char *lease = NULL;
    g_autoptr(sd_bus_message) released = NULL;

    g_assert_cmpuint(allocate(watcher, NULL, "tiny", "a{sv}", 0), ==, 20100);
    g_assert_cmpuint(allocate(watcher, &lease, "tiny", "a{sv}", 0), ==, 20101);
    g_assert_cmpint(sd_bus_message_new_method_call(client, &m, PORTS_NAME, PORTS_PATH,
                                                   PORTS_INTERFACE, "Allocate"),
                    >=, 0);
    g_assert_cmpint(sd_bus_message_append(m, "sa{sv}", "tiny", 1, "retries", "u", 100), >=, 0);
    g_assert_cmpint(sd_bus_send(client, m, NULL), >=, 0);
    g_assert_cmpint(sd_bus_call_method(client, PORTS_NAME, PORTS_PATH, "org.freedesktop.DBus.Peer",
                                       "Ping", NULL, NULL, ""),
                    >=, 0); /* it was taken */
    client = sd_bus_flush_close_unref(client);
    g_assert_cmpuint(lease_count(watcher), ==, 2);
    released = call_ok(watcher, "Release", "s", lease);
    /* Whoever comes next gets it at once, so nobody else waits for it. */
    g_assert_cmpuint(allocate(watcher, NULL, "tiny", "a{sv}", 0), ==, 20101);
    g_assert_cmpuint(lease_count(watcher), ==, 2);
}

/* ---- what is cut off ---- */

static void test_slow_reader(void)
{
    g_autoptr(Fixture) fixture = fixture_new(FIXTURE_DIRECT, NULL);
    g_autoptr(sd_bus) slow = fixture_connect(fixture->direct_address);
    g_autoptr(sd_bus) worker = fixture_connect(fixture->direct_address);
    G_GNUC_UNUSED g_autoptr(sd_bus_message) on = call_ok(slow, "Subscribe", NULL);
    guint rounds = 0;

    /* 1,024 messages may wait beyond what the socket takes. */
    for (; rounds < 20000; rounds++) {
        struct pollfd look = {.fd = sd_bus_get_fd(slow), .events = POLLRDHUP};
        g_autofree char *lease = NULL;
        g_autoptr(sd_bus_message) released = NULL;

        (void)allocate(worker, &lease, "dev", "a{sv}", 0);
        released = call_ok(worker, "Release", "s", lease);
        if (poll(&look, 1, 0) == 1 && look.revents & POLLRDHUP)
            break;
    }
    g_assert_cmpuint(rounds, >, 512);
    g_assert_cmpuint(rounds, <, 20000);
    g_assert_cmpuint(lease_count(worker), ==, 0); /* nobody else is touched */
}

/* Somebody who asks for more than he reads is not served on, and gets all answers once he reads. */
static void test_unread_answers(void)
{
    g_autoptr(Fixture) fixture = fixture_new(FIXTURE_DIRECT, NULL);
    g_autoptr(sd_bus) greedy = fixture_connect(fixture->direct_address);
    g_autoptr(sd_bus) other = fixture_connect(fixture->direct_address);
    guint sent = 0, answered = 0;
    guint64 queued = 0;
    int bytes = 64 * 1024;

    g_assert_cmpint(setsockopt(sd_bus_get_fd(greedy), SOL_SOCKET, SO_SNDBUF, &bytes, sizeof(bytes)),
                    ==, 0);
    while (sent < 20000) {
        g_autoptr(sd_bus_message) m = NULL;

        g_assert_cmpint(sd_bus_message_new_method_call(greedy, &m, PORTS_NAME, PORTS_PATH,
                                                       PORTS_INTERFACE, "GetMetrics"),
                        >=, 0);
        g_assert_cmpint(sd_bus_message_set_expect_reply(m, TRUE), >=, 0);
        g_assert_cmpint(sd_bus_send(greedy, m, &(guint64){0}), >=, 0);
        sent++;
    }
    g_assert_cmpint(sd_bus_get_n_queued_write(greedy, &queued), >=, 0);
    g_assert_cmpuint(queued, >, 0); /* the server stopped to take them */
    for (guint i = 0; i < 100; i++)
        g_assert_cmpuint(lease_count(other), ==, 0);
    while (answered < sent) {
        g_autoptr(sd_bus_message) m = NULL;
        int r = sd_bus_process(greedy, &m);

        g_assert_cmpint(r, >=, 0);
        if (m && sd_bus_message_is_method_error(m, NULL))
            g_error("answer %u: %s", answered, sd_bus_message_get_error(m)->message);
        answered += m != NULL;
        if (r == 0)
            g_assert_cmpint(sd_bus_wait(greedy, 10 * G_USEC_PER_SEC), >, 0);
    }
}

static void test_handshake(void)
{
    g_autoptr(Fixture) fixture = fixture_new(FIXTURE_DIRECT, NULL);
    AUTO_FD silent = connect_raw(fixture);
    AUTO_FD half = connect_raw(fixture);
    AUTO_FD garbage = connect_raw(fixture);
    static const char start[] = "\0AUTH EXTERNAL\r\n";
    g_autoptr(sd_bus) good = fixture_connect(fixture->direct_address);

    g_assert_cmpint(write(half, start, sizeof(start) - 1), ==, sizeof(start) - 1);
    g_assert_cmpint(write(garbage, "GET / HTTP/1.1\r\n\r\n", 18), ==, 18);
    wait_closed(garbage, 15);
    wait_closed(silent, 15);
    wait_closed(half, 5);
    g_assert_cmpuint(lease_count(good), ==, 0); /* which is older than ten seconds as well */
}

static guint count_open(const int *fds, guint n)
{
    guint open = 0;

    for (guint i = 0; i < n; i++) {
        struct pollfd look = {.fd = fds[i], .events = POLLRDHUP};

        open += poll(&look, 1, 0) == 0;
    }
    return open;
}

/* Waits until the server has had a look at all of @fds. */
static guint settle(const int *fds, guint n, guint expected)
{
    gint64 end_usec = g_get_monotonic_time() + 8 * G_USEC_PER_SEC;
    guint open;

    while ((open = count_open(fds, n)) > expected && g_get_monotonic_time() < end_usec)
        (void)poll(NULL, 0, 1);
    return open;
}

static void test_many_connections(void)
{
    g_autoptr(Fixture) fixture = fixture_new(FIXTURE_DIRECT, NULL);
    sd_bus *first = fixture_connect(fixture->direct_address);
    sd_bus *again = NULL;
    int fds[600];

    for (guint i = 0; i < G_N_ELEMENTS(fds); i++)
        fds[i] = connect_raw(fixture);
    g_assert_cmpuint(settle(fds, G_N_ELEMENTS(fds), 511), ==, 511); /* and the first: 512 */
    g_assert_cmpuint(lease_count(first), ==, 0);
    for (guint i = 0; i < G_N_ELEMENTS(fds); i++)
        (void)fd_close(fds[i]);
    g_assert_cmpuint(lease_count(first), ==, 0);
    again = fixture_connect(fixture->direct_address);
    g_assert_cmpuint(lease_count(again), ==, 0);
    sd_bus_flush_close_unref(first);
    sd_bus_flush_close_unref(again);
}

static int connect_five(Fixture *fixture, const void *data)
{
    int fds[5];

    for (guint i = 0; i < G_N_ELEMENTS(fds); i++)
        fds[i] = connect_raw(fixture);
    return (int)settle(fds, G_N_ELEMENTS(fds), 3);
}

static void test_connections_of_a_user(void)
{
    g_autoptr(Fixture) fixture = fixture_new(FIXTURE_DIRECT, "\"direct_connections_per_user\": 3");

    g_assert_cmpint(fixture_as(NOBODY, connect_five, fixture, NULL), ==, 3);
    g_assert_cmpint(fixture_as(SOMEBODY, connect_five, fixture, NULL), ==, 3);
    g_assert_cmpint(fixture_as(NOBODY, connect_five, fixture, NULL), ==,
                    3); /* the count went down */
}

static guint64 cpu_ticks(pid_t pid)
{
    g_autofree char *path = g_strdup_printf("/proc/%d/stat", pid);
    g_autofree char *text = NULL;
    guint64 user = 0, system = 0;

    g_assert_true(g_file_get_contents(path, &text, NULL, NULL));
    g_assert_cmpint(sscanf(strrchr(text, ')'),
                           ") %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %" G_GUINT64_FORMAT
                           " %" G_GUINT64_FORMAT,
                           &user, &system),
                    ==, 2);
    return user + system;
}

static void test_out_of_descriptors(void)
{
    g_autoptr(Fixture) fixture = fixture_new(FIXTURE_FEW_FILES, NULL);
    sd_bus *first = fixture_connect(fixture->direct_address);
    sd_bus *late = NULL;
    guint64 before, spent;
    int fds[100];

    for (guint i = 0; i < G_N_ELEMENTS(fds); i++)
        fds[i] = connect_raw(fixture);
    g_assert_cmpuint(lease_count(first), ==, 0);
    before = cpu_ticks(fixture->server);
    g_assert_cmpint(poll(NULL, 0, 1500), ==, 0); /* the time in which a spinning loop would burn */
    spent = cpu_ticks(fixture->server) - before;
    g_assert_cmpuint(spent, <, (guint64)sysconf(_SC_CLK_TCK) / 2);
    g_assert_cmpuint(lease_count(first), ==, 0);
    for (guint i = 0; i < G_N_ELEMENTS(fds); i++)
        (void)fd_close(fds[i]);
    late = fixture_connect(fixture->direct_address);
    g_assert_cmpuint(lease_count(late), ==, 0);
    sd_bus_flush_close_unref(first);
    sd_bus_flush_close_unref(late);
}

int main(int argc, char **argv)
{
    fixture_init(&argc, &argv);
    g_test_add_func("/bus/direct/driver", test_driver);
    g_test_add_func("/bus/direct/destination", test_destination);
    g_test_add_func("/bus/direct/signals-by-match", test_signals_by_match);
    g_test_add_func("/bus/direct/signals-by-subscription", test_signals_by_subscription);
    g_test_add_func("/bus/direct/owner", test_owner);
    g_test_add_func("/bus/direct/root-may", test_root_may);
    g_test_add_func("/bus/direct/client-lease", test_client_lease);
    g_test_add_func("/bus/direct/client-leaves-waiting", test_client_leaves_waiting);
    g_test_add_func("/bus/direct/slow-reader", test_slow_reader);
    g_test_add_func("/bus/direct/unread-answers", test_unread_answers);
    g_test_add_func("/bus/direct/handshake", test_handshake);
    g_test_add_func("/bus/direct/many-connections", test_many_connections);
    g_test_add_func("/bus/direct/connections-of-a-user", test_connections_of_a_user);
    g_test_add_func("/bus/direct/out-of-descriptors", test_out_of_descriptors);
    return g_test_run();
}
