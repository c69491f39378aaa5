/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* CheckPort and Scan: pictures of the kernel's sockets are shared, fresh, and in nobody's way. */
#include "fixture.h"

#include <errno.h>
#include <netinet/in.h>
#include <semaphore.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include "bus/ports-iface.h"
#include "probe/socket-table.h"
#include "util/fd.h"

#define PATIENCE_USEC (20 * G_TIME_SPAN_SECOND)

/* ---- the kernel's pictures, as the server takes them: counted, and held up while we say so ----
 */

typedef struct Watch {
    sem_t begun; /* posted for each one, before it is taken */
    sem_t go;    /* waited for by each one, while holding */
    gint holding;
    gint count;
} Watch;

static Watch *watch; /* shared with the server */

SocketTable *__real_socket_table_dump_deep(PortRange range, Protocol protocol, SocketDepth depth,
                                           GError **error);
SocketTable *__wrap_socket_table_dump_deep(PortRange range, Protocol protocol, SocketDepth depth,
                                           GError **error);

/* By the linker's --wrap in the place of the real one, which it calls. */
SocketTable *__wrap_socket_table_dump_deep(PortRange range, Protocol protocol, SocketDepth depth,
                                           GError **error)
{
    if (port_range_is_set(range)) { /* not one of the sweeps' */
        g_atomic_int_inc(&watch->count);
        g_assert_cmpint(sem_post(&watch->begun), ==, 0);
        while (g_atomic_int_get(&watch->holding) && sem_wait(&watch->go) < 0)
            g_assert_cmpint(errno, ==, EINTR);
    }
    return __real_socket_table_dump_deep(range, protocol, depth, error);
}

static void watch_anew(gboolean holding)
{
    if (!watch) {
        watch =
            mmap(NULL, sizeof(*watch), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        g_assert_true(watch != MAP_FAILED);
    }
    g_assert_cmpint(sem_init(&watch->begun, 1, 0), ==, 0);
    g_assert_cmpint(sem_init(&watch->go, 1, 0), ==, 0);
    watch->holding = holding;
    watch->count = 0;
}

/* Until the server has begun with a further one. */
static void wait_begun(void)
{
    struct timespec end;

    g_assert_cmpint(clock_gettime(CLOCK_REALTIME, &end), ==, 0);
    end.tv_sec += PATIENCE_USEC / G_TIME_SPAN_SECOND;
    while (sem_timedwait(&watch->begun, &end) < 0)
        g_assert_cmpint(errno, ==, EINTR);
}

static void let_one_go(void)
{
    g_assert_cmpint(sem_post(&watch->go), ==, 0);
}

static void let_all_go(void)
{
    g_atomic_int_set(&watch->holding, FALSE);
    let_one_go();
    let_one_go(); /* one of each kind may be under way */
}

static gint n_pictures(void)
{
    return g_atomic_int_get(&watch->count);
}

/* ---- questions ---- */

typedef struct Question {
    gboolean answered;
    char *refusal;   /* owned; NULL = none */
    int available;   /* CheckPort */
    guint n_sockets; /* Scan */
} Question;

static int on_answer(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
    Question *question = userdata;

    question->answered = TRUE;
    if (sd_bus_message_is_method_error(m, NULL)) {
        question->refusal = g_strdup(sd_bus_message_get_error(m)->name);
    } else if (sd_bus_message_has_signature(m, "ba{sv}")) {
        g_assert_cmpint(sd_bus_message_read(m, "b", &question->available), >, 0);
    } else {
        g_assert_cmpint(sd_bus_message_enter_container(m, 'a', "a{sv}"), >, 0);
        for (; sd_bus_message_skip(m, "a{sv}") > 0; question->n_sockets++)
            ;
    }
    return 0;
}

static void ask_check(sd_bus *bus, Question *question, guint16 port, const char *protocol)
{
    *question = (Question){0};
    g_assert_cmpint(sd_bus_call_method_async(bus, NULL, PORTS_NAME, PORTS_PATH, PORTS_INTERFACE,
                                             "CheckPort", on_answer, question, "qs", port,
                                             protocol),
                    >=, 0);
    g_assert_cmpint(sd_bus_flush(bus), >=, 0);
}

static void ask_scan(sd_bus *bus, Question *question, guint16 first, guint16 last)
{
    *question = (Question){0};
    g_assert_cmpint(sd_bus_call_method_async(bus, NULL, PORTS_NAME, PORTS_PATH, PORTS_INTERFACE,
                                             "Scan", on_answer, question, "qq", first, last),
                    >=, 0);
    g_assert_cmpint(sd_bus_flush(bus), >=, 0);
}

static void wait_answer(sd_bus *bus, Question *question)
{
    gint64 end_usec = g_get_monotonic_time() + PATIENCE_USEC;

    while (!question->answered) {
        int r = sd_bus_process(bus, NULL);

        g_assert_cmpint(r, >=, 0);
        g_assert_cmpint(g_get_monotonic_time(), <, end_usec);
        if (r == 0)
            (void)sd_bus_wait(bus, G_USEC_PER_SEC);
    }
}

static void wait_granted(sd_bus *bus, Question *question)
{
    wait_answer(bus, question);
    g_assert_cmpstr(question->refusal, ==, NULL);
}

static void wait_refused(sd_bus *bus, Question *question, const char *name)
{
    wait_answer(bus, question);
    g_assert_cmpstr(question->refusal, ==, name);
    g_clear_pointer(&question->refusal, g_free);
}

static int occupy(guint16 port, int type, gboolean listening)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = g_htons(port)};
    int fd = socket(AF_INET, type | SOCK_CLOEXEC, 0);

    g_assert_cmpint(fd, >=, 0);
    g_assert_cmpint(bind(fd, (struct sockaddr *)&address, sizeof(address)), ==, 0);
    if (listening)
        g_assert_cmpint(listen(fd, 1), ==, 0);
    return fd;
}

