/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>

#include "core/configuration.h"
#include "core/lease.h"

/*
 * Recovery as a pure function: recorded leases and what was seen of the machine go in, one verdict
 * with its reason for each lease comes out. Doubt never frees a port.
 */

/** Fact: what a look at the machine said. FACT_UNKNOWN is never taken for a no. */
typedef enum Fact {
    FACT_UNKNOWN,
    FACT_NO,
    FACT_YES,
} Fact;

/** LeaseFacts: what was seen of one lease. */
typedef struct LeaseFacts {
    Fact process_runs;    /* of the recorded process, by its whole identity; UNKNOWN without one */
    Fact served;          /* somebody listens on the port (TCP) or has it bound (UDP) */
    Fact served_by_owner; /* and that is the lease's uid or unit */
} LeaseFacts;

typedef struct Verdict {
    gboolean drop;
    Reason reason;    /* of a drop */
    gboolean dormant; /* kept, and its service is not expected to be there yet */
    const char *why;  /* static text for the log, NULL while nothing was decided */
} Verdict;

/**
 * Each of these looks at @n leases with their facts and sharpens @verdicts, which start all zero;
 * what is dropped already is passed over.
 */

/** judge_boot: @same_boot NO ends what a reboot ends and lets persistent leases sleep. */
void judge_boot(Lease *const *leases, Verdict *verdicts, guint n, Fact same_boot);

/**
 * judge_ports: of two leases on one port and protocol one stays: the one that its owner serves,
 * else the served one, else the newer.
 */
void judge_ports(Lease *const *leases, const LeaseFacts *facts, Verdict *verdicts, guint n);

/**
 * judge_orphans: a lease whose process is gone and whose port nobody serves is an orphan; one whose
 * time has run out has expired. Never merely "not bound yet".
 * @now_usec: CLOCK_REALTIME.
 */
void judge_orphans(Lease *const *leases, const LeaseFacts *facts, Verdict *verdicts, guint n,
                   gint64 now_usec);

/** judge_singletons: of a singleton type one lease stays, chosen in the same way. */
void judge_singletons(Lease *const *leases, const LeaseFacts *facts, Verdict *verdicts, guint n,
                      const Configuration *config);
