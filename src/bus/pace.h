/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>
#include <sys/types.h>

/*
 * How fast callers behind a broker are served, when one of them has a crowd of calls waiting.
 *
 * Whoever keeps hundreds of calls under way sends the next ones as soon as some are answered. If
 * they are answered as fast as we can, all of it is forever on its way through the broker, in both
 * directions, and everybody else's call and answer stand in that row, where we cannot let them take
 * turns. Measured with 512 calls under way through dbus-daemon 1.14: somebody else's call took 16
 * times as long at the 99th percentile. Answered a little later, the crowd waits with us, the
 * broker is empty, and it is 3 times.
 *
 * So while somebody else calls, too, crowds are served at PACE_INTERVAL_USEC a call, all of them
 * together. Alone, nobody is held back. Pure: time is an argument, CLOCK_MONOTONIC in microseconds.
 */
typedef struct Pace {
    uid_t last_uid;    /* who called last without having a crowd */
    gint64 last_usec;  /* when; 0 = nobody */
    gint64 other_usec; /* when somebody else than he did last; 0 = never */
    gint64 next_usec;  /* the next call of a crowd may be served */
} Pace;

/** PACE_CROWD: from so many calls waiting on they are a crowd. */
#define PACE_CROWD 16
#define PACE_INTERVAL_USEC 200
/** PACE_MEMORY_USEC: so long somebody who called counts as one who calls. */
#define PACE_MEMORY_USEC (300 * G_TIME_SPAN_MILLISECOND)

/** pace_due: when a call of @uid's may be served, of whom @waiting calls wait; the past = now. */
gint64 pace_due(const Pace *pace, uid_t uid, guint waiting, gint64 now_usec);

/** pace_served: a call of @uid's is served now, of whom @waiting calls waited, with this one. */
void pace_served(Pace *pace, uid_t uid, guint waiting, gint64 now_usec);
