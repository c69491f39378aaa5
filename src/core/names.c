/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "core/names.h"

#include <string.h>

static const char *const protocol_names[] = {
    [PROTOCOL_TCP] = "tcp",
    [PROTOCOL_UDP] = "udp",
    [PROTOCOL_BOTH] = "both",
};

static const char *const lifetime_names[_LIFETIME_MAX] = {
    [LIFETIME_AUTO] = "auto",
    [LIFETIME_PROCESS] = "process",
    [LIFETIME_CLIENT] = "client",
    [LIFETIME_PERSISTENT] = "persistent",
};

static const char *const hold_names[_HOLD_MAX] = {
    [HOLD_NONE] = "none",
    [HOLD_SOFT] = "soft",
};

static const char *const health_names[_HEALTH_MAX] = {
    [HEALTH_RESERVED] = "reserved",       [HEALTH_ACTIVE] = "active",
    [HEALTH_FAILING] = "failing",         [HEALTH_DORMANT] = "dormant",
    [HEALTH_QUARANTINED] = "quarantined",
};

static const char *const on_unhealthy_names[_ON_UNHEALTHY_MAX] = {
    [ON_UNHEALTHY_RELEASE] = "release",
    [ON_UNHEALTHY_RESTART] = "restart",
    [ON_UNHEALTHY_NOTIFY] = "notify",
};

static const char *const reason_names[_REASON_MAX] = {
    [REASON_RELEASED] = "released",
    [REASON_PROCESS_EXITED] = "process-exited",
    [REASON_NOT_IN_USE] = "not-in-use",
    [REASON_NEVER_BOUND] = "never-bound",
    [REASON_UNHEALTHY] = "unhealthy",
    [REASON_EXPIRED] = "expired",
    [REASON_CLIENT_GONE] = "client-gone",
    [REASON_ORPHANED] = "orphaned",
    [REASON_DUPLICATE_SINGLETON] = "duplicate-singleton",
    [REASON_REBOOTED] = "rebooted",
};

static gboolean lookup(const char *const *names, size_t n_names, const char *text,
                       size_t *ret_index)
{
    if (!text)
        return FALSE;
    for (size_t i = 0; i < n_names; i++)
        if (names[i] && strcmp(names[i], text) == 0) {
            *ret_index = i;
            return TRUE;
        }
    return FALSE;
}

#define DEFINE_NAMES(Type, prefix)                                                       \
    const char *prefix##_to_string(Type value)                                           \
    {                                                                                    \
        g_assert((size_t)value < G_N_ELEMENTS(prefix##_names) && prefix##_names[value]); \
        return prefix##_names[value];                                                    \
    }                                                                                    \
    gboolean prefix##_from_string(const char *text, Type *ret_value)                     \
    {                                                                                    \
        size_t i;                                                                        \
                                                                                         \
        if (!lookup(prefix##_names, G_N_ELEMENTS(prefix##_names), text, &i))             \
            return FALSE;                                                                \
        *ret_value = (Type)i;                                                            \
        return TRUE;                                                                     \
    }

DEFINE_NAMES(Protocol, protocol)
DEFINE_NAMES(Lifetime, lifetime)
DEFINE_NAMES(Hold, hold)
DEFINE_NAMES(Health, health)
DEFINE_NAMES(OnUnhealthy, on_unhealthy)
DEFINE_NAMES(Reason, reason)

static gboolean name_is_valid(const char *text, const char *extra, size_t max_length)
{
    size_t length = 0;

    if (!text)
        return FALSE;
    for (; text[length]; length++)
        if (length == max_length ||
            (!g_ascii_isalnum(text[length]) && !strchr(extra, text[length])))
            return FALSE;
    return length > 0;
}

gboolean service_type_is_valid(const char *text)
{
    return name_is_valid(text, "-", 50);
}

gboolean label_is_valid(const char *text)
{
    return name_is_valid(text, "_.-", 100);
}

gboolean instance_is_valid(const char *text)
{
    return name_is_valid(text, "_-", 100);
}
