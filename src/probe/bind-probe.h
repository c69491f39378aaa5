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
 * @address: NULL for every address of both families, else a numeric IPv4 or IPv6 address (with a
 *     scope, "%eth0", where it needs one). "::" is probed as a dual stack, as servers bind it.
 * @ret_errno: (nullable): the positive errno of the refusal, 0 with PROBE_FREE; always written.
 *
 * One dual-stack bind of [::] conflicts with every layout of holder; where IPv6 is off one of
 * 0.0.0.0. A port is free whose only users are in TIME_WAIT and let a service with SO_REUSEADDR by;
 * a TIME_WAIT left by a socket without SO_REUSEADDR lets nobody by and is PROBE_BUSY. Any other
 * socket on the port, connected ones too, is PROBE_BUSY with EADDRINUSE.
 *
 * PROBE_UNKNOWN: EACCES (a port below net.ipv4.ip_unprivileged_port_start and no
 * CAP_NET_BIND_SERVICE; PROBE_BUSY where the socket table names a holder), EADDRNOTAVAIL (no such
 * address here), EINVAL (@address is none, @port is 0), EMFILE, ENOBUFS and the like.
 *
 * Never blocks and never listens; leaves no socket behind. Evidence, not a reservation. While it
 * lasts, some microseconds, a bind without SO_REUSEADDR is refused to others: not for ports that
 * somebody has a right to. Source: socket(7), ip(7), ipv6(7); measured, see the tests.
 */
ProbeResult bind_probe(guint16 port, Protocol protocol, const char *address, int *ret_errno);

/**
 * bind_socket: binds a socket for keeps.
 * @port: host byte order, 0 = any free one.
 * @type: SOCK_STREAM or SOCK_DGRAM.
 * @address: as in bind_probe(), but "::" is for IPv6 alone.
 * @reuse_address: sets SO_REUSEADDR before the bind (socket(7)).
 * A NULL @address gives a dual-stack [::] socket, or 0.0.0.0 where IPv6 is off. TCP sockets do not
 * listen yet. Close-on-exec, non-blocking. net.ipv6.bindv6only does not matter.
 *
 * Returns: the descriptor, owned by the caller, or a negative errno.
 */
int bind_socket(guint16 port, int type, const char *address, gboolean reuse_address);
