/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "core/lease.h"

/*
 * Held sockets: bound, not listening TCP sockets with SO_REUSEADDR, one for each lease with
 * HOLD_SOFT. The kernel then gives the port neither to bind(0) nor to connect(), a service that
 * sets SO_REUSEADDR binds and listens beside it, and one that does not gets EADDRINUSE (socket(7)).
 * Where a service manager is there, it keeps a duplicate, so that a crash opens no gap.
 */
typedef struct HoldTable HoldTable;

/** hold_table_new: @max: sockets held at once. */
HoldTable *hold_table_new(guint max);
/** hold_table_free: closes the sockets here; the service manager's duplicates stay. Returns: NULL.
 */
HoldTable *hold_table_free(HoldTable *table);

/** hold_table_set_max: what is held beyond it stays. */
void hold_table_set_max(HoldTable *table, guint max);

/**
 * hold_table_has_room: whether @count more may be held; RLIMIT_NOFILE leaves a reserve for callers.
 */
gboolean hold_table_has_room(const HoldTable *table, guint count);
guint hold_table_count(const HoldTable *table);

/**
 * hold_bind: binds a socket to be held: without SO_REUSEADDR, so that any other holder shows, and
 * sets it afterwards, so that services may bind beside it.
 * Returns: the descriptor, or a negative errno.
 */
int hold_bind(guint16 port, const char *address);

/** hold_table_add: holds @fd (taken over) for @lease, and has the service manager keep it. */
void hold_table_add(HoldTable *table, const Lease *lease, int fd);

/**
 * hold_table_adopt: takes back a descriptor that the service manager kept under @name.
 * Returns: FALSE when it is no socket bound to the port of @lease; @fd is closed and forgotten
 * then.
 */
gboolean hold_table_adopt(HoldTable *table, const Lease *lease, int fd, const char *name);

/**
 * hold_renew: binds anew for a lease that asks for a hold and has none. Beside a service that lets
 * others in (SO_REUSEADDR); its rightful service is at no moment refused for it.
 * Returns: FALSE when that failed for another reason than the service being there.
 */
gboolean hold_renew(HoldTable *table, const Lease *lease);

/** hold_port: the port a socket is bound to, host byte order; 0 for anything else. */
guint16 hold_port(int fd);

gboolean hold_table_holds(const HoldTable *table, const Lease *lease);

/** hold_table_drop: lets go. Returns: whether the service manager must let go, too (a barrier). */
gboolean hold_table_drop(HoldTable *table, const Lease *lease);

/** hold_lease_of_name: the lease id in a name of the store, NULL for a name that is not ours. */
const char *hold_lease_of_name(const char *name);
