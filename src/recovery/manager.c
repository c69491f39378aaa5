/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "recovery/manager.h"

#include "recovery/events.h"
#include "recovery/expiry.h"
#include "recovery/health.h"
#include "recovery/manager-private.h"
#include "recovery/metrics.h"
#include "recovery/startup.h"
#include "util/fdstore.h"

/* ---- state ----------------------------------------------------------------------------------- */

static const char *const state_names[] = {
    [MANAGER_RECOVERING] = "recovering",
    [MANAGER_RUNNING] = "running",
    [MANAGER_DEGRADED] = "degraded",
};

const char *manager_state_to_string(ManagerState state)
{
    return state_names[state];
}

ManagerState manager_state(const Manager *manager, const char **ret_reason)
{
    if (ret_reason)
        *ret_reason = manager->state_reason;
    return manager->state;
}

void manager_update_state(Manager *manager)
{
    const char *why = "";
    ManagerState state = MANAGER_RUNNING;

    if (manager->recovering) {
        state = MANAGER_RECOVERING;
    } else if (store_is_failed(manager->store, &why)) {
        state = MANAGER_DEGRADED;
    } else if (manager->trouble) {
        state = MANAGER_DEGRADED;
        why = manager->trouble;
    }
    if (state == manager->state && g_strcmp0(why, manager->state_reason) == 0)
        return;
    manager->state = state;
    g_free(manager->state_reason);
    manager->state_reason = g_strdup(why);
    if (manager->listener && manager->listener->state_changed)
        manager->listener->state_changed(manager->listener_data);
}

static void retry_unrecorded(Manager *manager)
{
    g_autoptr(GHashTable) ends = g_steal_pointer(&manager->unrecorded);
    GHashTableIter iter;
    gpointer id, reason;

    manager->unrecorded = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    g_hash_table_iter_init(&iter, ends);
    while (g_hash_table_iter_next(&iter, &id, &reason)) {
        Lease *lease = registry_find(manager->registry, id);

        if (lease)
            manager_end(manager, lease, (Reason)GPOINTER_TO_INT(reason));
    }
}

static void store_health_changed(const GError *error, void *data)
{
    Manager *manager = data;

    if (error) {
        metrics_count(METRIC_JOURNAL_FAILURES);
        event_store_failed(error);
    } else {
        event_store_works_again();
    }
    manager_update_state(manager);
    if (!error)
        retry_unrecorded(manager);
}

/* A release whose sockets the service manager has to let go of, too, before it is true. */
typedef struct Letting {
    Manager *manager; /* NULL: gone meanwhile */
    GArray *changes;
    ReleaseDone done;
    void *data;
    GList link;
} Letting;

/* ---- life ------------------------------------------------------------------------------------ */

Manager *manager_new(const ManagerOptions *options, GError **error)
{
    g_autoptr(Manager) manager = g_new0(Manager, 1);
    StoreOptions store_options = {
        .dir = options->state_dir,
        .backup_corrupted = options->config->system_backup_corrupted_state,
        .health_changed = store_health_changed,
        .data = manager,
    };

    manager->context = options->context ? g_main_context_ref(options->context)
                                        : g_main_context_ref(g_main_context_default());
    manager->config = configuration_ref(options->config);
    manager->became_idle = options->became_idle;
    manager->became_idle_data = options->became_idle_data;
    manager->load = options->load;
    manager->load_data = options->load_data;
    manager->registry = registry_new(manager->config);
    manager->deadlines = deadline_queue_new(manager->context);
    manager->state = MANAGER_RECOVERING;
    manager->state_reason = g_strdup("");
    manager->recovering = TRUE;
    g_queue_init(&manager->jobs);
    g_queue_init(&manager->parked);
    g_queue_init(&manager->letting);
    manager->unrecorded = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    manager->expiries = g_hash_table_new(NULL, NULL);
    manager->health = health_monitor_new(manager);
    manager->holds = hold_table_new(options->config->limit_held_sockets);
    manager->passed = options->held ? g_array_ref(options->held) : NULL;
    manager->store = store_open(&store_options, manager->context, error);
    if (!manager->store)
        return NULL;
    return g_steal_pointer(&manager);
}

