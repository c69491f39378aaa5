/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "bus/ports-methods.h"

#include "bus/encode.h"

#define DEFINE_GETTER(name)                                                              \
    int name(sd_bus *bus, const char *path, const char *interface, const char *property, \
             sd_bus_message *reply, void *userdata, sd_bus_error *error)

static Manager *manager_of(void *userdata)
{
    return ((Connection *)userdata)->context->manager;
}

DEFINE_GETTER(ports_get_version)
{
    return sd_bus_message_append(reply, "s", STYXY_VERSION);
}

DEFINE_GETTER(ports_get_state)
{
    return sd_bus_message_append(
        reply, "s", manager_state_to_string(manager_state(manager_of(userdata), NULL)));
}

DEFINE_GETTER(ports_get_state_reason)
{
    const char *reason = NULL;

    (void)manager_state(manager_of(userdata), &reason);
    return sd_bus_message_append(reply, "s", reason ? reason : "");
}

DEFINE_GETTER(ports_get_lease_count)
{
    return sd_bus_message_append(reply, "u",
                                 registry_count(manager_registry(manager_of(userdata))));
}

static int encode_range(sd_bus_message *m, const char *key, PortRange range)
{
    return sd_bus_message_append(m, "{sv}", key, "(qq)", range.first, range.last);
}

static int encode_service_type(sd_bus_message *m, const ServiceType *type)
{
    GArray preferred = {.data = (char *)type->preferred_ports,
                        .len = (guint)type->n_preferred_ports};
    int r = sd_bus_message_open_container(m, SD_BUS_TYPE_DICT_ENTRY, "sa{sv}");

    if (r >= 0)
        r = sd_bus_message_append_basic(m, SD_BUS_TYPE_STRING, type->name);
    if (r >= 0)
        r = sd_bus_message_open_container(m, SD_BUS_TYPE_ARRAY, "{sv}");
    if (r >= 0)
        r = encode_entry_string(m, "description", type->description);
    if (r >= 0 && preferred.len > 0)
        r = encode_entry_ports(m, "preferred_ports", &preferred);
    if (r >= 0)
        r = encode_range(m, "port_range", type->range);
    if (r >= 0)
        r = encode_entry_string(m, "protocol", protocol_to_string(type->protocol));
    if (r >= 0)
        r = encode_entry_string(m, "instance_behavior", type->single ? "single" : "multi");
    if (r >= 0)
        r = sd_bus_message_close_container(m);
    return r < 0 ? r : sd_bus_message_close_container(m);
}

DEFINE_GETTER(ports_get_service_types)
{
    const GPtrArray *types = manager_configuration(manager_of(userdata))->service_types;
    int r = sd_bus_message_open_container(reply, SD_BUS_TYPE_ARRAY, "{sa{sv}}");

    for (guint i = 0; r >= 0 && i < types->len; i++)
        r = encode_service_type(reply, types->pdata[i]);
    return r < 0 ? r : sd_bus_message_close_container(reply);
}

DEFINE_GETTER(ports_get_auto_allocation)
{
    const Configuration *config = manager_configuration(manager_of(userdata));
    int r = sd_bus_message_open_container(reply, SD_BUS_TYPE_ARRAY, "{sv}");

    if (r >= 0 && config->auto_enabled)
        r = encode_range(reply, "port_range", config->auto_range);
    if (r >= 0 && config->auto_enabled)
        r = encode_entry_u32(reply, "chunk_size", config->auto_chunk_size);
    return r < 0 ? r : sd_bus_message_close_container(reply);
}

DEFINE_GETTER(ports_get_config_files)
{
    return sd_bus_message_append_strv(reply, manager_configuration(manager_of(userdata))->files);
}
