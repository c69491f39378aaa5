/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "bus/direct.h"

#include <errno.h>
#include <glib-unix.h>
#include <sys/socket.h>

#include "bus/caller.h"
#include "bus/driver-iface.h"
#include "bus/intake.h"
#include "bus/log-control.h"
#include "bus/message-bytes.h"
#include "bus/outbox.h"
#include "bus/ports-iface.h"
#include "bus/sd-bus-auto.h"
#include "probe/process.h"
#include "recovery/events.h"
#include "util/fd.h"
#include "util/log.h"

#ifndef SO_PEERPIDFD
#define SO_PEERPIDFD 77 /* since Linux 6.5 */
#endif

/* Connections taken in one turn of the loop: fewer than can be served in it. */
#define ACCEPT_TURN_MAX 4
#define ACCEPT_PAUSE_USEC G_TIME_SPAN_SECOND
#define SEND_BUFFER_BYTES (256 * 1024)
/* One of so many connections. */
#define KEPT_PART 16
#define HANDSHAKE_USEC (10 * G_TIME_SPAN_SECOND)
/* No further call is taken while an answer waits to be read, so that only signals can pile up. */
static const BusLinkLimits limits = {
    .pause_reading = 0,
    .queued_max = 1024,
    .stalled_usec = 30 * G_TIME_SPAN_SECOND,
};

typedef struct Client {
    Direct *direct; /* borrowed */
    Connection connection;
    Caller peer;
    Driver *driver;      /* owned */
    Intake *intake;      /* owned: what sd-bus gets to read */
    Deadline *handshake; /* owned while it runs */
    GList node;
} Client;

struct Direct {
    BusContext *context; /* borrowed */
    GMainContext *gmain; /* borrowed */
    int fd;              /* owned; -1 once stopped */
    GSource *listening;  /* owned; NULL while paused */
    Deadline *pause;     /* owned while it runs */
    GQueue clients;      /* of Client, owned */
    GHashTable *by_uid;  /* uid -> number of connections */
    guint64 next_number;
    sd_id128_t server_id;
    gboolean leaving; /* who goes now is lost, and did not go by himself */
};

/* ---- one connection ---- */

static void count_uid(Direct *direct, uid_t uid, int by)
{
    gpointer key = GUINT_TO_POINTER(uid);
    int n = GPOINTER_TO_INT(g_hash_table_lookup(direct->by_uid, key)) + by;

    if (n > 0)
        g_hash_table_insert(direct->by_uid, key, GINT_TO_POINTER(n));
    else
        g_hash_table_remove(direct->by_uid, key);
}

static void client_free(Client *client)
{
    Direct *direct = client->direct;
    Connection *connection = &client->connection;

    g_queue_unlink(&direct->clients, &client->node);
    client->handshake = deadline_cancel(client->handshake);
    outbox_remove_listener(direct->context->outbox, connection);
    count_uid(direct, client->peer.uid, -1);
    if (direct->leaving)
        caller_lost(&client->peer);
    else
        caller_gone(&client->peer);
    connection->link = bus_link_free(connection->link);
    client->intake = intake_free(client->intake);
    client->driver = driver_free(client->driver);
    sd_bus_close(connection->bus);
    sd_bus_unref(connection->bus);
    g_free(client);
}

/* Returns: what the client did wrong, or NULL where it has left by itself. */
static const char *why_cut_off(int error)
{
    switch (error) {
    case -ENOBUFS:
    case -ETIMEDOUT:
        return "it does not read what it asked for";
    case -EMSGSIZE:
        return "a message is longer than limits.message_bytes allows, or is long and carries "
               "descriptors, or carries too many";
    case -EBADMSG:
        return "what it sends is no D-Bus";
    default:
        return NULL;
    }
}

static void on_closed(int error, void *data)
{
    Client *client = data;
    const char *why = why_cut_off(error);

    if (why)
        event_client_cut_off(client->peer.uid, why);
    else
        log_debug("A direct connection of uid %u has ended: %s", client->peer.uid,
                  g_strerror(-error));
    client_free(client);
}

static void on_handshake_over(void *data)
{
    Client *client = data;

    client->handshake = NULL;
    if (sd_bus_is_ready(client->connection.bus) > 0)
        return;
    log_debug("A direct connection of uid %u did not finish its handshake", client->peer.uid);
    client_free(client);
}

static int on_message(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
    Client *client = userdata;
    int r;

    client->connection.current = &client->peer;
    if (sd_bus_message_is_method_call(m, NULL, NULL) <= 0)
        return 0;
    r = message_check_path(m, error);
    return r < 0 ? r : driver_check_destination(m, error);
}

