/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "bus/log-control.h"

#include <string.h>

#include "bus/authority.h"
#include "bus/errors.h"
#include "util/log.h"

#define LOG_CONTROL_PATH "/org/freedesktop/LogControl1"
#define LOG_CONTROL_INTERFACE "org.freedesktop.LogControl1"

/* By syslog(3) priority. */
static const char *const levels[] = {"emerg",   "alert",  "crit", "err",
                                     "warning", "notice", "info", "debug"};

static const struct {
    const char *name;
    LogTarget target;
} targets[] = {
    {"journal", LOG_TARGET_JOURNAL},
    {"console", LOG_TARGET_STDERR},
    {"auto", LOG_TARGET_AUTO},
};

static int get_level(sd_bus *bus, const char *path, const char *interface, const char *property,
                     sd_bus_message *reply, void *userdata, sd_bus_error *error)
{
    return sd_bus_message_append(reply, "s", levels[log_get_max_priority()]);
}

static int get_target(sd_bus *bus, const char *path, const char *interface, const char *property,
                      sd_bus_message *reply, void *userdata, sd_bus_error *error)
{
    LogTarget target = log_get_target();
    guint i = 0;

    while (targets[i].target != target)
        i++;
    return sd_bus_message_append(reply, "s", targets[i].name);
}

static int get_identifier(sd_bus *bus, const char *path, const char *interface,
                          const char *property, sd_bus_message *reply, void *userdata,
                          sd_bus_error *error)
{
    return sd_bus_message_append(reply, "s", log_get_identifier());
}

static int read_authorized(const Connection *connection, sd_bus_message *value,
                           const char **ret_text, sd_bus_error *error)
{
    g_autoptr(GError) refusal = NULL;

    if (!connection->current)
        return bus_error_set(error, OUTCOME_NOT_AUTHORIZED, "it is not known who is asking");
    if (!authority_check(connection->current, AUTHORITY_LOG_CONTROL, connection->current->uid,
                         &refusal))
        return bus_error_set_gerror(error, refusal);
    return sd_bus_message_read(value, "s", ret_text);
}

static int set_level(sd_bus *bus, const char *path, const char *interface, const char *property,
                     sd_bus_message *value, void *userdata, sd_bus_error *error)
{
    const char *text = NULL;
    int r = read_authorized(userdata, value, &text, error);

    if (r < 0)
        return r;
    for (int i = 0; i < (int)G_N_ELEMENTS(levels); i++)
        if (strcmp(text, levels[i]) == 0) {
            log_set_max_priority(i);
            return 0;
        }
    return sd_bus_error_set(error, SD_BUS_ERROR_INVALID_ARGS, "This is not a log level");
}

static int set_target(sd_bus *bus, const char *path, const char *interface, const char *property,
                      sd_bus_message *value, void *userdata, sd_bus_error *error)
{
    const char *text = NULL;
    int r = read_authorized(userdata, value, &text, error);

    if (r < 0)
        return r;
    for (guint i = 0; i < G_N_ELEMENTS(targets); i++)
        if (strcmp(text, targets[i].name) == 0) {
            log_set_target(targets[i].target);
            return 0;
        }
    return sd_bus_error_set(error, SD_BUS_ERROR_INVALID_ARGS,
                            "This is not a log target ('auto', 'journal' or 'console')");
}

static const sd_bus_vtable vtable[] = {
    SD_BUS_VTABLE_START(0),
    SD_BUS_WRITABLE_PROPERTY("LogLevel", "s", get_level, set_level, 0, SD_BUS_VTABLE_UNPRIVILEGED),
    SD_BUS_WRITABLE_PROPERTY("LogTarget", "s", get_target, set_target, 0,
                             SD_BUS_VTABLE_UNPRIVILEGED),
    SD_BUS_PROPERTY("SyslogIdentifier", "s", get_identifier, 0, SD_BUS_VTABLE_PROPERTY_CONST),
    SD_BUS_VTABLE_END,
};

int log_control_export(Connection *connection)
{
    return sd_bus_add_object_vtable(connection->bus, NULL, LOG_CONTROL_PATH, LOG_CONTROL_INTERFACE,
                                    vtable, connection);
}
