/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>

#include "core/names.h"

typedef enum ProbeResult {
    PROBE_FREE,
    PROBE_BUSY,
    PROBE_UNKNOWN, /* the kernel could not be asked (EMFILE, ENOBUFS, ...): never taken for free */
} ProbeResult;

/**
 * bind_probe: asks the kernel whether @port can be bound now.
 * @port: host byte order, 1..65535.
 * @protocol: with PROTOCOL_BOTH both must be free.
 * @address: NULL for every address of both families, else a numeric IPv4 or IPv6 address.
 * @ret_errno: (nullable): the errno of the refusal, 0 with PROBE_FREE.
 *
 * One dual-stack bind of [::] conflicts with every layout of holder; where IPv6 is off one of
 * 0.0.0.0. A port whose only users are in TIME_WAIT is free. Does not block; leaves no socket
 * behind. Evidence, not a reservation. EADDRNOTAVAIL (no such address here) is PROBE_UNKNOWN.
 */
ProbeResult bind_probe(guint16 port, Protocol protocol, const char *address, int *ret_errno);

/**
 * bind_socket: binds a socket for keeps.
 * @type: SOCK_STREAM or SOCK_DGRAM.
 * @reuse_address: sets SO_REUSEADDR before the bind (socket(7)).
 * A NULL @address gives a dual-stack [::] socket, or 0.0.0.0 where IPv6 is off. TCP sockets do not
 * listen yet. Close-on-exec, non-blocking.
 *
 * Returns: the descriptor, owned by the caller, or a negative errno.
 */
int bind_socket(guint16 port, int type, const char *address, gboolean reuse_address);
