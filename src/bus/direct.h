/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "bus/connection.h"

/*
 * The direct socket: D-Bus without a broker. Each connection that comes in is an sd-bus server with
 * the same objects; who is there, the kernel said when it connected (unix(7), SO_PEERCRED).
 *
 * Bounded: connections in all and of one user, the time to get through the handshake, and what
 * waits to be read by a client, which is cut off beyond that.
 */
typedef struct Direct Direct;

/**
 * direct_new: takes connections from @fd, which listens, and is taken over on success.
 * @gmain: (nullable): where it is watched.
 * Returns: NULL with @error in G_FILE_ERROR when @fd is no listening unix stream socket.
 */
Direct *direct_new(BusContext *context, GMainContext *gmain, int fd, GError **error);

/** direct_stop: takes no more connections; those that wait are left in the socket's queue. */
void direct_stop(Direct *direct);

/** direct_free: cuts all connections. NULL is fine. Returns: NULL. */
Direct *direct_free(Direct *direct);

guint direct_connections(const Direct *direct);

/** direct_is_flushed: whether all that was sent has reached the sockets of the clients. */
gboolean direct_is_flushed(const Direct *direct);
