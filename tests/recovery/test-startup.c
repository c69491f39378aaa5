/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Layer 3: what is there after a start, whatever the state was like. */
#include "fixture.h"

#include <glib/gstdio.h>
#include <string.h>
#include <sys/socket.h>

#include "probe-test-util.h"
#include "recovery/startup.h"
#include "util/fd.h"

/* ---- the state, written by hand ---- */

static const Lease *next_lease(void *data, guint32 *cursor)
{
    GPtrArray *leases = data;

    return *cursor < leases->len ? leases->pdata[(*cursor)++] : NULL;
}

static void no_sticky(void *data, void (*func)(const StickyPort *, void *), void *func_data)
{
}

static void no_chunk(void *data, void (*func)(const Chunk *, void *), void *func_data)
{
}

static gboolean not_single(void *data, const char *service_type)
{
    return FALSE;
}

/* Writes what a daemon would have that ran under @boot_id and held @leases. */
static void write_state(Fixture *f, GPtrArray *leases, const Id *boot_id)
{
    StoreOptions options = {.dir = f->dir};
    StoreSource source = {next_lease, no_sticky, no_chunk, not_single, leases};
    g_autoptr(GError) error = NULL;
    g_autoptr(Store) store = store_open(&options, f->context, &error);

    g_assert_no_error(error);
    g_assert_true(store_start(store, &source, boot_id, &error));
    g_assert_no_error(error);
}

static Id this_boot(void)
{
    Id id;

    g_assert_true(id_of_boot(&id, NULL));
    return id;
}

static Lease *add_lease(GPtrArray *leases, const char *type, guint16 port, Lifetime lifetime)
{
    Lease *lease = lease_new();

    lease->id = id_random();
    lease->port = port;
    lease->protocol = PROTOCOL_TCP;
    lease->lifetime = lifetime;
    lease->created_usec = g_get_real_time() - 1000 + leases->len;
    lease->service_type = g_ref_string_new_intern(type);
    g_ptr_array_add(leases, lease);
    return lease;
}

static guint count_files(Fixture *f, const char *infix)
{
    g_autoptr(GDir) dir = g_dir_open(f->dir, 0, NULL);
    const char *name = NULL;
    guint n = 0;

    while ((name = g_dir_read_name(dir)))
        n += strstr(name, infix) != NULL;
    return n;
}

static GVariant *report_entry(Fixture *f, const char *key)
{
    g_autoptr(GVariant) report = manager_recovery_report(f->manager);
    GVariant *value = g_variant_lookup_value(report, key, NULL);

    g_assert_nonnull(value);
    return value;
}

static guint report_number(Fixture *f, const char *key)
{
    g_autoptr(GVariant) value = report_entry(f, key);

    return g_variant_get_uint32(value);
}

/* ---- good states ---- */

static void test_first_start(void)
{
    g_autoptr(Fixture) f = fixture_started(NULL);

    g_assert_cmpint(manager_state(f->manager, NULL), ==, MANAGER_RUNNING);
    g_assert_cmpuint(registry_count(f->manager->registry), ==, 0);
    g_assert_cmpuint(fixture_told(f, "recovery startup"), ==, 1);
    g_assert_cmpuint(fixture_told(f, "recovery ok"), ==, 1);
    g_assert_cmpuint(fixture_told_with(f, "step"), ==, 5);
    fixture_wait(f, manager_is_idle(f->manager));
}

static void test_all_there(void)
{
    g_autoptr(Fixture) f = fixture_started(NULL);
    g_autoptr(GHashTable) ids = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    Lease *sticky = NULL;

    for (guint i = 0; i < 20; i++) {
        const char *type = i % 2 ? "dev" : "dns";
        Lifetime lifetime = i % 3 ? LIFETIME_AUTO : LIFETIME_PERSISTENT;
        Lease *lease = fixture_grant(
            f, FIXTURE_REQUEST(type, .label = "x", .uid = i % 2 ? 0 : 7, .lifetime = lifetime,
                               .range = i % 2 ? (PortRange){0} : (PortRange){5300, 5350}));

        g_hash_table_add(ids, g_strdup(lease->id.text));
    }
    sticky = fixture_grant(f, FIXTURE_REQUEST("api", .instance = "s", .port = 8007));
    g_assert_true(fixture_release(f, sticky));
    for (guint round = 0; round < 3; round++) {
        fixture_restart(f);
        g_assert_cmpuint(registry_count(f->manager->registry), ==, 20);
        g_assert_cmpuint(report_number(f, "kept"), ==, 20);
        for (guint32 cursor = 0, i = 0; i < 20; i++)
            g_assert_true(g_hash_table_contains(
                ids, registry_next_port(f->manager->registry, &cursor)->id.text));
    }
    g_assert_cmpuint(fixture_told_with(f, "released"), ==, 1);
    g_assert_cmpuint(fixture_grant(f, FIXTURE_REQUEST("api", .instance = "s"))->port, ==, 8007);
}

