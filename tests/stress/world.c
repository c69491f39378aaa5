/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "world.h"

#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#define READY_MSEC 30000
#define END_MSEC 60000
#define LOG_SHOWN 4000

void world_fail(const World *world, const char *format, ...)
{
    g_autofree char *path = g_build_filename(world->folder, "log", NULL);
    g_autofree char *reason = NULL;
    g_autofree char *log = NULL;
    size_t length = 0;
    va_list ap;

    va_start(ap, format);
    reason = g_strdup_vprintf(format, ap);
    va_end(ap);
    if (g_file_get_contents(path, &log, &length, NULL))
        g_printerr("--- the end of the daemon's log\n%s\n",
                   log + (length > LOG_SHOWN ? length - LOG_SHOWN : 0));
    g_printerr("--- kept: %s\nFAILED: %s\n", world->folder, reason);
    if (world->daemon > 0)
        (void)kill(world->daemon, SIGKILL);
    if (world->broker > 0)
        (void)kill(world->broker, SIGTERM);
    _exit(EXIT_FAILURE);
}

static void write_file(const World *world, const char *name, const char *text)
{
    g_autofree char *path = g_build_filename(world->folder, name, NULL);
    g_autoptr(GError) error = NULL;

    if (!g_file_set_contents(path, text, -1, &error))
        world_fail(world, "%s", error->message);
}

static void prepare_child(gpointer log)
{
    int fd = open(log, O_WRONLY | O_CREAT | O_APPEND, 0600);

    if (fd >= 0)
        (void)dup2(fd, STDERR_FILENO);
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
}

static GPid spawn(World *world, const char *const *argv, const char *const *envp, int *ret_output)
{
    g_autofree char *log = g_build_filename(world->folder, "log", NULL);
    g_autoptr(GError) error = NULL;
    GPid pid = 0;

    if (!g_spawn_async_with_pipes(NULL, (char **)argv, (char **)envp,
                                  G_SPAWN_SEARCH_PATH | G_SPAWN_DO_NOT_REAP_CHILD, prepare_child,
                                  log, &pid, NULL, ret_output, NULL, &error))
        world_fail(world, "%s", error->message);
    return pid;
}

/* As a session's, but for every user. */
static const char broker_configuration[] =
    "<!DOCTYPE busconfig PUBLIC \"-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN\"\n"
    "  \"http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd\">\n"
    "<busconfig><listen>%s</listen><policy context=\"default\"><allow user=\"*\"/>"
    "<allow own=\"*\"/><allow send_destination=\"*\"/><allow receive_sender=\"*\"/>"
    "</policy></busconfig>\n";

/* The broker prints its address once it takes connections. */
static void start_broker(World *world)
{
    g_autofree char *text = g_strdup_printf(broker_configuration, world->address);
    g_autofree char *config = g_strdup_printf("--config-file=%s/broker.conf", world->folder);
    const char *argv[] = {"dbus-daemon", config, "--nofork", "--print-address", NULL};
    int output = -1;
    char c = 0;
    ssize_t n;

    write_file(world, "broker.conf", text);
    world->broker = spawn(world, argv, NULL, &output);
    do
        n = read(output, &c, 1);
    while (n > 0 && c != '\n');
    (void)close(output);
    if (n <= 0)
        world_fail(world, "dbus-daemon ended at once");
}

/* Nobody else's ports are in the way, and ours in nobody's. */
static void own_network(void)
{
    struct ifreq request = {.ifr_name = "lo", .ifr_flags = IFF_UP};
    int fd;

    if (unshare(CLONE_NEWNET) < 0) {
        g_printerr("no network namespace (%s), skipping\n", g_strerror(errno));
        exit(77);
    }
    fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || ioctl(fd, SIOCSIFFLAGS, &request) < 0)
        g_error("the loopback interface does not come up: %s", g_strerror(errno));
    (void)close(fd);
}

static void open_notify(World *world)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    g_autofree char *path = g_build_filename(world->folder, "notify", NULL);

    g_assert_cmpuint(strlen(path), <, sizeof address.sun_path);
    (void)g_strlcpy(address.sun_path, path, sizeof address.sun_path);
    world->notify_fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (world->notify_fd < 0 ||
        bind(world->notify_fd, (const struct sockaddr *)&address, sizeof address) < 0)
        world_fail(world, "%s: %s", path, g_strerror(errno));
}

World *world_new(const char *program, const char *configuration)
{
    World *world = g_new0(World, 1);
    g_autoptr(GError) error = NULL;

    own_network();
    world->program = program;
    world->notify_fd = -1;
    world->folder = g_dir_make_tmp("styxy-stress-XXXXXX", &error);
    if (!world->folder)
        g_error("%s", error->message);
    if (g_chmod(world->folder, 0755) < 0) /* for clients of another user */
        world_fail(world, "chmod: %s", g_strerror(errno));
    world->state = g_build_filename(world->folder, "state", NULL);
    world->address = g_strdup_printf("unix:path=%s/bus", world->folder);
    world->direct = g_strdup_printf("unix:path=%s/runtime/bus", world->folder);
    write_file(world, "config.json", configuration);
    open_notify(world);
    start_broker(world);
    return world;
}

