/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The recovery steps on request, beside everything else that the daemon does: memory is right, and
 * the files and the machine are held against it. The picture of the socket table and the files are
 * read on other threads, one after the other; leases are looked at, and ended, in slices.
 */
#include "recovery/events.h"
#include "recovery/observe.h"
#include "recovery/startup-private.h"
#include "util/slices.h"

#define SLICE_USEC 1000

typedef struct Rerun {
    Run run; /* ->manager is NULL once it was cancelled */
    gboolean dry_run;
    RecoverDone done;
    void *data;
    GHashTable *known; /* set of lease ids, in ->kept: what memory had when the files were read */
    GPtrArray *kept;   /* of Lease: references for it */
    gboolean on_their_way; /* grants or ends were on their way to the disk then */
    Slices *slices;        /* owned */
    guint next;            /* of the run's leases, for the slices */
    gboolean judged;
    GList waiting;
} Rerun;

static void begin(Rerun *rerun);

static void rerun_free(Rerun *rerun)
{
    rerun->slices = slices_stop(rerun->slices);
    g_clear_pointer(&rerun->known, g_hash_table_unref);
    g_clear_pointer(&rerun->kept, g_ptr_array_unref);
    startup_clear(&rerun->run);
    recovery_report_free(rerun->run.report);
    g_free(rerun);
}

static void finish(Rerun *rerun)
{
    Manager *manager = rerun->run.manager;
    RecoveryReport *report = rerun->run.report;
    g_autoptr(GVariant) steps = NULL;
    gboolean ok;
    GList *next = g_queue_pop_head_link(&manager->reruns);

    report->kept = rerun->run.leases->len - report->dropped;
    startup_finish(&rerun->run);
    steps = recovery_report_steps(report);
    ok = report->ok;
    if (!rerun->dry_run) {
        startup_tell_end(manager, report);
        recovery_report_free(manager->report);
        manager->report = g_steal_pointer(&rerun->run.report);
    }
    manager->rerun = NULL;
    if (next)
        begin(next->data);
    rerun->done(ok, steps, NULL, rerun->data);
    rerun_free(rerun);
    if (manager->became_idle && manager_is_idle(manager))
        manager->became_idle(manager->became_idle_data);
}

/* ---- looking at leases, and ending them ------------------------------------------------------ */

gboolean startup_is_orphan(Lease *lease)
{
    LeaseFacts facts = observe_now(lease);
    Verdict verdict = {0};

    judge_orphans(&lease, &facts, &verdict, 1, g_get_real_time());
    return verdict.drop;
}

/* Another lease of its type stays, which still is to have one only. */
static gboolean is_duplicate(const Manager *manager, const Lease *lease)
{
    const ServiceType *type = configuration_find_type(manager->config, lease->service_type);
    const Lease *other = registry_first_of_type(manager->registry, lease->service_type);

    while (other && (other == lease || other->ending || other->health == HEALTH_QUARANTINED))
        other = other->by_type.next;
    return type && type->single && other;
}

/* The facts are older than this moment. */
static gboolean is_still_due(const Rerun *rerun, guint i)
{
    const Run *run = &rerun->run;
    Lease *lease = run->leases->pdata[i];

    if (!lease->in_registry || lease->ending)
        return FALSE;
    if (run->found_in[i] == RECOVERY_CLEAN_ORPHANS)
        return startup_is_orphan(lease);
    if (run->found_in[i] == RECOVERY_VERIFY_SINGLETONS)
        return is_duplicate(run->manager, lease) &&
               observe_now(lease).served == run->facts[i].served;
    return TRUE;
}

static void end_if_due(Rerun *rerun, guint i)
{
    Run *run = &rerun->run;
    Lease *lease = run->leases->pdata[i];

    if (!run->verdicts[i].drop || !is_still_due(rerun, i))
        return;
    if (!rerun->dry_run) {
        manager_end(run->manager, lease, run->verdicts[i].reason);
        /* Where it has begun to end, a sync is under way: should that be refused, an orphan's end
         * is tried again when the disk is back, a duplicate's by the next recovery. */
        if (lease->in_registry && !lease->ending) {
            recovery_report_add(run->report, run->found_in[i], STEP_WARNING,
                                "the end of lease %s on port %u could not be recorded, so it stays",
                                lease->id.text, lease->port);
            return;
        }
    }
    startup_report_verdict(run, i);
}

static void slice(void *data)
{
    Rerun *rerun = data;
    Run *run = &rerun->run;
    gint64 end_usec = g_get_monotonic_time() + SLICE_USEC;

    do {
        if (rerun->next < run->leases->len) {
            guint i = rerun->next++;

            if (rerun->judged)
                end_if_due(rerun, i);
            else
                run->facts[i] = observe_lease(run->leases->pdata[i], run->table);
        } else if (!rerun->judged) {
            startup_judge(run);
            rerun->judged = TRUE;
            rerun->next = 0;
        } else {
            finish(rerun);
            return;
        }
    } while (g_get_monotonic_time() < end_usec);
}

/* ---- the files ------------------------------------------------------------------------------- */

