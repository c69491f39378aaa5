/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* list, show and health: three views of what the daemon says about leases. */

#include <glib/gi18n.h>

#include "cli/client.h"
#include "cli/lease-view.h"
#include "cli/output.h"
#include "cli/table.h"
#include "cli/text.h"
#include "cli/verbs.h"

static GVariant *list_leases(Client *client, const Arguments *args, GError **error)
{
    g_autoptr(GVariant) reply = NULL;
    g_auto(GVariantBuilder) filter = G_VARIANT_BUILDER_INIT(G_VARIANT_TYPE_VARDICT);

    if (arguments_has(args, OPTION_TYPE))
        dict_add(&filter, "service_type", g_variant_new("s", args->type));
    if (arguments_has(args, OPTION_INSTANCE))
        dict_add(&filter, "instance", g_variant_new("s", args->instance));
    if (arguments_has(args, OPTION_UID))
        dict_add(&filter, "uid", g_variant_new("u", args->uid));
    if (arguments_has(args, OPTION_PROTOCOL))
        dict_add(&filter, "protocol", g_variant_new("s", protocol_to_string(args->protocol)));
    if (arguments_has(args, OPTION_HEALTH))
        dict_add(&filter, "health", g_variant_new("s", health_to_string(args->health)));
    reply = client_call(client, "List", g_variant_new("(@a{sv})", g_variant_builder_end(&filter)),
                        CLIENT_CALL_NONE, NULL, error);
    return reply ? g_variant_get_child_value(reply, 0) : NULL;
}

static void set_ago(Table *table, size_t column, guint64 usec)
{
    g_autofree char *ago = NULL;

    if (usec > 0)
        ago = text_ago(g_get_real_time() - (gint64)usec);
    table_set(table, column, ago, NULL);
}

static void set_health(Table *table, size_t column, GVariant *lease)
{
    const char *health = dict_string(lease, "health");

    table_set(table, column, health, health_colour(health));
}

static void print_leases(GVariant *leases)
{
    enum { PORT, PROTO, TYPE, INSTANCE, LABEL, HEALTH, USER, UNIT, PID, AGE, LEASE, N_COLUMNS };
    const Column columns[N_COLUMNS] = {
        [PORT] = {_("PORT"), COLUMN_RIGHT},
        [PROTO] = {_("PROTO"), COLUMN_NONE},
        [TYPE] = {_("TYPE"), COLUMN_FLEXIBLE},
        [INSTANCE] = {_("INSTANCE"), COLUMN_FLEXIBLE | COLUMN_OPTIONAL},
        [LABEL] = {_("LABEL"), COLUMN_FLEXIBLE | COLUMN_OPTIONAL},
        [HEALTH] = {_("HEALTH"), COLUMN_NONE},
        [USER] = {_("USER"), COLUMN_FLEXIBLE},
        [UNIT] = {_("UNIT"), COLUMN_FLEXIBLE | COLUMN_OPTIONAL},
        [PID] = {_("PID"), COLUMN_RIGHT | COLUMN_OPTIONAL},
        [AGE] = {_("AGE"), COLUMN_RIGHT},
        [LEASE] = {_("LEASE"), COLUMN_FLEXIBLE},
    };
    g_autoptr(Table) table = table_new(columns, N_COLUMNS);

    for (gsize i = 0; i < g_variant_n_children(leases); i++) {
        g_autoptr(GVariant) lease = g_variant_get_child_value(leases, i);
        g_autofree char *user = user_name((uid_t)dict_number(lease, "uid"));

        table_row(table);
        table_set_format(table, PORT, "%u", (guint)dict_number(lease, "port"));
        table_set(table, PROTO, dict_string(lease, "protocol"), NULL);
        table_set(table, TYPE, dict_string(lease, "service_type"), NULL);
        table_set(table, INSTANCE, dict_string(lease, "instance"), NULL);
        table_set(table, LABEL, dict_string(lease, "label"), NULL);
        set_health(table, HEALTH, lease);
        table_set(table, USER, user, NULL);
        table_set(table, UNIT, dict_string(lease, "unit"), NULL);
        if (dict_number(lease, "pid") > 0)
            table_set_format(table, PID, "%u", (guint)dict_number(lease, "pid"));
        set_ago(table, AGE, dict_number(lease, "created_usec"));
        table_set(table, LEASE, dict_string(lease, "lease"), output_colour(COLOUR_FAINT));
    }
    output_table(table);
}

