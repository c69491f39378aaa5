/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Every kind of line that is written, as the journal gets it, held against the catalog: one entry a
 * MESSAGE_ID and no other, and in its text only fields that every such line has.
 *
 * usage: test-events CATALOG...
 */
#include <errno.h>
#include <string.h>
#include <time.h>

#include "recovery/event-fields.h"
#include "recovery/events.h"
#include "recovery/message-ids.h"
#include "recovery/metrics.h"
#include "recovery/startup.h"
#include "util/log.h"

/* What the log must never hold: it has other readers than the owner of a lease. */
#define SECRET "s3cret"

typedef struct Line {
    int priority;
    char *id;           /* NULL = has none */
    GHashTable *fields; /* name -> value */
} Line;

static GPtrArray *lines; /* of Line */
static gint64 clock_ahead_usec;

/* In place of GLib's, for the code under test: an interval goes by when the test says so. */
gint64 g_get_monotonic_time(void)
{
    struct timespec now;

    g_assert_cmpint(clock_gettime(CLOCK_MONOTONIC, &now), ==, 0);
    return (gint64)now.tv_sec * G_USEC_PER_SEC + now.tv_nsec / 1000 + clock_ahead_usec;
}
static char **catalogs;

static void line_free(gpointer data)
{
    Line *line = data;

    g_free(line->id);
    g_hash_table_unref(line->fields);
    g_free(line);
}

static void keep_line(int priority, const GLogField *fields, size_t n_fields, void *data)
{
    Line *line = g_new0(Line, 1);

    line->priority = priority;
    line->fields = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
    for (size_t i = 0; i < n_fields; i++) {
        char *value = fields[i].length < 0 ? g_strdup(fields[i].value)
                                           : g_strndup(fields[i].value, (gsize)fields[i].length);

        g_assert_null(strstr(value, SECRET));
        if (strcmp(fields[i].key, "MESSAGE_ID") == 0)
            line->id = g_strdup(value);
        /* twice the same name and a reader would not know which to believe */
        g_assert_true(g_hash_table_insert(line->fields, g_strdup(fields[i].key), value));
    }
    g_ptr_array_add(lines, line);
}

static const char *field(const Line *line, const char *name)
{
    return g_hash_table_lookup(line->fields, name);
}

/* Nothing in it that may be absent. */
static Lease *plain_lease(void)
{
    Lease *lease = lease_new();

    lease->id = id_random();
    lease->port = 3000;
    lease->protocol = PROTOCOL_TCP;
    lease->uid = 1000;
    lease->health = HEALTH_FAILING;
    lease->service_type = g_ref_string_new("dev");
    lease->label = g_strdup(SECRET);
    lease->health_url = g_strdup("http://127.0.0.1:{port}/" SECRET);
    return lease;
}

static void write_about_leases(const Lease *lease, const GError *error)
{
    ConflictInfo unknown = {.port = 3000, .protocol = PROTOCOL_TCP, .service_type = "dev"};
    ConflictInfo known = {.port = 3000,
                          .protocol = PROTOCOL_TCP,
                          .service_type = "dev",
                          .error = EADDRINUSE,
                          .address = "0.0.0.0",
                          .unit = "nginx.service",
                          .has_uid = TRUE,
                          .uid = 33};
    LeaseRequest request = {.service_type = "dev", .uid = 1000, .label = SECRET};

    event_granted(lease, 1);
    event_released(lease, REASON_RELEASED, FALSE);
    event_released(lease, REASON_NOT_IN_USE, TRUE);
    event_conflict(&unknown);
    event_conflict(&known);
    event_no_port(&request, 3, 2);
    event_health(lease, HEALTH_ACTIVE, NULL);
    event_health(lease, HEALTH_ACTIVE, "nobody listens on its port");
    event_process_exited(lease);
    event_handover(lease);
    event_restarted(lease, "web.service", 1);
    event_restart_failed(lease, "web.service", error);
    event_mass_failure(20, 15, TRUE);
    event_mass_failure(20, 15, FALSE);
    event_http_unknown(lease, "no descriptor is left");
    event_hold_not_kept(lease, ENOSPC);
}

