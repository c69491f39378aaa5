/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "bus/ports-methods.h"

#include <errno.h>
#include <string.h>

#include "bus/authority.h"
#include "bus/caller.h"
#include "bus/errors.h"
#include "bus/lookup.h"
#include "bus/sd-bus-auto.h"

/* ---- ending leases ---- */

static void reply_empty(const GError *error, void *data)
{
    g_autoptr(sd_bus_message) reply = NULL;
    Call *call = data;

    if (error)
        call_refuse(call, error);
    else if (sd_bus_message_new_method_return(call->message, &reply) >= 0)
        (void)call_send(call, reply); /* a broken connection ends by itself */
    else
        (void)call_free(call);
}

static void reply_count(const GError *error, void *data)
{
    g_autoptr(sd_bus_message) reply = NULL;
    Call *call = data;

    if (error)
        call_refuse(call, error);
    else if (sd_bus_message_new_method_return(call->message, &reply) >= 0 &&
             sd_bus_message_append(reply, "u", call->number) >= 0)
        (void)call_send(call, reply); /* a broken connection ends by itself */
    else
        (void)call_free(call);
}

/* A lease whose end is on its way to the disk cannot end a second time. */
static gboolean check_not_ending(const GPtrArray *leases, GError **error)
{
    for (guint i = 0; i < leases->len; i++) {
        const Lease *lease = leases->pdata[i];

        if (!lease->ending)
            continue;
        g_set_error(error, OUTCOME_ERROR, OUTCOME_BUSY, "lease %s is being released already",
                    lease->id.text);
        return FALSE;
    }
    return TRUE;
}

static void release(Call *call, GPtrArray *leases, ReleaseDone done)
{
    g_autoptr(GError) error = NULL;

    if (check_not_ending(leases, &error))
        manager_release(call->context->manager, leases, REASON_RELEASED, done, call);
    else
        call_refuse(call, error);
}

/* ---- Release ---- */

static void release_allowed(Call *call, const GError *refusal)
{
    g_autoptr(GPtrArray) leases = g_ptr_array_new();
    g_autoptr(GError) error = NULL;
    Lease *lease = NULL;

    if (refusal) {
        call_refuse(call, refusal);
        return;
    }
    lease = lookup_lease_of_message(call->context->manager, call->message, &error);
    if (!lease) {
        call_refuse(call, error);
        return;
    }
    g_ptr_array_add(leases, lease);
    release(call, leases, reply_empty);
}

static int act_on_lease(sd_bus_message *m, Connection *connection, AuthorityAction action,
                        AuthorityDone allowed, sd_bus_error *error)
{
    g_autoptr(GError) refusal = NULL;
    const Lease *lease = lookup_lease_of_message(connection->context->manager, m, &refusal);
    g_autofree char *port = NULL;
    g_autofree char *owner = NULL;
    Call *call = NULL;

    if (!lease)
        return bus_error_set_gerror(error, refusal);
    call = call_new(connection, m, error);
    if (!call)
        return -EDQUOT;
    port = g_strdup_printf("%u", lease->port);
    owner = g_strdup_printf("%u", lease->uid);
    authority_ask(
        call, action, lease->uid,
        (const char *const[]){"lease", lease->id.text, "port", port, "owner", owner, NULL},
        allowed);
    return 1;
}

int ports_release(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
    return act_on_lease(m, userdata, AUTHORITY_RELEASE, release_allowed, error);
}

/* ---- Renew ---- */

static void renew_allowed(Call *call, const GError *refusal)
{
    g_autoptr(sd_bus_message) reply = NULL;
    g_autoptr(GError) error = NULL;
    Lease *lease = NULL;
    gint64 expires_usec = 0;

    if (refusal) {
        call_refuse(call, refusal);
        return;
    }
    lease = lookup_lease_of_message(call->context->manager, call->message, &error);
    if (!lease || manager_renew(call->context->manager, lease, &expires_usec, &error) != OUTCOME_OK)
        call_refuse(call, error);
    else if (sd_bus_message_new_method_return(call->message, &reply) >= 0 &&
             sd_bus_message_append(reply, "t", (guint64)expires_usec) >= 0)
        (void)call_send(call, reply); /* a broken connection ends by itself */
    else
        (void)call_free(call);
}

int ports_renew(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
    return act_on_lease(m, userdata, AUTHORITY_RENEW, renew_allowed, error);
}

/* ---- ReleasePort ---- */

