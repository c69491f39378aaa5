/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>
#include <systemd/sd-bus.h>

/**
 * message_bytes: about how much memory a received message holds; sd-bus does not tell. Each value
 * counts for more than it takes, so that the walk over a message ends soon.
 * @max: where to stop.
 * @ret_bytes: a number above @max for a message that is longer.
 *
 * Leaves @m rewound. Returns: 0, or a negative errno where the message cannot be read.
 */
int message_bytes(sd_bus_message *m, size_t max, size_t *ret_bytes);
