/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What a port costs: Allocate and Release beside a Ping of the same daemon over the same
 * connection, in turns within one run, so that whatever else the machine does hits both alike. Then
 * what a lease and an idle daemon cost.
 *
 * Prints one JSON object a line. "bar" is what is to be reached and "met" whether it was; the exit
 * status is 1 when a bar was missed by more than BAR_TOLERANCE, which noise alone does not do.
 */
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "environment.h"

#define CLIENTS_MAX 8
#define ROUNDS 10
#define BAR_TOLERANCE 1.25
#define BLOCK 8
#define IDLE_WATCH_MSEC 5000
#define LEASES_MANY 60000

/* All three layers are on, as they are by default: sweeps go over the leases that are held. */
static const char configuration[] =
    "{ \"service_types\": {\n"
    "    \"fill\":  { \"port_range\": [1024, 61999], \"instance_behavior\": \"multi\" },\n"
    "    \"bench\": { \"port_range\": [62000, 63999], \"instance_behavior\": \"multi\" } },\n"
    "  \"auto_allocation\": { \"enabled\": false, \"port_range\": [64000, 64999] },\n"
    "  \"limits\": { \"leases_per_user\": 65000 } }\n";

typedef enum Operation {
    OPERATION_PING,
    OPERATION_ALLOCATE,
    OPERATION_RELEASE,
    OPERATION_SOCKET, /* AllocateSocket */
    OPERATION_BLOCK,  /* AllocateBlock of BLOCK ports */
    OPERATION_PAIR,   /* Allocate and Release with nothing in between, again and again */
    _OPERATION_MAX,
} Operation;

static const char *const operation_names[_OPERATION_MAX] = {"ping",   "allocate", "release",
                                                            "socket", "block",    "pair"};

/** Client: one thread with a connection of its own. */
typedef struct Client {
    const Environment *environment;
    Transport transport;
    guint per_round;
    pthread_barrier_t *barrier;
    GArray *nsec[_OPERATION_MAX]; /* of guint64, durations */
} Client;

/** Figures: one line of the report. */
typedef struct Figures {
    double p50_usec;
    double p99_usec;
    double ops_per_sec;
} Figures;

static gboolean bars_missed;

static guint64 now_nsec(void)
{
    struct timespec ts;

    g_assert_cmpint(clock_gettime(CLOCK_MONOTONIC, &ts), ==, 0);
    return (guint64)ts.tv_sec * G_GUINT64_CONSTANT(1000000000) + (guint64)ts.tv_nsec;
}

static sd_bus_message *call(sd_bus *bus, sd_bus_message *message)
{
    __attribute__((cleanup(sd_bus_error_free))) sd_bus_error error = SD_BUS_ERROR_NULL;
    sd_bus_message *reply = NULL;

    if (sd_bus_call(bus, message, 0, &error, &reply) < 0)
        g_error("%s: %s: %s", sd_bus_message_get_member(message), error.name, error.message);
    sd_bus_message_unref(message);
    return reply;
}

static sd_bus_message *new_call(sd_bus *bus, const char *interface, const char *member)
{
    sd_bus_message *message = NULL;

    g_assert_cmpint(sd_bus_message_new_method_call(bus, &message, "org.styxy.Ports",
                                                   "/org/styxy/Ports", interface, member),
                    >=, 0);
    return message;
}

static void ping(sd_bus *bus)
{
    sd_bus_message_unref(call(bus, new_call(bus, "org.freedesktop.DBus.Peer", "Ping")));
}

/* Returns: the reply, which holds the lease that *@ret_lease points to. */
static sd_bus_message *allocate(sd_bus *bus, const char *service_type, const char **ret_lease)
{
    sd_bus_message *message = new_call(bus, "org.styxy.Ports", "Allocate");
    guint16 port = 0;

    g_assert_cmpint(sd_bus_message_append(message, "sa{sv}", service_type, 0), >=, 0);

    sd_bus_message *reply = call(bus, message);

    g_assert_cmpint(sd_bus_message_read(reply, "qs", &port, ret_lease), >, 0);
    g_assert_cmpint(port, !=, 0);
    return reply;
}

