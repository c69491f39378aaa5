/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>

#include "core/configuration.h"
#include "core/registry.h"
#include "probe/socket-table.h"
#include "util/deadline.h"

/*
 * The one place where a lease is granted, changed and ended. Ties registry, probes and store
 * together in the order that keeps the promises: validate, probe, journal, commit, tell.
 * Everything runs on the main loop; nothing blocks longer than a bind, a write or a socket dump.
 */
typedef struct Manager Manager;
typedef struct ManagerJob ManagerJob;

typedef enum ManagerState {
    MANAGER_RECOVERING,
    MANAGER_RUNNING,
    MANAGER_DEGRADED,
} ManagerState;

/** ConflictInfo: a candidate that the kernel refused. */
typedef struct ConflictInfo {
    guint16 port;
    Protocol protocol;
    const char *service_type;
    int error;           /* errno of the refusal */
    const char *address; /* of the holder, NULL = not known */
    const char *unit;    /* of the holder, NULL = not known */
    gboolean has_uid;
    uid_t uid;    /* of the holder */
    uid_t wanted; /* by whom the port was wanted */
} ConflictInfo;

/**
 * ManagerListener: what the outside is told. Any member may be NULL. Leases are borrowed for the
 * call; a released lease is already out of the registry. Callbacks must not call back into the
 * manager with a change.
 */
typedef struct ManagerListener {
    void (*allocated)(const Lease *lease, guint attempts, const GArray *conflicts, void *data);
    /* @stale: nobody asked for the release: StaleReleased goes out beside PortReleased */
    void (*released)(const Lease *lease, Reason reason, gboolean stale, void *data);
    void (*conflict)(const ConflictInfo *conflict, void *data);
    void (*health_changed)(const Lease *lease, Health before, const char *why, void *data);
    void (*service_restarted)(const Lease *lease, const char *unit, guint restarts, void *data);
    void (*recovery_started)(const char *trigger, void *data);
    void (*recovery_step)(const char *step, const char *result, GVariant *details, void *data);
    void (*recovery_finished)(gboolean ok, GVariant *summary, void *data);
    /* State or StateReason is another; leases came or went is told by the above */
    void (*state_changed)(void *data);
    /* the configuration was replaced: ServiceTypes and ConfigFiles are others */
    void (*configuration_changed)(void *data);
} ManagerListener;

/** ConfigurationLoader: reads the configuration anew. (transfer full), NULL with @error. */
typedef Configuration *(*ConfigurationLoader)(void *data, GError **error);

/** HeldSocket: a descriptor that the service manager kept. */
typedef struct HeldSocket {
    int fd;     /* owned, -1 once it was taken */
    char *name; /* the name under which it was kept */
} HeldSocket;

typedef struct ManagerOptions {
    Configuration *config;    /* referenced */
    ConfigurationLoader load; /* for manager_reload() */
    void *load_data;
    const char *state_dir;
    guint compact_bytes;   /* see StoreOptions, 0 = the default */
    GArray *held;          /* of HeldSocket (nullable): taken over one by one at the start */
    GMainContext *context; /* NULL: the default one; must be the thread's default while it runs */
    void (*became_idle)(void *data); /* nullable: the last lease has ended */
    void *became_idle_data;
} ManagerOptions;

/**
 * manager_new: opens the state folder and takes its lock. Nothing is granted before
 * manager_start().
 * Returns: NULL with @error in G_FILE_ERROR; G_FILE_ERROR_AGAIN when another daemon has the lock.
 */
Manager *manager_new(const ManagerOptions *options, GError **error);
/** manager_free: cancels all jobs, waits for what is on its way to the disk. Returns: NULL. */
Manager *manager_free(Manager *manager);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Manager, manager_free)

/**
 * manager_start: recovers what was recorded (layer 3), then serves. Blocks on the disk and on one
 * socket dump. A state that cannot be written leaves the daemon degraded, it does not end it.
 */
void manager_start(Manager *manager);

/** manager_set_listener: @listener is borrowed for the life of the manager; NULL undoes it. */
void manager_set_listener(Manager *manager, const ManagerListener *listener, void *data);

