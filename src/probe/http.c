/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "probe/http.h"

#include <arpa/inet.h>
#include <gio/gio.h>
#include <netinet/in.h>
#include <string.h>

#include "probe/http-thread.h"

/*
 * The line of checks that wait, in the main loop. What a check needs of HTTP is in http-module.c,
 * which runs in another thread (http-thread.c).
 */

/* So long checks are started in one turn of the loop: each one is aimed, which asks the kernel. */
#define SLICE_USEC 1000

struct HttpCheck {
    HttpChecker *checker; /* borrowed */
    guint32 owner;
    char *url;
    char *address; /* what it was aimed at, NULL = the URL's host */
    guint timeout_msec;
    HttpAim aim;
    HttpDone done;
    void *data;
    HttpRun *run; /* borrowed; NULL while waiting in line */
    GList link;   /* in waiting or in running */
};

/* Counted: the owner's reference, and one for each fetch whose end has not come yet. */
struct HttpChecker {
    guint references;
    gboolean closed;
    guint concurrency;
    guint fetches;      /* under way, those that were cancelled and are not gone included */
    GHashTable *owners; /* owner -> how many of those are his; without those that have none */
    GQueue waiting;
    GQueue running;
    GSource *pump;      /* owned, NULL = nothing to start */
    HttpThread *thread; /* owned, NULL once it is closed */
};

typedef struct Target {
    char *address; /* numeric, NULL = localhost */
    guint16 port;
} Target;

static gboolean refuse(GError **error, const char *why)
{
    g_set_error(error, G_IO_ERROR, G_IO_ERROR_INVALID_ARGUMENT, "not a health check URL: %s", why);
    return FALSE;
}

static gboolean is_loopback(const char *host)
{
    struct in_addr v4;
    struct in6_addr v6;

    if (inet_pton(AF_INET, host, &v4) == 1)
        return (g_ntohl(v4.s_addr) >> 24) == 127;
    return inet_pton(AF_INET6, host, &v6) == 1 && IN6_IS_ADDR_LOOPBACK(&v6);
}

static gboolean parse(const char *url, char **ret_address, guint16 *ret_port, GError **error)
{
    g_autoptr(GUri) uri = NULL;
    const char *host = NULL, *scheme = NULL;
    gsize length = url ? strlen(url) : 0;
    gint port;

    if (length == 0 || length > HTTP_URL_MAX)
        return refuse(error, "it is empty or too long");
    for (gsize i = 0; i < length; i++)
        if (!g_ascii_isgraph(url[i]))
            return refuse(error, "a character in it is not visible ASCII");
    /* The host stays as it is written: %31 for "1" is nothing that has to be understood. */
    uri = g_uri_parse(url, G_URI_FLAGS_ENCODED, NULL);
    if (!uri)
        return refuse(error, "it cannot be parsed");
    scheme = g_uri_get_scheme(uri);
    host = g_uri_get_host(uri);
    port = g_uri_get_port(uri);
    if (strcmp(scheme, "http") != 0 && strcmp(scheme, "https") != 0)
        return refuse(error, "the scheme is neither http nor https");
    if (g_uri_get_userinfo(uri))
        return refuse(error, "it names a user");
    if (!host || (!is_loopback(host) && g_ascii_strcasecmp(host, "localhost") != 0))
        return refuse(error, "the host is not 127.0.0.0/8, [::1] or localhost");
    if (port == -1)
        port = strcmp(scheme, "http") == 0 ? 80 : 443;
    if (port < 1 || port > G_MAXUINT16)
        return refuse(error, "the port is not within 1-65535");
    *ret_address = is_loopback(host) ? g_strdup(host) : NULL;
    *ret_port = (guint16)port;
    return TRUE;
}

/* Both are loopback addresses, and the IPv6 one has one alone. */
static gboolean is_same(const char *a, const char *b)
{
    struct in_addr x, y;
    gboolean x4 = inet_pton(AF_INET, a, &x) == 1, y4 = inet_pton(AF_INET, b, &y) == 1;

    return x4 == y4 && (!x4 || x.s_addr == y.s_addr);
}