static void test_another_boot(void)
{
    g_autoptr(Fixture) f = fixture_new(NULL);
    g_autoptr(GPtrArray) leases = lease_array_new();
    Id boot = id_random();
    Lease *lease = NULL;
    int fd;

    (void)add_lease(leases, "dev", 3000, LIFETIME_AUTO);
    lease = add_lease(leases, "dev", 3001, LIFETIME_PERSISTENT);
    lease->process = (ProcessIdentity){.pid = getpid(), .start_ticks = 1};
    lease->health = HEALTH_ACTIVE;
    (void)add_lease(leases, "dev", 3002, LIFETIME_CLIENT);
    write_state(f, leases, &boot);
    fixture_start(f);
    g_assert_cmpuint(registry_count(f->manager->registry), ==, 1);
    lease = fixture_lease(f, 3001);
    g_assert_cmpint(lease->health, ==, HEALTH_DORMANT);
    g_assert_cmpint(lease->process.pid, ==, 0);
    g_assert_cmpuint(fixture_told(f, "released 3000 rebooted stale"), ==, 1);
    g_assert_cmpuint(fixture_told(f, "released 3002 rebooted stale"), ==, 1);
    g_assert_cmpuint(fixture_told(f, "step clean-orphans repaired"), ==, 1);
    g_assert_cmpuint(report_number(f, "released"), ==, 2);

    /* told once, and the state is this boot's now */
    fixture_forget(f);
    manager_announce(f->manager);
    g_assert_cmpuint(fixture_told_with(f, "released"), ==, 0);
    fd = outsider_bind(3001, SOCK_STREAM);
    fixture_wait(f, lease->health == HEALTH_ACTIVE);
    fixture_restart(f);
    g_assert_cmpint(fixture_lease(f, 3001)->health, ==, HEALTH_ACTIVE);
    (void)fd_close(fd);
}

static void test_orphans(void)
{
    g_autoptr(Fixture) f = fixture_new(NULL);
    g_autoptr(GPtrArray) leases = lease_array_new();
    Id boot = this_boot();
    Server dead, alive;
    AUTO_FD fd = outsider_bind(3002, SOCK_STREAM);

    server_start(&dead, 0, FALSE);
    server_start(&alive, 0, FALSE);
    server_kill(&dead);
    add_lease(leases, "dev", 3000, LIFETIME_AUTO)->process = dead.identity;
    add_lease(leases, "dev", 3001, LIFETIME_AUTO)->process = alive.identity;
    add_lease(leases, "dev", 3002, LIFETIME_AUTO)->process = dead.identity; /* served */
    (void)add_lease(leases, "dev", 3003, LIFETIME_AUTO);                    /* not bound yet */
    write_state(f, leases, &boot);
    fixture_start(f);
    g_assert_cmpuint(fixture_told(f, "released 3000 orphaned stale"), ==, 1);
    g_assert_cmpuint(fixture_told_with(f, "released"), ==, 1);
    g_assert_cmpuint(registry_count(f->manager->registry), ==, 3);
    /* the served one: handed over, its process is forgotten */
    fixture_wait(f, fixture_lease(f, 3002)->process.pid == 0);
    server_end(&dead);
    server_end(&alive);
}

static void test_singletons(void)
{
    g_autoptr(Fixture) f = fixture_new(NULL);
    g_autoptr(GPtrArray) leases = lease_array_new();
    Id boot = this_boot();
    AUTO_FD fd = outsider_bind(11401, SOCK_STREAM);

    for (guint i = 0; i < 3; i++)
        (void)add_lease(leases, "ai", (guint16)(11400 + i), LIFETIME_AUTO);
    write_state(f, leases, &boot);
    fixture_start(f);
    g_assert_cmpuint(registry_count(f->manager->registry), ==, 1);
    g_assert_nonnull(fixture_lease(f, 11401));
    g_assert_cmpuint(fixture_told(f, "released 11400 duplicate-singleton stale"), ==, 1);
    g_assert_cmpuint(fixture_told(f, "step verify-singletons repaired"), ==, 1);
}