/* Returns: the leases on that port that share a protocol with @protocol: none, one or two. */
static GPtrArray *leases_on_port(Manager *manager, guint16 port, Protocol protocol)
{
    static const Protocol each[] = {PROTOCOL_TCP, PROTOCOL_UDP};
    g_autoptr(GPtrArray) leases = g_ptr_array_new();

    for (guint i = 0; i < G_N_ELEMENTS(each); i++) {
        Lease *lease = (protocol & each[i])
                           ? registry_find_port(manager_registry(manager), port, each[i])
                           : NULL;

        if (lease && !g_ptr_array_find(leases, lease, NULL))
            g_ptr_array_add(leases, lease);
    }
    return g_steal_pointer(&leases);
}

static GPtrArray *read_leases_on_port(Manager *manager, sd_bus_message *m, GError **error)
{
    g_autoptr(GPtrArray) leases = NULL;
    Protocol protocol;
    guint16 port;

    if (!lookup_read_port(m, &port, &protocol, error))
        return NULL;
    leases = leases_on_port(manager, port, protocol);
    if (leases->len == 0) {
        g_set_error(error, OUTCOME_ERROR, OUTCOME_UNKNOWN_LEASE, "no lease on port %u/%s", port,
                    protocol_to_string(protocol));
        return NULL;
    }
    return g_steal_pointer(&leases);
}

/* Returns: (transfer full): the ids of @leases, by blanks. */
static char *ids_of(const GPtrArray *leases)
{
    GString *ids = g_string_new(NULL);

    for (guint i = 0; i < leases->len; i++)
        g_string_append_printf(ids, "%s%s", i > 0 ? " " : "",
                               ((const Lease *)leases->pdata[i])->id.text);
    return g_string_free(ids, FALSE);
}

/* The one of somebody else decides, where tcp and udp belong to two. */
static uid_t owner_for(const GPtrArray *leases, uid_t caller)
{
    uid_t owner = ((const Lease *)leases->pdata[0])->uid;

    return owner == caller ? ((const Lease *)leases->pdata[leases->len - 1])->uid : owner;
}

/* A number is no fence: there may be another lease on it since the question was asked. */
static gboolean check_same(const Call *call, const GPtrArray *leases, GError **error)
{
    g_autofree char *ids = ids_of(leases);

    if (authority_allows(call, AUTHORITY_RELEASE, owner_for(leases, call->caller->uid),
                         (const char *const[]){"lease", ids, NULL}))
        return TRUE;
    g_set_error(error, OUTCOME_ERROR, OUTCOME_NOT_OWNER, "port %u has changed hands",
                ((const Lease *)leases->pdata[0])->port);
    return FALSE;
}

static void release_port_allowed(Call *call, const GError *refusal)
{
    g_autoptr(GPtrArray) leases = NULL;
    g_autoptr(GError) error = NULL;

    if (refusal) {
        call_refuse(call, refusal);
        return;
    }
    (void)sd_bus_message_rewind(call->message, TRUE); /* it was read before */
    leases = read_leases_on_port(call->context->manager, call->message, &error);
    if (leases && check_same(call, leases, &error))
        release(call, leases, reply_empty);
    else
        call_refuse(call, error);
}

int ports_release_port(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
    Connection *connection = userdata;
    g_autoptr(GPtrArray) leases = NULL;
    g_autoptr(GError) refusal = NULL;
    g_autofree char *ids = NULL;
    Call *call = NULL;

    leases = read_leases_on_port(connection->context->manager, m, &refusal);
    if (!leases)
        return bus_error_set_gerror(error, refusal);
    call = call_new(connection, m, error);
    if (!call)
        return -EDQUOT;
    ids = ids_of(leases);
    authority_ask(call, AUTHORITY_RELEASE, owner_for(leases, call->caller->uid),
                  (const char *const[]){"lease", ids, NULL}, release_port_allowed);
    return 1;
}

/* ---- ReleaseInstance ---- */

int ports_release_instance(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
    Connection *connection = userdata;
    const Registry *registry = manager_registry(connection->context->manager);
    g_autoptr(GPtrArray) leases = g_ptr_array_new();
    const char *instance = NULL;
    Call *call = NULL;
    int r = sd_bus_message_read_basic(m, SD_BUS_TYPE_STRING, &instance);

    if (r < 0)
        return r;
    if (!instance_is_valid(instance))
        return bus_error_set(error, OUTCOME_INVALID_ARGUMENT,
                             "an instance is 1 to 100 characters of [A-Za-z0-9_-]");
    /* The caller's own, so nobody has to be asked. */
    for (Lease *lease = registry_first_of_uid(registry, connection->current->uid); lease;
         lease = lease->by_uid.next)
        if (!lease->ending && g_strcmp0(lease->instance, instance) == 0)
            g_ptr_array_add(leases, lease);
    if (leases->len == 0)
        return sd_bus_reply_method_return(m, "u", 0);
    call = call_new(connection, m, error);
    if (!call)
        return -EDQUOT;
    call->number = leases->len;
    release(call, leases, reply_count);
    return 1;
}
