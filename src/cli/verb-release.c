/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* release and renew: what is done to leases that the command line names. */

#include <glib/gi18n.h>
#include <stdio.h>

#include "cli/client.h"
#include "cli/lease-view.h"
#include "cli/output.h"
#include "cli/text.h"
#include "cli/verbs.h"

typedef gboolean (*LeaseFunc)(Client *client, const LeaseRef *ref, GError **error);

/* All names are read before the first is touched; then each is tried, and the first failure counts.
 */
static ExitStatus for_each(const Arguments *args, LeaseFunc func, GError **error)
{
    g_autoptr(GArray) refs = g_array_new(FALSE, FALSE, sizeof(LeaseRef));
    g_autoptr(Client) client = NULL;
    ExitStatus status = EXIT_STATUS_OK;

    for (guint i = 0; i < args->operands->len; i++) {
        LeaseRef ref;

        if (!lease_ref_read(args, arguments_operand(args, i), &ref, error))
            return EXIT_STATUS_USAGE;
        g_array_append_val(refs, ref);
    }
    client = client_open(args, error);
    if (!client)
        return EXIT_STATUS_UNREACHABLE;
    for (guint i = 0; i < refs->len; i++) {
        g_autoptr(GError) one_error = NULL;

        if (func(client, &g_array_index(refs, LeaseRef, i), &one_error))
            continue;
        if (refs->len == 1) {
            g_propagate_error(error, g_steal_pointer(&one_error));
            return EXIT_STATUS_FAILED;
        }
        g_prefix_error(&one_error, "%s: ", arguments_operand(args, i));
        output_error(one_error->message);
        if (status == EXIT_STATUS_OK)
            status = (ExitStatus)one_error->code;
    }
    return status;
}

static gboolean release_one(Client *client, const LeaseRef *ref, GError **error)
{
    g_autoptr(GVariant) lease = NULL;
    g_autoptr(GVariant) reply = NULL;
    const char *id = ref->id.text;

    if (ref->port && ref->protocol) {
        reply = client_call(client, "ReleasePort",
                            g_variant_new("(qs)", ref->port, protocol_to_string(ref->protocol)),
                            CLIENT_CALL_SLOW, NULL, error);
        return reply != NULL;
    }
    if (ref->port) {
        lease = lease_find(client, ref, error);
        id = lease ? dict_string(lease, "lease") : NULL;
        if (!id)
            return FALSE;
    }
    reply = client_call(client, "Release", g_variant_new("(s)", id), CLIENT_CALL_SLOW, NULL, error);
    return reply != NULL;
}

static ExitStatus release_instance(const Arguments *args, GError **error)
{
    g_autoptr(Client) client = client_open(args, error);
    g_autoptr(GVariant) reply = NULL;
    guint32 count;

    if (!client)
        return EXIT_STATUS_UNREACHABLE;
    reply = client_call(client, "ReleaseInstance", g_variant_new("(s)", args->instance),
                        CLIENT_CALL_SLOW, NULL, error);
    if (!reply)
        return EXIT_STATUS_FAILED;
    g_variant_get(reply, "(u)", &count);
    if (count == 0) {
        g_set_error(error, CLI_ERROR, EXIT_STATUS_NOT_FOUND,
                    _("you have no lease of instance '%s'"), args->instance);
        return EXIT_STATUS_NOT_FOUND;
    }
    return EXIT_STATUS_OK;
}

ExitStatus verb_release(const Arguments *args, GError **error)
{
    if (arguments_has(args, OPTION_INSTANCE))
        return release_instance(args, error);
    return for_each(args, release_one, error);
}

static gboolean renew_one(Client *client, const LeaseRef *ref, GError **error)
{
    g_autoptr(GVariant) lease = NULL;
    g_autoptr(GVariant) reply = NULL;
    g_autofree char *time = NULL;
    const char *id = ref->id.text;
    guint64 expires_usec;

    if (ref->port) {
        lease = lease_find(client, ref, error);
        id = lease ? dict_string(lease, "lease") : NULL;
        if (!id)
            return FALSE;
    }
    reply = client_call(client, "Renew", g_variant_new("(s)", id), CLIENT_CALL_SLOW, NULL, error);
    if (!reply)
        return FALSE;
    g_variant_get(reply, "(t)", &expires_usec);
    if (output_json_mode() != JSON_MODE_OFF) {
        g_auto(GVariantBuilder) dict = G_VARIANT_BUILDER_INIT(G_VARIANT_TYPE_VARDICT);

        dict_add(&dict, "lease", g_variant_new("s", id));
        dict_add(&dict, "expires_usec", g_variant_new("t", expires_usec));
        output_json(g_variant_builder_end(&dict));
        return TRUE;
    }
    time = text_time((gint64)expires_usec);
    puts(time);
    return TRUE;
}

ExitStatus verb_renew(const Arguments *args, GError **error)
{
    return for_each(args, renew_one, error);
}
