/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "registry-fixture.h"

#include <string.h>

/* Service types that nobody configured. */

static void join_chunk(const Chunk *chunk, void *data)
{
    g_ptr_array_add(data, g_strdup_printf("%s %u-%u %u", chunk->service_type, chunk->range.first,
                                          chunk->range.last, chunk->uid));
}

static int compare_texts(gconstpointer a, gconstpointer b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static void assert_chunks(const Registry *registry, const char *expected)
{
    g_autoptr(GPtrArray) chunks = g_ptr_array_new_with_free_func(g_free);
    g_autofree char *text = NULL;

    registry_foreach_chunk(registry, join_chunk, chunks);
    g_ptr_array_sort(chunks, compare_texts);
    g_ptr_array_add(chunks, NULL);
    text = g_strjoinv("; ", (char **)chunks->pdata);
    g_assert_cmpstr(text, ==, expected);
}

static void test_known_by_commit(void)
{
    g_autoptr(Configuration) config = fixture_standard();
    g_autoptr(Registry) registry = registry_new(config);
    Reservation *reservation = fixture_open(registry, &FIXTURE_REQUEST("new"));
    Chunk chunk;
    Lease *lease;

    g_assert_cmpuint(reservation_next(reservation, 0), ==, 20000);
    g_assert_true(reservation_new_chunk(reservation, &chunk));
    g_assert_cmpstr(chunk.service_type, ==, "new");
    g_assert_cmpuint(chunk.range.first, ==, 20000);
    g_assert_cmpuint(chunk.range.last, ==, 20009);
    g_assert_cmpuint(chunk.uid, ==, 1000);
    g_assert_cmpuint(reservation_range(reservation).last, ==, 20009);
    g_assert_cmpint(reservation_protocol(reservation), ==, PROTOCOL_TCP);
    assert_chunks(registry, "");
    reservation_free(reservation);
    assert_chunks(registry, "");

    /* Given up, it left nothing: another type begins at the same place. */
    lease = fixture_grant(registry, &FIXTURE_REQUEST("monitoring-x"));
    g_assert_cmpuint(lease->port, ==, 20000);
    assert_chunks(registry, "monitoring-x 20000-20019 1000");
    registry_remove(registry, lease, REASON_RELEASED, NULL);
    assert_chunks(registry, "monitoring-x 20000-20019 1000");

    g_assert_cmpuint(fixture_grant(registry, &FIXTURE_REQUEST("new"))->port, ==, 20020);
    reservation = fixture_open(registry, &FIXTURE_REQUEST("new"));
    g_assert_false(reservation_new_chunk(reservation, &chunk));
    g_assert_cmpuint(reservation_next(reservation, 0), ==, 20021);
    reservation_free(reservation);

    /* A used up chunk does not grow. */
    for (guint i = 1; i < 10; i++)
        g_assert_nonnull(fixture_grant(registry, &FIXTURE_REQUEST("new")));
    g_assert_null(fixture_grant(registry, &FIXTURE_REQUEST("new")));
    reservation = fixture_open(registry, &FIXTURE_REQUEST("dev"));
    g_assert_false(reservation_new_chunk(reservation, &chunk));
    reservation_free(reservation);
}

static void test_ten_at_once(void)
{
    g_autoptr(Configuration) config = fixture_standard();
    g_autoptr(Registry) registry = registry_new(config);
    Reservation *open[10];
    g_autofree char *message = NULL;

    for (guint i = 0; i < 10; i++) {
        g_autofree char *name = g_strdup_printf("new-%u", i);

        open[i] = fixture_open(registry, &FIXTURE_REQUEST(name));
        g_assert_cmpuint(reservation_range(open[i]).first, ==, 20000 + i * 10);
    }
    g_assert_cmpint(fixture_refused(registry, &FIXTURE_REQUEST("new-10"), &message), ==,
                    OUTCOME_NO_PORT_AVAILABLE);
    g_test_message("%s", message);
    g_assert_nonnull(strstr(message, "20000-20099"));
    g_assert_nonnull(strstr(message, "'new-10'"));
    for (guint i = 0; i < 10; i++) {
        g_assert_cmpuint(reservation_next(open[i], 0), ==, 20000 + i * 10);
        if (i == 4)
            reservation_free(open[i]);
        else
            fixture_commit(registry, open[i]);
    }
    g_assert_cmpuint(fixture_grant(registry, &FIXTURE_REQUEST("new-10"))->port, ==, 20040);
}

static void test_shared_claim(void)
{
    g_autoptr(Configuration) config = fixture_standard();
    g_autoptr(Registry) registry = registry_new(config);
    Reservation *a = fixture_open(registry, &FIXTURE_REQUEST("new"));
    Reservation *b = fixture_open(registry, &FIXTURE_REQUEST_AS(5, 1, "new"));
    Reservation *c = fixture_open(registry, &FIXTURE_REQUEST_AS(6, 1, "new"));
    Chunk chunk;

    g_assert_cmpuint(reservation_next(a, 0), ==, 20000);
    g_assert_cmpuint(reservation_next(b, 0), ==, 20001);
    g_assert_cmpuint(reservation_next(c, 0), ==, 20002);
    reservation_free(a);
    g_assert_true(reservation_new_chunk(b, &chunk));
    g_assert_cmpuint(chunk.uid, ==, 5);
    fixture_commit(registry, b);
    assert_chunks(registry, "new 20000-20009 5");
    g_assert_false(reservation_new_chunk(c, &chunk));
    fixture_commit(registry, c);
    assert_chunks(registry, "new 20000-20009 5");
}

static void test_quota(void)
{
    g_autoptr(Configuration) config = fixture_standard();
    g_autoptr(Registry) registry = registry_new(config);
    g_autofree char *message = NULL;
    Reservation *mine;
    Reservation *again;
    Reservation *theirs;

    config->limit_auto_types_per_user = 2;
    fixture_grant(registry, &FIXTURE_REQUEST("one"));
    mine = fixture_open(registry, &FIXTURE_REQUEST("two"));
    again = fixture_open(registry, &FIXTURE_REQUEST("two")); /* the same type costs once */
    theirs = fixture_open(registry, &FIXTURE_REQUEST_AS(5, 1, "three"));
    g_assert_cmpint(fixture_refused(registry, &FIXTURE_REQUEST("four"), &message), ==,
                    OUTCOME_QUOTA_EXCEEDED);
    g_test_message("%s", message);
    g_assert_nonnull(strstr(message, "limits.auto_types_per_user allows (2)"));

    /* Joining somebody else's claim could end in paying for it. */
    g_assert_cmpint(fixture_refused(registry, &FIXTURE_REQUEST("three"), NULL), ==,
                    OUTCOME_QUOTA_EXCEEDED);
    reservation_next(theirs, 0);
    fixture_commit(registry, theirs);
    g_assert_cmpuint(fixture_grant(registry, &FIXTURE_REQUEST("three"))->port, ==, 20021);
    fixture_grant(registry, &FIXTURE_REQUEST("one"));

    /* The charge ends with the last claim. */
    reservation_free(mine);
    g_assert_cmpint(fixture_refused(registry, &FIXTURE_REQUEST("four"), NULL), ==,
                    OUTCOME_QUOTA_EXCEEDED);
    reservation_free(again);
    fixture_grant(registry, &FIXTURE_REQUEST("four"));
    g_assert_cmpint(fixture_refused(registry, &FIXTURE_REQUEST("five"), NULL), ==,
                    OUTCOME_QUOTA_EXCEEDED);
    fixture_grant(registry, &FIXTURE_REQUEST_AS(0, 1, "five"));
    fixture_grant(registry, &FIXTURE_REQUEST_AS(0, 1, "six"));
    fixture_grant(registry, &FIXTURE_REQUEST_AS(0, 1, "seven"));
}

static void test_clear_of_configured(void)
{
    g_autoptr(Configuration) config = fixture_standard();
    g_autoptr(Registry) registry = NULL;

    fixture_add_type(config, "x", 20005, 20014, PROTOCOL_TCP, NULL, 0);
    config->auto_range = (PortRange){1000, 1100}; /* from 1024 on, but web has 1000-1039 */
    registry = registry_new(config);
    g_assert_cmpuint(fixture_grant(registry, &FIXTURE_REQUEST("new"))->port, ==, 1040);
    config->auto_range = (PortRange){20000, 20030};
    g_assert_cmpuint(fixture_grant(registry, &FIXTURE_REQUEST("newer"))->port, ==, 20015);
    g_assert_cmpint(fixture_refused(registry, &FIXTURE_REQUEST("newest"), NULL), ==,
                    OUTCOME_NO_PORT_AVAILABLE);
    config->auto_range = (PortRange){500, 1000};
    g_assert_cmpint(fixture_refused(registry, &FIXTURE_REQUEST("newest"), NULL), ==,
                    OUTCOME_NO_PORT_AVAILABLE);
}

static void test_insert(void)
{
    g_autoptr(Configuration) config = fixture_standard();
    g_autoptr(Registry) registry = registry_new(config);
    Reservation *claim = fixture_open(registry, &FIXTURE_REQUEST("claimed"));
    const struct {
        Chunk chunk;
        gboolean fits;
    } cases[] = {
        {{"a", {20010, 20019}, 5}, TRUE},   {{"a", {20030, 20039}, 5}, FALSE},
        {{"b", {20019, 20020}, 5}, FALSE},  {{"b", {20009, 20009}, 5}, FALSE},
        {{"b", {3099, 3100}, 5}, FALSE},    {{"dev", {20030, 20039}, 5}, FALSE},
        {{"b_", {20030, 20039}, 5}, FALSE}, {{NULL, {20030, 20039}, 5}, FALSE},
        {{"b", {0, 0}, 5}, FALSE},          {{"b", {20039, 20030}, 5}, FALSE},
        {{"b", {1023, 1023}, 5}, FALSE},    {{"claimed", {20030, 20039}, 5}, FALSE},
        {{"b", {65535, 65535}, 5}, TRUE},
    };

    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++)
        g_assert_cmpint(registry_insert_chunk(registry, &cases[i].chunk), ==, cases[i].fits);
    reservation_free(claim);
    assert_chunks(registry, "a 20010-20019 5; b 65535-65535 5");
    g_assert_cmpuint(fixture_grant(registry, &FIXTURE_REQUEST("a"))->port, ==, 20010);

    /* Charged to who brought it. */
    config->limit_auto_types_per_user = 2;
    g_assert_cmpint(fixture_refused(registry, &FIXTURE_REQUEST_AS(5, 1, "c"), NULL), ==,
                    OUTCOME_QUOTA_EXCEEDED);
}

