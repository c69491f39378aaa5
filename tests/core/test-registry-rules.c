/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "registry-fixture.h"

#include <string.h>

/* What leases mean for each other: the same lease again, the same port again, quotas, blocks. */

static Registry *standard(void)
{
    g_autoptr(Configuration) config = fixture_standard();

    return registry_new(config);
}

static void assert_reused(Registry *registry, const LeaseRequest *request, const Lease *expected)
{
    g_autoptr(Lease) reused = NULL;
    g_autoptr(GError) error = NULL;
    Reservation *reservation = GINT_TO_POINTER(1);

    g_assert_cmpint(registry_begin(registry, request, 0, &reservation, &reused, &error), ==,
                    OUTCOME_OK);
    g_assert_no_error(error);
    g_assert_null(reservation);
    g_assert_true(reused == expected);
}

static void test_singleton(void)
{
    g_autoptr(Registry) registry = standard();
    Reservation *reservation = fixture_open(registry, &FIXTURE_REQUEST("ai", .instance = "x"));
    g_autofree char *message = NULL;
    Lease *lease;

    g_assert_cmpuint(reservation_next(reservation, 0), ==, 11430);
    g_assert_cmpint(fixture_refused(registry, &FIXTURE_REQUEST_AS(5, 1, "ai"), &message), ==,
                    OUTCOME_BUSY);
    g_assert_nonnull(strstr(message, "'ai'"));
    lease = fixture_commit(registry, reservation);
    g_assert_null(lease->instance);
    assert_reused(registry, &FIXTURE_REQUEST("ai"), lease);
    assert_reused(registry, &FIXTURE_REQUEST_AS(5, 1, "ai", .port = 11450, .strict = TRUE), lease);
    assert_reused(registry, &FIXTURE_REQUEST_AS(5, 1, "ai", .instance = "y"), lease);
    assert_reused(registry, &FIXTURE_REQUEST("ai", .port = 80), lease);

    /* Given up before the commit: the next one may. */
    registry_remove(registry, lease, REASON_RELEASED, NULL);
    reservation_free(fixture_open(registry, &FIXTURE_REQUEST("ai")));
    lease = fixture_grant(registry, &FIXTURE_REQUEST_AS(5, 1, "ai"));
    g_assert_cmpuint(lease->port, ==, 11430);

    /* Nobody knows whose a quarantined one is: it is handed to nobody, and keeps its port. */
    registry_set_health(registry, lease, HEALTH_QUARANTINED, 0, 0, NULL);
    g_assert_cmpuint(fixture_grant(registry, &FIXTURE_REQUEST("ai"))->port, ==, 11431);
    g_assert_cmpint(registry_first_of_type(registry, "ai")->by_type.next->port, ==, 11430);
}

static void test_instance(void)
{
    g_autoptr(Registry) registry = standard();
    Reservation *reservation = fixture_open(registry, &FIXTURE_REQUEST("dev", .instance = "x"));
    Lease *lease;

    g_assert_cmpint(fixture_refused(registry, &FIXTURE_REQUEST("dev", .instance = "x"), NULL), ==,
                    OUTCOME_BUSY);
    reservation_free(fixture_open(registry, &FIXTURE_REQUEST("dev", .instance = "y")));
    reservation_free(fixture_open(registry, &FIXTURE_REQUEST_AS(5, 1, "dev", .instance = "x")));
    reservation_free(fixture_open(registry, &FIXTURE_REQUEST("api", .instance = "x")));
    reservation_free(fixture_open(registry, &FIXTURE_REQUEST("dev")));
    g_assert_cmpuint(reservation_next(reservation, 0), ==, 3000);
    lease = fixture_commit(registry, reservation);
    assert_reused(registry, &FIXTURE_REQUEST("dev", .instance = "x"), lease);
    assert_reused(registry,
                  &FIXTURE_REQUEST("dev", .instance = "x", .port = 3050, .strict = TRUE,
                                   .protocol = PROTOCOL_UDP, .label = "other"),
                  lease);
    g_assert_cmpuint(fixture_grant(registry, &FIXTURE_REQUEST("dev", .instance = "y"))->port, ==,
                     3001);
    g_assert_cmpuint(
        fixture_grant(registry, &FIXTURE_REQUEST_AS(5, 1, "dev", .instance = "x"))->port, ==, 3002);
}

