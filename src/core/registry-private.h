/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>

#include "core/charges.h"
#include "core/chunks.h"
#include "core/cooldowns.h"
#include "core/lease-index.h"
#include "core/registry.h"
#include "core/stickies.h"

/* What registry.c, registry-begin.c and reservation.c share; nobody else includes it. */

#define N_PROTOCOLS 2 /* index 0 is tcp, 1 is udp */

/* The indices of the protocols that @protocol is made of. */
#define FOREACH_PROTOCOL(i, protocol)       \
    for (guint i = 0; i < N_PROTOCOLS; i++) \
        if ((guint)(protocol) & (1u << i))

/*
 * The big arrays come last and are allocated as zero pages: those of ports that nobody asks for are
 * never touched and cost no memory.
 */
struct Registry {
    Configuration *config;
    GHashTable *by_id; /* set of Lease *, each with a reference */
    LeaseIndex by_key[_LEASE_KEY_MAX];
    Charges *charges;
    Stickies *stickies;
    Chunks *chunks;
    GHashTable *in_flight; /* set of Reservation *, borrowed: those that make others wait */
    guint n_reservations;
    PortSet taken[N_PROTOCOLS]; /* leased, or the candidate of a reservation */
    Lease *by_port[N_PROTOCOLS][65536];
    Cooldowns cooldowns[N_PROTOCOLS];
};

/* Trail: what a reservation has been through; made when its first candidate was no good. */
typedef struct Trail {
    PortSet offered;    /* first ports of this round's candidates */
    PortSet refused;    /* this round's conflicts */
    PortSet conflicted; /* all rounds' */
} Trail;

struct Reservation {
    Registry *registry;
    Configuration *config;   /* a reference: keeps @type */
    const ServiceType *type; /* NULL = auto-allocated */
    ChunkClaim *claim;       /* NULL = the commit makes no chunk known */
    Lease *model;            /* what its leases will be like, without id, port and times */
    gboolean single;
    gboolean in_flight; /* others for the same lease wait for it */
    gboolean strict;
    guint16 requested; /* 0 = none */
    guint16 sticky;    /* 0 = none */
    PortRange range;   /* as asked or as the type has it */
    PortRange usable;  /* what of it this caller may have; may be unset */
    guint count;
    guint16 candidate; /* 0 = none; its ports are marked taken */
    guint attempts;
    GArray *conflicts; /* of guint16 */
    Trail *trail;      /* may be NULL */
};

/* registry.c */
void registry_enter(Registry *registry, Lease *lease);
void registry_mark(Registry *registry, Protocol protocol, guint16 first, guint count);
void registry_unmark(Registry *registry, Protocol protocol, guint16 first, guint count);
void registry_purge_cooldowns(Registry *registry, gint64 now_usec);
void registry_remember(Registry *registry, const Lease *lease);
void change_append(GArray *changes, ChangeKind kind, Lease *lease, Reason reason);

/* registry-begin.c */
/* The lease that a request like @like is answered with (nullable) (transfer none). */
Lease *registry_find_reusable(const Registry *registry, const Reservation *like);

/* reservation.c */
/* The place of those who make others for the same lease wait. */
void reservation_take_place(Reservation *reservation);
/* Sets of tcp and udp that a port must not be in; @sets has room for 2 * N_PROTOCOLS. */
size_t registry_busy_sets(const Registry *registry, Protocol protocol, gboolean with_cooldowns,
                          const PortSet **sets);
guint reservation_hash(gconstpointer reservation);
gboolean reservation_equal(gconstpointer a, gconstpointer b);