static void test_one_port_twice(void)
{
    g_autoptr(Fixture) f = fixture_new(NULL);
    g_autoptr(GPtrArray) leases = lease_array_new();
    Id boot = this_boot();
    Lease *newer = NULL;

    (void)add_lease(leases, "dev", 3000, LIFETIME_AUTO);
    newer = add_lease(leases, "dev", 3000, LIFETIME_AUTO);
    write_state(f, leases, &boot);
    fixture_start(f);
    g_assert_cmpuint(registry_count(f->manager->registry), ==, 1);
    g_assert_cmpstr(fixture_lease(f, 3000)->id.text, ==, newer->id.text);
    g_assert_cmpuint(fixture_told_with(f, "released 3000"), ==, 1);
    g_assert_cmpuint(fixture_told(f, "step validate-state repaired"), ==, 1);
}

/* ---- switched off ---- */

static void test_switched_off(gconstpointer data)
{
    g_autoptr(Fixture) f = fixture_new(data);
    g_autoptr(GPtrArray) leases = lease_array_new();
    Id boot = id_random();

    (void)add_lease(leases, "ai", 11400, LIFETIME_AUTO);
    (void)add_lease(leases, "ai", 11401, LIFETIME_AUTO);
    add_lease(leases, "dev", 3000, LIFETIME_AUTO)->process = (ProcessIdentity){.pid = getpid()};
    write_state(f, leases, &boot);
    fixture_start(f);
    g_assert_cmpuint(registry_count(f->manager->registry), ==, 3);
    g_assert_cmpint(fixture_lease(f, 3000)->process.pid, ==, 0); /* of another boot */
    g_assert_cmpuint(fixture_told_with(f, "released"), ==, 0);
    g_assert_cmpuint(fixture_told_with(f, "step"), ==, 3);
    fixture_restart(f);
    g_assert_cmpuint(registry_count(f->manager->registry), ==, 3);
}

/* ---- damage ---- */

static void damage(Fixture *f, const char *name, gsize from)
{
    g_autofree char *path = fixture_path(f, name);
    g_autofree char *text = NULL;
    gsize length = 0;

    g_assert_true(g_file_get_contents(path, &text, &length, NULL));
    g_assert_cmpuint(length, >, from);
    text[from] ^= 1;
    g_assert_true(g_file_set_contents(path, text, (gssize)length, NULL));
}

/* Flips a byte in the record of the lease on @port, in whichever file it is. */
static void damage_lease(Fixture *f, const Id *id)
{
    static const char *const names[] = {"state.json", "state.journal"};

    for (guint i = 0; i < G_N_ELEMENTS(names); i++) {
        g_autofree char *path = fixture_path(f, names[i]);
        g_autofree char *text = NULL;
        char *place = NULL;

        g_assert_true(g_file_get_contents(path, &text, NULL, NULL));
        place = strstr(text, id->text);
        if (place)
            damage(f, names[i], (gsize)(place - text));
    }
}

static void test_damage(void)
{
    g_autoptr(Fixture) f = fixture_started(NULL);
    Id lost;
    AUTO_FD fd = -1;
    g_autoptr(GVariant) backups = NULL;

    (void)fixture_grant(f, FIXTURE_REQUEST("dev"));
    lost = fixture_grant(f, FIXTURE_REQUEST("dev"))->id;
    (void)fixture_grant(f, FIXTURE_REQUEST("dev"));
    fixture_stop(f);
    damage_lease(f, &lost);
    fd = outsider_bind(3001, SOCK_STREAM);
    fixture_start(f);
    g_assert_nonnull(fixture_lease(f, 3000));
    g_assert_nonnull(fixture_lease(f, 3002));
    g_assert_cmpint(fixture_lease(f, 3001)->health, ==, HEALTH_QUARANTINED);
    g_assert_cmpstr(fixture_lease(f, 3001)->service_type, ==, "dev");
    g_assert_cmpuint(fixture_told(f, "step validate-state repaired"), ==, 1);
    backups = report_entry(f, "backups");
    g_assert_cmpuint(g_variant_n_children(backups), >=, 1);
    g_assert_cmpuint(count_files(f, ".corrupt."), >=, 1);
    /* nobody gets it, and it is the same after another start */
    g_assert_cmpuint(fixture_grant(f, FIXTURE_REQUEST("dev", .port = 3001))->port, !=, 3001);
    fixture_restart(f);
    g_assert_cmpint(fixture_lease(f, 3001)->health, ==, HEALTH_QUARANTINED);
}

static void test_quarantine_ends(void)
{
    g_autoptr(Fixture) f =
        fixture_new("{\"recovery\": {\"health_monitoring\": {\"startup_grace_ms\": 0}}}");
    g_autoptr(GPtrArray) leases = lease_array_new();
    Id boot = this_boot();
    int fd = outsider_bind(3001, SOCK_STREAM);

    add_lease(leases, "dev", 3001, LIFETIME_AUTO)->health = HEALTH_QUARANTINED;
    write_state(f, leases, &boot);
    fixture_start(f);
    fixture_sweeps(f, 5);
    g_assert_nonnull(fixture_lease(f, 3001));
    (void)fd_close(fd);
    fixture_wait(f, fixture_told(f, "released 3001 not-in-use stale") == 1);
}

