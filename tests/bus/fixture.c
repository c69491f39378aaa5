/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "fixture.h"

#include <errno.h>
#include <glib-unix.h>
#include <glib/gstdio.h>
#include <locale.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>

#include "bus/ports-iface.h"
#include "bus/service.h"
#include "recovery/manager.h"
#include "util/fd.h"
#include "util/log.h"

#define PATIENCE_USEC (10 * G_TIME_SPAN_SECOND)

static const char configuration[] =
    "{ \"service_types\": {"
    "    \"dev\": { \"port_range\": [20000, 20099] },"
    "    \"tiny\": { \"port_range\": [20100, 20101] },"
    "    \"low\": { \"port_range\": [900, 999] },"
    "    \"one\": { \"port_range\": [20200, 20299], \"instance_behavior\": \"single\" },"
    "    \"big\": { \"port_range\": [30000, 59999] } },"
    "  \"auto_allocation\": { \"enabled\": false },"
    "  \"recovery\": { \"port_conflict\": { \"backoff_ms\": 200, \"max_retries\": 2,"
    "                                    \"cooldown_ms\": 10 } },"
    "  \"limits\": { %s } }";

static void bring_up_loopback(void)
{
    struct ifreq request = {.ifr_name = "lo", .ifr_flags = IFF_UP | IFF_RUNNING};
    AUTO_FD fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

    g_assert_cmpint(ioctl(fd, SIOCSIFFLAGS, &request), ==, 0);
}

void fixture_init(int *argc, char ***argv)
{
    (void)setlocale(LC_ALL, "C.UTF-8");
    g_test_init(argc, argv, NULL);
    if (unshare(CLONE_NEWNET) < 0) {
        g_printerr("No network namespace can be made: %s\n", g_strerror(errno));
        exit(77);
    }
    bring_up_loopback();
    (void)signal(SIGPIPE, SIG_IGN);
}

/* ---- the server ---- */

typedef struct Server {
    const Fixture *fixture;
    GMainLoop *loop;
    BusService *service;
    int events;
} Server;

static void tell(const Server *server, char event)
{
    g_assert_cmpint(write(server->events, &event, 1), ==, 1);
}

static void on_named(void *data)
{
    tell(data, 'r');
}

static void on_lost(void *data)
{
    tell(data, 'l');
}

static void on_failed(const GError *error, void *data)
{
    tell(data, 'f');
}

static void on_left(void *data)
{
    g_main_loop_quit(((Server *)data)->loop);
}

static gboolean on_terminate(gpointer data)
{
    bus_service_shutdown(((Server *)data)->service, on_left, data);
    return G_SOURCE_REMOVE;
}

static Configuration *load(void *data, GError **error)
{
    const Fixture *fixture = data;
    g_autofree char *text = NULL;
    gsize length;

    if (!g_file_get_contents(fixture->configuration, &text, &length, error))
        return NULL;
    return configuration_parse(
        &(ConfigurationSource){.name = "test.json", .text = text, .length = length}, 1, error);
}

static void limit_files(void)
{
    struct rlimit limit = {64, 64};

    g_assert_cmpint(setrlimit(RLIMIT_NOFILE, &limit), ==, 0);
}

static void serve(const Fixture *fixture, int listening, int events)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(Configuration) config = load((void *)fixture, &error);
    g_autofree char *state_dir = g_build_filename(fixture->dir, "state", NULL);
    g_autoptr(GMainLoop) loop = g_main_loop_new(NULL, FALSE);
    Server server = {.fixture = fixture, .loop = loop, .events = events};
    Manager *manager = NULL;

    g_assert_no_error(error);
    log_init("server", LOG_TARGET_STDERR, LOG_WARNING);
    manager = manager_new(
        &(ManagerOptions){
            .config = config, .load = load, .load_data = (void *)fixture, .state_dir = state_dir},
        &error);
    g_assert_no_error(error);
    manager_start(manager);
    server.service = bus_service_new(
        &(BusServiceOptions){.manager = manager,
                             .own_uid_administrates = (fixture->flags & FIXTURE_USER) != 0,
                             .named = on_named,
                             .lost = on_lost,
                             .failed = on_failed,
                             .data = &server},
        &error);
    g_assert_no_error(error);
    g_assert_true(bus_service_listen(server.service, listening, &error));
    if (fixture->bus_address)
        g_assert_true(
            bus_service_open_broker(server.service, BUS_ADDRESS, fixture->bus_address, &error));
    else
        on_named(&server);
    if (fixture->flags & FIXTURE_FEW_FILES)
        limit_files();
    (void)g_unix_signal_add(SIGTERM, on_terminate, &server);
    g_main_loop_run(loop);
    server.service = bus_service_free(server.service);
    manager = manager_free(manager);
}

