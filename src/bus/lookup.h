/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>
#include <systemd/sd-bus.h>

#include "recovery/manager.h"

/*
 * What several methods read from a message in the same way. Errors are in OUTCOME_ERROR.
 */

/**
 * lookup_lease_of_message: the living lease that the first argument (s) of @m names. Starts to read
 * at the beginning.
 * Returns: (transfer none): or NULL with OUTCOME_INVALID_ARGUMENT (not a lease id) or
 *     OUTCOME_UNKNOWN_LEASE.
 */
Lease *lookup_lease_of_message(Manager *manager, sd_bus_message *m, GError **error);

/** lookup_read_port: reads "qs", a port and a protocol. FALSE with OUTCOME_INVALID_ARGUMENT. */
gboolean lookup_read_port(sd_bus_message *m, guint16 *ret_port, Protocol *ret_protocol,
                          GError **error);
