/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "util/fdstore.h"

#include <errno.h>
#include <fcntl.h>
#include <glib-unix.h>
#include <stdio.h>
#include <systemd/sd-daemon.h>

#include "util/fd.h"

#define BARRIER_TIMEOUT_USEC (1 * G_USEC_PER_SEC)

gboolean fdstore_available(void)
{
    return g_getenv("NOTIFY_SOCKET") != NULL;
}

int fdstore_keep(const char *name, int fd)
{
    g_autofree char *state = g_strdup_printf("FDSTORE=1\nFDPOLL=0\nFDNAME=%s", name);
    int r = sd_pid_notify_with_fds(0, FALSE, state, &fd, 1);

    return MIN(r, 0);
}

int fdstore_drop(const char *name)
{
    g_autofree char *state = g_strdup_printf("FDSTOREREMOVE=1\nFDNAME=%s", name);

    return MIN(sd_notify(FALSE, state), 0);
}

/* The manager holds the other end of a pipe and closes it when the barrier is reached. */
typedef struct Barrier {
    GSource base;
    int fd;
    gpointer tag;
} Barrier;

static gboolean barrier_dispatch(GSource *source, GSourceFunc callback, gpointer data)
{
    ((FdstoreDone)(void (*)(void))callback)(data);
    return G_SOURCE_REMOVE;
}

static gboolean barrier_check(GSource *source)
{
    Barrier *barrier = (Barrier *)source;

    return barrier->tag && g_source_query_unix_fd(source, barrier->tag) != 0;
}

static void barrier_finalize(GSource *source)
{
    Barrier *barrier = (Barrier *)source;

    barrier->fd = fd_close(barrier->fd);
}

static GSourceFuncs barrier_funcs = {
    .check = barrier_check,
    .dispatch = barrier_dispatch,
    .finalize = barrier_finalize,
};

void fdstore_barrier(GMainContext *context, FdstoreDone done, void *data)
{
    Barrier *barrier = (Barrier *)g_source_new(&barrier_funcs, sizeof *barrier);
    AUTO_FD write_end = -1;
    int ends[2];
    gint64 ready_usec = 0;

    barrier->fd = -1;
    if (fdstore_available() && pipe2(ends, O_CLOEXEC | O_NONBLOCK) == 0) {
        barrier->fd = ends[0];
        write_end = ends[1];
        if (sd_pid_notify_with_fds(0, FALSE, "BARRIER=1", &write_end, 1) > 0) {
            barrier->tag = g_source_add_unix_fd(&barrier->base, barrier->fd, G_IO_HUP);
            ready_usec = g_get_monotonic_time() + BARRIER_TIMEOUT_USEC;
        }
    }
    g_source_set_ready_time(&barrier->base, ready_usec);
    g_source_set_callback(&barrier->base, (GSourceFunc)(void (*)(void))done, data, NULL);
    g_source_attach(&barrier->base, context);
    g_source_unref(&barrier->base);
}
