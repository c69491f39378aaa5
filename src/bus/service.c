/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "bus/service.h"

#include "bus/bulk.h"
#include "bus/direct.h"
#include "bus/errors.h"
#include "bus/outbox.h"
#include "bus/pictures.h"
#include "bus/units.h"

#define SHUTDOWN_USEC (2 * G_TIME_SPAN_SECOND)

typedef enum Leaving {
    LEAVING_NOT,
    LEAVING_NAME,  /* the broker has to confirm that the name is given back */
    LEAVING_QUEUE, /* what was answered has to get out */
    LEAVING_DONE,
} Leaving;

struct BusService {
    BusServiceOptions options;
    BusContext context;
    Broker *broker; /* owned, NULL before bus_service_open_broker() */
    Direct *direct; /* owned, NULL before bus_service_listen() */
    Units *units;   /* owned */
    gboolean announced;
    Leaving leaving;
    Deadline *leaving_deadline;
    void (*left)(void *data);
    void *left_data;
};

static gboolean is_flushed(const BusService *service)
{
    return service->context.n_calls == 0 &&
           (!service->broker || broker_is_quiet(service->broker)) &&
           (!service->direct || direct_is_flushed(service->direct));
}

static void leave(void *data)
{
    BusService *service = data;

    service->leaving = LEAVING_DONE;
    service->leaving_deadline = NULL;
    service->left(service->left_data);
}

/* From a deadline, because the callee may free the service. */
static void leave_at(BusService *service, gint64 when_usec)
{
    (void)deadline_cancel(service->leaving_deadline);
    service->leaving_deadline = deadline_add(service->context.deadlines, when_usec, leave, service);
}

/* What is to be done beside the messages, once in a turn. Returns: whether there is more. */
static gboolean work(void *data)
{
    BusService *service = data;
    gboolean more = pictures_work(service->context.pictures);

    more |= bulk_work(service->context.bulk);
    more |= outbox_work(service->context.outbox);
    if (service->options.active)
        service->options.active(service->options.data);
    if (service->leaving != LEAVING_QUEUE)
        return more;
    if (!more && is_flushed(service))
        leave_at(service, 0);
    return more;
}

/* ---- the broker ---- */

static void on_named(void *data)
{
    BusService *service = data;

    if (!service->announced) {
        service->announced = TRUE;
        manager_announce(service->context.manager);
    }
    if (service->options.named)
        service->options.named(service->options.data);
}

static void on_lost(void *data)
{
    BusService *service = data;

    units_disconnected(service->units);
    if (service->options.lost)
        service->options.lost(service->options.data);
}

static void on_failed(const GError *error, void *data)
{
    BusService *service = data;

    if (service->options.failed)
        service->options.failed(error, service->options.data);
}

static const BrokerListener broker_listener = {
    .named = on_named,
    .lost = on_lost,
    .failed = on_failed,
};

gboolean bus_service_open_broker(BusService *service, BusKind kind, const char *address,
                                 GError **error)
{
    g_assert(!service->broker);
    service->broker =
        broker_new(&service->context, kind, address, &broker_listener, service, error);
    return service->broker != NULL;
}

gboolean bus_service_listen(BusService *service, int fd, GError **error)
{
    g_assert(!service->direct);
    service->direct = direct_new(&service->context, service->options.context, fd, error);
    return service->direct != NULL;
}

/* The service manager is on the same bus as we are: the system's, or the user's. */
static sd_bus *systemd_bus(void *data)
{
    return ((BusService *)data)->context.broker_bus;
}

/* ---- the end ---- */

gboolean bus_service_is_idle(const BusService *service)
{
    return service->context.n_calls == 0 &&
           (!service->direct || direct_connections(service->direct) == 0) &&
           (!service->broker || broker_is_quiet(service->broker));
}

static void on_name_released(void *data)
{
    BusService *service = data;

    if (service->leaving != LEAVING_NAME) /* it took too long */
        return;
    service->leaving = LEAVING_QUEUE;
    bus_source_wake(service->context.source);
}

void bus_service_shutdown(BusService *service, void (*done)(void *data), void *data)
{
    g_assert(service->leaving == LEAVING_NOT);
    service->leaving = LEAVING_NAME;
    service->left = done;
    service->left_data = data;
    leave_at(service, g_get_monotonic_time() + SHUTDOWN_USEC);
    if (service->direct)
        direct_stop(service->direct);
    if (service->broker)
        broker_release(service->broker, on_name_released, service);
    else
        on_name_released(service);
}

BusService *bus_service_new(const BusServiceOptions *options, GError **error)
{
    BusService *service = g_new0(BusService, 1);
    BusContext *context = &service->context;

    bus_errors_init();
    service->options = *options;
    context->manager = options->manager;
    context->own_uid_administrates = options->own_uid_administrates;
    context->questions = g_hash_table_new(NULL, NULL);
    context->deadlines = deadline_queue_new(options->context);
    context->source = bus_source_new(options->context, context->deadlines, error);
    if (!context->source) {
        context->deadlines = deadline_queue_free(context->deadlines);
        g_hash_table_unref(context->questions);
        g_free(service);
        return NULL;
    }
    context->outbox = outbox_new(context);
    context->bulk = bulk_queue_new(context->source);
    context->pictures = pictures_new(options->context, context->source);
    bus_source_set_work(context->source, work, service);
    service->units = units_new(systemd_bus, service);
    manager_set_services(options->manager, units_services(), service->units);
    return service;
}

BusService *bus_service_free(BusService *service)
{
    if (!service)
        return NULL;
    manager_set_services(service->context.manager, NULL, NULL);
    service->units = units_free(service->units);
    service->direct = direct_free(service->direct);
    service->broker = broker_free(service->broker);
    service->context.pictures = pictures_free(service->context.pictures);
    service->context.bulk = bulk_queue_free(service->context.bulk);
    service->context.outbox = outbox_free(service->context.outbox);
    service->context.source = bus_source_free(service->context.source);
    service->context.deadlines = deadline_queue_free(service->context.deadlines);
    g_hash_table_unref(service->context.questions);
    g_free(service);
    return NULL;
}
