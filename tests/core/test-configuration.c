/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "core/configuration.h"

#include <string.h>

#define DEV "\"dev\":{\"port_range\":[3000,3099]}"
#define TYPES(types) "{\"service_types\":{" types "}}"
#define WITH(rest) "{\"service_types\":{" DEV "},\n" rest "}"
#define CONFLICT(rest) WITH("\"recovery\":{\n\"port_conflict\":{" rest "}}")
#define HEALTH(rest) WITH("\"recovery\":{\n\"health_monitoring\":{" rest "}}")
#define SYSTEM(rest) WITH("\"recovery\":{\n\"system_recovery\":{" rest "}}")
#define AUTO(rest) WITH("\"auto_allocation\":{" rest "}")
#define LIMITS(rest) WITH("\"limits\":{" rest "}")
#define DEV_WITH(rest) TYPES("\"dev\":{\"port_range\":[3000,3099],\n" rest "}")

static Configuration *parse(GError **error, const char *a, const char *b, const char *c)
{
    static const char *const names[] = {"a.json", "b.json", "c.json"};
    const char *const texts[] = {a, b, c};
    g_autoptr(GPtrArray) blocks = g_ptr_array_new_with_free_func(g_free);
    ConfigurationSource sources[3];
    size_t n = 0;

    for (; n < G_N_ELEMENTS(texts) && texts[n]; n++) {
        size_t length = strlen(texts[n]);
        char *block = g_memdup2(texts[n], length);

        /* Blocks of just their size, so that a sanitizer sees each byte too many. */
        g_ptr_array_add(blocks, block);
        sources[n] = (ConfigurationSource){names[n], block, length};
    }
    return configuration_parse(sources, n, error);
}

static Configuration *parse_good(const char *a, const char *b, const char *c)
{
    g_autoptr(GError) error = NULL;
    Configuration *config = parse(&error, a, b, c);

    g_assert_no_error(error);
    g_assert_nonnull(config);
    return config;
}

static void assert_bad(const char *a, const char *b, const char *message)
{
    g_autoptr(GError) error = NULL;

    g_test_message("%.200s%s%.200s", a, b ? "  +  " : "", b ? b : "");
    g_assert_null(parse(&error, a, b, NULL));
    g_assert_true(error && error->domain == CONFIGURATION_ERROR);
    g_test_message("  %s", error->message);
    if (!g_str_has_prefix(error->message, message))
        g_error("expected %s…, got %s", message, error->message);
    g_assert_true(g_utf8_validate(error->message, -1, NULL));
    for (const char *p = error->message; *p; p = g_utf8_next_char(p))
        g_assert_true(g_unichar_isprint(g_utf8_get_char(p)));
}

