/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>

/*
 * HTTP health checks: GET a URL of this machine's loopback and judge the status.
 *
 * The daemon is nobody's proxy: only numeric addresses in 127.0.0.0/8, ::1 and "localhost" are
 * asked, each connection goes to the address that was checked, no name is ever resolved
 * ("localhost" is the two loopback addresses, without DNS), no proxy setting matters, no redirect
 * leaves the host and port, no cookie or credential is kept.
 *
 * HTTP itself is libsoup's work. Linking it costs 1.7 MiB of an idle daemon that may never be asked
 * for a check, so it sits in a module (styxy-http.so in $libdir/styxy, or in the folder that
 * STYXY_MODULE_DIR names, for a daemon that is not installed), loaded with the first check. It
 * works in a thread of its own, so that neither it nor a service keeps the main loop.
 */
typedef struct HttpChecker HttpChecker;
typedef struct HttpCheck HttpCheck;

/** HTTP_URL_MAX: bytes of a URL. */
#define HTTP_URL_MAX 2048

/** HTTP_BODY_MAX_BYTES: of a body that much is read (and thrown away), then it is cut off. */
#define HTTP_BODY_MAX_BYTES (64 * 1024)

/** HTTP_REDIRECTS_MAX: redirects followed in one check. */
#define HTTP_REDIRECTS_MAX 3

typedef enum HttpVerdict {
    HTTP_HEALTHY,   /* a status of 2xx, and the body (or its first 64 KiB) came in time */
    HTTP_UNHEALTHY, /* another answer, none in time, none at all */
    HTTP_UNKNOWN,   /* we could not ask: no descriptors, no module, no TLS, a URL not allowed */
} HttpVerdict;

/**
 * HttpDone: called from the main loop, once, never from within http_check_start().
 * @reason: a short English text for a log, "status 503" say; no word of it is the server's.
 *     Borrowed for the call. Empty with HTTP_HEALTHY.
 */
typedef void (*HttpDone)(HttpVerdict verdict, const char *reason, void *data);

/**
 * HttpAim: asked when the turn of a check has come, and again before each redirection is followed:
 * who listens may have changed while it stood in line.
 * @ret_address: (transfer full): numeric, where to connect in place of the URL's host.
 *
 * Returns: HTTP_HEALTHY: go on; else the verdict, and nothing is connected to, with @ret_reason
 *     (static).
 */
typedef HttpVerdict (*HttpAim)(char **ret_address, const char **ret_reason, void *data);

/** HTTP_TARGETS_MAX: "localhost" has two addresses. */
#define HTTP_TARGETS_MAX 2

/**
 * http_url_targets: which addresses of a lease @url names. Pure.
 * @lease_address: numeric; NULL for all addresses. On all of them the lease has the loopback of
 *     each family, as 127.0.0.1, ::1 and "localhost"; on one address that one alone, and as
 *     "localhost" where that is its name.
 * @ret_targets: numeric, static or @lease_address.
 *
 * Returns: how many; 0: the host is not the lease's, or @url is no health check's.
 */
guint http_url_targets(const char *url, const char *lease_address,
                       const char *ret_targets[HTTP_TARGETS_MAX]);

/**
 * http_url_check: whether a health check may ask @url. Pure.
 * @url: any text, NULL too.
 * @lease_port: the only port allowed (80 and 443 are meant where the URL names none).
 * @lease_address: as for http_url_targets(), which says what hosts are allowed.
 * @any_local_port: allows other loopback hosts and ports as well.
 *
 * Wants http:// or https://, a loopback host as above (an IPv6 one in brackets), no user name, only
 * visible ASCII, at most HTTP_URL_MAX bytes.
 *
 * Returns: FALSE with @error in G_IO_ERROR, G_IO_ERROR_INVALID_ARGUMENT.
 */
gboolean http_url_check(const char *url, guint16 lease_port, const char *lease_address,
                        gboolean any_local_port, GError **error);

/**
 * http_checker_new: for checks on the thread-default main context.
 * Not where descriptors may have run out: GLib aborts then.
 * @concurrency: checks under way at one time, >= 1; others wait in line. One owner has at most half
 *     of the places, so that services which hang keep nobody else's waiting.
 */
HttpChecker *http_checker_new(guint concurrency);

/** http_checker_free: cancels all checks. Blocks until they have ended: some milliseconds, 30 where
 * the module is being loaded, five seconds where a library hangs. NULL is fine. Returns: NULL. */
HttpChecker *http_checker_free(HttpChecker *checker);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(HttpChecker, http_checker_free)

/**
 * http_check_start: checks @url; the port is for http_url_check() to judge, the rest is looked at
 * again here.
 * @owner: whose check it is, a uid say.
 * @aim: (nullable): who decides where it connects to; NULL: the URL's host.
 * @timeout_msec: >= 1, from the start of the connection to the end of the body, redirects included;
 *     waiting in line does not count.
 *
 * A certificate is not looked at: nobody but this machine can answer. Does not block.
 *
 * Returns: (transfer none): valid until @done is called or http_check_cancel().
 */
HttpCheck *http_check_start(HttpChecker *checker, guint32 owner, const char *url,
                            guint timeout_msec, HttpAim aim, HttpDone done, void *data);

/** http_check_cancel: @done will not be called. */
void http_check_cancel(HttpCheck *check);

/** http_checker_length: checks that are under way or wait. */
guint http_checker_length(const HttpChecker *checker);
