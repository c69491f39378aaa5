/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>

/**
 * crc32c: the CRC-32C of @length bytes, going on from @crc, the result for what came before (0 at
 * the start): crc32c(crc32c(0, a), b) is that of a and b in one.
 *
 * Source: RFC 3720, 12.1 and B.4 (polynomial 0x1EDC6F41, reflected). Any thread.
 */
guint32 crc32c(guint32 crc, const void *data, size_t length);