static const struct {
    const char *text;
    const char *message; /* a prefix */
} bad[] = {
    /* the text as a whole */
    {"", "a.json:1: top level: nothing there (column 1)"},
    {"\n// ours\n{}",
     "a.json:2: top level: a value expected, not \"/\" (JSON has no comments) (column 1)"},
    {"[]", "a.json:1: top level: must be an object, { ... }, not an array"},
    {"null", "a.json:1: top level: must be an object, { ... }, not null"},
    {"\"\\u001b[2J\"",
     "a.json:1: top level: must be an object, { ... }, not the string \"\\u001b[2J\""},
    {"{}", "a.json:1: service_types: is missing; "},
    {WITH("\"recovery\":{\n\"port_conflict\":{\n\"max_retries\": 03}}"),
     "a.json:4: recovery.port_conflict.max_retries: a number does not begin with a zero (column "
     "16)"},
    {TYPES("\"dev\":{\n\"port_range\":[3000,\n3099,]}"),
     "a.json:3: service_types.dev.port_range: a comma before the closing bracket (column 6)"},
    {TYPES("\"dev\":{\n\"port_range\":[1,2],\n\"port_range\":[1,2]}"),
     "a.json:3: service_types.dev.port_range: the name stands twice in one object (column 1)"},

    /* unknown keys */
    {WITH("\"recovry\":{}"),
     "a.json:2: recovry: unknown key, did you mean \"recovery\"? (known here: serv"},
    {WITH("\"log\":{}"),
     "a.json:2: log: unknown key (known here: service_types, auto_allocation, recovery,"},
    {WITH("\"\":{}"), "a.json:2: \"\": unknown key (known here:"},
    {WITH("\"a.b\\n\":{}"), "a.json:2: \"a.b\\u000a\": unknown key (known here:"},
    {DEV_WITH("\"prefered_ports\":[]"),
     "a.json:2: service_types.dev.prefered_ports: unknown key, did you mean \"preferred_ports\"?"},
    {DEV_WITH("\"port_ragne\":[]"),
     "a.json:2: service_types.dev.port_ragne: unknown key, did you mean \"port_range\"?"},
    {DEV_WITH("\"health\":{\n\"check_interval_ms\":1}"),
     "a.json:3: service_types.dev.health.check_interval_ms: unknown key"},
    {AUTO("\"chunk-size\":1"),
     "a.json:2: auto_allocation.chunk-size: unknown key, did you mean \"chunk_size\"?"},
    {AUTO("\"rules\":{\"a\":{\"chunk\":1}}"),
     "a.json:2: auto_allocation.rules.a.chunk: unknown key"},
    {WITH("\"recovery\":{\"health\":{}}"),
     "a.json:2: recovery.health: unknown key (known here: port_conf"},
    {CONFLICT("\"retries\":3"), "a.json:3: recovery.port_conflict.retries: unknown key"},
    {HEALTH("\"interval\":3"), "a.json:3: recovery.health_monitoring.interval: unknown key"},
    {SYSTEM("\"Enabled\":true"),
     "a.json:3: recovery.system_recovery.Enabled: unknown key, did you mean \"enabled\"?"},
    {LIMITS("\"lease_per_user\":3"),
     "a.json:2: limits.lease_per_user: unknown key, did you mean \"leases_per_user\"?"},

    /* service types */
    {"{\"service_types\":[]}", "a.json:1: service_types: must be an object, { ... }, not an array"},
    {"{\"service_types\":null}", "a.json:1: service_types: must be an object, { ... }, not null"},
    {TYPES("\"\":{}"),
     "a.json:1: service_types.\"\": the name of a service type is 1 to 50 letters"},
    {TYPES("\"a_b\":{}"), "a.json:1: service_types.a_b: the name of a service type is"},
    {TYPES("\"\\u00e9\":{}"), "a.json:1: service_types.\"é\": the name of a service type is"},
    {TYPES("\"a12345678901234567890123456789012345678901234567890\":{}"),
     "a.json:1: service_types.a12345678901234567890123456789012345678901234567890: the name of a"},
    {TYPES("\"dev\":true"), "a.json:1: service_types.dev: must be an object, { ... }, not true"},
    {TYPES("\"dev\":{}"),
     "a.json:1: service_types.dev.port_range: is missing; give the type its ports as"},
    {TYPES("\"dev\":{\"port_range\":null}"), "a.json:1: service_types.dev.port_range: must be an "
                                             "array of two ports, [first, last], not null"},
    {TYPES("\"dev\":{\"port_range\":3000}"), "a.json:1: service_types.dev.port_range: must be an "
                                             "array of two ports, [first, last], not 3000"},
    {TYPES("\"dev\":{\"port_range\":\"3000-3099\"}"),
     "a.json:1: service_types.dev.port_range: must be an array of two ports, [first, last], not "
     "the s"},
    {TYPES("\"dev\":{\"port_range\":[]}"),
     "a.json:1: service_types.dev.port_range: must be two ports, [first, last], not 0"},
    {TYPES("\"dev\":{\"port_range\":[1,2,3]}"),
     "a.json:1: service_types.dev.port_range: must be two ports, [first, last], not 3"},
    {TYPES("\"dev\":{\"port_range\":[0,\n10]}"),
     "a.json:1: service_types.dev.port_range[0]: must be a whole number from 1 to 65535, not 0"},
    {TYPES("\"dev\":{\"port_range\":[1,\n65536]}"),
     "a.json:2: service_types.dev.port_range[1]: must be a whole number from 1 to 65535, not "
     "65536"},
    {TYPES("\"dev\":{\"port_range\":[-1,5]}"),
     "a.json:1: service_types.dev.port_range[0]: must be a whole number from 1 to 65535, not -1"},
    {TYPES("\"dev\":{\"port_range\":[1e3,5]}"),
     "a.json:1: service_types.dev.port_range[0]: must be a whole number from 1 to 65535, not 1e3"},
    {TYPES("\"dev\":{\"port_range\":[3000.0,5]}"),
     "a.json:1: service_types.dev.port_range[0]: must be a whole number from 1 to 65535, not "
     "3000.0"},
    {TYPES("\"dev\":{\"port_range\":[99999999999999999999999999,5]}"),
     "a.json:1: service_types.dev.port_range[0]: must be a whole number from 1 to 65535, not "
     "999999999"},
    {TYPES("\"dev\":{\"port_range\":[\"1\",5]}"),
     "a.json:1: service_types.dev.port_range[0]: must be a whole number from 1 to 65535, not the "
     "stri"},
    {TYPES("\"dev\":{\"port_range\":[3099,3000]}"),
     "a.json:1: service_types.dev.port_range: the first port, 3099, is above the last, 3000; write "
     "[3"},
    {DEV_WITH("\"preferred_ports\":3000"), "a.json:2: service_types.dev.preferred_ports: must be "
                                           "an array of ports, [3000, 3001], not 3000"},
    {DEV_WITH("\"preferred_ports\":[3000,\n3.7]"),
     "a.json:3: service_types.dev.preferred_ports[1]: must be a whole number from 1 to 65535, not "
     "3.7"},
    {DEV_WITH("\"preferred_ports\":[3000,\n70000]"),
     "a.json:3: service_types.dev.preferred_ports[1]: must be a whole number from 1 to 65535, not "
     "700"},
    {DEV_WITH("\"preferred_ports\":[3000,\n3001,\n3000]"),
     "a.json:4: service_types.dev.preferred_ports[2]: port 3000 is listed twice"},
    {DEV_WITH("\"protocol\":\"TCP\""), "a.json:2: service_types.dev.protocol: must be \"tcp\", "
                                       "\"udp\" or \"both\", not the string \"TCP\""},
    {DEV_WITH("\"protocol\":6"),
     "a.json:2: service_types.dev.protocol: must be \"tcp\", \"udp\" or \"both\", not 6"},
    {DEV_WITH("\"instance_behavior\":\"singleton\""),
     "a.json:2: service_types.dev.instance_behavior: must be \"multi\" or \"single\", not the "
     "string \"si"},
    {DEV_WITH("\"instance_behavior\":true"),
     "a.json:2: service_types.dev.instance_behavior: must be \"multi\" or \"single\", not true"},
    {DEV_WITH("\"description\":1"),
     "a.json:2: service_types.dev.description: must be a string, not 1"},
    {DEV_WITH("\"description\":\"a\\nb\""), "a.json:2: service_types.dev.description: must be one "
                                            "line of printable characters, not the stri"},
    {DEV_WITH("\"health\":[]"),
     "a.json:2: service_types.dev.health: must be an object, { ... }, not an array"},
    {DEV_WITH("\"health\":{\"max_failures\":0}"),
     "a.json:2: service_types.dev.health.max_failures: must be a whole number from 1 to 1000, not "
     "0"},

    /* plain values */
    {WITH("\"recovery\":null"), "a.json:2: recovery: must be an object, { ... }, not null"},
    {CONFLICT("\"enabled\":1"),
     "a.json:3: recovery.port_conflict.enabled: must be true or false, not 1"},
    {CONFLICT("\"enabled\":\"yes\""),
     "a.json:3: recovery.port_conflict.enabled: must be true or false, not the string \"yes\""},
    {CONFLICT("\"max_retries\":21"),
     "a.json:3: recovery.port_conflict.max_retries: must be a whole number from 0 to 20, not 21"},
    {CONFLICT("\"backoff_ms\":0"),
     "a.json:3: recovery.port_conflict.backoff_ms: must be a whole number from 1 to 60000, not 0"},
    {CONFLICT("\"backoff_multiplier\":0.5"),
     "a.json:3: recovery.port_conflict.backoff_multiplier: must be a number from 1 to 10, not 0.5"},
    {CONFLICT("\"backoff_multiplier\":1e999"),
     "a.json:3: recovery.port_conflict.backoff_multiplier: must be a number from 1 to 10, not "
     "1e999"},
    {CONFLICT("\"backoff_multiplier\":\"2\""),
     "a.json:3: recovery.port_conflict.backoff_multiplier: must be a number from 1 to 10, not the "
     "st"},
    {CONFLICT("\"cooldown_ms\":86400001"), "a.json:3: recovery.port_conflict.cooldown_ms: must be "
                                           "a whole number from 0 to 86400000, not 8"},
    {CONFLICT("\"max_retries\":20,\"backoff_multiplier\":3"),
     "a.json:3: recovery.port_conflict: the pauses of 20 retries from 100 ms on, each 3 times the "
     "on"},
    {HEALTH("\"check_interval_ms\":0"), "a.json:3: recovery.health_monitoring.check_interval_ms: "
                                        "must be a whole number from 10 to 8640"},
    {HEALTH("\"check_interval_ms\":1e4"), "a.json:3: recovery.health_monitoring.check_interval_ms: "
                                          "must be a whole number from 10 to 8640"},
    {HEALTH("\"check_interval_ms\":null"),
     "a.json:3: recovery.health_monitoring.check_interval_ms: must be a whole number from 10 to "
     "8640"},
    {HEALTH("\"max_failures\":0"), "a.json:3: recovery.health_monitoring.max_failures: must be a "
                                   "whole number from 1 to 1000, not 0"},
    {HEALTH("\"startup_grace_ms\":-1"), "a.json:3: recovery.health_monitoring.startup_grace_ms: "
                                        "must be a whole number from 0 to 864000"},
    {HEALTH("\"process_grace_ms\":4294967296"),
     "a.json:3: recovery.health_monitoring.process_grace_ms: must be a whole number from 0 to "
     "864000"},
    {HEALTH("\"http_timeout_ms\":0"), "a.json:3: recovery.health_monitoring.http_timeout_ms: must "
                                      "be a whole number from 10 to 300000"},
    {HEALTH("\"allow_other_local_ports\":0"),
     "a.json:3: recovery.health_monitoring.allow_other_local_ports: must be true or false, not 0"},
    {SYSTEM("\"max_recovery_attempts\":0"),
     "a.json:3: recovery.system_recovery.max_recovery_attempts: must be a whole number from 1 to "
     "100"},
    {WITH("\"limits\":7"), "a.json:2: limits: must be an object, { ... }, not 7"},
    {LIMITS("\"leases_per_user\":0"),
     "a.json:2: limits.leases_per_user: must be a whole number from 1 to 65535, not 0"},
    {LIMITS("\"message_bytes\":1"),
     "a.json:2: limits.message_bytes: must be a whole number from 4096 to 16777216, not 1"},

    /* auto-allocation */
    {AUTO("\"port_range\":[20000]"),
     "a.json:2: auto_allocation.port_range: must be two ports, [first, last], not 1"},
    {AUTO("\"chunk_size\":0"),
     "a.json:2: auto_allocation.chunk_size: must be a whole number from 1 to 655"},
    {AUTO("\"chunk_size\":12001"), "a.json:2: auto_allocation.chunk_size: a chunk of 12001 ports "
                                   "does not fit into the 12000 ports"},
    {AUTO("\"port_range\":[20000,20008]"),
     "a.json:2: auto_allocation.port_range: a chunk of 10 ports does not fit into the 9 ports of"},
    {AUTO("\"rules\":[]"),
     "a.json:2: auto_allocation.rules: must be an object, { ... }, not an array"},
    {AUTO("\"rules\":{\"a-*\":20}"),
     "a.json:2: auto_allocation.rules.a-*: must be an object, { ... }, not 20"},
    {AUTO("\"rules\":{\"a-*\":{}}"),
     "a.json:2: auto_allocation.rules.a-*.chunk_size: is missing; say how"},
    {AUTO("\"rules\":{\"a_*\":{\"chunk_size\":1}}"),
     "a.json:2: auto_allocation.rules.a_*: a pattern is 1 to 50"},
    {AUTO("\"rules\":{\"\":{\"chunk_size\":1}}"),
     "a.json:2: auto_allocation.rules.\"\": a pattern is 1 to 50"},
    {AUTO("\"rules\":{\"a\":{\"chunk_size\":2},\n\"b\":{\"chunk_size\":12001}}"),
     "a.json:3: auto_allocation.rules.b.chunk_size: a chunk of 12001 ports does not fit"},

    /* overlaps */
    {TYPES(DEV ",\n\"x\":{\"port_range\":[3099,3100]}"),
     "a.json:2: service_types.x.port_range: 3099-3100 overlaps 3000-3099 of "
     "service_types.dev.port_range "
     "(a.json:1); 1024-1025 is free, for example"},
    {TYPES("\"x\":{\"port_range\":[3099,3100]},\n" DEV),
     "a.json:2: service_types.dev.port_range: 3000-3099 overlaps 3099-3100 of "
     "service_types.x.port_range "
     "(a.json:1); 1024-1123 is free, for example"},
    {TYPES(DEV ",\n\"x\":{\"port_range\":[3050,3050]}"),
     "a.json:2: service_types.x.port_range: 3050-3050 overlaps 3000-3099 of"},
    {TYPES("\"x\":{\"port_range\":[1,65535]}"),
     "a.json:1: service_types.x.port_range: 1-65535 overlaps 20000-31999 of "
     "auto_allocation.port_range "
     "(the default); no 65535 consecutive ports are free, make one of them smaller"},
    {AUTO("\"port_range\":[3000,3999]"), "a.json:2: auto_allocation.port_range: 3000-3999 overlaps "
                                         "3000-3099 of service_types.dev.port_range"},
    {TYPES("\"a\":{\"port_range\":[1,1023]},\"b\":{\"port_range\":[1024,60000]}"),
     "a.json:1: service_types.b.port_range: 1024-60000 overlaps 20000-31999 of "
     "auto_allocation.port_range"},

    /* preferred ports */
    {TYPES(DEV ",\n\"x\":{\"port_range\":[1,9],\"preferred_ports\":[1,\n3000]}"),
     "a.json:3: service_types.x.preferred_ports[1]: port 3000 belongs to 3000-3099 of "
     "service_types.dev.port_range (a.json:1); choose one of 1-9 or one that is in no range"},
    {DEV_WITH("\"preferred_ports\":[20000]"),
     "a.json:2: service_types.dev.preferred_ports[0]: port 20000 belongs to 20000-31999 of "
     "auto_allocation.port_range (the default)"},
};

