/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "bus/connection.h"

/**
 * log_control_export: adds org.freedesktop.LogControl1 (its man page has the interface) to a
 * connection, so that "systemctl service-log-level" works. Everybody may read, administrators set.
 * Returns: a negative errno, or >= 0.
 */
int log_control_export(Connection *connection);