/** AllocateOptions: how hard to try, and in what form the answer is wanted. */
typedef struct AllocateOptions {
    gint retries;             /* rounds after the first, -1 = as configured */
    gboolean want_socket;     /* AllocateSocket: keep the bound socket for the caller */
    gboolean any_health_port; /* health_url may name another loopback address or port */
} AllocateOptions;

/** AllocateResult: borrowed for the callback. */
typedef struct AllocateResult {
    Outcome outcome;
    const GError *error; /* set with every outcome but OUTCOME_OK */
    GPtrArray *leases;   /* of Lease *, ascending ports; empty on refusal */
    gboolean reused;
    guint attempts;
    const GArray *conflicts; /* of guint16, distinct, in order of refusal; never NULL */
    gboolean hold_refused;   /* granted, but without the hold asked for: no descriptor was left for
                              * it, or the port is udp's or handed over as a socket */
    int *socket; /* want_socket: a descriptor the callee may steal (fd_steal), else -1 */
} AllocateResult;

typedef void (*AllocateDone)(const AllocateResult *result, void *data);

/**
 * manager_allocate: grants ports.
 * @request: copied where it has to outlive the call.
 * @done: called exactly once unless the job is cancelled; on the usual path before this returns.
 *     May release what was granted, and start or cancel other jobs.
 *
 * Returns: (transfer none) (nullable): a handle while the request waits (backoff, disk, another
 *     identical request); NULL when @done was already called.
 */
ManagerJob *manager_allocate(Manager *manager, const LeaseRequest *request,
                             const AllocateOptions *options, AllocateDone done, void *data);

/** manager_job_cancel: the caller has gone: nothing will be granted, @done is not called. */
void manager_job_cancel(ManagerJob *job);

typedef void (*ReleaseDone)(const GError *error, void *data);

/**
 * manager_release: ends @leases (of Lease *, all living) for @reason, all or none.
 * @done: (nullable): once, perhaps before this returns; @error in OUTCOME_ERROR
 *     (OUTCOME_STATE_UNAVAILABLE) when it could not be recorded and nothing was released.
 */
void manager_release(Manager *manager, GPtrArray *leases, Reason reason, ReleaseDone done,
                     void *data);

/**
 * manager_undo_grant: from within AllocateDone, where the answer cannot reach the caller: nobody
 * would know of @leases (borrowed), which are released. Tried again where the disk refuses. Does
 * not block.
 */
void manager_undo_grant(Manager *manager, GPtrArray *leases);

/** manager_client_gone: a connection ended: its LIFETIME_CLIENT leases end, its jobs are the bus's.
 */
void manager_client_gone(Manager *manager, const char *client);

/**
 * manager_client_lost: a connection is lost and its client had no part in it: the broker went away,
 * or this daemon is leaving. Its LIFETIME_CLIENT leases get a grace of 30 s, in which an Allocate
 * of the same uid, service type and port (or instance) claims them for its own connection; those
 * that nobody claims end, unless their port is served by their owner.
 */
void manager_client_lost(Manager *manager, const char *client);

/** manager_renew: restarts the ttl. Returns: OUTCOME_OK, or a refusal with @error. */
Outcome manager_renew(Manager *manager, Lease *lease, gint64 *ret_expires_usec, GError **error);

/** CleanupFinding: a lease that a cleanup found stale. */
typedef struct CleanupFinding {
    Id lease;
    guint16 port;
    Reason reason;
} CleanupFinding;

/** CleanupDone: @findings: GArray of CleanupFinding, ascending ports, may be empty; borrowed; with
 * @error those that ended all the same. */
typedef void (*CleanupDone)(const GArray *findings, const GError *error, void *data);

/**
 * manager_cleanup: looks at all leases now and ends those that nobody uses, that are not young and
 * have no living process, without waiting for more failures.
 * @uid: the leases of that uid only; (uid_t)-1 = everybody's.
 * @dry_run: says what would end.
 * @done: once, from the main loop, after the sweep that may be under way; @error in OUTCOME_ERROR:
 *     OUTCOME_BUSY when the machine could not be looked at, and nothing ended;
 *     OUTCOME_STATE_UNAVAILABLE when not all ends could be recorded.
 */
