/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "bus/ports-methods.h"

#include <errno.h>

#include "bus/authority.h"
#include "bus/bulk.h"
#include "bus/encode.h"
#include "bus/errors.h"
#include "bus/lookup.h"
#include "bus/options.h"
#include "bus/sd-bus-auto.h"

/* Leases written, and leases looked at, in one portion of a list. */
#define PORTION_WRITTEN 100
#define PORTION_SEEN 4000
#define SUGGEST_MAX 1000

static LeaseHealth health_of(const Manager *manager, const Lease *lease)
{
    return (LeaseHealth){.checked_usec = manager_health_checked_usec(manager),
                         .reason = manager_health_reason(manager, lease)};
}

int ports_get_lease(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
    Connection *connection = userdata;
    g_autoptr(sd_bus_message) reply = NULL;
    g_autoptr(GError) refusal = NULL;
    const Lease *lease = lookup_lease_of_message(connection->context->manager, m, &refusal);
    LeaseHealth health;
    int r;

    if (!lease)
        return bus_error_set_gerror(error, refusal);
    health = health_of(connection->context->manager, lease);
    r = sd_bus_message_new_method_return(m, &reply);
    if (r >= 0)
        r = encode_lease(reply, lease, &health, authority_may_see(connection->current, lease->uid));
    return r < 0 ? r : sd_bus_send(connection->bus, reply, NULL);
}

/* ---- List ---- */

typedef struct Listing {
    sd_bus_message *message; /* owned: the strings of the filter are its */
    LeaseFilter filter;
    guint32 cursor;
} Listing;

static void listing_free(void *data)
{
    Listing *listing = data;

    sd_bus_message_unref(listing->message);
    g_free(listing);
}

static gboolean matches(const LeaseFilter *filter, const Lease *lease)
{
    return (!filter->service_type || g_strcmp0(filter->service_type, lease->service_type) == 0) &&
           (!filter->instance || g_strcmp0(filter->instance, lease->instance) == 0) &&
           (!filter->has_uid || filter->uid == lease->uid) &&
           (!filter->protocol || (filter->protocol & lease->protocol)) &&
           (!filter->has_health || filter->health == lease->health) &&
           (!port_range_is_set(filter->range) || port_range_contains(filter->range, lease->port));
}

static int list_step(sd_bus_message *reply, const Call *call, size_t *bytes, void *state)
{
    const Registry *registry = manager_registry(call->context->manager);
    Listing *listing = state;
    guint written = 0;

    for (guint seen = 0; seen < PORTION_SEEN && written < PORTION_WRITTEN; seen++) {
        const Lease *lease = registry_next_port(registry, &listing->cursor);
        LeaseHealth health;
        int r;

        if (!lease)
            return 0;
        if (!matches(&listing->filter, lease))
            continue;
        health = health_of(call->context->manager, lease);
        r = encode_lease(reply, lease, &health, authority_may_see(call->caller, lease->uid));
        if (r < 0)
            return r;
        *bytes += encode_lease_bytes(lease, &health);
        written++;
    }
    return 1;
}

int ports_list(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
    Connection *connection = userdata;
    g_autoptr(sd_bus_message) reply = NULL;
    g_autoptr(GError) refusal = NULL;
    LeaseFilter filter;
    Listing *listing = NULL;
    Call *call = NULL;
    int r;

    if (!options_parse_filter(m, &filter, &refusal))
        return bus_error_set_gerror(error, refusal);
    r = sd_bus_message_new_method_return(m, &reply);
    if (r >= 0)
        r = sd_bus_message_open_container(reply, SD_BUS_TYPE_ARRAY, "a{sv}");
    if (r < 0)
        return r;
    call = call_new(connection, m, error);
    if (!call)
        return -EDQUOT;
    listing = g_new0(Listing, 1);
    listing->message = sd_bus_message_ref(m);
    listing->filter = filter;
    if (!bulk_start(connection->context->bulk, call, reply, list_step, listing, listing_free,
                    &refusal))
        call_refuse(call, refusal);
    return 1;
}

/* ---- Suggest ---- */

int ports_suggest(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
    Connection *connection = userdata;
    g_autoptr(sd_bus_message) reply = NULL;
    g_autoptr(GArray) ports = NULL;
    g_autoptr(GError) refusal = NULL;
    const char *service_type = NULL;
    guint32 count = 0;
    int r = sd_bus_message_read(m, "su", &service_type, &count);

    if (r < 0)
        return r;
    if (!options_check_service_type(service_type, &refusal))
        return bus_error_set_gerror(error, refusal);
    if (count == 0 || count > SUGGEST_MAX)
        return bus_error_set(error, OUTCOME_INVALID_ARGUMENT,
                             "%u ports cannot be suggested (1 to %d)", count, SUGGEST_MAX);
    ports = registry_suggest(manager_registry_mutable(connection->context->manager), service_type,
                             connection->current->uid, count, g_get_monotonic_time(), &refusal);
    if (!ports)
        return bus_error_set_gerror(error, refusal);
    r = sd_bus_message_new_method_return(m, &reply);
    if (r >= 0)
        r = sd_bus_message_append_array(reply, SD_BUS_TYPE_UINT16, ports->data,
                                        ports->len * sizeof(guint16));
    return r < 0 ? r : sd_bus_send(connection->bus, reply, NULL);
}
