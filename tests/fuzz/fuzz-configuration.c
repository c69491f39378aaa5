/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Up to three sources, separated by form feeds (no JSON holds one outside a string, and in a string
 * it must be escaped). What is good survives being written and read again and keeps the promises of
 * core/configuration.h; what is bad has a printable message with file and line.
 */
#include <json-glib/json-glib.h>
#include <string.h>

#include "core/configuration.h"
#include "fuzz.h"
#include "util/json-check.h"

#define SOURCES_MAX 3

static void check_message(const GError *error, const char *const *names)
{
    gboolean named = FALSE;

    g_assert_true(error && error->domain == CONFIGURATION_ERROR);
    g_assert_true(g_utf8_validate(error->message, -1, NULL));
    for (const char *p = error->message; *p; p = g_utf8_next_char(p))
        g_assert_true(g_unichar_isprint(g_utf8_get_char(p)));
    for (; *names && !named; names++)
        named = g_str_has_prefix(error->message, *names) && error->message[strlen(*names)] == ':' &&
                g_ascii_strtoull(error->message + strlen(*names) + 1, NULL, 10) > 0;
    g_assert_true(named);
}

static void check_range(PortRange range, PortSet *claimed)
{
    g_assert_true(port_range_is_valid(range));
    for (guint port = range.first; port <= range.last; port++) {
        g_assert_false(port_set_contains(claimed, (guint16)port));
        port_set_add(claimed, (guint16)port);
    }
}

static void check_promises(const Configuration *config)
{
    g_autofree PortSet *claimed = g_new0(PortSet, 1);

    for (guint i = 0; i < config->service_types->len; i++) {
        const ServiceType *type = config->service_types->pdata[i];

        g_assert_true(service_type_is_valid(type->name));
        g_assert_true(configuration_find_type(config, type->name) == type);
        g_assert_true(type->health.max_failures >= 1 && type->health.http_timeout_msec >= 10);
        check_range(type->range, claimed);
    }
    if (config->auto_enabled) {
        check_range(config->auto_range, claimed);
        g_assert_cmpuint(configuration_chunk_size(config, "monitoring-1"), <=,
                         port_range_length(config->auto_range));
    }
    for (guint i = 0; i < config->service_types->len; i++) {
        const ServiceType *type = config->service_types->pdata[i];

        for (size_t k = 0; k < type->n_preferred_ports; k++)
            g_assert_true(type->preferred_ports[k] > 0 &&
                          (port_range_contains(type->range, type->preferred_ports[k]) ||
                           !port_set_contains(claimed, type->preferred_ports[k])));
    }
    g_assert_cmpuint(config->health_check_interval_msec, >=, 10);
    g_assert_cmpuint(configuration_chunk_size(config, "x"), >=, 1);
}

static void check_round_trip(const Configuration *config)
{
    g_autofree char *text = configuration_to_json(config), *again = NULL;
    ConfigurationSource source = {"round", text, strlen(text)};
    g_autoptr(Configuration) copy = NULL;
    g_autoptr(GError) error = NULL;

    copy = configuration_parse(&source, 1, &error);
    g_assert_no_error(error);
    check_promises(copy);
    again = configuration_to_json(copy);
    g_assert_cmpstr(text, ==, again);
}

/* What json_check() lets through is meant for json-glib, which must not stumble over it then. */
static void check_json_glib(const guint8 *data, size_t length)
{
    g_autoptr(JsonParser) parser = NULL;
    g_autoptr(GError) error = NULL;

    if (!json_check((const char *)data, length, CONFIGURATION_DEPTH_MAX, NULL, NULL, NULL))
        return;
    parser = json_parser_new();
    (void)json_parser_load_from_data(parser, (const char *)data, (gssize)length, &error);
    g_assert_no_error(error);
    g_assert_nonnull(json_parser_get_root(parser));
}

int LLVMFuzzerTestOneInput(const guint8 *data, size_t length)
{
    static const char *const names[] = {"one", "two", "three", "(no file)", NULL};
    g_autoptr(GPtrArray) blocks = g_ptr_array_new_with_free_func(g_free);
    ConfigurationSource sources[SOURCES_MAX];
    g_autoptr(Configuration) config = NULL;
    g_autoptr(GError) error = NULL;
    const guint8 *p = data;
    size_t n = 0;

    for (; n < SOURCES_MAX; n++) {
        size_t left = length - (size_t)(p - data), part = left;
        const guint8 *feed = left && n < SOURCES_MAX - 1 ? memchr(p, '\f', left) : NULL;
        char *block;

        if (feed)
            part = (size_t)(feed - p);
        block = g_memdup2(p, part);
        g_ptr_array_add(blocks, block);
        sources[n] = (ConfigurationSource){names[n], block, part};
        p += part;
        if (!feed) {
            n++;
            break;
        }
        p++;
    }
    check_json_glib(data, length);
    config = configuration_parse(sources, n, &error);
    if (!config) {
        check_message(error, names);
        return 0;
    }
    g_assert_no_error(error);
    check_promises(config);
    check_round_trip(config);
    return 0;
}
