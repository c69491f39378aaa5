/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Layer 1: conflicts, rounds, waiting and what cancelled requests leave behind. */
#include "fixture.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>

#include "recovery/hold.h"
#include "util/fd.h"

/* ---- conflicts ---- */

static void test_outsiders(gconstpointer data)
{
    guint count = GPOINTER_TO_UINT(data);
    g_autoptr(Fixture) f = fixture_started(NULL);
    g_autoptr(Ask) ask = NULL;
    int fds[99];

    for (guint i = 0; i < count; i++)
        fds[i] = outsider_bind((guint16)(3000 + i), SOCK_STREAM);
    ask = ask_wait(fixture_ask(f, FIXTURE_REQUEST("dev")));
    g_assert_cmpint(ask->outcome, ==, OUTCOME_OK);
    g_assert_cmpuint(((Lease *)ask->leases->pdata[0])->port, ==, 3000 + count);
    g_assert_cmpuint(ask->attempts, ==, count + 1);
    g_assert_cmpuint(ask->conflicts->len, ==, count);
    for (guint i = 0; i < count; i++) {
        g_assert_cmpuint(g_array_index(ask->conflicts, guint16, i), ==, 3000 + i);
        g_assert_cmpuint(fixture_toldf(f, "conflict %u", 3000 + i), ==, 1);
        (void)fd_close(fds[i]);
    }
    g_assert_cmpuint(fixture_told_with(f, "conflict"), ==, count);
    g_assert_cmpuint(fixture_toldf(f, "allocated %u", 3000 + count), ==, 1);
}

static void test_all_held(void)
{
    g_autoptr(Fixture) f = fixture_started(NULL);
    g_autoptr(Ask) ask = NULL;
    g_autoptr(Lease) kept = NULL;
    int fds[9];

    for (guint i = 0; i < 9; i++)
        fds[i] = outsider_bind((guint16)(8001 + i), SOCK_STREAM);
    kept = lease_ref(fixture_grant(f, FIXTURE_REQUEST("api")));
    g_assert_cmpuint(kept->port, ==, 8000);
    ask = ask_wait(fixture_ask(f, FIXTURE_REQUEST("api")));
    g_assert_cmpint(ask->outcome, ==, OUTCOME_NO_PORT_AVAILABLE);
    g_assert_cmpuint(ask->conflicts->len, ==, 9);
    g_assert_cmpuint(ask->attempts, ==, 4 * 9); /* one round and three more */
    g_assert_nonnull(strstr(ask->message, "8001 (uid 0"));
    for (guint i = 0; i < 9; i++)
        (void)fd_close(fds[i]);
}

/* Nothing that a program could let go: no reason to wait. */
static void test_all_leased(void)
{
    g_autoptr(Fixture) f = fixture_started(NULL);
    g_autoptr(Ask) ask = NULL;

    for (guint i = 0; i < 10; i++)
        (void)fixture_grant(f, FIXTURE_REQUEST("api"));
    ask = fixture_ask(f, FIXTURE_REQUEST("api"));
    g_assert_cmpuint(ask->answers, ==, 1);
    g_assert_cmpint(ask->outcome, ==, OUTCOME_NO_PORT_AVAILABLE);
}

static void test_strict(void)
{
    g_autoptr(Fixture) f = fixture_started(NULL);
    g_autoptr(Ask) ask = NULL;
    AUTO_FD fd = outsider_bind(3005, SOCK_STREAM);
    gint64 start_usec = g_get_monotonic_time();
    Lease *other = NULL;

    ask = fixture_ask(f, FIXTURE_REQUEST("dev", .port = 3005, .strict = TRUE));
    g_assert_cmpuint(ask->answers, ==, 0);
    /* life goes on meanwhile */
    other = fixture_grant(f, FIXTURE_REQUEST("dev"));
    g_assert_cmpuint(other->port, ==, 3000);
    g_assert_cmpuint(ask->answers, ==, 0);
    g_assert_false(manager_is_idle(f->manager));
    ask_wait(ask);
    g_assert_cmpint(ask->outcome, ==, OUTCOME_PORT_IN_USE);
    g_assert_cmpuint(ask->attempts, ==, 4);
    g_assert_cmpuint(ask->conflicts->len, ==, 1);
    g_assert_nonnull(strstr(ask->message, "port 3005 is in use by uid 0"));
    /* 20 ms, then twice and four times as long */
    g_assert_cmpint(g_get_monotonic_time() - start_usec, >=, 140 * G_TIME_SPAN_MILLISECOND);
    g_assert_cmpuint(fixture_told(f, "conflict 3005"), ==, 4);
    g_assert_null(fixture_lease(f, 3005));
}

