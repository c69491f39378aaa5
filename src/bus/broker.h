/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "bus/callers.h"
#include "bus/connection.h"

/*
 * The connection to a message bus: makes it, owns our name on it, and makes it anew, with growing
 * pauses, when the broker goes away. Nothing here waits.
 */
typedef struct Broker Broker;

typedef enum BusKind {
    BUS_SYSTEM,
    BUS_USER,
    BUS_ADDRESS,
} BusKind;

typedef struct BrokerListener {
    void (*named)(void *data);                       /* our name is ours */
    void (*lost)(void *data);                        /* no broker is there; named may follow */
    void (*failed)(const GError *error, void *data); /* for good: the name cannot be had */
} BrokerListener;

/**
 * broker_new: starts to connect.
 * @address: of BUS_ADDRESS, else NULL.
 * @listener: borrowed, with @data; called from the main loop.
 * Returns: NULL with @error in G_IO_ERROR when the address is none. A broker that cannot be reached
 *     is no error: it is tried again.
 */
Broker *broker_new(BusContext *context, BusKind kind, const char *address,
                   const BrokerListener *listener, void *data, GError **error);

/** broker_free: disconnects. NULL is fine. Returns: NULL. */
Broker *broker_free(Broker *broker);

/**
 * broker_release: gives the name back and serves what came before the broker's confirmation.
 * @done: called once, from the loop, or at once while there is no connection.
 */
void broker_release(Broker *broker, void (*done)(void *data), void *data);

/** broker_is_quiet: nothing stands by, nothing is on its way in or out. */
gboolean broker_is_quiet(const Broker *broker);