/* What was lost and was held: the socket remembers its lease. */
static void test_lost_but_held(void)
{
    g_autoptr(Fixture) f = fixture_started(NULL);
    Id id = fixture_grant(f, FIXTURE_REQUEST("dev", .hold = HOLD_SOFT))->id;
    HeldSocket held = {-1, g_strconcat("hold-", id.text, NULL)};

    fixture_stop(f);
    damage_lease(f, &id);
    held.fd = hold_bind(3000, NULL);
    g_array_append_val(f->held, held);
    fixture_start(f);
    g_assert_nonnull(fixture_lease(f, 3000));
    g_assert_cmpstr(fixture_lease(f, 3000)->id.text, ==, id.text);
    g_assert_cmpint(fixture_lease(f, 3000)->health, ==, HEALTH_QUARANTINED);
    g_assert_true(hold_table_holds(f->manager->holds, fixture_lease(f, 3000)));
}

static void test_garbage(void)
{
    static const char *const texts[] = {"", "{", "[]", "null", "{\"version\": 99}\n"};

    for (guint i = 0; i < G_N_ELEMENTS(texts); i++) {
        g_autoptr(Fixture) f = fixture_new(NULL);
        g_autofree char *path = fixture_path(f, "state.json");

        g_assert_true(g_file_set_contents(path, texts[i], -1, NULL));
        fixture_start(f);
        g_assert_cmpint(manager_state(f->manager, NULL), ==, MANAGER_RUNNING);
        g_assert_cmpuint(fixture_told(f, "step validate-state repaired"), ==, 1);
        (void)fixture_grant(f, FIXTURE_REQUEST("dev"));
    }
}

/* A torn tail is what a crash leaves: nothing was lost, nothing is quarantined. */
static void test_torn_tail(void)
{
    g_autoptr(Fixture) f = fixture_started(NULL);
    g_autofree char *path = fixture_path(f, "state.journal");
    g_autofree char *text = NULL;
    AUTO_FD fd = -1;
    gsize length = 0;

    (void)fixture_grant(f, FIXTURE_REQUEST("dev"));
    fixture_stop(f);
    g_assert_true(g_file_get_contents(path, &text, &length, NULL));
    g_assert_true(g_file_set_contents(path, text, (gssize)length - 3, NULL));
    fd = outsider_bind(3050, SOCK_STREAM);
    fixture_start(f);
    g_assert_cmpint(manager_state(f->manager, NULL), ==, MANAGER_RUNNING);
    g_assert_null(fixture_lease(f, 3050));
    g_assert_cmpuint(fixture_told(f, "recovery ok"), ==, 2);
}

/* ---- crash loop ---- */

static void crash_in_recovery(Fixture *f)
{
    StoreOptions options = {.dir = f->dir};
    g_autoptr(GError) error = NULL;
    g_autoptr(Store) store = store_open(&options, f->context, &error);

    g_assert_no_error(error);
    (void)store_note_start(store);
}

static void test_crash_loop(void)
{
    g_autoptr(Fixture) f = fixture_started(NULL);
    const char *reason = NULL;
    AUTO_FD fd = -1;

    (void)fixture_grant(f, FIXTURE_REQUEST("dev"));
    fd = outsider_bind(3000, SOCK_STREAM);
    fixture_stop(f);
    for (guint i = 0; i < 2; i++)
        crash_in_recovery(f);
    fixture_start(f); /* the third attempt is allowed, and works */
    g_assert_cmpint(manager_state(f->manager, NULL), ==, MANAGER_RUNNING);
    fixture_stop(f);
    for (guint i = 0; i < 3; i++)
        crash_in_recovery(f);
    fixture_forget(f);
    fixture_start(f);
    g_assert_cmpint(manager_state(f->manager, &reason), ==, MANAGER_DEGRADED);
    g_assert_nonnull(strstr(reason, "set aside"));
    g_assert_cmpuint(fixture_told(f, "step validate-state failed"), ==, 1);
    g_assert_cmpuint(fixture_told(f, "recovery failed"), ==, 1);
    g_assert_cmpuint(count_files(f, "state.json.corrupt."), ==, 1);
    /* what is served is still not given to anybody else, and the rest works */
    g_assert_cmpint(fixture_lease(f, 3000)->health, ==, HEALTH_QUARANTINED);
    g_assert_cmpuint(fixture_grant(f, FIXTURE_REQUEST("dev"))->port, ==, 3001);
    fixture_restart(f);
    g_assert_cmpint(manager_state(f->manager, NULL), ==, MANAGER_RUNNING);
    g_assert_cmpuint(registry_count(f->manager->registry), ==, 2);
}