void manager_cleanup(Manager *manager, uid_t uid, gboolean dry_run, CleanupDone done, void *data);

/** manager_health_reason: (nullable) (transfer none): health_reason() of health.h. */
const char *manager_health_reason(const Manager *manager, const Lease *lease);
/** manager_health_checked_usec: CLOCK_REALTIME of the last look at all leases, 0 = none yet. */
gint64 manager_health_checked_usec(const Manager *manager);

typedef enum UnitState {
    UNIT_UNKNOWN,
    UNIT_RUNNING,
    UNIT_STARTING, /* activating, reloading, or waiting for its automatic restart */
    UNIT_FAILED,   /* it ended, and not as it should */
    UNIT_STOPPED,  /* somebody wanted it to, or it was done */
} UnitState;

/**
 * UnitSight: @active_since_usec: CLOCK_MONOTONIC of its last start, 0 = not known; with
 * UNIT_RUNNING.
 */
typedef struct UnitSight {
    UnitState state;
    gint64 active_since_usec;
} UnitSight;

typedef void (*UnitDone)(UnitSight sight, const GError *error, void *data);

/**
 * ManagerServices: the service manager, as the bus reaches it. @unit was read from a cgroup, never
 * sent by a client; @uid is the lease's, whose user manager is asked where the unit is a user's.
 * Each calls @done exactly once, later, and never from within the call.
 */
typedef struct ManagerServices {
    void (*query)(const char *unit, uid_t uid, UnitDone done, void *done_data, void *data);
    void (*restart)(const char *unit, uid_t uid, UnitDone done, void *done_data, void *data);
} ManagerServices;

/** manager_set_services: @services is borrowed; NULL: there is no service manager to ask. */
void manager_set_services(Manager *manager, const ManagerServices *services, void *data);

/** manager_reload: reads the configuration anew through the function given at manager_new(). */
gboolean manager_reload(Manager *manager, GError **error);

/**
 * manager_announce: tells the recovery at start. For the bus, once, when it can carry signals.
 */
void manager_announce(Manager *manager);

/**
 * RecoverDone: @ok: no step failed; @steps: a(ssa{sv}) step, result, details; borrowed. With @error
 * in OUTCOME_ERROR (OUTCOME_BUSY) the manager is being freed, and @steps is NULL.
 */
typedef void (*RecoverDone)(gboolean ok, GVariant *steps, const GError *error, void *data);

/**
 * manager_recover: runs the recovery steps (layer 3) beside everything else and tells them: the
 * files on disk are read and held against memory, the configuration is read anew without taking
 * effect, orphans and duplicate singletons end. One after the other. Blocks for the configuration
 * files only; but where the state could not be read at start it is read now, as at start, and
 * @done is called from within.
 * @dry_run: only says what would be done, and tells nothing.
 * @done: once, from the main loop or from within manager_free().
 */
void manager_recover(Manager *manager, gboolean dry_run, RecoverDone done, void *data);

/**
 * manager_withdraw: a cleanup or a recovery that was asked for with @data and waits for its turn is
 * not made, and its done is not called. Returns: FALSE where none waits; one that is under way goes
 * on and calls its done.
 */
gboolean manager_withdraw(Manager *manager, const void *data);

/** manager_recovery_report: (transfer full): a{sv} of the last recovery that was not a dry run. */
GVariant *manager_recovery_report(const Manager *manager);

const Registry *manager_registry(const Manager *manager);
Registry *manager_registry_mutable(Manager *manager); /* for suggest; no changes of leases */
const Configuration *manager_configuration(const Manager *manager);
ManagerState manager_state(const Manager *manager, const char **ret_reason);
const char *manager_state_to_string(ManagerState state);

/** manager_is_idle: no lease, no job, nothing on its way to the disk: the daemon may exit. */
gboolean manager_is_idle(const Manager *manager);

/** manager_metrics: (transfer floating): a{st}, counters and gauges. */
GVariant *manager_metrics(const Manager *manager);
