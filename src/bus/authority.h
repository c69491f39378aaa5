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
    AUTHORITY_CLEANUP,       /* of others' leases */
    AUTHORITY_WATCH_PROCESS, /* of another user */
    AUTHORITY_CHECK_PORT,    /* a health check of another port or address */
    AUTHORITY_RESTART_UNIT,  /* of a unit that the caller's own processes do not run in */
    AUTHORITY_LOG_CONTROL,
    _AUTHORITY_ACTION_MAX,
} AuthorityAction;

/** AUTHORITY_NOBODY: the owner of what belongs to no user. */
#define AUTHORITY_NOBODY ((uid_t)-1)

/**
 * authority_check: whether @caller may do it without anybody being asked.
 * @owner: the uid that is concerned, the lease's say, or AUTHORITY_NOBODY.
 * Returns: FALSE with @error in OUTCOME_ERROR: OUTCOME_NOT_OWNER or OUTCOME_NOT_AUTHORIZED.
 */
gboolean authority_check(const Caller *caller, AuthorityAction action, uid_t owner, GError **error);

/** AuthorityDone: @error is NULL when it is allowed; owned by the caller of this function. */
typedef void (*AuthorityDone)(Call *call, const GError *error);

/** AUTHORITY_QUESTIONS_MAX: of one user, asked of polkit and not answered yet. */
#define AUTHORITY_QUESTIONS_MAX 32

/**
 * authority_ask: decides, now or later, whether the caller of @call may do it: by the rules, else
 * by asking polkit on the system bus, with the caller's word on whether a person may be bothered
 * (org.freedesktop.DBus flag ALLOW_INTERACTIVE_AUTHORIZATION). Without polkit it is a no.
 * @details: what exactly it is about, name and value in turn, NULL-terminated; NULL: nothing to
 *     tell. Polkit's rules see it, and what it says is what is granted: authority_allows().
 * @done: called once, perhaps before this returns, unless the call is cancelled. It takes over the
 *     call and must look up again what it acts on, since time has passed.
 */
void authority_ask(Call *call, AuthorityAction action, uid_t owner, const char *const *details,
                   AuthorityDone done);

/**
 * authority_allows: whether the caller of @call may do it without being asked, or was granted the
 * same action with the same @details since. What was granted for one thing counts for no other.
 */
gboolean authority_allows(const Call *call, AuthorityAction action, uid_t owner,
                          const char *const *details);

/** authority_may_see: whether what @owner keeps private (label, health_url) may be shown to
 * @caller. */
gboolean authority_may_see(const Caller *caller, uid_t owner);

/** authority_forget: the caller of @call has gone while polkit was being asked. */
void authority_forget(Call *call);
