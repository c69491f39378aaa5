/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "bus/units.h"

#include <errno.h>
#include <gio/gio.h>
#include <string.h>

#include "bus/sd-bus-auto.h"

#define TIMEOUT_USEC (30 * G_USEC_PER_SEC)

struct Units {
    UnitsBus bus;
    void *data;
    GQueue questions; /* of Question */
};

typedef struct Question {
    Units *units;
    sd_bus_slot *slot; /* owned */
    UnitDone done;
    void *done_data;
    GList link;
} Question;

static void answer(Question *question, UnitSight sight, const GError *error)
{
    UnitDone done = question->done;
    void *data = question->done_data;

    g_queue_unlink(&question->units->questions, &question->link);
    question->slot = sd_bus_slot_unref(question->slot);
    g_free(question);
    done(sight, error, data);
}

static void answer_error(Question *question, const char *what, int code, const char *message)
{
    g_autoptr(GError) error =
        g_error_new(G_IO_ERROR, g_io_error_from_errno(code), "%s: %s", what, message);

    answer(question, (UnitSight){UNIT_UNKNOWN, 0}, error);
}

/* ---- the state of a unit --------------------------------------------------------------------- */

static UnitState parse_state(const char *active, const char *sub)
{
    if (strcmp(active, "activating") == 0 || strcmp(active, "reloading") == 0 ||
        g_str_has_prefix(sub, "auto-restart"))
        return UNIT_STARTING;
    if (strcmp(active, "active") == 0 || strcmp(active, "deactivating") == 0)
        return UNIT_RUNNING;
    return strcmp(active, "failed") == 0 ? UNIT_FAILED : UNIT_STOPPED;
}

static int on_since(sd_bus_message *reply, void *userdata, sd_bus_error *unused)
{
    Question *question = userdata;
    UnitSight sight = {UNIT_RUNNING, 0};
    guint64 usec = 0;

    /* A unit that is gone again, say: it ran a moment ago, which is all that is known then. */
    if (!sd_bus_message_is_method_error(reply, NULL) &&
        sd_bus_message_enter_container(reply, SD_BUS_TYPE_VARIANT, "t") > 0 &&
        sd_bus_message_read(reply, "t", &usec) > 0)
        sight.active_since_usec = (gint64)MIN(usec, (guint64)G_MAXINT64);
    answer(question, sight, NULL);
    return 1;
}

/* When it was started, which tells a unit that went on from one that was started anew. */
static void ask_since(Question *question, const char *path)
{
    g_autoptr(sd_bus_message) call = NULL;
    sd_bus *bus = question->units->bus(question->units->data);
    int r = bus ? sd_bus_message_new_method_call(bus, &call, "org.freedesktop.systemd1", path,
                                                 "org.freedesktop.DBus.Properties", "Get")
                : -ENOTCONN;

    if (r >= 0)
        r = sd_bus_message_append(call, "ss", "org.freedesktop.systemd1.Unit",
                                  "ActiveEnterTimestampMonotonic");
    question->slot = sd_bus_slot_unref(question->slot);
    if (r >= 0)
        r = sd_bus_call_async(bus, &question->slot, call, on_since, question, TIMEOUT_USEC);
    if (r < 0)
        answer(question, (UnitSight){UNIT_RUNNING, 0}, NULL);
}

static int on_state(sd_bus_message *reply, void *userdata, sd_bus_error *unused)
{
    Question *question = userdata;
    const sd_bus_error *error = sd_bus_message_get_error(reply);
    const char *active = NULL, *sub = NULL, *path = NULL;
    int r;

    if (error) {
        answer_error(question, "the service manager does not say how the unit is",
                     sd_bus_message_get_errno(reply), error->message);
        return 1;
    }
    r = sd_bus_message_enter_container(reply, SD_BUS_TYPE_ARRAY, "(ssssssouso)");
    if (r >= 0)
        r = sd_bus_message_enter_container(reply, SD_BUS_TYPE_STRUCT, "ssssssouso");
    if (r > 0)
        r = sd_bus_message_read(reply, "sssssso", NULL, NULL, NULL, &active, &sub, NULL, &path);
    if (r <= 0)
        answer_error(question, "the service manager's answer cannot be read", r < 0 ? -r : ENODATA,
                     g_strerror(r < 0 ? -r : ENODATA));
    else if (parse_state(active, sub) == UNIT_RUNNING)
        ask_since(question, path);
    else
        answer(question, (UnitSight){parse_state(active, sub), 0}, NULL);
    return 1;
}

