/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "registry-fixture.h"

#include <string.h>

/* Requests, the order of candidates, lookups and changes. Rules between leases:
 * test-registry-rules. */

#define CONFLICTS_OF(reservation, i) g_array_index(reservation_conflicts(reservation), guint16, i)

static Registry *standard(void)
{
    g_autoptr(Configuration) config = fixture_standard();

    return registry_new(config);
}

static void test_refusals(void)
{
    static const char long_type[] = "abcdefghijabcdefghijabcdefghijabcdefghijabcdefghija";
    g_autoptr(Registry) registry = standard();
    const struct {
        LeaseRequest request;
        Outcome outcome;
        const char *says;
    } cases[] = {
        {FIXTURE_REQUEST(NULL), OUTCOME_INVALID_ARGUMENT, "service type"},
        {FIXTURE_REQUEST(""), OUTCOME_INVALID_ARGUMENT, "service type"},
        {FIXTURE_REQUEST("a_b"), OUTCOME_INVALID_ARGUMENT, "'a_b'"},
        {FIXTURE_REQUEST("a\nb\x01"), OUTCOME_INVALID_ARGUMENT, "'a?b?'"},
        {FIXTURE_REQUEST(long_type), OUTCOME_INVALID_ARGUMENT, "1 to 50"},
        {FIXTURE_REQUEST("dev", .instance = ""), OUTCOME_INVALID_ARGUMENT, "instance"},
        {FIXTURE_REQUEST("dev", .instance = "a b"), OUTCOME_INVALID_ARGUMENT, "'a b'"},
        {FIXTURE_REQUEST("ai", .instance = "a b"), OUTCOME_INVALID_ARGUMENT, "'a b'"},
        {FIXTURE_REQUEST("dev", .label = "a b"), OUTCOME_INVALID_ARGUMENT, "label"},
        {FIXTURE_REQUEST("dev", .protocol = (Protocol)4), OUTCOME_INVALID_ARGUMENT, "protocol"},
        {FIXTURE_REQUEST_AS(1000, 0, "dev"), OUTCOME_INVALID_ARGUMENT, "0 ports"},
        {FIXTURE_REQUEST_AS(1000, 2, "dev", .instance = "x"), OUTCOME_INVALID_ARGUMENT, "block"},
        {FIXTURE_REQUEST_AS(1000, 2, "ai"), OUTCOME_INVALID_ARGUMENT, "everybody"},
        {FIXTURE_REQUEST("dev", .range = {0, 3000}), OUTCOME_INVALID_ARGUMENT, "0-3000"},
        {FIXTURE_REQUEST("dev", .range = {3000, 0}), OUTCOME_INVALID_ARGUMENT, "3000-0"},
        {FIXTURE_REQUEST("dev", .range = {3001, 3000}), OUTCOME_INVALID_ARGUMENT, "3001-3000"},
        {FIXTURE_REQUEST_AS(1000, 3, "dev", .range = {3000, 3001}), OUTCOME_INVALID_ARGUMENT,
         "too short"},
        {FIXTURE_REQUEST("dev", .strict = TRUE), OUTCOME_INVALID_ARGUMENT, "\"port\""},
        {FIXTURE_REQUEST("dev", .strict = TRUE, .port = 2999, .range = {3000, 3001}),
         OUTCOME_INVALID_ARGUMENT, "2999"},
        {FIXTURE_REQUEST_AS(1000, 2, "dev", .strict = TRUE, .port = 3001, .range = {3000, 3001}),
         OUTCOME_INVALID_ARGUMENT, "3001"},
        {FIXTURE_REQUEST_AS(1000, 2, "dev", .strict = TRUE, .port = 65535),
         OUTCOME_INVALID_ARGUMENT, "65535"},
        {FIXTURE_REQUEST("dev", .lifetime = LIFETIME_PROCESS), OUTCOME_INVALID_ARGUMENT, "pid"},
        {FIXTURE_REQUEST("dev", .lifetime = LIFETIME_CLIENT), OUTCOME_INVALID_ARGUMENT, "client"},
        {FIXTURE_REQUEST("dev", .port = 1023), OUTCOME_NOT_AUTHORIZED, "1023"},
        {FIXTURE_REQUEST("web", .port = 1000), OUTCOME_NOT_AUTHORIZED, "1000"},
        {FIXTURE_REQUEST("dev", .range = {1023, 3000}), OUTCOME_NOT_AUTHORIZED, "1023-3000"},
        {FIXTURE_REQUEST("low"), OUTCOME_NOT_AUTHORIZED, "'low'"},
        {FIXTURE_REQUEST_AS(1000, 129, "dev"), OUTCOME_QUOTA_EXCEEDED, "limits.block_size"},
        {FIXTURE_REQUEST_AS(1000, G_MAXUINT, "dev"), OUTCOME_QUOTA_EXCEEDED, "(128)"},
    };

    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autofree char *message = NULL;

        g_assert_cmpint(fixture_refused(registry, &cases[i].request, &message), ==,
                        cases[i].outcome);
        g_test_message("%s", message);
        g_assert_nonnull(strstr(message, cases[i].says));
        g_assert_cmpuint(strlen(message), <, 1000);
    }
    g_assert_cmpuint(registry_count(registry), ==, 0);
}

