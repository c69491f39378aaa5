/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "recovery/startup.h"

static const char *const result_names[] = {
    [STEP_OK] = "ok",
    [STEP_REPAIRED] = "repaired",
    [STEP_WARNING] = "warning",
    [STEP_FAILED] = "failed",
};

static const char *const step_names[_RECOVERY_STEP_MAX] = {
    [RECOVERY_VALIDATE_STATE] = "validate-state",
    [RECOVERY_VALIDATE_CONFIG] = "validate-config",
    [RECOVERY_CLEAN_ORPHANS] = "clean-orphans",
    [RECOVERY_VERIFY_SINGLETONS] = "verify-singletons",
    [RECOVERY_REBUILD_INDICES] = "rebuild-indices",
};

/* Messages of one step that go over the bus; the log has all of them. */
#define MESSAGES_MAX 100

const char *step_result_to_string(StepResult result)
{
    return result_names[result];
}

const char *recovery_step_to_string(RecoveryStep step)
{
    return step_names[step];
}

RecoveryReport *recovery_report_new(const char *trigger, gboolean dry_run)
{
    RecoveryReport *report = g_new0(RecoveryReport, 1);

    report->trigger = trigger;
    report->dry_run = dry_run;
    report->ok = TRUE;
    report->started_usec = g_get_real_time();
    for (int i = 0; i < _RECOVERY_STEP_MAX; i++)
        report->steps[i].messages = g_ptr_array_new_with_free_func(g_free);
    report->backups = g_ptr_array_new_with_free_func(g_free);
    report->ended = change_array_new();
    return report;
}

RecoveryReport *recovery_report_free(RecoveryReport *report)
{
    if (!report)
        return NULL;
    for (int i = 0; i < _RECOVERY_STEP_MAX; i++)
        g_ptr_array_unref(report->steps[i].messages);
    g_ptr_array_unref(report->backups);
    g_array_unref(report->ended);
    g_free(report);
    return NULL;
}

void recovery_report_add(RecoveryReport *report, RecoveryStep step, StepResult result,
                         const char *format, ...)
{
    va_list ap;

    report->steps[step].ran = TRUE;
    report->steps[step].result = MAX(report->steps[step].result, result);
    if (result == STEP_REPAIRED)
        report->repaired++;
    if (result == STEP_FAILED)
        report->ok = FALSE;
    va_start(ap, format);
    g_ptr_array_add(report->steps[step].messages, g_strdup_vprintf(format, ap));
    va_end(ap);
}

static GVariant *strings(const GPtrArray *texts)
{
    GVariantBuilder builder;

    g_variant_builder_init(&builder, G_VARIANT_TYPE_STRING_ARRAY);
    for (guint i = 0; i < texts->len && i < MESSAGES_MAX; i++)
        g_variant_builder_add(&builder, "s", texts->pdata[i]);
    if (texts->len > MESSAGES_MAX)
        g_variant_builder_add_value(
            &builder, g_variant_new_printf("and %u more, see the log", texts->len - MESSAGES_MAX));
    return g_variant_builder_end(&builder);
}

GVariant *recovery_report_step(const RecoveryReport *report, RecoveryStep step)
{
    GVariantDict dict;

    g_variant_dict_init(&dict, NULL);
    g_variant_dict_insert_value(&dict, "messages", strings(report->steps[step].messages));
    g_variant_dict_insert(&dict, "dry_run", "b", report->dry_run);
    return g_variant_dict_end(&dict);
}

GVariant *recovery_report_steps(const RecoveryReport *report)
{
    GVariantBuilder steps;

    g_variant_builder_init(&steps, G_VARIANT_TYPE("a(ssa{sv})"));
    for (RecoveryStep step = 0; step < _RECOVERY_STEP_MAX; step++)
        if (report->steps[step].ran)
            g_variant_builder_add(&steps, "(ss@a{sv})", recovery_step_to_string(step),
                                  step_result_to_string(report->steps[step].result),
                                  recovery_report_step(report, step));
    return g_variant_ref_sink(g_variant_builder_end(&steps));
}

GVariant *recovery_report_summary(const RecoveryReport *report)
{
    g_autoptr(GVariant) steps = recovery_report_steps(report);
    GVariantDict dict;

    g_variant_dict_init(&dict, NULL);
    g_variant_dict_insert(&dict, "trigger", "s", report->trigger);
    g_variant_dict_insert(&dict, "ok", "b", report->ok);
    g_variant_dict_insert(&dict, "dry_run", "b", report->dry_run);
    g_variant_dict_insert(&dict, "started_usec", "t", (guint64)report->started_usec);
    g_variant_dict_insert(&dict, "duration_usec", "t",
                          (guint64)MAX(report->finished_usec - report->started_usec, 0));
    g_variant_dict_insert(&dict, "kept", "u", report->kept);
    g_variant_dict_insert(&dict, "released", "u", report->dropped);
    g_variant_dict_insert(&dict, "repaired", "u", report->repaired);
    g_variant_dict_insert_value(&dict, "backups", strings(report->backups));
    g_variant_dict_insert_value(&dict, "steps", steps);
    return g_variant_dict_end(&dict);
}
