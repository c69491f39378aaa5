/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Ports that the records do not speak of: sockets that the service manager kept, and services that
 * listen where leases were lost.
 */
#include "recovery/startup-private.h"

#include "recovery/health.h"
#include "util/fd.h"

typedef struct ChunkSearch {
    guint16 port;
    const char *service_type; /* borrowed from the registry */
} ChunkSearch;

static void look_at_chunk(const Chunk *chunk, void *data)
{
    ChunkSearch *search = data;

    if (port_range_contains(chunk->range, search->port))
        search->service_type = chunk->service_type;
}

/* (nullable): the type whose ports @port is one of. */
static const char *type_of_port(Manager *manager, guint16 port)
{
    const Configuration *config = manager->config;
    ChunkSearch search = {.port = port};

    for (guint i = 0; i < config->service_types->len; i++) {
        const ServiceType *type = config->service_types->pdata[i];

        if (port_range_contains(type->range, port))
            return type->name;
    }
    registry_foreach_chunk(manager->registry, look_at_chunk, &search);
    return search.service_type;
}

static Lease *quarantined(guint16 port, Protocol protocol, const char *service_type)
{
    Lease *lease = lease_new();

    lease->id = id_random();
    lease->port = port;
    lease->protocol = protocol;
    lease->health = HEALTH_QUARANTINED;
    lease->created_usec = g_get_real_time();
    lease->service_type = g_ref_string_new_intern(service_type);
    return lease;
}

void startup_quarantine(Run *run)
{
    Manager *manager = run->manager;

    for (guint i = 0; run->table && i < run->table->entries->len; i++) {
        const SocketEntry *entry = &g_array_index(run->table->entries, SocketEntry, i);
        const char *service_type = NULL;
        g_autoptr(Lease) lease = NULL;

        if (entry->state != SOCKET_LISTENING ||
            registry_find_port(manager->registry, entry->port, entry->protocol))
            continue;
        service_type = type_of_port(manager, entry->port);
        if (!service_type)
            continue;
        lease = quarantined(entry->port, entry->protocol, service_type);
        lease->uid = entry->uid;
        lease->last_seen_usec = lease->created_usec;
        if (!registry_insert(manager->registry, lease))
            continue;
        health_watch(manager->health, lease);
        recovery_report_add(run->report, RECOVERY_VALIDATE_STATE, STEP_REPAIRED,
                            "port %u/%s is served by uid %u and no record says for whom: "
                            "quarantined",
                            entry->port, protocol_to_string(entry->protocol), entry->uid);
    }
}

/* ---- held sockets ---------------------------------------------------------------------------- */

/* A lease that only its held socket remembers: nobody can be named, so nobody gets the port. */
static Lease *lease_of_socket(Run *run, const char *id, int fd)
{
    Manager *manager = run->manager;
    guint16 port = hold_port(fd);
    const char *service_type = port > 0 ? type_of_port(manager, port) : NULL;
    g_autoptr(Lease) lease = NULL;

    if (!service_type)
        return NULL;
    lease = quarantined(port, PROTOCOL_TCP, service_type);
    (void)g_strlcpy(lease->id.text, id, sizeof lease->id.text);
    lease->hold = HOLD_SOFT;
    if (!registry_insert(manager->registry, lease))
        return NULL;
    health_watch(manager->health, lease);
    recovery_report_add(run->report, RECOVERY_VALIDATE_STATE, STEP_REPAIRED,
                        "port %u was held for lease %s whose record is lost: quarantined", port,
                        id);
    return registry_find(manager->registry, id);
}

/* Takes back what the service manager kept; a socket that belongs to no lease is closed. */
static void adopt_held(Run *run)
{
    Manager *manager = run->manager;

    for (guint i = 0; manager->passed && i < manager->passed->len; i++) {
        HeldSocket *held = &g_array_index(manager->passed, HeldSocket, i);
        const char *id = hold_lease_of_name(held->name);
        Lease *lease = id ? registry_find(manager->registry, id) : NULL;

        if (!lease && id && run->lost)
            lease = lease_of_socket(run, id, held->fd);
        if (!hold_table_adopt(manager->holds, lease, fd_steal(&held->fd), held->name))
            recovery_report_add(run->report, RECOVERY_CLEAN_ORPHANS, STEP_REPAIRED,
                                "the held socket %s belongs to no lease and was closed",
                                held->name);
    }
    g_clear_pointer(&manager->passed, g_array_unref);
}

/* What nobody kept is bound anew, unless its service is there: then the port is in good hands. */
static void bind_missing_holds(Run *run)
{
    Manager *manager = run->manager;
    guint32 cursor = 0;
    Lease *lease = NULL;

    while ((lease = registry_next_port(manager->registry, &cursor)))
        if (!hold_renew(manager->holds, lease))
            recovery_report_add(run->report, RECOVERY_REBUILD_INDICES, STEP_WARNING,
                                "port %u of lease %s could not be held again", lease->port,
                                lease->id.text);
}

void startup_take_held(Run *run)
{
    adopt_held(run);
    bind_missing_holds(run);
}
