/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The rules of the recovery at start, one line a case. */
#include "recovery/judge.h"

#include <string.h>

#define CASE_LEASES 3
#define NOW_USEC 1000000

/* U, N and Y: unknown, no, yes. */
#define U FACT_UNKNOWN
#define N FACT_NO
#define Y FACT_YES

typedef struct Row {
    guint16 port; /* 0 = no more leases */
    Protocol protocol;
    Lifetime lifetime;
    Health health;
    pid_t pid;
    gint64 expires_usec;
    gint64 created_usec;
    const char *service_type;
    LeaseFacts facts; /* process runs, served, served by its owner */
    /* what is expected */
    char verdict; /* 'k' kept, 's' kept and asleep, 'd' dropped */
    Reason reason;
} Row;

typedef struct Case {
    const char *name;
    Fact same_boot;
    Row rows[CASE_LEASES];
} Case;

static Configuration *configuration(void)
{
    static const char text[] =
        "{\"service_types\": {\"dev\": {\"port_range\": [3000, 3099]},"
        " \"ai\": {\"port_range\": [11400, 11499], \"instance_behavior\": \"single\"}}}";
    const ConfigurationSource source = {"test", text, sizeof text - 1};
    g_autoptr(GError) error = NULL;
    Configuration *config = configuration_parse(&source, 1, &error);

    g_assert_no_error(error);
    return config;
}

static Lease *lease_of(const Row *row)
{
    Lease *lease = lease_new();

    lease->id = id_random();
    lease->port = row->port;
    lease->protocol = row->protocol ? row->protocol : PROTOCOL_TCP;
    lease->lifetime = row->lifetime;
    lease->health = row->health;
    lease->process.pid = row->pid;
    lease->expires_usec = row->expires_usec;
    lease->created_usec = row->created_usec;
    lease->service_type = g_ref_string_new_intern(row->service_type ? row->service_type : "dev");
    return lease;
}

typedef struct Run {
    GPtrArray *leases;
    LeaseFacts facts[CASE_LEASES];
    Verdict verdicts[CASE_LEASES];
} Run;

static void run_init(Run *run, const Case *test)
{
    memset(run, 0, sizeof *run);
    run->leases = lease_array_new();
    for (guint i = 0; i < CASE_LEASES && test->rows[i].port; i++) {
        run->facts[i] = test->rows[i].facts;
        g_ptr_array_add(run->leases, lease_of(&test->rows[i]));
    }
}

static void run_check(Run *run, const Case *test)
{
    for (guint i = 0; i < run->leases->len; i++) {
        const Row *row = &test->rows[i];
        const Verdict *verdict = &run->verdicts[i];
        char got = verdict->drop ? 'd' : verdict->dormant ? 's' : 'k';

        if (got != row->verdict || (got == 'd' && verdict->reason != row->reason))
            g_error("%s, lease %u: '%c' (%s) instead of '%c' (%s)", test->name, i, got,
                    reason_to_string(verdict->reason), row->verdict, reason_to_string(row->reason));
        g_assert_true(got == 'k' || verdict->why);
    }
    g_ptr_array_unref(run->leases);
}

static void test_boot(void)
{
    static const Case cases[] = {
        {"same boot", Y, {{.port = 3000, .verdict = 'k'}}},
        {"boot not known", U, {{.port = 3000, .verdict = 'k'}}},
        {"another boot",
         N,
         {{.port = 3000, .verdict = 'd', .reason = REASON_REBOOTED},
          {.port = 3001, .lifetime = LIFETIME_PERSISTENT, .verdict = 's'},
          {.port = 3002,
           .lifetime = LIFETIME_PROCESS,
           .pid = 5,
           .facts = {Y, Y, Y},
           .verdict = 'd',
           .reason = REASON_REBOOTED}}},
        {"client and ttl go with the boot",
         N,
         {{.port = 3000, .lifetime = LIFETIME_CLIENT, .verdict = 'd', .reason = REASON_REBOOTED},
          {.port = 3001, .expires_usec = NOW_USEC * 2, .verdict = 'd', .reason = REASON_REBOOTED}}},
    };

    for (guint i = 0; i < G_N_ELEMENTS(cases); i++) {
        Run run;

        run_init(&run, &cases[i]);
        judge_boot((Lease *const *)run.leases->pdata, run.verdicts, run.leases->len,
                   cases[i].same_boot);
        run_check(&run, &cases[i]);
    }
}

