/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What looking after leases costs: a sweep of 10,000 leases with as many listeners beside a bare
 * dump of the kernel's socket table, what an Allocate and a Ping notice of sweeps without a pause,
 * and 60,000 leases of which half have a process.
 *
 * Prints one JSON object a line, like bench-allocate.
 */
#include <errno.h>
#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "environment.h"

#define LISTENERS 10000
#define LEASES 60000
#define PROCESSES 1000 /* each has an equal part of half of the leases */
#define SWEEPS 40
#define CALLS 3000
#define BAR_TOLERANCE 1.25

static const char configuration[] =
    "{ \"service_types\": {\n"
    "    \"fill\":  { \"port_range\": [1024, 61999], \"instance_behavior\": \"multi\" },\n"
    "    \"bench\": { \"port_range\": [62000, 63999], \"instance_behavior\": \"multi\" } },\n"
    "  \"auto_allocation\": { \"enabled\": false, \"port_range\": [64000, 64999] },\n"
    "  \"recovery\": { \"health_monitoring\": {\n"
    "    \"check_interval_ms\": 3600000, \"startup_grace_ms\": 3600000 } },\n"
    "  \"limits\": { \"leases_per_user\": 65000 } }\n";

static gboolean bars_missed;
static gint sweeping;

static double now_usec(void)
{
    struct timespec ts;

    g_assert_cmpint(clock_gettime(CLOCK_MONOTONIC, &ts), ==, 0);
    return (double)ts.tv_sec * 1e6 + (double)ts.tv_nsec / 1e3;
}

static gint compare(gconstpointer a, gconstpointer b)
{
    double left = *(const double *)a, right = *(const double *)b;

    return (left > right) - (left < right);
}

static double percentile(GArray *values, double part)
{
    g_array_sort(values, compare);
    return g_array_index(values, double, (guint)((double)(values->len - 1) * part + 0.5));
}

static void judge(double value, double bar)
{
    if (bar > 0) {
        g_print(", \"bar\": %.2f, \"met\": %s", bar, value <= bar ? "true" : "false");
        if (value > bar * BAR_TOLERANCE)
            bars_missed = TRUE;
    }
    g_print("}\n");
}

static sd_bus_message *call(sd_bus *bus, const char *interface, const char *member,
                            const char *types, ...)
{
    __attribute__((cleanup(sd_bus_error_free))) sd_bus_error error = SD_BUS_ERROR_NULL;
    sd_bus_message *message = NULL, *reply = NULL;
    va_list ap;

    g_assert_cmpint(sd_bus_message_new_method_call(bus, &message, "org.styxy.Ports",
                                                   "/org/styxy/Ports", interface, member),
                    >=, 0);
    va_start(ap, types);
    if (types)
        g_assert_cmpint(sd_bus_message_appendv(message, types, ap), >=, 0);
    va_end(ap);
    if (sd_bus_call(bus, message, 0, &error, &reply) < 0)
        g_error("%s: %s: %s", member, error.name, error.message);
    sd_bus_message_unref(message);
    return reply;
}

static guint16 allocate(sd_bus *bus, const char *type, pid_t pid, char **ret_lease)
{
    sd_bus_message *reply =
        pid > 0 ? call(bus, "org.styxy.Ports", "Allocate", "sa{sv}", type, 1, "pid", "u", pid)
                : call(bus, "org.styxy.Ports", "Allocate", "sa{sv}", type, 0);
    const char *lease = NULL;
    guint16 port = 0;

    g_assert_cmpint(sd_bus_message_read(reply, "qs", &port, &lease), >, 0);
    if (ret_lease)
        *ret_lease = g_strdup(lease);
    sd_bus_message_unref(reply);
    return port;
}

/* A sweep as the daemon makes it by itself, and its answer; ends nothing. */
static void sweep(sd_bus *bus)
{
    sd_bus_message_unref(call(bus, "org.styxy.Ports", "Cleanup", "a{sv}", 1, "dry_run", "b", TRUE));
}

/* ---- the floor ------------------------------------------------------------------------------- */

