/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>
#include <systemd/sd-bus.h>

#include "core/lease.h"

/*
 * Values as parts of a message. All return a negative errno of sd-bus, or else >= 0.
 */

/** encode_entry_*: one {sv} of an open a{sv}; a NULL text leaves it out. */
int encode_entry_string(sd_bus_message *m, const char *key, const char *text);
int encode_entry_u32(sd_bus_message *m, const char *key, guint32 value);
int encode_entry_u16(sd_bus_message *m, const char *key, guint16 value);
int encode_entry_usec(sd_bus_message *m, const char *key, gint64 usec);
int encode_entry_bool(sd_bus_message *m, const char *key, gboolean value);
/** encode_entry_ports: aq of @ports, a GArray of guint16. */
int encode_entry_ports(sd_bus_message *m, const char *key, const GArray *ports);

/** LeaseHealth: what layer 2 knows of a lease beyond the lease itself. */
typedef struct LeaseHealth {
    gint64 checked_usec; /* CLOCK_REALTIME of the last look, 0 = none yet */
    const char *reason;  /* borrowed: why it is failing, NULL while all is well */
} LeaseHealth;

/**
 * encode_lease: the a{sv} of a lease, as an element of its own; keys without a value are absent.
 * @private_too: with label and health_url.
 */
int encode_lease(sd_bus_message *m, const Lease *lease, const LeaseHealth *health,
                 gboolean private_too);

/** encode_lease_bytes: an upper bound of what encode_lease() adds to a message. */
size_t encode_lease_bytes(const Lease *lease, const LeaseHealth *health);

/** encode_gvariant: @value as it is; -EOPNOTSUPP for what D-Bus has no type for, and for handles.
 */
int encode_gvariant(sd_bus_message *m, GVariant *value);
