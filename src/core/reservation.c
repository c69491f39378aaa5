/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "core/registry-private.h"

#include "util/id.h"

/* A singleton's type alone makes others wait, an instance together with its uid and type. */
guint reservation_hash(gconstpointer key)
{
    const Reservation *reservation = key;
    const Lease *model = reservation->model;
    guint hash = g_str_hash(model->service_type);

    if (!reservation->single)
        hash = (hash * 31 + g_str_hash(model->instance)) * 31 + model->uid;
    return hash;
}

gboolean reservation_equal(gconstpointer a, gconstpointer b)
{
    const Reservation *x = a;
    const Reservation *y = b;

    return !x->single == !y->single &&
           g_str_equal(x->model->service_type, y->model->service_type) &&
           (x->single || (x->model->uid == y->model->uid &&
                          g_str_equal(x->model->instance, y->model->instance)));
}

size_t registry_busy_sets(const Registry *registry, Protocol protocol, gboolean with_cooldowns,
                          const PortSet **sets)
{
    size_t n_sets = 0;

    FOREACH_PROTOCOL(i, protocol)
    {
        sets[n_sets++] = &registry->taken[i];
        if (with_cooldowns)
            sets[n_sets++] = &registry->cooldowns[i].set;
    }
    return n_sets;
}

/* Search: what a candidate must keep clear of at one moment. */
typedef struct Search {
    const PortSet *sets[2 * N_PROTOCOLS + 2];
    size_t n_sets;
    const PortSet *offered; /* first ports only; may be NULL */
    guint count;
} Search;

/* Whether a candidate that begins at @first may be offered, whatever the range. 0 may not. */
static gboolean may_begin_at(const Search *search, guint first)
{
    guint last = first + search->count - 1;

    return first != 0 && last <= G_MAXUINT16 &&
           !(search->offered && port_set_contains(search->offered, (guint16)first)) &&
           port_sets_find_free(search->sets, search->n_sets,
                               (PortRange){(guint16)first, (guint16)last}, search->count) != 0;
}

static guint16 first_in_range(const Search *search, PortRange range)
{
    for (;;) {
        guint16 first = port_sets_find_free(search->sets, search->n_sets, range, search->count);

        if (first == 0 || !search->offered || !port_set_contains(search->offered, first))
            return first;
        /* Only blocks come here, and one that begins at the last port does not exist. */
        g_assert(first < range.last);
        range.first = (guint16)(first + 1);
    }
}

/* The first in order that is free now and was not tried in this round, or 0. */
static guint16 choose(const Reservation *reservation, gboolean avoid_cooldowns)
{
    const ServiceType *type = reservation->type;
    const Trail *trail = reservation->trail;
    PortRange usable = reservation->usable;
    Search search = {.count = reservation->count};

    search.n_sets = registry_busy_sets(reservation->registry, reservation->model->protocol,
                                       avoid_cooldowns, search.sets);
    if (trail) {
        search.offered = &trail->offered;
        search.sets[search.n_sets++] = &trail->refused;
        /* Skipped word by word; a block may well hold a port at which another one began. */
        if (search.count == 1)
            search.sets[search.n_sets++] = &trail->offered;
    }

    if (may_begin_at(&search, reservation->requested))
        return reservation->requested;
    if (reservation->strict)
        return 0;
    if (may_begin_at(&search, reservation->sticky))
        return reservation->sticky;
    for (size_t i = 0; type && i < type->n_preferred_ports; i++) {
        guint port = type->preferred_ports[i];

        if (port_range_contains(usable, port) && port + search.count - 1 <= usable.last &&
            may_begin_at(&search, port))
            return (guint16)port;
    }
    return first_in_range(&search, usable);
}

static Trail *ensure_trail(Reservation *reservation)
{
    if (!reservation->trail)
        reservation->trail = g_new0(Trail, 1);
    return reservation->trail;
}

static void give_up_candidate(Reservation *reservation)
{
    if (reservation->candidate == 0)
        return;
    registry_unmark(reservation->registry, reservation->model->protocol, reservation->candidate,
                    reservation->count);
    reservation->candidate = 0;
}

guint16 reservation_next(Reservation *reservation, gint64 now_usec)
{
    Registry *registry = reservation->registry;
    guint16 port;

    if (reservation->candidate != 0) {
        port_set_add(&ensure_trail(reservation)->offered, reservation->candidate);
        give_up_candidate(reservation);
    }
    registry_purge_cooldowns(registry, now_usec);
    port = choose(reservation, TRUE);
    if (port == 0)
        port = choose(reservation, FALSE);
    if (port == 0)
        return 0;
    registry_mark(registry, reservation->model->protocol, port, reservation->count);
    reservation->candidate = port;
    reservation->attempts++;
    return port;
}

void reservation_restart(Reservation *reservation)
{
    give_up_candidate(reservation);
    if (!reservation->trail)
        return;
    reservation->trail->offered = (PortSet){0};
    reservation->trail->refused = (PortSet){0};
}

