/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The URL of a health check, as a client gives it. What passes leads to this machine's loopback, to
 * the port that was allowed, and nowhere else, however another parser reads it.
 */
#include <gio/gio.h>
#include <string.h>

#include "bus/options.h"
#include "fuzz.h"
#include "probe/http.h"

#define PORT 3000
/* As an HTTP library parses: what is percent-encoded stays so (SOUP_HTTP_URI_FLAGS). */
#define URI_FLAGS                                                                      \
    (G_URI_FLAGS_HAS_PASSWORD | G_URI_FLAGS_ENCODED_PATH | G_URI_FLAGS_ENCODED_QUERY | \
     G_URI_FLAGS_ENCODED_FRAGMENT | G_URI_FLAGS_SCHEME_NORMALIZE)

static void check_leads_home(const char *url, guint16 lease_port, gboolean any_local_port)
{
    g_autoptr(GUri) uri = g_uri_parse(url, URI_FLAGS, NULL);
    g_autoptr(GInetAddress) address = NULL;
    const char *host = NULL, *scheme = NULL;
    int port;

    g_assert_cmpuint(strlen(url), <=, HTTP_URL_MAX);
    for (const char *p = url; *p; p++)
        g_assert_true(g_ascii_isgraph(*p));
    g_assert_nonnull(uri);
    scheme = g_uri_get_scheme(uri);
    g_assert_true(g_str_equal(scheme, "http") || g_str_equal(scheme, "https"));
    g_assert_null(g_uri_get_userinfo(uri));
    host = g_uri_get_host(uri);
    address = g_inet_address_new_from_string(host);
    g_assert_true(g_ascii_strcasecmp(host, "localhost") == 0 ||
                  (address && g_inet_address_get_is_loopback(address)));
    port = g_uri_get_port(uri);
    if (port == -1)
        port = g_str_equal(scheme, "https") ? 443 : 80;
    g_assert_cmpint(port, >, 0);
    if (!any_local_port)
        g_assert_cmpint(port, ==, lease_port);
}

static gboolean word_in_authority(const char *url)
{
    const char *authority = strstr(url, "://");

    return authority &&
           g_strstr_len(authority, 3 + (gssize)strcspn(authority + 3, "/?#"), "{port}");
}

/* What is kept for a lease is asked at the port that it got. */
static void check_resolved(const char *url)
{
    AllocateArguments arguments = {.request = {.health_url = url, .port = PORT}, .pidfd = -1};
    g_autofree char *owned = NULL;
    gboolean foreign = 2;
    g_autoptr(GError) error = NULL;

    if (!options_resolve_health_url(&arguments, &foreign, &error)) {
        g_assert_error(error, OUTCOME_ERROR, OUTCOME_INVALID_ARGUMENT);
        g_assert_true(g_utf8_validate(error->message, -1, NULL));
        return;
    }
    g_assert_no_error(error);
    g_assert_true(foreign == TRUE || foreign == FALSE);
    owned = arguments.health_url;
    g_assert_nonnull(owned);
    if (word_in_authority(owned)) {
        g_auto(GStrv) parts = g_strsplit(owned, "{port}", 2);
        g_autofree char *asked = g_strjoinv("4711", parts);

        /* Put together it may have grown too long; that is found out when it is asked. */
        if (!foreign && http_url_check(asked, 4711, NULL, FALSE, NULL))
            check_leads_home(asked, 4711, FALSE);
        else
            g_assert_true(foreign || strlen(asked) > HTTP_URL_MAX);
    } else if (!foreign) {
        check_leads_home(owned, PORT, FALSE);
    }
}

int LLVMFuzzerTestOneInput(const guint8 *data, size_t length)
{
    g_autofree char *url = g_strndup(data ? (const char *)data : "", length);
    g_autoptr(GError) error = NULL;

    if (http_url_check(url, PORT, NULL, FALSE, &error)) {
        check_leads_home(url, PORT, FALSE);
        g_assert_true(http_url_check(url, PORT, NULL, TRUE, NULL));
    } else {
        g_assert_error(error, G_IO_ERROR, G_IO_ERROR_INVALID_ARGUMENT);
        g_assert_true(g_utf8_validate(error->message, -1, NULL));
    }
    if (http_url_check(url, PORT, NULL, TRUE, NULL))
        check_leads_home(url, PORT, TRUE);
    check_resolved(url);
    return 0;
}
