/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "bus/pace.h"

static gboolean somebody_else_calls(const Pace *pace, uid_t uid, gint64 now_usec)
{
    gint64 called_usec = uid == pace->last_uid ? pace->other_usec : pace->last_usec;

    return called_usec > 0 && now_usec - called_usec < PACE_MEMORY_USEC;
}

gint64 pace_due(const Pace *pace, uid_t uid, guint waiting, gint64 now_usec)
{
    if (waiting < PACE_CROWD || !somebody_else_calls(pace, uid, now_usec))
        return 0;
    return pace->next_usec;
}

void pace_served(Pace *pace, uid_t uid, guint waiting, gint64 now_usec)
{
    if (waiting >= PACE_CROWD) {
        pace->next_usec = now_usec + PACE_INTERVAL_USEC;
        return;
    }
    if (uid != pace->last_uid) {
        pace->other_usec = pace->last_usec;
        pace->last_uid = uid;
    }
    pace->last_usec = now_usec;
}
