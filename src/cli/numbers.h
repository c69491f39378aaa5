/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>

#include "core/names.h"
#include "core/port-set.h"
#include "util/id.h"

/*
 * Numbers as people type them, read strictly: decimal digits and nothing else. No sign, no space,
 * no fraction, no "0x", no leading zero (somebody might mean octal). Each function returns FALSE,
 * and leaves its outputs untouched, for everything else, NULL and "" included.
 */

/** number_parse: a whole number between @min and @max. */
gboolean number_parse(const char *text, guint64 min, guint64 max, guint64 *ret_value);

/** port_parse: 1..65535. */
gboolean port_parse(const char *text, guint16 *ret_port);

/** port_range_parse: "A-B" with A <= B, or one port alone. */
gboolean port_range_parse(const char *text, PortRange *ret_range);

/** port_protocol_parse: "PORT" or "PORT/PROTOCOL"; *@ret_protocol is 0 where none is named. */
gboolean port_protocol_parse(const char *text, guint16 *ret_port, Protocol *ret_protocol);

/**
 * duration_parse: a whole number with "ms", "s", "min", "m", "h" or nothing (seconds) behind it.
 * More than G_MAXUINT32 milliseconds and zero are refused.
 */
gboolean duration_parse(const char *text, guint32 *ret_msec);

/** LeaseRef: a lease as a user names it: by its id, or by port and protocol. */
typedef struct LeaseRef {
    Id id;             /* empty text where a port was given */
    guint16 port;      /* 0 where an id was given */
    Protocol protocol; /* 0 = not said */
} LeaseRef;

/** lease_ref_parse: an id of ID_LENGTH digits, "PORT" or "PORT/PROTOCOL". */
gboolean lease_ref_parse(const char *text, LeaseRef *ret_ref);
