/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "probe/http.h"

#include <gio/gio.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>

#include "probe-test-util.h"
#include "util/fd.h"

#define DEADLINE_USEC (60 * G_USEC_PER_SEC)
#define OWNER 7
#define TIMEOUT_MSEC 300

static guint port_v4, port_v6, port_tls;
static const char *module_dir;

/* ---- the judge of URLs ---- */

static void test_url(void)
{
    static const struct {
        const char *url;
        gboolean own, any; /* for port 8080, and for any */
    } cases[] = {
        {"http://127.0.0.1:8080/health", TRUE, TRUE},
        {"http://127.0.0.1:8080", TRUE, TRUE},
        {"http://127.0.0.1:8080/?a=b%20c#d", TRUE, TRUE},
        {"http://127.0.0.2:8080/", FALSE, TRUE},
        {"http://127.255.255.255:8080/", FALSE, TRUE},
        {"http://localhost:8080/", TRUE, TRUE},
        {"http://LocalHost:8080/", TRUE, TRUE},
        {"http://[::1]:8080/", TRUE, TRUE},
        {"HTTP://[0:0::1]:8080/", TRUE, TRUE},
        {"https://127.0.0.1:8080/", TRUE, TRUE},
        {"http://127.0.0.1:8081/", FALSE, TRUE},
        {"http://127.0.0.1/", FALSE, TRUE},
        {"https://localhost", FALSE, TRUE},
        {NULL, FALSE, FALSE},
        {"", FALSE, FALSE},
        {"/health", FALSE, FALSE},
        {"127.0.0.1:8080", FALSE, FALSE},
        {"http:///health", FALSE, FALSE},
        {"http://:8080/", FALSE, FALSE},
        {"ftp://127.0.0.1:8080/", FALSE, FALSE},
        {"file:///etc/passwd", FALSE, FALSE},
        {"unix:///run/x:8080", FALSE, FALSE},
        {"http://127.0.0.1:0/", FALSE, FALSE},
        {"http://127.0.0.1:70000/", FALSE, FALSE},
        {"http://127.0.0.1:80x/", FALSE, FALSE},
        {"http://127.0.0.1:-8080/", FALSE, FALSE},
        {"http://128.0.0.1:8080/", FALSE, FALSE},
        {"http://0.0.0.0:8080/", FALSE, FALSE},
        {"http://[::]:8080/", FALSE, FALSE},
        {"http://[::2]:8080/", FALSE, FALSE},
        {"http://[::1%25lo]:8080/", FALSE, FALSE},
        {"http://[::ffff:10.0.0.1]:8080/", FALSE, FALSE},
        {"http://10.0.0.1:8080/", FALSE, FALSE},
        {"http://127.1:8080/", FALSE, FALSE},
        {"http://2130706433:8080/", FALSE, FALSE},
        {"http://0x7f.0.0.1:8080/", FALSE, FALSE},
        {"http://0177.0.0.1:8080/", FALSE, FALSE},
        {"http://127.0.0.1.example.org:8080/", FALSE, FALSE},
        {"http://127.0.0.%31:8080/", FALSE, FALSE},
        {"http://%31%32%37.0.0.1:8080/", FALSE, FALSE},
        {"http://localhost.example.org:8080/", FALSE, FALSE},
        {"http://localhost.:8080/", FALSE, FALSE},
        {"http://example.org:8080/", FALSE, FALSE},
        {"http://user@127.0.0.1:8080/", FALSE, FALSE},
        {"http://user:pass@127.0.0.1:8080/", FALSE, FALSE},
        {"http://127.0.0.1:8080@example.org/", FALSE, FALSE},
        {"http://127.0.0.1:8080\\@example.org/", FALSE, FALSE},
        {"http://example.org#@127.0.0.1:8080/", FALSE, FALSE},
        {"http://127.0.0.1:8080/a b", FALSE, FALSE},
        {"http://127.0.0.1:8080/\r\nHost: x", FALSE, FALSE},
        {"http://127.0.0.1:8080/\t", FALSE, FALSE},
        {" http://127.0.0.1:8080/", FALSE, FALSE},
        {"http://127.0.0.1:8080/\xc3\xa4", FALSE, FALSE},
        {"http://127.0.0.1:8080/\x7f", FALSE, FALSE},
    };
    g_autofree char *filler = g_strnfill(HTTP_URL_MAX, 'x');
    g_autofree char *longest =
        g_strdup_printf("http://127.0.0.1:8080/%s", filler + strlen("http://127.0.0.1:8080/"));
    g_autofree char *longer = g_strconcat(longest, "x", NULL);

    for (guint i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autoptr(GError) own = NULL;
        g_autoptr(GError) any = NULL;

        if (http_url_check(cases[i].url, 8080, NULL, FALSE, &own) != cases[i].own ||
            http_url_check(cases[i].url, 8080, NULL, TRUE, &any) != cases[i].any)
            g_error("%s: judged wrongly", cases[i].url ? cases[i].url : "NULL");
        g_assert_cmpint(own == NULL, ==, cases[i].own);
        g_assert_cmpint(any == NULL, ==, cases[i].any);
        if (own)
            g_assert_error(own, G_IO_ERROR, G_IO_ERROR_INVALID_ARGUMENT);
    }
    g_assert_true(http_url_check(longest, 8080, NULL, FALSE, NULL));
    g_assert_false(http_url_check(longer, 8080, NULL, FALSE, NULL));
}