/* ---- tests ---- */

/* Others are served while the kernel is asked, and that is asked once for all who wait. */
static void test_shared(void)
{
    g_autoptr(Fixture) fixture = NULL;
    g_autoptr(sd_bus) many = NULL;
    g_autoptr(sd_bus) other = NULL;
    AUTO_FD tcp = occupy(21001, SOCK_STREAM, TRUE);
    AUTO_FD udp = occupy(21002, SOCK_DGRAM, FALSE);
    Question checks[40], scans[8];
    static const guint seen[] = {[2] = 1, [3] = 2, [4] = 1, [7] = 0}; /* by each scan */

    watch_anew(TRUE);
    fixture = fixture_new(FIXTURE_DIRECT, NULL);
    many = fixture_connect(fixture->direct_address);
    other = fixture_connect(fixture->direct_address);
    for (guint i = 0; i < G_N_ELEMENTS(scans); i++)
        ask_scan(many, &scans[i], (guint16)(20998 + i), (guint16)(20999 + i));
    for (guint i = 0; i < G_N_ELEMENTS(checks); i++)
        ask_check(many, &checks[i], (guint16)(21000 + i), i % 2 ? "tcp" : "udp");
    wait_begun();
    wait_begun();
    (void)allocate(other, NULL, "dev", "a{sv}", 0);
    g_assert_cmpuint(lease_count(many), ==, 1); /* all have been read */
    let_all_go();
    for (guint i = 0; i < G_N_ELEMENTS(scans); i++) {
        wait_granted(many, &scans[i]);
        g_assert_cmpuint(scans[i].n_sockets, ==, seen[i]);
    }
    for (guint i = 0; i < G_N_ELEMENTS(checks); i++) {
        wait_granted(many, &checks[i]);
        g_assert_cmpint(checks[i].available, ==, i != 1 && i != 2);
    }
    g_assert_cmpint(n_pictures(), ==, 4); /* of each kind: the first one's, and the others' */
}