static void test_strict_is_let_go(void)
{
    g_autoptr(Fixture) f = fixture_started(NULL);
    g_autoptr(Ask) ask = NULL;
    int fd = outsider_bind(3005, SOCK_STREAM);

    ask = fixture_ask(f, FIXTURE_REQUEST("dev", .port = 3005, .strict = TRUE));
    g_assert_cmpuint(ask->answers, ==, 0);
    (void)fd_close(fd);
    ask_wait(ask);
    g_assert_cmpint(ask->outcome, ==, OUTCOME_OK);
    g_assert_cmpuint(ask->attempts, ==, 2);
    g_assert_cmpuint(((Lease *)ask->leases->pdata[0])->port, ==, 3005);
}

static void test_retries(void)
{
    g_autoptr(Fixture) f = fixture_started(NULL);
    AUTO_FD fd = outsider_bind(3005, SOCK_STREAM);

    for (gint retries = 0; retries < 3; retries++) {
        g_autoptr(Ask) ask =
            fixture_ask_with(f, FIXTURE_REQUEST("dev", .port = 3005, .strict = TRUE),
                             (AllocateOptions){.retries = retries});

        ask_wait(ask);
        g_assert_cmpint(ask->outcome, ==, OUTCOME_PORT_IN_USE);
        g_assert_cmpuint(ask->attempts, ==, retries + 1);
    }
}

static void test_strict_on_lease(void)
{
    g_autoptr(Fixture) f = fixture_started(NULL);
    Lease *lease = fixture_grant(f, FIXTURE_REQUEST("dev"));
    g_autoptr(Ask) ask =
        fixture_ask(f, FIXTURE_REQUEST("dev", .port = lease->port, .strict = TRUE));

    g_assert_cmpuint(ask->answers, ==, 1);
    g_assert_cmpint(ask->outcome, ==, OUTCOME_PORT_IN_USE);
}

/* The port of a request that waits in its pause is leased to somebody else. */
static void test_strict_overtaken(void)
{
    g_autoptr(Fixture) f = fixture_started(NULL);
    g_autoptr(Ask) ask = NULL;
    int fd = outsider_bind(3005, SOCK_STREAM);

    ask = fixture_ask(f, FIXTURE_REQUEST("dev", .port = 3005, .strict = TRUE));
    (void)fd_close(fd);
    g_assert_cmpuint(fixture_grant(f, FIXTURE_REQUEST("dev", .port = 3005, .strict = TRUE))->port,
                     ==, 3005);
    ask_wait(ask);
    g_assert_cmpint(ask->outcome, ==, OUTCOME_PORT_IN_USE);
    g_assert_nonnull(strstr(ask->message, "a lease of uid 0"));
}

static void test_disabled(void)
{
    g_autoptr(Fixture) f =
        fixture_started("{\"recovery\": {\"port_conflict\": {\"enabled\": false}}}");
    g_autoptr(Ask) ask = NULL;
    AUTO_FD fd = outsider_bind(3000, SOCK_STREAM);

    ask = fixture_ask(f, FIXTURE_REQUEST("dev"));
    g_assert_cmpuint(ask->answers, ==, 1);
    g_assert_cmpint(ask->outcome, ==, OUTCOME_NO_PORT_AVAILABLE);
    g_assert_cmpuint(ask->attempts, ==, 1);
    g_assert_nonnull(strstr(ask->message, "switched off"));
}

static void test_cooldown(void)
{
    g_autoptr(Fixture) f = fixture_started(NULL);
    int fd = outsider_bind(3000, SOCK_STREAM);

    g_assert_cmpuint(fixture_grant(f, FIXTURE_REQUEST("dev"))->port, ==, 3001);
    (void)fd_close(fd);
    g_assert_cmpuint(fixture_grant(f, FIXTURE_REQUEST("dev"))->port, ==, 3002);
}

