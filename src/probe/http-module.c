/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "probe/http-module.h"

#include <libsoup/soup.h>
#include <string.h>

/*
 * One health check over libsoup.
 *
 * Each connection has a session of its own, told to connect to the address that was checked and
 * nowhere else, whatever a URL, a header or the environment says. The session ends with the
 * connection: nothing is kept alive, remembered or shared between checks.
 *
 * The verdict is given at the deadline at the latest; what is left of the fetch then ends by
 * itself, within a turn or two of the main loop, and only after that its place is free for another.
 */

#define READ_BYTES 8192

/* 1xx answers before the real one. libsoup reads on without a look at the main loop as long as they
 * come in, so without a bound a service could keep the daemon to itself. */
#define INFORMATIONAL_MAX 8

struct HttpFetch {
    guint references; /* 1 for the deadline, 1 for the operation under way */
    void (*again)(void *data);
    HttpDone done; /* NULL = told or cancelled */
    GDestroyNotify gone;
    void *data;

    GUri *uri;
    GUri *next; /* owned, while it is asked whether to go there */
    GSocketConnectable *target;
    GCancellable *cancellable;
    GSource *deadline; /* owned, NULL = over */
    guint timeout_msec;
    guint redirects;

    SoupSession *session; /* owned, of the current connection */
    SoupMessage *message; /* owned */
    GInputStream *body;   /* owned */
    guint informational;
    gsize body_bytes;
    guint8 *buffer; /* READ_BYTES, thrown away */
};

static void disconnect(HttpFetch *fetch)
{
    /* First the connection: streams that end on an open one would read it to the end. */
    if (fetch->session)
        soup_session_abort(fetch->session);
    g_clear_object(&fetch->body);
    g_clear_object(&fetch->message);
    g_clear_object(&fetch->session);
}

static void fetch_unref(HttpFetch *fetch)
{
    if (--fetch->references > 0)
        return;
    disconnect(fetch);
    fetch->gone(fetch->data);
    g_clear_pointer(&fetch->uri, g_uri_unref);
    g_clear_pointer(&fetch->next, g_uri_unref);
    g_object_unref(fetch->target);
    g_object_unref(fetch->cancellable);
    g_free(fetch->buffer);
    g_free(fetch);
}

static void drop_deadline(HttpFetch *fetch)
{
    if (!fetch->deadline)
        return;
    g_source_destroy(fetch->deadline);
    g_clear_pointer(&fetch->deadline, g_source_unref);
    fetch_unref(fetch);
}

static void tell(HttpFetch *fetch, HttpVerdict verdict, const char *reason)
{
    HttpDone done = fetch->done;

    fetch->done = NULL;
    if (done)
        done(verdict, reason, fetch->data);
}

/* The end of the operation under way. Takes its reference. */
static void finish(HttpFetch *fetch, HttpVerdict verdict, const char *reason)
{
    disconnect(fetch);
    tell(fetch, verdict, reason);
    drop_deadline(fetch);
    fetch_unref(fetch);
}

/* What is our own trouble says nothing about the service. */
static HttpVerdict verdict_of(const GError *error)
{
    static const gint ours[] = {G_IO_ERROR_TOO_MANY_OPEN_FILES, G_IO_ERROR_PERMISSION_DENIED,
                                G_IO_ERROR_NOT_SUPPORTED, G_IO_ERROR_NO_SPACE};

    if (g_error_matches(error, G_TLS_ERROR, G_TLS_ERROR_UNAVAILABLE))
        return HTTP_UNKNOWN;
    for (guint i = 0; i < G_N_ELEMENTS(ours); i++)
        if (g_error_matches(error, G_IO_ERROR, ours[i]))
            return HTTP_UNKNOWN;
    return HTTP_UNHEALTHY;
}

static void finish_with_error(HttpFetch *fetch, const GError *error)
{
    const char *reason = error->message;

    if (fetch->informational > INFORMATIONAL_MAX)
        reason = "endless 1xx answers";
    /* libsoup quotes the server in some of its own messages. */
    if (error->domain == SOUP_SESSION_ERROR)
        reason = "no proper HTTP answer";
    finish(fetch, verdict_of(error), reason);
}

