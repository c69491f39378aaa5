/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "recovery/hold.h"

#include <errno.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include "probe/bind-probe.h"
#include "recovery/events.h"
#include "util/fd.h"
#include "util/fdstore.h"

#define NAME_PREFIX "hold-"
/* Descriptors left for callers, files and the bus when holds use up RLIMIT_NOFILE. */
#define FDS_RESERVED 256

struct HoldTable {
    GHashTable *fds; /* lease id (owned) -> fd + 1 */
    guint max;
};

static char *name_of(const char *lease_id)
{
    return g_strconcat(NAME_PREFIX, lease_id, NULL);
}

void hold_table_set_max(HoldTable *table, guint max)
{
    struct rlimit limit;

    table->max = max;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY)
        table->max = (guint)MIN((rlim_t)max,
                                limit.rlim_cur > FDS_RESERVED ? limit.rlim_cur - FDS_RESERVED : 0);
}

HoldTable *hold_table_new(guint max)
{
    HoldTable *table = g_new0(HoldTable, 1);

    hold_table_set_max(table, max);
    table->fds = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    return table;
}

HoldTable *hold_table_free(HoldTable *table)
{
    GHashTableIter iter;
    gpointer fd;

    if (!table)
        return NULL;
    g_hash_table_iter_init(&iter, table->fds);
    while (g_hash_table_iter_next(&iter, NULL, &fd))
        (void)fd_close(GPOINTER_TO_INT(fd) - 1);
    g_hash_table_unref(table->fds);
    g_free(table);
    return NULL;
}

gboolean hold_table_has_room(const HoldTable *table, guint count)
{
    return (guint64)g_hash_table_size(table->fds) + count <= table->max;
}

guint hold_table_count(const HoldTable *table)
{
    return g_hash_table_size(table->fds);
}

int hold_bind(guint16 port, const char *address)
{
    int on = 1;
    int fd = bind_socket(port, SOCK_STREAM, address, FALSE);

    /* Connections in TIME_WAIT refuse a bind without the option and hold nothing. */
    if (fd == -EADDRINUSE && bind_probe(port, PROTOCOL_TCP, address, NULL) == PROBE_FREE)
        return bind_socket(port, SOCK_STREAM, address, TRUE);
    if (fd < 0)
        return fd;
    if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) < 0) {
        int r = -errno;

        (void)fd_close(fd);
        return r;
    }
    return fd;
}

void hold_table_add(HoldTable *table, const Lease *lease, int fd)
{
    g_autofree char *name = name_of(lease->id.text);
    int r = fdstore_keep(name, fd);

    if (r < 0)
        event_hold_not_kept(lease, -r);
    g_hash_table_insert(table->fds, g_strdup(lease->id.text), GINT_TO_POINTER(fd + 1));
}

guint16 hold_port(int fd)
{
    struct sockaddr_storage address = {0};
    socklen_t length = sizeof address;

    if (getsockname(fd, (struct sockaddr *)&address, &length) < 0)
        return 0;
    if (address.ss_family == AF_INET6)
        return ntohs(((struct sockaddr_in6 *)&address)->sin6_port);
    return address.ss_family == AF_INET ? ntohs(((struct sockaddr_in *)&address)->sin_port) : 0;
}

static gboolean is_hold_on(int fd, guint16 port)
{
    int listening = 1;
    socklen_t length = sizeof listening;

    return hold_port(fd) == port &&
           getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &length) == 0 && !listening;
}

gboolean hold_renew(HoldTable *table, const Lease *lease)
{
    int fd;

    if (lease->hold != HOLD_SOFT || hold_table_holds(table, lease))
        return TRUE;
    if (!hold_table_has_room(table, 1))
        return FALSE;
    fd = bind_socket(lease->port, SOCK_STREAM, lease->address, TRUE);
    if (fd < 0)
        return fd == -EADDRINUSE;
    hold_table_add(table, lease, fd);
    return TRUE;
}

gboolean hold_table_adopt(HoldTable *table, const Lease *lease, int fd, const char *name)
{
    if (!lease || !is_hold_on(fd, lease->port) || hold_table_holds(table, lease)) {
        (void)fd_close(fd);
        (void)fdstore_drop(name);
        return FALSE;
    }
    g_hash_table_insert(table->fds, g_strdup(lease->id.text), GINT_TO_POINTER(fd + 1));
    return TRUE;
}

gboolean hold_table_holds(const HoldTable *table, const Lease *lease)
{
    return g_hash_table_contains(table->fds, lease->id.text);
}

gboolean hold_table_drop(HoldTable *table, const Lease *lease)
{
    gpointer fd = g_hash_table_lookup(table->fds, lease->id.text);
    g_autofree char *name = NULL;

    if (!fd)
        return FALSE;
    g_hash_table_remove(table->fds, lease->id.text);
    (void)fd_close(GPOINTER_TO_INT(fd) - 1);
    name = name_of(lease->id.text);
    (void)fdstore_drop(name);
    return fdstore_available();
}

const char *hold_lease_of_name(const char *name)
{
    if (!g_str_has_prefix(name, NAME_PREFIX) || !id_is_valid(name + strlen(NAME_PREFIX)))
        return NULL;
    return name + strlen(NAME_PREFIX);
}
