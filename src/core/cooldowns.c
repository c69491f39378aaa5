/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "core/cooldowns.h"

void cooldowns_add(Cooldowns *cooldowns, guint16 port, gint64 ends_usec)
{
    CooldownSlot *slots = cooldowns->slots;
    guint16 before;

    g_assert(port != 0 && ends_usec > 0);
    cooldowns_remove(cooldowns, port);

    /* All last equally long unless the configuration changes, so the place is nearly always the
     * end. */
    before = slots[0].prev;
    while (before != 0 && slots[before].ends_usec > ends_usec)
        before = slots[before].prev;

    slots[port].ends_usec = ends_usec;
    slots[port].prev = before;
    slots[port].next = slots[before].next;
    slots[slots[port].next].prev = port;
    slots[before].next = port;
    port_set_add(&cooldowns->set, port);
}

void cooldowns_remove(Cooldowns *cooldowns, guint16 port)
{
    CooldownSlot *slots = cooldowns->slots;

    if (!port_set_contains(&cooldowns->set, port))
        return;
    slots[slots[port].prev].next = slots[port].next;
    slots[slots[port].next].prev = slots[port].prev;
    slots[port] = (CooldownSlot){0};
    port_set_remove(&cooldowns->set, port);
}

void cooldowns_purge(Cooldowns *cooldowns, gint64 now_usec)
{
    const CooldownSlot *slots = cooldowns->slots;

    while (slots[0].next != 0 && slots[slots[0].next].ends_usec <= now_usec)
        cooldowns_remove(cooldowns, slots[0].next);
}
