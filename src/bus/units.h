/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <systemd/sd-bus.h>

#include "recovery/manager.h"

/*
 * The service manager over the bus: org.freedesktop.systemd1, of the system on the system bus and
 * of the user on a session bus (org.freedesktop.systemd1(5)).
 */
typedef struct Units Units;

/** UnitsBus: (transfer none): the connection to ask over now; NULL: there is none. */
typedef sd_bus *(*UnitsBus)(void *data);

Units *units_new(UnitsBus bus, void *data);
/** units_free: what is under way is answered with an error. NULL is fine. Returns: NULL. */
Units *units_free(Units *units);

/** units_disconnected: the bus is gone, and with it the answers that are still due. */
void units_disconnected(Units *units);

/** units_services: the table for manager_set_services(), whose data is the Units. */
const ManagerServices *units_services(void);