/* As allocate(); the socket is the reply's and closed with it. */
static sd_bus_message *allocate_socket(sd_bus *bus, const char **ret_lease)
{
    sd_bus_message *message = new_call(bus, "org.styxy.Ports", "AllocateSocket");
    guint16 port = 0;
    int fd = -1;

    g_assert_cmpint(sd_bus_message_append(message, "sa{sv}", "bench", 0), >=, 0);

    sd_bus_message *reply = call(bus, message);

    g_assert_cmpint(sd_bus_message_read(reply, "qsh", &port, ret_lease, &fd), >, 0);
    g_assert_cmpint(fd, >=, 0);
    return reply;
}

static sd_bus_message *allocate_block(sd_bus *bus, const char *ret_leases[BLOCK])
{
    sd_bus_message *message = new_call(bus, "org.styxy.Ports", "AllocateBlock");
    guint16 port = 0;

    g_assert_cmpint(sd_bus_message_append(message, "sqa{sv}", "bench", BLOCK, 0), >=, 0);

    sd_bus_message *reply = call(bus, message);

    g_assert_cmpint(sd_bus_message_enter_container(reply, SD_BUS_TYPE_ARRAY, "(qs)"), >, 0);
    for (guint i = 0; i < BLOCK; i++)
        g_assert_cmpint(sd_bus_message_read(reply, "(qs)", &port, &ret_leases[i]), >, 0);
    return reply;
}

static void release(sd_bus *bus, const char *lease)
{
    sd_bus_message *message = new_call(bus, "org.styxy.Ports", "Release");

    g_assert_cmpint(sd_bus_message_append(message, "s", lease), >=, 0);
    sd_bus_message_unref(call(bus, message));
}

static void note(Client *client, Operation operation, guint64 nsec)
{
    g_array_append_val(client->nsec[operation], nsec);
}

static void ping_round(Client *client, sd_bus *bus)
{
    for (guint i = 0; i < client->per_round; i++) {
        guint64 before = now_nsec();

        ping(bus);
        note(client, OPERATION_PING, now_nsec() - before);
    }
}

/*
 * Each call by itself. The daemon answers first and sends its signals and log lines then, so
 * without the pings in between a call would wait for what the one before it has left to do.
 */
static void single_round(Client *client, sd_bus *bus)
{
    for (guint i = 0; i < client->per_round; i++) {
        const char *lease = NULL;
        guint64 before = now_nsec();
        sd_bus_message *reply = allocate(bus, "bench", &lease);

        note(client, OPERATION_ALLOCATE, now_nsec() - before);
        ping(bus);
        before = now_nsec();
        release(bus, lease);
        note(client, OPERATION_RELEASE, now_nsec() - before);
        ping(bus);
        sd_bus_message_unref(reply);
    }
}

/* The other two ways to a port, a third as often: they have the same floor. */
static void other_round(Client *client, sd_bus *bus)
{
    for (guint i = 0; i < client->per_round / 3; i++) {
        const char *lease = NULL, *leases[BLOCK];
        guint64 before = now_nsec();
        sd_bus_message *reply = allocate_socket(bus, &lease);

        note(client, OPERATION_SOCKET, now_nsec() - before);
        release(bus, lease);
        sd_bus_message_unref(reply);
        ping(bus);
        before = now_nsec();
        reply = allocate_block(bus, leases);
        note(client, OPERATION_BLOCK, now_nsec() - before);
        for (guint j = 0; j < BLOCK; j++)
            release(bus, leases[j]);
        sd_bus_message_unref(reply);
        ping(bus);
    }
}

static void pair_round(Client *client, sd_bus *bus)
{
    for (guint i = 0; i < client->per_round; i++) {
        const char *lease = NULL;
        guint64 before = now_nsec();
        sd_bus_message *reply = allocate(bus, "bench", &lease);

        release(bus, lease);
        note(client, OPERATION_PAIR, now_nsec() - before);
        sd_bus_message_unref(reply);
    }
}