/* On which addresses of a lease a URL asks. */
static void test_targets(void)
{
    static const struct {
        const char *host, *lease_address, *targets;
    } cases[] = {
        {"127.0.0.1", NULL, "127.0.0.1"},
        {"[::1]", NULL, "::1"},
        {"[0:0:0:0:0:0:0:1]", NULL, "::1"},
        {"localhost", NULL, "127.0.0.1 ::1"},
        {"LOCALHOST", "::", "127.0.0.1 ::1"},
        {"127.0.0.2", NULL, ""},
        {"127.0.0.1", "0.0.0.0", "127.0.0.1"},
        {"localhost", "0.0.0.0", "127.0.0.1"},
        {"[::1]", "0.0.0.0", ""},
        {"127.0.0.1", "127.0.0.1", "127.0.0.1"},
        {"localhost", "127.0.0.1", "127.0.0.1"},
        {"[::1]", "127.0.0.1", ""},
        {"127.0.0.9", "127.0.0.9", "127.0.0.9"},
        {"127.0.0.1", "127.0.0.9", ""},
        {"localhost", "127.0.0.9", ""},
        {"[::1]", "::1", "::1"},
        {"localhost", "::1", "::1"},
        {"127.0.0.1", "::1", ""},
        {"127.0.0.1", "192.0.2.1", ""},
        {"localhost", "192.0.2.1", ""},
        {"192.0.2.1", "192.0.2.1", ""},
        {"[::1]", "fe80::1%eth0", ""},
        {"localhost", "2001:db8::1", ""},
        {"localhost", "no address", ""},
    };

    for (guint i = 0; i < G_N_ELEMENTS(cases); i++) {
        const char *targets[HTTP_TARGETS_MAX + 1] = {NULL};
        g_autofree char *url = g_strdup_printf("http://%s:8080/", cases[i].host);
        guint n = http_url_targets(url, cases[i].lease_address, targets);
        g_autofree char *text = NULL;

        targets[n] = NULL;
        text = g_strjoinv(" ", (char **)targets);
        g_test_message("%s of %s", cases[i].host, cases[i].lease_address);
        g_assert_cmpstr(text, ==, cases[i].targets);
        g_assert_cmpint(http_url_check(url, 8080, cases[i].lease_address, FALSE, NULL), ==, n > 0);
        g_assert_false(http_url_check(url, 8081, cases[i].lease_address, FALSE, NULL));
    }
}

/* ---- checks ---- */

typedef struct Result {
    HttpVerdict expected;
    gboolean settled;
    HttpVerdict verdict;
    char *reason;
    const char *path;
    guint *n_done;
} Result;

static void on_done(HttpVerdict verdict, const char *reason, void *data)
{
    Result *result = data;

    g_assert_false(result->settled);
    g_assert_nonnull(reason);
    result->settled = TRUE;
    result->verdict = verdict;
    result->reason = g_strdup(reason);
    if (result->n_done)
        (*result->n_done)++;
}

