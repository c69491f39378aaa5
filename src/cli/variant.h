/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>
#include <systemd/sd-bus.h>

/*
 * Values between sd-bus messages and GVariant, in which the verbs think: one walk over any type in
 * place of one read function a reply.
 */

/**
 * variant_append: appends every member of @tuple to @message.
 * @tuple: of type (...); "h" is not supported.
 * Returns: 0 or a negative errno.
 */
int variant_append(sd_bus_message *message, GVariant *tuple);

/**
 * variant_read: reads the whole body of @message.
 * @ret_value: (transfer full): a tuple.
 * @fds: (nullable): GArray of int: gets a duplicate, owned by the array's owner, of each descriptor
 *     in the body; the "h" in the value is the index there. NULL: an "h" is -EBADMSG.
 * Returns: 0 or a negative errno.
 */
int variant_read(sd_bus_message *message, GArray *fds, GVariant **ret_value);
