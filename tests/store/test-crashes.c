/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The daemon dies at each of its calls to the disk in turn: before the call, or in the middle of a
 * write. What was answered is there afterwards, what was not even asked for is not, and of the one
 * call under way either all or nothing is.
 */
#include <errno.h>
#include <glib-unix.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fixture.h"
#include "store/sys.h"
#include "util/fd.h"
#include "util/file.h"

#define CALLS_MAX 2000

/* What the child tells: PLAN before a call, DONE or REFUSED after it. */
typedef struct Message {
    enum { PLAN_GRANT, PLAN_END, DONE, REFUSED } what;
    guint16 port;
} Message;

typedef struct Death {
    gint calls;
    gint at;
    gboolean in_write; /* writes half of it first */
    gint sync_to_fail; /* 1 = the next one */
} Death;

static Death death;

static int die_at(SysCall call, size_t *length, void *data)
{
    if (g_atomic_int_add(&death.calls, 1) + 1 != g_atomic_int_get(&death.at))
        return call == SYS_CALL_FDATASYNC && g_atomic_int_add(&death.sync_to_fail, -1) == 1 ? EIO
                                                                                            : 0;
    if (death.in_write && call == SYS_CALL_WRITE) {
        /* the next call is the end then */
        g_atomic_int_inc(&death.at);
        *length /= 2;
        return 0;
    }
    (void)kill(getpid(), SIGKILL);
    return 0;
}

static void tell(int fd, int what, guint16 port)
{
    Message message;

    memset(&message, 0, sizeof(message)); /* the padding is written, too */
    message.what = what;
    message.port = port;
    g_assert_cmpint(file_write_all(fd, &message, sizeof(message)), ==, 0);
}

static void end(Fixture *fixture, int fd, guint16 port)
{
    if (!g_tree_lookup(fixture->leases, GUINT_TO_POINTER(port)))
        return;
    tell(fd, PLAN_END, port);
    tell(fd, fixture_end(fixture, port, NULL) ? DONE : REFUSED, port);
}

static void grant(Fixture *fixture, int fd, guint16 port, gboolean durable)
{
    g_autoptr(GError) error = NULL;
    gboolean good;

    end(fixture, fd, port);
    tell(fd, PLAN_GRANT, port);
    good = durable ? fixture_grant_durable(fixture, port, &error)
                   : fixture_grant(fixture, port, &error);
    tell(fd, good ? DONE : REFUSED, port);
}

/* One life of a daemon, on top of what is there. */
static void live(Fixture *fixture, int fd)
{
    fixture_start(fixture);
    for (guint16 port = 3000; port < 3006; port++)
        grant(fixture, fd, port, FALSE);
    end(fixture, fd, 3001);
    for (guint16 port = 3006; port < 3009; port++)
        grant(fixture, fd, port, TRUE);
    for (guint i = 0; i < 2; i++) {
        store_compact(fixture->store);
        for (guint16 port = 3010; port < 3014; port++) {
            end(fixture, fd, port);
            grant(fixture, fd, port, port % 2);
            (void)g_main_context_iteration(fixture->context, FALSE);
        }
        fixture_settle(fixture);
    }
    end(fixture, fd, 3000);
    /* refused, taken back, and everything is written anew */
    g_atomic_int_set(&death.sync_to_fail, 1);
    grant(fixture, fd, 3019, TRUE);
    fixture_settle(fixture);
    g_assert_cmpuint(fixture->failed_told, ==, 1);
    grant(fixture, fd, 3020, TRUE);
    fixture_close(fixture);
}

/* Returns: whether the child died of it. */
static gboolean run_child(Fixture *fixture, int fd, gint at, gboolean in_write)
{
    int status;
    pid_t child;

    child = fork();
    g_assert_cmpint(child, >=, 0);
    if (child == 0) {
        death = (Death){.at = at, .in_write = in_write};
        sys_set_hook(die_at, NULL);
        live(fixture, fd);
        _exit(0);
    }
    (void)fd_close(fd);
    g_assert_cmpint(waitpid(child, &status, 0), ==, child);
    if (WIFEXITED(status)) {
        g_assert_cmpint(WEXITSTATUS(status), ==, 0);
        return FALSE;
    }
    g_assert_true(WIFSIGNALED(status));
    g_assert_cmpint(WTERMSIG(status), ==, SIGKILL);
    return TRUE;
}