static int listen_at(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    g_assert_cmpint(fd, >=, 0);
    g_assert_cmpuint(g_strlcpy(address.sun_path, path, sizeof(address.sun_path)), <,
                     sizeof(address.sun_path));
    g_assert_cmpint(bind(fd, (struct sockaddr *)&address, sizeof(address)), ==, 0);
    g_assert_cmpint(chmod(path, 0666), ==, 0);
    g_assert_cmpint(listen(fd, 4096), ==, 0);
    return fd;
}

static void start_server(Fixture *fixture)
{
    int listening = listen_at(fixture->direct_path);
    int events[2];

    g_assert_cmpint(pipe2(events, O_CLOEXEC), ==, 0);
    (void)fflush(NULL);
    fixture->server = fork();
    g_assert_cmpint(fixture->server, >=, 0);
    if (fixture->server == 0) {
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
        (void)fd_close(events[0]);
        serve(fixture, listening, events[1]);
        exit(0);
    }
    (void)fd_close(listening);
    (void)fd_close(events[1]);
    fixture->events = events[0];
}

char fixture_wait_event(Fixture *fixture)
{
    struct pollfd wait = {.fd = fixture->events, .events = POLLIN};
    char event = 0;

    g_assert_cmpint(poll(&wait, 1, PATIENCE_USEC / 1000), ==, 1);
    g_assert_cmpint(read(fixture->events, &event, 1), ==, 1);
    return event;
}

void fixture_stop_server(Fixture *fixture)
{
    g_assert_cmpint(kill(fixture->server, SIGTERM), ==, 0);
}

void fixture_wait_server(Fixture *fixture)
{
    int status;

    g_assert_cmpint(waitpid(fixture->server, &status, 0), ==, fixture->server);
    g_assert_true(WIFEXITED(status));
    g_assert_cmpint(WEXITSTATUS(status), ==, 0);
    fixture->server = 0;
}

/* ---- the broker ---- */

static void write_broker_configuration(const Fixture *fixture, const char *path)
{
    g_autofree char *text =
        g_strdup_printf("<busconfig><listen>%s</listen><auth>EXTERNAL</auth>"
                        "<policy context='default'><allow user='*'/><allow own='*'/>"
                        "<allow send_destination='*'/><allow receive_sender='*'/></policy>"
                        "<limit name='max_connections_per_user'>2000</limit>"
                        "<limit name='max_completed_connections'>2000</limit><limit "
                        "name='max_replies_per_connection'>2000</limit>"
                        "<limit name='max_match_rules_per_connection'>512</limit></busconfig>",
                        fixture->bus_address);

    g_assert_true(g_file_set_contents(path, text, -1, NULL));
}

