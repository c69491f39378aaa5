/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* status, metrics, reload, cleanup and recover: the daemon itself. */

#include <glib/gi18n.h>
#include <stdio.h>
#include <string.h>

#include "cli/client.h"
#include "cli/lease-view.h"
#include "cli/output.h"
#include "cli/table.h"
#include "cli/text.h"
#include "cli/verbs.h"

static const char *state_colour(const char *state)
{
    if (g_strcmp0(state, "running") == 0)
        return output_colour(COLOUR_GOOD);
    return output_colour(g_strcmp0(state, "degraded") == 0 ? COLOUR_BAD : COLOUR_DOUBT);
}

static const char *result_colour(const char *result)
{
    if (g_str_equal(result, "ok"))
        return output_colour(COLOUR_GOOD);
    return output_colour(g_str_equal(result, "failed") ? COLOUR_BAD : COLOUR_DOUBT);
}

/* One line a step, and below it what the step has to say. */
static void print_steps(GVariant *steps, gboolean all)
{
    for (gsize i = 0; steps && i < g_variant_n_children(steps); i++) {
        g_autoptr(GVariant) details = NULL;
        g_autofree const char **messages = NULL;
        const char *step, *result;

        g_variant_get_child(steps, i, "(&s&s@a{sv})", &step, &result, &details);
        if (!all && g_str_equal(result, "ok"))
            continue;
        printf("  %-20s %s%s%s\n", step, result_colour(result), result, output_colour_end());
        if (!g_variant_lookup(details, "messages", "^a&s", &messages))
            continue;
        for (size_t j = 0; messages[j]; j++) {
            g_autofree char *clean = text_clean(messages[j]);

            printf("    %s\n", clean);
        }
    }
}

/* The last recovery at a glance: a line, and only what did not go by itself below it. */
static void print_report(GVariant *report)
{
    g_autoptr(GVariant) steps =
        g_variant_lookup_value(report, "steps", G_VARIANT_TYPE("a(ssa{sv})"));
    g_autofree const char **backups = NULL;
    g_autofree char *ago =
        text_ago(g_get_real_time() - (gint64)dict_number(report, "started_usec"));
    g_autofree char *took = text_duration(dict_number(report, "duration_usec"));
    gboolean ok = dict_number(report, "ok") != 0;

    if (g_variant_n_children(report) == 0) {
        printf("%s %s\n", _("Recovery:"), _("none yet"));
        return;
    }
    /* TRANSLATORS: how long ago, why, how long it took, and three numbers of leases */
    printf("%s %s%s%s", _("Recovery:"), output_colour(ok ? COLOUR_GOOD : COLOUR_BAD),
           ok ? _("ok") : _("failed"), output_colour_end());
    printf(_(", %s ago (%s), took %s; kept %u, released %u, repaired %u\n"), ago,
           dict_string(report, "trigger"), took, (guint)dict_number(report, "kept"),
           (guint)dict_number(report, "released"), (guint)dict_number(report, "repaired"));
    print_steps(steps, FALSE);
    if (g_variant_lookup(report, "backups", "^a&s", &backups))
        for (size_t i = 0; backups[i]; i++) {
            g_autofree char *clean = text_clean(backups[i]);

            printf("  %s %s\n", _("Backup:"), clean);
        }
}

static void print_status(GVariant *properties, GVariant *report)
{
    g_autoptr(GVariant) types = g_variant_lookup_value(properties, "ServiceTypes", NULL);
    g_autoptr(GVariant) files =
        g_variant_lookup_value(properties, "ConfigFiles", G_VARIANT_TYPE("as"));
    g_autofree char *file_list = files ? value_to_text(files) : NULL;
    const char *state = dict_string(properties, "State");
    const char *reason = dict_string(properties, "StateReason");

    printf("%s %s\n", "styxyd", dict_string(properties, "Version"));
    printf("%s %s%s%s%s%s\n", _("State:"), state_colour(state), state, output_colour_end(),
           reason && *reason ? ": " : "", reason ? reason : "");
    printf("%s %" G_GUINT64_FORMAT "\n", _("Leases:"), dict_number(properties, "LeaseCount"));
    if (types)
        printf("%s %" G_GSIZE_FORMAT "\n", _("Service types:"), g_variant_n_children(types));
    if (file_list)
        printf("%s %s\n", _("Configuration:"), file_list);
    print_report(report);
}

