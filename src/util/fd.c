/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "util/fd.h"

#include <errno.h>

int fd_close(int fd)
{
    if (fd >= 0) {
        int saved_errno = errno;

        (void)close(fd);
        errno = saved_errno;
    }
    return -1;
}
