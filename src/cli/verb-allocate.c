/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <stdio.h>

#include "cli/grant.h"
#include "cli/lease-view.h"
#include "cli/output.h"
#include "cli/verbs.h"

static void print_json(const Grant *grant, gboolean block)
{
    g_auto(GVariantBuilder) dict = G_VARIANT_BUILDER_INIT(G_VARIANT_TYPE_VARDICT);

    if (block) {
        g_auto(GVariantBuilder) leases = G_VARIANT_BUILDER_INIT(G_VARIANT_TYPE("aa{sv}"));

        for (gsize i = 0; i < g_variant_n_children(grant->leases); i++) {
            g_auto(GVariantBuilder) lease = G_VARIANT_BUILDER_INIT(G_VARIANT_TYPE_VARDICT);
            const char *id;
            guint16 port;

            g_variant_get_child(grant->leases, i, "(q&s)", &port, &id);
            dict_add(&lease, "port", g_variant_new("q", port));
            dict_add(&lease, "lease", g_variant_new("s", id));
            g_variant_builder_add_value(&leases, g_variant_builder_end(&lease));
        }
        dict_add(&dict, "leases", g_variant_builder_end(&leases));
    } else {
        dict_add(&dict, "port", g_variant_new("q", grant_port(grant)));
        dict_add(&dict, "lease", g_variant_new("s", grant_lease(grant)));
    }
    dict_add(&dict, "details", grant->details);
    output_json(g_variant_builder_end(&dict));
}

static void print_ports(const Grant *grant)
{
    for (gsize i = 0; i < g_variant_n_children(grant->leases); i++) {
        guint16 port;

        g_variant_get_child(grant->leases, i, "(qs)", &port, NULL);
        printf("%u\n", port);
    }
}

/* A port that nobody was told of would stay reserved for nobody; a reused lease is somebody's. */
static void give_back(Client *client, const Grant *grant)
{
    if (grant_is_reused(grant))
        return;
    for (gsize i = 0; i < g_variant_n_children(grant->leases); i++) {
        g_autoptr(GVariant) reply = NULL;
        const char *lease;

        g_variant_get_child(grant->leases, i, "(q&s)", NULL, &lease);
        reply = client_call(client, "Release", g_variant_new("(s)", lease), CLIENT_CALL_NONE, NULL,
                            NULL);
    }
}

ExitStatus verb_allocate(const Arguments *args, GError **error)
{
    g_autoptr(Client) client = client_open(args, error);
    gboolean block = arguments_has(args, OPTION_COUNT);
    g_auto(Grant) grant = GRANT_INIT;

    if (!client || !grant_request(client, args, block ? GRANT_BLOCK : GRANT_PORT,
                                  grant_options(args), &grant, error))
        return EXIT_STATUS_FAILED;
    if (output_json_mode() != JSON_MODE_OFF)
        print_json(&grant, block);
    else
        print_ports(&grant);
    if (!output_finish(error)) {
        give_back(client, &grant);
        return EXIT_STATUS_FAILED;
    }
    return EXIT_STATUS_OK;
}