static GVariant *status_json(GVariant *properties, GVariant *report)
{
    static const struct {
        const char *property;
        const char *key;
    } keys[] = {
        {"Version", "version"},          {"State", "state"},
        {"StateReason", "state_reason"}, {"LeaseCount", "lease_count"},
        {"ConfigFiles", "config_files"},
    };
    g_autoptr(GVariant) types = g_variant_lookup_value(properties, "ServiceTypes", NULL);
    g_auto(GVariantBuilder) dict = G_VARIANT_BUILDER_INIT(G_VARIANT_TYPE_VARDICT);

    for (size_t i = 0; i < G_N_ELEMENTS(keys); i++) {
        g_autoptr(GVariant) value = g_variant_lookup_value(properties, keys[i].property, NULL);

        if (value)
            dict_add(&dict, keys[i].key, value);
    }
    if (types)
        dict_add(&dict, "service_type_count",
                 g_variant_new("u", (guint32)g_variant_n_children(types)));
    dict_add(&dict, "recovery", report);
    return g_variant_builder_end(&dict);
}

ExitStatus verb_status(const Arguments *args, GError **error)
{
    g_autoptr(Client) client = client_open(args, error);
    g_autoptr(GVariant) properties = client ? client_properties(client, error) : NULL;
    g_autoptr(GVariant) reply = NULL;
    g_autoptr(GVariant) report = NULL;

    if (!properties)
        return EXIT_STATUS_FAILED;
    reply = client_call(client, "GetRecoveryReport", NULL, CLIENT_CALL_NONE, NULL, error);
    if (!reply)
        return EXIT_STATUS_FAILED;
    report = g_variant_get_child_value(reply, 0);
    if (output_json_mode() != JSON_MODE_OFF)
        output_json(status_json(properties, report));
    else
        print_status(properties, report);
    return EXIT_STATUS_OK;
}

static int compare_names(gconstpointer a, gconstpointer b)
{
    const char *x = NULL, *y = NULL;

    g_variant_get_child(*(GVariant *const *)a, 0, "&s", &x);
    g_variant_get_child(*(GVariant *const *)b, 0, "&s", &y);
    return strcmp(x, y);
}

static GPtrArray *sorted_entries(GVariant *dict)
{
    GPtrArray *entries = g_ptr_array_new_with_free_func((GDestroyNotify)g_variant_unref);

    for (gsize i = 0; i < g_variant_n_children(dict); i++)
        g_ptr_array_add(entries, g_variant_get_child_value(dict, i));
    g_ptr_array_sort(entries, compare_names);
    return entries;
}

static void print_prometheus(GPtrArray *entries)
{
    for (guint i = 0; i < entries->len; i++) {
        const char *name;
        guint64 value;

        g_variant_get(g_ptr_array_index(entries, i), "{&st}", &name, &value);
        printf("# TYPE styxy_%s %s\nstyxy_%s %" G_GUINT64_FORMAT "\n", name,
               g_str_has_suffix(name, "_total") ? "counter" : "gauge", name, value);
    }
}

static void print_metrics(GPtrArray *entries)
{
    const Column columns[] = {{_("NAME"), COLUMN_FLEXIBLE}, {_("VALUE"), COLUMN_RIGHT}};
    g_autoptr(Table) table = table_new(columns, G_N_ELEMENTS(columns));

    for (guint i = 0; i < entries->len; i++) {
        const char *name;
        guint64 value;

        g_variant_get(g_ptr_array_index(entries, i), "{&st}", &name, &value);
        table_row(table);
        table_set(table, 0, name, NULL);
        table_set_format(table, 1, "%" G_GUINT64_FORMAT, value);
    }
    output_pager();
    output_table(table);
}

ExitStatus verb_metrics(const Arguments *args, GError **error)
{
    g_autoptr(Client) client = client_open(args, error);
    g_autoptr(GVariant) reply = NULL;
    g_autoptr(GVariant) metrics = NULL;
    g_autoptr(GPtrArray) entries = NULL;

    reply = client ? client_call(client, "GetMetrics", NULL, CLIENT_CALL_NONE, NULL, error) : NULL;
    if (!reply)
        return EXIT_STATUS_FAILED;
    metrics = g_variant_get_child_value(reply, 0);
    entries = sorted_entries(metrics);
    if (output_json_mode() != JSON_MODE_OFF)
        output_json(metrics);
    else if (arguments_has(args, OPTION_PROMETHEUS))
        print_prometheus(entries);
    else
        print_metrics(entries);
    return EXIT_STATUS_OK;
}

ExitStatus verb_reload(const Arguments *args, GError **error)
{
    g_autoptr(Client) client = client_open(args, error);
    g_autoptr(GVariant) reply =
        client ? client_call(client, "Reload", NULL, CLIENT_CALL_SLOW, NULL, error) : NULL;

    if (reply)
        return EXIT_STATUS_OK;
    /* what is not valid is a file here, not the command line */
    if (error && *error && (*error)->code == EXIT_STATUS_USAGE)
        (*error)->code = EXIT_STATUS_FAILED;
    return EXIT_STATUS_FAILED;
}

