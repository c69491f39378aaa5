/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "cli/verbs.h"

static const VerbFunc funcs[_VERB_MAX] = {
    [VERB_ALLOCATE] = verb_allocate, [VERB_RUN] = verb_run,         [VERB_RELEASE] = verb_release,
    [VERB_RENEW] = verb_renew,       [VERB_LIST] = verb_list,       [VERB_SHOW] = verb_show,
    [VERB_CHECK] = verb_check,       [VERB_SCAN] = verb_scan,       [VERB_SUGGEST] = verb_suggest,
    [VERB_MONITOR] = verb_monitor,   [VERB_STATUS] = verb_status,   [VERB_METRICS] = verb_metrics,
    [VERB_HEALTH] = verb_health,     [VERB_CLEANUP] = verb_cleanup, [VERB_RECOVER] = verb_recover,
    [VERB_CONFIG] = verb_config,     [VERB_RELOAD] = verb_reload,
};

VerbFunc verb_func(VerbId verb)
{
    return funcs[verb];
}
