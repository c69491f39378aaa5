/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Every call to the disk fails once, in turn: the caller gets the error, memory and disk agree
 * afterwards, and the store comes back by itself.
 */
#include <errno.h>
#include <glib/gstdio.h>
#include <string.h>

#include "fixture.h"
#include "gate.h"
#include "store/sys.h"

/* More calls than any scenario makes: an end to a loop that would have none. */
#define CALLS_MAX 2000

typedef struct Fault {
    GMutex lock;
    guint calls; /* so far */
    guint at;    /* the first that fails, counted from 1 */
    guint n;     /* how many fail from there on */
    int code;    /* with which errno; 0 = a write falls short */
    int only;    /* of this kind alone, -1 = of all */
    guint hit;   /* so many did */
    SysCall last;
} Fault;

static int on_call(SysCall call, size_t *length, void *data)
{
    Fault *fault = data;
    int code = 0;

    g_mutex_lock(&fault->lock);
    if (fault->only < 0 || fault->only == (int)call) {
        fault->calls++;
        if (fault->calls >= fault->at && fault->calls - fault->at < fault->n) {
            fault->hit++;
            fault->last = call;
            code = fault->code;
            if (code == 0 && length)
                *length /= 2;
        }
    }
    g_mutex_unlock(&fault->lock);
    return code;
}

static guint hits(Fault *fault)
{
    guint hit;

    g_mutex_lock(&fault->lock);
    hit = fault->hit;
    g_mutex_unlock(&fault->lock);
    return hit;
}

/* Does CALL until it succeeds; it may fail only after a fault, and says what failed. */
#define INSIST(fault, call)                                  \
    do {                                                     \
        g_autoptr(GError) refusal = NULL;                    \
                                                             \
        if (call(&refusal))                                  \
            break;                                           \
        g_assert_nonnull(refusal);                           \
        g_assert_cmpuint(refusal->domain, ==, G_FILE_ERROR); \
        g_assert_cmpuint(hits(fault), >, 0);                 \
        if (after_failure(fixture, fault))                   \
            return FALSE;                                    \
    } while (TRUE)

typedef enum Afterwards {
    GO_ON,        /* wait until all is well, and try again */
    STOP_AT_ONCE, /* as if the daemon were killed now */
} Afterwards;

static Afterwards afterwards;

/* Returns: whether the scenario is over. */
static gboolean after_failure(Fixture *fixture, Fault *fault)
{
    if (afterwards == STOP_AT_ONCE)
        return TRUE;
    if (fixture->store && fixture->failed_told > 0)
        fixture_settle(fixture);
    return FALSE;
}

/* Returns: whether it was run to its end. */
static gboolean run(Fixture *fixture, Fault *fault)
{
#define OPEN(error) ((fixture->store = store_open(&fixture->options, fixture->context, error)))
#define LOAD(error) ((contents = store_load(fixture->store, FALSE, error)))
#define DRY_RUN(error) ((dry_run = store_load(fixture->store, TRUE, error)))
#define GRANT(error) fixture_grant(fixture, port, error)
#define GRANT_DURABLE(error) fixture_grant_durable(fixture, port, error)
#define END(error) fixture_end(fixture, 3000, error)
    g_autoptr(StoreContents) contents = NULL;
    guint16 port;

    INSIST(fault, OPEN);
    INSIST(fault, LOAD);
    fixture_take(fixture, contents);
    (void)store_note_start(fixture->store);
    if (!store_start(fixture->store, &fixture->source, &fixture->boot_id, NULL)) {
        g_assert_cmpuint(hits(fault), >, 0);
        if (after_failure(fixture, fault))
            return FALSE;
    }
    store_note_recovered(fixture->store);
    for (port = 3000; port < 3005; port++)
        INSIST(fault, GRANT);
    for (; port < 3008; port++)
        INSIST(fault, GRANT_DURABLE);
    INSIST(fault, END);
    store_compact(fixture->store);
    for (; port < 3010; port++)
        INSIST(fault, GRANT_DURABLE);
    fixture_settle(fixture);
    for (; port < 3013; port++)
        INSIST(fault, GRANT);
    store_compact(fixture->store);
    fixture_settle(fixture);
    INSIST(fault, GRANT_DURABLE);
    {
        g_autoptr(StoreContents) dry_run = NULL;

        INSIST(fault, DRY_RUN);
    }
    fixture_settle(fixture);
    return TRUE;
}

