/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "fixture.h"

#include <errno.h>
#include <glib/gstdio.h>

#include "probe-test-util.h"
#include "store/sys.h"
#include "util/fd.h"
#include "util/log.h"

/* ---- what was told ---- */

static void tell(Fixture *fixture, const char *format, ...) G_GNUC_PRINTF(2, 3);

static void tell(Fixture *fixture, const char *format, ...)
{
    va_list ap;

    va_start(ap, format);
    g_ptr_array_add(fixture->told, g_strdup_vprintf(format, ap));
    va_end(ap);
    g_test_message("%s", (const char *)fixture->told->pdata[fixture->told->len - 1]);
}

static void on_allocated(const Lease *lease, guint attempts, const GArray *conflicts, void *data)
{
    tell(data, "allocated %u", lease->port);
}

static void on_released(const Lease *lease, Reason reason, gboolean stale, void *data)
{
    g_assert_false(lease->in_registry);
    tell(data, "released %u %s%s", lease->port, reason_to_string(reason), stale ? " stale" : "");
}

static void on_conflict(const ConflictInfo *conflict, void *data)
{
    tell(data, "conflict %u", conflict->port);
}

static void on_health(const Lease *lease, Health before, const char *why, void *data)
{
    tell(data, "health %u %s", lease->port, health_to_string(lease->health));
}

static void on_restarted(const Lease *lease, const char *unit, guint restarts, void *data)
{
    tell(data, "restarted %u %s %u", lease->port, unit, restarts);
}

static void on_recovery_started(const char *trigger, void *data)
{
    tell(data, "recovery %s", trigger);
}

static void on_recovery_step(const char *step, const char *result, GVariant *details, void *data)
{
    tell(data, "step %s %s", step, result);
}

static void on_recovery_finished(gboolean ok, GVariant *summary, void *data)
{
    tell(data, "recovery %s", ok ? "ok" : "failed");
}

static void on_state(void *data)
{
    Fixture *fixture = data;

    tell(fixture, "state %s", manager_state_to_string(manager_state(fixture->manager, NULL)));
}

/* Conflicts are told a moment after the answer. */
static void await_telling(Fixture *fixture)
{
    while (fixture->manager && fixture->manager->telling)
        (void)g_main_context_iteration(fixture->context, TRUE);
}

guint fixture_told(Fixture *fixture, const char *text)
{
    guint n = 0;

    await_telling(fixture);
    for (guint i = 0; i < fixture->told->len; i++)
        n += g_str_equal(fixture->told->pdata[i], text);
    return n;
}

guint fixture_toldf(Fixture *fixture, const char *format, ...)
{
    g_autofree char *text = NULL;
    va_list ap;

    va_start(ap, format);
    text = g_strdup_vprintf(format, ap);
    va_end(ap);
    return fixture_told(fixture, text);
}

guint fixture_told_with(Fixture *fixture, const char *prefix)
{
    guint n = 0;

    await_telling(fixture);
    for (guint i = 0; i < fixture->told->len; i++)
        n += g_str_has_prefix(fixture->told->pdata[i], prefix);
    return n;
}

void fixture_forget(Fixture *fixture)
{
    g_ptr_array_set_size(fixture->told, 0);
}

/* ---- life ---- */

static void close_held(void *data)
{
    HeldSocket *held = data;

    (void)fd_close(held->fd);
    g_free(held->name);
}

Fixture *fixture_new(const char *config_text)
{
    Fixture *fixture = g_new0(Fixture, 1);
    g_autoptr(GError) error = NULL;

    fixture->dir = g_dir_make_tmp("styxy-recovery-XXXXXX", &error);
    g_assert_no_error(error);
    fixture->context = g_main_context_new();
    g_main_context_push_thread_default(fixture->context);
    fixture->told = g_ptr_array_new_with_free_func(g_free);
    fixture->held = g_array_new(FALSE, FALSE, sizeof(HeldSocket));
    g_array_set_clear_func(fixture->held, close_held);
    fixture->listener = (ManagerListener){
        .allocated = on_allocated,
        .released = on_released,
        .conflict = on_conflict,
        .health_changed = on_health,
        .service_restarted = on_restarted,
        .recovery_started = on_recovery_started,
        .recovery_step = on_recovery_step,
        .recovery_finished = on_recovery_finished,
        .state_changed = on_state,
    };
    fixture_configure(fixture, config_text);
    return fixture;
}

