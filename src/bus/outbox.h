/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "bus/connection.h"

/*
 * The signals: what the manager tells is noted down and goes out after the replies of the same turn
 * of the loop, because somebody waits for a reply. Nothing is noted while nobody can hear it.
 */

/** outbox_new: starts to listen to the manager of @context. */
Outbox *outbox_new(BusContext *context);
/** outbox_free: no listener may be left. NULL is fine. Returns: NULL. */
Outbox *outbox_free(Outbox *outbox);

/** outbox_set_broker: the connection that broadcasts, or NULL while there is none. */
void outbox_set_broker(Outbox *outbox, Connection *connection);

/** outbox_update_listener: call when ->subscribed or ->subscriptions of a direct connection
 * changed. */
void outbox_update_listener(Outbox *outbox, Connection *connection);

/** outbox_remove_listener: the connection ends. */
void outbox_remove_listener(Outbox *outbox, Connection *connection);

/** outbox_work: sends a bounded number of signals. Returns: whether there is more. */
gboolean outbox_work(Outbox *outbox);

/** outbox_flush: sends all. */
void outbox_flush(Outbox *outbox);
