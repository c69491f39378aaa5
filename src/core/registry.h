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
 *
 * Lookups, grants and ends of leases are O(1); the search for a candidate is a scan of a bitmap, at
 * most 1,024 words. A port is leased for each protocol by itself, whatever the address; a lease on
 * both protocols takes both.
 */
typedef struct Registry Registry;
typedef struct Reservation Reservation;

/**
 * LeaseRequest: what a caller asks for. All strings borrowed, NULL = not given. Names are checked
 * here; address, unit, client and health_url are taken as they are.
 */
typedef struct LeaseRequest {
    const char *service_type;
    uid_t uid;
    gboolean privileged; /* may have ports below 1024 */
    guint16 port;        /* preferred, 0 = none */
    gboolean strict;     /* that port or nothing */
    PortRange range;     /* instead of the type's, {0, 0} = the type's */
    Protocol protocol;   /* 0 = the type's; tcp where it has none */
    guint count;         /* consecutive ports, 1 for a plain request, more only without instance */
    const char *address;
    const char *instance; /* no meaning for a singleton type */
    const char *label;
    Lifetime lifetime;
    Hold hold;
    ProcessIdentity process;
    const char *unit;
    const char *client; /* kept in the lease for LIFETIME_CLIENT only, which needs it */
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
/** registry_free: no reservation may be open. NULL is fine. Returns: NULL. */
Registry *registry_free(Registry *registry);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Registry, registry_free)

/**
 * registry_set_configuration: leases and open reservations stay as they are; only later requests
 * see the new one. A chunk whose type is configured now, or that overlaps a configured range, is
 * given up (its leases are not): registry_insert_chunk() would refuse it just so after a restart.
 */
void registry_set_configuration(Registry *registry, Configuration *config);

/**
 * registry_begin: validates @request and opens a reservation without a candidate.
 * @now_usec: CLOCK_MONOTONIC, for cooldowns.
 * @ret_reused: (transfer full): the living lease, where the singleton rule or the same uid, service
 *     type and instance hand the same lease back, whatever else is asked for; *@ret_reservation is
 *     NULL then, and *@ret_reused is NULL otherwise. A quarantined lease is not handed back.
 *
 * Refusals, checked in this order; @error is set in OUTCOME_ERROR and nothing has changed:
 *
 * - OUTCOME_INVALID_ARGUMENT: a name, range or count that is none; strict without a port or with
 *   one outside the range; a block with an instance, or of a singleton; a lifetime without its
 *   process or client.
 * - OUTCOME_UNKNOWN_SERVICE_TYPE: not configured, and auto-allocation is off; a chunk from the time
 *   when it was on doesn't count.
 * - OUTCOME_BUSY: an identical singleton or instance request is between begin and commit; ask again
 *   when it is done.
 * - OUTCOME_NOT_AUTHORIZED: a port or range below 1024 asked for without privilege, or a type with
 *   no others. What a type's range has below 1024 is otherwise passed over for the unprivileged.
 * - OUTCOME_QUOTA_EXCEEDED: limits of leases (with those in flight), block size, or types with a
 *   chunk of their own. Only the block size holds for uid 0.
 * - OUTCOME_PORT_IN_USE: strict, and one of the ports is leased; the message names the holder. A
 *   port that is only reserved is not refused here: the round has no candidate then.
 * - OUTCOME_NO_PORT_AVAILABLE: a chunk cannot be found for an unknown type.
 */
Outcome registry_begin(Registry *registry, const LeaseRequest *request, gint64 now_usec,
                       Reservation **ret_reservation, Lease **ret_reused, GError **error);

