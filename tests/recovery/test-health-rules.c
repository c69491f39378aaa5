/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The state machine of layer 2, one line a step. */
#include "recovery/health-rules.h"

#define U FACT_UNKNOWN
#define N FACT_NO
#define Y FACT_YES

#define RESERVED HEALTH_RESERVED
#define ACTIVE HEALTH_ACTIVE
#define FAILING HEALTH_FAILING
#define DORMANT HEALTH_DORMANT
#define QUARANTINED HEALTH_QUARANTINED

typedef struct Row {
    const char *name;
    struct {
        Health health;
        guint32 failures;
        gboolean ever_seen;
        Lifetime lifetime;
        guint32 ttl_msec;
        pid_t pid;
        char *client;
        char *health_url;
    } lease;
    HealthSight sight; /* served, healthy by HTTP, young */
    HealthVerdict expected;
} Row;

/* With max_failures 3. */
static const Row rows[] = {
    /* what is not known changes nothing */
    {"unknown, reserved", {RESERVED}, {U}, {RESERVED}},
    {"unknown, active", {ACTIVE, 0, TRUE}, {U}, {ACTIVE}},
    {"unknown, failing", {FAILING, 2, TRUE}, {U}, {FAILING, 2}},
    {"unknown, quarantined", {QUARANTINED, 2}, {U}, {QUARANTINED, 2}},
    /* seen */
    {"first sight", {RESERVED}, {Y}, {ACTIVE, 0, TRUE}},
    {"seen again", {ACTIVE, 0, TRUE}, {Y}, {ACTIVE, 0, TRUE}},
    {"one success resets", {FAILING, 2, TRUE}, {Y}, {ACTIVE, 0, TRUE}},
    {"came back after a reboot", {DORMANT, 0, FALSE, LIFETIME_PERSISTENT}, {Y}, {ACTIVE, 0, TRUE}},
    {"quarantine stays while somebody listens", {QUARANTINED, 2}, {Y}, {QUARANTINED, 0, TRUE}},
    /* not seen */
    {"young and never seen", {RESERVED}, {N, U, TRUE}, {RESERVED}},
    {"old and never seen", {RESERVED}, {N}, {FAILING, 1, FALSE, FALSE, REASON_NEVER_BOUND}},
    {"never seen to the end", {FAILING, 2}, {N}, {FAILING, 3, FALSE, TRUE, REASON_NEVER_BOUND}},
    {"gone silent", {ACTIVE, 0, TRUE}, {N}, {FAILING, 1, FALSE, FALSE, REASON_NOT_IN_USE}},
    {"silent still", {FAILING, 1, TRUE}, {N}, {FAILING, 2, FALSE, FALSE, REASON_NOT_IN_USE}},
    {"silent to the end", {FAILING, 2, TRUE}, {N}, {FAILING, 3, FALSE, TRUE, REASON_NOT_IN_USE}},
    {"restarted just now", {FAILING, 0, TRUE}, {N, U, TRUE}, {FAILING}},
    {"quarantine without listener",
     {QUARANTINED, 2},
     {N},
     {QUARANTINED, 3, FALSE, TRUE, REASON_NOT_IN_USE}},
    /* tied to something else than the port */
    {"ttl", {RESERVED, 0, FALSE, LIFETIME_AUTO, 500}, {N}, {RESERVED}},
    {"ttl, was in use", {ACTIVE, 0, TRUE, LIFETIME_AUTO, 500}, {N}, {RESERVED}},
    {"process", {RESERVED, 0, FALSE, LIFETIME_PROCESS, 0, 5}, {N}, {RESERVED}},
    {"process, was in use", {ACTIVE, 0, TRUE, LIFETIME_PROCESS, 0, 5}, {N}, {RESERVED}},
    {"process that handed over",
     {FAILING, 2, TRUE, LIFETIME_PROCESS},
     {N},
     {FAILING, 3, FALSE, TRUE, REASON_NOT_IN_USE}},
    {"client", {ACTIVE, 0, TRUE, LIFETIME_CLIENT, 0, 0, (char *)"c"}, {N}, {RESERVED}},
    {"lost client",
     {FAILING, 2, TRUE, LIFETIME_CLIENT},
     {N},
     {FAILING, 3, FALSE, TRUE, REASON_NOT_IN_USE}},
    {"lost client in its grace", {RESERVED, 0, FALSE, LIFETIME_CLIENT}, {N, U, TRUE}, {RESERVED}},
    {"persistent never ends", {ACTIVE, 0, TRUE, LIFETIME_PERSISTENT}, {N}, {DORMANT}},
    {"persistent waits", {RESERVED, 0, FALSE, LIFETIME_PERSISTENT}, {N}, {RESERVED}},
    {"dormant waits", {DORMANT, 0, FALSE, LIFETIME_PERSISTENT}, {N}, {DORMANT}},
    /* HTTP */
    {"answers well", {ACTIVE, 0, TRUE}, {Y, Y}, {ACTIVE, 0, TRUE}},
    {"answers badly", {ACTIVE, 0, TRUE}, {Y, N}, {FAILING, 1, TRUE, FALSE, REASON_UNHEALTHY}},
    {"answers badly to the end",
     {FAILING, 2, TRUE},
     {Y, N},
     {FAILING, 3, TRUE, TRUE, REASON_UNHEALTHY}},
    {"answers badly, any lifetime",
     {FAILING, 2, TRUE, LIFETIME_PERSISTENT},
     {Y, N},
     {FAILING, 3, TRUE, TRUE, REASON_UNHEALTHY}},
    {"answers badly while it starts", {RESERVED}, {Y, N, TRUE}, {ACTIVE, 0, TRUE}},
    {"failed, listens, no answer yet",
     {FAILING, 2, TRUE, LIFETIME_AUTO, 0, 0, NULL, (char *)"u"},
     {Y},
     {FAILING, 2, TRUE}},
    {"failed, answers badly in the grace of its restart",
     {FAILING, 0, TRUE, LIFETIME_AUTO, 0, 0, NULL, (char *)"u"},
     {Y, N, TRUE},
     {FAILING, 0, TRUE}},
    {"failed, listens again and is not asked",
     {FAILING, 2, TRUE, LIFETIME_AUTO, 0, 0, NULL, (char *)"u"},
     {Y, FACT_UNKNOWN, FALSE, TRUE},
     {ACTIVE, 0, TRUE}},
    {"failed, answers well again",
     {FAILING, 2, TRUE, LIFETIME_AUTO, 0, 0, NULL, (char *)"u"},
     {Y, Y},
     {ACTIVE, 0, TRUE}},
    {"listens, no answer yet",
     {RESERVED, 0, FALSE, LIFETIME_AUTO, 0, 0, NULL, (char *)"u"},
     {Y},
     {ACTIVE, 0, TRUE}},
    {"not listening counts before its last answer",
     {ACTIVE, 0, TRUE},
     {N, Y},
     {FAILING, 1, FALSE, FALSE, REASON_NOT_IN_USE}},
};

