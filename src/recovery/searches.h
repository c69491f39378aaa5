/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "recovery/manager-private.h"

/*
 * The searches that go on over more than one turn of the loop. All of them together have one slice
 * of time in each turn. Users take turns in it, and the searches of one user take turns in his.
 * SEARCHES_AT_ONCE of them go on at once, the others of the user wait for one to end.
 */
typedef struct Searches Searches;

#define SEARCHES_AT_ONCE 16

/** searches_new: @manager: borrowed, outlives it; its queue of deadlines is there already. */
Searches *searches_new(Manager *manager);
/** searches_free: no search is left in it. NULL is fine. Returns: NULL. */
Searches *searches_free(Searches *searches);

/** searches_add: job_step() is called for @job from now on, never from within this call. */
void searches_add(Searches *searches, ManagerJob *job);

/** searches_remove: the search has ended or pauses. Nothing where @job is not in it. */
void searches_remove(Searches *searches, ManagerJob *job);

/** searches_has: whether a search of the user's is in it. */
gboolean searches_has(const Searches *searches, uid_t uid);
