/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "bus/authority.h"

#include "bus/polkit.h"

typedef enum Who {
    WHO_OWNER, /* and administrators */
    WHO_ADMINISTRATOR,
    WHO_ROOT,
} Who;

#define ACTION(name) "org.styxy.Ports." name

static const struct {
    Who who;
    Outcome refusal;
    const char *action; /* of polkit, NULL = it is not asked */
    const char *message;
} rules[_AUTHORITY_ACTION_MAX] = {
    [AUTHORITY_RELEASE] = {WHO_OWNER, OUTCOME_NOT_OWNER, ACTION("manage-leases"),
                           "the lease belongs to another user: only its owner and administrators "
                           "may release it"},
    [AUTHORITY_RENEW] = {WHO_OWNER, OUTCOME_NOT_OWNER, ACTION("manage-leases"),
                         "the lease belongs to another user: only its owner and administrators may "
                         "renew it"},
    [AUTHORITY_PRIVILEGED_PORT] = {WHO_ROOT, OUTCOME_NOT_AUTHORIZED, ACTION("privileged-port"),
                                   "ports below 1024 are root's"},
    [AUTHORITY_RELOAD] = {WHO_ADMINISTRATOR, OUTCOME_NOT_AUTHORIZED, ACTION("reload"),
                          "only administrators may reload the configuration"},
    [AUTHORITY_RECOVER] = {WHO_ADMINISTRATOR, OUTCOME_NOT_AUTHORIZED, ACTION("recover"),
                           "only administrators may run the recovery"},
    [AUTHORITY_CLEANUP] = {WHO_ADMINISTRATOR, OUTCOME_NOT_AUTHORIZED, ACTION("manage-leases"),
                           "only administrators may clean up the leases of others"},
    [AUTHORITY_WATCH_PROCESS] = {WHO_ADMINISTRATOR, OUTCOME_NOT_OWNER, ACTION("watch-process"),
                                 "the process belongs to another user: only administrators may "
                                 "have it watched"},
    [AUTHORITY_CHECK_PORT] = {WHO_ADMINISTRATOR, OUTCOME_NOT_AUTHORIZED, ACTION("check-port"),
                              "only administrators may have another port than the lease's own "
                              "checked"},
    [AUTHORITY_RESTART_UNIT] = {WHO_ADMINISTRATOR, OUTCOME_NOT_AUTHORIZED, ACTION("restart-unit"),
                                "only administrators may have a unit restarted that is not their "
                                "own user manager's"},
    [AUTHORITY_LOG_CONTROL] = {WHO_ADMINISTRATOR, OUTCOME_NOT_AUTHORIZED, NULL,
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

/* ---- asking polkit --------------------------------------------------------------------------- */

struct AuthorityQuestion {
    Call *call; /* borrowed: it forgets the question before it goes */
    AuthorityAction action;
    AuthorityDone done;
    PolkitCheck *check; /* owned while it is under way */
};

static const char *hint(PolkitAnswer answer)
{
    switch (answer) {
    case POLKIT_CHALLENGE:
        return "; polkit would grant it to somebody who authenticates, which this call did not "
               "allow";
    case POLKIT_ABSENT:
        return ", and polkit does not answer";
    case POLKIT_NO:
    case POLKIT_YES:
    default:
        return ", and polkit does not grant it";
    }
}

static void on_answer(PolkitAnswer answer, void *data)
{
    AuthorityQuestion *question = data;
    Call *call = question->call;
    AuthorityAction action = question->action;
    AuthorityDone done = question->done;
    g_autoptr(GError) error = NULL;

    call->asking = NULL;
    g_free(question);
    if (answer != POLKIT_YES)
        error = g_error_new(OUTCOME_ERROR, (gint)rules[action].refusal, "%s%s",
                            rules[action].message, hint(answer));
    done(call, error);
}

/* Returns: FALSE when there is nobody to ask. */
static gboolean ask_polkit(Call *call, AuthorityAction action, AuthorityDone done)
{
    sd_bus *bus = call->context->broker_bus;
    gboolean interactive = sd_bus_message_get_allow_interactive_authorization(call->message) > 0;
    const char *details[] = {"method", sd_bus_message_get_member(call->message), NULL};
    AuthorityQuestion *question = NULL;

    /* The user's own daemon: what he may not do there nobody can allow him. */
    if (!bus || !rules[action].action || call->context->own_uid_administrates)
        return FALSE;
    question = g_new0(AuthorityQuestion, 1);
    question->call = call;
    question->action = action;
    question->done = done;
    question->check = polkit_check(bus, call->caller, rules[action].action, details, interactive,
                                   on_answer, question);
    if (!question->check) {
        g_free(question);
        return FALSE;
    }
    call->asking = question;
    return TRUE;
}

void authority_ask(Call *call, AuthorityAction action, uid_t owner, AuthorityDone done)
{
    g_autoptr(GError) error = NULL;

    if (!authority_check(call->caller, action, owner, &error) && ask_polkit(call, action, done))
        return;
    done(call, error);
}

void authority_forget(Call *call)
{
    polkit_check_cancel(call->asking->check);
    g_clear_pointer(&call->asking, g_free);
}

gboolean authority_may_see(const Caller *caller, uid_t owner)
{
    return is_one_of(caller, WHO_OWNER, owner);
}
