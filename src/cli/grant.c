/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "cli/grant.h"

#include <glib/gi18n.h>

#include "cli/lease-view.h"
#include "cli/output.h"
#include "util/fd.h"

/* How long signals may be behind the answer that they belong to. */
#define SIGNALS_MSEC 200

/* How long an answer may take before what is heard meanwhile is told. */
#define PATIENCE_USEC (150 * 1000)

#define CONFLICTS "member='PortConflict'"

void grant_clear(Grant *grant)
{
    g_clear_pointer(&grant->leases, g_variant_unref);
    g_clear_pointer(&grant->details, g_variant_unref);
    grant->socket = fd_close(grant->socket);
}

guint16 grant_port(const Grant *grant)
{
    guint16 port;

    g_variant_get_child(grant->leases, 0, "(q&s)", &port, NULL);
    return port;
}

const char *grant_lease(const Grant *grant)
{
    const char *lease;

    g_variant_get_child(grant->leases, 0, "(q&s)", NULL, &lease);
    return lease;
}

gboolean grant_is_reused(const Grant *grant)
{
    return dict_number(grant->details, "reused") != 0;
}

static void insert_string(GVariantDict *options, const Arguments *args, OptionId option,
                          const char *key, const char *value)
{
    if (arguments_has(args, option))
        g_variant_dict_insert(options, key, "s", value);
}

static void insert_u32(GVariantDict *options, const Arguments *args, OptionId option,
                       const char *key, guint32 value)
{
    if (arguments_has(args, option))
        g_variant_dict_insert(options, key, "u", value);
}

GVariantDict *grant_options(const Arguments *args)
{
    GVariantDict *options = g_variant_dict_new(NULL);

    if (arguments_has(args, OPTION_PORT))
        g_variant_dict_insert(options, "port", "q", args->port);
    if (arguments_has(args, OPTION_STRICT))
        g_variant_dict_insert(options, "strict", "b", TRUE);
    if (arguments_has(args, OPTION_RANGE))
        g_variant_dict_insert(options, "range", "(qq)", args->range.first, args->range.last);
    if (arguments_has(args, OPTION_PROTOCOL))
        g_variant_dict_insert(options, "protocol", "s", protocol_to_string(args->protocol));
    if (arguments_has(args, OPTION_LIFETIME))
        g_variant_dict_insert(options, "lifetime", "s", lifetime_to_string(args->lifetime));
    if (arguments_has(args, OPTION_HOLD))
        g_variant_dict_insert(options, "hold", "s", hold_to_string(args->hold));
    if (arguments_has(args, OPTION_ON_UNHEALTHY))
        g_variant_dict_insert(options, "on_unhealthy", "s",
                              on_unhealthy_to_string(args->on_unhealthy));
    insert_string(options, args, OPTION_BIND_ADDRESS, "address", args->bind_address);
    insert_string(options, args, OPTION_INSTANCE, "instance", args->instance);
    insert_string(options, args, OPTION_LABEL, "label", args->label);
    insert_string(options, args, OPTION_HEALTH_URL, "health_url", args->health_url);
    insert_u32(options, args, OPTION_PID, "pid", args->pid);
    insert_u32(options, args, OPTION_RETRIES, "retries", args->retries);
    insert_u32(options, args, OPTION_TTL, "ttl_ms", args->ttl_msec);
    insert_u32(options, args, OPTION_HEALTH_TIMEOUT, "health_timeout_ms",
               args->health_timeout_msec);
    return options;
}

/*
 * Signals do not say whose request they belong to: another request for the same type may be in
 * trouble at the same time. So they are held back until the answer says which conflicts were ours,
 * and told without waiting for it only where the daemon keeps us waiting.
 */
typedef struct Progress {
    const char *service_type; /* borrowed */
    gint64 started_usec;      /* CLOCK_MONOTONIC */
    GHashTable *heard;        /* port, as a pointer -> a{sv}, owned: who has it */
    GHashTable *told;         /* set of ports, as pointers */
    GVariant *conflicts;      /* aq, borrowed: all that were ours; NULL until the answer says */
} Progress;

static void tell_conflict(Progress *progress, guint16 port, GVariant *details)
{
    const char *unit = details ? dict_string(details, "unit") : NULL;

    if (!g_hash_table_add(progress->told, GUINT_TO_POINTER(port)))
        return;
    if (details && dict_has(details, "uid")) {
        g_autofree char *user = user_name((uid_t)dict_number(details, "uid"));

        if (unit)
            output_note(_("port %u is in use by %s (user %s), trying on"), port, unit, user);
        else
            output_note(_("port %u is in use by user %s, trying on"), port, user);
    } else if (unit) {
        output_note(_("port %u is in use by %s, trying on"), port, unit);
    } else {
        output_note(_("port %u is in use, trying on"), port);
    }
}

static int compare_ports(gconstpointer a, gconstpointer b)
{
    return GPOINTER_TO_INT(a) - GPOINTER_TO_INT(b);
}

static void tell_heard(Progress *progress)
{
    g_autoptr(GList) ports = g_list_sort(g_hash_table_get_keys(progress->heard), compare_ports);

    for (const GList *node = ports; node; node = node->next)
        tell_conflict(progress, (guint16)GPOINTER_TO_UINT(node->data),
                      g_hash_table_lookup(progress->heard, node->data));
}

