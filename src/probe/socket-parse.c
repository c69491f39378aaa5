/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "probe/socket-parse.h"

#include <errno.h>
#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <linux/sock_diag.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>

#include "probe/socket-table.h"

/*
 * The packet is copied out piece by piece with memcpy: it may start anywhere in memory, and a
 * struct laid over it would promise the compiler an alignment that nobody checked.
 */

/* The end of a connection: with no inode nobody holds the socket, the kernel alone is left. */
static gboolean state_is_closing(guint8 state)
{
    switch (state) {
    case TCP_FIN_WAIT1:
    case TCP_FIN_WAIT2:
    case TCP_TIME_WAIT:
    case TCP_LAST_ACK:
    case TCP_CLOSING:
        return TRUE;
    default:
        return FALSE;
    }
}

static SocketState state_of(Protocol protocol, const struct inet_diag_msg *message)
{
    if (protocol == PROTOCOL_UDP)
        return message->idiag_state == TCP_ESTABLISHED ? SOCKET_CONNECTED : SOCKET_LISTENING;
    if (message->idiag_state == TCP_LISTEN)
        return SOCKET_LISTENING;
    /* TCP_CLOSE, or TCP_BOUND_INACTIVE (13), which older headers do not have */
    if (message->idiag_state == TCP_CLOSE || message->idiag_state == 13)
        return SOCKET_BOUND;
    if (state_is_closing(message->idiag_state) && message->idiag_inode == 0)
        return SOCKET_LINGERING;
    return SOCKET_CONNECTED;
}

static gboolean parse_attributes(const guint8 *data, gsize length, SocketEntry *entry)
{
    while (length >= sizeof(struct rtattr)) {
        struct rtattr attribute;
        gsize payload, step;

        memcpy(&attribute, data, sizeof attribute);
        if (attribute.rta_len < sizeof attribute || attribute.rta_len > length)
            return FALSE;
        payload = attribute.rta_len - sizeof attribute;

        switch (attribute.rta_type) {
        case INET_DIAG_SKV6ONLY:
            if (payload < 1)
                return FALSE;
            entry->v6only = data[sizeof attribute] != 0;
            break;
        case INET_DIAG_CGROUP_ID:
            if (payload < sizeof entry->cgroup_id)
                return FALSE;
            memcpy(&entry->cgroup_id, data + sizeof attribute, sizeof entry->cgroup_id);
            break;
        default:
            break;
        }
        step = MIN((gsize)RTA_ALIGN(attribute.rta_len), length);
        data += step;
        length -= step;
    }
    return TRUE;
}

static gboolean parse_row(const guint8 *data, gsize length, Protocol protocol, GArray *entries)
{
    struct inet_diag_msg message;
    SocketEntry entry = {.protocol = protocol};
    gsize header = NLMSG_ALIGN(sizeof message);

    if (length < sizeof message)
        return FALSE;
    memcpy(&message, data, sizeof message);
    if (message.idiag_family != AF_INET && message.idiag_family != AF_INET6)
        return FALSE;

    entry.port = g_ntohs(message.id.idiag_sport);
    entry.state = state_of(protocol, &message);
    entry.listening = protocol == PROTOCOL_UDP || entry.state == SOCKET_LISTENING;
    entry.v6 = message.idiag_family == AF_INET6;
    memcpy(entry.address, message.id.idiag_src, entry.v6 ? 16 : 4);
    entry.uid = message.idiag_uid;
    entry.inode = message.idiag_inode;
    if (length > header && !parse_attributes(data + header, length - header, &entry))
        return FALSE;
    if (entry.port != 0) /* not bound to anything: nobody's port */
        g_array_append_val(entries, entry);
    return TRUE;
}

/* NLMSG_ERROR always carries an errno; NLMSG_DONE may, when the dump broke off. */
static SocketParse parse_end(const guint8 *data, gsize length, gboolean is_error, int *ret_errno)
{
    gint32 code = 0;

    if (length >= sizeof code)
        memcpy(&code, data, sizeof code);
    else if (is_error)
        code = -EBADMSG;
    if (!is_error && code >= 0)
        return SOCKET_PARSE_DONE;
    /* An acknowledgement (0) was not asked for, and MININT has no positive. */
    *ret_errno = code < 0 && code > G_MININT32 ? -code : EBADMSG;
    return SOCKET_PARSE_FAILED;
}

SocketParse socket_table_parse(const void *buffer, gsize length, guint32 sequence,
                               Protocol protocol, GArray *entries, int *ret_errno)
{
    const guint8 *data = buffer;

    while (length > 0) {
        struct nlmsghdr header;
        const guint8 *payload = NULL;
        gsize payload_length, step;

        if (length < sizeof header)
            break;
        memcpy(&header, data, sizeof header);
        if (header.nlmsg_len < sizeof header || header.nlmsg_len > length)
            break;
        payload = data + sizeof header;
        payload_length = header.nlmsg_len - sizeof header;
        step = MIN((gsize)NLMSG_ALIGN(header.nlmsg_len), length);
        data += step;
        length -= step;

        if (header.nlmsg_seq != sequence || header.nlmsg_type == NLMSG_NOOP)
            continue;
        if (header.nlmsg_flags & NLM_F_DUMP_INTR)
            return SOCKET_PARSE_INTERRUPTED;
        switch (header.nlmsg_type) {
        case NLMSG_DONE:
        case NLMSG_ERROR:
            return parse_end(payload, payload_length, header.nlmsg_type == NLMSG_ERROR, ret_errno);
        case NLMSG_OVERRUN:
            *ret_errno = ENOBUFS;
            return SOCKET_PARSE_FAILED;
        case SOCK_DIAG_BY_FAMILY:
            if (parse_row(payload, payload_length, protocol, entries))
                break;
            *ret_errno = EBADMSG;
            return SOCKET_PARSE_FAILED;
        default:
            *ret_errno = EBADMSG;
            return SOCKET_PARSE_FAILED;
        }
    }
    if (length == 0)
        return SOCKET_PARSE_MORE;
    *ret_errno = EBADMSG;
    return SOCKET_PARSE_FAILED;
}
