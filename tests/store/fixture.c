/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "fixture.h"

#include <fcntl.h>
#include <glib/gstdio.h>
#include <string.h>
#include <unistd.h>

#include "util/fd.h"
#include "util/file.h"

/* Anything that should happen has happened by then, on the slowest machine under valgrind. */
#define DEADLINE_SEC 60

static const Lease *next_lease(void *data, guint32 *cursor)
{
    Fixture *fixture = data;
    GTreeNode *node = g_tree_lower_bound(fixture->leases, GUINT_TO_POINTER(*cursor));

    if (!node)
        return NULL;
    *cursor = GPOINTER_TO_UINT(g_tree_node_key(node)) + 1;
    return g_tree_node_value(node);
}

typedef struct Remembered {
    StickyPort sticky;
    char *instance;
} Remembered;

static void free_remembered(void *data)
{
    Remembered *remembered = data;

    g_free(remembered->instance);
    g_free(remembered);
}

static void foreach_sticky(void *data, void (*func)(const StickyPort *, void *), void *func_data)
{
    Fixture *fixture = data;
    GHashTableIter iter;
    void *value;

    g_hash_table_iter_init(&iter, fixture->sticky);
    while (g_hash_table_iter_next(&iter, NULL, &value))
        func(&((const Remembered *)value)->sticky, func_data);
}

static void set_sticky(Fixture *fixture, const StickyPort *sticky)
{
    Remembered *remembered = g_new0(Remembered, 1);

    remembered->sticky = *sticky;
    remembered->sticky.service_type = g_intern_string(sticky->service_type);
    remembered->sticky.instance = remembered->instance = g_strdup(sticky->instance);
    g_hash_table_replace(
        fixture->sticky,
        g_strdup_printf("%u/%s/%s", sticky->uid, sticky->service_type, sticky->instance),
        remembered);
}

guint16 fixture_sticky(Fixture *fixture, uid_t uid, const char *service_type, const char *instance)
{
    g_autofree char *key = g_strdup_printf("%u/%s/%s", uid, service_type, instance);
    const Remembered *remembered = g_hash_table_lookup(fixture->sticky, key);

    return remembered ? remembered->sticky.port : 0;
}

static void foreach_chunk(void *data, void (*func)(const Chunk *, void *), void *func_data)
{
    Fixture *fixture = data;
    GHashTableIter iter;
    void *key, *value;

    g_hash_table_iter_init(&iter, fixture->chunks);
    while (g_hash_table_iter_next(&iter, &key, &value)) {
        guint16 first = (guint16)GPOINTER_TO_UINT(value);
        Chunk chunk = {.service_type = key, .range = {first, (guint16)(first + 9)}, .uid = 7};

        func(&chunk, func_data);
    }
}

static gboolean is_singleton(void *data, const char *service_type)
{
    return strcmp(service_type, "ai") == 0;
}

static int compare_ports(const void *a, const void *b, void *data)
{
    return (int)GPOINTER_TO_UINT(a) - (int)GPOINTER_TO_UINT(b);
}

static void unref_lease(void *data)
{
    lease_unref(data);
}

static void on_health(const GError *error, void *data)
{
    Fixture *fixture = data;

    if (!error) {
        fixture->healthy_told++;
        return;
    }
    fixture->failed_told++;
    g_free(fixture->last_failure);
    fixture->last_failure = g_strdup(error->message);
}

static void on_snapshot_failed(const GError *error, guint retry_msec, void *data)
{
    Fixture *fixture = data;

    g_assert_nonnull(error);
    g_assert_cmpuint(retry_msec, >=, 1000);
    fixture->snapshots_failed++;
}

Fixture *fixture_new(void)
{
    Fixture *fixture = g_new0(Fixture, 1);

    fixture->dir = g_dir_make_tmp("styxy-store-XXXXXX", NULL);
    g_assert_nonnull(fixture->dir);
    fixture->context = g_main_context_new();
    fixture->options = (StoreOptions){
        .dir = fixture->dir,
        .backup_corrupted = TRUE,
        .health_changed = on_health,
        .snapshot_failed = on_snapshot_failed,
        .data = fixture,
    };
    fixture->leases = g_tree_new_full(compare_ports, NULL, NULL, unref_lease);
    fixture->sticky = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, free_remembered);
    fixture->chunks = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    fixture->source =
        (StoreSource){next_lease, foreach_sticky, foreach_chunk, is_singleton, fixture};
    fixture->boot_id = (Id){"00112233445566778899aabbccddeeff"};
    return fixture;
}

