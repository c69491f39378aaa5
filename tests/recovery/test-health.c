/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Layer 2 over real sockets and processes, with short intervals. */
#include "fixture.h"

#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "recovery/health-private.h"
#include "util/fd.h"

/* A sweep each 20 ms, three failures. */
#define QUICK "{\"recovery\": {\"health_monitoring\": {\"startup_grace_ms\": 0}}}"
/* Long enough for some sweeps on a machine that is busy. */
#define PATIENT "{\"recovery\": {\"health_monitoring\": {\"startup_grace_ms\": 1000}}}"

/* ---- the sweep ---- */

static void test_life(void)
{
    g_autoptr(Fixture) f = fixture_started(PATIENT);
    Lease *lease = fixture_grant(f, FIXTURE_REQUEST("dev"));
    Server server;

    fixture_sweeps(f, 2);
    g_assert_cmpint(lease->health, ==, HEALTH_RESERVED);
    g_assert_cmpuint(lease->failures, ==, 0);
    server_start(&server, 3000, FALSE);
    fixture_wait(f, lease->health == HEALTH_ACTIVE);
    g_assert_true(lease->ever_seen);
    g_assert_cmpint(lease->last_seen_usec, >, 0);
    g_assert_null(manager_health_reason(f->manager, lease));
    server_end(&server);
    fixture_wait(f, fixture_told(f, "health 3000 failing") == 1);
    fixture_wait(f, fixture_told(f, "released 3000 not-in-use stale") == 1);
    g_assert_cmpuint(fixture_told_with(f, "released"), ==, 1);
    g_assert_cmpuint(registry_count(f->manager->registry), ==, 0);
    g_assert_cmpuint(g_hash_table_size(f->manager->health->notes), ==, 0);
}

static void test_never_bound(void)
{
    g_autoptr(Fixture) f = fixture_started(PATIENT);
    gint64 start_usec = g_get_monotonic_time();

    (void)fixture_grant(f, FIXTURE_REQUEST("dev"));
    fixture_wait(f, fixture_told(f, "released 3000 never-bound stale") == 1);
    g_assert_cmpint(g_get_monotonic_time() - start_usec, >=, 1000 * G_TIME_SPAN_MILLISECOND);
}

static void test_success_resets(void)
{
    g_autoptr(Fixture) f =
        fixture_started("{\"recovery\": {\"health_monitoring\": {\"startup_grace_ms\": 0,"
                        " \"max_failures\": 1000}}}");
    Lease *lease = fixture_grant(f, FIXTURE_REQUEST("dev"));
    int fd;

    fixture_wait(f, lease->failures >= 2);
    g_assert_cmpint(lease->health, ==, HEALTH_FAILING);
    g_assert_nonnull(manager_health_reason(f->manager, lease));
    fd = outsider_bind(3000, SOCK_STREAM);
    fixture_wait(f, lease->health == HEALTH_ACTIVE);
    g_assert_cmpuint(lease->failures, ==, 0);
    g_assert_null(manager_health_reason(f->manager, lease));
    (void)fd_close(fd);
}

static void test_udp(void)
{
    g_autoptr(Fixture) f = fixture_started(QUICK);
    Lease *lease = NULL;
    int fd;

    lease = fixture_grant(f, FIXTURE_REQUEST("dns"));
    fd = outsider_bind(lease->port, SOCK_DGRAM);
    fixture_wait(f, lease->health == HEALTH_ACTIVE);
    fixture_sweeps(f, 4);
    g_assert_true(lease->in_registry);
    (void)fd_close(fd);
    fixture_wait(f, fixture_told(f, "released 5300 not-in-use stale") == 1);
}

