/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <malloc.h>
#include <stdlib.h>
#include <string.h>

#include "registry-fixture.h"

/*
 * 60,000 leases: what each costs, and that a grant costs no more among them than among ten. The
 * times are held to a wide bound, so that a busy machine is no failure but a walk over all is.
 */

#define LEASES 60000
#define BYTES_A_LEASE_MAX 500
#define BYTES_EMPTY_MAX (256 * 1024)
#define SLOWER_MAX 8.0

/* The sanitizers bring an allocator of their own, which does not account. */
#if defined(__SANITIZE_ADDRESS__)
#define ACCOUNTED FALSE
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define ACCOUNTED FALSE
#endif
#endif
#ifndef ACCOUNTED
#define ACCOUNTED TRUE
#endif

static size_t heap_bytes(void)
{
    struct mallinfo2 info = mallinfo2();

    return info.uordblks + info.hblkhd;
}

static size_t resident_bytes(void)
{
    g_autofree char *text = NULL;
    guint64 pages;
    const char *second;

    if (!g_file_get_contents("/proc/self/statm", &text, NULL, NULL))
        return 0;
    second = strchr(text, ' ');
    pages = second ? g_ascii_strtoull(second, NULL, 10) : 0;
    return (size_t)pages * 4096;
}

static Configuration *wide(void)
{
    Configuration *config = fixture_configuration();

    fixture_add_type(config, "dev", 1024, 65535, PROTOCOL_TCP, NULL, 0);
    return config;
}

static void fill(Registry *registry, guint n)
{
    while (registry_count(registry) < n)
        g_assert_nonnull(fixture_grant(registry, &FIXTURE_REQUEST_AS(0, 1, "dev")));
}

static void test_memory(void)
{
    g_autoptr(Configuration) config = wide();
    g_autoptr(Registry) registry = NULL;
    size_t resident = resident_bytes();
    size_t heap = heap_bytes();
    size_t empty_resident;
    double bytes;

    if (!ACCOUNTED || mallinfo2().arena == 0) {
        g_test_skip("another allocator is at work");
        return;
    }
    registry = registry_new(config);
    reservation_free(fixture_open(registry, &FIXTURE_REQUEST("dev")));
    empty_resident = resident_bytes() - resident;
    g_test_message("an empty registry: %zu bytes resident, of %zu allocated", empty_resident,
                   heap_bytes() - heap);
    g_assert_cmpuint(empty_resident, <, BYTES_EMPTY_MAX);

    /* From before the registry was made: its arrays are part of the price. */
    fill(registry, LEASES);
    bytes = (double)(resident_bytes() - resident) / LEASES;
    g_test_message("%d leases: %.0f bytes each resident, sizeof(Lease) is %zu", LEASES, bytes,
                   sizeof(Lease));
    g_assert_cmpfloat(bytes, <, BYTES_A_LEASE_MAX);
}

/* The median of the nanoseconds that a grant and a release take while @n leases are held. */
static int compare_times(gconstpointer a, gconstpointer b)
{
    gint64 x = *(const gint64 *)a;
    gint64 y = *(const gint64 *)b;

    return (x > y) - (x < y);
}

static double grant_nsec(guint n)
{
    enum { ROUNDS = 101, GRANTS = 100 };
    g_autoptr(Configuration) config = wide();
    g_autoptr(Registry) registry = registry_new(config);
    gint64 times[ROUNDS];

    fill(registry, n);
    for (guint i = 0; i < ROUNDS; i++) {
        gint64 start_usec = g_get_monotonic_time();

        for (guint j = 0; j < GRANTS; j++)
            registry_remove(registry, fixture_grant(registry, &FIXTURE_REQUEST_AS(0, 1, "dev")),
                            REASON_RELEASED, NULL);
        times[i] = g_get_monotonic_time() - start_usec;
    }
    qsort(times, ROUNDS, sizeof times[0], compare_times);
    return (double)times[ROUNDS / 2] * 1000 / GRANTS;
}

static void test_time(void)
{
    double few, many;

    if (!ACCOUNTED || mallinfo2().arena == 0) {
        g_test_skip("another allocator is at work, which takes longer the more it has given out");
        return;
    }
    few = grant_nsec(10);
    many = grant_nsec(LEASES);
    g_test_message("grant and release: %.0f ns with 10 leases, %.0f ns with %d", few, many, LEASES);
    g_assert_cmpfloat(many, <, few * SLOWER_MAX + 2000);
}

static void test_conflicts(void)
{
    g_autoptr(Configuration) config = wide();
    g_autoptr(Registry) registry = registry_new(config);
    g_autoptr(Reservation) reservation = fixture_open(registry, &FIXTURE_REQUEST("dev"));
    gint64 start_usec = g_get_monotonic_time();
    guint16 port;

    for (guint i = 0; i < 1000; i++) {
        port = reservation_next(reservation, i);
        g_assert_cmpuint(port, ==, 1024 + i);
        reservation_conflict(reservation, port, i);
    }
    g_test_message("1000 conflicts in one round: %.0f ns each",
                   (double)(g_get_monotonic_time() - start_usec));

    /* All end in the order in which they began, and cost only themselves. */
    reservation_restart(reservation);
    g_assert_cmpuint(reservation_next(reservation, 999), ==, 2024);
    reservation_restart(reservation);
    g_assert_cmpuint(reservation_next(reservation, 30000000 + 499), ==, 1024);
    reservation_restart(reservation);
    for (guint i = 0; i < 500; i++)
        g_assert_cmpuint(reservation_next(reservation, 30000000 + 499), ==, 1024 + i);
    g_assert_cmpuint(reservation_next(reservation, 30000000 + 499), ==, 2024);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/registry/memory", test_memory);
    g_test_add_func("/registry/time", test_time);
    g_test_add_func("/registry/conflicts", test_conflicts);
    return g_test_run();
}
