/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>

/** ExitStatus: what styxyctl ends with; documented in styxyctl(1) and part of its interface. */
typedef enum ExitStatus {
    EXIT_STATUS_OK = 0,
    EXIT_STATUS_FAILED = 1,         /* refused or failed */
    EXIT_STATUS_USAGE = 2,          /* the command line is wrong */
    EXIT_STATUS_NOT_FOUND = 3,      /* no such lease, nothing there */
    EXIT_STATUS_NOT_AUTHORIZED = 4, /* somebody else's, or an administrator's business */
    EXIT_STATUS_UNREACHABLE = 5,    /* no daemon to talk to */
} ExitStatus;

/**
 * CLI_ERROR: the domain of every error that reaches the user: the code is the ExitStatus, the
 * message a whole sentence without the program's name, translated.
 */
#define CLI_ERROR cli_error_quark()
GQuark cli_error_quark(void);

/**
 * exit_status_from_bus_error: the status that a D-Bus error name ends with.
 * NULL and unknown names are EXIT_STATUS_FAILED.
 */
ExitStatus exit_status_from_bus_error(const char *name);
