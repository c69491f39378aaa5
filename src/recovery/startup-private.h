/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "recovery/judge.h"
#include "recovery/startup.h"

/* What the parts of layer 3 share; nothing else includes this. */

/* One recovery under way: records, what was seen, and what is to become of them. */
typedef struct Run {
    Manager *manager;
    RecoveryReport *report;
    GPtrArray *leases; /* of Lease * */
    LeaseFacts *facts;
    Verdict *verdicts;
    RecoveryStep *found_in; /* the step that a verdict to drop is a finding of */
    SocketTable *table;     /* NULL = could not be taken */
    Fact same_boot;
    gboolean lost; /* records are missing */
} Run;

/** startup_set_table: @table: (transfer full) (nullable): NULL with @error, which is reported. */
void startup_set_table(Run *run, SocketTable *table, const GError *error);

/** startup_make_room: for the facts and verdicts of @run->leases. */
void startup_make_room(Run *run);

/** startup_judge: all verdicts, from the facts. */
void startup_judge(Run *run);

/** startup_report_verdict: counts and reports that lease @i of @run->leases is dropped. */
void startup_report_verdict(Run *run, guint i);

/** startup_validate_config: warns of ranges that the kernel gives ports from. */
void startup_validate_config(Run *run);

/** startup_report_damage: what was wrong with the files; finds out whether records are missing. */
void startup_report_damage(Run *run, const StoreContents *contents);

/** startup_take_held: takes back the sockets that the service manager kept, binds missing ones. */
void startup_take_held(Run *run);

/**
 * startup_quarantine: a port that somebody serves may be a lease nobody remembers. It is not
 * granted to anybody until its listener is gone.
 */
void startup_quarantine(Run *run);

/** startup_clear: frees what @run holds, but for the report. */
void startup_clear(Run *run);

/** startup_finish: closes the report, logs it and frees what @run holds, but for the report. */
void startup_finish(Run *run);
