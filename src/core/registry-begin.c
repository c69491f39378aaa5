/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "core/registry-private.h"

/*
 * The first half of a grant: every refusal that needs no look at the machine, in this order: what
 * is wrong whoever asks; the type; a lease that is handed back; what this caller may not; what this
 * caller has too much of; what somebody else has. Nothing is changed before the last of them.
 */

#define UNPRIVILEGED_FIRST 1024
#define TYPES_NAMED_MAX 24

G_GNUC_PRINTF(3, 4)
static Outcome refuse(GError **error, Outcome outcome, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    if (error)
        *error = g_error_new_valist(OUTCOME_ERROR, (int)outcome, format, args);
    va_end(args);
    return outcome;
}

/* Text that a caller chose, fit for a message: short and printable. */
static char *quote(const char *text)
{
    GString *quoted = g_string_new("'");

    for (size_t i = 0; text && text[i]; i++) {
        if (i == 60) {
            g_string_append(quoted, "...");
            break;
        }
        g_string_append_c(quoted, g_ascii_isprint(text[i]) ? text[i] : '?');
    }
    g_string_append_c(quoted, '\'');
    return g_string_free(quoted, FALSE);
}

static Outcome check_arguments(const Registry *registry, const LeaseRequest *request,
                               GError **error)
{
    gboolean has_range = request->range.first != 0 || request->range.last != 0;

    if (!service_type_is_valid(request->service_type)) {
        g_autofree char *quoted = quote(request->service_type);

        return refuse(error, OUTCOME_INVALID_ARGUMENT,
                      "invalid service type %s: it takes 1 to 50 letters, digits and '-'", quoted);
    }
    if (request->instance && !instance_is_valid(request->instance)) {
        g_autofree char *quoted = quote(request->instance);

        return refuse(error, OUTCOME_INVALID_ARGUMENT,
                      "invalid instance %s: it takes 1 to 100 letters, digits, '_' and '-'",
                      quoted);
    }
    if (request->label && !label_is_valid(request->label)) {
        g_autofree char *quoted = quote(request->label);

        return refuse(error, OUTCOME_INVALID_ARGUMENT,
                      "invalid label %s: it takes 1 to 100 letters, digits, '_', '.' and '-'",
                      quoted);
    }
    if ((guint)request->protocol > PROTOCOL_BOTH)
        return refuse(error, OUTCOME_INVALID_ARGUMENT, "invalid protocol: it is tcp, udp or both");
    if (request->count == 0)
        return refuse(error, OUTCOME_INVALID_ARGUMENT,
                      "a block of 0 ports cannot be granted: ask for 1 or more");
    if (request->count > 1 && request->instance)
        return refuse(error, OUTCOME_INVALID_ARGUMENT,
                      "an instance names one port, not a block of %u: leave \"instance\" out or "
                      "ask for single ports",
                      request->count);
    if (has_range && !port_range_is_valid(request->range))
        return refuse(error, OUTCOME_INVALID_ARGUMENT,
                      "invalid range %u-%u: it must lie within 1-65535, the lower end first",
                      request->range.first, request->range.last);
    if (has_range && port_range_length(request->range) < request->count)
        return refuse(error, OUTCOME_INVALID_ARGUMENT, "range %u-%u is too short for %u ports",
                      request->range.first, request->range.last, request->count);
    if (request->strict && request->port == 0)
        return refuse(error, OUTCOME_INVALID_ARGUMENT, "\"strict\" needs a \"port\" to insist on");
    if (request->strict && (guint)request->port + request->count - 1 > G_MAXUINT16)
        return refuse(error, OUTCOME_INVALID_ARGUMENT, "%u ports from port %u on go beyond 65535",
                      request->count, request->port);
    if (request->strict && has_range &&
        (!port_range_contains(request->range, request->port) ||
         !port_range_contains(request->range, request->port + request->count - 1)))
        return refuse(error, OUTCOME_INVALID_ARGUMENT,
                      "\"strict\" insists on port %u, which is not in range %u-%u", request->port,
                      request->range.first, request->range.last);
    if (request->lifetime == LIFETIME_PROCESS && request->process.pid == 0)
        return refuse(error, OUTCOME_INVALID_ARGUMENT,
                      "lifetime \"process\" needs a process: add \"pid\" or \"pidfd\"");
    if (request->lifetime == LIFETIME_CLIENT && !request->client)
        return refuse(error, OUTCOME_INVALID_ARGUMENT,
                      "lifetime \"client\" needs a connection to end with");
    return OUTCOME_OK;
}

