/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * run: a command with a port of its own.
 *
 * The lease has the lifetime of our connection, so it ends with us however we end; the command is
 * told of our death by the kernel. Where the daemon goes away the command stays: we come back and
 * claim the port again.
 */

#include <errno.h>
#include <fcntl.h>
#include <glib/gi18n.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cli/command.h"
#include "cli/grant.h"
#include "cli/lease-view.h"
#include "cli/output.h"
#include "cli/verbs.h"
#include "util/fd.h"

#define RECONNECT_FIRST_MSEC 250
#define RECONNECT_MAX_MSEC 8000

static const int forwarded[] = {SIGINT,  SIGTERM,  SIGHUP,  SIGQUIT, SIGUSR1,
                                SIGUSR2, SIGWINCH, SIGTSTP, SIGCONT};

typedef struct Run {
    const Arguments *args;
    Client *client; /* owned; NULL while no connection can be had */
    Grant grant;
    pid_t pid;             /* of the command, and its group */
    int signal_fd;         /* owned */
    sigset_t mask;         /* as it was before us, for the command */
    gboolean terminal;     /* stdin is one, and job control is ours to do */
    gboolean ended;        /* the command has */
    gboolean lost;         /* the lease was ended by somebody else */
    gboolean away;         /* the daemon is, or was: what became of the lease must be asked */
    int wait_status;       /* once ended */
    guint backoff_msec;    /* before the next attempt to come back */
    gint64 reconnect_usec; /* CLOCK_MONOTONIC, when it is due */
} Run;

static void run_clear(Run *run)
{
    run->client = client_free(run->client);
    grant_clear(&run->grant);
    run->signal_fd = fd_close(run->signal_fd);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Run, run_clear)

/* ---- the lease ---- */

static void plan_reconnect(Run *run)
{
    run->away = TRUE;
    run->backoff_msec = run->backoff_msec == 0 ? RECONNECT_FIRST_MSEC
                                               : MIN(run->backoff_msec * 2, RECONNECT_MAX_MSEC);
    run->reconnect_usec = g_get_monotonic_time() + (gint64)run->backoff_msec * 1000;
}

static void daemon_left(Run *run)
{
    if (!run->away && !run->lost)
        output_note(_("lost the daemon; the command goes on, coming back for port %u"),
                    grant_port(&run->grant));
    plan_reconnect(run);
}

static void on_owner_changed(Run *run, GVariant *args)
{
    const char *new_owner = NULL;

    g_variant_get_child(args, 2, "&s", &new_owner);
    if (!*new_owner) {
        daemon_left(run);
        return;
    }
    /* another daemon than the one that gave us the lease */
    run->away = TRUE;
    run->reconnect_usec = g_get_monotonic_time();
}

static void on_released(Run *run, GVariant *args)
{
    const char *lease = NULL, *reason = NULL;

    g_variant_get(args, "(&sq&s@a{sv})", &lease, NULL, &reason, NULL);
    if (!g_str_equal(lease, grant_lease(&run->grant)))
        return;
    run->lost = TRUE;
    output_note(_("the lease of port %u was ended (%s); the command goes on without it"),
                grant_port(&run->grant), reason);
}

static void on_signal(const char *member, GVariant *args, void *data)
{
    if (g_str_equal(member, CLIENT_OWNER_CHANGED))
        on_owner_changed(data, args);
    else if (g_str_equal(member, "PortReleased") &&
             g_variant_is_of_type(args, G_VARIANT_TYPE("(sqsa{sv})")))
        on_released(data, args);
}

static void watch_lease(Run *run)
{
    g_autofree char *narrow =
        g_strdup_printf("member='PortReleased',arg0='%s'", grant_lease(&run->grant));

    client_set_signal_handler(run->client, on_signal, run);
    /* without these a release or a restart goes unnoticed, which harms nobody */
    (void)client_add_match(run->client, narrow, NULL);
    client_watch_owner(run->client);
}

static gboolean request(Run *run, GVariantDict *options, GrantKind kind, Grant *ret_grant,
                        GError **error)
{
    g_variant_dict_insert(options, "lifetime", "s", lifetime_to_string(LIFETIME_CLIENT));
    if (!grant_request(run->client, run->args, kind, options, ret_grant, error))
        return FALSE;
    grant_unwatch(run->client, run->args);
    return TRUE;
}

/*
 * Gives the lease back before we leave; our connection's end would do it too, only later. One that
 * was there before us is not ours to end: who was granted it may be serving on it.
 */
