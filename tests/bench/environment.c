/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <fcntl.h>
#include <gio/gio.h>
#include <glib/gstdio.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "environment.h"

#define DAEMON_END_MSEC 10000

struct Environment {
    char *folder;
    char *address; /* of the bus */
    char *direct;  /* of the direct socket */
    GPid broker;   /* 0 = not running */
};

static const char bus_configuration[] = "<busconfig>\n"
                                        "  <type>session</type>\n"
                                        "  <listen>%s</listen>\n"
                                        "  <auth>EXTERNAL</auth>\n"
                                        "  <servicedir>%s</servicedir>\n"
                                        "  <policy context=\"default\">\n"
                                        "    <allow send_destination=\"*\"/>\n"
                                        "    <allow receive_sender=\"*\"/>\n"
                                        "    <allow own=\"*\"/>\n"
                                        "  </policy>\n"
                                        "  <limit name=\"service_start_timeout\">20000</limit>\n"
                                        "</busconfig>\n";

static const char service_file[] = "[D-BUS Service]\n"
                                   "Name=org.styxy.Ports\n"
                                   "Exec=\"%s\" --address=%s --state-dir=%s/state "
                                   "--runtime-dir=%s/runtime --config=%s/config.json\n";

const char *transport_to_string(Transport transport)
{
    switch (transport) {
    case TRANSPORT_BUS:
        return "bus";
    case TRANSPORT_DIRECT:
        return "direct";
    }
    g_assert_not_reached();
}

static gboolean write_file(const char *folder, const char *name, const char *text, GError **error)
{
    g_autofree char *path = g_build_filename(folder, name, NULL);

    return g_file_set_contents(path, text, -1, error);
}

static void remove_tree(const char *path)
{
    g_autoptr(GDir) dir = g_dir_open(path, 0, NULL);

    for (const char *name; dir != NULL && (name = g_dir_read_name(dir)) != NULL;) {
        g_autofree char *child = g_build_filename(path, name, NULL);

        if (g_file_test(child, G_FILE_TEST_IS_DIR) && !g_file_test(child, G_FILE_TEST_IS_SYMLINK))
            remove_tree(child);
        else
            (void)g_unlink(child);
    }
    (void)g_rmdir(path);
}

/* The daemon's log goes where its broker's goes: to a file, for a terminal would be measured too.
 */
static void prepare_child(gpointer data)
{
    int fd = open(data, O_WRONLY | O_CREAT | O_APPEND, 0600);

    if (fd >= 0)
        (void)dup2(fd, STDERR_FILENO);
    (void)prctl(PR_SET_PDEATHSIG, SIGTERM, 0, 0, 0);
}

/* The broker prints its address once it takes connections. */
static gboolean start_broker(Environment *environment, GError **error)
{
    g_autofree char *config = g_strdup_printf("--config-file=%s/bus.conf", environment->folder);
    g_autofree char *log = g_build_filename(environment->folder, "log", NULL);
    const char *argv[] = {"dbus-daemon", config, "--nofork", "--print-address", NULL};
    int output = -1;

    if (!g_spawn_async_with_pipes(NULL, (char **)argv, NULL,
                                  G_SPAWN_SEARCH_PATH | G_SPAWN_DO_NOT_REAP_CHILD, prepare_child,
                                  log, &environment->broker, NULL, &output, NULL, error))
        return FALSE;

    char c = 0;
    ssize_t n;

    do
        n = read(output, &c, 1);
    while (n > 0 && c != '\n');
    (void)close(output);
    if (n <= 0) {
        g_set_error(error, G_IO_ERROR, G_IO_ERROR_FAILED, "dbus-daemon ended at once");
        return FALSE;
    }
    return TRUE;
}

