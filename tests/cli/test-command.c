/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cli/command.h"
#include "cli/exit-status.h"
#include "core/outcome.h"

static void test_expand(void)
{
    const char *argv[] = {
        "serve{port}", "--listen=0.0.0.0:{port}", "{port}{port}", "port", "{PORT}", "{port", "",
        NULL};
    g_auto(GStrv) expanded = command_expand((char **)argv, 3000);
    g_autofree char *joined = g_strjoinv("|", expanded);

    g_assert_cmpstr(joined, ==, "serve3000|--listen=0.0.0.0:3000|30003000|port|{PORT}|{port|");
    g_assert_cmpuint(g_strv_length(expanded), ==, 7);
}

static int run(const char *const *argv, CommandSetup *setup, GError **error)
{
    pid_t pid = -1;
    int status = -1;

    (void)sigprocmask(SIG_BLOCK, NULL, &setup->mask);
    if (!command_spawn((char **)argv, setup, &pid, error))
        return -1;
    g_assert_cmpint(waitpid(pid, &status, 0), ==, pid);
    return command_exit_status(status);
}

static int run_shell(const char *script)
{
    const char *argv[] = {"/bin/sh", "-c", script, NULL};
    CommandSetup setup = {.port = 4567, .socket = -1};
    g_autoptr(GError) error = NULL;
    int status = run(argv, &setup, &error);

    g_assert_no_error(error);
    return status;
}

static void test_status(void)
{
    g_assert_cmpint(run_shell("exit 0"), ==, 0);
    g_assert_cmpint(run_shell("exit 42"), ==, 42);
    g_assert_cmpint(run_shell("kill -TERM $$"), ==, 128 + SIGTERM);
    g_assert_cmpint(run_shell("kill -KILL $$"), ==, 128 + SIGKILL);
}

static void test_surroundings(void)
{
    /* its own process group, PORT, and nothing of a socket that somebody passed to us */
    g_setenv("LISTEN_FDS", "1", TRUE);
    g_assert_cmpint(run_shell("test \"$PORT\" = 4567 && test -z \"$LISTEN_FDS\" && "
                              "read -r a b c d pgrp rest < /proc/self/stat; test $pgrp = $$"),
                    ==, 0);
    g_unsetenv("LISTEN_FDS");
}

static void test_socket(void)
{
    const char *argv[] = {"/bin/sh", "-c",
                          "test \"$LISTEN_PID\" = $$ && test \"$LISTEN_FDS\" = 1 && "
                          "test \"$LISTEN_FDNAMES\" = dev && echo x >&3",
                          NULL};
    g_autoptr(GError) error = NULL;
    CommandSetup setup = {.port = 4567, .fd_name = "dev"};
    char byte;
    int fds[2];

    g_assert_cmpint(pipe2(fds, O_CLOEXEC), ==, 0);
    setup.socket = fds[1];
    g_assert_cmpint(run(argv, &setup, &error), ==, 0);
    g_assert_no_error(error);
    g_assert_cmpint(read(fds[0], &byte, 1), ==, 1);
    (void)close(fds[0]);
    (void)close(fds[1]);
}

static void test_not_run(void)
{
    const char *missing[] = {"/nonexistent/program", NULL};
    const char *folder[] = {"/", NULL};
    CommandSetup setup = {.port = 1, .socket = -1};
    g_autoptr(GError) missing_error = NULL;
    g_autoptr(GError) folder_error = NULL;

    g_assert_cmpint(run(missing, &setup, &missing_error), ==, -1);
    g_assert_error(missing_error, CLI_ERROR, COMMAND_NOT_FOUND);
    g_assert_cmpint(run(folder, &setup, &folder_error), ==, -1);
    g_assert_error(folder_error, CLI_ERROR, COMMAND_NOT_EXECUTABLE);
    /* nothing is left to be waited for */
    g_assert_cmpint(waitpid(-1, NULL, WNOHANG), ==, -1);
}

static void test_exit_statuses(void)
{
    static const struct {
        const char *name;
        ExitStatus status;
    } cases[] = {
        {"org.styxy.Ports.Error.InvalidArgument", EXIT_STATUS_USAGE},
        {"org.styxy.Ports.Error.UnknownServiceType", EXIT_STATUS_FAILED},
        {"org.styxy.Ports.Error.UnknownLease", EXIT_STATUS_NOT_FOUND},
        {"org.styxy.Ports.Error.PortInUse", EXIT_STATUS_FAILED},
        {"org.styxy.Ports.Error.NoPortAvailable", EXIT_STATUS_FAILED},
        {"org.styxy.Ports.Error.NotOwner", EXIT_STATUS_NOT_AUTHORIZED},
        {"org.styxy.Ports.Error.NotAuthorized", EXIT_STATUS_NOT_AUTHORIZED},
        {"org.styxy.Ports.Error.QuotaExceeded", EXIT_STATUS_FAILED},
        {"org.styxy.Ports.Error.StateUnavailable", EXIT_STATUS_FAILED},
        {"org.styxy.Ports.Error.Degraded", EXIT_STATUS_FAILED},
        {"org.styxy.Ports.Error.Busy", EXIT_STATUS_FAILED},
        {"org.freedesktop.DBus.Error.AccessDenied", EXIT_STATUS_NOT_AUTHORIZED},
        {"org.freedesktop.DBus.Error.ServiceUnknown", EXIT_STATUS_UNREACHABLE},
        {"org.freedesktop.DBus.Error.NoReply", EXIT_STATUS_UNREACHABLE},
        {"org.freedesktop.DBus.Error.UnknownMethod", EXIT_STATUS_FAILED},
        {"", EXIT_STATUS_FAILED},
        {NULL, EXIT_STATUS_FAILED},
    };
    /* every refusal that the daemon knows has its line above */
    G_STATIC_ASSERT(_OUTCOME_MAX - 1 == 11);

    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++)
        g_assert_cmpint(exit_status_from_bus_error(cases[i].name), ==, cases[i].status);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/command/expand", test_expand);
    g_test_add_func("/command/status", test_status);
    g_test_add_func("/command/surroundings", test_surroundings);
    g_test_add_func("/command/socket", test_socket);
    g_test_add_func("/command/not-run", test_not_run);
    g_test_add_func("/exit-status/table", test_exit_statuses);
    return g_test_run();
}
