/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>
#include <signal.h>
#include <sys/types.h>

/*
 * The command of "styxyctl run": its arguments, its process, its place on the terminal.
 */

/** command_expand: a copy of @argv with every "{port}" in it replaced. (transfer full) */
char **command_expand(char **argv, guint16 port);

/** CommandSetup: what the process gets besides our own environment. */
typedef struct CommandSetup {
    guint16 port;        /* for PORT */
    int socket;          /* borrowed; handed over as descriptor 3, -1 = none */
    const char *fd_name; /* for LISTEN_FDNAMES, with a socket */
    gboolean foreground; /* gets the terminal */
    sigset_t mask;       /* the signals that stay blocked there */
} CommandSetup;

/** The statuses of a command that did not come to run, as of sh(1). */
#define COMMAND_NOT_EXECUTABLE 126
#define COMMAND_NOT_FOUND 127

/**
 * command_spawn: starts @argv in a process group of its own.
 * @ret_pid: the process, which is also its group; our child, to be waited for.
 *
 * The process gets SIGTERM when we die, however we die (prctl(2), PR_SET_PDEATHSIG). Signals that
 * are blocked here are open there and all at their defaults. Call without other threads. Returns
 * after the exec, so a failure is ours to tell.
 *
 * Returns: FALSE with @error in CLI_ERROR, its code COMMAND_NOT_FOUND, COMMAND_NOT_EXECUTABLE, or
 *     EXIT_STATUS_FAILED where no process could be made.
 */
gboolean command_spawn(char **argv, const CommandSetup *setup, pid_t *ret_pid, GError **error);

/** command_exit_status: what a shell would make of a status of waitpid(2): the exit status, or 128
 * + signal. */
int command_exit_status(int wait_status);
