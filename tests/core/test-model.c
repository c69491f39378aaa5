/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <string.h>

#include "model.h"

/*
 * Random operations on registry and model, several reservations interleaved; after each one they
 * are compared. STYXY_MODEL_OPERATIONS sets how many; the seed that is printed repeats a run
 * (--seed).
 */

#define OPERATIONS 10000
#define LIFE 400 /* operations of one registry, before what is remembered for good fills it */

/* ---- operations on both ---- */

static void clear_slot(MSlot *slot)
{
    g_array_unref(slot->order);
    g_array_unref(slot->seen);
    g_array_unref(slot->bad);
    g_array_unref(slot->all_bad);
    *slot = (MSlot){0};
}

static MSlot *pick_slot(gboolean open)
{
    guint offset = (guint)g_test_rand_int_range(0, SLOTS);

    for (guint i = 0; i < SLOTS; i++) {
        MSlot *slot = &model.slots[(i + offset) % SLOTS];

        if ((slot->real != NULL) == open)
            return slot;
    }
    return NULL;
}

static LeaseRequest random_request(void)
{
    static const Protocol protocols[] = {PROTOCOL_TCP, PROTOCOL_UDP, PROTOCOL_BOTH};
    LeaseRequest request = {.service_type = PICK(model_types), .uid = PICK(model_uids), .count = 1};

    request.privileged = model_chance(30);
    if (model_chance(30))
        request.port = model_random_port();
    request.strict = model_chance(request.port ? 25 : 2);
    if (model_chance(15)) {
        request.range.first = model_random_port();
        request.range.last =
            model_chance(90) ? (guint16)MIN(request.range.first + 6, 65535) : model_random_port();
    }
    if (model_chance(1))
        request.range.last = 0;
    if (model_chance(40))
        request.protocol = PICK(protocols);
    if (model_chance(20))
        request.count = (guint)g_test_rand_int_range(0, 6);
    if (model_chance(request.count == 1 ? 40 : 3))
        request.instance = PICK(model_instances);
    if (model_chance(30))
        request.process.pid = g_test_rand_int_range(1, 4);
    if (model_chance(30)) {
        request.client = PICK(model_clients);
        request.lifetime = LIFETIME_CLIENT;
    }
    return request;
}

static void do_begin(void)
{
    MSlot *slot = pick_slot(FALSE);
    LeaseRequest request = random_request();
    Reservation *reservation = NULL;
    g_autoptr(Lease) reused = NULL;
    g_autoptr(GError) error = NULL;
    const MLease *expected_reused = NULL;
    MSlot filled = {0};
    Outcome expected;
    Outcome outcome;
    Chunk chunk;

    if (!slot)
        return;
    expected = model_begin(&request, &filled, &expected_reused);
    outcome = registry_begin(model.real, &request, model.now_usec, &reservation, &reused, &error);
    if (outcome != expected)
        g_test_message("%s", error ? error->message : "no error");
    g_assert_cmpint(outcome, ==, expected);
    model.outcomes[outcome]++;
    if (outcome != OUTCOME_OK) {
        g_assert_error(error, OUTCOME_ERROR, (int)outcome);
        g_assert_true(!reservation && !reused);
        return;
    }
    g_assert_no_error(error);
    if (expected_reused) {
        model.reuses++;
        g_assert_null(reservation);
        g_assert_true(reused == expected_reused->real);
        return;
    }
    g_assert_true(reservation && !reused);
    filled.real = reservation;
    filled.seen = g_array_new(FALSE, FALSE, sizeof(guint16));
    filled.bad = g_array_new(FALSE, FALSE, sizeof(guint16));
    filled.all_bad = g_array_new(FALSE, FALSE, sizeof(guint16));
    *slot = filled;

    g_assert_cmpint(reservation_protocol(reservation), ==, slot->protocol);
    g_assert_cmpuint(reservation_range(reservation).first, ==, slot->range.first);
    g_assert_cmpuint(reservation_range(reservation).last, ==, slot->range.last);
    g_assert_cmpint(reservation_new_chunk(reservation, &chunk), ==, slot->claims);
    if (slot->claims) {
        g_assert_cmpstr(chunk.service_type, ==, request.service_type);
        g_assert_cmpuint(chunk.uid, ==, request.uid);
        g_assert_cmpuint(chunk.range.first, ==, slot->claim.first);
        g_assert_cmpuint(chunk.range.last, ==, slot->claim.last);
    }
}

static void do_free(MSlot *slot)
{
    reservation_free(slot->real);
    clear_slot(slot);
}

