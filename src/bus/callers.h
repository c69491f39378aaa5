/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "bus/caller.h"

/*
 * Who calls us through a broker. The broker is asked once about each unique name, with calls that
 * do not wait; the messages of that name stand by meanwhile, and their order is kept. A unique name
 * is never given out twice, so what was learned stays true until the name leaves the bus, which is
 * watched for.
 *
 * All callers come through one connection, in one row. So that nobody waits behind all that another
 * has sent, messages are read ahead of their handling and kept by sender; then the users take
 * turns, a message each, and of one user his connections. Who has a crowd of them waiting is served
 * at a bounded rate while others call (bus/pace.h). A message with nothing behind it and
 * nobody before it is handled as it comes.
 *
 * Bounded: what is kept, in messages and bytes, of one user and of all; and names that need no
 * watching are forgotten from the least recently heard on.
 */
typedef struct Callers Callers;

/** callers_new: for the broker behind @connection (borrowed). */
Callers *callers_new(Connection *connection);
/** callers_free: everybody has gone. NULL is fine. Returns: NULL. */
Callers *callers_free(Callers *callers);

/**
 * callers_admit: finds out who sent the method call @m, and whether it is his turn.
 * @anonymous: it is answered without asking who it is.
 * @ret_caller: (transfer none); NULL for what is @anonymous.
 * Returns: a positive number with *@ret_caller; 0 when @m stands by and will be handed in again; a
 *     negative errno with @error (Busy, QuotaExceeded, InvalidArgument) when it cannot.
 */
int callers_admit(Callers *callers, sd_bus_message *m, gboolean anonymous, Caller **ret_caller,
                  sd_bus_error *error);

/** callers_read_on: whether another message should be read before the next one is handled. */
gboolean callers_read_on(Callers *callers);

/**
 * callers_hand_in: gives the next one his turn, after a round of reading: enqueues his message for
 * sd_bus_process(3), which brings it to callers_admit() again. Returns: whether there is one. Where
 * all who wait are held back it wakes the link by itself when the next one is due.
 */
int callers_hand_in(Callers *callers);

/** callers_hurry: for leaving: from now on a crowd is served as fast as it can be. */
void callers_hurry(Callers *callers);

/** callers_waiting: the messages that stand by. */
guint callers_waiting(const Callers *callers);