static void test_ports(void)
{
    static const Case cases[] = {
        {"different ports", U, {{.port = 1, .verdict = 'k'}, {.port = 2, .verdict = 'k'}}},
        {"tcp and udp",
         U,
         {{.port = 1, .verdict = 'k'}, {.port = 1, .protocol = PROTOCOL_UDP, .verdict = 'k'}}},
        {"the newer",
         U,
         {{.port = 1, .created_usec = 5, .verdict = 'd', .reason = REASON_ORPHANED},
          {.port = 1, .created_usec = 6, .verdict = 'k'}}},
        {"the served one, though older",
         U,
         {{.port = 1, .created_usec = 5, .facts = {U, Y, N}, .verdict = 'k'},
          {.port = 1, .created_usec = 6, .facts = {U, U, U}, .verdict = 'd', REASON_ORPHANED}}},
        {"its owner's rather than somebody's",
         U,
         {{.port = 1, .created_usec = 6, .facts = {U, Y, N}, .verdict = 'd', REASON_ORPHANED},
          {.port = 1, .created_usec = 5, .facts = {U, Y, Y}, .verdict = 'k'}}},
        {"both clashes with either",
         U,
         {{.port = 1, .created_usec = 1, .verdict = 'd', REASON_ORPHANED},
          {.port = 1, .created_usec = 2, .protocol = PROTOCOL_UDP, .verdict = 'd', REASON_ORPHANED},
          {.port = 1, .created_usec = 3, .protocol = PROTOCOL_BOTH, .verdict = 'k'}}},
        {"what loses takes nobody with it",
         U,
         {{.port = 1, .created_usec = 1, .verdict = 'k'},
          {.port = 1, .created_usec = 3, .protocol = PROTOCOL_UDP, .verdict = 'k'},
          {.port = 1,
           .created_usec = 2,
           .protocol = PROTOCOL_BOTH,
           .verdict = 'd',
           .reason = REASON_ORPHANED}}},
    };

    for (guint i = 0; i < G_N_ELEMENTS(cases); i++) {
        Run run;

        run_init(&run, &cases[i]);
        judge_ports((Lease *const *)run.leases->pdata, run.facts, run.verdicts, run.leases->len);
        run_check(&run, &cases[i]);
    }
}

static void test_orphans(void)
{
    static const Case cases[] = {
        {"process gone, port not served",
         U,
         {{.port = 1, .pid = 5, .facts = {N, N, N}, .verdict = 'd', .reason = REASON_ORPHANED}}},
        {"process gone, port served",
         U,
         {{.port = 1, .pid = 5, .facts = {N, Y, N}, .verdict = 'k'}}},
        {"process gone, served is not known",
         U,
         {{.port = 1, .pid = 5, .facts = {N, U, U}, .verdict = 'k'}}},
        {"process not known", U, {{.port = 1, .pid = 5, .facts = {U, N, N}, .verdict = 'k'}}},
        {"process lives, not bound yet",
         U,
         {{.port = 1, .pid = 5, .facts = {Y, N, N}, .verdict = 'k'}}},
        {"no process, not bound yet", U, {{.port = 1, .facts = {U, N, N}, .verdict = 'k'}}},
        {"no process, was in use once",
         U,
         {{.port = 1, .health = HEALTH_ACTIVE, .facts = {U, N, N}, .verdict = 'k'}}},
        {"persistent outlives its process",
         U,
         {{.port = 1,
           .lifetime = LIFETIME_PERSISTENT,
           .pid = 5,
           .facts = {N, N, N},
           .verdict = 'k'}}},
        {"expired",
         U,
         {{.port = 1,
           .expires_usec = NOW_USEC,
           .facts = {U, Y, Y},
           .verdict = 'd',
           .reason = REASON_EXPIRED},
          {.port = 2, .expires_usec = NOW_USEC + 1, .verdict = 'k'}}},
        {"quarantine ends with its listener",
         U,
         {{.port = 1,
           .health = HEALTH_QUARANTINED,
           .facts = {U, N, N},
           .verdict = 'd',
           .reason = REASON_NOT_IN_USE},
          {.port = 2, .health = HEALTH_QUARANTINED, .facts = {U, U, U}, .verdict = 'k'},
          {.port = 3, .health = HEALTH_QUARANTINED, .facts = {U, Y, N}, .verdict = 'k'}}},
    };

    for (guint i = 0; i < G_N_ELEMENTS(cases); i++) {
        Run run;

        run_init(&run, &cases[i]);
        judge_orphans((Lease *const *)run.leases->pdata, run.facts, run.verdicts, run.leases->len,
                      NOW_USEC);
        run_check(&run, &cases[i]);
    }
}