/* What the kernel has to say, received and thrown away: the rows that a sweep wants. */
static guint bare_dump(void)
{
    static const struct {
        guint8 family, protocol;
        guint32 states;
    } questions[] = {
        {AF_INET, IPPROTO_TCP, 1u << 10},
        {AF_INET6, IPPROTO_TCP, 1u << 10},
        {AF_INET, IPPROTO_UDP, G_MAXUINT32},
        {AF_INET6, IPPROTO_UDP, G_MAXUINT32},
    };
    static char buffer[32768] __attribute__((aligned(8)));
    int fd = socket(AF_NETLINK, SOCK_DGRAM | SOCK_CLOEXEC, NETLINK_SOCK_DIAG);
    guint rows = 0;

    g_assert_cmpint(fd, >=, 0);
    for (guint i = 0; i < G_N_ELEMENTS(questions); i++) {
        struct {
            struct nlmsghdr head;
            struct inet_diag_req_v2 ask;
        } request = {
            .head = {.nlmsg_len = sizeof request,
                     .nlmsg_type = SOCK_DIAG_BY_FAMILY,
                     .nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP},
            .ask = {.sdiag_family = questions[i].family,
                    .sdiag_protocol = questions[i].protocol,
                    .idiag_states = questions[i].states},
        };
        gboolean done = FALSE;

        g_assert_cmpint(send(fd, &request, sizeof request, 0), ==, sizeof request);
        while (!done) {
            ssize_t n = recv(fd, buffer, sizeof buffer, 0);
            size_t at = 0;

            g_assert_cmpint(n, >, 0);
            while (at + sizeof(struct nlmsghdr) <= (size_t)n) {
                const struct nlmsghdr *head = (const struct nlmsghdr *)(const void *)(buffer + at);

                g_assert_cmpuint(head->nlmsg_len, >=, sizeof *head);
                at += NLMSG_ALIGN(head->nlmsg_len);
                done |= head->nlmsg_type == NLMSG_DONE || head->nlmsg_type == NLMSG_ERROR;
                rows++;
            }
        }
    }
    (void)close(fd);
    return rows;
}

static void listen_on(guint16 port)
{
    struct sockaddr_in6 address = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
    int fd = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);

    g_assert_no_errno(fd);
    g_assert_no_errno(bind(fd, (struct sockaddr *)&address, sizeof address));
    g_assert_no_errno(listen(fd, 1));
}

static void compare_with_floor(sd_bus *bus)
{
    g_autoptr(GArray) floor_usec = g_array_new(FALSE, FALSE, sizeof(double));
    g_autoptr(GArray) sweep_usec = g_array_new(FALSE, FALSE, sizeof(double));
    double ratio;

    for (guint i = 0; i < SWEEPS; i++) {
        double begin = now_usec(), took;

        g_assert_cmpuint(bare_dump(), >=, LISTENERS);
        took = now_usec() - begin;
        g_array_append_val(floor_usec, took);
        begin = now_usec();
        sweep(bus);
        took = now_usec() - begin;
        g_array_append_val(sweep_usec, took);
    }
    ratio = percentile(sweep_usec, 0.5) / percentile(floor_usec, 0.5);
    g_print("{\"bench\": \"sweep\", \"leases\": %d, \"listeners\": %d, \"p50_usec\": %.0f, "
            "\"floor_usec\": %.0f, \"ratio_to_floor\": %.2f",
            LISTENERS, LISTENERS, percentile(sweep_usec, 0.5), percentile(floor_usec, 0.5), ratio);
    judge(ratio, 3);
}

/* ---- what others notice ---------------------------------------------------------------------- */

static void *sweep_on(void *data)
{
    sd_bus *bus = environment_connect(data, TRANSPORT_DIRECT);

    while (g_atomic_int_get(&sweeping))
        sweep(bus);
    sd_bus_flush_close_unref(bus);
    return NULL;
}

static void measure_calls(sd_bus *bus, GArray *allocate_usec, GArray *ping_usec)
{
    for (guint i = 0; i < CALLS; i++) {
        g_autofree char *lease = NULL;
        double begin = now_usec(), took;

        (void)allocate(bus, "bench", 0, &lease);
        took = now_usec() - begin;
        g_array_append_val(allocate_usec, took);
        sd_bus_message_unref(call(bus, "org.styxy.Ports", "Release", "s", lease));
        begin = now_usec();
        sd_bus_message_unref(call(bus, "org.freedesktop.DBus.Peer", "Ping", NULL));
        took = now_usec() - begin;
        g_array_append_val(ping_usec, took);
    }
}

static void beside_sweeps(Environment *environment, sd_bus *bus, guint leases)
{
    GArray *arrays[4];
    GThread *thread = NULL;
    double ratio;

    for (guint i = 0; i < G_N_ELEMENTS(arrays); i++)
        arrays[i] = g_array_new(FALSE, FALSE, sizeof(double));
    measure_calls(bus, arrays[0], arrays[1]);
    g_atomic_int_set(&sweeping, TRUE);
    thread = g_thread_new("sweeps", sweep_on, environment);
    measure_calls(bus, arrays[2], arrays[3]);
    g_atomic_int_set(&sweeping, FALSE);
    (void)g_thread_join(thread);
    ratio = percentile(arrays[2], 0.99) / percentile(arrays[0], 0.99);
    g_print("{\"bench\": \"allocate-beside-sweeps\", \"leases\": %u, \"p99_usec\": %.0f, "
            "\"without_p99_usec\": %.0f, \"ping_max_usec\": %.0f, \"without_ping_max_usec\": %.0f, "
            "\"ratio\": %.2f",
            leases, percentile(arrays[2], 0.99), percentile(arrays[0], 0.99),
            percentile(arrays[3], 1), percentile(arrays[1], 1), ratio);
    judge(ratio, 2);
    for (guint i = 0; i < G_N_ELEMENTS(arrays); i++)
        g_array_unref(arrays[i]);
}

