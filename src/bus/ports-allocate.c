/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "bus/ports-methods.h"

#include <errno.h>

#include "bus/authority.h"
#include "bus/caller.h"
#include "bus/encode.h"
#include "bus/errors.h"
#include "bus/options.h"
#include "bus/sd-bus-auto.h"
#include "bus/watched.h"

#define PRIVILEGED_PORTS_END 1024

/* ---- the answers ---- */

static int append_details(sd_bus_message *reply, const AllocateResult *result)
{
    const Lease *first = result->leases->pdata[0];
    int r = sd_bus_message_open_container(reply, SD_BUS_TYPE_ARRAY, "{sv}");

    if (r >= 0)
        r = encode_entry_u32(reply, "attempts", result->attempts);
    if (r >= 0)
        r = encode_entry_ports(reply, "conflicts", result->conflicts);
    if (r >= 0)
        r = encode_entry_bool(reply, "reused", result->reused);
    if (r >= 0)
        r = encode_entry_string(reply, "protocol", protocol_to_string(first->protocol));
    if (r >= 0 && result->hold_refused)
        r = encode_entry_string(reply, "hold", hold_to_string(HOLD_NONE));
    return r < 0 ? r : sd_bus_message_close_container(reply);
}

static int append_one(sd_bus_message *reply, const AllocateResult *result)
{
    const Lease *lease = result->leases->pdata[0];

    return sd_bus_message_append(reply, "qs", lease->port, lease->id.text);
}

static int append_socket(sd_bus_message *reply, const AllocateResult *result)
{
    int r = append_one(reply, result);

    /* sd-bus sends a duplicate; the manager closes the socket itself. */
    return r < 0 ? r : sd_bus_message_append_basic(reply, SD_BUS_TYPE_UNIX_FD, result->socket);
}

static int append_block(sd_bus_message *reply, const AllocateResult *result)
{
    int r = sd_bus_message_open_container(reply, SD_BUS_TYPE_ARRAY, "(qs)");

    for (guint i = 0; r >= 0 && i < result->leases->len; i++) {
        const Lease *lease = result->leases->pdata[i];

        r = sd_bus_message_append(reply, "(qs)", lease->port, lease->id.text);
    }
    return r < 0 ? r : sd_bus_message_close_container(reply);
}

typedef int (*AppendGrant)(sd_bus_message *reply, const AllocateResult *result);

static void finish(const AllocateResult *result, Call *call, AppendGrant append)
{
    g_autoptr(sd_bus_message) reply = NULL;
    Manager *manager = call->context->manager;
    gboolean undo = !result->reused;
    int r;

    call->job = NULL;
    if (result->outcome != OUTCOME_OK) {
        call_refuse(call, result->error);
        return;
    }
    r = sd_bus_message_new_method_return(call->message, &reply);
    if (r >= 0)
        r = append(reply, result);
    if (r >= 0)
        r = append_details(reply, result);
    if (r >= 0) {
        r = call_send(call, reply);
    } else {
        g_autoptr(GError) error =
            g_error_new(OUTCOME_ERROR, OUTCOME_BUSY, "the answer could not be put together: %s",
                        g_strerror(-r));

        call_refuse(call, error);
    }
    /* Nobody can know of a grant whose answer did not go out. A broken connection is another
     * matter: the caller may call again with the same instance. */
    if (r < 0 && r != -ENOTCONN && r != -ECONNRESET && undo)
        manager_release(manager, result->leases, REASON_RELEASED, NULL, NULL);
}

static void allocate_done(const AllocateResult *result, void *data)
{
    finish(result, data, append_one);
}

static void allocate_socket_done(const AllocateResult *result, void *data)
{
    finish(result, data, append_socket);
}

static void allocate_block_done(const AllocateResult *result, void *data)
{
    finish(result, data, append_block);
}

/* ---- the requests ---- */

typedef enum Form {
    FORM_PORT,
    FORM_SOCKET,
    FORM_BLOCK,
} Form;

static gboolean read_request(sd_bus_message *m, Form form, AllocateArguments *ret_arguments,
                             GError **error)
{
    const char *service_type = NULL;
    guint16 count = 1;
    int r = sd_bus_message_read_basic(m, SD_BUS_TYPE_STRING, &service_type);

    if (r >= 0 && form == FORM_BLOCK)
        r = sd_bus_message_read_basic(m, SD_BUS_TYPE_UINT16, &count);
    if (r < 0) {
        g_set_error(error, OUTCOME_ERROR, OUTCOME_INVALID_ARGUMENT,
                    "the arguments cannot be read: %s", g_strerror(-r));
        return FALSE;
    }
    if (!options_check_service_type(service_type, error) ||
        !options_parse_allocate(m, ret_arguments, error))
        return FALSE;
    ret_arguments->request.service_type = service_type;
    ret_arguments->request.count = count;
    ret_arguments->options.want_socket = form == FORM_SOCKET;
    return TRUE;
}

