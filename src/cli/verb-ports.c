/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* check, scan and suggest: questions about ports, leased or not. */

#include <glib/gi18n.h>
#include <stdio.h>

#include "cli/client.h"
#include "cli/lease-view.h"
#include "cli/output.h"
#include "cli/table.h"
#include "cli/verbs.h"

static void print_check(guint16 port, const char *protocol, gboolean available, GVariant *details)
{
    printf("%u/%s: %s%s%s\n", port, protocol, output_colour(available ? COLOUR_GOOD : COLOUR_DOUBT),
           available ? _("free") : _("in use"), output_colour_end());
    print_dict(details);
}

ExitStatus verb_check(const Arguments *args, GError **error)
{
    const char *name = arguments_operand(args, 0);
    g_autoptr(Client) client = NULL;
    g_autoptr(GVariant) reply = NULL;
    g_autoptr(GVariant) details = NULL;
    Protocol protocol = 0;
    gboolean available;
    guint16 port;

    if (!port_protocol_parse(name, &port, &protocol)) {
        g_set_error(error, CLI_ERROR, EXIT_STATUS_USAGE,
                    _("'%s' is not a port (1 to 65535, '/tcp' or '/udp' behind it if need be)"),
                    name);
        return EXIT_STATUS_USAGE;
    }
    if (!protocol)
        protocol = arguments_has(args, OPTION_PROTOCOL) ? args->protocol : PROTOCOL_TCP;
    client = client_open(args, error);
    if (!client)
        return EXIT_STATUS_UNREACHABLE;
    reply =
        client_call(client, "CheckPort", g_variant_new("(qs)", port, protocol_to_string(protocol)),
                    CLIENT_CALL_NONE, NULL, error);
    if (!reply)
        return EXIT_STATUS_FAILED;
    g_variant_get(reply, "(b@a{sv})", &available, &details);
    if (output_json_mode() != JSON_MODE_OFF) {
        g_auto(GVariantBuilder) dict = G_VARIANT_BUILDER_INIT(G_VARIANT_TYPE_VARDICT);

        dict_add(&dict, "port", g_variant_new("q", port));
        dict_add(&dict, "protocol", g_variant_new("s", protocol_to_string(protocol)));
        dict_add(&dict, "available", g_variant_new("b", available));
        dict_add(&dict, "details", details);
        output_json(g_variant_builder_end(&dict));
    } else {
        print_check(port, protocol_to_string(protocol), available, details);
    }
    return available ? EXIT_STATUS_OK : EXIT_STATUS_FAILED;
}

static void print_sockets(GVariant *sockets)
{
    enum { PORT, PROTO, ADDRESS, USER, UNIT, TYPE, LEASE, N_COLUMNS };
    const Column columns[N_COLUMNS] = {
        [PORT] = {_("PORT"), COLUMN_RIGHT},
        [PROTO] = {_("PROTO"), COLUMN_NONE},
        [ADDRESS] = {_("ADDRESS"), COLUMN_FLEXIBLE},
        [USER] = {_("USER"), COLUMN_FLEXIBLE},
        [UNIT] = {_("UNIT"), COLUMN_FLEXIBLE},
        [TYPE] = {_("TYPE"), COLUMN_FLEXIBLE | COLUMN_OPTIONAL},
        [LEASE] = {_("LEASE"), COLUMN_FLEXIBLE | COLUMN_OPTIONAL},
    };
    g_autoptr(Table) table = table_new(columns, N_COLUMNS);

    for (gsize i = 0; i < g_variant_n_children(sockets); i++) {
        g_autoptr(GVariant) entry = g_variant_get_child_value(sockets, i);

        table_row(table);
        table_set_format(table, PORT, "%u", (guint)dict_number(entry, "port"));
        table_set(table, PROTO, dict_string(entry, "protocol"), NULL);
        table_set(table, ADDRESS, dict_string(entry, "address"), NULL);
        if (dict_has(entry, "uid")) {
            g_autofree char *user = user_name((uid_t)dict_number(entry, "uid"));

            table_set(table, USER, user, NULL);
        }
        table_set(table, UNIT, dict_string(entry, "unit"), NULL);
        table_set(table, TYPE, dict_string(entry, "service_type"), NULL);
        table_set(table, LEASE, dict_string(entry, "lease"), output_colour(COLOUR_FAINT));
    }
    output_table(table);
}

ExitStatus verb_scan(const Arguments *args, GError **error)
{
    const char *name = arguments_operand(args, 0);
    PortRange range = {.first = 1, .last = G_MAXUINT16};
    g_autoptr(Client) client = NULL;
    g_autoptr(GVariant) reply = NULL;
    g_autoptr(GVariant) sockets = NULL;

    if (name && !port_range_parse(name, &range)) {
        g_set_error(error, CLI_ERROR, EXIT_STATUS_USAGE,
                    _("'%s' is not a range of ports such as 3000-3099"), name);
        return EXIT_STATUS_USAGE;
    }
    client = client_open(args, error);
    if (!client)
        return EXIT_STATUS_UNREACHABLE;
    reply = client_call(client, "Scan", g_variant_new("(qq)", range.first, range.last),
                        CLIENT_CALL_NONE, NULL, error);
    if (!reply)
        return EXIT_STATUS_FAILED;
    sockets = g_variant_get_child_value(reply, 0);
    if (output_json_mode() != JSON_MODE_OFF) {
        output_json(sockets);
        return EXIT_STATUS_OK;
    }
    if (g_variant_n_children(sockets) == 0) {
        output_note(_("nothing listens on ports %u to %u"), range.first, range.last);
        return EXIT_STATUS_OK;
    }
    output_pager();
    print_sockets(sockets);
    return EXIT_STATUS_OK;
}

ExitStatus verb_suggest(const Arguments *args, GError **error)
{
    const char *type = arguments_operand(args, 0);
    guint32 count = arguments_has(args, OPTION_COUNT) ? args->count : 1;
    g_autoptr(Client) client = client_open(args, error);
    g_autoptr(GVariant) reply = NULL;
    g_autoptr(GVariant) ports = NULL;

    if (!client)
        return EXIT_STATUS_UNREACHABLE;
    reply = client_call(client, "Suggest", g_variant_new("(su)", type, count), CLIENT_CALL_NONE,
                        NULL, error);
    if (!reply)
        return EXIT_STATUS_FAILED;
    ports = g_variant_get_child_value(reply, 0);
    if (output_json_mode() != JSON_MODE_OFF)
        output_json(ports);
    else
        for (gsize i = 0; i < g_variant_n_children(ports); i++) {
            guint16 port;

            g_variant_get_child(ports, i, "q", &port);
            printf("%u\n", port);
        }
    if (g_variant_n_children(ports) > 0)
        return EXIT_STATUS_OK;
    g_set_error(error, CLI_ERROR, EXIT_STATUS_NOT_FOUND, _("no port of type '%s' is free"), type);
    return EXIT_STATUS_NOT_FOUND;
}
