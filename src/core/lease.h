/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>
#include <sys/types.h>

#include "core/names.h"
#include "util/id.h"

/**
 * ProcessIdentity: a process that cannot be mistaken for a later one with the same number.
 * All zero means "no process".
 */
typedef struct ProcessIdentity {
    pid_t pid;
    guint64 start_ticks; /* field 22 of /proc/PID/stat, clock ticks since boot; 0 = not known */
    guint64 pidfd_inode; /* st_ino of the pidfd where the kernel has pidfs (6.9), else 0 */
} ProcessIdentity;

typedef struct Lease Lease;

/** LeaseLink: membership in one of the registry's lists; belongs to the registry alone. */
typedef struct LeaseLink {
    Lease *prev;
    Lease *next;
} LeaseLink;

/**
 * Lease: one granted port. Counted by references; fields above the line are written by whoever made
 * it before it enters the registry, and afterwards only through the registry.
 *
 * Strings may be shared between leases (GRefString), NULL means "not given".
 */
struct Lease {
    Id id;
    guint16 port; /* host byte order, 1..65535 */
    Protocol protocol : 8;
    Lifetime lifetime : 8;
    Hold hold : 8;
    Health health : 8;
    OnUnhealthy on_unhealthy : 8;
    gboolean ever_seen : 1; /* was seen listening at least once */
    gboolean ending : 1;    /* its release is on its way to the disk; not stored */
    uid_t uid;
    guint32 failures;
    guint32 ttl_msec;            /* 0 = does not expire */
    guint32 health_timeout_msec; /* 0 = as configured */
    ProcessIdentity process;
    gint64 created_usec;   /* CLOCK_REALTIME */
    gint64 last_seen_usec; /* CLOCK_REALTIME, 0 = never */
    gint64 expires_usec;   /* CLOCK_REALTIME, 0 = does not expire */
    GRefString *service_type;
    char *instance;
    char *label;
    char *address;    /* NULL = every address, IPv4 and IPv6 */
    GRefString *unit; /* systemd unit of the process or of the caller */
    char *client;     /* connection that a LIFETIME_CLIENT lease ends with; not stored */
    char *health_url;
    /* ---- the registry's own ---- */
    guint references;
    gboolean in_registry;
    LeaseLink by_type;
    LeaseLink by_uid;
    LeaseLink by_pid;
    LeaseLink by_client;
    LeaseLink by_instance;
};

/** lease_new: an empty lease with one reference, all fields zero. */
Lease *lease_new(void);
Lease *lease_ref(Lease *lease);
/** lease_unref: NULL is fine. Returns: NULL. */
Lease *lease_unref(Lease *lease);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Lease, lease_unref)

/** lease_array_new: an empty GPtrArray of Lease * that drops a reference of each when it is freed.
 */
GPtrArray *lease_array_new(void);
