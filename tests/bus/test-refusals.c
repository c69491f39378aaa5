/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Whatever is wrong has its name and changes nothing: on the direct socket and on a bus, for root
 * and for a normal user. And what is only unlucky, three callers who want one port, is no error.
 */
#include "fixture.h"

#include <glib/gstdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "bus/ports-iface.h"
#include "util/fd.h"

#define NOBODY 65534

#define WRONG(refusal, ...) g_free(call_refused(bus, refusal, __VA_ARGS__))
#define WRONG_OPTION(refusal, ...) WRONG(refusal, "Allocate", "sa{sv}", "dev", 1, __VA_ARGS__)

static void wrong_types(sd_bus *bus)
{
    g_autofree char *long_type = g_strnfill(51, 'a');
    static const char *const wrong[] = {"", "a_b", "d\xc3\xa4v", "dev ", "../dev", "dev\n", "*"};

    for (guint i = 0; i < G_N_ELEMENTS(wrong); i++) {
        WRONG("InvalidArgument", "Allocate", "sa{sv}", wrong[i], 0);
        WRONG("InvalidArgument", "AllocateSocket", "sa{sv}", wrong[i], 0);
        WRONG("InvalidArgument", "AllocateBlock", "sqa{sv}", wrong[i], 2, 0);
        WRONG("InvalidArgument", "Suggest", "su", wrong[i], 1);
    }
    WRONG("InvalidArgument", "Allocate", "sa{sv}", long_type, 0);
    WRONG("InvalidArgument", "Suggest", "su", long_type, 1);
    long_type[50] = '\0';
    WRONG("UnknownServiceType", "Allocate", "sa{sv}", long_type, 0);
    WRONG("UnknownServiceType", "Suggest", "su", "nope", 1);
}

static void wrong_options(sd_bus *bus)
{
    g_autofree char *long_name = g_strnfill(101, 'a');
    g_autofree char *unknown = NULL, *kind = NULL;

    unknown =
        call_refused(bus, "InvalidArgument", "Allocate", "sa{sv}", "dev", 1, "prot", "s", "tcp");
    g_assert_nonnull(strstr(unknown, "prot"));
    kind = call_refused(bus, "InvalidArgument", "Allocate", "sa{sv}", "dev", 1, "port", "i", 20000);
    g_assert_nonnull(strstr(kind, "port"));
    WRONG_OPTION("InvalidArgument", "", "s", "");
    WRONG_OPTION("InvalidArgument", "port", "u", 20000);
    WRONG_OPTION("InvalidArgument", "port", "s", "20000");
    WRONG_OPTION("InvalidArgument", "port", "q", 0);
    WRONG_OPTION("InvalidArgument", "strict", "u", 1);
    WRONG_OPTION("InvalidArgument", "strict", "b", 1); /* which port? */
    WRONG_OPTION("InvalidArgument", "range", "aq", 2, 20000, 20010);
    WRONG_OPTION("InvalidArgument", "range", "(qq)", 0, 10);
    WRONG_OPTION("InvalidArgument", "range", "(qq)", 20009, 20008);
    WRONG_OPTION("InvalidArgument", "range", "(uu)", 20000, 70000);
    WRONG_OPTION("InvalidArgument", "protocol", "s", "sctp");
    WRONG_OPTION("InvalidArgument", "address", "s", "localhost");
    WRONG_OPTION("InvalidArgument", "address", "s", "");
    WRONG_OPTION("InvalidArgument", "instance", "s", "");
    WRONG_OPTION("InvalidArgument", "instance", "s", long_name);
    WRONG_OPTION("InvalidArgument", "instance", "s", "a.b");
    WRONG_OPTION("InvalidArgument", "label", "s", long_name);
    WRONG_OPTION("InvalidArgument", "label", "s", "a b");
    WRONG_OPTION("InvalidArgument", "lifetime", "s", "forever");
    WRONG_OPTION("InvalidArgument", "lifetime", "s", "process");
    WRONG_OPTION("InvalidArgument", "hold", "s", "hard");
    WRONG_OPTION("InvalidArgument", "retries", "u", 4000000000U);
    WRONG_OPTION("InvalidArgument", "ttl_ms", "u", 0);
    WRONG_OPTION("InvalidArgument", "ttl_ms", "t", G_GUINT64_CONSTANT(1000));
    WRONG_OPTION("InvalidArgument", "pid", "u", 999999999);
    WRONG_OPTION("InvalidArgument", "health_url", "s", "ftp://127.0.0.1/");
    WRONG_OPTION("InvalidArgument", "health_url", "s", "http://127.0.0.{port}:1/");
    WRONG_OPTION("InvalidArgument", "health_url", "s", "http://[::{port}]:1/");
    WRONG_OPTION("InvalidArgument", "on_unhealthy", "s", "panic");
    /* twice, and strict beside its range */
    WRONG("InvalidArgument", "Allocate", "sa{sv}", "dev", 2, "port", "q", 20000, "port", "q",
          20001);
    WRONG("InvalidArgument", "Allocate", "sa{sv}", "dev", 3, "port", "q", 20050, "strict", "b", 1,
          "range", "(qq)", 20000, 20010);
    WRONG("InvalidArgument", "AllocateSocket", "sa{sv}", "dev", 1, "protocol", "s", "both");
    WRONG("InvalidArgument", "AllocateBlock", "sqa{sv}", "dev", 0, 0);
    WRONG("InvalidArgument", "AllocateBlock", "sqa{sv}", "dev", 5, 0);
    WRONG("InvalidArgument", "AllocateBlock", "sqa{sv}", "dev", 2, 1, "instance", "s", "a");
}

