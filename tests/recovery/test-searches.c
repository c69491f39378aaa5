/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Many searches over ports that are all held: what they take from others, and what they leave. */
#include "fixture.h"

#include <sys/socket.h>

#include "recovery/job.h"
#include "recovery/searches.h"
#include "util/fd.h"

#define HELD_FIRST 30000
#define HELD 400
#define MANY 32
/* What is told of one user in a second; see the interface's PortConflict. */
#define TOLD_OF_USER 512

#define CONFIG                                                         \
    "{\"service_types\": {\"held\": {\"port_range\": [30000, 30399]}," \
    " \"free\": {\"port_range\": [31000, 31099]}},"                    \
    " \"auto_allocation\": {\"port_range\": [20000, 20099]},"          \
    " \"recovery\": {\"port_conflict\": {\"cooldown_ms\": 0, \"max_retries\": 0}}}"

/* Crowd: a manager, somebody who has all the ports of "held", and those who want one. */
typedef struct Crowd {
    Fixture *f;
    int fds[HELD];
    Ask *asks[MANY];
    guint n;
    guint64 conflicts, not_told; /* before it came */
} Crowd;

static void crowd_start(Crowd *crowd, guint n)
{
    *crowd = (Crowd){.f = fixture_started(CONFIG), .n = n};
    crowd->conflicts = metrics_get(METRIC_CONFLICTS);
    crowd->not_told = metrics_get(METRIC_CONFLICTS_NOT_TOLD);
    for (guint i = 0; i < HELD; i++)
        crowd->fds[i] = outsider_bind((guint16)(HELD_FIRST + i), SOCK_STREAM);
    for (guint i = 0; i < n; i++)
        crowd->asks[i] = fixture_ask(crowd->f, FIXTURE_REQUEST("held", .uid = 1000));
}

static void cancel(Ask *ask)
{
    if (ask->job)
        manager_job_cancel(ask->job);
    ask->job = NULL;
}

static void crowd_clear(Crowd *crowd)
{
    for (guint i = 0; i < crowd->n; i++) {
        cancel(crowd->asks[i]);
        (void)ask_free(crowd->asks[i]);
    }
    for (guint i = 0; i < HELD; i++)
        (void)fd_close(crowd->fds[i]);
    (void)fixture_free(crowd->f);
}

G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Crowd, crowd_clear)

static guint64 conflicts_since(const Crowd *crowd)
{
    return metrics_get(METRIC_CONFLICTS) - crowd->conflicts;
}

/* A look at one port takes microseconds, so a turn that has time for 1,000 has no end. */
static void test_turns_are_short(void)
{
    g_auto(Crowd) crowd;
    guint64 before, attempts = 0;

    crowd_start(&crowd, MANY);
    g_assert_cmpuint(conflicts_since(&crowd), <, 256);
    while (crowd.f->manager->jobs.length > 0) {
        before = conflicts_since(&crowd);
        fixture_turn(crowd.f);
        g_assert_cmpuint(conflicts_since(&crowd) - before, <, 1000);
    }
    for (guint i = 0; i < MANY; i++) {
        g_assert_cmpint(crowd.asks[i]->outcome, ==, OUTCOME_NO_PORT_AVAILABLE);
        /* but for those that others were at when it came to its end */
        g_assert_cmpuint(crowd.asks[i]->attempts, >, HELD - MANY);
        g_assert_cmpuint(crowd.asks[i]->conflicts->len, ==, crowd.asks[i]->attempts);
        attempts += crowd.asks[i]->attempts;
    }
    g_assert_cmpuint(conflicts_since(&crowd), ==, attempts);
}

static guint count_going(const Crowd *crowd)
{
    guint n = 0;

    for (guint i = 0; i < crowd->n; i++)
        n += crowd->asks[i]->job && reservation_attempts(crowd->asks[i]->job->reservation) > 1;
    return n;
}

static void test_so_many_at_once(void)
{
    g_auto(Crowd) crowd;

    crowd_start(&crowd, MANY);
    fixture_wait(crowd.f, conflicts_since(&crowd) > 1000);
    g_assert_cmpuint(count_going(&crowd), ==, SEARCHES_AT_ONCE);
    /* the next ones follow */
    cancel(crowd.asks[0]);
    cancel(crowd.asks[MANY - 1]);
    fixture_wait(crowd.f, count_going(&crowd) == SEARCHES_AT_ONCE);
    for (guint i = 1; i < MANY - 1; i++)
        ask_wait(crowd.asks[i]);
    g_assert_cmpuint(crowd.asks[0]->answers + crowd.asks[MANY - 1]->answers, ==, 0);
}