Fixture *fixture_free(Fixture *fixture)
{
    fixture_close(fixture);
    fixture_clear(fixture);
    (void)g_rmdir(fixture->dir);
    g_tree_unref(fixture->leases);
    g_hash_table_unref(fixture->sticky);
    g_hash_table_unref(fixture->chunks);
    g_main_context_unref(fixture->context);
    g_free(fixture->last_failure);
    g_free(fixture->dir);
    g_free(fixture);
    return NULL;
}

void fixture_open(Fixture *fixture)
{
    g_autoptr(GError) error = NULL;

    fixture->store = store_open(&fixture->options, fixture->context, &error);
    g_assert_no_error(error);
}

void fixture_close(Fixture *fixture)
{
    fixture->store = store_close(fixture->store);
}

void fixture_start(Fixture *fixture)
{
    g_autoptr(StoreContents) contents = NULL;
    g_autoptr(GError) error = NULL;

    fixture_open(fixture);
    contents = store_load(fixture->store, FALSE, &error);
    g_assert_no_error(error);
    fixture_take(fixture, contents);
    g_assert_true(store_start(fixture->store, &fixture->source, &fixture->boot_id, &error));
    g_assert_no_error(error);
}

Lease *fixture_lease(guint16 port)
{
    static const char *const types[] = {"dev", "api", "database", "ai"};
    Lease *lease = lease_new();

    lease->id = id_random();
    lease->port = port;
    lease->protocol = (Protocol)(1 + port % 3);
    lease->lifetime = (Lifetime)(port % _LIFETIME_MAX);
    lease->hold = (Hold)(port % _HOLD_MAX);
    lease->health = (Health)(port % _HEALTH_MAX);
    lease->on_unhealthy = (OnUnhealthy)(port % _ON_UNHEALTHY_MAX);
    lease->ever_seen = port % 2;
    lease->uid = port % 5 ? 1000u + port % 5 : 0;
    lease->failures = port % 4;
    lease->ttl_msec = port % 7 ? 0 : 60000;
    lease->health_timeout_msec = port % 6 ? 0 : 500;
    if (port % 2)
        lease->process = (ProcessIdentity){4000 + port, 123456789012ull + port, port};
    lease->created_usec = 1767323045000000 + port;
    lease->last_seen_usec = port % 3 ? 1767323046000000 : 0;
    lease->expires_usec = port % 7 ? 0 : 1767323047000000;
    lease->service_type = g_ref_string_new_intern(types[port % G_N_ELEMENTS(types)]);
    if (port % 3 == 0)
        lease->instance = g_strdup_printf("instance-%u", port);
    if (port % 4 == 0)
        lease->label = g_strdup_printf("label_%u.x", port);
    if (port % 5 == 0)
        lease->address = g_strdup("::1");
    if (port % 2)
        lease->unit = g_ref_string_new_intern("user@1000.service");
    if (port % 6 == 0)
        lease->health_url = g_strdup_printf("http://127.0.0.1:%u/\"\\\t\xc3\xa9?a={b}", port);
    return lease;
}

static void remember(Fixture *fixture, Lease *lease)
{
    StickyPort sticky = {lease->uid, lease->service_type, lease->instance, lease->port};

    g_tree_replace(fixture->leases, GUINT_TO_POINTER(lease->port), lease);
    if (lease->instance)
        set_sticky(fixture, &sticky);
}

gboolean fixture_grant(Fixture *fixture, guint16 port, GError **error)
{
    g_autoptr(Lease) lease = fixture_lease(port);
    StoreOp op = {.kind = STORE_PUT_LEASE, .lease = lease};

    if (!store_append(fixture->store, &op, 1, error))
        return FALSE;
    remember(fixture, g_steal_pointer(&lease));
    return TRUE;
}

