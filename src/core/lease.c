/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "core/lease.h"

Lease *lease_new(void)
{
    Lease *lease = g_new0(Lease, 1);

    lease->references = 1;
    return lease;
}

Lease *lease_ref(Lease *lease)
{
    g_assert(lease->references > 0);
    lease->references++;
    return lease;
}

Lease *lease_unref(Lease *lease)
{
    if (!lease)
        return NULL;
    g_assert(lease->references > 0);
    if (--lease->references > 0)
        return NULL;
    g_assert(!lease->in_registry);
    g_clear_pointer(&lease->service_type, g_ref_string_release);
    g_clear_pointer(&lease->unit, g_ref_string_release);
    g_free(lease->instance);
    g_free(lease->label);
    g_free(lease->address);
    g_free(lease->client);
    g_free(lease->health_url);
    g_free(lease);
    return NULL;
}

static void unref_element(gpointer lease)
{
    (void)lease_unref(lease);
}

GPtrArray *lease_array_new(void)
{
    return g_ptr_array_new_with_free_func(unref_element);
}
