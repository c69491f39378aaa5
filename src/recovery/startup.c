/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "recovery/startup-private.h"

#include <string.h>

#include "probe/ephemeral.h"
#include "recovery/claims.h"
#include "recovery/events.h"
#include "recovery/expiry.h"
#include "recovery/health.h"
#include "recovery/metrics.h"
#include "recovery/observe.h"
#include "util/log.h"

#define RETRY_MSEC_MIN 500
#define RETRY_MSEC_MAX 30000

void startup_set_table(Run *run, SocketTable *table, const GError *error)
{
    run->table = table;
    if (!table)
        recovery_report_add(run->report, RECOVERY_VALIDATE_STATE, STEP_WARNING,
                            "who listens where is not known, so no lease ends for it: %s",
                            error->message);
}

void startup_make_room(Run *run)
{
    run->facts = g_new0(LeaseFacts, run->leases->len);
    run->verdicts = g_new0(Verdict, run->leases->len);
    run->found_in = g_new(RecoveryStep, run->leases->len);
    for (guint i = 0; i < run->leases->len; i++)
        run->found_in[i] = _RECOVERY_STEP_MAX;
}

static void look(Run *run)
{
    g_autoptr(GError) error = NULL;
    SocketTable *table =
        socket_table_dump_deep((PortRange){0, 0}, PROTOCOL_BOTH, SOCKET_DEPTH_LISTENING, &error);

    startup_set_table(run, table, error);
    startup_make_room(run);
    for (guint i = 0; i < run->leases->len; i++)
        run->facts[i] = observe_lease(run->leases->pdata[i], table);
}

/* The verdicts that came since the last call are findings of @step. */
static void note_verdicts(Run *run, RecoveryStep step)
{
    for (guint i = 0; i < run->leases->len; i++)
        if (run->verdicts[i].drop && run->found_in[i] == _RECOVERY_STEP_MAX)
            run->found_in[i] = step;
}

void startup_report_verdict(Run *run, guint i)
{
    const Lease *lease = run->leases->pdata[i];
    const Verdict *verdict = &run->verdicts[i];

    run->report->dropped++;
    recovery_report_add(run->report, run->found_in[i], STEP_REPAIRED,
                        "lease %s on port %u/%s of service type %s ends (%s): %s", lease->id.text,
                        lease->port, protocol_to_string(lease->protocol), lease->service_type,
                        reason_to_string(verdict->reason), verdict->why);
}

void startup_judge(Run *run)
{
    Lease *const *leases = (Lease *const *)run->leases->pdata;
    guint n = run->leases->len;

    run->report->steps[RECOVERY_CLEAN_ORPHANS].ran = TRUE;
    run->report->steps[RECOVERY_VERIFY_SINGLETONS].ran = TRUE;
    /* What the reboot ended does not compete with what it left. */
    judge_boot(leases, run->verdicts, n, run->same_boot);
    note_verdicts(run, RECOVERY_CLEAN_ORPHANS);
    judge_ports(leases, run->facts, run->verdicts, n);
    note_verdicts(run, RECOVERY_VALIDATE_STATE);
    judge_orphans(leases, run->facts, run->verdicts, n, g_get_real_time());
    note_verdicts(run, RECOVERY_CLEAN_ORPHANS);
    judge_singletons(leases, run->facts, run->verdicts, n, run->manager->config);
    note_verdicts(run, RECOVERY_VERIFY_SINGLETONS);
}

static gboolean has_port_of(PortRange range, const PortSet *ports)
{
    return port_sets_find_member(&ports, 1, range.first) <= range.last;
}

