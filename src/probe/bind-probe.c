/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "probe/bind-probe.h"

#include <arpa/inet.h>
#include <errno.h>
#include <net/if.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>

#include "probe/socket-table.h"
#include "util/fd.h"

/*
 * Is a port free? The kernel's own bind() decides, because nothing else knows all its rules.
 *
 * The first look binds without SO_REUSEADDR: success means free, and that is the whole cost on the
 * usual path. TCP has one refusal that is no conflict: connections of an earlier service in
 * TIME_WAIT. Servers set SO_REUSEADDR to get past it, so the second look does the same on the same
 * socket. A refusal is a holder then, or a TIME_WAIT that nobody can get past (left by a socket
 * without SO_REUSEADDR), and for a minute that is the same. A success leaves two cases: TIME_WAIT,
 * or a holder with SO_REUSEADDR that does not listen (listening here as well would not tell them
 * apart, and would take its connections away). The socket table does tell them apart.
 *
 * The probe is bound for some microseconds and never listens, so it can refuse a start only to a
 * service that binds without SO_REUSEADDR in just that moment; hence never on a leased port.
 */

typedef struct BindAddress {
    union {
        struct sockaddr any;
        struct sockaddr_in v4;
        struct sockaddr_in6 v6;
    };
    socklen_t length;
} BindAddress;

static void address_any(BindAddress *ret_address, sa_family_t family, guint16 port)
{
    *ret_address = (BindAddress){.length = 0};
    if (family == AF_INET6) {
        ret_address->v6 = (struct sockaddr_in6){
            .sin6_family = AF_INET6, .sin6_port = g_htons(port), .sin6_addr = IN6ADDR_ANY_INIT};
        ret_address->length = sizeof ret_address->v6;
    } else {
        ret_address->v4 = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = g_htons(port)};
        ret_address->length = sizeof ret_address->v4;
    }
}

/* Returns: 0 or a negative errno. */
static int address_parse(const char *text, guint16 port, BindAddress *ret_address)
{
    BindAddress address;
    const char *percent = strchr(text, '%');
    g_autofree char *plain = percent ? g_strndup(text, (gsize)(percent - text)) : NULL;

    address_any(&address, AF_INET, port);
    if (inet_pton(AF_INET, text, &address.v4.sin_addr) == 1) {
        *ret_address = address;
        return 0;
    }
    address_any(&address, AF_INET6, port);
    if (inet_pton(AF_INET6, plain ? plain : text, &address.v6.sin6_addr) != 1)
        return -EINVAL;
    if (percent) {
        guint64 index = if_nametoindex(percent + 1);

        if (index == 0 && !g_ascii_string_to_unsigned(percent + 1, 10, 1, G_MAXINT32, &index, NULL))
            return -EADDRNOTAVAIL;
        address.v6.sin6_scope_id = (guint32)index;
    }
    *ret_address = address;
    return 0;
}

/* @v6only: settled for each socket, so that net.ipv6.bindv6only does not decide for us. */
static int open_socket(sa_family_t family, int type, gboolean v6only)
{
    const int value = v6only;
    AUTO_FD fd = socket(family, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    if (fd < 0)
        return -errno;
    if (family == AF_INET6 && setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &value, sizeof value) < 0)
        return -errno;
    return fd_steal(&fd);
}

static int allow_reuse(int fd)
{
    const int one = 1;

    return setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one) < 0 ? -errno : 0;
}

static gboolean no_ipv6(int code)
{
    return code == -EAFNOSUPPORT || code == -EADDRNOTAVAIL;
}

/*
 * Who is left when a bind without SO_REUSEADDR is refused and one with it is not. Kernels
 * before 6.8 do not list bound sockets, so a refusal must be explained by what lingers; unexplained
 * it counts as a holder. A question that fails counts as a holder too.
 */
static gboolean only_lingering(guint16 port, const char *address)
{
    g_autoptr(SocketTable) table =
        socket_table_dump_deep((PortRange){port, port}, PROTOCOL_TCP, SOCKET_DEPTH_USERS, NULL);
    gboolean explained = FALSE;

    if (!table)
        return FALSE;
    for (guint i = 0; i < table->entries->len; i++) {
        const SocketEntry *entry = &g_array_index(table->entries, SocketEntry, i);

        if (!socket_entry_covers(entry, address))
            continue;
        if (entry->state != SOCKET_LINGERING)
            return FALSE;
        explained = TRUE;
    }
    return explained;
}

