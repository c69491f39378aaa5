/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "recovery/manager-private.h"
#include "recovery/metrics.h"

/*
 * A manager over a folder of its own, with the real registry, store and probes, in a network
 * namespace of its own. What it tells is written down; the loop is turned by those who wait.
 */
typedef struct Fixture {
    char *dir;
    char *config_text;
    GMainContext *context;
    Manager *manager;
    ManagerListener listener;
    GPtrArray *told; /* of char *: "released 3000 expired stale" and the like, in order */
    GArray *held;    /* of HeldSocket: for the next start (nullable) */
    guint idle_told;
    guint claim_grace_msec; /* 0 = as it is */
} Fixture;

/** What tests need is short here: pauses, graces and intervals of some ms. Others are merged in. */
#define FIXTURE_CONFIG                                                                        \
    "{\"service_types\": {"                                                                   \
    "\"dev\": {\"port_range\": [3000, 3099], \"preferred_ports\": [3000, 3001, 3002, 3003]}," \
    "\"api\": {\"port_range\": [8000, 8009]},"                                                \
    "\"ai\": {\"port_range\": [11400, 11409], \"instance_behavior\": \"single\"},"            \
    "\"dns\": {\"port_range\": [5300, 5309], \"protocol\": \"udp\"},"                         \
    "\"game\": {\"port_range\": [5310, 5319], \"protocol\": \"both\"}},"                      \
    "\"auto_allocation\": {\"port_range\": [20000, 20099]},"                                  \
    "\"limits\": {\"leases_per_user\": 20000},"                                               \
    "\"recovery\": {"                                                                         \
    "\"port_conflict\": {\"backoff_ms\": 20, \"cooldown_ms\": 30000},"                        \
    "\"health_monitoring\": {\"check_interval_ms\": 20, \"process_grace_ms\": 50}}}"

/** fixture_new: nothing is started. @config_text: merged on top of FIXTURE_CONFIG, NULL = none. */
Fixture *fixture_new(const char *config_text);
/** fixture_free: stops the manager and removes the folder. */
Fixture *fixture_free(Fixture *fixture);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Fixture, fixture_free)

/** fixture_start: makes and starts the manager; fixture_stop: frees it, as a daemon that leaves. */
void fixture_start(Fixture *fixture);
void fixture_stop(Fixture *fixture);
void fixture_restart(Fixture *fixture);
/** fixture_started: fixture_new() and fixture_start(). */
Fixture *fixture_started(const char *config_text);

/** fixture_configure: other settings for the next fixture_start() or manager_reload(). */
void fixture_configure(Fixture *fixture, const char *config_text);

/* ---- waiting ---- */

/** Fails the test where @condition does not become true within ten seconds. */
#define fixture_wait(fixture, condition)                                            \
    do {                                                                            \
        gint64 end_usec = g_get_monotonic_time() + 10 * G_USEC_PER_SEC;             \
                                                                                    \
        while (!(condition)) {                                                      \
            if (g_get_monotonic_time() > end_usec)                                  \
                g_error("%s:%d: did not come: %s", __FILE__, __LINE__, #condition); \
            fixture_turn(fixture);                                                  \
        }                                                                           \
    } while (0)

/** fixture_turn: one turn of the loop that waits for something to happen, at most 10 ms. */
void fixture_turn(Fixture *fixture);
/** fixture_run: turns the loop for @msec. */
void fixture_run(Fixture *fixture, guint msec);
/** fixture_sweeps: turns the loop until that many sweeps more have ended. */
void fixture_sweeps(Fixture *fixture, guint count);

/* ---- asking ---- */

/** Ask: one request and its answer. */
typedef struct Ask {
    Fixture *fixture;
    ManagerJob *job; /* NULL = was answered at once, or is answered by now */
    guint answers;
    Outcome outcome;
    char *message;
    GPtrArray *leases; /* references */
    gboolean reused;
    guint attempts;
    GArray *conflicts;
    gboolean hold_refused;
    int socket; /* owned, -1 = none */
} Ask;

/** FIXTURE_REQUEST: a LeaseRequest of root for @type; more members may follow. */
#define FIXTURE_REQUEST(type, ...) \
    ((LeaseRequest){.service_type = (type), .privileged = TRUE, ##__VA_ARGS__})

/** fixture_ask: begins. ask_free: NULL is fine. */
Ask *fixture_ask(Fixture *fixture, LeaseRequest request);
Ask *fixture_ask_with(Fixture *fixture, LeaseRequest request, AllocateOptions options);
Ask *ask_free(Ask *ask);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Ask, ask_free)
/** ask_wait: until it is answered. Returns: @ask. */
Ask *ask_wait(Ask *ask);

/** fixture_grant: asks, waits, and fails the test unless it is granted. (transfer none) */
Lease *fixture_grant(Fixture *fixture, LeaseRequest request);

/** fixture_release: releases and waits. Returns: FALSE when it was refused. */
gboolean fixture_release(Fixture *fixture, Lease *lease);

/** fixture_lease: (nullable) (transfer none): by port, tcp before udp. */
Lease *fixture_lease(Fixture *fixture, guint16 port);

/* ---- what was told ---- */

/** fixture_told: how often exactly @text was told. */
guint fixture_told(Fixture *fixture, const char *text);
guint fixture_toldf(Fixture *fixture, const char *format, ...) G_GNUC_PRINTF(2, 3);
/** fixture_told_with: how often something that begins with @prefix was told. */
guint fixture_told_with(Fixture *fixture, const char *prefix);
void fixture_forget(Fixture *fixture);

/* ---- the outside ---- */

/** outsider_bind: a socket that has @port, without SO_REUSEADDR; listens where it is TCP's. */
int outsider_bind(guint16 port, int type);
/** outsider_try: as a service would: bind and listen. Returns: 0 (and the descriptor) or an errno.
 */
int outsider_try(guint16 port, gboolean reuse_address, int *ret_fd);

/** Server: a child that has a port, and perhaps a child of its own that shares it. */
typedef struct Server {
    pid_t pid;
    pid_t grandchild; /* 0 = none */
    int control;      /* of the grandchild: it ends when this is closed */
    ProcessIdentity identity;
} Server;

/** server_start: @port: 0 = listens nowhere. @with_grandchild: one that goes on listening. */
void server_start(Server *server, guint16 port, gboolean with_grandchild);
/** server_kill: SIGKILL, and waits for it. server_end: the grandchild, too. */
void server_kill(Server *server);
void server_end(Server *server);

/* ---- the disk ---- */

/** disk_refuse: from now on each call of that kind fails with ENOSPC; disk_allow: undoes it. */
void disk_refuse_writes(void);
void disk_refuse_syncs(void);
void disk_allow(void);

/** fixture_path: (transfer full) */
char *fixture_path(Fixture *fixture, const char *name);

/** fixture_main: g_test_run() in a network namespace of its own; skips where that is refused. */
int fixture_main(void);
