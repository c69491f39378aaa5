/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "probe/ephemeral.h"

#include <fcntl.h>
#include <stdio.h>

#include "util/file.h"

/* The reserved ones can be 32,768 numbers, and are ranges nearly always. */
#define RESERVED_BYTES_MAX (256 * 1024)

static gboolean read_range(PortRange *ret_range, GError **error)
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

/* "8080,9100-9199", or an empty line. */
static void remove_reserved(PortSet *ports)
{
    g_autofree char *text = NULL;
    g_auto(GStrv) parts = NULL;
    size_t length;

    text = file_read(AT_FDCWD, "/proc/sys/net/ipv4/ip_local_reserved_ports", FILE_READ_NONE,
                     RESERVED_BYTES_MAX, &length, NULL);
    if (!text)
        return;
    parts = g_strsplit(text, ",", -1);
    for (size_t i = 0; parts[i]; i++) {
        guint first = 0, last = 0;
        int n = sscanf(parts[i], "%u-%u", &first, &last);

        if (n == 1)
            last = first;
        if (n >= 1 && first >= 1 && first <= last && last <= G_MAXUINT16)
            port_set_remove_range(ports, (PortRange){(guint16)first, (guint16)last});
    }
}

gboolean ephemeral_ports(PortRange *ret_range, PortSet *ret_ports, GError **error)
{
    if (!read_range(ret_range, error))
        return FALSE;
    *ret_ports = (PortSet){0};
    port_set_add_range(ret_ports, *ret_range);
    remove_reserved(ret_ports);
    return TRUE;
}
