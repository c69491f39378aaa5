/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "recovery/manager-private.h"

/** expiry_arm: ends @lease with REASON_EXPIRED at its expires_usec; replaces an earlier arming. */
void expiry_arm(Manager *manager, Lease *lease);

/** expiry_disarm: does nothing for a lease that is not armed. */
void expiry_disarm(Manager *manager, Lease *lease);

/** expiry_disarm_all: for the end of the manager. */
void expiry_disarm_all(Manager *manager);