/* A listener on another address is not this lease's service. */
static void test_address(void)
{
    g_autoptr(Fixture) f = fixture_started(QUICK);
    Lease *lease = fixture_grant(f, FIXTURE_REQUEST("dev", .address = "127.0.0.2"));
    struct sockaddr_in other = {.sin_family = AF_INET,
                                .sin_port = htons(lease->port),
                                .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    AUTO_FD fd = socket(AF_INET, SOCK_STREAM, 0);

    g_assert_no_errno(bind(fd, (struct sockaddr *)&other, sizeof other));
    g_assert_no_errno(listen(fd, 1));
    fixture_wait(f, fixture_told(f, "released 3000 never-bound stale") == 1);
}

static void test_only_reports(void)
{
    g_autoptr(Fixture) f =
        fixture_started("{\"recovery\": {\"health_monitoring\": {\"startup_grace_ms\": 0,"
                        " \"cleanup_stale_allocations\": false}}}");
    Lease *lease = fixture_grant(f, FIXTURE_REQUEST("dev"));

    fixture_wait(f, lease->failures > 5);
    g_assert_cmpuint(fixture_told(f, "health 3000 failing"), ==, 1);
    g_assert_cmpuint(fixture_told_with(f, "released"), ==, 0);
}

static void test_notify(void)
{
    g_autoptr(Fixture) f = fixture_started(QUICK);
    Lease *lease = fixture_grant(f, FIXTURE_REQUEST("dev", .on_unhealthy = ON_UNHEALTHY_NOTIFY));

    fixture_wait(f, lease->failures > 5);
    g_assert_cmpuint(fixture_told(f, "health 3000 failing"), ==, 1);
    g_assert_cmpuint(fixture_told_with(f, "released"), ==, 0);
}

static void test_disabled(void)
{
    g_autoptr(Fixture) f = fixture_started(
        "{\"recovery\": {\"health_monitoring\": {\"enabled\": false, \"startup_grace_ms\": 0}}}");
    g_autoptr(GError) error = NULL;
    Server server;

    server_start(&server, 0, FALSE);
    (void)fixture_grant(f, FIXTURE_REQUEST("dev", .process = server.identity));
    (void)fixture_grant(f, FIXTURE_REQUEST("dev"));
    server_kill(&server);
    fixture_run(f, 200);
    g_assert_cmpuint(registry_count(f->manager->registry), ==, 2);
    g_assert_cmpuint(deadline_queue_length(f->manager->deadlines), ==, 0);

    /* switched on, it sees at once what happened meanwhile; switched off, it forgets */
    fixture_configure(f, QUICK);
    g_assert_true(manager_reload(f->manager, &error));
    fixture_wait(f, fixture_told(f, "released 3000 process-exited stale") == 1);
    fixture_wait(f, fixture_told(f, "released 3001 never-bound stale") == 1);
    (void)fixture_grant(f, FIXTURE_REQUEST("dev"));
    fixture_configure(f, "{\"recovery\": {\"health_monitoring\": {\"enabled\": false}}}");
    g_assert_true(manager_reload(f->manager, &error));
    fixture_run(f, 150);
    g_assert_cmpuint(registry_count(f->manager->registry), ==, 1);
    server_end(&server);
}

/* No lease, no timer. */
static void test_no_timer(void)
{
    g_autoptr(Fixture) f = fixture_started(NULL);
    Lease *lease = NULL;

    g_assert_cmpuint(deadline_queue_length(f->manager->deadlines), ==, 0);
    lease = fixture_grant(f, FIXTURE_REQUEST("dev"));
    g_assert_cmpuint(deadline_queue_length(f->manager->deadlines), ==, 1);
    g_assert_true(fixture_release(f, lease));
    g_assert_cmpuint(deadline_queue_length(f->manager->deadlines), ==, 0);
}

/* More than half of ten at once: the look is doubted for a while, then believed. */
static void test_mass_failure(void)
{
    g_autoptr(Fixture) f = fixture_started(QUICK);
    guint64 first, doubted;
    int fds[12];

    for (guint i = 0; i < 12; i++) {
        Lease *lease = fixture_grant(f, FIXTURE_REQUEST("dev"));

        fds[i] = outsider_bind(lease->port, SOCK_STREAM);
    }
    fixture_wait(f, fixture_told_with(f, "health") == 12);
    first = metrics_get(METRIC_HEALTH_SWEEPS);
    for (guint i = 0; i < 12; i++)
        (void)fd_close(fds[i]);
    fixture_wait(f, fixture_told_with(f, "health") > 12);
    doubted = metrics_get(METRIC_HEALTH_SWEEPS) - first;
    g_assert_cmpuint(doubted, >=, 5);
    g_assert_cmpuint(doubted, <=, 8);
    fixture_wait(f, registry_count(f->manager->registry) == 0);
}

/* Six of thirteen are not half: they are believed at once. */
static void test_no_mass_failure(void)
{
    g_autoptr(Fixture) f = fixture_started(QUICK);
    int fds[13];

    for (guint i = 0; i < 13; i++)
        fds[i] = outsider_bind(fixture_grant(f, FIXTURE_REQUEST("dev"))->port, SOCK_STREAM);
    fixture_wait(f, fixture_told_with(f, "health") == 13);
    for (guint i = 0; i < 6; i++)
        (void)fd_close(fds[i]);
    fixture_wait(f, registry_count(f->manager->registry) == 7);
    fixture_sweeps(f, 5);
    g_assert_cmpuint(registry_count(f->manager->registry), ==, 7);
    for (guint i = 6; i < 13; i++)
        (void)fd_close(fds[i]);
}

/* Leases that end and come while a sweep goes through them in slices. */
static void test_changes_under_a_sweep(void)
{
    g_autoptr(Fixture) f =
        fixture_started("{\"service_types\": {\"wide\": {\"port_range\": [33000, 43000]}},"
                        "\"recovery\": {\"health_monitoring\": {\"check_interval_ms\": 10}}}");
    guint64 until;

    for (guint i = 0; i < 4000; i++)
        (void)fixture_grant(f, FIXTURE_REQUEST("wide"));
    until = metrics_get(METRIC_HEALTH_SWEEPS) + 5;
    for (guint port = 33000; metrics_get(METRIC_HEALTH_SWEEPS) < until; port++) {
        Lease *lease = fixture_lease(f, (guint16)(33000 + port % 4000));

        if (lease)
            g_assert_true(fixture_release(f, lease));
        (void)fixture_grant(f, FIXTURE_REQUEST("wide"));
        fixture_turn(f);
    }
    g_assert_cmpuint(fixture_told_with(f, "released"), <, 4000);
    g_assert_cmpuint(registry_count(f->manager->registry), ==, 4000);
}

/* ---- processes ---- */

static void test_process(gconstpointer data)
{
    Lifetime lifetime = (Lifetime)GPOINTER_TO_INT(data);
    g_autoptr(Fixture) f = fixture_started(NULL);
    gint64 killed_usec, took_usec;
    Server server;

    server_start(&server, 0, FALSE);
    (void)fixture_grant(f,
                        FIXTURE_REQUEST("dev", .lifetime = lifetime, .process = server.identity));
    fixture_run(f, 100);
    g_assert_cmpuint(registry_count(f->manager->registry), ==, 1);
    killed_usec = g_get_monotonic_time();
    server_kill(&server);
    fixture_wait(f, fixture_told(f, "released 3000 process-exited stale") == 1);
    took_usec = g_get_monotonic_time() - killed_usec;
    g_assert_cmpint(took_usec, >=, 50 * G_TIME_SPAN_MILLISECOND);
    /* At once; how soon exactly is for the stress tests, which have the machine to themselves. */
    g_assert_cmpint(took_usec, <, 2 * G_TIME_SPAN_SECOND);
    g_assert_cmpuint(fixture_told_with(f, "released"), ==, 1);
    server_end(&server);
}

static void test_persistent_process(void)
{
    g_autoptr(Fixture) f = fixture_started(NULL);
    Lease *lease = NULL;
    Server server;

    server_start(&server, 0, FALSE);
    lease = fixture_grant(
        f, FIXTURE_REQUEST("dev", .lifetime = LIFETIME_PERSISTENT, .process = server.identity));
    server_end(&server);
    fixture_wait(f, lease->health == HEALTH_DORMANT);
    g_assert_cmpint(lease->process.pid, ==, 0);
    fixture_run(f, 50);
    g_assert_true(lease->in_registry);
}

/* The named process ends, its child serves on: it handed over. */
static void test_hand_over(void)
{
    g_autoptr(Fixture) f = fixture_started(QUICK);
    Lease *lease = NULL;
    Server server;

    server_start_later(&server, TRUE);
    lease = fixture_grant(f, FIXTURE_REQUEST("dev", .process = server.identity));
    server_listen(&server, lease->port);
    fixture_wait(f, lease->health == HEALTH_ACTIVE);
    server_kill(&server);
    fixture_wait(f, lease->process.pid == 0);
    fixture_sweeps(f, 5);
    g_assert_true(lease->in_registry);
    g_assert_cmpint(lease->health, ==, HEALTH_ACTIVE);
    g_assert_cmpuint(fixture_told_with(f, "released 3000 process-exited"), ==, 0);
    /* and when that one ends, the sweep sees it */
    server_end(&server);
    fixture_wait(f, fixture_told(f, "released 3000 not-in-use stale") == 1);
}

/* Somebody else's service on the port is no hand-over. */
static void test_no_hand_over_to_strangers(void)
{
    g_autoptr(Fixture) f = fixture_started(NULL);
    Server named, stranger;

    server_start(&named, 0, FALSE);
    (void)fixture_grant(f, FIXTURE_REQUEST("dev", .uid = 1000, .process = named.identity));
    server_start(&stranger, 3000, FALSE);
    server_kill(&named);
    fixture_wait(f, fixture_told(f, "released 3000 process-exited stale") == 1);
    server_end(&named);
    server_end(&stranger);
}

static void test_dead_before_the_grant(void)
{
    g_autoptr(Fixture) f = fixture_started(NULL);
    Server server;

    server_start(&server, 0, FALSE);
    server_kill(&server);
    (void)fixture_grant(f, FIXTURE_REQUEST("dev", .process = server.identity));
    fixture_wait(f, fixture_told(f, "released 3000 process-exited stale") == 1);
    server_end(&server);
}

/* The same number with another start is another process. */
static void test_another_process(void)
{
    g_autoptr(Fixture) f = fixture_started(NULL);
    ProcessIdentity not_quite;
    Lease *kept = NULL;
    Server server;

    server_start(&server, 0, FALSE);
    not_quite = server.identity;
    not_quite.start_ticks++;
    if (not_quite.pidfd_inode != 0)
        not_quite.pidfd_inode++;
    kept = fixture_grant(f, FIXTURE_REQUEST("dev", .process = server.identity));
    (void)fixture_grant(f, FIXTURE_REQUEST("dev", .process = not_quite));
    fixture_wait(f, fixture_told(f, "released 3001 process-exited stale") == 1);
    fixture_run(f, 60);
    g_assert_true(kept->in_registry);
    server_end(&server);
    fixture_wait(f, fixture_told(f, "released 3000 process-exited stale") == 1);
}

static void test_many_leases_of_a_process(void)
{
    g_autoptr(Fixture) f = fixture_started(NULL);
    Server server;

    server_start(&server, 0, FALSE);
    for (guint i = 0; i < 20; i++)
        (void)fixture_grant(f, FIXTURE_REQUEST("dev", .process = server.identity));
    g_assert_true(fixture_release(f, fixture_lease(f, 3007)));
    server_end(&server);
    fixture_wait(f, registry_count(f->manager->registry) == 0);
    g_assert_cmpuint(fixture_told_with(f, "released"), ==, 20);
    g_assert_null(f->manager->health->picture);
    g_assert_cmpuint(f->manager->health->graces, ==, 0);
}

static void test_restart_of_the_daemon(void)
{
    g_autoptr(Fixture) f = fixture_started(NULL);
    Server server;

    server_start(&server, 0, FALSE);
    (void)fixture_grant(f, FIXTURE_REQUEST("dev", .process = server.identity));
    fixture_restart(f);
    fixture_run(f, 100);
    g_assert_cmpuint(registry_count(f->manager->registry), ==, 1);
    server_end(&server);
    fixture_wait(f, fixture_told(f, "released 3000 process-exited stale") == 1);
}

static void test_notify_ends_with_its_process(void)
{
    g_autoptr(Fixture) f = fixture_started(NULL);
    Server server;

    server_start(&server, 0, FALSE);
    (void)fixture_grant(f, FIXTURE_REQUEST("dev", .lifetime = LIFETIME_PROCESS,
                                           .on_unhealthy = ON_UNHEALTHY_NOTIFY,
                                           .process = server.identity));
    server_end(&server);
    fixture_wait(f, fixture_told(f, "released 3000 process-exited stale") == 1);
}

/* ---- the service manager ---- */

typedef struct Services {
    UnitState state;
    gint64 since_usec;
    GError *error;
    guint queries, restarts;
    GQueue *held;     /* owned; where there is one, questions wait in it (Services *) */
    UnitDone pending; /* the answer is given by services_answer() */
    void *pending_data;
    char *unit;
} Services;

static void services_answer(Services *services)
{
    UnitDone done = g_steal_pointer(&services->pending);

    done((UnitSight){services->state, services->since_usec}, services->error,
         services->pending_data);
}

/* Answers all that is held, and what that asks. */
static void services_answer_held(Services *services)
{
    Services *one;

    while ((one = g_queue_pop_head(services->held))) {
        services_answer(one);
        g_free(one);
    }
}

static void query(const char *unit, uid_t uid, UnitDone done, void *done_data, void *data)
{
    Services *services = data;

    services->queries++;
    if (services->held) {
        Services *one = g_new0(Services, 1);

        *one = (Services){.state = services->state, .pending = done, .pending_data = done_data};
        g_queue_push_tail(services->held, one);
        return;
    }
    g_assert_null(services->pending);
    services->pending = done;
    services->pending_data = done_data;
    g_free(services->unit);
    services->unit = g_strdup(unit);
}

static void restart(const char *unit, uid_t uid, UnitDone done, void *done_data, void *data)
{
    ((Services *)data)->restarts++;
    query(unit, uid, done, done_data, data);
    ((Services *)data)->queries--;
}

static const ManagerServices manager_services = {query, restart};

/* Answers what is asked until the restart of that number is under way. */
static void services_restart(Services *services, Fixture *f, guint number)
{
    while (services->restarts < number) {
        fixture_wait(f, services->pending);
        if (services->restarts < number)
            services_answer(services);
    }
    g_assert_nonnull(services->pending);
}

static void services_clear(Services *services)
{
    g_free(services->unit);
    g_clear_error(&services->error);
    if (services->held)
        g_queue_free_full(services->held, g_free);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Services, services_clear)

static void test_unit_starting(void)
{
    g_autoptr(Fixture) f = fixture_started(NULL);
    g_auto(Services) services = {.state = UNIT_STARTING};
    Lease *lease = NULL;
    Server server;

    manager_set_services(f->manager, &manager_services, &services);
    server_start(&server, 0, FALSE);
    lease =
        fixture_grant(f, FIXTURE_REQUEST("dev", .unit = "a.service", .process = server.identity));
    server_end(&server);
    for (guint i = 0; i < 3; i++) {
        fixture_wait(f, services.pending);
        services_answer(&services);
    }
    g_assert_true(lease->in_registry);
    g_assert_cmpstr(services.unit, ==, "a.service");
    services.state = UNIT_STOPPED;
    fixture_wait(f, services.pending);
    services_answer(&services);
    g_assert_cmpuint(fixture_told(f, "released 3000 process-exited stale"), ==, 1);
}

/* Nobody waits for ever for a unit that goes on starting. */
static void test_unit_patience(void)
{
    g_autoptr(Fixture) f = fixture_started(PATIENT);
    g_auto(Services) services = {.state = UNIT_UNKNOWN};
    Server server;

    manager_set_services(f->manager, &manager_services, &services);
    server_start(&server, 0, FALSE);
    (void)fixture_grant(f, FIXTURE_REQUEST("dev", .unit = "a.service", .process = server.identity));
    server_end(&server);
    for (guint i = 0; i < 1000 && registry_count(f->manager->registry) > 0; i++) {
        fixture_wait(f, services.pending);
        services_answer(&services);
    }
    g_assert_cmpuint(fixture_told(f, "released 3000 process-exited stale"), ==, 1);
    g_assert_cmpuint(services.queries, >=, 2);
}

/* Lease, then monitor, then manager are gone when the answer comes. */
static void test_late_answers(void)
{
    g_auto(Services) services = {.state = UNIT_STOPPED};
    g_autoptr(Fixture) f = fixture_started(NULL);
    Server server;

    for (guint i = 0; i < 2; i++) {
        manager_set_services(f->manager, &manager_services, &services);
        server_start(&server, 0, FALSE);
        (void)fixture_grant(
            f, FIXTURE_REQUEST("dev", .unit = "a.service", .process = server.identity));
        server_end(&server);
        fixture_wait(f, services.pending);
        if (i == 0)
            g_assert_true(fixture_release(f, fixture_lease(f, 3000)));
        else
            fixture_stop(f);
        services_answer(&services);
    }
}

/* Started again and not at its port yet: it has the time of a start. Not so a unit that went on
 * without one of its processes. */
static void test_unit_started_again(void)
{
    g_autoptr(Fixture) f =
        fixture_started("{\"recovery\": {\"health_monitoring\": {\"startup_grace_ms\": 1000}}}");
    g_auto(Services) services = {.state = UNIT_RUNNING};
    Server servers[2];

    manager_set_services(f->manager, &manager_services, &services);
    for (guint i = 0; i < 2; i++) {
        server_start(&servers[i], 0, FALSE);
        (void)fixture_grant(
            f, FIXTURE_REQUEST("dev", .unit = "a.service", .process = servers[i].identity));
        services.since_usec = i == 0 ? 1 : g_get_monotonic_time();
        server_end(&servers[i]);
        services.queries = 0;
        while (registry_count(f->manager->registry) > 0) {
            fixture_wait(f, services.pending);
            services_answer(&services);
        }
        g_assert_true((i == 0) == (services.queries == 1));
    }
}

/* A scope is not started again by anybody: there is nothing to ask and to wait for. */
static void test_unit_scope(void)
{
    g_autoptr(Fixture) f = fixture_started(PATIENT);
    g_auto(Services) services = {.state = UNIT_RUNNING};
    Server server;

    manager_set_services(f->manager, &manager_services, &services);
    server_start(&server, 0, FALSE);
    (void)fixture_grant(
        f, FIXTURE_REQUEST("dev", .unit = "session-1.scope", .process = server.identity));
    server_end(&server);
    fixture_wait(f, fixture_told(f, "released 3000 process-exited stale") == 1);
    g_assert_cmpuint(services.queries, ==, 0);
}

#define RESTARTS                                                         \
    "{\"recovery\": {\"health_monitoring\": {\"check_interval_ms\": 10," \
    "\"startup_grace_ms\": 40, \"max_failures\": 2}}}"

static void test_restarts(void)
{
    g_auto(Services) services = {.state = UNIT_RUNNING};
    g_autoptr(Fixture) f = fixture_started(RESTARTS);
    Lease *lease = NULL;

    manager_set_services(f->manager, &manager_services, &services);
    lease = fixture_grant(
        f, FIXTURE_REQUEST("dev", .unit = "a.service", .on_unhealthy = ON_UNHEALTHY_RESTART));
    services_restart(&services, f, 1);
    services_answer(&services);
    g_assert_cmpuint(fixture_told(f, "restarted 3000 a.service 1"), ==, 1);
    g_assert_true(lease->in_registry);
    services_restart(&services, f, 2);
    services_answer(&services);
    /* in vain, twice */
    fixture_wait(f, fixture_told_with(f, "released 3000 n") == 1);
    g_assert_cmpuint(services.restarts, ==, 2);
}

static void test_restarts_are_forgiven(void)
{
    g_auto(Services) services = {.state = UNIT_RUNNING};
    g_autoptr(Fixture) f = fixture_started(RESTARTS);
    HealthNote *note = NULL;
    Lease *lease = NULL;
    int fd;

    manager_set_services(f->manager, &manager_services, &services);
    lease = fixture_grant(
        f, FIXTURE_REQUEST("dev", .unit = "a.service", .on_unhealthy = ON_UNHEALTHY_RESTART));
    services_restart(&services, f, 1);
    services_answer(&services);
    note = health_note(f->manager->health, lease);
    g_assert_cmpuint(note->restarts, ==, 1);
    fd = outsider_bind(3000, SOCK_STREAM);
    fixture_wait(f, lease->health == HEALTH_ACTIVE && note->restarts == 0);
    (void)fd_close(fd);
}

/* The grace of a start counts again after a restart, although it was in use before. */
static void test_restart_has_its_grace(void)
{
    g_auto(Services) services = {.state = UNIT_RUNNING};
    g_autoptr(Fixture) f =
        fixture_started("{\"recovery\": {\"health_monitoring\": {\"check_interval_ms\": 10,"
                        "\"startup_grace_ms\": 60000, \"max_failures\": 2}}}");
    Lease *lease = NULL;
    int fd;

    manager_set_services(f->manager, &manager_services, &services);
    lease = fixture_grant(
        f, FIXTURE_REQUEST("dev", .unit = "a.service", .on_unhealthy = ON_UNHEALTHY_RESTART));
    fd = outsider_bind(3000, SOCK_STREAM);
    fixture_wait(f, lease->health == HEALTH_ACTIVE);
    (void)fd_close(fd);
    services_restart(&services, f, 1);
    services_answer(&services);
    fixture_sweeps(f, 6);
    g_assert_cmpuint(services.restarts, ==, 1);
    g_assert_cmpuint(lease->failures, ==, 0);
}

/* Who stopped it wants it stopped. */
static void test_no_restart_of_a_stopped_unit(void)
{
    g_auto(Services) services = {.state = UNIT_STOPPED};
    g_autoptr(Fixture) f = fixture_started(RESTARTS);

    manager_set_services(f->manager, &manager_services, &services);
    (void)fixture_grant(
        f, FIXTURE_REQUEST("dev", .unit = "a.service", .on_unhealthy = ON_UNHEALTHY_RESTART));
    fixture_wait(f, services.pending);
    services_answer(&services);
    g_assert_cmpuint(fixture_told(f, "released 3000 never-bound stale"), ==, 1);
    g_assert_cmpuint(services.restarts, ==, 0);
}

/* Five leases of a unit fail together: it is restarted once, and another unit for itself. The
 * answers are held until all have asked: a lease that is judged later finds the restart under way
 * and asks nothing. */
static void test_one_restart_for_all_leases(void)
{
    g_auto(Services) services = {.state = UNIT_FAILED};
    g_autoptr(Fixture) f =
        fixture_started("{\"recovery\": {\"health_monitoring\": {\"check_interval_ms\": 700,"
                        "\"startup_grace_ms\": 0, \"max_failures\": 1}}}");

    manager_set_services(f->manager, &manager_services, &services);
    services.held = g_queue_new();
    for (guint i = 0; i < 5; i++)
        (void)fixture_grant(
            f, FIXTURE_REQUEST("dev", .unit = "a.service", .on_unhealthy = ON_UNHEALTHY_RESTART));
    (void)fixture_grant(
        f, FIXTURE_REQUEST("dev", .unit = "b.service", .on_unhealthy = ON_UNHEALTHY_RESTART));
    fixture_wait(f, services.queries == 6);
    g_assert_cmpuint(services.restarts, ==, 0);
    services_answer_held(&services);
    g_assert_cmpuint(services.queries, ==, 6);
    g_assert_cmpuint(services.restarts, ==, 2);
    g_assert_cmpuint(fixture_told_with(f, "restarted"), ==, 2);
}

static void test_restart_without_unit(void)
{
    g_autoptr(Fixture) f = fixture_started(QUICK);

    (void)fixture_grant(f, FIXTURE_REQUEST("dev", .on_unhealthy = ON_UNHEALTHY_RESTART));
    fixture_wait(f, fixture_told(f, "released 3000 never-bound stale") == 1);
}

/* ---- Cleanup ---- */

typedef struct Cleanup {
    guint answers;
    GArray *findings;
    int code; /* 0 = no error */
} Cleanup;

static void on_cleaned(const GArray *findings, const GError *error, void *data)
{
    Cleanup *cleanup = data;

    cleanup->answers++;
    cleanup->findings = g_array_copy((GArray *)findings);
    cleanup->code = error ? error->code : 0;
}

static void cleanup_clear(Cleanup *cleanup)
{
    g_clear_pointer(&cleanup->findings, g_array_unref);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Cleanup, cleanup_clear)

#define SLOW                                                                \
    "{\"recovery\": {\"health_monitoring\": {\"check_interval_ms\": 60000," \
    "\"startup_grace_ms\": 50}}}"

static void test_cleanup(void)
{
    g_autoptr(Fixture) f =
        fixture_started("{\"recovery\": {\"health_monitoring\": {\"check_interval_ms\": 60000,"
                        "\"startup_grace_ms\": 2000}}}");
    g_auto(Cleanup) dry = {0}, mine = {0}, all = {0};
    AUTO_FD fd = -1;
    Server server;

    server_start(&server, 0, FALSE);
    (void)fixture_grant(f, FIXTURE_REQUEST("dev"));              /* 3000: stale */
    (void)fixture_grant(f, FIXTURE_REQUEST("dev", .uid = 1000)); /* 3001: stale, another's */
    (void)fixture_grant(f, FIXTURE_REQUEST("dev"));              /* 3002: in use */
    (void)fixture_grant(f, FIXTURE_REQUEST("dev", .process = server.identity)); /* 3003 */
    (void)fixture_grant(f, FIXTURE_REQUEST("dev", .lifetime = LIFETIME_PERSISTENT));
    (void)fixture_grant(f, FIXTURE_REQUEST("dev", .ttl_msec = 60000));
    fd = outsider_bind(3002, SOCK_STREAM);
    fixture_run(f, 2050);
    (void)fixture_grant(f, FIXTURE_REQUEST("dev")); /* young */

    manager_cleanup(f->manager, (uid_t)-1, TRUE, on_cleaned, &dry);
    g_assert_false(manager_is_idle(f->manager));
    fixture_wait(f, dry.answers == 1);
    g_assert_cmpint(dry.code, ==, 0);
    g_assert_cmpuint(dry.findings->len, ==, 2);
    g_assert_cmpuint(g_array_index(dry.findings, CleanupFinding, 0).port, ==, 3000);
    g_assert_cmpint(g_array_index(dry.findings, CleanupFinding, 0).reason, ==, REASON_NEVER_BOUND);
    g_assert_cmpuint(g_array_index(dry.findings, CleanupFinding, 1).port, ==, 3001);
    g_assert_cmpuint(registry_count(f->manager->registry), ==, 7);

    /* two at once: the second waits for the first */
    manager_cleanup(f->manager, 1000, FALSE, on_cleaned, &mine);
    manager_cleanup(f->manager, (uid_t)-1, FALSE, on_cleaned, &all);
    fixture_wait(f, mine.answers == 1 && all.answers == 1);
    g_assert_cmpuint(mine.findings->len, ==, 1);
    g_assert_cmpuint(g_array_index(mine.findings, CleanupFinding, 0).port, ==, 3001);
    g_assert_cmpuint(all.findings->len, ==, 1);
    g_assert_cmpuint(registry_count(f->manager->registry), ==, 5);
    g_assert_cmpuint(fixture_told_with(f, "released"), ==, 2);
    server_end(&server);
}

static void test_cleanup_not_recorded(void)
{
    g_autoptr(Fixture) f = fixture_started(SLOW);
    g_auto(Cleanup) cleanup = {0};

    (void)fixture_grant(f, FIXTURE_REQUEST("dev"));
    fixture_run(f, 60);
    disk_refuse_writes();
    manager_cleanup(f->manager, (uid_t)-1, FALSE, on_cleaned, &cleanup);
    fixture_wait(f, cleanup.answers == 1);
    disk_allow();
    g_assert_cmpint(cleanup.code, ==, OUTCOME_STATE_UNAVAILABLE);
    g_assert_cmpuint(cleanup.findings->len, ==, 0);
    g_assert_cmpuint(registry_count(f->manager->registry), ==, 1);
}

static void test_leave_during_cleanup(void)
{
    g_auto(Cleanup) first = {0}, second = {0}, withdrawn = {0};
    g_autoptr(Fixture) f = fixture_started(SLOW);

    (void)fixture_grant(f, FIXTURE_REQUEST("dev"));
    manager_cleanup(f->manager, (uid_t)-1, FALSE, on_cleaned, &first);
    manager_cleanup(f->manager, (uid_t)-1, FALSE, on_cleaned, &withdrawn);
    manager_cleanup(f->manager, (uid_t)-1, FALSE, on_cleaned, &second);
    g_assert_false(manager_withdraw(f->manager, &first)); /* it has begun */
    g_assert_true(manager_withdraw(f->manager, &withdrawn));
    fixture_stop(f);
    g_assert_cmpuint(withdrawn.answers, ==, 0);
    g_assert_cmpuint(first.answers, ==, 1);
    g_assert_cmpuint(second.answers, ==, 1);
    g_assert_cmpint(first.code, ==, OUTCOME_BUSY);
}

int main(int argc, char *argv[])
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/sweep/life", test_life);
    g_test_add_func("/sweep/never-bound", test_never_bound);
    g_test_add_func("/sweep/success-resets", test_success_resets);
    g_test_add_func("/sweep/udp", test_udp);
    g_test_add_func("/sweep/address", test_address);
    g_test_add_func("/sweep/only-reports", test_only_reports);
    g_test_add_func("/sweep/notify", test_notify);
    g_test_add_func("/sweep/disabled", test_disabled);
    g_test_add_func("/sweep/no-timer", test_no_timer);
    g_test_add_func("/sweep/mass-failure", test_mass_failure);
    g_test_add_func("/sweep/no-mass-failure", test_no_mass_failure);
    g_test_add_func("/sweep/changes-under-it", test_changes_under_a_sweep);
    g_test_add_data_func("/process/auto", GINT_TO_POINTER(LIFETIME_AUTO), test_process);
    g_test_add_data_func("/process/process", GINT_TO_POINTER(LIFETIME_PROCESS), test_process);
    g_test_add_func("/process/persistent", test_persistent_process);
    g_test_add_func("/process/hand-over", test_hand_over);
    g_test_add_func("/process/no-hand-over-to-strangers", test_no_hand_over_to_strangers);
    g_test_add_func("/process/dead-before-the-grant", test_dead_before_the_grant);
    g_test_add_func("/process/another", test_another_process);
    g_test_add_func("/process/many-leases", test_many_leases_of_a_process);
    g_test_add_func("/process/restart-of-the-daemon", test_restart_of_the_daemon);
    g_test_add_func("/process/notify", test_notify_ends_with_its_process);
    g_test_add_func("/unit/starting", test_unit_starting);
    g_test_add_func("/unit/patience", test_unit_patience);
    g_test_add_func("/unit/started-again", test_unit_started_again);
    g_test_add_func("/unit/scope", test_unit_scope);
    g_test_add_func("/unit/late-answers", test_late_answers);
    g_test_add_func("/unit/restarts", test_restarts);
    g_test_add_func("/unit/restarts-are-forgiven", test_restarts_are_forgiven);
    g_test_add_func("/unit/restart-has-its-grace", test_restart_has_its_grace);
    g_test_add_func("/unit/no-restart-of-a-stopped-unit", test_no_restart_of_a_stopped_unit);
    g_test_add_func("/unit/one-restart-for-all-leases", test_one_restart_for_all_leases);
    g_test_add_func("/unit/restart-without-unit", test_restart_without_unit);
    g_test_add_func("/cleanup/findings", test_cleanup);
    g_test_add_func("/cleanup/not-recorded", test_cleanup_not_recorded);
    g_test_add_func("/cleanup/leave", test_leave_during_cleanup);
    return fixture_main();
}