static void write_about_recovery(void)
{
    g_autoptr(RecoveryReport) report = recovery_report_new("startup", FALSE);

    event_recovery_started(report);
    for (StepResult result = STEP_OK; result <= STEP_FAILED; result++)
        recovery_report_add(report, RECOVERY_VALIDATE_STATE, result, "something");
    event_recovery_step(report, RECOVERY_VALIDATE_STATE);
    event_recovery_finished(report);
}

static void write_about_the_daemon(const GError *error)
{
    ConfigurationSource source = {.name = "test.json",
                                  .text = "{\"service_types\": {}}",
                                  .length = strlen("{\"service_types\": {}}")};
    g_autoptr(Configuration) config = configuration_parse(&source, 1, NULL);

    event_store_failed(error);
    event_store_works_again();
    event_snapshot_failed(error, 1500);
    event_sweep_failed(error);
    event_watch_failed(error);
    event_configuration_loaded(config);
    event_configuration_refused(error);
    event_configuration_invalid(error);
    event_daemon_failed(error);
    event_bus_unreachable(ECONNREFUSED, 1000);
    event_caller_not_served(":1.7");
    event_signal_lost("PortAllocated", ENOMEM);
    event_connections_paused(EMFILE);
    event_descriptor_unknown(3, "strange");
    event_setting_ignored("STYXY_IDLE_MSEC", "number of milliseconds");
    g_log_structured("Lib", G_LOG_LEVEL_MESSAGE, "MESSAGE", "from a library");
}

/* More lines than the limit lets through; the first after the pause says how many were left out. */
static void write_too_much(const Lease *lease)
{
    guint64 before = metrics_get(METRIC_LOG_LINES_SUPPRESSED);
    guint written = lines->len;
    guint64 left_out;

    for (guint i = 0; i < 1000; i++)
        event_granted(lease, 1);
    left_out = metrics_get(METRIC_LOG_LINES_SUPPRESSED) - before;
    g_assert_cmpuint(left_out, >, 0);
    g_assert_cmpuint(lines->len - written, ==, 1000 - left_out);
    written = lines->len;
    event_client_cut_off(65534, "a test");
    g_assert_cmpuint(lines->len - written, ==, 1); /* rare, and not lost among the others */
    clock_ahead_usec += G_GINT64_CONSTANT(3600) * G_USEC_PER_SEC;
    event_granted(lease, 1);
    g_assert_cmpstr(((Line *)lines->pdata[lines->len - 2])->id, ==, MESSAGE_LINES_SUPPRESSED);
}

static void write_all(void)
{
    g_autoptr(Lease) lease = plain_lease();
    g_autoptr(GError) error = g_error_new_literal(G_FILE_ERROR, G_FILE_ERROR_NOSPC, "disk full");

    g_ptr_array_set_size(lines, 0);
    write_about_leases(lease, error);
    write_about_recovery();
    write_about_the_daemon(error);
    write_too_much(lease);
}

/* ---- the catalog ---- */

typedef struct Entry {
    char *id;
    char *subject;
    GString *text; /* headers and all */
    GString *body; /* without the headers */
} Entry;

static void entry_free(gpointer data)
{
    Entry *entry = data;

    g_free(entry->id);
    g_free(entry->subject);
    g_string_free(entry->text, TRUE);
    g_string_free(entry->body, TRUE);
    g_free(entry);
}

