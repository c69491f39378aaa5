/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* What the disk has to do with it: nothing is granted or released that was not recorded. */
#include "fixture.h"

#include "gate.h"
#include "store/sys.h"

static void wait_healthy(Fixture *f)
{
    disk_allow();
    fixture_wait(f, manager_state(f->manager, NULL) == MANAGER_RUNNING);
}

/* ---- waiting for the disk ---- */

static void test_persistent_waits(void)
{
    g_autoptr(Fixture) f = fixture_started(NULL);
    g_autoptr(Ask) ask = fixture_ask(f, FIXTURE_REQUEST("dev", .lifetime = LIFETIME_PERSISTENT));

    g_assert_cmpuint(ask->answers, ==, 0);
    g_assert_cmpuint(registry_count(f->manager->registry), ==, 0);
    g_assert_false(manager_is_idle(f->manager));
    ask_wait(ask);
    g_assert_cmpint(ask->outcome, ==, OUTCOME_OK);
    g_assert_cmpuint(registry_count(f->manager->registry), ==, 1);
}

static void test_others_do_not_wait(void)
{
    g_autoptr(Fixture) f = fixture_started(NULL);
    g_autoptr(Ask) ask = fixture_ask(f, FIXTURE_REQUEST("dev"));

    g_assert_cmpuint(ask->answers, ==, 1);
}

/* How many of @what were told before that of @port. */
static guint told_before(const Fixture *f, const char *what, guint16 port)
{
    g_autofree char *wanted = g_strdup_printf("%s %u", what, port);
    guint n = 0;

    for (guint i = 0; i < f->told->len; i++) {
        const char *told = f->told->pdata[i];

        if (g_str_has_prefix(told, wanted))
            return n;
        n += g_str_has_prefix(told, what);
    }
    g_error("%s was not told", wanted);
}

/* One sync serves a crowd of one user's, and one of another's. */
static void test_users_take_turns(void)
{
    g_autoptr(Fixture) f = fixture_started(NULL);
    LeaseRequest loud = FIXTURE_REQUEST("dev", .lifetime = LIFETIME_PERSISTENT, .uid = 7);
    LeaseRequest quiet = FIXTURE_REQUEST("dev", .lifetime = LIFETIME_PERSISTENT, .uid = 8);
    g_autoptr(Ask) last = NULL;
    Ask *crowd[20];
    Gate gate = {.let = 0};

    fixture_wait(f, store_idle(f->manager->store));
    sys_set_hook(gate_pass, &gate);
    for (guint i = 0; i < G_N_ELEMENTS(crowd); i++) {
        crowd[i] = fixture_ask(f, loud);
        if (i == 0)
            gate_await(&gate, 1);
    }
    last = fixture_ask(f, quiet);
    gate_let(&gate, 2);
    ask_wait(last);
    for (guint i = 0; i < G_N_ELEMENTS(crowd); i++)
        ask_wait(crowd[i]);
    g_assert_cmpuint(told_before(f, "allocated", ((Lease *)last->leases->pdata[0])->port), <=, 2);

    for (guint i = 0; i < G_N_ELEMENTS(crowd); i++) {
        manager_release(f->manager, crowd[i]->leases, REASON_RELEASED, NULL, NULL);
        if (i == 0)
            gate_await(&gate, 3);
    }
    manager_release(f->manager, last->leases, REASON_RELEASED, NULL, NULL);
    gate_let(&gate, 100);
    fixture_wait(f, registry_count(f->manager->registry) == 0);
    g_assert_cmpuint(told_before(f, "released", ((Lease *)last->leases->pdata[0])->port), <=, 2);
    for (guint i = 0; i < G_N_ELEMENTS(crowd); i++)
        crowd[i] = ask_free(crowd[i]);
    fixture_stop(f);
    sys_set_hook(NULL, NULL);
}

/* ---- refused by the disk ---- */