void fixture_start_broker(Fixture *fixture)
{
    g_autofree char *path = g_build_filename(fixture->dir, "broker.conf", NULL);
    g_autofree char *option = g_strdup_printf("--config-file=%s", path);
    int ready[2];
    char number[16];

    write_broker_configuration(fixture, path);
    g_assert_cmpint(pipe(ready), ==, 0);
    fixture->broker = fork();
    g_assert_cmpint(fixture->broker, >=, 0);
    if (fixture->broker == 0) {
        g_autofree char *print = g_strdup_printf("--print-pid=%d", ready[1]);

        (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
        (void)freopen("/dev/null", "w", stderr); /* it complains of limits that it may not raise */
        execlp("dbus-daemon", "dbus-daemon", option, "--nofork", "--nosyslog", "--nopidfile", print,
               NULL);
        _exit(127);
    }
    (void)fd_close(ready[1]);
    g_assert_cmpint(read(ready[0], number, sizeof(number)), >, 0); /* it listens */
    (void)fd_close(ready[0]);
}

void fixture_stop_broker(Fixture *fixture, int signal)
{
    g_assert_cmpint(kill(fixture->broker, signal), ==, 0);
    g_assert_cmpint(waitpid(fixture->broker, NULL, 0), ==, fixture->broker);
    fixture->broker = 0;
}

/* ---- life ---- */

void fixture_write_configuration(Fixture *fixture, const char *text)
{
    g_assert_true(g_file_set_contents(fixture->configuration, text, -1, NULL));
}

static void own_name(Fixture *fixture)
{
    fixture->squatter = fixture_connect(fixture->bus_address);
    g_assert_cmpint(sd_bus_request_name(fixture->squatter, PORTS_NAME, 0), >=, 0);
}

Fixture *fixture_new(FixtureFlags flags, const char *limits)
{
    Fixture *fixture = g_new0(Fixture, 1);
    g_autofree char *text = g_strdup_printf(configuration, limits ? limits : "");

    fixture->dir = g_dir_make_tmp("styxy-bus-XXXXXX", NULL);
    g_assert_nonnull(fixture->dir);
    g_assert_cmpint(chmod(fixture->dir, 0711), ==, 0);
    fixture->flags = flags;
    fixture->direct_path = g_build_filename(fixture->dir, "direct", NULL);
    fixture->direct_address = g_strdup_printf("unix:path=%s", fixture->direct_path);
    fixture->configuration = g_build_filename(fixture->dir, "test.json", NULL);
    fixture_write_configuration(fixture, text);
    g_clear_pointer(&text, g_free); /* a forked server would be said to have lost it */
    if (flags & FIXTURE_BROKER) {
        fixture->bus_address = g_strdup_printf("unix:path=%s/bus", fixture->dir);
        fixture_start_broker(fixture);
    }
    if (flags & FIXTURE_NO_NAME)
        own_name(fixture);
    start_server(fixture);
    g_assert_cmpint(fixture_wait_event(fixture), ==, (flags & FIXTURE_NO_NAME) ? 'f' : 'r');
    return fixture;
}

static void remove_tree(const char *path)
{
    g_autoptr(GDir) dir = g_dir_open(path, 0, NULL);
    const char *name;

    while (dir && (name = g_dir_read_name(dir))) {
        g_autofree char *child = g_build_filename(path, name, NULL);

        remove_tree(child);
    }
    (void)g_remove(path);
}

Fixture *fixture_free(Fixture *fixture)
{
    if (!fixture)
        return NULL;
    if (fixture->server > 0) {
        fixture_stop_server(fixture);
        fixture_wait_server(fixture);
    }
    sd_bus_flush_close_unref(fixture->squatter);
    if (fixture->broker > 0)
        fixture_stop_broker(fixture, SIGKILL);
    (void)fd_close(fixture->events);
    remove_tree(fixture->dir);
    g_free(fixture->dir);
    g_free(fixture->direct_path);
    g_free(fixture->direct_address);
    g_free(fixture->bus_address);
    g_free(fixture->configuration);
    g_free(fixture);
    return NULL;
}

/* ---- clients ---- */

sd_bus *fixture_connect(const char *address)
{
    sd_bus *bus = NULL;
    const char *name = NULL;

    g_assert_cmpint(sd_bus_new(&bus), >=, 0);
    g_assert_cmpint(sd_bus_set_address(bus, address), >=, 0);
    g_assert_cmpint(sd_bus_set_bus_client(bus, TRUE), >=, 0);
    g_assert_cmpint(sd_bus_negotiate_fds(bus, TRUE), >=, 0);
    g_assert_cmpint(sd_bus_start(bus), >=, 0);
    g_assert_cmpint(sd_bus_get_unique_name(bus, &name), >=, 0);
    return bus;
}

sd_bus *fixture_connect_as(const Fixture *fixture, uid_t uid)
{
    sd_bus *bus = NULL;

    /* who is at the other end is who he is when he connects: unix(7), SO_PEERCRED */
    g_assert_cmpint(setresuid((uid_t)-1, uid, (uid_t)-1), ==, 0);
    bus = fixture_connect(fixture->direct_address);
    g_assert_cmpint(setresuid((uid_t)-1, 0, (uid_t)-1), ==, 0);
    return bus;
}

int fixture_as(uid_t uid, int (*func)(Fixture *fixture, const void *data), Fixture *fixture,
               const void *data)
{
    int status;
    pid_t pid;

    (void)fflush(NULL);
    pid = fork();
    g_assert_cmpint(pid, >=, 0);
    if (pid == 0) {
        g_assert_cmpint(setresgid(uid, uid, uid), ==, 0);
        g_assert_cmpint(setresuid(uid, uid, uid), ==, 0);
        _exit(func(fixture, data));
    }
    g_assert_cmpint(waitpid(pid, &status, 0), ==, pid);
    g_assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

sd_bus_message *call(sd_bus *bus, sd_bus_error *error, const char *member, const char *types, ...)
{
    g_autoptr(sd_bus_message) m = NULL;
    sd_bus_message *reply = NULL;
    va_list ap;
    int r;

    r = sd_bus_message_new_method_call(bus, &m, PORTS_NAME, PORTS_PATH, PORTS_INTERFACE, member);
    g_assert_cmpint(r, >=, 0);
    va_start(ap, types);
    if (types)
        g_assert_cmpint(sd_bus_message_appendv(m, types, ap), >=, 0);
    va_end(ap);
    r = sd_bus_call(bus, m, 10 * G_USEC_PER_SEC, error, &reply);
    if (r < 0 && !sd_bus_error_is_set(error))
        g_error("%s: %s", member, g_strerror(-r));
    return r < 0 ? NULL : reply;
}

guint16 allocate(sd_bus *bus, char **ret_lease, const char *service_type, const char *types, ...)
{
    g_auto(sd_bus_error) error = SD_BUS_ERROR_NULL;
    g_autoptr(sd_bus_message) m = NULL;
    g_autoptr(sd_bus_message) reply = NULL;
    const char *lease = NULL;
    guint16 port = 0;
    va_list ap;

    g_assert_cmpint(sd_bus_message_new_method_call(bus, &m, PORTS_NAME, PORTS_PATH, PORTS_INTERFACE,
                                                   "Allocate"),
                    >=, 0);
    g_assert_cmpint(sd_bus_message_append(m, "s", service_type), >=, 0);
    va_start(ap, types);
    g_assert_cmpint(sd_bus_message_appendv(m, types, ap), >=, 0);
    va_end(ap);
    if (sd_bus_call(bus, m, 10 * G_USEC_PER_SEC, &error, &reply) < 0)
        g_error("Allocate %s: %s: %s", service_type, error.name, error.message);
    g_assert_cmpint(sd_bus_message_read(reply, "qs", &port, &lease), >, 0);
    if (ret_lease)
        *ret_lease = g_strdup(lease);
    return port;
}

guint32 lease_count(sd_bus *bus)
{
    g_auto(sd_bus_error) error = SD_BUS_ERROR_NULL;
    guint32 count = 0;

    g_assert_cmpint(sd_bus_get_property_trivial(bus, PORTS_NAME, PORTS_PATH, PORTS_INTERFACE,
                                                "LeaseCount", &error, 'u', &count),
                    >=, 0);
    return count;
}

void wait_lease_count(sd_bus *bus, guint32 count)
{
    gint64 end_usec = g_get_monotonic_time() + PATIENCE_USEC;

    while (lease_count(bus) != count)
        if (g_get_monotonic_time() > end_usec)
            g_error("Still %u leases, not %u", lease_count(bus), count);
}

/* ---- signals ---- */

static int on_signal(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
    Signals *signals = userdata;
    const char *member = sd_bus_message_get_member(m);
    guint count = GPOINTER_TO_UINT(g_hash_table_lookup(signals->counts, member));

    g_hash_table_replace(signals->counts, g_strdup(member), GUINT_TO_POINTER(count + 1));
    g_ptr_array_add(signals->order, g_strdup(member));
    return 0;
}

void signals_collect(Signals *signals, sd_bus *bus)
{
    signals->counts = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    signals->order = g_ptr_array_new_with_free_func(g_free);
    g_assert_cmpint(sd_bus_match_signal(bus, &signals->slot, PORTS_NAME, PORTS_PATH, NULL, NULL,
                                        on_signal, signals),
                    >=, 0);
}

void signals_clear(Signals *signals)
{
    signals->slot = sd_bus_slot_unref(signals->slot);
    g_clear_pointer(&signals->counts, g_hash_table_unref);
    g_clear_pointer(&signals->order, g_ptr_array_unref);
}

guint signals_count(const Signals *signals, const char *member)
{
    return GPOINTER_TO_UINT(g_hash_table_lookup(signals->counts, member));
}

void signals_wait(Signals *signals, sd_bus *bus, const char *member, guint count)
{
    gint64 end_usec = g_get_monotonic_time() + PATIENCE_USEC;

    while (signals_count(signals, member) < count) {
        int r = sd_bus_process(bus, NULL);

        g_assert_cmpint(r, >=, 0);
        if (g_get_monotonic_time() > end_usec)
            g_error("%s came %u times, not %u", member, signals_count(signals, member), count);
        if (r == 0)
            (void)sd_bus_wait(bus, G_USEC_PER_SEC);
    }
}

/* ---- raw sockets ---- */

int connect_raw(const Fixture *fixture)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    g_assert_cmpint(fd, >=, 0);
    (void)g_strlcpy(address.sun_path, fixture->direct_path, sizeof(address.sun_path));
    g_assert_cmpint(connect(fd, (struct sockaddr *)&address, sizeof(address)), ==, 0);
    return fd;
}

void wait_closed(int fd, int seconds)
{
    gint64 end_usec = g_get_monotonic_time() + seconds * G_USEC_PER_SEC;

    for (;;) {
        struct pollfd wait = {.fd = fd, .events = POLLRDHUP};
        gint64 left_usec = end_usec - g_get_monotonic_time();

        if (left_usec <= 0)
            g_error("The connection is still open after %d s", seconds);
        if (poll(&wait, 1, (int)(left_usec / 1000) + 1) == 1 &&
            (wait.revents & (POLLHUP | POLLRDHUP | POLLERR)))
            return;
    }
}
