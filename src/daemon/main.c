/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * styxyd: wiring only. The order is the promise: options, log, configuration, the state's lock, its
 * recovery, the direct socket, the bus name, and only then READY=1. Whoever can reach the daemon
 * sees all of its leases.
 */
#include <fcntl.h>
#include <glib-unix.h>
#include <locale.h>
#include <stdio.h>

#include "bus/service.h"
#include "daemon/config-files.h"
#include "daemon/lifecycle.h"
#include "daemon/options.h"
#include "daemon/sockets.h"
#include "recovery/events.h"
#include "recovery/manager.h"
#include "recovery/message-ids.h"
#include "util/fd.h"
#include "util/log.h"

typedef struct Daemon {
    Options options;
    ConfigFolders folders;
    GMainLoop *loop;
    Manager *manager;
    BusService *service;
    guint idle_msec; /* 0 = stays */
    guint idle_timer;
    gint64 active_usec; /* CLOCK_MONOTONIC of the last message */
    gboolean is_ready;
    gboolean leaving;
    int status;
} Daemon;

static Configuration *load_configuration(void *data, GError **error)
{
    Daemon *daemon = data;

    return config_files_load(daemon->options.config, &daemon->folders, error);
}

static void tell_status(Daemon *daemon)
{
    const char *reason = NULL;
    ManagerState state = manager_state(daemon->manager, &reason);

    lifecycle_status("%s%s%s, %u leases", manager_state_to_string(state), reason[0] ? ": " : "",
                     reason, registry_count(manager_registry(daemon->manager)));
}

/* ---- leaving --------------------------------------------------------------------------------- */

static void on_left(void *data)
{
    Daemon *daemon = data;

    g_main_loop_quit(daemon->loop);
}

static void leave(Daemon *daemon)
{
    if (daemon->leaving)
        return;
    daemon->leaving = TRUE;
    lifecycle_stopping();
    bus_service_shutdown(daemon->service, on_left, daemon);
}

static gboolean on_terminate(gpointer data)
{
    log_info("asked to end");
    leave(data);
    return G_SOURCE_CONTINUE;
}

static gboolean on_hangup(gpointer data)
{
    Daemon *daemon = data;
    g_autoptr(GError) error = NULL;

    (void)manager_reload(daemon->manager, &error); /* it logs what is wrong */
    return G_SOURCE_CONTINUE;
}

/* ---- idle exit ------------------------------------------------------------------------------- */

static gboolean is_idle(const Daemon *daemon)
{
    return daemon->is_ready && manager_is_idle(daemon->manager) &&
           bus_service_is_idle(daemon->service);
}

static void arm_idle(Daemon *daemon);

static gboolean on_idle_timer(gpointer data)
{
    Daemon *daemon = data;
    gint64 left_usec =
        daemon->active_usec + (gint64)daemon->idle_msec * 1000 - g_get_monotonic_time();

    daemon->idle_timer = 0;
    if (!is_idle(daemon))
        return G_SOURCE_REMOVE; /* what ends that calls on_activity() */
    if (left_usec > 0) {
        arm_idle(daemon);
        return G_SOURCE_REMOVE;
    }
    log_info("nothing to do, leaving until somebody calls");
    leave(daemon);
    return G_SOURCE_REMOVE;
}

static void arm_idle(Daemon *daemon)
{
    if (daemon->idle_msec > 0 && daemon->idle_timer == 0 && !daemon->leaving)
        daemon->idle_timer = g_timeout_add(daemon->idle_msec, on_idle_timer, daemon);
}

static void on_activity(void *data)
{
    Daemon *daemon = data;

    daemon->active_usec = g_get_monotonic_time();
    arm_idle(daemon);
}

/* ---- the bus --------------------------------------------------------------------------------- */

static void on_named(void *data)
{
    Daemon *daemon = data;

    if (daemon->is_ready)
        return;
    daemon->is_ready = TRUE;
    tell_status(daemon);
    lifecycle_ready();
    log_info("ready");
    on_activity(daemon);
}

/* Without a broker there is the direct socket, which is worth being ready for. */
static void on_lost(void *data)
{
    on_named(data);
}

static void on_failed(const GError *error, void *data)
{
    Daemon *daemon = data;

    event_daemon_failed(error);
    daemon->status = EXIT_FAILED;
    leave(daemon);
}