ExitStatus verb_list(const Arguments *args, GError **error)
{
    g_autoptr(Client) client = client_open(args, error);
    g_autoptr(GVariant) leases = client ? list_leases(client, args, error) : NULL;

    if (!leases)
        return EXIT_STATUS_FAILED;
    if (output_json_mode() != JSON_MODE_OFF) {
        output_json(leases);
        return EXIT_STATUS_OK;
    }
    if (g_variant_n_children(leases) == 0) {
        output_note(_("no leases"));
        return EXIT_STATUS_OK;
    }
    output_pager();
    print_leases(leases);
    return EXIT_STATUS_OK;
}

ExitStatus verb_show(const Arguments *args, GError **error)
{
    g_autoptr(Client) client = NULL;
    g_autoptr(GVariant) lease = NULL;
    LeaseRef ref;

    if (!lease_ref_read(args, arguments_operand(args, 0), &ref, error))
        return EXIT_STATUS_USAGE;
    client = client_open(args, error);
    lease = client ? lease_find(client, &ref, error) : NULL;
    if (!lease)
        return EXIT_STATUS_FAILED;
    if (output_json_mode() != JSON_MODE_OFF)
        output_json(lease);
    else
        print_dict(lease);
    return EXIT_STATUS_OK;
}

static void print_health(GVariant *leases)
{
    enum { PORT, PROTO, TYPE, HEALTH, FAILURES, SEEN, CHECKED, REASON, USER, UNIT, URL, N_COLUMNS };
    const Column columns[N_COLUMNS] = {
        [PORT] = {_("PORT"), COLUMN_RIGHT},
        [PROTO] = {_("PROTO"), COLUMN_NONE},
        [TYPE] = {_("TYPE"), COLUMN_FLEXIBLE},
        [HEALTH] = {_("HEALTH"), COLUMN_NONE},
        [FAILURES] = {_("FAILURES"), COLUMN_RIGHT},
        [SEEN] = {_("LAST SEEN"), COLUMN_RIGHT},
        [CHECKED] = {_("LAST CHECK"), COLUMN_RIGHT},
        [REASON] = {_("REASON"), COLUMN_FLEXIBLE | COLUMN_OPTIONAL},
        [USER] = {_("USER"), COLUMN_FLEXIBLE},
        [UNIT] = {_("UNIT"), COLUMN_FLEXIBLE | COLUMN_OPTIONAL},
        [URL] = {_("URL"), COLUMN_FLEXIBLE | COLUMN_OPTIONAL},
    };
    g_autoptr(Table) table = table_new(columns, N_COLUMNS);

    for (gsize i = 0; i < g_variant_n_children(leases); i++) {
        g_autoptr(GVariant) lease = g_variant_get_child_value(leases, i);
        g_autofree char *user = user_name((uid_t)dict_number(lease, "uid"));

        table_row(table);
        table_set_format(table, PORT, "%u", (guint)dict_number(lease, "port"));
        table_set(table, PROTO, dict_string(lease, "protocol"), NULL);
        table_set(table, TYPE, dict_string(lease, "service_type"), NULL);
        set_health(table, HEALTH, lease);
        table_set_format(table, FAILURES, "%u", (guint)dict_number(lease, "failures"));
        set_ago(table, SEEN, dict_number(lease, "last_seen_usec"));
        set_ago(table, CHECKED, dict_number(lease, "last_check_usec"));
        table_set(table, REASON, dict_string(lease, "health_reason"), NULL);
        table_set(table, USER, user, NULL);
        table_set(table, UNIT, dict_string(lease, "unit"), NULL);
        table_set(table, URL, dict_string(lease, "health_url"), NULL);
    }
    output_table(table);
}

/* @ref: NULL = all of them. */
static GVariant *health_of(Client *client, const Arguments *args, const LeaseRef *ref,
                           GError **error)
{
    g_autoptr(GVariant) lease = NULL;

    if (!ref)
        return list_leases(client, args, error);
    lease = lease_find(client, ref, error);
    return lease ? g_variant_ref_sink(g_variant_new_array(NULL, &lease, 1)) : NULL;
}

ExitStatus verb_health(const Arguments *args, GError **error)
{
    const char *name = arguments_operand(args, 0);
    g_autoptr(Client) client = NULL;
    g_autoptr(GVariant) leases = NULL;
    LeaseRef ref;

    if (name && !lease_ref_read(args, name, &ref, error))
        return EXIT_STATUS_USAGE;
    client = client_open(args, error);
    leases = client ? health_of(client, args, name ? &ref : NULL, error) : NULL;
    if (!leases)
        return EXIT_STATUS_FAILED;
    if (output_json_mode() != JSON_MODE_OFF) {
        output_json(leases);
        return EXIT_STATUS_OK;
    }
    if (g_variant_n_children(leases) == 0) {
        output_note(_("no leases"));
        return EXIT_STATUS_OK;
    }
    output_pager();
    print_health(leases);
    return EXIT_STATUS_OK;
}