Manager *manager_free(Manager *manager)
{
    GList *link = NULL;

    if (!manager)
        return NULL;
    manager->listener = NULL;
    manager->store = store_close(manager->store);
    manager_jobs_cancel_all(manager);
    while ((link = g_queue_pop_head_link(&manager->letting)))
        ((Letting *)link->data)->manager = NULL;
    manager->health = health_monitor_free(manager->health);
    expiry_disarm_all(manager);
    g_hash_table_unref(manager->expiries);
    g_hash_table_unref(manager->unrecorded);
    manager->holds = hold_table_free(manager->holds);
    g_clear_pointer(&manager->passed, g_array_unref);
    manager->registry = registry_free(manager->registry);
    manager->deadlines = deadline_queue_free(manager->deadlines);
    manager->config = configuration_unref(manager->config);
    g_main_context_unref(manager->context);
    g_free(manager->state_reason);
    g_free(manager->trouble);
    manager->report = recovery_report_free(manager->report);
    g_free(manager);
    return NULL;
}

static const Lease *source_next_lease(void *data, guint32 *cursor)
{
    return registry_next_port(((Manager *)data)->registry, cursor);
}

static void source_foreach_sticky(void *data, void (*func)(const StickyPort *, void *),
                                  void *func_data)
{
    registry_foreach_sticky(((Manager *)data)->registry, func, func_data);
}

static void source_foreach_chunk(void *data, void (*func)(const Chunk *, void *), void *func_data)
{
    registry_foreach_chunk(((Manager *)data)->registry, func, func_data);
}

static gboolean source_is_singleton(void *data, const char *service_type)
{
    const ServiceType *type = configuration_find_type(((Manager *)data)->config, service_type);

    return type && type->single;
}

gboolean manager_open_journal(Manager *manager, const Id *boot_id, GError **error)
{
    StoreSource source = {
        .next_lease = source_next_lease,
        .foreach_sticky = source_foreach_sticky,
        .foreach_chunk = source_foreach_chunk,
        .is_singleton = source_is_singleton,
        .data = manager,
    };

    return store_start(manager->store, &source, boot_id, error);
}

void manager_start(Manager *manager)
{
    startup_run(manager);
    manager->recovering = FALSE;
    health_configuration_changed(manager->health);
    manager_update_state(manager);
}

void manager_set_listener(Manager *manager, const ManagerListener *listener, void *data)
{
    manager->listener = listener;
    manager->listener_data = data;
}

gboolean manager_reload(Manager *manager, GError **error)
{
    g_autoptr(Configuration) config = NULL;
    g_autoptr(GError) cause = NULL;

    config = manager->load(manager->load_data, &cause);
    if (!config) {
        event_configuration_refused(cause);
        g_set_error(error, OUTCOME_ERROR, OUTCOME_INVALID_ARGUMENT, "%s", cause->message);
        return FALSE;
    }
    registry_set_configuration(manager->registry, config);
    (void)configuration_unref(manager->config);
    manager->config = g_steal_pointer(&config);
    event_configuration_loaded(manager->config);
    health_configuration_changed(manager->health);
    if (manager->listener && manager->listener->configuration_changed)
        manager->listener->configuration_changed(manager->listener_data);
    return TRUE;
}

/* ---- leases ---------------------------------------------------------------------------------- */

void manager_tell_granted(Manager *manager, const GArray *changes, guint attempts,
                          const GArray *conflicts)
{
    for (guint i = 0; i < changes->len; i++) {
        Lease *lease = g_array_index(changes, Change, i).lease;

        if (!lease->in_registry) /* the answer could not be sent, and it was given back */
            continue;
        expiry_arm(manager, lease);
        health_watch(manager->health, lease);
        MANAGER_TELL(manager, allocated, lease, attempts, conflicts);
        event_granted(lease, attempts);
    }
}

void manager_tell_released(Manager *manager, const GArray *changes)
{
    for (guint i = 0; i < changes->len; i++) {
        const Change *change = &g_array_index(changes, Change, i);
        gboolean stale = change->reason != REASON_RELEASED;

        metrics_count(METRIC_RELEASES);
        if (stale)
            metrics_count(METRIC_STALE_RELEASES);
        MANAGER_TELL(manager, released, change->lease, change->reason, stale);
        event_released(change->lease, change->reason, stale);
    }
}

typedef struct PendingRelease {
    Manager *manager;
    GPtrArray *leases;
    Reason reason;
    ReleaseDone done;
    void *data;
} PendingRelease;

static void tell_end(Manager *manager, const GArray *changes, ReleaseDone done, void *data)
{
    if (done)
        done(NULL, data);
    manager_tell_released(manager, changes);
    manager_wake_parked(manager);
    if (registry_count(manager->registry) == 0 && manager->became_idle)
        manager->became_idle(manager->became_idle_data);
}