static void test_unknown_type(void)
{
    g_autoptr(Configuration) config = fixture_standard();
    g_autoptr(Configuration) many = fixture_configuration();
    g_autoptr(Registry) registry = NULL;
    g_autofree char *message = NULL;
    g_autofree char *bounded = NULL;

    config->auto_enabled = FALSE;
    registry = registry_new(config);
    g_assert_cmpint(fixture_refused(registry, &FIXTURE_REQUEST("devel"), &message), ==,
                    OUTCOME_UNKNOWN_SERVICE_TYPE);
    g_test_message("%s", message);
    g_assert_nonnull(strstr(message, "'devel'"));
    g_assert_nonnull(strstr(message, "ai, api, dev, dns, game, low, web;"));
    g_assert_nonnull(strstr(message, "\"service_types\""));

    many->auto_enabled = FALSE;
    for (guint i = 0; i < 1000; i++) {
        g_autofree char *name = g_strdup_printf("type-%03u", i);

        fixture_add_type(many, name, (guint16)(2000 + i), (guint16)(2000 + i), PROTOCOL_TCP, NULL,
                         0);
    }
    registry_set_configuration(registry, many);
    fixture_refused(registry, &FIXTURE_REQUEST("devel"), &bounded);
    g_assert_nonnull(strstr(bounded, " and 976 more"));
    g_assert_cmpuint(strlen(bounded), <, 500);
}

/* Every candidate of one round, none taken in between. */
static void assert_round(Registry *registry, const LeaseRequest *request, guint n, ...)
{
    g_autoptr(Reservation) reservation = fixture_open(registry, request);
    va_list ports;

    va_start(ports, n);
    for (guint i = 0; i < n; i++)
        g_assert_cmpuint(reservation_next(reservation, 0), ==, va_arg(ports, guint));
    va_end(ports);
}