/* libsoup takes the end of the connection for the end of the body, whatever length was promised. */
static gboolean is_cut(const HttpFetch *fetch)
{
    SoupMessageHeaders *headers = soup_message_get_response_headers(fetch->message);

    return soup_message_headers_get_encoding(headers) == SOUP_ENCODING_CONTENT_LENGTH &&
           (goffset)fetch->body_bytes < soup_message_headers_get_content_length(headers);
}

static void read_body(HttpFetch *fetch);

static void on_read(GObject *source, GAsyncResult *result, void *data)
{
    HttpFetch *fetch = data;
    g_autoptr(GError) error = NULL;
    gssize n = g_input_stream_read_finish(G_INPUT_STREAM(source), result, &error);

    if (n < 0) {
        finish_with_error(fetch, error);
        return;
    }
    fetch->body_bytes += (gsize)n;
    if (n == 0 && is_cut(fetch))
        finish(fetch, HTTP_UNHEALTHY, "the answer broke off");
    else if (n == 0 || fetch->body_bytes >= HTTP_BODY_MAX_BYTES)
        finish(fetch, HTTP_HEALTHY, "");
    else
        read_body(fetch);
}

static void read_body(HttpFetch *fetch)
{
    g_input_stream_read_async(fetch->body, fetch->buffer, READ_BYTES, G_PRIORITY_DEFAULT,
                              fetch->cancellable, on_read, fetch);
}

static void send_request(HttpFetch *fetch);

/* Returns: NULL when it leaves the host and port. */
static GUri *follow(const HttpFetch *fetch, const char *location)
{
    g_autoptr(GUri) next = g_uri_parse_relative(fetch->uri, location, SOUP_HTTP_URI_FLAGS, NULL);

    if (!next || !g_uri_get_host(next) || g_uri_get_userinfo(next) ||
        strcmp(g_uri_get_scheme(next), g_uri_get_scheme(fetch->uri)) != 0 ||
        g_ascii_strcasecmp(g_uri_get_host(next), g_uri_get_host(fetch->uri)) != 0 ||
        g_uri_get_port(next) != g_uri_get_port(fetch->uri))
        return NULL;
    return g_steal_pointer(&next);
}

static void on_answer(GObject *source, GAsyncResult *result, void *data)
{
    HttpFetch *fetch = data;
    g_autoptr(GError) error = NULL;
    const char *location = NULL;
    g_autofree char *reason = NULL;
    guint status;

    fetch->body = soup_session_send_finish(SOUP_SESSION(source), result, &error);
    if (!fetch->body) {
        finish_with_error(fetch, error);
        return;
    }
    status = soup_message_get_status(fetch->message);
    location =
        soup_message_headers_get_one(soup_message_get_response_headers(fetch->message), "Location");
    if (status >= 200 && status < 300) {
        read_body(fetch);
    } else if (SOUP_STATUS_IS_REDIRECTION(status) && location) {
        g_autoptr(GUri) next = follow(fetch, location);

        if (!next) {
            finish(fetch, HTTP_UNHEALTHY, "redirects to another host or port");
        } else if (fetch->redirects++ >= HTTP_REDIRECTS_MAX) {
            finish(fetch, HTTP_UNHEALTHY, "too many redirects");
        } else if (!fetch->done) {
            finish(fetch, HTTP_UNKNOWN, "");
        } else { /* the operation's reference waits, too */
            disconnect(fetch);
            fetch->next = g_steal_pointer(&next);
            fetch->again(fetch->data);
        }
    } else {
        reason = g_strdup_printf("status %u", status);
        finish(fetch, HTTP_UNHEALTHY, reason);
    }
}

static void http_go_on(HttpFetch *fetch, HttpVerdict verdict, const char *reason)
{
    if (!fetch->done || verdict != HTTP_HEALTHY) {
        finish(fetch, verdict, reason);
        return;
    }
    g_uri_unref(fetch->uri);
    fetch->uri = g_steal_pointer(&fetch->next);
    send_request(fetch);
}

