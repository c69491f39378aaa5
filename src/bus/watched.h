/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "bus/caller.h"
#include "bus/options.h"

/** Watched: the process that a caller names by the options pid or pidfd. */
typedef struct Watched {
    ProcessIdentity identity; /* all zero where none is named */
    char *unit;               /* owned: the systemd unit it runs in, NULL = none */
    gboolean foreign;         /* it is not one of the caller's uid */
    gboolean foreign_unit; /* of watched_check_restart(): others than the caller run in it, too */
} Watched;

/**
 * watched_resolve: takes the identity of the process. A pid says what to watch, never who is
 * asking; whether the caller may have a foreign one watched is not decided here.
 *
 * Reads /proc; does not block on anything else.
 * Returns: FALSE with @error OUTCOME_INVALID_ARGUMENT where there is no such process.
 */
gboolean watched_resolve(const Caller *caller, const AllocateArguments *arguments,
                         Watched *ret_watched, GError **error);
void watched_clear(Watched *watched);

/**
 * watched_check_restart: whether there is a unit that this daemon's service manager can restart:
 * the one of the process, or of the caller where he names none. Fills in watched->unit and
 * foreign_unit.
 * @user_scope: the daemon is a user's own, and its service manager is that user's.
 *
 * A unit of a user manager is known to that manager alone, and one of the same name to the system's
 * may be another, so the system's daemon refuses it.
 * Returns: FALSE with @error OUTCOME_INVALID_ARGUMENT that says where to go.
 */
gboolean watched_check_restart(const Caller *caller, Watched *watched, gboolean user_scope,
                               GError **error);