static void test_bad(void)
{
    for (size_t i = 0; i < G_N_ELEMENTS(bad); i++)
        assert_bad(bad[i].text, NULL, bad[i].message);
    {
        g_autoptr(GError) error = NULL;

        g_assert_null(configuration_parse(NULL, 0, &error));
        g_assert_true(error->domain == CONFIGURATION_ERROR);
    }
}

static void test_bad_merged(void)
{
    static const struct {
        const char *a, *b, *message;
    } cases[] = {
        {TYPES(DEV), "", "b.json:1: top level: nothing there"},
        {TYPES(DEV), "[]", "b.json:1: top level: must be an object"},
        {TYPES(DEV), "{\n\"service_types\":{\"dev\":{\n\"port_range\":[0,1]}}}",
         "b.json:3: service_types.dev.port_range[0]: "},
        {TYPES(DEV), "{\n\"service_types\":null}", "b.json:1: service_types: is missing"},
        {TYPES(DEV), "{\"service_types\":{\n\"dev\":{\"port_range\":null}}}",
         "b.json:2: service_types.dev.port_range: is missing"},
        {TYPES(DEV), "{\n\"recovry\":null}", "b.json:2: recovry: unknown key, did you mean"},
        {TYPES(DEV), "{\"service_types\":{\"dev\":{\n\"x\":null}}}",
         "b.json:2: service_types.dev.x: unknown key"},
        {TYPES(DEV), "{\"service_types\":{\"dev\":{\"preferred_ports\":[\nnull]}}}",
         "b.json:2: service_types.dev.preferred_ports[0]: must be a whole number"},
        {TYPES(DEV), "{\"service_types\":{\n\"new\":{\"port_range\":null}}}",
         "b.json:2: service_types.new.port_range: is missing"},
        /* The later file is to blame for an overlap, whatever the order of the ranges. */
        {"{\n\n\"service_types\":{" DEV "}}",
         "{\"service_types\":{\n\"x\":{\"port_range\":[2900,3000]}}}",
         "b.json:2: service_types.x.port_range: 2900-3000 overlaps 3000-3099 of "
         "service_types.dev.port_range (a.json:3); "},
        {"{\n\n\"service_types\":{" DEV "}}",
         "{\"service_types\":{\n\"x\":{\"port_range\":[3099,3100]}}}",
         "b.json:2: service_types.x.port_range: 3099-3100 overlaps 3000-3099 of"},
        {TYPES("\"x\":{\"port_range\":[40000,40009]}"),
         "{\"auto_allocation\":{\n\"port_range\":[40000,41000]}}",
         "b.json:2: auto_allocation.port_range: 40000-41000 overlaps 40000-40009 of"},
        {TYPES("\"x\":{\"port_range\":[20000,20009]}"), "{}",
         "a.json:1: service_types.x.port_range: 20000-20009 overlaps 20000-31999 of"},
    };

    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++)
        assert_bad(cases[i].a, cases[i].b, cases[i].message);
}

