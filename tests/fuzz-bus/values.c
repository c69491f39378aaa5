/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "fuzz-bus.h"

#include <fcntl.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "util/fd.h"

/* Texts that are alive at a time. */
#define RING 10
#define PICK(fuzz, list) (list)[fuzz_dice((fuzz), G_N_ELEMENTS(list))]

/* Makes @text the ring's. */
static const char *keep(char *text)
{
    static char *ring[RING];
    static guint next;

    next = (next + 1) % RING;
    g_free(ring[next]);
    ring[next] = text;
    return text;
}

static gsize long_bytes;

gsize value_long_bytes(void)
{
    return long_bytes;
}

static const char *long_text(Fuzz *fuzz)
{
    static const guint lengths[] = {50, 51, 100, 101, 2048, 2049, 20000};
    guint length = PICK(fuzz, lengths);

    long_bytes += length;
    return keep(g_strnfill(length, (char)('a' + fuzz_dice(fuzz, 26))));
}

const char *value_text(Fuzz *fuzz)
{
    static const char *const odd[] = {"",
                                      " ",
                                      "dev\nFORGED=1",
                                      "../../etc",
                                      "%s%n%s",
                                      "a b",
                                      "\xc3\xa4\xc3\xb6",
                                      "\xf0\x9f\x98\x80",
                                      "'; DROP TABLE leases",
                                      "{port}",
                                      "\"",
                                      "tcp ",
                                      "NULL",
                                      "\x7f\x01",
                                      "-1",
                                      "localhost"};

    return fuzz_one_in(fuzz, 4) ? long_text(fuzz) : PICK(fuzz, odd);
}

const char *value_service_type(Fuzz *fuzz)
{
    static const char *const types[] = {"dev", "dev", "dev",  "web", "tiny",
                                        "one", "low", "data", "both"};

    if (fuzz_one_in(fuzz, 25))
        return value_text(fuzz);
    if (fuzz_one_in(fuzz, 4))
        return keep(g_strdup_printf("auto-%u", fuzz_dice(fuzz, 40)));
    return PICK(fuzz, types);
}

const char *value_lease(Fuzz *fuzz)
{
    const char *known = model_any_lease(fuzz->model, fuzz->dice);

    if (known && !fuzz_one_in(fuzz, 10))
        return keep(g_strdup(known));
    if (fuzz_one_in(fuzz, 2))
        return value_text(fuzz);
    return keep(g_strdup_printf("%08x%08x%08x%08x", g_rand_int(fuzz->dice), g_rand_int(fuzz->dice),
                                g_rand_int(fuzz->dice), g_rand_int(fuzz->dice)));
}

const char *value_instance(Fuzz *fuzz)
{
    if (fuzz_one_in(fuzz, 25))
        return value_text(fuzz);
    return keep(g_strdup_printf("instance_%u", fuzz_dice(fuzz, 30)));
}

const char *value_protocol(Fuzz *fuzz)
{
    static const char *const protocols[] = {"tcp", "tcp", "udp", "both"};

    return fuzz_one_in(fuzz, 25) ? value_text(fuzz) : PICK(fuzz, protocols);
}

guint16 value_port(Fuzz *fuzz)
{
    static const guint16 edges[] = {0, 1, 80, 899, 900, 1023, 1024, 19999, 20000, 32768, 65535};

    switch (fuzz_dice(fuzz, 5)) {
    case 0:
        return PICK(fuzz, edges);
    case 1:
        return (guint16)g_rand_int(fuzz->dice);
    case 2:
        return (guint16)(20000 + fuzz_dice(fuzz, 400));
    default:
        return model_any_port(fuzz->model, fuzz->dice);
    }
}

/* ---- options ---- */

static int some_fd(Fuzz *fuzz, const Pending *pending)
{
    pid_t pid = outside_process(fuzz->outside, pending->actor->uid);

    if (pid > 0 && !fuzz_one_in(fuzz, 5))
        return (int)syscall(SYS_pidfd_open, pid, 0);
    return open("/dev/null", O_RDONLY | O_CLOEXEC);
}

static guint32 some_number(Fuzz *fuzz)
{
    static const guint32 edges[] = {0, 1, 1000, 65536, 2147483647, 2147483648u, 4294967295u};

    return PICK(fuzz, edges);
}

