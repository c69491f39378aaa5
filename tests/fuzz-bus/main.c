/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Calls every method with right and wrong arguments, over a bus and the direct socket, as root and
 * as another user, pipelined and cut short, while ports are taken, processes die, the configuration
 * is edited and rubbish is sent, and holds each answer and signal against a model (model.h). In the
 * first part of the run the daemon is restarted, by SIGTERM and SIGKILL; the last part is one life,
 * whose memory is looked at.
 *
 * Environment: STYXY_FUZZ_CALLS (50000 unless set), STYXY_FUZZ_SEED (1 unless set, so that a run is
 * like the one before), STYXY_FUZZ_BUS_SECONDS (120 unless set: on a slow machine there are no more
 * calls after that, and the run ends as usual), STYXY_FUZZ_PING_MSEC (the longest Ping that passes;
 * 100 unless set, and then a few are excused up to five seconds, because a disk or a virtual
 * machine may stand still for a moment).
 */
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fuzz-bus.h"

#define CALLS 50000
#define SEED 1
#define SECONDS 120
/* After the last call: to settle, to end, to look for leaks. */
#define LAST_SECONDS 120
#define ACTORS 12
#define PING_MSEC 100
#define PINGS_EXCUSED 3
#define PING_EXCUSED_MSEC 5000
#define LIVES 8 /* of the daemon */
/* In percent of the run: no restart after LAST_LIFE; memory is measured from MEASURED on. */
#define LAST_LIFE 60
#define MEASURED 80 /* half of the last life */
#define SETTLE_EVERY 1000
#define DRAIN_USEC (120 * G_USEC_PER_SEC)
/* For signals that are still on their way when calls are answered. */
#define SETTLE_USEC (30 * G_USEC_PER_SEC)
#define PATIENCE_USEC (3 * G_USEC_PER_SEC)
/* What the daemon may grow by in the measured part: allocators and sanitizers breathe; the
 * most that was seen, in a short run, was 39 MiB. */
#define GROWTH_KIB 98304

typedef struct Run {
    Fuzz fuzz;
    Monitor *monitor;
    Notified *notified;
    Pinger *pinger;
    GArray *times_usec;
    guint64 calls;                  /* to be made */
    gint64 started_usec, span_usec; /* CLOCK_MONOTONIC; how long calls are made */
    guint64 next_restart;           /* in percent of the run */
    guint64 next_settle;            /* in calls */
    guint64 rss_kib;                /* when the measured part began; 0 = not yet */
} Run;

void fuzz_fail(const Fuzz *fuzz, const char *format, ...)
{
    g_autofree char *text = NULL;
    va_list ap;

    va_start(ap, format);
    text = g_strdup_vprintf(format, ap);
    va_end(ap);
    world_fail(fuzz->world, "%s (STYXY_FUZZ_SEED=%u, call %" G_GUINT64_FORMAT ")", text, fuzz->seed,
               fuzz->counts.calls);
}

void fuzz_check(const Fuzz *fuzz, const char *where, char *wrong)
{
    if (wrong)
        fuzz_fail(fuzz, "%s: %s", where, wrong);
}

guint fuzz_dice(const Fuzz *fuzz, guint n)
{
    return (guint)g_rand_int_range(fuzz->dice, 0, (gint32)n);
}

gboolean fuzz_one_in(const Fuzz *fuzz, guint n)
{
    return fuzz_dice(fuzz, n) == 0;
}

static guint64 number_from(const char *variable, guint64 otherwise)
{
    const char *text = g_getenv(variable);
    guint64 number = otherwise;

    if (text && !g_ascii_string_to_unsigned(text, 10, 1, G_MAXUINT32, &number, NULL))
        g_error("%s is no number: %s", variable, text);
    return number;
}

static guint64 rss_kib(const Fuzz *fuzz)
{
    g_autofree char *path = g_strdup_printf("/proc/%d/status", fuzz->world->daemon);
    g_autofree char *text = NULL;
    const char *line = NULL;

    if (g_file_get_contents(path, &text, NULL, NULL))
        line = strstr(text, "VmRSS:");
    return line ? g_ascii_strtoull(line + strlen("VmRSS:"), NULL, 10) : 0;
}

/* ---- one turn ---- */

void fuzz_check_alive(const Fuzz *fuzz)
{
    int status;

    if (waitpid(fuzz->world->daemon, &status, WNOHANG) != 0) {
        fuzz->world->daemon = 0;
        fuzz_fail(fuzz, "the daemon has ended, status %x", (guint)status);
    }
}

