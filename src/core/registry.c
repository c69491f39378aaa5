/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "core/registry-private.h"

#include <stddef.h>

/* The id leads the lease, so a set of leases is looked up by the id's text alone. */
G_STATIC_ASSERT(offsetof(Lease, id) == 0 && offsetof(Id, text) == 0);

static void change_clear(void *data)
{
    Change *change = data;

    change->lease = lease_unref(change->lease);
}

GArray *change_array_new(void)
{
    GArray *changes = g_array_new(FALSE, FALSE, sizeof(Change));

    g_array_set_clear_func(changes, change_clear);
    return changes;
}

void change_append(GArray *changes, ChangeKind kind, Lease *lease, Reason reason)
{
    Change change = {kind, NULL, reason};

    if (!changes)
        return;
    change.lease = lease_ref(lease);
    g_array_append_val(changes, change);
}

Registry *registry_new(Configuration *config)
{
    Registry *registry = g_new0(Registry, 1);

    registry->config = configuration_ref(config);
    registry->by_id = g_hash_table_new(g_str_hash, g_str_equal);
    for (guint i = 0; i < _LEASE_KEY_MAX; i++)
        lease_index_init(&registry->by_key[i], (LeaseKey)i);
    registry->charges = charges_new();
    registry->stickies = stickies_new();
    registry->chunks = chunks_new(registry->charges);
    registry->in_flight = g_hash_table_new(reservation_hash, reservation_equal);
    chunks_set_configuration(registry->chunks, config);
    return registry;
}

Registry *registry_free(Registry *registry)
{
    GHashTableIter iter;
    void *value;

    if (!registry)
        return NULL;
    g_assert(registry->n_reservations == 0);

    for (guint i = 0; i < _LEASE_KEY_MAX; i++)
        lease_index_deinit(&registry->by_key[i]);
    g_hash_table_iter_init(&iter, registry->by_id);
    while (g_hash_table_iter_next(&iter, &value, NULL)) {
        Lease *lease = value;

        g_hash_table_iter_steal(&iter);
        lease->in_registry = FALSE;
        lease_unref(lease);
    }
    g_hash_table_unref(registry->by_id);
    g_hash_table_unref(registry->in_flight);
    chunks_free(registry->chunks);
    stickies_free(registry->stickies);
    charges_free(registry->charges);
    configuration_unref(registry->config);
    g_free(registry);
    return NULL;
}

void registry_set_configuration(Registry *registry, Configuration *config)
{
    Configuration *before = registry->config;

    registry->config = configuration_ref(config);
    configuration_unref(before);
    chunks_set_configuration(registry->chunks, config);
}

void registry_mark(Registry *registry, Protocol protocol, guint16 first, guint count)
{
    FOREACH_PROTOCOL(i, protocol)
    for (guint port = first; port < (guint)first + count; port++)
        port_set_add(&registry->taken[i], (guint16)port);
}

void registry_unmark(Registry *registry, Protocol protocol, guint16 first, guint count)
{
    FOREACH_PROTOCOL(i, protocol)
    for (guint port = first; port < (guint)first + count; port++)
        port_set_remove(&registry->taken[i], (guint16)port);
}

void registry_purge_cooldowns(Registry *registry, gint64 now_usec)
{
    for (guint i = 0; i < N_PROTOCOLS; i++)
        cooldowns_purge(&registry->cooldowns[i], now_usec);
}

void registry_remember(Registry *registry, const Lease *lease)
{
    const StickyPort sticky = {lease->uid, lease->service_type, lease->instance, lease->port};

    if (lease->instance)
        stickies_set(registry->stickies, &sticky, registry->config->limit_sticky_ports_per_user);
}

/* Takes a reference; the port is marked already. */
void registry_enter(Registry *registry, Lease *lease)
{
    g_assert(!lease->in_registry);
    lease->in_registry = TRUE;
    g_hash_table_add(registry->by_id, lease_ref(lease));
    for (guint i = 0; i < _LEASE_KEY_MAX; i++)
        lease_index_add(&registry->by_key[i], lease);
    FOREACH_PROTOCOL(i, lease->protocol)
    registry->by_port[i][lease->port] = lease;
    charges_add(registry->charges, lease->uid, CHARGE_LEASES, 1);
}

