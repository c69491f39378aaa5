/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "bus/ports-methods.h"

#include <errno.h>

#include "bus/bulk.h"
#include "bus/encode.h"
#include "bus/errors.h"
#include "bus/lookup.h"
#include "bus/pictures.h"
#include "bus/sd-bus-auto.h"

/* Sockets written in one portion of a scan; each may have to be asked for its unit. */
#define PORTION 50
/* Scans of a user that wait, each with its table: megabytes on a machine with tens of thousands. */
#define SCANS_OF_USER_MAX 32
/* Bytes that a socket takes in a message, at most, without its texts. */
#define ENTRY_BYTES_MAX 256

/* What is told of a socket that the kernel knows. */
static int encode_holder(sd_bus_message *m, const SocketEntry *entry)
{
    g_autofree char *address = socket_entry_address(entry);
    g_autofree char *unit = socket_entry_unit(entry, NULL);
    int r = encode_entry_string(m, "protocol", protocol_to_string(entry->protocol));

    if (r >= 0)
        r = encode_entry_string(m, "address", address);
    if (r >= 0)
        r = encode_entry_u32(m, "uid", entry->uid);
    return r < 0 ? r : encode_entry_string(m, "unit", unit);
}

static void refuse_unwritten(Call *call)
{
    g_autoptr(GError) error =
        g_error_new_literal(OUTCOME_ERROR, OUTCOME_BUSY, "the answer could not be put together");

    call_refuse(call, error);
}

/* ---- CheckPort ---- */

static int encode_leaseholder(sd_bus_message *m, const Lease *lease)
{
    int r = encode_entry_string(m, "lease", lease->id.text);

    if (r >= 0)
        r = encode_entry_string(m, "service_type", lease->service_type);
    if (r >= 0)
        r = encode_entry_string(m, "protocol", protocol_to_string(lease->protocol));
    if (r >= 0)
        r = encode_entry_string(m, "address", lease->address);
    if (r >= 0)
        r = encode_entry_u32(m, "uid", lease->uid);
    return r < 0 ? r : encode_entry_string(m, "unit", lease->unit);
}

static int check_reply(sd_bus_message *m, const Lease *lease, const SocketEntry *entry,
                       sd_bus_message **ret_reply)
{
    g_autoptr(sd_bus_message) reply = NULL;
    int r = sd_bus_message_new_method_return(m, &reply);

    if (r >= 0)
        r = sd_bus_message_append(reply, "b", !lease && !entry);
    if (r >= 0)
        r = sd_bus_message_open_container(reply, SD_BUS_TYPE_ARRAY, "{sv}");
    if (r >= 0 && lease)
        r = encode_leaseholder(reply, lease);
    else if (r >= 0 && entry)
        r = encode_holder(reply, entry);
    if (r >= 0)
        r = sd_bus_message_close_container(reply);
    if (r >= 0)
        *ret_reply = g_steal_pointer(&reply);
    return r;
}

/* The answer, once it is known who has sockets there. A lease may have been given meanwhile. */
static void check_seen(Call *call, const PictureWish *wish, SocketTable *table, const GError *error)
{
    g_autoptr(sd_bus_message) reply = NULL;
    const Registry *registry = manager_registry(call->context->manager);
    guint16 port = wish->range.first;
    const Lease *lease = registry_find_port(registry, port, wish->protocol);
    const SocketEntry *entry = NULL;

    if (!lease && error) {
        call_refuse(call, error);
        return;
    }
    if (!lease)
        entry = socket_table_find(table, port, wish->protocol);
    if (check_reply(call->message, lease, entry, &reply) >= 0)
        (void)call_send(call, reply); /* a broken connection ends by itself */
    else
        refuse_unwritten(call);
}

