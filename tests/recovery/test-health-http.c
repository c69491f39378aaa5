/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Layer 2's HTTP checks, of real web servers, with short intervals. */
#include "fixture.h"

#include <errno.h>
#include <fcntl.h>
#include <gio/gio.h>
#include <string.h>
#include <sys/fsuid.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "probe/cgroup.h"
#include "recovery/health-private.h"
#include "util/fd.h"

/* A web server that answers with the status it is told, or not at all (0). */
typedef struct Web {
    int fd;
    gint status;
    gint asked;
    GThread *thread;
} Web;

static gpointer serve(gpointer data)
{
    Web *web = data;

    for (;;) {
        AUTO_FD fd = accept(web->fd, NULL, NULL);
        gint status = g_atomic_int_get(&web->status);
        g_autofree char *answer = g_strdup_printf(
            "HTTP/1.1 %d Told\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", status);
        char request[1024];

        if (fd < 0)
            return NULL;
        if (read(fd, request, sizeof request) > 0 && status > 0)
            (void)!write(fd, answer, strlen(answer));
        g_atomic_int_inc(&web->asked);
    }
}

static void web_start_on(Web *web, int fd, gint status)
{
    *web = (Web){.fd = fd, .status = status};
    web->thread = g_thread_new("web", serve, web);
}

static void web_start(Web *web, guint16 port, gint status)
{
    web_start_on(web, outsider_bind(port, SOCK_STREAM), status);
}

/* A socket belongs to whose file system identity it was made with; setfsuid() says the old one. */
static gboolean become(uid_t uid)
{
    (void)setfsuid(uid);
    return (uid_t)setfsuid((uid_t)-1) == uid;
}

/* @address: numeric. */
static void web_start_as(Web *web, uid_t uid, const char *address, guint16 port)
{
    g_autoptr(GSocketAddress) name = g_inet_socket_address_new_from_string(address, port);
    struct sockaddr_storage native;
    int one = 1, fd;

    g_assert_true(g_socket_address_to_native(name, &native, sizeof native, NULL));
    g_assert_true(become(uid));
    fd = socket(native.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    g_assert_true(become(geteuid()));
    g_assert_no_errno(fd);
    /* The ports of one test are in TIME_WAIT for the next one. */
    g_assert_no_errno(setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one));
    g_assert_no_errno(
        bind(fd, (struct sockaddr *)&native, (socklen_t)g_socket_address_get_native_size(name)));
    g_assert_no_errno(listen(fd, 16));
    web_start_on(web, fd, 200);
}

static guint web_asked(Web *web)
{
    return (guint)g_atomic_int_get(&web->asked);
}

static void web_stop(Web *web)
{
    (void)shutdown(web->fd, SHUT_RDWR);
    (void)g_thread_join(web->thread);
    (void)fd_close(web->fd);
}

/* Not "dev": the server's ports are in TIME_WAIT afterwards, and the other tests count on theirs.
 */
#define ASKED_AT(url, ...) FIXTURE_REQUEST("api", .health_url = (url), ##__VA_ARGS__)
#define WITH_URL(...) ASKED_AT("http://127.0.0.1:{port}/", ##__VA_ARGS__)

static void test_http_life(void)
{
    g_autoptr(Fixture) f = fixture_started(
        "{\"recovery\": {\"health_monitoring\": {\"startup_grace_ms\": 0, \"max_failures\": 6}}}");
    Lease *lease = fixture_grant(f, WITH_URL());
    guint16 port = lease->port;
    Web web;

    web_start(&web, port, 200);
    fixture_wait(f, lease->health == HEALTH_ACTIVE && g_atomic_int_get(&web.asked) >= 2);
    g_atomic_int_set(&web.status, 503);
    fixture_wait(f, lease->health == HEALTH_FAILING);
    g_assert_cmpstr(manager_health_reason(f->manager, lease), ==,
                    "its health check fails: status 503");
    g_atomic_int_set(&web.status, 204);
    fixture_wait(f, lease->health == HEALTH_ACTIVE);
    g_assert_cmpuint(lease->failures, ==, 0);
    g_atomic_int_set(&web.status, 0);
    fixture_wait(f, fixture_toldf(f, "released %u unhealthy stale", port) == 1);
    web_stop(&web);
}

