/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>

#include "bus/caller.h"

/*
 * Who may do what: all decisions in one place. A lease belongs to the uid that asked for it; that
 * uid and administrators may end it. What concerns everybody is the administrators'.
 */
typedef enum AuthorityAction {
    AUTHORITY_RELEASE,
    AUTHORITY_RENEW,
    AUTHORITY_PRIVILEGED_PORT,
    AUTHORITY_RELOAD,
    AUTHORITY_RECOVER,
    AUTHORITY_LOG_CONTROL,
    _AUTHORITY_ACTION_MAX,
} AuthorityAction;

/**
 * authority_check: whether @caller may do it without anybody being asked.
 * @owner: the uid that is concerned: the lease's, or the caller's own.
 * Returns: FALSE with @error in OUTCOME_ERROR: OUTCOME_NOT_OWNER or OUTCOME_NOT_AUTHORIZED.
 */
gboolean authority_check(const Caller *caller, AuthorityAction action, uid_t owner, GError **error);

/** AuthorityDone: @error is NULL when it is allowed; owned by the caller of this function. */
typedef void (*AuthorityDone)(Call *call, const GError *error);

/**
 * authority_ask: decides, now or later, whether the caller of @call may do it.
 * @done: called once, perhaps before this returns, unless the call is cancelled. It takes over the
 *     call and must look up again what it acts on.
 */
void authority_ask(Call *call, AuthorityAction action, uid_t owner, AuthorityDone done);

/** authority_may_see: whether what @owner keeps private (label, health_url) may be shown to
 * @caller. */
gboolean authority_may_see(const Caller *caller, uid_t owner);