gboolean registry_insert(Registry *registry, Lease *lease)
{
    GRefString *shared;

    if (lease->in_registry || lease->port == 0 || lease->protocol < PROTOCOL_TCP ||
        lease->protocol > PROTOCOL_BOTH || !lease->service_type || !id_is_valid(lease->id.text) ||
        g_hash_table_contains(registry->by_id, lease))
        return FALSE;
    FOREACH_PROTOCOL(i, lease->protocol)
    if (port_set_contains(&registry->taken[i], lease->port))
        return FALSE;

    /* Whoever read it from disk made a string for each lease; one will do for all. */
    shared = g_ref_string_new_intern(lease->service_type);
    g_ref_string_release(lease->service_type);
    lease->service_type = shared;

    registry_mark(registry, lease->protocol, lease->port, 1);
    registry_enter(registry, lease);
    registry_remember(registry, lease);
    return TRUE;
}

void registry_remove(Registry *registry, Lease *lease, Reason reason, GArray *changes)
{
    g_assert(lease->in_registry && g_hash_table_lookup(registry->by_id, lease) == lease);

    charges_drop(registry->charges, lease->uid, CHARGE_LEASES, 1);
    FOREACH_PROTOCOL(i, lease->protocol)
    registry->by_port[i][lease->port] = NULL;
    registry_unmark(registry, lease->protocol, lease->port, 1);
    for (guint i = 0; i < _LEASE_KEY_MAX; i++)
        lease_index_remove(&registry->by_key[i], lease);
    g_hash_table_remove(registry->by_id, lease);
    lease->in_registry = FALSE;
    change_append(changes, CHANGE_RELEASED, lease, reason);
    lease_unref(lease);
}

Lease *registry_find(const Registry *registry, const char *lease_id)
{
    return lease_id ? g_hash_table_lookup(registry->by_id, lease_id) : NULL;
}

Lease *registry_find_port(const Registry *registry, guint16 port, Protocol protocol)
{
    FOREACH_PROTOCOL(i, protocol)
    if (registry->by_port[i][port])
        return registry->by_port[i][port];
    return NULL;
}

Lease *registry_first_of_uid(const Registry *registry, uid_t uid)
{
    const Lease like = {.uid = uid};

    return lease_index_first(&registry->by_key[LEASE_KEY_UID], &like);
}

Lease *registry_first_of_type(const Registry *registry, const char *service_type)
{
    const Lease like = {.service_type = (GRefString *)service_type};

    return service_type ? lease_index_first(&registry->by_key[LEASE_KEY_TYPE], &like) : NULL;
}

Lease *registry_first_of_pid(const Registry *registry, pid_t pid)
{
    const Lease like = {.process.pid = pid};

    return lease_index_first(&registry->by_key[LEASE_KEY_PID], &like);
}

Lease *registry_first_of_client(const Registry *registry, const char *client)
{
    const Lease like = {.client = (char *)client};

    return lease_index_first(&registry->by_key[LEASE_KEY_CLIENT], &like);
}

Lease *registry_find_instance(const Registry *registry, uid_t uid, const char *service_type,
                              const char *instance)
{
    const Lease like = {
        .uid = uid, .service_type = (GRefString *)service_type, .instance = (char *)instance};

    return service_type ? lease_index_first(&registry->by_key[LEASE_KEY_INSTANCE], &like) : NULL;
}

guint registry_count(const Registry *registry)
{
    return g_hash_table_size(registry->by_id);
}

guint registry_count_of_uid(const Registry *registry, uid_t uid)
{
    return charges_count(registry->charges, uid, CHARGE_LEASES);
}

