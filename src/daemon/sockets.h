/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>

#include "recovery/manager.h"

/** PassedSockets: what the service manager handed over. */
typedef struct PassedSockets {
    int listen_fd; /* the direct socket, -1 = none was passed */
    GArray *held;  /* of HeldSocket: from the manager's fd store, may be empty */
} PassedSockets;

/**
 * sockets_take: takes the descriptors of sd_listen_fds_with_names(3), each checked for what it must
 * be. Anything else is closed and logged.
 */
void sockets_take(PassedSockets *sockets);
void sockets_clear(PassedSockets *sockets);

/**
 * sockets_refuse: hangs up on everybody who waits on the passed socket, for a daemon that ends
 * before it serves: the service manager would start it anew for the same callers until it gives up
 * on the socket (systemd.socket(5), TriggerLimitIntervalSec=). Does not block.
 */
void sockets_refuse(const PassedSockets *sockets);

/**
 * sockets_listen: makes the listening direct socket "bus" in @runtime_dir, mode 0666. The folder is
 * made where it is missing. A socket that nobody listens on any more is replaced.
 * Returns: the descriptor, or -1 with @error in G_FILE_ERROR.
 */
int sockets_listen(const char *runtime_dir, GError **error);
