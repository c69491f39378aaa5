/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Held sockets: what the kernel makes of them, and whose they are after a restart. */
#include "fixture.h"

#include <errno.h>
#include <netinet/in.h>
#include <stddef.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "probe-test-util.h"
#include "util/fd.h"

static Lease *hold(Fixture *f)
{
    return fixture_grant(f, FIXTURE_REQUEST("dev", .hold = HOLD_SOFT));
}

static void test_services(void)
{
    /* a sweep has descriptors open at times, and so has the store, on other threads */
    g_autoptr(Fixture) f =
        fixture_started("{\"recovery\": {\"health_monitoring\": {\"enabled\": false}}}");
    Lease *lease = hold(f);
    guint before;

    g_assert_true(hold_table_holds(f->manager->holds, lease));
    g_assert_cmpint(outsider_try(3000, FALSE, NULL), ==, EADDRINUSE);
    for (guint i = 0; i < 3; i++) { /* a service comes and goes */
        AUTO_FD fd = -1;

        g_assert_cmpint(outsider_try(3000, TRUE, &fd), ==, 0);
        g_assert_cmpint(outsider_try(3000, TRUE, NULL), ==, EADDRINUSE);
    }
    fixture_wait(f, store_idle(f->manager->store));
    before = test_count_fds();
    g_assert_true(fixture_release(f, lease));
    g_assert_cmpuint(test_count_fds(), ==, before - 1);
    g_assert_cmpint(outsider_try(3000, FALSE, NULL), ==, 0);
}

static void set_local_range(const char *range)
{
    g_assert_true(test_write_file("/proc/sys/net/ipv4/ip_local_port_range", range));
}

static guint16 bind_any(int *ret_fd)
{
    struct sockaddr_in address = {.sin_family = AF_INET};
    socklen_t length = sizeof address;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    g_assert_no_errno(bind(fd, (struct sockaddr *)&address, sizeof address));
    g_assert_no_errno(getsockname(fd, (struct sockaddr *)&address, &length));
    *ret_fd = fd;
    return ntohs(address.sin_port);
}

/* The kernel chooses out of few ports; the held ones are never among them. */
static void test_bind_any(void)
{
    g_autoptr(Fixture) f = fixture_started(NULL);

    set_local_range("3000 3031");
    for (guint i = 0; i < 16; i++)
        (void)hold(f);
    for (guint i = 0; i < 2000; i++) {
        int fd;

        g_assert_cmpuint(bind_any(&fd), >=, 3016);
        (void)fd_close(fd);
    }
    set_local_range("32768 60999");
}

static void test_connect(void)
{
    g_autoptr(Fixture) f = fixture_started(NULL);
    AUTO_FD server = -1;

    g_assert_cmpint(outsider_try(9000, FALSE, &server), ==, 0);
    set_local_range("3000 3031");
    for (guint i = 0; i < 16; i++)
        (void)hold(f);
    for (guint i = 0; i < 500; i++) {
        struct sockaddr_in to = {.sin_family = AF_INET,
                                 .sin_port = htons(9000),
                                 .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
        struct sockaddr_in own;
        socklen_t length = sizeof own;
        struct linger linger = {1, 0}; /* no TIME_WAIT: the few ports are needed again */
        AUTO_FD fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        AUTO_FD peer = -1;

        g_assert_no_errno(connect(fd, (struct sockaddr *)&to, sizeof to));
        peer = accept(server, NULL, NULL);
        g_assert_no_errno(getsockname(fd, (struct sockaddr *)&own, &length));
        g_assert_cmpuint(ntohs(own.sin_port), >=, 3016);
        g_assert_no_errno(setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger));
    }
    set_local_range("32768 60999");
}

/* A hold shows every other holder, and is not shown as one to health. */
static void test_conflict(void)
{
    g_autoptr(Fixture) f =
        fixture_started("{\"recovery\": {\"health_monitoring\": {\"startup_grace_ms\": 0}}}");
    AUTO_FD fd = -1;
    g_autoptr(Ask) ask = NULL;

    g_assert_cmpint(outsider_try(3000, TRUE, &fd), ==, 0);
    ask = ask_wait(fixture_ask(f, FIXTURE_REQUEST("dev", .hold = HOLD_SOFT)));
    g_assert_cmpuint(((Lease *)ask->leases->pdata[0])->port, ==, 3001);
    fixture_wait(f, fixture_told(f, "released 3001 never-bound stale") == 1);
    g_assert_cmpuint(hold_table_count(f->manager->holds), ==, 0);
}