/* Six failures are six answers: what comes late is not counted twice. */
static void test_http_counts_once(void)
{
    g_autoptr(Fixture) f = fixture_started(
        "{\"recovery\": {\"health_monitoring\": {\"startup_grace_ms\": 0, \"max_failures\": 6}}}");
    Lease *lease = fixture_grant(f, WITH_URL(.on_unhealthy = ON_UNHEALTHY_NOTIFY));
    guint64 failed;
    Web web;

    web_start(&web, lease->port, 500);
    fixture_wait(f, lease->failures >= 6);
    failed = metrics_get(METRIC_HTTP_CHECKS_FAILED);
    g_assert_cmpuint(failed, >=, lease->failures);
    g_assert_cmpint(g_atomic_int_get(&web.asked), >=, (int)lease->failures);
    web_stop(&web);
}

/* A persistent lease ends only when it is given back, however ill its service is. */
static void test_http_persistent(void)
{
    g_autoptr(Fixture) f = fixture_started(
        "{\"recovery\": {\"health_monitoring\": {\"startup_grace_ms\": 0, \"max_failures\": 2}}}");
    Lease *lease = fixture_grant(f, WITH_URL(.lifetime = LIFETIME_PERSISTENT));
    Web web;

    web_start(&web, lease->port, 500);
    fixture_wait(f, lease->failures >= 5);
    g_assert_true(lease->in_registry);
    g_assert_cmpint(lease->health, ==, HEALTH_FAILING);
    g_atomic_int_set(&web.status, 200);
    fixture_wait(f, lease->health == HEALTH_ACTIVE);
    web_stop(&web);
}

static void test_http_url(void)
{
    static const struct {
        const char *url;
        gboolean any_port, granted;
        const char *address;
    } cases[] = {
        {"http://127.0.0.1:{port}/health", FALSE, TRUE},
        {"http://[::1]:{port}", FALSE, TRUE},
        {"http://127.0.0.1:3099/", FALSE, FALSE},
        {"http://127.0.0.1:3099/", TRUE, TRUE},
        {"http://192.0.2.1:{port}/", TRUE, FALSE},
        {"http://127.0.0.1:{port}/", FALSE, FALSE, "127.0.0.9"},
        {"http://localhost:{port}/", FALSE, FALSE, "127.0.0.9"},
        {"http://127.0.0.1:{port}/", TRUE, TRUE, "127.0.0.9"},
        {"http://127.0.0.9:{port}/", FALSE, TRUE, "127.0.0.9"},
        {"http://127.0.0.9:{port}/", FALSE, FALSE},
        {"http://localhost:{port}/", FALSE, TRUE, "127.0.0.1"},
        {"http://localhost:{port}/", FALSE, TRUE},
        {"file:///etc/passwd", TRUE, FALSE},
        {"{port}", TRUE, FALSE},
    };
    g_autoptr(Fixture) f = fixture_started(NULL);

    for (guint i = 0; i < G_N_ELEMENTS(cases); i++) {
        LeaseRequest request = {.service_type = "dev",
                                .uid = 1000,
                                .privileged = !cases[i].any_port, /* of no use here */
                                .address = cases[i].address,
                                .health_url = cases[i].url};
        g_autoptr(Ask) ask = ask_wait(fixture_ask_with(
            f, request, (AllocateOptions){.retries = -1, .any_health_port = cases[i].any_port}));

        g_test_message("%s", cases[i].url);
        g_assert_cmpint(ask->outcome, ==, cases[i].granted ? OUTCOME_OK : OUTCOME_INVALID_ARGUMENT);
    }
    g_assert_cmpuint(registry_count(f->manager->registry), ==, 7);
}

