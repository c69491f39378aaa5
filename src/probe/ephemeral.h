/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>

#include "core/port-set.h"

/**
 * ephemeral_ports: the ports that the kernel gives to bind(0) and to outgoing connections of this
 * network namespace (ip(7): ip_local_port_range, without ip_local_reserved_ports). Does not block.
 * @ret_range: they all lie in it.
 * @ret_ports: filled in as a whole.
 * Returns: FALSE with @error where it cannot be read; both are untouched then. Where only the
 * reserved ones cannot be read there are none.
 */
gboolean ephemeral_ports(PortRange *ret_range, PortSet *ret_ports, GError **error);