/* @ret_type is NULL for a type that has, or will get, a chunk. */
static Outcome find_type(const Registry *registry, const char *name, const ServiceType **ret_type,
                         GError **error)
{
    const Configuration *config = registry->config;
    const ServiceType *type = configuration_find_type(config, name);
    g_autoptr(GString) known = NULL;

    if (type || config->auto_enabled) {
        *ret_type = type;
        return OUTCOME_OK;
    }
    known = g_string_new(NULL);
    for (guint i = 0; i < config->service_types->len && i < TYPES_NAMED_MAX; i++)
        g_string_append_printf(known, "%s%s", i > 0 ? ", " : "",
                               ((const ServiceType *)config->service_types->pdata[i])->name);
    if (config->service_types->len > TYPES_NAMED_MAX)
        g_string_append_printf(known, " and %u more", config->service_types->len - TYPES_NAMED_MAX);
    return refuse(error, OUTCOME_UNKNOWN_SERVICE_TYPE,
                  "service type '%s' is not configured; known: %s; add it to \"service_types\" or "
                  "switch \"auto_allocation\" on",
                  name, known->len > 0 ? known->str : "none");
}

/* Quarantined leases belong to nobody who could ask for them again. */
Lease *registry_find_reusable(const Registry *registry, const Reservation *like)
{
    const Lease *model = like->model;
    LeaseKey key = like->single ? LEASE_KEY_TYPE : LEASE_KEY_INSTANCE;
    Lease *lease = lease_index_first(&registry->by_key[key], model);

    while (lease && lease->health == HEALTH_QUARANTINED)
        lease = like->single ? lease->by_type.next : lease->by_instance.next;
    return lease;
}

static Outcome check_privilege(const LeaseRequest *request, PortRange range, GError **error)
{
    if (request->privileged)
        return OUTCOME_OK;
    if (request->port != 0 && request->port < UNPRIVILEGED_FIRST)
        return refuse(error, OUTCOME_NOT_AUTHORIZED,
                      "port %u is below 1024, which uid %u may not have: ask for a higher one",
                      request->port, request->uid);
    if (port_range_is_set(request->range) && request->range.first < UNPRIVILEGED_FIRST)
        return refuse(error, OUTCOME_NOT_AUTHORIZED,
                      "range %u-%u begins below 1024, where uid %u may not have ports: begin it "
                      "higher",
                      request->range.first, request->range.last, request->uid);
    if (port_range_is_set(range) && range.last < UNPRIVILEGED_FIRST && request->port == 0)
        return refuse(error, OUTCOME_NOT_AUTHORIZED,
                      "the ports of service type '%s', %u-%u, are below 1024, where uid %u may not "
                      "have ports",
                      request->service_type, range.first, range.last, request->uid);
    return OUTCOME_OK;
}

static Outcome check_quotas(const Registry *registry, const LeaseRequest *request, GError **error)
{
    const Configuration *config = registry->config;
    guint living = charges_count(registry->charges, request->uid, CHARGE_LEASES);
    guint pending = charges_count(registry->charges, request->uid, CHARGE_PENDING);
    guint64 wanted = (guint64)living + pending + request->count;

    /* Leases are shared out between users; what one call may cost concerns root as well. */
    if (request->count > 1 && request->count > config->limit_block_size)
        return refuse(error, OUTCOME_QUOTA_EXCEEDED,
                      "a block of %u ports is more than limits.block_size allows (%u)",
                      request->count, config->limit_block_size);
    if (request->uid != 0 && wanted > config->limit_leases_per_user)
        return refuse(error, OUTCOME_QUOTA_EXCEEDED,
                      "uid %u holds %u leases, %u more are being granted: another %u would exceed "
                      "limits.leases_per_user (%u): release some first",
                      request->uid, living, pending, request->count, config->limit_leases_per_user);
    return OUTCOME_OK;
}