/* Returns: whether any call was hit. */
static gboolean try_fault(guint at, guint n, int code, int only)
{
    g_autoptr(Fixture) fixture = fixture_new();
    Fault fault = {.at = at, .n = n, .code = code, .only = only};
    gboolean whole;

    g_mutex_init(&fault.lock);
    sys_set_hook(on_call, &fault);
    whole = run(fixture, &fault);
    fixture_close(fixture);
    sys_set_hook(NULL, NULL);
    if (whole) {
        g_assert_cmpint(g_tree_nnodes(fixture->leases), ==, 13);
        g_assert_cmpuint(fixture->healthy_told, ==, fixture->failed_told);
    }
    /* what was answered is there, and nothing else */
    fixture_assert_disk(fixture);
    /* and a new daemon goes on from it */
    fixture_start(fixture);
    g_assert_true(fixture_grant_durable(fixture, 5000, NULL));
    fixture_assert_disk(fixture);
    g_mutex_clear(&fault.lock);
    return fault.hit > 0;
}

static void try_all(int code, int only, guint n)
{
    guint at = 1;

    while (at < CALLS_MAX && try_fault(at, n, code, only))
        at++;
    g_test_message("%u places", at - 1);
    /* of all kinds: the scenario makes some hundred calls; of one kind at least one */
    g_assert_cmpuint(at, >, only < 0 ? 60 : 1);
    g_assert_cmpuint(at, <, CALLS_MAX);
}

static void test_once(const void *data)
{
    afterwards = GO_ON;
    try_all(GPOINTER_TO_INT(data), -1, 1);
}

static void test_once_then_killed(const void *data)
{
    afterwards = STOP_AT_ONCE;
    try_all(GPOINTER_TO_INT(data), -1, 1);
}

static void test_short_writes(void)
{
    afterwards = GO_ON;
    try_all(0, SYS_CALL_WRITE, 1);
    afterwards = STOP_AT_ONCE;
    try_all(0, SYS_CALL_WRITE, 1);
}

/* The disk is full, or broken, for a while. */
static void test_for_a_while(void)
{
    afterwards = GO_ON;
    for (guint at = 1; at < 60; at += 7) {
        (void)try_fault(at, 8, ENOSPC, -1);
        (void)try_fault(at, 8, EIO, SYS_CALL_FSYNC);
    }
    (void)try_fault(1, 3, EIO, SYS_CALL_FDATASYNC);
    (void)try_fault(2, 5, ENOSPC, SYS_CALL_WRITE);
}

/* ---- single cases, whose course is known ---- */

static void test_write(void)
{
    g_autoptr(Fixture) fixture = fixture_new();
    Fault fault = {.at = 1, .n = 1, .code = ENOSPC, .only = SYS_CALL_WRITE};
    g_autoptr(GError) error = NULL;

    fixture_start(fixture);
    fixture_settle(fixture);
    g_assert_true(fixture_grant(fixture, 3000, &error));
    sys_set_hook(on_call, &fault);
    g_assert_false(fixture_grant(fixture, 3001, &error));
    g_assert_error(error, G_FILE_ERROR, G_FILE_ERROR_NOSPC);
    g_assert_nonnull(strstr(error->message, "state.journal"));
    g_assert_cmpuint(fixture->failed_told, ==, 1);
    g_assert_cmpstr(fixture->last_failure, ==, error->message);
    /* the journal is whole, so the next one may try at once, and finds the disk well again */
    g_assert_true(store_is_failed(fixture->store, NULL));
    g_assert_true(fixture_grant(fixture, 3002, NULL));
    g_assert_false(store_is_failed(fixture->store, NULL));
    g_assert_cmpuint(fixture->healthy_told, ==, 1);

    /* and without another call it finds out by itself */
    fault.at = fault.calls + 1;
    g_assert_false(fixture_grant(fixture, 3003, NULL));
    g_assert_cmpuint(fixture->failed_told, ==, 2);
    while (fixture->healthy_told < 2)
        fixture_turn(fixture);
    sys_set_hook(NULL, NULL);
    fixture_assert_disk(fixture);
}