static void test_reload(void)
{
    g_autoptr(Configuration) before = fixture_standard();
    g_autoptr(Configuration) after = fixture_standard();
    g_autoptr(Registry) registry = registry_new(before);
    Lease *kept = fixture_grant(registry, &FIXTURE_REQUEST("kept"));
    Lease *overlapped = fixture_grant(registry, &FIXTURE_REQUEST("overlapped"));
    Lease *named = fixture_grant(registry, &FIXTURE_REQUEST("named"));
    Reservation *claim = fixture_open(registry, &FIXTURE_REQUEST("claim"));
    Reservation *same = fixture_open(registry, &FIXTURE_REQUEST_AS(5, 1, "claim"));
    Reservation *dev = fixture_open(registry, &FIXTURE_REQUEST("dev"));
    Reservation *anew;
    Chunk chunk;

    g_assert_cmpuint(reservation_next(claim, 0), ==, 20030);
    fixture_add_type(after, "named", 7000, 7009, PROTOCOL_UDP, NULL, 0);
    fixture_add_type(after, "wide", 20015, 20030, PROTOCOL_TCP, NULL, 0);
    registry_set_configuration(registry, after);
    before = configuration_unref(before);

    g_assert_true(kept->in_registry && overlapped->in_registry && named->in_registry);
    assert_chunks(registry, "kept 20000-20009 1000");

    /* What is under way goes on as it began, but what it claimed is no longer there to be had. */
    g_assert_false(reservation_new_chunk(claim, &chunk));
    anew = fixture_open(registry, &FIXTURE_REQUEST("claim"));
    g_assert_cmpuint(reservation_next(anew, 0), ==, 20031);
    g_assert_cmpuint(fixture_commit(registry, claim)->port, ==, 20030);
    assert_chunks(registry, "kept 20000-20009 1000");
    reservation_free(same);
    fixture_commit(registry, anew);
    assert_chunks(registry, "claim 20031-20040 1000; kept 20000-20009 1000");
    g_assert_cmpuint(reservation_next(dev, 0), ==, 3000);
    fixture_commit(registry, dev);

    g_assert_cmpuint(fixture_grant(registry, &FIXTURE_REQUEST("named"))->port, ==, 7000);
    g_assert_cmpuint(fixture_grant(registry, &FIXTURE_REQUEST("overlapped"))->port, ==, 20041);

    /* Switched off, types with a chunk are unknown as well. */
    after->auto_enabled = FALSE;
    g_assert_cmpint(fixture_refused(registry, &FIXTURE_REQUEST("kept"), NULL), ==,
                    OUTCOME_UNKNOWN_SERVICE_TYPE);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/registry/chunks/known-by-commit", test_known_by_commit);
    g_test_add_func("/registry/chunks/ten-at-once", test_ten_at_once);
    g_test_add_func("/registry/chunks/shared-claim", test_shared_claim);
    g_test_add_func("/registry/chunks/quota", test_quota);
    g_test_add_func("/registry/chunks/clear-of-configured", test_clear_of_configured);
    g_test_add_func("/registry/chunks/insert", test_insert);
    g_test_add_func("/registry/chunks/reload", test_reload);
    return g_test_run();
}
