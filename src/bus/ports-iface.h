/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "bus/connection.h"

/* The interface org.styxy.Ports, as dbus/org.styxy.Ports.xml documents it. */
#define PORTS_NAME "org.styxy.Ports"
#define PORTS_PATH "/org/styxy/Ports"
#define PORTS_INTERFACE "org.styxy.Ports"

/** ports_export: adds the interface to a connection. Returns: a negative errno, or >= 0. */
int ports_export(Connection *connection);