static void wrong_leases(sd_bus *bus)
{
    static const char *const methods[] = {"Release", "Renew", "GetLease"};
    g_autofree char *unknown = g_strnfill(32, 'a');
    g_autofree char *too_short = g_strnfill(31, 'a');
    g_autofree char *too_long = g_strnfill(33, 'a');
    g_autofree char *upper = g_strnfill(32, 'A');

    for (guint i = 0; i < G_N_ELEMENTS(methods); i++) {
        WRONG("InvalidArgument", methods[i], "s", "");
        WRONG("InvalidArgument", methods[i], "s", too_short);
        WRONG("InvalidArgument", methods[i], "s", too_long);
        WRONG("InvalidArgument", methods[i], "s", upper);
        WRONG("UnknownLease", methods[i], "s", unknown);
    }
    WRONG("InvalidArgument", "ReleasePort", "qs", 0, "tcp");
    WRONG("InvalidArgument", "ReleasePort", "qs", 1, "");
    WRONG("UnknownLease", "ReleasePort", "qs", 20050, "tcp");
    WRONG("InvalidArgument", "ReleaseInstance", "s", "");
}

/* Each prefix of a path is a place where an object may be: not for as many as a path can have. */
static void wrong_paths(sd_bus *bus)
{
    g_autoptr(GString) path = g_string_new(NULL);
    gint64 begin_usec = g_get_monotonic_time();

    for (guint i = 0; i < 30000; i++)
        (void)g_string_append(path, "/a");
    for (guint i = 0; i < 20; i++) {
        g_auto(sd_bus_error) error = SD_BUS_ERROR_NULL;

        g_assert_cmpint(sd_bus_call_method(bus, PORTS_NAME, path->str, PORTS_INTERFACE,
                                           "GetMetrics", &error, NULL, NULL),
                        <, 0);
        g_assert_cmpstr(error.name, ==, SD_BUS_ERROR_UNKNOWN_OBJECT);
    }
    /* A third of a second each is what it took. */
    g_assert_cmpint(g_get_monotonic_time() - begin_usec, <, 4 * G_USEC_PER_SEC);
}

static void wrong_questions(sd_bus *bus)
{
    WRONG("InvalidArgument", "List", "a{sv}", 1, "port", "q", 1);
    WRONG("InvalidArgument", "List", "a{sv}", 1, "uid", "i", 0);
    WRONG("InvalidArgument", "List", "a{sv}", 1, "health", "s", "well");
    WRONG("InvalidArgument", "CheckPort", "qs", 0, "tcp");
    WRONG("InvalidArgument", "CheckPort", "qs", 1, "sctp");
    WRONG("InvalidArgument", "Scan", "qq", 0, 10);
    WRONG("InvalidArgument", "Scan", "qq", 10, 9);
    WRONG("InvalidArgument", "Suggest", "su", "dev", 0);
    WRONG("InvalidArgument", "Suggest", "su", "dev", 4000000000U);
    WRONG("InvalidArgument", "Recover", "a{sv}", 1, "dryrun", "b", 1);
    WRONG("InvalidArgument", "Cleanup", "a{sv}", 1, "dry_run", "s", "yes");
}

