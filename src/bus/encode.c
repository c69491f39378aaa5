/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "bus/encode.h"

#include <errno.h>
#include <string.h>

/*
 * Opened and closed by hand: sd_bus_message_append() reads "{sv}" and the types in it anew for each
 * entry, and a caller waits for the four of a grant.
 */
static int append_entry(sd_bus_message *m, const char *key, char type, const void *value)
{
    const char contents[] = {type, '\0'};
    int r = sd_bus_message_open_container(m, SD_BUS_TYPE_DICT_ENTRY, "sv");

    if (r >= 0)
        r = sd_bus_message_append_basic(m, SD_BUS_TYPE_STRING, key);
    if (r >= 0)
        r = sd_bus_message_open_container(m, SD_BUS_TYPE_VARIANT, contents);
    if (r >= 0)
        r = sd_bus_message_append_basic(m, type, value);
    if (r >= 0)
        r = sd_bus_message_close_container(m);
    return r < 0 ? r : sd_bus_message_close_container(m);
}

int encode_entry_string(sd_bus_message *m, const char *key, const char *text)
{
    return text ? append_entry(m, key, SD_BUS_TYPE_STRING, text) : 0;
}

int encode_entry_u32(sd_bus_message *m, const char *key, guint32 value)
{
    return append_entry(m, key, SD_BUS_TYPE_UINT32, &value);
}

int encode_entry_u16(sd_bus_message *m, const char *key, guint16 value)
{
    return append_entry(m, key, SD_BUS_TYPE_UINT16, &value);
}

int encode_entry_usec(sd_bus_message *m, const char *key, gint64 usec)
{
    return append_entry(m, key, SD_BUS_TYPE_UINT64, &usec);
}

int encode_entry_bool(sd_bus_message *m, const char *key, gboolean value)
{
    const int flag = value;

    return append_entry(m, key, SD_BUS_TYPE_BOOLEAN, &flag);
}

int encode_entry_ports(sd_bus_message *m, const char *key, const GArray *ports)
{
    int r = sd_bus_message_open_container(m, SD_BUS_TYPE_DICT_ENTRY, "sv");

    if (r >= 0)
        r = sd_bus_message_append_basic(m, SD_BUS_TYPE_STRING, key);
    if (r >= 0)
        r = sd_bus_message_open_container(m, SD_BUS_TYPE_VARIANT, "aq");
    if (r >= 0)
        r = sd_bus_message_append_array(m, SD_BUS_TYPE_UINT16, ports->data,
                                        ports->len * sizeof(guint16));
    if (r >= 0)
        r = sd_bus_message_close_container(m);
    return r < 0 ? r : sd_bus_message_close_container(m);
}

static int encode_lease_entries(sd_bus_message *m, const Lease *lease, const LeaseHealth *health,
                                gboolean private_too)
{
    int r = encode_entry_string(m, "lease", lease->id.text);

    if (r >= 0)
        r = encode_entry_u16(m, "port", lease->port);
    if (r >= 0)
        r = encode_entry_string(m, "protocol", protocol_to_string(lease->protocol));
    if (r >= 0)
        r = encode_entry_string(m, "address", lease->address);
    if (r >= 0)
        r = encode_entry_string(m, "service_type", lease->service_type);
    if (r >= 0)
        r = encode_entry_string(m, "instance", lease->instance);
    if (r >= 0 && private_too)
        r = encode_entry_string(m, "label", lease->label);
    if (r >= 0)
        r = encode_entry_u32(m, "uid", lease->uid);
    if (r >= 0 && lease->process.pid > 0)
        r = encode_entry_u32(m, "pid", (guint32)lease->process.pid);
    if (r >= 0)
        r = encode_entry_string(m, "unit", lease->unit);
    if (r >= 0)
        r = encode_entry_string(m, "lifetime", lifetime_to_string(lease->lifetime));
    if (r >= 0)
        r = encode_entry_string(m, "hold", hold_to_string(lease->hold));
    if (r >= 0)
        r = encode_entry_string(m, "health", health_to_string(lease->health));
    if (r >= 0)
        r = encode_entry_u32(m, "failures", lease->failures);
    if (r >= 0)
        r = encode_entry_usec(m, "created_usec", lease->created_usec);
    if (r >= 0 && lease->last_seen_usec > 0)
        r = encode_entry_usec(m, "last_seen_usec", lease->last_seen_usec);
    if (r >= 0 && health->checked_usec > 0)
        r = encode_entry_usec(m, "last_check_usec", health->checked_usec);
    if (r >= 0)
        r = encode_entry_string(m, "health_reason", health->reason);
    if (r >= 0 && private_too)
        r = encode_entry_string(m, "health_url", lease->health_url);
    return r;
}

int encode_lease(sd_bus_message *m, const Lease *lease, const LeaseHealth *health,
                 gboolean private_too)
{
    int r = sd_bus_message_open_container(m, SD_BUS_TYPE_ARRAY, "{sv}");

    if (r >= 0)
        r = encode_lease_entries(m, lease, health, private_too);
    return r < 0 ? r : sd_bus_message_close_container(m);
}