static void test_protocols(void)
{
    g_autoptr(Fixture) f = fixture_started(NULL);
    AUTO_FD tcp = outsider_bind(5310, SOCK_STREAM);
    AUTO_FD udp = outsider_bind(5311, SOCK_DGRAM);
    AUTO_FD dns_tcp = outsider_bind(5300, SOCK_STREAM);
    AUTO_FD dns_udp = outsider_bind(5301, SOCK_DGRAM);
    g_autoptr(Ask) both = ask_wait(fixture_ask(f, FIXTURE_REQUEST("game")));

    g_assert_cmpuint(both->conflicts->len, ==, 2);
    g_assert_cmpuint(((Lease *)both->leases->pdata[0])->port, ==, 5312);
    /* what is somebody's by tcp is free by udp */
    g_assert_cmpuint(fixture_grant(f, FIXTURE_REQUEST("dns"))->port, ==, 5300);
    g_assert_cmpuint(fixture_grant(f, FIXTURE_REQUEST("dns"))->port, ==, 5302);
}

static void test_address(void)
{
    g_autoptr(Fixture) f = fixture_started(NULL);
    g_autoptr(Ask) none = NULL;

    g_assert_cmpstr(fixture_grant(f, FIXTURE_REQUEST("dev", .address = "127.0.0.1"))->address, ==,
                    "127.0.0.1");
    none = ask_wait(fixture_ask(f, FIXTURE_REQUEST("dev", .address = "192.0.2.1")));
    g_assert_cmpint(none->outcome, ==, OUTCOME_INVALID_ARGUMENT);
    g_assert_cmpuint(registry_count(f->manager->registry), ==, 1);
}

/* ---- blocks ---- */

static void test_block(void)
{
    g_autoptr(Fixture) f = fixture_started(NULL);
    g_autoptr(Ask) block = NULL;
    g_autoptr(Ask) large = NULL;
    AUTO_FD fd = outsider_bind(8003, SOCK_STREAM);

    block = ask_wait(fixture_ask(f, FIXTURE_REQUEST("api", .count = 5)));
    g_assert_cmpint(block->outcome, ==, OUTCOME_OK);
    g_assert_cmpuint(block->leases->len, ==, 5);
    for (guint i = 0; i < 5; i++)
        g_assert_cmpuint(((Lease *)block->leases->pdata[i])->port, ==, 8004 + i);
    g_assert_cmpuint(g_array_index(block->conflicts, guint16, 0), ==, 8003);

    large = ask_wait(fixture_ask(f, FIXTURE_REQUEST("api", .count = 4)));
    g_assert_cmpint(large->outcome, ==, OUTCOME_NO_PORT_AVAILABLE);
    g_assert_nonnull(strstr(large->message, "no 4 consecutive ports in 8000-8009 are free"));
    g_assert_cmpuint(large->leases->len, ==, 0);
    g_assert_cmpuint(registry_count(f->manager->registry), ==, 5);
}

/* A block as long as the limit goes through the loop, not around it. */
static void test_long_block(void)
{
    g_autoptr(Fixture) f =
        fixture_started("{\"service_types\": {\"wide\": {\"port_range\": [30000, 31999]}},"
                        "\"limits\": {\"block_size\": 600}, \"auto_allocation\": "
                        "{\"port_range\": [20000, 20099]}}");
    g_autoptr(Ask) ask = NULL;
    AUTO_FD fd = outsider_bind(30599, SOCK_STREAM);

    ask = fixture_ask(f, FIXTURE_REQUEST("wide", .count = 600));
    g_assert_cmpuint(ask->answers, ==, 0);
    ask_wait(ask);
    g_assert_cmpint(ask->outcome, ==, OUTCOME_OK);
    g_assert_cmpuint(((Lease *)ask->leases->pdata[0])->port, ==, 30600);
}

/* ---- sockets ---- */

