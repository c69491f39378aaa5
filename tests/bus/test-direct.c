/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The direct socket as such: who is there, what a broker would answer, and what is cut off. */
#include "fixture.h"

#include <errno.h>
#include <fcntl.h>
#include <gio/gio.h>
#include <gio/gunixfdlist.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
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

    return shows(bus, data, "label") || shows(bus, data, "health_url") || !shows(bus, data, "port");
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

    g_assert_cmpuint(allocate(bus, &lease, "dev", "a{sv}", 3, "label", "s", "secret", "instance",
                              "s", "web", "health_url", "s", "http://127.0.0.1:{port}/token"),
                     ==, 20000);
    g_assert_cmpint(fixture_as(NOBODY, release_foreign, fixture, lease), ==, 0);
    g_assert_cmpint(fixture_as(NOBODY, look_at_foreign, fixture, lease), ==, 0);
    g_assert_cmpint(fixture_as(NOBODY, have_own, fixture, NULL), ==, 0);
    g_assert_cmpuint(lease_count(bus), ==, 1);
    g_assert_true(shows(bus, lease, "label") && shows(bus, lease, "health_url"));
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
    return (int)settle(fds, G_N_ELEMENTS(fds), *(const guint *)data);
}

static void test_connections_of_a_user(void)
{
    g_autoptr(Fixture) fixture = fixture_new(FIXTURE_DIRECT, "\"direct_connections_per_user\": 3");

    g_assert_cmpint(fixture_as(NOBODY, connect_five, fixture, &(guint){3}), ==, 3);
    g_assert_cmpint(fixture_as(SOMEBODY, connect_five, fixture, &(guint){3}), ==, 3);
    g_assert_cmpint(fixture_as(NOBODY, connect_five, fixture, &(guint){3}), ==,
                    3); /* the count went down */
}

/* Of 32 two are kept for root. */
static void test_room_for_root(void)
{
    g_autoptr(Fixture) fixture = fixture_new(FIXTURE_DIRECT, "\"direct_connections\": 32");
    sd_bus *late = NULL;
    int fds[30];

    for (guint i = 0; i < G_N_ELEMENTS(fds); i++)
        fds[i] = connect_raw(fixture);
    g_assert_cmpint(fixture_as(NOBODY, connect_five, fixture, &(guint){0}), ==, 0);
    late = fixture_connect(fixture->direct_address);
    g_assert_cmpuint(lease_count(late), ==, 0);
    for (guint i = 0; i < G_N_ELEMENTS(fds); i++)
        (void)fd_close(fds[i]);
    sd_bus_flush_close_unref(late);
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

/* ---- what sd-bus never gets to see ---- */

static GDBusMessage *raw_call(const char *member, guint32 serial)
{
    GDBusMessage *m =
        g_dbus_message_new_method_call(PORTS_NAME, PORTS_PATH, PORTS_INTERFACE, member);

    g_dbus_message_set_serial(m, serial);
    return m;
}

/* Sends @bytes with @n_fds descriptors, each for /dev/null. Returns: whether the server is there.
 */
static gboolean send_raw(int fd, const void *bytes, size_t length, guint n_fds)
{
    union {
        struct cmsghdr header;
        char space[CMSG_SPACE(sizeof(int) * 64)];
    } control = {0};
    struct iovec part = {.iov_base = (void *)bytes, .iov_len = length};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
    AUTO_FD null = open("/dev/null", O_RDONLY | O_CLOEXEC);
    int fds[64];

    g_assert_cmpuint(n_fds, <=, G_N_ELEMENTS(fds));
    for (guint i = 0; i < n_fds; i++)
        fds[i] = null;
    if (n_fds > 0) {
        message.msg_control = &control;
        message.msg_controllen = CMSG_SPACE(sizeof(int) * n_fds);
        control.header.cmsg_level = SOL_SOCKET;
        control.header.cmsg_type = SCM_RIGHTS;
        control.header.cmsg_len = CMSG_LEN(sizeof(int) * n_fds);
        memcpy(CMSG_DATA(&control.header), fds, sizeof(int) * n_fds);
    }
    return sendmsg(fd, &message, MSG_NOSIGNAL) == (ssize_t)length;
}

/* Returns: (transfer full): @m as it goes over the wire, saying that it has @n_fds descriptors. */
static guchar *to_blob(GDBusMessage *m, guint n_fds, gsize *ret_length)
{
    g_autoptr(GUnixFDList) list = g_unix_fd_list_new();
    g_autoptr(GError) error = NULL;
    guchar *blob = NULL;

    for (guint i = 0; i < n_fds; i++)
        g_assert_cmpint(g_unix_fd_list_append(list, STDERR_FILENO, NULL), >=, 0);
    if (n_fds > 0)
        g_dbus_message_set_unix_fd_list(m, list);
    blob = g_dbus_message_to_blob(m, ret_length, G_DBUS_CAPABILITY_FLAGS_UNIX_FD_PASSING, &error);
    g_assert_no_error(error);
    return blob;
}

static void send_message(int fd, GDBusMessage *m, guint n_fds)
{
    gsize length;
    g_autofree guchar *blob = to_blob(m, n_fds, &length);

    g_assert_true(send_raw(fd, blob, length, n_fds));
}

/* Reads one message and returns the serial that it answers; @ret_error: whether it is an error. */
static guint32 read_answer(int fd, gboolean *ret_error)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(GDBusMessage) m = NULL;
    guchar header[16];
    g_autofree guchar *blob = NULL;
    gssize size;

    g_assert_cmpint(recv(fd, header, sizeof(header), MSG_WAITALL), ==, sizeof(header));
    size = g_dbus_message_bytes_needed(header, sizeof(header), &error);
    g_assert_no_error(error);
    blob = g_malloc((gsize)size);
    memcpy(blob, header, sizeof(header));
    g_assert_cmpint(recv(fd, blob + 16, (size_t)size - 16, MSG_WAITALL), ==, size - 16);
    m = g_dbus_message_new_from_blob(blob, (gsize)size, G_DBUS_CAPABILITY_FLAGS_UNIX_FD_PASSING,
                                     &error);
    g_assert_no_error(error);
    *ret_error = g_dbus_message_get_message_type(m) == G_DBUS_MESSAGE_TYPE_ERROR;
    return g_dbus_message_get_reply_serial(m);
}