void startup_validate_config(Run *run)
{
    const Configuration *config = run->manager->config;
    g_autofree PortSet *ports = g_new(PortSet, 1);
    g_autoptr(GError) error = NULL;
    PortRange ephemeral;

    run->report->steps[RECOVERY_VALIDATE_CONFIG].ran = TRUE;
    if (!ephemeral_ports(&ephemeral, ports, &error)) {
        log_debug("the kernel's port range for outgoing connections is not known: %s",
                  error->message);
        return;
    }
    for (guint i = 0; i < config->service_types->len; i++) {
        const ServiceType *type = config->service_types->pdata[i];

        if (has_port_of(type->range, ports))
            recovery_report_add(run->report, RECOVERY_VALIDATE_CONFIG, STEP_WARNING,
                                "ports %u-%u of service type %s overlap the range %u-%u that the "
                                "kernel takes outgoing ports from; 'styxyctl config sysctl' prints "
                                "the setting that reserves them",
                                type->range.first, type->range.last, type->name, ephemeral.first,
                                ephemeral.last);
    }
    if (config->auto_enabled && has_port_of(config->auto_range, ports))
        recovery_report_add(run->report, RECOVERY_VALIDATE_CONFIG, STEP_WARNING,
                            "the range %u-%u for unknown service types overlaps the range %u-%u "
                            "that the kernel takes outgoing ports from; 'styxyctl config sysctl' "
                            "prints the setting that reserves it",
                            config->auto_range.first, config->auto_range.last, ephemeral.first,
                            ephemeral.last);
}

void startup_warn_of_ranges(Manager *manager)
{
    g_autoptr(RecoveryReport) report = recovery_report_new("reload", FALSE);
    Run run = {.manager = manager, .report = report};

    startup_validate_config(&run);
    event_recovery_step(report, RECOVERY_VALIDATE_CONFIG);
}

/* ---- entering what is kept ------------------------------------------------------------------- */

static void add_ended(RecoveryReport *report, Lease *lease, Reason reason)
{
    Change change = {CHANGE_RELEASED, lease_ref(lease), reason};

    g_array_append_val(report->ended, change);
}

static void enter_leases(Run *run)
{
    Manager *manager = run->manager;

    for (guint i = 0; i < run->leases->len; i++) {
        Lease *lease = run->leases->pdata[i];

        if (run->verdicts[i].drop) {
            add_ended(run->report, lease, run->verdicts[i].reason);
            continue;
        }
        if (run->verdicts[i].dormant) {
            lease->health = HEALTH_DORMANT;
            lease->failures = 0;
        }
        if (run->same_boot == FACT_NO)
            lease->process = (ProcessIdentity){0}; /* its number is somebody else's by now */
        if (!registry_insert(manager->registry, lease)) {
            recovery_report_add(
                run->report, RECOVERY_REBUILD_INDICES, STEP_REPAIRED,
                "lease %s on port %u does not fit beside the others and is left out",
                lease->id.text, lease->port);
            run->report->dropped++;
            add_ended(run->report, lease, REASON_ORPHANED);
            continue;
        }
        run->report->kept++;
        expiry_arm(manager, lease);
        claims_arm(manager, lease);
        health_watch(manager->health, lease);
    }
}

static void enter_memories(Run *run, const StoreContents *contents)
{
    Registry *registry = run->manager->registry;

    for (guint i = 0; i < contents->chunks->len; i++) {
        const Chunk *chunk = &g_array_index(contents->chunks, Chunk, i);

        if (!registry_insert_chunk(registry, chunk))
            recovery_report_add(run->report, RECOVERY_REBUILD_INDICES, STEP_REPAIRED,
                                "ports %u-%u of service type %s now belong to the configuration; "
                                "the type gets others when it asks",
                                chunk->range.first, chunk->range.last, chunk->service_type);
    }
    for (guint i = 0; i < contents->sticky->len; i++)
        (void)registry_insert_sticky(registry, &g_array_index(contents->sticky, StickyPort, i));
}

/* ---- validate-state -------------------------------------------------------------------------- */