static gboolean has_holder(guint16 port, Protocol protocol, const char *address)
{
    gboolean found = FALSE;
    SocketEntry entry;

    return socket_table_holder(port, protocol, address, &found, &entry, NULL) && found;
}

static ProbeResult judge(int code, int *ret_errno)
{
    if (ret_errno)
        *ret_errno = -code;
    return code == 0 ? PROBE_FREE : code == -EADDRINUSE ? PROBE_BUSY : PROBE_UNKNOWN;
}

/* Returns: 0 for free, -EADDRINUSE, or what kept the kernel from answering. */
static int probe_at(const BindAddress *where, guint16 port, Protocol protocol, const char *address)
{
    AUTO_FD fd = open_socket(where->any.sa_family,
                             protocol == PROTOCOL_TCP ? SOCK_STREAM : SOCK_DGRAM, FALSE);
    int code;

    if (fd < 0)
        return fd;
    if (bind(fd, &where->any, where->length) == 0)
        return 0;
    code = -errno;
    /* Refused before the kernel looked whether the port is taken: the table may still know. */
    if (code == -EACCES && has_holder(port, protocol, address))
        return -EADDRINUSE;
    if (code != -EADDRINUSE || protocol != PROTOCOL_TCP)
        return code;

    if (allow_reuse(fd) < 0 || bind(fd, &where->any, where->length) < 0)
        return code;
    fd = fd_close(fd); /* or the table would name us */
    if (only_lingering(port, address))
        return 0;

    /* The last TIME_WAIT may have ended in between: then there was nothing left to list. */
    fd = open_socket(where->any.sa_family, SOCK_STREAM, FALSE);
    return fd >= 0 && bind(fd, &where->any, where->length) == 0 ? 0 : code;
}

static int probe_one(guint16 port, Protocol protocol, const char *address)
{
    BindAddress where;
    int code;

    if (address) {
        code = address_parse(address, port, &where);
        return code < 0 ? code : probe_at(&where, port, protocol, address);
    }
    address_any(&where, AF_INET6, port);
    code = probe_at(&where, port, protocol, NULL);
    if (!no_ipv6(code))
        return code;
    address_any(&where, AF_INET, port);
    return probe_at(&where, port, protocol, NULL);
}

ProbeResult bind_probe(guint16 port, Protocol protocol, const char *address, int *ret_errno)
{
    int code = port == 0 ? -EINVAL : 0;

    if (code == 0 && (protocol & PROTOCOL_TCP))
        code = probe_one(port, PROTOCOL_TCP, address);
    if (code == 0 && (protocol & PROTOCOL_UDP))
        code = probe_one(port, PROTOCOL_UDP, address);
    return judge(code, ret_errno);
}

static int bind_at(const BindAddress *where, int type, gboolean v6only, gboolean reuse_address)
{
    AUTO_FD fd = open_socket(where->any.sa_family, type, v6only);
    int code = 0;

    if (fd < 0)
        return fd;
    if (reuse_address)
        code = allow_reuse(fd);
    if (code < 0)
        return code;
    if (bind(fd, &where->any, where->length) < 0)
        return -errno;
    return fd_steal(&fd);
}

int bind_socket(guint16 port, int type, const char *address, gboolean reuse_address)
{
    BindAddress where;
    int code;

    if (address) {
        code = address_parse(address, port, &where);
        return code < 0 ? code
                        : bind_at(&where, type,
                                  where.any.sa_family == AF_INET6 &&
                                      IN6_IS_ADDR_UNSPECIFIED(&where.v6.sin6_addr),
                                  reuse_address);
    }
    address_any(&where, AF_INET6, port);
    code = bind_at(&where, type, FALSE, reuse_address);
    if (!no_ipv6(code))
        return code;
    address_any(&where, AF_INET, port);
    return bind_at(&where, type, FALSE, reuse_address);
}