static void test_order(void)
{
    g_autoptr(Registry) registry = standard();

    assert_round(registry, &FIXTURE_REQUEST("api"), 11, 8002, 8001, 8000, 8003, 8004, 8005, 8006,
                 8007, 8008, 8009, 0);
    assert_round(registry, &FIXTURE_REQUEST("api", .port = 8005), 4, 8005, 8002, 8001, 8000);
    assert_round(registry, &FIXTURE_REQUEST("api", .port = 9000), 3, 9000, 8002, 8001);
    assert_round(registry, &FIXTURE_REQUEST("api", .port = 9000, .strict = TRUE), 2, 9000, 0);
    assert_round(registry, &FIXTURE_REQUEST("api", .port = 65535, .strict = TRUE), 2, 65535, 0);
    assert_round(registry, &FIXTURE_REQUEST("api", .range = {8001, 8003}), 4, 8002, 8001, 8003, 0);
    assert_round(registry, &FIXTURE_REQUEST("api", .range = {65534, 65535}), 3, 65534, 65535, 0);
    assert_round(registry, &FIXTURE_REQUEST("api", .port = 9000, .range = {8000, 8001}), 4, 9000,
                 8001, 8000, 0);
    assert_round(registry, &FIXTURE_REQUEST_AS(1000, 4, "api"), 8, 8002, 8001, 8000, 8003, 8004,
                 8005, 8006, 0);
    assert_round(registry, &FIXTURE_REQUEST_AS(1000, 10, "api"), 2, 8000, 0);
    assert_round(registry, &FIXTURE_REQUEST_AS(1000, 11, "api"), 1, 0);
    assert_round(registry, &FIXTURE_REQUEST_AS(1000, 2, "api", .port = 65535), 2, 8002, 8001);
    assert_round(registry, &FIXTURE_REQUEST_AS(1000, 2, "api", .port = 9000, .strict = TRUE), 2,
                 9000, 0);

    /* What a type has below 1024 is for the privileged. */
    assert_round(registry, &FIXTURE_REQUEST("web"), 4, 1030, 1024, 1025, 1026);
    assert_round(registry, &FIXTURE_REQUEST("web", .privileged = TRUE), 4, 1010, 1030, 1000, 1001);
    assert_round(registry, &FIXTURE_REQUEST("low", .privileged = TRUE), 2, 80, 81);
    assert_round(registry, &FIXTURE_REQUEST("low", .port = 8080), 2, 8080, 0);
    assert_round(registry, &FIXTURE_REQUEST("dev", .privileged = TRUE, .port = 22), 2, 22, 3000);
    g_assert_cmpuint(registry_count(registry), ==, 0);
}

static void test_reserved_is_invisible(void)
{
    g_autoptr(Registry) registry = standard();
    g_autoptr(Reservation) first = fixture_open(registry, &FIXTURE_REQUEST("dev"));
    g_autoptr(Reservation) second = fixture_open(registry, &FIXTURE_REQUEST("dev"));
    g_autoptr(Reservation) strict = NULL;
    guint32 cursor = 0;

    g_assert_cmpuint(reservation_next(first, 0), ==, 3000);
    g_assert_cmpuint(reservation_next(second, 0), ==, 3001);
    g_assert_null(registry_find_port(registry, 3000, PROTOCOL_BOTH));
    g_assert_null(registry_next_port(registry, &cursor));
    g_assert_cmpuint(registry_count_of_uid(registry, 1000), ==, 0);

    /* A port that is only reserved may come free again: no refusal, but no candidate either. */
    strict = fixture_open(registry, &FIXTURE_REQUEST("dev", .port = 3000, .strict = TRUE));
    g_assert_cmpuint(reservation_next(strict, 0), ==, 0);
    g_assert_cmpuint(reservation_attempts(strict), ==, 0);
    first = reservation_free(first);
    g_assert_cmpuint(reservation_next(strict, 0), ==, 3000);

    second = reservation_free(second);
    g_assert_cmpuint(fixture_grant(registry, &FIXTURE_REQUEST("dev"))->port, ==, 3001);
}

