/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The recovery steps on request: memory is right, and the files are held against it. */
#include "recovery/events.h"
#include "recovery/startup-private.h"

static void compare_with_disk(Run *run)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(StoreContents) contents = store_load(run->manager->store, TRUE, &error);
    guint missing = 0;

    if (!contents) {
        recovery_report_add(run->report, RECOVERY_VALIDATE_STATE, STEP_FAILED,
                            "the state cannot be read: %s", error->message);
        return;
    }
    startup_report_damage(run, contents);
    /* What is on its way to the disk is in one of the two only. */
    if (run->manager->grants_on_disk > 0 || run->manager->releases_on_disk > 0)
        return;
    for (guint i = 0; i < contents->leases->len; i++)
        if (!registry_find(run->manager->registry, ((Lease *)contents->leases->pdata[i])->id.text))
            missing++;
    if (missing > 0 || contents->leases->len - missing != registry_count(run->manager->registry))
        recovery_report_add(run->report, RECOVERY_VALIDATE_STATE, STEP_REPAIRED,
                            "the disk has %u leases, memory %u: memory is right, the disk is "
                            "written anew",
                            contents->leases->len, registry_count(run->manager->registry));
    if (run->report->steps[RECOVERY_VALIDATE_STATE].result == STEP_REPAIRED &&
        !run->report->dry_run)
        store_compact(run->manager->store);
}

static void check_config_files(Run *run)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(Configuration) config = run->manager->load(run->manager->load_data, &error);

    if (!config)
        recovery_report_add(run->report, RECOVERY_VALIDATE_CONFIG, STEP_WARNING,
                            "the configuration files could not be loaded again, the running "
                            "configuration is kept: %s",
                            error->message);
}

RecoveryReport *startup_rerun(Manager *manager, gboolean dry_run)
{
    RecoveryReport *report = recovery_report_new("request", dry_run);
    Run run = {.manager = manager, .report = report, .same_boot = FACT_YES};
    guint32 cursor = 0;
    Lease *lease = NULL;

    event_recovery_started(report);
    run.leases = lease_array_new();
    while ((lease = registry_next_port(manager->registry, &cursor)))
        if (!lease->ending)
            g_ptr_array_add(run.leases, lease_ref(lease));
    startup_look(&run);
    compare_with_disk(&run);
    report->steps[RECOVERY_REBUILD_INDICES].ran = TRUE; /* they are never out of date in memory */
    check_config_files(&run);
    startup_validate_config(&run);
    startup_judge(&run);
    report->kept = run.leases->len - report->dropped;
    for (guint i = 0; !dry_run && i < run.leases->len; i++)
        if (run.verdicts[i].drop)
            manager_end(manager, run.leases->pdata[i], run.verdicts[i].reason);
    startup_finish(&run);
    return report;
}
