/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>
#include <sys/types.h>

#include "core/configuration.h"
#include "core/lease.h"
#include "core/outcome.h"
#include "core/port-set.h"

/*
 * Who holds which port. Pure: time and ids are arguments, facts about the machine come from the
 * caller, and each change is handed out as a record that the caller turns into journal entries,
 * signals and replies.
 *
 * A grant has two halves, because the kernel must be asked and the disk be written in between:
 *
 *     registry_begin -> reservation_next -> (probe) -> reservation_conflict, again, or
 *                                           (journal) -> registry_commit
 *
 * Between the halves the candidate is reserved: nobody else is offered it, and nobody sees it. A
 * Reservation that is freed without a commit leaves nothing behind.
 */
typedef struct Registry Registry;
typedef struct Reservation Reservation;

/** LeaseRequest: what a caller asks for. All strings borrowed, NULL = not given. */
typedef struct LeaseRequest {
    const char *service_type;
    uid_t uid;
    gboolean privileged; /* may have ports below 1024 */
    guint16 port;        /* preferred, 0 = none */
    gboolean strict;     /* that port or nothing */
    PortRange range;     /* instead of the type's, {0, 0} = the type's */
    Protocol protocol;   /* 0 = the type's */
    guint count;         /* consecutive ports, 1 for a plain request */
    const char *address;
    const char *instance;
    const char *label;
    Lifetime lifetime;
    Hold hold;
    ProcessIdentity process;
    const char *unit;
    const char *client;
    guint32 ttl_msec;
    const char *health_url;
    guint32 health_timeout_msec;
    OnUnhealthy on_unhealthy;
} LeaseRequest;

typedef enum ChangeKind {
    CHANGE_GRANTED,
    CHANGE_RELEASED,
    CHANGE_UPDATED, /* a field of a living lease is new */
} ChangeKind;

/** Change: what one call did to one lease. */
typedef struct Change {
    ChangeKind kind;
    Lease *lease;  /* a reference of the change's own */
    Reason reason; /* of CHANGE_RELEASED */
} Change;

/** change_array_new: an empty GArray of Change that drops its references when it is freed. */
GArray *change_array_new(void);

/** registry_new: @config is referenced. */
Registry *registry_new(Configuration *config);
Registry *registry_free(Registry *registry);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Registry, registry_free)

/** registry_set_configuration: leases stay as they are; only later requests see the new one. */
void registry_set_configuration(Registry *registry, Configuration *config);

/**
 * registry_begin: validates @request and opens a reservation without a candidate.
 * @now_usec: CLOCK_MONOTONIC, for cooldowns.
 * @ret_reused: (transfer full): the living lease, where the singleton rule or the same uid, service
 *     type and instance hand the same lease back; *@ret_reservation is NULL then.
 *
 * OUTCOME_BUSY: an identical singleton or instance request is between begin and commit; ask again
 * when it is done. Other refusals: OUTCOME_INVALID_ARGUMENT, OUTCOME_UNKNOWN_SERVICE_TYPE,
 * OUTCOME_NOT_AUTHORIZED (privileged port), OUTCOME_QUOTA_EXCEEDED, OUTCOME_PORT_IN_USE (strict,
 * and the port is leased; the message names the holder), OUTCOME_NO_PORT_AVAILABLE (an
 * auto-allocated chunk cannot be found). On refusal @error is set in OUTCOME_ERROR and nothing has
 * changed.
 */
Outcome registry_begin(Registry *registry, const LeaseRequest *request, gint64 now_usec,
                       Reservation **ret_reservation, Lease **ret_reused, GError **error);

/**
 * reservation_next: gives up the present candidate and reserves the next one.
 *
 * Order: the requested port; the port this uid, type and instance had last; the preferred ports;
 * the range ascending; then those of the same order that were passed over because of a cooldown.
 * A strict request has its port as the only candidate. For a block the candidate is its first port.
 * No port is offered twice in a round.
 *
 * Returns: the port, or 0 when the round is over; reservation_restart() starts another.
 */
guint16 reservation_next(Reservation *reservation, gint64 now_usec);
void reservation_restart(Reservation *reservation);

/**
 * reservation_conflict: the kernel refused @port, one of the candidate's ports. Puts it on cooldown
 * until @now_usec plus the configured time and remembers it among the conflicts.
 */
void reservation_conflict(Reservation *reservation, guint16 port, gint64 now_usec);

/** reservation_conflicts: distinct ports in the order in which they were refused. (transfer none)
 */
const GArray *reservation_conflicts(const Reservation *reservation);

/** reservation_attempts: the candidates offered so far, all rounds together. */
guint reservation_attempts(const Reservation *reservation);

