/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "registry-fixture.h"

Configuration *fixture_configuration(void)
{
    Configuration *config = g_new0(Configuration, 1);

    config->references = 1;
    config->service_types = g_ptr_array_new();
    config->by_name = g_hash_table_new(g_str_hash, g_str_equal);
    config->auto_enabled = TRUE;
    config->auto_range = (PortRange){20000, 20099};
    config->auto_chunk_size = 10;
    config->auto_rules = g_new0(ChunkRule, 1);
    config->auto_rules[0] = (ChunkRule){g_strdup("monitoring-*"), 20};
    config->n_auto_rules = 1;
    config->conflict_enabled = TRUE;
    config->conflict_cooldown_msec = 30000;
    config->limit_leases_per_user = 256;
    config->limit_block_size = 128;
    config->limit_auto_types_per_user = 16;
    config->limit_sticky_ports_per_user = 64;
    config->files = g_new0(char *, 1);
    return config;
}

ServiceType *fixture_add_type(Configuration *config, const char *name, guint16 first, guint16 last,
                              Protocol protocol, const guint16 *preferred, size_t n_preferred)
{
    ServiceType *type = g_new0(ServiceType, 1);

    type->name = g_strdup(name);
    type->range = (PortRange){first, last};
    type->protocol = protocol;
    type->preferred_ports = g_memdup2(preferred, n_preferred * sizeof *preferred);
    type->n_preferred_ports = n_preferred;
    g_ptr_array_add(config->service_types, type);
    g_hash_table_insert(config->by_name, type->name, type);
    return type;
}

Configuration *fixture_standard(void)
{
    static const guint16 api[] = {8002, 8001};
    static const guint16 ai[] = {11430, 11431};
    static const guint16 dev[] = {3000, 3001, 3002, 3003};
    static const guint16 web[] = {1010, 1030};
    Configuration *config = fixture_configuration();

    fixture_add_type(config, "ai", 11400, 11499, PROTOCOL_TCP, ai, G_N_ELEMENTS(ai))->single = TRUE;
    fixture_add_type(config, "api", 8000, 8009, PROTOCOL_TCP, api, G_N_ELEMENTS(api));
    fixture_add_type(config, "dev", 3000, 3099, PROTOCOL_TCP, dev, G_N_ELEMENTS(dev));
    fixture_add_type(config, "dns", 5300, 5309, PROTOCOL_UDP, NULL, 0);
    fixture_add_type(config, "game", 5310, 5319, PROTOCOL_BOTH, NULL, 0);
    fixture_add_type(config, "low", 80, 89, PROTOCOL_TCP, NULL, 0);
    fixture_add_type(config, "web", 1000, 1039, PROTOCOL_TCP, web, G_N_ELEMENTS(web));
    return config;
}

Reservation *fixture_open(Registry *registry, const LeaseRequest *request)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(Lease) reused = NULL;
    Reservation *reservation = NULL;
    Outcome outcome = registry_begin(registry, request, 0, &reservation, &reused, &error);

    g_assert_no_error(error);
    g_assert_cmpint(outcome, ==, OUTCOME_OK);
    g_assert_null(reused);
    g_assert_nonnull(reservation);
    return reservation;
}

Lease *fixture_commit(Registry *registry, Reservation *reservation)
{
    g_autoptr(GArray) changes = change_array_new();
    g_autoptr(GPtrArray) leases = reservation_build(reservation, 5000000);

    registry_commit(registry, reservation, leases, changes);
    g_assert_cmpuint(changes->len, ==, leases->len);
    for (guint i = 0; i < changes->len; i++) {
        const Change *change = &g_array_index(changes, Change, i);

        g_assert_cmpint(change->kind, ==, CHANGE_GRANTED);
        g_assert_true(change->lease == leases->pdata[i]);
    }
    return leases->pdata[0];
}

Lease *fixture_grant(Registry *registry, const LeaseRequest *request)
{
    Reservation *reservation = fixture_open(registry, request);

    if (reservation_next(reservation, 0) == 0) {
        reservation_free(reservation);
        return NULL;
    }
    return fixture_commit(registry, reservation);
}

Outcome fixture_refused(Registry *registry, const LeaseRequest *request, char **ret_message)
{
    g_autoptr(GError) error = NULL;
    Reservation *reservation = GINT_TO_POINTER(1);
    Lease *reused = GINT_TO_POINTER(1);
    Outcome outcome = registry_begin(registry, request, 0, &reservation, &reused, &error);

    g_assert_cmpint(outcome, !=, OUTCOME_OK);
    g_assert_error(error, OUTCOME_ERROR, (int)outcome);
    g_assert_true(reservation == GINT_TO_POINTER(1) && reused == GINT_TO_POINTER(1));
    if (ret_message)
        *ret_message = g_strdup(error->message);
    return outcome;
}

Lease *fixture_lease(const char *service_type, guint16 port, Protocol protocol, uid_t uid)
{
    Lease *lease = lease_new();

    lease->id = id_random();
    lease->port = port;
    lease->protocol = protocol;
    lease->uid = uid;
    lease->service_type = g_ref_string_new(service_type);
    return lease;
}
