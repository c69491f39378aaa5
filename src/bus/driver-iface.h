/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "bus/connection.h"

/*
 * What a direct client finds at org.freedesktop.DBus: as much of a broker as client libraries ask
 * for before and around a call, so that they need not know that there is none.
 */

/** DRIVER_OUR_NAME: the unique name of the daemon on every direct connection. */
#define DRIVER_OUR_NAME ":1.0"

/** Driver: the broker's face on one connection. */
typedef struct Driver Driver;

/**
 * driver_new: adds the interface to a direct connection (borrowed) that is not started yet.
 * @unique_name: what Hello answers.
 * @server_id: what GetId answers: 32 hexadecimal digits.
 * Returns: NULL with *@ret_error, a negative errno.
 */
Driver *driver_new(Connection *connection, const char *unique_name, const char *server_id,
                   int *ret_error);
/** driver_free: NULL is fine. Returns: NULL. */
Driver *driver_free(Driver *driver);

/**
 * driver_check_destination: whether @m may be handled: it goes to one of our names, or to none.
 * Returns: a negative errno with @error ServiceUnknown, as a broker has it.
 */
int driver_check_destination(sd_bus_message *m, sd_bus_error *error);
