/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "probe/process.h"
#include "recovery/health-rules.h"
#include "recovery/health.h"

/* What the parts of layer 2 share: sweeps, deaths of processes, HTTP checks. */
struct HealthMonitor {
    Manager *manager; /* borrowed: it owns the monitor */
    gboolean was_enabled;
    ProcessWatch *processes; /* owned, NULL until the first process */
    GHashTable *notes;       /* Lease * -> HealthNote *, for leases with anything to note */
    Deadline *next_sweep;
    struct Sweep *sweep;      /* owned, the one under way */
    GQueue cleanups;          /* of Sweep, owned: asked for, and wait for the one under way */
    GHashTable *restarts;     /* unit (owned) -> gint64 * CLOCK_MONOTONIC of its next restart */
    GQueue unit_calls;        /* of UnitCall: the service manager has not answered yet */
    SocketTable *picture;     /* owned: of deaths.c, shared by deaths that come together */
    gint64 picture_usec;      /* CLOCK_MONOTONIC before it was taken */
    guint graces;             /* notes with a grace */
    gboolean watch_refused;   /* the kernel watches no more processes, and that was said */
    guint mass_failures;      /* sweeps in a row that were doubted as a whole */
    gint64 checked_usec;      /* CLOCK_REALTIME of the last finished sweep */
    struct HttpChecker *http; /* owned */
};

/** HealthNote: what is known of one lease beyond what the registry keeps. */
typedef struct HealthNote {
    HealthMonitor *monitor;
    Lease *lease;      /* borrowed: the note goes before it */
    const char *why;   /* static text */
    gboolean watched;  /* its pid is in the process watch */
    Deadline *grace;   /* its process has ended, and this is its grace */
    gboolean asking;   /* the service manager is being asked about its unit */
    gint64 died_usec;  /* CLOCK_MONOTONIC */
    gboolean deciding; /* the service manager is being asked whether its unit is to be restarted */
    Reason reason;     /* with deciding: of its end otherwise */
    guint restarts;
    gint64 restarted_usec;     /* CLOCK_MONOTONIC */
    gint64 restart_again_usec; /* CLOCK_MONOTONIC */
    gint64 young_since_usec;   /* CLOCK_MONOTONIC; of a lease whose grant lies in the future */
    Fact http_healthy;         /* the verdict that no sweep has counted yet, UNKNOWN = none */
    const char *http_why;      /* interned; of FACT_NO */
    gboolean http_ill;         /* its last answer was a bad one */
    const char *http_unasked;  /* interned; why its check is not made, NULL = it is */
    gboolean http_answered;    /* it has had a good one */
    gboolean http_foreign;     /* somebody else listens where the last check would have asked */
    guint32 socket_inode;      /* of the socket that was handed over, 0 = none */
    Deadline *http_delay;      /* a check is due; NULL = none */
    struct HttpCheck *http;    /* under way, NULL = none */
} HealthNote;

/** health_note: the note of @lease, made where there is none. */
HealthNote *health_note(HealthMonitor *monitor, Lease *lease);

/** health_set: registers a sight and tells when the health is another. @why: static, NULL = well.
 */
void health_set(HealthMonitor *monitor, Lease *lease, Health health, guint32 failures,
                gint64 seen_usec, const char *why);

/** health_follow: does what the lease asks for now that it is stale. The lease may be gone after.
 */
void health_follow(HealthMonitor *monitor, Lease *lease, Reason reason);

/**
 * health_is_young: that it is not in use says nothing yet: within startup_grace_msec of its grant
 * and never seen, or of its last restart by us, or still to be claimed by its client.
 */
gboolean health_is_young(HealthMonitor *monitor, Lease *lease);

/** health_arm: has the next sweep come, unless one is due or under way or there is nothing to see.
 */
void health_arm(HealthMonitor *monitor);

/** health_forgive_restarts: @lease is well, so its restarts count from the beginning again. */
void health_forgive_restarts(HealthMonitor *monitor, Lease *lease);

/** health_http_start: asks the lease's health_url; the verdict lands in the note. */
void health_http_start(HealthMonitor *monitor, Lease *lease);
void health_http_cancel(HealthNote *note);

/** health_http_init, health_http_free: of the monitor. Its descriptor is taken at once: see
 * http_checker_new(). */
void health_http_init(HealthMonitor *monitor);
void health_http_free(HealthMonitor *monitor);