static void test_grant_refused(void)
{
    g_autoptr(Fixture) f = fixture_started(NULL);
    g_autoptr(Ask) ask = NULL;
    const char *reason = NULL;

    disk_refuse_writes();
    ask = fixture_ask(f, FIXTURE_REQUEST("dev"));
    g_assert_cmpint(ask->outcome, ==, OUTCOME_STATE_UNAVAILABLE);
    g_assert_cmpuint(registry_count(f->manager->registry), ==, 0);
    g_assert_cmpuint(fixture_told_with(f, "allocated"), ==, 0);
    g_assert_cmpint(manager_state(f->manager, &reason), ==, MANAGER_DEGRADED);
    g_assert_nonnull(strstr(reason, "state.journal"));
    g_assert_cmpuint(fixture_told(f, "state degraded"), ==, 1);
    /* also for the second time, and the port is not used up */
    {
        g_autoptr(Ask) again = ask_wait(fixture_ask(f, FIXTURE_REQUEST("dev")));

        g_assert_cmpint(again->outcome, ==, OUTCOME_STATE_UNAVAILABLE);
    }
    wait_healthy(f);
    g_assert_cmpuint(fixture_grant(f, FIXTURE_REQUEST("dev"))->port, ==, 3000);
    (void)manager_state(f->manager, &reason);
    g_assert_cmpstr(reason, ==, "");
    fixture_restart(f);
    g_assert_cmpuint(registry_count(f->manager->registry), ==, 1);
}

static void test_sync_refused(void)
{
    g_autoptr(Fixture) f = fixture_started(NULL);
    g_autoptr(Ask) ask = NULL;

    disk_refuse_syncs();
    ask = ask_wait(fixture_ask(f, FIXTURE_REQUEST("dev", .lifetime = LIFETIME_PERSISTENT)));
    g_assert_cmpint(ask->outcome, ==, OUTCOME_STATE_UNAVAILABLE);
    g_assert_cmpuint(registry_count(f->manager->registry), ==, 0);
    g_assert_cmpint(manager_state(f->manager, NULL), ==, MANAGER_DEGRADED);
    g_assert_cmpuint(fixture_told(f, "state degraded"), ==, 1);
    wait_healthy(f);
    g_assert_cmpuint(fixture_told(f, "state running"), >=, 1);
    fixture_restart(f);
    g_assert_cmpuint(registry_count(f->manager->registry), ==, 0);
}

static void test_release_refused(void)
{
    static const Lifetime lifetimes[] = {LIFETIME_AUTO, LIFETIME_PERSISTENT};

    for (guint i = 0; i < G_N_ELEMENTS(lifetimes); i++) {
        g_autoptr(Fixture) f = fixture_started(NULL);
        Lease *lease = fixture_grant(f, FIXTURE_REQUEST("dev", .lifetime = lifetimes[i]));

        disk_refuse_writes();
        g_assert_false(fixture_release(f, lease));
        g_assert_true(lease->in_registry && !lease->ending);
        g_assert_cmpuint(fixture_told_with(f, "released"), ==, 0);
        wait_healthy(f);
        g_assert_true(fixture_release(f, lease));
        fixture_restart(f);
        g_assert_cmpuint(registry_count(f->manager->registry), ==, 0);
    }
}

static void test_renewal_refused(void)
{
    g_autoptr(Fixture) f = fixture_started(NULL);
    Lease *lease = fixture_grant(f, FIXTURE_REQUEST("dev", .ttl_msec = 60000));
    gint64 before_usec = lease->expires_usec, expires_usec = -1;
    g_autoptr(GError) error = NULL;

    disk_refuse_writes();
    g_assert_cmpint(manager_renew(f->manager, lease, &expires_usec, &error), ==,
                    OUTCOME_STATE_UNAVAILABLE);
    g_assert_error(error, OUTCOME_ERROR, OUTCOME_STATE_UNAVAILABLE);
    g_assert_cmpint(expires_usec, ==, -1);
    g_assert_cmpint(lease->expires_usec, ==, before_usec);
    disk_allow();
}

/* ---- ends that nobody asked for, while the disk is away ---- */

static void test_expiry_comes_later(void)
{
    g_autoptr(Fixture) f = fixture_started(NULL);
    Lease *lease = fixture_grant(f, FIXTURE_REQUEST("dev", .ttl_msec = 30));

    disk_refuse_writes();
    fixture_run(f, 80);
    g_assert_true(fixture_lease(f, 3000) == lease);
    disk_allow();
    fixture_wait(f, fixture_told(f, "released 3000 expired stale") == 1);
    g_assert_null(fixture_lease(f, 3000));
}