static const char *option_text(Fuzz *fuzz, const char *key)
{
    static const char *const lifetimes[] = {"auto", "client", "persistent", "persistent",
                                            "process"};
    static const char *const addresses[] = {"127.0.0.1", "::1",       "0.0.0.0",
                                            "::",        "127.0.0.2", "::ffff:127.0.0.1",
                                            "192.0.2.1", "fe80::1"};
    static const char *const urls[] = {"http://127.0.0.1:{port}/",  "http://[::1]:{port}/health",
                                       "https://localhost:{port}/", "http://127.0.0.1:20000/",
                                       "http://192.0.2.1:{port}/",  "http://127.0.0.1:1/"};
    static const char *const unhealthy[] = {"release", "notify", "restart"};
    static const char *const holds[] = {"none", "soft"};

    if (fuzz_one_in(fuzz, 30))
        return value_text(fuzz);
    if (strcmp(key, "protocol") == 0)
        return value_protocol(fuzz);
    if (strcmp(key, "address") == 0)
        return PICK(fuzz, addresses);
    if (strcmp(key, "instance") == 0)
        return value_instance(fuzz);
    if (strcmp(key, "lifetime") == 0)
        return PICK(fuzz, lifetimes);
    if (strcmp(key, "hold") == 0)
        return PICK(fuzz, holds);
    if (strcmp(key, "health_url") == 0)
        return PICK(fuzz, urls);
    if (strcmp(key, "on_unhealthy") == 0)
        return PICK(fuzz, unhealthy);
    return keep(g_strdup_printf("label.%u", g_rand_int(fuzz->dice)));
}

static void append_text(Fuzz *fuzz, sd_bus_message *m, const char *key, Pending *pending)
{
    const char *text = option_text(fuzz, key);

    (void)sd_bus_message_append(m, "{sv}", key, "s", text);
    if (strcmp(key, "lifetime") == 0) {
        pending->grant.persistent = strcmp(text, "persistent") == 0;
        pending->grant.of_client = strcmp(text, "client") == 0;
    } else if (strcmp(key, "health_url") == 0) {
        pending->grant.has_health_url = TRUE;
    }
}

static void append_number(Fuzz *fuzz, sd_bus_message *m, const char *key, Pending *pending)
{
    guint32 number = fuzz_one_in(fuzz, 15) ? some_number(fuzz) : 1 + fuzz_dice(fuzz, 3000);

    if (strcmp(key, "pid") == 0) {
        pending->grant.has_process = TRUE;
        if (!fuzz_one_in(fuzz, 5))
            number = (guint32)outside_process(
                fuzz->outside, fuzz_one_in(fuzz, 8) ? OTHER_UID : pending->actor->uid);
    } else if (strcmp(key, "retries") == 0) {
        number = fuzz_one_in(fuzz, 20) ? 90 + number % 20 : number % 3;
        pending->patient = pending->patient || number > 3;
    } else if (strcmp(key, "ttl_ms") == 0) {
        pending->grant.has_ttl = TRUE;
    }
    (void)sd_bus_message_append(m, "{sv}", key, "u", number);
}

static void append_option(Fuzz *fuzz, sd_bus_message *m, const char *key, char type,
                          Pending *pending)
{
    AUTO_FD fd = -1;
    guint16 first = 0;

    switch (type) {
    case 's':
        append_text(fuzz, m, key, pending);
        return;
    case 'u':
        append_number(fuzz, m, key, pending);
        return;
    case 'q':
        (void)sd_bus_message_append(m, "{sv}", key, "q", value_port(fuzz));
        return;
    case 'b':
        (void)sd_bus_message_append(m, "{sv}", key, "b", (int)fuzz_dice(fuzz, 2));
        return;
    case 'r':
        first = (guint16)(fuzz_one_in(fuzz, 5) ? value_port(fuzz) : 20000 + fuzz_dice(fuzz, 300));
        (void)sd_bus_message_append(m, "{sv}", key, "(qq)", first,
                                    fuzz_one_in(fuzz, 8) ? value_port(fuzz)
                                                         : (guint16)(first + fuzz_dice(fuzz, 200)));
        return;
    case 'h':
        fd = some_fd(fuzz, pending);
        pending->grant.has_process = TRUE;
        if (fd >= 0 && sd_bus_can_send(pending->actor->bus, 'h') > 0)
            pending->has_fd = sd_bus_message_append(m, "{sv}", key, "h", fd) >= 0;
        return;
    default:
        g_assert_not_reached();
    }
}