void startup_report_damage(Run *run, const StoreContents *contents)
{
    RecoveryReport *report = run->report;

    report->steps[RECOVERY_VALIDATE_STATE].ran = TRUE;
    for (guint i = 0; i < contents->damage->len; i++) {
        const StoreDamage *damage = contents->damage->pdata[i];

        recovery_report_add(report, RECOVERY_VALIDATE_STATE, STEP_REPAIRED,
                            "%s: %s, %u records lost%s%s", damage->file, damage->what, damage->lost,
                            damage->backup ? ", kept as " : "",
                            damage->backup ? damage->backup : "");
        if (damage->backup)
            g_ptr_array_add(report->backups, g_strdup(damage->backup));
        run->lost |= damage->lost > 0;
    }
    if (contents->from_previous)
        recovery_report_add(report, RECOVERY_VALIDATE_STATE, STEP_REPAIRED,
                            "the snapshot before the last one was used");
    if (contents->torn_tail)
        recovery_report_add(report, RECOVERY_VALIDATE_STATE, STEP_OK,
                            "the last record is incomplete, as a crash leaves it; nobody had an "
                            "answer for it%s%s",
                            contents->torn_backup ? ", kept as " : "",
                            contents->torn_backup ? contents->torn_backup : "");
    if (contents->torn_backup)
        g_ptr_array_add(report->backups, g_strdup(contents->torn_backup));
}

static Fact compare_boots(const Id *recorded, const Id *running)
{
    if (!recorded->text[0] || !running->text[0])
        return FACT_UNKNOWN;
    return strcmp(recorded->text, running->text) == 0 ? FACT_YES : FACT_NO;
}

/* ---- the end --------------------------------------------------------------------------------- */

static void close_report(RecoveryReport *report)
{
    report->finished_usec = g_get_real_time();
    if (!report->dry_run) {
        metrics_count(METRIC_RECOVERIES);
        metrics_add(METRIC_RECOVERY_REPAIRS, report->repaired);
    }
    for (RecoveryStep step = 0; step < _RECOVERY_STEP_MAX; step++)
        if (report->steps[step].ran)
            event_recovery_step(report, step);
    event_recovery_finished(report);
}

void startup_clear(Run *run)
{
    g_clear_pointer(&run->leases, g_ptr_array_unref);
    g_clear_pointer(&run->table, socket_table_free);
    g_clear_pointer(&run->facts, g_free);
    g_clear_pointer(&run->verdicts, g_free);
    g_clear_pointer(&run->found_in, g_free);
}

void startup_finish(Run *run)
{
    close_report(run->report);
    startup_clear(run);
}

/* ---- the attempts ---------------------------------------------------------------------------- */

/* A state that ended the daemon too often while it was read is not read again. */
static gboolean set_aside(Run *run, GError **error)
{
    Manager *manager = run->manager;

    if (!store_set_aside(manager->store, error)) {
        g_prefix_error(error, "the state could not be set aside: ");
        return FALSE;
    }
    run->lost = TRUE;
    manager->trouble = g_strdup_printf(
        "recovery failed %u times in a row, so the state was set aside as *.corrupt.* in the state "
        "directory; look at it, then start the daemon again",
        manager->failed_starts);
    recovery_report_add(run->report, RECOVERY_VALIDATE_STATE, STEP_FAILED, "%s", manager->trouble);
    manager->failed_starts = 0;
    return TRUE;
}

static gboolean is_crash_loop(const Manager *manager)
{
    return manager->config->system_enabled &&
           manager->failed_starts >= manager->config->system_max_recovery_attempts;
}

static StoreContents *read_state(Run *run, GError **error)
{
    StoreContents *contents = NULL;

    if (is_crash_loop(run->manager) && !set_aside(run, error))
        return NULL;
    contents = store_load(run->manager->store, FALSE, error);
    if (!contents)
        g_prefix_error(error, "the state cannot be read: ");
    return contents;
}

