/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>
#include <systemd/sd-bus.h>

/** MESSAGE_VALUES_MAX: more values in a message than any call of ours has. */
#define MESSAGE_VALUES_MAX 1000

/**
 * message_bytes: about how much memory a received message holds; sd-bus does not tell. Each value
 * counts for more than it takes, so that the walk over a message ends soon.
 * @max: where to stop.
 * @ret_bytes: a number above @max for a message that is longer.
 *
 * Leaves @m rewound. Returns: 0, or a negative errno where the message cannot be read, -E2BIG where
 * it has more than MESSAGE_VALUES_MAX values.
 */
int message_bytes(sd_bus_message *m, size_t max, size_t *ret_bytes);

/**
 * message_check_path: refuses a call to an object path that is longer than any of ours. sd-bus
 * looks for an object at each prefix of a path, and compares as much of it each time: 60 KB of "/a"
 * took it a third of a second. To be asked in a filter, which comes before that.
 *
 * Returns: 0, or a negative errno with @error set.
 */
int message_check_path(sd_bus_message *m, sd_bus_error *error);