static void test_protocols(void)
{
    g_autoptr(Registry) registry = standard();
    Lease *tcp = fixture_grant(registry, &FIXTURE_REQUEST("game", .protocol = PROTOCOL_TCP));
    Lease *udp = fixture_grant(registry, &FIXTURE_REQUEST("game", .protocol = PROTOCOL_UDP));
    Lease *both = fixture_grant(registry, &FIXTURE_REQUEST("game"));
    Lease *dns = fixture_grant(registry, &FIXTURE_REQUEST("dns"));
    Lease *other = fixture_grant(registry, &FIXTURE_REQUEST("game", .protocol = PROTOCOL_UDP));

    g_assert_cmpuint(tcp->port, ==, 5310);
    g_assert_cmpuint(udp->port, ==, 5310);
    g_assert_cmpuint(both->port, ==, 5311);
    g_assert_cmpint(both->protocol, ==, PROTOCOL_BOTH);
    g_assert_cmpint(dns->protocol, ==, PROTOCOL_UDP);
    g_assert_cmpuint(other->port, ==, 5312);

    g_assert_true(registry_find_port(registry, 5310, PROTOCOL_TCP) == tcp);
    g_assert_true(registry_find_port(registry, 5310, PROTOCOL_UDP) == udp);
    g_assert_true(registry_find_port(registry, 5310, PROTOCOL_BOTH) == tcp);
    g_assert_true(registry_find_port(registry, 5311, PROTOCOL_UDP) == both);
    g_assert_true(registry_find_port(registry, 5312, PROTOCOL_BOTH) == other);
    g_assert_null(registry_find_port(registry, 5312, PROTOCOL_TCP));
}

static void test_port_in_use(void)
{
    g_autoptr(Registry) registry = standard();
    Lease *lease = fixture_grant(
        registry, &FIXTURE_REQUEST_AS(4711, 1, "dev", .port = 3005, .label = "secret-label"));
    g_autofree char *message = NULL;
    g_autofree char *block = NULL;

    g_assert_cmpint(
        fixture_refused(registry, &FIXTURE_REQUEST("api", .port = 3005, .strict = TRUE), &message),
        ==, OUTCOME_PORT_IN_USE);
    g_test_message("%s", message);
    g_assert_nonnull(strstr(message, "3005"));
    g_assert_nonnull(strstr(message, "uid 4711"));
    g_assert_nonnull(strstr(message, "'dev'"));
    g_assert_null(strstr(message, lease->id.text));
    g_assert_null(strstr(message, "secret"));

    g_assert_cmpint(
        fixture_refused(registry, &FIXTURE_REQUEST_AS(1000, 4, "api", .port = 3002, .strict = TRUE),
                        &block),
        ==, OUTCOME_PORT_IN_USE);
    assert_round(registry,
                 &FIXTURE_REQUEST("api", .port = 3005, .strict = TRUE, .protocol = PROTOCOL_UDP), 1,
                 3005);
    assert_round(registry, &FIXTURE_REQUEST("dev", .port = 3005), 2, 3000, 3001);

    /* Quarantined is taken like any other. */
    registry_set_health(registry, lease, HEALTH_QUARANTINED, 0, 0, NULL);
    g_assert_cmpint(
        fixture_refused(registry, &FIXTURE_REQUEST("api", .port = 3005, .strict = TRUE), NULL), ==,
        OUTCOME_PORT_IN_USE);
    assert_round(registry, &FIXTURE_REQUEST("dev", .port = 3005), 2, 3000, 3001);
}

