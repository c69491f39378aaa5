/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>

/*
 * The service manager's descriptor store (sd_notify(3), FDSTORE=1): descriptors that outlive a
 * crash of the process. Everything here does nothing where no service manager listens
 * ($NOTIFY_SOCKET). Nothing waits for one that does not read: up to 8192 messages stand in line, and
 * are sent from the default main context.
 */

/** fdstore_available: whether a service manager takes notifications. */
gboolean fdstore_available(void);

/**
 * fdstore_keep: asks the service manager to keep a duplicate of @fd under @name.
 * @name: up to 255 printable ASCII characters without ':'.
 *
 * FDPOLL=0, because a bound socket that does not listen polls as hung up and would be dropped at
 * once. Does not wait: nothing says whether the store was full (FileDescriptorStoreMax=).
 * Returns: 0, or a negative errno (-ENOBUFS: too many stand in line); 0 where there is no service
 *     manager.
 */
int fdstore_keep(const char *name, int fd);

/** fdstore_drop: asks the service manager to close all descriptors of @name. Does not wait. */
int fdstore_drop(const char *name);

/** FdstoreDone: the service manager has worked through everything sent so far, or never will. */
typedef void (*FdstoreDone)(void *data);

/**
 * fdstore_barrier: calls @done from @context once what was sent is done (sd_notify(3), BARRIER=1),
 * after 1 s at the latest. Where there is no service manager, in the next turn of the loop.
 */
void fdstore_barrier(GMainContext *context, FdstoreDone done, void *data);
