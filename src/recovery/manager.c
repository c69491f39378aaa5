/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "recovery/manager.h"

#include "recovery/claims.h"
#include "recovery/events.h"
#include "recovery/expiry.h"
#include "recovery/health.h"
#include "recovery/manager-private.h"
#include "recovery/metrics.h"
#include "recovery/release.h"
#include "recovery/searches.h"
#include "recovery/startup.h"

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
        release_store_works_again(manager);
}

static void store_snapshot_failed(const GError *error, guint retry_msec, void *data)
{
    event_snapshot_failed(error, retry_msec);
}

/* ---- life ------------------------------------------------------------------------------------ */

Manager *manager_new(const ManagerOptions *options, GError **error)
{
    g_autoptr(Manager) manager = g_new0(Manager, 1);
    StoreOptions store_options = {
        .dir = options->state_dir,
        .backup_corrupted = options->config->system_backup_corrupted_state,
        .compact_bytes = options->compact_bytes,
        .health_changed = store_health_changed,
        .snapshot_failed = store_snapshot_failed,
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
    g_queue_init(&manager->reruns);
    release_init(manager);
    conflicts_init(manager);
    manager->searches = searches_new(manager);
    manager->expiries = g_hash_table_new(NULL, NULL);
    manager->claims = g_hash_table_new(NULL, NULL);
    manager->claim_grace_usec = CLAIM_GRACE_USEC;
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
    if (!manager)
        return NULL;
    manager->listener = NULL;
    manager->became_idle = NULL;
    startup_rerun_cancel(manager);
    manager->store = store_close(manager->store);
    manager_jobs_cancel_all(manager);
    manager->searches = searches_free(manager->searches);
    conflicts_deinit(manager);
    manager->startup_retry = deadline_cancel(manager->startup_retry);
    release_deinit(manager);
    manager->health = health_monitor_free(manager->health);
    expiry_disarm_all(manager);
    g_hash_table_unref(manager->expiries);
    claims_disarm_all(manager);
    g_hash_table_unref(manager->claims);
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
    startup_warn_of_ranges(manager);
    hold_table_set_max(manager->holds, manager->config->limit_held_sockets);
    health_configuration_changed(manager->health);
    if (manager->listener && manager->listener->configuration_changed)
        manager->listener->configuration_changed(manager->listener_data);
    return TRUE;
}

/* ---- leases ---------------------------------------------------------------------------------- */

gboolean manager_record(Manager *manager, Lease *lease, GError **error)
{
    StoreOp op = {.kind = STORE_PUT_LEASE, .lease = lease};

    /* After the record of its end another of its life would bring it back. */
    if (lease->ending) {
        g_set_error(error, OUTCOME_ERROR, OUTCOME_BUSY, "lease %s is being released",
                    lease->id.text);
        return FALSE;
    }
    if (!store_append(manager->store, &op, 1, error))
        return FALSE;
    metrics_count(METRIC_JOURNAL_RECORDS);
    return TRUE;
}

Outcome manager_renew(Manager *manager, Lease *lease, gint64 *ret_expires_usec, GError **error)
{
    g_autoptr(GError) cause = NULL;
    gint64 before_usec = lease->expires_usec;

    if (lease->ttl_msec == 0) {
        g_set_error(error, OUTCOME_ERROR, OUTCOME_INVALID_ARGUMENT,
                    "lease %s has no ttl_ms, so there is nothing to renew", lease->id.text);
        return OUTCOME_INVALID_ARGUMENT;
    }
    if (lease->ending) {
        g_set_error(error, OUTCOME_ERROR, OUTCOME_UNKNOWN_LEASE, "lease %s is being released",
                    lease->id.text);
        return OUTCOME_UNKNOWN_LEASE;
    }
    registry_set_expiry(manager->registry, lease,
                        g_get_real_time() + (gint64)lease->ttl_msec * G_TIME_SPAN_MILLISECOND,
                        NULL);
    if (!manager_record(manager, lease, &cause)) {
        registry_set_expiry(manager->registry, lease, before_usec, NULL);
        g_set_error(error, OUTCOME_ERROR, OUTCOME_STATE_UNAVAILABLE,
                    "the renewal could not be recorded: %s", cause->message);
        return OUTCOME_STATE_UNAVAILABLE;
    }
    metrics_count(METRIC_RENEWALS);
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

void manager_recover(Manager *manager, gboolean dry_run, RecoverDone done, void *data)
{
    startup_rerun(manager, dry_run, done, data);
}

gboolean manager_withdraw(Manager *manager, const void *data)
{
    return health_withdraw(manager->health, data) || startup_rerun_withdraw(manager, data);
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
           manager->releases_on_disk == 0 && manager->letting.length == 0 && !manager->rerun &&
           !health_is_busy(manager->health) && store_idle(manager->store);
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
    g_variant_builder_add(&builder, "{st}", "degraded",
                          (guint64)(manager->state == MANAGER_DEGRADED));
    return g_variant_builder_end(&builder);
}