static gint64 longest_turn_usec, last_tick_usec;

static gboolean tick(void *data)
{
    gint64 now_usec = g_get_monotonic_time();

    longest_turn_usec = MAX(longest_turn_usec, now_usec - last_tick_usec);
    last_tick_usec = now_usec;
    return G_SOURCE_CONTINUE;
}

static void turn_until(gboolean (*done)(void *data), void *data)
{
    gint64 deadline_usec = g_get_monotonic_time() + DEADLINE_USEC;
    guint ticker = g_timeout_add(10, tick, NULL);

    last_tick_usec = g_get_monotonic_time();
    while (!done(data) && g_get_monotonic_time() < deadline_usec)
        (void)g_main_context_iteration(NULL, TRUE);
    (void)tick(NULL);
    g_assert_true(g_source_remove(ticker));
    g_assert_true(done(data));
}

static gboolean is_settled(void *data)
{
    return ((Result *)data)->settled;
}

/* No service may keep the main loop for long; a busy machine may, some. */
#define TURN_MAX_USEC (G_USEC_PER_SEC)
#define TURN_CPU_USEC (10 * G_TIME_SPAN_MILLISECOND)

static void check_url_with(HttpChecker *checker, const char *url, HttpVerdict expected,
                           const char *reason)
{
    Result result = {0};

    /* Health has time to show on a busy machine; for the rest the short deadline is the test. */
    (void)http_check_start(checker, OWNER, url, expected == HTTP_HEALTHY ? 20000 : TIMEOUT_MSEC,
                           NULL, on_done, &result);
    g_assert_false(result.settled);
    g_assert_cmpuint(http_checker_length(checker), ==, 1);
    turn_until(is_settled, &result);
    if (!test_under_tool())
        g_assert_cmpint(longest_turn_usec, <, TURN_MAX_USEC);
    if (result.verdict != expected || (reason && !strstr(result.reason, reason)))
        g_error("%s: verdict %d (%s), expected %d (%s)", url, result.verdict, result.reason,
                expected, reason ? reason : "");
    g_assert_cmpuint(http_checker_length(checker), ==, 0);
    if (expected == HTTP_HEALTHY)
        g_assert_cmpstr(result.reason, ==, "");
    else
        g_assert_cmpstr(result.reason, !=, "");
    g_free(result.reason);
}

static void check_url(const char *url, HttpVerdict expected, const char *reason)
{
    g_autoptr(HttpChecker) checker = http_checker_new(2);

    check_url_with(checker, url, expected, reason);
}

static void check_path(const char *host, guint port, const char *path, HttpVerdict expected,
                       const char *reason)
{
    g_autofree char *url = g_strdup_printf("http://%s:%u%s", host, port, path);

    check_url(url, expected, reason);
}

static void test_no_module(void)
{
    g_assert_true(g_setenv("STYXY_MODULE_DIR", "/nonexistent", TRUE));
    check_path("127.0.0.1", port_v4, "/ok", HTTP_UNKNOWN, "module");
    check_path("127.0.0.1", port_v4, "/ok", HTTP_UNKNOWN, "module");
    g_assert_true(g_setenv("STYXY_MODULE_DIR", module_dir, TRUE));
}

static gint64 cpu_usec(void)
{
    struct timespec time;

    g_assert_cmpint(clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time), ==, 0);
    return time.tv_sec * G_USEC_PER_SEC + time.tv_nsec / 1000;
}

/* The processor time of the longest turn of the loop while @url is checked, in µs. */
static gint64 longest_turn(const char *url)
{
    g_autoptr(HttpChecker) checker = http_checker_new(2);
    Result result = {0};
    gint64 deadline_usec = g_get_monotonic_time() + DEADLINE_USEC;
    gint64 longest_usec = 0;

    (void)http_check_start(checker, OWNER, url, 20000, NULL, on_done, &result);
    while (!result.settled && g_get_monotonic_time() < deadline_usec) {
        gint64 before_usec = cpu_usec();

        (void)g_main_context_iteration(NULL, TRUE);
        longest_usec = MAX(longest_usec, cpu_usec() - before_usec);
    }
    g_assert_cmpint(result.verdict, ==, HTTP_HEALTHY);
    g_free(result.reason);
    return longest_usec;
}