static int export_objects(Client *client)
{
    g_autofree char *unique_name =
        g_strdup_printf(":1.%" G_GUINT64_FORMAT, client->direct->next_number);
    char server_id[SD_ID128_STRING_MAX];
    int r = sd_bus_add_filter(client->connection.bus, NULL, on_message, client);

    if (r >= 0)
        r = ports_export(&client->connection);
    if (r >= 0)
        r = log_control_export(&client->connection);
    if (r >= 0)
        client->driver = driver_new(&client->connection, unique_name,
                                    sd_id128_to_string(client->direct->server_id, server_id), &r);
    return r;
}

static int set_up(sd_bus *bus, const Direct *direct)
{
    int r = sd_bus_set_description(bus, "direct");

    if (r >= 0)
        r = sd_bus_set_server(bus, TRUE, direct->server_id);
    /* Who it is was said by the kernel, and is held against the handshake by the intake. */
    if (r >= 0)
        r = sd_bus_set_anonymous(bus, TRUE);
    if (r >= 0)
        r = sd_bus_negotiate_fds(bus, TRUE);
    return r < 0 ? r : sd_bus_set_sender(bus, DRIVER_OUR_NAME);
}

/* Puts @client between @bus and the socket @fd, which is taken over in any case. */
static int connect_client(Client *client, sd_bus *bus, int fd)
{
    const Configuration *config = manager_configuration(client->direct->context->manager);
    AUTO_FD owned_fd = fd;
    AUTO_FD read_fd = -1;
    int r;

    client->intake = intake_new(fd, bus, client->peer.uid, config->limit_message_bytes, &read_fd);
    if (!client->intake)
        return -errno;
    r = sd_bus_set_fd(bus, read_fd, fd);
    if (r < 0)
        return r;
    (void)fd_steal(&read_fd); /* sd-bus closes both */
    (void)fd_steal(&owned_fd);
    r = export_objects(client);
    if (r >= 0)
        r = sd_bus_start(bus);
    /* sd-bus asks for 8 MiB, which a client that does not read would make the kernel hold. */
    if (r >= 0 && setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &(int){SEND_BUFFER_BYTES}, sizeof(int)) < 0)
        r = -errno;
    return r;
}

static int pump(void *data, gboolean *ret_more)
{
    return intake_pump(((Client *)data)->intake, ret_more);
}

/* Takes over @fd and @pidfd in any case. */
static int client_new(Direct *direct, int fd, const struct ucred *peer, int pidfd)
{
    AUTO_FD owned_fd = fd;
    AUTO_FD owned_pidfd = pidfd;
    g_autoptr(sd_bus) bus = NULL;
    g_autofree char *name = g_strdup_printf("direct:%" G_GUINT64_FORMAT, ++direct->next_number);
    ProcessIdentity identity;
    Client *client = NULL;
    int r = sd_bus_new(&bus);

    if (r >= 0)
        r = set_up(bus, direct);
    if (r < 0)
        return r;
    client = g_new0(Client, 1);
    client->direct = direct;
    client->node.data = client;
    client->connection.context = direct->context;
    client->connection.bus = sd_bus_ref(bus);
    client->connection.peer = &client->peer;
    caller_init(&client->peer, &client->connection, name, peer->uid, peer->pid,
                fd_steal(&owned_pidfd));
    if (client->peer.pidfd < 0 &&
        process_identify(peer->pid, -1, &identity, NULL, NULL, NULL, NULL))
        client->peer.start_ticks = identity.start_ticks;
    g_queue_push_tail_link(&direct->clients, &client->node);
    count_uid(direct, peer->uid, 1);
    r = connect_client(client, bus, fd_steal(&owned_fd));
    if (r < 0) {
        client_free(client);
        return r;
    }
    client->connection.link =
        bus_link_new(direct->context->source, bus, FALSE, &limits,
                     &(BusInput){.fd = fd, .pump = pump, .data = client}, on_closed, client);
    bus_link_set_user(client->connection.link, peer->uid);
    client->handshake =
        deadline_add(direct->context->deadlines, g_get_monotonic_time() + HANDSHAKE_USEC,
                     on_handshake_over, client);
    return 0;
}

/* ---- taking connections ---- */

static gboolean has_room(const Direct *direct, uid_t uid)
{
    const Configuration *config = manager_configuration(direct->context->manager);
    guint mine = GPOINTER_TO_UINT(g_hash_table_lookup(direct->by_uid, GUINT_TO_POINTER(uid)));
    guint all = config->limit_direct_connections;

    if (uid == 0 || uid == geteuid())
        return direct->clients.length < all;
    /* The last ones are kept for those who have to look after it. */
    return direct->clients.length < all - all / KEPT_PART &&
           mine < config->limit_direct_connections_per_user;
}