/* The lease, and then the daemon, go while a check is under way. */
static void test_http_under_way(void)
{
    g_autoptr(Fixture) f = fixture_started(NULL);
    Lease *lease = fixture_grant(f, WITH_URL());
    AUTO_FD first = outsider_bind(lease->port, SOCK_STREAM); /* accepts nobody */
    AUTO_FD second = -1;

    fixture_wait(f, health_note(f->manager->health, lease)->http);
    g_assert_true(fixture_release(f, lease));
    first = fd_close(first);
    lease = fixture_grant(f, WITH_URL());
    second = outsider_bind(lease->port, SOCK_STREAM);
    fixture_wait(f, health_note(f->manager->health, lease)->http);
    fixture_stop(f);
}

/* ---- whose service it is ---- */

#define OWNER 1000
#define ANOTHER 1001
#define NOT_MADE "its health check is not made: somebody else listens on its port"

static gboolean may_be_another(void)
{
    gboolean may = become(ANOTHER);

    g_assert_true(become(geteuid()));
    if (!may)
        g_test_skip("not root");
    return may;
}

static void wait_unasked(Fixture *f, guint times)
{
    guint64 until = metrics_get(METRIC_HTTP_CHECKS_UNKNOWN) + times;

    fixture_wait(f, metrics_get(METRIC_HTTP_CHECKS_UNKNOWN) >= until);
}

static const char *reason_of(Fixture *f, const Lease *lease)
{
    return manager_health_reason(f->manager, lease);
}

static void test_foreign(void)
{
    g_autoptr(Fixture) f =
        fixture_started("{\"recovery\": {\"health_monitoring\": {\"startup_grace_ms\": 10000}}}");
    Lease *lease = NULL;
    Web web;

    if (!may_be_another())
        return;
    lease = fixture_grant(f, WITH_URL(.uid = OWNER));
    web_start_as(&web, ANOTHER, "0.0.0.0", lease->port);
    wait_unasked(f, 5);
    g_assert_cmpuint(web_asked(&web), ==, 0);
    g_assert_cmpint(lease->health, ==, HEALTH_ACTIVE);
    g_assert_cmpuint(lease->failures, ==, 0);
    g_assert_cmpstr(reason_of(f, lease), ==, NOT_MADE);
    web_stop(&web);

    web_start_as(&web, OWNER, "127.0.0.1", lease->port);
    fixture_wait(f, web_asked(&web) >= 2);
    fixture_wait(f, !reason_of(f, lease));
    /* and it does not forget between two checks that it is ill */
    g_atomic_int_set(&web.status, 503);
    fixture_wait(f, lease->health == HEALTH_FAILING);
    web_stop(&web);
    web_start_as(&web, ANOTHER, "127.0.0.1", lease->port);
    wait_unasked(f, 5);
    g_assert_cmpuint(web_asked(&web), ==, 0);
    g_assert_cmpint(lease->health, ==, HEALTH_FAILING);
    web_stop(&web);
}

/* Who takes the port of a service that is gone does not make its lease well. */
static void test_foreign_squatter(void)
{
    g_autoptr(Fixture) f =
        fixture_started("{\"recovery\": {\"health_monitoring\": {\"max_failures\": 1000}}}");
    Lease *lease = NULL;
    Web web;

    if (!may_be_another())
        return;
    lease = fixture_grant(f, WITH_URL(.uid = OWNER));
    web_start_as(&web, OWNER, "127.0.0.1", lease->port);
    fixture_wait(f, web_asked(&web) >= 2 && lease->health == HEALTH_ACTIVE);
    web_stop(&web);
    fixture_wait(f, lease->health == HEALTH_FAILING);
    web_start_as(&web, ANOTHER, "127.0.0.1", lease->port);
    wait_unasked(f, 5);
    g_assert_cmpint(lease->health, ==, HEALTH_FAILING);
    g_assert_cmpuint(lease->failures, >, 0);
    g_assert_cmpuint(web_asked(&web), ==, 0);
    web_stop(&web);
    web_start_as(&web, OWNER, "127.0.0.1", lease->port);
    fixture_wait(f, lease->health == HEALTH_ACTIVE);
    web_stop(&web);
}