/* The first checks load thirty libraries and all certificates: the loop goes on meanwhile. */
static void test_loading(void)
{
    g_autofree char *plain = g_strdup_printf("http://127.0.0.1:%u/ok", port_v4);
    g_autofree char *tls = g_strdup_printf("https://127.0.0.1:%u/ok", port_tls);
    HttpChecker *given_up = http_checker_new(2);
    Result never = {0};
    gint64 plain_usec, tls_usec = 0;

    (void)http_check_start(given_up, OWNER, plain, 20000, NULL, on_done, &never);
    while (g_main_context_iteration(NULL, FALSE))
        ;
    given_up = http_checker_free(given_up); /* most likely while it loads */
    plain_usec = longest_turn(plain);
    if (port_tls > 0)
        tls_usec = longest_turn(tls);
    g_assert_false(never.settled);
    g_test_message("the longest turns: %" G_GINT64_FORMAT " us, with TLS %" G_GINT64_FORMAT
                   " us of processor time",
                   plain_usec, tls_usec);
    if (!test_under_tool())
        g_assert_cmpint(MAX(plain_usec, tls_usec), <, TURN_CPU_USEC);
}

typedef struct Manner {
    const char *path;
    HttpVerdict expected;
    const char *reason;
} Manner;

static const Manner manners[] = {
    {"/ok", HTTP_HEALTHY, NULL},
    {"/empty", HTTP_HEALTHY, NULL},
    {"/old", HTTP_HEALTHY, NULL},
    {"/status/200", HTTP_HEALTHY, NULL},
    {"/status/299", HTTP_HEALTHY, NULL},
    {"/status/300", HTTP_UNHEALTHY, "status 300"},
    {"/status/404", HTTP_UNHEALTHY, "status 404"},
    {"/status/503", HTTP_UNHEALTHY, "status 503"},
    {"/auth", HTTP_UNHEALTHY, "status 401"},
    {"/hang", HTTP_UNHEALTHY, "no answer within 300 ms"},
    {"/reset", HTTP_UNHEALTHY, NULL},
    {"/close", HTTP_UNHEALTHY, NULL},
    {"/cut", HTTP_UNHEALTHY, "broke off"},
    {"/cut-chunks", HTTP_UNHEALTHY, NULL},
    {"/garbage", HTTP_UNHEALTHY, NULL},
    {"/headers", HTTP_UNHEALTHY, NULL},
    {"/header", HTTP_UNHEALTHY, NULL},
    {"/status-line", HTTP_UNHEALTHY, NULL},
    {"/informational", HTTP_UNHEALTHY, NULL},
    {"/informational-once", HTTP_HEALTHY, NULL},
    {"/gigabyte", HTTP_HEALTHY, NULL},
    {"/chunks", HTTP_HEALTHY, NULL},
    {"/chunk-size", HTTP_UNHEALTHY, NULL},
    {"/drip-headers", HTTP_UNHEALTHY, "no answer within"},
    {"/drip-body", HTTP_UNHEALTHY, "no answer within"},
    {"/redirect/0", HTTP_HEALTHY, NULL},
    {"/redirect/2", HTTP_HEALTHY, NULL},
    {"/redirect/3", HTTP_UNHEALTHY, "too many redirects"},
    {"/redirect/100", HTTP_UNHEALTHY, "too many redirects"},
    {"/redirect-slow", HTTP_UNHEALTHY, "no answer within"},
    {"/redirect-same", HTTP_HEALTHY, NULL},
    {"/redirect-port", HTTP_UNHEALTHY, "another host or port"},
    {"/redirect-host", HTTP_UNHEALTHY, "another host or port"},
    {"/redirect-name", HTTP_UNHEALTHY, "another host or port"},
    {"/redirect-scheme", HTTP_UNHEALTHY, "another host or port"},
    {"/redirect-file", HTTP_UNHEALTHY, "another host or port"},
    {"/redirect-nonsense", HTTP_UNHEALTHY, "another host or port"},
    {"/cookie", HTTP_HEALTHY, NULL},
    {"/closing", HTTP_HEALTHY, NULL},
    {"/gzip", HTTP_HEALTHY, NULL},
    {"/no-such-path", HTTP_UNHEALTHY, "status 404"},
};

