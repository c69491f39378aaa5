/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <string.h>

#include "method.h"

/* On the direct socket a message with a descriptor has 8 KiB at most, with its other fields. */
#define LONG_WITH_FD_BYTES 6000

#define PORTS "org.styxy.Ports"
#define PATH "/org/styxy/Ports"
#define DRIVER "org.freedesktop.DBus"
#define PROPERTIES "org.freedesktop.DBus.Properties"

/* ---- arguments ---- */

static void make_allocate(Fuzz *fuzz, sd_bus_message *m, Pending *pending)
{
    pending->may_grant = TRUE;
    (void)sd_bus_message_append(m, "s", value_service_type(fuzz));
    value_append_options(fuzz, m, pending);
}

static void make_block(Fuzz *fuzz, sd_bus_message *m, Pending *pending)
{
    guint count = fuzz_one_in(fuzz, 10) ? fuzz_dice(fuzz, 66000) & 0xffff : 1 + fuzz_dice(fuzz, 6);

    pending->may_grant = TRUE;
    pending->number = count;
    (void)sd_bus_message_append(m, "sq", value_service_type(fuzz), count);
    value_append_options(fuzz, m, pending);
}

static void make_lease(Fuzz *fuzz, sd_bus_message *m, Pending *pending)
{
    pending->text = g_strdup(value_lease(fuzz));
    (void)sd_bus_message_append(m, "s", pending->text);
}

static void make_release(Fuzz *fuzz, sd_bus_message *m, Pending *pending)
{
    make_lease(fuzz, m, pending);
    model_asks_release(fuzz->model, pending->text, pending->actor->uid);
}

static void make_port(Fuzz *fuzz, sd_bus_message *m, Pending *pending)
{
    pending->number = value_port(fuzz);
    (void)sd_bus_message_append(m, "qs", pending->number, value_protocol(fuzz));
}

static void make_release_port(Fuzz *fuzz, sd_bus_message *m, Pending *pending)
{
    make_port(fuzz, m, pending);
    model_asks_release_port(fuzz->model, (guint16)pending->number, pending->actor->uid);
}

static void make_release_instance(Fuzz *fuzz, sd_bus_message *m, Pending *pending)
{
    (void)sd_bus_message_append(m, "s", value_instance(fuzz));
    model_asks_release_instance(fuzz->model, pending->actor->uid);
}

static void make_list(Fuzz *fuzz, sd_bus_message *m, Pending *pending)
{
    value_append_filter(fuzz, m);
}

static void make_scan(Fuzz *fuzz, sd_bus_message *m, Pending *pending)
{
    pending->number = value_port(fuzz);
    pending->number2 = fuzz_one_in(fuzz, 5) ? value_port(fuzz)
                                            : MIN(pending->number + fuzz_dice(fuzz, 2000), 65535);
    (void)sd_bus_message_append(m, "qq", pending->number, pending->number2);
}

static void make_suggest(Fuzz *fuzz, sd_bus_message *m, Pending *pending)
{
    pending->number = fuzz_one_in(fuzz, 10) ? g_rand_int(fuzz->dice) : fuzz_dice(fuzz, 12);
    (void)sd_bus_message_append(m, "su", value_service_type(fuzz), pending->number);
}

static void make_dry_run(Fuzz *fuzz, sd_bus_message *m, Pending *pending)
{
    value_append_dry_run(fuzz, m);
}

static const char *a_property(Fuzz *fuzz)
{
    static const char *const names[] = {"Version",      "State",       "StateReason", "LeaseCount",
                                        "ServiceTypes", "ConfigFiles", "Nonsense"};

    return names[fuzz_dice(fuzz, G_N_ELEMENTS(names))];
}

static const char *an_interface(Fuzz *fuzz)
{
    return fuzz_one_in(fuzz, 10) ? value_text(fuzz) : PORTS;
}

static void make_get(Fuzz *fuzz, sd_bus_message *m, Pending *pending)
{
    (void)sd_bus_message_append(m, "ss", an_interface(fuzz), a_property(fuzz));
}

static void make_set(Fuzz *fuzz, sd_bus_message *m, Pending *pending)
{
    (void)sd_bus_message_append(m, "ssv", an_interface(fuzz), a_property(fuzz), "s", "degraded");
}

