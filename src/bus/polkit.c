/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "bus/polkit.h"

#include <errno.h>

#include "bus/sd-bus-auto.h"
#include "probe/process.h"

#define POLKIT_NAME "org.freedesktop.PolicyKit1"
#define POLKIT_PATH "/org/freedesktop/PolicyKit1/Authority"
#define POLKIT_INTERFACE "org.freedesktop.PolicyKit1.Authority"

#define ANSWER_USEC (25 * G_USEC_PER_SEC)
/* For somebody to come back to the desk and type a password. */
#define INTERACTIVE_ANSWER_USEC (5 * 60 * G_USEC_PER_SEC)

#define FLAG_ALLOW_USER_INTERACTION 1

struct PolkitCheck {
    sd_bus *bus; /* owned reference: cancelling goes to where the question went */
    sd_bus_slot *slot;
    char *cancellation_id;
    PolkitDone done;
    void *data;
};

static void check_free(PolkitCheck *check)
{
    sd_bus_slot_unref(check->slot);
    sd_bus_unref(check->bus);
    g_free(check->cancellation_id);
    g_free(check);
}

static PolkitAnswer read_answer(sd_bus_message *reply)
{
    int authorized = 0, challenge = 0;

    if (sd_bus_message_is_method_error(reply, NULL))
        return POLKIT_ABSENT;
    if (sd_bus_message_enter_container(reply, SD_BUS_TYPE_STRUCT, "bba{ss}") <= 0 ||
        sd_bus_message_read(reply, "bb", &authorized, &challenge) < 0)
        return POLKIT_ABSENT;
    if (authorized)
        return POLKIT_YES;
    return challenge ? POLKIT_CHALLENGE : POLKIT_NO;
}

static int on_answer(sd_bus_message *reply, void *userdata, sd_bus_error *error)
{
    PolkitCheck *check = userdata;
    PolkitDone done = check->done;
    void *data = check->data;

    check_free(check);
    done(read_answer(reply), data);
    return 1;
}

static int append_subject(sd_bus_message *call, Caller *caller)
{
    ProcessIdentity identity;
    uid_t uid;

    if (!caller->connection->peer)
        return sd_bus_message_append(call, "(sa{sv})", "system-bus-name", 1, "name", "s",
                                     caller->name);
    if (caller->pid <= 0 ||
        !process_identify(caller->pid, caller->pidfd, &identity, &uid, NULL, NULL, NULL) ||
        uid != caller->uid || (caller->pidfd < 0 && identity.start_ticks != caller->start_ticks))
        return -ESRCH; /* somebody else has the number by now */
    return sd_bus_message_append(call, "(sa{sv})", "unix-process", 3, "pid", "u",
                                 (guint32)identity.pid, "start-time", "t", identity.start_ticks,
                                 "uid", "i", (gint32)caller->uid);
}

static int append_details(sd_bus_message *call, const char *const *details)
{
    int r = sd_bus_message_open_container(call, SD_BUS_TYPE_ARRAY, "{ss}");

    for (; r >= 0 && details && details[0]; details += 2)
        r = sd_bus_message_append(call, "{ss}", details[0], details[1]);
    return r < 0 ? r : sd_bus_message_close_container(call);
}

PolkitCheck *polkit_check(sd_bus *bus, Caller *caller, const char *action,
                          const char *const *details, gboolean interactive, PolkitDone done,
                          void *data)
{
    static guint64 serial;
    g_autoptr(sd_bus_message) call = NULL;
    PolkitCheck *check = g_new0(PolkitCheck, 1);
    int r;

    check->bus = sd_bus_ref(bus);
    check->cancellation_id = g_strdup_printf("styxyd-%" G_GUINT64_FORMAT, ++serial);
    check->done = done;
    check->data = data;
    r = sd_bus_message_new_method_call(bus, &call, POLKIT_NAME, POLKIT_PATH, POLKIT_INTERFACE,
                                       "CheckAuthorization");
    if (r >= 0)
        r = append_subject(call, caller);
    if (r >= 0)
        r = sd_bus_message_append(call, "s", action);
    if (r >= 0)
        r = append_details(call, details);
    if (r >= 0)
        r = sd_bus_message_append(call, "us", interactive ? FLAG_ALLOW_USER_INTERACTION : 0,
                                  check->cancellation_id);
    if (r >= 0)
        r = sd_bus_call_async(bus, &check->slot, call, on_answer, check,
                              interactive ? INTERACTIVE_ANSWER_USEC : ANSWER_USEC);
    if (r < 0) {
        check_free(check);
        return NULL;
    }
    return check;
}

void polkit_check_cancel(PolkitCheck *check)
{
    /* Nobody waits for the answer, and a failure leaves no more than a dialog open. */
    (void)sd_bus_call_method_async(check->bus, NULL, POLKIT_NAME, POLKIT_PATH, POLKIT_INTERFACE,
                                   "CancelCheckAuthorization", NULL, NULL, "s",
                                   check->cancellation_id);
    check_free(check);
}
