/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "bus/caller.h"
#include "bus/options.h"

/**
 * watched_resolve: takes the identity of the process that a caller names by the options pid or
 * pidfd. A pid says what to watch, never who is asking: it must be a process of the caller's uid
 * unless the caller is an administrator.
 * @ret_unit: (transfer full) (nullable): the systemd unit it runs in; NULL stored without one.
 *
 * Reads /proc; does not block on anything else. *@ret_identity is all zero where no process is
 * named. Returns: FALSE with @error: OUTCOME_INVALID_ARGUMENT (no such process), OUTCOME_NOT_OWNER.
 */
gboolean watched_resolve(const Caller *caller, const AllocateArguments *arguments,
                         ProcessIdentity *ret_identity, char **ret_unit, GError **error);
