/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>

/* What the service manager hears, and when a daemon with nothing to do leaves. */

/** lifecycle_watchdog: feeds the service manager's watchdog from @context (sd_watchdog_enabled(3)).
 */
void lifecycle_watchdog(GMainContext *context);

/** lifecycle_ready, lifecycle_stopping: READY=1 and STOPPING=1 of sd_notify(3). */
void lifecycle_ready(void);
void lifecycle_stopping(void);

/** lifecycle_status: STATUS= for people; written only when it is another than before. */
void lifecycle_status(const char *format, ...) G_GNUC_PRINTF(1, 2);

/**
 * lifecycle_idle_msec: after how long without leases, clients and jobs the daemon leaves.
 * $STYXY_IDLE_MSEC decides where it is set. Else 30 s where something would start the daemon again
 * (a service manager passed the socket, or a bus activated it), and never where a person started
 * it. Returns: milliseconds, 0 = never.
 */
guint lifecycle_idle_msec(void);

/**
 * lifecycle_compact_bytes: the length of the journal from which on a snapshot replaces it, as
 * $STYXY_COMPACT_BYTES says. For tests, which are to meet snapshots more often than life does.
 * Returns: bytes, 0 = the store's own.
 */
guint lifecycle_compact_bytes(void);