static void do_next(MSlot *slot)
{
    guint16 expected;

    if (slot->candidate)
        model_put(slot->seen, slot->candidate);
    slot->candidate = 0;
    expected = model_next(slot);
    g_assert_cmpuint(reservation_next(slot->real, model.now_usec), ==, expected);
    slot->candidate = expected;
    slot->attempts += expected != 0;
    model.empty_rounds += expected == 0;
    g_assert_cmpuint(reservation_attempts(slot->real), ==, slot->attempts);
    if (expected == 0 && model_chance(50))
        do_free(slot);
}

static void do_conflict(MSlot *slot)
{
    const GArray *conflicts = reservation_conflicts(slot->real);
    guint16 port;

    if (slot->candidate == 0)
        return;
    port = (guint16)(slot->candidate + g_test_rand_int_range(0, (gint32)slot->request.count));
    reservation_conflict(slot->real, port, model.now_usec);
    model_put(slot->bad, port);
    model_put(slot->all_bad, port);
    if (model.config->conflict_enabled)
        model_set_cooldown(port, slot->protocol,
                           model.now_usec +
                               model.config->conflict_cooldown_msec * G_GINT64_CONSTANT(1000));
    model.conflicts++;
    g_assert_cmpmem(conflicts->data, conflicts->len * sizeof(guint16), slot->all_bad->data,
                    slot->all_bad->len * sizeof(guint16));
}

/* Outsiders hold whatever comes next. */
static void do_storm(MSlot *slot)
{
    for (guint i = (guint)g_test_rand_int_range(1, 16); i > 0 && slot->real; i--) {
        do_next(slot);
        if (slot->real)
            do_conflict(slot);
    }
}

static void do_commit(MSlot *slot)
{
    g_autoptr(GPtrArray) leases = NULL;
    g_autoptr(GArray) changes = change_array_new();

    if (slot->candidate == 0)
        return;
    leases = reservation_build(slot->real, model.now_usec);
    g_assert_cmpuint(leases->len, ==, slot->request.count);
    registry_commit(model.real, slot->real, leases, changes);
    g_assert_cmpuint(changes->len, ==, leases->len);
    for (guint i = 0; i < leases->len; i++) {
        Lease *real = leases->pdata[i];
        MLease lease = {.real = real,
                        .port = (guint16)(slot->candidate + i),
                        .protocol = slot->protocol,
                        .uid = slot->request.uid,
                        .type = slot->request.service_type,
                        .instance = slot->instance,
                        .client = slot->request.client,
                        .pid = slot->request.process.pid};

        g_strlcpy(lease.id, real->id.text, sizeof lease.id);
        g_assert_true(g_array_index(changes, Change, i).lease == real);
        g_array_append_val(model.leases, lease);
        model_set_cooldown(lease.port, lease.protocol, 0);
        if (lease.instance)
            model_remember(lease.uid, lease.type, lease.instance, lease.port);
    }
    model.grants++;
    if (slot->claims) {
        Chunk chunk = {slot->request.service_type, slot->claim, slot->request.uid};

        g_array_append_val(model.chunks, chunk);
        for (guint i = 0; i < SLOTS; i++)
            if (model.slots[i].real &&
                model_same(model.slots[i].request.service_type, chunk.service_type))
                model.slots[i].claims = FALSE;
    }
    clear_slot(slot);
}

static void do_restart(MSlot *slot)
{
    reservation_restart(slot->real);
    slot->candidate = 0;
    g_array_set_size(slot->seen, 0);
    g_array_set_size(slot->bad, 0);
}

static void do_remove(void)
{
    g_autoptr(GArray) changes = change_array_new();
    guint i;

    /* The more there are, the more often one goes: some thirty share what room there is. */
    if (model.leases->len == 0 || !model_chance(2 * model.leases->len))
        return;
    i = (guint)g_test_rand_int_range(0, (gint32)model.leases->len);
    registry_remove(model.real, LEASE_AT(i)->real, REASON_EXPIRED, changes);
    g_assert_cmpuint(changes->len, ==, 1);
    g_assert_cmpint(g_array_index(changes, Change, 0).reason, ==, REASON_EXPIRED);
    g_assert_cmpstr(g_array_index(changes, Change, 0).lease->id.text, ==, LEASE_AT(i)->id);
    g_array_remove_index(model.leases, i);
}

static void do_insert(void)
{
    LeaseRequest like = random_request();
    Protocol protocol = like.protocol ? like.protocol : PROTOCOL_TCP;
    guint16 port = model_random_port();
    g_autoptr(Lease) real = fixture_lease(like.service_type, port, protocol, like.uid);
    MLease lease = {.real = real,
                    .port = port,
                    .protocol = protocol,
                    .uid = like.uid,
                    .type = like.service_type,
                    .instance = like.instance,
                    .client = like.client,
                    .pid = like.process.pid,
                    .quarantined = model_chance(20)};
    gboolean expected = !model_is_taken(port, protocol);

    if (model.leases->len > 0 && model_chance(10)) {
        memcpy(real->id.text, LEASE_AT(0)->id, sizeof real->id.text);
        expected = FALSE;
    }
    real->instance = g_strdup(like.instance);
    real->client = g_strdup(like.client);
    real->process.pid = like.process.pid;
    real->health = lease.quarantined ? HEALTH_QUARANTINED : HEALTH_ACTIVE;
    g_strlcpy(lease.id, real->id.text, sizeof lease.id);
    g_assert_cmpint(registry_insert(model.real, real), ==, expected);
    if (!expected)
        return;
    g_array_append_val(model.leases, lease);
    if (lease.instance)
        model_remember(lease.uid, lease.type, lease.instance, lease.port);
}