static void reap(GPid *pid)
{
    if (*pid <= 0)
        return;
    (void)kill(*pid, SIGKILL);
    while (waitpid(*pid, NULL, 0) < 0 && errno == EINTR)
        ;
    *pid = 0;
}

static void remove_tree(const char *path)
{
    g_autoptr(GDir) dir = g_dir_open(path, 0, NULL);

    for (const char *name; dir && (name = g_dir_read_name(dir));) {
        g_autofree char *child = g_build_filename(path, name, NULL);

        if (g_file_test(child, G_FILE_TEST_IS_DIR) && !g_file_test(child, G_FILE_TEST_IS_SYMLINK))
            remove_tree(child);
        else
            (void)g_unlink(child);
    }
    (void)g_rmdir(path);
}

World *world_free(World *world, gboolean remove)
{
    if (!world)
        return NULL;
    reap(&world->daemon);
    reap(&world->broker);
    (void)close(world->notify_fd);
    if (remove)
        remove_tree(world->folder);
    g_free(world->folder);
    g_free(world->state);
    g_free(world->address);
    g_free(world->direct);
    g_free(world);
    return NULL;
}

void world_spawn(World *world)
{
    g_autofree char *address = g_strdup_printf("--address=%s", world->address);
    g_autofree char *config = g_strdup_printf("--config=%s/config.json", world->folder);
    g_autofree char *state = g_strdup_printf("--state-dir=%s", world->state);
    g_autofree char *runtime = g_strdup_printf("--runtime-dir=%s/runtime", world->folder);
    g_autofree char *notify = g_strdup_printf("%s/notify", world->folder);
    g_auto(GStrv) envp = g_get_environ();
    const char *argv[] = {world->program, address, config, state, runtime, NULL};
    char drained[512];

    g_assert_cmpint(world->daemon, ==, 0);
    while (recv(world->notify_fd, drained, sizeof drained, MSG_DONTWAIT) > 0)
        ; /* of the one before */
    envp = g_environ_setenv(envp, "NOTIFY_SOCKET", notify, TRUE);
    envp = g_environ_setenv(envp, "STYXY_IDLE_MSEC", "0", TRUE);
    /* a snapshot is under way at most times */
    envp = g_environ_setenv(envp, "STYXY_COMPACT_BYTES", "8192", TRUE);
    world->daemon = spawn(world, argv, (const char *const *)envp, NULL);
}

void world_await_ready(World *world)
{
    struct pollfd ready = {.fd = world->notify_fd, .events = POLLIN};
    gint64 deadline_usec = g_get_monotonic_time() + (gint64)READY_MSEC * G_TIME_SPAN_MILLISECOND;
    char text[4096];

    for (;;) {
        gint64 left_usec = deadline_usec - g_get_monotonic_time();
        ssize_t n;

        if (left_usec <= 0)
            world_fail(world, "the daemon is not ready in time");
        if (poll(&ready, 1, (int)(left_usec / 1000) + 1) <= 0)
            continue;
        n = recv(world->notify_fd, text, sizeof text - 1, MSG_DONTWAIT);
        if (n <= 0)
            continue;
        text[n] = '\0';
        if (strstr(text, "READY=1"))
            return;
    }
}

gboolean world_kill(World *world)
{
    int status = 0;

    (void)kill(world->daemon, SIGKILL);
    while (waitpid(world->daemon, &status, 0) < 0 && errno == EINTR)
        ;
    world->daemon = 0;
    return WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;
}

void world_drain_notify(World *world)
{
    char text[512];

    while (recv(world->notify_fd, text, sizeof text, MSG_DONTWAIT) >= 0)
        ;
}

int world_terminate(World *world)
{
    gint64 deadline_usec = g_get_monotonic_time() + (gint64)END_MSEC * G_TIME_SPAN_MILLISECOND;
    struct pollfd told = {.fd = world->notify_fd, .events = POLLIN};
    int status = 0;

    (void)kill(world->daemon, SIGTERM);
    while (waitpid(world->daemon, &status, WNOHANG) == 0) {
        if (g_get_monotonic_time() > deadline_usec)
            world_fail(world, "after SIGTERM the daemon does not end");
        (void)poll(&told, 1, 10);
        world_drain_notify(world);
    }
    world->daemon = 0;
    return status;
}

sd_bus *world_connect(const World *world, Transport transport)
{
    sd_bus *bus = NULL;

    if (sd_bus_new(&bus) < 0)
        return NULL;
    if (sd_bus_set_address(bus, transport == TRANSPORT_BUS ? world->address : world->direct) < 0 ||
        sd_bus_set_bus_client(bus, transport == TRANSPORT_BUS) < 0 || sd_bus_start(bus) < 0)
        return sd_bus_unref(bus);
    return bus;
}
