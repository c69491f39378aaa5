/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Layer 2's HTTP checks, of real web servers, with short intervals. */
#include "fixture.h"

#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

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

static void web_start(Web *web, guint16 port, gint status)
{
    *web = (Web){.fd = outsider_bind(port, SOCK_STREAM), .status = status};
    web->thread = g_thread_new("web", serve, web);
}

static void web_stop(Web *web)
{
    (void)shutdown(web->fd, SHUT_RDWR);
    (void)g_thread_join(web->thread);
    (void)fd_close(web->fd);
}

/* Not "dev": the server's ports are in TIME_WAIT afterwards, and the other tests count on theirs.
 */
#define WITH_URL(...) \
    FIXTURE_REQUEST("api", .health_url = "http://127.0.0.1:{port}/", ##__VA_ARGS__)

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
    } cases[] = {
        {"http://127.0.0.1:{port}/health", FALSE, TRUE},
        {"http://[::1]:{port}", FALSE, TRUE},
        {"http://127.0.0.1:3099/", FALSE, FALSE},
        {"http://127.0.0.1:3099/", TRUE, TRUE},
        {"http://192.0.2.1:{port}/", TRUE, FALSE},
        {"file:///etc/passwd", TRUE, FALSE},
        {"{port}", TRUE, FALSE},
    };
    g_autoptr(Fixture) f = fixture_started(NULL);

    for (guint i = 0; i < G_N_ELEMENTS(cases); i++) {
        LeaseRequest request = {.service_type = "dev",
                                .uid = 1000,
                                .privileged = !cases[i].any_port, /* of no use here */
                                .health_url = cases[i].url};
        g_autoptr(Ask) ask = ask_wait(fixture_ask_with(
            f, request, (AllocateOptions){.retries = -1, .any_health_port = cases[i].any_port}));

        g_test_message("%s", cases[i].url);
        g_assert_cmpint(ask->outcome, ==, cases[i].granted ? OUTCOME_OK : OUTCOME_INVALID_ARGUMENT);
    }
    g_assert_cmpuint(registry_count(f->manager->registry), ==, 3);
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

int main(int argc, char *argv[])
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/http/life", test_http_life);
    g_test_add_func("/http/counts-once", test_http_counts_once);
    g_test_add_func("/http/persistent", test_http_persistent);
    g_test_add_func("/http/url", test_http_url);
    g_test_add_func("/http/under-way", test_http_under_way);
    return fixture_main();
}
