/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the store does while all is well. */
#include <glib/gstdio.h>
#include <json-glib/json-glib.h>
#include <string.h>

#include "fixture.h"
#include "store/sys.h"

static void test_empty(void)
{
    g_autoptr(Fixture) fixture = fixture_new();
    g_autoptr(StoreContents) contents = NULL;
    g_autoptr(GError) error = NULL;

    fixture_open(fixture);
    contents = store_load(fixture->store, FALSE, &error);
    g_assert_no_error(error);
    g_assert_true(contents->fresh);
    g_assert_cmpuint(contents->leases->len, ==, 0);
    g_assert_cmpuint(contents->damage->len, ==, 0);
    g_assert_true(store_is_failed(fixture->store, NULL));
    g_assert_false(store_append(fixture->store, NULL, 0, &error));
    g_assert_error(error, G_FILE_ERROR, G_FILE_ERROR_FAILED);
}

static void test_append_and_load(void)
{
    g_autoptr(Fixture) fixture = fixture_new();
    g_autoptr(GError) error = NULL;

    fixture_start(fixture);
    for (guint port = 3000; port < 3100; port++)
        g_assert_true(fixture_grant(fixture, (guint16)port, &error));
    for (guint port = 3000; port < 3100; port += 3)
        g_assert_true(fixture_end(fixture, (guint16)port, &error));
    fixture_assert_disk(fixture);

    /* from the journal into a snapshot and on */
    fixture_start(fixture);
    g_assert_true(fixture_grant(fixture, 3000, &error));
    fixture_assert_disk(fixture);
    fixture_start(fixture);
    fixture_assert_disk(fixture);
    g_assert_cmpuint(fixture_count(fixture, ".corrupt."), ==, 0);
}

static void test_all_or_none(void)
{
    g_autoptr(Fixture) fixture = fixture_new();
    g_autoptr(StoreContents) contents = NULL;
    g_autoptr(Lease) one = fixture_lease(4001);
    g_autoptr(Lease) two = fixture_lease(4002);
    StickyPort sticky = {5, "dev", "x", 4003}, gone = {5, "dev", "y", 4004};
    Chunk chunk = {"foo", {20000, 20009}, 7};
    StoreOp ops[] = {
        {.kind = STORE_PUT_LEASE, .lease = one},      {.kind = STORE_PUT_STICKY, .sticky = &sticky},
        {.kind = STORE_PUT_STICKY, .sticky = &gone},  {.kind = STORE_PUT_LEASE, .lease = two},
        {.kind = STORE_DROP_STICKY, .sticky = &gone}, {.kind = STORE_PUT_CHUNK, .chunk = &chunk},
    };
    g_autoptr(GError) error = NULL;

    fixture_start(fixture);
    g_assert_true(store_append(fixture->store, ops, G_N_ELEMENTS(ops), &error));
    fixture_close(fixture);
    fixture_open(fixture);
    contents = store_load(fixture->store, TRUE, &error);
    g_assert_no_error(error);
    g_assert_cmpuint(contents->damage->len, ==, 0);
    fixture_take(fixture, contents);
    g_assert_cmpint(g_tree_nnodes(fixture->leases), ==, 2);
    g_assert_true(lease_equal(g_tree_lookup(fixture->leases, GUINT_TO_POINTER(4002)), two));
    g_assert_cmpuint(fixture_sticky(fixture, 5, "dev", "x"), ==, 4003);
    g_assert_false(g_hash_table_contains(fixture->sticky, "5/dev/y"));
    g_assert_cmpuint(GPOINTER_TO_UINT(g_hash_table_lookup(fixture->chunks, "foo")), ==, 20000);
    fixture_close(fixture);

    /* the same out of a snapshot */
    fixture_start(fixture);
    fixture_assert_disk(fixture);
}

static void test_durable(void)
{
    g_autoptr(Fixture) fixture = fixture_new();
    g_autoptr(GError) error = NULL;

    fixture_start(fixture);
    g_assert_true(fixture_grant_durable(fixture, 5432, &error));
    g_assert_no_error(error);
    fixture_assert_disk(fixture);
}

static void count_done(const GError *error, void *data)
{
    g_assert_no_error(error);
    ++*(guint *)data;
}

static void test_close_answers(void)
{
    g_autoptr(Fixture) fixture = fixture_new();
    g_autoptr(Lease) lease = fixture_lease(5432);
    StoreOp op = {.kind = STORE_PUT_LEASE, .lease = lease};
    guint answered = 0;

    fixture_start(fixture);
    for (guint i = 0; i < 100; i++)
        g_assert_true(store_append_durable(fixture->store, &op, 1, 7, count_done, &answered, NULL));
    g_assert_cmpuint(answered, ==, 0);
    fixture_close(fixture);
    g_assert_cmpuint(answered, ==, 100);
}

