/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "facts.h"
#include "world.h"

/*
 * Clients that call as fast as they are answered, each in a thread of its own, until the daemon is
 * gone. Then they wait at the gate until there is another.
 */
typedef struct Load Load;

/** load_new: starts @n clients, every other one on the direct socket; the gate is shut. */
Load *load_new(const World *world, Facts *facts, guint n, guint32 seed);
/** load_free: no daemon may be running. Returns: NULL. */
Load *load_free(Load *load);

/** load_open_gate: the daemon is there. */
void load_open_gate(Load *load);
/** load_await_waiting: until all clients have met the daemon's end and wait. Ends the test if not.
 */
void load_await_waiting(Load *load);

/** list_leases: all leases of the daemon, of Grant, whose strings belong to *@ret_reply. */
GArray *list_leases(const World *world, sd_bus_message **ret_reply);
