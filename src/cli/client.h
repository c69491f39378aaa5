/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>
#include <systemd/sd-bus.h>

#include "cli/arguments.h"

/*
 * A connection to the daemon: over the system or session bus, at an address, or over its own socket
 * where there is no bus. Calls block, and hand signals to the handler meanwhile.
 */
typedef struct Client Client;

/** ClientSignalFunc: @args is the tuple of the signal's arguments, borrowed for the call. */
typedef void (*ClientSignalFunc)(const char *member, GVariant *args, void *data);

typedef enum ClientCallFlags {
    CLIENT_CALL_NONE = 0,
    /* the answer may wait for retries, a person's password or a sweep: no time limit of ours */
    CLIENT_CALL_SLOW = 1 << 0,
    /* nobody waits for the answer: 5 seconds */
    CLIENT_CALL_QUICK = 1 << 1,
} ClientCallFlags;

/**
 * client_open: connects as --system, --user and --address say.
 * Without --address the daemon's own socket takes the place of a bus that cannot be reached.
 * Returns: (transfer full): or NULL with @error in CLI_ERROR, EXIT_STATUS_UNREACHABLE.
 */
Client *client_open(const Arguments *args, GError **error);

/** client_free: closes the connection; what waits to be sent is sent first. */
Client *client_free(Client *client);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Client, client_free)

/**
 * client_call: calls a method of org.styxy.Ports and waits for the answer.
 * @parameters: (nullable): a tuple, sunk here where floating; NULL = no arguments.
 * @fds: (nullable): as of variant_read().
 *
 * Returns: (transfer full): the tuple of the answer, or NULL with @error in CLI_ERROR: the message
 *     is the daemon's, the code that of exit_status_from_bus_error().
 */
GVariant *client_call(Client *client, const char *method, GVariant *parameters,
                      ClientCallFlags flags, GArray *fds, GError **error);

/**
 * client_wait: hands signals to the handler until @done says that they are enough, for at most
 * @limit_msec. Never fails.
 */
void client_wait(Client *client, guint limit_msec, gboolean (*done)(void *data), void *data);

/** client_properties: all properties, as a{sv}. Errors as of client_call(). */
GVariant *client_properties(Client *client, GError **error);

/** client_set_signal_handler: who gets the signals of org.styxy.Ports; NULL = nobody. */
void client_set_signal_handler(Client *client, ClientSignalFunc func, void *data);

/**
 * client_add_match: asks for signals.
 * @narrow: what to add to the match rule, "member='PortConflict'" for one; NULL = all of the
 * daemon. The daemon need not be running on a bus. client_remove_match(): with the same text; never
 * fails.
 */
gboolean client_add_match(Client *client, const char *narrow, GError **error);
void client_remove_match(Client *client, const char *narrow);

/**
 * client_watch_owner: hands CLIENT_OWNER_CHANGED with (sss) name, old and new owner to the signal
 * handler when the daemon leaves the bus ("") or comes. Nothing comes where there is no bus. Never
 * fails.
 */
#define CLIENT_OWNER_CHANGED "NameOwnerChanged"
void client_watch_owner(Client *client);

/** client_fd, client_events, client_timeout_msec: what poll(2) needs; -1 = wait without end. */
int client_fd(Client *client);
short client_events(Client *client);
int client_timeout_msec(Client *client);

/**
 * client_process: reads and writes what is possible now, handing signals to the handler.
 * Returns: FALSE with @error in CLI_ERROR, EXIT_STATUS_UNREACHABLE, when the connection has ended.
 */
gboolean client_process(Client *client, GError **error);