/* The rounds take turns, and the barrier keeps the clients of one run in step. */
static void *client_main(void *data)
{
    static void (*const rounds[])(Client *, sd_bus *) = {ping_round, single_round, other_round,
                                                         pair_round};
    Client *client = data;
    sd_bus *bus = environment_connect(client->environment, client->transport);

    for (guint i = 0; i < 20; i++)
        ping(bus);
    for (guint round = 0; round < ROUNDS * G_N_ELEMENTS(rounds); round++) {
        (void)pthread_barrier_wait(client->barrier);
        rounds[round % G_N_ELEMENTS(rounds)](client, bus);
    }
    sd_bus_flush_close_unref(bus);
    return NULL;
}

static gint compare_nsec(gconstpointer a, gconstpointer b)
{
    guint64 left = *(const guint64 *)a, right = *(const guint64 *)b;

    return (left > right) - (left < right);
}

static double percentile_usec(GArray *sorted, double part)
{
    guint index = (guint)((double)(sorted->len - 1) * part + 0.5);

    return (double)g_array_index(sorted, guint64, index) / 1000;
}

static Figures summarise(Client *clients, guint n_clients, Operation operation)
{
    g_autoptr(GArray) all = g_array_new(FALSE, FALSE, sizeof(guint64));
    double sum_sec = 0;

    for (guint i = 0; i < n_clients; i++) {
        GArray *nsec = clients[i].nsec[operation];

        g_array_append_vals(all, nsec->data, nsec->len);
    }
    g_array_sort(all, compare_nsec);
    for (guint i = 0; i < all->len; i++)
        sum_sec += (double)g_array_index(all, guint64, i) / 1e9;

    return (Figures){
        .p50_usec = percentile_usec(all, 0.50),
        .p99_usec = percentile_usec(all, 0.99),
        .ops_per_sec = (double)all->len * n_clients / sum_sec,
    };
}

/* Ends a line of the report with its bar, if there is one (@bar > 0), and judges @value by it. */
static void judge(double value, double bar)
{
    if (bar > 0) {
        g_print(", \"bar\": %.2f, \"met\": %s", bar, value <= bar ? "true" : "false");
        if (value > bar * BAR_TOLERANCE)
            bars_missed = TRUE;
    }
    g_print("}\n");
}

/* Returns: p50 of Allocate in microseconds. */
static double run(const Environment *environment, Transport transport, guint n_clients,
                  guint leases)
{
    Client clients[CLIENTS_MAX] = {0};
    GThread *threads[CLIENTS_MAX];
    pthread_barrier_t barrier;
    Figures figures[_OPERATION_MAX];

    g_assert_cmpint(pthread_barrier_init(&barrier, NULL, n_clients), ==, 0);
    for (guint i = 0; i < n_clients; i++) {
        clients[i].environment = environment;
        clients[i].transport = transport;
        clients[i].per_round = 600 / n_clients;
        clients[i].barrier = &barrier;
        for (Operation o = 0; o < _OPERATION_MAX; o++)
            clients[i].nsec[o] = g_array_new(FALSE, FALSE, sizeof(guint64));
        threads[i] = g_thread_new("client", client_main, &clients[i]);
    }
    for (guint i = 0; i < n_clients; i++)
        (void)g_thread_join(threads[i]);
    (void)pthread_barrier_destroy(&barrier);

    for (Operation o = 0; o < _OPERATION_MAX; o++) {
        figures[o] = summarise(clients, n_clients, o);

        double ratio = figures[o].p50_usec / figures[OPERATION_PING].p50_usec;
        double bar = 0;

        /* The bars are for one client that nobody keeps waiting. */
        if (o == OPERATION_ALLOCATE && n_clients == 1)
            bar = transport == TRANSPORT_BUS ? 1.3 : 1.6;
        g_print("{\"bench\": \"%s\", \"path\": \"%s\", \"clients\": %u, \"leases\": %u, "
                "\"p50_usec\": %.1f, \"p99_usec\": %.1f, \"ops_per_sec\": %.0f, "
                "\"ratio_to_ping\": %.2f",
                operation_names[o], transport_to_string(transport), n_clients, leases,
                figures[o].p50_usec, figures[o].p99_usec, figures[o].ops_per_sec, ratio);
        judge(ratio, bar);
    }
    for (guint i = 0; i < n_clients; i++)
        for (Operation o = 0; o < _OPERATION_MAX; o++)
            g_array_unref(clients[i].nsec[o]);
    return figures[OPERATION_ALLOCATE].p50_usec;
}