static void test_socket(void)
{
    g_autoptr(Fixture) f = fixture_started(NULL);
    g_autoptr(Ask) ask = fixture_ask_with(f, FIXTURE_REQUEST("dev"),
                                          (AllocateOptions){.retries = -1, .want_socket = TRUE});
    int listening = 1;
    socklen_t length = sizeof listening;
    guint16 port;

    g_assert_cmpint(ask->outcome, ==, OUTCOME_OK);
    port = ((Lease *)ask->leases->pdata[0])->port;
    g_assert_cmpint(ask->socket, >=, 0);
    g_assert_cmpuint(hold_port(ask->socket), ==, port);
    g_assert_no_errno(getsockopt(ask->socket, SOL_SOCKET, SO_ACCEPTCONN, &listening, &length));
    g_assert_false(listening);
    g_assert_cmpint(outsider_try(port, TRUE, NULL), ==, EADDRINUSE);
    g_assert_no_errno(listen(ask->socket, 1));
    g_assert_cmpint(outsider_try(port, FALSE, NULL), ==, EADDRINUSE);
}

static void test_socket_moves_on(void)
{
    g_autoptr(Fixture) f = fixture_started(NULL);
    g_autoptr(Ask) ask = NULL;
    AUTO_FD fd = outsider_bind(3000, SOCK_STREAM);

    ask = fixture_ask_with(f, FIXTURE_REQUEST("dev", .hold = HOLD_SOFT),
                           (AllocateOptions){.retries = -1, .want_socket = TRUE});
    g_assert_cmpint(ask->outcome, ==, OUTCOME_OK);
    g_assert_cmpuint(hold_port(ask->socket), ==, 3001);
    g_assert_cmpuint(ask->conflicts->len, ==, 1);
    /* the socket is the caller's alone */
    g_assert_true(ask->hold_refused);
    g_assert_cmpuint(hold_table_count(f->manager->holds), ==, 0);
    g_assert_cmpint(((Lease *)ask->leases->pdata[0])->hold, ==, HOLD_NONE);
}

static void test_socket_of_reused(void)
{
    static const AllocateOptions options = {.retries = -1, .want_socket = TRUE};
    g_autoptr(Fixture) f = fixture_started(NULL);
    Lease *lease = fixture_grant(f, FIXTURE_REQUEST("dev", .instance = "a", .hold = HOLD_SOFT));
    g_autoptr(Ask) first = NULL;
    g_autoptr(Ask) second = NULL;

    first = fixture_ask_with(f, FIXTURE_REQUEST("dev", .instance = "a"), options);
    g_assert_cmpint(first->outcome, ==, OUTCOME_OK);
    g_assert_true(first->reused);
    g_assert_true(first->leases->pdata[0] == lease);
    g_assert_cmpuint(hold_port(first->socket), ==, lease->port);
    g_assert_no_errno(listen(first->socket, 1));
    second = fixture_ask_with(f, FIXTURE_REQUEST("dev", .instance = "a"), options);
    g_assert_cmpint(second->outcome, ==, OUTCOME_PORT_IN_USE);
    g_assert_cmpint(second->socket, ==, -1);
    g_assert_true(lease->in_registry);
}

/* Its number is for everybody, its socket for the owner: the port may be one others cannot bind. */
static void test_socket_of_singleton(void)
{
    static const AllocateOptions options = {.retries = -1, .want_socket = TRUE};
    g_autoptr(Fixture) f = fixture_started(NULL);
    Lease *lease = fixture_grant(f, FIXTURE_REQUEST("ai", .uid = 1000));
    g_autoptr(Ask) number = fixture_ask(f, FIXTURE_REQUEST("ai", .uid = 1001));
    g_autoptr(Ask) stranger = fixture_ask_with(f, FIXTURE_REQUEST("ai", .uid = 1001), options);
    g_autoptr(Ask) owner = fixture_ask_with(f, FIXTURE_REQUEST("ai", .uid = 1000), options);

    g_assert_cmpint(number->outcome, ==, OUTCOME_OK);
    g_assert_true(number->leases->pdata[0] == lease);
    g_assert_cmpint(stranger->outcome, ==, OUTCOME_NOT_OWNER);
    g_assert_cmpint(stranger->socket, ==, -1);
    g_assert_nonnull(strstr(stranger->message, "uid 1000"));
    g_assert_cmpint(owner->outcome, ==, OUTCOME_OK);
    g_assert_cmpuint(hold_port(owner->socket), ==, lease->port);
}

