/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "recovery/manager-private.h"

/*
 * Layer 2: watches leases while there are any. A sweep takes one picture of the socket table on a
 * thread of its own and goes through the leases in slices; a process that ends is noticed at once.
 */
typedef struct HealthMonitor HealthMonitor;

/** health_monitor_new: idle until the first health_watch(). */
HealthMonitor *health_monitor_new(Manager *manager);
HealthMonitor *health_monitor_free(HealthMonitor *monitor);

/** health_watch: begins to watch a lease that was granted or recovered; its process, too. */
void health_watch(HealthMonitor *monitor, Lease *lease);

/** health_unwatch: the lease is about to leave the registry. */
void health_unwatch(HealthMonitor *monitor, Lease *lease);

/** health_process_exited: the end of a lease whose process has ended is due again: see deaths.c. */
void health_process_exited(HealthMonitor *monitor, Lease *lease);

/** health_is_busy: whether somebody waits for a sweep. */
gboolean health_is_busy(const HealthMonitor *monitor);

/** health_configuration_changed: takes new intervals; switches on or off. */
void health_configuration_changed(HealthMonitor *monitor);

/** health_withdraw: manager_withdraw() of the manager's header, for cleanups. */
gboolean health_withdraw(HealthMonitor *monitor, const void *data);

/**
 * health_sweep_now: manager_cleanup() of the manager's header.
 */
void health_sweep_now(HealthMonitor *monitor, uid_t uid, gboolean dry_run, CleanupDone done,
                      void *data);

/**
 * health_reason: (transfer none): why a lease is failing, or why its HTTP check is not made, for
 * people; NULL while all is well.
 */
const char *health_reason(const HealthMonitor *monitor, const Lease *lease);

/**
 * health_url_check: whether @url may be the health_url of a lease on @port and @address:
 * http_url_check() of it, with "{port}" standing for the lease's port. @error in G_IO_ERROR.
 */
gboolean health_url_check(const char *url, guint16 port, const char *address,
                          gboolean any_local_port, GError **error);

/**
 * health_socket_made: @fd, the socket that is handed over with @lease, counts as its service's when
 * its HTTP check asks who listens. Without a health_url it is not noted.
 */
void health_socket_made(HealthMonitor *monitor, Lease *lease, int fd);

/** health_last_check_usec: CLOCK_REALTIME of the last look at all leases, 0 = none yet. */
gint64 health_last_check_usec(const HealthMonitor *monitor);
