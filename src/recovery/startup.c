/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "recovery/startup.h"

#include <string.h>

#include "probe/ephemeral.h"
#include "recovery/events.h"
#include "recovery/expiry.h"
#include "recovery/judge.h"
#include "recovery/metrics.h"
#include "recovery/observe.h"
#include "util/fd.h"
#include "util/log.h"

/* One recovery under way: records, what was seen, and what is to become of them. */
typedef struct Run {
    Manager *manager;
    RecoveryReport *report;
    GPtrArray *leases; /* of Lease * */
    LeaseFacts *facts;
    Verdict *verdicts;
    SocketTable *table; /* NULL = could not be taken */
    Fact same_boot;
} Run;

static void look(Run *run)
{
    g_autoptr(GError) error = NULL;

    run->table = socket_table_dump((PortRange){0, 0}, PROTOCOL_BOTH, &error);
    if (!run->table)
        recovery_report_add(run->report, RECOVERY_VALIDATE_STATE, STEP_WARNING,
                            "who listens where is not known, so no lease ends for it: %s",
                            error->message);
    run->facts = observe_leases((Lease *const *)run->leases->pdata, run->leases->len, run->table);
    run->verdicts = g_new0(Verdict, run->leases->len);
}

static void finish_run(Run *run)
{
    g_clear_pointer(&run->leases, g_ptr_array_unref);
    g_clear_pointer(&run->table, socket_table_free);
    g_clear_pointer(&run->facts, g_free);
    g_clear_pointer(&run->verdicts, g_free);
}

/* Reports the verdicts that came since the last call as findings of @step. */
static void report_verdicts(Run *run, RecoveryStep step, GArray *told)
{
    for (guint i = 0; i < run->leases->len; i++) {
        const Lease *lease = run->leases->pdata[i];
        const Verdict *verdict = &run->verdicts[i];

        if (!verdict->drop || g_array_index(told, gboolean, i))
            continue;
        g_array_index(told, gboolean, i) = TRUE;
        run->report->dropped++;
        recovery_report_add(run->report, step, STEP_REPAIRED,
                            "lease %s on port %u/%s of service type %s ends (%s): %s",
                            lease->id.text, lease->port, protocol_to_string(lease->protocol),
                            lease->service_type, reason_to_string(verdict->reason), verdict->why);
    }
}

static void judge_all(Run *run)
{
    Lease *const *leases = (Lease *const *)run->leases->pdata;
    guint n = run->leases->len;
    g_autoptr(GArray) told = g_array_sized_new(FALSE, TRUE, sizeof(gboolean), n);

    g_array_set_size(told, n);
    judge_ports(leases, run->facts, run->verdicts, n);
    report_verdicts(run, RECOVERY_VALIDATE_STATE, told);
    judge_boot(leases, run->verdicts, n, run->same_boot);
    judge_orphans(leases, run->facts, run->verdicts, n, g_get_real_time());
    report_verdicts(run, RECOVERY_CLEAN_ORPHANS, told);
    judge_singletons(leases, run->facts, run->verdicts, n, run->manager->config);
    report_verdicts(run, RECOVERY_VERIFY_SINGLETONS, told);
}

static void validate_config(Run *run)
{
    const Configuration *config = run->manager->config;
    g_autoptr(GError) error = NULL;
    PortRange ephemeral;

    if (!ephemeral_range(&ephemeral, &error)) {
        log_debug("the kernel's port range for outgoing connections is not known: %s",
                  error->message);
        return;
    }
    for (guint i = 0; i < config->service_types->len; i++) {
        const ServiceType *type = config->service_types->pdata[i];

        if (port_range_overlaps(type->range, ephemeral))
            recovery_report_add(run->report, RECOVERY_VALIDATE_CONFIG, STEP_WARNING,
                                "ports %u-%u of service type %s overlap the range %u-%u that the "
                                "kernel takes outgoing ports from; 'styxyctl config sysctl' prints "
                                "the setting that reserves them",
                                type->range.first, type->range.last, type->name, ephemeral.first,
                                ephemeral.last);
    }
    if (config->auto_enabled && port_range_overlaps(config->auto_range, ephemeral))
        recovery_report_add(run->report, RECOVERY_VALIDATE_CONFIG, STEP_WARNING,
                            "the range %u-%u for unknown service types overlaps the range %u-%u "
                            "that the kernel takes outgoing ports from; 'styxyctl config sysctl' "
                            "prints the setting that reserves it",
                            config->auto_range.first, config->auto_range.last, ephemeral.first,
                            ephemeral.last);
}

/* ---- entering what is kept ------------------------------------------------------------------- */

