/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "bus/caller.h"

/*
 * Who calls us through a broker. The broker is asked once about each unique name, with calls that
 * do not wait; the messages of that name stand by meanwhile, and their order is kept. A unique name
 * is never given out twice, so what was learned stays true until the name leaves the bus, which is
 * watched for.
 *
 * Bounded: names that need no watching are forgotten from the least recently heard on.
 */
typedef struct Callers Callers;

/** callers_new: for the broker behind @connection (borrowed). */
Callers *callers_new(Connection *connection);
/** callers_free: everybody has gone. NULL is fine. Returns: NULL. */
Callers *callers_free(Callers *callers);

/**
 * callers_admit: finds out who sent the method call @m.
 * @ret_caller: (transfer none).
 * Returns: a positive number with *@ret_caller; 0 when @m stands by and will be handed in again; a
 *     negative errno with @error (Busy, QuotaExceeded) when it cannot.
 */
int callers_admit(Callers *callers, sd_bus_message *m, Caller **ret_caller, sd_bus_error *error);

/** callers_waiting: the messages that stand by. */
guint callers_waiting(const Callers *callers);