/* Waits until one of the connections has something to do. */
static void wait_for_any(Run *run, int timeout_msec)
{
    struct pollfd fds[ACTORS + 1];
    guint n = 0;

    for (guint i = 0; i <= ACTORS; i++) {
        sd_bus *bus =
            i == ACTORS ? monitor_bus(run->monitor) : ((Actor *)run->fuzz.actors->pdata[i])->bus;
        int fd = bus ? sd_bus_get_fd(bus) : -1, events = bus ? sd_bus_get_events(bus) : -1;

        if (fd >= 0 && events >= 0)
            fds[n++] = (struct pollfd){.fd = fd, .events = (short)events};
    }
    (void)poll(fds, n, timeout_msec);
}

static void process_all(Run *run)
{
    for (guint i = 0; i < ACTORS; i++) {
        Actor *actor = run->fuzz.actors->pdata[i];

        if (actor->bus)
            actor_process(actor);
    }
    monitor_process(run->monitor);
}

/* ---- all quiet ---- */

static guint under_way(const Run *run)
{
    guint n = 0;

    for (guint i = 0; i < ACTORS; i++)
        n += ((const Actor *)run->fuzz.actors->pdata[i])->pending.length;
    return n;
}

/* A call that was told to try for hours is given up, the others must be answered. */
static void give_up_patient(Run *run)
{
    gint64 now_usec = g_get_monotonic_time();

    for (guint i = 0; i < ACTORS; i++) {
        Actor *actor = run->fuzz.actors->pdata[i];

        for (const GList *l = actor->pending.head; l; l = l->next) {
            const Pending *pending = l->data;

            if (!pending->patient || now_usec - pending->sent_usec < PATIENCE_USEC)
                continue;
            actor_drop(actor);
            break;
        }
    }
}

static void turn(Run *run)
{
    Fuzz *fuzz = &run->fuzz;

    for (guint i = 0; i < ACTORS; i++)
        if (!fuzz_one_in(fuzz, 4))
            actor_step(fuzz->actors->pdata[i]);
    if (fuzz_one_in(fuzz, 20))
        outside_step(fuzz->outside);
    if (fuzz_one_in(fuzz, 25))
        garbage_step(fuzz->garbage);
    wait_for_any(run, 5);
    process_all(run);
    if (fuzz_one_in(fuzz, 50))
        give_up_patient(run);
    fuzz_check_alive(fuzz);
}

static void drain(Run *run)
{
    gint64 deadline_usec = g_get_monotonic_time() + DRAIN_USEC;

    while (under_way(run) > 0) {
        if (g_get_monotonic_time() > deadline_usec)
            fuzz_fail(&run->fuzz, "%u calls are not answered", under_way(run));
        give_up_patient(run);
        wait_for_any(run, 100);
        process_all(run);
        fuzz_check_alive(&run->fuzz);
    }
}

/* Meanwhile everybody reads on: who does not read his signals is cut off in the end. */
static void settle(Run *run)
{
    gint64 deadline_usec;
    char *wrong = NULL;

    drain(run);
    deadline_usec = g_get_monotonic_time() + SETTLE_USEC;
    while ((wrong = monitor_compare(run->monitor))) {
        if (g_get_monotonic_time() > deadline_usec)
            fuzz_fail(&run->fuzz, "%s", wrong);
        g_free(wrong);
        wait_for_any(run, 100);
        process_all(run);
    }
    monitor_settled(run->monitor);
}

/* ---- lives of the daemon ---- */

static void begin_life(Run *run)
{
    outside_good_configuration(run->fuzz.outside);
    world_spawn(run->fuzz.world);
    world_await_ready(run->fuzz.world);
    run->notified = notified_new(run->fuzz.world);
    run->monitor = monitor_new(&run->fuzz);
    monitor_restarted(run->monitor);
    run->pinger = pinger_new(run->fuzz.world);
}

/* @kill: by SIGKILL, whatever is under way; else by SIGTERM. */
static void end_life(Run *run, gboolean by_kill)
{
    Fuzz *fuzz = &run->fuzz;
    int status;

    fuzz_check(fuzz, "throughout", pinger_free(run->pinger, run->times_usec));
    fuzz_check_alive(fuzz);
    if (by_kill) {
        fuzz->counts.kills++;
        if (!world_kill(fuzz->world))
            fuzz_fail(fuzz, "the daemon has ended by itself");
    } else {
        status = world_terminate(fuzz->world);
        if (status != 0)
            fuzz_fail(fuzz, "after SIGTERM the daemon has ended with status %x", (guint)status);
    }
    notified_free(run->notified);
    for (guint i = 0; i < ACTORS; i++)
        actor_drop(fuzz->actors->pdata[i]);
    monitor_free(run->monitor);
    garbage_free(fuzz->garbage);
    fuzz->garbage = garbage_new(fuzz);
}