static void test_crash_loop_switched_off(void)
{
    g_autoptr(Fixture) f =
        fixture_started("{\"recovery\": {\"system_recovery\": {\"enabled\": false}}}");

    (void)fixture_grant(f, FIXTURE_REQUEST("dev"));
    fixture_stop(f);
    for (guint i = 0; i < 10; i++)
        crash_in_recovery(f);
    fixture_start(f);
    g_assert_cmpuint(registry_count(f->manager->registry), ==, 1);
}

/* ---- a disk that is not there ---- */

static void test_cannot_be_written(void)
{
    g_autoptr(Fixture) f = fixture_started(NULL);
    g_autoptr(Ask) ask = NULL;

    (void)fixture_grant(f, FIXTURE_REQUEST("dev"));
    fixture_stop(f);
    disk_refuse_writes();
    fixture_start(f);
    g_assert_cmpint(manager_state(f->manager, NULL), ==, MANAGER_DEGRADED);
    g_assert_nonnull(fixture_lease(f, 3000));
    ask = ask_wait(fixture_ask(f, FIXTURE_REQUEST("dev")));
    g_assert_cmpint(ask->outcome, ==, OUTCOME_STATE_UNAVAILABLE);
    disk_allow();
    fixture_wait(f, manager_state(f->manager, NULL) == MANAGER_RUNNING);
    (void)fixture_grant(f, FIXTURE_REQUEST("dev"));
    fixture_restart(f);
    g_assert_cmpuint(registry_count(f->manager->registry), ==, 2);
}

/* Without its state the daemon grants nothing; when it can be read, life goes on. */
static void test_cannot_be_read(void)
{
    g_autoptr(Fixture) f = fixture_started(NULL);
    g_autoptr(Ask) ask = NULL;
    Id id;

    (void)fixture_grant(f, FIXTURE_REQUEST("dev"));
    id = fixture_grant(f, FIXTURE_REQUEST("dev", .hold = HOLD_SOFT))->id;
    fixture_stop(f);
    /* damage that cannot be backed up is left as it is */
    damage_lease(f, &id);
    disk_refuse_links();
    fixture_forget(f);
    fixture_start(f);
    g_assert_cmpint(manager_state(f->manager, NULL), ==, MANAGER_DEGRADED);
    g_assert_cmpuint(registry_count(f->manager->registry), ==, 0);
    ask = ask_wait(fixture_ask(f, FIXTURE_REQUEST("dev")));
    g_assert_cmpint(ask->outcome, ==, OUTCOME_STATE_UNAVAILABLE);
    g_assert_cmpuint(fixture_told(f, "recovery failed"), ==, 1);
    disk_allow();
    fixture_wait(f, manager_state(f->manager, NULL) == MANAGER_RUNNING);
    g_assert_nonnull(fixture_lease(f, 3000));
    g_assert_cmpuint(fixture_told(f, "recovery ok"), ==, 1);
    (void)fixture_grant(f, FIXTURE_REQUEST("dev"));
    /* leaving in the middle of it is no crash */
    fixture_stop(f);
    disk_refuse_links();
    damage_lease(f, &id);
    fixture_start(f);
    fixture_stop(f);
    disk_allow();
}

/* ---- Recover ---- */

typedef struct Recovered {
    gboolean over, ok;
    GVariant *steps; /* owned */
    char *refusal;   /* owned, NULL = none */
} Recovered;

static void recovered_clear(Recovered *recovered)
{
    g_clear_pointer(&recovered->steps, g_variant_unref);
    g_clear_pointer(&recovered->refusal, g_free);
    *recovered = (Recovered){0};
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Recovered, recovered_clear)

static void on_recovered(gboolean ok, GVariant *steps, const GError *error, void *data)
{
    Recovered *recovered = data;

    g_assert_false(recovered->over);
    recovered->over = TRUE;
    recovered->ok = ok;
    recovered->steps = steps ? g_variant_ref(steps) : NULL;
    recovered->refusal = error ? g_strdup(error->message) : NULL;
}

static void recover(Fixture *f, gboolean dry_run, Recovered *recovered)
{
    recovered_clear(recovered);
    manager_recover(f->manager, dry_run, on_recovered, recovered);
    g_assert_false(recovered->over);
    fixture_wait(f, recovered->over);
    g_assert_null(recovered->refusal);
    g_assert_cmpuint(g_variant_n_children(recovered->steps), ==, 5);
}

