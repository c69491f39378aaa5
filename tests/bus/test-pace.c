/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "bus/pace.h"

#define LOUD 1000
#define LOUDER 1001
#define QUIET 1002
#define NOW ((gint64)G_USEC_PER_SEC)

/* How many calls of a crowd of @uid's are served within @span_usec from @now_usec on. */
static guint served(Pace *pace, uid_t uid, gint64 now_usec, gint64 span_usec)
{
    guint n = 0;

    for (gint64 t = now_usec; t < now_usec + span_usec; t++)
        if (pace_due(pace, uid, PACE_CROWD, t) <= t) {
            pace_served(pace, uid, PACE_CROWD, t);
            n++;
        }
    return n;
}

static void test_alone(void)
{
    Pace pace = {0};

    g_assert_cmpuint(served(&pace, LOUD, NOW, 1000), ==, 1000);
    /* his own calls are nobody else's */
    pace_served(&pace, LOUD, 1, NOW + 1000);
    g_assert_cmpuint(served(&pace, LOUD, NOW + 1000, 1000), ==, 1000);
}

static void test_beside_somebody(void)
{
    Pace pace = {0};
    guint n;

    pace_served(&pace, QUIET, 1, NOW);
    n = served(&pace, LOUD, NOW, 10000);
    g_assert_cmpuint(n, ==, 10000 / PACE_INTERVAL_USEC);
    /* the quiet one is never held back, nor is one with some calls under way */
    g_assert_cmpint(pace_due(&pace, QUIET, 1, NOW + 10000), ==, 0);
    g_assert_cmpint(pace_due(&pace, LOUD, PACE_CROWD - 1, NOW + 10000), ==, 0);
    /* it ends some time after he called last */
    g_assert_cmpint(pace_due(&pace, LOUD, PACE_CROWD, NOW + PACE_MEMORY_USEC - 1), >, 0);
    g_assert_cmpint(pace_due(&pace, LOUD, PACE_CROWD, NOW + PACE_MEMORY_USEC), ==, 0);
}

static void test_together(void)
{
    Pace pace = {0};
    guint n;

    pace_served(&pace, QUIET, 1, NOW);
    n = served(&pace, LOUD, NOW, 5000) + served(&pace, LOUDER, NOW + 5000, 5000);
    g_assert_cmpuint(n, ==, 10000 / PACE_INTERVAL_USEC);
    /* two crowds alone: neither is somebody who has to wait for the other */
    pace = (Pace){0};
    g_assert_cmpuint(served(&pace, LOUD, NOW, 1000), ==, 1000);
    g_assert_cmpuint(served(&pace, LOUDER, NOW, 1000), ==, 1000);
}

/* Each of two who call in turn is somebody else to the other. */
static void test_who_else(void)
{
    Pace pace = {0};

    pace_served(&pace, LOUD, 1, NOW);
    pace_served(&pace, QUIET, 1, NOW + 1);
    pace_served(&pace, LOUD, 1, NOW + 2);
    pace_served(&pace, LOUD, PACE_CROWD, NOW + 3);
    g_assert_cmpint(pace_due(&pace, LOUD, PACE_CROWD, NOW + 4), >, 0);
    g_assert_cmpint(pace_due(&pace, QUIET, PACE_CROWD, NOW + 4), >, 0);
    /* QUIET called at NOW + 1 */
    g_assert_cmpint(pace_due(&pace, LOUD, PACE_CROWD, NOW + 1 + PACE_MEMORY_USEC), ==, 0);
    g_assert_cmpint(pace_due(&pace, QUIET, PACE_CROWD, NOW + 1 + PACE_MEMORY_USEC), >, 0);
}

int main(int argc, char *argv[])
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/pace/alone", test_alone);
    g_test_add_func("/pace/beside-somebody", test_beside_somebody);
    g_test_add_func("/pace/together", test_together);
    g_test_add_func("/pace/who-else", test_who_else);
    return g_test_run();
}