static void release(Run *run)
{
    g_autoptr(GVariant) reply = NULL;

    if (run->lost || grant_is_reused(&run->grant))
        return;
    if (!run->client)
        run->client = client_open(run->args, NULL);
    if (!run->client)
        return;
    client_set_signal_handler(run->client, NULL, NULL);
    reply = client_call(run->client, "Release", g_variant_new("(s)", grant_lease(&run->grant)),
                        CLIENT_CALL_QUICK, NULL, NULL);
}

/* ---- losing the daemon, and coming back ---- */

/* What became of the lease: EXIT_STATUS_OK where it stands, as a daemon that comes back remembers.
 */
static ExitStatus ask_lease(Run *run)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(GVariant) reply =
        client_call(run->client, "GetLease", g_variant_new("(s)", grant_lease(&run->grant)),
                    CLIENT_CALL_QUICK, NULL, &error);

    return reply ? EXIT_STATUS_OK : (ExitStatus)error->code;
}

static gboolean claim_again(Run *run, GError **error)
{
    g_auto(Grant) grant = GRANT_INIT;
    GVariantDict *options = grant_options(run->args);

    g_variant_dict_insert(options, "port", "q", grant_port(&run->grant));
    g_variant_dict_insert(options, "strict", "b", TRUE);
    g_variant_dict_insert(options, "retries", "u", 0);
    if (!request(run, options, GRANT_PORT, &grant, error))
        return FALSE;
    grant_clear(&run->grant);
    run->grant = grant;
    grant = (Grant)GRANT_INIT;
    return TRUE;
}

static void come_back(Run *run)
{
    g_autoptr(GError) error = NULL;
    ExitStatus status;

    if (!run->client)
        run->client = client_open(run->args, NULL);
    status = run->client ? ask_lease(run) : EXIT_STATUS_UNREACHABLE;
    if (status == EXIT_STATUS_NOT_FOUND && !claim_again(run, &error))
        status = (ExitStatus)error->code;
    else if (status != EXIT_STATUS_UNREACHABLE)
        status = EXIT_STATUS_OK;

    if (status == EXIT_STATUS_UNREACHABLE) {
        run->client = client_free(run->client);
        plan_reconnect(run);
        return;
    }
    run->away = FALSE;
    run->backoff_msec = 0;
    if (status == EXIT_STATUS_OK) {
        watch_lease(run);
        output_note(_("the daemon is back, port %u is leased"), grant_port(&run->grant));
    } else {
        run->lost = TRUE;
        output_note(
            _("port %u could not be claimed again: %s; the command goes on without a lease"),
            grant_port(&run->grant), error ? error->message : "");
    }
}

static void serve_daemon(Run *run)
{
    if (run->client && !client_process(run->client, NULL)) {
        run->client = client_free(run->client);
        daemon_left(run);
    }
    if (run->away && !run->lost && g_get_monotonic_time() >= run->reconnect_usec)
        come_back(run);
}

/* ---- the command ---- */

static gboolean in_foreground(const Run *run)
{
    return run->terminal && tcgetpgrp(STDIN_FILENO) == getpgrp();
}

/* The command has stopped, at Ctrl-Z say: stop with it, so that the shell gets its prompt back. */
static void stop_along(Run *run)
{
    sigset_t stop;

    if (!run->terminal)
        return;
    if (tcgetpgrp(STDIN_FILENO) == run->pid)
        (void)tcsetpgrp(STDIN_FILENO, getpgrp());
    (void)sigemptyset(&stop);
    (void)sigaddset(&stop, SIGTSTP);
    (void)kill(0, SIGTSTP);
    (void)sigprocmask(SIG_UNBLOCK, &stop, NULL); /* here we stop, and here we go on */
    (void)sigprocmask(SIG_BLOCK, &stop, NULL);
    if (in_foreground(run))
        (void)tcsetpgrp(STDIN_FILENO, run->pid);
    (void)kill(-run->pid, SIGCONT);
}

static void reap(Run *run)
{
    int status;

    while (waitpid(run->pid, &status, WNOHANG | WUNTRACED) == run->pid) {
        if (WIFSTOPPED(status)) {
            stop_along(run);
            continue;
        }
        run->wait_status = status;
        run->ended = TRUE;
        return;
    }
}

static void serve_signals(Run *run)
{
    struct signalfd_siginfo info;

    while (read(run->signal_fd, &info, sizeof(info)) == (ssize_t)sizeof(info)) {
        int number = (int)info.ssi_signo;

        if (number == SIGCHLD)
            continue;
        if (number == SIGCONT && in_foreground(run))
            (void)tcsetpgrp(STDIN_FILENO, run->pid);
        (void)kill(-run->pid, number);
    }
    reap(run);
}

