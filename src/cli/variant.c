/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "cli/variant.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

/* D-Bus allows 32 arrays in 32 structures, and variants besides; 64 is its limit for all of them.
 */
#define DEPTH_MAX 64

static int append_value(sd_bus_message *message, GVariant *value);

static int append_basic(sd_bus_message *message, GVariant *value)
{
    char type = g_variant_get_type_string(value)[0];

    switch (type) {
    case 's':
    case 'o':
    case 'g':
        return sd_bus_message_append_basic(message, type, g_variant_get_string(value, NULL));
    case 'b': {
        int truth = g_variant_get_boolean(value);

        return sd_bus_message_append_basic(message, type, &truth);
    }
    case 'h':
        return -EOPNOTSUPP;
    default:
        return sd_bus_message_append_basic(message, type, g_variant_get_data(value));
    }
}

static int append_members(sd_bus_message *message, GVariant *container)
{
    for (gsize i = 0; i < g_variant_n_children(container); i++) {
        g_autoptr(GVariant) child = g_variant_get_child_value(container, i);
        int r = append_value(message, child);

        if (r < 0)
            return r;
    }
    return 0;
}

/* The signature inside a container: "a{sv}" -> "{sv}", "(qq)" -> "qq", "v" -> that of its value. */
static char *inner_signature(GVariant *value)
{
    const char *type = g_variant_get_type_string(value);

    if (type[0] == 'v') {
        g_autoptr(GVariant) child = g_variant_get_variant(value);

        return g_strdup(g_variant_get_type_string(child));
    }
    if (type[0] == 'a')
        return g_strdup(type + 1);
    return g_strndup(type + 1, strlen(type) - 2);
}

static int append_value(sd_bus_message *message, GVariant *value)
{
    g_autofree char *inner = NULL;
    char kind = g_variant_get_type_string(value)[0];
    int r;

    if (!g_variant_is_container(value))
        return append_basic(message, value);
    inner = inner_signature(value);
    if (kind == '(')
        kind = 'r';
    else if (kind == '{')
        kind = 'e';
    r = sd_bus_message_open_container(message, kind, inner);
    if (r < 0)
        return r;
    r = append_members(message, value);
    if (r < 0)
        return r;
    return sd_bus_message_close_container(message);
}

int variant_append(sd_bus_message *message, GVariant *tuple)
{
    return append_members(message, tuple);
}

static int read_value(sd_bus_message *message, GArray *fds, guint depth, GVariant **ret_value);

static int read_fd(sd_bus_message *message, GArray *fds, GVariant **ret_value)
{
    int fd, copy, r;

    if (!fds)
        return -EBADMSG;
    r = sd_bus_message_read_basic(message, 'h', &fd);
    if (r < 0)
        return r;
    copy = fcntl(fd, F_DUPFD_CLOEXEC, 3);
    if (copy < 0)
        return -errno;
    g_array_append_val(fds, copy);
    *ret_value = g_variant_new_handle((gint32)fds->len - 1);
    return 0;
}

static int read_basic(sd_bus_message *message, char type, GVariant **ret_value)
{
    union {
        guint8 y;
        int b;
        gint16 n;
        guint16 q;
        gint32 i;
        guint32 u;
        gint64 x;
        guint64 t;
        double d;
        const char *s;
    } v;
    int r = sd_bus_message_read_basic(message, type, &v);

    if (r < 0)
        return r;
    switch (type) {
    case 'y':
        *ret_value = g_variant_new_byte(v.y);
        return 0;
    case 'b':
        *ret_value = g_variant_new_boolean(v.b);
        return 0;
    case 'n':
        *ret_value = g_variant_new_int16(v.n);
        return 0;
    case 'q':
        *ret_value = g_variant_new_uint16(v.q);
        return 0;
    case 'i':
        *ret_value = g_variant_new_int32(v.i);
        return 0;
    case 'u':
        *ret_value = g_variant_new_uint32(v.u);
        return 0;
    case 'x':
        *ret_value = g_variant_new_int64(v.x);
        return 0;
    case 't':
        *ret_value = g_variant_new_uint64(v.t);
        return 0;
    case 'd':
        *ret_value = g_variant_new_double(v.d);
        return 0;
    case 's':
        *ret_value = g_variant_new_string(v.s);
        return 0;
    case 'o':
        *ret_value = g_variant_new_object_path(v.s);
        return 0;
    case 'g':
        *ret_value = g_variant_new_signature(v.s);
        return 0;
    default:
        return -EBADMSG;
    }
}

/* The GVariant type of a container, from what sd_bus_message_peek_type() says of it. */
static GVariantType *container_type(char kind, const char *contents)
{
    g_autofree char *text = NULL;

    switch (kind) {
    case 'a':
        text = g_strconcat("a", contents, NULL);
        break;
    case 'r':
        text = g_strconcat("(", contents, ")", NULL);
        break;
    case 'e':
        text = g_strconcat("{", contents, "}", NULL);
        break;
    default:
        text = g_strdup("v");
        break;
    }
    return g_variant_type_new(text);
}

static int read_members(sd_bus_message *message, GArray *fds, guint depth, GVariantBuilder *builder)
{
    for (;;) {
        GVariant *child = NULL;
        int r = sd_bus_message_at_end(message, FALSE);

        if (r != 0)
            return MIN(r, 0);
        r = read_value(message, fds, depth, &child);
        if (r < 0)
            return r;
        g_variant_builder_add_value(builder, child);
    }
}

static int read_value(sd_bus_message *message, GArray *fds, guint depth, GVariant **ret_value)
{
    g_autoptr(GVariantType) type = NULL;
    g_auto(GVariantBuilder) builder = {0};
    const char *contents = NULL;
    char kind = 0;
    int r = sd_bus_message_peek_type(message, &kind, &contents);

    if (r <= 0)
        return r < 0 ? r : -EBADMSG;
    if (kind == 'h')
        return read_fd(message, fds, ret_value);
    if (!strchr("arev", kind))
        return read_basic(message, kind, ret_value);
    if (depth >= DEPTH_MAX)
        return -EBADMSG;

    type = container_type(kind, contents);
    g_variant_builder_init(&builder, type);
    r = sd_bus_message_enter_container(message, kind, contents);
    if (r < 0)
        return r;
    r = read_members(message, fds, depth + 1, &builder);
    if (r < 0)
        return r;
    r = sd_bus_message_exit_container(message);
    if (r < 0)
        return r;
    *ret_value = g_variant_builder_end(&builder);
    return 0;
}

int variant_read(sd_bus_message *message, GArray *fds, GVariant **ret_value)
{
    g_auto(GVariantBuilder) builder = G_VARIANT_BUILDER_INIT(G_VARIANT_TYPE_TUPLE);
    int r = read_members(message, fds, 0, &builder);

    if (r < 0)
        return r;
    *ret_value = g_variant_ref_sink(g_variant_builder_end(&builder));
    return 0;
}
