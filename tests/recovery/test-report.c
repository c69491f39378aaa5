/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "recovery/metrics.h"
#include "recovery/startup.h"

static void test_names(void)
{
    static const char *const steps[] = {"validate-state", "validate-config", "clean-orphans",
                                        "verify-singletons", "rebuild-indices"};
    static const char *const results[] = {"ok", "repaired", "warning", "failed"};

    g_assert_cmpint(_RECOVERY_STEP_MAX, ==, G_N_ELEMENTS(steps));
    for (guint i = 0; i < G_N_ELEMENTS(steps); i++)
        g_assert_cmpstr(recovery_step_to_string((RecoveryStep)i), ==, steps[i]);
    for (guint i = 0; i < G_N_ELEMENTS(results); i++)
        g_assert_cmpstr(step_result_to_string((StepResult)i), ==, results[i]);
}

static void test_worst_result(void)
{
    g_autoptr(RecoveryReport) report = recovery_report_new("startup", FALSE);

    g_assert_true(report->ok);
    g_assert_false(report->steps[RECOVERY_CLEAN_ORPHANS].ran);
    recovery_report_add(report, RECOVERY_CLEAN_ORPHANS, STEP_WARNING, "a");
    recovery_report_add(report, RECOVERY_CLEAN_ORPHANS, STEP_REPAIRED, "b");
    g_assert_cmpint(report->steps[RECOVERY_CLEAN_ORPHANS].result, ==, STEP_WARNING);
    g_assert_true(report->ok);
    g_assert_cmpuint(report->repaired, ==, 1);
    recovery_report_add(report, RECOVERY_VALIDATE_STATE, STEP_FAILED, "c");
    g_assert_false(report->ok);
    g_assert_cmpint(report->steps[RECOVERY_CLEAN_ORPHANS].result, ==, STEP_WARNING);
}

static void test_steps(void)
{
    g_autoptr(RecoveryReport) report = recovery_report_new("request", TRUE);
    g_autoptr(GVariant) steps = NULL;
    g_autoptr(GVariant) details = NULL;
    g_auto(GStrv) messages = NULL;
    const char *step = NULL, *result = NULL;

    recovery_report_add(report, RECOVERY_VERIFY_SINGLETONS, STEP_REPAIRED, "lease %u ends", 7U);
    steps = recovery_report_steps(report);
    g_assert_cmpstr(g_variant_get_type_string(steps), ==, "a(ssa{sv})");
    g_assert_cmpuint(g_variant_n_children(steps), ==, 1);
    g_variant_get_child(steps, 0, "(&s&s@a{sv})", &step, &result, &details);
    g_assert_cmpstr(step, ==, "verify-singletons");
    g_assert_cmpstr(result, ==, "repaired");
    g_assert_true(g_variant_lookup(details, "messages", "^as", &messages));
    g_assert_cmpstr(messages[0], ==, "lease 7 ends");
    g_assert_null(messages[1]);
}

/* Sixty thousand findings do not become one message on the bus. */
static void test_messages_are_bounded(void)
{
    g_autoptr(RecoveryReport) report = recovery_report_new("startup", FALSE);
    g_autoptr(GVariant) details = NULL;
    g_auto(GStrv) messages = NULL;

    for (guint i = 0; i < 60000; i++)
        recovery_report_add(report, RECOVERY_CLEAN_ORPHANS, STEP_REPAIRED, "%u", i);
    details = g_variant_ref_sink(recovery_report_step(report, RECOVERY_CLEAN_ORPHANS));
    g_assert_true(g_variant_lookup(details, "messages", "^as", &messages));
    g_assert_cmpuint(g_strv_length(messages), ==, 101);
    g_assert_cmpstr(messages[100], ==, "and 59900 more, see the log");
}

static void test_summary(void)
{
    g_autoptr(RecoveryReport) report = recovery_report_new("startup", FALSE);
    g_autoptr(GVariant) summary = NULL;
    const char *trigger = NULL;
    g_auto(GStrv) backups = NULL;
    guint32 kept, released;
    gboolean ok = FALSE;

    report->kept = 5;
    report->dropped = 2;
    g_ptr_array_add(report->backups, g_strdup("/state.json.corrupt.1"));
    summary = g_variant_ref_sink(recovery_report_summary(report));
    g_assert_true(g_variant_lookup(summary, "trigger", "&s", &trigger));
    g_assert_cmpstr(trigger, ==, "startup");
    g_assert_true(g_variant_lookup(summary, "ok", "b", &ok));
    g_assert_true(ok);
    g_assert_true(g_variant_lookup(summary, "kept", "u", &kept));
    g_assert_cmpuint(kept, ==, 5);
    g_assert_true(g_variant_lookup(summary, "released", "u", &released));
    g_assert_cmpuint(released, ==, 2);
    g_assert_true(g_variant_lookup(summary, "backups", "^as", &backups));
    g_assert_cmpstr(backups[0], ==, "/state.json.corrupt.1");
}

static void test_metric_names(void)
{
    g_autoptr(GHashTable) names = g_hash_table_new(g_str_hash, g_str_equal);

    for (guint i = 0; i < _METRIC_MAX; i++) {
        const char *name = metric_name((Metric)i);

        g_assert_nonnull(name);
        g_assert_true(g_hash_table_add(names, (char *)name));
        g_assert_true(g_str_has_suffix(name, "_total"));
    }
}

int main(int argc, char *argv[])
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/report/names", test_names);
    g_test_add_func("/report/worst-result", test_worst_result);
    g_test_add_func("/report/steps", test_steps);
    g_test_add_func("/report/messages-are-bounded", test_messages_are_bounded);
    g_test_add_func("/report/summary", test_summary);
    g_test_add_func("/metrics/names", test_metric_names);
    return g_test_run();
}