/* Who asks while a picture is taken is not told what that one shows: it may be older than he. */
static void test_fresh(void)
{
    g_autoptr(Fixture) fixture = NULL;
    g_autoptr(sd_bus) bus = NULL;
    Question first, second, scan, later_scan;
    AUTO_FD listening = -1;
    AUTO_FD bound = -1;

    watch_anew(TRUE);
    fixture = fixture_new(FIXTURE_DIRECT, NULL);
    bus = fixture_connect(fixture->direct_address);
    ask_check(bus, &first, 21000, "tcp");
    wait_begun();
    ask_scan(bus, &scan, 21000, 21001);
    wait_begun();
    ask_check(bus, &second, 21000, "tcp");
    ask_scan(bus, &later_scan, 21000, 21001);
    g_assert_cmpuint(lease_count(bus), ==, 0); /* they have been read */
    g_assert_cmpint(n_pictures(), ==, 2);
    let_one_go();
    let_one_go();
    wait_granted(bus, &first);
    wait_granted(bus, &scan);
    wait_begun();
    wait_begun();
    g_assert_true(first.available);
    g_assert_cmpuint(scan.n_sockets, ==, 0);
    g_assert_false(second.answered || later_scan.answered);
    /* the held one is of a time after this */
    listening = occupy(21000, SOCK_STREAM, TRUE);
    let_all_go();
    wait_granted(bus, &second);
    wait_granted(bus, &later_scan);
    g_assert_false(second.available);
    g_assert_cmpuint(later_scan.n_sockets, ==, 1);
    g_assert_cmpint(n_pictures(), ==, 4);
    /* and one after the other, each after a change */
    for (guint i = 0; i < 50; i++) {
        bound = fd_close(bound);
        ask_check(bus, &first, 21001, "udp");
        wait_granted(bus, &first);
        g_assert_true(first.available);
        bound = occupy(21001, SOCK_DGRAM, FALSE);
        ask_check(bus, &first, 21001, "udp");
        wait_granted(bus, &first);
        g_assert_false(first.available);
    }
}

/* A lease that was given while the kernel was asked is told of. */
static void test_lease_meanwhile(void)
{
    g_autoptr(Fixture) fixture = NULL;
    g_autoptr(sd_bus) bus = NULL;
    Question check;
    guint16 port;

    watch_anew(TRUE);
    fixture = fixture_new(FIXTURE_DIRECT, NULL);
    bus = fixture_connect(fixture->direct_address);
    ask_check(bus, &check, 20000, "tcp");
    wait_begun();
    port = allocate(bus, NULL, "dev", "a{sv}", 0);
    g_assert_cmpuint(port, ==, 20000);
    let_all_go();
    wait_granted(bus, &check);
    g_assert_false(check.available);
    /* and for that the kernel is not asked at all */
    ask_check(bus, &check, 20000, "tcp");
    wait_granted(bus, &check);
    g_assert_false(check.available);
    g_assert_cmpint(n_pictures(), ==, 1);
}

/* Whoever has too many questions under way is refused before the kernel is asked. */
static void test_refused(void)
{
    g_autoptr(Fixture) fixture = NULL;
    g_autoptr(sd_bus) bus = NULL;
    Question scans[9], checks[5];

    watch_anew(TRUE);
    fixture = fixture_new(FIXTURE_DIRECT, "\"pending_requests_per_connection\": 12");
    bus = fixture_connect(fixture->direct_address);
    for (guint i = 0; i < G_N_ELEMENTS(scans); i++)
        ask_scan(bus, &scans[i], 1, 65535);
    wait_begun();
    wait_refused(bus, &scans[8], "org.styxy.Ports.Error.Busy");
    for (guint i = 0; i < G_N_ELEMENTS(checks); i++)
        ask_check(bus, &checks[i], 21000, "tcp");
    wait_begun();
    wait_refused(bus, &checks[4], "org.styxy.Ports.Error.QuotaExceeded");
    g_assert_cmpint(n_pictures(), ==, 2);
    let_all_go();
    for (guint i = 0; i < 8; i++)
        wait_granted(bus, &scans[i]);
    for (guint i = 0; i < 4; i++)
        wait_granted(bus, &checks[i]);
    g_assert_cmpint(n_pictures(), ==, 4);
}