static void enter_leases(Run *run)
{
    Manager *manager = run->manager;

    for (guint i = 0; i < run->leases->len; i++) {
        Lease *lease = run->leases->pdata[i];

        if (run->verdicts[i].drop) {
            Change change = {CHANGE_RELEASED, lease_ref(lease), run->verdicts[i].reason};

            g_array_append_val(run->report->ended, change);
            continue;
        }
        if (run->verdicts[i].dormant) {
            lease->health = HEALTH_DORMANT;
            lease->process = (ProcessIdentity){0};
        }
        if (!registry_insert(manager->registry, lease)) {
            recovery_report_add(
                run->report, RECOVERY_REBUILD_INDICES, STEP_REPAIRED,
                "lease %s on port %u does not fit beside the others and is left out",
                lease->id.text, lease->port);
            continue;
        }
        run->report->kept++;
        expiry_arm(manager, lease);
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

/*
 * Records were lost, so a port that somebody serves may be a lease nobody remembers. It is not
 * granted to anybody until its listener is gone.
 */
static void quarantine(Run *run)
{
    Manager *manager = run->manager;
    const Configuration *config = manager->config;

    for (guint i = 0; run->table && i < run->table->entries->len; i++) {
        const SocketEntry *entry = &g_array_index(run->table->entries, SocketEntry, i);
        const ServiceType *type = NULL;
        g_autoptr(Lease) lease = NULL;

        if (!entry->listening ||
            registry_find_port(manager->registry, entry->port, entry->protocol))
            continue;
        for (guint t = 0; t < config->service_types->len && !type; t++)
            if (port_range_contains(((ServiceType *)config->service_types->pdata[t])->range,
                                    entry->port))
                type = config->service_types->pdata[t];
        if (!type)
            continue;
        lease = lease_new();
        lease->id = id_random();
        lease->port = entry->port;
        lease->protocol = entry->protocol;
        lease->health = HEALTH_QUARANTINED;
        lease->uid = entry->uid;
        lease->created_usec = lease->last_seen_usec = g_get_real_time();
        lease->service_type = g_ref_string_new_intern(type->name);
        if (registry_insert(manager->registry, lease))
            recovery_report_add(run->report, RECOVERY_VALIDATE_STATE, STEP_REPAIRED,
                                "port %u/%s is served by uid %u and no record says for whom: "
                                "quarantined",
                                entry->port, protocol_to_string(entry->protocol), entry->uid);
    }
}

/* ---- held sockets ---------------------------------------------------------------------------- */

/* A lease that only its held socket remembers: nobody can be named, so nobody gets the port. */
static Lease *lease_of_socket(Run *run, const char *id, int fd)
{
    const Configuration *config = run->manager->config;
    g_autoptr(Lease) lease = lease_new();

    lease->port = hold_port(fd);
    for (guint i = 0; i < config->service_types->len && !lease->service_type; i++) {
        const ServiceType *type = config->service_types->pdata[i];

        if (port_range_contains(type->range, lease->port))
            lease->service_type = g_ref_string_new_intern(type->name);
    }
    if (lease->port == 0 || !lease->service_type)
        return NULL;
    (void)g_strlcpy(lease->id.text, id, sizeof lease->id.text);
    lease->protocol = PROTOCOL_TCP;
    lease->hold = HOLD_SOFT;
    lease->health = HEALTH_QUARANTINED;
    lease->created_usec = g_get_real_time();
    if (!registry_insert(run->manager->registry, lease))
        return NULL;
    recovery_report_add(run->report, RECOVERY_VALIDATE_STATE, STEP_REPAIRED,
                        "port %u was held for lease %s whose record is lost: quarantined",
                        lease->port, id);
    return registry_find(run->manager->registry, id);
}

/* Takes back what the service manager kept; a socket that belongs to no lease is closed. */
static void take_held(Run *run, gboolean lost)
{
    Manager *manager = run->manager;

    for (guint i = 0; manager->passed && i < manager->passed->len; i++) {
        HeldSocket *held = &g_array_index(manager->passed, HeldSocket, i);
        const char *id = hold_lease_of_name(held->name);
        Lease *lease = id ? registry_find(manager->registry, id) : NULL;

        if (!lease && id && lost)
            lease = lease_of_socket(run, id, held->fd);
        if (!hold_table_adopt(manager->holds, lease, fd_steal(&held->fd), held->name))
            recovery_report_add(run->report, RECOVERY_CLEAN_ORPHANS, STEP_REPAIRED,
                                "the held socket %s belongs to no lease and was closed",
                                held->name);
    }
    g_clear_pointer(&manager->passed, g_array_unref);
}

/* What nobody kept is bound anew, unless its service is there: then the port is in good hands. */
static void bind_missing_holds(Run *run)
{
    Manager *manager = run->manager;
    guint32 cursor = 0;
    Lease *lease = NULL;

    while ((lease = registry_next_port(manager->registry, &cursor)))
        if (!hold_renew(manager->holds, lease))
            recovery_report_add(run->report, RECOVERY_REBUILD_INDICES, STEP_WARNING,
                                "port %u of lease %s could not be held again", lease->port,
                                lease->id.text);
}

/* ---- validate-state -------------------------------------------------------------------------- */

/* Returns whether records were lost. */
static gboolean report_damage(RecoveryReport *report, const StoreContents *contents)
{
    gboolean lost = contents->from_previous;

    for (guint i = 0; i < contents->damage->len; i++) {
        const StoreDamage *damage = contents->damage->pdata[i];

        recovery_report_add(report, RECOVERY_VALIDATE_STATE, STEP_REPAIRED,
                            "%s: %s, %u records lost%s%s", damage->file, damage->what, damage->lost,
                            damage->backup ? ", kept as " : "",
                            damage->backup ? damage->backup : "");
        if (damage->backup)
            g_ptr_array_add(report->backups, g_strdup(damage->backup));
        lost |= damage->lost > 0;
    }
    if (contents->from_previous)
        recovery_report_add(report, RECOVERY_VALIDATE_STATE, STEP_REPAIRED,
                            "the snapshot before the last one was used");
    return lost;
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
    metrics_count(METRIC_RECOVERIES);
    metrics_add(METRIC_RECOVERY_REPAIRS, report->repaired);
    for (RecoveryStep step = 0; step < _RECOVERY_STEP_MAX; step++)
        if (report->steps[step].ran)
            event_recovery_step(report, step);
    event_recovery_finished(report);
}

static void mark_ran(RecoveryReport *report)
{
    for (int step = 0; step < _RECOVERY_STEP_MAX; step++)
        report->steps[step].ran = TRUE;
}

/* A state that ended the daemon too often while it was read is not read again. */
static void check_crash_loop(Manager *manager, RecoveryReport *report)
{
    g_autoptr(GError) error = NULL;
    guint starts = store_note_start(manager->store);

    if (!manager->config->system_enabled || starts <= manager->config->system_max_recovery_attempts)
        return;
    manager->trouble = g_strdup_printf(
        "recovery failed %u times in a row, so the state was set aside as *.corrupt.* in the state "
        "directory; look at it, then start the daemon again",
        starts - 1);
    if (!store_set_aside(manager->store, &error))
        recovery_report_add(report, RECOVERY_VALIDATE_STATE, STEP_FAILED,
                            "the state could not be set aside: %s", error->message);
    recovery_report_add(report, RECOVERY_VALIDATE_STATE, STEP_FAILED, "%s", manager->trouble);
}

void startup_run(Manager *manager)
{
    RecoveryReport *report = recovery_report_new("startup", FALSE);
    gboolean full = manager->config->system_enabled && manager->config->system_run_on_startup;
    g_autoptr(StoreContents) contents = NULL;
    g_autoptr(GError) error = NULL;
    Run run = {.manager = manager, .report = report};
    Id boot_id = {""};
    gboolean lost;

    manager->report = report;
    check_crash_loop(manager, report);
    if (!id_of_boot(&boot_id, &error)) {
        recovery_report_add(report, RECOVERY_VALIDATE_STATE, STEP_WARNING, "%s", error->message);
        g_clear_error(&error);
    }
    contents = store_load(manager->store, FALSE, &error);
    if (!contents) {
        recovery_report_add(report, RECOVERY_VALIDATE_STATE, STEP_FAILED,
                            "the state cannot be read: %s", error->message);
        manager->trouble = g_strdup_printf("the state cannot be read: %s", error->message);
        close_report(report);
        return;
    }
    run.leases = g_ptr_array_ref(contents->leases);
    run.same_boot = compare_boots(&contents->boot_id, &boot_id);
    look(&run);
    mark_ran(report);
    if (full) {
        judge_all(&run);
        validate_config(&run);
    } else {
        /* Two leases on one port cannot be entered, whatever the configuration says. */
        judge_ports((Lease *const *)run.leases->pdata, run.facts, run.verdicts, run.leases->len);
    }
    enter_memories(&run, contents);
    enter_leases(&run);
    lost = report_damage(report, contents);
    take_held(&run, lost);
    bind_missing_holds(&run);
    if (lost && full)
        quarantine(&run);
    if (!manager_open_journal(manager, &boot_id, &error))
        recovery_report_add(report, RECOVERY_REBUILD_INDICES, STEP_FAILED,
                            "the state cannot be written: %s", error->message);
    store_note_recovered(manager->store);
    close_report(report);
    finish_run(&run);
}

void startup_tell(Manager *manager, RecoveryReport *report)
{
    g_autoptr(GVariant) summary = NULL;

    MANAGER_TELL(manager, recovery_started, report->trigger);
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

/* ---- on request ------------------------------------------------------------------------------ */

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
    (void)report_damage(run->report, contents);
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

    run.leases = lease_array_new();
    while ((lease = registry_next_port(manager->registry, &cursor)))
        if (!lease->ending)
            g_ptr_array_add(run.leases, lease_ref(lease));
    look(&run);
    mark_ran(report);
    compare_with_disk(&run);
    check_config_files(&run);
    validate_config(&run);
    judge_all(&run);
    report->kept = run.leases->len - report->dropped;
    for (guint i = 0; !dry_run && i < run.leases->len; i++)
        if (run.verdicts[i].drop)
            manager_end(manager, run.leases->pdata[i], run.verdicts[i].reason);
    close_report(report);
    finish_run(&run);
    return report;
}