static void test_lock(void)
{
    g_autoptr(Fixture) fixture = fixture_new();
    g_autoptr(GError) error = NULL;

    fixture_open(fixture);
    g_assert_null(store_open(&fixture->options, fixture->context, &error));
    g_assert_error(error, G_FILE_ERROR, G_FILE_ERROR_AGAIN);
    fixture_close(fixture);
    fixture_open(fixture);
}

static void test_starts(void)
{
    g_autoptr(Fixture) fixture = fixture_new();

    fixture_open(fixture);
    g_assert_cmpuint(store_note_start(fixture->store), ==, 1);
    g_assert_cmpuint(store_note_start(fixture->store), ==, 2);
    fixture_close(fixture);
    fixture_open(fixture);
    g_assert_cmpuint(store_note_start(fixture->store), ==, 3);
    store_note_recovered(fixture->store);
    g_assert_cmpuint(store_note_start(fixture->store), ==, 1);
    fixture_write(fixture, "starts", "rubbish", 7);
    g_assert_cmpuint(store_note_start(fixture->store), ==, 1);
    fixture_write(fixture, "starts", "99999999999999999999", 20);
    g_assert_cmpuint(store_note_start(fixture->store), ==, 1);
}

static void test_set_aside(void)
{
    g_autoptr(Fixture) fixture = fixture_new();
    g_autoptr(StoreContents) contents = NULL;
    g_autoptr(GError) error = NULL;

    fixture_start(fixture);
    g_assert_true(fixture_grant(fixture, 3000, &error));
    fixture_close(fixture);
    fixture_open(fixture);
    g_assert_true(store_set_aside(fixture->store, &error));
    g_assert_no_error(error);
    contents = store_load(fixture->store, FALSE, &error);
    g_assert_no_error(error);
    g_assert_true(contents->fresh);
    g_assert_cmpuint(contents->leases->len, ==, 0);
    g_assert_cmpuint(fixture_count(fixture, "state.json.corrupt."), ==, 1);
    g_assert_cmpuint(fixture_count(fixture, "state.journal.corrupt."), ==, 1);
}

/* The loop goes on while the snapshot is made, and grants and ends leases all over it; as long as
 * it takes a slow disk to make some of them. */
static void test_compact_under_load(void)
{
    g_autoptr(Fixture) fixture = fixture_new();
    g_autoptr(GRand) rand = g_rand_new_with_seed(1);
    guint snapshots = 0;
    guint64 size = 0;

    fixture->options.compact_bytes = 50000;
    fixture_start(fixture);
    for (guint i = 0; i < 20000 || (snapshots <= 20 && i < 200000); i++) {
        guint16 port = (guint16)g_rand_int_range(rand, 1024, 4000);
        g_autofree char *path = fixture_path(fixture, "state.journal");
        g_autoptr(GError) error = NULL;
        GStatBuf st;

        if (g_tree_lookup(fixture->leases, GUINT_TO_POINTER(port)))
            g_assert_true(fixture_end(fixture, port, &error));
        else if (i % 500 == 0)
            g_assert_true(fixture_grant_durable(fixture, port, &error));
        else
            g_assert_true(fixture_grant(fixture, port, &error));
        if (i % 3 == 0)
            (void)g_main_context_iteration(fixture->context, FALSE);
        if (i % 4000 == 3999) {
            /* at any moment what is there is the whole */
            fixture_assert_disk(fixture);
            fixture_start(fixture);
            size = 0; /* the start made one, which does not count */
        }
        g_assert_cmpint(g_stat(path, &st), ==, 0);
        snapshots += (guint64)st.st_size < size;
        size = (guint64)st.st_size;
    }
    g_assert_cmpuint(snapshots, >, 20);
    fixture_settle(fixture);
    fixture_assert_disk(fixture);
    g_assert_cmpuint(fixture->failed_told, ==, 0);
    g_assert_cmpuint(fixture->snapshots_failed, ==, 0);
}

/* ---- a check of the running store ---- */

typedef struct Held {
    GThread *main;
    GMutex lock;
    GCond changed;
    guint calls; /* of other threads than the main one */
    gboolean held, released;
    gint64 end_usec; /* of waiting */
} Held;

/* Stops the check between two of the files that it reads. */
static int on_held_call(SysCall call, size_t *length, void *data)
{
    Held *hold = data;

    if (call != SYS_CALL_OPEN || g_thread_self() == hold->main)
        return 0;
    g_mutex_lock(&hold->lock);
    hold->held = ++hold->calls == 2;
    while (hold->held && !hold->released &&
           g_cond_wait_until(&hold->changed, &hold->lock, hold->end_usec))
        ;
    hold->held = FALSE;
    g_mutex_unlock(&hold->lock);
    return 0;
}