static gboolean open_signals(Run *run, GError **error)
{
    sigset_t set;

    (void)sigemptyset(&set);
    (void)sigaddset(&set, SIGCHLD);
    for (size_t i = 0; i < G_N_ELEMENTS(forwarded); i++)
        (void)sigaddset(&set, forwarded[i]);
    run->signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    /* to give the terminal away and take it back from the background (tcsetpgrp(3)) */
    (void)sigaddset(&set, SIGTTOU);
    if (run->signal_fd < 0 || sigprocmask(SIG_BLOCK, &set, &run->mask) < 0) {
        g_set_error(error, CLI_ERROR, EXIT_STATUS_FAILED, _("cannot wait for signals: %s"),
                    g_strerror(errno));
        return FALSE;
    }
    /* an inherited "ignore" would have the kernel reap the command and its status for us */
    (void)signal(SIGCHLD, SIG_DFL);
    return TRUE;
}

/*
 * The daemon's socket does not block and, on TCP, does not listen yet; systemd passes them
 * otherwise. SO_REUSEADDR as there: without it the connections of this service, in TIME_WAIT, would
 * keep the next one from the port (socket(7)). Not before it listens: until then it would let
 * others in.
 */
static gboolean prepare_socket(Run *run, GError **error)
{
    int fd = run->grant.socket;
    int type = 0, yes = 1;
    socklen_t length = sizeof(type);
    int flags = fcntl(fd, F_GETFL);

    if (flags < 0 || fcntl(fd, F_SETFL, flags & ~O_NONBLOCK) < 0 ||
        getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &length) < 0 ||
        (type == SOCK_STREAM &&
         (listen(fd, SOMAXCONN) < 0 ||
          setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes)) < 0))) {
        g_set_error(error, CLI_ERROR, EXIT_STATUS_FAILED, _("cannot listen on port %u: %s"),
                    grant_port(&run->grant), g_strerror(errno));
        return FALSE;
    }
    return TRUE;
}

static gboolean start_command(Run *run, GError **error)
{
    g_auto(GStrv) argv = command_expand(run->args->command, grant_port(&run->grant));
    CommandSetup setup = {
        .port = grant_port(&run->grant),
        .socket = run->grant.socket,
        .fd_name = arguments_operand(run->args, 0),
        .foreground = in_foreground(run),
    };

    if (run->grant.socket >= 0 && !prepare_socket(run, error))
        return FALSE;
    if (!open_signals(run, error))
        return FALSE;
    setup.mask = run->mask;
    if (!command_spawn(argv, &setup, &run->pid, error))
        return FALSE;
    /* also here, as either of us may come first to need it */
    (void)setpgid(run->pid, run->pid);
    /* the command has it now; as long as we had it too, connections could wait where nobody accepts
     */
    run->grant.socket = fd_close(run->grant.socket);
    return TRUE;
}

static int poll_timeout_msec(Run *run)
{
    int timeout_msec = run->client ? client_timeout_msec(run->client) : -1;
    gint64 left_msec;

    if (!run->away || run->lost)
        return timeout_msec;
    left_msec = (run->reconnect_usec - g_get_monotonic_time() + 999) / 1000;
    left_msec = CLAMP(left_msec, 0, G_MAXINT);
    return timeout_msec < 0 ? (int)left_msec : MIN(timeout_msec, (int)left_msec);
}

static void wait_for_command(Run *run)
{
    serve_signals(run);
    while (!run->ended) {
        struct pollfd fds[2] = {{.fd = run->signal_fd, .events = POLLIN}, {.fd = -1}};

        serve_daemon(run);
        if (run->client) {
            fds[1].fd = client_fd(run->client);
            fds[1].events = client_events(run->client);
        }
        (void)poll(fds, G_N_ELEMENTS(fds), poll_timeout_msec(run));
        serve_signals(run);
    }
    if (run->terminal && tcgetpgrp(STDIN_FILENO) == run->pid)
        (void)tcsetpgrp(STDIN_FILENO, getpgrp());
}

ExitStatus verb_run(const Arguments *args, GError **error)
{
    g_auto(Run) run = {.args = args, .grant = GRANT_INIT, .signal_fd = -1};

    run.terminal = isatty(STDIN_FILENO) == 1;
    run.client = client_open(args, error);
    if (!run.client ||
        !request(&run, grant_options(args),
                 arguments_has(args, OPTION_SOCKET) ? GRANT_SOCKET : GRANT_PORT, &run.grant, error))
        return EXIT_STATUS_FAILED;
    if (!start_command(&run, error)) {
        release(&run);
        return EXIT_STATUS_FAILED;
    }
    watch_lease(&run);
    wait_for_command(&run);
    release(&run);
    return (ExitStatus)command_exit_status(run.wait_status);
}