static void test_singletons(void)
{
    static const Case cases[] = {
        {"one", U, {{.port = 1, .service_type = "ai", .verdict = 'k'}}},
        {"not a singleton", U, {{.port = 1, .verdict = 'k'}, {.port = 2, .verdict = 'k'}}},
        {"not configured",
         U,
         {{.port = 1, .service_type = "x", .verdict = 'k'},
          {.port = 2, .service_type = "x", .verdict = 'k'}}},
        {"the newer",
         U,
         {{.port = 1, .service_type = "ai", .created_usec = 2, .verdict = 'k'},
          {.port = 2,
           .service_type = "ai",
           .created_usec = 1,
           .verdict = 'd',
           .reason = REASON_DUPLICATE_SINGLETON}}},
        {"the one that listens",
         U,
         {{.port = 1,
           .service_type = "ai",
           .created_usec = 2,
           .verdict = 'd',
           .reason = REASON_DUPLICATE_SINGLETON},
          {.port = 2, .service_type = "ai", .created_usec = 1, .facts = {U, Y, Y}, .verdict = 'k'},
          {.port = 3,
           .service_type = "ai",
           .created_usec = 3,
           .facts = {U, U, U},
           .verdict = 'd',
           .reason = REASON_DUPLICATE_SINGLETON}}},
        {"quarantined ones stay beside it",
         U,
         {{.port = 1, .service_type = "ai", .health = HEALTH_QUARANTINED, .verdict = 'k'},
          {.port = 2, .service_type = "ai", .verdict = 'k'}}},
    };
    g_autoptr(Configuration) config = configuration();

    for (guint i = 0; i < G_N_ELEMENTS(cases); i++) {
        Run run;

        run_init(&run, &cases[i]);
        judge_singletons((Lease *const *)run.leases->pdata, run.facts, run.verdicts,
                         run.leases->len, config);
        run_check(&run, &cases[i]);
    }
}

/* What one rule dropped the next ones do not see. */
static void test_in_turn(void)
{
    static const Case test = {
        "the rebooted one does not compete",
        N,
        {{.port = 1, .created_usec = 9, .verdict = 'd', .reason = REASON_REBOOTED},
         {.port = 1, .created_usec = 1, .lifetime = LIFETIME_PERSISTENT, .verdict = 's'}}};
    g_autoptr(Configuration) config = configuration();
    Lease *const *leases = NULL;
    Run run;

    run_init(&run, &test);
    leases = (Lease *const *)run.leases->pdata;
    judge_boot(leases, run.verdicts, run.leases->len, test.same_boot);
    judge_ports(leases, run.facts, run.verdicts, run.leases->len);
    judge_orphans(leases, run.facts, run.verdicts, run.leases->len, NOW_USEC);
    judge_singletons(leases, run.facts, run.verdicts, run.leases->len, config);
    run_check(&run, &test);
}

int main(int argc, char *argv[])
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/judge/boot", test_boot);
    g_test_add_func("/judge/ports", test_ports);
    g_test_add_func("/judge/orphans", test_orphans);
    g_test_add_func("/judge/singletons", test_singletons);
    g_test_add_func("/judge/in-turn", test_in_turn);
    return g_test_run();
}
