/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "recovery/claims.h"

#include "recovery/events.h"
#include "recovery/observe.h"

typedef struct Claim {
    Manager *manager;
    Lease *lease; /* borrowed: disarmed before it leaves the registry */
    Deadline *deadline;
} Claim;

static void end_unclaimed(Manager *manager, Lease *lease)
{
    g_autoptr(SocketTable) table = socket_table_dump_deep(
        (PortRange){lease->port, lease->port}, lease->protocol, SOCKET_DEPTH_LISTENING, NULL);
    Fact by_owner = FACT_UNKNOWN;

    (void)observe_served(lease, table, &by_owner, NULL);
    if (by_owner == FACT_UNKNOWN)
        claims_arm(manager, lease);
    else if (by_owner == FACT_NO)
        manager_end(manager, lease, REASON_CLIENT_GONE);
}

static void on_deadline(void *data)
{
    Claim *claim = data;
    Manager *manager = claim->manager;
    Lease *lease = claim->lease;

    g_hash_table_remove(manager->claims, lease);
    g_free(claim);
    end_unclaimed(manager, lease);
}

void claims_arm(Manager *manager, Lease *lease)
{
    Claim *claim = NULL;

    if (lease->lifetime != LIFETIME_CLIENT || lease->client)
        return;
    claims_disarm(manager, lease);
    claim = g_new0(Claim, 1);
    claim->manager = manager;
    claim->lease = lease;
    claim->deadline = deadline_add(
        manager->deadlines, g_get_monotonic_time() + manager->claim_grace_usec, on_deadline, claim);
    g_hash_table_insert(manager->claims, lease, claim);
}

void claims_disarm(Manager *manager, Lease *lease)
{
    Claim *claim = g_hash_table_lookup(manager->claims, lease);

    if (!claim)
        return;
    g_hash_table_remove(manager->claims, lease);
    (void)deadline_cancel(claim->deadline);
    g_free(claim);
}

void claims_disarm_all(Manager *manager)
{
    g_autoptr(GList) leases = g_hash_table_get_keys(manager->claims);

    for (GList *link = leases; link; link = link->next)
        claims_disarm(manager, link->data);
}

gboolean claims_is_waiting(const Manager *manager, const Lease *lease)
{
    return g_hash_table_contains(manager->claims, lease);
}

static gboolean may_claim(const Lease *lease, const LeaseRequest *request)
{
    return lease && lease->lifetime == LIFETIME_CLIENT && !lease->client && !lease->ending &&
           lease->uid == request->uid && g_strcmp0(lease->service_type, request->service_type) == 0;
}

Lease *claims_find(const Manager *manager, const LeaseRequest *request)
{
    Lease *lease = NULL;

    if (request->lifetime != LIFETIME_CLIENT || !request->client || request->count != 1)
        return NULL;
    if (request->port != 0)
        lease = registry_find_port(manager->registry, request->port,
                                   request->protocol ? request->protocol : PROTOCOL_BOTH);
    if (may_claim(lease, request) &&
        (!request->instance || g_strcmp0(request->instance, lease->instance) == 0))
        return lease;
    if (!request->instance)
        return NULL;
    lease = registry_find_instance(manager->registry, request->uid, request->service_type,
                                   request->instance);
    return may_claim(lease, request) ? lease : NULL;
}

void claims_take(Manager *manager, Lease *lease, const LeaseRequest *request)
{
    if (request->lifetime != LIFETIME_CLIENT || !request->client || !may_claim(lease, request))
        return;
    claims_disarm(manager, lease);
    registry_set_client(manager->registry, lease, request->client);
}
