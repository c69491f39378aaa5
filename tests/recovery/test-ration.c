/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "recovery/ration.h"

#define NOW_USEC (1000 * G_USEC_PER_SEC)

static void test_user(void)
{
    Ration *ration = ration_new(10, 25);

    g_assert_cmpuint(ration_left(ration, 1000, NOW_USEC), ==, 10);
    ration_use(ration, 1000, 7, NOW_USEC);
    g_assert_cmpuint(ration_left(ration, 1000, NOW_USEC), ==, 3);
    ration_use(ration, 1000, 7, NOW_USEC);
    g_assert_cmpuint(ration_left(ration, 1000, NOW_USEC), ==, 0);
    g_assert_cmpuint(ration_left(ration, 1001, NOW_USEC), ==, 10);
    g_assert_null(ration_free(ration));
}

static void test_total(void)
{
    Ration *ration = ration_new(10, 25);

    for (uid_t uid = 1000; uid < 1002; uid++)
        ration_use(ration, uid, 10, NOW_USEC);
    g_assert_cmpuint(ration_left(ration, 1002, NOW_USEC), ==, 5);
    ration_use(ration, 1002, 20, NOW_USEC);
    g_assert_cmpuint(ration_left(ration, 1003, NOW_USEC), ==, 0);
    g_assert_null(ration_free(ration));
}

static void test_next_second(void)
{
    Ration *ration = ration_new(10, 25);

    ration_use(ration, 1000, 100, NOW_USEC);
    g_assert_cmpuint(ration_left(ration, 1000, NOW_USEC + G_USEC_PER_SEC - 1), ==, 0);
    g_assert_cmpuint(ration_left(ration, 1001, NOW_USEC + G_USEC_PER_SEC - 1), ==, 0);
    g_assert_cmpuint(ration_left(ration, 1000, NOW_USEC + G_USEC_PER_SEC), ==, 10);
    ration_use(ration, 1000, 10, NOW_USEC + G_USEC_PER_SEC);
    g_assert_cmpuint(ration_left(ration, 1000, NOW_USEC + 2 * G_USEC_PER_SEC - 1), ==, 0);
    g_assert_cmpuint(ration_left(ration, 1001, NOW_USEC + 2 * G_USEC_PER_SEC - 1), ==, 10);
    g_assert_null(ration_free(ration));
}

int main(int argc, char *argv[])
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/ration/user", test_user);
    g_test_add_func("/ration/total", test_total);
    g_test_add_func("/ration/next-second", test_next_second);
    return g_test_run();
}
