/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* What the machine does meanwhile: ports bound and freed, processes started and killed, and a
 * configuration that somebody edits. */
#include <arpa/inet.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fuzz-bus.h"

#define SOCKETS 24
#define PROCESSES 8

struct Outside {
    Fuzz *fuzz;
    int fds[SOCKETS];      /* owned, -1 = none */
    pid_t pids[PROCESSES]; /* 0 = none; every other one is OTHER_UID's */
};

#define CONFIGURATION(extra)                                                                  \
    "{ \"service_types\": {\n"                                                                \
    "    \"dev\": { \"port_range\": [20000, 20199] },\n"                                      \
    "    \"web\": { \"port_range\": [20200, 20399], \"preferred_ports\": [20250, 20251] },\n" \
    "    \"tiny\": { \"port_range\": [20400, 20401] },\n"                                     \
    "    \"low\": { \"port_range\": [900, 909] },\n"                                          \
    "    \"data\": { \"port_range\": [20500, 20599], \"protocol\": \"udp\" },\n"              \
    "    \"both\": { \"port_range\": [20600, 20699], \"protocol\": \"both\" },\n"             \
    "    \"one\": { \"port_range\": [20700, 20709], \"instance_behavior\": \"single\" } },\n" \
    "  \"auto_allocation\": { \"enabled\": true, \"port_range\": [22000, 22399] },\n"         \
    "  \"recovery\": { \"port_conflict\": { \"backoff_ms\": 5, \"cooldown_ms\": 50 },\n"      \
    "    \"health_monitoring\": { \"check_interval_ms\": 1000, \"startup_grace_ms\": 3000,\n" \
    "      \"process_grace_ms\": 300, \"http_timeout_ms\": 300 },\n"                          \
    "    \"system_recovery\": { \"max_recovery_attempts\": 100 } },\n"                        \
    "  \"limits\": { \"leases_per_user\": 150, \"auto_types_per_user\": 16,\n" extra          \
    "    \"sticky_ports_per_user\": 64, \"pending_requests_per_connection\": 16 } }\n"

const char outside_configuration[] = CONFIGURATION("");

static void write_configuration(const Outside *outside, const char *text)
{
    g_autofree char *path = g_build_filename(outside->fuzz->world->folder, "config.json", NULL);
    g_autoptr(GError) error = NULL;

    if (!g_file_set_contents(path, text, -1, &error))
        fuzz_fail(outside->fuzz, "%s", error->message);
}

void outside_good_configuration(Outside *outside)
{
    write_configuration(outside, outside_configuration);
}

static void change_configuration(Outside *outside)
{
    static const char *const texts[] = {
        outside_configuration,
        CONFIGURATION("\"block_size\": 64,\n"),
        CONFIGURATION("\"nonsense\": 1,\n"),
        CONFIGURATION("\"block_size\": \"many\",\n"),
        "{ \"service_types\": { \"dev\": { \"port_range\": [1, 70000] } } }",
        "",
        "[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[",
    };

    write_configuration(outside, texts[fuzz_dice(outside->fuzz, G_N_ELEMENTS(texts))]);
}

/* ---- ports ---- */

static int bind_port(const Fuzz *fuzz, guint16 port)
{
    gboolean v6 = fuzz_one_in(fuzz, 2), udp = fuzz_one_in(fuzz, 3);
    struct sockaddr_in6 six = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
    struct sockaddr_in four = {.sin_family = AF_INET,
                               .sin_port = htons(port),
                               .sin_addr.s_addr =
                                   htonl(fuzz_one_in(fuzz, 2) ? INADDR_LOOPBACK : 0)};
    int fd = socket(v6 ? AF_INET6 : AF_INET,
                    (udp ? SOCK_DGRAM : SOCK_STREAM) | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    (void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &(int){1}, sizeof(int));
    if (fd >= 0 &&
        bind(fd, v6 ? (const struct sockaddr *)&six : (const struct sockaddr *)&four,
             v6 ? sizeof six : sizeof four) == 0 &&
        (udp || fuzz_one_in(fuzz, 3) || listen(fd, 4) == 0))
        return fd;
    if (fd >= 0)
        (void)close(fd);
    return -1;
}

void outside_keep(Outside *outside, int fd)
{
    int *place = &outside->fds[fuzz_dice(outside->fuzz, SOCKETS)];

    if (*place >= 0)
        (void)close(*place);
    *place = fd;
    if (fd >= 0)
        (void)listen(fd, 4); /* udp cannot, and need not */
}

/* ---- processes ---- */

static pid_t start_process(uid_t uid)
{
    pid_t pid = fork();

    if (pid != 0)
        return MAX(pid, 0);
    /* Our connections and ports would stay open with it, and our output with whoever reads that. */
    (void)close_range(0, ~0u, 0);
    if (uid != 0 && setuid(uid) < 0)
        _exit(1);
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0); /* setuid() forgets it */
    for (;;)
        (void)pause();
}

static void toggle_process(Outside *outside)
{
    guint i = fuzz_dice(outside->fuzz, PROCESSES);

    if (outside->pids[i] == 0) {
        outside->pids[i] = start_process(i % 2 ? OTHER_UID : 0);
        return;
    }
    (void)kill(outside->pids[i], SIGKILL);
    (void)waitpid(outside->pids[i], NULL, 0);
    outside->pids[i] = 0;
}

pid_t outside_process(Outside *outside, uid_t uid)
{
    for (guint k = 0; k < PROCESSES; k++) {
        guint i = fuzz_dice(outside->fuzz, PROCESSES);

        if (outside->pids[i] > 0 && (i % 2 ? OTHER_UID : 0) == uid)
            return outside->pids[i];
    }
    return 0;
}

void outside_step(Outside *outside)
{
    const Fuzz *fuzz = outside->fuzz;
    guint dice = fuzz_dice(fuzz, 10);

    if (dice < 6)
        outside_keep(outside,
                     fuzz_one_in(fuzz, 3) ? -1 : bind_port(fuzz, value_port(outside->fuzz)));
    else if (dice < 8)
        toggle_process(outside);
    else
        change_configuration(outside);
}

Outside *outside_new(Fuzz *fuzz)
{
    Outside *outside = g_new0(Outside, 1);

    outside->fuzz = fuzz;
    for (guint i = 0; i < SOCKETS; i++)
        outside->fds[i] = -1;
    return outside;
}

void outside_free(Outside *outside)
{
    for (guint i = 0; i < SOCKETS; i++)
        if (outside->fds[i] >= 0)
            (void)close(outside->fds[i]);
    for (guint i = 0; i < PROCESSES; i++)
        if (outside->pids[i] > 0) {
            (void)kill(outside->pids[i], SIGKILL);
            (void)waitpid(outside->pids[i], NULL, 0);
        }
    g_free(outside);
}
