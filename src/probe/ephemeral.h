/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>

#include "core/port-set.h"

/**
 * ephemeral_range: the ports that the kernel gives to bind(0) and to outgoing connections of this
 * network namespace (ip(7), ip_local_port_range). Does not block.
 * Returns: FALSE with @error where it cannot be read; *@ret_range is untouched then.
 */
gboolean ephemeral_range(PortRange *ret_range, GError **error);
