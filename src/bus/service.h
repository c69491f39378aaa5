/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>

#include "bus/broker.h"
#include "recovery/manager.h"

/*
 * The daemon's face: the interface org.styxy.Ports on a message bus and on the direct socket.
 */
typedef struct BusService BusService;

/** BusServiceOptions: callbacks come from the main loop; those left NULL are not called. */
typedef struct BusServiceOptions {
    Manager *manager;      /* borrowed; its listener is the service's as long as that lives */
    GMainContext *context; /* NULL: the default one */
    /* The daemon is its user's own: his uid counts as an administrator's. */
    gboolean own_uid_administrates;
    void (*active)(void *data); /* messages were handled, or a connection went; often */
    void (*named)(void *data);  /* the bus name is owned, again after a loss */
    void (*lost)(void *data);   /* there is no broker, it is looked for; also from open_broker() */
    void (*failed)(const GError *error, void *data); /* the name cannot be had: leave */
    void *data;
} BusServiceOptions;

/** bus_service_new: Returns: NULL with @error in G_FILE_ERROR when the kernel refuses an epoll. */
BusService *bus_service_new(const BusServiceOptions *options, GError **error);

/** bus_service_free: cuts all connections; client leases end. NULL is fine. Returns: NULL. */
BusService *bus_service_free(BusService *service);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(BusService, bus_service_free)

/**
 * bus_service_open_broker: connects and requests the name, without waiting; once per service.
 * Errors: as broker_new().
 */
gboolean bus_service_open_broker(BusService *service, BusKind kind, const char *address,
                                 GError **error);

/** bus_service_listen: serves @fd, taken over on success; once. Errors: as direct_new(). */
gboolean bus_service_listen(BusService *service, int fd, GError **error);

/** bus_service_is_idle: no direct connection, no call unanswered, nothing on its way in or out. */
gboolean bus_service_is_idle(const BusService *service);

/**
 * bus_service_shutdown: leaves without losing a call: takes no new direct connection, gives the
 * name back, answers what came before, and sends what is queued, for two seconds at most.
 * @done: called once, from the loop.
 */
void bus_service_shutdown(BusService *service, void (*done)(void *data), void *data);