/** reservation_protocol: the request's, or its type's. reservation_range: likewise. */
Protocol reservation_protocol(const Reservation *reservation);
PortRange reservation_range(const Reservation *reservation);

/**
 * reservation_build: the leases as they will be after the commit, for the journal: one for each
 * port of the candidate, ascending.
 * @now_usec: CLOCK_REALTIME.
 * Returns: (transfer full): GPtrArray of Lease *.
 */
GPtrArray *reservation_build(Reservation *reservation, gint64 now_usec);

/**
 * registry_commit: enters @leases, as they came from reservation_build() for the present candidate,
 * and consumes the reservation. Cannot fail. Appends one CHANGE_GRANTED each to @changes.
 */
void registry_commit(Registry *registry, Reservation *reservation, GPtrArray *leases,
                     GArray *changes);

/** reservation_free: gives everything up. NULL is fine. Returns: NULL. */
Reservation *reservation_free(Reservation *reservation);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Reservation, reservation_free)

/**
 * registry_insert: enters a lease that was recovered from disk. Charges its uid but asks for no
 * quota. Returns: FALSE, and nothing has changed, when its id or its port and protocol are taken.
 */
gboolean registry_insert(Registry *registry, Lease *lease);

/** registry_remove: ends a living lease of this registry; appends one CHANGE_RELEASED to @changes.
 */
void registry_remove(Registry *registry, Lease *lease, Reason reason, GArray *changes);

/* Lookups are O(1); what they return is borrowed from the registry, NULL = none. */
Lease *registry_find(const Registry *registry, const char *lease_id);
/** registry_find_port: the lease on @port that shares a protocol with @protocol. */
Lease *registry_find_port(const Registry *registry, guint16 port, Protocol protocol);
/** First leases of lists that are walked with lease->by_uid.next and so on. */
Lease *registry_first_of_uid(const Registry *registry, uid_t uid);
Lease *registry_first_of_type(const Registry *registry, const char *service_type);
Lease *registry_first_of_pid(const Registry *registry, pid_t pid);
Lease *registry_first_of_client(const Registry *registry, const char *client);
Lease *registry_find_instance(const Registry *registry, uid_t uid, const char *service_type,
                              const char *instance);

guint registry_count(const Registry *registry);
guint registry_count_of_uid(const Registry *registry, uid_t uid);

/**
 * registry_next_port: walks all leases in order of port, tcp before udp on one number.
 * @cursor: 0 to start with; kept by the caller, valid across any changes in between.
 * Returns: (nullable) (transfer none): the next lease, NULL at the end. A lease on both protocols
 *     comes once.
 */
Lease *registry_next_port(const Registry *registry, guint32 *cursor);

/**
 * registry_suggest: up to @count ports that would be offered next, best first, grants nothing.
 * Returns: (transfer full): GArray of guint16, or NULL with @error in OUTCOME_ERROR.
 */
GArray *registry_suggest(Registry *registry, const char *service_type, uid_t uid, guint count,
                         gint64 now_usec, GError **error);

/* Changes of living leases; each appends one CHANGE_UPDATED unless nothing is different. */
void registry_set_health(Registry *registry, Lease *lease, Health health, guint32 failures,
                         gint64 seen_usec, GArray *changes);
void registry_set_process(Registry *registry, Lease *lease, ProcessIdentity process,
                          const char *unit, GArray *changes);
void registry_set_expiry(Registry *registry, Lease *lease, gint64 expires_usec, GArray *changes);

/*
 * What is remembered beyond leases: the port that a uid, type and instance had last, and the chunk
 * of ports of an auto-allocated service type.
 */
typedef struct StickyPort {
    uid_t uid;
    const char *service_type; /* borrowed */
    const char *instance;     /* borrowed */
    guint16 port;
} StickyPort;

typedef struct Chunk {
    const char *service_type; /* borrowed */
    PortRange range;
    uid_t uid; /* who asked first, and is charged for it */
} Chunk;

/** registry_insert_sticky, registry_insert_chunk: recovered from disk. FALSE when it does not fit.
 */
gboolean registry_insert_sticky(Registry *registry, const StickyPort *sticky);
gboolean registry_insert_chunk(Registry *registry, const Chunk *chunk);

/** registry_foreach_sticky, registry_foreach_chunk: in no particular order; no changes meanwhile.
 */
void registry_foreach_sticky(const Registry *registry,
                             void (*func)(const StickyPort *sticky, void *data), void *data);
void registry_foreach_chunk(const Registry *registry, void (*func)(const Chunk *chunk, void *data),
                            void *data);

/**
 * reservation_new_chunk: the chunk that the commit will make known, for the journal.
 * Returns: FALSE where the service type needs none.
 */
gboolean reservation_new_chunk(const Reservation *reservation, Chunk *ret_chunk);