static void test_recover(void)
{
    g_autoptr(Fixture) f = fixture_started(NULL);
    g_auto(Recovered) recovered = {0};
    Server server;

    /* health does not see it, so that recovery has something to find */
    fixture_configure(f, "{\"recovery\": {\"health_monitoring\": {\"enabled\": false}}}");
    g_assert_true(manager_reload(f->manager, NULL));
    server_start(&server, 0, FALSE);
    (void)fixture_grant(f, FIXTURE_REQUEST("dev", .process = server.identity));
    (void)fixture_grant(f, FIXTURE_REQUEST("dev"));
    server_end(&server);

    fixture_forget(f);
    recover(f, TRUE, &recovered);
    g_assert_true(recovered.ok);
    g_assert_cmpuint(registry_count(f->manager->registry), ==, 2);
    g_assert_cmpuint(f->told->len, ==, 0);

    recover(f, FALSE, &recovered);
    g_assert_true(recovered.ok);
    g_assert_cmpuint(registry_count(f->manager->registry), ==, 1);
    g_assert_cmpuint(fixture_told(f, "released 3000 orphaned stale"), ==, 1);
    g_assert_cmpuint(fixture_told(f, "recovery request"), ==, 1);
    g_assert_cmpuint(fixture_told(f, "step clean-orphans repaired"), ==, 1);
    g_assert_cmpuint(fixture_told(f, "step validate-state ok"), ==, 1);
    g_assert_cmpuint(report_number(f, "released"), ==, 1);
}

/* What is on its way to the disk is no difference between disk and memory. */
static void test_recover_while_syncing(void)
{
    g_autoptr(Fixture) f = fixture_started(NULL);
    g_auto(Recovered) recovered = {0};
    g_autoptr(Ask) ask = NULL;

    ask = fixture_ask(f, FIXTURE_REQUEST("dev", .lifetime = LIFETIME_PERSISTENT));
    g_assert_nonnull(ask->job);
    recover(f, FALSE, &recovered);
    g_assert_true(recovered.ok);
    g_assert_cmpuint(fixture_told(f, "step validate-state repaired"), ==, 0);
    ask_wait(ask);
    g_assert_cmpint(ask->outcome, ==, OUTCOME_OK);
}

/* What is written while the files are read is no damage, and no difference. */
static void test_recover_beside_grants(void)
{
    g_autoptr(Fixture) f = fixture_started(NULL);
    g_auto(Recovered) recovered = {0};
    guint turns = 0;

    fixture_forget(f);
    for (guint i = 0; i < 30; i++) {
        recovered_clear(&recovered);
        manager_recover(f->manager, FALSE, on_recovered, &recovered);
        if (i % 3 > 0)
            store_compact(f->manager->store);
        for (; !recovered.over; turns++) {
            g_assert_true(fixture_release(f, fixture_grant(f, FIXTURE_REQUEST("dev"))));
            if (i % 3 == 2)
                store_compact(f->manager->store);
            fixture_turn(f);
        }
        g_assert_true(recovered.ok);
    }
    g_assert_cmpuint(turns, >, 60);
    g_assert_cmpuint(fixture_told(f, "step validate-state ok"), ==, 30);
    fixture_wait(f, store_idle(f->manager->store));
}

/* What could not be read at start is read when somebody asks for it. */
static void test_recover_what_could_not_be_read(void)
{
    g_autoptr(Fixture) f = fixture_started(NULL);
    g_auto(Recovered) recovered = {0};
    Id id;

    (void)fixture_grant(f, FIXTURE_REQUEST("dev"));
    id = fixture_grant(f, FIXTURE_REQUEST("dev"))->id;
    fixture_stop(f);
    damage_lease(f, &id);
    disk_refuse_links();
    fixture_start(f);
    for (guint dry_run = 0; dry_run < 2; dry_run++) {
        recovered_clear(&recovered);
        manager_recover(f->manager, dry_run == 1, on_recovered, &recovered);
        g_assert_true(recovered.over);
        g_assert_false(recovered.ok);
        g_assert_cmpint(manager_state(f->manager, NULL), ==, MANAGER_DEGRADED);
    }
    disk_allow();
    fixture_forget(f);
    recovered_clear(&recovered);
    manager_recover(f->manager, FALSE, on_recovered, &recovered);
    g_assert_true(recovered.over && recovered.ok);
    g_assert_cmpint(manager_state(f->manager, NULL), ==, MANAGER_RUNNING);
    g_assert_nonnull(fixture_lease(f, 3000));
    g_assert_cmpuint(fixture_told(f, "recovery ok"), ==, 1);
    recover(f, FALSE, &recovered);
    g_assert_true(recovered.ok);
}