/* Never binds: a port that is asked about may be about to be used by its rightful service. */
int ports_check_port(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
    Connection *connection = userdata;
    g_autoptr(sd_bus_message) reply = NULL;
    g_autoptr(GError) refusal = NULL;
    const Lease *lease = NULL;
    Call *call = NULL;
    Protocol protocol;
    guint16 port;
    int r;

    if (!lookup_read_port(m, &port, &protocol, &refusal))
        return bus_error_set_gerror(error, refusal);
    lease = registry_find_port(manager_registry(connection->context->manager), port, protocol);
    if (lease) {
        r = check_reply(m, lease, NULL, &reply);
        return r < 0 ? r : sd_bus_send(NULL, reply, NULL);
    }
    call = call_new(connection, m, error);
    if (!call)
        return -EDQUOT;
    pictures_ask(connection->context->pictures, call,
                 &(PictureWish){SOCKET_DEPTH_BOUND, {port, port}, protocol}, check_seen);
    return 1;
}

/* ---- Scan ---- */

typedef struct Scanning {
    SocketTable *table; /* owned reference */
    guint next;
    guint16 last; /* port */
} Scanning;

static void scanning_free(void *data)
{
    Scanning *scanning = data;

    (void)socket_table_free(scanning->table);
    g_free(scanning);
}

static int encode_socket(sd_bus_message *m, const Registry *registry, const SocketEntry *entry)
{
    const Lease *lease = registry_find_port(registry, entry->port, entry->protocol);
    int r = sd_bus_message_open_container(m, SD_BUS_TYPE_ARRAY, "{sv}");

    if (r >= 0)
        r = encode_entry_u16(m, "port", entry->port);
    if (r >= 0)
        r = encode_holder(m, entry);
    if (r >= 0 && lease)
        r = encode_entry_string(m, "lease", lease->id.text);
    if (r >= 0 && lease)
        r = encode_entry_string(m, "service_type", lease->service_type);
    return r < 0 ? r : sd_bus_message_close_container(m);
}

static int scan_step(sd_bus_message *reply, const Call *call, size_t *bytes, void *state)
{
    const Registry *registry = manager_registry(call->context->manager);
    Scanning *scanning = state;
    const GArray *entries = scanning->table->entries;

    for (guint i = 0; i < PORTION; i++) {
        const SocketEntry *entry = NULL;
        int r;

        if (scanning->next == entries->len)
            return 0;
        entry = &g_array_index(entries, SocketEntry, scanning->next++);
        if (entry->port > scanning->last) /* others asked for it */
            return 0;
        if (!entry->listening) /* bound only: nobody can be reached there */
            continue;
        r = encode_socket(reply, registry, entry);
        if (r < 0)
            return r;
        *bytes += ENTRY_BYTES_MAX;
    }
    return 1;
}

static void scan_seen(Call *call, const PictureWish *wish, SocketTable *table, const GError *error)
{
    g_autoptr(sd_bus_message) reply = NULL;
    Scanning *scanning = NULL;
    int r = 0;

    if (!error)
        r = sd_bus_message_new_method_return(call->message, &reply);
    if (!error && r >= 0)
        r = sd_bus_message_open_container(reply, SD_BUS_TYPE_ARRAY, "a{sv}");
    if (error || r < 0) {
        bulk_cancel(call->bulk);
        if (error)
            call_refuse(call, error);
        else
            refuse_unwritten(call);
        return;
    }
    scanning = g_new0(Scanning, 1);
    scanning->table = socket_table_ref(table);
    scanning->next = socket_table_from(table, wish->range.first);
    scanning->last = wish->range.last;
    bulk_fill(call->bulk, reply, scan_step, scanning, scanning_free);
}

int ports_scan(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
    Connection *connection = userdata;
    g_autoptr(GError) refusal = NULL;
    Call *call = NULL;
    PortRange range;
    int r = sd_bus_message_read(m, "qq", &range.first, &range.last);

    if (r < 0)
        return r;
    if (!port_range_is_valid(range))
        return bus_error_set(error, OUTCOME_INVALID_ARGUMENT,
                             "%u to %u is not a range of ports (1 to 65535)", range.first,
                             range.last);
    call = call_new(connection, m, error);
    if (!call)
        return -EDQUOT;
    if (bulk_hold(connection->context->bulk, call, SCANS_OF_USER_MAX, &refusal))
        pictures_ask(connection->context->pictures, call,
                     &(PictureWish){SOCKET_DEPTH_LISTENING, range, PROTOCOL_BOTH}, scan_seen);
    else
        call_refuse(call, refusal);
    return 1;
}
