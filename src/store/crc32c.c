/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "store/crc32c.h"

#include <string.h>

#define POLYNOMIAL 0x82f63b78u /* 0x1EDC6F41 with its bits reversed */

/* Eight bytes a step: table[k][b] is what byte b does after k more zero bytes. */
static guint32 table[8][256];

static void build_table(void)
{
    for (guint i = 0; i < 256; i++) {
        guint32 crc = i;

        for (guint bit = 0; bit < 8; bit++)
            crc = (crc >> 1) ^ (crc & 1 ? POLYNOMIAL : 0);
        table[0][i] = crc;
    }
    for (guint k = 1; k < 8; k++)
        for (guint i = 0; i < 256; i++)
            table[k][i] = (table[k - 1][i] >> 8) ^ table[0][table[k - 1][i] & 0xff];
}

guint32 crc32c(guint32 crc, const void *data, size_t length)
{
    static gsize built = 0;
    const guint8 *p = data;

    if (g_once_init_enter(&built)) {
        build_table();
        g_once_init_leave(&built, 1);
    }
    crc = ~crc;
    for (; length >= 8; length -= 8, p += 8) {
        guint32 low, high;

        memcpy(&low, p, 4);
        memcpy(&high, p + 4, 4);
        low = GUINT32_FROM_LE(low) ^ crc;
        high = GUINT32_FROM_LE(high);
        crc = table[7][low & 0xff] ^ table[6][(low >> 8) & 0xff] ^ table[5][(low >> 16) & 0xff] ^
              table[4][low >> 24] ^ table[3][high & 0xff] ^ table[2][(high >> 8) & 0xff] ^
              table[1][(high >> 16) & 0xff] ^ table[0][high >> 24];
    }
    for (; length > 0; length--, p++)
        crc = (crc >> 8) ^ table[0][(crc ^ *p) & 0xff];
    return ~crc;
}