static Outcome check_strict(const Registry *registry, const LeaseRequest *request,
                            Protocol protocol, GError **error)
{
    if (!request->strict)
        return OUTCOME_OK;
    for (guint i = 0; i < request->count; i++) {
        guint16 port = (guint16)(request->port + i);
        const Lease *holder = registry_find_port(registry, port, protocol);

        if (holder)
            return refuse(error, OUTCOME_PORT_IN_USE,
                          "port %u is leased (%s) to uid %u for service type '%s': ask without "
                          "\"strict\" for another one",
                          port, protocol_to_string(holder->protocol), holder->uid,
                          holder->service_type);
    }
    return OUTCOME_OK;
}

/* The chunk that @service_type has or would get; @uid is asked for quota unless NULL. */
static Outcome find_chunk(const Registry *registry, const char *service_type, const uid_t *uid,
                          PortRange *ret_range, gboolean *ret_known, GError **error)
{
    const Configuration *config = registry->config;

    if (chunks_find_known(registry->chunks, service_type, ret_range)) {
        *ret_known = TRUE;
        return OUTCOME_OK;
    }
    if (uid && *uid != 0 && !chunks_is_charged(registry->chunks, service_type, *uid)) {
        guint has = charges_count(registry->charges, *uid, CHARGE_AUTO_TYPES);

        if (has >= config->limit_auto_types_per_user)
            return refuse(error, OUTCOME_QUOTA_EXCEEDED,
                          "service type '%s' is new and uid %u has brought %u already, as many as "
                          "limits.auto_types_per_user allows (%u): use one of those",
                          service_type, *uid, has, config->limit_auto_types_per_user);
    }
    if (!chunks_propose(registry->chunks, config, service_type, ret_range))
        return refuse(error, OUTCOME_NO_PORT_AVAILABLE,
                      "no %u ports in a row are left in auto_allocation.port_range %u-%u for the "
                      "new service type '%s': widen it, or configure the type",
                      configuration_chunk_size(config, service_type), config->auto_range.first,
                      config->auto_range.last, service_type);
    *ret_known = FALSE;
    return OUTCOME_OK;
}

static PortRange usable_part(PortRange range, gboolean privileged)
{
    if (privileged || range.first >= UNPRIVILEGED_FIRST)
        return range;
    if (range.last < UNPRIVILEGED_FIRST)
        return (PortRange){0};
    return (PortRange){UNPRIVILEGED_FIRST, range.last};
}

static Lease *model_new(const LeaseRequest *request, const ServiceType *type)
{
    Lease *model = lease_new();
    Protocol of_type = type ? type->protocol : PROTOCOL_TCP;

    model->protocol = request->protocol ? request->protocol : of_type;
    model->lifetime = request->lifetime;
    model->hold = request->hold;
    model->on_unhealthy = request->on_unhealthy;
    model->uid = request->uid;
    model->ttl_msec = request->ttl_msec;
    model->health_timeout_msec = request->health_timeout_msec;
    model->process = request->process;
    model->service_type = g_ref_string_new_intern(request->service_type);
    model->unit = request->unit ? g_ref_string_new_intern(request->unit) : NULL;
    model->instance = type && type->single ? NULL : g_strdup(request->instance);
    model->label = g_strdup(request->label);
    model->address = g_strdup(request->address);
    if (request->lifetime == LIFETIME_CLIENT)
        model->client = g_strdup(request->client);
    model->health_url = g_strdup(request->health_url);
    return model;
}

static guint16 sticky_port(const Registry *registry, const LeaseRequest *request,
                           const Lease *model)
{
    guint16 port;

    if (!model->instance)
        return 0;
    port = stickies_find(registry->stickies, model->uid, model->service_type, model->instance);
    if (port < UNPRIVILEGED_FIRST && !request->privileged)
        return 0;
    if (port_range_is_set(request->range) && !port_range_contains(request->range, port))
        return 0;
    return port;
}

static Reservation *open_reservation(Registry *registry, const LeaseRequest *request,
                                     const ServiceType *type, Lease *model, PortRange range)
{
    Reservation *reservation = g_new0(Reservation, 1);

    reservation->registry = registry;
    reservation->config = configuration_ref(registry->config);
    reservation->type = type;
    reservation->model = model;
    reservation->single = type && type->single;
    reservation->strict = request->strict;
    reservation->requested = request->port;
    reservation->sticky = sticky_port(registry, request, model);
    reservation->range = range;
    reservation->usable = usable_part(range, request->privileged);
    reservation->count = request->count;
    reservation->conflicts = g_array_new(FALSE, FALSE, sizeof(guint16));
    reservation_take_place(reservation);
    charges_add(registry->charges, model->uid, CHARGE_PENDING, reservation->count);
    registry->n_reservations++;
    return reservation;
}