static void test_defaults(void)
{
    static const char *const texts[] = {
        TYPES(DEV),
        WITH("\"auto_allocation\":{},\"recovery\":{},\"limits\":{}"),
        WITH("\"recovery\":{\"port_conflict\":{},\"health_monitoring\":{},\"system_recovery\":{}}"),
    };

    for (size_t i = 0; i < G_N_ELEMENTS(texts); i++) {
        g_autoptr(Configuration) config = parse_good(texts[i], NULL, NULL);
        const ServiceType *type = configuration_find_type(config, "dev");

        g_assert_cmpuint(config->service_types->len, ==, 1);
        g_assert_true(type == config->service_types->pdata[0]);
        g_assert_null(configuration_find_type(config, "de"));
        g_assert_cmpstr(type->name, ==, "dev");
        g_assert_null(type->description);
        g_assert_cmpuint(type->n_preferred_ports, ==, 0);
        g_assert_cmpuint(type->range.first, ==, 3000);
        g_assert_cmpuint(type->range.last, ==, 3099);
        g_assert_cmpint(type->protocol, ==, PROTOCOL_TCP);
        g_assert_false(type->single);
        g_assert_cmpmem(&type->health, sizeof(HealthSettings), &config->health,
                        sizeof(HealthSettings));
        g_assert_true(config->auto_enabled);
        g_assert_cmpuint(config->auto_range.first, ==, 20000);
        g_assert_cmpuint(config->auto_range.last, ==, 31999);
        g_assert_cmpuint(config->auto_chunk_size, ==, 10);
        g_assert_cmpuint(config->n_auto_rules, ==, 0);
        g_assert_true(config->conflict_enabled);
        g_assert_cmpuint(config->conflict_max_retries, ==, 3);
        g_assert_cmpuint(config->conflict_backoff_msec, ==, 100);
        g_assert_cmpfloat_with_epsilon(config->conflict_backoff_multiplier, 2, 1e-15);
        g_assert_cmpuint(config->conflict_cooldown_msec, ==, 30000);
        g_assert_true(config->health_enabled);
        g_assert_cmpuint(config->health_check_interval_msec, ==, 30000);
        g_assert_cmpuint(config->health.max_failures, ==, 3);
        g_assert_true(config->health.cleanup_stale_allocations);
        g_assert_cmpuint(config->health.startup_grace_msec, ==, 60000);
        g_assert_cmpuint(config->health.process_grace_msec, ==, 2000);
        g_assert_cmpuint(config->health.http_timeout_msec, ==, 5000);
        g_assert_false(config->health_any_local_port);
        g_assert_true(config->system_enabled);
        g_assert_true(config->system_run_on_startup);
        g_assert_true(config->system_backup_corrupted_state);
        g_assert_cmpuint(config->system_max_recovery_attempts, ==, 3);
        g_assert_cmpuint(config->limit_leases_per_user, ==, 256);
        g_assert_cmpuint(config->limit_auto_types_per_user, ==, 32);
        g_assert_cmpuint(config->limit_sticky_ports_per_user, ==, 512);
        g_assert_cmpuint(config->limit_pending_requests_per_connection, ==, 64);
        g_assert_cmpuint(config->limit_direct_connections, ==, 512);
        g_assert_cmpuint(config->limit_direct_connections_per_user, ==, 128);
        g_assert_cmpuint(config->limit_held_sockets, ==, 4096);
        g_assert_cmpuint(config->limit_block_size, ==, 128);
        g_assert_cmpuint(config->limit_message_bytes, ==, 65536);
        g_assert_cmpstr(config->files[0], ==, "a.json");
        g_assert_null(config->files[1]);
    }
}