static void test_cooldown(void)
{
    const gint64 cooldown = 30000 * G_GINT64_CONSTANT(1000);
    g_autoptr(Registry) registry = standard();
    g_autoptr(Reservation) first = fixture_open(registry, &FIXTURE_REQUEST("api"));
    g_autoptr(Reservation) second = NULL;
    g_autoptr(Reservation) udp = NULL;

    g_assert_cmpuint(reservation_next(first, 10), ==, 8002);
    reservation_conflict(first, 8002, 10);
    g_assert_cmpuint(reservation_next(first, 20), ==, 8001);
    reservation_conflict(first, 8001, 20);
    reservation_conflict(first, 8001, 20); /* twice is one conflict */
    g_assert_cmpuint(reservation_next(first, 30), ==, 8000);
    g_assert_cmpuint(reservation_conflicts(first)->len, ==, 2);
    g_assert_cmpuint(CONFLICTS_OF(first, 0), ==, 8002);
    g_assert_cmpuint(CONFLICTS_OF(first, 1), ==, 8001);
    g_assert_cmpuint(reservation_attempts(first), ==, 3);

    /* Others pass over what cools down, until there is nothing else. */
    second = fixture_open(registry, &FIXTURE_REQUEST("api", .port = 8001, .range = {8000, 8003}));
    g_assert_cmpuint(reservation_next(second, 30), ==, 8003);
    g_assert_cmpuint(reservation_next(second, 30), ==, 8001);
    g_assert_cmpuint(reservation_next(second, 30), ==, 8002);
    g_assert_cmpuint(reservation_next(second, 30), ==, 0);
    reservation_restart(second);
    g_assert_cmpuint(reservation_next(second, 30), ==, 8003);

    /* Each ends at its own time; a strict request does not wait for that, nor does the other
     * protocol. */
    reservation_restart(second);
    g_assert_cmpuint(reservation_next(second, 9 + cooldown), ==, 8003);
    reservation_restart(second);
    g_assert_cmpuint(reservation_next(second, 10 + cooldown), ==, 8002);
    reservation_restart(second);
    g_assert_cmpuint(reservation_next(second, 20 + cooldown), ==, 8001);
    reservation_conflict(second, 8001, 20 + cooldown);
    second = reservation_free(second);
    udp = fixture_open(registry, &FIXTURE_REQUEST("api", .port = 8001, .protocol = PROTOCOL_UDP));
    g_assert_cmpuint(reservation_next(udp, 21 + cooldown), ==, 8001);
    second = fixture_open(registry, &FIXTURE_REQUEST("api", .port = 8001, .strict = TRUE));
    g_assert_cmpuint(reservation_next(second, 21 + cooldown), ==, 8001);

    /* A grant proves that the port is free. */
    registry_remove(registry, fixture_commit(registry, g_steal_pointer(&second)), REASON_RELEASED,
                    NULL);
    second = fixture_open(registry, &FIXTURE_REQUEST("api", .port = 8001));
    g_assert_cmpuint(reservation_next(second, 22 + cooldown), ==, 8001);
}

static void test_no_cooldown(void)
{
    g_autoptr(Configuration) config = fixture_standard();
    g_autoptr(Registry) registry = registry_new(config);
    Reservation *reservation = fixture_open(registry, &FIXTURE_REQUEST("api"));

    config->conflict_enabled = FALSE;
    g_assert_cmpuint(reservation_next(reservation, 0), ==, 8002);
    reservation_conflict(reservation, 8002, 0);
    g_assert_cmpuint(reservation_next(reservation, 0), ==, 8001); /* not again in this round */
    reservation_free(reservation);
    assert_round(registry, &FIXTURE_REQUEST("api"), 1, 8002);
}

static guint length_by_uid(const Registry *registry, uid_t uid)
{
    guint n = 0;

    for (const Lease *lease = registry_first_of_uid(registry, uid); lease;
         lease = lease->by_uid.next) {
        g_assert_cmpuint(lease->uid, ==, uid);
        n++;
    }
    return n;
}

