/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>

#include "core/lease.h"

/*
 * Leases by one of their keys: a hash set of the first lease of each key, the others hang on it by
 * links inside the leases. Adding, removing and finding are O(1) and cost no memory a lease.
 */
typedef enum LeaseKey {
    LEASE_KEY_TYPE,
    LEASE_KEY_UID,
    LEASE_KEY_PID,      /* leases without a process are not in it */
    LEASE_KEY_CLIENT,   /* leases without a client are not in it */
    LEASE_KEY_INSTANCE, /* uid, type and instance; leases without an instance are not in it */
    _LEASE_KEY_MAX,
} LeaseKey;

typedef struct LeaseIndex {
    GHashTable *heads; /* of Lease *, borrowed */
    LeaseKey key;
} LeaseIndex;

void lease_index_init(LeaseIndex *index, LeaseKey key);
/** lease_index_deinit: forgets all; the leases' links are left as they are. */
void lease_index_deinit(LeaseIndex *index);

/** lease_index_add: as the first of its key. The key must not change until it is removed. */
void lease_index_add(LeaseIndex *index, Lease *lease);
void lease_index_remove(LeaseIndex *index, Lease *lease);

/** lease_index_first: @like: a lease of which only the key counts. (nullable) (transfer none) */
Lease *lease_index_first(const LeaseIndex *index, const Lease *like);
