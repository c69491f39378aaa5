/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What a conflict costs: Allocate where the first ports of the range are held by others, beside a
 * plain Allocate and beside as many bare binds that are refused, all in turns within one run.
 *
 * Prints one JSON object a line. What an Allocate with conflicts takes more than a plain one is to
 * be at most twice the binds; the exit status is 1 when that is missed by more than BAR_TOLERANCE,
 * or when what was granted is not exactly what it should be.
 */
#include <netinet/in.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "environment.h"

#define FIRST 3000
#define HELD_MAX 99
#define ROUNDS 300
#define BAR 2.0
#define BAR_TOLERANCE 1.25

/* No cooldown, or only the first round would meet the conflicts. */
static const char configuration[] =
    "{ \"service_types\": {\n"
    "    \"dev\": { \"port_range\": [3000, 3099], \"instance_behavior\": \"multi\" },\n"
    "    \"plain\": { \"port_range\": [5000, 5099], \"instance_behavior\": \"multi\" } },\n"
    "  \"recovery\": { \"port_conflict\": { \"cooldown_ms\": 0 },\n"
    "                \"health_monitoring\": { \"enabled\": false } } }\n";

static double now_usec(void)
{
    struct timespec ts;

    g_assert_cmpint(clock_gettime(CLOCK_MONOTONIC, &ts), ==, 0);
    return (double)ts.tv_sec * 1e6 + (double)ts.tv_nsec / 1e3;
}

static int bind_to(guint16 port)
{
    struct sockaddr_in6 address = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
    int fd = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);

    g_assert_cmpint(fd, >=, 0);
    if (bind(fd, (struct sockaddr *)&address, sizeof address) == 0)
        return fd;
    (void)close(fd);
    return -1;
}

static sd_bus_message *call(sd_bus *bus, const char *interface, const char *member,
                            const char *first, gboolean has_options)
{
    __attribute__((cleanup(sd_bus_error_free))) sd_bus_error error = SD_BUS_ERROR_NULL;
    sd_bus_message *message = NULL, *reply = NULL;

    g_assert_cmpint(sd_bus_message_new_method_call(bus, &message, "org.styxy.Ports",
                                                   "/org/styxy/Ports", interface, member),
                    >=, 0);
    if (first)
        g_assert_cmpint(sd_bus_message_append(message, "s", first), >=, 0);
    if (has_options)
        g_assert_cmpint(sd_bus_message_append(message, "a{sv}", 0), >=, 0);
    if (sd_bus_call(bus, message, 0, &error, &reply) < 0)
        g_error("%s: %s: %s", member, error.name, error.message);
    sd_bus_message_unref(message);
    return reply;
}

static int on_released(sd_bus_message *message, void *data, sd_bus_error *error)
{
    *(gboolean *)data = TRUE;
    return 0;
}

/*
 * The daemon answers first and tells everybody of conflicts and leases then. The end of a lease is
 * told last, so once that is here nothing of it is in the way of what is measured next.
 */
static void release(sd_bus *bus, const char *lease, gboolean *released)
{
    *released = FALSE;
    sd_bus_message_unref(call(bus, "org.styxy.Ports", "Release", lease, FALSE));
    while (!*released) {
        int r = sd_bus_process(bus, NULL);

        g_assert_cmpint(r, >=, 0);
        if (r == 0)
            g_assert_cmpint(sd_bus_wait(bus, 10 * G_USEC_PER_SEC), >, 0);
    }
}

/* Returns: what Allocate took. Releases again. */
static double allocate(sd_bus *bus, const char *service_type, guint16 wanted, gboolean *released)
{
    const char *lease = NULL;
    guint16 port = 0;
    double before = now_usec();
    sd_bus_message *reply = call(bus, "org.styxy.Ports", "Allocate", service_type, TRUE);
    double took = now_usec() - before;

    g_assert_cmpint(sd_bus_message_read(reply, "qs", &port, &lease), >, 0);
    g_assert_cmpuint(port, ==, wanted);
    release(bus, lease, released);
    sd_bus_message_unref(reply);
    return took;
}

static double bare_binds(guint count)
{
    double before = now_usec();

    for (guint i = 0; i < count; i++)
        g_assert_cmpint(bind_to((guint16)(FIRST + i)), ==, -1);
    return now_usec() - before;
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

static double median(double *values)
{
    qsort(values, ROUNDS, sizeof *values, compare);
    return values[ROUNDS / 2];
}

/* Returns: FALSE when the bar is missed clearly. */
static gboolean run(sd_bus *bus, Transport transport, guint held)
{
    static double plain[ROUNDS], conflicts[ROUNDS], binds[ROUNDS];
    gboolean released = FALSE;
    double more, ratio;

    g_assert_cmpint(sd_bus_match_signal(bus, NULL, NULL, "/org/styxy/Ports", "org.styxy.Ports",
                                        "PortReleased", on_released, &released),
                    >=, 0);
    sd_bus_message_unref(call(bus, "org.styxy.Ports", "Subscribe", NULL, FALSE));
    for (guint i = 0; i < ROUNDS; i++) {
        plain[i] = allocate(bus, "plain", 5000, &released);
        conflicts[i] = allocate(bus, "dev", (guint16)(FIRST + held), &released);
        binds[i] = bare_binds(held);
    }
    more = median(conflicts) - median(plain);
    ratio = more / median(binds);
    g_print("{\"bench\": \"conflicts\", \"path\": \"%s\", \"held\": %u, \"plain_p50_usec\": %.1f, "
            "\"allocate_p50_usec\": %.1f, \"more_usec\": %.1f, \"bare_binds_usec\": %.1f, "
            "\"ratio_to_binds\": %.2f, \"bar\": %.2f, \"met\": %s}\n",
            transport_to_string(transport), held, median(plain), median(conflicts), more,
            median(binds), ratio, BAR, ratio <= BAR ? "true" : "false");
    return ratio <= BAR * BAR_TOLERANCE;
}

int main(int argc, char **argv)
{
    static const guint counts[] = {1, 3, 10, HELD_MAX};
    g_autoptr(Environment) environment = NULL;
    g_autoptr(GError) error = NULL;
    gboolean met = TRUE;
    guint held = 0;

    if (argc != 2) {
        g_printerr("usage: %s STYXYD\n", argv[0]);
        return EXIT_FAILURE;
    }
    environment = environment_new(argv[1], configuration, &error);
    if (!environment) {
        g_printerr("%s\n", error->message);
        return EXIT_FAILURE;
    }
    for (guint i = 0; i < G_N_ELEMENTS(counts); i++) {
        for (; held < counts[i]; held++) {
            int fd = bind_to((guint16)(FIRST + held));

            g_assert_cmpint(fd, >=, 0);
            g_assert_cmpint(listen(fd, 1), ==, 0);
        }
        for (Transport t = TRANSPORT_BUS; t <= TRANSPORT_DIRECT; t++) {
            sd_bus *bus = environment_connect(environment, t);

            met &= run(bus, t, held);
            sd_bus_flush_close_unref(bus);
        }
    }
    return met ? EXIT_SUCCESS : EXIT_FAILURE;
}
