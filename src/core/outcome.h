/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>

/**
 * Outcome: the documented result of one call. Not a failure of ours: never logged as one, always
 * handled. Each refusal has a bus error of the same name (bus/errors).
 */
typedef enum Outcome {
    OUTCOME_OK,
    OUTCOME_INVALID_ARGUMENT,
    OUTCOME_UNKNOWN_SERVICE_TYPE,
    OUTCOME_UNKNOWN_LEASE,
    OUTCOME_PORT_IN_USE,
    OUTCOME_NO_PORT_AVAILABLE,
    OUTCOME_NOT_OWNER,
    OUTCOME_NOT_AUTHORIZED,
    OUTCOME_QUOTA_EXCEEDED,
    OUTCOME_STATE_UNAVAILABLE,
    OUTCOME_DEGRADED,
    OUTCOME_BUSY,
    _OUTCOME_MAX,
} Outcome;

/** The GError domain of outcomes: code is an Outcome other than OUTCOME_OK, message the whole
 * story. */
#define OUTCOME_ERROR outcome_error_quark()
GQuark outcome_error_quark(void);