/* One connection that the side with @port closes first. */
static void serve_once(int listener, guint16 port)
{
    struct sockaddr_in6 to = {
        .sin6_family = AF_INET6, .sin6_port = htons(port), .sin6_addr = IN6ADDR_LOOPBACK_INIT};
    AUTO_FD there = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int here;

    g_assert_no_errno(connect(there, (struct sockaddr *)&to, sizeof to));
    here = accept(listener, NULL, NULL);
    g_assert_no_errno(here);
    (void)fd_close(here);
}

static void test_socket_past_time_wait(void)
{
    static const AllocateOptions options = {.retries = -1, .want_socket = TRUE};
    const int one = 1;
    g_autoptr(Fixture) f = fixture_started(NULL);
    LeaseRequest request = FIXTURE_REQUEST("dev", .instance = "a");
    g_autoptr(Ask) first = fixture_ask_with(f, request, options);
    g_autoptr(Ask) second = NULL;

    g_assert_no_errno(setsockopt(first->socket, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one));
    g_assert_no_errno(listen(first->socket, 1));
    serve_once(first->socket, 3000);
    first->socket = fd_close(first->socket);
    g_assert_cmpint(outsider_try(3000, FALSE, NULL), ==, EADDRINUSE);
    second = fixture_ask_with(f, request, options);
    g_assert_cmpint(second->outcome, ==, OUTCOME_OK);
    g_assert_true(second->reused);
    g_assert_cmpuint(hold_port(second->socket), ==, 3000);
    g_assert_no_errno(listen(second->socket, 1));
}

/* ---- waiting for each other ---- */

static void test_singleton(void)
{
    g_autoptr(Fixture) f = fixture_started(NULL);
    LeaseRequest request = FIXTURE_REQUEST("ai", .lifetime = LIFETIME_PERSISTENT);
    g_autoptr(Ask) one = fixture_ask(f, request);
    g_autoptr(Ask) two = fixture_ask(f, request);
    g_autoptr(Ask) three = fixture_ask(f, request);

    g_assert_cmpuint(one->answers + two->answers + three->answers, ==, 0);
    ask_wait(one);
    ask_wait(two);
    ask_wait(three);
    g_assert_cmpint(one->outcome, ==, OUTCOME_OK);
    g_assert_false(one->reused);
    g_assert_true(two->reused && three->reused);
    g_assert_true(two->leases->pdata[0] == one->leases->pdata[0]);
    g_assert_true(three->leases->pdata[0] == one->leases->pdata[0]);
    g_assert_cmpuint(registry_count(f->manager->registry), ==, 1);
}

/* Who waits for one port keeps nobody from the lease, and gets it, too. */
static void test_singleton_paused(void)
{
    g_autoptr(Fixture) f = fixture_started(NULL);
    int fd = outsider_bind(11405, SOCK_STREAM);
    g_autoptr(Ask) loud =
        fixture_ask_with(f, FIXTURE_REQUEST("ai", .port = 11405, .strict = TRUE, .uid = 7),
                         (AllocateOptions){.retries = 100});
    g_autoptr(Ask) quiet = fixture_ask(f, FIXTURE_REQUEST("ai"));

    g_assert_cmpuint(loud->answers, ==, 0);
    ask_wait(quiet);
    g_assert_cmpint(quiet->outcome, ==, OUTCOME_OK);
    g_assert_false(quiet->reused);
    g_assert_cmpuint(loud->answers, ==, 0);
    (void)fd_close(fd);
    ask_wait(loud);
    g_assert_cmpint(loud->outcome, ==, OUTCOME_OK);
    g_assert_true(loud->reused);
    g_assert_true(loud->leases->pdata[0] == quiet->leases->pdata[0]);
    g_assert_cmpuint(registry_count(f->manager->registry), ==, 1);
    g_assert_null(fixture_lease(f, 11405));
}

