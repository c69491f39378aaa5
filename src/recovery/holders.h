/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>

#include "probe/socket-table.h"

/*
 * Who has the ports that the kernel refused, in words and from one picture of the socket table. A
 * courtesy: without an answer of the kernel everything here says less and nothing fails.
 */

/**
 * holders_picture: the sockets between the lowest and the highest of @ports.
 * @ports: of guint16, not empty, any order.
 * Blocks for some milliseconds. Returns: (transfer full) (nullable): NULL without an answer.
 */
SocketTable *holders_picture(const GArray *ports);

/**
 * holders_find: (nullable) (transfer none): who holds @port in one of the protocols, tcp first.
 * @table: NULL is fine.
 */
const SocketEntry *holders_find(const SocketTable *table, guint16 port, Protocol protocol);

/** holders_describe: (transfer full): "uid 33, unit nginx.service, address 127.0.0.1", or so. */
char *holders_describe(const SocketTable *table, guint16 port, Protocol protocol);

/** holders_list: (transfer full): "3000 (uid 33, …), 3001 (…) and 7 more"; asks the kernel. */
char *holders_list(const GArray *ports, Protocol protocol);
