/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <stdint.h>
#include <string.h>

#include "probe/socket-parse.h"
#include "probe/socket-table.h"

/* What netlink sends: no length in it may be believed. The first four bytes are the sequence. */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    g_autoptr(GArray) entries = g_array_new(FALSE, FALSE, sizeof(SocketEntry));
    guint32 sequence = 0;
    int code = -1;

    if (size < sizeof sequence)
        return 0;
    memcpy(&sequence, data, sizeof sequence);
    if (socket_table_parse(data + sizeof sequence, size - sizeof sequence, sequence, PROTOCOL_TCP,
                           entries, &code) == SOCKET_PARSE_FAILED)
        g_assert_cmpint(code, >, 0);
    else
        g_assert_cmpint(code, ==, -1);
    for (guint i = 0; i < entries->len; i++) {
        const SocketEntry *entry = &g_array_index(entries, SocketEntry, i);
        g_autofree char *address = socket_entry_address(entry);

        g_assert_cmpuint(entry->port, !=, 0);
        (void)socket_entry_covers(entry, address);
    }
    return 0;
}