/* id -> Entry */
static GHashTable *read_catalog(const char *path)
{
    GHashTable *entries = g_hash_table_new_full(g_str_hash, g_str_equal, NULL, entry_free);
    g_autofree char *content = NULL;
    g_auto(GStrv) rows = NULL;
    Entry *entry = NULL;
    gboolean in_body = FALSE;

    g_assert_true(g_file_get_contents(path, &content, NULL, NULL));
    g_assert_true(g_utf8_validate(content, -1, NULL));
    rows = g_strsplit(content, "\n", -1);
    for (guint i = 0; rows[i]; i++) {
        if (g_str_has_prefix(rows[i], "-- ")) {
            entry = g_new0(Entry, 1);
            entry->id = g_strdup(rows[i] + 3);
            entry->text = g_string_new(NULL);
            entry->body = g_string_new(NULL);
            in_body = FALSE;
            g_assert_true(id_is_valid(entry->id));
            if (!g_hash_table_insert(entries, entry->id, entry))
                g_error("%s: %s is there twice", path, rows[i] + 3);
            continue;
        }
        if (!entry)
            continue;
        in_body |= !*rows[i];
        g_string_append_printf(entry->text, "%s\n", rows[i]);
        if (in_body)
            g_string_append(entry->body, rows[i]);
        else if (g_str_has_prefix(rows[i], "Subject: "))
            entry->subject = g_strdup(rows[i] + strlen("Subject: "));
    }
    return entries;
}

static void check_fields(const char *path, const Entry *entry, const Line *line)
{
    g_autoptr(GRegex) regex = g_regex_new("@([^@\\s]+)@", 0, 0, NULL);
    g_autoptr(GMatchInfo) match = NULL;

    (void)g_regex_match(regex, entry->text->str, 0, &match);
    for (; g_match_info_matches(match); (void)g_match_info_next(match, NULL)) {
        g_autofree char *name = g_match_info_fetch(match, 1);

        if (!field(line, name))
            g_error("%s: %s names @%s@, which a line with that id does not have: %s", path,
                    entry->id, name, field(line, "MESSAGE"));
    }
}

static void test_catalog(gconstpointer data)
{
    const char *path = data;
    g_autoptr(GHashTable) entries = read_catalog(path);
    g_autoptr(GHashTable) seen = g_hash_table_new(g_str_hash, g_str_equal);
    GHashTableIter iter;
    gpointer value;

    for (guint i = 0; i < lines->len; i++) {
        const Line *line = lines->pdata[i];
        const Entry *entry = line->id ? g_hash_table_lookup(entries, line->id) : NULL;

        if (!line->id)
            g_error("no MESSAGE_ID: %s", field(line, "MESSAGE"));
        if (!entry)
            g_error("%s: no entry %s for: %s", path, line->id, field(line, "MESSAGE"));
        (void)g_hash_table_add(seen, line->id);
        check_fields(path, entry, line);
    }
    g_hash_table_iter_init(&iter, entries);
    while (g_hash_table_iter_next(&iter, NULL, &value)) {
        const Entry *entry = value;

        if (!g_hash_table_contains(seen, entry->id))
            g_error("%s: no line with the id %s is ever written", path, entry->id);
        if (!entry->subject || !*entry->subject)
            g_error("%s: %s has no subject", path, entry->id);
        if (entry->body->len < 40)
            g_error("%s: %s explains nothing", path, entry->id);
    }
}

/* ---- the lines ---- */

/* Whoever reads the journal by field can rely on these. */
static void test_fields_of_a_lease(void)
{
    const Line *line = lines->pdata[2];

    g_assert_cmpstr(line->id, ==, MESSAGE_STALE_RELEASED);
    g_assert_cmpint(line->priority, ==, LOG_INFO);
    g_assert_cmpstr(field(line, "STYXY_PORT"), ==, "3000");
    g_assert_cmpstr(field(line, "STYXY_PROTO"), ==, "tcp");
    g_assert_cmpstr(field(line, "STYXY_SERVICE"), ==, "dev");
    g_assert_true(id_is_valid(field(line, "STYXY_LEASE")));
    g_assert_cmpstr(field(line, "STYXY_UID"), ==, "1000");
    g_assert_cmpstr(field(line, "STYXY_REASON"), ==, "not-in-use");
    g_assert_null(field(line, "STYXY_INSTANCE"));
}