static void remove_folder(const char *path)
{
    g_autoptr(GDir) dir = g_dir_open(path, 0, NULL);
    const char *name = NULL;

    while ((name = g_dir_read_name(dir))) {
        g_autofree char *file = g_build_filename(path, name, NULL);

        if (g_file_test(file, G_FILE_TEST_IS_DIR))
            remove_folder(file);
        else
            g_assert_cmpint(g_unlink(file), ==, 0);
    }
    g_assert_cmpint(g_rmdir(path), ==, 0);
}

Fixture *fixture_free(Fixture *fixture)
{
    if (!fixture)
        return NULL;
    fixture_stop(fixture);
    g_array_unref(fixture->held);
    remove_folder(fixture->dir);
    g_ptr_array_unref(fixture->told);
    g_main_context_pop_thread_default(fixture->context);
    g_main_context_unref(fixture->context);
    g_free(fixture->config_text);
    g_free(fixture->dir);
    g_free(fixture);
    return NULL;
}

static Configuration *load(void *data, GError **error)
{
    const Fixture *fixture = data;
    const ConfigurationSource sources[] = {
        {"fixture", FIXTURE_CONFIG, sizeof FIXTURE_CONFIG - 1},
        {"test", fixture->config_text, fixture->config_text ? strlen(fixture->config_text) : 0},
    };

    return configuration_parse(sources, fixture->config_text ? 2 : 1, error);
}

void fixture_configure(Fixture *fixture, const char *config_text)
{
    g_free(fixture->config_text);
    fixture->config_text = g_strdup(config_text);
}

static void on_idle(void *data)
{
    ((Fixture *)data)->idle_told++;
}

void fixture_start(Fixture *fixture)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(Configuration) config = load(fixture, &error);
    ManagerOptions options = {
        .config = config,
        .load = load,
        .load_data = fixture,
        .state_dir = fixture->dir,
        .held = fixture->held,
        .context = fixture->context,
        .became_idle = on_idle,
        .became_idle_data = fixture,
    };

    g_assert_no_error(error);
    fixture->manager = manager_new(&options, &error);
    g_assert_no_error(error);
    if (fixture->claim_grace_msec > 0)
        fixture->manager->claim_grace_usec = fixture->claim_grace_msec * G_TIME_SPAN_MILLISECOND;
    manager_set_listener(fixture->manager, &fixture->listener, fixture);
    manager_start(fixture->manager);
    manager_announce(fixture->manager);
    g_array_set_size(fixture->held, 0);
}

void fixture_stop(Fixture *fixture)
{
    fixture->manager = manager_free(fixture->manager);
    /* A sweep's picture that was on its way finds nobody, but has to come. */
    fixture_run(fixture, 30);
}

void fixture_restart(Fixture *fixture)
{
    fixture_stop(fixture);
    fixture_start(fixture);
}

Fixture *fixture_started(const char *config_text)
{
    Fixture *fixture = fixture_new(config_text);

    fixture_start(fixture);
    return fixture;
}

/* ---- waiting ---- */

static gboolean on_timeout(gpointer data)
{
    return G_SOURCE_REMOVE;
}

void fixture_turn(Fixture *fixture)
{
    g_autoptr(GSource) timeout = g_timeout_source_new(10);

    g_source_set_callback(timeout, on_timeout, NULL, NULL);
    (void)g_source_attach(timeout, fixture->context);
    (void)g_main_context_iteration(fixture->context, TRUE);
    g_source_destroy(timeout);
}

void fixture_run(Fixture *fixture, guint msec)
{
    gint64 end_usec = g_get_monotonic_time() + (gint64)msec * G_TIME_SPAN_MILLISECOND;

    while (g_get_monotonic_time() < end_usec)
        fixture_turn(fixture);
}

void fixture_sweeps(Fixture *fixture, guint count)
{
    guint64 until = metrics_get(METRIC_HEALTH_SWEEPS) + count;

    fixture_wait(fixture, metrics_get(METRIC_HEALTH_SWEEPS) >= until);
}

/* ---- asking ---- */

