/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * What netlink sends: no length in it may be believed. The first four bytes are the sequence number
 * of the question. Only rows that answer it count, whichever protocol was asked for.
 */
#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <string.h>

#include "fuzz.h"
#include "probe/socket-parse.h"
#include "probe/socket-table.h"

static SocketParse parse(const guint8 *data, size_t length, guint32 sequence, Protocol protocol,
                         GArray *entries)
{
    int code = -1;
    SocketParse result = socket_table_parse(data, length, sequence, protocol, entries, &code);

    if (result == SOCKET_PARSE_FAILED)
        g_assert_cmpint(code, >, 0);
    else
        g_assert_cmpint(code, ==, -1);
    return result;
}

static void check_entry(const SocketEntry *entry, Protocol protocol)
{
    g_autofree char *address = socket_entry_address(entry);

    g_assert_cmpuint(entry->port, !=, 0);
    g_assert_cmpint(entry->protocol, ==, protocol);
    g_assert_true(g_utf8_validate(address, -1, NULL));
    g_assert_true(socket_entry_covers(entry, NULL));
    (void)socket_entry_covers(entry, address);
    if (protocol == PROTOCOL_UDP)
        g_assert_true(entry->listening);
    else
        g_assert_cmpint(entry->listening, ==, entry->state == SOCKET_LISTENING);
}

int LLVMFuzzerTestOneInput(const guint8 *data, size_t size)
{
    g_autoptr(GArray) tcp = g_array_new(FALSE, FALSE, sizeof(SocketEntry));
    g_autoptr(GArray) udp = g_array_new(FALSE, FALSE, sizeof(SocketEntry));
    g_autoptr(GArray) none = g_array_new(FALSE, FALSE, sizeof(SocketEntry));
    SocketParse result;
    guint32 sequence = 0;

    if (size < sizeof sequence)
        return 0;
    memcpy(&sequence, data, sizeof sequence);
    data += sizeof sequence;
    size -= sizeof sequence;
    result = parse(data, size, sequence, PROTOCOL_TCP, tcp);
    g_assert_cmpint(parse(data, size, sequence, PROTOCOL_UDP, udp), ==, result);
    g_assert_cmpuint(tcp->len, ==, udp->len);
    g_assert_cmpuint(tcp->len * (sizeof(struct nlmsghdr) + sizeof(struct inet_diag_msg)), <=, size);
    for (guint i = 0; i < tcp->len; i++) {
        check_entry(&g_array_index(tcp, SocketEntry, i), PROTOCOL_TCP);
        check_entry(&g_array_index(udp, SocketEntry, i), PROTOCOL_UDP);
    }
    /* An answer to another question that comes late. */
    (void)parse(data, size, sequence + 1, PROTOCOL_TCP, none);
    if (result == SOCKET_PARSE_MORE)
        for (guint i = 0; i < none->len; i++)
            check_entry(&g_array_index(none, SocketEntry, i), PROTOCOL_TCP);
    return 0;
}
