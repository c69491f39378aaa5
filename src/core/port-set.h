/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>

/** PortRange: first..last inclusive, host byte order; {0, 0} is "none". */
typedef struct PortRange {
    guint16 first;
    guint16 last;
} PortRange;

static inline gboolean port_range_is_set(PortRange range)
{
    return range.first != 0;
}

/** port_range_is_valid: 1 <= first <= last. */
static inline gboolean port_range_is_valid(PortRange range)
{
    return range.first >= 1 && range.first <= range.last;
}

static inline gboolean port_range_contains(PortRange range, guint port)
{
    return port_range_is_set(range) && port >= range.first && port <= range.last;
}

static inline gboolean port_range_overlaps(PortRange a, PortRange b)
{
    return port_range_is_set(a) && port_range_is_set(b) && a.first <= b.last && b.first <= a.last;
}

static inline guint port_range_length(PortRange range)
{
    return port_range_is_set(range) ? (guint)range.last - range.first + 1 : 0;
}

/** PortSet: a bitmap of the ports 0..65535, 8 KiB; all zero bytes are the empty set. */
typedef struct PortSet {
    guint64 words[65536 / 64];
} PortSet;

static inline gboolean port_set_contains(const PortSet *set, guint16 port)
{
    return (set->words[port / 64] >> (port % 64)) & 1;
}

static inline void port_set_add(PortSet *set, guint16 port)
{
    set->words[port / 64] |= G_GUINT64_CONSTANT(1) << (port % 64);
}

static inline void port_set_remove(PortSet *set, guint16 port)
{
    set->words[port / 64] &= ~(G_GUINT64_CONSTANT(1) << (port % 64));
}

/** port_set_add_range, port_set_remove_range: every port of @range; an unset range changes nothing.
 */
void port_set_add_range(PortSet *set, PortRange range);
void port_set_remove_range(PortSet *set, PortRange range);

/**
 * port_sets_find_free: the lowest port of @range that begins a run of @count ports inside @range of
 * which none is in any of the @n_sets sets. @count: 1 or more; an unset @range has no port.
 *
 * Works word by word, so the whole 1..65535 costs some 1,000 steps at the worst.
 * Returns: the port, or 0 where there is none.
 */
guint16 port_sets_find_free(const PortSet *const *sets, size_t n_sets, PortRange range,
                            guint count);

/**
 * port_sets_find_member: the lowest port from @from (0..65536) on that is in one of the sets.
 * Returns: the port, or 65536 where there is none.
 */
guint port_sets_find_member(const PortSet *const *sets, size_t n_sets, guint from);
