/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>
#include <sys/types.h>

/*
 * What each uid has of the things that are limited. Users with nothing cost nothing.
 */
typedef struct Charges Charges;

typedef enum ChargeKind {
    CHARGE_LEASES,     /* living */
    CHARGE_PENDING,    /* leases that reservations in flight may become */
    CHARGE_AUTO_TYPES, /* chunks of ports of their own, known or in flight */
    _CHARGE_MAX,
} ChargeKind;

Charges *charges_new(void);
/** charges_free: NULL is fine. Returns: NULL. */
Charges *charges_free(Charges *charges);

void charges_add(Charges *charges, uid_t uid, ChargeKind kind, guint count);
/** charges_drop: @count is at most what was added. */
void charges_drop(Charges *charges, uid_t uid, ChargeKind kind, guint count);
guint charges_count(const Charges *charges, uid_t uid, ChargeKind kind);