Lease *registry_next_port(const Registry *registry, guint32 *cursor)
{
    const PortSet *const sets[] = {&registry->taken[0], &registry->taken[1]};

    /* The cursor is the next place to look at: port * N_PROTOCOLS + index of the protocol. */
    while (*cursor < 65536 * N_PROTOCOLS) {
        guint port = port_sets_find_member(sets, G_N_ELEMENTS(sets), *cursor / N_PROTOCOLS);
        guint place = MAX(port * N_PROTOCOLS, *cursor);

        *cursor = place;
        if (port > G_MAXUINT16)
            return NULL;
        for (guint i = place % N_PROTOCOLS; i < N_PROTOCOLS; i++) {
            Lease *lease = registry->by_port[i][port];

            *cursor = port * N_PROTOCOLS + i + 1;
            if (lease && !(i > 0 && lease->protocol == PROTOCOL_BOTH))
                return lease;
        }
    }
    return NULL;
}

void registry_set_health(Registry *registry, Lease *lease, Health health, guint32 failures,
                         gint64 seen_usec, GArray *changes)
{
    gboolean first_seen = seen_usec != 0 && !lease->ever_seen;
    gboolean same = lease->health == health && lease->failures == failures && !first_seen;

    g_assert(lease->in_registry);
    if (seen_usec != 0) {
        lease->last_seen_usec = seen_usec;
        lease->ever_seen = TRUE;
    }
    lease->health = health;
    lease->failures = failures;
    if (!same)
        change_append(changes, CHANGE_UPDATED, lease, (Reason)0);
}

void registry_set_process(Registry *registry, Lease *lease, ProcessIdentity process,
                          const char *unit, GArray *changes)
{
    LeaseIndex *by_pid = &registry->by_key[LEASE_KEY_PID];

    g_assert(lease->in_registry);
    if (lease->process.pid == process.pid && lease->process.start_ticks == process.start_ticks &&
        lease->process.pidfd_inode == process.pidfd_inode && g_strcmp0(lease->unit, unit) == 0)
        return;

    lease_index_remove(by_pid, lease);
    lease->process = process;
    lease_index_add(by_pid, lease);
    if (g_strcmp0(lease->unit, unit) != 0) {
        GRefString *before = lease->unit;

        lease->unit = unit ? g_ref_string_new_intern(unit) : NULL;
        g_clear_pointer(&before, g_ref_string_release);
    }
    change_append(changes, CHANGE_UPDATED, lease, (Reason)0);
}

void registry_set_client(Registry *registry, Lease *lease, const char *client)
{
    LeaseIndex *by_client = &registry->by_key[LEASE_KEY_CLIENT];
    char *before = lease->client;

    g_assert(lease->in_registry && lease->lifetime == LIFETIME_CLIENT);
    if (g_strcmp0(before, client) == 0)
        return;
    lease_index_remove(by_client, lease);
    lease->client = g_strdup(client);
    lease_index_add(by_client, lease);
    g_free(before);
}

void registry_set_expiry(Registry *registry, Lease *lease, gint64 expires_usec, GArray *changes)
{
    g_assert(lease->in_registry);
    if (lease->expires_usec == expires_usec)
        return;
    lease->expires_usec = expires_usec;
    change_append(changes, CHANGE_UPDATED, lease, (Reason)0);
}

gboolean registry_insert_sticky(Registry *registry, const StickyPort *sticky)
{
    if (sticky->port == 0 || !service_type_is_valid(sticky->service_type) ||
        !instance_is_valid(sticky->instance) || registry->config->limit_sticky_ports_per_user == 0)
        return FALSE;
    stickies_set(registry->stickies, sticky, registry->config->limit_sticky_ports_per_user);
    return TRUE;
}

gboolean registry_insert_chunk(Registry *registry, const Chunk *chunk)
{
    return chunks_insert(registry->chunks, registry->config, chunk);
}

void registry_foreach_sticky(const Registry *registry,
                             void (*func)(const StickyPort *sticky, void *data), void *data)
{
    stickies_foreach(registry->stickies, func, data);
}

void registry_foreach_chunk(const Registry *registry, void (*func)(const Chunk *chunk, void *data),
                            void *data)
{
    chunks_foreach(registry->chunks, func, data);
}