static void test_manners(void)
{
    for (guint i = 0; i < G_N_ELEMENTS(manners); i++)
        check_path("127.0.0.1", port_v4, manners[i].path, manners[i].expected, manners[i].reason);
    check_path("127.0.0.1", port_v4, "/trapped", HTTP_HEALTHY, NULL);
}

static void test_hosts(void)
{
    /* The server is on one of the addresses only. */
    check_path("localhost", port_v4, "/ok", HTTP_HEALTHY, NULL);
    check_path("127.0.0.2", port_v4, "/ok", HTTP_UNHEALTHY, NULL);
    if (port_v6 == 0) {
        g_test_message("no IPv6 here");
        return;
    }
    check_path("localhost", port_v6, "/ok", HTTP_HEALTHY, NULL);
    check_path("[::1]", port_v6, "/ok", HTTP_HEALTHY, NULL);
    check_path("127.0.0.1", port_v6, "/ok", HTTP_UNHEALTHY, NULL);
}

static void test_refused(void)
{
    check_url("http://10.0.0.1:8080/", HTTP_UNKNOWN, "host");
    check_url("nonsense", HTTP_UNKNOWN, "not a health check URL");
}

static void test_tls(void)
{
    g_autofree char *ok = g_strdup_printf("https://127.0.0.1:%u/ok", port_tls);
    g_autofree char *hang = g_strdup_printf("https://127.0.0.1:%u/hang", port_tls);
    g_autofree char *plain = g_strdup_printf("https://127.0.0.1:%u/ok", port_v4);
    g_autofree char *wrong = g_strdup_printf("http://127.0.0.1:%u/ok", port_tls);

    if (port_tls == 0 || !g_tls_backend_supports_tls(g_tls_backend_get_default())) {
        g_test_skip("needs openssl(1) and glib-networking");
        return;
    }
    check_url(ok, HTTP_HEALTHY, NULL);
    check_url(hang, HTTP_UNHEALTHY, "no answer within");
    check_url(plain, HTTP_UNHEALTHY, NULL);
    check_url(wrong, HTTP_UNHEALTHY, NULL);
}

static void test_out_of_descriptors(void)
{
    g_autoptr(HttpChecker) checker = http_checker_new(2);
    g_autofree char *url = g_strdup_printf("http://127.0.0.1:%u/ok", port_v4);
    struct rlimit before, none;
    int fillers[64];
    guint n = 0;

    while (g_main_context_iteration(NULL, FALSE))
        ; /* descriptors of checks before */
    g_assert_no_errno(getrlimit(RLIMIT_NOFILE, &before));
    none = before;
    none.rlim_cur = test_count_fds() + 8;
    g_assert_no_errno(setrlimit(RLIMIT_NOFILE, &none));
    while (n < G_N_ELEMENTS(fillers) && (fillers[n] = dup(0)) >= 0)
        n++;
    g_assert_cmpuint(n, <, G_N_ELEMENTS(fillers));
    check_url_with(checker, url, HTTP_UNKNOWN, NULL);
    for (guint i = 0; i < n; i++)
        (void)fd_close(fillers[i]);
    g_assert_no_errno(setrlimit(RLIMIT_NOFILE, &before));
    check_url_with(checker, url, HTTP_HEALTHY, NULL);
}

static gboolean has_fds(void *data)
{
    return test_count_fds() <= *(guint *)data;
}

static gboolean has_many_fds(void *data)
{
    return test_count_fds() >= *(guint *)data;
}

/* Who has services that hang keeps nobody else's checks waiting. */
static void test_fair(void)
{
    enum { MANY = 50 };
    Result hanging[MANY] = {0}, other = {0};
    g_autofree char *hang = g_strdup_printf("http://127.0.0.1:%u/hang", port_v4);
    g_autofree char *ok = g_strdup_printf("http://127.0.0.1:%u/ok", port_v4);
    g_autoptr(HttpChecker) checker = http_checker_new(8);

    for (guint i = 0; i < MANY; i++)
        (void)http_check_start(checker, OWNER, hang, 60000, NULL, on_done, &hanging[i]);
    (void)http_check_start(checker, OWNER + 1, ok, 60000, NULL, on_done, &other);
    turn_until(is_settled, &other);
    g_assert_cmpint(other.verdict, ==, HTTP_HEALTHY);
    for (guint i = 0; i < MANY; i++)
        g_assert_false(hanging[i].settled);
    g_free(other.reason);
}

