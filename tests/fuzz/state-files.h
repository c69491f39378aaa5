/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>

/**
 * state_files_check: reads @length bytes as the file @name of a state folder that holds nothing
 * else. Aborts unless each lease, remembered port and chunk comes from a record that verifies, and
 * unless all of them are still there, undamaged, after a snapshot was made of them.
 *
 * So that a fuzzer gets past the checksums, a record that has 00000000 for its "crc" is given the
 * right one first, and a snapshot's end with "body_bytes":0 and "body_crc":"00000000" those, too.
 */
void state_files_check(const char *name, const guint8 *data, size_t length);
