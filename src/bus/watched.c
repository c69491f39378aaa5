/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "bus/watched.h"

#include "probe/cgroup.h"
#include "probe/process.h"

gboolean watched_resolve(const Caller *caller, const AllocateArguments *arguments,
                         Watched *ret_watched, GError **error)
{
    g_autoptr(GError) cause = NULL;
    Watched watched = {0};
    uid_t uid = 0;

    if ((arguments->pid != 0 || arguments->pidfd >= 0) &&
        !process_identify(arguments->pid, arguments->pidfd, &watched.identity, &uid, &watched.unit,
                          NULL, &cause)) {
        g_set_error(error, OUTCOME_ERROR, OUTCOME_INVALID_ARGUMENT,
                    "the process to watch cannot be identified: %s", cause->message);
        return FALSE;
    }
    watched.foreign = watched.identity.pid > 0 && uid != caller->uid;
    *ret_watched = watched;
    return TRUE;
}

void watched_clear(Watched *watched)
{
    g_clear_pointer(&watched->unit, g_free);
}

static gboolean refuse(GError **error, const char *why)
{
    g_set_error(error, OUTCOME_ERROR, OUTCOME_INVALID_ARGUMENT, "Option 'on_unhealthy': %s", why);
    return FALSE;
}

gboolean watched_check_restart(const Caller *caller, Watched *watched, gboolean user_scope,
                               GError **error)
{
    ProcessIdentity identity = watched->identity;
    g_autoptr(GError) cause = NULL;
    g_autofree char *unit = NULL;
    uid_t user;

    if (identity.pid == 0 &&
        (caller->pid <= 0 ||
         !process_identify(caller->pid, caller->pidfd, &identity, NULL, NULL, NULL, &cause)))
        return refuse(error, "'restart' needs a process: name it by 'pid' or 'pidfd'");
    if (!process_unit(&identity, &unit, &user, &cause))
        return refuse(error, cause->message);
    if (!user_scope && user != CGROUP_NO_USER)
        return refuse(error, "the process runs in a unit of a user manager; ask that user's own "
                             "instance ('styxyctl --user')");
    if (user_scope && user != caller->uid)
        return refuse(error, "the process does not run in a unit of your user manager; ask the "
                             "system's instance ('styxyctl --system')");
    if (!g_str_has_suffix(unit, ".service"))
        return refuse(error, "the process does not run in a service that could be restarted");
    watched->foreign_unit = !process_unit_is_of(&identity, caller->uid);
    g_free(watched->unit);
    watched->unit = g_steal_pointer(&unit);
    return TRUE;
}
