/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>
#include <systemd/sd-bus.h>

#include "../stress/world.h"
#include "model.h"

/*
 * The parts of the bus fuzzer. All are driven by one thread, that of main(), but for the Ping and
 * the reader of NOTIFY_SOCKET; so there is one story, and one model for all callers.
 */
#define OTHER_UID 65534
#define LEASES_PER_USER 150

typedef struct Outside Outside;
typedef struct Garbage Garbage;

typedef struct Counts {
    guint64 calls, answers, errors, unanswered;
    guint64 grants, releases, signals, connections, cuts;
    guint64 garbage, settled, restarts, kills;
} Counts;

typedef struct Fuzz {
    World *world;
    GRand *dice;
    guint32 seed;
    Model *model;
    Outside *outside;
    Garbage *garbage;
    GPtrArray *actors; /* of Actor, owned */
    guint lost_grants; /* calls that may grant whose answer never came, since the last comparison */
    Counts counts;
    GHashTable *errors; /* name -> how often */
} Fuzz;

/** fuzz_fail: as world_fail(), with the seed. */
void fuzz_fail(const Fuzz *fuzz, const char *format, ...) G_GNUC_PRINTF(2, 3) G_GNUC_NORETURN;
/** fuzz_check: fails with @wrong (transfer full) unless it is NULL. */
void fuzz_check(const Fuzz *fuzz, const char *where, char *wrong);
/** fuzz_check_alive: fails where the daemon has ended. */
void fuzz_check_alive(const Fuzz *fuzz);

/** fuzz_dice: 0 .. @n - 1. fuzz_one_in: TRUE once in @n times. */
guint fuzz_dice(const Fuzz *fuzz, guint n);
gboolean fuzz_one_in(const Fuzz *fuzz, guint n);

/** fuzz_become: the uid under which this thread connects; the world knows it by SO_PEERCRED. */
void fuzz_become(uid_t uid);

/* ---- actors: callers with one connection each ---- */

typedef struct Actor {
    Fuzz *fuzz;
    guint number;
    Transport transport;
    uid_t uid;
    sd_bus *bus;     /* NULL = not connected */
    GQueue pending;  /* of Pending, owned */
    guint depth;     /* calls that may be under way */
    guint life;      /* calls until it goes */
    gboolean wanton; /* has sent what a connection may be cut for */
} Actor;

typedef struct Method Method;

/** Pending: one call under way. */
typedef struct Pending {
    Actor *actor;
    const Method *method;
    gboolean proper;  /* the types are right, so only the documented errors may come */
    gboolean patient; /* may take its time */
    gboolean may_grant;
    gboolean has_fd;
    Grant grant;  /* what was asked for */
    guint number; /* a count or a port of the call */
    guint number2;
    char *text; /* owned: the lease of the call */
    sd_bus_slot *slot;
    gint64 sent_usec;
    GList node;
} Pending;

Actor *actor_new(Fuzz *fuzz, guint number);
void actor_free(Actor *actor);
/** actor_drop: closes the connection, whatever is under way. */
void actor_drop(Actor *actor);
/** actor_step: connects, or sends a call, or leaves. */
void actor_step(Actor *actor);
/** actor_process: handles what has come. */
void actor_process(Actor *actor);
/** actor_send: @m (transfer full) as the call @pending (transfer full; NULL: no answer is wanted).
 */
void actor_send(Actor *actor, sd_bus_message *m, Pending *pending);

/* ---- calls ---- */

/** calls_make: one call of @actor, sent. */
void calls_make(Actor *actor);
/** answer_check: judges the answer to @pending, an error as well. */
void answer_check(Pending *pending, sd_bus_message *reply);

/** values: what goes into calls. Texts are borrowed until the next but tenth call. */
const char *value_service_type(Fuzz *fuzz);
const char *value_lease(Fuzz *fuzz);
const char *value_instance(Fuzz *fuzz);
const char *value_protocol(Fuzz *fuzz);
const char *value_text(Fuzz *fuzz);
guint16 value_port(Fuzz *fuzz);
/** value_long_bytes: of all long texts so far. */
gsize value_long_bytes(void);
/** value_append_options: an a{sv} of Allocate; @pending is told what it asks for. */
void value_append_options(Fuzz *fuzz, sd_bus_message *m, Pending *pending);
void value_append_filter(Fuzz *fuzz, sd_bus_message *m);
void value_append_dry_run(Fuzz *fuzz, sd_bus_message *m);
/** value_append_anything: values of random types. Returns: their signature, borrowed. */
void value_append_anything(Fuzz *fuzz, sd_bus_message *m);

/* ---- what happens beside ---- */

Outside *outside_new(Fuzz *fuzz);
void outside_free(Outside *outside);
/** outside_step: binds or frees a port, starts or kills a process, changes the configuration. */
void outside_step(Outside *outside);
/** outside_good_configuration: so that the daemon can be started with it. */
void outside_good_configuration(Outside *outside);
/** outside_process: the pid of a child of @uid's; 0 = none lives. */
pid_t outside_process(Outside *outside, uid_t uid);
/** outside_keep: takes @fd over: a socket on which a service listens from now on. */
void outside_keep(Outside *outside, int fd);
extern const char outside_configuration[];

/** SASL: a whole handshake from the client's side. */
#define SASL "\0AUTH EXTERNAL\r\nDATA\r\nNEGOTIATE_UNIX_FD\r\nBEGIN\r\n"

Garbage *garbage_new(Fuzz *fuzz);
void garbage_free(Garbage *garbage);
/** garbage_step: something on the direct socket that no client would send. */
void garbage_step(Garbage *garbage);
/** garbage_ping: (transfer full): Ping, in either byte order; @fds: how many it says to carry. */
GByteArray *garbage_ping(gboolean big, guint32 fds);

/* ---- the monitor: hears all signals, and compares ---- */

typedef struct Monitor Monitor;
Monitor *monitor_new(Fuzz *fuzz);
void monitor_free(Monitor *monitor);
sd_bus *monitor_bus(Monitor *monitor);
void monitor_process(Monitor *monitor);
/** monitor_compare: while no call is under way: holds signals, answers and List together. Returns:
 * (transfer full): what does not agree yet, NULL = all does. monitor_settled() is called then. */
char *monitor_compare(Monitor *monitor);
void monitor_settled(Monitor *monitor);
/** monitor_restarted: takes over what a new daemon has. */
void monitor_restarted(Monitor *monitor);

/* ---- in threads of their own: the reader of NOTIFY_SOCKET, and Ping ---- */

typedef struct Notified Notified;
Notified *notified_new(const World *world);
void notified_free(Notified *notified);

typedef struct Pinger Pinger;
Pinger *pinger_new(const World *world);
/** pinger_free: adds to @times_usec, of gint64. Returns: NULL, or what was wrong (transfer full).
 */
char *pinger_free(Pinger *pinger, GArray *times_usec);