static void make_get_all(Fuzz *fuzz, sd_bus_message *m, Pending *pending)
{
    (void)sd_bus_message_append(m, "s", an_interface(fuzz));
}

static void make_match(Fuzz *fuzz, sd_bus_message *m, Pending *pending)
{
    static const char *const rules[] = {
        "type='signal'",         "type='signal',sender='org.styxy.Ports'",
        "member='PortReleased'", "path_namespace='/org'",
        "arg0='x',arg0='x'",     "type='nonsense'"};

    (void)sd_bus_message_append(m, "s",
                                fuzz_one_in(fuzz, 5) ? value_text(fuzz)
                                                     : rules[fuzz_dice(fuzz, G_N_ELEMENTS(rules))]);
}

static void make_name(Fuzz *fuzz, sd_bus_message *m, Pending *pending)
{
    static const char *const names[] = {DRIVER, PORTS, ":1.0", ":1.1", "org.example.Nobody"};

    (void)sd_bus_message_append(m, "s", names[fuzz_dice(fuzz, G_N_ELEMENTS(names))]);
}

static const Method methods[] = {
    {PORTS, "Allocate", "qsa{sv}", 300, FALSE, FALSE, make_allocate, judge_allocate},
    {PORTS, "AllocateSocket", "qsha{sv}", 50, FALSE, FALSE, make_allocate, judge_allocate_socket},
    {PORTS, "AllocateBlock", "a(qs)a{sv}", 25, FALSE, FALSE, make_block, judge_allocate_block},
    {PORTS, "Release", "", 350, FALSE, FALSE, make_release, judge_release},
    {PORTS, "ReleasePort", "", 60, FALSE, FALSE, make_release_port, NULL},
    {PORTS, "ReleaseInstance", "u", 25, FALSE, FALSE, make_release_instance, NULL},
    {PORTS, "Renew", "t", 30, FALSE, FALSE, make_lease, judge_renew},
    {PORTS, "GetLease", "a{sv}", 60, FALSE, FALSE, make_lease, judge_get_lease},
    {PORTS, "List", "aa{sv}", 10, FALSE, FALSE, make_list, judge_list},
    {PORTS, "CheckPort", "ba{sv}", 50, FALSE, FALSE, make_port, judge_check_port},
    {PORTS, "Scan", "aa{sv}", 15, FALSE, FALSE, make_scan, judge_scan},
    {PORTS, "Suggest", "aq", 30, FALSE, FALSE, make_suggest, judge_suggest},
    {PORTS, "Cleanup", "a(qss)", 3, FALSE, FALSE, make_dry_run, judge_cleanup},
    {PORTS, "Recover", "ba(ssa{sv})", 3, TRUE, FALSE, make_dry_run, judge_recover},
    {PORTS, "GetRecoveryReport", "a{sv}", 5, FALSE, FALSE, NULL, judge_report},
    {PORTS, "GetMetrics", "a{st}", 10, FALSE, FALSE, NULL, NULL},
    {PORTS, "Reload", "", 5, TRUE, FALSE, NULL, NULL},
    {PORTS, "Subscribe", "", 10, FALSE, FALSE, NULL, NULL},
    {PORTS, "Unsubscribe", "", 10, FALSE, FALSE, NULL, NULL},
    {PROPERTIES, "Get", "v", 20, FALSE, FALSE, make_get, NULL},
    {PROPERTIES, "Set", "", 5, FALSE, FALSE, make_set, NULL},
    {PROPERTIES, "GetAll", "a{sv}", 10, FALSE, FALSE, make_get_all, NULL},
    {"org.freedesktop.DBus.Introspectable", "Introspect", "s", 3, FALSE, FALSE, NULL, NULL},
    {"org.freedesktop.DBus.Peer", "Ping", "", 30, FALSE, FALSE, NULL, NULL},
    {"org.freedesktop.DBus.Peer", "GetMachineId", "s", 3, FALSE, FALSE, NULL, NULL},
    {DRIVER, "Hello", "s", 3, FALSE, TRUE, NULL, NULL},
    {DRIVER, "AddMatch", "", 20, FALSE, TRUE, make_match, NULL},
    {DRIVER, "RemoveMatch", "", 20, FALSE, TRUE, make_match, NULL},
    {DRIVER, "GetNameOwner", "s", 5, FALSE, TRUE, make_name, NULL},
    {DRIVER, "NameHasOwner", "b", 5, FALSE, TRUE, make_name, NULL},
    {DRIVER, "ListNames", "as", 5, FALSE, TRUE, NULL, NULL},
    {DRIVER, "GetConnectionCredentials", "a{sv}", 5, FALSE, TRUE, make_name, NULL},
    {DRIVER, "GetId", "s", 3, FALSE, TRUE, NULL, NULL},
};

