/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>

#include "core/port-set.h"

/*
 * The ports that something outside had a moment ago, each until a time of its own. A bitmap for the
 * search and, in the same order as they end, a ring through one slot a port: memory is bounded
 * whatever callers do, and ending costs only what has ended.
 */

typedef struct CooldownSlot {
    gint64 ends_usec; /* 0 = the port is not on cooldown */
    guint16 prev;
    guint16 next;
} CooldownSlot;

/** Cooldowns: of one protocol; all zero bytes are "none". Slot 0, which is no port, is the ring's
 * head. */
typedef struct Cooldowns {
    PortSet set;
    CooldownSlot slots[65536];
} Cooldowns;

/** cooldowns_add: @port (1..65535) cools down until @ends_usec (> 0), whatever was said before. */
void cooldowns_add(Cooldowns *cooldowns, guint16 port, gint64 ends_usec);

/** cooldowns_remove: at once; fine where @port is on none. */
void cooldowns_remove(Cooldowns *cooldowns, guint16 port);

/** cooldowns_purge: removes all that end at @now_usec or before. */
void cooldowns_purge(Cooldowns *cooldowns, gint64 now_usec);
