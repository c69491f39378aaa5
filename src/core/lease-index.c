/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "core/lease-index.h"

#include <stddef.h>

static guint hash_type(gconstpointer key)
{
    return g_str_hash(((const Lease *)key)->service_type);
}

static gboolean equal_type(gconstpointer a, gconstpointer b)
{
    return g_str_equal(((const Lease *)a)->service_type, ((const Lease *)b)->service_type);
}

static guint hash_uid(gconstpointer key)
{
    return ((const Lease *)key)->uid;
}

static gboolean equal_uid(gconstpointer a, gconstpointer b)
{
    return ((const Lease *)a)->uid == ((const Lease *)b)->uid;
}

static guint hash_pid(gconstpointer key)
{
    return (guint)((const Lease *)key)->process.pid;
}

static gboolean equal_pid(gconstpointer a, gconstpointer b)
{
    return ((const Lease *)a)->process.pid == ((const Lease *)b)->process.pid;
}

static guint hash_client(gconstpointer key)
{
    return g_str_hash(((const Lease *)key)->client);
}

static gboolean equal_client(gconstpointer a, gconstpointer b)
{
    return g_str_equal(((const Lease *)a)->client, ((const Lease *)b)->client);
}

static guint hash_instance(gconstpointer key)
{
    return (g_str_hash(((const Lease *)key)->instance) * 31 + hash_type(key)) * 31 + hash_uid(key);
}

static gboolean equal_instance(gconstpointer a, gconstpointer b)
{
    return equal_uid(a, b) && equal_type(a, b) &&
           g_str_equal(((const Lease *)a)->instance, ((const Lease *)b)->instance);
}

static const struct {
    GHashFunc hash;
    GEqualFunc equal;
    size_t link_offset;
} keys[_LEASE_KEY_MAX] = {
    [LEASE_KEY_TYPE] = {hash_type, equal_type, offsetof(Lease, by_type)},
    [LEASE_KEY_UID] = {hash_uid, equal_uid, offsetof(Lease, by_uid)},
    [LEASE_KEY_PID] = {hash_pid, equal_pid, offsetof(Lease, by_pid)},
    [LEASE_KEY_CLIENT] = {hash_client, equal_client, offsetof(Lease, by_client)},
    [LEASE_KEY_INSTANCE] = {hash_instance, equal_instance, offsetof(Lease, by_instance)},
};

static gboolean has_key(LeaseKey key, const Lease *lease)
{
    switch (key) {
    case LEASE_KEY_PID:
        return lease->process.pid != 0;
    case LEASE_KEY_CLIENT:
        return lease->client != NULL;
    case LEASE_KEY_INSTANCE:
        return lease->instance != NULL;
    default:
        return TRUE;
    }
}

static LeaseLink *link_of(const LeaseIndex *index, Lease *lease)
{
    return G_STRUCT_MEMBER_P(lease, keys[index->key].link_offset);
}

void lease_index_init(LeaseIndex *index, LeaseKey key)
{
    index->heads = g_hash_table_new(keys[key].hash, keys[key].equal);
    index->key = key;
}

void lease_index_deinit(LeaseIndex *index)
{
    g_clear_pointer(&index->heads, g_hash_table_unref);
}

void lease_index_add(LeaseIndex *index, Lease *lease)
{
    LeaseLink *link = link_of(index, lease);
    Lease *first;

    if (!has_key(index->key, lease))
        return;
    first = g_hash_table_lookup(index->heads, lease);
    *link = (LeaseLink){.next = first};
    if (first)
        link_of(index, first)->prev = lease;
    g_hash_table_add(index->heads, lease); /* takes the place of an equal one */
}

void lease_index_remove(LeaseIndex *index, Lease *lease)
{
    LeaseLink *link = link_of(index, lease);

    if (!has_key(index->key, lease))
        return;
    if (link->next)
        link_of(index, link->next)->prev = link->prev;
    if (link->prev)
        link_of(index, link->prev)->next = link->next;
    else if (link->next)
        g_hash_table_add(index->heads, link->next);
    else
        g_hash_table_remove(index->heads, lease);
    *link = (LeaseLink){0};
}

Lease *lease_index_first(const LeaseIndex *index, const Lease *like)
{
    return has_key(index->key, like) ? g_hash_table_lookup(index->heads, like) : NULL;
}
