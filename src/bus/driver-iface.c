/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "bus/driver-iface.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "bus/match-rule.h"
#include "bus/caller.h"
#include "bus/outbox.h"
#include "bus/ports-iface.h"
#include "bus/sd-bus-auto.h"

#define DRIVER_NAME "org.freedesktop.DBus"
#define DRIVER_PATH "/org/freedesktop/DBus"
#define MATCHES_MAX 256

/* Codes of the D-Bus specification, "Message Bus Messages". */
#define START_REPLY_ALREADY_RUNNING 2

struct Driver {
    Connection *connection; /* borrowed */
    char *unique_name;      /* owned */
    char *server_id;        /* owned */
    gboolean said_hello;
    GHashTable *matches; /* canonical rule -> Match, owned */
    guint n_matches;
};

typedef struct Match {
    guint count;
    gboolean selects; /* can select our signals */
} Match;

static const char *const our_names[] = {PORTS_NAME, DRIVER_OUR_NAME, NULL};
static const char *const our_interfaces[] = {PORTS_INTERFACE, "org.freedesktop.DBus.Properties",
                                             NULL};
static const MatchSource our_signals = {our_names, PORTS_PATH, our_interfaces};

/* The answers come from the broker's name, not from ours. */
static int send_reply(sd_bus_message *reply)
{
    int r = sd_bus_message_set_sender(reply, DRIVER_NAME);

    return r < 0 ? r : sd_bus_send(NULL, reply, NULL);
}

G_GNUC_PRINTF(2, 3)
static int reply_string(sd_bus_message *m, const char *format, ...)
{
    g_autoptr(sd_bus_message) reply = NULL;
    g_autofree char *text = NULL;
    va_list ap;
    int r = sd_bus_message_new_method_return(m, &reply);

    va_start(ap, format);
    text = g_strdup_vprintf(format, ap);
    va_end(ap);
    if (r >= 0)
        r = sd_bus_message_append_basic(reply, SD_BUS_TYPE_STRING, text);
    return r < 0 ? r : send_reply(reply);
}

static int reply_number(sd_bus_message *m, char type, guint32 value)
{
    g_autoptr(sd_bus_message) reply = NULL;
    int r = sd_bus_message_new_method_return(m, &reply);

    if (r >= 0)
        r = sd_bus_message_append_basic(reply, type, &value);
    return r < 0 ? r : send_reply(reply);
}

static int reply_nothing(sd_bus_message *m)
{
    g_autoptr(sd_bus_message) reply = NULL;
    int r = sd_bus_message_new_method_return(m, &reply);

    return r < 0 ? r : send_reply(reply);
}

static int method_hello(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
    Driver *driver = userdata;

    if (driver->said_hello)
        return sd_bus_error_set(error, SD_BUS_ERROR_FAILED, "Already handled an Hello message");
    driver->said_hello = TRUE;
    return reply_string(m, "%s", driver->unique_name);
}

/* ---- names ---- */

/* Returns: (transfer none) (nullable): the unique name of the owner of @name. */
static const char *owner_of(const Driver *driver, const char *name)
{
    if (strcmp(name, DRIVER_NAME) == 0)
        return DRIVER_NAME;
    if (strcmp(name, PORTS_NAME) == 0 || strcmp(name, DRIVER_OUR_NAME) == 0)
        return DRIVER_OUR_NAME;
    if (driver->said_hello && strcmp(name, driver->unique_name) == 0)
        return driver->unique_name;
    return NULL;
}

static int method_get_name_owner(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
    const char *name = NULL, *owner = NULL;
    int r = sd_bus_message_read(m, "s", &name);

    if (r < 0)
        return r;
    owner = owner_of(userdata, name);
    if (!owner)
        return sd_bus_error_setf(error, SD_BUS_ERROR_NAME_HAS_NO_OWNER,
                                 "Could not get owner of name '%s': no such name", name);
    return reply_string(m, "%s", owner);
}

static int method_name_has_owner(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
    const char *name = NULL;
    int r = sd_bus_message_read(m, "s", &name);

    if (r < 0)
        return r;
    return reply_number(m, SD_BUS_TYPE_BOOLEAN, owner_of(userdata, name) != NULL);
}

static int method_list_names(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
    const Driver *driver = userdata;
    g_autoptr(sd_bus_message) reply = NULL;
    int r = sd_bus_message_new_method_return(m, &reply);

    if (r >= 0)
        r = sd_bus_message_append(reply, "as", 4, DRIVER_NAME, PORTS_NAME, DRIVER_OUR_NAME,
                                  driver->unique_name);
    return r < 0 ? r : send_reply(reply);
}

