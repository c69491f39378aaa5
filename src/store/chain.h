/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>

#include "core/registry.h"

/*
 * A snapshot and the journals that go on from it, read as far as they can be.
 */

/** FileReport: what was found wrong with one file. */
typedef struct FileReport {
    const char *name; /* one of files.h */
    gboolean exists;
    GString *what; /* for a person; empty = nothing is wrong */
    guint n_what;
    guint lost; /* records */
} FileReport;

typedef struct Chain {
    FileReport snapshot;
    FileReport journals[2]; /* state.journal.old, state.journal */

    GHashTable *leases;    /* id text, in the lease -> Lease */
    GHashTable *sticky;    /* set of StickyPort */
    GQueue sticky_order;   /* the same, least recently used first */
    GHashTable *chunks;    /* set of Chunk */
    GStringChunk *strings; /* of sticky ports and chunks */
    Id boot_id;            /* "" = not known */
    guint64 sequence;      /* of the last record */
    gboolean usable;       /* the snapshot gave something, or was never there */
    gboolean torn_tail;    /* the last journal ends in the middle of a record */
} Chain;

/** ChainLimits: for reading what a running store has, on another thread than its own. */
typedef struct ChainLimits {
    guint64 journal_bytes; /* of state.journal: what is appended meanwhile is not looked at */
    gboolean unshared;     /* leases without service type and unit: see Record */
} ChainLimits;

/**
 * chain_read: reads @snapshot_name and both journals in the folder @dir_fd. Changes nothing there.
 * Blocks on the disk.
 * @limits: (nullable): NULL = none.
 * Returns: (transfer full): NULL with @error in G_FILE_ERROR when a file that is there cannot be
 *     opened for a reason that says nothing about its contents (permissions, no descriptors left).
 */
Chain *chain_read(int dir_fd, const char *dir, const char *snapshot_name, const ChainLimits *limits,
                  GError **error);
Chain *chain_free(Chain *chain);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Chain, chain_free)

/** chain_lost: records that could not be kept, all files together. */
guint chain_lost(const Chain *chain);

/** chain_damaged: whether anything at all is wrong with any of its files. */
gboolean chain_damaged(const Chain *chain);
