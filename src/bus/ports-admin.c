/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "bus/ports-methods.h"

#include <errno.h>

#include "bus/authority.h"
#include "bus/caller.h"
#include "bus/encode.h"
#include "bus/errors.h"
#include "bus/options.h"
#include "bus/outbox.h"
#include "bus/sd-bus-auto.h"

static int reply_gvariant(sd_bus_message *m, GVariant *value)
{
    g_autoptr(sd_bus_message) reply = NULL;
    int r = sd_bus_message_new_method_return(m, &reply);

    if (r >= 0)
        r = encode_gvariant(reply, value);
    return r < 0 ? r : sd_bus_send(NULL, reply, NULL);
}

int ports_get_metrics(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
    Connection *connection = userdata;
    g_autoptr(GVariant) metrics = g_variant_ref_sink(manager_metrics(connection->context->manager));

    return reply_gvariant(m, metrics);
}

/* ---- Reload ---- */

static void reload_allowed(Call *call, const GError *refusal)
{
    g_autoptr(sd_bus_message) reply = NULL;
    g_autoptr(GError) error = NULL;

    if (refusal)
        call_refuse(call, refusal);
    else if (!manager_reload(call->context->manager, &error))
        call_refuse(call, error);
    else if (sd_bus_message_new_method_return(call->message, &reply) >= 0)
        (void)call_send(call, reply); /* a broken connection ends by itself */
    else
        (void)call_free(call);
}

int ports_reload(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
    Connection *connection = userdata;
    Call *call = call_new(connection, m, error);

    if (!call)
        return -EDQUOT;
    authority_ask(call, AUTHORITY_RELOAD, AUTHORITY_NOBODY, NULL, reload_allowed);
    return 1;
}

/* ---- Recover ---- */

static void recover_done(gboolean ok, GVariant *steps, const GError *error, void *data)
{
    g_autoptr(sd_bus_message) reply = NULL;
    Call *call = data;

    if (error)
        call_refuse(call, error);
    else if (sd_bus_message_new_method_return(call->message, &reply) >= 0 &&
             sd_bus_message_append(reply, "b", ok) >= 0 && encode_gvariant(reply, steps) >= 0)
        (void)call_send(call, reply); /* a broken connection ends by itself */
    else
        (void)call_free(call);
}

static void recover_allowed(Call *call, const GError *refusal)
{
    if (refusal)
        call_refuse(call, refusal);
    else
        manager_recover(call->context->manager, call->number, recover_done, call);
}

int ports_recover(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
    Connection *connection = userdata;
    g_autoptr(GError) refusal = NULL;
    gboolean dry_run = FALSE;
    Call *call = NULL;

    if (!options_parse_dry_run(m, &dry_run, &refusal))
        return bus_error_set_gerror(error, refusal);
    call = call_new(connection, m, error);
    if (!call)
        return -EDQUOT;
    call->number = (guint)dry_run;
    authority_ask(call, AUTHORITY_RECOVER, AUTHORITY_NOBODY, NULL, recover_allowed);
    return 1;
}

/* ---- Cleanup ---- */

static int append_findings(sd_bus_message *reply, const GArray *findings)
{
    int r = sd_bus_message_open_container(reply, SD_BUS_TYPE_ARRAY, "(qss)");

    for (guint i = 0; r >= 0 && i < findings->len; i++) {
        const CleanupFinding *finding = &g_array_index(findings, CleanupFinding, i);

        r = sd_bus_message_append(reply, "(qss)", finding->port, finding->lease.text,
                                  reason_to_string(finding->reason));
    }
    return r < 0 ? r : sd_bus_message_close_container(reply);
}

static void cleanup_done(const GArray *findings, const GError *error, void *data)
{
    g_autoptr(sd_bus_message) reply = NULL;
    Call *call = data;

    if (error)
        call_refuse(call, error);
    else if (sd_bus_message_new_method_return(call->message, &reply) >= 0 &&
             append_findings(reply, findings) >= 0)
        (void)call_send(call, reply); /* a broken connection ends by itself */
    else
        (void)call_free(call);
}

/* Whoever may not clean up the leases of others cleans up his own. */
static void cleanup_allowed(Call *call, const GError *refusal)
{
    manager_cleanup(call->context->manager, refusal ? call->caller->uid : AUTHORITY_NOBODY,
                    call->number, cleanup_done, call);
}

int ports_cleanup(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
    Connection *connection = userdata;
    g_autoptr(GError) refusal = NULL;
    gboolean dry_run = FALSE;
    Call *call = NULL;

    if (!options_parse_dry_run(m, &dry_run, &refusal))
        return bus_error_set_gerror(error, refusal);
    call = call_new(connection, m, error);
    if (!call)
        return -EDQUOT;
    call->number = (guint)dry_run;
    authority_ask(call, AUTHORITY_CLEANUP, AUTHORITY_NOBODY, NULL, cleanup_allowed);
    return 1;
}

int ports_get_recovery_report(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
    Connection *connection = userdata;
    g_autoptr(GVariant) report = manager_recovery_report(connection->context->manager);

    return reply_gvariant(m, report);
}

/* ---- Subscribe ---- */

static int set_subscribed(sd_bus_message *m, Connection *connection, gboolean subscribed)
{
    if (connection->peer) { /* a broker switches by its match rules */
        connection->subscribed = subscribed;
        outbox_update_listener(connection->context->outbox, connection);
    }
    return sd_bus_reply_method_return(m, NULL);
}

int ports_subscribe(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
    return set_subscribed(m, userdata, TRUE);
}

int ports_unsubscribe(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
    return set_subscribed(m, userdata, FALSE);
}