/* Says @line (with its end) and returns the answer's first word. */
static char *say(int fd, const char *line, size_t length)
{
    char answer[256];
    ssize_t n;

    g_assert_cmpint(write(fd, line, length), ==, (ssize_t)length);
    n = recv(fd, answer, sizeof(answer) - 1, 0);
    g_assert_cmpint(n, >, 0);
    answer[n] = '\0';
    return g_strndup(answer, strcspn(answer, " \r"));
}
#define SAY(fd, line, word)                                             \
    do {                                                                \
        g_autofree char *_answer = say((fd), (line), sizeof(line) - 1); \
        g_assert_cmpstr(_answer, ==, (word));                           \
    } while (0)

/* Returns: a connection that is through its handshake. We are root here. */
static int connect_through(const Fixture *fixture)
{
    int fd = connect_raw(fixture);

    SAY(fd, "\0AUTH EXTERNAL 30\r\n", "OK");
    SAY(fd, "NEGOTIATE_UNIX_FD\r\n", "AGREE_UNIX_FD");
    g_assert_cmpint(write(fd, "BEGIN\r\n", 7), ==, 7);
    return fd;
}

static guint count_fds(const Fixture *fixture)
{
    g_autofree char *path = g_strdup_printf("/proc/%d/fd", fixture->server);
    g_autoptr(GDir) dir = g_dir_open(path, 0, NULL);
    guint n = 0;

    while (g_dir_read_name(dir))
        n++;
    return n;
}

/* Waits until the server has @n descriptors; what it is done with, it closes behind its answer. */
static void wait_fds(const Fixture *fixture, guint n)
{
    gint64 end_usec = g_get_monotonic_time() + 10 * G_USEC_PER_SEC;

    while (count_fds(fixture) != n) {
        if (g_get_monotonic_time() > end_usec)
            g_error("the server has %u descriptors, not %u", count_fds(fixture), n);
        (void)poll(NULL, 0, 1);
    }
}

/* How many it has once they have not changed for a while. */
static guint settled_fds(const Fixture *fixture)
{
    guint n = count_fds(fixture);

    for (guint same = 0; same < 50; same++) {
        guint now = count_fds(fixture);

        (void)poll(NULL, 0, 1);
        if (now != n)
            same = 0;
        n = now;
    }
    return n;
}

/* Who somebody is, the kernel says; a handshake that says otherwise fails, and may be tried anew.
 */