static void test_indices(void)
{
    g_autoptr(Registry) registry = standard();
    Lease *a = fixture_grant(registry, &FIXTURE_REQUEST("dev", .instance = "x", .unit = "a.service",
                                                        .process = {42, 7, 9}, .client = ":1.5",
                                                        .lifetime = LIFETIME_CLIENT));
    Lease *b =
        fixture_grant(registry, &FIXTURE_REQUEST("dev", .process = {42, 8, 0}, .client = ":1.5"));
    Lease *c = fixture_grant(
        registry, &FIXTURE_REQUEST_AS(0, 1, "api", .client = ":1.5", .lifetime = LIFETIME_CLIENT));
    g_autoptr(GArray) changes = change_array_new();
    guint32 cursor = 0;

    g_assert_true(registry_find(registry, a->id.text) == a);
    g_assert_null(registry_find(registry, "x"));
    g_assert_null(registry_find(registry, ""));
    g_assert_null(registry_find(registry, NULL));
    g_assert_true(registry_first_of_type(registry, "dev") == b);
    g_assert_true(b->by_type.next == a);
    g_assert_null(a->by_type.next);
    g_assert_null(registry_first_of_type(registry, "nothing"));
    g_assert_cmpuint(length_by_uid(registry, 1000), ==, 2);
    g_assert_cmpuint(length_by_uid(registry, 0), ==, 1);
    g_assert_cmpuint(length_by_uid(registry, 7), ==, 0);
    g_assert_true(registry_first_of_pid(registry, 42) == b);
    g_assert_true(b->by_pid.next == a);
    g_assert_null(registry_first_of_pid(registry, 0));
    g_assert_true(registry_first_of_client(registry, ":1.5") == c);
    g_assert_true(c->by_client.next == a); /* b lives on without its client */
    g_assert_null(b->client);
    g_assert_null(registry_first_of_client(registry, NULL));
    g_assert_true(registry_find_instance(registry, 1000, "dev", "x") == a);
    g_assert_null(registry_find_instance(registry, 1001, "dev", "x"));
    g_assert_null(registry_find_instance(registry, 1000, "api", "x"));
    g_assert_null(registry_find_instance(registry, 1000, "dev", NULL));
    g_assert_cmpstr(a->unit, ==, "a.service");

    g_assert_true(registry_next_port(registry, &cursor) == a);
    g_assert_true(registry_next_port(registry, &cursor) == b);
    registry_remove(registry, b, REASON_EXPIRED, changes);
    g_assert_true(registry_next_port(registry, &cursor) == c);
    g_assert_null(registry_next_port(registry, &cursor));
    g_assert_null(registry_next_port(registry, &cursor));

    g_assert_cmpuint(changes->len, ==, 1);
    g_assert_cmpint(g_array_index(changes, Change, 0).kind, ==, CHANGE_RELEASED);
    g_assert_cmpint(g_array_index(changes, Change, 0).reason, ==, REASON_EXPIRED);
    g_assert_true(g_array_index(changes, Change, 0).lease == b);
    g_assert_false(b->in_registry);
    g_assert_null(registry_find(registry, b->id.text));
    g_assert_true(registry_first_of_pid(registry, 42) == a);
    g_assert_true(registry_first_of_type(registry, "dev") == a);
    registry_remove(registry, a, REASON_RELEASED, changes);
    g_assert_null(registry_first_of_pid(registry, 42));
    g_assert_null(registry_first_of_type(registry, "dev"));
    g_assert_null(registry_find_instance(registry, 1000, "dev", "x"));
    g_assert_cmpuint(registry_count(registry), ==, 1);
    g_assert_cmpuint(registry_count_of_uid(registry, 1000), ==, 0);
}

static void test_walk(void)
{
    g_autoptr(Registry) registry = standard();
    const struct {
        guint16 port;
        Protocol protocol;
    } walk[] = {{1, PROTOCOL_BOTH},   {63, PROTOCOL_UDP},   {64, PROTOCOL_TCP},
                {64, PROTOCOL_UDP},   {3000, PROTOCOL_TCP}, {65535, PROTOCOL_TCP},
                {65535, PROTOCOL_UDP}};
    guint32 cursor = 0;

    for (size_t i = G_N_ELEMENTS(walk); i-- > 0;) {
        g_autoptr(Lease) lease = fixture_lease("dev", walk[i].port, walk[i].protocol, 1000);

        g_assert_true(registry_insert(registry, lease));
    }
    for (size_t i = 0; i < G_N_ELEMENTS(walk); i++) {
        const Lease *lease = registry_next_port(registry, &cursor);

        g_assert_nonnull(lease);
        g_assert_cmpuint(lease->port, ==, walk[i].port);
        g_assert_cmpint(lease->protocol, ==, walk[i].protocol);
    }
    g_assert_null(registry_next_port(registry, &cursor));
}