static void test_cancel(void)
{
    /* Half of the places are for one owner. A connection of the test before may still be closing,
     * so what is waited for leaves room below that. */
    enum { MANY = 50, PLACES = 64, UNDER_WAY = 16 };
    HttpChecker *checker = http_checker_new(PLACES);
    guint before = test_count_fds(), under_way = before + UNDER_WAY;
    HttpCheck *checks[MANY];
    Result results[MANY] = {0}, last = {0};
    g_autofree char *hang = g_strdup_printf("http://127.0.0.1:%u/hang", port_v4);
    g_autofree char *ok = g_strdup_printf("http://127.0.0.1:%u/ok", port_v4);

    for (guint i = 0; i < MANY; i++)
        checks[i] = http_check_start(checker, OWNER, hang, 60000, NULL, on_done, &results[i]);
    /* Some are under way when they are cancelled, the others wait in line. */
    turn_until(has_many_fds, &under_way);
    for (guint i = 0; i < MANY; i++)
        http_check_cancel(checks[i]);
    g_assert_cmpuint(http_checker_length(checker), ==, 0);
    /* Their places become free. */
    (void)http_check_start(checker, OWNER, ok, 60000, NULL, on_done, &last);
    turn_until(is_settled, &last);
    g_assert_cmpint(last.verdict, ==, HTTP_HEALTHY);
    g_free(last.reason);
    turn_until(has_fds, &before);

    for (guint i = 0; i < MANY; i++)
        (void)http_check_start(checker, OWNER, hang, 60000, NULL, on_done, &results[i]);
    turn_until(has_many_fds, &under_way);
    g_assert_null(http_checker_free(checker));
    g_assert_true(has_fds(&before)); /* at once: that waited for them */
    for (guint i = 0; i < MANY; i++)
        g_assert_false(results[i].settled);
}

