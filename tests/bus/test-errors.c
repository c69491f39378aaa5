/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <gio/gio.h>

#include "bus/errors.h"
#include "bus/sd-bus-auto.h"

static void test_every_outcome_has_an_error(void)
{
    for (int outcome = OUTCOME_OK + 1; outcome < _OUTCOME_MAX; outcome++) {
        const char *name = bus_error_name((Outcome)outcome);

        g_assert_nonnull(name);
        g_assert_true(g_str_has_prefix(name, BUS_ERROR_PREFIX));
        g_assert_cmpint(bus_error_errno((Outcome)outcome), >, 0);
        for (int other = OUTCOME_OK + 1; other < outcome; other++) {
            g_assert_cmpstr(name, !=, bus_error_name((Outcome)other));
            g_assert_cmpint(bus_error_errno((Outcome)outcome), !=, bus_error_errno((Outcome)other));
        }
    }
    g_assert_null(bus_error_name(OUTCOME_OK));
    g_assert_cmpint(bus_error_errno(OUTCOME_OK), ==, 0);
}

static void test_sd_bus_knows_them(void)
{
    for (int outcome = OUTCOME_OK + 1; outcome < _OUTCOME_MAX; outcome++) {
        g_auto(sd_bus_error) error = SD_BUS_ERROR_NULL;
        int number = bus_error_errno((Outcome)outcome);

        g_assert_cmpint(bus_error_set(&error, (Outcome)outcome, "port %d", 7), ==, -number);
        g_assert_cmpstr(error.name, ==, bus_error_name((Outcome)outcome));
        g_assert_cmpstr(error.message, ==, "port 7");
        g_assert_cmpint(sd_bus_error_get_errno(&error), ==, number);
    }
}

static void test_gerror(void)
{
    g_autoptr(GError) ours = g_error_new(OUTCOME_ERROR, OUTCOME_BUSY, "100%% of it");
    g_autoptr(GError) foreign = g_error_new(G_IO_ERROR, G_IO_ERROR_FAILED, "no %%s here");
    g_auto(sd_bus_error) error = SD_BUS_ERROR_NULL;
    g_auto(sd_bus_error) other = SD_BUS_ERROR_NULL;

    g_assert_cmpint(bus_error_set_gerror(&error, ours), ==, -EBUSY);
    g_assert_cmpstr(error.name, ==, BUS_ERROR_PREFIX "Busy");
    g_assert_cmpstr(error.message, ==, "100% of it");
    g_assert_cmpint(bus_error_set_gerror(&other, foreign), <, 0);
    g_assert_cmpstr(other.name, ==, SD_BUS_ERROR_FAILED);
    g_assert_cmpstr(other.message, ==, "no %s here");
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    bus_errors_init();
    bus_errors_init(); /* more than once is fine */
    g_test_add_func("/bus/errors/complete", test_every_outcome_has_an_error);
    g_test_add_func("/bus/errors/sd-bus", test_sd_bus_knows_them);
    g_test_add_func("/bus/errors/gerror", test_gerror);
    return g_test_run();
}
