/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>

#include "store/store.h"

/*
 * A store in a folder of its own, and beside it the memory that it serves: what the registry is to
 * the daemon, a few tables are here.
 */
typedef struct Fixture {
    char *dir;
    GMainContext *context;
    StoreOptions options;
    Store *store;

    GTree *leases;      /* port -> Lease, owned; one protocol only */
    GHashTable *sticky; /* "uid/type/instance" -> StickyPort and more */
    GHashTable *chunks; /* type -> first port; always ten ports, uid 7 */
    StoreSource source;
    Id boot_id;

    guint healthy_told; /* calls of health_changed with and without an error */
    guint failed_told;
    guint snapshots_failed;
    char *last_failure;
} Fixture;

/** fixture_new: an empty folder; nothing is opened. */
Fixture *fixture_new(void);
/** fixture_free: closes the store and removes the folder. */
Fixture *fixture_free(Fixture *fixture);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Fixture, fixture_free)

/** fixture_open: opens the store, which must work. fixture_close: closes it. */
void fixture_open(Fixture *fixture);
void fixture_close(Fixture *fixture);

/** fixture_start: opens, loads into the memory (replacing it) and starts; all must work. */
void fixture_start(Fixture *fixture);

/** fixture_lease: a lease as tests want it: every kind of member is used by some number. */
Lease *fixture_lease(guint16 port);

/** fixture_grant, fixture_end: append to the store and, if that worked, change the memory. */
gboolean fixture_grant(Fixture *fixture, guint16 port, GError **error);
gboolean fixture_end(Fixture *fixture, guint16 port, GError **error);
/** fixture_grant_durable: waits until the call is answered. */
gboolean fixture_grant_durable(Fixture *fixture, guint16 port, GError **error);

/** fixture_sticky: the remembered port, 0 = none. */
guint16 fixture_sticky(Fixture *fixture, uid_t uid, const char *service_type, const char *instance);

/** fixture_settle: turns the loop until the store is idle and says that it is well. */
void fixture_settle(Fixture *fixture);
/** fixture_turn: one turn of the loop that waits for something to happen. */
void fixture_turn(Fixture *fixture);

/** fixture_take: makes the memory what @contents says. */
void fixture_take(Fixture *fixture, const StoreContents *contents);

/** fixture_same: whether @contents is what the memory holds; says the first difference otherwise.
 */
gboolean fixture_same(Fixture *fixture, const StoreContents *contents, char **ret_difference);

/** fixture_assert_disk: closes the store and asserts that a load gives the memory, undamaged. */
void fixture_assert_disk(Fixture *fixture);

/** fixture_assert_disk_holds: the same, but reports of damage that was made good are fine. */
void fixture_assert_disk_holds(Fixture *fixture);

/** fixture_path: (transfer full): NAME in the folder. */
char *fixture_path(Fixture *fixture, const char *name);
char *fixture_read(Fixture *fixture, const char *name, size_t *ret_length);
void fixture_write(Fixture *fixture, const char *name, const char *text, size_t length);
/** fixture_count: the files in the folder whose name holds @infix. */
guint fixture_count(Fixture *fixture, const char *infix);
/** fixture_clear: removes all files of the folder. */
void fixture_clear(Fixture *fixture);

/** lease_equal: whether all members that are stored are the same. */
gboolean lease_equal(const Lease *one, const Lease *two);
