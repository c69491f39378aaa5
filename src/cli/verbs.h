/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "cli/arguments.h"

/**
 * VerbFunc: does what the verb says; @args is complete and consistent.
 * Returns: the status to end with; with @error set, which is CLI_ERROR then, that of the error
 * counts.
 */
typedef ExitStatus (*VerbFunc)(const Arguments *args, GError **error);

ExitStatus verb_allocate(const Arguments *args, GError **error);
ExitStatus verb_run(const Arguments *args, GError **error);
ExitStatus verb_release(const Arguments *args, GError **error);
ExitStatus verb_renew(const Arguments *args, GError **error);
ExitStatus verb_list(const Arguments *args, GError **error);
ExitStatus verb_show(const Arguments *args, GError **error);
ExitStatus verb_check(const Arguments *args, GError **error);
ExitStatus verb_scan(const Arguments *args, GError **error);
ExitStatus verb_suggest(const Arguments *args, GError **error);
ExitStatus verb_monitor(const Arguments *args, GError **error);
ExitStatus verb_status(const Arguments *args, GError **error);
ExitStatus verb_metrics(const Arguments *args, GError **error);
ExitStatus verb_health(const Arguments *args, GError **error);
ExitStatus verb_cleanup(const Arguments *args, GError **error);
ExitStatus verb_recover(const Arguments *args, GError **error);
ExitStatus verb_config(const Arguments *args, GError **error);
ExitStatus verb_reload(const Arguments *args, GError **error);

/** verb_func: what does the work of @verb, which is below _VERB_MAX. */
VerbFunc verb_func(VerbId verb);