static void test_block(void)
{
    g_autoptr(Fixture) f = fixture_started(NULL);
    g_autoptr(Ask) ask = NULL;
    AUTO_FD fd = outsider_bind(3002, SOCK_STREAM);

    ask = ask_wait(fixture_ask(f, FIXTURE_REQUEST("dev", .count = 4, .hold = HOLD_SOFT)));
    g_assert_cmpint(ask->outcome, ==, OUTCOME_OK);
    g_assert_cmpuint(hold_table_count(f->manager->holds), ==, 4);
    for (guint i = 0; i < 4; i++)
        g_assert_cmpint(outsider_try(((Lease *)ask->leases->pdata[i])->port, FALSE, NULL), ==,
                        EADDRINUSE);
    g_assert_cmpint(outsider_try(3000, FALSE, NULL), ==, 0);
}

static void test_limit(void)
{
    g_autoptr(Fixture) f = fixture_started("{\"limits\": {\"held_sockets\": 2}}");
    g_autoptr(Ask) block = NULL;
    g_autoptr(Ask) third = NULL;
    g_autoptr(GError) error = NULL;

    (void)hold(f);
    block = ask_wait(fixture_ask(f, FIXTURE_REQUEST("dev", .count = 2, .hold = HOLD_SOFT)));
    g_assert_cmpint(block->outcome, ==, OUTCOME_OK);
    g_assert_true(block->hold_refused);
    g_assert_cmpuint(hold_table_count(f->manager->holds), ==, 1);
    (void)hold(f);
    third = ask_wait(fixture_ask(f, FIXTURE_REQUEST("dev", .hold = HOLD_SOFT)));
    g_assert_cmpint(third->outcome, ==, OUTCOME_OK);
    g_assert_true(third->hold_refused);
    g_assert_cmpint(((Lease *)third->leases->pdata[0])->hold, ==, HOLD_NONE);
    /* a reload raises it */
    fixture_configure(f, NULL);
    g_assert_true(manager_reload(f->manager, &error));
    g_assert_true(hold_table_holds(f->manager->holds, hold(f)));
}

static void test_descriptors_run_out(void)
{
    g_autoptr(Fixture) f = fixture_started(NULL);
    struct rlimit before, tight;

    g_assert_no_errno(getrlimit(RLIMIT_NOFILE, &before));
    tight = before;
    tight.rlim_cur = 300;
    g_assert_no_errno(setrlimit(RLIMIT_NOFILE, &tight));
    hold_table_set_max(f->manager->holds, 4096);
    for (guint i = 0; i < 50; i++)
        (void)hold(f);
    g_assert_cmpuint(hold_table_count(f->manager->holds), ==, 300 - 256);
    g_assert_no_errno(setrlimit(RLIMIT_NOFILE, &before));
}

static void test_udp(void)
{
    g_autoptr(Fixture) f = fixture_started(NULL);
    g_autoptr(Ask) udp = ask_wait(fixture_ask(f, FIXTURE_REQUEST("dns", .hold = HOLD_SOFT)));
    g_autoptr(Ask) both = ask_wait(fixture_ask(f, FIXTURE_REQUEST("game", .hold = HOLD_SOFT)));

    g_assert_true(udp->hold_refused);
    g_assert_false(both->hold_refused);
    g_assert_cmpuint(hold_table_count(f->manager->holds), ==, 1);
}

/* ---- a restart ---- */

static void pass(Fixture *f, int fd, char *name)
{
    HeldSocket held = {fd, name};

    g_array_append_val(f->held, held);
}

static int held_fd(guint16 port)
{
    int fd = hold_bind(port, NULL);

    g_assert_cmpint(fd, >=, 0);
    return fd;
}

static char *name_of(const Id *id)
{
    return g_strconcat("hold-", id->text, NULL);
}

static void test_bound_anew(void)
{
    g_autoptr(Fixture) f = fixture_started(NULL);
    Lease *lease = NULL;
    int fd = -1;

    (void)hold(f);
    fixture_restart(f);
    lease = fixture_lease(f, 3000);
    g_assert_true(hold_table_holds(f->manager->holds, lease));
    g_assert_cmpint(outsider_try(3000, FALSE, NULL), ==, EADDRINUSE);

    /* beside its service, too */
    g_assert_cmpint(outsider_try(3000, TRUE, &fd), ==, 0);
    fixture_stop(f);
    fixture_start(f);
    (void)fd_close(fd);
    fixture_sweeps(f, 2);
    g_assert_true(hold_table_holds(f->manager->holds, fixture_lease(f, 3000)));
    g_assert_cmpint(outsider_try(3000, FALSE, NULL), ==, EADDRINUSE);
}