static void test_recover_while_the_disk_fails(void)
{
    g_autoptr(Fixture) f = fixture_started(NULL);
    g_auto(Recovered) recovered = {0};

    (void)fixture_grant(f, FIXTURE_REQUEST("dev"));
    fixture_stop(f);
    disk_refuse_writes();
    fixture_start(f);
    recover(f, FALSE, &recovered);
    g_assert_false(recovered.ok);
    g_assert_cmpuint(fixture_told(f, "step validate-state failed"), ==, 1);
    g_assert_nonnull(fixture_lease(f, 3000));
    disk_allow();
    fixture_wait(f, manager_state(f->manager, NULL) == MANAGER_RUNNING);
    recover(f, FALSE, &recovered);
    g_assert_true(recovered.ok);
}

/* An end that the disk refuses is no end, and comes when the disk is back. */
static void test_recover_cannot_end(void)
{
    g_autoptr(Fixture) f =
        fixture_started("{\"recovery\": {\"health_monitoring\": {\"enabled\": false}}}");
    g_auto(Recovered) recovered = {0};
    Server gone, back;

    server_start(&gone, 0, FALSE);
    (void)fixture_grant(f, FIXTURE_REQUEST("dev", .process = gone.identity));
    server_end(&gone);
    server_start(&back, 0, FALSE);
    (void)fixture_grant(f, FIXTURE_REQUEST("dev", .process = back.identity));
    server_end(&back);
    disk_refuse_writes();
    recover(f, FALSE, &recovered);
    g_assert_cmpuint(registry_count(f->manager->registry), ==, 2);
    g_assert_cmpuint(fixture_told(f, "step clean-orphans warning"), ==, 1);
    g_assert_cmpuint(report_number(f, "released"), ==, 0);
    /* somebody serves one of the two meanwhile */
    server_start(&back, 3001, FALSE);
    disk_allow();
    fixture_wait(f, fixture_told(f, "released 3000 orphaned stale") == 1);
    fixture_run(f, 100);
    g_assert_nonnull(fixture_lease(f, 3001));
    server_end(&back);
}

static void test_recover_ends_duplicates(void)
{
    g_autoptr(Fixture) f = fixture_started(NULL);
    g_auto(Recovered) recovered = {0};

    (void)fixture_grant(f, FIXTURE_REQUEST("api"));
    (void)fixture_grant(f, FIXTURE_REQUEST("api"));
    (void)fixture_grant(f, FIXTURE_REQUEST("dev"));
    fixture_configure(f, "{\"service_types\": {\"api\": {\"port_range\": [8000, 8009],"
                         "\"instance_behavior\": \"single\"}}}");
    g_assert_true(manager_reload(f->manager, NULL));
    fixture_forget(f);
    recover(f, TRUE, &recovered);
    g_assert_cmpuint(registry_count(f->manager->registry), ==, 3);
    recover(f, FALSE, &recovered);
    g_assert_true(recovered.ok);
    g_assert_cmpuint(registry_count(f->manager->registry), ==, 2);
    g_assert_cmpuint(fixture_told(f, "step verify-singletons repaired"), ==, 1);
    g_assert_cmpuint(fixture_told(f, "released 8000 duplicate-singleton stale"), ==, 1);
}

static void test_recoveries_wait_for_each_other(void)
{
    g_autoptr(Fixture) f = fixture_started(NULL);
    Recovered recovered[4] = {0};

    for (guint i = 0; i < G_N_ELEMENTS(recovered); i++)
        manager_recover(f->manager, FALSE, on_recovered, &recovered[i]);
    g_assert_true(manager_withdraw(f->manager, &recovered[1]));
    g_assert_false(manager_withdraw(f->manager, &recovered[1]));
    g_assert_false(manager_withdraw(f->manager, &recovered[0])); /* it has begun */
    g_assert_false(manager_is_idle(f->manager));
    fixture_wait(f, recovered[2].over);
    g_assert_true(recovered[0].over && recovered[2].ok && !recovered[1].over && !recovered[3].over);
    g_assert_cmpuint(fixture_told(f, "recovery request"), ==, 3); /* the last one has begun */
    manager_recover(f->manager, FALSE, on_recovered, &recovered[1]);
    fixture_stop(f); /* with one under way and one that waits */
    for (guint i = 0; i < G_N_ELEMENTS(recovered); i++)
        g_assert_true(recovered[i].over);
    g_assert_nonnull(recovered[1].refusal);
    g_assert_nonnull(recovered[3].refusal);
    for (guint i = 0; i < G_N_ELEMENTS(recovered); i++)
        recovered_clear(&recovered[i]);
}

