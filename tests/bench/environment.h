/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>
#include <systemd/sd-bus.h>

/*
 * A daemon of the benchmark's own: a private bus in a temporary folder that starts it on the first
 * call, with its state and its direct socket in the same folder. As root in a network namespace of
 * its own too, so that no other program's ports are in the way.
 */
typedef struct Environment Environment;

typedef enum Transport {
    TRANSPORT_BUS,
    TRANSPORT_DIRECT,
} Transport;

const char *transport_to_string(Transport transport);

/**
 * environment_new: starts the bus; the daemon comes with the first call.
 * @daemon: path of styxyd.
 * @configuration: text of its configuration.
 * Call it before any thread is made. Returns: NULL with @error in G_IO_ERROR or G_FILE_ERROR.
 */
Environment *environment_new(const char *daemon, const char *configuration, GError **error);

/** environment_free: ends daemon and bus, removes the folder. Returns: NULL. */
Environment *environment_free(Environment *environment);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Environment, environment_free)

/** environment_folder: (transfer none): where the daemon has "state". */
const char *environment_folder(const Environment *environment);

/** environment_connect: a new connection; for the calling thread alone. Aborts on failure. */
sd_bus *environment_connect(const Environment *environment, Transport transport);

/** environment_daemon_pid: the process that owns the name; starts it where it is not there. */
pid_t environment_daemon_pid(const Environment *environment);
