/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "store/record-members.h"

#include <string.h>

/* Not safe beside another thread that releases one: GLib takes its lock only after the count has
 * fallen to zero, so the string may be found until then (grefstring.c). */
static GRefString *share(const Record *record, const char *text)
{
    return record->unshared ? NULL : g_ref_string_new_intern(text);
}

#define SHARE(text) share(record, text)

static gboolean read_member(const Tokens *tokens, guint i, Record *record, Lease *lease,
                            GError **error)
{
    const char *key = tokens_key(tokens, i);

    if (IS("lease"))
        return record_get_id(tokens, i, key, &lease->id, error);
    if (IS("port"))
        GET_UINT(1, 65535, lease->port);
    if (IS("protocol"))
        GET_NAME(protocol, Protocol, lease->protocol);
    if (IS("address"))
        GET_STRING(g_strdup, lease->address);
    if (IS("service_type"))
        GET_VALID(service_type_is_valid, SHARE, lease->service_type);
    if (IS("instance"))
        GET_VALID(instance_is_valid, g_strdup, lease->instance);
    if (IS("label"))
        GET_VALID(label_is_valid, g_strdup, lease->label);
    if (IS("uid"))
        GET_UINT(0, G_MAXUINT32, lease->uid);
    if (IS("pid"))
        GET_UINT(1, G_MAXINT32, lease->process.pid);
    if (IS("start_ticks"))
        GET_UINT(0, G_MAXINT64, lease->process.start_ticks);
    if (IS("pidfd_inode"))
        GET_UINT(0, G_MAXINT64, lease->process.pidfd_inode);
    if (IS("unit"))
        GET_STRING(SHARE, lease->unit);
    if (IS("lifetime"))
        GET_NAME(lifetime, Lifetime, lease->lifetime);
    if (IS("hold"))
        GET_NAME(hold, Hold, lease->hold);
    if (IS("health"))
        GET_NAME(health, Health, lease->health);
    if (IS("failures"))
        GET_UINT(0, G_MAXUINT32, lease->failures);
    if (IS("ever_seen")) {
        JsonEventKind kind = tokens_get(tokens, i)->kind;

        if (kind != JSON_EVENT_TRUE && kind != JSON_EVENT_FALSE) {
            INVALID(error, "\"%s\" is not true or false", key);
            return FALSE;
        }
        lease->ever_seen = kind == JSON_EVENT_TRUE;
        return TRUE;
    }
    if (IS("created_usec"))
        GET_UINT(0, G_MAXINT64, lease->created_usec);
    if (IS("last_seen_usec"))
        GET_UINT(0, G_MAXINT64, lease->last_seen_usec);
    if (IS("expires_usec"))
        GET_UINT(0, G_MAXINT64, lease->expires_usec);
    if (IS("ttl_ms"))
        GET_UINT(0, G_MAXUINT32, lease->ttl_msec);
    if (IS("health_url"))
        GET_STRING(g_strdup, lease->health_url);
    if (IS("health_timeout_ms"))
        GET_UINT(0, G_MAXUINT32, lease->health_timeout_msec);
    if (IS("on_unhealthy"))
        GET_NAME(on_unhealthy, OnUnhealthy, lease->on_unhealthy);
    if (!IS("crc"))
        record_note_unknown(record, key);
    return TRUE;
}

gboolean record_read_lease(const Tokens *tokens, guint object, Record *record, RecordOp *op,
                           GError **error)
{
    g_autoptr(Lease) lease = lease_new();

    TOKENS_FOREACH (tokens, i, object)
        if (!read_member(tokens, i, record, lease, error))
            return FALSE;
    if (lease->id.text[0] == '\0' || lease->port == 0 || lease->protocol == 0) {
        INVALID(error, "\"%s\" is missing",
                lease->id.text[0] == '\0' ? "lease"
                : lease->port == 0        ? "port"
                                          : "protocol");
        return FALSE;
    }
    op->kind = STORE_PUT_LEASE;
    op->lease = g_steal_pointer(&lease);
    return TRUE;
}
