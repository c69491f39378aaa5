/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * How fast the store is: run by "meson test --benchmark", prints one JSON line a figure. With
 * arguments: LEASES.
 */
#include <json-glib/json-glib.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "fixture.h"
#include "store/record.h"

static gint64 now_nsec(clockid_t clock)
{
    struct timespec t;

    (void)clock_gettime(clock, &t);
    return (gint64)t.tv_sec * 1000000000 + t.tv_nsec;
}

static void print(const char *what, double value, const char *unit)
{
    (void)printf("{\"benchmark\":\"%s\",\"value\":%.3f,\"unit\":\"%s\"}\n", what, value, unit);
}

/* @key: "VmHWM" (the most there ever was) or "VmRSS" (now), of this program alone. */
static double memory_mib(const char *key)
{
    g_autofree char *text = NULL;
    const char *line;

    if (!g_file_get_contents("/proc/self/status", &text, NULL, NULL))
        return 0;
    line = strstr(text, key);
    return line ? g_ascii_strtod(line + strlen(key) + 1, NULL) / 1024 : 0;
}

static void measure_append(Fixture *fixture, guint n)
{
    g_autoptr(Lease) lease = fixture_lease(3009);
    StoreOp op = {.kind = STORE_PUT_LEASE, .lease = lease};
    g_autoptr(GString) text = g_string_new(NULL);
    gint64 start;

    start = now_nsec(CLOCK_THREAD_CPUTIME_ID);
    for (guint i = 0; i < n; i++) {
        g_string_truncate(text, 0);
        record_write_ops(text, i + 1, &op, 1);
    }
    print("format a grant", (double)(now_nsec(CLOCK_THREAD_CPUTIME_ID) - start) / n / 1000, "µs");
    print("bytes of a grant", (double)text->len, "bytes");

    start = now_nsec(CLOCK_THREAD_CPUTIME_ID);
    for (guint i = 0; i < n; i++)
        g_assert_true(store_append(fixture->store, &op, 1, NULL));
    print("append a grant", (double)(now_nsec(CLOCK_THREAD_CPUTIME_ID) - start) / n / 1000, "µs");
}

static void measure_durable(Fixture *fixture)
{
    gint64 start = now_nsec(CLOCK_MONOTONIC);

    for (guint16 i = 0; i < 200; i++)
        g_assert_true(fixture_grant_durable(fixture, (guint16)(10000 + i), NULL));
    print("append a grant and sync it", (double)(now_nsec(CLOCK_MONOTONIC) - start) / 200 / 1000,
          "µs");
}

static void fill(Fixture *fixture, guint n)
{
    for (guint i = 0; i < n; i++)
        g_assert_true(fixture_grant(fixture, (guint16)(i + 1), NULL));
}

static void measure_slices(Fixture *fixture)
{
    gint64 longest = 0, begin = now_nsec(CLOCK_MONOTONIC), cpu = now_nsec(CLOCK_THREAD_CPUTIME_ID);

    store_compact(fixture->store);
    while (!store_idle(fixture->store)) {
        gint64 start = now_nsec(CLOCK_THREAD_CPUTIME_ID);

        (void)g_main_context_iteration(fixture->context, TRUE);
        longest = MAX(longest, now_nsec(CLOCK_THREAD_CPUTIME_ID) - start);
    }
    print("snapshot beside an idle loop", (double)(now_nsec(CLOCK_MONOTONIC) - begin) / 1000000,
          "ms");
    print("of that in the loop", (double)(now_nsec(CLOCK_THREAD_CPUTIME_ID) - cpu) / 1000000, "ms");
    print("longest turn of the loop", (double)longest / 1000, "µs");
}

static double time_parse(const char *text, size_t length)
{
    g_autoptr(JsonParser) parser = json_parser_new_immutable();
    gint64 start = now_nsec(CLOCK_THREAD_CPUTIME_ID);

    g_assert_true(json_parser_load_from_data(parser, text, (gssize)length, NULL));
    return (double)(now_nsec(CLOCK_THREAD_CPUTIME_ID) - start) / 1000000;
}

/* In a process that has done nothing else: its memory is what counts. */
static void measure_load(const char *dir, guint n)
{
    g_autoptr(Fixture) fixture = fixture_new();
    g_autofree char *text = NULL;
    double load, parse, before;
    gint64 start;
    size_t length;

    fixture->options.dir = dir;
    fixture_open(fixture);
    before = memory_mib("VmRSS");
    {
        g_autoptr(StoreContents) contents = NULL;

        start = now_nsec(CLOCK_THREAD_CPUTIME_ID);
        contents = store_load(fixture->store, FALSE, NULL);
        load = (double)(now_nsec(CLOCK_THREAD_CPUTIME_ID) - start) / 1000000;
        g_assert_cmpuint(contents->leases->len, ==, n);
        g_assert_cmpuint(contents->damage->len, ==, 0);
        print("load", load, "ms");
        print("peak memory of loading", memory_mib("VmHWM") - before, "MiB");
        print("memory of what was loaded", memory_mib("VmRSS") - before, "MiB");
        fixture_take(fixture, contents);
    }
    start = now_nsec(CLOCK_MONOTONIC);
    g_assert_true(store_start(fixture->store, &fixture->source, &fixture->boot_id, NULL));
    print("first snapshot", (double)(now_nsec(CLOCK_MONOTONIC) - start) / 1000000, "ms");
    fixture_settle(fixture);

    g_free(fixture->dir);
    fixture->dir = g_strdup(dir);
    text = fixture_read(fixture, "state.json", &length);
    print("bytes of the snapshot", (double)length, "bytes");
    parse = time_parse(text, length);
    print("json-glib parses the same text", parse, "ms");
    print("load against json-glib", load / parse, "ratio");
}

int main(int argc, char **argv)
{
    g_autoptr(Fixture) fixture = NULL;
    guint n = argc > 1 ? (guint)atoi(argv[1]) : 60000;
    g_autofree char *number = g_strdup_printf("%u", n);
    char *again[] = {argv[0], number, NULL, NULL};
    g_autoptr(GError) error = NULL;

    if (argc > 2) {
        measure_load(argv[2], n);
        return 0;
    }
    fixture = fixture_new();
    fixture_start(fixture);
    measure_append(fixture, 100000);
    measure_durable(fixture);
    fixture_settle(fixture);
    fill(fixture, n);
    fixture_settle(fixture);
    measure_slices(fixture);
    fixture_close(fixture);

    (void)fflush(stdout);
    again[2] = fixture->dir;
    if (!g_spawn_sync(NULL, again, NULL, G_SPAWN_CHILD_INHERITS_STDIN, NULL, NULL, NULL, NULL, NULL,
                      &error))
        g_error("%s", error->message);
    return 0;
}