/* @host: NULL = localhost. */
static guint own_targets(const char *host, const char *lease_address,
                         const char *ret_targets[HTTP_TARGETS_MAX])
{
    static const char *const usual[HTTP_TARGETS_MAX] = {"127.0.0.1", "::1"};
    const char *own[HTTP_TARGETS_MAX] = {usual[0], usual[1]};
    struct in6_addr v6;
    guint n = 0;

    if (g_strcmp0(lease_address, "0.0.0.0") == 0) {
        own[1] = NULL;
    } else if (lease_address &&
               !(inet_pton(AF_INET6, lease_address, &v6) == 1 && IN6_IS_ADDR_UNSPECIFIED(&v6))) {
        own[0] = is_loopback(lease_address) ? lease_address : NULL;
        own[1] = NULL;
    }
    for (guint i = 0; i < HTTP_TARGETS_MAX; i++) {
        if (!own[i])
            continue;
        if (host ? is_same(host, own[i]) : is_same(own[i], usual[0]) || is_same(own[i], usual[1]))
            ret_targets[n++] = own[i];
    }
    return n;
}

guint http_url_targets(const char *url, const char *lease_address,
                       const char *ret_targets[HTTP_TARGETS_MAX])
{
    g_autofree char *host = NULL;
    guint16 port = 0;

    if (!parse(url, &host, &port, NULL))
        return 0;
    return own_targets(host, lease_address, ret_targets);
}

gboolean http_url_check(const char *url, guint16 lease_port, const char *lease_address,
                        gboolean any_local_port, GError **error)
{
    const char *targets[HTTP_TARGETS_MAX];
    g_autofree char *host = NULL;
    guint16 port = 0;

    if (!parse(url, &host, &port, error))
        return FALSE;
    if (any_local_port)
        return TRUE;
    if (port != lease_port)
        return refuse(error, "the port is not the one of the lease");
    return own_targets(host, lease_address, targets) > 0 ||
           refuse(error, lease_address ? "the host is not the address of the lease"
                                       : "the host is not 127.0.0.1, [::1] or localhost");
}

static void checker_unref(HttpChecker *checker)
{
    if (--checker->references > 0)
        return;
    g_hash_table_unref(checker->owners);
    g_free(checker);
}

static void check_free(HttpCheck *check)
{
    g_free(check->url);
    g_free(check->address);
    g_free(check);
}

/* Frees @check before it tells: the callee may free the checker. */
static void tell(HttpCheck *check, HttpVerdict verdict, const char *reason)
{
    HttpDone done = check->done;
    void *data = check->data;

    check_free(check);
    done(verdict, reason, data);
}

/*
 * A fetch outlives its check when that is cancelled, so what the thread carries is neither of them.
 */
typedef struct Fetch {
    HttpChecker *checker; /* a reference */
    guint32 owner;
    HttpCheck *check; /* borrowed, NULL = told; once it is cancelled nobody looks */
} Fetch;

static void arm_pump(HttpChecker *checker);

static void on_done(HttpVerdict verdict, const char *reason, void *data)
{
    Fetch *fetch = data;
    HttpCheck *check = g_steal_pointer(&fetch->check);

    g_queue_unlink(&check->checker->running, &check->link);
    tell(check, verdict, reason);
}

static HttpVerdict on_again(const char **ret_reason, void *data)
{
    const Fetch *fetch = data;
    g_autofree char *address = NULL;
    HttpVerdict verdict;

    if (!fetch->check->aim)
        return HTTP_HEALTHY;
    verdict = fetch->check->aim(&address, ret_reason, fetch->check->data);
    if (verdict != HTTP_HEALTHY || g_strcmp0(address, fetch->check->address) == 0)
        return verdict;
    *ret_reason = "its service listens elsewhere than before the redirection";
    return HTTP_UNKNOWN;
}

static guint owner_count(const HttpChecker *checker, guint32 owner)
{
    return GPOINTER_TO_UINT(g_hash_table_lookup(checker->owners, GUINT_TO_POINTER(owner)));
}

static void count_owner(HttpChecker *checker, guint32 owner, gint by)
{
    guint count = owner_count(checker, owner) + (guint)by;

    if (count > 0)
        (void)g_hash_table_replace(checker->owners, GUINT_TO_POINTER(owner),
                                   GUINT_TO_POINTER(count));
    else
        (void)g_hash_table_remove(checker->owners, GUINT_TO_POINTER(owner));
}

static void on_gone(void *data)
{
    Fetch *fetch = data;

    fetch->checker->fetches--;
    count_owner(fetch->checker, fetch->owner, -1);
    if (!fetch->checker->closed)
        arm_pump(fetch->checker);
    checker_unref(fetch->checker);
    g_free(fetch);
}

