/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>

#include "store/record.h"
#include "store/store.h"

/*
 * The text of state.json, put together piece by piece. As a whole it is strict JSON:
 *
 *     {"version":1,"boot_id":"…","written":"2026-01-02T03:04:05Z",
 *     "head":RECORD,
 *     "allocations":[
 *     RECORD,
 *     …
 *     ],
 *     "singletonServices":{"TYPE":{"lease":"…","port":N},…},
 *     "sticky":[
 *     RECORD,
 *     …
 *     ],
 *     "chunks":[
 *     RECORD,
 *     …
 *     ],
 *     "end":RECORD}
 *
 * What is outside records is for a person and other programs; all facts are in the records, and
 * those of the head are in the end once more.
 */
typedef struct SnapshotText {
    GString *text; /* what was not taken yet */
    const StoreSource *source;
    Id boot_id;
    guint64 sequence;
    guint32 cursor; /* of the source's leases */
    GArray *sticky; /* of StickyPort: copied at once, written in steps; NULL before */
    GStringChunk *strings;
    RecordCounts counts;
    GHashTable *singletons; /* type -> Singleton, for singletonServices */
} SnapshotText;

/** snapshot_text_new: begins a text of what happened up to @sequence. @source is borrowed. */
SnapshotText *snapshot_text_new(const StoreSource *source, const Id *boot_id, guint64 sequence);
SnapshotText *snapshot_text_free(SnapshotText *snapshot);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(SnapshotText, snapshot_text_free)

/**
 * snapshot_text_step: adds up to @n records.
 * Returns: FALSE when the text is whole.
 */
gboolean snapshot_text_step(SnapshotText *snapshot, guint n);

/** snapshot_text_take: (transfer full): the text since the last time; NULL = none. */
GString *snapshot_text_take(SnapshotText *snapshot);