void value_append_options(Fuzz *fuzz, sd_bus_message *m, Pending *pending)
{
    /* how often, in a hundred */
    static const struct {
        const char *key;
        char type;
        guint percent;
    } options[] = {
        {"port", 'q', 20},        {"strict", 'b', 8},     {"range", 'r', 8},
        {"protocol", 's', 20},    {"address", 's', 10},   {"instance", 's', 25},
        {"label", 's', 30},       {"lifetime", 's', 50},  {"hold", 's', 15},
        {"retries", 'u', 5},      {"ttl_ms", 'u', 8},     {"pid", 'u', 8},
        {"pidfd", 'h', 4},        {"health_url", 's', 4}, {"health_timeout_ms", 'u', 2},
        {"on_unhealthy", 's', 2},
    };

    (void)sd_bus_message_open_container(m, 'a', "{sv}");
    for (guint i = 0; i < G_N_ELEMENTS(options); i++) {
        if (fuzz_dice(fuzz, 100) < options[i].percent)
            append_option(fuzz, m, options[i].key, options[i].type, pending);
        if (fuzz_one_in(fuzz, 400)) /* of another type */
            append_option(fuzz, m, options[i].key, "suqbr"[fuzz_dice(fuzz, 5)], pending);
    }
    if (fuzz_one_in(fuzz, 50))
        (void)sd_bus_message_append(m, "{sv}", value_text(fuzz), "s", "x");
    if (fuzz_one_in(fuzz, 200))
        (void)sd_bus_message_append(m, "{sv}", "label", "v", "v", "s", "deep");
    (void)sd_bus_message_close_container(m);
}

void value_append_filter(Fuzz *fuzz, sd_bus_message *m)
{
    static const char *const healths[] = {"reserved", "active", "failing", "dormant", "sick"};

    (void)sd_bus_message_open_container(m, 'a', "{sv}");
    if (fuzz_one_in(fuzz, 3))
        (void)sd_bus_message_append(m, "{sv}", "service_type", "s", value_service_type(fuzz));
    if (fuzz_one_in(fuzz, 4))
        (void)sd_bus_message_append(m, "{sv}", "instance", "s", value_instance(fuzz));
    if (fuzz_one_in(fuzz, 4))
        (void)sd_bus_message_append(m, "{sv}", "uid", "u",
                                    fuzz_one_in(fuzz, 2) ? 0u : (guint32)OTHER_UID);
    if (fuzz_one_in(fuzz, 4))
        (void)sd_bus_message_append(m, "{sv}", "protocol", "s", value_protocol(fuzz));
    if (fuzz_one_in(fuzz, 4))
        (void)sd_bus_message_append(m, "{sv}", "health", "s", PICK(fuzz, healths));
    if (fuzz_one_in(fuzz, 50))
        (void)sd_bus_message_append(m, "{sv}", value_text(fuzz), "u", 7u);
    (void)sd_bus_message_close_container(m);
}

void value_append_dry_run(Fuzz *fuzz, sd_bus_message *m)
{
    (void)sd_bus_message_open_container(m, 'a', "{sv}");
    if (fuzz_one_in(fuzz, 2))
        (void)sd_bus_message_append(m, "{sv}", "dry_run", "b", (int)fuzz_dice(fuzz, 2));
    if (fuzz_one_in(fuzz, 30))
        (void)sd_bus_message_append(m, "{sv}", "dry_run", "s", "yes");
    (void)sd_bus_message_close_container(m);
}

void value_append_anything(Fuzz *fuzz, sd_bus_message *m)
{
    guint n = fuzz_dice(fuzz, 6);
    guint32 number = some_number(fuzz);

    for (guint i = 0; i < n; i++)
        switch (fuzz_dice(fuzz, 12)) {
        case 0:
            (void)sd_bus_message_append(m, "q", value_port(fuzz));
            break;
        case 1:
            (void)sd_bus_message_append(m, "u", number);
            break;
        case 2:
            (void)sd_bus_message_append(m, "x", (gint64)number);
            break;
        case 3:
            (void)sd_bus_message_append(m, "b", (int)(number & 1));
            break;
        case 4:
            (void)sd_bus_message_append(m, "v", "(sv)", value_text(fuzz), "aq", 2, 1, 2);
            break;
        case 5:
            (void)sd_bus_message_append(m, "a{sv}", 1, value_text(fuzz), "s", value_text(fuzz));
            break;
        case 6:
            (void)sd_bus_message_append(m, "ay", 4, 1, 2, 3, 255);
            break;
        case 7:
            (void)sd_bus_message_append(m, "og", "/org/styxy/Ports", "a{sa{sv}}");
            break;
        case 8:
            (void)sd_bus_message_append(m, "d", 0.1);
            break;
        case 9:
            (void)sd_bus_message_append(m, "aas", 2, 1, "a", 0);
            break;
        default:
            (void)sd_bus_message_append(m, "s", value_text(fuzz));
        }
}
