/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "cli/lease-view.h"

#include <glib/gi18n.h>
#include <pwd.h>
#include <stdio.h>
#include <string.h>

#include "cli/text.h"

const char *dict_string(GVariant *dict, const char *key)
{
    const char *text = NULL;

    /* the text stays valid with the dictionary, which holds it in serialised form */
    return g_variant_lookup(dict, key, "&s", &text) ? text : NULL;
}

guint64 dict_number(GVariant *dict, const char *key)
{
    g_autoptr(GVariant) value = g_variant_lookup_value(dict, key, NULL);

    if (!value)
        return 0;
    switch (g_variant_get_type_string(value)[0]) {
    case 'b':
        return g_variant_get_boolean(value);
    case 'y':
        return g_variant_get_byte(value);
    case 'q':
        return g_variant_get_uint16(value);
    case 'u':
        return g_variant_get_uint32(value);
    case 't':
        return g_variant_get_uint64(value);
    default:
        return 0;
    }
}

gboolean dict_has(GVariant *dict, const char *key)
{
    g_autoptr(GVariant) value = g_variant_lookup_value(dict, key, NULL);

    return value != NULL;
}

void dict_add(GVariantBuilder *dict, const char *key, GVariant *value)
{
    g_variant_builder_add(dict, "{sv}", key, value);
}

char *user_name(uid_t uid)
{
    const struct passwd *entry = getpwuid(uid);

    return entry ? g_strdup(entry->pw_name) : g_strdup_printf("%u", uid);
}

const char *health_colour(const char *health)
{
    if (g_strcmp0(health, "active") == 0)
        return output_colour(COLOUR_GOOD);
    if (g_strcmp0(health, "failing") == 0)
        return output_colour(COLOUR_BAD);
    if (g_strcmp0(health, "quarantined") == 0)
        return output_colour(COLOUR_DOUBT);
    return output_colour(COLOUR_FAINT);
}

static void append_value(GString *text, GVariant *value)
{
    const char *type = g_variant_get_type_string(value);

    if (type[0] == 'v') {
        g_autoptr(GVariant) inner = g_variant_get_variant(value);

        append_value(text, inner);
    } else if (type[0] == 's' || type[0] == 'o') {
        g_autofree char *clean = text_clean(g_variant_get_string(value, NULL));

        g_string_append(text, clean);
    } else if (type[0] == 'b') {
        g_string_append(text, g_variant_get_boolean(value) ? _("yes") : _("no"));
    } else if (!g_variant_is_container(value)) {
        g_autofree char *printed = g_variant_print(value, FALSE);

        g_string_append(text, printed);
    } else {
        const char *gap = type[0] == '{' ? "=" : type[0] == '(' ? " " : ", ";

        for (gsize i = 0; i < g_variant_n_children(value); i++) {
            g_autoptr(GVariant) child = g_variant_get_child_value(value, i);

            if (i > 0)
                g_string_append(text, gap);
            append_value(text, child);
        }
    }
}

char *value_to_text(GVariant *value)
{
    GString *text = g_string_new(NULL);

    append_value(text, value);
    return g_string_free(text, FALSE);
}

static char *readable(const char *key, GVariant *value)
{
    if (g_str_equal(key, "duration_usec") && g_variant_is_of_type(value, G_VARIANT_TYPE_UINT64))
        return text_duration(g_variant_get_uint64(value));
    if (g_str_has_suffix(key, "_usec") && g_variant_is_of_type(value, G_VARIANT_TYPE_UINT64) &&
        g_variant_get_uint64(value) > 0) {
        gint64 usec = (gint64)g_variant_get_uint64(value);
        gint64 distance = g_get_real_time() - usec;
        g_autofree char *time = text_time(usec);
        g_autofree char *ago = text_ago(ABS(distance));

        return g_strdup_printf(distance >= 0 ? _("%s (%s ago)") : _("%s (in %s)"), time, ago);
    }
    if (g_str_equal(key, "uid") && g_variant_is_of_type(value, G_VARIANT_TYPE_UINT32)) {
        guint32 uid = g_variant_get_uint32(value);
        g_autofree char *name = user_name(uid);

        return g_strdup_printf("%u (%s)", uid, name);
    }
    return value_to_text(value);
}