static void test_sticky(void)
{
    g_autoptr(Registry) registry = standard();
    const LeaseRequest x = FIXTURE_REQUEST("dev", .instance = "x");
    Lease *lease = fixture_grant(registry, &FIXTURE_REQUEST("dev", .instance = "x", .port = 3050));

    registry_remove(registry, lease, REASON_RELEASED, NULL);
    lease = fixture_grant(registry, &x);
    g_assert_cmpuint(lease->port, ==, 3050);
    registry_remove(registry, lease, REASON_PROCESS_EXITED, NULL);

    /* Not for another instance, user or type. */
    g_assert_cmpuint(fixture_grant(registry, &FIXTURE_REQUEST("dev", .instance = "y"))->port, ==,
                     3000);
    g_assert_cmpuint(
        fixture_grant(registry, &FIXTURE_REQUEST_AS(5, 1, "dev", .instance = "x"))->port, ==, 3001);
    g_assert_cmpuint(fixture_grant(registry, &FIXTURE_REQUEST("api", .instance = "x"))->port, ==,
                     8002);
    g_assert_cmpuint(fixture_grant(registry, &FIXTURE_REQUEST("dev"))->port, ==, 3002);

    /* After a requested port, not out of a range, not while somebody else has it. */
    lease = fixture_grant(registry, &FIXTURE_REQUEST("dev", .instance = "x", .port = 3060));
    g_assert_cmpuint(lease->port, ==, 3060);
    registry_remove(registry, lease, REASON_RELEASED, NULL);
    lease =
        fixture_grant(registry, &FIXTURE_REQUEST("dev", .instance = "x", .range = {3070, 3079}));
    g_assert_cmpuint(lease->port, ==, 3070);
    registry_remove(registry, lease, REASON_RELEASED, NULL);
    lease = fixture_grant(registry, &FIXTURE_REQUEST("dev", .port = 3070));
    g_assert_cmpuint(fixture_grant(registry, &x)->port, ==, 3003);
}

static void test_sticky_privileged(void)
{
    g_autoptr(Registry) registry = standard();
    Lease *lease =
        fixture_grant(registry, &FIXTURE_REQUEST("web", .instance = "x", .privileged = TRUE));

    g_assert_cmpuint(lease->port, ==, 1010);
    registry_remove(registry, lease, REASON_RELEASED, NULL);
    g_assert_cmpuint(fixture_grant(registry, &FIXTURE_REQUEST("web", .instance = "x"))->port, ==,
                     1030);
}

static void join_sticky(const StickyPort *sticky, void *data)
{
    g_string_append_printf(data, "%u/%s/%s=%u ", sticky->uid, sticky->service_type,
                           sticky->instance, sticky->port);
}

static void test_sticky_bounds(void)
{
    g_autoptr(Configuration) config = fixture_standard();
    g_autoptr(Registry) registry = registry_new(config);
    g_autoptr(Registry) other = registry_new(config);
    g_autoptr(GString) all = g_string_new(NULL);
    g_autoptr(Lease) recovered = fixture_lease("dev", 3007, PROTOCOL_TCP, 1000);
    const struct {
        StickyPort sticky;
        gboolean fits;
    } inserts[] = {
        {{1000, "dev", "b", 3001}, TRUE}, {{1000, "dev", "c", 3002}, TRUE},
        {{1000, "dev", "d", 0}, FALSE},   {{1000, "d_v", "d", 1}, FALSE},
        {{1000, "dev", "", 3004}, FALSE}, {{1000, "dev", NULL, 3004}, FALSE},
        {{1000, NULL, "a", 3004}, FALSE}, {{1000, "dev", "b", 3005}, TRUE},
        {{1000, "dev", "e", 3006}, TRUE},
    };

    config->limit_sticky_ports_per_user = 2;
    fixture_grant(registry, &FIXTURE_REQUEST("dev", .instance = "a"));
    fixture_grant(registry, &FIXTURE_REQUEST("dev", .instance = "b"));
    fixture_grant(registry, &FIXTURE_REQUEST("dev", .instance = "c"));
    fixture_grant(registry, &FIXTURE_REQUEST("dev"));
    registry_foreach_sticky(registry, join_sticky, all);
    g_assert_cmpstr(all->str, ==, "1000/dev/b=3001 1000/dev/c=3002 ");

    g_string_truncate(all, 0);
    for (size_t i = 0; i < G_N_ELEMENTS(inserts); i++)
        g_assert_cmpint(registry_insert_sticky(other, &inserts[i].sticky), ==, inserts[i].fits);
    registry_foreach_sticky(other, join_sticky, all);
    g_assert_cmpstr(all->str, ==, "1000/dev/b=3005 1000/dev/e=3006 ");
    g_assert_cmpuint(fixture_grant(other, &FIXTURE_REQUEST("dev", .instance = "e"))->port, ==,
                     3006);

    /* A recovered lease is as good as a granted one. */
    recovered->instance = g_strdup("f");
    g_assert_true(registry_insert(other, recovered));
    g_string_truncate(all, 0);
    registry_foreach_sticky(other, join_sticky, all);
    g_assert_cmpstr(all->str, ==, "1000/dev/e=3006 1000/dev/f=3007 ");

    config->limit_sticky_ports_per_user = 0;
    g_assert_false(registry_insert_sticky(other, &inserts[0].sticky));
    fixture_grant(other, &FIXTURE_REQUEST("dev", .instance = "g"));
    g_string_truncate(all, 0);
    registry_foreach_sticky(other, join_sticky, all);
    g_assert_cmpstr(all->str, ==, "");
}