/* One number of /proc/PID/status, or of /proc/PID/task/TID/status. */
static guint64 status_value(const char *path, const char *key)
{
    g_autofree char *text = NULL;
    g_autofree char *start = g_strdup_printf("\n%s:", key);

    if (!g_file_get_contents(path, &text, NULL, NULL))
        return 0; /* a thread that has just ended */

    const char *found = strstr(text, start);

    g_assert_nonnull(found);
    return g_ascii_strtoull(found + strlen(start), NULL, 10);
}

static guint64 resident_kib(pid_t pid)
{
    g_autofree char *path = g_strdup_printf("/proc/%d/status", pid);

    return status_value(path, "VmRSS");
}

static guint64 wakeups(pid_t pid)
{
    g_autofree char *tasks = g_strdup_printf("/proc/%d/task", pid);
    g_autoptr(GDir) dir = g_dir_open(tasks, 0, NULL);
    guint64 sum = 0;

    g_assert_nonnull(dir);
    for (const char *name; (name = g_dir_read_name(dir)) != NULL;) {
        g_autofree char *path = g_build_filename(tasks, name, "status", NULL);

        sum += status_value(path, "voluntary_ctxt_switches");
    }
    return sum;
}

static void idle(pid_t pid)
{
    guint64 kib = resident_kib(pid);

    g_print("{\"bench\": \"idle-memory\", \"rss_kib\": %" G_GUINT64_FORMAT, kib);
    judge((double)kib, 8192);

    guint64 before = wakeups(pid);

    (void)poll(NULL, 0, IDLE_WATCH_MSEC);

    guint64 count = wakeups(pid) - before;

    g_print("{\"bench\": \"idle-wakeups\", \"seconds\": %d, \"wakeups\": %" G_GUINT64_FORMAT
            ", \"bar\": 0, \"met\": %s}\n",
            IDLE_WATCH_MSEC / 1000, count, count == 0 ? "true" : "false");
    if (count > 0)
        bars_missed = TRUE;
}

static void fill(sd_bus *bus, guint from, guint to)
{
    for (guint i = from; i < to; i++) {
        const char *lease = NULL;

        sd_bus_message_unref(allocate(bus, "fill", &lease));
    }
}

int main(int argc, char **argv)
{
    static const guint counts[] = {10, 1000, LEASES_MANY};
    g_autoptr(GError) error = NULL;

    if (argc != 2) {
        g_printerr("usage: %s STYXYD\n", argv[0]);
        return EXIT_FAILURE;
    }

    g_autoptr(Environment) environment = environment_new(argv[1], configuration, &error);

    if (environment == NULL) {
        g_printerr("%s\n", error->message);
        return EXIT_FAILURE;
    }

    pid_t daemon = environment_daemon_pid(environment);

    idle(daemon);

    sd_bus *holder = environment_connect(environment, TRANSPORT_DIRECT);
    double few_usec[2] = {0};
    guint64 few_kib = 0;
    guint held = 0;

    for (guint i = 0; i < G_N_ELEMENTS(counts); i++) {
        fill(holder, held, counts[i]);
        held = counts[i];
        if (held == LEASES_MANY) {
            double bytes = (double)(resident_kib(daemon) - few_kib) * 1024 / (held - counts[0]);

            g_print("{\"bench\": \"lease-memory\", \"leases\": %u, \"bytes_per_lease\": %.0f", held,
                    bytes);
            judge(bytes, 700);
        }
        for (Transport t = TRANSPORT_BUS; t <= TRANSPORT_DIRECT; t++) {
            double usec = run(environment, t, 1, held);

            (void)run(environment, t, CLIENTS_MAX, held);
            if (i == 0)
                few_usec[t] = usec;
            if (held == LEASES_MANY) {
                g_print("{\"bench\": \"scaling\", \"path\": \"%s\", \"leases\": %u, "
                        "\"ratio_to_few\": %.2f",
                        transport_to_string(t), held, usec / few_usec[t]);
                judge(usec / few_usec[t], 1.2);
            }
        }
        if (i == 0)
            few_kib = resident_kib(daemon);
    }
    sd_bus_flush_close_unref(holder);
    return bars_missed ? EXIT_FAILURE : EXIT_SUCCESS;
}
