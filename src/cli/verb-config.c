/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * config check, show and sysctl. Reading files is the daemon's art, with its folders and merging:
 * check therefore runs the daemon's own program, and show asks the one that runs.
 */

#include <errno.h>
#include <glib/gi18n.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cli/client.h"
#include "cli/lease-view.h"
#include "cli/output.h"
#include "cli/table.h"
#include "cli/verbs.h"
#include "core/port-set.h"

#define RESERVED_NOW "/proc/sys/net/ipv4/ip_local_reserved_ports"

static const char *daemon_program(void)
{
    const char *program = g_getenv("STYXYD_PATH");

    return program && *program ? program : STYXYD_PATH;
}

/* Runs styxyd --check-config; its own words go to our stdout and stderr. */
static gboolean check_one(const Arguments *args, const char *file, GError **error)
{
    g_autofree char *config = file ? g_strconcat("--config=", file, NULL) : NULL;
    const char *argv[] = {daemon_program(), "--check-config",
                          arguments_has(args, OPTION_USER) ? "--user" : "--system", config, NULL};
    g_autoptr(GError) spawn_error = NULL;
    int status;

    (void)fflush(stdout);
    if (!g_spawn_sync(NULL, (char **)argv, NULL, G_SPAWN_CHILD_INHERITS_STDIN, NULL, NULL, NULL,
                      NULL, &status, &spawn_error)) {
        g_set_error(error, CLI_ERROR, EXIT_STATUS_FAILED, _("cannot run %s: %s"), argv[0],
                    spawn_error->message);
        return FALSE;
    }
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
        return TRUE;
    g_set_error(error, CLI_ERROR, EXIT_STATUS_FAILED, _("%s is not a valid configuration"),
                file ? file : _("what is configured"));
    return FALSE;
}

static ExitStatus config_check(const Arguments *args, GError **error)
{
    ExitStatus status = EXIT_STATUS_OK;

    if (args->operands->len == 1)
        return check_one(args, NULL, error) ? EXIT_STATUS_OK : EXIT_STATUS_FAILED;
    for (guint i = 1; i < args->operands->len; i++) {
        g_autoptr(GError) one_error = NULL;

        if (check_one(args, arguments_operand(args, i), &one_error))
            continue;
        output_error(one_error->message);
        status = EXIT_STATUS_FAILED;
    }
    return status;
}

/* The ServiceTypes property, with its type checked. */
static GVariant *get_service_types(GVariant *properties, GError **error)
{
    GVariant *types =
        g_variant_lookup_value(properties, "ServiceTypes", G_VARIANT_TYPE("a{sa{sv}}"));

    if (!types)
        g_set_error(error, CLI_ERROR, EXIT_STATUS_FAILED, _("the daemon tells no service types"));
    return types;
}

static PortRange type_range(GVariant *settings)
{
    PortRange range = {.first = 0};

    /* a daemon that says it as an array is as clear */
    if (!g_variant_lookup(settings, "port_range", "(qq)", &range.first, &range.last)) {
        g_autoptr(GVariant) pair =
            g_variant_lookup_value(settings, "port_range", G_VARIANT_TYPE("aq"));

        if (pair && g_variant_n_children(pair) == 2) {
            g_variant_get_child(pair, 0, "q", &range.first);
            g_variant_get_child(pair, 1, "q", &range.last);
        }
    }
    return port_range_is_valid(range) ? range : (PortRange){.first = 0};
}

static void print_types(GVariant *types)
{
    enum { TYPE, PORTS, PREFERRED, PROTO, INSTANCES, DESCRIPTION, N_COLUMNS };
    const Column columns[N_COLUMNS] = {
        [TYPE] = {_("TYPE"), COLUMN_NONE},
        [PORTS] = {_("PORTS"), COLUMN_NONE},
        [PREFERRED] = {_("PREFERRED"), COLUMN_FLEXIBLE},
        [PROTO] = {_("PROTO"), COLUMN_NONE},
        [INSTANCES] = {_("INSTANCES"), COLUMN_NONE},
        [DESCRIPTION] = {_("DESCRIPTION"), COLUMN_FLEXIBLE | COLUMN_OPTIONAL},
    };
    g_autoptr(Table) table = table_new(columns, N_COLUMNS);

    for (gsize i = 0; i < g_variant_n_children(types); i++) {
        g_autoptr(GVariant) settings = NULL;
        g_autoptr(GVariant) preferred = NULL;
        g_autofree char *ports = NULL;
        const char *name;
        PortRange range;

        g_variant_get_child(types, i, "{&s@a{sv}}", &name, &settings);
        range = type_range(settings);
        preferred = g_variant_lookup_value(settings, "preferred_ports", NULL);
        ports = preferred ? value_to_text(preferred) : NULL;
        table_row(table);
        table_set(table, TYPE, name, NULL);
        if (port_range_is_set(range))
            table_set_format(table, PORTS, "%u-%u", range.first, range.last);
        table_set(table, PREFERRED, ports, NULL);
        table_set(table, PROTO, dict_string(settings, "protocol"), NULL);
        table_set(table, INSTANCES, dict_string(settings, "instance_behavior"), NULL);
        table_set(table, DESCRIPTION, dict_string(settings, "description"), NULL);
    }
    output_table(table);
}

