/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>

#include "core/lease.h"
#include "recovery/manager.h"

/*
 * What is written to the log about leases: one function an event, each with its MESSAGE_ID and the
 * STYXY_ fields. The catalog in data/ has one entry an id. Lines that a client can cause are at
 * most info and pass through one rate limit; what was left out is counted and said.
 */
#define MESSAGE_PORT_GRANTED "8f646ccc0dbcb408fb2958546e58b26e"
#define MESSAGE_PORT_RELEASED "d4aaf3c40d2a254616200da54401349e"
#define MESSAGE_PORT_CONFLICT "289c93035b22e595fe1126b0c2cd6aba"
#define MESSAGE_NO_PORT "6d7f171d92accbdddde37af5acebf201"
#define MESSAGE_STALE_RELEASED "e89d7eac97e7837150e7fd8d02ef8640"
#define MESSAGE_STORE_FAILED "016e1f34d1879a8988c8537e2bd28cd1"
#define MESSAGE_STORE_WORKS_AGAIN "8d50846cf99701ccc8298573dfc2d5ff"
#define MESSAGE_SNAPSHOT_FAILED "70dd79420566422cbfa0ce4ecca0a152"
#define MESSAGE_CONFIGURATION_LOADED "4b89103cce8d6baac229365ca8265ec2"
#define MESSAGE_CONFIGURATION_REFUSED "093d17490d29d465b4deded53897df84"
#define MESSAGE_LINES_SUPPRESSED "f2570f9fad3d7a0d3e34aef27f2ce610"
#define MESSAGE_HEALTH_CHANGED "586aae44d2b029e119589a791303efa5"
#define MESSAGE_PROCESS_EXITED "42d5c46b1d0ef587242db2dc89b6626f"
#define MESSAGE_HANDOVER "95b97fab910574d984cc3904d27fd443"
#define MESSAGE_SERVICE_RESTARTED "b6e80fd07990cb10d158a0c2bc5ea92a"
#define MESSAGE_RESTART_FAILED "777f84ad2e383f29643bb8d2235cbe6b"
#define MESSAGE_MASS_FAILURE "dc26cd7cc3f3df95165f4a85b1d53f84"
#define MESSAGE_HTTP_UNKNOWN "b52a7b66c6f045818f61fe567a015cf8"
#define MESSAGE_SWEEP_FAILED "1312c168edbf27fe3162f489c66e5b2c"
#define MESSAGE_WATCH_FAILED "076c9f846dc12f15ff70459e95fd78f3"
#define MESSAGE_RECOVERY_FINDING "2f68a36c6e2f2b5ee4d335abee3feb5e"
#define MESSAGE_RECOVERY_FINISHED "ecef6428f7d57a34dfdfef4b5427d4d7"

void event_granted(const Lease *lease, guint attempts);
void event_released(const Lease *lease, Reason reason, gboolean stale);
void event_conflict(const ConflictInfo *conflict);
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
/** event_recovery_step: one line for each finding, at notice or above where something was wrong. */
void event_recovery_step(const struct RecoveryReport *report, int step);
void event_recovery_finished(const struct RecoveryReport *report);
