/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "cli/client.h"

#include <errno.h>
#include <glib/gi18n.h>
#include <poll.h>
#include <string.h>

#include "cli/exit-status.h"
#include "cli/variant.h"

#define BUS_NAME "org.styxy.Ports"
#define OBJECT_PATH "/org/styxy/Ports"
#define INTERFACE "org.styxy.Ports"
#define BROKER_NAME "org.freedesktop.DBus"
#define QUICK_USEC (5 * G_USEC_PER_SEC)
#define BROKER_PATH "/org/freedesktop/DBus"

struct Client {
    sd_bus *bus;
    gboolean user;
    ClientSignalFunc signal_func;
    void *signal_data;
};

static gboolean unreachable(GError **error, const char *format, ...) G_GNUC_PRINTF(2, 3);

static gboolean unreachable(GError **error, const char *format, ...)
{
    g_autofree char *message = NULL;
    va_list list;

    va_start(list, format);
    message = g_strdup_vprintf(format, list);
    va_end(list);
    g_set_error_literal(error, CLI_ERROR, EXIT_STATUS_UNREACHABLE, message);
    return FALSE;
}

/* That of our daemon, and told by the broker. */
static gboolean is_owner_change(sd_bus_message *message)
{
    const char *name = NULL;

    if (sd_bus_message_is_signal(message, BROKER_NAME, CLIENT_OWNER_CHANGED) <= 0 ||
        g_strcmp0(sd_bus_message_get_sender(message), BROKER_NAME) != 0 ||
        sd_bus_message_has_signature(message, "sss") <= 0 ||
        sd_bus_message_read(message, "s", &name) < 0 || sd_bus_message_rewind(message, 1) < 0)
        return FALSE;
    return g_strcmp0(name, BUS_NAME) == 0;
}

static int on_message(sd_bus_message *message, void *data, sd_bus_error *unused)
{
    Client *client = data;
    g_autoptr(GVariant) args = NULL;

    if (!client->signal_func ||
        (sd_bus_message_is_signal(message, INTERFACE, NULL) <= 0 && !is_owner_change(message)))
        return 0;
    /* a signal that cannot be read is no reason to stop listening */
    if (variant_read(message, NULL, &args) < 0)
        return 0;
    client->signal_func(sd_bus_message_get_member(message), args, client->signal_data);
    return 0;
}

static int open_address(const char *address, sd_bus **ret_bus)
{
    sd_bus *bus = NULL;
    int r = sd_bus_new(&bus);

    if (r >= 0)
        r = sd_bus_set_address(bus, address);
    /* the daemon's own socket answers Hello as a broker does */
    if (r >= 0)
        r = sd_bus_set_bus_client(bus, 1);
    if (r >= 0)
        r = sd_bus_start(bus);
    if (r < 0) {
        (void)sd_bus_unref(bus);
        return r;
    }
    *ret_bus = bus;
    return 0;
}

static char *direct_socket(gboolean user)
{
    const char *runtime = g_getenv("XDG_RUNTIME_DIR");

    if (!user)
        return g_strdup(STYXY_RUNTIMEDIR "/bus");
    return runtime ? g_build_filename(runtime, "styxy", "bus", NULL) : NULL;
}

static int open_direct(const char *path, sd_bus **ret_bus)
{
    g_autofree char *escaped = NULL;
    g_autofree char *address = NULL;

    if (!path)
        return -ENOENT;
    /* what an address may hold unescaped is less than what a path may (D-Bus specification,
     * "Server Addresses"); per cent signs are how it escapes */
    escaped = g_uri_escape_string(path, "/", FALSE);
    address = g_strconcat("unix:path=", escaped, NULL);
    return open_address(address, ret_bus);
}

static gboolean open_default(gboolean user, sd_bus **ret_bus, GError **error)
{
    g_autofree char *path = direct_socket(user);
    int bus_result = user ? sd_bus_open_user(ret_bus) : sd_bus_open_system(ret_bus);
    int direct_result;

    if (bus_result >= 0)
        return TRUE;
    direct_result = open_direct(path, ret_bus);
    if (direct_result >= 0)
        return TRUE;
    return unreachable(
        error,
        user ? _("cannot reach the daemon: no session bus (%s), nothing at %s (%s); start it with "
                 "'systemctl --user start styxyd.socket'")
             : _("cannot reach the daemon: no system bus (%s), nothing at %s (%s); start it with "
                 "'systemctl start styxyd.socket'"),
        g_strerror(-bus_result), path ? path : "$XDG_RUNTIME_DIR/styxy/bus",
        g_strerror(-direct_result));
}

