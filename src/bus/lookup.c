/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "bus/lookup.h"

#include "util/id.h"

static gboolean check_read(int r, GError **error)
{
    if (r > 0)
        return TRUE;
    g_set_error(error, OUTCOME_ERROR, OUTCOME_INVALID_ARGUMENT, "the arguments cannot be read: %s",
                r < 0 ? g_strerror(-r) : "too few of them");
    return FALSE;
}

Lease *lookup_lease_of_message(Manager *manager, sd_bus_message *m, GError **error)
{
    const char *id = NULL;
    Lease *lease = NULL;
    int r = sd_bus_message_rewind(m, TRUE);

    if (r >= 0)
        r = sd_bus_message_read_basic(m, SD_BUS_TYPE_STRING, &id);
    if (!check_read(r, error))
        return NULL;
    if (!id_is_valid(id)) {
        g_set_error(error, OUTCOME_ERROR, OUTCOME_INVALID_ARGUMENT,
                    "a lease is %d lower-case hexadecimal digits", ID_LENGTH);
        return NULL;
    }
    lease = registry_find(manager_registry(manager), id);
    if (!lease)
        g_set_error(error, OUTCOME_ERROR, OUTCOME_UNKNOWN_LEASE, "no lease %s", id);
    return lease;
}

gboolean lookup_read_port(sd_bus_message *m, guint16 *ret_port, Protocol *ret_protocol,
                          GError **error)
{
    const char *text = NULL;
    Protocol protocol;
    guint16 port;

    if (!check_read(sd_bus_message_read(m, "qs", &port, &text), error))
        return FALSE;
    if (port == 0) {
        g_set_error_literal(error, OUTCOME_ERROR, OUTCOME_INVALID_ARGUMENT,
                            "0 is not a port (1 to 65535)");
        return FALSE;
    }
    if (!protocol_from_string(text, &protocol)) {
        g_set_error_literal(error, OUTCOME_ERROR, OUTCOME_INVALID_ARGUMENT,
                            "a protocol is 'tcp', 'udp' or 'both'");
        return FALSE;
    }
    *ret_port = port;
    *ret_protocol = protocol;
    return TRUE;
}
