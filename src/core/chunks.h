/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>
#include <sys/types.h>

#include "core/charges.h"
#include "core/configuration.h"
#include "core/registry.h"

/*
 * The ports of service types that no configuration names. A chunk is claimed while a first request
 * for its type is under way and becomes known when one is granted; when all give up, it is gone.
 * No two chunks, known or claimed, overlap, and none overlaps a configured range.
 */
typedef struct Chunks Chunks;
typedef struct ChunkClaim ChunkClaim;

/** chunks_new: @charges is borrowed; auto-allocated types are charged there. */
Chunks *chunks_new(Charges *charges);
/** chunks_free: no claim may be open. NULL is fine. Returns: NULL. */
Chunks *chunks_free(Chunks *chunks);

/**
 * chunks_set_configuration: chunks whose type is now configured, or that overlap a configured
 * range, are given up, those under claim too. @config is borrowed for the call.
 */
void chunks_set_configuration(Chunks *chunks, const Configuration *config);

/** chunks_find_known: FALSE where no grant has made a chunk of @service_type known. */
gboolean chunks_find_known(const Chunks *chunks, const char *service_type, PortRange *ret_range);

/**
 * chunks_propose: the range that @service_type has, or would get: inside @config's auto_range, from
 * port 1024 on, the lowest that is free.
 * Returns: FALSE where there is no room.
 */
gboolean chunks_propose(const Chunks *chunks, const Configuration *config, const char *service_type,
                        PortRange *ret_range);

/** chunks_is_charged: whether @uid already pays for @service_type: another claim would cost
 * nothing. */
gboolean chunks_is_charged(const Chunks *chunks, const char *service_type, uid_t uid);

/**
 * chunks_claim: keeps @range, as chunks_propose() just gave it, for @service_type, which is not
 * known; several claims of one type share a chunk. Each uid with a claim is charged once.
 * Returns: (transfer full): ends with chunk_claim_free().
 */
ChunkClaim *chunks_claim(Chunks *chunks, const char *service_type, PortRange range, uid_t uid);

/** chunk_claim_is_open: whether the chunk is still neither known nor given up. */
gboolean chunk_claim_is_open(const ChunkClaim *claim, PortRange *ret_range);

/** chunk_claim_confirm: makes the chunk known, at the claimant's charge; no effect unless it is
 * open. */
void chunk_claim_confirm(ChunkClaim *claim);

/** chunk_claim_free: NULL is fine. Returns: NULL. */
ChunkClaim *chunk_claim_free(ChunkClaim *claim);

/** chunks_insert: see registry_insert_chunk(). */
gboolean chunks_insert(Chunks *chunks, const Configuration *config, const Chunk *chunk);

/** chunks_foreach: the known ones. */
void chunks_foreach(const Chunks *chunks, void (*func)(const Chunk *chunk, void *data), void *data);
