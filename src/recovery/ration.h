/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>
#include <sys/types.h>

/*
 * What users may have of something in each second: each of them so much, all of them together so
 * much. Who has used up his part waits for the next second, and leaves the others theirs as long as
 * the whole lasts. Pure: time is an argument, CLOCK_MONOTONIC in microseconds.
 */
typedef struct Ration Ration;

/** ration_new: @user_max, @total_max: in a second, in whatever unit the caller counts. */
Ration *ration_new(guint64 user_max, guint64 total_max);

/** ration_free: NULL is fine. Returns: NULL. */
Ration *ration_free(Ration *ration);

/** ration_left: what @uid may still have in this second. */
guint64 ration_left(Ration *ration, uid_t uid, gint64 now_usec);

/** ration_use: @amount: may be more than is left. What is over is not taken from later seconds. */
void ration_use(Ration *ration, uid_t uid, guint64 amount, gint64 now_usec);
