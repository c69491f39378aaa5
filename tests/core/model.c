/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "model.h"

Model model;

const char *const model_types[10] = {"multi", "one",    "dgram",  "pair",   "edge",
                                     "split", "auto-a", "auto-b", "auto-c", "mon-a"};
const char *const model_instances[3] = {"x", "y", "z"};
const char *const model_clients[2] = {":1.1", ":1.2"};
const uid_t model_uids[3] = {0, 1000, 1001};

gboolean model_chance(guint percent)
{
    return (guint)g_test_rand_int_range(0, 100) < percent;
}

gboolean model_same(const char *a, const char *b)
{
    return g_strcmp0(a, b) == 0;
}

static gboolean in(const GArray *ports, guint port)
{
    for (guint i = 0; i < ports->len; i++)
        if (g_array_index(ports, guint16, i) == port)
            return TRUE;
    return FALSE;
}

void model_put(GArray *ports, guint port)
{
    guint16 value = (guint16)port;

    if (!in(ports, port))
        g_array_append_val(ports, value);
}

const ServiceType *model_find_type(const Configuration *config, const char *name)
{
    for (guint i = 0; i < config->service_types->len; i++) {
        const ServiceType *type = config->service_types->pdata[i];

        if (model_same(type->name, name))
            return type;
    }
    return NULL;
}

guint16 model_random_port(void)
{
    static const PortRange near[] = {{3000, 3011}, {5000, 5007}, {65524, 65535},
                                     {1018, 1029}, {2000, 2033}, {4000, 4005}};
    PortRange range = PICK(near);

    return (guint16)g_test_rand_int_range(range.first, range.last + 1);
}

gboolean model_is_taken(guint port, Protocol protocol)
{
    for (guint i = 0; i < model.leases->len; i++)
        if (LEASE_AT(i)->port == port && (LEASE_AT(i)->protocol & protocol))
            return TRUE;
    for (guint i = 0; i < SLOTS; i++) {
        const MSlot *slot = &model.slots[i];

        if (slot->real && slot->candidate != 0 && port >= slot->candidate &&
            port < slot->candidate + slot->request.count && (slot->protocol & protocol))
            return TRUE;
    }
    return FALSE;
}

gboolean model_is_cooling(guint port, Protocol protocol)
{
    for (guint i = 0; i < model.cooldowns->len; i++) {
        const MCooldown *cooldown = &g_array_index(model.cooldowns, MCooldown, i);

        if (cooldown->port == port && (cooldown->protocol & protocol) &&
            cooldown->ends_usec > model.now_usec)
            return TRUE;
    }
    return FALSE;
}

void model_set_cooldown(guint16 port, Protocol protocol, gint64 ends_usec)
{
    for (guint i = model.cooldowns->len; i-- > 0;) {
        const MCooldown *cooldown = &g_array_index(model.cooldowns, MCooldown, i);

        if (cooldown->port == port && (cooldown->protocol & protocol))
            g_array_remove_index(model.cooldowns, i);
    }
    for (guint bit = PROTOCOL_TCP; bit <= PROTOCOL_UDP; bit <<= 1)
        if (ends_usec != 0 && (protocol & bit)) {
            MCooldown cooldown = {port, (Protocol)bit, ends_usec};

            g_array_append_val(model.cooldowns, cooldown);
        }
}

guint16 model_next(const MSlot *slot)
{
    for (guint pass = 0; pass < 2; pass++)
        for (guint i = 0; i < slot->order->len; i++) {
            guint first = g_array_index(slot->order, guint16, i);
            gboolean good = !in(slot->seen, first);

            for (guint port = first; port < first + slot->request.count && good; port++)
                good = !in(slot->bad, port) && !model_is_taken(port, slot->protocol) &&
                       (pass == 1 || !model_is_cooling(port, slot->protocol));
            if (good) {
                model.late_candidates += pass;
                return (guint16)first;
            }
        }
    return 0;
}

