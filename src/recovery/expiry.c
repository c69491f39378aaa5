/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "recovery/expiry.h"

typedef struct Expiry {
    Manager *manager;
    Lease *lease;
    Deadline *deadline;
} Expiry;

static void on_deadline(void *data)
{
    Expiry *expiry = data;
    Manager *manager = expiry->manager;
    Lease *lease = expiry->lease;

    g_hash_table_remove(manager->expiries, lease);
    g_free(expiry);
    manager_end(manager, lease, REASON_EXPIRED);
}

void expiry_arm(Manager *manager, Lease *lease)
{
    Expiry *expiry = NULL;
    gint64 left_usec;

    expiry_disarm(manager, lease);
    if (lease->expires_usec == 0)
        return;
    /* A wall clock that was set back must not make a lease of seconds last for days. */
    left_usec = lease->expires_usec - g_get_real_time();
    if (lease->ttl_msec > 0)
        left_usec = MIN(left_usec, (gint64)lease->ttl_msec * G_TIME_SPAN_MILLISECOND);
    expiry = g_new0(Expiry, 1);
    expiry->manager = manager;
    expiry->lease = lease;
    expiry->deadline = deadline_add(manager->deadlines, g_get_monotonic_time() + MAX(left_usec, 0),
                                    on_deadline, expiry);
    g_hash_table_insert(manager->expiries, lease, expiry);
}

void expiry_disarm(Manager *manager, Lease *lease)
{
    Expiry *expiry = g_hash_table_lookup(manager->expiries, lease);

    if (!expiry)
        return;
    g_hash_table_remove(manager->expiries, lease);
    (void)deadline_cancel(expiry->deadline);
    g_free(expiry);
}

void expiry_disarm_all(Manager *manager)
{
    g_autoptr(GList) leases = g_hash_table_get_keys(manager->expiries);

    for (GList *link = leases; link; link = link->next)
        expiry_disarm(manager, link->data);
}
