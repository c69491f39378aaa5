/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "recovery/manager-private.h"

/** release_init, release_deinit: the parts of the manager that belong to ends of leases. After
 * release_deinit() nothing that waits for the service manager calls back. */
void release_init(Manager *manager);
void release_deinit(Manager *manager);

/**
 * release_tell: tells the ends that wait for the service manager to let go. Before a grant is told:
 * their ports may be granted again, and nobody is to see a port with two owners.
 */
void release_tell(Manager *manager);

/** release_store_works_again: the ends that the disk refused are due again, soon. */
void release_store_works_again(Manager *manager);