static void check_log(const Fuzz *fuzz)
{
    static const char *const words[] = {"ERROR: AddressSanitizer", "ERROR: LeakSanitizer",
                                        "runtime error:", "-CRITICAL **", "assertion failed"};
    g_autofree char *path = g_build_filename(fuzz->world->folder, "log", NULL);
    g_autofree char *log = NULL;

    if (!g_file_get_contents(path, &log, NULL, NULL))
        fuzz_fail(fuzz, "there is no log");
    for (guint i = 0; i < G_N_ELEMENTS(words); i++)
        if (strstr(log, words[i]))
            fuzz_fail(fuzz, "the log has \"%s\"", words[i]);
}

static void look_at_memory(Run *run)
{
    guint64 now_kib = rss_kib(&run->fuzz);

    if (run->rss_kib == 0 || now_kib <= run->rss_kib + run->rss_kib / 4 + GROWTH_KIB)
        return;
    fuzz_fail(&run->fuzz,
              "memory has grown from %" G_GUINT64_FORMAT " to %" G_GUINT64_FORMAT " KiB",
              run->rss_kib, now_kib);
}

/* In percent, of the calls or of the time, whatever is nearer to its end. */
static guint64 progress(const Run *run)
{
    guint64 passed_usec = (guint64)(g_get_monotonic_time() - run->started_usec);

    return MAX(run->fuzz.counts.calls * 100 / run->calls,
               passed_usec * 100 / (guint64)run->span_usec);
}

static void go(Run *run)
{
    Fuzz *fuzz = &run->fuzz;

    begin_life(run);
    for (guint64 percent = 0; percent < 100; percent = progress(run)) {
        turn(run);
        if (fuzz->counts.calls >= run->next_settle) {
            settle(run);
            run->next_settle = fuzz->counts.calls + SETTLE_EVERY;
        }
        if (percent >= run->next_restart && percent < LAST_LIFE) {
            if (fuzz_one_in(fuzz, 3))
                settle(run);
            end_life(run, fuzz_one_in(fuzz, 2));
            begin_life(run);
            fuzz->counts.restarts++;
            run->next_restart = percent + LAST_LIFE / LIVES;
        }
        if (run->rss_kib == 0 && percent >= MEASURED)
            run->rss_kib = rss_kib(fuzz);
    }
    settle(run);
    look_at_memory(run);
}

/* ---- the report ---- */

/* @times: ascending, in µs. */
static void judge_pings(const Run *run, const GArray *times)
{
    guint excused = g_getenv("STYXY_FUZZ_PING_MSEC") ? 0 : PINGS_EXCUSED;
    gint64 longest_msec = g_array_index(times, gint64, times->len - 1) / 1000;
    gint64 judged_msec =
        g_array_index(times, gint64, times->len - 1 - MIN(excused, times->len - 1)) / 1000;

    if (judged_msec >= (gint64)number_from("STYXY_FUZZ_PING_MSEC", PING_MSEC) ||
        (excused > 0 && longest_msec >= PING_EXCUSED_MSEC))
        fuzz_fail(&run->fuzz,
                  "%u Pings took %" G_GINT64_FORMAT " ms or more, the longest %" G_GINT64_FORMAT
                  " ms",
                  excused + 1, judged_msec, longest_msec);
}

static int compare_times(const void *a, const void *b)
{
    gint64 one = *(const gint64 *)a, two = *(const gint64 *)b;

    return (one > two) - (one < two);
}