/* The same with a hundred of them, some of whom search for long. */
static void test_singleton_crowd(void)
{
    g_autoptr(Fixture) f = fixture_started(NULL);
    Ask *asks[100];
    int fds[10];

    for (guint i = 0; i < G_N_ELEMENTS(fds); i++)
        fds[i] = outsider_bind((guint16)(11400 + i), SOCK_STREAM);
    for (guint i = 0; i < G_N_ELEMENTS(asks); i++)
        asks[i] = fixture_ask_with(
            f,
            FIXTURE_REQUEST("ai", .uid = i % 3,
                            .lifetime = i % 2 ? LIFETIME_PERSISTENT : LIFETIME_AUTO),
            (AllocateOptions){.retries = 100});
    fixture_run(f, 50);
    (void)fd_close(fds[4]);
    for (guint i = 0; i < G_N_ELEMENTS(asks); i++) {
        ask_wait(asks[i]);
        g_assert_cmpint(asks[i]->outcome, ==, OUTCOME_OK);
        g_assert_cmpuint(((Lease *)asks[i]->leases->pdata[0])->port, ==, 11404);
        asks[i] = ask_free(asks[i]);
    }
    g_assert_cmpuint(registry_count(f->manager->registry), ==, 1);
    for (guint i = 0; i < G_N_ELEMENTS(fds); i++)
        if (i != 4)
            (void)fd_close(fds[i]);
}

static void test_instance(void)
{
    g_autoptr(Fixture) f = fixture_started(NULL);
    Lease *lease = fixture_grant(f, FIXTURE_REQUEST("dev", .instance = "a"));
    g_autoptr(Ask) again = fixture_ask(f, FIXTURE_REQUEST("dev", .instance = "a"));
    guint16 port = lease->port;

    g_assert_true(again->reused);
    g_assert_true(again->leases->pdata[0] == lease);
    g_assert_true(fixture_release(f, lease));
    (void)fixture_grant(f, FIXTURE_REQUEST("dev", .port = 3050, .strict = TRUE));
    g_assert_cmpuint(fixture_grant(f, FIXTURE_REQUEST("dev", .instance = "a"))->port, ==, port);
}

/* Those that wait for a lease that is ending get another. */
static void test_ending(void)
{
    g_autoptr(Fixture) f = fixture_started(NULL);
    LeaseRequest request = FIXTURE_REQUEST("ai", .lifetime = LIFETIME_PERSISTENT);
    Lease *lease = fixture_grant(f, request);
    g_autoptr(Lease) kept = lease_ref(lease);
    g_autoptr(GPtrArray) one = g_ptr_array_new();
    g_autoptr(Ask) ask = NULL;

    g_ptr_array_add(one, lease);
    manager_release(f->manager, one, REASON_RELEASED, NULL, NULL);
    g_assert_true(lease->ending);
    ask = fixture_ask(f, request);
    g_assert_cmpuint(ask->answers, ==, 0);
    ask_wait(ask);
    g_assert_cmpint(ask->outcome, ==, OUTCOME_OK);
    g_assert_false(ask->reused);
    g_assert_true(ask->leases->pdata[0] != kept);
    g_assert_false(kept->in_registry);
}

/* ---- cancelling ---- */

static void cancel(Ask *ask)
{
    manager_job_cancel(ask->job);
    ask->job = NULL;
}

static void test_cancel_pause(void)
{
    g_autoptr(Fixture) f = fixture_started(NULL);
    g_autoptr(Ask) ask = NULL;
    int fd = outsider_bind(3005, SOCK_STREAM);

    ask = fixture_ask(f, FIXTURE_REQUEST("dev", .port = 3005, .strict = TRUE));
    cancel(ask);
    (void)fd_close(fd);
    fixture_run(f, 100);
    g_assert_cmpuint(ask->answers, ==, 0);
    g_assert_cmpuint(registry_count(f->manager->registry), ==, 0);
    g_assert_cmpuint(fixture_told_with(f, "allocated"), ==, 0);
    g_assert_true(manager_is_idle(f->manager));
}

static void test_cancel_on_disk(void)
{
    g_autoptr(Fixture) f = fixture_started(NULL);
    g_autoptr(Ask) ask = fixture_ask(f, FIXTURE_REQUEST("dev", .lifetime = LIFETIME_PERSISTENT));

    g_assert_nonnull(ask->job);
    cancel(ask);
    fixture_wait(f, manager_is_idle(f->manager));
    g_assert_cmpuint(ask->answers, ==, 0);
    g_assert_cmpuint(registry_count(f->manager->registry), ==, 0);
    g_assert_cmpuint(fixture_told(f, "released 3000 client-gone stale"), ==, 1);
    fixture_restart(f);
    g_assert_cmpuint(registry_count(f->manager->registry), ==, 0);
}

