/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>

/*
 * A queue whose owners take turns: first in, first out for each of them, and who has put in many
 * makes nobody else wait for more than one of his at a time.
 */
typedef struct Turns Turns;

/** turns_new: an empty one. */
Turns *turns_new(void);

/** turns_free: nothing is left in it. NULL is fine. Returns: NULL. */
Turns *turns_free(Turns *turns);

/** turns_push: @link (borrowed until it is popped, in no queue) becomes the last one of @owner. An
 * owner who had none gets his turn after the others. O(1). */
void turns_push(Turns *turns, guint owner, GList *link);

/** turns_pop: Returns: (transfer full): the first one of the owner whose turn it is, who is behind
 * the others then; NULL = it is empty. O(1). */
GList *turns_pop(Turns *turns);

/** turns_is_empty: whether turns_pop() would return NULL. */
gboolean turns_is_empty(const Turns *turns);