static GVariant *call_with_dry_run(const Arguments *args, const char *method, GError **error)
{
    g_autoptr(Client) client = client_open(args, error);
    g_auto(GVariantBuilder) options = G_VARIANT_BUILDER_INIT(G_VARIANT_TYPE_VARDICT);

    if (!client)
        return NULL;
    if (arguments_has(args, OPTION_DRY_RUN))
        dict_add(&options, "dry_run", g_variant_new("b", TRUE));
    return client_call(client, method, g_variant_new("(@a{sv})", g_variant_builder_end(&options)),
                       CLIENT_CALL_SLOW, NULL, error);
}

static void print_released_json(GVariant *released)
{
    g_auto(GVariantBuilder) list = G_VARIANT_BUILDER_INIT(G_VARIANT_TYPE("aa{sv}"));

    for (gsize i = 0; i < g_variant_n_children(released); i++) {
        const char *lease, *reason;
        g_auto(GVariantBuilder) dict = G_VARIANT_BUILDER_INIT(G_VARIANT_TYPE_VARDICT);
        guint16 port;

        g_variant_get_child(released, i, "(q&s&s)", &port, &lease, &reason);
        dict_add(&dict, "port", g_variant_new("q", port));
        dict_add(&dict, "lease", g_variant_new("s", lease));
        dict_add(&dict, "reason", g_variant_new("s", reason));
        g_variant_builder_add_value(&list, g_variant_builder_end(&dict));
    }
    output_json(g_variant_builder_end(&list));
}

static void print_released(GVariant *released)
{
    const Column columns[] = {
        {_("PORT"), COLUMN_RIGHT}, {_("REASON"), COLUMN_NONE}, {_("LEASE"), COLUMN_FLEXIBLE}};
    g_autoptr(Table) table = table_new(columns, G_N_ELEMENTS(columns));

    for (gsize i = 0; i < g_variant_n_children(released); i++) {
        const char *lease, *reason;
        guint16 port;

        g_variant_get_child(released, i, "(q&s&s)", &port, &lease, &reason);
        table_row(table);
        table_set_format(table, 0, "%u", port);
        table_set(table, 1, reason, NULL);
        table_set(table, 2, lease, output_colour(COLOUR_FAINT));
    }
    output_table(table);
}

ExitStatus verb_cleanup(const Arguments *args, GError **error)
{
    g_autoptr(GVariant) reply = call_with_dry_run(args, "Cleanup", error);
    g_autoptr(GVariant) released = NULL;

    if (!reply)
        return EXIT_STATUS_FAILED;
    released = g_variant_get_child_value(reply, 0);
    if (output_json_mode() != JSON_MODE_OFF)
        print_released_json(released);
    else if (g_variant_n_children(released) == 0)
        output_note(_("nothing is stale"));
    else
        print_released(released);
    return EXIT_STATUS_OK;
}

static void print_recovery_json(gboolean ok, GVariant *steps)
{
    g_auto(GVariantBuilder) list = G_VARIANT_BUILDER_INIT(G_VARIANT_TYPE("aa{sv}"));
    g_auto(GVariantBuilder) result = G_VARIANT_BUILDER_INIT(G_VARIANT_TYPE_VARDICT);

    for (gsize i = 0; i < g_variant_n_children(steps); i++) {
        g_auto(GVariantBuilder) dict = G_VARIANT_BUILDER_INIT(G_VARIANT_TYPE_VARDICT);
        g_autoptr(GVariant) details = NULL;
        const char *step, *outcome;

        g_variant_get_child(steps, i, "(&s&s@a{sv})", &step, &outcome, &details);
        dict_add(&dict, "step", g_variant_new("s", step));
        dict_add(&dict, "result", g_variant_new("s", outcome));
        dict_add(&dict, "details", details);
        g_variant_builder_add_value(&list, g_variant_builder_end(&dict));
    }
    dict_add(&result, "ok", g_variant_new("b", ok));
    dict_add(&result, "steps", g_variant_builder_end(&list));
    output_json(g_variant_builder_end(&result));
}

ExitStatus verb_recover(const Arguments *args, GError **error)
{
    g_autoptr(GVariant) reply = call_with_dry_run(args, "Recover", error);
    g_autoptr(GVariant) steps = NULL;
    gboolean ok;

    if (!reply)
        return EXIT_STATUS_FAILED;
    g_variant_get(reply, "(b@a(ssa{sv}))", &ok, &steps);
    if (output_json_mode() != JSON_MODE_OFF)
        print_recovery_json(ok, steps);
    else
        print_steps(steps, TRUE);
    if (!ok)
        g_set_error(error, CLI_ERROR, EXIT_STATUS_FAILED,
                    _("the recovery did not succeed; 'styxyctl status' shows what is left"));
    return ok ? EXIT_STATUS_OK : EXIT_STATUS_FAILED;
}
