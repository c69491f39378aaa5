/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "bus/ports-methods.h"

#include <errno.h>
#include <string.h>

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

    int r = sd_bus_message_append_basic(reply, SD_BUS_TYPE_UINT16, &lease->port);

    return r < 0 ? r : sd_bus_message_append_basic(reply, SD_BUS_TYPE_STRING, lease->id.text);
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
        manager_undo_grant(manager, result->leases);
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

/* ---- what has to be allowed ---- */

static gboolean needs_privilege(const LeaseRequest *request)
{
    return (request->port > 0 && request->port < PRIVILEGED_PORTS_END) ||
           (request->range.first > 0 && request->range.first < PRIVILEGED_PORTS_END);
}

/* Allocation: one request on its way through what it needs, each step early out. */
typedef struct Allocation {
    AllocateArguments arguments;
    Watched watched;
    gboolean foreign_check; /* health_url names another port or address than the lease's own */
    gboolean foreign_unit;  /* what is to be restarted is not the caller's alone */
} Allocation;

static void allocation_clear(Allocation *allocation)
{
    watched_clear(&allocation->watched);
    g_clear_pointer(&allocation->arguments.health_url, g_free);
}

G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Allocation, allocation_clear)

/* Looks at everything that the request names; nothing of it is decided here. */
static gboolean inspect(Caller *caller, Allocation *allocation, GError **error)
{
    AllocateArguments *arguments = &allocation->arguments;
    const BusContext *context = caller->connection->context;

    if (!watched_resolve(caller, arguments, &allocation->watched, error) ||
        !options_resolve_health_url(arguments, &allocation->foreign_check, error))
        return FALSE;
    if (manager_configuration(context->manager)->health_any_local_port)
        allocation->foreign_check = FALSE;
    if (arguments->request.on_unhealthy != ON_UNHEALTHY_RESTART)
        return TRUE;
    if (!watched_check_restart(caller, &allocation->watched, context->own_uid_administrates, error))
        return FALSE;
    /* The unit that the caller runs in is not for that its own: cron's jobs run in cron.service. */
    allocation->foreign_unit = allocation->watched.foreign_unit;
    return TRUE;
}

/* Need: one of what a request has to be allowed, with what it is about. */
typedef struct Need {
    AuthorityAction action;
    gboolean needed;
    const char *name; /* of what it is about */
    char *value;      /* owned */
} Need;

#define NEEDS 4

static void needs_clear(Need (*needs)[NEEDS])
{
    for (size_t i = 0; i < NEEDS; i++)
        g_free((*needs)[i].value);
}

/* A process is named with its start, since another one may have its number by the time of a yes. */
static char *describe_process(const ProcessIdentity *process)
{
    return g_strdup_printf("%d since %" G_GUINT64_FORMAT, process->pid, process->start_ticks);
}

static void list_needs(const Allocation *allocation, Need (*ret_needs)[NEEDS])
{
    const LeaseRequest *request = &allocation->arguments.request;
    const Watched *watched = &allocation->watched;
    gboolean privileged = needs_privilege(request);
    const Need needs[NEEDS] = {
        {AUTHORITY_PRIVILEGED_PORT, privileged, "port",
         privileged ? g_strdup_printf("%u", request->port ? request->port : request->range.first)
                    : NULL},
        {AUTHORITY_WATCH_PROCESS, watched->foreign, "process",
         watched->foreign ? describe_process(&watched->identity) : NULL},
        {AUTHORITY_CHECK_PORT, allocation->foreign_check, "url",
         g_strdup(allocation->foreign_check ? request->health_url : NULL)},
        {AUTHORITY_RESTART_UNIT, allocation->foreign_unit, "unit",
         g_strdup(allocation->foreign_unit ? watched->unit : NULL)},
    };

    memcpy(*ret_needs, needs, sizeof(needs));
}

/* A call's number is its form. */
static void start(Call *call, Allocation *allocation, gboolean privileged)
{
    static const AllocateDone done[] = {
        [FORM_PORT] = allocate_done,
        [FORM_SOCKET] = allocate_socket_done,
        [FORM_BLOCK] = allocate_block_done,
    };
    LeaseRequest *request = &allocation->arguments.request;
    ManagerJob *job = NULL;

    request->uid = call->caller->uid;
    request->privileged = privileged;
    request->process = allocation->watched.identity;
    request->unit = request->process.pid > 0 ? allocation->watched.unit : caller_unit(call->caller);
    request->health_url = allocation->arguments.health_url;
    allocation->arguments.options.any_health_port = allocation->foreign_check; /* it is allowed */
    if (request->lifetime == LIFETIME_CLIENT)
        request->client = call->caller->name;
    job = manager_allocate(call->context->manager, request, &allocation->arguments.options,
                           done[call->number], call);
    if (job) /* else it is answered, and the call gone */
        call->job = job;
}

static void allowed(Call *call, const GError *refusal);

/* Asks for what is missing, one after the other, or starts. */
static void advance(Call *call, Allocation *allocation)
{
    Need needs[NEEDS] __attribute__((cleanup(needs_clear)));
    gboolean privileged;

    list_needs(allocation, &needs);
    for (size_t i = 0; i < NEEDS; i++) {
        const char *details[] = {needs[i].name, needs[i].value, NULL};

        if (needs[i].needed &&
            !authority_allows(call, needs[i].action, AUTHORITY_NOBODY, details)) {
            authority_ask(call, needs[i].action, AUTHORITY_NOBODY, details, allowed);
            return;
        }
    }
    privileged = needs[0].needed ||
                 authority_check(call->caller, AUTHORITY_PRIVILEGED_PORT, AUTHORITY_NOBODY, NULL);
    start(call, allocation, privileged);
}

/* Time has passed: what the message says is the same, what it names is looked at again. */
static void allowed(Call *call, const GError *refusal)
{
    g_auto(Allocation) allocation = {0};
    g_autoptr(GError) error = NULL;
    Form form = (Form)call->number;

    if (refusal) {
        call_refuse(call, refusal);
        return;
    }
    (void)sd_bus_message_rewind(call->message, TRUE); /* it was read before */
    if (read_request(call->message, form, &allocation.arguments, &error) &&
        inspect(call->caller, &allocation, &error))
        advance(call, &allocation);
    else
        call_refuse(call, error);
}

static int allocate(sd_bus_message *m, Connection *connection, Form form, sd_bus_error *error)
{
    g_auto(Allocation) allocation = {0};
    g_autoptr(GError) refusal = NULL;
    Call *call = NULL;

    if (!read_request(m, form, &allocation.arguments, &refusal) ||
        !check_form(connection, form, &allocation.arguments, &refusal) ||
        !inspect(connection->current, &allocation, &refusal))
        return bus_error_set_gerror(error, refusal);
    call = call_new(connection, m, error);
    if (!call)
        return -EDQUOT;
    call->number = form;
    advance(call, &allocation);
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