/* A newline in what somebody else chose stays within its field, and out of the message. */
static void test_nothing_can_be_forged(void)
{
    g_autoptr(Lease) lease = plain_lease();
    const char *unit = "web\nPRIORITY=0\nMESSAGE_ID=00000000000000000000000000000000.service";
    const Line *line = NULL;

    lease->unit = g_ref_string_new(unit);
    g_ptr_array_set_size(lines, 0);
    event_restarted(lease, unit, 1);
    g_assert_cmpuint(lines->len, ==, 1);
    line = lines->pdata[0];
    g_assert_cmpstr(field(line, "STYXY_UNIT"), ==, unit);
    g_assert_cmpstr(field(line, "STYXY_RESTARTED_UNIT"), ==, unit);
    g_assert_cmpstr(field(line, "PRIORITY"), ==, "5");
    g_assert_cmpstr(line->id, ==, MESSAGE_SERVICE_RESTARTED);
    g_assert_null(strchr(field(line, "MESSAGE"), '\n'));
    g_assert_nonnull(strstr(field(line, "MESSAGE"), "web\\x0aPRIORITY=0"));
}

/* What is common goes by unseen where only notices are wanted, and no line lacks its id there. */
static void test_levels(void)
{
    g_ptr_array_set_size(lines, 0);
    log_set_max_priority(LOG_NOTICE);
    write_about_the_daemon(&(GError){G_FILE_ERROR, G_FILE_ERROR_NOSPC, (char *)"no space is left"});
    log_set_max_priority(LOG_DEBUG);
    g_assert_cmpuint(lines->len, >, 10);
    for (guint i = 0; i < lines->len; i++) {
        g_assert_cmpint(((Line *)lines->pdata[i])->priority, <=, LOG_NOTICE);
        g_assert_nonnull(((Line *)lines->pdata[i])->id);
    }
}

/* An event that is only logged would be invisible to a monitor. */
static void test_counted(void)
{
    static const Metric counted[] = {
        METRIC_HEALTH_CHANGES,      METRIC_HEALTH_SWEEPS_FAILED,    METRIC_MASS_FAILURES,
        METRIC_HTTP_CHECKS_UNKNOWN, METRIC_SERVICE_RESTARTS_FAILED, METRIC_PROCESS_WATCHES_FAILED,
        METRIC_SNAPSHOT_FAILURES,   METRIC_CONFIGURATIONS_LOADED,   METRIC_CONFIGURATIONS_REFUSED,
        METRIC_BUS_FAILURES,        METRIC_CONNECTION_PAUSES,       METRIC_SIGNALS_LOST,
        METRIC_HOLDS_NOT_KEPT,      METRIC_LOG_LINES_SUPPRESSED,
    };
    guint64 before[G_N_ELEMENTS(counted)];

    for (guint i = 0; i < G_N_ELEMENTS(counted); i++)
        before[i] = metrics_get(counted[i]);
    write_all();
    for (guint i = 0; i < G_N_ELEMENTS(counted); i++)
        if (metrics_get(counted[i]) == before[i])
            g_error("%s does not count", metric_name(counted[i]));
}

int main(int argc, char *argv[])
{
    int status;

    g_test_init(&argc, &argv, NULL);
    lines = g_ptr_array_new_with_free_func(line_free);
    catalogs = argv + 1;
    log_init("styxyd", LOG_TARGET_STDERR, LOG_DEBUG);
    log_set_library_message_id(MESSAGE_LIBRARY);
    log_set_writer(keep_line, NULL);
    write_all();
    for (guint i = 0; catalogs[i]; i++) {
        g_autofree char *name = g_path_get_basename(catalogs[i]);
        g_autofree char *path = g_strconcat("/events/catalog/", name, NULL);

        g_test_add_data_func(path, catalogs[i], test_catalog);
    }
    g_test_add_func("/events/fields-of-a-lease", test_fields_of_a_lease);
    g_test_add_func("/events/nothing-can-be-forged", test_nothing_can_be_forged);
    g_test_add_func("/events/levels", test_levels);
    g_test_add_func("/events/counted", test_counted);
    status = g_test_run();
    g_ptr_array_unref(lines);
    return status;
}