/**
 * reservation_next: gives up the present candidate and reserves the next one.
 *
 * Order: the requested port, wherever it is; the port this uid, type and instance had last (inside
 * an explicit range only); the preferred ports inside the range; the range ascending. The first of
 * this order that is free now, not on cooldown and not offered before in the round is next; when
 * there is none, the first that is free and not offered before, cooldown or not.
 * A strict request has its port as the only candidate, cooldown or not. For a block the candidate
 * is its first port, and blocks with a port that was refused in this round are out of it. No
 * candidate is offered twice in a round.
 *
 * @now_usec: CLOCK_MONOTONIC.
 * Returns: the port, or 0 when the round is over; reservation_restart() starts another.
 */
guint16 reservation_next(Reservation *reservation, gint64 now_usec);
/** reservation_restart: gives up the present candidate, if any, and begins a new round. */
void reservation_restart(Reservation *reservation);

/**
 * reservation_yield: other requests for the same lease need not wait for this one until
 * reservation_resume(): it pauses, or has long to search.
 * Returns: FALSE where it made nobody wait.
 */
gboolean reservation_yield(Reservation *reservation);

/**
 * reservation_resume: before the grant of one that may have yielded.
 * Returns: FALSE where it must not be granted, because another request has been granted the lease
 *     (reservation_reusable()) or is just being granted it.
 */
gboolean reservation_resume(Reservation *reservation);

/**
 * reservation_reusable: (nullable) (transfer none): the lease that was granted to another request
 * since reservation_yield(), which is the answer to this one, too. It may be ending.
 */
Lease *reservation_reusable(const Reservation *reservation);

/**
 * reservation_conflict: the kernel refused @port, one of the candidate's ports. Puts it on
 * cooldown, for the request's protocols, until @now_usec (CLOCK_MONOTONIC) plus the configured
 * time, and remembers it among the conflicts. Without conflict recovery in the configuration
 * nothing cools down. The candidate stays reserved until the next one, restart or the end.
 */
void reservation_conflict(Reservation *reservation, guint16 port, gint64 now_usec);

/**
 * reservation_conflicts: distinct guint16 ports in the order in which they were refused, all rounds
 * together; never NULL. (transfer none)
 */
const GArray *reservation_conflicts(const Reservation *reservation);

/** reservation_attempts: the candidates offered so far, all rounds together. */
guint reservation_attempts(const Reservation *reservation);

/** reservation_protocol, reservation_range: the request's, else the type's or its chunk's. */
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
 * and consumes the reservation. Cannot fail. Appends one CHANGE_GRANTED each to @changes
 * (nullable).
 *
 * Also makes a new chunk known (reservation_new_chunk() told which), remembers the port of a lease
 * with an instance (see StickyPort), and ends cooldowns of the granted ports.
 */
void registry_commit(Registry *registry, Reservation *reservation, GPtrArray *leases,
                     GArray *changes);

/** reservation_free: gives everything up, in whatever state. NULL is fine. Returns: NULL. */
Reservation *reservation_free(Reservation *reservation);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Reservation, reservation_free)

/**
 * registry_insert: enters a lease that was recovered from disk. Charges its uid but asks for no
 * quota. Takes a reference. Remembers the port of a lease with an instance, as a grant does.
 * Returns: FALSE, and nothing has changed, when its id or its port and protocol are taken, or when
 *     id, port, protocol or service type are none.
 */
gboolean registry_insert(Registry *registry, Lease *lease);

/**
 * registry_remove: ends a living lease of this registry; appends one CHANGE_RELEASED to @changes
 * (nullable). Drops the registry's reference: without @changes or one of the caller's the lease is
 * gone.
 */
void registry_remove(Registry *registry, Lease *lease, Reason reason, GArray *changes);

/* Lookups are O(1); what they return is borrowed from the registry, NULL = none. */
Lease *registry_find(const Registry *registry, const char *lease_id);
/** registry_find_port: the lease on @port that shares a protocol with @protocol. */
Lease *registry_find_port(const Registry *registry, guint16 port, Protocol protocol);
/**
 * First leases of lists that are walked with lease->by_uid.next and so on, the newest first. Take
 * the next before the present one is removed.
 */
