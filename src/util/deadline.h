/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>

/*
 * One ordered queue of deadlines behind one GSource.
 *
 * A GMainContext looks at every source in each turn, so ten thousand timeout sources make every
 * turn slow. Here the context sees a single source that is ready when the earliest entry is. All of
 * it belongs to the thread that runs the context.
 */
typedef struct DeadlineQueue DeadlineQueue;
typedef struct Deadline Deadline;

/** DeadlineFunc: called once, from the main loop; the Deadline is already gone and may be re-armed.
 */
typedef void (*DeadlineFunc)(void *data);

/** deadline_queue_new: attaches the queue to @context (NULL: the default one). */
DeadlineQueue *deadline_queue_new(GMainContext *context);

/** deadline_queue_free: drops all entries without calling them. NULL is fine. Returns: NULL. */
DeadlineQueue *deadline_queue_free(DeadlineQueue *queue);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(DeadlineQueue, deadline_queue_free)

/**
 * deadline_add: calls @func once when @when_usec has passed.
 * @when_usec: CLOCK_MONOTONIC microseconds as of g_get_monotonic_time(); the past means "at once",
 *     still from the main loop and never from within this call.
 *
 * O(log n). Entries of one time are called in the order in which they were added.
 *
 * Returns: (transfer none): valid until @func was called or deadline_cancel().
 */
Deadline *deadline_add(DeadlineQueue *queue, gint64 when_usec, DeadlineFunc func, void *data);

/** deadline_cancel: forgets an entry; NULL is fine. O(log n). Returns: NULL. */
Deadline *deadline_cancel(Deadline *deadline);

/** deadline_queue_length: the entries that wait. */
guint deadline_queue_length(const DeadlineQueue *queue);