static guint sticky_port(uid_t uid, const char *type, const char *instance)
{
    for (guint i = 0; i < model.stickies->len; i++)
        if (STICKY_AT(i)->uid == uid && model_same(STICKY_AT(i)->service_type, type) &&
            model_same(STICKY_AT(i)->instance, instance))
            return STICKY_AT(i)->port;
    return 0;
}

void model_remember(uid_t uid, const char *type, const char *instance, guint16 port)
{
    StickyPort sticky = {uid, type, instance, port};
    guint n = 0;

    for (guint i = 0; i < model.stickies->len; i++)
        if (STICKY_AT(i)->uid == uid && model_same(STICKY_AT(i)->service_type, type) &&
            model_same(STICKY_AT(i)->instance, instance))
            g_array_remove_index(model.stickies, i--);
    g_array_append_val(model.stickies, sticky);
    for (guint i = model.stickies->len; i-- > 0;)
        if (STICKY_AT(i)->uid == uid && ++n > model.config->limit_sticky_ports_per_user)
            g_array_remove_index(model.stickies, i);
}

gboolean model_is_room_for_chunk(guint first, guint last)
{
    const PortRange range = {(guint16)first, (guint16)last};

    for (guint i = 0; i < model.config->service_types->len; i++)
        if (port_range_overlaps(((const ServiceType *)model.config->service_types->pdata[i])->range,
                                range))
            return FALSE;
    for (guint i = 0; i < model.chunks->len; i++)
        if (port_range_overlaps(CHUNK_AT(i)->range, range))
            return FALSE;
    for (guint i = 0; i < SLOTS; i++)
        if (model.slots[i].real && model.slots[i].claims &&
            port_range_overlaps(model.slots[i].claim, range))
            return FALSE;
    return TRUE;
}

const Chunk *model_known_chunk(const char *type)
{
    for (guint i = 0; i < model.chunks->len; i++)
        if (model_same(CHUNK_AT(i)->service_type, type))
            return CHUNK_AT(i);
    return NULL;
}

const MSlot *model_claim_of(const char *type, const uid_t *uid)
{
    for (guint i = 0; i < SLOTS; i++)
        if (model.slots[i].real && model.slots[i].claims &&
            model_same(model.slots[i].request.service_type, type) &&
            (!uid || model.slots[i].request.uid == *uid))
            return &model.slots[i];
    return NULL;
}

PortRange model_would_be_chunk(const char *type)
{
    guint size = g_str_has_prefix(type, "mon-") ? 7 : 5;
    const MSlot *claimed = model_claim_of(type, NULL);

    if (model_known_chunk(type))
        return model_known_chunk(type)->range;
    if (claimed)
        return claimed->claim;
    for (guint first = model.config->auto_range.first;
         first + size - 1 <= model.config->auto_range.last; first++)
        if (model_is_room_for_chunk(first, first + size - 1))
            return (PortRange){(guint16)first, (guint16)(first + size - 1)};
    return (PortRange){0};
}

static guint auto_types_of(uid_t uid)
{
    guint n = 0;

    for (guint i = 0; i < model.chunks->len; i++)
        n += CHUNK_AT(i)->uid == uid;
    for (size_t i = 0; i < G_N_ELEMENTS(model_types); i++)
        n += model_claim_of(model_types[i], &uid) != NULL;
    return n;
}

guint model_leases_of(uid_t uid)
{
    guint n = 0;

    for (guint i = 0; i < model.leases->len; i++)
        n += LEASE_AT(i)->uid == uid;
    return n;
}

static guint pending_of(uid_t uid)
{
    guint n = 0;

    for (guint i = 0; i < SLOTS; i++)
        if (model.slots[i].real && model.slots[i].request.uid == uid)
            n += model.slots[i].request.count;
    return n;
}