/* ---- many processes -------------------------------------------------------------------------- */

static guint64 resident_kib(pid_t pid)
{
    g_autofree char *path = g_strdup_printf("/proc/%d/statm", pid);
    g_autofree char *text = NULL;

    g_assert_true(g_file_get_contents(path, &text, NULL, NULL));
    return g_ascii_strtoull(strchr(text, ' '), NULL, 10) * (guint64)sysconf(_SC_PAGESIZE) / 1024;
}

static guint count_fds(pid_t pid)
{
    g_autofree char *path = g_strdup_printf("/proc/%d/fd", pid);
    g_autoptr(GDir) dir = g_dir_open(path, 0, NULL);
    guint count = 0;

    g_assert_nonnull(dir);
    while (g_dir_read_name(dir))
        count++;
    return count;
}

static guint lease_count(sd_bus *bus)
{
    __attribute__((cleanup(sd_bus_error_free))) sd_bus_error error = SD_BUS_ERROR_NULL;
    guint count = 0;

    g_assert_cmpint(sd_bus_get_property_trivial(bus, "org.styxy.Ports", "/org/styxy/Ports",
                                                "org.styxy.Ports", "LeaseCount", &error, 'u',
                                                &count),
                    >=, 0);
    return count;
}

static void many_processes(sd_bus *bus, pid_t daemon)
{
    static pid_t pids[PROCESSES];
    guint64 before_kib = resident_kib(daemon);
    guint before_fds = count_fds(daemon), fds, left = 0;
    double begin, took;

    for (guint i = 0; i < PROCESSES; i++) {
        pids[i] = fork();
        g_assert_no_errno(pids[i]);
        if (pids[i] == 0) {
            (void)prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
            for (;;)
                (void)pause();
        }
    }
    for (guint i = 0; i < LEASES - LISTENERS; i++)
        (void)allocate(bus, "fill", i < LEASES / 2 ? pids[i % PROCESSES] : 0, NULL);
    fds = count_fds(daemon) - before_fds;
    g_print("{\"bench\": \"processes\", \"leases\": %u, \"with_process\": %d, \"processes\": %d, "
            "\"fds\": %u, \"bytes_per_lease\": %.0f",
            lease_count(bus), LEASES / 2, PROCESSES, fds,
            (double)(resident_kib(daemon) - before_kib) * 1024 / (LEASES - LISTENERS));
    judge(fds, PROCESSES + 2);
    begin = now_usec();
    for (guint i = 0; i < PROCESSES; i++)
        (void)kill(pids[i], SIGKILL);
    for (guint i = 0; i < PROCESSES; i++)
        while (waitpid(pids[i], NULL, 0) < 0 && errno == EINTR)
            ;
    do {
        left = lease_count(bus);
        took = now_usec() - begin;
    } while (left > LEASES / 2 && took < 120e6);
    /* 2 s of it are process_grace_ms */
    g_print("{\"bench\": \"mass-death\", \"processes\": %d, \"leases\": %d, \"left\": %u, "
            "\"seconds\": %.2f}\n",
            PROCESSES, LEASES / 2, left - LEASES / 2, took / 1e6);
    if (left > LEASES / 2)
        bars_missed = TRUE;
}

int main(int argc, char **argv)
{
    struct rlimit files;
    g_autoptr(GError) error = NULL;

    if (argc != 2) {
        g_printerr("usage: %s STYXYD\n", argv[0]);
        return EXIT_FAILURE;
    }
    g_assert_no_errno(getrlimit(RLIMIT_NOFILE, &files));
    files.rlim_cur = files.rlim_max;
    g_assert_no_errno(setrlimit(RLIMIT_NOFILE, &files));

    g_autoptr(Environment) environment = environment_new(argv[1], configuration, &error);

    if (environment == NULL) {
        g_printerr("%s\n", error->message);
        return EXIT_FAILURE;
    }

    pid_t daemon = environment_daemon_pid(environment);
    sd_bus *bus = environment_connect(environment, TRANSPORT_DIRECT);

    for (guint i = 0; i < LISTENERS; i++)
        listen_on(allocate(bus, "fill", 0, NULL));
    compare_with_floor(bus);
    beside_sweeps(environment, bus, LISTENERS);
    many_processes(bus, daemon);
    beside_sweeps(environment, bus, LEASES / 2);
    sd_bus_flush_close_unref(bus);
    return bars_missed ? EXIT_FAILURE : EXIT_SUCCESS;
}
