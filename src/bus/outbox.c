/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "bus/outbox.h"

#include "bus/notice.h"
#include "bus/ports-iface.h"
#include "bus/sd-bus-auto.h"
#include "recovery/events.h"

/* Signals in one turn of the loop, so that a mass release does not keep callers waiting. */
#define TURN_MAX 64

struct Outbox {
    BusContext *context; /* borrowed */
    GQueue notices;      /* of Notice, owned */
    Connection *broker;  /* borrowed, NULL = none */
    GQueue listeners;    /* of Connection, borrowed: direct ones */
    gboolean state_changed;
    gboolean configuration_changed;
};

static gboolean has_audience(const Outbox *outbox)
{
    return outbox->broker || outbox->listeners.length > 0;
}

/* Returns: (transfer none): a new entry at the end, or NULL where nobody listens. */
static Notice *note(Outbox *outbox, NoticeKind kind, const Lease *lease)
{
    Notice *notice = NULL;

    if (!has_audience(outbox))
        return NULL;
    notice = notice_new(kind, lease);
    g_queue_push_tail(&outbox->notices, notice);
    bus_source_wake(outbox->context->source);
    return notice;
}

/* ---- what the manager tells ---- */

static void told_allocated(const Lease *lease, guint attempts, const GArray *conflicts, void *data)
{
    Notice *notice = note(data, NOTICE_ALLOCATED, lease);

    if (!notice)
        return;
    notice->number = attempts;
    if (conflicts->len > 0)
        notice->ports = g_array_copy((GArray *)conflicts); /* reads it only */
}

static void told_released(const Lease *lease, Reason reason, gboolean stale, void *data)
{
    Notice *notice = note(data, NOTICE_RELEASED, lease);

    if (!notice)
        return;
    notice->reason = reason;
    if (stale)
        note(data, NOTICE_STALE, lease)->reason = reason;
}

static void told_conflict(const ConflictInfo *conflict, void *data)
{
    Notice *notice = note(data, NOTICE_CONFLICT, NULL);

    if (!notice)
        return;
    notice->port = conflict->port;
    notice->protocol = conflict->protocol;
    notice->flag = conflict->has_uid;
    notice->uid = conflict->uid;
    notice->text[0] = g_strdup(conflict->service_type);
    notice->text[1] = g_strdup(conflict->address);
    notice->text[2] = g_strdup(conflict->unit);
}

static void told_health(const Lease *lease, Health before, const char *why, void *data)
{
    Notice *notice = note(data, NOTICE_HEALTH, lease);

    if (!notice)
        return;
    notice->before = before;
    notice->health = lease->health;
    notice->number = lease->failures;
    notice->text[0] = g_strdup(why);
}

static void told_restarted(const Lease *lease, const char *unit, guint restarts, void *data)
{
    Notice *notice = note(data, NOTICE_RESTARTED, lease);

    if (!notice)
        return;
    notice->text[0] = g_strdup(unit);
    notice->number = restarts;
}

static void told_recovery_started(const char *trigger, void *data)
{
    Notice *notice = note(data, NOTICE_RECOVERY_STARTED, NULL);

    if (notice)
        notice->text[0] = g_strdup(trigger);
}

static void told_recovery_step(const char *step, const char *result, GVariant *details, void *data)
{
    Notice *notice = note(data, NOTICE_RECOVERY_STEP, NULL);

    if (!notice)
        return;
    notice->text[0] = g_strdup(step);
    notice->text[1] = g_strdup(result);
    notice->details = details ? g_variant_ref_sink(details) : NULL;
}

static void told_recovery_finished(gboolean ok, GVariant *summary, void *data)
{
    Notice *notice = note(data, NOTICE_RECOVERY_FINISHED, NULL);

    if (!notice)
        return;
    notice->flag = ok;
    notice->details = summary ? g_variant_ref_sink(summary) : NULL;
}

static void told_state(void *data)
{
    Outbox *outbox = data;

    outbox->state_changed = TRUE;
    bus_source_wake(outbox->context->source);
}

static void told_configuration(void *data)
{
    Outbox *outbox = data;

    outbox->configuration_changed = TRUE;
    bus_source_wake(outbox->context->source);
}

