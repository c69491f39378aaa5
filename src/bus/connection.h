/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>
#include <systemd/sd-bus.h>

#include "bus/bus-source.h"
#include "recovery/manager.h"
#include "util/deadline.h"

typedef struct BulkQueue BulkQueue;
typedef struct Caller Caller;
typedef struct Outbox Outbox;
typedef struct Pictures Pictures;

/** BusContext: what all connections of one service share. Belongs to the service; nothing outlives
 * it. */
typedef struct BusContext {
    Manager *manager;         /* borrowed */
    DeadlineQueue *deadlines; /* owned by the service, like all below */
    BusSource *source;
    Outbox *outbox;
    BulkQueue *bulk;
    Pictures *pictures;
    gboolean own_uid_administrates; /* the daemon's own uid counts as an administrator's */
    sd_bus *broker_bus; /* borrowed: for calls to others on the message bus; NULL: there is none */
    GHashTable *questions; /* uid -> number of those that polkit thinks about */
    guint n_calls;         /* calls that wait for their answer */
} BusContext;

/** Connection: one sd-bus connection, to a broker or to a direct client. */
typedef struct Connection {
    BusContext *context; /* borrowed */
    sd_bus *bus;         /* owned reference */
    BusLink *link;       /* owned */
    Caller *current; /* borrowed: who sent the message that is being handled, NULL = not known */
    Caller *peer;    /* owned: the one client of a direct connection; NULL on a broker */
    gboolean named;  /* broker: our name is owned, so somebody may listen */
    guint subscriptions; /* direct: matches that can select our signals */
    gboolean subscribed; /* direct: by the method Subscribe */
    GList listening;     /* intrusive, in the outbox's list of direct listeners */
    gboolean is_listening;
} Connection;