static void test_lease_quota(void)
{
    g_autoptr(Configuration) config = fixture_standard();
    g_autoptr(Registry) registry = registry_new(config);
    g_autoptr(Reservation) pending = NULL;
    g_autoptr(Lease) recovered = fixture_lease("dev", 3090, PROTOCOL_TCP, 1000);
    g_autofree char *message = NULL;
    Lease *lease;

    config->limit_leases_per_user = 4;
    lease = fixture_grant(registry, &FIXTURE_REQUEST("dev", .instance = "x"));
    pending = fixture_open(registry, &FIXTURE_REQUEST_AS(1000, 2, "dev"));
    g_assert_cmpint(fixture_refused(registry, &FIXTURE_REQUEST_AS(1000, 2, "dev"), &message), ==,
                    OUTCOME_QUOTA_EXCEEDED);
    g_test_message("%s", message);
    g_assert_nonnull(strstr(message, "limits.leases_per_user (4)"));
    reservation_free(fixture_open(registry, &FIXTURE_REQUEST("dev")));
    reservation_free(fixture_open(registry, &FIXTURE_REQUEST_AS(5, 2, "dev")));
    reservation_free(fixture_open(registry, &FIXTURE_REQUEST_AS(0, 10, "dev")));

    /* A lease that is there already is no further one; neither is a given up reservation. */
    assert_reused(registry, &FIXTURE_REQUEST("dev", .instance = "x"), lease);
    pending = reservation_free(pending);
    reservation_free(fixture_open(registry, &FIXTURE_REQUEST_AS(1000, 3, "dev")));

    /* Recovered leases count, whatever the limit. */
    config->limit_leases_per_user = 1;
    g_assert_true(registry_insert(registry, recovered));
    g_assert_cmpuint(registry_count_of_uid(registry, 1000), ==, 2);
    registry_remove(registry, lease, REASON_RELEASED, NULL);
    g_assert_cmpint(fixture_refused(registry, &FIXTURE_REQUEST("dev"), NULL), ==,
                    OUTCOME_QUOTA_EXCEEDED);
    registry_remove(registry, recovered, REASON_RELEASED, NULL);
    fixture_grant(registry, &FIXTURE_REQUEST("dev"));
}

static void test_block(void)
{
    g_autoptr(Registry) registry = standard();
    g_autoptr(GPtrArray) leases = NULL;
    Reservation *block;
    Reservation *other;

    fixture_grant(registry, &FIXTURE_REQUEST("game", .port = 5312, .protocol = PROTOCOL_UDP));
    block = fixture_open(registry, &FIXTURE_REQUEST_AS(1000, 3, "game"));
    g_assert_cmpuint(reservation_next(block, 0), ==, 5313);

    /* While it is only reserved, nobody gets into it and nobody sees it. */
    other = fixture_open(registry, &FIXTURE_REQUEST("game", .port = 5314));
    g_assert_cmpuint(reservation_next(other, 0), ==, 5310);
    reservation_free(other);

    /* A conflict inside moves the whole block on, past it. */
    reservation_conflict(block, 5314, 0);
    g_assert_cmpuint(reservation_next(block, 0), ==, 5315);
    reservation_conflict(block, 5317, 0);
    g_assert_cmpuint(reservation_next(block, 0), ==, 0);
    reservation_restart(block);
    g_assert_cmpuint(reservation_next(block, 0), ==,
                     5313); /* cooling down, but there is no other */
    g_assert_cmpuint(reservation_attempts(block), ==, 3);
    leases = reservation_build(block, 0);
    g_assert_cmpuint(leases->len, ==, 3);
    registry_commit(registry, block, leases, NULL);
    for (guint i = 0; i < 3; i++) {
        const Lease *lease = registry_find_port(registry, (guint16)(5313 + i), PROTOCOL_UDP);

        g_assert_true(lease == leases->pdata[i]);
        g_assert_cmpint(lease->protocol, ==, PROTOCOL_BOTH);
        g_assert_true(registry_find(registry, lease->id.text) == lease);
    }
    g_assert_cmpuint(registry_count_of_uid(registry, 1000), ==, 4);
}