typedef struct Known {
    GHashTable *ports; /* of leases that must be there */
    Message under_way; /* .port 0 = none */
} Known;

static void read_messages(int fd, Known *known)
{
    Message message;
    ssize_t n;

    known->under_way = (Message){DONE, 0};
    while ((n = read(fd, &message, sizeof(message))) > 0) {
        g_assert_cmpint(n, ==, sizeof(message));
        if (message.what == PLAN_GRANT || message.what == PLAN_END) {
            known->under_way = message;
            continue;
        }
        if (message.what == DONE && known->under_way.what == PLAN_GRANT)
            g_hash_table_add(known->ports, GUINT_TO_POINTER(message.port));
        else if (message.what == DONE)
            g_hash_table_remove(known->ports, GUINT_TO_POINTER(message.port));
        known->under_way = (Message){DONE, 0};
    }
    g_assert_cmpint(n, ==, 0);
}

static void assert_loads(Fixture *fixture, Known *known)
{
    g_autoptr(StoreContents) contents = NULL;
    g_autoptr(GHashTable) found = g_hash_table_new(NULL, NULL);
    g_autoptr(GError) error = NULL;
    GHashTableIter iter;
    void *port;

    fixture_open(fixture);
    contents = store_load(fixture->store, FALSE, &error);
    g_assert_no_error(error);
    if (contents->damage->len > 0)
        g_error("%s: %s", ((StoreDamage *)contents->damage->pdata[0])->file,
                ((StoreDamage *)contents->damage->pdata[0])->what);
    for (guint i = 0; i < contents->leases->len; i++) {
        const Lease *lease = contents->leases->pdata[i];

        g_assert_true(g_hash_table_add(found, GUINT_TO_POINTER(lease->port)));
        if (!g_hash_table_contains(known->ports, GUINT_TO_POINTER(lease->port)))
            g_assert_cmpuint(lease->port, ==, known->under_way.port);
    }
    g_hash_table_iter_init(&iter, known->ports);
    while (g_hash_table_iter_next(&iter, &port, NULL))
        if (!g_hash_table_contains(found, port))
            g_assert_cmpuint(GPOINTER_TO_UINT(port), ==, known->under_way.port);
    /* the call under way is what it turned out to be */
    port = GUINT_TO_POINTER(known->under_way.port);
    if (g_hash_table_contains(found, port))
        g_hash_table_add(known->ports, port);
    else
        g_hash_table_remove(known->ports, port);
    fixture_close(fixture);
}

/* @generations: lives one after the other on the same files, each dying at the same place. */
static gboolean try_place(gint at, gboolean in_write, guint generations)
{
    g_autoptr(Fixture) fixture = fixture_new();
    g_autoptr(GHashTable) ports = g_hash_table_new(NULL, NULL);
    Known known = {.ports = ports};
    gboolean died = TRUE;

    for (guint i = 0; i < generations && died; i++) {
        AUTO_FD from = -1;
        int ends[2];

        g_assert_true(g_unix_open_pipe(ends, FD_CLOEXEC, NULL));
        from = ends[0];
        died = run_child(fixture, ends[1], at, in_write);
        read_messages(from, &known);
        assert_loads(fixture, &known);
    }
    return died;
}

static void try_all(gboolean in_write, guint generations)
{
    gint at = 1;

    while (at < CALLS_MAX && try_place(at, in_write, generations))
        at++;
    g_test_message("%d places", at - 1);
    g_assert_cmpint(at, >, 60);
    g_assert_cmpint(at, <, CALLS_MAX);
}

static void test_before(void)
{
    try_all(FALSE, 1);
}

static void test_in_write(void)
{
    try_all(TRUE, 1);
}

static void test_again_and_again(void)
{
    try_all(FALSE, 3);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/crashes/before", test_before);
    g_test_add_func("/crashes/in-write", test_in_write);
    g_test_add_func("/crashes/again-and-again", test_again_and_again);
    return g_test_run();
}