static ExitStatus config_show(const Arguments *args, GVariant *properties, GError **error)
{
    g_autoptr(GVariant) types = get_service_types(properties, error);
    g_autoptr(GVariant) files =
        g_variant_lookup_value(properties, "ConfigFiles", G_VARIANT_TYPE("as"));

    if (!types)
        return EXIT_STATUS_FAILED;
    if (output_json_mode() != JSON_MODE_OFF) {
        g_auto(GVariantBuilder) dict = G_VARIANT_BUILDER_INIT(G_VARIANT_TYPE_VARDICT);

        dict_add(&dict, "service_types", types);
        if (files)
            dict_add(&dict, "config_files", files);
        output_json(g_variant_builder_end(&dict));
        return EXIT_STATUS_OK;
    }
    output_pager();
    for (gsize i = 0; files && i < g_variant_n_children(files); i++) {
        const char *file;

        g_variant_get_child(files, i, "&s", &file);
        printf("%s# %s%s\n", output_colour(COLOUR_FAINT), file, output_colour_end());
    }
    print_types(types);
    return EXIT_STATUS_OK;
}

/* What the daemon grants from: the ranges of the types, and the one for unknown types. */
static void add_configured(GVariant *types, GVariant *properties, PortSet *set)
{
    g_autoptr(GVariant) automatic =
        g_variant_lookup_value(properties, "AutoAllocation", G_VARIANT_TYPE_VARDICT);

    for (gsize i = 0; i < g_variant_n_children(types); i++) {
        g_autoptr(GVariant) settings = NULL;

        g_variant_get_child(types, i, "{s@a{sv}}", NULL, &settings);
        port_set_add_range(set, type_range(settings));
    }
    if (automatic)
        port_set_add_range(set, type_range(automatic));
}

/* Reads "A-B,C,…" as the kernel writes it; what is not understood is left out. */
static void read_reserved(const char *text, PortSet *set)
{
    g_auto(GStrv) parts = g_strsplit(text, ",", -1);

    for (size_t i = 0; parts[i]; i++) {
        PortRange range;

        if (port_range_parse(g_strstrip(parts[i]), &range))
            port_set_add_range(set, range);
    }
}

/* The set as the kernel reads it: adjoining ports as one range, ascending. */
static char *format_set(const PortSet *set)
{
    GString *text = g_string_new(NULL);
    guint port = 1;

    while (port <= G_MAXUINT16) {
        guint first = port;

        if (!port_set_contains(set, (guint16)port)) {
            port++;
            continue;
        }
        while (port < G_MAXUINT16 && port_set_contains(set, (guint16)(port + 1)))
            port++;
        g_string_append_printf(text, "%s%u", text->len > 0 ? "," : "", first);
        if (port > first)
            g_string_append_printf(text, "-%u", port);
        port++;
    }
    return g_string_free(text, FALSE);
}

static ExitStatus config_sysctl(GVariant *properties, GError **error)
{
    g_autoptr(GVariant) types = get_service_types(properties, error);
    g_autofree PortSet *ours = g_new0(PortSet, 1);
    g_autofree PortSet *others = g_new0(PortSet, 1);
    g_autofree char *now = NULL;
    g_autofree char *list = NULL;
    g_autofree char *other_list = NULL;

    if (!types)
        return EXIT_STATUS_FAILED;
    add_configured(types, properties, ours);
    if (g_file_get_contents(RESERVED_NOW, &now, NULL, NULL))
        read_reserved(now, others);
    for (size_t i = 0; i < G_N_ELEMENTS(others->words); i++)
        others->words[i] &= ~ours->words[i];
    list = format_set(ours);
    other_list = format_set(others);

    printf("# %s\n", _("Keeps the kernel from giving these ports to outgoing connections."));
    printf("# %s\n", _("Save as /etc/sysctl.d/60-styxy.conf, then run 'sysctl --system'."));
    /* the setting is one list: a second file would replace it, not add to it */
    if (*other_list) {
        printf("# %s\n", _("This replaces the list in force, in which there is besides:"));
        printf("#   %s\n", other_list);
    }
    printf("net.ipv4.ip_local_reserved_ports = %s\n", list);
    return EXIT_STATUS_OK;
}

ExitStatus verb_config(const Arguments *args, GError **error)
{
    const char *what = arguments_operand(args, 0);
    g_autoptr(Client) client = NULL;
    g_autoptr(GVariant) properties = NULL;

    if (g_str_equal(what, "check"))
        return config_check(args, error);
    if (!g_str_equal(what, "show") && !g_str_equal(what, "sysctl")) {
        g_set_error(error, CLI_ERROR, EXIT_STATUS_USAGE,
                    _("config does not know '%s'; it knows check, show and sysctl"), what);
        return EXIT_STATUS_USAGE;
    }
    if (args->operands->len > 1) {
        g_set_error(error, CLI_ERROR, EXIT_STATUS_USAGE, _("config %s does not take '%s'"), what,
                    arguments_operand(args, 1));
        return EXIT_STATUS_USAGE;
    }
    client = client_open(args, error);
    properties = client ? client_properties(client, error) : NULL;
    if (!properties)
        return EXIT_STATUS_FAILED;
    return g_str_equal(what, "show") ? config_show(args, properties, error)
                                     : config_sysctl(properties, error);
}
