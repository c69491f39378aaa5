/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "bus/ports-methods.h"

#include <errno.h>

#include "bus/bulk.h"
#include "bus/encode.h"
#include "bus/errors.h"
#include "bus/lookup.h"
#include "bus/sd-bus-auto.h"
#include "probe/socket-table.h"

/* Sockets written in one portion of a scan; each may have to be asked for its unit. */
#define PORTION 50
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

static int reply_check(sd_bus_message *m, const Lease *lease, const SocketEntry *entry)
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
    return r < 0 ? r : sd_bus_send(NULL, reply, NULL);
}

/* Never binds: a port that is asked about may be about to be used by its rightful service. */
int ports_check_port(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
    Connection *connection = userdata;
    g_autoptr(SocketTable) table = NULL;
    g_autoptr(GError) refusal = NULL;
    const Lease *lease = NULL;
    Protocol protocol;
    guint16 port;

    if (!lookup_read_port(m, &port, &protocol, &refusal))
        return bus_error_set_gerror(error, refusal);
    lease = registry_find_port(manager_registry(connection->context->manager), port, protocol);
    if (lease)
        return reply_check(m, lease, NULL);
    table = socket_table_dump((PortRange){port, port}, protocol, &refusal);
    if (!table)
        return bus_error_set_gerror(error, refusal);
    return reply_check(m, NULL, socket_table_find(table, port, protocol));
}

/* ---- Scan ---- */

typedef struct Scanning {
    SocketTable *table; /* owned */
    guint next;
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
        if (!entry->listening) /* bound only: nobody can be reached there */
            continue;
        r = encode_socket(reply, registry, entry);
        if (r < 0)
            return r;
        *bytes += ENTRY_BYTES_MAX;
    }
    return 1;
}

int ports_scan(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
    Connection *connection = userdata;
    g_autoptr(SocketTable) table = NULL;
    g_autoptr(sd_bus_message) reply = NULL;
    g_autoptr(GError) refusal = NULL;
    Scanning *scanning = NULL;
    Call *call = NULL;
    PortRange range;
    int r = sd_bus_message_read(m, "qq", &range.first, &range.last);

    if (r < 0)
        return r;
    if (!port_range_is_valid(range))
        return bus_error_set(error, OUTCOME_INVALID_ARGUMENT,
                             "%u to %u is not a range of ports (1 to 65535)", range.first,
                             range.last);
    table = socket_table_dump(range, PROTOCOL_BOTH, &refusal);
    if (!table)
        return bus_error_set_gerror(error, refusal);
    r = sd_bus_message_new_method_return(m, &reply);
    if (r >= 0)
        r = sd_bus_message_open_container(reply, SD_BUS_TYPE_ARRAY, "a{sv}");
    if (r < 0)
        return r;
    call = call_new(connection, m, error);
    if (!call)
        return -EDQUOT;
    scanning = g_new0(Scanning, 1);
    scanning->table = g_steal_pointer(&table);
    if (!bulk_start(connection->context->bulk, call, reply, scan_step, scanning, scanning_free,
                    &refusal))
        call_refuse(call, refusal);
    return 1;
}
