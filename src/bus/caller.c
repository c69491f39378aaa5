/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "bus/caller.h"

#include "bus/authority.h"
#include "bus/bulk.h"
#include "bus/errors.h"
#include "bus/pictures.h"
#include "bus/sd-bus-auto.h"
#include "probe/process.h"
#include "util/fd.h"

void caller_init(Caller *caller, Connection *connection, const char *name, uid_t uid, pid_t pid,
                 int pidfd)
{
    *caller = (Caller){
        .connection = connection,
        .name = g_strdup(name),
        .uid = uid,
        .pid = pid,
        .pidfd = pidfd,
        .administrator =
            uid == 0 || (connection->context->own_uid_administrates && uid == geteuid()),
    };
    g_queue_init(&caller->calls);
}

/* Leaves calls that cannot be called back, on their way to the disk, to their own end. */
static void forsake(Call *call)
{
    Manager *manager = call->context->manager;
    gboolean looked = pictures_forget(call);

    g_queue_unlink(&call->caller->calls, &call->node);
    if (call->asking) {
        authority_forget(call);
        call->context->n_calls--;
        call->caller = NULL;
        (void)call_free(call);
        return;
    }
    call->caller = NULL;
    call->context->n_calls--;
    call->context = NULL; /* may go before the call does */
    if (call->job)
        manager_job_cancel(call->job);
    else if (call->bulk)
        bulk_cancel(call->bulk);
    else if (!looked && !manager_withdraw(manager, call))
        return;
    (void)call_free(call);
}

void caller_stops_waiting(Caller *caller)
{
    while (caller->calls.head)
        forsake(caller->calls.head->data);
    bulk_forget_caller(caller->connection->context->bulk, caller);
}

static void leave(Caller *caller, void (*tell)(Manager *manager, const char *client))
{
    caller_stops_waiting(caller);
    if (caller->name)
        tell(caller->connection->context->manager, caller->name);
    caller->pidfd = fd_close(caller->pidfd);
    g_clear_pointer(&caller->name, g_free);
    g_clear_pointer(&caller->unit, g_free);
}

void caller_gone(Caller *caller)
{
    leave(caller, manager_client_gone);
}

void caller_lost(Caller *caller)
{
    leave(caller, manager_client_lost);
}

const char *caller_unit(Caller *caller)
{
    ProcessIdentity identity;

    if (!caller->unit_known) {
        caller->unit_known = TRUE;
        if (caller->pid > 0)
            (void)process_identify(caller->pid, caller->pidfd, &identity, NULL, &caller->unit, NULL,
                                   NULL); /* a caller that has ended by now has no unit */
    }
    return caller->unit;
}

gboolean caller_has_leases(const Caller *caller)
{
    return registry_first_of_client(manager_registry(caller->connection->context->manager),
                                    caller->name) != NULL;
}

gboolean caller_is_needed(const Caller *caller)
{
    return caller->calls.length > 0 || caller_has_leases(caller);
}

Call *call_new(Connection *connection, sd_bus_message *m, sd_bus_error *error)
{
    Caller *caller = connection->current;
    guint max =
        manager_configuration(connection->context->manager)->limit_pending_requests_per_connection;
    Call *call = NULL;

    g_assert(caller);
    if (caller->calls.length >= max) {
        (void)bus_error_set(error, OUTCOME_QUOTA_EXCEEDED,
                            "%u requests of this connection wait for their answer already, as many "
                            "as limits.pending_requests_per_connection allows",
                            caller->calls.length);
        return NULL;
    }
    call = g_new0(Call, 1);
    call->context = connection->context;
    call->caller = caller;
    call->message = sd_bus_message_ref(m);
    call->node.data = call;
    g_queue_push_tail_link(&caller->calls, &call->node);
    call->context->n_calls++;
    return call;
}

Call *call_free(Call *call)
{
    if (!call)
        return NULL;
    if (call->caller) {
        g_queue_unlink(&call->caller->calls, &call->node);
        call->context->n_calls--;
    }
    g_slist_free_full(call->grants, g_free);
    sd_bus_message_unref(call->message);
    g_free(call);
    return NULL;
}

int call_send(Call *call, sd_bus_message *reply)
{
    int r = 0;

    if (call->caller) {
        r = sd_bus_send(call->caller->connection->bus, reply, NULL);
        bus_link_touch(call->caller->connection->link);
    }
    (void)call_free(call);
    return r;
}

void call_refuse(Call *call, const GError *error)
{
    g_auto(sd_bus_error) bus_error = SD_BUS_ERROR_NULL;

    if (call->caller) {
        (void)bus_error_set_gerror(&bus_error, error);
        /* What cannot be sent cannot be reported either; a broken connection ends by itself. */
        (void)sd_bus_reply_method_error(call->message, &bus_error);
        bus_link_touch(call->caller->connection->link);
    }
    (void)call_free(call);
}