static void test_another_user(void)
{
    g_auto(Crowd) crowd;
    g_autoptr(Ask) free_port = NULL;
    g_autoptr(Ask) held = NULL;
    guint64 before;

    crowd_start(&crowd, MANY);
    fixture_turn(crowd.f);
    free_port = fixture_ask(crowd.f, FIXTURE_REQUEST("free", .uid = 1001));
    g_assert_cmpuint(free_port->answers, ==, 1);
    g_assert_cmpint(free_port->outcome, ==, OUTCOME_OK);
    /* by turns with the crowd, not with each of it */
    before = conflicts_since(&crowd);
    held = ask_wait(fixture_ask(crowd.f, FIXTURE_REQUEST("held", .uid = 1001)));
    g_assert_cmpuint(held->attempts, >, HELD - MANY);
    g_assert_cmpuint(conflicts_since(&crowd) - before, <, 4 * HELD);
    g_assert_cmpuint(crowd.f->manager->jobs.length, >=, SEARCHES_AT_ONCE);
}

static void test_told(void)
{
    g_auto(Crowd) crowd;
    gint64 start_usec = g_get_monotonic_time();
    guint64 seconds;
    guint told;

    crowd_start(&crowd, 1);
    ask_wait(crowd.asks[0]);
    g_assert_cmpuint(fixture_told_with(crowd.f, "conflict"), ==, HELD);
    for (guint i = 1; i < MANY; i++)
        crowd.asks[i] = fixture_ask(crowd.f, FIXTURE_REQUEST("held", .uid = 1000));
    crowd.n = MANY;
    for (guint i = 1; i < MANY; i++)
        ask_wait(crowd.asks[i]);
    told = fixture_told_with(crowd.f, "conflict");
    seconds = (guint64)((g_get_monotonic_time() - start_usec) / G_USEC_PER_SEC);
    g_assert_cmpuint(told, <=, (seconds + 2) * TOLD_OF_USER);
    g_assert_cmpuint(metrics_get(METRIC_CONFLICTS_NOT_TOLD) - crowd.not_told + told, ==,
                     conflicts_since(&crowd));
    g_assert_cmpuint(told, >=, TOLD_OF_USER);
}

/* Returns: where in what was told @text is, which must be there once. */
static guint told_at(Fixture *f, const char *text)
{
    guint at = 0;

    g_assert_cmpuint(fixture_told(f, text), ==, 1);
    while (!g_str_equal(f->told->pdata[at], text))
        at++;
    return at;
}

/* Who is told too much of himself takes nothing from others, and their order stays. */
static void test_others_are_told(void)
{
    g_auto(Crowd) crowd;
    g_autoptr(Ask) ask = NULL;
    int fds[40];

    crowd_start(&crowd, MANY);
    for (guint i = 0; i < G_N_ELEMENTS(fds); i++)
        fds[i] = outsider_bind((guint16)(3000 + i), SOCK_STREAM);
    for (guint i = 0; i < MANY; i++)
        ask_wait(crowd.asks[i]);
    ask = ask_wait(fixture_ask(crowd.f, FIXTURE_REQUEST("dev", .uid = 1001)));
    g_assert_cmpint(ask->outcome, ==, OUTCOME_OK);
    g_assert_true(fixture_release(crowd.f, ask->leases->pdata[0]));
    for (guint i = 0; i < G_N_ELEMENTS(fds); i++) {
        g_autofree char *conflict = g_strdup_printf("conflict %u", 3000 + i);

        g_assert_cmpuint(told_at(crowd.f, "allocated 3040"), <, told_at(crowd.f, conflict));
        g_assert_cmpuint(told_at(crowd.f, conflict), <, told_at(crowd.f, "released 3040 released"));
        (void)fd_close(fds[i]);
    }
}

/* The daemon leaves while they search, and while they wait for that. */
static void test_free_while_searching(void)
{
    g_auto(Crowd) crowd;

    crowd_start(&crowd, MANY);
    fixture_turn(crowd.f);
    fixture_stop(crowd.f);
    for (guint i = 0; i < MANY; i++) {
        g_assert_cmpuint(crowd.asks[i]->answers, ==, 0);
        crowd.asks[i]->job = NULL;
    }
    fixture_start(crowd.f);
}

int main(int argc, char *argv[])
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/searches/turns-are-short", test_turns_are_short);
    g_test_add_func("/searches/so-many-at-once", test_so_many_at_once);
    g_test_add_func("/searches/another-user", test_another_user);
    g_test_add_func("/searches/told", test_told);
    g_test_add_func("/searches/others-are-told", test_others_are_told);
    g_test_add_func("/searches/free-while-searching", test_free_while_searching);
    return fixture_main();
}
