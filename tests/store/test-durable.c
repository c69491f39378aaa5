/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Many calls that one sync serves: users take turns in being told, a slice at a time. */
#include "fixture.h"
#include "gate.h"

#define MANY 30
#define LONG_USEC 2000 /* longer than a slice */

/* One call, and what became of it. */
typedef struct Asked {
    Fixture *fixture;
    GPtrArray *told; /* of Asked, borrowed: in the order in which they were */
    Lease *lease;
    uid_t uid;
    guint takes_usec;
    gboolean refused;
} Asked;

static void on_told(const GError *error, void *data)
{
    Asked *asked = data;
    gint64 end_usec = g_get_monotonic_time() + asked->takes_usec;

    while (g_get_monotonic_time() < end_usec)
        ;
    asked->refused = error != NULL;
    if (!error)
        g_tree_replace(asked->fixture->leases, GUINT_TO_POINTER(asked->lease->port),
                       lease_ref(asked->lease));
    g_ptr_array_add(asked->told, asked);
}

/* Of the ports from 3000 + @first on. */
static void ask(Fixture *fixture, GPtrArray *told, Asked *asked, guint first, guint n, uid_t uid,
                guint takes_usec)
{
    for (guint i = first; i < first + n; i++) {
        Lease *lease = fixture_lease((guint16)(3000 + i));
        StoreOp op = {.kind = STORE_PUT_LEASE, .lease = lease};

        g_clear_pointer(&lease->instance, g_free);
        asked[i] = (Asked){fixture, told, lease, uid, takes_usec, FALSE};
        g_assert_true(store_append_durable(fixture->store, &op, 1, uid, on_told, &asked[i], NULL));
    }
}

static void drop(Asked *asked, guint n)
{
    for (guint i = 0; i < n; i++)
        (void)lease_unref(asked[i].lease);
}

/* The first call has a sync of its own, which is under way when MANY others of its user come. */
static void begin(Fixture *fixture, Gate *gate, GPtrArray *told, Asked *asked, guint takes_usec)
{
    fixture_start(fixture);
    fixture_settle(fixture);
    sys_set_hook(gate_pass, gate);
    ask(fixture, told, asked, 0, 1, 7, takes_usec);
    gate_await(gate, 1);
    ask(fixture, told, asked, 1, MANY, 7, takes_usec);
}

static const Asked *told_as(const GPtrArray *told, guint i)
{
    return told->pdata[i];
}

static void test_turns(void)
{
    g_autoptr(Fixture) fixture = fixture_new();
    g_autoptr(GPtrArray) told = g_ptr_array_new();
    Asked asked[1 + MANY + 3];
    Gate gate = {.let = 0};

    begin(fixture, &gate, told, asked, 0);
    ask(fixture, told, asked, 1 + MANY, 2, 8, 0);
    ask(fixture, told, asked, 3 + MANY, 1, 0, 0);
    gate_let(&gate, 2);
    while (told->len < G_N_ELEMENTS(asked))
        fixture_turn(fixture);
    g_assert_cmpuint(gate.begun, ==, 2);
    g_assert_true(told_as(told, 0) == &asked[0]);
    g_assert_true(told_as(told, 1) == &asked[1]);
    g_assert_true(told_as(told, 2) == &asked[1 + MANY]);
    g_assert_true(told_as(told, 3) == &asked[3 + MANY]);
    g_assert_true(told_as(told, 4) == &asked[2]);
    g_assert_true(told_as(told, 5) == &asked[2 + MANY]);
    for (guint i = 6; i < told->len; i++)
        g_assert_true(told_as(told, i) == &asked[i - 3]);
    fixture_assert_disk(fixture);
    sys_set_hook(NULL, NULL);
    drop(asked, G_N_ELEMENTS(asked));
}

/* Meanwhile a snapshot must not begin: they are on the disk, and not in its source yet. */
static void test_slices(void)
{
    g_autoptr(Fixture) fixture = fixture_new();
    g_autoptr(GPtrArray) told = g_ptr_array_new();
    Asked asked[1 + MANY];
    Gate gate = {.let = 0};

    begin(fixture, &gate, told, asked, LONG_USEC);
    store_compact(fixture->store);
    gate_let(&gate, 100);
    for (guint before = 0; told->len < G_N_ELEMENTS(asked); before = told->len) {
        g_assert_false(store_idle(fixture->store));
        fixture_turn(fixture);
        g_assert_cmpuint(told->len - before, <=, 2); /* one of each of two syncs */
    }
    fixture_settle(fixture);
    sys_set_hook(NULL, NULL);
    fixture_assert_disk(fixture);
    drop(asked, G_N_ELEMENTS(asked));
}