static void note_memory(Rerun *rerun)
{
    Manager *manager = rerun->run.manager;
    guint32 cursor = 0;
    Lease *lease = NULL;

    rerun->known = g_hash_table_new(g_str_hash, g_str_equal);
    rerun->kept = lease_array_new();
    while ((lease = registry_next_port(manager->registry, &cursor))) {
        g_ptr_array_add(rerun->kept, lease_ref(lease));
        g_hash_table_add(rerun->known, lease->id.text);
        if (!lease->ending)
            g_ptr_array_add(rerun->run.leases, lease_ref(lease));
    }
    rerun->on_their_way = manager->grants_on_disk > 0 || manager->releases_on_disk > 0;
}

static void compare(Rerun *rerun, const StoreContents *contents)
{
    RecoveryReport *report = rerun->run.report;
    guint found = 0;

    startup_report_damage(&rerun->run, contents);
    if (rerun->on_their_way) /* those are in one of the two only */
        return;
    for (guint i = 0; i < contents->leases->len; i++)
        found += g_hash_table_contains(rerun->known,
                                       ((const Lease *)contents->leases->pdata[i])->id.text);
    if (found != contents->leases->len || found != rerun->kept->len)
        recovery_report_add(report, RECOVERY_VALIDATE_STATE, STEP_REPAIRED,
                            "the disk has %u leases, memory %u: memory is right, the disk is "
                            "written anew",
                            contents->leases->len, rerun->kept->len);
    if (report->steps[RECOVERY_VALIDATE_STATE].result == STEP_REPAIRED && !rerun->dry_run)
        store_compact(rerun->run.manager->store);
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

static void files_read(StoreContents *read, const GError *error, void *data)
{
    g_autoptr(StoreContents) contents = read;
    Rerun *rerun = data;
    Run *run = &rerun->run;

    if (!run->manager) {
        rerun_free(rerun);
        return;
    }
    if (contents)
        compare(rerun, contents);
    else
        recovery_report_add(run->report, RECOVERY_VALIDATE_STATE, STEP_FAILED,
                            "the state cannot be read: %s", error->message);
    run->report->steps[RECOVERY_REBUILD_INDICES].ran = TRUE; /* never out of date in memory */
    check_config_files(run);
    startup_validate_config(run);
    startup_make_room(run);
    rerun->slices = slices_start(run->manager->context, "recovery", slice, rerun);
}

/* ---- the picture ----------------------------------------------------------------------------- */

static void picture_taken(SocketTable *table, const GError *error, void *data)
{
    g_autoptr(GError) failure = NULL;
    Rerun *rerun = data;

    if (!rerun->run.manager) {
        socket_table_free(table);
        rerun_free(rerun);
        return;
    }
    startup_set_table(&rerun->run, table, error);
    note_memory(rerun);
    if (!store_check(rerun->run.manager->store, rerun->dry_run, files_read, rerun, &failure))
        files_read(NULL, failure, rerun);
}

static void begin(Rerun *rerun)
{
    Manager *manager = rerun->run.manager;

    manager->rerun = rerun;
    rerun->run.report = recovery_report_new("request", rerun->dry_run);
    rerun->run.leases = lease_array_new();
    event_recovery_started(rerun->run.report);
    if (!rerun->dry_run)
        MANAGER_TELL(manager, recovery_started, rerun->run.report->trigger);
    observe_take(manager->context, picture_taken, rerun);
}

/* The state could not be read yet, so there is nothing to compare: what is tried again is that. */
static void retry_startup(Manager *manager, gboolean dry_run, RecoverDone done, void *data)
{
    g_autoptr(GVariant) steps = NULL;

    if (!dry_run)
        startup_retry_now(manager);
    steps = recovery_report_steps(manager->report);
    done(manager->report->ok, steps, NULL, data);
}

void startup_rerun(Manager *manager, gboolean dry_run, RecoverDone done, void *data)
{
    Rerun *rerun = NULL;

    if (manager->startup_retry) {
        retry_startup(manager, dry_run, done, data);
        return;
    }
    rerun = g_new0(Rerun, 1);
    rerun->run = (Run){.manager = manager, .same_boot = FACT_YES};
    rerun->dry_run = dry_run;
    rerun->done = done;
    rerun->data = data;
    rerun->waiting.data = rerun;
    if (manager->rerun)
        g_queue_push_tail_link(&manager->reruns, &rerun->waiting);
    else
        begin(rerun);
}

gboolean startup_rerun_withdraw(Manager *manager, const void *data)
{
    for (GList *link = manager->reruns.head; link; link = link->next) {
        Rerun *rerun = link->data;

        if (rerun->data != data)
            continue;
        g_queue_unlink(&manager->reruns, link);
        rerun_free(rerun);
        return TRUE;
    }
    return FALSE;
}

static void refuse(Rerun *rerun)
{
    g_autoptr(GError) error =
        g_error_new(OUTCOME_ERROR, OUTCOME_BUSY, "the daemon is leaving; try again");

    rerun->done(FALSE, NULL, error, rerun->data);
}

void startup_rerun_cancel(Manager *manager)
{
    Rerun *rerun = g_steal_pointer(&manager->rerun);
    GList *link = NULL;

    while ((link = g_queue_pop_head_link(&manager->reruns))) {
        refuse(link->data);
        rerun_free(link->data);
    }
    if (!rerun)
        return;
    refuse(rerun);
    rerun->run.manager = NULL;
    if (rerun->slices) /* else what is under way on another thread frees it */
        rerun_free(rerun);
}
