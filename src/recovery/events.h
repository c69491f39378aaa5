/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>

#include "core/lease.h"
#include "recovery/manager.h"

/*
 * What is written to the log: one function an event, each with its MESSAGE_ID (message-ids.h) and
 * the STYXY_ fields, and counted where nothing else counts it. No label and no health_url is
 * written: the log has other readers than the owner. Lines that a client can cause are at most info
 * and pass through one rate limit; what was left out is counted and said.
 */

void event_granted(const Lease *lease, guint attempts);
void event_released(const Lease *lease, Reason reason, gboolean stale);
void event_conflict(const ConflictInfo *conflict);
/** event_conflicts_not_told: counts those that are too many to be told, for the log, too. */
void event_conflicts_not_told(guint n);
void event_no_port(const LeaseRequest *request, guint attempts, guint conflicts);
void event_store_failed(const GError *error);
void event_store_works_again(void);
void event_snapshot_failed(const GError *error, guint retry_msec);
void event_configuration_loaded(const Configuration *config);
void event_configuration_refused(const GError *error);

/** event_health: the health of a lease changed. @why: NULL while all is well. */
void event_health(const Lease *lease, Health before, const char *why);
void event_process_exited(const Lease *lease);
void event_handover(const Lease *lease);
void event_restarted(const Lease *lease, const char *unit, guint restarts);
void event_restart_failed(const Lease *lease, const char *unit, const GError *error);
void event_mass_failure(guint watched, guint silent, gboolean doubted);
/** event_http_unknown: a health check could not be made, for a reason of ours. */
void event_http_unknown(const Lease *lease, const char *why);
void event_sweep_failed(const GError *error);
void event_watch_failed(const GError *error);

struct RecoveryReport;
void event_recovery_started(const struct RecoveryReport *report);
/** event_recovery_step: one line for each finding, at notice or above where something was wrong. */
void event_recovery_step(const struct RecoveryReport *report, int step);
void event_recovery_finished(const struct RecoveryReport *report);

/* ---- of the daemon itself ---- */

/** event_configuration_invalid: at the start, which ends here. */
void event_configuration_invalid(const GError *error);
/** event_daemon_failed: why the daemon ends although nobody asked it to. */
void event_daemon_failed(const GError *error);
/** event_bus_unreachable: @error: an errno, positive. */
void event_bus_unreachable(int error, guint retry_msec);
/** event_caller_not_served: @name: the caller's unique name on the bus. */
void event_caller_not_served(const char *name);
void event_signal_lost(const char *signal, int error);
void event_connections_paused(int error);
/** event_client_cut_off: @why: static text. */
void event_client_cut_off(uid_t uid, const char *why);
/** event_descriptor_unknown: @name: as the service manager names it. */
void event_descriptor_unknown(int fd, const char *name);
void event_hold_not_kept(const Lease *lease, int error);
/** event_setting_ignored: @variable: of the environment. */
void event_setting_ignored(const char *variable, const char *expected);
