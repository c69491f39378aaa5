/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "bus/watched.h"

#include "probe/process.h"

gboolean watched_resolve(const Caller *caller, const AllocateArguments *arguments,
                         ProcessIdentity *ret_identity, char **ret_unit, GError **error)
{
    g_autoptr(GError) cause = NULL;
    g_autofree char *unit = NULL;
    ProcessIdentity identity = {0};
    uid_t uid = 0;

    *ret_unit = NULL;
    *ret_identity = identity;
    if (arguments->pid == 0 && arguments->pidfd < 0)
        return TRUE;
    if (!process_identify(arguments->pid, arguments->pidfd, &identity, &uid, &unit, NULL, &cause)) {
        g_set_error(error, OUTCOME_ERROR, OUTCOME_INVALID_ARGUMENT,
                    "the process to watch cannot be identified: %s", cause->message);
        return FALSE;
    }
    if (uid != caller->uid && !caller->administrator) {
        g_set_error(error, OUTCOME_ERROR, OUTCOME_NOT_OWNER,
                    "process %d is not yours: only administrators may have the processes of others "
                    "watched",
                    (int)identity.pid);
        return FALSE;
    }
    *ret_identity = identity;
    *ret_unit = g_steal_pointer(&unit);
    return TRUE;
}
