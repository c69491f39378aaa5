/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>

/** Exit statuses of styxyd; EX_CONFIG of sysexits.h is the one that the unit does not restart on.
 */
#define EXIT_DONE 0
#define EXIT_FAILED 1
#define EXIT_USAGE 2
#define EXIT_CONFIG 78

/** Options: the command line with all defaults filled in. Strings owned. */
typedef struct Options {
    gboolean user;
    gboolean check_config;
    char *address;     /* D-Bus address, NULL = the bus of the scope */
    char *config;      /* that file alone, NULL = the usual places */
    char *state_dir;   /* absolute or relative to the working directory */
    char *runtime_dir; /* likewise */
} Options;

/**
 * options_parse: reads the command line; prints help and version itself.
 * Returns: FALSE when the process is to end with *@ret_status.
 */
gboolean options_parse(Options *options, int argc, char **argv, int *ret_status);
void options_clear(Options *options);