static void start(HttpChecker *checker, HttpCheck *check)
{
    static const HttpRunCallbacks callbacks = {on_again, on_done, on_gone};
    g_autofree char *address = NULL;
    g_autoptr(GError) error = NULL;
    guint16 port = 0;
    Fetch *fetch = NULL;

    if (!parse(check->url, &address, &port, &error)) {
        tell(check, HTTP_UNKNOWN, error->message);
        return;
    }
    if (check->aim) {
        const char *reason = "";
        HttpVerdict verdict = check->aim(&check->address, &reason, check->data);

        if (verdict != HTTP_HEALTHY) {
            tell(check, verdict, reason);
            return;
        }
    }
    fetch = g_new(Fetch, 1);
    *fetch = (Fetch){.checker = checker, .owner = check->owner, .check = check};
    check->run =
        http_run_start(checker->thread, check->url, check->address ? check->address : address, port,
                       check->timeout_msec, &callbacks, fetch);
    if (!check->run) {
        g_free(fetch);
        tell(check, HTTP_UNKNOWN, "the thread for HTTP checks cannot be started");
        return;
    }
    checker->references++;
    checker->fetches++;
    count_owner(checker, check->owner, 1);
    g_queue_push_tail_link(&checker->running, &check->link);
}

/* (nullable): the first in line whose owner has a place left. */
static GList *next_waiting(const HttpChecker *checker)
{
    guint most = MAX(checker->concurrency / 2, 1);
    guint32 passed = 0;
    gboolean any_passed = FALSE;

    for (GList *link = checker->waiting.head; link; link = link->next) {
        const HttpCheck *check = link->data;

        /* The checks of one owner often stand together, thousands of them. */
        if (any_passed && check->owner == passed)
            continue;
        if (owner_count(checker, check->owner) < most)
            return link;
        passed = check->owner;
        any_passed = TRUE;
    }
    return NULL;
}

static gboolean pump(void *data)
{
    HttpChecker *checker = data;
    gint64 end_usec = g_get_monotonic_time() + SLICE_USEC;

    checker->references++; /* done callbacks may free it */
    g_clear_pointer(&checker->pump, g_source_unref);
    while (!checker->closed && checker->fetches < checker->concurrency) {
        GList *link = next_waiting(checker);

        if (!link)
            break;
        g_queue_unlink(&checker->waiting, link);
        start(checker, link->data);
        if (g_get_monotonic_time() >= end_usec) {
            if (!checker->closed)
                arm_pump(checker);
            break;
        }
    }
    checker_unref(checker);
    return G_SOURCE_REMOVE;
}

static void arm_pump(HttpChecker *checker)
{
    if (checker->pump || checker->waiting.length == 0 || checker->fetches >= checker->concurrency)
        return;
    checker->pump = g_idle_source_new();
    g_source_set_priority(checker->pump, G_PRIORITY_DEFAULT);
    g_source_set_callback(checker->pump, pump, checker, NULL);
    g_source_attach(checker->pump, g_main_context_get_thread_default());
}

HttpChecker *http_checker_new(guint concurrency)
{
    HttpChecker *checker = g_new0(HttpChecker, 1);

    checker->references = 1;
    checker->concurrency = MAX(concurrency, 1);
    checker->owners = g_hash_table_new(NULL, NULL);
    checker->thread = http_thread_new();
    return checker;
}

HttpChecker *http_checker_free(HttpChecker *checker)
{
    GList *link = NULL;

    if (!checker)
        return NULL;
    checker->closed = TRUE;
    while ((link = checker->waiting.head ? checker->waiting.head : checker->running.head))
        http_check_cancel(link->data);
    checker->thread = http_thread_free(checker->thread);
    if (checker->pump) {
        g_source_destroy(checker->pump);
        g_clear_pointer(&checker->pump, g_source_unref);
    }
    checker_unref(checker);
    return NULL;
}

HttpCheck *http_check_start(HttpChecker *checker, guint32 owner, const char *url,
                            guint timeout_msec, HttpAim aim, HttpDone done, void *data)
{
    HttpCheck *check = g_new0(HttpCheck, 1);

    check->checker = checker;
    check->owner = owner;
    check->url = g_strdup(url);
    check->timeout_msec = MAX(timeout_msec, 1);
    check->aim = aim;
    check->done = done;
    check->data = data;
    check->link.data = check;
    g_queue_push_tail_link(&checker->waiting, &check->link);
    arm_pump(checker);
    return check;
}

void http_check_cancel(HttpCheck *check)
{
    HttpChecker *checker = check->checker;

    if (check->run) {
        g_queue_unlink(&checker->running, &check->link);
        http_run_cancel(check->run);
    } else {
        g_queue_unlink(&checker->waiting, &check->link);
    }
    check_free(check);
}

guint http_checker_length(const HttpChecker *checker)
{
    return checker->waiting.length + checker->running.length;
}