/* Somebody who takes connections and says nothing, be it HTTP or TLS. */
static void test_free_at_once(void)
{
    static const char *const schemes[] = {"http", "https"};

    for (guint i = 0; i < G_N_ELEMENTS(schemes); i++) {
        struct sockaddr_in address = {.sin_family = AF_INET,
                                      .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
        socklen_t length = sizeof(address);
        AUTO_FD silent = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        AUTO_FD taken = -1;
        g_autofree char *url = NULL;
        HttpChecker *checker = http_checker_new(2);
        Result result = {0};
        struct pollfd asked = {.events = POLLIN};
        gint64 began_usec;

        g_assert_no_errno(bind(silent, (const struct sockaddr *)&address, length));
        g_assert_no_errno(listen(silent, 4));
        g_assert_no_errno(getsockname(silent, (struct sockaddr *)&address, &length));
        url = g_strdup_printf("%s://127.0.0.1:%u/", schemes[i], ntohs(address.sin_port));
        (void)http_check_start(checker, OWNER, url, 60000, NULL, on_done, &result);
        while (g_main_context_iteration(NULL, FALSE))
            ;
        taken = accept4(silent, NULL, NULL, SOCK_CLOEXEC);
        g_assert_cmpint(taken, >=, 0);
        asked.fd = taken;
        g_assert_cmpint(poll(&asked, 1, 10000), ==, 1); /* or it has begun its handshake */
        began_usec = g_get_monotonic_time();
        checker = http_checker_free(checker);
        g_test_message("%s: %" G_GINT64_FORMAT " us", schemes[i],
                       g_get_monotonic_time() - began_usec);
        g_assert_cmpint(g_get_monotonic_time() - began_usec, <, G_USEC_PER_SEC);
        g_assert_false(result.settled);
    }
}

static void free_checker(HttpVerdict verdict, const char *reason, void *data)
{
    HttpChecker **checker = data;

    *checker = http_checker_free(*checker);
}

static gboolean is_null(void *data)
{
    return *(HttpChecker **)data == NULL;
}

static void test_free_within(void)
{
    static const char *const urls[] = {"http://127.0.0.1:%u/ok", "http://127.0.0.1:%u/hang",
                                       "http://10.0.0.1:%u/"};
    guint before = test_count_fds();

    for (guint i = 0; i < G_N_ELEMENTS(urls); i++) {
        g_autoptr(GString) url = g_string_new(urls[i]);
        g_autofree char *number = g_strdup_printf("%u", port_v4);
        HttpChecker *checker = http_checker_new(3);

        g_string_replace(url, "%u", number, 0);
        for (guint j = 0; j < 5; j++)
            (void)http_check_start(checker, OWNER, url->str, TIMEOUT_MSEC, NULL, free_checker,
                                   &checker);
        turn_until(is_null, &checker);
    }
    turn_until(has_fds, &before);
}

/* ---- where it connects to ---- */

typedef struct Aimed {
    Result result; /* first: what the callbacks get */
    guint allowed; /* how often */
    const char *address[2];
} Aimed;

static HttpVerdict aim(char **ret_address, const char **ret_reason, void *data)
{
    Aimed *aimed = data;

    if (aimed->allowed == 0) {
        *ret_reason = "not now";
        return HTTP_UNKNOWN;
    }
    aimed->allowed--;
    *ret_address = g_strdup(aimed->address[aimed->allowed == 0]);
    return HTTP_HEALTHY;
}

static void check_aimed(const char *host, const char *path, Aimed *aimed, HttpVerdict expected,
                        const char *reason)
{
    g_autoptr(HttpChecker) checker = http_checker_new(2);
    g_autofree char *url = g_strdup_printf("http://%s:%u%s", host, port_v4, path);

    (void)http_check_start(checker, OWNER, url, 20000, aim, on_done, aimed);
    turn_until(is_settled, &aimed->result);
    g_test_message("%s: %s", url, aimed->result.reason);
    g_assert_cmpint(aimed->result.verdict, ==, expected);
    g_assert_cmpstr(aimed->result.reason, ==, reason);
    g_free(aimed->result.reason);
}

static void test_aim(void)
{
    Aimed never = {.allowed = 0};
    Aimed aside = {.allowed = 1, .address = {NULL, "127.0.0.1"}};
    Aimed first_alone = {.allowed = 1, .address = {NULL, "127.0.0.1"}};
    Aimed both = {.allowed = 2, .address = {"127.0.0.1", "127.0.0.1"}};
    Aimed moved = {.allowed = 2, .address = {"127.0.0.1", "::1"}};

    check_aimed("127.0.0.1", "/ok", &never, HTTP_UNKNOWN, "not now");
    check_aimed("127.0.0.77", "/ok", &aside, HTTP_HEALTHY, ""); /* nobody listens there */
    check_aimed("127.0.0.1", "/redirect/0", &first_alone, HTTP_UNKNOWN, "not now");
    check_aimed("127.0.0.1", "/redirect/0", &both, HTTP_HEALTHY, "");
    check_aimed("127.0.0.1", "/redirect/0", &moved, HTTP_UNKNOWN,
                "its service listens elsewhere than before the redirection");
}

typedef struct Wait {
    const guint *n;
    guint wanted;
} Wait;

static gboolean reached(void *data)
{
    const Wait *wait = data;

    return *wait->n == wait->wanted;
}

static gsize resident_kib(void)
{
    g_autofree char *text = NULL;
    const char *line = NULL;

    g_assert_true(g_file_get_contents("/proc/self/status", &text, NULL, NULL));
    line = strstr(text, "VmRSS:");
    g_assert_nonnull(line);
    return (gsize)g_ascii_strtoull(line + strlen("VmRSS:"), NULL, 10);
}

/* A round of all manners, many times: each verdict in time, and memory and descriptors flat. */
static void test_thousand(void)
{
    enum { ROUND = 250, ROUNDS = 5 };
    guint before = test_count_fds() + 1; /* the checker's own */
    gsize warm_kib = 0, end_kib = 0;

    longest_turn_usec = 0;
    for (guint round = 0; round < ROUNDS; round++) {
        g_autoptr(HttpChecker) checker = http_checker_new(16);
        g_autofree Result *results = g_new0(Result, ROUND);
        guint n_done = 0;
        Wait wait = {&n_done, ROUND};

        for (guint i = 0; i < ROUND; i++) {
            const Manner *manner = &manners[(round * ROUND + i) % G_N_ELEMENTS(manners)];
            g_autofree char *url = g_strdup_printf("http://127.0.0.1:%u%s", port_v4, manner->path);

            results[i].expected = manner->expected;
            results[i].path = manner->path;
            results[i].n_done = &n_done;
            (void)http_check_start(checker, OWNER, url, TIMEOUT_MSEC, NULL, on_done, &results[i]);
        }
        turn_until(reached, &wait);
        for (guint i = 0; i < ROUND; i++) {
            /* A busy machine may miss a deadline of 300 ms; it may not invent health. */
            if (results[i].verdict != results[i].expected &&
                !(results[i].verdict == HTTP_UNHEALTHY &&
                  g_str_has_prefix(results[i].reason, "no answer within")))
                g_error("%s: verdict %d (%s), expected %d", results[i].path, results[i].verdict,
                        results[i].reason, results[i].expected);
            g_free(results[i].reason);
        }
        turn_until(has_fds, &before);
        end_kib = resident_kib();
        if (round == 0)
            warm_kib = end_kib;
    }
    g_test_message("%d checks: resident %" G_GSIZE_FORMAT " KiB after %d, %" G_GSIZE_FORMAT
                   " KiB at the end; the longest turn of the loop %" G_GINT64_FORMAT " us",
                   ROUND * ROUNDS, warm_kib, ROUND, end_kib, longest_turn_usec);
    if (!test_under_tool())
        g_assert_cmpuint(end_kib, <, warm_kib + 1024);
}

static GSubprocess *start_server(const char *python, const char *script)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(GDataInputStream) lines = NULL;
    g_autofree char *line = NULL;
    GSubprocess *server =
        g_subprocess_new(G_SUBPROCESS_FLAGS_STDIN_PIPE | G_SUBPROCESS_FLAGS_STDOUT_PIPE, &error,
                         python, script, NULL);

    g_assert_no_error(error);
    lines = g_data_input_stream_new(g_subprocess_get_stdout_pipe(server));
    g_filter_input_stream_set_close_base_stream(G_FILTER_INPUT_STREAM(lines), FALSE);
    line = g_data_input_stream_read_line(lines, NULL, NULL, &error);
    g_assert_no_error(error);
    g_assert_nonnull(line);
    g_assert_cmpint(sscanf(line, "%u %u %u", &port_v4, &port_v6, &port_tls), ==, 3);
    return server;
}

