/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "bus/authority.h"

#include <string.h>

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
    [AUTHORITY_CHECK_PORT] =
        {WHO_ADMINISTRATOR, OUTCOME_NOT_AUTHORIZED, ACTION("check-port"),
         "only administrators may have another port or address than the lease's own "
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

/* A call needs a handful of grants at most; who makes it need more is playing. */
#define GRANTS_MAX 8

struct AuthorityQuestion {
    Call *call; /* borrowed: it forgets the question before it goes */
    AuthorityAction action;
    AuthorityDone done;
    PolkitCheck *check; /* owned while it is under way */
    char *grant;        /* owned: what a yes is good for */
    uid_t uid;          /* whose it is counted as */
};

static char *grant_text(AuthorityAction action, const char *const *details)
{
    GString *text = g_string_new(NULL);

    g_string_append_printf(text, "%d", (int)action);
    for (; details && *details; details++) /* the lengths keep two texts from reading as one */
        g_string_append_printf(text, ";%zu:%s", strlen(*details), *details);
    return g_string_free(text, FALSE);
}

gboolean authority_allows(const Call *call, AuthorityAction action, uid_t owner,
                          const char *const *details)
{
    g_autofree char *grant = NULL;

    if (is_one_of(call->caller, rules[action].who, owner))
        return TRUE;
    grant = grant_text(action, details);
    return g_slist_find_custom(call->grants, grant, (GCompareFunc)g_strcmp0) != NULL;
}

static void count_question(BusContext *context, uid_t uid, int by)
{
    gpointer key = GUINT_TO_POINTER(uid);
    int n = GPOINTER_TO_INT(g_hash_table_lookup(context->questions, key)) + by;

    if (n > 0)
        g_hash_table_insert(context->questions, key, GINT_TO_POINTER(n));
    else
        g_hash_table_remove(context->questions, key);
}

static gboolean may_ask(const Call *call, GError **error)
{
    guint n = GPOINTER_TO_UINT(
        g_hash_table_lookup(call->context->questions, GUINT_TO_POINTER(call->caller->uid)));

    if (n >= AUTHORITY_QUESTIONS_MAX)
        g_set_error(error, OUTCOME_ERROR, OUTCOME_QUOTA_EXCEEDED,
                    "%u requests of uid %u wait for polkit already, as many as a user may have: "
                    "wait for their answers",
                    n, call->caller->uid);
    else if (g_slist_length(call->grants) >= GRANTS_MAX)
        g_set_error(error, OUTCOME_ERROR, OUTCOME_BUSY,
                    "what the request names has changed too often while it was being authorized");
    else
        return TRUE;
    return FALSE;
}

static void question_free(AuthorityQuestion *question)
{
    count_question(question->call->context, question->uid, -1);
    question->call->asking = NULL;
    g_free(question->grant);
    g_free(question);
}

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

    if (answer == POLKIT_YES)
        call->grants = g_slist_prepend(call->grants, g_steal_pointer(&question->grant));
    else
        error = g_error_new(OUTCOME_ERROR, (gint)rules[action].refusal, "%s%s",
                            rules[action].message, hint(answer));
    question_free(question);
    done(call, error);
}

/* Returns: (transfer full): @details, and what was called. The strings stay their owners'. */
static GPtrArray *with_method(const Call *call, const char *const *details)
{
    GPtrArray *all = g_ptr_array_new();

    g_ptr_array_add(all, (gpointer) "method");
    g_ptr_array_add(all, (gpointer)sd_bus_message_get_member(call->message));
    for (; details && *details; details++)
        g_ptr_array_add(all, (gpointer)*details);
    g_ptr_array_add(all, NULL);
    return all;
}

/* Returns: FALSE when there is nobody to ask; with @error when that is not the caller's right. */
static gboolean ask_polkit(Call *call, AuthorityAction action, const char *const *details,
                           AuthorityDone done, GError **error)
{
    sd_bus *bus = call->context->broker_bus;
    gboolean interactive = sd_bus_message_get_allow_interactive_authorization(call->message) > 0;
    g_autoptr(GPtrArray) told = NULL;
    AuthorityQuestion *question = NULL;

    /* The user's own daemon: what he may not do there nobody can allow him. */
    if (!bus || !rules[action].action || call->context->own_uid_administrates)
        return FALSE;
    if (!may_ask(call, error))
        return FALSE;
    told = with_method(call, details);
    question = g_new0(AuthorityQuestion, 1);
    question->call = call;
    question->action = action;
    question->done = done;
    question->grant = grant_text(action, details);
    question->uid = call->caller->uid;
    count_question(call->context, question->uid, 1);
    question->check =
        polkit_check(bus, call->caller, rules[action].action, (const char *const *)told->pdata,
                     interactive, on_answer, question);
    if (!question->check) {
        question_free(question);
        return FALSE;
    }
    call->asking = question;
    return TRUE;
}

void authority_ask(Call *call, AuthorityAction action, uid_t owner, const char *const *details,
                   AuthorityDone done)
{
    g_autoptr(GError) refusal = NULL;
    g_autoptr(GError) error = NULL;

    if (!authority_check(call->caller, action, owner, &refusal) &&
        ask_polkit(call, action, details, done, &error))
        return;
    done(call, error ? error : refusal);
}

void authority_forget(Call *call)
{
    polkit_check_cancel(call->asking->check);
    question_free(call->asking);
}

gboolean authority_may_see(const Caller *caller, uid_t owner)
{
    return is_one_of(caller, WHO_OWNER, owner);
}