static void all_wrong(sd_bus *bus)
{
    wrong_types(bus);
    wrong_options(bus);
    wrong_leases(bus);
    wrong_questions(bus);
    wrong_paths(bus);
}

/* ---- what must not change ---- */

typedef struct Before {
    Signals signals;
    guint signals_count;
    guint32 leases;
    guint16 suggested;
    off_t journal_bytes;
} Before;

static off_t journal_bytes(const Fixture *fixture)
{
    g_autofree char *path = g_build_filename(fixture->dir, "state", "state.journal", NULL);
    struct stat st;

    g_assert_cmpint(stat(path, &st), ==, 0);
    return st.st_size;
}

static guint16 suggested(sd_bus *bus)
{
    g_autoptr(sd_bus_message) reply = call_ok(bus, "Suggest", "su", "dev", 1);
    const guint16 *ports = NULL;
    size_t bytes = 0;

    g_assert_cmpint(sd_bus_message_read_array(reply, 'q', (const void **)&ports, &bytes), >, 0);
    g_assert_cmpuint(bytes, ==, sizeof *ports);
    return ports[0];
}

static void drain(sd_bus *bus)
{
    while (sd_bus_process(bus, NULL) > 0)
        ;
}

/* @before: collects signals since before the one lease that there is. */
static void look(Before *before, const Fixture *fixture, sd_bus *bus)
{
    signals_wait(&before->signals, bus, "PortAllocated", 1);
    before->leases = lease_count(bus);
    before->suggested = suggested(bus);
    before->journal_bytes = journal_bytes(fixture);
    drain(bus);
    before->signals_count = before->signals.order->len;
}

static void assert_unchanged(Before *before, const Fixture *fixture, sd_bus *bus)
{
    g_assert_cmpuint(lease_count(bus), ==, before->leases);
    g_assert_cmpuint(suggested(bus), ==, before->suggested);
    g_assert_cmpint(journal_bytes(fixture), ==, before->journal_bytes);
    drain(bus);
    g_assert_cmpuint(before->signals.order->len, ==, before->signals_count);
    signals_clear(&before->signals);
}

/* ---- who and where ---- */

static void test_root(const void *data)
{
    gboolean on_bus = GPOINTER_TO_INT(data);
    g_autoptr(Fixture) fixture =
        fixture_new(on_bus ? FIXTURE_BROKER : FIXTURE_DIRECT, "\"block_size\": 4");
    g_autoptr(sd_bus) bus =
        fixture_connect(on_bus ? fixture->bus_address : fixture->direct_address);
    Before before;

    signals_collect(&before.signals, bus);
    (void)allocate(bus, NULL, "dev", "a{sv}", 0);
    look(&before, fixture, bus);
    all_wrong(bus);
    assert_unchanged(&before, fixture, bus);
}

typedef struct Foreign {
    gboolean on_bus;
    const char *lease; /* root's, at 20000 */
} Foreign;

static gboolean has_pidfd(void)
{
    AUTO_FD fd = (int)syscall(SYS_pidfd_open, getpid(), 0);

    return fd >= 0;
}

/* A normal user: all of the above, and what is another's or an administrator's. */
static int as_nobody(Fixture *fixture, const void *data)
{
    const Foreign *foreign = data;
    g_autoptr(sd_bus) bus =
        fixture_connect(foreign->on_bus ? fixture->bus_address : fixture->direct_address);

    all_wrong(bus);
    WRONG("NotOwner", "Release", "s", foreign->lease);
    WRONG("NotOwner", "Renew", "s", foreign->lease);
    WRONG("NotOwner", "ReleasePort", "qs", 20000, "tcp");
    WRONG_OPTION("NotAuthorized", "port", "q", 80);
    WRONG_OPTION("NotAuthorized", "range", "(qq)", 1000, 1100);
    if (has_pidfd()) /* valgrind before 3.20 has not */
        WRONG_OPTION("NotOwner", "pid", "u", 1);
    WRONG("NotAuthorized", "Reload", NULL);
    WRONG("NotAuthorized", "Recover", "a{sv}", 0);
    WRONG("PortInUse", "Allocate", "sa{sv}", "dev", 3, "port", "q", 20000, "strict", "b", 1,
          "retries", "u", 0);
    return 0;
}

