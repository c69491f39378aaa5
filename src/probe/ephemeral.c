/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "probe/ephemeral.h"

#include <fcntl.h>
#include <stdio.h>

#include "util/file.h"

gboolean ephemeral_range(PortRange *ret_range, GError **error)
{
    static const char path[] = "/proc/sys/net/ipv4/ip_local_port_range";
    g_autofree char *text = NULL;
    guint first = 0, last = 0;
    size_t length;

    text = file_read(AT_FDCWD, path, FILE_READ_NONE, 256, &length, error);
    if (!text)
        return FALSE;
    if (sscanf(text, "%u %u", &first, &last) != 2 || first < 1 || last > G_MAXUINT16 ||
        first > last) {
        g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_INVAL, "%s holds no range of ports", path);
        return FALSE;
    }
    *ret_range = (PortRange){(guint16)first, (guint16)last};
    return TRUE;
}