static const ManagerListener listener = {
    .allocated = told_allocated,
    .released = told_released,
    .conflict = told_conflict,
    .health_changed = told_health,
    .service_restarted = told_restarted,
    .recovery_started = told_recovery_started,
    .recovery_step = told_recovery_step,
    .recovery_finished = told_recovery_finished,
    .state_changed = told_state,
    .configuration_changed = told_configuration,
};

/* ---- sending ---- */

static void deliver(Outbox *outbox, const Notice *notice)
{
    g_autoptr(sd_bus_message) shared = NULL;
    int r = 0;

    if (outbox->broker) {
        g_autoptr(sd_bus_message) m = NULL;

        r = notice_to_message(notice, outbox->broker->bus, &m);
        if (r >= 0)
            (void)sd_bus_send(outbox->broker->bus, m, NULL); /* a broken link ends by itself */
        bus_link_touch(outbox->broker->link);
    }
    for (GList *node = outbox->listeners.head; node; node = node->next) {
        Connection *connection = node->data;

        if (!shared)
            r = notice_to_message(notice, connection->bus, &shared);
        if (r < 0)
            break;
        (void)sd_bus_send(connection->bus, shared, NULL);
        bus_link_touch(connection->link);
    }
    if (r < 0)
        event_signal_lost(notice_signal(notice->kind), -r);
}

static void send_properties(Outbox *outbox, Connection *connection)
{
    const char *names[6] = {NULL};
    guint n = 0;

    if (outbox->state_changed) {
        names[n++] = "State";
        names[n++] = "StateReason";
    }
    if (outbox->configuration_changed) {
        names[n++] = "ServiceTypes";
        names[n++] = "AutoAllocation";
        names[n++] = "ConfigFiles";
    }
    (void)sd_bus_emit_properties_changed_strv(connection->bus, PORTS_PATH, PORTS_INTERFACE,
                                              (char **)names); /* a broken link ends by itself */
    bus_link_touch(connection->link);
}

gboolean outbox_work(Outbox *outbox)
{
    for (guint i = 0; i < TURN_MAX && outbox->notices.length > 0; i++) {
        Notice *notice = g_queue_pop_head(&outbox->notices);

        deliver(outbox, notice);
        notice_free(notice);
    }
    if (outbox->state_changed || outbox->configuration_changed) {
        if (outbox->broker)
            send_properties(outbox, outbox->broker);
        for (GList *node = outbox->listeners.head; node; node = node->next)
            send_properties(outbox, node->data);
        outbox->state_changed = FALSE;
        outbox->configuration_changed = FALSE;
    }
    return outbox->notices.length > 0;
}

void outbox_flush(Outbox *outbox)
{
    while (outbox_work(outbox))
        ;
}

/* ---- who listens ---- */

void outbox_set_broker(Outbox *outbox, Connection *connection)
{
    outbox->broker = connection;
}

void outbox_update_listener(Outbox *outbox, Connection *connection)
{
    gboolean listening = connection->subscribed || connection->subscriptions > 0;

    if (listening == connection->is_listening)
        return;
    connection->is_listening = listening;
    connection->listening.data = connection;
    if (listening)
        g_queue_push_tail_link(&outbox->listeners, &connection->listening);
    else
        g_queue_unlink(&outbox->listeners, &connection->listening);
}

void outbox_remove_listener(Outbox *outbox, Connection *connection)
{
    connection->subscribed = FALSE;
    connection->subscriptions = 0;
    outbox_update_listener(outbox, connection);
}

Outbox *outbox_new(BusContext *context)
{
    Outbox *outbox = g_new0(Outbox, 1);

    outbox->context = context;
    manager_set_listener(context->manager, &listener, outbox);
    return outbox;
}

Outbox *outbox_free(Outbox *outbox)
{
    if (!outbox)
        return NULL;
    g_assert(outbox->listeners.length == 0);
    manager_set_listener(outbox->context->manager, NULL, NULL);
    while (outbox->notices.length > 0)
        notice_free(g_queue_pop_head(&outbox->notices));
    g_free(outbox);
    return NULL;
}