static void on_answer(const AllocateResult *result, void *data)
{
    Ask *ask = data;

    ask->answers++;
    ask->job = NULL;
    ask->outcome = result->outcome;
    ask->message = result->error ? g_strdup(result->error->message) : NULL;
    g_assert_true((result->outcome == OUTCOME_OK) == (result->error == NULL));
    for (guint i = 0; i < result->leases->len; i++)
        g_ptr_array_add(ask->leases, lease_ref(result->leases->pdata[i]));
    ask->reused = result->reused;
    ask->attempts = result->attempts;
    g_array_append_vals(ask->conflicts, result->conflicts->data, result->conflicts->len);
    ask->hold_refused = result->hold_refused;
    ask->socket = fd_steal(result->socket);
}

Ask *fixture_ask_with(Fixture *fixture, LeaseRequest request, AllocateOptions options)
{
    Ask *ask = g_new0(Ask, 1);
    ManagerJob *job = NULL;

    ask->fixture = fixture;
    ask->leases = lease_array_new();
    ask->conflicts = g_array_new(FALSE, FALSE, sizeof(guint16));
    ask->socket = -1;
    job = manager_allocate(fixture->manager, &request, &options, on_answer, ask);
    g_assert_true((job == NULL) == (ask->answers == 1));
    ask->job = job;
    return ask;
}

Ask *fixture_ask(Fixture *fixture, LeaseRequest request)
{
    return fixture_ask_with(fixture, request, (AllocateOptions){.retries = -1});
}

Ask *ask_free(Ask *ask)
{
    if (!ask)
        return NULL;
    g_assert_null(ask->job);
    g_assert_cmpuint(ask->answers, <=, 1);
    g_ptr_array_unref(ask->leases);
    g_array_unref(ask->conflicts);
    g_free(ask->message);
    (void)fd_close(ask->socket);
    g_free(ask);
    return NULL;
}

Ask *ask_wait(Ask *ask)
{
    fixture_wait(ask->fixture, ask->answers > 0);
    return ask;
}

Lease *fixture_grant(Fixture *fixture, LeaseRequest request)
{
    g_autoptr(Ask) ask = ask_wait(fixture_ask(fixture, request));

    if (ask->outcome != OUTCOME_OK)
        g_error("not granted: %s", ask->message);
    return ask->leases->pdata[0];
}

static void on_released_done(const GError *error, void *data)
{
    *(int *)data = error ? 2 : 1;
}

gboolean fixture_release(Fixture *fixture, Lease *lease)
{
    g_autoptr(GPtrArray) one = g_ptr_array_new();
    int done = 0;

    g_ptr_array_add(one, lease);
    manager_release(fixture->manager, one, REASON_RELEASED, on_released_done, &done);
    fixture_wait(fixture, done != 0);
    return done == 1;
}

Lease *fixture_lease(Fixture *fixture, guint16 port)
{
    return registry_find_port(fixture->manager->registry, port, PROTOCOL_BOTH);
}

/* ---- the disk ---- */

static gint refused_call = -1;

static int refuse(SysCall call, size_t *length, void *data)
{
    return (gint)call == g_atomic_int_get(&refused_call) ? ENOSPC : 0;
}

static void disk_refuse(SysCall call)
{
    sys_set_hook(refuse, NULL);
    g_atomic_int_set(&refused_call, (gint)call);
}

void disk_refuse_writes(void)
{
    disk_refuse(SYS_CALL_WRITE);
}

void disk_refuse_syncs(void)
{
    disk_refuse(SYS_CALL_FDATASYNC);
}

void disk_refuse_links(void)
{
    disk_refuse(SYS_CALL_LINK);
}

void disk_allow(void)
{
    g_atomic_int_set(&refused_call, -1);
}

char *fixture_path(Fixture *fixture, const char *name)
{
    return g_build_filename(fixture->dir, name, NULL);
}

static void to_test_log(int priority, const GLogField *fields, size_t n_fields, void *data)
{
    for (size_t i = 0; i < n_fields; i++)
        if (g_str_equal(fields[i].key, "MESSAGE"))
            g_test_message("log: %.*s",
                           fields[i].length < 0 ? 500 : (int)MIN(fields[i].length, 500),
                           (const char *)fields[i].value);
}

int fixture_main(void)
{
    log_set_writer(to_test_log, NULL);
    if (!test_private_network()) {
        g_print("1..0 # SKIP no network namespace of its own without root\n");
        return 0;
    }
    return g_test_run();
}