static void test_claims(void)
{
    g_autoptr(Fixture) fixture = fixture_new(FIXTURE_DIRECT, NULL);
    AUTO_FD fd = connect_raw(fixture);
    AUTO_FD impatient = connect_raw(fixture);
    AUTO_FD stranger = connect_raw(fixture);
    g_autoptr(GDBusMessage) m = raw_call("GetMetrics", 5);
    gboolean failed;

    SAY(fd, "\0AUTH\r\n", "REJECTED");
    SAY(fd, "AUTH ANONYMOUS\r\n", "REJECTED");
    SAY(fd, "AUTH EXTERNAL 3635353334\r\n", "REJECTED");
    SAY(fd, "AUTH EXTERNAL 30 30\r\n", "REJECTED");
    SAY(fd, "BEGIN\r\n", "ERROR");
    SAY(fd, "AUTH EXTERNAL\r\n", "DATA");
    SAY(fd, "DATA 31\r\n", "REJECTED");
    SAY(fd, "AUTH EXTERNAL\r\n", "DATA");
    SAY(fd, "DATA\r\n", "OK");
    g_assert_cmpint(write(fd, "BEGIN\r\n", 7), ==, 7);
    send_message(fd, m, 0);
    g_assert_cmpuint(read_answer(fd, &failed), ==, 5);
    g_assert_false(failed);
    /* A line that does not end, and no handshake at all. */
    {
        g_autofree char *line = g_strnfill(4000, 'A');

        g_assert_cmpint(write(impatient, "\0", 1), ==, 1);
        g_assert_cmpint(write(impatient, line, 4000), ==, 4000);
        wait_closed(impatient, 5);
        g_assert_cmpint(write(stranger, "lalala\r\n", 8), ==, 8);
        wait_closed(stranger, 5);
    }
}

/* All of it in one write, and a message byte by byte. */
static void test_pieces(void)
{
    g_autoptr(Fixture) fixture = fixture_new(FIXTURE_DIRECT, NULL);
    AUTO_FD fd = connect_raw(fixture);
    static const char start[] = "\0AUTH EXTERNAL 30\r\nNEGOTIATE_UNIX_FD\r\nBEGIN\r\n";
    static const char expected[] = "AGREE_UNIX_FD\r\n";
    g_autoptr(GByteArray) bytes = g_byte_array_new();
    g_autofree guchar *blob = NULL;
    g_autoptr(GDBusMessage) last = raw_call("GetMetrics", 201);
    char answer[37 + sizeof(expected) - 1]; /* "OK ", 32 digits, "\r\n" and what follows */
    gsize length;
    gboolean failed;

    g_byte_array_append(bytes, (const guint8 *)start, sizeof(start) - 1);
    for (guint32 serial = 1; serial <= 200; serial++) {
        g_autoptr(GDBusMessage) m = raw_call("GetRecoveryReport", serial);
        g_autofree guchar *one = g_dbus_message_to_blob(m, &length, 0, NULL);

        g_byte_array_append(bytes, one, (guint)length);
    }
    g_assert_cmpint(write(fd, bytes->data, bytes->len), ==, bytes->len);
    g_assert_cmpint(recv(fd, answer, sizeof(answer), MSG_WAITALL), ==, sizeof(answer));
    g_assert_cmpint(memcmp(answer + 37, expected, sizeof(expected) - 1), ==, 0);
    for (guint32 serial = 1; serial <= 200; serial++) {
        g_assert_cmpuint(read_answer(fd, &failed), ==, serial);
        g_assert_false(failed);
    }
    blob = g_dbus_message_to_blob(last, &length, 0, NULL);
    for (gsize i = 0; i < length; i++)
        g_assert_cmpint(write(fd, blob + i, 1), ==, 1);
    g_assert_cmpuint(read_answer(fd, &failed), ==, 201);
    g_assert_false(failed);
}

static void test_message_bytes(void)
{
    g_autoptr(Fixture) fixture = fixture_new(FIXTURE_DIRECT, "\"message_bytes\": 8192");
    g_autoptr(sd_bus) other = fixture_connect(fixture->direct_address);
    AUTO_FD fd = connect_through(fixture);
    g_autofree char *text = g_strnfill(9000, 'a');
    g_autoptr(GDBusMessage) fits = raw_call("Release", 1);
    g_autoptr(GDBusMessage) too_long = raw_call("Release", 2);
    guchar endless[24] = {'l', 1, 0, 1};
    gboolean failed;

    g_dbus_message_set_body(too_long, g_variant_new("(s)", text));
    text[8000] = '\0';
    g_dbus_message_set_body(fits, g_variant_new("(s)", text));
    send_message(fd, fits, 0);
    g_assert_cmpuint(read_answer(fd, &failed), ==, 1); /* an error, for it is no lease */
    g_assert_true(failed);
    send_message(fd, too_long, 0);
    wait_closed(fd, 5);
    fd = fd_close(fd);
    /* Long before its end has come. */
    fd = connect_through(fixture);
    endless[7] = 7; /* 112 MiB of body */
    endless[8] = 1;
    endless[12] = 8;
    g_assert_true(send_raw(fd, endless, sizeof(endless), 0));
    wait_closed(fd, 5);
    g_assert_cmpuint(lease_count(other), ==, 0);
}