static void test_idle(void)
{
    g_autoptr(Fixture) fixture = fixture_new();
    g_autoptr(GPtrArray) told = g_ptr_array_new();
    Asked asked[1 + MANY];
    Gate gate = {.let = 0};

    begin(fixture, &gate, told, asked, LONG_USEC);
    gate_let(&gate, 100);
    while (told->len < G_N_ELEMENTS(asked)) {
        g_assert_false(store_idle(fixture->store));
        fixture_turn(fixture);
    }
    g_assert_true(store_idle(fixture->store));
    sys_set_hook(NULL, NULL);
    drop(asked, G_N_ELEMENTS(asked));
}

static void assert_on_disk(Fixture *fixture, guint n)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(StoreContents) contents = store_load(fixture->store, TRUE, &error);

    g_assert_no_error(error);
    g_assert_cmpuint(contents->leases->len, ==, n);
    for (guint i = 0; i < n; i++)
        g_assert_cmpuint(((const Lease *)contents->leases->pdata[i])->port, <, 3000 + n);
}

/* Who was served is not refused with those whom the next sync fails. */
static void test_next_sync_fails(void)
{
    g_autoptr(Fixture) fixture = fixture_new();
    g_autoptr(GPtrArray) told = g_ptr_array_new();
    Asked asked[1 + 2 * MANY];
    Gate gate = {.let = 0, .failing = 3};

    begin(fixture, &gate, told, asked, LONG_USEC);
    gate_let(&gate, 2);
    while (told->len < 2)
        fixture_turn(fixture);
    ask(fixture, told, asked, 1 + MANY, MANY, 7, 0);
    gate_let(&gate, 100);
    while (!asked[1 + MANY].refused)
        fixture_turn(fixture);
    g_assert_cmpuint(told->len, <, G_N_ELEMENTS(asked));
    assert_on_disk(fixture, 1 + MANY); /* whatever happens to us before they are told */
    while (told->len < G_N_ELEMENTS(asked))
        fixture_turn(fixture);
    for (guint i = 0; i < G_N_ELEMENTS(asked); i++)
        g_assert_cmpint(asked[i].refused, ==, i > MANY);
    g_assert_true(asked[1 + MANY].refused);
    fixture_settle(fixture);
    sys_set_hook(NULL, NULL);
    fixture_assert_disk(fixture);
    drop(asked, G_N_ELEMENTS(asked));
}

static void test_close(void)
{
    g_autoptr(Fixture) fixture = fixture_new();
    g_autoptr(GPtrArray) told = g_ptr_array_new();
    Asked asked[1 + MANY];
    Gate gate = {.let = 0};

    begin(fixture, &gate, told, asked, LONG_USEC);
    gate_let(&gate, 100);
    while (told->len < 2)
        fixture_turn(fixture);
    g_assert_cmpuint(told->len, <, G_N_ELEMENTS(asked));
    fixture_close(fixture);
    g_assert_cmpuint(told->len, ==, G_N_ELEMENTS(asked));
    sys_set_hook(NULL, NULL);
    fixture_assert_disk(fixture);
    drop(asked, G_N_ELEMENTS(asked));
}

typedef struct Checked {
    Fixture *fixture;
    GPtrArray *told;
    Asked asked[1];
} Checked;

static void on_checked(StoreContents *contents, const GError *error, void *data)
{
    Checked *checked = data;

    g_assert_no_error(error);
    (void)store_contents_free(contents);
    ask(checked->fixture, checked->told, checked->asked, 0, 1, 7, 0);
}

/* A check that ends with the store may have more to write. */
static void test_append_while_closing(void)
{
    g_autoptr(Fixture) fixture = fixture_new();
    g_autoptr(GPtrArray) told = g_ptr_array_new();
    Checked checked = {.fixture = fixture, .told = told};

    fixture_start(fixture);
    fixture_settle(fixture);
    g_assert_true(store_check(fixture->store, TRUE, on_checked, &checked, NULL));
    fixture_close(fixture);
    g_assert_cmpuint(told->len, ==, 1);
    g_assert_false(checked.asked[0].refused);
    fixture_assert_disk(fixture);
    drop(checked.asked, 1);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/durable/turns", test_turns);
    g_test_add_func("/durable/slices", test_slices);
    g_test_add_func("/durable/idle", test_idle);
    g_test_add_func("/durable/next-sync-fails", test_next_sync_fails);
    g_test_add_func("/durable/close", test_close);
    g_test_add_func("/durable/append-while-closing", test_append_while_closing);
    return g_test_run();
}