/* An {sv} takes: alignment to 8, length, text and NUL of the key, the signature of one type, the
 * value. */
#define ALIGN_UP(n, alignment) (((n) + (alignment)-1) / (alignment) * (alignment))
#define ENTRY_BYTES(key, value_bytes) \
    ALIGN_UP(ALIGN_UP(sizeof(guint32) + sizeof(key) + 3, (value_bytes)) + (value_bytes), (size_t)8)

static size_t text_entry_bytes(size_t key_bytes, const char *text)
{
    size_t start = ALIGN_UP(sizeof(guint32) + key_bytes + 3, sizeof(guint32));

    return text ? ALIGN_UP(start + sizeof(guint32) + strlen(text) + 1, (size_t)8) : 0;
}
#define TEXT_ENTRY_BYTES(key, text) text_entry_bytes(sizeof(key), (text))

size_t encode_lease_bytes(const Lease *lease, const LeaseHealth *health)
{
    return 8 /* length of the array */ + TEXT_ENTRY_BYTES("lease", lease->id.text) +
           ENTRY_BYTES("port", sizeof(guint16)) +
           TEXT_ENTRY_BYTES("protocol", protocol_to_string(lease->protocol)) +
           TEXT_ENTRY_BYTES("address", lease->address) +
           TEXT_ENTRY_BYTES("service_type", lease->service_type) +
           TEXT_ENTRY_BYTES("instance", lease->instance) + TEXT_ENTRY_BYTES("label", lease->label) +
           ENTRY_BYTES("uid", sizeof(guint32)) + ENTRY_BYTES("pid", sizeof(guint32)) +
           TEXT_ENTRY_BYTES("unit", lease->unit) +
           TEXT_ENTRY_BYTES("lifetime", lifetime_to_string(lease->lifetime)) +
           TEXT_ENTRY_BYTES("hold", hold_to_string(lease->hold)) +
           TEXT_ENTRY_BYTES("health", health_to_string(lease->health)) +
           ENTRY_BYTES("failures", sizeof(guint32)) + ENTRY_BYTES("created_usec", sizeof(guint64)) +
           ENTRY_BYTES("last_seen_usec", sizeof(guint64)) +
           ENTRY_BYTES("last_check_usec", sizeof(guint64)) +
           TEXT_ENTRY_BYTES("health_reason", health->reason) +
           TEXT_ENTRY_BYTES("health_url", lease->health_url);
}

static int encode_children(sd_bus_message *m, char container, const char *contents, GVariant *value)
{
    int r = sd_bus_message_open_container(m, container, contents);

    for (gsize i = 0; r >= 0 && i < g_variant_n_children(value); i++) {
        g_autoptr(GVariant) child = g_variant_get_child_value(value, i);

        r = encode_gvariant(m, child);
    }
    return r < 0 ? r : sd_bus_message_close_container(m);
}

int encode_gvariant(sd_bus_message *m, GVariant *value)
{
    const char *type = g_variant_get_type_string(value);
    g_autofree char *inner = NULL;
    int flag;

    switch (g_variant_classify(value)) {
    case G_VARIANT_CLASS_BOOLEAN:
        flag = g_variant_get_boolean(value);
        return sd_bus_message_append_basic(m, SD_BUS_TYPE_BOOLEAN, &flag);
    case G_VARIANT_CLASS_BYTE:
    case G_VARIANT_CLASS_INT16:
    case G_VARIANT_CLASS_UINT16:
    case G_VARIANT_CLASS_INT32:
    case G_VARIANT_CLASS_UINT32:
    case G_VARIANT_CLASS_INT64:
    case G_VARIANT_CLASS_UINT64:
    case G_VARIANT_CLASS_DOUBLE:
        return sd_bus_message_append_basic(m, type[0], g_variant_get_data(value));
    case G_VARIANT_CLASS_STRING:
    case G_VARIANT_CLASS_OBJECT_PATH:
    case G_VARIANT_CLASS_SIGNATURE:
        return sd_bus_message_append_basic(m, type[0], g_variant_get_string(value, NULL));
    case G_VARIANT_CLASS_VARIANT: {
        g_autoptr(GVariant) content = g_variant_get_variant(value);

        return encode_children(m, SD_BUS_TYPE_VARIANT, g_variant_get_type_string(content), value);
    }
    case G_VARIANT_CLASS_ARRAY:
        return encode_children(m, SD_BUS_TYPE_ARRAY, type + 1, value);
    case G_VARIANT_CLASS_TUPLE:
        inner = g_strndup(type + 1, strlen(type) - 2);
        return encode_children(m, SD_BUS_TYPE_STRUCT, inner, value);
    case G_VARIANT_CLASS_DICT_ENTRY:
        inner = g_strndup(type + 1, strlen(type) - 2);
        return encode_children(m, SD_BUS_TYPE_DICT_ENTRY, inner, value);
    case G_VARIANT_CLASS_HANDLE:
    case G_VARIANT_CLASS_MAYBE:
        break;
    }
    return -EOPNOTSUPP;
}
