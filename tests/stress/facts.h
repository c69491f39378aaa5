/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>

/*
 * Facts: what the clients of a daemon were told, and so may rely on. All clients share one, and all
 * functions may be called from any thread.
 *
 * A call without an answer may have been carried out or not. Each call that may grant has a label
 * of its own, which the daemon keeps with the lease, so that a lease nobody was told of can be
 * matched with the call that went unanswered.
 *
 * What contradicts a fact is returned as a text (transfer full), NULL = all is well.
 */
typedef struct Facts Facts;

/** Grant: one lease as the daemon told of it. Borrowed strings. */
typedef struct Grant {
    const char *lease;
    const char *label;
    const char *service_type;
    const char *instance; /* NULL = none */
    const char *lifetime;
    guint16 port;
} Grant;

Facts *facts_new(void);
Facts *facts_free(Facts *facts);

/** facts_granted: the daemon has answered with @grant to the call that it is labelled with. */
char *facts_granted(Facts *facts, const Grant *grant);
/** facts_handed_back: the daemon has answered with the lease that the instance has already. */
char *facts_handed_back(Facts *facts, const Grant *grant);
/** facts_maybe_granted: the call labelled @label for @count leases has no answer. */
void facts_maybe_granted(Facts *facts, const char *label, guint count);

/** facts_releasing: before the call. From here on the port may be another's. */
void facts_releasing(Facts *facts, const char *lease);
/** facts_released: the daemon has answered. Without an answer there is nothing to call. */
void facts_released(Facts *facts, const char *lease);

/**
 * facts_compare: holds the leases that a restarted daemon has against the facts, and makes facts of
 * what was open. No call may be under way.
 * @grants: of Grant: all leases of the daemon.
 */
char *facts_compare(Facts *facts, const GArray *grants);

/**
 * facts_check_files: that the files in the folder @state know of each lease that was granted and no
 * longer speak of one that was released. While no daemon runs.
 */
char *facts_check_files(Facts *facts, const char *state);

/** FactsCounts: what there was, for the report. */
typedef struct FactsCounts {
    guint granted, released, unanswered;
    guint came_true; /* unanswered calls that were carried out */
} FactsCounts;

FactsCounts facts_counts(Facts *facts);