static void let_go(void *data)
{
    Letting *letting = data;
    g_autoptr(GArray) changes = letting->changes;

    if (letting->manager) {
        g_queue_unlink(&letting->manager->letting, &letting->link);
        tell_end(letting->manager, changes, letting->done, letting->data);
    }
    g_free(letting);
}

static void remove_all(Manager *manager, GPtrArray *leases, Reason reason, ReleaseDone done,
                       void *data)
{
    g_autoptr(GArray) changes = change_array_new();
    gboolean wait = FALSE;
    Letting *letting = NULL;

    for (guint i = 0; i < leases->len; i++) {
        expiry_disarm(manager, leases->pdata[i]);
        health_unwatch(manager->health, leases->pdata[i]);
        wait |= hold_table_drop(manager->holds, leases->pdata[i]);
        registry_remove(manager->registry, leases->pdata[i], reason, changes);
    }
    if (!wait) {
        tell_end(manager, changes, done, data);
        return;
    }
    letting = g_new0(Letting, 1);
    letting->manager = manager;
    letting->changes = g_steal_pointer(&changes);
    letting->done = done;
    letting->data = data;
    letting->link.data = letting;
    g_queue_push_tail_link(&manager->letting, &letting->link);
    fdstore_barrier(manager->context, let_go, letting);
}

static void refuse_release(const GError *cause, ReleaseDone done, void *data)
{
    g_autoptr(GError) error = g_error_new(
        OUTCOME_ERROR, OUTCOME_STATE_UNAVAILABLE,
        "the release could not be recorded, so nothing was released: %s", cause->message);

    if (done)
        done(error, data);
}

static void release_on_disk(const GError *error, void *data)
{
    PendingRelease *pending = data;
    Manager *manager = pending->manager;

    manager->releases_on_disk--;
    for (guint i = 0; i < pending->leases->len; i++)
        ((Lease *)pending->leases->pdata[i])->ending = FALSE;
    if (error)
        refuse_release(error, pending->done, pending->data);
    else
        remove_all(manager, pending->leases, pending->reason, pending->done, pending->data);
    g_ptr_array_unref(pending->leases);
    g_free(pending);
    manager_wake_parked(manager);
}

static GPtrArray *referenced(GPtrArray *leases)
{
    GPtrArray *copy = lease_array_new();

    for (guint i = 0; i < leases->len; i++)
        g_ptr_array_add(copy, lease_ref(leases->pdata[i]));
    return copy;
}

void manager_release(Manager *manager, GPtrArray *leases, Reason reason, ReleaseDone done,
                     void *data)
{
    g_autofree StoreOp *ops = g_new0(StoreOp, leases->len);
    g_autoptr(GPtrArray) kept = referenced(leases);
    g_autoptr(GError) error = NULL;
    PendingRelease *pending = NULL;
    gboolean durable = FALSE;

    for (guint i = 0; i < leases->len; i++) {
        Lease *lease = leases->pdata[i];

        g_assert(lease->in_registry && !lease->ending);
        durable |= lease->lifetime == LIFETIME_PERSISTENT;
        ops[i] = (StoreOp){.kind = STORE_DROP_LEASE, .lease = lease, .reason = reason};
    }
    if (!durable) {
        if (store_append(manager->store, ops, leases->len, &error))
            remove_all(manager, kept, reason, done, data);
        else
            refuse_release(error, done, data);
        return;
    }

    pending = g_new0(PendingRelease, 1);
    *pending = (PendingRelease){manager, g_ptr_array_ref(kept), reason, done, data};
    manager->releases_on_disk++;
    for (guint i = 0; i < kept->len; i++)
        ((Lease *)kept->pdata[i])->ending = TRUE;
    if (!store_append_durable(manager->store, ops, leases->len, release_on_disk, pending, &error))
        release_on_disk(error, pending);
}

typedef struct PendingEnd {
    Manager *manager;
    Id id;
    Reason reason;
} PendingEnd;

/* The disk said no to an end that nobody asked for: it is due again when the disk is back. */
static void end_done(const GError *error, void *data)
{
    PendingEnd *end = data;

    if (error)
        g_hash_table_replace(end->manager->unrecorded, g_strdup(end->id.text),
                             GINT_TO_POINTER((int)end->reason));
    g_free(end);
}

void manager_end(Manager *manager, Lease *lease, Reason reason)
{
    g_autoptr(GPtrArray) one = NULL;
    PendingEnd *end = NULL;

    if (lease->ending)
        return;
    one = g_ptr_array_new();
    g_ptr_array_add(one, lease);
    end = g_new0(PendingEnd, 1);
    *end = (PendingEnd){manager, lease->id, reason};
    manager_release(manager, one, reason, end_done, end);
}