/* Who waited for the cancelled one goes on, and must not wait for ever. */
static void test_cancel_wakes(void)
{
    g_autoptr(Fixture) f = fixture_started(NULL);
    g_autoptr(Ask) first = NULL;
    g_autoptr(Ask) second = NULL;

    first = fixture_ask(f, FIXTURE_REQUEST("ai", .lifetime = LIFETIME_PERSISTENT));
    g_assert_nonnull(first->job);
    second = fixture_ask(f, FIXTURE_REQUEST("ai"));
    g_assert_nonnull(second->job);
    cancel(first);
    ask_wait(second);
    g_assert_cmpint(second->outcome, ==, OUTCOME_OK);
    g_assert_false(second->reused); /* what the first one got had to end */
    g_assert_cmpuint(registry_count(f->manager->registry), ==, 1);
}

static void test_cancel_parked(void)
{
    g_autoptr(Fixture) f = fixture_started(NULL);
    LeaseRequest request = FIXTURE_REQUEST("ai", .lifetime = LIFETIME_PERSISTENT);
    g_autoptr(Ask) first = fixture_ask(f, request);
    g_autoptr(Ask) second = fixture_ask(f, request);

    cancel(second);
    ask_wait(first);
    fixture_run(f, 20);
    g_assert_cmpint(first->outcome, ==, OUTCOME_OK);
    g_assert_cmpuint(second->answers, ==, 0);
    g_assert_cmpuint(f->manager->jobs.length, ==, 0);
}

/* The daemon leaves while requests wait, in every way there is to wait. */
static void test_free_while_waiting(void)
{
    g_autoptr(Fixture) f = fixture_started(NULL);
    AUTO_FD fd = outsider_bind(3005, SOCK_STREAM);
    g_autoptr(Ask) pausing = fixture_ask(f, FIXTURE_REQUEST("dev", .port = 3005, .strict = TRUE));
    g_autoptr(Ask) syncing = fixture_ask(f, FIXTURE_REQUEST("ai", .lifetime = LIFETIME_PERSISTENT));
    g_autoptr(Ask) parked = fixture_ask(f, FIXTURE_REQUEST("ai"));

    fixture_stop(f);
    g_assert_cmpuint(pausing->answers, ==, 0);
    g_assert_cmpuint(parked->answers, ==, 0);
    /* what was written before is answered */
    g_assert_cmpuint(syncing->answers, ==, 1);
    pausing->job = parked->job = NULL;
    fixture_start(f);
    g_assert_nonnull(registry_first_of_type(f->manager->registry, "ai"));
}

/* ---- auto-allocation ---- */

static void test_unknown_types(void)
{
    g_autoptr(Fixture) f = fixture_started(NULL);
    g_autoptr(GHashTable) ports = g_hash_table_new(NULL, NULL);

    for (guint i = 0; i < 10; i++) {
        g_autofree char *type = g_strdup_printf("unknown-%u", i);
        Lease *lease = fixture_grant(f, FIXTURE_REQUEST(type));

        g_assert_true(g_hash_table_add(ports, GUINT_TO_POINTER(lease->port / 10)));
    }
    fixture_restart(f);
    for (guint i = 0; i < 10; i++) {
        g_autofree char *type = g_strdup_printf("unknown-%u", i);
        guint16 first = registry_first_of_type(f->manager->registry, type)->port;

        g_assert_cmpuint(fixture_grant(f, FIXTURE_REQUEST(type))->port / 10, ==, first / 10);
    }
}

static void test_rejected_type_leaves_nothing(void)
{
    g_autoptr(Fixture) f = fixture_started(NULL);
    AUTO_FD fd = outsider_bind(20000, SOCK_STREAM);
    g_autoptr(Ask) ask = fixture_ask_with(
        f, FIXTURE_REQUEST("new-one", .port = 20000, .strict = TRUE), (AllocateOptions){0});

    ask_wait(ask);
    g_assert_cmpint(ask->outcome, ==, OUTCOME_PORT_IN_USE);
    fixture_restart(f);
    g_assert_cmpuint(fixture_grant(f, FIXTURE_REQUEST("new-two"))->port / 10, ==, 2000);
}

/* ---- releasing from within an answer ---- */