static void recover(Run *run, const StoreContents *contents, const Id *boot_id)
{
    Manager *manager = run->manager;
    gboolean full = manager->config->system_enabled && manager->config->system_run_on_startup;
    g_autoptr(GError) error = NULL;

    run->leases = g_ptr_array_ref(contents->leases);
    run->same_boot = compare_boots(&contents->boot_id, boot_id);
    startup_report_damage(run, contents);
    look(run);
    if (full) {
        startup_judge(run);
        for (guint i = 0; i < run->leases->len; i++)
            if (run->verdicts[i].drop)
                startup_report_verdict(run, i);
    } else {
        /* Two leases on one port cannot be entered, whatever the configuration says. */
        judge_ports((Lease *const *)run->leases->pdata, run->facts, run->verdicts,
                    run->leases->len);
    }
    startup_validate_config(run);
    run->report->steps[RECOVERY_REBUILD_INDICES].ran = TRUE;
    enter_memories(run, contents);
    enter_leases(run);
    startup_take_held(run);
    if (run->lost && full)
        startup_quarantine(run);
    if (!manager_open_journal(manager, boot_id, &error))
        recovery_report_add(run->report, RECOVERY_REBUILD_INDICES, STEP_FAILED,
                            "the state cannot be written: %s", error->message);
}

static void on_retry(void *data);

static void retry_later(Manager *manager)
{
    manager->startup_retry_msec =
        CLAMP(manager->startup_retry_msec * 2, RETRY_MSEC_MIN, RETRY_MSEC_MAX);
    manager->startup_retry = deadline_add(
        manager->deadlines,
        g_get_monotonic_time() + (gint64)manager->startup_retry_msec * G_TIME_SPAN_MILLISECOND,
        on_retry, manager);
}

static void attempt(Manager *manager)
{
    Run run = {.manager = manager, .report = recovery_report_new("startup", FALSE)};
    g_autoptr(StoreContents) contents = NULL;
    g_autoptr(GError) error = NULL;
    Id boot_id = {""};

    event_recovery_started(run.report);
    recovery_report_free(manager->report);
    manager->report = run.report;
    g_clear_pointer(&manager->trouble, g_free);
    if (!id_of_boot(&boot_id, &error)) {
        recovery_report_add(run.report, RECOVERY_VALIDATE_STATE, STEP_WARNING, "%s",
                            error->message);
        g_clear_error(&error);
    }
    contents = read_state(&run, &error);
    if (contents) {
        recover(&run, contents, &boot_id);
    } else {
        /* Nothing is granted: a port could be somebody's whose lease cannot be read. */
        recovery_report_add(run.report, RECOVERY_VALIDATE_STATE, STEP_FAILED, "%s, retrying",
                            error->message);
        manager->trouble = g_strdup(error->message);
        retry_later(manager);
    }
    startup_finish(&run);
}

void startup_retry_now(Manager *manager)
{
    manager->startup_retry = deadline_cancel(manager->startup_retry);
    attempt(manager);
    manager_update_state(manager);
    if (!manager->startup_retry)
        startup_tell(manager, manager->report);
}

static void on_retry(void *data)
{
    Manager *manager = data;

    manager->startup_retry = NULL; /* gone already */
    startup_retry_now(manager);
}

void startup_run(Manager *manager)
{
    manager->failed_starts = store_note_start(manager->store) - 1;
    attempt(manager);
    store_note_recovered(manager->store);
}

void startup_tell_end(Manager *manager, RecoveryReport *report)
{
    g_autoptr(GVariant) summary = NULL;

    for (RecoveryStep step = 0; step < _RECOVERY_STEP_MAX; step++)
        if (report->steps[step].ran) {
            g_autoptr(GVariant) details = g_variant_ref_sink(recovery_report_step(report, step));

            MANAGER_TELL(manager, recovery_step, recovery_step_to_string(step),
                         step_result_to_string(report->steps[step].result), details);
        }
    manager_tell_released(manager, report->ended);
    g_array_set_size(report->ended, 0);
    summary = g_variant_ref_sink(recovery_report_summary(report));
    MANAGER_TELL(manager, recovery_finished, report->ok, summary);
}

void startup_tell(Manager *manager, RecoveryReport *report)
{
    MANAGER_TELL(manager, recovery_started, report->trigger);
    startup_tell_end(manager, report);
}