static int method_list_activatable_names(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
    g_autoptr(sd_bus_message) reply = NULL;
    int r = sd_bus_message_new_method_return(m, &reply);

    if (r >= 0)
        r = sd_bus_message_append(reply, "as", 2, DRIVER_NAME, PORTS_NAME);
    return r < 0 ? r : send_reply(reply);
}

static int method_start_service_by_name(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
    const char *name = NULL;
    int r = sd_bus_message_read(m, "su", &name, NULL);

    if (r < 0)
        return r;
    if (!owner_of(userdata, name))
        return sd_bus_error_setf(error, SD_BUS_ERROR_SERVICE_UNKNOWN,
                                 "The name %s was not provided by any .service files", name);
    return reply_number(m, SD_BUS_TYPE_UINT32, START_REPLY_ALREADY_RUNNING);
}

static int method_get_id(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
    const Driver *driver = userdata;

    return reply_string(m, "%s", driver->server_id);
}

/* ---- who is behind a name ---- */

static int read_process(sd_bus_message *m, const Driver *driver, uid_t *ret_uid, pid_t *ret_pid,
                        sd_bus_error *error)
{
    const char *name = NULL, *owner = NULL;
    int r = sd_bus_message_read(m, "s", &name);

    if (r < 0)
        return r;
    owner = owner_of(driver, name);
    if (!owner)
        return sd_bus_error_setf(error, SD_BUS_ERROR_NAME_HAS_NO_OWNER,
                                 "Could not get the credentials of '%s': no such name", name);
    if (owner == driver->unique_name) {
        *ret_uid = driver->connection->peer->uid;
        *ret_pid = driver->connection->peer->pid;
    } else {
        *ret_uid = geteuid();
        *ret_pid = getpid();
    }
    return 0;
}

static int method_get_connection_unix_user(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
    uid_t uid = (uid_t)-1;
    pid_t pid = 0;
    int r = read_process(m, userdata, &uid, &pid, error);

    return r < 0 ? r : reply_number(m, SD_BUS_TYPE_UINT32, uid);
}

static int method_get_connection_unix_process_id(sd_bus_message *m, void *userdata,
                                                 sd_bus_error *error)
{
    uid_t uid = (uid_t)-1;
    pid_t pid = 0;
    int r = read_process(m, userdata, &uid, &pid, error);

    return r < 0 ? r : reply_number(m, SD_BUS_TYPE_UINT32, (guint32)pid);
}

static int method_get_connection_credentials(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
    g_autoptr(sd_bus_message) reply = NULL;
    uid_t uid = (uid_t)-1;
    pid_t pid = 0;
    int r = read_process(m, userdata, &uid, &pid, error);

    if (r >= 0)
        r = sd_bus_message_new_method_return(m, &reply);
    if (r >= 0)
        r = sd_bus_message_append(reply, "a{sv}", 2, "UnixUserID", "u", (guint32)uid, "ProcessID",
                                  "u", (guint32)pid);
    return r < 0 ? r : send_reply(reply);
}

/* ---- matches ---- */

static char *read_rule(sd_bus_message *m, gboolean *ret_selects, int *ret_error,
                       sd_bus_error *error)
{
    const char *text = NULL;
    char *rule = NULL;
    int r = sd_bus_message_read(m, "s", &text);

    if (r >= 0 && !(rule = match_rule_parse(text, &our_signals, ret_selects)))
        r = sd_bus_error_set(error, SD_BUS_ERROR_MATCH_RULE_INVALID,
                             "This is not a match rule, or longer than one may be");
    *ret_error = r;
    return rule;
}

static void count(Driver *driver, const Match *match, int by)
{
    driver->n_matches += (guint)by;
    if (!match->selects)
        return;
    driver->connection->subscriptions += (guint)by;
    outbox_update_listener(driver->connection->context->outbox, driver->connection);
}

static int method_add_match(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
    Driver *driver = userdata;
    g_autofree char *rule = NULL;
    gboolean selects = FALSE;
    Match *match = NULL;
    int r = 0;

    rule = read_rule(m, &selects, &r, error);
    if (!rule)
        return r;
    if (driver->n_matches >= MATCHES_MAX)
        return sd_bus_error_setf(error, SD_BUS_ERROR_LIMITS_EXCEEDED,
                                 "A connection has %d match rules at most", MATCHES_MAX);
    match = g_hash_table_lookup(driver->matches, rule);
    if (!match) {
        match = g_new0(Match, 1);
        match->selects = selects;
        g_hash_table_insert(driver->matches, g_steal_pointer(&rule), match);
    }
    match->count++;
    count(driver, match, 1);
    return reply_nothing(m);
}

