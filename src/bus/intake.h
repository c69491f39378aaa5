/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>
#include <sys/types.h>
#include <systemd/sd-bus.h>

/*
 * What a client of the direct socket sends, on its way to sd-bus.
 *
 * sd-bus trusts its peer more than we may: it buffers messages of up to 128 MiB for each
 * connection, collects any number of descriptors, and loses those of a message that it finds
 * malformed (seen with 252). So it does not read from the client's socket. It reads from a socket
 * pair, into which goes what was looked at here: the handshake line by line, so that no message can
 * hide in it, then whole messages within their bounds. A message that carries descriptors is
 * written anew, so that there is nothing in it that sd-bus could stumble over.
 */
typedef struct Intake Intake;

/** INTAKE_FDS_MAX: descriptors that may wait for the message that they belong to. */
#define INTAKE_FDS_MAX 16
/** INTAKE_LINE_MAX: bytes in a line of the handshake. */
#define INTAKE_LINE_MAX 1024

/**
 * intake_new: between the client behind @client_fd and @bus, which is not started yet.
 * @client_fd: borrowed; must outlive the intake. @bus: borrowed.
 * @uid: the client's, as the kernel says; one that claims another in its handshake is rejected.
 * @message_bytes_max: longer messages end the connection, before their body is read.
 * @ret_read_fd: (transfer full): what @bus is to read from.
 *
 * Returns: NULL with errno where the kernel has no descriptors left.
 */
Intake *intake_new(int client_fd, sd_bus *bus, uid_t uid, size_t message_bytes_max,
                   int *ret_read_fd);

/** intake_free: NULL is fine. Returns: NULL. */
Intake *intake_free(Intake *intake);

/**
 * intake_pump: hands on the next portion. Only for when @bus has read all that it was given.
 * @ret_more: whether there may be more without waiting for the socket.
 *
 * Returns: whether something was handed on; a negative errno when the connection is to end:
 *     -ECONNRESET (the client has gone), -EMSGSIZE (a message, a line or the number of descriptors
 *     is beyond its bound), -EBADMSG (no D-Bus). Does not block.
 */
int intake_pump(Intake *intake, gboolean *ret_more);
