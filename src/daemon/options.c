/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/options.h"

#include <stdio.h>

static gboolean refuse(int *ret_status, const char *message)
{
    fprintf(stderr, "styxyd: %s; 'styxyd --help' lists the options\n", message);
    *ret_status = EXIT_USAGE;
    return FALSE;
}

static void fill_defaults(Options *options)
{
    if (!options->state_dir)
        options->state_dir = options->user ? g_build_filename(g_get_user_state_dir(), "styxy", NULL)
                                           : g_strdup(STYXY_STATEDIR);
    if (!options->runtime_dir)
        options->runtime_dir = options->user
                                   ? g_build_filename(g_get_user_runtime_dir(), "styxy", NULL)
                                   : g_strdup(STYXY_RUNTIMEDIR);
}

gboolean options_parse(Options *options, int argc, char **argv, int *ret_status)
{
    gboolean system_scope = FALSE, version = FALSE;
    g_autoptr(GOptionContext) context = g_option_context_new(NULL);
    g_autoptr(GError) error = NULL;
    const GOptionEntry entries[] = {
        {"system", 0, 0, G_OPTION_ARG_NONE, &system_scope, "Serve the system bus (default)", NULL},
        {"user", 0, 0, G_OPTION_ARG_NONE, &options->user, "Serve the session bus", NULL},
        {"address", 0, 0, G_OPTION_ARG_STRING, &options->address,
         "Serve the bus at this D-Bus address", "ADDR"},
        {"config", 0, 0, G_OPTION_ARG_FILENAME, &options->config,
         "Read this configuration file alone", "FILE"},
        {"state-dir", 0, 0, G_OPTION_ARG_FILENAME, &options->state_dir, "Keep the state here",
         "DIR"},
        {"runtime-dir", 0, 0, G_OPTION_ARG_FILENAME, &options->runtime_dir,
         "Keep the direct socket here", "DIR"},
        {"check-config", 0, 0, G_OPTION_ARG_NONE, &options->check_config,
         "Check the configuration and end", NULL},
        {"version", 0, 0, G_OPTION_ARG_NONE, &version, "Print the version and end", NULL},
        {NULL},
    };

    *options = (Options){0};
    g_option_context_add_main_entries(context, entries, NULL);
    g_option_context_set_summary(context, "Hands out TCP and UDP ports over D-Bus.");
    if (!g_option_context_parse(context, &argc, &argv, &error))
        return refuse(ret_status, error->message);
    if (argc > 1) {
        g_autofree char *message = g_strdup_printf("unexpected argument '%s'", argv[1]);

        return refuse(ret_status, message);
    }
    if (system_scope && options->user)
        return refuse(ret_status, "--system and --user exclude each other");
    if (version) {
        printf("styxyd %s\n", STYXY_VERSION);
        *ret_status = EXIT_DONE;
        return FALSE;
    }
    fill_defaults(options);
    return TRUE;
}

void options_clear(Options *options)
{
    g_clear_pointer(&options->address, g_free);
    g_clear_pointer(&options->config, g_free);
    g_clear_pointer(&options->state_dir, g_free);
    g_clear_pointer(&options->runtime_dir, g_free);
}
