/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "registry-fixture.h"

/*
 * The registry against a naive model of its documentation: plain lists, searched from end to end,
 * nothing counted in advance. Random operations, several reservations interleaved, and after each
 * one both must say the same.
 */

#define SLOTS 6 /* reservations that may be open at once */

typedef struct MLease {
    Lease *real; /* borrowed from the registry */
    char id[ID_LENGTH + 1];
    guint16 port;
    Protocol protocol;
    uid_t uid;
    const char *type;
    const char *instance; /* NULL = none */
    const char *client;
    pid_t pid;
    gboolean quarantined;
} MLease;

typedef struct MSlot {
    Reservation *real; /* NULL = the slot is empty */
    LeaseRequest request;
    Protocol protocol;
    gboolean single;
    const char *instance; /* NULL where it has no meaning */
    PortRange range;
    GArray *order; /* of guint16: every candidate, best first, each once */
    GArray *seen;  /* of guint16: this round's candidates */
    GArray *bad;   /* of guint16: this round's conflicts */
    GArray *all_bad;
    guint16 candidate;
    guint attempts;
    gboolean claims;
    PortRange claim;
} MSlot;

typedef struct MCooldown {
    guint16 port;
    Protocol protocol; /* one of the two */
    gint64 ends_usec;
} MCooldown;

typedef struct Model {
    Registry *real;
    Configuration *configs[3];
    Configuration *config;
    gint64 now_usec;
    GArray *leases;    /* of MLease, oldest first */
    GArray *cooldowns; /* of MCooldown */
    GArray *stickies;  /* of StickyPort, oldest first, static strings */
    GArray *chunks;    /* of Chunk, static strings */
    MSlot slots[SLOTS];
    guint outcomes[_OUTCOME_MAX];
    guint grants, reuses, conflicts, empty_rounds, late_candidates;
} Model;

extern Model model;

#define LEASE_AT(i) (&g_array_index(model.leases, MLease, (i)))
#define CHUNK_AT(i) (&g_array_index(model.chunks, Chunk, (i)))
#define STICKY_AT(i) (&g_array_index(model.stickies, StickyPort, (i)))

/* Few names and few ports, so that everything meets everything. Compared by text. */
extern const char *const model_types[10];
extern const char *const model_instances[3];
extern const char *const model_clients[2];
extern const uid_t model_uids[3];

#define PICK(array) ((array)[g_test_rand_int_range(0, G_N_ELEMENTS(array))])

/* Chance, and sets that are lists. */
gboolean model_chance(guint percent);
gboolean model_same(const char *a, const char *b);
void model_put(GArray *ports, guint port);
const ServiceType *model_find_type(const Configuration *config, const char *name);
guint16 model_random_port(void);

/*
 * What the model says about now. model_next(): the candidate that reservation_next() must offer
 * once the present one is given up. model_begin(): fills @slot, but for the reservation, or sets
 * *@ret_reused; the outcome that registry_begin() must have.
 */
gboolean model_is_taken(guint port, Protocol protocol);
gboolean model_is_cooling(guint port, Protocol protocol);
void model_set_cooldown(guint16 port, Protocol protocol, gint64 ends_usec);
guint16 model_next(const MSlot *slot);
void model_remember(uid_t uid, const char *type, const char *instance, guint16 port);
gboolean model_is_room_for_chunk(guint first, guint last);
const Chunk *model_known_chunk(const char *type);
const MSlot *model_claim_of(const char *type, const uid_t *uid);
PortRange model_would_be_chunk(const char *type);
guint model_leases_of(uid_t uid);
Outcome model_begin(const LeaseRequest *request, MSlot *slot, const MLease **ret_reused);

/* model-compare.c: fails the test where registry and model differ. */
void model_compare(void);