/* Puts a blank, which no name has, at the beginning of @word. The last one is meant. */
static void spoil(guchar *blob, gsize length, const char *word)
{
    guchar *found = NULL;

    for (guchar *p = blob; (p = memmem(p, length - (gsize)(p - blob), word, strlen(word))); p++)
        found = p;
    g_assert_nonnull(found);
    found[0] = ' ';
}

static void test_descriptors(void)
{
    g_autoptr(Fixture) fixture = fixture_new(FIXTURE_DIRECT, NULL);
    g_autoptr(sd_bus) other = fixture_connect(fixture->direct_address);
    guint before = settled_fds(fixture), with_one;
    AUTO_FD fd = connect_through(fixture);
    gboolean failed;

    {
        g_autoptr(GDBusMessage) first = raw_call("GetMetrics", 99);

        send_message(fd, first, 0);
        g_assert_cmpuint(read_answer(fd, &failed), ==, 99);
        with_one = settled_fds(fixture);
    }
    /* Those of a good message go with it, wanted or not. */
    for (guint32 serial = 1; serial <= 20; serial++) {
        g_autoptr(GDBusMessage) m = raw_call("GetMetrics", serial);

        send_message(fd, m, serial % 4);
        g_assert_cmpuint(read_answer(fd, &failed), ==, serial);
        g_assert_false(failed);
    }
    wait_fds(fixture, with_one);
    {
        g_autofree char *text = g_strnfill(9000, 'a');
        g_autoptr(GDBusMessage) m = raw_call("Release", 21), next = raw_call("GetMetrics", 22);

        g_dbus_message_set_body(m, g_variant_new("(s)", text));
        g_assert_cmpint(kill(fixture->server, SIGSTOP), ==, 0); /* so that it reads both at once */
        send_message(fd, m, 0);
        send_message(fd, next, 1);
        g_assert_cmpint(kill(fixture->server, SIGCONT), ==, 0);
        g_assert_cmpuint(read_answer(fd, &failed), ==, 21);
        g_assert_cmpuint(read_answer(fd, &failed), ==, 22);
        send_message(fd, m, 1); /* too dear */
        wait_closed(fd, 5);
    }
    fd = fd_close(fd);
    for (guint bad = 0; bad < 6; bad++) {
        for (guint again = 0; again < 20; again++) {
            static const guint declared[] = {2, 3, 1, 2, 0, 1};
            g_autoptr(GDBusMessage) m = raw_call("GetMetrics", 7);
            g_autofree guchar *blob = NULL;
            gsize length;

            fd = connect_through(fixture);
            blob = to_blob(m, declared[bad], &length);
            if (bad == 0)
                spoil(blob, length, "GetMetrics");
            if (bad == 3)
                spoil(blob, length, PORTS_NAME);
            switch (bad) {
            case 0: /* no member has such a name */
            case 1: /* fewer than it says */
            case 3: /* no destination has such a name */
                (void)send_raw(fd, blob, length, 2);
                break;
            case 2: /* more than there may be */
                (void)send_raw(fd, blob, length, 60);
                break;
            case 4: /* it says that there are none */
                (void)send_raw(fd, blob, length, 2);
                break;
            default: /* some with each piece of a message that does not end */
                for (gsize i = 0; i + 8 < length; i += 8)
                    if (!send_raw(fd, blob + i, 8, 4))
                        break;
            }
            wait_closed(fd, 5);
            fd = fd_close(fd);
        }
        g_assert_cmpuint(lease_count(other), ==, 0);
        wait_fds(fixture, before);
    }
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
    g_test_add_func("/bus/direct/room-for-root", test_room_for_root);
    if (!g_getenv("LD_PRELOAD") || !strstr(g_getenv("LD_PRELOAD"), "vgpreload")) /* it keeps some */
        g_test_add_func("/bus/direct/out-of-descriptors", test_out_of_descriptors);
    g_test_add_func("/bus/direct/claims", test_claims);
    g_test_add_func("/bus/direct/pieces", test_pieces);
    g_test_add_func("/bus/direct/message-bytes", test_message_bytes);
    g_test_add_func("/bus/direct/descriptors", test_descriptors);
    return g_test_run();
}
