/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "recovery/manager.h"
#include "recovery/hold.h"
#include "store/store.h"

/* What the layers share of the manager; nothing outside of recovery/ includes this. */
struct Manager {
    GMainContext *context; /* owned */
    Configuration *config; /* owned */
    ConfigurationLoader load;
    void *load_data;
    Registry *registry; /* owned */
    Store *store;       /* owned, NULL once closed */
    DeadlineQueue *deadlines;
    const ManagerListener *listener; /* borrowed, NULL = none */
    void *listener_data;

    HoldTable *holds;                /* owned */
    struct HealthMonitor *health;    /* owned */
    const ManagerServices *services; /* borrowed, NULL = none */
    void *services_data;
    GArray *passed; /* of HeldSocket: from the service manager, until the start; NULL after */

    void (*became_idle)(void *data);
    void *became_idle_data;

    ManagerState state;
    char *state_reason; /* owned, "" while all is well */
    gboolean recovering;
    struct RecoveryReport *report; /* owned: the last recovery, NULL before the first */
    char *trouble;                 /* owned: what a person has to look at, NULL = nothing */

    GQueue jobs;             /* of ManagerJob, all that wait */
    GQueue parked;           /* of ManagerJob, those that wait for another job's end */
    GQueue letting;          /* of Letting: releases that wait for the service manager */
    guint releases_on_disk;  /* releases that wait for a sync, or to be told of it */
    guint grants_on_disk;    /* jobs that do */
    GHashTable *unrecorded;  /* lease id -> PendingEnd *, owned: ends that the disk refused */
    GQueue due_again;        /* of PendingEnd, owned: the same once the disk is back */
    Deadline *retry_ends;    /* of due_again; NULL = none */
    GHashTable *expiries;    /* Lease * -> Expiry *, see expiry.c */
    GHashTable *claims;      /* Lease * -> Claim *, see claims.c */
    gint64 claim_grace_usec; /* CLAIM_GRACE_USEC but in tests */
    GArray *untold;          /* of ConflictInfo without holder, strings owned: told in a moment */
    Deadline *telling;       /* of untold; NULL = nothing to tell */
    guint failed_starts;     /* in a row that did not get through recovery, before this one */
    guint startup_retry_msec;
    struct Rerun *rerun;     /* the recovery on request that is under way, NULL = none */
    GQueue reruns;           /* of Rerun: those that wait for it */
    Deadline *startup_retry; /* the state could not be read, another attempt is due; NULL = none */

    struct Searches *searches; /* owned */
    struct Ration *tellings;   /* owned: conflicts that may be told */
    struct Ration *looks;      /* owned: microseconds for looks at who holds a port */
};

#define MANAGER_TELL(manager, member, ...)                                      \
    do {                                                                        \
        if ((manager)->listener && (manager)->listener->member)                 \
            (manager)->listener->member(__VA_ARGS__, (manager)->listener_data); \
    } while (0)

/** manager_record: writes the present contents of a living lease, which must not be ending. */
gboolean manager_record(Manager *manager, Lease *lease, GError **error);

/** manager_arm_granted: commits are in: arms what the leases of @changes need. */
void manager_arm_granted(Manager *manager, const GArray *changes);

/** manager_tell_granted: logs and tells @changes; leases that ended meanwhile are left out. */
void manager_tell_granted(Manager *manager, const GArray *changes, guint attempts,
                          const GArray *conflicts);

/** conflicts_init, conflicts_deinit: what is not told yet is logged at the end. */
void conflicts_init(Manager *manager);
void conflicts_deinit(Manager *manager);

/** conflicts_tell: tells what waits for it now: before the end of a lease that met them. */
void conflicts_tell(Manager *manager);

/** manager_tell_released: logs, counts and tells the ends in @changes. */
void manager_tell_released(Manager *manager, const GArray *changes);

/** manager_open_journal: store_start() with the registry as its source. */
gboolean manager_open_journal(Manager *manager, const Id *boot_id, GError **error);

/** manager_end: releases one lease that nobody asked to release; retried when the disk refuses. */
void manager_end(Manager *manager, Lease *lease, Reason reason);

/** manager_wake_parked: something ended: requests that waited for it are tried anew. */
void manager_wake_parked(Manager *manager);

/** manager_jobs_cancel_all: for the end of the manager. */
void manager_jobs_cancel_all(Manager *manager);

/** manager_update_state: works State and StateReason out anew and tells a change. */
void manager_update_state(Manager *manager);
