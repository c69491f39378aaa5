/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What 60,000 leases cost beside an empty table: Allocate while they are written to a snapshot, and
 * while Recover goes through them, and the recovery after a SIGKILL beside what json-glib takes to
 * parse the same snapshot.
 *
 * Prints one JSON object a line. "bar" is what is to be reached and "met" whether it was; the exit
 * status is 1 when a bar was missed by more than BAR_TOLERANCE, which noise alone does not do.
 */
#include <json-glib/json-glib.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "environment.h"

#define LEASES 60000
#define BLOCK 120
#define BAR_TOLERANCE 1.25
#define STARTS 3
#define RECOVERS 5
/* The longest that one call may wait for Recover: a tenth of what Recover takes. */
#define LONGEST_BAR 0.1

/* Calls made at most; how many of them at least must have met a snapshot, and how many must not. */
#define CALLS_MAX 150000
#define CALLS_MIN 2000
#define SNAPSHOTS_MIN 1

static const char configuration[] =
    "{ \"service_types\": {\n"
    "    \"fill\":  { \"port_range\": [1024, 61999], \"instance_behavior\": \"multi\" },\n"
    "    \"bench\": { \"port_range\": [62000, 63999], \"instance_behavior\": \"multi\" } },\n"
    "  \"auto_allocation\": { \"enabled\": false, \"port_range\": [64000, 64999] },\n"
    "  \"recovery\": { \"health_monitoring\": { \"enabled\": false } },\n"
    "  \"limits\": { \"leases_per_user\": 65000 } }\n";

static gboolean bars_missed;

/* Ends a line of the report with its bar and judges @value by it. */
static void judge(double value, double bar)
{
    g_print(", \"bar\": %.2f, \"met\": %s}\n", bar, value <= bar ? "true" : "false");
    if (value > bar * BAR_TOLERANCE)
        bars_missed = TRUE;
}

static double now_usec(void)
{
    struct timespec ts;

    g_assert_cmpint(clock_gettime(CLOCK_MONOTONIC, &ts), ==, 0);
    return (double)ts.tv_sec * 1e6 + (double)ts.tv_nsec / 1e3;
}

static sd_bus_message *call(sd_bus *bus, const char *member, const char *types, ...)
{
    __attribute__((cleanup(sd_bus_error_free))) sd_bus_error error = SD_BUS_ERROR_NULL;
    sd_bus_message *message = NULL, *reply = NULL;
    va_list ap;

    g_assert_cmpint(sd_bus_message_new_method_call(bus, &message, "org.styxy.Ports",
                                                   "/org/styxy/Ports", "org.styxy.Ports", member),
                    >=, 0);
    va_start(ap, types);
    g_assert_cmpint(sd_bus_message_appendv(message, types, ap), >=, 0);
    va_end(ap);
    if (sd_bus_call(bus, message, 0, &error, &reply) < 0)
        g_error("%s: %s: %s", member, error.name, error.message);
    sd_bus_message_unref(message);
    return reply;
}

static void fill(sd_bus *bus)
{
    for (guint i = 0; i < LEASES; i += BLOCK)
        sd_bus_message_unref(call(bus, "AllocateBlock", "sqa{sv}", "fill", BLOCK, 0));
}

/* ---- Allocate beside a snapshot ---- */

static gint compare_doubles(gconstpointer a, gconstpointer b)
{
    double left = *(const double *)a, right = *(const double *)b;

    return (left > right) - (left < right);
}

static double percentile(GArray *usec, double part)
{
    g_array_sort(usec, compare_doubles);
    return g_array_index(usec, double, (guint)((double)(usec->len - 1) * part + 0.5));
}

/* One Allocate and its Release. Returns: the time of the former. */
static double pair(sd_bus *bus)
{
    const char *lease = NULL;
    double before = now_usec(), took;
    sd_bus_message *reply = call(bus, "Allocate", "sa{sv}", "bench", 0);

    took = now_usec() - before;
    g_assert_cmpint(sd_bus_message_skip(reply, "q"), >, 0);
    g_assert_cmpint(sd_bus_message_read(reply, "s", &lease), >, 0);
    sd_bus_message_unref(call(bus, "Release", "s", lease));
    sd_bus_message_unref(reply);
    return took;
}

/* Nobody calls, so it ends, and the next is due when the journal has grown again. */
static void await_no_snapshot(const char *path)
{
    guint quiet = 0;

    for (guint i = 0; i < 3000 && quiet < 50; i++) {
        quiet = access(path, F_OK) == 0 ? 0 : quiet + 1;
        g_usleep(10000);
    }
}