/* ---- a restart ------------------------------------------------------------------------------- */

static int on_restarted(sd_bus_message *reply, void *userdata, sd_bus_error *unused)
{
    Question *question = userdata;
    const sd_bus_error *error = sd_bus_message_get_error(reply);

    if (error)
        answer_error(question, "the service manager does not restart the unit",
                     sd_bus_message_get_errno(reply), error->message);
    else
        answer(question, (UnitSight){UNIT_STARTING, 0}, NULL);
    return 1;
}

/* ---- asking ---------------------------------------------------------------------------------- */

static gboolean on_unreachable(gpointer data)
{
    answer_error(data, "the service manager cannot be asked", ENOTCONN,
                 "there is no connection to its bus");
    return G_SOURCE_REMOVE;
}

static Question *ask(Units *units, UnitDone done, void *done_data)
{
    Question *question = g_new0(Question, 1);

    question->units = units;
    question->done = done;
    question->done_data = done_data;
    question->link.data = question;
    g_queue_push_tail_link(&units->questions, &question->link);
    return question;
}

static void send(Question *question, sd_bus *bus, sd_bus_message *call, int r,
                 sd_bus_message_handler_t handler)
{
    if (r >= 0)
        r = sd_bus_call_async(bus, &question->slot, call, handler, question, TIMEOUT_USEC);
    if (r < 0) /* never from within the call */
        g_idle_add(on_unreachable, question);
}

static int new_call(sd_bus *bus, sd_bus_message **ret_call, const char *member)
{
    if (!bus)
        return -ENOTCONN;
    return sd_bus_message_new_method_call(bus, ret_call, "org.freedesktop.systemd1",
                                          "/org/freedesktop/systemd1",
                                          "org.freedesktop.systemd1.Manager", member);
}

static void query(const char *unit, uid_t uid, UnitDone done, void *done_data, void *data)
{
    Units *units = data;
    Question *question = ask(units, done, done_data);
    g_autoptr(sd_bus_message) call = NULL;
    sd_bus *bus = units->bus(units->data);
    int r = new_call(bus, &call, "ListUnitsByNames");

    if (r >= 0)
        r = sd_bus_message_append(call, "as", 1, unit);
    send(question, bus, call, r, on_state);
}

static void restart(const char *unit, uid_t uid, UnitDone done, void *done_data, void *data)
{
    Units *units = data;
    Question *question = ask(units, done, done_data);
    g_autoptr(sd_bus_message) call = NULL;
    sd_bus *bus = units->bus(units->data);
    int r = new_call(bus, &call, "RestartUnit");

    if (r >= 0)
        r = sd_bus_message_append(call, "ss", unit, "replace");
    send(question, bus, call, r, on_restarted);
}

static const ManagerServices services = {
    .query = query,
    .restart = restart,
};

const ManagerServices *units_services(void)
{
    return &services;
}

Units *units_new(UnitsBus bus, void *data)
{
    Units *units = g_new0(Units, 1);

    units->bus = bus;
    units->data = data;
    g_queue_init(&units->questions);
    return units;
}

void units_disconnected(Units *units)
{
    GList *link = NULL;

    while ((link = g_queue_peek_head_link(&units->questions))) {
        (void)g_idle_remove_by_data(link->data);
        answer_error(link->data, "the service manager's answer was not waited for", ECANCELED,
                     g_strerror(ECANCELED));
    }
}

Units *units_free(Units *units)
{
    if (!units)
        return NULL;
    units_disconnected(units);
    g_free(units);
    return NULL;
}