Environment *environment_new(const char *daemon, const char *configuration, GError **error)
{
    g_autoptr(Environment) environment = g_new0(Environment, 1);

    if (geteuid() == 0 && unshare(CLONE_NEWNET) < 0)
        g_printerr("no network namespace (%s), using the one that is there\n", g_strerror(errno));

    environment->folder = g_dir_make_tmp("styxy-bench-XXXXXX", error);
    if (environment->folder == NULL)
        return NULL;
    environment->address = g_strdup_printf("unix:path=%s/bus", environment->folder);
    environment->direct = g_strdup_printf("unix:path=%s/runtime/bus", environment->folder);

    g_autofree char *services = g_build_filename(environment->folder, "services", NULL);
    g_autofree char *runtime = g_build_filename(environment->folder, "runtime", NULL);
    g_autofree char *bus_conf = g_strdup_printf(bus_configuration, environment->address, services);
    g_autofree char *service =
        g_strdup_printf(service_file, daemon, environment->address, environment->folder,
                        environment->folder, environment->folder);

    if (g_mkdir(services, 0700) < 0 || g_mkdir(runtime, 0700) < 0) {
        g_set_error(error, G_IO_ERROR, G_IO_ERROR_FAILED, "%s: %s", environment->folder,
                    g_strerror(errno));
        return NULL;
    }
    if (!write_file(environment->folder, "bus.conf", bus_conf, error) ||
        !write_file(environment->folder, "config.json", configuration, error) ||
        !write_file(services, "org.styxy.Ports.service", service, error) ||
        !start_broker(environment, error))
        return NULL;
    return g_steal_pointer(&environment);
}

/* The daemon is no child of ours, so its end is seen through a pidfd. */
static void end_daemon(const Environment *environment)
{
    sd_bus *bus = environment_connect(environment, TRANSPORT_BUS);
    __attribute__((cleanup(sd_bus_creds_unrefp))) sd_bus_creds *creds = NULL;
    pid_t pid;

    if (sd_bus_get_name_creds(bus, "org.styxy.Ports", SD_BUS_CREDS_PID, &creds) >= 0 &&
        sd_bus_creds_get_pid(creds, &pid) >= 0) {
        struct pollfd end = {.fd = (int)syscall(SYS_pidfd_open, pid, 0), .events = POLLIN};

        (void)kill(pid, SIGTERM);
        if (end.fd >= 0 && poll(&end, 1, DAEMON_END_MSEC) == 0) {
            g_printerr("the daemon does not end on SIGTERM\n");
            (void)kill(pid, SIGKILL);
            (void)poll(&end, 1, DAEMON_END_MSEC);
        }
        if (end.fd >= 0)
            (void)close(end.fd);
    }
    sd_bus_flush_close_unref(bus);
}

Environment *environment_free(Environment *environment)
{
    if (environment == NULL)
        return NULL;
    if (environment->broker > 0) {
        end_daemon(environment);
        (void)kill(environment->broker, SIGTERM);
        while (waitpid(environment->broker, NULL, 0) < 0 && errno == EINTR)
            ;
        g_spawn_close_pid(environment->broker);
    }
    if (environment->folder != NULL)
        remove_tree(environment->folder);
    g_free(environment->folder);
    g_free(environment->address);
    g_free(environment->direct);
    g_free(environment);
    return NULL;
}

const char *environment_folder(const Environment *environment)
{
    return environment->folder;
}

sd_bus *environment_connect(const Environment *environment, Transport transport)
{
    sd_bus *bus = NULL;

    g_assert_cmpint(sd_bus_new(&bus), >=, 0);
    g_assert_cmpint(sd_bus_set_address(bus, transport == TRANSPORT_BUS ? environment->address
                                                                       : environment->direct),
                    >=, 0);
    g_assert_cmpint(sd_bus_set_bus_client(bus, transport == TRANSPORT_BUS), >=, 0);

    int r = sd_bus_start(bus);

    if (r < 0)
        g_error("connect to the %s: %s", transport_to_string(transport), g_strerror(-r));
    return bus;
}

pid_t environment_daemon_pid(const Environment *environment)
{
    sd_bus *bus = environment_connect(environment, TRANSPORT_BUS);
    __attribute__((cleanup(sd_bus_error_free))) sd_bus_error error = SD_BUS_ERROR_NULL;
    __attribute__((cleanup(sd_bus_creds_unrefp))) sd_bus_creds *creds = NULL;
    pid_t pid = 0;

    if (sd_bus_call_method(bus, "org.styxy.Ports", "/org/styxy/Ports", "org.freedesktop.DBus.Peer",
                           "Ping", &error, NULL, NULL) < 0)
        g_error("the daemon does not come: %s", error.message);
    g_assert_cmpint(sd_bus_get_name_creds(bus, "org.styxy.Ports", SD_BUS_CREDS_PID, &creds), >=, 0);
    g_assert_cmpint(sd_bus_creds_get_pid(creds, &pid), >=, 0);
    sd_bus_flush_close_unref(bus);
    return pid;
}