static void on_informational(SoupMessage *message, void *data)
{
    HttpFetch *fetch = data;

    if (++fetch->informational > INFORMATIONAL_MAX)
        g_cancellable_cancel(fetch->cancellable);
}

static gboolean accept_certificate(SoupMessage *message, GTlsCertificate *certificate,
                                   GTlsCertificateFlags errors, void *data)
{
    return TRUE; /* a loopback address has no name to certify */
}

static void send_request(HttpFetch *fetch)
{
    SoupMessageHeaders *headers = NULL;

    fetch->session = soup_session_new_with_options(
        "remote-connectable", fetch->target, "proxy-resolver", NULL, "max-conns", 1,
        "max-conns-per-host", 1, "timeout", 0, "idle-timeout", 0, "user-agent", "styxy", NULL);
    /* A compressed body stays compressed: it is thrown away. */
    soup_session_remove_feature_by_type(fetch->session, SOUP_TYPE_CONTENT_DECODER);
    soup_session_remove_feature_by_type(fetch->session, SOUP_TYPE_AUTH_MANAGER);

    fetch->message = soup_message_new_from_uri(SOUP_METHOD_GET, fetch->uri);
    soup_message_add_flags(fetch->message, SOUP_MESSAGE_NO_REDIRECT | SOUP_MESSAGE_NEW_CONNECTION);
    g_signal_connect(fetch->message, "accept-certificate", G_CALLBACK(accept_certificate), NULL);
    g_signal_connect(fetch->message, "got-informational", G_CALLBACK(on_informational), fetch);
    headers = soup_message_get_request_headers(fetch->message);
    soup_message_headers_replace(headers, "Connection", "close");
    soup_message_headers_replace(headers, "Accept", "*/*");
    soup_session_send_async(fetch->session, fetch->message, G_PRIORITY_DEFAULT, fetch->cancellable,
                            on_answer, fetch);
}

static gboolean on_deadline(void *data)
{
    HttpFetch *fetch = data;
    g_autofree char *reason = g_strdup_printf("no answer within %u ms", fetch->timeout_msec);

    g_clear_pointer(&fetch->deadline, g_source_unref);
    tell(fetch, HTTP_UNHEALTHY, reason);
    g_cancellable_cancel(fetch->cancellable);
    fetch_unref(fetch);
    return G_SOURCE_REMOVE;
}

static HttpFetch *http_fetch(const char *url, const char *address, guint16 port, guint timeout_msec,
                             void (*again)(void *data), HttpDone done, GDestroyNotify gone,
                             void *data)
{
    HttpFetch *fetch = g_new0(HttpFetch, 1);

    fetch->references = 2;
    fetch->again = again;
    fetch->done = done;
    fetch->gone = gone;
    fetch->data = data;
    fetch->timeout_msec = timeout_msec;
    fetch->uri = g_uri_parse(url, SOUP_HTTP_URI_FLAGS, NULL);
    fetch->target = address
                        ? G_SOCKET_CONNECTABLE(g_inet_socket_address_new_from_string(address, port))
                        : g_network_address_new_loopback(port);
    fetch->cancellable = g_cancellable_new();
    fetch->buffer = g_malloc(READ_BYTES);

    fetch->deadline = g_timeout_source_new(timeout_msec);
    g_source_set_callback(fetch->deadline, on_deadline, fetch, NULL);
    g_source_attach(fetch->deadline, g_main_context_get_thread_default());
    send_request(fetch);
    return fetch;
}

static void http_cancel(HttpFetch *fetch)
{
    fetch->references++; /* the operation may end within the cancellation */
    fetch->done = NULL;
    g_cancellable_cancel(fetch->cancellable);
    drop_deadline(fetch);
    if (fetch->next) /* nothing is under way that could end */
        fetch_unref(fetch);
    fetch_unref(fetch);
}

__attribute__((visibility("default"))) const HttpModule styxy_http_module = {
    .abi = HTTP_MODULE_ABI,
    .fetch = http_fetch,
    .go_on = http_go_on,
    .cancel = http_cancel,
};
