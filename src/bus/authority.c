/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "bus/authority.h"

typedef enum Who {
    WHO_OWNER, /* and administrators */
    WHO_ADMINISTRATOR,
    WHO_ROOT,
} Who;

static const struct {
    Who who;
    Outcome refusal;
    const char *message;
} rules[_AUTHORITY_ACTION_MAX] = {
    [AUTHORITY_RELEASE] = {WHO_OWNER, OUTCOME_NOT_OWNER,
                           "the lease belongs to another user: only its owner and administrators "
                           "may release it"},
    [AUTHORITY_RENEW] = {WHO_OWNER, OUTCOME_NOT_OWNER,
                         "the lease belongs to another user: only its owner and administrators may "
                         "renew it"},
    [AUTHORITY_PRIVILEGED_PORT] = {WHO_ROOT, OUTCOME_NOT_AUTHORIZED, "ports below 1024 are root's"},
    [AUTHORITY_RELOAD] = {WHO_ADMINISTRATOR, OUTCOME_NOT_AUTHORIZED,
                          "only administrators may reload the configuration"},
    [AUTHORITY_RECOVER] = {WHO_ADMINISTRATOR, OUTCOME_NOT_AUTHORIZED,
                           "only administrators may run the recovery"},
    [AUTHORITY_LOG_CONTROL] = {WHO_ADMINISTRATOR, OUTCOME_NOT_AUTHORIZED,
                               "only administrators may change how the daemon logs"},
};

static gboolean is_one_of(const Caller *caller, Who who, uid_t owner)
{
    switch (who) {
    case WHO_OWNER:
        return caller->uid == owner || caller->administrator;
    case WHO_ADMINISTRATOR:
        return caller->administrator;
    case WHO_ROOT:
        return caller->uid == 0;
    }
    return FALSE;
}

gboolean authority_check(const Caller *caller, AuthorityAction action, uid_t owner, GError **error)
{
    if (is_one_of(caller, rules[action].who, owner))
        return TRUE;
    g_set_error_literal(error, OUTCOME_ERROR, (gint)rules[action].refusal, rules[action].message);
    return FALSE;
}

void authority_ask(Call *call, AuthorityAction action, uid_t owner, AuthorityDone done)
{
    g_autoptr(GError) error = NULL;

    (void)authority_check(call->caller, action, owner, &error); /* @error says it all */
    done(call, error);
}

gboolean authority_may_see(const Caller *caller, uid_t owner)
{
    return is_one_of(caller, WHO_OWNER, owner);
}