static int method_remove_match(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
    Driver *driver = userdata;
    g_autofree char *rule = NULL;
    gboolean selects = FALSE;
    Match *match = NULL;
    int r = 0;

    rule = read_rule(m, &selects, &r, error);
    if (!rule)
        return r;
    match = g_hash_table_lookup(driver->matches, rule);
    if (!match)
        return sd_bus_error_set(error, SD_BUS_ERROR_MATCH_RULE_NOT_FOUND,
                                "The given match rule wasn't found and can't be removed");
    count(driver, match, -1);
    if (--match->count == 0)
        g_hash_table_remove(driver->matches, rule);
    return reply_nothing(m);
}

/* Open to everybody, like a broker's: sd-bus takes the flag from each method, not from the start.
 */
#define OPEN SD_BUS_VTABLE_UNPRIVILEGED

static const sd_bus_vtable vtable[] = {
    SD_BUS_VTABLE_START(0),
    SD_BUS_METHOD_WITH_ARGS("Hello", SD_BUS_NO_ARGS, SD_BUS_RESULT("s", unique_name), method_hello,
                            OPEN),
    SD_BUS_METHOD_WITH_ARGS("AddMatch", SD_BUS_ARGS("s", rule), SD_BUS_NO_RESULT, method_add_match,
                            OPEN),
    SD_BUS_METHOD_WITH_ARGS("RemoveMatch", SD_BUS_ARGS("s", rule), SD_BUS_NO_RESULT,
                            method_remove_match, OPEN),
    SD_BUS_METHOD_WITH_ARGS("GetNameOwner", SD_BUS_ARGS("s", name), SD_BUS_RESULT("s", unique_name),
                            method_get_name_owner, OPEN),
    SD_BUS_METHOD_WITH_ARGS("NameHasOwner", SD_BUS_ARGS("s", name), SD_BUS_RESULT("b", has_owner),
                            method_name_has_owner, OPEN),
    SD_BUS_METHOD_WITH_ARGS("ListNames", SD_BUS_NO_ARGS, SD_BUS_RESULT("as", names),
                            method_list_names, OPEN),
    SD_BUS_METHOD_WITH_ARGS("ListActivatableNames", SD_BUS_NO_ARGS, SD_BUS_RESULT("as", names),
                            method_list_activatable_names, OPEN),
    SD_BUS_METHOD_WITH_ARGS("StartServiceByName", SD_BUS_ARGS("s", name, "u", flags),
                            SD_BUS_RESULT("u", result), method_start_service_by_name, OPEN),
    SD_BUS_METHOD_WITH_ARGS("GetId", SD_BUS_NO_ARGS, SD_BUS_RESULT("s", id), method_get_id, OPEN),
    SD_BUS_METHOD_WITH_ARGS("GetConnectionUnixUser", SD_BUS_ARGS("s", name),
                            SD_BUS_RESULT("u", uid), method_get_connection_unix_user, OPEN),
    SD_BUS_METHOD_WITH_ARGS("GetConnectionUnixProcessID", SD_BUS_ARGS("s", name),
                            SD_BUS_RESULT("u", pid), method_get_connection_unix_process_id, OPEN),
    SD_BUS_METHOD_WITH_ARGS("GetConnectionCredentials", SD_BUS_ARGS("s", name),
                            SD_BUS_RESULT("a{sv}", credentials), method_get_connection_credentials,
                            OPEN),
    SD_BUS_VTABLE_END,
};

int driver_check_destination(sd_bus_message *m, sd_bus_error *error)
{
    const char *destination = sd_bus_message_get_destination(m);

    if (!destination || strcmp(destination, DRIVER_NAME) == 0 ||
        g_strv_contains(our_names, destination))
        return 0;
    return sd_bus_error_setf(error, SD_BUS_ERROR_SERVICE_UNKNOWN,
                             "The name %s was not provided by any .service files", destination);
}

Driver *driver_new(Connection *connection, const char *unique_name, const char *server_id,
                   int *ret_error)
{
    Driver *driver = g_new0(Driver, 1);
    int r;

    driver->connection = connection;
    driver->unique_name = g_strdup(unique_name);
    driver->server_id = g_strdup(server_id);
    driver->matches = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
    r = sd_bus_add_object_vtable(connection->bus, NULL, DRIVER_PATH, DRIVER_NAME, vtable, driver);
    if (r < 0) {
        *ret_error = r;
        return driver_free(driver);
    }
    return driver;
}

Driver *driver_free(Driver *driver)
{
    if (!driver)
        return NULL;
    g_hash_table_unref(driver->matches);
    g_free(driver->unique_name);
    g_free(driver->server_id);
    g_free(driver);
    return NULL;
}