#define FULL                                                                                      \
    "{\"service_types\":{"                                                                        \
    "\"zeta\":{\"description\":\"\\u00e9 \\\"q\\\" \\\\\",\"preferred_ports\":[7001,9,7000],"     \
    "\"port_range\":[7000,7009],\"protocol\":\"both\",\"instance_behavior\":\"single\","          \
    "\"health\":{\"max_failures\":9,\"cleanup_stale_allocations\":true,\"startup_grace_ms\":0,"   \
    "\"process_grace_ms\":1,\"http_timeout_ms\":10}},"                                            \
    "\"alpha\":{\"port_range\":[65535,65535],\"protocol\":\"udp\",\"health\":{"                   \
    "\"process_grace_ms\":5}}},"                                                                  \
    "\"auto_allocation\":{\"enabled\":false,\"port_range\":[1,65535],\"chunk_size\":65535,"       \
    "\"rules\":{\"z*\":{\"chunk_size\":1},\"a-?\":{\"chunk_size\":2},\"*\":{\"chunk_size\":3}}}," \
    "\"recovery\":{\"port_conflict\":{\"enabled\":false,\"max_retries\":0,\"backoff_ms\":1,"      \
    "\"backoff_multiplier\":1.1,\"cooldown_ms\":0},"                                              \
    "\"health_monitoring\":{\"enabled\":false,\"check_interval_ms\":10,\"max_failures\":1,"       \
    "\"cleanup_stale_allocations\":false,\"startup_grace_ms\":7,\"process_grace_ms\":8,"          \
    "\"http_timeout_ms\":11,\"allow_other_local_ports\":true},"                                   \
    "\"system_recovery\":{\"enabled\":false,\"run_on_startup\":false,"                            \
    "\"backup_corrupted_state\":false,\"max_recovery_attempts\":100}},"                           \
    "\"limits\":{\"leases_per_user\":1,\"auto_types_per_user\":2,\"sticky_ports_per_user\":3,"    \
    "\"pending_requests_per_connection\":4,\"direct_connections\":5,"                             \
    "\"direct_connections_per_user\":6,\"held_sockets\":7,\"block_size\":8,"                      \
    "\"message_bytes\":4096}}"

