/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "recovery/manager-private.h"

/*
 * Layer 3: what happens before the first request. Five steps, always in this order:
 * validate-state, validate-config, clean-orphans, verify-singletons, rebuild-indices.
 */

typedef enum StepResult {
    STEP_OK,
    STEP_REPAIRED,
    STEP_WARNING,
    STEP_FAILED,
} StepResult;

typedef enum RecoveryStep {
    RECOVERY_VALIDATE_STATE,
    RECOVERY_VALIDATE_CONFIG,
    RECOVERY_CLEAN_ORPHANS,
    RECOVERY_VERIFY_SINGLETONS,
    RECOVERY_REBUILD_INDICES,
    _RECOVERY_STEP_MAX,
} RecoveryStep;

const char *step_result_to_string(StepResult result);
const char *recovery_step_to_string(RecoveryStep step);

/** RecoveryReport: what one recovery did. */
typedef struct RecoveryReport {
    const char *trigger; /* static: "startup", "request", "reload" */
    gboolean dry_run;
    gboolean ok;          /* no step failed */
    gint64 started_usec;  /* CLOCK_REALTIME */
    gint64 finished_usec; /* CLOCK_REALTIME */
    guint kept, dropped, repaired;
    struct {
        gboolean ran;
        StepResult result;
        GPtrArray *messages; /* of char *: what was found and done, may be empty */
    } steps[_RECOVERY_STEP_MAX];
    GPtrArray *backups; /* of char *: copies of damaged files */
    GArray *ended;      /* of Change: leases that ended, to be told once somebody can listen */
} RecoveryReport;

RecoveryReport *recovery_report_new(const char *trigger, gboolean dry_run);
/** recovery_report_add: one finding; the step's result is the worst of its findings'. */
void recovery_report_add(RecoveryReport *report, RecoveryStep step, StepResult result,
                         const char *format, ...) G_GNUC_PRINTF(4, 5);

RecoveryReport *recovery_report_free(RecoveryReport *report);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(RecoveryReport, recovery_report_free)

/** recovery_report_step: (transfer floating): a{sv} of one step: messages as. */
GVariant *recovery_report_step(const RecoveryReport *report, RecoveryStep step);
/** recovery_report_steps: (transfer full): a(ssa{sv}): step, result, details of each that ran. */
GVariant *recovery_report_steps(const RecoveryReport *report);
/** recovery_report_summary: (transfer floating): a{sv} as GetRecoveryReport gives it. */
GVariant *recovery_report_summary(const RecoveryReport *report);

/**
 * startup_run: loads the recorded state into the manager's empty registry and opens the journal.
 * Blocks on the disk and on one socket dump. Sets manager->report.
 */
void startup_run(Manager *manager);

/** startup_tell: the signals of @report, and those of the leases that ended in it, once. */
void startup_tell(Manager *manager, RecoveryReport *report);
/** startup_tell_end: the same without RecoveryStarted. */
void startup_tell_end(Manager *manager, RecoveryReport *report);

/**
 * startup_warn_of_ranges: logs which configured ranges the kernel gives ports from. Does not block.
 */
void startup_warn_of_ranges(Manager *manager);

/** startup_retry_now: the attempt that manager->startup_retry is to make. Blocks on the disk. */
void startup_retry_now(Manager *manager);

/** startup_is_orphan: whether a look at it now says that @lease is to end. Blocks for a netlink
 * call.
 */
gboolean startup_is_orphan(Lease *lease);

/** startup_rerun: see manager_recover(). */
void startup_rerun(Manager *manager, gboolean dry_run, RecoverDone done, void *data);

/** startup_rerun_withdraw: see manager_withdraw(). */
gboolean startup_rerun_withdraw(Manager *manager, const void *data);

/** startup_rerun_cancel: refuses those who wait for one. */
void startup_rerun_cancel(Manager *manager);