static void test_client_gone_comes_later(void)
{
    g_autoptr(Fixture) f = fixture_started(NULL);

    (void)fixture_grant(f, FIXTURE_REQUEST("dev", .lifetime = LIFETIME_CLIENT, .client = "c"));
    disk_refuse_writes();
    manager_client_gone(f->manager, "c");
    g_assert_nonnull(fixture_lease(f, 3000));
    disk_allow();
    fixture_wait(f, fixture_told(f, "released 3000 client-gone stale") == 1);
}

/* What is due and cannot be recorded waits for the disk, and the loop rests. */
static void test_refused_ends_rest(void)
{
    static const Lifetime lifetimes[] = {LIFETIME_AUTO, LIFETIME_PERSISTENT};
    static void (*const refusals[])(void) = {disk_refuse_writes, disk_refuse_syncs};

    for (guint i = 0; i < G_N_ELEMENTS(lifetimes) * G_N_ELEMENTS(refusals); i++) {
        g_autoptr(Fixture) f = fixture_started(NULL);
        gint64 until_usec;
        guint turns = 0;

        (void)fixture_grant(f,
                            FIXTURE_REQUEST("dev", .lifetime = lifetimes[i / 2], .ttl_msec = 30));
        refusals[i % 2]();
        fixture_run(f, 80);
        until_usec = g_get_monotonic_time() + 200 * G_TIME_SPAN_MILLISECOND;
        for (; g_get_monotonic_time() < until_usec; turns++)
            fixture_turn(f);
        g_assert_cmpuint(turns, <, 500);
        disk_allow();
        fixture_wait(f, fixture_told(f, "released 3000 expired stale") == 1);
    }
}

/* The journal's disk fails, but a snapshot succeeds each time: well and in trouble by turns, and
 * each turn is told. */
static void test_trouble_that_comes_back(void)
{
    g_autoptr(Fixture) f = fixture_started(NULL);

    (void)fixture_grant(f, FIXTURE_REQUEST("dev", .lifetime = LIFETIME_PERSISTENT, .ttl_msec = 30));
    disk_refuse_syncs();
    fixture_run(f, 1500);
    g_assert_cmpuint(fixture_told(f, "state degraded"), >=, 2);
    g_assert_cmpuint(fixture_told(f, "state degraded"), <=, 8);
    disk_allow();
    fixture_wait(f, fixture_told(f, "released 3000 expired stale") == 1);
}

/* The disk is back and away again before all is done: none is forgotten, none ends twice. */
static void test_many_ends_come_later(void)
{
    g_autoptr(Fixture) f =
        fixture_started("{\"service_types\": {\"wide\": {\"port_range\": [33000, 43000]}}}");
    guint left, refusals = 0;

    for (guint i = 0; i < 1000; i++)
        (void)fixture_grant(f, FIXTURE_REQUEST("wide", .lifetime = LIFETIME_CLIENT, .client = "c"));
    disk_refuse_writes();
    manager_client_gone(f->manager, "c");
    g_assert_cmpuint(registry_count(f->manager->registry), ==, 1000);
    while ((left = registry_count(f->manager->registry)) > 0) {
        disk_allow();
        fixture_wait(f, registry_count(f->manager->registry) < left);
        if (refusals++ < 3)
            disk_refuse_writes();
        fixture_turn(f);
    }
    g_assert_cmpuint(fixture_told_with(f, "released"), ==, 1000);
    g_assert_cmpuint(g_hash_table_size(f->manager->unrecorded), ==, 0);
    disk_allow();
    fixture_restart(f);
    g_assert_cmpuint(registry_count(f->manager->registry), ==, 0);
}

/* Claimed by another connection, which is lost in its turn: it may be claimed once more. */
static void test_client_gone_and_lost(void)
{
    g_autoptr(Fixture) f = fixture_started(NULL);
    Lease *lease =
        fixture_grant(f, FIXTURE_REQUEST("dev", .lifetime = LIFETIME_CLIENT, .client = "c"));

    disk_refuse_writes();
    manager_client_gone(f->manager, "c");
    registry_set_client(f->manager->registry, lease, "d");
    manager_client_lost(f->manager, "d");
    wait_healthy(f);
    fixture_run(f, 50);
    g_assert_true(lease->in_registry);
}