static void test_recover_with_bad_configuration(void)
{
    g_autoptr(Fixture) f = fixture_started(NULL);
    g_auto(Recovered) recovered = {0};
    g_autoptr(GError) error = NULL;

    fixture_configure(f, "{\"nonsense\": 1}");
    g_assert_false(manager_reload(f->manager, &error));
    g_assert_error(error, OUTCOME_ERROR, OUTCOME_INVALID_ARGUMENT);
    g_assert_nonnull(strstr(error->message, "nonsense"));
    fixture_forget(f);
    recover(f, FALSE, &recovered);
    g_assert_true(recovered.ok);
    g_assert_cmpuint(fixture_told(f, "step validate-config warning"), ==, 1);
    (void)fixture_grant(f, FIXTURE_REQUEST("dev"));
}

static void set_sysctl(const char *name, const char *value)
{
    g_autofree char *path = g_strconcat("/proc/sys/net/ipv4/", name, NULL);

    g_assert_true(test_write_file(path, value));
}

static void start_again(Fixture *f)
{
    fixture_stop(f);
    fixture_forget(f);
    fixture_start(f);
}

/* Until what the warning advises was done; whatever of the recovery is switched off. */
static void test_ephemeral_ranges(gconstpointer config)
{
    g_autoptr(Fixture) f = fixture_started(config);

    g_assert_cmpuint(fixture_told(f, "step validate-config ok"), ==, 1);
    set_sysctl("ip_local_port_range", "8005 20010");
    start_again(f);
    g_assert_cmpuint(fixture_told(f, "step validate-config warning"), ==, 1);
    /* dev and dns lie outside, api and ai within, and so does a part of what is for unknown types
     */
    g_assert_cmpuint(f->manager->report->steps[RECOVERY_VALIDATE_CONFIG].messages->len, ==, 3);
    set_sysctl("ip_local_reserved_ports", "8000-8009,11400-11409");
    start_again(f);
    g_assert_cmpuint(f->manager->report->steps[RECOVERY_VALIDATE_CONFIG].messages->len, ==, 1);
    set_sysctl("ip_local_reserved_ports", "8000-8009,11400-11409,20000-20099");
    start_again(f);
    g_assert_cmpuint(fixture_told(f, "step validate-config ok"), ==, 1);
    set_sysctl("ip_local_reserved_ports", "\n");
    set_sysctl("ip_local_port_range", "32768 60999");
}

int main(int argc, char *argv[])
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/startup/first", test_first_start);
    g_test_add_func("/startup/all-there", test_all_there);
    g_test_add_func("/startup/another-boot", test_another_boot);
    g_test_add_func("/startup/orphans", test_orphans);
    g_test_add_func("/startup/singletons", test_singletons);
    g_test_add_func("/startup/one-port-twice", test_one_port_twice);
    g_test_add_data_func("/startup/disabled",
                         "{\"recovery\": {\"system_recovery\": {\"enabled\": false}}}",
                         test_switched_off);
    g_test_add_data_func("/startup/not-on-startup",
                         "{\"recovery\": {\"system_recovery\": {\"run_on_startup\": false}}}",
                         test_switched_off);
    g_test_add_data_func("/startup/ephemeral-ranges", NULL, test_ephemeral_ranges);
    g_test_add_data_func("/startup/ephemeral-ranges/recovery-off",
                         "{\"recovery\": {\"system_recovery\": {\"enabled\": false}}}",
                         test_ephemeral_ranges);
    g_test_add_func("/damage/record", test_damage);
    g_test_add_func("/damage/quarantine-ends", test_quarantine_ends);
    g_test_add_func("/damage/lost-but-held", test_lost_but_held);
    g_test_add_func("/damage/garbage", test_garbage);
    g_test_add_func("/damage/torn-tail", test_torn_tail);
    g_test_add_func("/crash-loop/set-aside", test_crash_loop);
    g_test_add_func("/crash-loop/switched-off", test_crash_loop_switched_off);
    g_test_add_func("/disk/cannot-be-written", test_cannot_be_written);
    g_test_add_func("/disk/cannot-be-read", test_cannot_be_read);
    g_test_add_func("/recover/steps", test_recover);
    g_test_add_func("/recover/while-syncing", test_recover_while_syncing);
    g_test_add_func("/recover/bad-configuration", test_recover_with_bad_configuration);
    g_test_add_func("/recover/beside-grants", test_recover_beside_grants);
    g_test_add_func("/recover/one-after-the-other", test_recoveries_wait_for_each_other);
    g_test_add_func("/recover/what-could-not-be-read", test_recover_what_could_not_be_read);
    g_test_add_func("/recover/while-the-disk-fails", test_recover_while_the_disk_fails);
    g_test_add_func("/recover/duplicates", test_recover_ends_duplicates);
    g_test_add_func("/recover/cannot-end", test_recover_cannot_end);
    return fixture_main();
}
