/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "core/port-set.h"

#define PORTS 65536

/* The first position from..PORTS-1 whose bit in the union of the sets is @wanted, or PORTS. */
static guint next_bit(const PortSet *const *sets, size_t n_sets, guint from, gboolean wanted)
{
    guint64 mask;

    if (from >= PORTS)
        return PORTS;
    mask = ~G_GUINT64_CONSTANT(0) << (from % 64);
    for (guint i = from / 64; i < PORTS / 64; i++) {
        guint64 word = 0;

        for (size_t j = 0; j < n_sets; j++)
            word |= sets[j]->words[i];
        word = (wanted ? word : ~word) & mask;
        if (word)
            return i * 64 + (guint)__builtin_ctzll(word);
        mask = ~G_GUINT64_CONSTANT(0);
    }
    return PORTS;
}

void port_set_add_range(PortSet *set, PortRange range)
{
    for (guint port = range.first; port_range_contains(range, port); port++)
        port_set_add(set, (guint16)port);
}

void port_set_remove_range(PortSet *set, PortRange range)
{
    for (guint port = range.first; port_range_contains(range, port); port++)
        port_set_remove(set, (guint16)port);
}

guint16 port_sets_find_free(const PortSet *const *sets, size_t n_sets, PortRange range, guint count)
{
    guint from = range.first;

    g_assert(count >= 1);
    if (!port_range_is_set(range))
        return 0;
    for (;;) {
        guint first = next_bit(sets, n_sets, from, FALSE);
        guint end;

        if (first > range.last || count > range.last - first + 1)
            return 0;
        if (count == 1)
            return (guint16)first;
        end = next_bit(sets, n_sets, first, TRUE);
        if (end - first >= count)
            return (guint16)first;
        from = end + 1;
    }
}

guint port_sets_find_member(const PortSet *const *sets, size_t n_sets, guint from)
{
    return next_bit(sets, n_sets, from, TRUE);
}
