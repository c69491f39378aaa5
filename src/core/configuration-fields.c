/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "core/configuration-fields.h"

#define DAY_MSEC (24 * 60 * 60 * 1000)

#define BOOL(type, key, member, fallback)                       \
    {                                                           \
        key, FIELD_BOOL, offsetof(type, member), 0, 1, fallback \
    }
#define UINT(type, key, member, least, most, fallback)                 \
    {                                                                  \
        key, FIELD_UINT, offsetof(type, member), least, most, fallback \
    }
#define REAL(type, key, member, least, most, fallback)                 \
    {                                                                  \
        key, FIELD_REAL, offsetof(type, member), least, most, fallback \
    }

/* One list for the settings of health_monitoring and those of a single service type. */
#define HEALTH_FIELDS(type, member)                                                      \
    UINT(type, "max_failures", member max_failures, 1, 1000, 3),                         \
        BOOL(type, "cleanup_stale_allocations", member cleanup_stale_allocations, TRUE), \
        UINT(type, "startup_grace_ms", member startup_grace_msec, 0, DAY_MSEC, 60000),   \
        UINT(type, "process_grace_ms", member process_grace_msec, 0, DAY_MSEC, 2000),    \
        UINT(type, "http_timeout_ms", member http_timeout_msec, 10, 300000, 5000)

#define BLOCK(name, ...) \
    const FieldBlock name##_block = {name##_fields, G_N_ELEMENTS(name##_fields), {__VA_ARGS__}}

const char *const root_keys[] = {"service_types", "auto_allocation", "recovery", "limits", NULL};
const char *const recovery_keys[] = {"port_conflict", "health_monitoring", "system_recovery", NULL};
const char *const service_type_keys[] = {"description", "preferred_ports",   "port_range",
                                         "protocol",    "instance_behavior", "health",
                                         NULL};

static const Field auto_fields[] = {
    BOOL(Configuration, "enabled", auto_enabled, TRUE),
    UINT(Configuration, "chunk_size", auto_chunk_size, 1, 65535, 10),
};
BLOCK(auto, "port_range", "rules");

static const Field chunk_rule_fields[] = {
    UINT(ChunkRule, "chunk_size", chunk_size, 1, 65535, 10),
};
BLOCK(chunk_rule, NULL);

static const Field conflict_fields[] = {
    BOOL(Configuration, "enabled", conflict_enabled, TRUE),
    UINT(Configuration, "max_retries", conflict_max_retries, 0, 20, 3),
    UINT(Configuration, "backoff_ms", conflict_backoff_msec, 1, 60000, 100),
    REAL(Configuration, "backoff_multiplier", conflict_backoff_multiplier, 1, 10, 2),
    UINT(Configuration, "cooldown_ms", conflict_cooldown_msec, 0, DAY_MSEC, 30000),
};
BLOCK(conflict, NULL);

static const Field health_fields[] = {
    BOOL(Configuration, "enabled", health_enabled, TRUE),
    UINT(Configuration, "check_interval_ms", health_check_interval_msec, 10, DAY_MSEC, 30000),
    HEALTH_FIELDS(Configuration, health.),
    BOOL(Configuration, "allow_other_local_ports", health_any_local_port, FALSE),
};
BLOCK(health, NULL);

static const Field type_health_fields[] = {HEALTH_FIELDS(HealthSettings, )};
BLOCK(type_health, NULL);

static const Field system_fields[] = {
    BOOL(Configuration, "enabled", system_enabled, TRUE),
    BOOL(Configuration, "run_on_startup", system_run_on_startup, TRUE),
    BOOL(Configuration, "backup_corrupted_state", system_backup_corrupted_state, TRUE),
    UINT(Configuration, "max_recovery_attempts", system_max_recovery_attempts, 1, 100, 3),
};
BLOCK(system, NULL);

static const Field limits_fields[] = {
    UINT(Configuration, "leases_per_user", limit_leases_per_user, 1, 65535, 256),
    UINT(Configuration, "auto_types_per_user", limit_auto_types_per_user, 0, 65535, 32),
    UINT(Configuration, "sticky_ports_per_user", limit_sticky_ports_per_user, 0, 65535, 512),
    UINT(Configuration, "pending_requests_per_connection", limit_pending_requests_per_connection, 1,
         65535, 64),
    UINT(Configuration, "direct_connections", limit_direct_connections, 1, 65535, 512),
    UINT(Configuration, "direct_connections_per_user", limit_direct_connections_per_user, 1, 65535,
         128),
    UINT(Configuration, "held_sockets", limit_held_sockets, 0, 65535, 4096),
    UINT(Configuration, "block_size", limit_block_size, 1, 65535, 128),
    /* 4096: the longest strings that an Allocate may carry fit in it. */
    UINT(Configuration, "message_bytes", limit_message_bytes, 4096, 16777216, 65536),
};
BLOCK(limits, NULL);

void fields_set_defaults(const FieldBlock *block, void *base)
{
    for (size_t i = 0; i < block->n_fields; i++) {
        const Field *field = &block->fields[i];
        void *place = (char *)base + field->offset;

        switch (field->kind) {
        case FIELD_BOOL:
            *(gboolean *)place = field->fallback > 0;
            break;
        case FIELD_UINT:
            *(guint32 *)place = (guint32)field->fallback;
            break;
        case FIELD_REAL:
            *(double *)place = field->fallback;
            break;
        }
    }
}

char **fields_keys(const FieldBlock *block)
{
    GStrvBuilder *keys = g_strv_builder_new();
    char **all;

    for (size_t i = 0; i < block->n_fields; i++)
        g_strv_builder_add(keys, block->fields[i].key);
    for (size_t i = 0; i < G_N_ELEMENTS(block->others) && block->others[i]; i++)
        g_strv_builder_add(keys, block->others[i]);
    all = g_strv_builder_end(keys);
    g_strv_builder_unref(keys);
    return all;
}