static void do_insert_sticky(void)
{
    StickyPort sticky = {PICK(model_uids), PICK(model_types), PICK(model_instances),
                         model_chance(95) ? model_random_port() : 0};
    gboolean expected = sticky.port != 0 && model.config->limit_sticky_ports_per_user > 0;

    g_assert_cmpint(registry_insert_sticky(model.real, &sticky), ==, expected);
    if (expected)
        model_remember(sticky.uid, sticky.service_type, sticky.instance, sticky.port);
}

static void do_insert_chunk(void)
{
    Chunk chunk = {PICK(model_types), {0, 0}, PICK(model_uids)};
    gboolean expected;

    chunk.range.first = (guint16)g_test_rand_int_range(1995, 2035);
    chunk.range.last = (guint16)(chunk.range.first + g_test_rand_int_range(-1, 6));
    expected = chunk.range.first <= chunk.range.last &&
               !model_find_type(model.config, chunk.service_type) &&
               !model_known_chunk(chunk.service_type) &&
               !model_claim_of(chunk.service_type, NULL) &&
               model_is_room_for_chunk(chunk.range.first, chunk.range.last);
    g_assert_cmpint(registry_insert_chunk(model.real, &chunk), ==, expected);
    if (expected)
        g_array_append_val(model.chunks, chunk);
}

static gboolean is_given_up(const char *type, PortRange range)
{
    if (model_find_type(model.config, type))
        return TRUE;
    for (guint i = 0; i < model.config->service_types->len; i++)
        if (port_range_overlaps(((const ServiceType *)model.config->service_types->pdata[i])->range,
                                range))
            return TRUE;
    return FALSE;
}

static void do_configure(void)
{
    model.config = PICK(model.configs);
    registry_set_configuration(model.real, model.config);
    for (guint i = model.chunks->len; i-- > 0;)
        if (is_given_up(CHUNK_AT(i)->service_type, CHUNK_AT(i)->range))
            g_array_remove_index(model.chunks, i);
    for (guint i = 0; i < SLOTS; i++)
        if (model.slots[i].real && model.slots[i].claims &&
            is_given_up(model.slots[i].request.service_type, model.slots[i].claim))
            model.slots[i].claims = FALSE;
}

static void do_update(void)
{
    g_autoptr(GArray) changes = change_array_new();
    MLease *lease;
    gboolean differs;

    if (model.leases->len == 0)
        return;
    lease = LEASE_AT(g_test_rand_int_range(0, (gint32)model.leases->len));
    if (model_chance(50)) {
        gboolean quarantined = model_chance(30);
        Health health = quarantined ? HEALTH_QUARANTINED : HEALTH_ACTIVE;

        differs = lease->real->health != health;
        registry_set_health(model.real, lease->real, health, 0, 0, changes);
        lease->quarantined = quarantined;
    } else {
        ProcessIdentity process = {.pid = g_test_rand_int_range(0, 4)};

        differs = lease->pid != process.pid;
        registry_set_process(model.real, lease->real, process, NULL, changes);
        lease->pid = process.pid;
    }
    g_assert_cmpuint(changes->len, ==, differs ? 1 : 0);
}

/* ---- the run ---- */

static Configuration *model_configuration(guint variant)
{
    static const guint16 multi[] = {3004, 3002};
    static const guint16 split[] = {1019, 1026};
    Configuration *config = fixture_configuration();

    g_free(config->auto_rules[0].pattern);
    config->auto_rules[0] = (ChunkRule){g_strdup("mon-*"), 7};
    config->auto_chunk_size = 5;
    config->auto_range = (PortRange){2000, variant == 1 ? 2026 : 2011};
    config->conflict_cooldown_msec = variant == 1 ? 400 : 2000;
    config->limit_leases_per_user = variant == 1 ? 8 : 20;
    config->limit_block_size = variant == 1 ? 3 : 4;
    config->limit_auto_types_per_user = variant == 1 ? 1 : 4;
    config->limit_sticky_ports_per_user = variant == 1 ? 2 : variant == 2 ? 0 : 4;
    config->auto_enabled = variant != 2;
    config->conflict_enabled = variant != 2;
    if (variant == 1)
        fixture_add_type(config, "auto-a", 2003, 2007, PROTOCOL_UDP, NULL, 0);
    fixture_add_type(config, "dgram", 5000, 5007, PROTOCOL_UDP, NULL, 0);
    fixture_add_type(config, "edge", 65524, 65535, PROTOCOL_TCP, NULL, 0);
    fixture_add_type(config, "multi", 3000, 3011, PROTOCOL_TCP, multi, G_N_ELEMENTS(multi))
        ->single = variant == 2;
    fixture_add_type(config, "one", 4000, 4005, PROTOCOL_TCP, NULL, 0)->single = TRUE;
    fixture_add_type(config, "pair", 5010, 5017, PROTOCOL_BOTH, NULL, 0);
    fixture_add_type(config, "split", 1018, 1029, PROTOCOL_TCP, split, G_N_ELEMENTS(split));
    return config;
}

