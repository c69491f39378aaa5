/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <string.h>

#include "dict.h"
#include "method.h"

#define CALL_USEC (60 * (guint64)G_USEC_PER_SEC)

struct Monitor {
    Fuzz *fuzz;
    sd_bus *bus;
    gboolean settling; /* what ended while the daemon started may be told of once more */
};

static void on_detail(const char *key, const char *text, guint64 number, void *data)
{
    Grant *grant = data;

    if (strcmp(key, "protocol") == 0)
        grant->protocol = model_protocol(text);
    else if (strcmp(key, "uid") == 0)
        grant->uid = (uid_t)number;
}

static char *on_lease_signal(Monitor *monitor, sd_bus_message *m, const char *member)
{
    Model *model = monitor->fuzz->model;
    gboolean allocated = strcmp(member, "PortAllocated") == 0;
    const char *text = NULL;
    Grant grant = {NULL};
    char *wrong;

    (void)sd_bus_message_read(m, "sqs", &grant.lease, &grant.port, &text);
    wrong = dict_read(m, allocated ? dict_told_allocated : dict_told_released, on_detail, &grant);
    if (wrong)
        return wrong;
    if (allocated)
        wrong = model_told_allocated(model, &grant);
    else if (strcmp(member, "StaleReleased") == 0)
        return model_is_reason(text) ? NULL : g_strdup_printf("the reason is %s", text);
    else
        wrong = model_told_released(model, &grant, text);
    /* Of an end, that is; a port that is granted twice is wrong at any time. */
    if (monitor->settling && !allocated)
        g_clear_pointer(&wrong, g_free);
    return wrong;
}

static int on_signal(sd_bus_message *m, void *data, sd_bus_error *error)
{
    static const struct {
        const char *member, *signature;
        const DictKey *details;
    } others[] = {
        {"PortConflict", "qsa{sv}", dict_told_conflict},
        {"HealthChanged", "sqsa{sv}", dict_told_health},
        {"ServiceRestarted", "sqsa{sv}", dict_told_restarted},
        {"RecoveryStarted", "s", NULL},
        {"RecoveryStep", "ssa{sv}", dict_step},
        {"RecoveryFinished", "ba{sv}", dict_report},
    };
    Monitor *monitor = data;
    const char *member = sd_bus_message_get_member(m);
    const char *signature = sd_bus_message_get_signature(m, TRUE);
    char *wrong = NULL;

    if (!sd_bus_message_is_signal(m, "org.styxy.Ports", NULL))
        return 0;
    monitor->fuzz->counts.signals++;
    if (strcmp(member, "PortAllocated") == 0 || strcmp(member, "PortReleased") == 0 ||
        strcmp(member, "StaleReleased") == 0) {
        if (strcmp(signature, "sqsa{sv}") != 0)
            wrong = g_strdup(signature);
        else
            wrong = on_lease_signal(monitor, m, member);
        fuzz_check(monitor->fuzz, member, wrong);
        return 0;
    }
    for (guint i = 0; i < G_N_ELEMENTS(others); i++) {
        if (strcmp(member, others[i].member) != 0)
            continue;
        if (strcmp(signature, others[i].signature) != 0)
            wrong = g_strdup(signature);
        for (const char *p = signature; !wrong && *p && strcmp(p, "a{sv}") != 0; p++)
            (void)sd_bus_message_skip(m, (const char[]){*p, '\0'});
        if (!wrong && others[i].details)
            wrong = dict_read(m, others[i].details, NULL, NULL);
        fuzz_check(monitor->fuzz, member, wrong);
        return 0;
    }
    fuzz_fail(monitor->fuzz, "nobody has documented the signal %s", member);
}

/* ---- List ---- */

static sd_bus_message *call(Monitor *monitor, const char *member, const char *types)
{
    __attribute__((cleanup(sd_bus_error_free))) sd_bus_error error = SD_BUS_ERROR_NULL;
    sd_bus_message *m = NULL, *reply = NULL;

    (void)sd_bus_message_new_method_call(monitor->bus, &m, "org.styxy.Ports", "/org/styxy/Ports",
                                         "org.styxy.Ports", member);
    if (types)
        (void)sd_bus_message_append(m, types, 0);
    if (sd_bus_call(monitor->bus, m, CALL_USEC, &error, &reply) < 0)
        fuzz_fail(monitor->fuzz, "the monitor's %s: %s: %s", member, error.name, error.message);
    sd_bus_message_unref(m);
    return reply;
}

/* Returns: of Grant, whose strings are the message's. */
static GArray *list(Monitor *monitor, sd_bus_message **ret_reply)
{
    GArray *leases = g_array_new(FALSE, TRUE, sizeof(Grant));
    sd_bus_message *reply = call(monitor, "List", "a{sv}");

    (void)sd_bus_message_enter_container(reply, 'a', "a{sv}");
    while (sd_bus_message_at_end(reply, FALSE) == 0) {
        Grant grant = {NULL};

        fuzz_check(monitor->fuzz, "List", read_lease(reply, 0, &grant));
        g_array_append_val(leases, grant);
    }
    *ret_reply = reply;
    return leases;
}

void monitor_process(Monitor *monitor)
{
    int r;

    while ((r = sd_bus_process(monitor->bus, NULL)) > 0)
        ;
    if (r < 0)
        fuzz_fail(monitor->fuzz, "the monitor was cut off: %s", g_strerror(-r));
}

char *monitor_compare(Monitor *monitor)
{
    sd_bus_message *reply = NULL;
    g_autoptr(GArray) leases = list(monitor, &reply);
    char *wrong = NULL;

    monitor_process(monitor);
    wrong = model_compare(monitor->fuzz->model, leases);
    sd_bus_message_unref(reply);
    return wrong;
}

void monitor_settled(Monitor *monitor)
{
    monitor->settling = FALSE;
    fuzz_check(monitor->fuzz, "in the end", model_settle(monitor->fuzz->model, LEASES_PER_USER));
    monitor->fuzz->lost_grants = 0;
    monitor->fuzz->counts.settled++;
}

void monitor_restarted(Monitor *monitor)
{
    Fuzz *fuzz = monitor->fuzz;
    sd_bus_message *reply = NULL;
    g_autoptr(GArray) leases = list(monitor, &reply);

    fuzz_check(fuzz, "after the restart", model_restarted(fuzz->model, leases, fuzz->lost_grants));
    sd_bus_message_unref(reply);
    monitor->settling = TRUE;
    monitor_process(monitor);
}

Monitor *monitor_new(Fuzz *fuzz)
{
    Monitor *monitor = g_new0(Monitor, 1);

    monitor->fuzz = fuzz;
    monitor->bus = world_connect(fuzz->world, TRANSPORT_DIRECT);
    if (!monitor->bus || sd_bus_add_filter(monitor->bus, NULL, on_signal, monitor) < 0)
        fuzz_fail(fuzz, "the monitor cannot connect");
    sd_bus_message_unref(call(monitor, "Subscribe", NULL));
    return monitor;
}

void monitor_free(Monitor *monitor)
{
    sd_bus_close(monitor->bus);
    sd_bus_unref(monitor->bus);
    g_free(monitor);
}

sd_bus *monitor_bus(Monitor *monitor)
{
    return monitor->bus;
}