static void assert_full(const Configuration *config)
{
    const ServiceType *alpha = config->service_types->pdata[0];
    const ServiceType *zeta = config->service_types->pdata[1];

    g_assert_cmpuint(config->service_types->len, ==, 2);
    g_assert_cmpstr(alpha->name, ==, "alpha");
    g_assert_cmpuint(alpha->range.first, ==, 65535);
    g_assert_cmpuint(alpha->range.last, ==, 65535);
    g_assert_cmpint(alpha->protocol, ==, PROTOCOL_UDP);
    g_assert_false(alpha->single);
    g_assert_cmpuint(alpha->health.max_failures, ==, 1);
    g_assert_false(alpha->health.cleanup_stale_allocations);
    g_assert_cmpuint(alpha->health.startup_grace_msec, ==, 7);
    g_assert_cmpuint(alpha->health.process_grace_msec, ==, 5);
    g_assert_cmpuint(alpha->health.http_timeout_msec, ==, 11);
    g_assert_cmpstr(zeta->name, ==, "zeta");
    g_assert_cmpstr(zeta->description, ==, "\xc3\xa9 \"q\" \\");
    g_assert_cmpuint(zeta->n_preferred_ports, ==, 3);
    g_assert_cmpuint(zeta->preferred_ports[0], ==, 7001);
    g_assert_cmpuint(zeta->preferred_ports[1], ==, 9);
    g_assert_cmpuint(zeta->preferred_ports[2], ==, 7000);
    g_assert_cmpint(zeta->protocol, ==, PROTOCOL_BOTH);
    g_assert_true(zeta->single);
    g_assert_cmpuint(zeta->health.max_failures, ==, 9);
    g_assert_true(zeta->health.cleanup_stale_allocations);
    g_assert_cmpuint(zeta->health.startup_grace_msec, ==, 0);
    g_assert_cmpuint(zeta->health.process_grace_msec, ==, 1);
    g_assert_cmpuint(zeta->health.http_timeout_msec, ==, 10);

    g_assert_false(config->auto_enabled);
    g_assert_cmpuint(config->auto_range.first, ==, 1);
    g_assert_cmpuint(config->auto_range.last, ==, 65535);
    g_assert_cmpuint(config->auto_chunk_size, ==, 65535);
    g_assert_cmpuint(config->n_auto_rules, ==, 3);
    g_assert_cmpstr(config->auto_rules[0].pattern, ==, "z*");
    g_assert_cmpuint(config->auto_rules[0].chunk_size, ==, 1);
    g_assert_cmpstr(config->auto_rules[1].pattern, ==, "a-?");
    g_assert_cmpuint(config->auto_rules[1].chunk_size, ==, 2);
    g_assert_cmpstr(config->auto_rules[2].pattern, ==, "*");
    g_assert_cmpuint(config->auto_rules[2].chunk_size, ==, 3);

    g_assert_false(config->conflict_enabled);
    g_assert_cmpuint(config->conflict_max_retries, ==, 0);
    g_assert_cmpuint(config->conflict_backoff_msec, ==, 1);
    g_assert_cmpfloat_with_epsilon(config->conflict_backoff_multiplier, 1.1, 1e-15);
    g_assert_cmpuint(config->conflict_cooldown_msec, ==, 0);
    g_assert_false(config->health_enabled);
    g_assert_cmpuint(config->health_check_interval_msec, ==, 10);
    g_assert_cmpuint(config->health.max_failures, ==, 1);
    g_assert_false(config->health.cleanup_stale_allocations);
    g_assert_cmpuint(config->health.startup_grace_msec, ==, 7);
    g_assert_cmpuint(config->health.process_grace_msec, ==, 8);
    g_assert_cmpuint(config->health.http_timeout_msec, ==, 11);
    g_assert_true(config->health_any_local_port);
    g_assert_false(config->system_enabled);
    g_assert_false(config->system_run_on_startup);
    g_assert_false(config->system_backup_corrupted_state);
    g_assert_cmpuint(config->system_max_recovery_attempts, ==, 100);
    g_assert_cmpuint(config->limit_leases_per_user, ==, 1);
    g_assert_cmpuint(config->limit_auto_types_per_user, ==, 2);
    g_assert_cmpuint(config->limit_sticky_ports_per_user, ==, 3);
    g_assert_cmpuint(config->limit_pending_requests_per_connection, ==, 4);
    g_assert_cmpuint(config->limit_direct_connections, ==, 5);
    g_assert_cmpuint(config->limit_direct_connections_per_user, ==, 6);
    g_assert_cmpuint(config->limit_held_sockets, ==, 7);
    g_assert_cmpuint(config->limit_block_size, ==, 8);
    g_assert_cmpuint(config->limit_message_bytes, ==, 4096);
}

static void test_full(void)
{
    g_autoptr(Configuration) config = parse_good(FULL, NULL, NULL), again = NULL, defaults = NULL;
    g_autofree char *text = configuration_to_json(config), *text_again = NULL;

    assert_full(config);
    again = parse_good(text, NULL, NULL);
    assert_full(again);
    text_again = configuration_to_json(again);
    g_assert_cmpstr(text, ==, text_again);

    /* Everything is written out, so a complete text on top of another leaves nothing of that. */
    defaults = parse_good(WITH("\"auto_allocation\":{\"enabled\":false}"), text,
                          "{\"service_types\":{\"dev\":null}}");
    assert_full(defaults);
    g_assert_cmpstr(defaults->files[0], ==, "a.json");
    g_assert_cmpstr(defaults->files[2], ==, "c.json");
    g_assert_null(defaults->files[3]);
}

static void test_partial_recovery(void)
{
    g_autoptr(Configuration) config = parse_good(
        HEALTH("\"max_failures\":7"), "{\"recovery\":{\"port_conflict\":{\"backoff_ms\":5}}}",
        "{\"recovery\":{\"health_monitoring\":{\"process_grace_ms\":9}}}");

    g_assert_cmpuint(config->health.max_failures, ==, 7);
    g_assert_cmpuint(config->health.process_grace_msec, ==, 9);
    g_assert_cmpuint(config->health.startup_grace_msec, ==, 60000);
    g_assert_cmpuint(config->health_check_interval_msec, ==, 30000);
    g_assert_true(config->health_enabled);
    g_assert_cmpuint(config->conflict_backoff_msec, ==, 5);
    g_assert_cmpuint(config->conflict_max_retries, ==, 3);
    g_assert_cmpuint(config->system_max_recovery_attempts, ==, 3);
}