static int fail_write_and_truncate(SysCall call, size_t *length, void *data)
{
    gboolean *failing = data;

    if (call == SYS_CALL_WRITE && *failing) {
        *length /= 2;
        return 0;
    }
    return call == SYS_CALL_FTRUNCATE && *failing ? EIO : 0;
}

static void test_write_and_truncate(void)
{
    g_autoptr(Fixture) fixture = fixture_new();
    g_autoptr(GError) error = NULL, again = NULL;
    gboolean failing = FALSE;
    const char *why;

    fixture_start(fixture);
    fixture_settle(fixture);
    g_assert_true(fixture_grant(fixture, 3000, &error));
    sys_set_hook(fail_write_and_truncate, &failing);
    failing = TRUE;
    g_assert_false(fixture_grant(fixture, 3001, &error));
    failing = FALSE;
    /* half a record lies there: nothing may be written after it */
    g_assert_true(store_is_failed(fixture->store, &why));
    g_assert_cmpstr(why, ==, error->message);
    g_assert_false(fixture_grant(fixture, 3002, &again));
    g_assert_cmpstr(again->message, ==, error->message);
    fixture_settle(fixture);
    g_assert_cmpuint(fixture->healthy_told, ==, 1);
    g_assert_true(fixture_grant(fixture, 3002, NULL));
    sys_set_hook(NULL, NULL);
    fixture_assert_disk(fixture);
}

typedef struct Answers {
    guint good;
    guint bad;
} Answers;

static void count_answer(const GError *error, void *data)
{
    Answers *answers = data;

    if (error)
        answers->bad++;
    else
        answers->good++;
}

/* All who wait are refused, and none of theirs is there after a kill right then. */
static void test_sync(void)
{
    g_autoptr(Fixture) fixture = fixture_new();
    Fault fault = {.at = 1, .n = 1, .code = EIO, .only = SYS_CALL_FDATASYNC};
    Answers answers = {0};
    g_autoptr(GError) error = NULL;

    fixture_start(fixture);
    fixture_settle(fixture);
    sys_set_hook(on_call, &fault);
    for (guint16 port = 3000; port < 3010; port++) {
        g_autoptr(Lease) lease = fixture_lease(port);
        StoreOp op = {.kind = STORE_PUT_LEASE, .lease = lease};

        g_assert_true(
            store_append_durable(fixture->store, &op, 1, 7, count_answer, &answers, &error));
        g_assert_true(fixture_grant(fixture, (guint16)(port + 1000), &error));
    }
    while (answers.bad == 0)
        fixture_turn(fixture);
    g_assert_cmpuint(answers.bad, ==, 10);
    g_assert_cmpuint(answers.good, ==, 0);
    g_assert_true(store_is_failed(fixture->store, NULL));
    g_assert_cmpuint(fixture->failed_told, ==, 1);
    sys_set_hook(NULL, NULL);
    fixture_assert_disk(fixture);
}

/* Somebody removes the journal: what is written there would be seen by nobody. */
static void test_journal_removed(void)
{
    g_autoptr(Fixture) fixture = fixture_new();
    g_autofree char *path = fixture_path(fixture, "state.journal");

    fixture_start(fixture);
    g_assert_true(fixture_grant(fixture, 3000, NULL));
    fixture_settle(fixture);
    g_assert_cmpint(g_unlink(path), ==, 0);
    store_compact(fixture->store);
    while (fixture->failed_told == 0)
        fixture_turn(fixture);
    fixture_settle(fixture);
    g_assert_true(fixture_grant(fixture, 3001, NULL));
    fixture_assert_disk(fixture);
}

typedef struct Kind {
    SysCall call;
    gint count;
    gint fail_from; /* counted from 1 */
} Kind;

static int fail_kind(SysCall call, size_t *length, void *data)
{
    Kind *kind = data;

    if (call != kind->call)
        return 0;
    return g_atomic_int_add(&kind->count, 1) + 1 >= kind->fail_from ? EIO : 0;
}