/* Its service came back while the disk was away: it is used, so it does not end. */
static void test_silence_is_judged_anew(void)
{
    g_autoptr(Fixture) f =
        fixture_started("{\"recovery\": {\"health_monitoring\": {\"startup_grace_ms\": 0}}}");
    Server server;

    (void)fixture_grant(f, FIXTURE_REQUEST("dev"));
    disk_refuse_writes();
    fixture_wait(f, g_hash_table_size(f->manager->unrecorded) == 1);
    server_start(&server, 3000, FALSE);
    wait_healthy(f);
    fixture_sweeps(f, 5);
    g_assert_nonnull(fixture_lease(f, 3000));
    g_assert_cmpint(fixture_lease(f, 3000)->health, ==, HEALTH_ACTIVE);
    g_assert_cmpuint(fixture_told_with(f, "released"), ==, 0);
    server_end(&server);
}

static void test_dead_process_comes_later(void)
{
    g_autoptr(Fixture) f = fixture_started(NULL);
    Server server;

    server_start(&server, 0, FALSE);
    (void)fixture_grant(
        f, FIXTURE_REQUEST("dev", .lifetime = LIFETIME_PROCESS, .process = server.identity));
    disk_refuse_writes();
    server_kill(&server);
    fixture_wait(f, g_hash_table_size(f->manager->unrecorded) == 1);
    wait_healthy(f);
    fixture_wait(f, fixture_told(f, "released 3000 process-exited stale") == 1);
    g_assert_cmpuint(registry_count(f->manager->registry), ==, 0);
    server_end(&server);
}

/* ---- while a release is on its way ---- */

static void released(const GError *error, void *data)
{
    *(int *)data = error ? 2 : 1;
}

static void test_ending_stays_ended(void)
{
    g_autoptr(Fixture) f = fixture_started(NULL);
    Lease *lease = fixture_grant(
        f, FIXTURE_REQUEST("dev", .lifetime = LIFETIME_PERSISTENT, .ttl_msec = 60000));
    g_autoptr(GPtrArray) one = g_ptr_array_new();
    g_autoptr(GError) error = NULL;
    gint64 expires_usec = -1;
    int done = 0;

    g_ptr_array_add(one, lease);
    manager_release(f->manager, one, REASON_RELEASED, released, &done);
    g_assert_cmpint(done, ==, 0);
    /* nothing may be written for it after the record of its end */
    g_assert_cmpint(manager_renew(f->manager, lease, &expires_usec, &error), ==,
                    OUTCOME_UNKNOWN_LEASE);
    g_assert_false(manager_record(f->manager, lease, NULL));
    manager_end(f->manager, lease, REASON_EXPIRED);
    fixture_wait(f, done == 1);
    g_assert_cmpuint(fixture_told_with(f, "released"), ==, 1);
    fixture_restart(f);
    g_assert_cmpuint(registry_count(f->manager->registry), ==, 0);
}

/* Given back with another one that has to reach the disk first, and its client leaves meanwhile. */
static void test_client_gone_while_releasing(void)
{
    g_autoptr(Fixture) f = fixture_started(NULL);
    g_autoptr(GPtrArray) both = g_ptr_array_new();
    int done = 0;

    g_ptr_array_add(
        both, fixture_grant(f, FIXTURE_REQUEST("dev", .lifetime = LIFETIME_CLIENT, .client = "c")));
    g_ptr_array_add(both,
                    fixture_grant(f, FIXTURE_REQUEST("dev", .lifetime = LIFETIME_PERSISTENT)));
    disk_refuse_syncs();
    manager_release(f->manager, both, REASON_RELEASED, released, &done);
    manager_client_gone(f->manager, "c");
    fixture_wait(f, done == 2);
    g_assert_cmpuint(registry_count(f->manager->registry), ==, 2);
    disk_allow();
    fixture_wait(f, fixture_told(f, "released 3000 client-gone stale") == 1);
    g_assert_nonnull(fixture_lease(f, 3001));
}

static void test_leave_while_releasing(void)
{
    g_autoptr(Fixture) f = fixture_started(NULL);
    Lease *lease = fixture_grant(f, FIXTURE_REQUEST("dev", .lifetime = LIFETIME_PERSISTENT));
    g_autoptr(GPtrArray) one = g_ptr_array_new();
    int done = 0;

    g_ptr_array_add(one, lease);
    manager_release(f->manager, one, REASON_RELEASED, released, &done);
    fixture_restart(f);
    g_assert_cmpint(done, ==, 1);
    g_assert_cmpuint(registry_count(f->manager->registry), ==, 0);
}

