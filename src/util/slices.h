/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>

/*
 * Work that is too long for one turn of the main loop, done in slices: whenever the loop has
 * nothing else to do, and every 5 ms where it has not had for as long.
 */
typedef struct Slices Slices;

/** SlicesFunc: does a slice of the work, a millisecond of it at most. May call slices_stop(). */
typedef void (*SlicesFunc)(void *data);

/**
 * slices_start: calls @func in turns of @context (NULL: the default one), not before the next one,
 * until slices_stop(). @name: static text, for debuggers.
 */
Slices *slices_start(GMainContext *context, const char *name, SlicesFunc func, void *data);

/** slices_stop: from anywhere in the thread of the context; NULL is fine. Returns: NULL. */
Slices *slices_stop(Slices *slices);
