/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>
#include <systemd/sd-bus.h>

/*
 * World: a bus and a daemon in a folder and a network namespace of their own. The daemon is a child
 * of the test, which can so kill it at any moment and know when it is gone.
 */
typedef struct World {
    const char *program; /* borrowed: path of styxyd */
    char *folder;
    char *state;   /* the state folder */
    char *address; /* of the bus */
    char *direct;  /* of the direct socket */
    GPid broker;   /* 0 = not running */
    GPid daemon;   /* 0 = not running */
    int notify_fd; /* where the daemon says READY=1 */
} World;

typedef enum Transport {
    TRANSPORT_BUS,
    TRANSPORT_DIRECT,
} Transport;

/** world_new: starts the bus, not the daemon. Before any thread is made. Ends the test on failure.
 */
World *world_new(const char *program, const char *configuration);

/** world_free: ends what runs; the folder goes, too, with @remove. Returns: NULL. */
World *world_free(World *world, gboolean remove);

/** world_spawn: starts the daemon and returns at once. */
void world_spawn(World *world);
/** world_await_ready: until READY=1, which has to come within some seconds. */
void world_await_ready(World *world);
/** world_kill: SIGKILL; returns when the daemon is gone. FALSE when it was gone by itself before.
 */
gboolean world_kill(World *world);

/** world_drain_notify: reads what the daemon tells its service manager, which it would wait for. */
void world_drain_notify(World *world);
/** world_terminate: SIGTERM. Returns: the daemon's wait status, 0 = it left as it should. */
int world_terminate(World *world);

/** world_connect: a new connection, for the calling thread. Returns: NULL where it fails. */
sd_bus *world_connect(const World *world, Transport transport);

/** world_fail: prints the reason, the end of the daemon's log and where the folder is; aborts. */
void world_fail(const World *world, const char *format, ...) G_GNUC_PRINTF(2, 3) G_GNUC_NORETURN;
