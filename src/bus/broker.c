/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "bus/broker.h"

#include <errno.h>
#include <gio/gio.h>
#include <string.h>
#include <sys/socket.h>

#include "bus/errors.h"
#include "bus/log-control.h"
#include "bus/message-bytes.h"
#include "bus/outbox.h"
#include "bus/ports-iface.h"
#include "bus/sd-bus-auto.h"
#include "recovery/events.h"

#define BACKOFF_FIRST_USEC (100 * G_TIME_SPAN_MILLISECOND)
#define BACKOFF_MAX_USEC (30 * G_TIME_SPAN_SECOND)

/* Codes of the D-Bus specification, "org.freedesktop.DBus.RequestName". */
enum {
    NAME_PRIMARY_OWNER = 1,
    NAME_EXISTS = 3,
    NAME_ALREADY_OWNER = 4,
};

/*
 * What has been answered waits for the broker in one row, for all callers. So that the row is short
 * and callers wait where they take turns, little goes into the socket (the kernel doubles it, and
 * counts 1,280 bytes for an answer), and with more than a few beyond it nobody is served.
 */
#define SEND_BUFFER_BYTES (8 * 1024)
static const BusLinkLimits limits = {
    .pause_reading = 4,
    .queued_max = 131072,
};

struct Broker {
    BusContext *context; /* borrowed */
    BusKind kind;
    char *address;                  /* owned */
    const BrokerListener *listener; /* borrowed */
    void *data;
    Connection connection; /* ->bus is NULL while there is none */
    Callers *callers;      /* owned, as long as the connection */
    sd_bus_slot *request;  /* owned: RequestName or ReleaseName on its way */
    gint64 backoff_usec;
    Deadline *retry; /* owned while it runs */
    gboolean releasing;
    void (*released)(void *data); /* called once the name is given back */
    void *released_data;
};

static gboolean connect_now(Broker *broker, GError **error);

static void disconnect(Broker *broker)
{
    Connection *connection = &broker->connection;

    if (!connection->bus)
        return;
    outbox_set_broker(broker->context->outbox, NULL);
    broker->context->broker_bus = NULL;
    connection->named = FALSE;
    broker->request = sd_bus_slot_unref(broker->request);
    broker->callers = callers_free(broker->callers);
    connection->link = bus_link_free(connection->link);
    sd_bus_close(connection->bus);
    connection->bus = sd_bus_unref(connection->bus);
}

static void on_retry(void *data)
{
    Broker *broker = data;

    broker->retry = NULL;
    (void)connect_now(broker, NULL); /* what it cannot do it tries again */
}

static void retry_later(Broker *broker, int error)
{
    event_bus_unreachable(-error, (guint)(broker->backoff_usec / G_TIME_SPAN_MILLISECOND));
    broker->retry = deadline_add(broker->context->deadlines,
                                 g_get_monotonic_time() + broker->backoff_usec, on_retry, broker);
    broker->backoff_usec = MIN(broker->backoff_usec * 2, BACKOFF_MAX_USEC);
    if (broker->listener->lost)
        broker->listener->lost(broker->data);
}

static void finish_release(Broker *broker)
{
    void (*released)(void *) = g_steal_pointer(&broker->released);

    if (released)
        released(broker->released_data);
}

static void on_closed(int error, void *data)
{
    Broker *broker = data;

    disconnect(broker);
    if (broker->releasing) {
        finish_release(broker);
        return;
    }
    retry_later(broker, error);
}

/* ---- messages ---- */

/* What concerns nobody in particular is answered without asking who it is. */
static gboolean is_for_everybody(sd_bus_message *m)
{
    const char *interface = sd_bus_message_get_interface(m);

    return interface && (strcmp(interface, "org.freedesktop.DBus.Peer") == 0 ||
                         strcmp(interface, "org.freedesktop.DBus.Introspectable") == 0 ||
                         (strcmp(interface, "org.freedesktop.DBus.Properties") == 0 &&
                          g_strcmp0(sd_bus_message_get_member(m), "Set") != 0));
}

static int on_message(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
    Broker *broker = userdata;
    int r;

    broker->connection.current = NULL;
    if (sd_bus_message_is_method_call(m, NULL, NULL) <= 0)
        return 0;
    r = message_check_path(m, error);
    if (r < 0)
        return r;
    r = callers_admit(broker->callers, m, is_for_everybody(m), &broker->connection.current, error);
    if (r < 0)
        return r;
    return r == 0; /* standing by: sd-bus is done with it for now */
}

static gboolean read_on(void *data)
{
    return callers_read_on(((Broker *)data)->callers);
}

static int hand_in(void *data)
{
    return callers_hand_in(((Broker *)data)->callers);
}

/* ---- the name ---- */

static void fail(Broker *broker, const char *why)
{
    g_autoptr(GError) error = g_error_new(G_IO_ERROR, G_IO_ERROR_EXISTS,
                                          "Cannot own the bus name %s: %s", PORTS_NAME, why);

    broker->listener->failed(error, broker->data);
}