static void test_insert(void)
{
    g_autoptr(Registry) registry = standard();
    g_autoptr(Lease) lease = fixture_lease("dev", 3000, PROTOCOL_TCP, 7);
    g_autoptr(Lease) same_port = fixture_lease("dev", 3000, PROTOCOL_BOTH, 7);
    g_autoptr(Lease) same_id = fixture_lease("dev", 3001, PROTOCOL_TCP, 7);
    g_autoptr(Lease) no_port = fixture_lease("dev", 0, PROTOCOL_TCP, 7);
    g_autoptr(Lease) no_protocol = fixture_lease("dev", 3001, (Protocol)0, 7);
    g_autoptr(Lease) no_id = fixture_lease("dev", 3001, PROTOCOL_TCP, 7);
    g_autoptr(Lease) reserved = fixture_lease("dev", 8002, PROTOCOL_TCP, 7);
    g_autoptr(Reservation) reservation = fixture_open(registry, &FIXTURE_REQUEST("api"));

    g_assert_cmpuint(reservation_next(reservation, 0), ==, 8002);
    g_assert_true(registry_insert(registry, lease));
    same_id->id = lease->id;
    no_id->id.text[3] = 'X';
    g_assert_false(registry_insert(registry, lease));
    g_assert_false(registry_insert(registry, same_port));
    g_assert_false(registry_insert(registry, same_id));
    g_assert_false(registry_insert(registry, no_port));
    g_assert_false(registry_insert(registry, no_protocol));
    g_assert_false(registry_insert(registry, no_id));
    g_assert_false(registry_insert(registry, reserved));
    g_assert_cmpuint(registry_count(registry), ==, 1);
    g_assert_cmpuint(registry_count_of_uid(registry, 7), ==, 1);
    g_assert_cmpuint(lease->references, ==, 2);
}

static void test_fields(void)
{
    g_autoptr(Registry) registry = standard();
    const Lease *lease = fixture_grant(
        registry,
        &FIXTURE_REQUEST("dev", .address = "127.0.0.1", .instance = "i", .label = "l",
                         .lifetime = LIFETIME_PERSISTENT, .hold = HOLD_SOFT, .process = {1, 2, 3},
                         .unit = "u.service", .ttl_msec = 1500, .health_url = "http://127.0.0.1/",
                         .health_timeout_msec = 9, .on_unhealthy = ON_UNHEALTHY_NOTIFY));

    g_assert_true(id_is_valid(lease->id.text));
    g_assert_cmpuint(lease->port, ==, 3000);
    g_assert_cmpint(lease->protocol, ==, PROTOCOL_TCP);
    g_assert_cmpstr(lease->service_type, ==, "dev");
    g_assert_cmpuint(lease->uid, ==, 1000);
    g_assert_cmpstr(lease->address, ==, "127.0.0.1");
    g_assert_cmpstr(lease->instance, ==, "i");
    g_assert_cmpstr(lease->label, ==, "l");
    g_assert_cmpint(lease->lifetime, ==, LIFETIME_PERSISTENT);
    g_assert_cmpint(lease->hold, ==, HOLD_SOFT);
    g_assert_cmpint(lease->health, ==, HEALTH_RESERVED);
    g_assert_cmpint(lease->on_unhealthy, ==, ON_UNHEALTHY_NOTIFY);
    g_assert_cmpint(lease->process.pid, ==, 1);
    g_assert_cmpuint(lease->process.start_ticks, ==, 2);
    g_assert_cmpuint(lease->process.pidfd_inode, ==, 3);
    g_assert_cmpstr(lease->unit, ==, "u.service");
    g_assert_cmpstr(lease->health_url, ==, "http://127.0.0.1/");
    g_assert_cmpuint(lease->health_timeout_msec, ==, 9);
    g_assert_cmpuint(lease->ttl_msec, ==, 1500);
    g_assert_cmpint(lease->created_usec, ==, 5000000);
    g_assert_cmpint(lease->expires_usec, ==, 6500000);
    g_assert_cmpint(lease->last_seen_usec, ==, 0);
    g_assert_cmpuint(lease->failures, ==, 0);
    g_assert_cmpuint(lease->references, ==, 1);
}

