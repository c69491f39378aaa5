/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "recovery/health-rules.h"

#define MASS_MINIMUM 10

static gboolean ends_when_unused(const Lease *lease)
{
    if (lease->health == HEALTH_QUARANTINED)
        return TRUE;
    if (lease->ttl_msec != 0)
        return FALSE;
    switch (lease->lifetime) {
    case LIFETIME_AUTO:
        return TRUE;
    case LIFETIME_PROCESS:
        return lease->process.pid == 0;
    case LIFETIME_CLIENT:
        return !lease->client;
    default:
        return FALSE;
    }
}

static HealthVerdict unchanged(const Lease *lease)
{
    return (HealthVerdict){.health = lease->health, .failures = lease->failures};
}

static HealthVerdict fail(const Lease *lease, const HealthSettings *settings, Reason reason,
                          const char *why)
{
    HealthVerdict verdict = unchanged(lease);

    if (lease->health != HEALTH_QUARANTINED)
        verdict.health = HEALTH_FAILING;
    verdict.failures = MIN(lease->failures + 1, G_MAXUINT16);
    verdict.why = why;
    verdict.reason = reason;
    verdict.stale = verdict.failures >= settings->max_failures;
    return verdict;
}

HealthVerdict health_judge(const Lease *lease, const HealthSight *sight,
                           const HealthSettings *settings)
{
    HealthVerdict verdict = unchanged(lease);

    if (sight->served == FACT_UNKNOWN)
        return verdict;
    if (sight->served == FACT_YES) {
        /* The quarantine ends with its listener; nobody can say that it is the owner's. */
        if (lease->health == HEALTH_QUARANTINED) {
            verdict.failures = 0;
            verdict.seen = TRUE;
            return verdict;
        }
        if (sight->http_healthy == FACT_NO && !sight->is_young) {
            verdict = fail(lease, settings, REASON_UNHEALTHY, "its health check fails");
            verdict.seen = TRUE;
            return verdict;
        }
        /* That it listens again does not say that it is well again: its next good answer does,
         * unless there is none to be had. A bad one within the grace of a restart says nothing
         * either way. */
        if (lease->health_url && lease->health == HEALTH_FAILING && !sight->is_unasked &&
            sight->http_healthy != FACT_YES) {
            verdict.seen = TRUE;
            return verdict;
        }
        return (HealthVerdict){.health = HEALTH_ACTIVE, .seen = TRUE};
    }
    if (!ends_when_unused(lease)) {
        /* Reserved and dormant leases wait for their service; one that was there is missed. */
        if (lease->health == HEALTH_ACTIVE || lease->health == HEALTH_FAILING) {
            verdict.health =
                lease->lifetime == LIFETIME_PERSISTENT ? HEALTH_DORMANT : HEALTH_RESERVED;
            verdict.failures = 0;
            verdict.why = "its port is not in use";
        }
        return verdict;
    }
    if (sight->is_young)
        return verdict;
    return lease->ever_seen || lease->health == HEALTH_QUARANTINED
               ? fail(lease, settings, REASON_NOT_IN_USE, "its port is not in use")
               : fail(lease, settings, REASON_NEVER_BOUND, "its port was never bound");
}

const HealthSettings *health_settings_of(const Configuration *config, const char *service_type)
{
    const ServiceType *type = configuration_find_type(config, service_type);

    return type ? &type->health : &config->health;
}

gboolean health_is_mass_failure(guint watched, guint silent)
{
    return watched >= MASS_MINIMUM && silent * 2 > watched;
}