static gboolean is_held(Held *hold)
{
    gboolean held;

    g_mutex_lock(&hold->lock);
    held = hold->held;
    g_mutex_unlock(&hold->lock);
    return held;
}

static void on_checked(StoreContents *contents, const GError *error, void *data)
{
    g_assert_no_error(error);
    *(StoreContents **)data = contents;
}

/* What is granted, and a snapshot that is due, do not change what is read. */
static void test_check(void)
{
    g_autoptr(Fixture) fixture = fixture_new();
    g_autoptr(StoreContents) contents = NULL;
    gint64 end_usec = g_get_monotonic_time() + 10 * G_USEC_PER_SEC;
    Held hold = {.main = g_thread_self(), .end_usec = end_usec};

    fixture_start(fixture);
    fixture_settle(fixture);
    for (guint port = 3000; port < 3005; port++)
        g_assert_true(fixture_grant(fixture, (guint16)port, NULL));
    sys_set_hook(on_held_call, &hold);
    g_assert_true(store_check(fixture->store, FALSE, on_checked, &contents, NULL));
    while (!is_held(&hold) && g_get_monotonic_time() < end_usec)
        g_thread_yield();
    g_assert_true(is_held(&hold));
    store_compact(fixture->store);
    for (guint port = 3005; port < 3020; port++) {
        g_assert_true(fixture_grant(fixture, (guint16)port, NULL));
        g_usleep(1000); /* so that what is timed in the loop is due */
        (void)g_main_context_iteration(fixture->context, FALSE);
    }
    g_assert_null(contents);
    g_mutex_lock(&hold.lock);
    hold.released = TRUE;
    g_cond_signal(&hold.changed);
    g_mutex_unlock(&hold.lock);
    while (!contents && g_get_monotonic_time() < end_usec)
        fixture_turn(fixture);
    g_assert_nonnull(contents);
    g_assert_cmpuint(contents->leases->len, ==, 5);
    g_assert_cmpuint(contents->damage->len, ==, 0);
    g_assert_false(contents->torn_tail);
    fixture_settle(fixture); /* the snapshot, which waited */
    sys_set_hook(NULL, NULL);
    fixture_assert_disk(fixture);
}

static void test_for_a_person(void)
{
    g_autoptr(Fixture) fixture = fixture_new();
    g_autoptr(JsonParser) parser = json_parser_new();
    g_autofree char *path = fixture_path(fixture, "state.json");
    g_autoptr(GError) error = NULL;
    JsonObject *root, *single, *lease;

    fixture_start(fixture);
    for (guint port = 3000; port < 3005; port++)
        g_assert_true(fixture_grant(fixture, (guint16)port, &error));
    fixture_close(fixture);
    fixture_start(fixture);

    g_assert_true(json_parser_load_from_file(parser, path, &error));
    g_assert_no_error(error);
    root = json_node_get_object(json_parser_get_root(parser));
    g_assert_cmpint(json_object_get_int_member(root, "version"), ==, 1);
    g_assert_cmpstr(json_object_get_string_member(root, "boot_id"), ==, fixture->boot_id.text);
    g_assert_cmpuint(json_array_get_length(json_object_get_array_member(root, "allocations")), ==,
                     5);
    lease = json_array_get_object_element(json_object_get_array_member(root, "allocations"), 3);
    g_assert_cmpint(json_object_get_int_member(lease, "port"), ==, 3003);
    g_assert_cmpstr(json_object_get_string_member(lease, "service_type"), ==, "ai");
    single = json_object_get_object_member(root, "singletonServices");
    g_assert_cmpuint(json_object_get_size(single), ==, 1);
    single = json_object_get_object_member(single, "ai");
    g_assert_cmpint(json_object_get_int_member(single, "port"), ==, 3003);
    g_assert_cmpstr(json_object_get_string_member(single, "lease"), ==,
                    json_object_get_string_member(lease, "lease"));
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/store/empty", test_empty);
    g_test_add_func("/store/append-and-load", test_append_and_load);
    g_test_add_func("/store/all-or-none", test_all_or_none);
    g_test_add_func("/store/durable", test_durable);
    g_test_add_func("/store/close-answers", test_close_answers);
    g_test_add_func("/store/lock", test_lock);
    g_test_add_func("/store/starts", test_starts);
    g_test_add_func("/store/set-aside", test_set_aside);
    g_test_add_func("/store/compact-under-load", test_compact_under_load);
    g_test_add_func("/store/check", test_check);
    g_test_add_func("/store/for-a-person", test_for_a_person);
    return g_test_run();
}