/* The old journal is needed until a snapshot has succeeded, however many did not. */
static void test_snapshots_in_vain(void)
{
    g_autoptr(Fixture) fixture = fixture_new();
    Kind links = {.call = SYS_CALL_LINK, .fail_from = 1};

    fixture_start(fixture);
    fixture_settle(fixture);
    sys_set_hook(fail_kind, &links);
    for (guint16 i = 0; i < 3; i++) {
        g_assert_true(fixture_grant(fixture, (guint16)(3000 + i), NULL));
        store_compact(fixture->store);
        fixture_settle(fixture);
        g_assert_cmpuint(fixture->snapshots_failed, ==, i + 1u);
    }
    /* no call had to suffer */
    g_assert_cmpuint(fixture->failed_told, ==, 0);
    fixture_close(fixture);
    sys_set_hook(NULL, NULL);
    fixture_assert_disk(fixture);
}

typedef struct Leftover {
    gboolean armed;
    gint renames;
} Leftover;

/* The record is whole but for its newline, cannot be cut off, and the new journal cannot replace
 * it. */
static int leave_record(SysCall call, size_t *length, void *data)
{
    Leftover *left = data;

    if (!left->armed)
        return 0;
    if (call == SYS_CALL_WRITE && g_atomic_int_get(&left->renames) == 0 && *length < 1000)
        (*length)--;
    if (call == SYS_CALL_FTRUNCATE)
        return EIO;
    if (call == SYS_CALL_RENAME)
        return g_atomic_int_add(&left->renames, 1) == 0 ? 0 : EIO;
    return 0;
}

static void test_left_over(void)
{
    g_autoptr(Fixture) fixture = fixture_new();
    Leftover left = {0};

    fixture_start(fixture);
    fixture_settle(fixture);
    for (guint16 port = 3000; port < 3005; port++)
        g_assert_true(fixture_grant(fixture, port, NULL));
    sys_set_hook(leave_record, &left);
    left.armed = TRUE;
    g_assert_false(fixture_grant(fixture, 3005, NULL));
    while (g_atomic_int_get(&left.renames) < 2)
        fixture_turn(fixture);
    fixture_close(fixture);
    sys_set_hook(NULL, NULL);
    fixture_assert_disk(fixture);
}

static void append_durable(Fixture *fixture, Answers *answers)
{
    g_autoptr(Lease) lease = fixture_lease(3000);
    StoreOp op = {.kind = STORE_PUT_LEASE, .lease = lease};

    g_assert_true(store_append_durable(fixture->store, &op, 1, 7, count_answer, answers, NULL));
}

/* A sync vouches for what was written before it began, all of it, and for nothing else. */
static void test_who_is_served(void)
{
    g_autoptr(Fixture) fixture = fixture_new();
    Answers first = {0}, later = {0};
    Gate gate = {0};

    fixture_start(fixture);
    fixture_settle(fixture);
    sys_set_hook(gate_pass, &gate);
    append_durable(fixture, &first);
    gate_await(&gate, 1);
    for (guint i = 0; i < 50; i++)
        append_durable(fixture, &later);
    gate_let(&gate, 1);
    while (first.good == 0)
        fixture_turn(fixture);
    gate_await(&gate, 2);
    while (g_main_context_iteration(fixture->context, FALSE))
        ;
    g_assert_cmpuint(later.good, ==, 0);
    gate_let(&gate, 100);
    while (later.good < 50)
        fixture_turn(fixture);
    g_assert_cmpuint(gate.begun, ==, 2);
    fixture_close(fixture);
    sys_set_hook(NULL, NULL);
}

/*
 * Half a record lies in the journal while somebody waits for a sync that is still under way and
 * will succeed: the snapshot that replaces the journal must have his lease.
 */
typedef struct Crossing {
    Gate gate;
    gboolean broken; /* writes fall short and cannot be cut off */
} Crossing;

static int cross(SysCall call, size_t *length, void *data)
{
    Crossing *crossing = data;

    if (call == SYS_CALL_FDATASYNC)
        return gate_pass(call, length, &crossing->gate);
    return fail_write_and_truncate(call, length, &crossing->broken);
}

typedef struct Granted {
    Fixture *fixture;
    Lease *lease;
    gboolean done;
} Granted;