void manager_client_gone(Manager *manager, const char *client)
{
    g_autoptr(GPtrArray) leases = g_ptr_array_new();

    for (Lease *lease = registry_first_of_client(manager->registry, client); lease;
         lease = lease->by_client.next)
        g_ptr_array_add(leases, lease);
    for (guint i = 0; i < leases->len; i++)
        manager_end(manager, leases->pdata[i], REASON_CLIENT_GONE);
}

Outcome manager_renew(Manager *manager, Lease *lease, gint64 *ret_expires_usec, GError **error)
{
    g_autoptr(GArray) changes = NULL;
    g_autoptr(GError) cause = NULL;
    StoreOp op = {.kind = STORE_PUT_LEASE, .lease = lease};
    gint64 before_usec = lease->expires_usec;

    if (lease->ttl_msec == 0) {
        g_set_error(error, OUTCOME_ERROR, OUTCOME_INVALID_ARGUMENT,
                    "lease %s has no ttl_ms, so there is nothing to renew", lease->id.text);
        return OUTCOME_INVALID_ARGUMENT;
    }
    changes = change_array_new();
    registry_set_expiry(manager->registry, lease,
                        g_get_real_time() + (gint64)lease->ttl_msec * G_TIME_SPAN_MILLISECOND,
                        changes);
    if (!store_append(manager->store, &op, 1, &cause)) {
        registry_set_expiry(manager->registry, lease, before_usec, changes);
        g_set_error(error, OUTCOME_ERROR, OUTCOME_STATE_UNAVAILABLE,
                    "the renewal could not be recorded: %s", cause->message);
        return OUTCOME_STATE_UNAVAILABLE;
    }
    expiry_arm(manager, lease);
    *ret_expires_usec = lease->expires_usec;
    return OUTCOME_OK;
}

/* ---- recovery -------------------------------------------------------------------------------- */

void manager_announce(Manager *manager)
{
    if (manager->report)
        startup_tell(manager, manager->report);
}

gboolean manager_recover(Manager *manager, gboolean dry_run, GVariant **ret_steps)
{
    g_autoptr(RecoveryReport) report = startup_rerun(manager, dry_run);
    gboolean ok = report->ok;

    *ret_steps = recovery_report_steps(report);
    if (!dry_run) {
        startup_tell(manager, report);
        recovery_report_free(manager->report);
        manager->report = g_steal_pointer(&report);
    }
    return ok;
}

GVariant *manager_recovery_report(const Manager *manager)
{
    if (!manager->report)
        return g_variant_ref_sink(g_variant_new("a{sv}", NULL));
    return g_variant_ref_sink(recovery_report_summary(manager->report));
}

/* ---- health ---------------------------------------------------------------------------------- */

void manager_cleanup(Manager *manager, uid_t uid, gboolean dry_run, CleanupDone done, void *data)
{
    health_sweep_now(manager->health, uid, dry_run, done, data);
}

const char *manager_health_reason(const Manager *manager, const Lease *lease)
{
    return health_reason(manager->health, lease);
}

gint64 manager_health_checked_usec(const Manager *manager)
{
    return health_last_check_usec(manager->health);
}

void manager_set_services(Manager *manager, const ManagerServices *services, void *data)
{
    manager->services = services;
    manager->services_data = data;
}

/* ---- looking --------------------------------------------------------------------------------- */

const Registry *manager_registry(const Manager *manager)
{
    return manager->registry;
}

Registry *manager_registry_mutable(Manager *manager)
{
    return manager->registry;
}

const Configuration *manager_configuration(const Manager *manager)
{
    return manager->config;
}

gboolean manager_is_idle(const Manager *manager)
{
    return registry_count(manager->registry) == 0 && manager->jobs.length == 0 &&
           manager->releases_on_disk == 0 && manager->letting.length == 0 &&
           store_idle(manager->store);
}

GVariant *manager_metrics(const Manager *manager)
{
    GVariantBuilder builder;

    g_variant_builder_init(&builder, G_VARIANT_TYPE("a{st}"));
    for (Metric metric = 0; metric < _METRIC_MAX; metric++)
        g_variant_builder_add(&builder, "{st}", metric_name(metric), metrics_get(metric));
    g_variant_builder_add(&builder, "{st}", "leases", (guint64)registry_count(manager->registry));
    g_variant_builder_add(&builder, "{st}", "held_sockets",
                          (guint64)hold_table_count(manager->holds));
    g_variant_builder_add(&builder, "{st}", "requests_waiting", (guint64)manager->jobs.length);
    return g_variant_builder_end(&builder);
}
