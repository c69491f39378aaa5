/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>
#include <sys/types.h>

#include "core/registry.h"

/*
 * Which port a uid, type and instance had last; so many for each user, the oldest goes first.
 */
typedef struct Stickies Stickies;

Stickies *stickies_new(void);
/** stickies_free: NULL is fine. Returns: NULL. */
Stickies *stickies_free(Stickies *stickies);

/**
 * stickies_set: remembers @sticky as the newest of its user, in place of an older one of the same
 * type and instance. @limit: how many the user may have after it; 0 = nothing is remembered.
 */
void stickies_set(Stickies *stickies, const StickyPort *sticky, guint limit);

/** stickies_find: the port, or 0. */
guint16 stickies_find(const Stickies *stickies, uid_t uid, const char *service_type,
                      const char *instance);

/** stickies_foreach: the oldest of each user first. */
void stickies_foreach(const Stickies *stickies, void (*func)(const StickyPort *sticky, void *data),
                      void *data);