gboolean fixture_end(Fixture *fixture, guint16 port, GError **error)
{
    const Lease *lease = g_tree_lookup(fixture->leases, GUINT_TO_POINTER(port));
    StoreOp op = {.kind = STORE_DROP_LEASE, .lease = lease, .reason = REASON_RELEASED};

    g_assert_nonnull(lease);
    if (!store_append(fixture->store, &op, 1, error))
        return FALSE;
    (void)g_tree_remove(fixture->leases, GUINT_TO_POINTER(port));
    return TRUE;
}

typedef struct Wait {
    Fixture *fixture;
    Lease *lease;
    gboolean done;
    GError *error;
} Wait;

static void on_durable(const GError *error, void *data)
{
    Wait *wait = data;

    wait->done = TRUE;
    if (error)
        wait->error = g_error_copy(error);
    else
        remember(wait->fixture, lease_ref(wait->lease));
}

static G_NORETURN gboolean on_deadline(void *data)
{
    g_error("nothing happened for %d s", DEADLINE_SEC);
}

void fixture_turn(Fixture *fixture)
{
    g_autoptr(GSource) deadline = g_timeout_source_new_seconds(DEADLINE_SEC);

    g_source_set_callback(deadline, on_deadline, NULL, NULL);
    (void)g_source_attach(deadline, fixture->context);
    (void)g_main_context_iteration(fixture->context, TRUE);
    g_source_destroy(deadline);
}

gboolean fixture_grant_durable(Fixture *fixture, guint16 port, GError **error)
{
    g_autoptr(Lease) lease = fixture_lease(port);
    StoreOp op = {.kind = STORE_PUT_LEASE, .lease = lease};
    Wait wait = {.fixture = fixture, .lease = lease};

    if (!store_append_durable(fixture->store, &op, 1, 7, on_durable, &wait, error))
        return FALSE;
    g_assert_false(wait.done);
    while (!wait.done)
        fixture_turn(fixture);
    if (wait.error) {
        g_propagate_error(error, wait.error);
        return FALSE;
    }
    return TRUE;
}

void fixture_settle(Fixture *fixture)
{
    while (!store_idle(fixture->store) || store_is_failed(fixture->store, NULL) ||
           fixture->healthy_told < fixture->failed_told)
        fixture_turn(fixture);
}

void fixture_take(Fixture *fixture, const StoreContents *contents)
{
    g_tree_remove_all(fixture->leases);
    g_hash_table_remove_all(fixture->sticky);
    g_hash_table_remove_all(fixture->chunks);
    for (guint i = 0; i < contents->leases->len; i++) {
        Lease *lease = contents->leases->pdata[i];

        g_tree_replace(fixture->leases, GUINT_TO_POINTER(lease->port), lease_ref(lease));
    }
    for (guint i = 0; i < contents->sticky->len; i++)
        set_sticky(fixture, &g_array_index(contents->sticky, StickyPort, i));
    for (guint i = 0; i < contents->chunks->len; i++) {
        const Chunk *chunk = &g_array_index(contents->chunks, Chunk, i);

        g_assert_cmpuint(chunk->range.last - chunk->range.first, ==, 9);
        g_assert_cmpuint(chunk->uid, ==, 7);
        g_hash_table_replace(fixture->chunks, g_strdup(chunk->service_type),
                             GUINT_TO_POINTER(chunk->range.first));
    }
}

gboolean lease_equal(const Lease *one, const Lease *two)
{
    return strcmp(one->id.text, two->id.text) == 0 && one->port == two->port &&
           one->protocol == two->protocol && one->lifetime == two->lifetime &&
           one->hold == two->hold && one->health == two->health &&
           one->on_unhealthy == two->on_unhealthy && one->ever_seen == two->ever_seen &&
           one->uid == two->uid && one->failures == two->failures &&
           one->ttl_msec == two->ttl_msec && one->health_timeout_msec == two->health_timeout_msec &&
           one->process.pid == two->process.pid &&
           one->process.start_ticks == two->process.start_ticks &&
           one->process.pidfd_inode == two->process.pidfd_inode &&
           one->created_usec == two->created_usec && one->last_seen_usec == two->last_seen_usec &&
           one->expires_usec == two->expires_usec &&
           g_strcmp0(one->service_type, two->service_type) == 0 &&
           g_strcmp0(one->instance, two->instance) == 0 && g_strcmp0(one->label, two->label) == 0 &&
           g_strcmp0(one->address, two->address) == 0 && g_strcmp0(one->unit, two->unit) == 0 &&
           g_strcmp0(one->health_url, two->health_url) == 0;
}