void reservation_conflict(Reservation *reservation, guint16 port, gint64 now_usec)
{
    const Configuration *config = reservation->registry->config;
    gint64 cooldown_usec = (gint64)config->conflict_cooldown_msec * 1000;
    Trail *trail = ensure_trail(reservation);

    g_assert(reservation->candidate != 0 && port >= reservation->candidate &&
             port - reservation->candidate < (int)reservation->count);

    port_set_add(&trail->refused, port);
    if (!port_set_contains(&trail->conflicted, port)) {
        port_set_add(&trail->conflicted, port);
        g_array_append_val(reservation->conflicts, port);
    }
    if (!config->conflict_enabled || cooldown_usec == 0)
        return;
    FOREACH_PROTOCOL(i, reservation->model->protocol)
    cooldowns_add(&reservation->registry->cooldowns[i], port, now_usec + cooldown_usec);
}

const GArray *reservation_conflicts(const Reservation *reservation)
{
    return reservation->conflicts;
}

guint reservation_attempts(const Reservation *reservation)
{
    return reservation->attempts;
}

Protocol reservation_protocol(const Reservation *reservation)
{
    return reservation->model->protocol;
}

PortRange reservation_range(const Reservation *reservation)
{
    return reservation->range;
}

gboolean reservation_new_chunk(const Reservation *reservation, Chunk *ret_chunk)
{
    PortRange range;

    if (!reservation->claim || !chunk_claim_is_open(reservation->claim, &range))
        return FALSE;
    *ret_chunk = (Chunk){reservation->model->service_type, range, reservation->model->uid};
    return TRUE;
}

static Lease *lease_like(const Lease *model)
{
    Lease *lease = lease_new();

    lease->protocol = model->protocol;
    lease->lifetime = model->lifetime;
    lease->hold = model->hold;
    lease->health = HEALTH_RESERVED;
    lease->on_unhealthy = model->on_unhealthy;
    lease->uid = model->uid;
    lease->ttl_msec = model->ttl_msec;
    lease->health_timeout_msec = model->health_timeout_msec;
    lease->process = model->process;
    lease->service_type = g_ref_string_acquire(model->service_type);
    lease->unit = model->unit ? g_ref_string_acquire(model->unit) : NULL;
    lease->instance = g_strdup(model->instance);
    lease->label = g_strdup(model->label);
    lease->address = g_strdup(model->address);
    lease->client = g_strdup(model->client);
    lease->health_url = g_strdup(model->health_url);
    return lease;
}

static void lease_destroy(void *lease)
{
    lease_unref(lease);
}

GPtrArray *reservation_build(Reservation *reservation, gint64 now_usec)
{
    GPtrArray *leases = g_ptr_array_new_with_free_func(lease_destroy);

    g_assert(reservation->candidate != 0);
    for (guint i = 0; i < reservation->count; i++) {
        Lease *lease = lease_like(reservation->model);

        lease->id = id_random();
        lease->port = (guint16)(reservation->candidate + i);
        lease->created_usec = now_usec;
        if (lease->ttl_msec != 0)
            lease->expires_usec = now_usec + (gint64)lease->ttl_msec * 1000;
        g_ptr_array_add(leases, lease);
    }
    return leases;
}

void registry_commit(Registry *registry, Reservation *reservation, GPtrArray *leases,
                     GArray *changes)
{
    g_assert(reservation->registry == registry && reservation->candidate != 0 &&
             leases->len == reservation->count);

    for (guint i = 0; i < leases->len; i++) {
        Lease *lease = leases->pdata[i];

        g_assert(lease->port == reservation->candidate + i &&
                 lease->protocol == reservation->model->protocol);
        registry_enter(registry, lease);
        registry_remember(registry, lease);
        FOREACH_PROTOCOL(j, lease->protocol)
        cooldowns_remove(&registry->cooldowns[j], lease->port);
        change_append(changes, CHANGE_GRANTED, lease, (Reason)0);
    }
    if (reservation->claim)
        chunk_claim_confirm(reservation->claim);
    reservation->candidate = 0; /* the marks are the leases' now */
    reservation_free(reservation);
}

static gboolean is_shared(const Reservation *reservation)
{
    return reservation->single || reservation->model->instance;
}

void reservation_take_place(Reservation *reservation)
{
    if (reservation->in_flight || !is_shared(reservation))
        return;
    reservation->in_flight = TRUE;
    g_hash_table_add(reservation->registry->in_flight, reservation);
}

gboolean reservation_yield(Reservation *reservation)
{
    if (!reservation->in_flight)
        return FALSE;
    g_hash_table_remove(reservation->registry->in_flight, reservation);
    reservation->in_flight = FALSE;
    return TRUE;
}

gboolean reservation_resume(Reservation *reservation)
{
    if (reservation->in_flight || !is_shared(reservation))
        return TRUE;
    if (reservation_reusable(reservation) ||
        g_hash_table_contains(reservation->registry->in_flight, reservation))
        return FALSE;
    reservation_take_place(reservation);
    return TRUE;
}

Lease *reservation_reusable(const Reservation *reservation)
{
    return is_shared(reservation) ? registry_find_reusable(reservation->registry, reservation)
                                  : NULL;
}

Reservation *reservation_free(Reservation *reservation)
{
    Registry *registry;

    if (!reservation)
        return NULL;
    registry = reservation->registry;
    give_up_candidate(reservation);
    (void)reservation_yield(reservation);
    charges_drop(registry->charges, reservation->model->uid, CHARGE_PENDING, reservation->count);
    chunk_claim_free(reservation->claim);
    registry->n_reservations--;

    g_array_unref(reservation->conflicts);
    g_free(reservation->trail);
    lease_unref(reservation->model);
    configuration_unref(reservation->config);
    g_free(reservation);
    return NULL;
}