/* His own service on one address does not have him ask that of another on the other one. */
static void test_foreign_family(void)
{
    g_autoptr(Fixture) f = fixture_started(NULL);
    Lease *four = NULL, *six = NULL, *both = NULL;
    Web own[3], foreign[3];

    if (!may_be_another())
        return;
    four = fixture_grant(f, WITH_URL(.uid = OWNER));
    six = fixture_grant(f, ASKED_AT("http://[::1]:{port}/", .uid = OWNER));
    both = fixture_grant(f, ASKED_AT("http://localhost:{port}/", .uid = OWNER));
    web_start_as(&own[0], OWNER, "127.0.0.1", four->port);
    web_start_as(&foreign[0], ANOTHER, "::1", four->port);
    web_start_as(&own[1], OWNER, "127.0.0.1", six->port);
    web_start_as(&foreign[1], ANOTHER, "::1", six->port);
    web_start_as(&own[2], OWNER, "::1", both->port);
    web_start_as(&foreign[2], ANOTHER, "127.0.0.1", both->port);
    fixture_wait(f, web_asked(&own[0]) >= 3 && web_asked(&own[2]) >= 3);
    fixture_wait(f, g_strcmp0(reason_of(f, six), NOT_MADE) == 0);
    g_assert_cmpuint(web_asked(&own[1]), ==, 0);
    for (guint i = 0; i < 3; i++) {
        g_assert_cmpuint(web_asked(&foreign[i]), ==, 0);
        web_stop(&own[i]);
        web_stop(&foreign[i]);
    }
}

/* What an administrator allowed is asked, whosever it is. */
static void test_foreign_allowed(void)
{
    g_autoptr(Fixture) f = fixture_started(NULL);
    LeaseRequest request = ASKED_AT("http://127.0.0.8:{port}/", .uid = OWNER);
    g_autoptr(Ask) ask = NULL;
    const Lease *lease = NULL;
    Web web;

    if (!may_be_another())
        return;
    ask = ask_wait(
        fixture_ask_with(f, request, (AllocateOptions){.retries = -1, .any_health_port = TRUE}));
    g_assert_cmpint(ask->outcome, ==, OUTCOME_OK);
    lease = ask->leases->pdata[0];
    web_start_as(&web, ANOTHER, "0.0.0.0", lease->port);
    fixture_wait(f, web_asked(&web) >= 2);
    web_stop(&web);
}

/* The daemon made it, so it has another uid than the lease; nobody else's is taken for it. */
static void test_handed_over(void)
{
    g_autoptr(Fixture) f = fixture_started(NULL);
    LeaseRequest request = WITH_URL(.uid = OWNER);
    g_autoptr(Ask) ask = NULL;
    const Lease *lease = NULL;
    int one = 1;
    Web web;

    ask = ask_wait(
        fixture_ask_with(f, request, (AllocateOptions){.retries = -1, .want_socket = TRUE}));
    g_assert_cmpint(ask->outcome, ==, OUTCOME_OK);
    lease = ask->leases->pdata[0];
    g_assert_no_errno(fcntl(ask->socket, F_SETFL, 0)); /* served by a thread that may wait */
    g_assert_no_errno(setsockopt(ask->socket, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one));
    g_assert_no_errno(listen(ask->socket, 16));
    web_start_on(&web, fd_steal(&ask->socket), 200);
    fixture_wait(f, web_asked(&web) >= 2);
    g_assert_null(reason_of(f, lease));
    web_stop(&web);
    web_start_as(&web, geteuid(), "127.0.0.1", lease->port); /* of our uid as well */
    if (geteuid() == 0) {
        wait_unasked(f, 3);
        g_assert_cmpuint(web_asked(&web), ==, 0);
    }
    web_stop(&web);
}