/* Who leaves while his question is under way, or stands in line, is forgotten. */
static void test_leaves(gconstpointer data)
{
    FixtureFlags flags = GPOINTER_TO_UINT(data);
    g_autoptr(Fixture) fixture = NULL;
    g_autoptr(sd_bus) stays = NULL;
    const char *address = NULL;
    Question stayed[2];

    watch_anew(TRUE);
    fixture = fixture_new(flags, NULL);
    address = flags & FIXTURE_BROKER ? fixture->bus_address : fixture->direct_address;
    stays = fixture_connect(address);
    for (guint i = 0; i < 3; i++) { /* under way, in line, in line */
        sd_bus *leaves = fixture_connect(address);
        Question left[2];

        ask_check(leaves, &left[0], 21000, "tcp");
        ask_scan(leaves, &left[1], 1, 65535);
        g_assert_cmpuint(lease_count(leaves), ==, 0);
        if (i == 0) {
            wait_begun();
            wait_begun();
        }
        if (i == 1) { /* so that one who stays is in line with one who goes */
            ask_check(stays, &stayed[0], 21000, "tcp");
            ask_scan(stays, &stayed[1], 1, 65535);
            g_assert_cmpuint(lease_count(stays), ==, 0);
        }
        sd_bus_close(leaves);
        (void)sd_bus_unref(leaves);
    }
    /* that they went has been seen by now, or else is seen while pictures come */
    g_assert_cmpuint(lease_count(stays), ==, 0);
    let_all_go();
    for (guint i = 0; i < G_N_ELEMENTS(stayed); i++)
        wait_granted(stays, &stayed[i]);
    g_assert_cmpint(n_pictures(), ==, 4);
}

/* A server that is told to leave answers first. */
static void test_shutdown(void)
{
    g_autoptr(Fixture) fixture = NULL;
    g_autoptr(sd_bus) bus = NULL;
    Question check, scan;

    watch_anew(TRUE);
    fixture = fixture_new(FIXTURE_DIRECT, NULL);
    bus = fixture_connect(fixture->direct_address);
    ask_check(bus, &check, 21000, "tcp");
    ask_scan(bus, &scan, 1, 65535);
    wait_begun();
    wait_begun();
    fixture_stop_server(fixture);
    let_all_go();
    wait_granted(bus, &check);
    wait_granted(bus, &scan);
    fixture_wait_server(fixture);
}

/* It does not wait for longer than it waits for anything, and what comes too late hurts nobody. */
static void test_shutdown_without_answer(void)
{
    g_autoptr(Fixture) fixture = NULL;
    g_autoptr(sd_bus) bus = NULL;
    Question checks[3], scans[3];

    watch_anew(TRUE);
    fixture = fixture_new(FIXTURE_DIRECT, NULL);
    bus = fixture_connect(fixture->direct_address);
    for (guint i = 0; i < 3; i++) {
        ask_check(bus, &checks[i], 21000, "tcp");
        ask_scan(bus, &scans[i], 1, 65535);
    }
    wait_begun();
    wait_begun();
    fixture_stop_server(fixture);
    fixture_wait_server(fixture);
    for (guint i = 0; i < 3; i++)
        g_assert_false(checks[i].answered || scans[i].answered);
}

int main(int argc, char *argv[])
{
    fixture_init(&argc, &argv);
    g_test_add_func("/bus/pictures/shared", test_shared);
    g_test_add_func("/bus/pictures/fresh", test_fresh);
    g_test_add_func("/bus/pictures/lease-meanwhile", test_lease_meanwhile);
    g_test_add_func("/bus/pictures/refused", test_refused);
    g_test_add_data_func("/bus/pictures/leaves/direct", GUINT_TO_POINTER(FIXTURE_DIRECT),
                         test_leaves);
    g_test_add_data_func("/bus/pictures/leaves/broker", GUINT_TO_POINTER(FIXTURE_BROKER),
                         test_leaves);
    g_test_add_func("/bus/pictures/shutdown", test_shutdown);
    g_test_add_func("/bus/pictures/shutdown-without-answer", test_shutdown_without_answer);
    return g_test_run();
}
