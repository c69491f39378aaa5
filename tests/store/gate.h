/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>

#include "store/sys.h"

/** Gate: where syncs wait until they may go on. All zero to begin with. */
typedef struct Gate {
    GMutex lock;
    GCond changed;
    guint begun;   /* syncs that have come to it */
    guint let;     /* that may go on */
    guint failing; /* number of the one that fails with EIO, counted from 1; 0 = none */
} Gate;

/** gate_pass: a SysHook; @data is the Gate. Blocks at it. */
int gate_pass(SysCall call, size_t *length, void *data);
/** gate_await: blocks until the @n-th sync has begun. */
void gate_await(Gate *gate, guint n);
/** gate_let: lets the first @n go on. */
void gate_let(Gate *gate, guint n);
