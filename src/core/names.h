/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>

/*
 * The words of the interface, each enum with its text. _to_string() takes any value of the enum and
 * never returns NULL; _from_string() returns FALSE for anything else, NULL and "" included, and
 * leaves *ret_value untouched then.
 */

/** Protocol: a set of transport protocols; PROTOCOL_BOTH is tcp and udp on one number. */
typedef enum Protocol {
    PROTOCOL_TCP = 1 << 0,
    PROTOCOL_UDP = 1 << 1,
    PROTOCOL_BOTH = PROTOCOL_TCP | PROTOCOL_UDP,
} Protocol;

typedef enum Lifetime {
    LIFETIME_AUTO,       /* as long as the port is used */
    LIFETIME_PROCESS,    /* ends with its process */
    LIFETIME_CLIENT,     /* ends with the caller's connection */
    LIFETIME_PERSISTENT, /* ends only when released, outlives a reboot */
    _LIFETIME_MAX,
} Lifetime;

typedef enum Hold {
    HOLD_NONE,
    HOLD_SOFT, /* the daemon keeps a bound, not listening socket */
    _HOLD_MAX,
} Hold;

typedef enum Health {
    HEALTH_RESERVED,    /* granted, not yet seen in use */
    HEALTH_ACTIVE,      /* in use */
    HEALTH_FAILING,     /* was in use or past its grace; failures are being counted */
    HEALTH_DORMANT,     /* persistent, and its service has not come back since the reboot */
    HEALTH_QUARANTINED, /* somebody listens there and no record says who: not granted to anybody */
    _HEALTH_MAX,
} Health;

typedef enum OnUnhealthy {
    ON_UNHEALTHY_RELEASE,
    ON_UNHEALTHY_RESTART,
    ON_UNHEALTHY_NOTIFY,
    _ON_UNHEALTHY_MAX,
} OnUnhealthy;

/** Reason: why a lease ended. */
typedef enum Reason {
    REASON_RELEASED,
    REASON_PROCESS_EXITED,
    REASON_NOT_IN_USE,
    REASON_NEVER_BOUND,
    REASON_UNHEALTHY,
    REASON_EXPIRED,
    REASON_CLIENT_GONE,
    REASON_ORPHANED,
    REASON_DUPLICATE_SINGLETON,
    REASON_REBOOTED,
    _REASON_MAX,
} Reason;

const char *protocol_to_string(Protocol value);
gboolean protocol_from_string(const char *text, Protocol *ret_value);
const char *lifetime_to_string(Lifetime value);
gboolean lifetime_from_string(const char *text, Lifetime *ret_value);
const char *hold_to_string(Hold value);
gboolean hold_from_string(const char *text, Hold *ret_value);
const char *health_to_string(Health value);
gboolean health_from_string(const char *text, Health *ret_value);
const char *on_unhealthy_to_string(OnUnhealthy value);
gboolean on_unhealthy_from_string(const char *text, OnUnhealthy *ret_value);
const char *reason_to_string(Reason value);
gboolean reason_from_string(const char *text, Reason *ret_value);

/*
 * Limits of names that clients choose: service type [A-Za-z0-9-]{1,50},
 * label [A-Za-z0-9_.-]{1,100}, instance [A-Za-z0-9_-]{1,100}. NULL and "" are not valid.
 */
gboolean service_type_is_valid(const char *text);
gboolean label_is_valid(const char *text);
gboolean instance_is_valid(const char *text);
