/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "bus/notice.h"

#include "bus/encode.h"
#include "bus/ports-iface.h"
#include "bus/sd-bus-auto.h"

Notice *notice_new(NoticeKind kind, const Lease *lease)
{
    Notice *notice = g_slice_new0(Notice);

    notice->kind = kind;
    if (lease)
        notice->lease = lease_ref((Lease *)lease); /* counting is all that changes */
    return notice;
}

Notice *notice_free(Notice *notice)
{
    if (!notice)
        return NULL;
    lease_unref(notice->lease);
    g_clear_pointer(&notice->ports, g_array_unref);
    for (guint i = 0; i < G_N_ELEMENTS(notice->text); i++)
        g_free(notice->text[i]);
    g_clear_pointer(&notice->details, g_variant_unref);
    g_slice_free(Notice, notice);
    return NULL;
}

/* ---- what stands before the a{sv} ---- */

static int head_of_lease(sd_bus_message *m, const Notice *notice, const char *last)
{
    return sd_bus_message_append(m, "sqs", notice->lease->id.text, notice->lease->port, last);
}

static int allocated_head(sd_bus_message *m, const Notice *notice)
{
    return head_of_lease(m, notice, notice->lease->service_type);
}

static int released_head(sd_bus_message *m, const Notice *notice)
{
    return head_of_lease(m, notice, reason_to_string(notice->reason));
}

static int health_head(sd_bus_message *m, const Notice *notice)
{
    return head_of_lease(m, notice, health_to_string(notice->health));
}

static int restarted_head(sd_bus_message *m, const Notice *notice)
{
    return head_of_lease(m, notice, notice->text[0]);
}

static int conflict_head(sd_bus_message *m, const Notice *notice)
{
    return sd_bus_message_append(m, "qs", notice->port, notice->text[0]);
}

static int recovery_started_head(sd_bus_message *m, const Notice *notice)
{
    return sd_bus_message_append(m, "s", notice->text[0]);
}

static int recovery_step_head(sd_bus_message *m, const Notice *notice)
{
    return sd_bus_message_append(m, "ss", notice->text[0], notice->text[1]);
}

static int recovery_finished_head(sd_bus_message *m, const Notice *notice)
{
    return sd_bus_message_append(m, "b", notice->flag);
}

/* ---- what stands in it ---- */

static int lease_details(sd_bus_message *m, const Notice *notice)
{
    int r = encode_entry_string(m, "protocol", protocol_to_string(notice->lease->protocol));

    if (r >= 0)
        r = encode_entry_u32(m, "uid", notice->lease->uid);
    if (r >= 0)
        r = encode_entry_string(m, "instance", notice->lease->instance);
    return r;
}

static int allocated_details(sd_bus_message *m, const Notice *notice)
{
    int r = lease_details(m, notice);

    if (r >= 0)
        r = encode_entry_u32(m, "attempts", notice->number);
    if (r >= 0 && notice->ports)
        r = encode_entry_ports(m, "conflicts", notice->ports);
    return r;
}

static int released_details(sd_bus_message *m, const Notice *notice)
{
    int r = lease_details(m, notice);

    return r < 0 ? r : encode_entry_string(m, "service_type", notice->lease->service_type);
}

static int health_details(sd_bus_message *m, const Notice *notice)
{
    int r = released_details(m, notice);

    if (r >= 0)
        r = encode_entry_string(m, "before", health_to_string(notice->before));
    if (r >= 0)
        r = encode_entry_string(m, "why", notice->text[0]);
    if (r >= 0)
        r = encode_entry_u32(m, "failures", notice->number);
    return r;
}

static int restarted_details(sd_bus_message *m, const Notice *notice)
{
    int r = released_details(m, notice);

    return r < 0 ? r : encode_entry_u32(m, "restarts", notice->number);
}

static int conflict_details(sd_bus_message *m, const Notice *notice)
{
    int r = encode_entry_string(m, "protocol", protocol_to_string(notice->protocol));

    if (r >= 0)
        r = encode_entry_string(m, "address", notice->text[1]);
    if (r >= 0)
        r = encode_entry_string(m, "unit", notice->text[2]);
    if (r >= 0 && notice->flag)
        r = encode_entry_u32(m, "uid", notice->uid);
    return r;
}

static int recovery_details(sd_bus_message *m, const Notice *notice)
{
    int r = 0;

    for (gsize i = 0; r >= 0 && notice->details && i < g_variant_n_children(notice->details); i++) {
        g_autoptr(GVariant) entry = g_variant_get_child_value(notice->details, i);

        r = encode_gvariant(m, entry);
    }
    return r;
}

/* ---- the signals ---- */

static const struct {
    const char *member;
    int (*head)(sd_bus_message *m, const Notice *notice);
    int (*details)(sd_bus_message *m, const Notice *notice); /* NULL: has no a{sv} */
} signals[_NOTICE_MAX] = {
    [NOTICE_ALLOCATED] = {"PortAllocated", allocated_head, allocated_details},
    [NOTICE_RELEASED] = {"PortReleased", released_head, released_details},
    [NOTICE_STALE] = {"StaleReleased", released_head, released_details},
    [NOTICE_CONFLICT] = {"PortConflict", conflict_head, conflict_details},
    [NOTICE_HEALTH] = {"HealthChanged", health_head, health_details},
    [NOTICE_RESTARTED] = {"ServiceRestarted", restarted_head, restarted_details},
    [NOTICE_RECOVERY_STARTED] = {"RecoveryStarted", recovery_started_head, NULL},
    [NOTICE_RECOVERY_STEP] = {"RecoveryStep", recovery_step_head, recovery_details},
    [NOTICE_RECOVERY_FINISHED] = {"RecoveryFinished", recovery_finished_head, recovery_details},
};

const char *notice_signal(NoticeKind kind)
{
    return signals[kind].member;
}

int notice_to_message(const Notice *notice, sd_bus *bus, sd_bus_message **ret_message)
{
    g_autoptr(sd_bus_message) m = NULL;
    int r = sd_bus_message_new_signal(bus, &m, PORTS_PATH, PORTS_INTERFACE,
                                      signals[notice->kind].member);

    if (r >= 0)
        r = signals[notice->kind].head(m, notice);
    if (r >= 0 && signals[notice->kind].details) {
        r = sd_bus_message_open_container(m, SD_BUS_TYPE_ARRAY, "{sv}");
        if (r >= 0)
            r = signals[notice->kind].details(m, notice);
        if (r >= 0)
            r = sd_bus_message_close_container(m);
    }
    if (r >= 0)
        *ret_message = g_steal_pointer(&m);
    return r;
}