static void take_granted(const GError *error, void *data)
{
    Granted *granted = data;

    g_assert_no_error(error);
    g_tree_replace(granted->fixture->leases, GUINT_TO_POINTER(granted->lease->port),
                   lease_ref(granted->lease));
    granted->done = TRUE;
}

static void test_sync_outlasts_failure(void)
{
    g_autoptr(Fixture) fixture = fixture_new();
    Crossing crossing = {.gate = {.let = 0}};
    g_autoptr(Lease) lease = fixture_lease(3000);
    StoreOp op = {.kind = STORE_PUT_LEASE, .lease = lease};
    Granted granted = {.fixture = fixture, .lease = lease};

    g_clear_pointer(&lease->instance, g_free);
    fixture_start(fixture);
    fixture_settle(fixture);
    sys_set_hook(cross, &crossing);
    g_assert_true(store_append_durable(fixture->store, &op, 1, 7, take_granted, &granted, NULL));
    gate_await(&crossing.gate, 1);
    crossing.broken = TRUE;
    g_assert_false(fixture_grant(fixture, 3001, NULL));
    crossing.broken = FALSE;
    /* time for a snapshot that does not wait */
    for (guint i = 0; i < 50; i++) {
        (void)g_main_context_iteration(fixture->context, FALSE);
        g_usleep(2000);
    }
    g_assert_false(granted.done);
    gate_let(&crossing.gate, 100);
    while (!granted.done)
        fixture_turn(fixture);
    fixture_settle(fixture);
    fixture_close(fixture);
    sys_set_hook(NULL, NULL);
    fixture_assert_disk(fixture);
}

/* A record of nothing fits where no other does: that is no proof of health. */
static void test_full_to_the_last_block(void)
{
    g_autoptr(Fixture) fixture = fixture_new();
    Kind reserve = {.call = SYS_CALL_FALLOCATE, .fail_from = 1};
    Fault fault = {.at = 1, .n = 1, .code = ENOSPC, .only = SYS_CALL_WRITE};

    fixture_start(fixture);
    fixture_settle(fixture);
    sys_set_hook(on_call, &fault);
    g_assert_false(fixture_grant(fixture, 3000, NULL));
    sys_set_hook(fail_kind, &reserve);
    while (g_atomic_int_get(&reserve.count) < 3)
        fixture_turn(fixture);
    g_assert_cmpuint(fixture->healthy_told, ==, 0);
    g_assert_true(store_is_failed(fixture->store, NULL));
    sys_set_hook(NULL, NULL);
    fixture_settle(fixture);
    g_assert_cmpuint(fixture->healthy_told, ==, 1);
    g_assert_true(fixture_grant(fixture, 3000, NULL));
    fixture_assert_disk(fixture);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/faults/write", test_write);
    g_test_add_func("/faults/write-and-truncate", test_write_and_truncate);
    g_test_add_func("/faults/sync", test_sync);
    g_test_add_func("/faults/journal-removed", test_journal_removed);
    g_test_add_func("/faults/snapshots-in-vain", test_snapshots_in_vain);
    g_test_add_func("/faults/left-over", test_left_over);
    g_test_add_func("/faults/who-is-served", test_who_is_served);
    g_test_add_func("/faults/sync-outlasts-failure", test_sync_outlasts_failure);
    g_test_add_func("/faults/full-to-the-last-block", test_full_to_the_last_block);
    g_test_add_func("/faults/short-writes", test_short_writes);
    g_test_add_func("/faults/for-a-while", test_for_a_while);
    g_test_add_data_func("/faults/once/ENOSPC", GINT_TO_POINTER(ENOSPC), test_once);
    g_test_add_data_func("/faults/once/EIO", GINT_TO_POINTER(EIO), test_once);
    g_test_add_data_func("/faults/once/EMFILE", GINT_TO_POINTER(EMFILE), test_once);
    g_test_add_data_func("/faults/killed/ENOSPC", GINT_TO_POINTER(ENOSPC), test_once_then_killed);
    g_test_add_data_func("/faults/killed/EIO", GINT_TO_POINTER(EIO), test_once_then_killed);
    return g_test_run();
}
