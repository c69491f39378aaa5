/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * What a service answers to a health check, one part for each connection, separated by form feeds.
 * The verdict comes once; it is good only where a status of 2xx was sent; no word of it is the
 * service's; and no more is asked than the redirects allow.
 */
#include <arpa/inet.h>
#include <gio/gio.h>
#include <glib-unix.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "fuzz.h"
#include "probe/http.h"

/* Of the verdict itself; an answer that ends with its connection never waits for it. */
#define TIMEOUT_MSEC 2000

typedef struct Exchange {
    const guint8 *data;
    size_t length;
    guint connections;
    guint visits; /* connections that are open */
    guint verdicts;
    HttpVerdict verdict;
    char *reason;
} Exchange;

static int listener = -1;
static guint16 port;
static HttpChecker *checker;

static void start_service(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof address;

    listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (listener < 0 || bind(listener, (const struct sockaddr *)&address, length) < 0 ||
        listen(listener, 8) < 0 || getsockname(listener, (struct sockaddr *)&address, &length) < 0)
        g_error("no socket on the loopback: %s", g_strerror(errno));
    port = ntohs(address.sin_port);
    checker = http_checker_new(1);
}

/* Returns: the part for the next connection. */
static void take_part(Exchange *exchange, const guint8 **ret_part, size_t *ret_length)
{
    const guint8 *feed =
        exchange->length > 0 ? memchr(exchange->data, '\f', exchange->length) : NULL;

    *ret_part = exchange->data;
    *ret_length = feed ? (size_t)(feed - exchange->data) : exchange->length;
    exchange->data += *ret_length + (feed != NULL);
    exchange->length -= *ret_length + (feed != NULL);
}

/* Visit: one connection, until its request was read to the end: an unread one would turn our close
 * into a reset. */
typedef struct Visit {
    Exchange *exchange; /* borrowed */
    int fd;             /* owned */
    GString *request;
} Visit;

static void visit_free(void *data)
{
    Visit *visit = data;

    (void)close(visit->fd);
    (void)g_string_free(visit->request, TRUE);
    visit->exchange->visits--;
    g_free(visit);
}

static void answer(Visit *visit)
{
    const guint8 *part = NULL;
    size_t length = 0;

    g_assert_true(g_str_has_prefix(visit->request->str, "GET /"));
    take_part(visit->exchange, &part, &length);
    if (length > 0)
        (void)send(visit->fd, part, length, MSG_NOSIGNAL);
}

static gboolean on_request(int fd, GIOCondition condition, void *data)
{
    Visit *visit = data;
    char block[4096];
    ssize_t n = recv(fd, block, sizeof block, MSG_DONTWAIT);

    if (n > 0)
        g_string_append_len(visit->request, block, n);
    if (n > 0 && !strstr(visit->request->str, "\r\n\r\n"))
        return G_SOURCE_CONTINUE;
    if (n > 0)
        answer(visit);
    return G_SOURCE_REMOVE;
}

static gboolean on_connection(int fd, GIOCondition condition, void *data)
{
    int client = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    Exchange *exchange = data;
    Visit *visit = NULL;

    if (client < 0)
        return G_SOURCE_CONTINUE;
    exchange->connections++;
    exchange->visits++;
    visit = g_new0(Visit, 1);
    visit->exchange = exchange;
    visit->fd = client;
    visit->request = g_string_new(NULL);
    (void)g_unix_fd_add_full(G_PRIORITY_DEFAULT, client, G_IO_IN, on_request, visit, visit_free);
    return G_SOURCE_CONTINUE;
}

static void on_done(HttpVerdict verdict, const char *reason, void *data)
{
    Exchange *exchange = data;

    exchange->verdicts++;
    exchange->verdict = verdict;
    exchange->reason = g_strdup(reason);
}

static gboolean has_good_status(const guint8 *data, size_t length)
{
    for (size_t i = 0; i + 1 < length; i++)
        if (data[i] == '2' && g_ascii_isdigit((char)data[i + 1]))
            return TRUE;
    return FALSE;
}

/* A word of the service that we would not use ourselves. */
static void check_reason(const Exchange *exchange)
{
    if (exchange->verdict == HTTP_HEALTHY) {
        g_assert_cmpstr(exchange->reason, ==, "");
        return;
    }
    g_assert_cmpstr(exchange->reason, !=, "");
    g_assert_cmpuint(strlen(exchange->reason), <, 200);
    g_assert_true(g_utf8_validate(exchange->reason, -1, NULL));
    for (const char *p = exchange->reason; *p; p = g_utf8_next_char(p))
        g_assert_true(g_unichar_isprint(g_utf8_get_char(p)));
    g_assert_null(strstr(exchange->reason, "zzz"));
}

int LLVMFuzzerTestOneInput(const guint8 *data, size_t length)
{
    Exchange exchange = {.data = data, .length = length};
    g_autofree char *url = NULL;
    guint source;

    if (listener < 0)
        start_service();
    url = g_strdup_printf("http://127.0.0.1:%u/", port);
    source = g_unix_fd_add(listener, G_IO_IN, on_connection, &exchange);
    (void)http_check_start(checker, 0, url, TIMEOUT_MSEC, NULL, on_done, &exchange);
    while (exchange.verdicts == 0 || http_checker_length(checker) > 0 || exchange.visits > 0)
        (void)g_main_context_iteration(NULL, TRUE);
    g_assert_true(g_source_remove(source));
    g_assert_cmpuint(exchange.verdicts, ==, 1);
    g_assert_cmpuint(exchange.connections, >=, 1);
    g_assert_cmpuint(exchange.connections, <=, 1 + HTTP_REDIRECTS_MAX);
    if (exchange.verdict == HTTP_HEALTHY)
        g_assert_true(has_good_status(data, length));
    check_reason(&exchange);
    g_free(exchange.reason);
    return 0;
}