static void test_steps(void)
{
    const HealthSettings settings = {.max_failures = 3, .cleanup_stale_allocations = TRUE};

    for (guint i = 0; i < G_N_ELEMENTS(rows); i++) {
        const Row *row = &rows[i];
        const Lease lease = {
            .health = row->lease.health,
            .failures = row->lease.failures,
            .ever_seen = row->lease.ever_seen,
            .lifetime = row->lease.lifetime,
            .ttl_msec = row->lease.ttl_msec,
            .process.pid = row->lease.pid,
            .client = row->lease.client,
            .health_url = row->lease.health_url,
        };
        HealthVerdict got = health_judge(&lease, &row->sight, &settings);

        g_test_message("%s", row->name);
        g_assert_cmpstr(health_to_string(got.health), ==, health_to_string(row->expected.health));
        g_assert_cmpuint(got.failures, ==, row->expected.failures);
        g_assert_cmpint(got.seen, ==, row->expected.seen);
        g_assert_cmpint(got.stale, ==, row->expected.stale);
        if (got.failures > lease.failures)
            g_assert_cmpstr(reason_to_string(got.reason), ==,
                            reason_to_string(row->expected.reason));
        g_assert_true(!got.stale || got.why);
    }
}

static void test_max_failures(void)
{
    for (guint32 max = 1; max <= 5; max++) {
        const HealthSettings settings = {.max_failures = max};
        const HealthSight sight = {.served = N};
        Lease lease = {.health = ACTIVE, .ever_seen = TRUE};
        guint sweeps = 0;
        HealthVerdict verdict;

        do {
            verdict = health_judge(&lease, &sight, &settings);
            lease.health = verdict.health;
            lease.failures = verdict.failures;
            sweeps++;
        } while (!verdict.stale && sweeps < 10);
        g_assert_cmpuint(sweeps, ==, max);
    }
}