Outcome registry_begin(Registry *registry, const LeaseRequest *request, gint64 now_usec,
                       Reservation **ret_reservation, Lease **ret_reused, GError **error)
{
    const ServiceType *type = NULL;
    g_autoptr(Lease) model = NULL;
    Reservation like;
    Reservation *reservation;
    PortRange range = request->range;
    PortRange chunk = {0};
    gboolean chunk_known = TRUE;
    Outcome outcome;

    outcome = check_arguments(registry, request, error);
    if (outcome != OUTCOME_OK)
        return outcome;
    outcome = find_type(registry, request->service_type, &type, error);
    if (outcome != OUTCOME_OK)
        return outcome;
    if (type && type->single && request->count > 1)
        return refuse(error, OUTCOME_INVALID_ARGUMENT,
                      "service type '%s' has one lease for everybody, not a block of %u",
                      type->name, request->count);

    model = model_new(request, type);
    like = (Reservation){.model = model, .single = type && type->single};
    if (like.single || model->instance) {
        Lease *reusable = registry_find_reusable(registry, &like);

        if (reusable) {
            *ret_reservation = NULL;
            *ret_reused = lease_ref(reusable);
            return OUTCOME_OK;
        }
        if (g_hash_table_contains(registry->in_flight, &like))
            return refuse(error, OUTCOME_BUSY,
                          "service type '%s' is just being granted to another request for the "
                          "same lease: ask again",
                          request->service_type);
    }

    outcome = check_privilege(request, type ? type->range : (PortRange){0}, error);
    if (outcome != OUTCOME_OK)
        return outcome;
    outcome = check_quotas(registry, request, error);
    if (outcome != OUTCOME_OK)
        return outcome;
    outcome = check_strict(registry, request, model->protocol, error);
    if (outcome != OUTCOME_OK)
        return outcome;
    if (!type) {
        outcome =
            find_chunk(registry, request->service_type, &request->uid, &chunk, &chunk_known, error);
        if (outcome != OUTCOME_OK)
            return outcome;
    }
    if (!port_range_is_set(range))
        range = type ? type->range : chunk;

    reservation = open_reservation(registry, request, type, g_steal_pointer(&model), range);
    if (!chunk_known)
        reservation->claim =
            chunks_claim(registry->chunks, request->service_type, chunk, request->uid);
    *ret_reservation = reservation;
    *ret_reused = NULL;
    return OUTCOME_OK;
}

GArray *registry_suggest(Registry *registry, const char *service_type, uid_t uid, guint count,
                         gint64 now_usec, GError **error)
{
    const LeaseRequest request = {.service_type = service_type, .uid = uid, .count = 1};
    const PortSet *sets[2 * N_PROTOCOLS + 1];
    g_autofree PortSet *listed = NULL;
    const ServiceType *type = NULL;
    PortRange range = {0};
    gboolean known;
    GArray *ports;
    size_t n_sets;
    guint16 port = 0;

    if (check_arguments(registry, &request, error) != OUTCOME_OK ||
        find_type(registry, service_type, &type, error) != OUTCOME_OK)
        return NULL;
    if (type)
        range = type->range;
    else if (find_chunk(registry, service_type, NULL, &range, &known, error) != OUTCOME_OK)
        return NULL;
    range = usable_part(range, uid == 0);

    registry_purge_cooldowns(registry, now_usec);
    listed = g_new0(PortSet, 1);
    n_sets = registry_busy_sets(registry, type ? type->protocol : PROTOCOL_TCP, TRUE, sets);
    sets[n_sets++] = listed;
    ports = g_array_new(FALSE, FALSE, sizeof(guint16));
    for (size_t i = 0; type && i < type->n_preferred_ports && ports->len < count; i++) {
        port = type->preferred_ports[i];
        if (!port_range_contains(range, port) ||
            port_sets_find_free(sets, n_sets, (PortRange){port, port}, 1) == 0)
            continue;
        port_set_add(listed, port);
        g_array_append_val(ports, port);
    }
    while (ports->len < count && (port = port_sets_find_free(sets, n_sets, range, 1)) != 0) {
        g_array_append_val(ports, port);
        if (port == range.last)
            break;
        range.first = (guint16)(port + 1);
    }
    return ports;
}