/* ---- the service manager ---- */

static int service_manager(void)
{
    g_autofree char *name = g_strdup_printf("@styxy-test-holds-%d", getpid());
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    g_assert_cmpint(fd, >=, 0);
    memcpy(address.sun_path + 1, name + 1, strlen(name) - 1);
    g_assert_no_errno(bind(fd, (struct sockaddr *)&address,
                           (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(name))));
    g_assert_true(g_setenv("NOTIFY_SOCKET", name, TRUE));
    return fd;
}

/* Reads what came and keeps none of the descriptors in it: barriers are reached. */
static void let_go_of_all(int manager)
{
    char text[256];

    while (recv(manager, text, sizeof text, 0) >= 0)
        ;
    g_assert_cmpint(errno, ==, EAGAIN);
}

static void count(const GError *error, void *data)
{
    g_assert_no_error(error);
    ++*(guint *)data;
}

/* Its port is free, and granted again, before the loop hears that the service manager let go. */
static void test_told_in_order(void)
{
    AUTO_FD manager = service_manager();
    g_autoptr(Fixture) f = fixture_started(NULL);
    g_autoptr(GPtrArray) leases = g_ptr_array_new();
    guint answers = 0;

    g_ptr_array_add(leases, hold(f));
    manager_release(f->manager, leases, REASON_RELEASED, count, &answers);
    let_go_of_all(manager);
    g_ptr_array_set_size(f->told, 0);
    g_assert_cmpuint(hold(f)->port, ==, 3000);
    g_assert_cmpuint(f->told->len, ==, 2);
    g_assert_cmpstr(f->told->pdata[0], ==, "released 3000 released");
    g_assert_cmpstr(f->told->pdata[1], ==, "allocated 3000");
    fixture_wait(f, answers == 1);
    g_assert_cmpuint(fixture_told_with(f, "released"), ==, 1);
    g_unsetenv("NOTIFY_SOCKET");
}

static void test_taken_back(void)
{
    g_autoptr(Fixture) f = fixture_started(NULL);
    Id id = hold(f)->id;
    int fd;

    fixture_stop(f);
    fd = held_fd(3000);
    pass(f, fd, name_of(&id));
    fixture_start(f);
    g_assert_true(hold_table_holds(f->manager->holds, fixture_lease(f, 3000)));
    g_assert_cmpuint(hold_table_count(f->manager->holds), ==, 1);
    /* the very same socket */
    g_assert_cmpuint(hold_port(fd), ==, 3000);
    g_assert_true(fixture_release(f, fixture_lease(f, 3000)));
    g_assert_cmpuint(hold_port(fd), ==, 0);
}

static void test_strays(void)
{
    g_autoptr(Fixture) f = fixture_started(NULL);
    Id id = hold(f)->id, unknown = id_random();
    AUTO_FD listening = -1;
    int fds[4];

    fixture_stop(f);
    fds[0] = held_fd(3007);
    pass(f, fds[0], name_of(&unknown));
    fds[1] = held_fd(3008);
    pass(f, fds[1], name_of(&id)); /* another port */
    fds[2] = held_fd(3009);
    pass(f, fds[2], g_strdup("something"));
    g_assert_cmpint(outsider_try(3000, TRUE, &fds[3]), ==, 0);
    pass(f, fds[3], name_of(&id)); /* the port, but it listens */
    fixture_start(f);
    for (guint i = 0; i < 3; i++)
        g_assert_cmpint(outsider_try((guint16)(3007 + i), FALSE, NULL), ==, 0);
    g_assert_cmpuint(hold_table_count(f->manager->holds), ==, 1); /* bound anew */
    g_assert_cmpuint(fixture_told(f, "step clean-orphans repaired"), ==, 1);
    g_assert_cmpuint(registry_count(f->manager->registry), ==, 1);
}

int main(int argc, char *argv[])
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/hold/services", test_services);
    g_test_add_func("/hold/bind-any", test_bind_any);
    g_test_add_func("/hold/connect", test_connect);
    g_test_add_func("/hold/conflict", test_conflict);
    g_test_add_func("/hold/block", test_block);
    g_test_add_func("/hold/limit", test_limit);
    g_test_add_func("/hold/descriptors-run-out", test_descriptors_run_out);
    g_test_add_func("/hold/udp", test_udp);
    g_test_add_func("/hold/bound-anew", test_bound_anew);
    g_test_add_func("/hold/told-in-order", test_told_in_order);
    g_test_add_func("/hold/taken-back", test_taken_back);
    g_test_add_func("/hold/strays", test_strays);
    return fixture_main();
}