static int on_name(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
    Broker *broker = userdata;
    guint32 code = 0;

    broker->request = sd_bus_slot_unref(broker->request);
    if (sd_bus_message_is_method_error(m, SD_BUS_ERROR_NO_REPLY) ||
        sd_bus_message_is_method_error(m, SD_BUS_ERROR_TIMEOUT)) {
        /* Not the broker's word: sd-bus says so when the connection ends or hangs. */
        bus_link_fail(broker->connection.link, -ENOTCONN);
        return 1;
    }
    if (sd_bus_message_is_method_error(m, NULL)) {
        fail(broker, sd_bus_message_get_error(m)->message);
        return 1;
    }
    if (sd_bus_message_read(m, "u", &code) < 0 || code == NAME_EXISTS) {
        fail(broker, "another process owns it");
        return 1;
    }
    if (code != NAME_PRIMARY_OWNER && code != NAME_ALREADY_OWNER) {
        fail(broker, "the broker gives an answer that is not understood");
        return 1;
    }
    /* sd-bus asks for 8 MiB when it connects. It works with more, too. */
    (void)setsockopt(sd_bus_get_fd(broker->connection.bus), SOL_SOCKET, SO_SNDBUF,
                     &(int){SEND_BUFFER_BYTES}, sizeof(int));
    broker->backoff_usec = BACKOFF_FIRST_USEC;
    broker->connection.named = TRUE;
    outbox_set_broker(broker->context->outbox, &broker->connection);
    broker->context->broker_bus = broker->connection.bus;
    broker->listener->named(broker->data);
    return 1;
}

/* ---- connecting ---- */

static int open_bus(const Broker *broker, sd_bus **ret_bus)
{
    g_autoptr(sd_bus) bus = NULL;
    int r;

    if (broker->kind == BUS_SYSTEM)
        return sd_bus_open_system_with_description(ret_bus, "system");
    if (broker->kind == BUS_USER)
        return sd_bus_open_user_with_description(ret_bus, "user");
    r = sd_bus_new(&bus);
    if (r >= 0)
        r = sd_bus_set_address(bus, broker->address);
    if (r >= 0)
        r = sd_bus_set_bus_client(bus, TRUE);
    if (r >= 0)
        r = sd_bus_set_description(bus, "address");
    if (r >= 0)
        r = sd_bus_start(bus);
    if (r >= 0)
        *ret_bus = g_steal_pointer(&bus);
    return r;
}

static int set_up(Broker *broker)
{
    Connection *connection = &broker->connection;
    int r = sd_bus_add_filter(connection->bus, NULL, on_message, broker);

    if (r >= 0)
        r = ports_export(connection);
    if (r >= 0)
        r = log_control_export(connection);
    if (r >= 0)
        r = sd_bus_request_name_async(connection->bus, &broker->request, PORTS_NAME, 0, on_name,
                                      broker);
    return r;
}

static gboolean connect_now(Broker *broker, GError **error)
{
    Connection *connection = &broker->connection;
    sd_bus *bus = NULL;
    int r = open_bus(broker, &bus);

    if (r == -EINVAL) {
        g_set_error(error, G_IO_ERROR, G_IO_ERROR_INVALID_ARGUMENT,
                    "'%s' is not an address of a message bus",
                    broker->address ? broker->address : "the environment's");
        return FALSE;
    }
    if (r < 0) {
        retry_later(broker, r);
        return TRUE;
    }
    *connection = (Connection){.context = broker->context, .bus = bus};
    connection->link =
        bus_link_new(broker->context->source, bus, TRUE, &limits, NULL, on_closed, broker);
    broker->callers = callers_new(connection);
    bus_link_set_share(connection->link,
                       &(BusShare){.read_on = read_on, .hand_in = hand_in, .data = broker});
    r = set_up(broker);
    if (r < 0)
        bus_link_fail(connection->link, r);
    return TRUE;
}

Broker *broker_new(BusContext *context, BusKind kind, const char *address,
                   const BrokerListener *listener, void *data, GError **error)
{
    Broker *broker = g_new0(Broker, 1);

    broker->context = context;
    broker->kind = kind;
    broker->address = g_strdup(address);
    broker->listener = listener;
    broker->data = data;
    broker->backoff_usec = BACKOFF_FIRST_USEC;
    return connect_now(broker, error) ? broker : broker_free(broker);
}

Broker *broker_free(Broker *broker)
{
    if (!broker)
        return NULL;
    disconnect(broker);
    broker->retry = deadline_cancel(broker->retry);
    g_free(broker->address);
    g_free(broker);
    return NULL;
}

static int on_name_released(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
    Broker *broker = userdata;

    broker->request = sd_bus_slot_unref(broker->request);
    finish_release(broker);
    return 1;
}

void broker_release(Broker *broker, void (*done)(void *data), void *data)
{
    broker->releasing = TRUE;
    if (broker->callers)
        callers_hurry(broker->callers);
    broker->released = done;
    broker->released_data = data;
    broker->retry = deadline_cancel(broker->retry);
    broker->request = sd_bus_slot_unref(broker->request);
    if (!broker->connection.bus ||
        sd_bus_release_name_async(broker->connection.bus, &broker->request, PORTS_NAME,
                                  on_name_released, broker) < 0)
        finish_release(broker);
}

gboolean broker_is_quiet(const Broker *broker)
{
    guint64 in = 0, out = 0;

    if (!broker->connection.bus)
        return TRUE;
    (void)sd_bus_get_n_queued_read(broker->connection.bus, &in);
    (void)sd_bus_get_n_queued_write(broker->connection.bus, &out);
    return in == 0 && out == 0 && callers_waiting(broker->callers) == 0;
}
