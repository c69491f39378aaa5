/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Leases of clients: they end with the connection, and survive what is not the client's doing. */
#include "fixture.h"

#include "recovery/claims.h"

#define OF_CLIENT(name, ...) \
    FIXTURE_REQUEST("dev", .lifetime = LIFETIME_CLIENT, .client = (name), ##__VA_ARGS__)

/* Restarts with a grace that a test can wait for. (transfer full): the lease on port 3000. */
static Lease *restart_with_short_grace(Fixture *f)
{
    Lease *lease = NULL;

    f->claim_grace_msec = 60;
    fixture_restart(f);
    lease = lease_ref(fixture_lease(f, 3000));
    g_assert_true(claims_is_waiting(f->manager, lease));
    return lease;
}

#define wait_for_grace(f, lease) fixture_wait(f, !claims_is_waiting((f)->manager, lease))

static void test_gone(void)
{
    g_autoptr(Fixture) f = fixture_started(NULL);

    (void)fixture_grant(f, OF_CLIENT(":1.1"));
    (void)fixture_grant(f, OF_CLIENT(":1.1"));
    (void)fixture_grant(f, OF_CLIENT(":1.2"));
    (void)fixture_grant(f, FIXTURE_REQUEST("dev"));
    manager_client_gone(f->manager, ":1.1");
    g_assert_cmpuint(registry_count(f->manager->registry), ==, 2);
    g_assert_cmpuint(fixture_told(f, "released 3000 client-gone stale"), ==, 1);
    g_assert_cmpuint(fixture_told(f, "released 3001 client-gone stale"), ==, 1);
    manager_client_gone(f->manager, ":1.7");
    g_assert_cmpuint(registry_count(f->manager->registry), ==, 2);
}

/* A grant of a caller who left while the disk was busy. */
static void test_gone_is_final(void)
{
    g_autoptr(Fixture) f = fixture_started(NULL);

    (void)fixture_grant(f, OF_CLIENT(":1.1"));
    manager_client_gone(f->manager, ":1.1");
    fixture_restart(f);
    g_assert_cmpuint(registry_count(f->manager->registry), ==, 0);
}

typedef enum Loss {
    LOSS_RESTART,
    LOSS_BROKER,
} Loss;

static void lose(Fixture *f, Loss loss)
{
    if (loss == LOSS_RESTART)
        fixture_restart(f);
    else
        manager_client_lost(f->manager, ":1.1");
}

static void test_claimed_by_port(gconstpointer data)
{
    g_autoptr(Fixture) f = fixture_started(NULL);
    g_autoptr(Ask) ask = NULL;
    Id id = fixture_grant(f, OF_CLIENT(":1.1", .port = 3050))->id;
    Lease *lease = NULL;

    lose(f, (Loss)GPOINTER_TO_INT(data));
    lease = fixture_lease(f, 3050);
    g_assert_nonnull(lease);
    g_assert_true(claims_is_waiting(f->manager, lease));
    ask = fixture_ask(f, OF_CLIENT(":1.9", .port = 3050, .strict = TRUE));
    g_assert_cmpint(ask->outcome, ==, OUTCOME_OK);
    g_assert_true(ask->reused);
    g_assert_true(ask->leases->pdata[0] == lease);
    g_assert_cmpstr(lease->id.text, ==, id.text);
    g_assert_false(claims_is_waiting(f->manager, lease));
    /* it is the new connection's now, and its alone */
    {
        g_autoptr(Ask) late = fixture_ask(f, OF_CLIENT(":1.10", .port = 3050));

        g_assert_cmpint(late->outcome, ==, OUTCOME_OK);
        g_assert_false(late->reused);
    }
    manager_client_gone(f->manager, ":1.9");
    g_assert_null(fixture_lease(f, 3050));
}

static void test_claimed_by_instance(gconstpointer data)
{
    g_autoptr(Fixture) f = fixture_started(NULL);
    Id id = fixture_grant(f, OF_CLIENT(":1.1", .instance = "a"))->id;
    Lease *lease = NULL;

    lose(f, (Loss)GPOINTER_TO_INT(data));
    lease = fixture_grant(f, OF_CLIENT(":1.9", .instance = "a"));
    g_assert_cmpstr(lease->id.text, ==, id.text);
    g_assert_cmpstr(lease->client, ==, ":1.9");
    g_assert_false(claims_is_waiting(f->manager, lease));
}

/* Everything has to be the same. */
static void test_not_claimed(void)
{
    static const LeaseRequest others[] = {
        {.service_type = "dev", .uid = 1, .port = 3050, .lifetime = LIFETIME_CLIENT, .client = "x"},
        {.service_type = "api", .port = 3050, .lifetime = LIFETIME_CLIENT, .client = "x"},
        {.service_type = "dev", .port = 3051, .lifetime = LIFETIME_CLIENT, .client = "x"},
        {.service_type = "dev", .lifetime = LIFETIME_CLIENT, .client = "x"},
        {.service_type = "dev", .port = 3050, .lifetime = LIFETIME_AUTO},
        {.service_type = "dev",
         .port = 3050,
         .instance = "other",
         .lifetime = LIFETIME_CLIENT,
         .client = "x"},
        {.service_type = "dev",
         .port = 3050,
         .protocol = PROTOCOL_UDP,
         .lifetime = LIFETIME_CLIENT,
         .client = "x"},
    };
    g_autoptr(Fixture) f = fixture_started(NULL);
    Lease *lease = NULL;

    (void)fixture_grant(f, OF_CLIENT(":1.1", .port = 3050));
    fixture_restart(f);
    lease = fixture_lease(f, 3050);
    for (guint i = 0; i < G_N_ELEMENTS(others); i++) {
        g_autoptr(Ask) ask = ask_wait(fixture_ask(f, others[i]));

        g_assert_cmpint(ask->outcome, ==, OUTCOME_OK);
        g_assert_false(ask->reused);
        g_assert_true(claims_is_waiting(f->manager, lease));
    }
}

static void test_nobody_claims(void)
{
    g_autoptr(Fixture) f = fixture_started(NULL);
    g_autoptr(Lease) lease = NULL;

    (void)fixture_grant(f, OF_CLIENT(":1.1"));
    lease = restart_with_short_grace(f);
    wait_for_grace(f, lease);
    g_assert_false(lease->in_registry);
    g_assert_cmpuint(fixture_told(f, "released 3000 client-gone stale"), ==, 1);
}

/* As long as its owner serves the port it goes on; then the sweep ends it. */
static void test_served_goes_on(void)
{
    g_autoptr(Fixture) f =
        fixture_started("{\"recovery\": {\"health_monitoring\": {\"startup_grace_ms\": 0}}}");
    g_autoptr(Lease) lease = NULL;
    Server server;

    (void)fixture_grant(f, OF_CLIENT(":1.1"));
    server_start(&server, 3000, FALSE);
    lease = restart_with_short_grace(f);
    wait_for_grace(f, lease);
    fixture_sweeps(f, 5);
    g_assert_true(lease->in_registry);
    g_assert_cmpint(lease->health, ==, HEALTH_ACTIVE);
    server_end(&server);
    fixture_wait(f, fixture_told(f, "released 3000 not-in-use stale") == 1);
}

/* Somebody else on the port is no reason to go on. */
static void test_served_by_another(void)
{
    g_autoptr(Fixture) f = fixture_started(NULL);
    g_autoptr(Lease) lease = NULL;
    Server server;

    (void)fixture_grant(f, OF_CLIENT(":1.1", .uid = 1000));
    server_start(&server, 3000, FALSE);
    lease = restart_with_short_grace(f);
    wait_for_grace(f, lease);
    g_assert_false(lease->in_registry);
    server_end(&server);
}

/* Sweeps leave it alone while its client may still come. */
static void test_grace_is_kept(void)
{
    g_autoptr(Fixture) f = fixture_started(
        "{\"recovery\": {\"health_monitoring\": {\"startup_grace_ms\": 0, \"max_failures\": 1}}}");

    (void)fixture_grant(f, OF_CLIENT(":1.1"));
    fixture_restart(f);
    fixture_sweeps(f, 5);
    g_assert_nonnull(fixture_lease(f, 3000));
}

static void test_release_in_grace(void)
{
    g_autoptr(Fixture) f = fixture_started(NULL);

    (void)fixture_grant(f, OF_CLIENT(":1.1"));
    fixture_restart(f);
    g_assert_true(fixture_release(f, fixture_lease(f, 3000)));
    g_assert_cmpuint(g_hash_table_size(f->manager->claims), ==, 0);
    fixture_run(f, 30);
}

int main(int argc, char *argv[])
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/client/gone", test_gone);
    g_test_add_func("/client/gone-is-final", test_gone_is_final);
    g_test_add_data_func("/claims/by-port/restart", GINT_TO_POINTER(LOSS_RESTART),
                         test_claimed_by_port);
    g_test_add_data_func("/claims/by-port/broker", GINT_TO_POINTER(LOSS_BROKER),
                         test_claimed_by_port);
    g_test_add_data_func("/claims/by-instance/restart", GINT_TO_POINTER(LOSS_RESTART),
                         test_claimed_by_instance);
    g_test_add_data_func("/claims/by-instance/broker", GINT_TO_POINTER(LOSS_BROKER),
                         test_claimed_by_instance);
    g_test_add_func("/claims/not-by-others", test_not_claimed);
    g_test_add_func("/claims/by-nobody", test_nobody_claims);
    g_test_add_func("/claims/served-goes-on", test_served_goes_on);
    g_test_add_func("/claims/served-by-another", test_served_by_another);
    g_test_add_func("/claims/grace-is-kept", test_grace_is_kept);
    g_test_add_func("/claims/release-in-grace", test_release_in_grace);
    return fixture_main();
}