Client *client_open(const Arguments *args, GError **error)
{
    g_autoptr(Client) client = g_new0(Client, 1);
    int r;

    client->user = arguments_has(args, OPTION_USER);
    if (arguments_has(args, OPTION_BUS_ADDRESS)) {
        r = open_address(args->bus_address, &client->bus);
        if (r < 0) {
            unreachable(error, _("cannot reach the daemon: nothing answers at %s (%s)"),
                        args->bus_address, g_strerror(-r));
            return NULL;
        }
    } else if (!open_default(client->user, &client->bus, error)) {
        return NULL;
    }
    r = sd_bus_add_filter(client->bus, NULL, on_message, client);
    if (r < 0) {
        g_set_error(error, CLI_ERROR, EXIT_STATUS_FAILED, "%s", g_strerror(-r));
        return NULL;
    }
    return g_steal_pointer(&client);
}

Client *client_free(Client *client)
{
    if (!client)
        return NULL;
    client->signal_func = NULL;
    (void)sd_bus_flush_close_unref(client->bus);
    g_free(client);
    return NULL;
}

/* A D-Bus error as the user shall see it: the daemon's words where it has some. */
static void set_bus_error(const Client *client, const sd_bus_error *bus_error, GError **error)
{
    ExitStatus status = exit_status_from_bus_error(bus_error->name);
    const char *message = bus_error->message ? bus_error->message : bus_error->name;

    if (status == EXIT_STATUS_UNREACHABLE)
        unreachable(error,
                    client->user
                        ? _("the daemon does not answer: %s; see 'systemctl --user status styxyd'")
                        : _("the daemon does not answer: %s; see 'systemctl status styxyd'"),
                    message);
    else
        g_set_error_literal(error, CLI_ERROR, (int)status, message);
}

typedef struct Pending {
    sd_bus_message *reply; /* owned, NULL until it is there */
} Pending;

static int on_reply(sd_bus_message *message, void *data, sd_bus_error *unused)
{
    Pending *pending = data;

    pending->reply = sd_bus_message_ref(message);
    return 0;
}

/* Sends @message and serves the connection until its answer is there. */
static int call_and_wait(Client *client, sd_bus_message *message, guint64 limit_usec,
                         sd_bus_message **ret_reply)
{
    Pending pending = {.reply = NULL};
    sd_bus_slot *slot = NULL;
    int r = sd_bus_call_async(client->bus, &slot, message, on_reply, &pending, limit_usec);

    while (r >= 0 && !pending.reply) {
        r = sd_bus_process(client->bus, NULL);
        if (r == 0)
            r = sd_bus_wait(client->bus, UINT64_MAX);
        if (r == -EINTR)
            r = 0;
    }
    (void)sd_bus_slot_unref(slot);
    /* the answer counts even where the connection ended right behind it */
    if (!pending.reply)
        return r;
    *ret_reply = pending.reply;
    return 0;
}

static guint64 timeout_usec(ClientCallFlags flags)
{
    if (flags & CLIENT_CALL_SLOW)
        return UINT64_MAX;
    return flags & CLIENT_CALL_QUICK ? QUICK_USEC : 0; /* 0 = as sd-bus likes, 25 seconds */
}

static GVariant *call(Client *client, const char *destination, const char *path,
                      const char *interface, const char *method, GVariant *parameters,
                      ClientCallFlags flags, GArray *fds, GError **error)
{
    g_autoptr(GVariant) tuple = parameters ? g_variant_ref_sink(parameters) : NULL;
    __attribute__((cleanup(sd_bus_message_unrefp))) sd_bus_message *message = NULL;
    __attribute__((cleanup(sd_bus_message_unrefp))) sd_bus_message *reply = NULL;
    GVariant *value = NULL;
    int r;

    r = sd_bus_message_new_method_call(client->bus, &message, destination, path, interface, method);
    if (r >= 0)
        r = sd_bus_message_set_allow_interactive_authorization(message, 1);
    if (r >= 0 && tuple)
        r = variant_append(message, tuple);
    if (r >= 0)
        r = call_and_wait(client, message, timeout_usec(flags), &reply);
    if (r < 0) {
        unreachable(error, _("lost the connection to the daemon: %s"), g_strerror(-r));
        return NULL;
    }
    if (sd_bus_message_is_method_error(reply, NULL) > 0) {
        set_bus_error(client, sd_bus_message_get_error(reply), error);
        return NULL;
    }
    r = variant_read(reply, fds, &value);
    if (r < 0) {
        g_set_error(error, CLI_ERROR, EXIT_STATUS_FAILED, _("cannot read the answer to %s: %s"),
                    method, g_strerror(-r));
        return NULL;
    }
    return value;
}