static void on_signal(const char *member, GVariant *args, void *data)
{
    Progress *progress = data;
    g_autoptr(GVariant) details = NULL;
    const char *service_type;
    guint16 port;

    if (!g_str_equal(member, "PortConflict") ||
        !g_variant_is_of_type(args, G_VARIANT_TYPE("(qsa{sv})")))
        return;
    g_variant_get(args, "(q&s@a{sv})", &port, &service_type, &details);
    if (!g_str_equal(service_type, progress->service_type))
        return;
    /* a port is tried once a round */
    if (!progress->conflicts && g_hash_table_contains(progress->told, GUINT_TO_POINTER(port)))
        output_note(_("port %u is still in use, trying again"), port);
    g_hash_table_replace(progress->heard, GUINT_TO_POINTER(port), g_steal_pointer(&details));
    if (!progress->conflicts && g_get_monotonic_time() - progress->started_usec > PATIENCE_USEC)
        tell_heard(progress);
}

static gboolean all_heard(void *data)
{
    const Progress *progress = data;

    for (gsize i = 0; i < g_variant_n_children(progress->conflicts); i++) {
        guint16 port;

        g_variant_get_child(progress->conflicts, i, "q", &port);
        if (!g_hash_table_contains(progress->heard, GUINT_TO_POINTER(port)))
            return FALSE;
    }
    return TRUE;
}

/* The answer overtakes the signals of the same moment, and only they name the holders. */
static void tell_ours(Client *client, Progress *progress, GVariant *details)
{
    g_autoptr(GVariant) conflicts =
        g_variant_lookup_value(details, "conflicts", G_VARIANT_TYPE("aq"));

    if (!conflicts)
        return;
    progress->conflicts = conflicts;
    client_wait(client, SIGNALS_MSEC, all_heard, progress);
    for (gsize i = 0; i < g_variant_n_children(conflicts); i++) {
        guint16 port;

        g_variant_get_child(conflicts, i, "q", &port);
        tell_conflict(progress, port, g_hash_table_lookup(progress->heard, GUINT_TO_POINTER(port)));
    }
}

static GVariant *call(Client *client, const Arguments *args, GrantKind kind, GVariantDict *options,
                      GArray *fds, GError **error)
{
    const char *type = arguments_operand(args, 0);
    GVariant *dict = g_variant_dict_end(options);

    switch (kind) {
    case GRANT_SOCKET:
        return client_call(client, "AllocateSocket", g_variant_new("(s@a{sv})", type, dict),
                           CLIENT_CALL_SLOW, fds, error);
    case GRANT_BLOCK:
        return client_call(client, "AllocateBlock",
                           g_variant_new("(sq@a{sv})", type, (guint16)args->count, dict),
                           CLIENT_CALL_SLOW, NULL, error);
    default:
        return client_call(client, "Allocate", g_variant_new("(s@a{sv})", type, dict),
                           CLIENT_CALL_SLOW, NULL, error);
    }
}

static GVariant *one_lease(guint16 port, const char *lease)
{
    GVariant *pair = g_variant_new("(qs)", port, lease);

    return g_variant_ref_sink(g_variant_new_array(NULL, &pair, 1));
}

/* FALSE where the answer has the right type and still no lease or socket in it. */
static gboolean read_reply(GVariant *reply, GrantKind kind, GArray *fds, Grant *grant)
{
    const char *lease;
    guint16 port;
    gint32 index = 0;

    if (kind == GRANT_BLOCK) {
        g_variant_get(reply, "(@a(qs)@a{sv})", &grant->leases, &grant->details);
        return g_variant_n_children(grant->leases) > 0;
    }
    if (kind == GRANT_SOCKET)
        g_variant_get(reply, "(q&sh@a{sv})", &port, &lease, &index, &grant->details);
    else
        g_variant_get(reply, "(q&s@a{sv})", &port, &lease, &grant->details);
    grant->leases = one_lease(port, lease);
    if (kind == GRANT_SOCKET)
        grant->socket = fd_steal(&g_array_index(fds, int, index));
    return TRUE;
}

static void close_fd(gpointer data)
{
    (void)fd_close(*(int *)data);
}

gboolean grant_request(Client *client, const Arguments *args, GrantKind kind, GVariantDict *options,
                       Grant *ret_grant, GError **error)
{
    g_autoptr(GVariantDict) dict = options;
    g_autoptr(GArray) fds = g_array_new(FALSE, FALSE, sizeof(int));
    g_autoptr(GHashTable) told = g_hash_table_new(NULL, NULL);
    g_autoptr(GHashTable) heard =
        g_hash_table_new_full(NULL, NULL, NULL, (GDestroyNotify)g_variant_unref);
    Progress progress = {.service_type = arguments_operand(args, 0),
                         .started_usec = g_get_monotonic_time(),
                         .heard = heard,
                         .told = told};
    g_autoptr(GVariant) reply = NULL;
    g_auto(Grant) grant = GRANT_INIT;
    gboolean watching;

    g_array_set_clear_func(fds, close_fd);
    /* without the signals only the telling suffers, and where the daemon is gone the call says so
     */
    watching = !arguments_has(args, OPTION_QUIET) && client_add_match(client, CONFLICTS, NULL);
    client_set_signal_handler(client, watching ? on_signal : NULL, &progress);
    reply = call(client, args, kind, dict, fds, error);
    if (!reply) {
        client_set_signal_handler(client, NULL, NULL);
        return FALSE;
    }
    if (!read_reply(reply, kind, fds, &grant)) {
        client_set_signal_handler(client, NULL, NULL);
        g_set_error(error, CLI_ERROR, EXIT_STATUS_FAILED, _("the daemon granted nothing"));
        return FALSE;
    }
    if (watching)
        tell_ours(client, &progress, grant.details);
    client_set_signal_handler(client, NULL, NULL);
    *ret_grant = grant;
    grant = (Grant)GRANT_INIT;
    return TRUE;
}

void grant_unwatch(Client *client, const Arguments *args)
{
    if (!arguments_has(args, OPTION_QUIET))
        client_remove_match(client, CONFLICTS);
}