/* The text of a snapshot that is being written lies in a file of its own. */
static void measure_snapshot(const Environment *environment, sd_bus *bus)
{
    g_autofree char *path =
        g_build_filename(environment_folder(environment), "state", "state.json.new", NULL);
    g_autoptr(GArray) beside = g_array_new(FALSE, FALSE, sizeof(double));
    g_autoptr(GArray) alone = g_array_new(FALSE, FALSE, sizeof(double));
    guint snapshots = 0, calls = 0;
    gboolean was_there = FALSE;
    double ratio;

    await_no_snapshot(path);
    while (calls < CALLS_MAX &&
           (snapshots < SNAPSHOTS_MIN || beside->len < CALLS_MIN || alone->len < CALLS_MIN)) {
        double usec = pair(bus);
        gboolean is_there = access(path, F_OK) == 0;

        calls++;
        if (was_there || is_there)
            g_array_append_val(beside, usec);
        else
            g_array_append_val(alone, usec);
        snapshots += was_there && !is_there;
        was_there = is_there;
    }
    if (beside->len < CALLS_MIN || alone->len < CALLS_MIN)
        g_error("%u calls met %u snapshots only %u times", calls, snapshots, beside->len);
    ratio = percentile(beside, 0.99) / percentile(alone, 0.99);
    g_print("{\"bench\": \"allocate-beside-snapshot\", \"leases\": %d, \"snapshots\": %u, "
            "\"calls_beside\": %u, \"p50_usec\": %.1f, \"p99_usec\": %.1f, \"calls_alone\": %u, "
            "\"p50_alone_usec\": %.1f, \"p99_alone_usec\": %.1f, \"ratio\": %.2f",
            LEASES, snapshots, beside->len, percentile(beside, 0.5), percentile(beside, 0.99),
            alone->len, percentile(alone, 0.5), percentile(alone, 0.99), ratio);
    judge(ratio, 3);
}

/* ---- Allocate beside Recover ---- */

static int on_recovered(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
    int ok = FALSE;

    g_assert_cmpint(sd_bus_message_read(m, "b", &ok), >, 0);
    g_assert_true(ok);
    *(double *)userdata = now_usec();
    return 0;
}

static void measure_recover(sd_bus *bus, sd_bus *administrator)
{
    g_autoptr(GArray) beside = g_array_new(FALSE, FALSE, sizeof(double));
    double longest = 0, took = 0;

    for (guint i = 0; i < RECOVERS; i++) {
        double begin = now_usec(), end = 0;

        g_assert_cmpint(sd_bus_call_method_async(administrator, NULL, "org.styxy.Ports",
                                                 "/org/styxy/Ports", "org.styxy.Ports", "Recover",
                                                 on_recovered, &end, "a{sv}", 0),
                        >=, 0);
        for (guint calls = 0; end <= 0 && calls < CALLS_MAX; calls++) {
            double usec = pair(bus);

            g_array_append_val(beside, usec);
            g_assert_cmpint(sd_bus_process(administrator, NULL), >=, 0);
        }
        g_assert_true(end > 0);
        took = MAX(took, end - begin);
    }
    longest = percentile(beside, 1);
    g_print("{\"bench\": \"allocate-beside-recover\", \"leases\": %d, \"recover_msec\": %.1f, "
            "\"calls\": %u, \"p50_usec\": %.1f, \"p99_usec\": %.1f, \"longest_msec\": %.1f, "
            "\"ratio\": %.3f",
            LEASES, took / 1000, beside->len, percentile(beside, 0.5), percentile(beside, 0.99),
            longest / 1000, longest / took);
    judge(longest / took, LONGEST_BAR);
}

/* ---- recovery ---- */

/* @key: "VmHWM" (the most there ever was) or "VmRSS" (now). */
static double memory_mib(pid_t pid, const char *key)
{
    g_autofree char *path = g_strdup_printf("/proc/%d/status", pid);
    g_autofree char *text = NULL;
    g_autoptr(GError) error = NULL;
    const char *line;

    if (!g_file_get_contents(path, &text, NULL, &error))
        g_error("%s", error->message);
    line = strstr(text, key);
    g_assert_nonnull(line);
    return g_ascii_strtod(line + strlen(key) + 1, NULL) / 1024;
}