int main(int argc, char **argv)
{
    static const char *const proxies[] = {"http_proxy", "https_proxy", "all_proxy",
                                          "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"};
    GSubprocess *server = NULL;
    int status;

    /* An environment that would send every request somewhere else. */
    for (guint i = 0; i < G_N_ELEMENTS(proxies); i++)
        g_assert_true(g_setenv(proxies[i], "http://127.0.0.1:1", TRUE));
    g_test_init(&argc, &argv, NULL);
    g_assert_cmpint(argc, ==, 4); /* python, the server's script, the folder of the module */
    module_dir = argv[3];
    (void)g_main_context_default();
    server = start_server(argv[1], argv[2]);

    g_test_add_func("/http/url", test_url);
    g_test_add_func("/http/targets", test_targets);
    g_test_add_func("/http/no-module", test_no_module);
    g_test_add_func("/http/loading", test_loading);
    g_test_add_func("/http/manners", test_manners);
    g_test_add_func("/http/hosts", test_hosts);
    g_test_add_func("/http/refused", test_refused);
    g_test_add_func("/http/out-of-descriptors", test_out_of_descriptors);
    g_test_add_func("/http/tls", test_tls);
    g_test_add_func("/http/cancel", test_cancel);
    g_test_add_func("/http/aim", test_aim);
    g_test_add_func("/http/fair", test_fair);
    g_test_add_func("/http/free-within", test_free_within);
    g_test_add_func("/http/free-at-once", test_free_at_once);
    g_test_add_func("/http/thousand", test_thousand);
    status = g_test_run();

    g_subprocess_force_exit(server);
    (void)g_subprocess_wait(server, NULL, NULL);
    g_object_unref(server);
    return status;
}