Lease *registry_first_of_uid(const Registry *registry, uid_t uid);
Lease *registry_first_of_type(const Registry *registry, const char *service_type);
Lease *registry_first_of_pid(const Registry *registry, pid_t pid);
Lease *registry_first_of_client(const Registry *registry, const char *client);
/** registry_find_instance: the newest, where there are several: only recovered ones can be. */
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
 * Leased and reserved ports and those on cooldown are left out, for all uids but 0 those below 1024
 * too. For a type without a chunk: from where its chunk would be. Quotas are not asked.
 * @now_usec: CLOCK_MONOTONIC.
 *
 * OUTCOME_INVALID_ARGUMENT, OUTCOME_UNKNOWN_SERVICE_TYPE, OUTCOME_NO_PORT_AVAILABLE (no room for a
 * chunk); a type whose ports are all in use is no error.
 * Returns: (transfer full): GArray of guint16, or NULL with @error in OUTCOME_ERROR.
 */
GArray *registry_suggest(Registry *registry, const char *service_type, uid_t uid, guint count,
                         gint64 now_usec, GError **error);

/* Changes of living leases; each appends one CHANGE_UPDATED to @changes (nullable) unless nothing
 * is different. */

/**
 * registry_set_health: @seen_usec: when the lease was seen in use just now (CLOCK_REALTIME), 0 = it
 * was not. A later sight of the same health and failures is kept, but it is no change: sweeps would
 * make a record for each lease each time.
 */
void registry_set_health(Registry *registry, Lease *lease, Health health, guint32 failures,
                         gint64 seen_usec, GArray *changes);
/** registry_set_process: all zero = no process. @unit: NULL = none. */
void registry_set_process(Registry *registry, Lease *lease, ProcessIdentity process,
                          const char *unit, GArray *changes);
void registry_set_expiry(Registry *registry, Lease *lease, gint64 expires_usec, GArray *changes);
/**
 * registry_set_client: binds a LIFETIME_CLIENT lease to another connection, or to none (NULL). Not
 * stored, so it is no change.
 */
void registry_set_client(Registry *registry, Lease *lease, const char *client);

/*
 * What is remembered beyond leases: the port that a uid, type and instance had last, and the chunk
 * of ports of an auto-allocated service type.
 */

/**
 * StickyPort: set when a lease with an instance is granted or inserted, so it follows from the
 * record of the grant and needs none of its own: whoever replays records sets it for each new lease
 * with an instance, also for one that a later record ends. Each uid has at most
 * limit_sticky_ports_per_user; the one that was set first goes first.
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

/**
 * registry_insert_sticky: recovered from disk, before the leases, in the order of
 * registry_foreach_sticky(): newer than all that the uid has, and in place of an older one.
 * Returns: FALSE when port, service type or instance are none, or nothing may be remembered.
 */
gboolean registry_insert_sticky(Registry *registry, const StickyPort *sticky);

/**
 * registry_insert_chunk: recovered from disk; charged to its uid, quota or not. Not confined to the
 * auto_allocation range, which may have been another one then.
 * Returns: FALSE when type or range are none, the range begins below 1024 or overlaps another chunk
 *     or a configured range, or the type has a chunk or is configured.
 */
gboolean registry_insert_chunk(Registry *registry, const Chunk *chunk);

/**
 * registry_foreach_sticky: the oldest of each uid first; registry_foreach_chunk: in no particular
 * order. No changes meanwhile; strings live as long as the entry.
 */
void registry_foreach_sticky(const Registry *registry,
                             void (*func)(const StickyPort *sticky, void *data), void *data);
void registry_foreach_chunk(const Registry *registry, void (*func)(const Chunk *chunk, void *data),
                            void *data);

/**
 * reservation_new_chunk: the chunk that the commit will make known, for the journal. Requests for
 * one new type share a chunk; the first commit makes it known and pays for it. Returns: FALSE where
 * the service type needs none, or has it by now.
 */
gboolean reservation_new_chunk(const Reservation *reservation, Chunk *ret_chunk);
