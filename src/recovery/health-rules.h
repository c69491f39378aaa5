/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "core/configuration.h"
#include "core/lease.h"
#include "recovery/judge.h"

/*
 * Layer 2 as a pure function: a lease, what one sweep saw of it and the settings go in, its next
 * health and what is to follow come out.
 *
 *     reserved --seen--> active --not seen--> failing --max_failures--> stale
 *        |                 ^                     |
 *        |                 +-----seen------------+
 *        +--grace over, not seen, max_failures--> stale
 */

/** HealthSight: what one sweep saw. */
typedef struct HealthSight {
    Fact served;       /* see observe_served() */
    Fact http_healthy; /* verdict of an HTTP check since the last sweep, UNKNOWN = none */
    gboolean is_young; /* it may be on its way: see health_is_young() */
    /* Its HTTP check is not made, and nothing speaks against it: neither was its last answer a bad
     * one, nor does another listen where its own service has answered before. */
    gboolean is_unasked;
} HealthSight;

typedef struct HealthVerdict {
    Health health;
    guint32 failures;
    gboolean seen;   /* it was seen in use */
    gboolean stale;  /* max_failures is reached */
    Reason reason;   /* of a stale lease */
    const char *why; /* static text of what was seen, NULL while all is well */
} HealthVerdict;

/**
 * health_judge: the next step of @lease. FACT_UNKNOWN changes nothing.
 *
 * A lease ends because its port is not in use where nothing else would end it: LIFETIME_AUTO
 * without a ttl, a process that is not known any more after a hand-over, a client whose connection
 * is lost. The others are ended by what they are tied to. An HTTP check that fails counts for every
 * lifetime.
 */
HealthVerdict health_judge(const Lease *lease, const HealthSight *sight,
                           const HealthSettings *settings);

/** health_settings_of: the settings of the service type, or the general ones. */
const HealthSettings *health_settings_of(const Configuration *config, const char *service_type);

/**
 * health_is_mass_failure: whether so many of @watched leases in use went silent at once (@silent)
 * that the look is to be doubted rather than the leases: more than half of ten or more.
 */
gboolean health_is_mass_failure(guint watched, guint silent);