GVariant *client_call(Client *client, const char *method, GVariant *parameters,
                      ClientCallFlags flags, GArray *fds, GError **error)
{
    g_autoptr(GVariant) reply =
        call(client, BUS_NAME, OBJECT_PATH, INTERFACE, method, parameters, flags, fds, error);
    static const struct {
        const char *method;
        const char *type;
    } replies[] = {
        {"Allocate", "(qsa{sv})"},
        {"AllocateSocket", "(qsha{sv})"},
        {"AllocateBlock", "(a(qs)a{sv})"},
        {"ReleaseInstance", "(u)"},
        {"Renew", "(t)"},
        {"GetLease", "(a{sv})"},
        {"List", "(aa{sv})"},
        {"CheckPort", "(ba{sv})"},
        {"Scan", "(aa{sv})"},
        {"Suggest", "(aq)"},
        {"Cleanup", "(a(qss))"},
        {"Recover", "(ba(ssa{sv}))"},
        {"GetRecoveryReport", "(a{sv})"},
        {"GetMetrics", "(a{st})"},
    };

    /* a daemon of another version may answer otherwise: better said here than read as something
     * else */
    for (size_t i = 0; reply && i < G_N_ELEMENTS(replies); i++)
        if (g_str_equal(replies[i].method, method) &&
            !g_str_equal(replies[i].type, g_variant_get_type_string(reply))) {
            g_set_error(error, CLI_ERROR, EXIT_STATUS_FAILED,
                        _("the daemon answered %s with %s where %s was expected"), method,
                        g_variant_get_type_string(reply), replies[i].type);
            return NULL;
        }
    return g_steal_pointer(&reply);
}

void client_wait(Client *client, guint limit_msec, gboolean (*done)(void *data), void *data)
{
    gint64 until_usec = g_get_monotonic_time() + (gint64)limit_msec * 1000;

    while (!done(data)) {
        gint64 left_usec = until_usec - g_get_monotonic_time();
        int r = sd_bus_process(client->bus, NULL);

        if (r > 0)
            continue;
        if (r < 0 || left_usec <= 0 || sd_bus_wait(client->bus, (guint64)left_usec) < 0)
            return;
    }
}

GVariant *client_properties(Client *client, GError **error)
{
    g_autoptr(GVariant) reply =
        call(client, BUS_NAME, OBJECT_PATH, "org.freedesktop.DBus.Properties", "GetAll",
             g_variant_new("(s)", INTERFACE), CLIENT_CALL_NONE, NULL, error);

    if (!reply)
        return NULL;
    if (!g_variant_is_of_type(reply, G_VARIANT_TYPE("(a{sv})"))) {
        g_set_error(error, CLI_ERROR, EXIT_STATUS_FAILED, _("cannot read the answer to %s: %s"),
                    "GetAll", g_variant_get_type_string(reply));
        return NULL;
    }
    return g_variant_get_child_value(reply, 0);
}

void client_set_signal_handler(Client *client, ClientSignalFunc func, void *data)
{
    client->signal_func = func;
    client->signal_data = data;
}

/* The broker compares the sender with the owner of the name, so nobody else's signals come through.
 */
static char *match_rule(const char *narrow)
{
    return g_strconcat("type='signal',sender='" BUS_NAME "',path='" OBJECT_PATH
                       "',interface='" INTERFACE "'",
                       narrow ? "," : "", narrow ? narrow : "", NULL);
}

gboolean client_add_match(Client *client, const char *narrow, GError **error)
{
    g_autofree char *rule = match_rule(narrow);
    g_autoptr(GVariant) reply = call(client, BROKER_NAME, BROKER_PATH, BROKER_NAME, "AddMatch",
                                     g_variant_new("(s)", rule), CLIENT_CALL_NONE, NULL, error);

    return reply != NULL;
}

void client_remove_match(Client *client, const char *narrow)
{
    g_autofree char *rule = match_rule(narrow);
    g_autoptr(GVariant) reply = NULL;

    reply = call(client, BROKER_NAME, BROKER_PATH, BROKER_NAME, "RemoveMatch",
                 g_variant_new("(s)", rule), CLIENT_CALL_NONE, NULL, NULL);
}

void client_watch_owner(Client *client)
{
    g_autoptr(GVariant) reply = NULL;

    reply =
        call(client, BROKER_NAME, BROKER_PATH, BROKER_NAME, "AddMatch",
             g_variant_new("(s)", "type='signal',sender='" BROKER_NAME "',interface='" BROKER_NAME
                                  "',member='" CLIENT_OWNER_CHANGED "',arg0='" BUS_NAME "'"),
             CLIENT_CALL_QUICK, NULL, NULL);
}

int client_fd(Client *client)
{
    return sd_bus_get_fd(client->bus);
}

short client_events(Client *client)
{
    int events = sd_bus_get_events(client->bus);

    return (short)MAX(events, 0);
}

int client_timeout_msec(Client *client)
{
    guint64 until_usec;
    gint64 left_usec;

    if (sd_bus_get_timeout(client->bus, &until_usec) <= 0 || until_usec == UINT64_MAX)
        return -1;
    left_usec = (gint64)until_usec - g_get_monotonic_time();
    return (int)CLAMP((left_usec + 999) / 1000, 0, G_MAXINT);
}

gboolean client_process(Client *client, GError **error)
{
    int r;

    do
        r = sd_bus_process(client->bus, NULL);
    while (r > 0);
    if (r < 0 && r != -EINTR)
        return unreachable(error, _("lost the connection to the daemon: %s"), g_strerror(-r));
    return TRUE;
}
