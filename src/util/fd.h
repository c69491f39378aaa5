/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>
#include <unistd.h>

/**
 * fd_close: closes @fd unless it is negative, and keeps errno.
 *
 * Returns: -1, so that `fd = fd_close(fd)` leaves no stale number behind. Never retries close():
 * on Linux the descriptor is gone even after EINTR (close(2), NOTES). Does not block on what we
 * open.
 */
int fd_close(int fd);

/** fd_steal: hands over the descriptor in *@fd and leaves -1 there. */
static inline int fd_steal(int *fd)
{
    int taken = *fd;

    *fd = -1;
    return taken;
}

static inline void fd_cleanup(int *fd)
{
    (void)fd_close(*fd);
}

/** AUTO_FD: a descriptor that is closed when the variable leaves its scope; initialise it to -1.
 * Holding it may be all its use, which clang takes for none. */
#define AUTO_FD __attribute__((cleanup(fd_cleanup), unused)) int
