/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "core/port-set.h"

static guint16 naive_find(const PortSet *a, const PortSet *b, PortRange range, guint count)
{
    for (guint first = range.first; first != 0 && first + count - 1 <= range.last; first++) {
        guint n = 0;

        while (n < count && !port_set_contains(a, (guint16)(first + n)) &&
               !port_set_contains(b, (guint16)(first + n)))
            n++;
        if (n == count)
            return (guint16)first;
    }
    return 0;
}

static void test_edges(void)
{
    g_autofree PortSet *set = g_new0(PortSet, 1);
    const PortSet *const sets[] = {set};
    const struct {
        PortRange taken;
        PortRange range;
        guint count;
        guint16 found;
    } cases[] = {
        {{0, 0}, {1, 65535}, 1, 1},         {{0, 0}, {1, 65535}, 65535, 1},
        {{0, 0}, {65535, 65535}, 1, 65535}, {{0, 0}, {0, 0}, 1, 0},
        {{0, 0}, {3000, 3009}, 11, 0},      {{1, 65535}, {1, 65535}, 1, 0},
        {{1, 65534}, {1, 65535}, 1, 65535}, {{1, 65533}, {1, 65535}, 3, 0},
        {{64, 127}, {60, 140}, 4, 60},      {{64, 127}, {60, 140}, 5, 128},
        {{64, 127}, {64, 127}, 1, 0},       {{3005, 3005}, {3000, 3010}, 5, 3000},
        {{3005, 3005}, {3000, 3010}, 6, 0},
    };

    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        *set = (PortSet){0};
        port_set_add_range(set, cases[i].taken);
        g_assert_cmpuint(port_sets_find_free(sets, 1, cases[i].range, cases[i].count), ==,
                         cases[i].found);
        if (port_range_is_set(cases[i].taken))
            g_assert_cmpuint(port_sets_find_member(sets, 1, 0), ==, cases[i].taken.first);
        g_assert_cmpuint(port_sets_find_member(sets, 1, cases[i].taken.last + 1u), ==, 65536);
        port_set_remove_range(set, cases[i].taken);
        g_assert_cmpuint(port_sets_find_member(sets, 1, 0), ==, 65536);
    }
}

static void test_random(void)
{
    g_autofree PortSet *a = g_new0(PortSet, 1);
    g_autofree PortSet *b = g_new0(PortSet, 1);
    const PortSet *const sets[] = {a, b};
    guint found = 0;

    for (guint round = 0; round < 3000; round++) {
        guint16 base = (guint16)g_test_rand_int_range(1, 65536 - 300);
        PortRange range = {base, (guint16)(base + g_test_rand_int_range(0, 300))};
        guint count = (guint)g_test_rand_int_range(1, 9);
        guint16 port;

        *a = *b = (PortSet){0};
        for (guint i = 0; i < 200; i++) {
            port_set_add(i % 2 ? a : b, (guint16)(base + g_test_rand_int_range(0, 300)));
            if (i % 7 == 0)
                port_set_add_range(a, (PortRange){(guint16)(base + i), (guint16)(base + i + 5)});
        }
        port = port_sets_find_free(sets, 2, range, count);
        g_assert_cmpuint(port, ==, naive_find(a, b, range, count));
        found += port != 0;
    }
    g_assert_cmpuint(found, >, 300); /* both answers came up often enough to mean something */
    g_assert_cmpuint(found, <, 2990);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/port-set/edges", test_edges);
    g_test_add_func("/port-set/random", test_random);
    return g_test_run();
}