static const Method *pick_method(const Fuzz *fuzz)
{
    guint total = 0, at;

    for (guint i = 0; i < G_N_ELEMENTS(methods); i++)
        total += methods[i].weight;
    at = fuzz_dice(fuzz, total);
    for (guint i = 0; i < G_N_ELEMENTS(methods); i++) {
        if (at < methods[i].weight)
            return &methods[i];
        at -= methods[i].weight;
    }
    return &methods[0];
}

static sd_bus_message *new_message(Actor *actor, const Method *method)
{
    gboolean direct = strcmp(method->interface, DRIVER) == 0;
    sd_bus_message *m = NULL;

    if (sd_bus_message_new_method_call(actor->bus, &m, direct ? DRIVER : PORTS,
                                       direct ? "/org/freedesktop/DBus" : PATH, method->interface,
                                       method->member) < 0)
        fuzz_fail(actor->fuzz, "no message can be made");
    return m;
}

/* Something that is not there, or not so. */
static void make_wrong(Actor *actor, const Method *method)
{
    static const char *const paths[] = {"/", "/org", PATH "/x", "/a/b/c", PATH};
    static const char *const interfaces[] = {PORTS, NULL, "org.styxy.Other", PROPERTIES};
    Fuzz *fuzz = actor->fuzz;
    Pending *pending = g_new0(Pending, 1);
    sd_bus_message *m = NULL;

    pending->method = method;
    if (fuzz_one_in(fuzz, 3)) {
        (void)sd_bus_message_new_method_call(actor->bus, &m, PORTS,
                                             paths[fuzz_dice(fuzz, G_N_ELEMENTS(paths))],
                                             interfaces[fuzz_dice(fuzz, G_N_ELEMENTS(interfaces))],
                                             fuzz_one_in(fuzz, 2) ? "Frobnicate" : method->member);
        pending->method = NULL;
    } else {
        m = new_message(actor, method);
    }
    if (!m)
        fuzz_fail(fuzz, "no message can be made");
    value_append_anything(fuzz, m);
    /* By chance it may be right: as if it had been asked for. */
    pending->may_grant = TRUE;
    actor_send(actor, m, pending);
}

void calls_make(Actor *actor)
{
    Fuzz *fuzz = actor->fuzz;
    const Method *method = pick_method(fuzz);
    sd_bus_message *m = NULL;
    Pending *pending = NULL;
    gsize long_bytes = value_long_bytes();

    if (method->direct && actor->transport == TRANSPORT_BUS)
        return;
    if (fuzz_one_in(fuzz, 12)) {
        make_wrong(actor, method);
        return;
    }
    pending = g_new0(Pending, 1);
    pending->method = method;
    pending->proper = TRUE;
    pending->actor = actor;
    pending->grant.uid = actor->uid;
    pending->grant.asked_at = model_now(fuzz->model);
    m = new_message(actor, method);
    if (method->make)
        method->make(fuzz, m, pending);
    if (actor->transport != TRANSPORT_BUS && pending->has_fd &&
        value_long_bytes() - long_bytes >= LONG_WITH_FD_BYTES)
        actor->wanton = TRUE;
    pending->actor = NULL;
    if (fuzz_one_in(fuzz, 60)) { /* nobody waits for the answer */
        fuzz->lost_grants += pending->may_grant ? MAX(pending->number, 1) : 0;
        g_free(pending->text);
        g_clear_pointer(&pending, g_free);
    }
    actor_send(actor, m, pending);
}
