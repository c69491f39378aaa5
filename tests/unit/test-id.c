/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Ids are drawn from a pool: nobody draws one twice, not in threads and not in a fork. */
#include "util/id.h"

#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "util/fd.h"

#define DRAWS 1000 /* empties the pool many times */
#define THREADS 4

static void check_form(const Id *id)
{
    g_assert_true(id_is_valid(id->text));
    /* RFC 9562, 5.4: version 4, variant 10 */
    g_assert_cmpint(id->text[12], ==, '4');
    g_assert_nonnull(strchr("89ab", id->text[16]));
}

static void expect_new(GHashTable *seen, const Id *id)
{
    check_form(id);
    g_assert_true(g_hash_table_add(seen, g_strdup(id->text)));
}

static void *draw(void *data)
{
    Id *ids = data;

    for (guint i = 0; i < DRAWS; i++)
        ids[i] = id_random();
    return NULL;
}

static void test_threads(void)
{
    static Id ids[THREADS][DRAWS];
    g_autoptr(GHashTable) seen = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    GThread *threads[THREADS];

    for (guint i = 0; i < THREADS; i++)
        threads[i] = g_thread_new("draw", draw, ids[i]);
    for (guint i = 0; i < THREADS; i++) {
        (void)g_thread_join(threads[i]);
        for (guint j = 0; j < DRAWS; j++)
            expect_new(seen, &ids[i][j]);
    }
}

static void test_fork(void)
{
    g_autoptr(GHashTable) seen = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    Id id = id_random(); /* there is a pool to inherit */
    int ends[2];
    pid_t child;

    expect_new(seen, &id);
    g_assert_no_errno(pipe(ends));
    child = fork();
    g_assert_no_errno(child);
    if (child == 0) {
        for (guint i = 0; i < 10; i++) {
            id = id_random();
            (void)!write(ends[1], &id, sizeof id); /* what is missing is missed below */
        }
        /* A leak finder would count what the parent's frames hold as lost at an exit. */
        (void)kill(getpid(), SIGKILL);
    }
    (void)fd_close(ends[1]);
    g_assert_cmpint(waitpid(child, NULL, 0), ==, child);
    for (guint i = 0; i < 10; i++) {
        g_assert_cmpint(read(ends[0], &id, sizeof id), ==, sizeof id);
        expect_new(seen, &id);
        id = id_random();
        expect_new(seen, &id);
    }
    (void)fd_close(ends[0]);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/id/threads", test_threads);
    g_test_add_func("/id/fork", test_fork);
    return g_test_run();
}