static void test_merge(void)
{
    g_autoptr(Configuration) config = parse_good(
        TYPES("\"dev\":{\"description\":\"old\",\"preferred_ports\":[3001,3002],"
              "\"port_range\":[3000,3099],\"health\":{\"max_failures\":5}},"
              "\"gone\":{\"port_range\":[4000,4009]},"
              "\"replaced\":{\"port_range\":[5000,5009],\"protocol\":\"udp\"}"),
        "{\"service_types\":{\"dev\":{\"preferred_ports\":[3003],\"description\":null,"
        "\"health\":{\"process_grace_ms\":6}},"
        "\"gone\":null,\"never-there\":null,\"replaced\":null,"
        "\"new\":{\"port_range\":[4000,4009],\"protocol\":null,\"health\":{"
        "\"max_failures\":null}}},"
        "\"auto_allocation\":{\"rules\":{\"b\":{\"chunk_size\":1},\"a*\":{\"chunk_size\":2}}}}",
        "{\"service_types\":{\"replaced\":{\"port_range\":[5000,5010]}},"
        "\"auto_allocation\":{\"rules\":{\"c\":{\"chunk_size\":3},\"b\":{\"chunk_size\":4},"
        "\"a*\":null}},\"limits\":null}");
    const ServiceType *dev = configuration_find_type(config, "dev");
    const ServiceType *new = configuration_find_type(config, "new");
    const ServiceType *replaced = configuration_find_type(config, "replaced");

    g_assert_cmpuint(config->service_types->len, ==, 3);
    g_assert_null(dev->description);
    g_assert_cmpuint(dev->n_preferred_ports, ==, 1);
    g_assert_cmpuint(dev->preferred_ports[0], ==, 3003);
    g_assert_cmpuint(dev->range.last, ==, 3099);
    g_assert_cmpuint(dev->health.max_failures, ==, 5);
    g_assert_cmpuint(dev->health.process_grace_msec, ==, 6);
    g_assert_cmpint(new->protocol, ==, PROTOCOL_TCP);
    g_assert_cmpuint(new->health.max_failures, ==, 3);
    g_assert_null(configuration_find_type(config, "gone"));
    g_assert_cmpint(replaced->protocol, ==, PROTOCOL_TCP);
    g_assert_cmpuint(replaced->range.last, ==, 5010);
    g_assert_cmpuint(config->n_auto_rules, ==, 2);
    g_assert_cmpstr(config->auto_rules[0].pattern, ==, "b");
    g_assert_cmpuint(config->auto_rules[0].chunk_size, ==, 4);
    g_assert_cmpstr(config->auto_rules[1].pattern, ==, "c");
    g_assert_cmpuint(config->limit_block_size, ==, 128);
}

static void test_allowed(void)
{
    static const char *const texts[] = {
        "{\"service_types\":{}}",
        TYPES("\"a\":{\"port_range\":[1,19999]},\"b\":{\"port_range\":[32000,65535]}"),
        TYPES("\"a-1\":{\"port_range\":[7,7],\"preferred_ports\":[7,8,65535]}"),
        "{\"service_types\":{\"a\":{\"port_range\":[1,65535]}},\"auto_allocation\":{\"enabled\":"
        "false}}",
        AUTO("\"enabled\":false,\"port_range\":[20000,20000]"),
        CONFLICT("\"max_retries\":20,\"backoff_multiplier\":1"),
        CONFLICT("\"backoff_multiplier\":0.25e1"),
    };

    for (size_t i = 0; i < G_N_ELEMENTS(texts); i++) {
        g_autoptr(Configuration) config = parse_good(texts[i], NULL, NULL);

        g_assert_true(configuration_ref(config) == config);
        g_assert_null(configuration_unref(config));
    }
    g_assert_null(configuration_unref(NULL));
}

static void test_chunk_size(void)
{
    g_autoptr(Configuration) config = parse_good(
        AUTO("\"rules\":{\"monitoring-*\":{\"chunk_size\":20},\"monitoring-x\":{\"chunk_size\":1},"
             "\"a?c\":{\"chunk_size\":2},\"*-db\":{\"chunk_size\":3},\"x*y*z\":{\"chunk_size\":4},"
             "\"*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*b\":{\"chunk_size\":5}}"),
        NULL, NULL);
    static const struct {
        const char *name;
        guint32 size;
    } cases[] = {
        {"monitoring-x", 20}, {"monitoring-", 20},
        {"monitoring", 10},   {"xmonitoring-", 10},
        {"abc", 2},           {"ac", 10},
        {"abbc", 10},         {"my-db", 3},
        {"-db", 3},           {"my-dbx", 10},
        {"my-db-db", 3},      {"xyz", 4},
        {"x1y2y3z", 4},       {"xzy", 10},
        {"xz", 10},           {"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", 10},
    };

    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_test_message("%s", cases[i].name);
        g_assert_cmpuint(configuration_chunk_size(config, cases[i].name), ==, cases[i].size);
    }
}

/* What comes from /dev/urandom or from an editor gone wrong. */
static void test_absurd(void)
{
    enum { BRACKETS = 80000 };
    g_autoptr(GString) text = g_string_new("{\"service_types\":{\"dev\":{\"port_range\":");
    g_autoptr(GError) error = NULL;
    ConfigurationSource source;

    for (int i = 0; i < BRACKETS; i++)
        g_string_append_c(text, '[');
    assert_bad(text->str, NULL, "a.json:1: service_types.dev.port_range[0][0][0]");

    g_string_truncate(text, 0);
    for (int i = 0; i < BRACKETS; i++)
        g_string_append(text, "{\"\":");
    assert_bad(text->str, NULL, "a.json:1: \"\".\"\".\"\"");

    g_string_truncate(text, 0);
    g_string_append_c(text, '{');
    for (int i = 0; i <= CONFIGURATION_MEMBERS_MAX; i++)
        g_string_append_printf(text, "%s\n\"%d\":0", i ? "," : "", i);
    g_string_append_c(text, '}');
    assert_bad(text->str, NULL, "a.json:4098: 4096: one more than the 4096 members");

    g_string_assign(text, TYPES(DEV));
    for (size_t length = text->len; length <= CONFIGURATION_BYTES_MAX; length++)
        g_string_append_c(text, ' ');
    assert_bad(text->str, NULL, "a.json:1: top level: larger than 1048576 bytes");
    g_string_truncate(text, CONFIGURATION_BYTES_MAX);
    source = (ConfigurationSource){"a.json", text->str, text->len};
    {
        g_autoptr(Configuration) config = configuration_parse(&source, 1, &error);

        g_assert_no_error(error);
        g_assert_nonnull(config);
    }
    text->str[20] = '\0';
    g_assert_null(configuration_parse(&source, 1, &error));
    g_assert_true(g_str_has_prefix(error->message, "a.json:1: top level: a NUL byte (column 21)"));
}