gboolean fixture_same(Fixture *fixture, const StoreContents *contents, char **ret_difference)
{
    for (guint i = 0; i < contents->leases->len; i++) {
        const Lease *lease = contents->leases->pdata[i];
        const Lease *known = g_tree_lookup(fixture->leases, GUINT_TO_POINTER(lease->port));

        if (!known || !lease_equal(lease, known)) {
            *ret_difference = g_strdup_printf("lease on port %u is %s", lease->port,
                                              known ? "another" : "on the disk only");
            return FALSE;
        }
    }
    if (contents->leases->len != (guint)g_tree_nnodes(fixture->leases)) {
        *ret_difference = g_strdup_printf("%u leases on the disk, %d in memory",
                                          contents->leases->len, g_tree_nnodes(fixture->leases));
        return FALSE;
    }
    for (guint i = 0; i < contents->sticky->len; i++) {
        const StickyPort *sticky = &g_array_index(contents->sticky, StickyPort, i);

        if (fixture_sticky(fixture, sticky->uid, sticky->service_type, sticky->instance) !=
            sticky->port) {
            *ret_difference = g_strdup_printf("sticky port of %s is another", sticky->instance);
            return FALSE;
        }
    }
    if (contents->sticky->len != g_hash_table_size(fixture->sticky) ||
        contents->chunks->len != g_hash_table_size(fixture->chunks)) {
        *ret_difference = g_strdup("not as many sticky ports or chunks");
        return FALSE;
    }
    return TRUE;
}

static void assert_disk(Fixture *fixture, gboolean allow_damage)
{
    g_autoptr(StoreContents) contents = NULL;
    g_autofree char *difference = NULL;
    g_autoptr(GError) error = NULL;

    fixture_close(fixture);
    fixture_open(fixture);
    contents = store_load(fixture->store, TRUE, &error);
    g_assert_no_error(error);
    if (contents->damage->len > 0 && !allow_damage)
        g_error("%s: %s", ((StoreDamage *)contents->damage->pdata[0])->file,
                ((StoreDamage *)contents->damage->pdata[0])->what);
    g_assert_false(contents->torn_tail);
    if (!fixture_same(fixture, contents, &difference))
        g_error("%s", difference);
    fixture_close(fixture);
}

void fixture_assert_disk(Fixture *fixture)
{
    assert_disk(fixture, FALSE);
}

void fixture_assert_disk_holds(Fixture *fixture)
{
    assert_disk(fixture, TRUE);
}

char *fixture_path(Fixture *fixture, const char *name)
{
    return g_build_filename(fixture->dir, name, NULL);
}

char *fixture_read(Fixture *fixture, const char *name, size_t *ret_length)
{
    g_autofree char *path = fixture_path(fixture, name);
    g_autoptr(GError) error = NULL;
    char *text = NULL;

    (void)g_file_get_contents(path, &text, ret_length, &error);
    g_assert_no_error(error);
    return text;
}

void fixture_write(Fixture *fixture, const char *name, const char *text, size_t length)
{
    g_autofree char *path = fixture_path(fixture, name);
    AUTO_FD fd = -1;

    /* a file of its own, for the old one may have a second name */
    (void)g_unlink(path);
    fd = g_open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    g_assert_cmpint(fd, >=, 0);
    g_assert_cmpint(file_write_all(fd, text, length), ==, 0);
}

guint fixture_count(Fixture *fixture, const char *infix)
{
    g_autoptr(GDir) folder = g_dir_open(fixture->dir, 0, NULL);
    const char *name;
    guint count = 0;

    while ((name = g_dir_read_name(folder)))
        if (strstr(name, infix))
            count++;
    return count;
}

void fixture_clear(Fixture *fixture)
{
    g_autoptr(GDir) folder = g_dir_open(fixture->dir, 0, NULL);
    const char *name;

    while (folder && (name = g_dir_read_name(folder))) {
        g_autofree char *path = fixture_path(fixture, name);

        if (g_unlink(path) < 0)
            g_assert_cmpint(g_rmdir(path), ==, 0);
    }
}
