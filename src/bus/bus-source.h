/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>
#include <systemd/sd-bus.h>

#include "util/deadline.h"

/*
 * sd-bus connections in a GMainContext.
 *
 * One GSource with one polled descriptor serves any number of connections: they sit in an epoll
 * instance, because a GMainContext pays for every source and every descriptor in each turn, and
 * five hundred idle clients must not slow down the one that works. What a connection waits for
 * (sd_bus_get_fd(3), sd_bus_get_events(3), sd_bus_get_timeout(3)) is read again before each poll if
 * the connection was touched since. Messages are handled in turn, a bounded number in each turn of
 * the main loop.
 */
typedef struct BusSource BusSource;
typedef struct BusLink BusLink;

/** BusLinkClosed: the connection has ended for @error (negative errno). Called once, from the loop.
 */
typedef void (*BusLinkClosed)(int error, void *data);

/** BusLinkLimits: how far the peer may lag behind in reading what we send. */
typedef struct BusLinkLimits {
    /* Messages on their way out (sd_bus_get_n_queued_write(3)) ... */
    guint64 pause_reading; /* more than this: no further message is taken from the peer */
    guint64 queued_max;    /* more than this: closed with -ENOBUFS */
    gint64 stalled_usec;   /* never empty for this long: closed with -ETIMEDOUT; 0 = no limit */
} BusLinkLimits;

/**
 * BusInput: for an sd-bus that does not read from the socket itself.
 * @fd: borrowed: the socket, which it writes to; polled in place of what sd_bus_get_fd(3) says.
 * @pump: brings what has come in to where sd-bus reads from, once that is empty. Sets *@ret_more
 *     when there may be more at once. Returns: whether it brought anything, or a negative errno
 *     that ends the connection.
 */
typedef struct BusInput {
    int fd;
    int (*pump)(void *data, gboolean *ret_more);
    void *data;
} BusInput;

/**
 * BusShare: for a connection that many callers share: their messages are read ahead and kept, so
 * that callers take turns.
 * @read_on: whether a further message is to be read before one is handled.
 * @hand_in: puts the next one that was kept where sd_bus_process(3) takes it. Returns: whether
 * there is one (none: bus_link_wake() follows where some are kept all the same), or a negative
 * errno that ends the connection.
 */
typedef struct BusShare {
    gboolean (*read_on)(void *data);
    int (*hand_in)(void *data);
    void *data;
} BusShare;

/** BusWork: one portion of the owner's own work. Returns: whether there is more. */
typedef gboolean (*BusWork)(void *data);

/**
 * bus_source_new: a source in @context (NULL: the default one).
 * @deadlines: borrowed; outlives the source.
 * Returns: NULL with @error in G_FILE_ERROR when the kernel gives no epoll instance.
 */
BusSource *bus_source_new(GMainContext *context, DeadlineQueue *deadlines, GError **error);

/** bus_source_free: all links must be gone. NULL is fine. Returns: NULL. */
BusSource *bus_source_free(BusSource *source);

/**
 * bus_source_set_work: calls @work at the end of each turn in which messages were handled or
 * bus_source_wake() was called, and again in the next turn while it returns TRUE.
 */
void bus_source_set_work(BusSource *source, BusWork work, void *data);
void bus_source_wake(BusSource *source);

/**
 * bus_link_new: lets @source serve @bus, which must have been started and is referenced.
 * @watched: read its wishes before each poll. Otherwise bus_link_touch() must follow each message
 *     that is sent on it from outside its own handlers.
 * @input: (nullable): copied; NULL: sd-bus reads from its socket.
 * @closed: called when the connection has ended; the callee frees the link, there or later.
 */
BusLink *bus_link_new(BusSource *source, sd_bus *bus, gboolean watched, const BusLinkLimits *limits,
                      const BusInput *input, BusLinkClosed closed, void *data);

/** bus_link_set_share: copies @share, for a link without input. */
void bus_link_set_share(BusLink *link, const BusShare *share);

/**
 * bus_link_set_user: lets the links of each user have one turn among those of others, however many
 * they are. Once, before the loop turns.
 */
void bus_link_set_user(BusLink *link, uid_t uid);

/** bus_link_free: does not close the connection. May be called from its handlers. Returns: NULL. */
BusLink *bus_link_free(BusLink *link);

/** bus_link_touch: something was sent. Cheap, and cheaper the second time. */
void bus_link_touch(BusLink *link);

/** bus_link_wake: what was kept of a shared connection may go on: it gets its turn. */
void bus_link_wake(BusLink *link);

/** bus_link_fail: ends the connection: @closed is called with @error from the loop, soon. */
void bus_link_fail(BusLink *link, int error);
