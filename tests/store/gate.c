/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "gate.h"

#include <errno.h>

int gate_pass(SysCall call, size_t *length, void *data)
{
    Gate *gate = data;
    guint number;

    if (call != SYS_CALL_FDATASYNC)
        return 0;
    g_mutex_lock(&gate->lock);
    number = ++gate->begun;
    g_cond_broadcast(&gate->changed);
    while (number > gate->let)
        g_cond_wait(&gate->changed, &gate->lock);
    g_mutex_unlock(&gate->lock);
    return number == gate->failing ? EIO : 0;
}

void gate_await(Gate *gate, guint n)
{
    g_mutex_lock(&gate->lock);
    while (gate->begun < n)
        g_cond_wait(&gate->changed, &gate->lock);
    g_mutex_unlock(&gate->lock);
}

void gate_let(Gate *gate, guint n)
{
    g_mutex_lock(&gate->lock);
    gate->let = n;
    g_cond_broadcast(&gate->changed);
    g_mutex_unlock(&gate->lock);
}