static void test_normal_user(const void *data)
{
    Foreign foreign = {.on_bus = GPOINTER_TO_INT(data)};
    g_autoptr(Fixture) fixture = fixture_new(FIXTURE_BROKER, "\"block_size\": 4");
    g_autoptr(sd_bus) bus = fixture_connect(fixture->bus_address);
    g_autofree char *lease = NULL;
    Before before;

    signals_collect(&before.signals, bus);
    g_assert_cmpuint(
        allocate(bus, &lease, "dev", "a{sv}", 2, "ttl_ms", "u", 600000, "instance", "s", "mine"),
        ==, 20000);
    foreign.lease = lease;
    look(&before, fixture, bus);
    g_assert_cmpint(fixture_as(NOBODY, as_nobody, fixture, &foreign), ==, 0);
    assert_unchanged(&before, fixture, bus);
}

/* ---- at the same time ---- */

typedef struct Answers {
    guint16 ports[3];
    guint count;
} Answers;

static int on_grant(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
    Answers *answers = userdata;

    g_assert_false(sd_bus_message_is_method_error(m, NULL));
    g_assert_cmpint(sd_bus_message_read(m, "q", &answers->ports[answers->count++]), >, 0);
    return 0;
}

/* All three calls are on their way before any is answered. */
static void test_three_at_once(const void *data)
{
    g_autoptr(Fixture) fixture = fixture_new(FIXTURE_BROKER, NULL);
    sd_bus *clients[3];
    Answers answers = {0};
    gint64 end_usec = g_get_monotonic_time() + 10 * G_USEC_PER_SEC;

    for (guint i = 0; i < G_N_ELEMENTS(clients); i++) {
        clients[i] =
            fixture_connect(GPOINTER_TO_INT(data) ? fixture->bus_address : fixture->direct_address);
        g_assert_cmpint(sd_bus_call_method_async(clients[i], NULL, PORTS_NAME, PORTS_PATH,
                                                 PORTS_INTERFACE, "Allocate", on_grant, &answers,
                                                 "sa{sv}", "dev", 1, "port", "q", 20050),
                        >=, 0);
    }
    for (guint i = 0; i < G_N_ELEMENTS(clients); i++)
        g_assert_cmpint(sd_bus_flush(clients[i]), >=, 0);
    while (answers.count < G_N_ELEMENTS(clients) && g_get_monotonic_time() < end_usec)
        for (guint i = 0; i < G_N_ELEMENTS(clients); i++)
            if (sd_bus_process(clients[i], NULL) == 0)
                (void)sd_bus_wait(clients[i], 1000);
    g_assert_cmpuint(answers.count, ==, G_N_ELEMENTS(clients));
    /* One has what all wanted, the others what comes next. */
    g_assert_cmpuint(answers.ports[0] + answers.ports[1] + answers.ports[2], ==,
                     20050 + 20000 + 20001);
    g_assert_true(answers.ports[0] != answers.ports[1] && answers.ports[1] != answers.ports[2] &&
                  answers.ports[0] != answers.ports[2]);
    g_assert_cmpuint(lease_count(clients[0]), ==, 3);
    for (guint i = 0; i < G_N_ELEMENTS(clients); i++)
        sd_bus_flush_close_unref(clients[i]);
}

int main(int argc, char **argv)
{
    static const struct {
        const char *path;
        void (*func)(const void *on_bus);
    } tests[] = {
        {"root", test_root},
        {"normal-user", test_normal_user},
        {"three-at-once", test_three_at_once},
    };

    fixture_init(&argc, &argv);
    for (guint i = 0; i < G_N_ELEMENTS(tests); i++)
        for (gint on_bus = 0; on_bus <= 1; on_bus++) {
            g_autofree char *path =
                g_strdup_printf("/bus/refusals/%s/%s", tests[i].path, on_bus ? "bus" : "direct");

            g_test_add_data_func(path, GINT_TO_POINTER(on_bus), tests[i].func);
        }
    return g_test_run();
}