static void test_updates(void)
{
    g_autoptr(Registry) registry = standard();
    Lease *lease = fixture_grant(registry, &FIXTURE_REQUEST("dev"));
    g_autoptr(GArray) changes = change_array_new();
    const ProcessIdentity process = {77, 5, 6};

    registry_set_health(registry, lease, HEALTH_RESERVED, 0, 0, changes);
    registry_set_expiry(registry, lease, 0, changes);
    registry_set_process(registry, lease, (ProcessIdentity){0}, NULL, changes);
    g_assert_cmpuint(changes->len, ==, 0);

    /* Seen for the first time is something new, seen again is not. */
    registry_set_health(registry, lease, HEALTH_RESERVED, 0, 50, changes);
    g_assert_cmpuint(changes->len, ==, 1);
    g_assert_true(lease->ever_seen);
    registry_set_health(registry, lease, HEALTH_RESERVED, 0, 200, changes);
    g_assert_cmpuint(changes->len, ==, 1);
    g_assert_cmpint(lease->last_seen_usec, ==, 200);
    registry_set_health(registry, lease, HEALTH_RESERVED, 1, 0, changes);
    g_assert_cmpuint(changes->len, ==, 2);
    g_assert_cmpint(lease->last_seen_usec, ==, 200);
    g_assert_cmpuint(lease->failures, ==, 1);
    registry_set_health(registry, lease, HEALTH_ACTIVE, 1, 0, changes);
    g_assert_cmpint(lease->health, ==, HEALTH_ACTIVE);
    g_assert_cmpuint(changes->len, ==, 3);

    registry_set_process(registry, lease, process, "u.service", changes);
    g_assert_cmpuint(changes->len, ==, 4);
    g_assert_true(registry_first_of_pid(registry, 77) == lease);
    registry_set_process(registry, lease, process, "u.service", changes);
    g_assert_cmpuint(changes->len, ==, 4);
    registry_set_process(registry, lease, process, lease->unit, changes);
    registry_set_process(registry, lease, process, NULL, changes);
    g_assert_cmpuint(changes->len, ==, 5);
    g_assert_null(lease->unit);
    registry_set_process(registry, lease, (ProcessIdentity){0}, NULL, changes);
    g_assert_cmpuint(changes->len, ==, 6);
    g_assert_null(registry_first_of_pid(registry, 77));

    registry_set_expiry(registry, lease, 9, changes);
    registry_set_expiry(registry, lease, 9, changes);
    g_assert_cmpuint(changes->len, ==, 7);
    for (guint i = 0; i < changes->len; i++)
        g_assert_cmpint(g_array_index(changes, Change, i).kind, ==, CHANGE_UPDATED);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/registry/refusals", test_refusals);
    g_test_add_func("/registry/unknown-type", test_unknown_type);
    g_test_add_func("/registry/order", test_order);
    g_test_add_func("/registry/reserved-is-invisible", test_reserved_is_invisible);
    g_test_add_func("/registry/protocols", test_protocols);
    g_test_add_func("/registry/port-in-use", test_port_in_use);
    g_test_add_func("/registry/cooldown", test_cooldown);
    g_test_add_func("/registry/no-cooldown", test_no_cooldown);
    g_test_add_func("/registry/indices", test_indices);
    g_test_add_func("/registry/walk", test_walk);
    g_test_add_func("/registry/insert", test_insert);
    g_test_add_func("/registry/fields", test_fields);
    g_test_add_func("/registry/updates", test_updates);
    return g_test_run();
}