/* Fills @slot, but for the reservation itself, as registry_begin() is documented. */
Outcome model_begin(const LeaseRequest *request, MSlot *slot, const MLease **ret_reused)
{
    const Configuration *config = model.config;
    const ServiceType *type = model_find_type(config, request->service_type);
    gboolean has_range = request->range.first || request->range.last;
    guint last = request->port + request->count - 1;
    guint lowest = request->privileged ? 1 : 1024;
    guint sticky = 0;

    if (request->count == 0 || (request->count > 1 && request->instance) ||
        (has_range && (request->range.first == 0 || request->range.first > request->range.last ||
                       request->range.first + request->count - 1 > request->range.last)) ||
        (request->strict &&
         (request->port == 0 || last > 65535 ||
          (has_range && (request->port < request->range.first || last > request->range.last)))))
        return OUTCOME_INVALID_ARGUMENT;
    if (!type && !config->auto_enabled)
        return OUTCOME_UNKNOWN_SERVICE_TYPE;
    if (type && type->single && request->count > 1)
        return OUTCOME_INVALID_ARGUMENT;

    slot->request = *request;
    slot->single = type && type->single;
    slot->instance = slot->single ? NULL : request->instance;
    slot->protocol = request->protocol ? request->protocol : type ? type->protocol : PROTOCOL_TCP;

    for (guint i = model.leases->len; i-- > 0 && (slot->single || slot->instance);) {
        const MLease *lease = LEASE_AT(i);

        if (!lease->quarantined && model_same(lease->type, request->service_type) &&
            (slot->single ||
             (lease->uid == request->uid && model_same(lease->instance, slot->instance)))) {
            *ret_reused = lease;
            return OUTCOME_OK;
        }
    }
    for (guint i = 0; i < SLOTS && (slot->single || slot->instance); i++) {
        const MSlot *other = &model.slots[i];

        if (other->real && model_same(other->request.service_type, request->service_type) &&
            (slot->single ? other->single
                          : !other->single && other->request.uid == request->uid &&
                                model_same(other->instance, slot->instance)))
            return OUTCOME_BUSY;
    }

    if (!request->privileged &&
        ((request->port && request->port < 1024) || (has_range && request->range.first < 1024) ||
         (type && type->range.last < 1024 && !request->port)))
        return OUTCOME_NOT_AUTHORIZED;
    if (request->count > config->limit_block_size ||
        (request->uid != 0 &&
         model_leases_of(request->uid) + pending_of(request->uid) + request->count >
             config->limit_leases_per_user))
        return OUTCOME_QUOTA_EXCEEDED;
    for (guint i = 0; i < model.leases->len && request->strict; i++)
        if (LEASE_AT(i)->port >= request->port && LEASE_AT(i)->port <= last &&
            (LEASE_AT(i)->protocol & slot->protocol))
            return OUTCOME_PORT_IN_USE;
    slot->claims = FALSE;
    if (!type) {
        slot->claims = !model_known_chunk(request->service_type);
        if (slot->claims && request->uid != 0 &&
            !model_claim_of(request->service_type, &request->uid) &&
            auto_types_of(request->uid) >= config->limit_auto_types_per_user)
            return OUTCOME_QUOTA_EXCEEDED;
        slot->claim = model_would_be_chunk(request->service_type);
        if (slot->claim.first == 0)
            return OUTCOME_NO_PORT_AVAILABLE;
    }

    slot->range = has_range ? request->range : type ? type->range : slot->claim;
    slot->order = g_array_new(FALSE, FALSE, sizeof(guint16));
    if (request->port && last <= 65535)
        model_put(slot->order, request->port);
    if (slot->instance)
        sticky = sticky_port(request->uid, request->service_type, slot->instance);
    if (sticky && !request->strict && sticky >= lowest &&
        (!has_range || (sticky >= request->range.first && sticky <= request->range.last)))
        model_put(slot->order, sticky);
    for (size_t i = 0; type && !request->strict && i < type->n_preferred_ports; i++) {
        guint port = type->preferred_ports[i];

        if (port >= lowest && port >= slot->range.first &&
            port + request->count - 1 <= slot->range.last)
            model_put(slot->order, port);
    }
    for (guint port = slot->range.first;
         !request->strict && port + request->count - 1 <= slot->range.last; port++)
        if (port >= lowest)
            model_put(slot->order, port);
    return OUTCOME_OK;
}
