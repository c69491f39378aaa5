/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>
#include <sys/types.h>

/*
 * What the probe tests share. Everything runs in one process with its helpers forked from it.
 */

/**
 * test_private_network: moves the process to a network namespace of its own with "lo" up, so that
 * nobody else takes the ports of the test. Returns: FALSE where that is not permitted.
 */
gboolean test_private_network(void);

/** test_in_child: runs @func in a forked child; what it returns must be 0. Fails the test else. */
void test_in_child(int (*func)(void *data), void *data);

/**
 * test_under_tool: whether a sanitizer or valgrind looks on: everything takes many times as long,
 * and memory that was freed is kept.
 */
gboolean test_under_tool(void);

/** test_count_fds: the open descriptors of this process. */
guint test_count_fds(void);

/** test_write_file: writes @text to a file of /proc or /sys. Returns: FALSE when refused. */
gboolean test_write_file(const char *path, const char *text);

/* CHECK: for children, where an assertion of GLib would not reach the test report. */
#define CHECK(condition)                                                         \
    do {                                                                         \
        if (!(condition)) {                                                      \
            g_printerr("%s:%d: not true: %s\n", __FILE__, __LINE__, #condition); \
            return 1;                                                            \
        }                                                                        \
    } while (0)
