/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Work goes on where the loop has time, and where it never has. */
#include "util/slices.h"

typedef struct Work {
    Slices *slices;
    guint done, enough;
} Work;

static void slice(void *data)
{
    Work *work = data;

    if (++work->done == work->enough)
        work->slices = slices_stop(work->slices);
}

static gboolean on_busy(gpointer data)
{
    ++*(guint *)data;
    return G_SOURCE_CONTINUE;
}

static void run(GMainContext *context, const Work *work)
{
    gint64 end_usec = g_get_monotonic_time() + 10 * G_USEC_PER_SEC;

    while (work->slices && g_get_monotonic_time() < end_usec)
        (void)g_main_context_iteration(context, TRUE);
    g_assert_null(work->slices);
}

static void test_idle(void)
{
    g_autoptr(GMainContext) context = g_main_context_new();
    Work work = {.enough = 500};
    gint64 began_usec = g_get_monotonic_time();

    work.slices = slices_start(context, "test", slice, &work);
    g_assert_cmpuint(work.done, ==, 0);
    run(context, &work);
    g_assert_cmpuint(work.done, ==, 500);
    /* at 5 ms each these would be 2.5 seconds */
    g_assert_cmpint(g_get_monotonic_time() - began_usec, <, 2 * G_USEC_PER_SEC);
    g_assert_false(g_main_context_pending(context));
}

static void test_busy(void)
{
    g_autoptr(GMainContext) context = g_main_context_new();
    g_autoptr(GSource) busy = g_idle_source_new();
    Work work = {.enough = 10};
    guint turns = 0;

    g_source_set_priority(busy, G_PRIORITY_DEFAULT);
    g_source_set_callback(busy, on_busy, &turns, NULL);
    (void)g_source_attach(busy, context);
    work.slices = slices_start(context, "test", slice, &work);
    run(context, &work);
    g_assert_cmpuint(turns, >, 10); /* and what keeps it busy had its turns, too */
    g_source_destroy(busy);
}

static void test_stop(void)
{
    g_autoptr(GMainContext) context = g_main_context_new();
    Work work = {.enough = 1};

    work.slices = slices_start(context, "test", slice, &work);
    work.slices = slices_stop(work.slices);
    g_assert_false(g_main_context_iteration(context, FALSE));
    g_assert_cmpuint(work.done, ==, 0);
    g_assert_null(slices_stop(NULL));
}

int main(int argc, char *argv[])
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/slices/idle", test_idle);
    g_test_add_func("/slices/busy", test_busy);
    g_test_add_func("/slices/stop", test_stop);
    return g_test_run();
}