static void greet(Direct *direct, int fd)
{
    AUTO_FD owned = fd;
    AUTO_FD pidfd = -1;
    struct ucred peer;
    socklen_t length = sizeof(peer);
    int r;

    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &length) < 0)
        return;
    if (!has_room(direct, peer.uid)) {
        log_debug("Refused a direct connection of uid %u: there are too many", peer.uid);
        return;
    }
    length = sizeof(pidfd);
    if (getsockopt(fd, SOL_SOCKET, SO_PEERPIDFD, &pidfd, &length) < 0)
        pidfd = -1; /* an older kernel, or the peer has ended */
    r = client_new(direct, fd_steal(&owned), &peer, fd_steal(&pidfd));
    if (r < 0) /* most of all: it has gone already */
        log_debug("Cannot serve a direct connection: %s, ignoring it", g_strerror(-r));
}

static gboolean on_connection(int fd, GIOCondition condition, gpointer data);

static void listen_on(Direct *direct)
{
    direct->listening = g_unix_fd_source_new(direct->fd, G_IO_IN);
    g_source_set_static_name(direct->listening, "direct socket");
    g_source_set_callback(direct->listening, G_SOURCE_FUNC(on_connection), direct, NULL);
    g_source_attach(direct->listening, direct->gmain);
}

static void stop_listening(Direct *direct)
{
    if (direct->listening)
        g_source_destroy(direct->listening);
    g_clear_pointer(&direct->listening, g_source_unref);
}

static void on_pause_over(void *data)
{
    Direct *direct = data;

    direct->pause = NULL;
    listen_on(direct);
}

/* The connection that cannot be taken stays in the queue, so the loop would spin on it. */
static void pause_listening(Direct *direct, int error)
{
    event_connections_paused(error);
    stop_listening(direct);
    direct->pause = deadline_add(direct->context->deadlines,
                                 g_get_monotonic_time() + ACCEPT_PAUSE_USEC, on_pause_over, direct);
}

static gboolean on_connection(int fd, GIOCondition condition, gpointer data)
{
    Direct *direct = data;

    for (guint i = 0; i < ACCEPT_TURN_MAX; i++) {
        int client = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

        if (client >= 0) {
            greet(direct, client);
        } else if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
            pause_listening(direct, errno);
            return G_SOURCE_REMOVE;
        } else if (errno == EAGAIN) {
            break;
        } /* else that one connection is gone already (accept(2)) */
    }
    return G_SOURCE_CONTINUE;
}

/* ---- life ---- */

static gboolean check_listening(int fd, GError **error)
{
    struct {
        int option;
        int wanted;
    } checks[] = {{SO_DOMAIN, AF_UNIX}, {SO_TYPE, SOCK_STREAM}, {SO_ACCEPTCONN, 1}};

    for (guint i = 0; i < G_N_ELEMENTS(checks); i++) {
        int value = -1;
        socklen_t length = sizeof(value);

        if (getsockopt(fd, SOL_SOCKET, checks[i].option, &value, &length) == 0 &&
            value == checks[i].wanted)
            continue;
        g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_INVAL,
                    "Descriptor %d is not a listening unix stream socket", fd);
        return FALSE;
    }
    return TRUE;
}

Direct *direct_new(BusContext *context, GMainContext *gmain, int fd, GError **error)
{
    Direct *direct = NULL;

    if (!check_listening(fd, error))
        return NULL;
    if (!g_unix_set_fd_nonblocking(fd, TRUE, error))
        return NULL;
    direct = g_new0(Direct, 1);
    direct->context = context;
    direct->gmain = gmain;
    direct->fd = fd;
    direct->by_uid = g_hash_table_new(NULL, NULL);
    if (sd_id128_randomize(&direct->server_id) < 0)
        g_error("The kernel has no randomness to give");
    listen_on(direct);
    return direct;
}

void direct_stop(Direct *direct)
{
    stop_listening(direct);
    direct->pause = deadline_cancel(direct->pause);
    direct->fd = fd_close(direct->fd);
}

Direct *direct_free(Direct *direct)
{
    if (!direct)
        return NULL;
    direct_stop(direct);
    direct->leaving = TRUE;
    while (direct->clients.head)
        client_free(direct->clients.head->data);
    g_hash_table_unref(direct->by_uid);
    g_free(direct);
    return NULL;
}

guint direct_connections(const Direct *direct)
{
    return direct->clients.length;
}

gboolean direct_is_flushed(const Direct *direct)
{
    for (const GList *node = direct->clients.head; node; node = node->next) {
        guint64 queued = 0;

        if (sd_bus_get_n_queued_write(((Client *)node->data)->connection.bus, &queued) >= 0 &&
            queued > 0)
            return FALSE;
    }
    return TRUE;
}