/* ---- start ----------------------------------------------------------------------------------- */

static int fail(const GError *error)
{
    event_daemon_failed(error);
    return EXIT_FAILED;
}

static int check_config(Daemon *daemon)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(Configuration) config = load_configuration(daemon, &error);
    g_autofree char *files = NULL;

    if (!config) {
        fprintf(stderr, "styxyd: %s\n", error->message);
        return EXIT_CONFIG;
    }
    files = g_strjoinv(", ", config->files);
    printf("%s: %u service types, no error\n", files, config->service_types->len);
    return EXIT_DONE;
}

static gboolean start_bus(Daemon *daemon, PassedSockets *sockets, GError **error)
{
    const Options *options = &daemon->options;
    BusServiceOptions service_options = {
        .manager = daemon->manager,
        .own_uid_administrates = options->user,
        .named = on_named,
        .lost = on_lost,
        .failed = on_failed,
        .active = on_activity,
        .data = daemon,
    };
    BusKind kind = options->address ? BUS_ADDRESS : options->user ? BUS_USER : BUS_SYSTEM;

    daemon->service = bus_service_new(&service_options, error);
    if (!daemon->service)
        return FALSE;
    if (sockets->listen_fd < 0)
        sockets->listen_fd = sockets_listen(options->runtime_dir, error);
    if (sockets->listen_fd < 0 || !bus_service_listen(daemon->service, sockets->listen_fd, error))
        return FALSE;
    (void)fd_steal(&sockets->listen_fd);
    return bus_service_open_broker(daemon->service, kind, options->address, error);
}

static int run(Daemon *daemon)
{
    __attribute__((cleanup(sockets_clear))) PassedSockets sockets = {.listen_fd = -1};
    g_autoptr(Configuration) config = NULL;
    g_autoptr(GError) error = NULL;
    ManagerOptions options;

    daemon->idle_msec = lifecycle_idle_msec();
    sockets_take(&sockets);
    config = load_configuration(daemon, &error);
    if (!config) {
        sockets_refuse(&sockets);
        event_configuration_invalid(error);
        return EXIT_CONFIG;
    }
    event_configuration_loaded(config);

    options = (ManagerOptions){.config = config,
                               .load = load_configuration,
                               .load_data = daemon,
                               .state_dir = daemon->options.state_dir,
                               .compact_bytes = lifecycle_compact_bytes(),
                               .held = sockets.held,
                               .became_idle = on_activity,
                               .became_idle_data = daemon};
    daemon->manager = manager_new(&options, &error);
    if (!daemon->manager)
        return fail(error);
    manager_start(daemon->manager);

    if (!start_bus(daemon, &sockets, &error))
        return fail(error);
    lifecycle_watchdog(NULL);
    g_main_loop_run(daemon->loop);
    return daemon->status;
}

static void clear(Daemon *daemon)
{
    daemon->service = bus_service_free(daemon->service);
    daemon->manager = manager_free(daemon->manager);
    g_main_loop_unref(daemon->loop);
    options_clear(&daemon->options);
}

int main(int argc, char **argv)
{
    Daemon daemon = {.status = EXIT_DONE};
    int status;

    (void)setlocale(LC_ALL, "");
    if (!options_parse(&daemon.options, argc, argv, &status))
        return status;
    daemon.folders = config_folders(daemon.options.user);
    if (daemon.options.check_config) {
        status = check_config(&daemon);
        options_clear(&daemon.options);
        return status;
    }
    log_init("styxyd", LOG_TARGET_AUTO, LOG_INFO);
    log_set_library_message_id(MESSAGE_LIBRARY);
    daemon.loop = g_main_loop_new(NULL, FALSE);
    (void)g_unix_signal_add(SIGTERM, on_terminate, &daemon);
    (void)g_unix_signal_add(SIGINT, on_terminate, &daemon);
    (void)g_unix_signal_add(SIGHUP, on_hangup, &daemon);
    (void)signal(SIGPIPE, SIG_IGN);
    (void)signal(SIGXFSZ, SIG_IGN); /* a limit on file sizes is a full disk: EFBIG */
    status = run(&daemon);
    clear(&daemon);
    return status;
}
