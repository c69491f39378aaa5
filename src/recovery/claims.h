/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "recovery/manager-private.h"

/*
 * LIFETIME_CLIENT leases whose connection is lost through no doing of the client: the daemon was
 * restarted, or the broker went away. Each has CLAIM_GRACE_SEC in which its owner may claim it
 * again by asking for it. After that it ends, unless its owner serves the port: then it lives on as
 * LIFETIME_AUTO does, and may still be claimed.
 */

#define CLAIM_GRACE_USEC (30 * G_USEC_PER_SEC)

/** claims_arm: begins the grace of a lease without a client; nothing for other lifetimes. */
void claims_arm(Manager *manager, Lease *lease);

/** claims_disarm: does nothing for a lease that is in no grace. */
void claims_disarm(Manager *manager, Lease *lease);

/** claims_disarm_all: for the end of the manager. */
void claims_disarm_all(Manager *manager);

/** claims_is_waiting: whether @lease is in its grace. */
gboolean claims_is_waiting(const Manager *manager, const Lease *lease);

/**
 * claims_find: the lease without a client that @request claims: of the same uid and service type,
 * and of the very port asked for, or else of the same instance. (nullable) (transfer none)
 */
Lease *claims_find(const Manager *manager, const LeaseRequest *request);

/**
 * claims_take: binds @lease to the client of @request where that is for it to claim; a lease that
 * has a client keeps it.
 */
void claims_take(Manager *manager, Lease *lease, const LeaseRequest *request);
