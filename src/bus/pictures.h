/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "bus/caller.h"
#include "probe/socket-table.h"

/*
 * The kernel's picture of the sockets, for callers who ask for it.
 *
 * The kernel walks through whole tables for it: milliseconds, many of them on a machine with many
 * sockets. So another thread takes it, and those who ask at the same time share: of each depth one
 * picture is being taken, and who asks meanwhile gets the next one, with all others who do. That
 * one was begun after each of them asked, so nobody is told what was true before his question; and
 * however many ask, there are no more pictures than one after the other.
 */

/** PictureWish: what one caller wants to see. He may be given more. */
typedef struct PictureWish {
    SocketDepth depth; /* SOCKET_DEPTH_LISTENING or _BOUND */
    PortRange range;
    Protocol protocol;
} PictureWish;

/**
 * PictureTaken: answers @call. @table: (nullable): borrowed, shared with others who asked;
 * socket_table_ref() keeps it. NULL with @error in G_IO_ERROR.
 */
typedef void (*PictureTaken)(Call *call, const PictureWish *wish, SocketTable *table,
                             const GError *error);

/** pictures_new: @context: of the main loop, NULL = the default one. @source: borrowed. */
Pictures *pictures_new(GMainContext *context, BusSource *source);

/** pictures_free: nobody may be waiting; one that is being taken is thrown away when it comes. NULL
 * is fine. Returns: NULL. */
Pictures *pictures_free(Pictures *pictures);

/**
 * pictures_ask: has a picture taken for @call, which may wait for one at a time.
 * @taken: called once, later, from pictures_work(); not at all after pictures_forget().
 */
void pictures_ask(Pictures *pictures, Call *call, const PictureWish *wish, PictureTaken taken);

/** pictures_forget: @call is not answered. Returns: whether it waited for a picture. */
gboolean pictures_forget(Call *call);

/** pictures_work: answers some of those whose picture is there. Returns: whether there are more. */
gboolean pictures_work(Pictures *pictures);
