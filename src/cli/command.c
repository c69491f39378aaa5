/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "cli/command.h"

#include <errno.h>
#include <fcntl.h>
#include <glib/gi18n.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cli/exit-status.h"
#include "util/fd.h"
#include "util/file.h"

/* sd_listen_fds(3): the first descriptor that is passed */
#define LISTEN_FD 3

char **command_expand(char **argv, guint16 port)
{
    g_autoptr(GPtrArray) expanded = g_ptr_array_new();
    g_autofree char *number = g_strdup_printf("%u", port);

    for (size_t i = 0; argv[i]; i++) {
        GString *text = g_string_new(argv[i]);

        (void)g_string_replace(text, "{port}", number, 0);
        g_ptr_array_add(expanded, g_string_free(text, FALSE));
    }
    g_ptr_array_add(expanded, NULL);
    return (char **)g_ptr_array_free(g_steal_pointer(&expanded), FALSE);
}

int command_exit_status(int wait_status)
{
    if (WIFSIGNALED(wait_status))
        return 128 + WTERMSIG(wait_status);
    return WEXITSTATUS(wait_status);
}

static int pass_socket(const CommandSetup *setup)
{
    char pid[16];

    (void)unsetenv("LISTEN_PID");
    (void)unsetenv("LISTEN_FDS");
    (void)unsetenv("LISTEN_FDNAMES");
    if (setup->socket < 0)
        return 0;
    /* dup2() onto itself would leave close-on-exec set */
    if (setup->socket == LISTEN_FD) {
        if (fcntl(LISTEN_FD, F_SETFD, 0) < 0)
            return -errno;
    } else if (dup2(setup->socket, LISTEN_FD) < 0) {
        return -errno;
    }
    (void)snprintf(pid, sizeof(pid), "%d", (int)getpid());
    (void)setenv("LISTEN_PID", pid, TRUE);
    (void)setenv("LISTEN_FDS", "1", TRUE);
    (void)setenv("LISTEN_FDNAMES", setup->fd_name, TRUE);
    return 0;
}

/* What the new process does before it is the command. Returns a negative errno. */
static int become(char **argv, const CommandSetup *setup, pid_t parent)
{
    char port[8];
    int r;

    if (prctl(PR_SET_PDEATHSIG, SIGTERM) < 0)
        return -errno;
    /* the parent may have died before that was set */
    if (getppid() != parent)
        return -ECANCELED;
    if (setpgid(0, 0) < 0)
        return -errno;
    /* SIGTTOU is still blocked here, so a group in the background may do this (tcsetpgrp(3)) */
    if (setup->foreground)
        (void)tcsetpgrp(STDIN_FILENO, getpgrp());
    (void)snprintf(port, sizeof(port), "%u", setup->port);
    (void)setenv("PORT", port, TRUE);
    r = pass_socket(setup);
    if (r < 0)
        return r;
    if (sigprocmask(SIG_SETMASK, &setup->mask, NULL) < 0)
        return -errno;
    (void)execvp(argv[0], argv);
    return -errno;
}

static void G_GNUC_NORETURN child_main(char **argv, const CommandSetup *setup, pid_t parent,
                                       int report_fd)
{
    int r;

    /* descriptor 3 is about to be the socket */
    if (report_fd == LISTEN_FD && setup->socket >= 0)
        report_fd = fcntl(report_fd, F_DUPFD_CLOEXEC, LISTEN_FD + 1);
    r = become(argv, setup, parent);
    (void)file_write_all(report_fd, &r, sizeof(r));
    _exit(COMMAND_NOT_EXECUTABLE);
}

static gboolean spawn_error(GError **error, int code, const char *program)
{
    if (code == ENOENT)
        g_set_error(error, CLI_ERROR, COMMAND_NOT_FOUND, _("command not found: %s"), program);
    else
        g_set_error(error, CLI_ERROR, COMMAND_NOT_EXECUTABLE, _("cannot run %s: %s"), program,
                    g_strerror(code));
    return FALSE;
}

gboolean command_spawn(char **argv, const CommandSetup *setup, pid_t *ret_pid, GError **error)
{
    AUTO_FD read_end = -1;
    AUTO_FD write_end = -1;
    pid_t parent = getpid();
    int fds[2], report = 0;
    ssize_t n;
    pid_t pid;

    if (pipe2(fds, O_CLOEXEC) < 0) {
        g_set_error(error, CLI_ERROR, EXIT_STATUS_FAILED, _("cannot make a pipe: %s"),
                    g_strerror(errno));
        return FALSE;
    }
    read_end = fds[0];
    write_end = fds[1];
    (void)fflush(NULL);
    pid = fork();
    if (pid < 0) {
        g_set_error(error, CLI_ERROR, EXIT_STATUS_FAILED, _("cannot make a process: %s"),
                    g_strerror(errno));
        return FALSE;
    }
    if (pid == 0)
        child_main(argv, setup, parent, write_end);

    write_end = fd_close(write_end);
    do
        n = read(read_end, &report, sizeof(report));
    while (n < 0 && errno == EINTR);
    if (n == (ssize_t)sizeof(report)) {
        (void)waitpid(pid, NULL, 0);
        return spawn_error(error, -report, argv[0]);
    }
    *ret_pid = pid;
    return TRUE;
}
