/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>

#include "util/id.h"

/*
 * One journal file that is open for appending. Counted by references, since a sync may still be
 * under way on a file that has been replaced; the count and ->sync_* are used by two threads.
 */
typedef struct Journal {
    gatomicrefcount references;
    int fd;
    guint64 size; /* of the whole records in it, bytes; main loop only */
    GMutex lock;
    gboolean sync_queued; /* a sync waits that has not begun; under the lock */
    guint64 last_ticket;  /* the youngest call that waits for a sync; under the lock */
} Journal;

/**
 * journal_create: makes the file @name, empty but for its first record, replacing what is there.
 * Not synced. Blocks on the disk.
 * Returns: 0, or a negative errno; the file may be there then.
 */
int journal_create(int dir_fd, const char *name, const Id *boot_id, guint64 sequence,
                   Journal **ret_journal);

Journal *journal_ref(Journal *journal);
/** journal_unref: NULL is fine. Any thread. Returns: NULL. */
Journal *journal_unref(Journal *journal);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Journal, journal_unref)

/**
 * journal_append: writes one record and its newline with one write().
 * @ret_dirty: (out): set in any case: whether a failure left something behind that could not be
 *     cut off again.
 * Returns: 0, or a negative errno: nothing is there then, unless *@ret_dirty.
 */
int journal_append(Journal *journal, const GString *line, gboolean *ret_dirty);

/**
 * journal_reserve: whether the disk has room for some more records. Without it a record of nothing
 * would fit into the last block of a full disk and prove it well. Where a file system can't say, it
 * has room. Returns: 0, or a negative errno.
 */
int journal_reserve(const Journal *journal);