static void test_single_is_free_after_block(void)
{
    g_autoptr(Registry) registry = standard();
    Reservation *block = fixture_open(registry, &FIXTURE_REQUEST_AS(1000, 10, "api"));

    g_assert_cmpuint(reservation_next(block, 0), ==, 8000);
    g_assert_null(fixture_grant(registry, &FIXTURE_REQUEST("api")));
    reservation_free(block);
    g_assert_cmpuint(fixture_grant(registry, &FIXTURE_REQUEST("api"))->port, ==, 8002);
}

static void test_suggest(void)
{
    g_autoptr(Registry) registry = standard();
    g_autoptr(GError) error = NULL;
    g_autoptr(Reservation) reserved = fixture_open(registry, &FIXTURE_REQUEST("api"));
    Reservation *refused;
    const struct {
        const char *type;
        uid_t uid;
        guint count;
        const char *ports;
    } cases[] = {
        {"api", 1000, 0, ""},
        {"api", 1000, 1, "8000 "},
        {"api", 1000, 100, "8000 8004 8005 8006 8007 8008 8009 "},
        {"dns", 1000, 2, "5300 5301 "},
        {"web", 1000, 3, "1030 1024 1025 "},
        {"web", 0, 3, "1010 1030 1000 "},
        {"low", 1000, 3, ""},
        {"low", 0, 2, "80 81 "},
        {"unheard-of", 1000, 2, "20000 20001 "},
        {"monitoring-x", 1000, G_MAXUINT,
         "20000 20001 20002 20003 20004 20005 20006 20007 20008 20009 20010 20011 20012 20013 "
         "20014 20015 20016 20017 20018 20019 "},
    };

    g_assert_cmpuint(reservation_next(reserved, 0), ==, 8002);
    refused = fixture_open(registry, &FIXTURE_REQUEST("api"));
    g_assert_cmpuint(reservation_next(refused, 0), ==, 8001);
    reservation_conflict(refused, 8001, 0);
    reservation_free(refused);
    fixture_grant(registry, &FIXTURE_REQUEST("dev", .port = 8003));
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autoptr(GArray) ports =
            registry_suggest(registry, cases[i].type, cases[i].uid, cases[i].count, 1, &error);
        g_autoptr(GString) text = g_string_new(NULL);

        g_assert_no_error(error);
        for (guint j = 0; j < ports->len; j++)
            g_string_append_printf(text, "%u ", g_array_index(ports, guint16, j));
        g_assert_cmpstr(text->str, ==, cases[i].ports);
    }
    g_assert_cmpuint(registry_count(registry), ==, 1);
    g_assert_null(registry_suggest(registry, "a b", 0, 1, 1, &error));
    g_assert_error(error, OUTCOME_ERROR, OUTCOME_INVALID_ARGUMENT);
}

/* Who pauses makes nobody wait, and is answered with what was granted meanwhile. */
static void test_yield(void)
{
    static const LeaseRequest one = FIXTURE_REQUEST("ai"), two = FIXTURE_REQUEST_AS(7, 1, "ai");
    g_autoptr(Registry) registry = standard();
    g_autoptr(Reservation) paused = fixture_open(registry, &one);
    g_autoptr(Reservation) second = NULL;
    Lease *granted = NULL;

    g_assert_true(reservation_yield(paused));
    g_assert_false(reservation_yield(paused));
    g_assert_true(reservation_resume(paused)); /* nobody else was there */
    g_assert_cmpint(fixture_refused(registry, &two, NULL), ==, OUTCOME_BUSY);

    g_assert_true(reservation_yield(paused));
    second = fixture_open(registry, &two);
    g_assert_false(reservation_resume(paused));
    g_assert_null(reservation_reusable(paused));
    second = reservation_free(second);
    second = fixture_open(registry, &two); /* which the other did not take the place of */
    paused = reservation_free(paused);
    g_assert_cmpint(fixture_refused(registry, &one, NULL), ==, OUTCOME_BUSY);

    g_assert_true(reservation_yield(second));
    paused = fixture_open(registry, &one);
    g_assert_cmpuint(reservation_next(paused, 0), !=, 0);
    granted = fixture_commit(registry, g_steal_pointer(&paused));
    g_assert_false(reservation_resume(second));
    g_assert_true(reservation_reusable(second) == granted);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/registry/singleton", test_singleton);
    g_test_add_func("/registry/yield", test_yield);
    g_test_add_func("/registry/instance", test_instance);
    g_test_add_func("/registry/sticky", test_sticky);
    g_test_add_func("/registry/sticky-privileged", test_sticky_privileged);
    g_test_add_func("/registry/sticky-bounds", test_sticky_bounds);
    g_test_add_func("/registry/lease-quota", test_lease_quota);
    g_test_add_func("/registry/block", test_block);
    g_test_add_func("/registry/single-is-free-after-block", test_single_is_free_after_block);
    g_test_add_func("/registry/suggest", test_suggest);
    return g_test_run();
}