/* The numbers of GetRecoveryReport that count. */
static void read_report(sd_bus *bus, double *ret_msec, guint *ret_kept)
{
    sd_bus_message *reply = call(bus, "GetRecoveryReport", "");
    const char *key;
    guint64 usec = 0;

    *ret_kept = 0;
    g_assert_cmpint(sd_bus_message_enter_container(reply, 'a', "{sv}"), >, 0);
    while (sd_bus_message_enter_container(reply, 'e', "sv") > 0) {
        g_assert_cmpint(sd_bus_message_read(reply, "s", &key), >, 0);
        if (strcmp(key, "duration_usec") == 0)
            g_assert_cmpint(sd_bus_message_read(reply, "v", "t", &usec), >, 0);
        else if (strcmp(key, "kept") == 0)
            g_assert_cmpint(sd_bus_message_read(reply, "v", "u", ret_kept), >, 0);
        else
            g_assert_cmpint(sd_bus_message_skip(reply, "v"), >, 0);
        g_assert_cmpint(sd_bus_message_exit_container(reply), >, 0);
    }
    *ret_msec = (double)usec / 1000;
    sd_bus_message_unref(reply);
}

static double parse_msec(const Environment *environment, gsize *ret_bytes)
{
    g_autofree char *path =
        g_build_filename(environment_folder(environment), "state", "state.json", NULL);
    g_autoptr(JsonParser) parser = json_parser_new_immutable();
    g_autoptr(GError) error = NULL;
    g_autofree char *text = NULL;
    double before;

    if (!g_file_get_contents(path, &text, ret_bytes, &error))
        g_error("%s", error->message);
    before = now_usec();
    if (!json_parser_load_from_data(parser, text, (gssize)*ret_bytes, &error))
        g_error("%s", error->message);
    return (now_usec() - before) / 1000;
}

static void measure_recovery(const Environment *environment)
{
    double recovery = G_MAXDOUBLE, start = G_MAXDOUBLE, parse = G_MAXDOUBLE, peak = 0, resident = 0;
    gsize bytes = 0;

    for (guint i = 0; i < STARTS; i++) {
        pid_t before = environment_daemon_pid(environment), pid;
        sd_bus *bus = environment_connect(environment, TRANSPORT_BUS);
        double begin, msec;
        guint kept;

        g_assert_cmpint(kill(before, SIGKILL), ==, 0);
        while (kill(before, 0) == 0)
            g_usleep(1000); /* until its broker has reaped it */
        begin = now_usec();
        read_report(bus, &msec, &kept);
        start = MIN(start, (now_usec() - begin) / 1000);
        recovery = MIN(recovery, msec);
        if (kept != LEASES)
            g_error("%u leases were kept", kept);
        parse = MIN(parse, parse_msec(environment, &bytes));
        pid = environment_daemon_pid(environment);
        peak = MAX(peak, memory_mib(pid, "VmHWM"));
        resident =
            resident > 0 ? MIN(resident, memory_mib(pid, "VmRSS")) : memory_mib(pid, "VmRSS");
        sd_bus_flush_close_unref(bus);
    }
    g_print("{\"bench\": \"recovery\", \"leases\": %d, \"snapshot_bytes\": %" G_GSIZE_FORMAT
            ", \"msec\": %.1f, \"until_answer_msec\": %.1f, \"json_glib_msec\": %.1f, "
            "\"ratio\": %.2f",
            LEASES, bytes, recovery, start, parse, recovery / parse);
    judge(recovery / parse, 2);
    g_print("{\"bench\": \"recovery-seconds\", \"seconds\": %.3f", start / 1000);
    judge(start / 1000, 5);
    g_print("{\"bench\": \"recovery-memory\", \"peak_mib\": %.1f, \"resident_mib\": %.1f, "
            "\"ratio\": %.2f",
            peak, resident, peak / resident);
    judge(peak / resident, 3);
}

int main(int argc, char **argv)
{
    g_autoptr(Environment) environment = NULL;
    g_autoptr(GError) error = NULL;
    sd_bus *bus, *administrator;

    if (argc != 2) {
        g_printerr("usage: %s STYXYD\n", argv[0]);
        return EXIT_FAILURE;
    }
    environment = environment_new(argv[1], configuration, &error);
    if (!environment) {
        g_printerr("%s\n", error->message);
        return EXIT_FAILURE;
    }
    (void)environment_daemon_pid(environment);
    bus = environment_connect(environment, TRANSPORT_DIRECT);
    fill(bus);
    measure_snapshot(environment, bus);
    administrator = environment_connect(environment, TRANSPORT_DIRECT);
    measure_recover(bus, administrator);
    sd_bus_flush_close_unref(administrator);
    sd_bus_flush_close_unref(bus);
    measure_recovery(environment);
    return bars_missed ? EXIT_FAILURE : EXIT_SUCCESS;
}
