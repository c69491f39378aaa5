/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>

#include "core/names.h"
#include "core/port-set.h"

/*
 * The configuration as a value: built from texts, checked as a whole, never changed afterwards.
 * Reading the files is the daemon's work (daemon/config-files).
 */

#define CONFIGURATION_BYTES_MAX (1024 * 1024)
#define CONFIGURATION_DEPTH_MAX 32
#define CONFIGURATION_MEMBERS_MAX 4096

/** HealthSettings: the part of health monitoring that a service type may set for itself. */
typedef struct HealthSettings {
    guint32 max_failures;               /* >= 1 */
    gboolean cleanup_stale_allocations; /* FALSE: report what is stale, release nothing */
    guint32 startup_grace_msec;         /* 0 = none */
    guint32 process_grace_msec;         /* 0 = none */
    guint32 http_timeout_msec;          /* >= 10 */
} HealthSettings;

typedef struct ServiceType {
    char *name;
    char *description; /* printable UTF-8, may be NULL */
    guint16
        *preferred_ports; /* distinct, in the order to try; outside @range only where no range is */
    size_t n_preferred_ports;
    PortRange range; /* always set, overlaps no other */
    Protocol protocol;
    gboolean single;       /* one lease, handed to everybody who asks */
    HealthSettings health; /* its own settings, what it leaves out taken from the configuration's */
} ServiceType;

/**
 * ChunkRule: how many ports an unknown service type gets whose name matches @pattern: '*' stands
 * for any characters or none, '?' for one, the rest for itself.
 */
typedef struct ChunkRule {
    char *pattern;
    guint32 chunk_size;
} ChunkRule;

typedef struct Configuration {
    GPtrArray *service_types; /* of ServiceType *, sorted by name, may be empty */
    GHashTable *by_name;      /* name -> ServiceType *, borrowed from service_types */

    gboolean auto_enabled;
    PortRange auto_range;
    guint32 auto_chunk_size;
    ChunkRule *auto_rules; /* in file order: the first match counts */
    size_t n_auto_rules;

    gboolean conflict_enabled;
    guint32 conflict_max_retries;
    guint32 conflict_backoff_msec;
    double conflict_backoff_multiplier;
    guint32 conflict_cooldown_msec;

    gboolean health_enabled;
    guint32 health_check_interval_msec;
    HealthSettings health;          /* defaults of all service types */
    gboolean health_any_local_port; /* health_url may name another loopback port than the lease's */

    gboolean system_enabled;
    gboolean system_run_on_startup;
    gboolean system_backup_corrupted_state;
    guint32 system_max_recovery_attempts;

    /* Each limit, its bounds and its default are a line in configuration-fields.c. */
    guint32 limit_leases_per_user;
    guint32 limit_auto_types_per_user;
    guint32 limit_sticky_ports_per_user;
    guint32 limit_pending_requests_per_connection;
    guint32 limit_direct_connections;
    guint32 limit_direct_connections_per_user;
    guint32 limit_held_sockets;
    guint32 limit_block_size;
    guint32 limit_message_bytes;

    char **files; /* names of the sources, in order, NULL-terminated */
    guint references;
} Configuration;

/**
 * ConfigurationSource: one file.
 * @name: for messages, UTF-8. @text: @length bytes, not trusted, may hold NUL.
 */
typedef struct ConfigurationSource {
    const char *name;
    const char *text;
    size_t length;
} ConfigurationSource;

#define CONFIGURATION_ERROR configuration_error_quark()
GQuark configuration_error_quark(void);

/**
 * configuration_parse: builds a configuration from @n_sources texts, the later merged on top of the
 * earlier by RFC 7396 (objects member by member, everything else replaced; null in a later one
 * takes a key away).
 * @sources: borrowed for the call. At least one is needed for a good configuration.
 *
 * Strict JSON (see json_check()), at most CONFIGURATION_DEPTH_MAX levels, CONFIGURATION_MEMBERS_MAX
 * members in one object and CONFIGURATION_BYTES_MAX bytes each. Only the merged whole must be
 * complete; each source may be a part. Errors are: an unknown key, a wrong type, a number out of
 * bounds or one that should be whole and has a point or an exponent, a range outside 1-65535, two
 * port_ranges that overlap (that of auto_allocation is one of them while it is enabled), a
 * preferred port within somebody else's range, a chunk larger than the range it is cut from, and
 * pauses of port_conflict that add up to more than an hour. Pure: no I/O, no log.
 *
 * Returns: (transfer full): or NULL with @error in CONFIGURATION_ERROR, whose message is printable
 *     UTF-8 and begins with "FILE:LINE: KEY.PATH: ", the line counted from 1. KEY.PATH is
 *     "top level" where no key is meant.
 */
Configuration *configuration_parse(const ConfigurationSource *sources, size_t n_sources,
                                   GError **error);

Configuration *configuration_ref(Configuration *config);
/** configuration_unref: NULL is fine. Returns: NULL. */
Configuration *configuration_unref(Configuration *config);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Configuration, configuration_unref)

/** configuration_find_type: (nullable) (transfer none): the configured type of that exact name. */
const ServiceType *configuration_find_type(const Configuration *config, const char *name);

/** configuration_chunk_size: ports that an unknown type of this name gets: the first matching
 * rule's. */
guint32 configuration_chunk_size(const Configuration *config, const char *name);

/**
 * configuration_to_json: the whole effective configuration, defaults filled in, as pretty-printed
 * strict JSON that configuration_parse() reads back to the same value. (transfer full)
 */
char *configuration_to_json(const Configuration *config);