static void operate(void)
{
    guint dice = (guint)g_test_rand_int_range(0, 1000);
    MSlot *slot = pick_slot(TRUE);

    if (dice < 280 || !slot)
        do_begin();
    else if (dice < 460)
        do_next(slot);
    else if (dice < 520)
        do_conflict(slot);
    else if (dice < 540)
        do_storm(slot);
    else if (dice < 740)
        do_commit(slot);
    else if (dice < 770)
        do_free(slot);
    else if (dice < 790)
        do_restart(slot);
    else if (dice < 910)
        do_remove();
    else if (dice < 935)
        do_insert();
    else if (dice < 950)
        do_insert_sticky();
    else if (dice < 960)
        do_insert_chunk();
    else if (dice < 966)
        do_configure();
    else if (dice < 990)
        do_update();
    else
        model.now_usec += g_test_rand_int_range(0, 600000);
    model.now_usec += g_test_rand_int_range(0, 20000);
}

/* A life of the registry, to the end of everything in it. */
static void live(guint64 operations)
{
    model.config = PICK(model.configs);
    model.real = registry_new(model.config);
    model.leases = g_array_new(FALSE, FALSE, sizeof(MLease));
    model.cooldowns = g_array_new(FALSE, FALSE, sizeof(MCooldown));
    model.stickies = g_array_new(FALSE, FALSE, sizeof(StickyPort));
    model.chunks = g_array_new(FALSE, FALSE, sizeof(Chunk));

    for (guint64 i = 0; i < operations; i++) {
        operate();
        model_compare();
    }
    for (guint i = 0; i < SLOTS; i++)
        if (model.slots[i].real)
            do_free(&model.slots[i]);
    model_compare();
    while (model.leases->len > 0 && model_chance(95)) {
        do_remove();
        model_compare();
    }

    model.real = registry_free(model.real);
    g_array_unref(model.leases);
    g_array_unref(model.cooldowns);
    g_array_unref(model.stickies);
    g_array_unref(model.chunks);
}

static void test_model(void)
{
    /* A run in which one of these never came up has not compared it. */
    static const Outcome seen[] = {
        OUTCOME_OK,          OUTCOME_INVALID_ARGUMENT, OUTCOME_UNKNOWN_SERVICE_TYPE,
        OUTCOME_BUSY,        OUTCOME_NOT_AUTHORIZED,   OUTCOME_QUOTA_EXCEEDED,
        OUTCOME_PORT_IN_USE, OUTCOME_NO_PORT_AVAILABLE};
    const char *text = g_getenv("STYXY_MODEL_OPERATIONS");
    guint64 operations = text ? g_ascii_strtoull(text, NULL, 10) : OPERATIONS;

    g_assert_cmpuint(operations, >, 0);
    for (guint i = 0; i < G_N_ELEMENTS(model.configs); i++)
        model.configs[i] = model_configuration(i);
    for (guint64 done = 0; done < operations; done += LIFE)
        live(MIN(operations - done, LIFE));
    for (guint i = 0; i < G_N_ELEMENTS(model.configs); i++)
        configuration_unref(model.configs[i]);

    g_test_message("%" G_GUINT64_FORMAT " operations: %u grants, %u reused, %u conflicts, "
                   "%u empty rounds, %u candidates out of cooldown",
                   operations, model.grants, model.reuses, model.conflicts, model.empty_rounds,
                   model.late_candidates);
    for (guint i = 0; i < _OUTCOME_MAX; i++)
        g_test_message("outcome %u of begin: %u times", i, model.outcomes[i]);
    if (operations < OPERATIONS)
        return;
    for (size_t i = 0; i < G_N_ELEMENTS(seen); i++)
        g_assert_cmpuint(model.outcomes[seen[i]], >, 0);
    g_assert_true(model.grants && model.reuses && model.conflicts && model.empty_rounds &&
                  model.late_candidates);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/registry/model", test_model);
    return g_test_run();
}
