/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>

#include "cli/client.h"

/** Grant: ports that the daemon gave us. */
typedef struct Grant {
    GVariant *leases;  /* a(qs), owned: port and lease id; one but for blocks */
    GVariant *details; /* a{sv}, owned */
    int socket;        /* owned, bound; -1 where none was asked for */
} Grant;

void grant_clear(Grant *grant);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Grant, grant_clear)
#define GRANT_INIT   \
    {                \
        .socket = -1 \
    }

/** grant_options: what the command line says, as the options of the Allocate methods. */
GVariantDict *grant_options(const Arguments *args);

/** GrantKind: which of the three methods is called. */
typedef enum GrantKind {
    GRANT_PORT,
    GRANT_SOCKET,
    GRANT_BLOCK, /* args->count ports */
} GrantKind;

/**
 * grant_request: asks for ports and waits as long as the daemon tries.
 * @options: of grant_options(), consumed.
 *
 * Conflicts are told on stderr while the daemon moves on, unless --quiet. Uses the client's signal
 * handler meanwhile and leaves none.
 *
 * Returns: FALSE with @error in CLI_ERROR; *@ret_grant is then untouched.
 */
gboolean grant_request(Client *client, const Arguments *args, GrantKind kind, GVariantDict *options,
                       Grant *ret_grant, GError **error);

/**
 * grant_unwatch: ends the flow of conflicts that grant_request() asked the bus for; for those who
 * stay. The others just leave.
 */
void grant_unwatch(Client *client, const Arguments *args);

/** grant_port, grant_lease: of the first, or only, lease. The id is borrowed from the grant. */
guint16 grant_port(const Grant *grant);
const char *grant_lease(const Grant *grant);

/** grant_is_reused: the lease was there before: a singleton's, or of the same instance. */
gboolean grant_is_reused(const Grant *grant);
