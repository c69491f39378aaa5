/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * The files of the state folder.
 *
 * state.json            the snapshot; holds what happened up to its sequence number S
 * state.journal         what happened since; may begin before S, records up to S are passed over
 * state.journal.old     its predecessor: from the time a snapshot is begun until the next one is
 * state.json.previous   the snapshot before, good for everything together with both journals
 *
 * Whatever is cut short, state.json (or, for one instant, .previous) with both journals is
 * complete.
 */
#define FILE_SNAPSHOT "state.json"
#define FILE_PREVIOUS "state.json.previous"
#define FILE_JOURNAL "state.journal"
#define FILE_JOURNAL_OLD "state.journal.old"

/* Under construction; whatever is there at start is rubbish. */
#define FILE_SNAPSHOT_NEW "state.json.new"
#define FILE_PREVIOUS_NEW "state.json.previous.new"
#define FILE_JOURNAL_NEW "state.journal.new"

#define FILE_LOCK "lock"
#define FILE_STARTS "starts"
#define FILE_STARTS_NEW "starts.new"
