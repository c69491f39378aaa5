/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>
#include <systemd/sd-bus.h>

#include "core/lease.h"

typedef enum NoticeKind {
    NOTICE_ALLOCATED,
    NOTICE_RELEASED,
    NOTICE_STALE,
    NOTICE_CONFLICT,
    NOTICE_HEALTH,
    NOTICE_RESTARTED,
    NOTICE_RECOVERY_STARTED,
    NOTICE_RECOVERY_STEP,
    NOTICE_RECOVERY_FINISHED,
    _NOTICE_MAX,
} NoticeKind;

/** Notice: one signal to be. What is set depends on the kind, the rest is zero. */
typedef struct Notice {
    NoticeKind kind;
    Lease *lease; /* owned reference */
    Reason reason;
    Health before, health;
    guint number;      /* attempts, failures, restarts */
    GArray *ports;     /* owned: conflicts */
    char *text[3];     /* owned */
    GVariant *details; /* owned */
    guint16 port;
    Protocol protocol;
    gboolean flag; /* has_uid; ok */
    uid_t uid;
} Notice;

/** notice_new: @lease may be NULL; it is referenced. */
Notice *notice_new(NoticeKind kind, const Lease *lease);
/** notice_free: NULL is fine. Returns: NULL. */
Notice *notice_free(Notice *notice);

/** notice_signal: the name of the signal of that kind. */
const char *notice_signal(NoticeKind kind);

/** notice_to_message: the signal as a message of @bus. Returns: a negative errno of sd-bus, or >=
 * 0. */
int notice_to_message(const Notice *notice, sd_bus *bus, sd_bus_message **ret_message);
