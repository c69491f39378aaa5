/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>

#include "core/names.h"

typedef enum SocketParse {
    SOCKET_PARSE_MORE,        /* the dump goes on in the next packet */
    SOCKET_PARSE_DONE,        /* the kernel has said that this was all */
    SOCKET_PARSE_INTERRUPTED, /* the table changed under the dump: start again */
    SOCKET_PARSE_FAILED,      /* *ret_errno says why; EBADMSG for what the kernel would not send */
} SocketParse;

/**
 * socket_table_parse: reads one packet of a sock_diag answer. Pure; trusts no length in it.
 * @buffer: @length bytes, any alignment, any content.
 * @sequence: of the request; messages with another one are passed over.
 * @protocol: that was asked for, PROTOCOL_TCP or PROTOCOL_UDP; goes into the rows.
 * @entries: (element-type SocketEntry): rows are appended; some may have been when it fails.
 * @ret_errno: positive, written with SOCKET_PARSE_FAILED only.
 *
 * Source: netlink(7), sock_diag(7), linux/inet_diag.h.
 */
SocketParse socket_table_parse(const void *buffer, gsize length, guint32 sequence,
                               Protocol protocol, GArray *entries, int *ret_errno);