char *dict_to_line(GVariant *dict)
{
    GString *line = g_string_new(NULL);
    GVariantIter iter;
    const char *key;
    GVariant *value;

    g_variant_iter_init(&iter, dict);
    while (g_variant_iter_loop(&iter, "{&sv}", &key, &value)) {
        g_autofree char *text = readable(key, value);

        if (*text)
            g_string_append_printf(line, "%s%s=%s", line->len > 0 ? ", " : "", key, text);
    }
    return g_string_free(line, FALSE);
}

void print_dict(GVariant *dict)
{
    GVariantIter iter;
    const char *key;
    GVariant *value;
    guint width = 0;

    g_variant_iter_init(&iter, dict);
    while (g_variant_iter_loop(&iter, "{&sv}", &key, &value))
        width = MAX(width, text_width(key));
    g_variant_iter_init(&iter, dict);
    while (g_variant_iter_loop(&iter, "{&sv}", &key, &value)) {
        g_autofree char *text = readable(key, value);

        printf("%*s%s: %s\n", (int)(width - text_width(key)), "", key, text);
    }
}

gboolean lease_ref_read(const Arguments *args, const char *text, LeaseRef *ret_ref, GError **error)
{
    LeaseRef ref;

    if (!lease_ref_parse(text, &ref)) {
        g_set_error(error, CLI_ERROR, EXIT_STATUS_USAGE,
                    _("'%s' is neither a port (1 to 65535, '/tcp' or '/udp' behind it if need be) "
                      "nor a lease (%d hexadecimal digits)"),
                    text, ID_LENGTH);
        return FALSE;
    }
    if (ref.port && !ref.protocol && arguments_has(args, OPTION_PROTOCOL))
        ref.protocol = args->protocol;
    *ret_ref = ref;
    return TRUE;
}

static GVariant *find_by_port(Client *client, const LeaseRef *ref, GError **error)
{
    g_auto(GVariantBuilder) filter = G_VARIANT_BUILDER_INIT(G_VARIANT_TYPE_VARDICT);
    g_autoptr(GVariant) reply = NULL;
    g_autoptr(GVariant) leases = NULL;
    g_autoptr(GVariant) found = NULL;

    dict_add(&filter, "range", g_variant_new("(qq)", ref->port, ref->port));
    if (ref->protocol)
        dict_add(&filter, "protocol", g_variant_new("s", protocol_to_string(ref->protocol)));
    reply = client_call(client, "List", g_variant_new("(@a{sv})", g_variant_builder_end(&filter)),
                        CLIENT_CALL_NONE, NULL, error);
    if (!reply)
        return NULL;
    leases = g_variant_get_child_value(reply, 0);
    for (gsize i = 0; i < g_variant_n_children(leases); i++) {
        g_autoptr(GVariant) lease = g_variant_get_child_value(leases, i);

        if (dict_number(lease, "port") != ref->port ||
            (found && g_strcmp0(dict_string(lease, "protocol"), "tcp") != 0))
            continue;
        g_clear_pointer(&found, g_variant_unref);
        found = g_steal_pointer(&lease);
    }
    if (!found) {
        g_set_error(error, CLI_ERROR, EXIT_STATUS_NOT_FOUND,
                    _("there is no lease on port %u%s%s; 'styxyctl check %u' tells who uses it"),
                    ref->port, ref->protocol ? "/" : "",
                    ref->protocol ? protocol_to_string(ref->protocol) : "", ref->port);
        return NULL;
    }
    return g_steal_pointer(&found);
}

GVariant *lease_find(Client *client, const LeaseRef *ref, GError **error)
{
    g_autoptr(GVariant) reply = NULL;

    if (ref->port)
        return find_by_port(client, ref, error);
    reply = client_call(client, "GetLease", g_variant_new("(s)", ref->id.text), CLIENT_CALL_NONE,
                        NULL, error);
    return reply ? g_variant_get_child_value(reply, 0) : NULL;
}