/* Failures never wrap around to none, however long a lease is only reported. */
static void test_failures_are_bounded(void)
{
    const HealthSettings settings = {.max_failures = 3};
    const HealthSight sight = {.served = N};
    const Lease lease = {.health = FAILING, .ever_seen = TRUE, .failures = G_MAXUINT16};

    g_assert_cmpuint(health_judge(&lease, &sight, &settings).failures, ==, G_MAXUINT16);
}

static void test_mass_failure(void)
{
    static const struct {
        guint watched, silent;
        gboolean expected;
    } cases[] = {
        {0, 0, FALSE},  {9, 9, FALSE},  {10, 0, FALSE}, {10, 5, FALSE},     {10, 6, TRUE},
        {10, 10, TRUE}, {11, 5, FALSE}, {11, 6, TRUE},  {1000, 500, FALSE}, {1000, 501, TRUE},
    };

    for (guint i = 0; i < G_N_ELEMENTS(cases); i++)
        g_assert_cmpint(health_is_mass_failure(cases[i].watched, cases[i].silent), ==,
                        cases[i].expected);
}

/* Found and released within five minutes: the arithmetic of the defaults. */
static void test_defaults(void)
{
    static const char text[] = "{\"service_types\": {\"dev\": {\"port_range\": [3000, 3099]},"
                               " \"slow\": {\"port_range\": [3100, 3199],"
                               " \"health\": {\"startup_grace_ms\": 7}}}}";
    const ConfigurationSource source = {"test", text, sizeof text - 1};
    g_autoptr(GError) error = NULL;
    g_autoptr(Configuration) config = configuration_parse(&source, 1, &error);
    const HealthSettings *dev = NULL;
    const HealthSettings *slow = NULL;
    guint64 abandoned_msec, never_bound_msec;

    g_assert_no_error(error);
    dev = health_settings_of(config, "dev");
    slow = health_settings_of(config, "slow");
    abandoned_msec = (guint64)config->health_check_interval_msec * (dev->max_failures + 1);
    never_bound_msec = dev->startup_grace_msec + abandoned_msec;
    g_assert_cmpuint(abandoned_msec, <, 5 * 60 * 1000);
    g_assert_cmpuint(never_bound_msec, <, 5 * 60 * 1000);
    /* five looks that were doubted as a whole come before */
    g_assert_cmpuint(abandoned_msec + 5ULL * config->health_check_interval_msec, <, 5 * 60 * 1000);
    /* a failing HTTP check is asked in one sweep and counted in the next */
    g_assert_cmpuint((dev->max_failures * 2ULL + 1) * config->health_check_interval_msec, <,
                     5 * 60 * 1000);
    g_assert_cmpuint(dev->http_timeout_msec, <, config->health_check_interval_msec);
    /* a dead process whose unit goes on starting */
    g_assert_cmpuint(dev->process_grace_msec * 2ULL + dev->startup_grace_msec, <, 5 * 60 * 1000);
    /* a type has its own settings, and the general ones for the rest; so have unknown types */
    g_assert_cmpuint(slow->startup_grace_msec, ==, 7);
    g_assert_cmpuint(slow->max_failures, ==, dev->max_failures);
    g_assert_cmpuint(health_settings_of(config, "unknown")->startup_grace_msec, ==,
                     dev->startup_grace_msec);
}

int main(int argc, char *argv[])
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/health-rules/steps", test_steps);
    g_test_add_func("/health-rules/max-failures", test_max_failures);
    g_test_add_func("/health-rules/failures-are-bounded", test_failures_are_bounded);
    g_test_add_func("/health-rules/mass-failure", test_mass_failure);
    g_test_add_func("/health-rules/defaults", test_defaults);
    return g_test_run();
}