static void report(Run *run, guint64 last_kib, double seconds)
{
    const Counts *counts = &run->fuzz.counts;
    GArray *times = run->times_usec;
    GHashTableIter iter;
    void *name, *n;
    double max_msec;

    g_array_sort(times, compare_times);
    max_msec = (double)g_array_index(times, gint64, times->len - 1) / 1000;
    g_print("%" G_GUINT64_FORMAT " calls in %.1f s: %" G_GUINT64_FORMAT
            " answers, of them %" G_GUINT64_FORMAT " errors, %" G_GUINT64_FORMAT
            " without an answer; %" G_GUINT64_FORMAT " grants, %" G_GUINT64_FORMAT
            " releases, %" G_GUINT64_FORMAT " signals\n",
            counts->calls, seconds, counts->answers, counts->errors, counts->unanswered,
            counts->grants, counts->releases, counts->signals);
    g_print("%" G_GUINT64_FORMAT " connections, %" G_GUINT64_FORMAT
            " of rubbish, %" G_GUINT64_FORMAT " restarts, of them %" G_GUINT64_FORMAT
            " by SIGKILL, %" G_GUINT64_FORMAT " comparisons with List\n",
            counts->connections, counts->garbage, counts->restarts, counts->kills, counts->settled);
    g_print("Ping: %u, p50 %.2f ms, p99 %.2f ms, longest %.2f ms\n", times->len,
            (double)g_array_index(times, gint64, times->len / 2) / 1000,
            (double)g_array_index(times, gint64, times->len * 99 / 100) / 1000, max_msec);
    g_hash_table_iter_init(&iter, run->fuzz.errors);
    while (g_hash_table_iter_next(&iter, &name, &n))
        g_print("    %u %s\n", GPOINTER_TO_UINT(n), (const char *)name);
    g_print("seed %u, %" G_GUINT64_FORMAT " calls, %" G_GUINT64_FORMAT
            " restarts, Ping max %.2f ms, memory %" G_GUINT64_FORMAT
            " KiB after the first half of the last life, %" G_GUINT64_FORMAT
            " KiB after the second\n",
            run->fuzz.seed, counts->calls, counts->restarts, max_msec, run->rss_kib, last_kib);
    judge_pings(run, times);
    /* A fuzzer that gets nothing done would find nothing wrong. */
    if (counts->grants * 20 < counts->calls || counts->releases * 20 < counts->calls ||
        counts->signals < counts->grants)
        fuzz_fail(&run->fuzz, "too little was done");
}

/* The daemon and what else was started goes with its parent. */
static void on_too_long(int number)
{
    static const char text[] = "FAILED: the run does not end\n";

    (void)!write(STDERR_FILENO, text, sizeof text - 1);
    _exit(EXIT_FAILURE);
}

/* What was freed is kept for a while by the sanitizer; 256 MiB of it would look like growth. */
static void small_quarantine(void)
{
    const char *options = g_getenv("ASAN_OPTIONS");
    g_autofree char *more =
        g_strconcat(options ? options : "", options ? ":" : "", "quarantine_size_mb=16", NULL);

    (void)g_setenv("ASAN_OPTIONS", more, TRUE);
}

int main(int argc, char **argv)
{
    Run run = {.calls = number_from("STYXY_FUZZ_CALLS", CALLS)};
    Fuzz *fuzz = &run.fuzz;
    guint64 seconds = number_from("STYXY_FUZZ_BUS_SECONDS", SECONDS);
    guint64 last_kib;

    if (argc != 2)
        g_error("usage: %s STYXYD", argv[0]);
    (void)setvbuf(stdout, NULL, _IOLBF, 0); /* so that nothing is lost in world_fail() */
    fuzz->seed = (guint32)number_from("STYXY_FUZZ_SEED", SEED);
    g_print("STYXY_FUZZ_SEED=%u\n", fuzz->seed);
    if (geteuid() != 0) {
        g_printerr("not root, so there is no other user to be, skipping\n");
        return 77;
    }
    small_quarantine();
    (void)signal(SIGPIPE, SIG_IGN);
    (void)signal(SIGALRM, on_too_long);
    (void)alarm((guint)(seconds + LAST_SECONDS));
    run.started_usec = g_get_monotonic_time();
    run.span_usec = (gint64)(seconds * G_USEC_PER_SEC);
    fuzz->dice = g_rand_new_with_seed(fuzz->seed);
    fuzz->world = world_new(argv[1], outside_configuration);
    fuzz->model = model_new();
    fuzz->outside = outside_new(fuzz);
    fuzz->garbage = garbage_new(fuzz);
    fuzz->errors = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    fuzz->actors = g_ptr_array_new_with_free_func((GDestroyNotify)actor_free);
    for (guint i = 0; i < ACTORS; i++)
        g_ptr_array_add(fuzz->actors, actor_new(fuzz, i));
    run.times_usec = g_array_new(FALSE, FALSE, sizeof(gint64));
    run.next_settle = SETTLE_EVERY;
    run.next_restart = LAST_LIFE / LIVES;
    go(&run);
    last_kib = rss_kib(fuzz);
    end_life(&run, FALSE);
    check_log(fuzz);
    report(&run, last_kib, (double)(g_get_monotonic_time() - run.started_usec) / G_USEC_PER_SEC);

    g_ptr_array_unref(fuzz->actors);
    g_hash_table_unref(fuzz->errors);
    garbage_free(fuzz->garbage);
    outside_free(fuzz->outside);
    (void)model_free(fuzz->model);
    g_array_unref(run.times_usec);
    g_rand_free(fuzz->dice);
    (void)world_free(fuzz->world, TRUE);
    return EXIT_SUCCESS;
}