/* Every cut of a good text is a bad one, and says where. */
static void test_cuts(void)
{
    size_t length = strlen(FULL);

    for (size_t cut = 0; cut < length; cut++) {
        g_autofree char *text = g_memdup2(FULL, cut);
        ConfigurationSource source = {"a.json", text, cut};
        g_autoptr(GError) error = NULL;

        g_assert_null(configuration_parse(&source, 1, &error));
        g_assert_true(g_str_has_prefix(error->message, "a.json:1: "));
    }
}

/* The file that is installed: every default in it is the one that holds without it. */
static void test_installed(void)
{
    g_autofree char *text = NULL, *round = NULL, *bare = NULL, *unset = NULL;
    g_autoptr(Configuration) config = NULL, again = NULL, defaults = NULL;
    static const struct {
        const char *name;
        guint16 first, last, preferred;
    } types[] = {
        {"ai", 11400, 11499, 11430},
        {"api", 8000, 8099, 8000},
        {"auth", 9099, 9199, 9099},
        {"build", 8200, 8299, 8200},
        {"coordination", 9870, 9899, 9870},
        {"database", 5430, 5499, 5430},
        {"dev", 3000, 3099, 3000},
        {"docs", 4100, 4199, 4100},
        {"functions", 5000, 5099, 5001},
        {"hub", 4400, 4499, 4400},
        {"infrastructure", 6370, 6399, 6370},
        {"messaging", 9050, 9098, 9050},
        {"monitoring", 3100, 3199, 3100},
        {"proxy", 8100, 8199, 8100},
        {"storybook", 6006, 6029, 6006},
        {"test", 9200, 9299, 9200},
        {"ui", 4000, 4099, 4000},
    };

    g_assert_true(g_file_get_contents(STYXY_TEST_DATA "/core-ports.json", &text, NULL, NULL));
    config = parse_good(text, NULL, NULL);
    g_assert_cmpuint(config->service_types->len, ==, G_N_ELEMENTS(types));
    for (size_t i = 0; i < G_N_ELEMENTS(types); i++) {
        const ServiceType *type = config->service_types->pdata[i];

        g_assert_cmpstr(type->name, ==, types[i].name);
        g_assert_nonnull(type->description);
        g_assert_cmpuint(type->range.first, ==, types[i].first);
        g_assert_cmpuint(type->range.last, ==, types[i].last);
        g_assert_cmpint(type->protocol, ==, PROTOCOL_TCP);
        g_assert_cmpint(type->single, ==, g_str_equal(type->name, "ai"));
        g_assert_cmpuint(type->n_preferred_ports, ==, 4);
        for (guint k = 0; k < 4; k++)
            g_assert_cmpuint(type->preferred_ports[k], ==, types[i].preferred + k);
    }
    g_assert_cmpuint(configuration_chunk_size(config, "monitoring-x"), ==, 20);
    g_assert_cmpuint(configuration_chunk_size(config, "database-x"), ==, 5);
    g_assert_cmpuint(configuration_chunk_size(config, "other"), ==, 10);

    round = configuration_to_json(config);
    again = parse_good(round, NULL, NULL);
    unset = configuration_to_json(again);
    g_assert_cmpstr(round, ==, unset);

    g_clear_pointer(&unset, g_free);
    g_clear_pointer(&again, configuration_unref);
    again =
        parse_good(text, "{\"service_types\":{\"dev\":{}},\"auto_allocation\":{\"rules\":null}}",
                   "{\"auto_allocation\":null,\"recovery\":null,\"limits\":null}");
    unset = configuration_to_json(again);
    defaults = parse_good(text, "{\"auto_allocation\":{\"rules\":null}}", NULL);
    bare = configuration_to_json(defaults);
    g_assert_cmpstr(bare, ==, unset);

    /* And it shows every key there is. */
    {
        g_auto(GStrv) lines = g_strsplit(bare, "\n", -1);

        for (char **line = lines; *line; line++) {
            const char *colon = strchr(*line, ':');
            g_autofree char *key = colon ? g_strndup(*line, (size_t)(colon - *line)) : NULL;

            g_assert_true(!key || strstr(text, g_strstrip(key)));
        }
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/configuration/defaults", test_defaults);
    g_test_add_func("/configuration/full", test_full);
    g_test_add_func("/configuration/partial-recovery", test_partial_recovery);
    g_test_add_func("/configuration/merge", test_merge);
    g_test_add_func("/configuration/allowed", test_allowed);
    g_test_add_func("/configuration/bad", test_bad);
    g_test_add_func("/configuration/bad-merged", test_bad_merged);
    g_test_add_func("/configuration/chunk-size", test_chunk_size);
    g_test_add_func("/configuration/absurd", test_absurd);
    g_test_add_func("/configuration/cuts", test_cuts);
    g_test_add_func("/configuration/installed", test_installed);
    return g_test_run();
}