static gboolean check_form(const Connection *connection, Form form,
                           const AllocateArguments *arguments, GError **error)
{
    const LeaseRequest *request = &arguments->request;
    guint block_max = manager_configuration(connection->context->manager)->limit_block_size;

    if (form == FORM_BLOCK && (request->count == 0 || request->count > block_max)) {
        g_set_error(error, OUTCOME_ERROR, OUTCOME_INVALID_ARGUMENT,
                    "a block of %u ports cannot be had (1 to %u)", request->count, block_max);
        return FALSE;
    }
    if (form == FORM_SOCKET && request->protocol == PROTOCOL_BOTH) {
        g_set_error_literal(error, OUTCOME_ERROR, OUTCOME_INVALID_ARGUMENT,
                            "Option 'protocol': one socket cannot be both 'tcp' and 'udp'");
        return FALSE;
    }
    if (form == FORM_SOCKET && request->hold == HOLD_SOFT) {
        g_set_error_literal(error, OUTCOME_ERROR, OUTCOME_INVALID_ARGUMENT,
                            "Option 'hold': the socket that is handed over holds the port already");
        return FALSE;
    }
    if (form == FORM_SOCKET && sd_bus_can_send(connection->bus, SD_BUS_TYPE_UNIX_FD) <= 0) {
        g_set_error_literal(error, OUTCOME_ERROR, OUTCOME_INVALID_ARGUMENT,
                            "this connection cannot carry file descriptors");
        return FALSE;
    }
    return TRUE;
}

static gboolean needs_privilege(const LeaseRequest *request)
{
    return (request->port > 0 && request->port < PRIVILEGED_PORTS_END) ||
           (request->range.first > 0 && request->range.first < PRIVILEGED_PORTS_END);
}

static void start(Call *call, AllocateArguments *arguments, Form form, gboolean privileged)
{
    static const AllocateDone done[] = {
        [FORM_PORT] = allocate_done,
        [FORM_SOCKET] = allocate_socket_done,
        [FORM_BLOCK] = allocate_block_done,
    };
    LeaseRequest *request = &arguments->request;
    g_autofree char *unit = NULL;
    g_autoptr(GError) error = NULL;
    ManagerJob *job = NULL;

    if (!watched_resolve(call->caller, arguments, &request->process, &unit, &error)) {
        call_refuse(call, error);
        return;
    }
    request->uid = call->caller->uid;
    request->privileged = privileged;
    request->unit = request->process.pid > 0 ? unit : caller_unit(call->caller);
    if (request->lifetime == LIFETIME_CLIENT)
        request->client = call->caller->name;
    job = manager_allocate(call->context->manager, request, &arguments->options, done[form], call);
    if (job) /* else it is answered, and the call gone */
        call->job = job;
}

/* The request of a privileged port goes on once that is allowed; it is read again for that. */
static void go_on_privileged(Call *call, const GError *refusal, Form form)
{
    g_autoptr(GError) error = NULL;
    AllocateArguments arguments;

    if (refusal) {
        call_refuse(call, refusal);
        return;
    }
    (void)sd_bus_message_rewind(call->message, TRUE); /* it was read before */
    if (!read_request(call->message, form, &arguments, &error)) {
        call_refuse(call, error);
        return;
    }
    start(call, &arguments, form, TRUE);
}

static void port_allowed(Call *call, const GError *refusal)
{
    go_on_privileged(call, refusal, FORM_PORT);
}

static void socket_allowed(Call *call, const GError *refusal)
{
    go_on_privileged(call, refusal, FORM_SOCKET);
}

static void block_allowed(Call *call, const GError *refusal)
{
    go_on_privileged(call, refusal, FORM_BLOCK);
}

static int allocate(sd_bus_message *m, Connection *connection, Form form, sd_bus_error *error)
{
    static const AuthorityDone allowed[] = {
        [FORM_PORT] = port_allowed,
        [FORM_SOCKET] = socket_allowed,
        [FORM_BLOCK] = block_allowed,
    };
    g_autoptr(GError) refusal = NULL;
    AllocateArguments arguments;
    Call *call = NULL;
    gboolean privileged = FALSE;

    if (!read_request(m, form, &arguments, &refusal) ||
        !check_form(connection, form, &arguments, &refusal))
        return bus_error_set_gerror(error, refusal);
    call = call_new(connection, m, error);
    if (!call)
        return -EDQUOT;
    privileged = authority_check(call->caller, AUTHORITY_PRIVILEGED_PORT, call->caller->uid, NULL);
    if (!privileged && needs_privilege(&arguments.request))
        authority_ask(call, AUTHORITY_PRIVILEGED_PORT, call->caller->uid, allowed[form]);
    else
        start(call, &arguments, form, privileged);
    return 1;
}

int ports_allocate(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
    return allocate(m, userdata, FORM_PORT, error);
}

int ports_allocate_socket(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
    return allocate(m, userdata, FORM_SOCKET, error);
}

int ports_allocate_block(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
    return allocate(m, userdata, FORM_BLOCK, error);
}
