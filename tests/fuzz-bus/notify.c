/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Reads what the daemon tells its manager, all the time, as a manager does: ten messages fill that
 * socket, and main() waits for answers now and then.
 */
#include <poll.h>
#include <sys/socket.h>

#include "fuzz-bus.h"

#define LOOK_MSEC 50

struct Notified {
    int fd; /* the world's */
    GThread *thread;
    gint over; /* atomic */
};

static void *notified_main(void *data)
{
    Notified *notified = data;
    struct pollfd fd = {.fd = notified->fd, .events = POLLIN};
    char text[512];

    while (!g_atomic_int_get(&notified->over)) {
        (void)poll(&fd, 1, LOOK_MSEC);
        while (recv(notified->fd, text, sizeof text, MSG_DONTWAIT) >= 0)
            ;
    }
    return NULL;
}

Notified *notified_new(const World *world)
{
    Notified *notified = g_new0(Notified, 1);

    notified->fd = world->notify_fd;
    notified->thread = g_thread_new("notified", notified_main, notified);
    return notified;
}

void notified_free(Notified *notified)
{
    g_atomic_int_set(&notified->over, TRUE);
    (void)g_thread_join(notified->thread);
    g_free(notified);
}