/* ---- ttl ---- */

static void test_expiry(void)
{
    g_autoptr(Fixture) f = fixture_started(NULL);
    gint64 start_usec = g_get_monotonic_time();
    gint64 took_usec;

    (void)fixture_grant(f, FIXTURE_REQUEST("dev", .ttl_msec = 50));
    fixture_wait(f, fixture_told(f, "released 3000 expired stale") == 1);
    took_usec = g_get_monotonic_time() - start_usec;
    g_assert_cmpint(took_usec, >=, 49 * G_TIME_SPAN_MILLISECOND);
}

static void test_renew(void)
{
    g_autoptr(Fixture) f = fixture_started(NULL);
    Lease *lease = fixture_grant(f, FIXTURE_REQUEST("dev", .ttl_msec = 200));
    g_autoptr(GError) error = NULL;
    gint64 expires_usec = 0;

    for (guint i = 0; i < 5; i++) {
        fixture_run(f, 60);
        g_assert_cmpint(manager_renew(f->manager, lease, &expires_usec, &error), ==, OUTCOME_OK);
        g_assert_no_error(error);
        g_assert_cmpint(expires_usec, ==, lease->expires_usec);
    }
    g_assert_true(lease->in_registry);
    fixture_wait(f, fixture_told(f, "released 3000 expired stale") == 1);
}

static void test_renew_without_ttl(void)
{
    g_autoptr(Fixture) f = fixture_started(NULL);
    Lease *lease = fixture_grant(f, FIXTURE_REQUEST("dev"));
    g_autoptr(GError) error = NULL;
    gint64 expires_usec = 0;

    g_assert_cmpint(manager_renew(f->manager, lease, &expires_usec, &error), ==,
                    OUTCOME_INVALID_ARGUMENT);
}

static void test_expires_while_away(void)
{
    g_autoptr(Fixture) f = fixture_started(NULL);

    (void)fixture_grant(f, FIXTURE_REQUEST("dev", .ttl_msec = 50));
    (void)fixture_grant(f, FIXTURE_REQUEST("dev", .ttl_msec = 60000));
    fixture_stop(f);
    fixture_run(f, 60);
    fixture_start(f);
    g_assert_cmpuint(fixture_told(f, "released 3000 expired stale"), ==, 1);
    g_assert_nonnull(fixture_lease(f, 3001));
    /* and the one that is left still ends by itself */
    g_assert_cmpuint(g_hash_table_size(f->manager->expiries), ==, 1);
}

int main(int argc, char *argv[])
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/disk/persistent-waits", test_persistent_waits);
    g_test_add_func("/disk/others-do-not-wait", test_others_do_not_wait);
    g_test_add_func("/disk/users-take-turns", test_users_take_turns);
    g_test_add_func("/disk/grant-refused", test_grant_refused);
    g_test_add_func("/disk/sync-refused", test_sync_refused);
    g_test_add_func("/disk/release-refused", test_release_refused);
    g_test_add_func("/disk/renewal-refused", test_renewal_refused);
    g_test_add_func("/disk/expiry-comes-later", test_expiry_comes_later);
    g_test_add_func("/disk/client-gone-comes-later", test_client_gone_comes_later);
    g_test_add_func("/disk/refused-ends-rest", test_refused_ends_rest);
    g_test_add_func("/disk/trouble-that-comes-back", test_trouble_that_comes_back);
    g_test_add_func("/disk/many-ends-come-later", test_many_ends_come_later);
    g_test_add_func("/disk/client-gone-and-lost", test_client_gone_and_lost);
    g_test_add_func("/disk/client-gone-while-releasing", test_client_gone_while_releasing);
    g_test_add_func("/disk/silence-is-judged-anew", test_silence_is_judged_anew);
    g_test_add_func("/disk/dead-process-comes-later", test_dead_process_comes_later);
    g_test_add_func("/disk/ending-stays-ended", test_ending_stays_ended);
    g_test_add_func("/disk/leave-while-releasing", test_leave_while_releasing);
    g_test_add_func("/ttl/expiry", test_expiry);
    g_test_add_func("/ttl/renew", test_renew);
    g_test_add_func("/ttl/renew-without", test_renew_without_ttl);
    g_test_add_func("/ttl/while-away", test_expires_while_away);
    return fixture_main();
}
