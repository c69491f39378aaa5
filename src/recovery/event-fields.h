/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "core/lease.h"
#include "util/log.h"

#define EVENT_FIELDS_MAX 16

/** EventFields: the journal fields of one line; texts live as long as the line is written. */
typedef struct EventFields {
    LogField field[EVENT_FIELDS_MAX];
    char number[EVENT_FIELDS_MAX][24];
    size_t n;
} EventFields;

/** event_add: @value is borrowed; NULL leaves the field out. */
void event_add(EventFields *fields, const char *name, const char *value);
void event_add_number(EventFields *fields, const char *name, guint64 value);
/** event_add_lease: port, protocol, service type, id, uid and what else the lease has. */
void event_add_lease(EventFields *fields, const Lease *lease);

/** event_rate_allows: whether a line that a client can cause may be written now. */
gboolean event_rate_allows(void);
/** event_rate_allows_rare: the same for lines of a kind that must not be lost among the others. */
gboolean event_rate_allows_rare(void);
