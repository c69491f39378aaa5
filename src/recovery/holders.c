/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "recovery/holders.h"

/* Ports named in the message of a refusal; the signals tell of each. */
#define PORTS_IN_MESSAGE 10

SocketTable *holders_picture(const GArray *ports)
{
    PortRange range = {G_MAXUINT16, 1};

    for (guint i = 0; i < ports->len; i++) {
        guint16 port = g_array_index(ports, guint16, i);

        range.first = MIN(range.first, port);
        range.last = MAX(range.last, port);
    }
    return socket_table_dump(range, PROTOCOL_BOTH, NULL);
}

const SocketEntry *holders_find(const SocketTable *table, guint16 port, Protocol protocol)
{
    const SocketEntry *entry = NULL;

    if (table && protocol & PROTOCOL_TCP)
        entry = socket_table_find(table, port, PROTOCOL_TCP);
    if (table && !entry && protocol & PROTOCOL_UDP)
        entry = socket_table_find(table, port, PROTOCOL_UDP);
    return entry;
}

char *holders_describe(const SocketTable *table, guint16 port, Protocol protocol)
{
    const SocketEntry *holder = holders_find(table, port, protocol);
    g_autofree char *address = holder ? socket_entry_address(holder) : NULL;
    g_autofree char *unit = holder ? socket_entry_unit(holder) : NULL;

    if (!holder)
        return g_strdup("a process that the kernel does not name");
    return g_strdup_printf("uid %u%s%s, address %s", holder->uid, unit ? ", unit " : "",
                           unit ? unit : "", address);
}

char *holders_list(const GArray *ports, Protocol protocol)
{
    g_autoptr(SocketTable) table = ports->len > 0 ? holders_picture(ports) : NULL;
    GString *text = g_string_new(NULL);

    for (guint i = 0; i < ports->len && i < PORTS_IN_MESSAGE; i++) {
        guint16 port = g_array_index(ports, guint16, i);
        g_autofree char *holder = holders_describe(table, port, protocol);

        g_string_append_printf(text, "%s%u (%s)", i > 0 ? ", " : "", port, holder);
    }
    if (ports->len > PORTS_IN_MESSAGE)
        g_string_append_printf(text, " and %u more", ports->len - PORTS_IN_MESSAGE);
    return g_string_free(text, FALSE);
}