/* (nullable): a cgroup that is a unit of the system's; this process is moved into it. */
static char *enter_unit(const char *unit)
{
    g_autofree char *folder = cgroup_mount() ? g_build_filename(cgroup_mount(), unit, NULL) : NULL;
    g_autofree char *procs = folder ? g_build_filename(folder, "cgroup.procs", NULL) : NULL;
    AUTO_FD fd = -1;

    if (!folder || (mkdir(folder, 0755) < 0 && errno != EEXIST))
        return NULL;
    fd = open(procs, O_WRONLY | O_CLOEXEC);
    if (fd >= 0 && write(fd, "0", 1) == 1)
        return g_steal_pointer(&folder);
    (void)rmdir(folder);
    return NULL;
}

static void leave_unit(char *folder, const char *back)
{
    AUTO_FD fd = open(back, O_WRONLY | O_CLOEXEC);

    g_assert_cmpint(write(fd, "0", 1), ==, 1);
    g_assert_no_errno(rmdir(folder));
    g_free(folder);
}

/* (transfer full) (nullable): cgroup.procs of where this process is. */
static char *own_cgroup(void)
{
    g_autofree char *text = NULL;
    const char *line = NULL;

    if (!cgroup_mount() || !g_file_get_contents("/proc/self/cgroup", &text, NULL, NULL))
        return NULL;
    line = strstr(text, "0::");
    return line ? g_strdup_printf("%s%.*s/cgroup.procs", cgroup_mount(),
                                  (int)strcspn(line + 3, "\n"), line + 3)
                : NULL;
}

/* Sockets of its unit are its own, whosever, and those that its socket unit made. */
static void test_unit(void)
{
    static const struct {
        const char *unit;
        uid_t uid;
        gboolean asked;
    } cases[] = {
        {"ab.service", ANOTHER, TRUE}, {"ab.socket", 0, TRUE},  {"ab.socket", ANOTHER, FALSE},
        {"a.socket", 0, FALSE},        {"b.service", 0, FALSE},
    };
    g_autoptr(Fixture) f = fixture_started(NULL);
    g_autofree char *back = own_cgroup();
    g_autofree char *own = NULL;
    Lease *lease = NULL;
    Web web;

    if (!may_be_another())
        return;
    own = g_strdup_printf("styxy-test-%d-ab.service", getpid());
    lease = fixture_grant(f, WITH_URL(.uid = OWNER, .unit = own));
    for (guint i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autofree char *unit = g_strdup_printf("styxy-test-%d-%s", getpid(), cases[i].unit);
        char *folder = back ? enter_unit(unit) : NULL;

        if (!folder) {
            g_test_skip("needs a cgroup2 tree to make a folder in (root)");
            return;
        }
        g_test_message("of %u in %s", cases[i].uid, unit);
        web_start_as(&web, cases[i].uid, "127.0.0.1", lease->port);
        if (cases[i].asked)
            fixture_wait(f, web_asked(&web) >= 1);
        else
            wait_unasked(f, 3);
        g_assert_cmpint(web_asked(&web) > 0, ==, cases[i].asked);
        web_stop(&web);
        leave_unit(folder, back);
    }
}

int main(int argc, char *argv[])
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/http/life", test_http_life);
    g_test_add_func("/http/counts-once", test_http_counts_once);
    g_test_add_func("/http/persistent", test_http_persistent);
    g_test_add_func("/http/url", test_http_url);
    g_test_add_func("/http/under-way", test_http_under_way);
    g_test_add_func("/http/foreign", test_foreign);
    g_test_add_func("/http/foreign-squatter", test_foreign_squatter);
    g_test_add_func("/http/foreign-family", test_foreign_family);
    g_test_add_func("/http/foreign-allowed", test_foreign_allowed);
    g_test_add_func("/http/handed-over", test_handed_over);
    g_test_add_func("/http/unit", test_unit);
    return fixture_main();
}