static void release_at_once(const AllocateResult *result, void *data)
{
    g_assert_cmpint(result->outcome, ==, OUTCOME_OK);
    manager_release(((Fixture *)data)->manager, result->leases, REASON_RELEASED, NULL, NULL);
}

static void test_release_in_answer(void)
{
    g_autoptr(Fixture) f = fixture_started(NULL);
    LeaseRequest request = FIXTURE_REQUEST("dev", .ttl_msec = 30, .hold = HOLD_SOFT);
    AllocateOptions options = {.retries = -1};

    g_assert_null(manager_allocate(f->manager, &request, &options, release_at_once, f));
    g_assert_cmpuint(registry_count(f->manager->registry), ==, 0);
    fixture_run(f, 60);
    g_assert_cmpuint(fixture_told(f, "released 3000 released"), ==, 1);
    g_assert_cmpuint(fixture_told_with(f, "released"), ==, 1);
    g_assert_cmpuint(fixture_told_with(f, "allocated"), ==, 0);
}

static void test_became_idle(void)
{
    g_autoptr(Fixture) f = fixture_started(NULL);
    Lease *one = fixture_grant(f, FIXTURE_REQUEST("dev"));
    Lease *two = fixture_grant(f, FIXTURE_REQUEST("dev"));

    g_assert_true(fixture_release(f, one));
    g_assert_cmpuint(f->idle_told, ==, 0);
    g_assert_true(fixture_release(f, two));
    g_assert_cmpuint(f->idle_told, ==, 1);
    fixture_wait(f, manager_is_idle(f->manager));
}

int main(int argc, char *argv[])
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_data_func("/conflict/outsiders-1", GUINT_TO_POINTER(1), test_outsiders);
    g_test_add_data_func("/conflict/outsiders-3", GUINT_TO_POINTER(3), test_outsiders);
    g_test_add_data_func("/conflict/outsiders-10", GUINT_TO_POINTER(10), test_outsiders);
    g_test_add_data_func("/conflict/outsiders-99", GUINT_TO_POINTER(99), test_outsiders);
    g_test_add_func("/conflict/all-held", test_all_held);
    g_test_add_func("/conflict/all-leased", test_all_leased);
    g_test_add_func("/conflict/strict", test_strict);
    g_test_add_func("/conflict/strict-is-let-go", test_strict_is_let_go);
    g_test_add_func("/conflict/retries", test_retries);
    g_test_add_func("/conflict/strict-on-lease", test_strict_on_lease);
    g_test_add_func("/conflict/strict-overtaken", test_strict_overtaken);
    g_test_add_func("/conflict/disabled", test_disabled);
    g_test_add_func("/conflict/cooldown", test_cooldown);
    g_test_add_func("/conflict/protocols", test_protocols);
    g_test_add_func("/conflict/address", test_address);
    g_test_add_func("/block/all-or-nothing", test_block);
    g_test_add_func("/block/long", test_long_block);
    g_test_add_func("/socket/bound", test_socket);
    g_test_add_func("/socket/moves-on", test_socket_moves_on);
    g_test_add_func("/socket/of-reused", test_socket_of_reused);
    g_test_add_func("/socket/of-singleton", test_socket_of_singleton);
    g_test_add_func("/socket/past-time-wait", test_socket_past_time_wait);
    g_test_add_func("/waiting/singleton", test_singleton);
    g_test_add_func("/waiting/singleton-paused", test_singleton_paused);
    g_test_add_func("/waiting/singleton-crowd", test_singleton_crowd);
    g_test_add_func("/waiting/instance", test_instance);
    g_test_add_func("/waiting/ending", test_ending);
    g_test_add_func("/cancel/pause", test_cancel_pause);
    g_test_add_func("/cancel/on-disk", test_cancel_on_disk);
    g_test_add_func("/cancel/wakes", test_cancel_wakes);
    g_test_add_func("/cancel/parked", test_cancel_parked);
    g_test_add_func("/cancel/free-while-waiting", test_free_while_waiting);
    g_test_add_func("/auto/unknown-types", test_unknown_types);
    g_test_add_func("/auto/rejected-leaves-nothing", test_rejected_type_leaves_nothing);
    g_test_add_func("/release/in-answer", test_release_in_answer);
    g_test_add_func("/release/became-idle", test_became_idle);
    return fixture_main();
}
