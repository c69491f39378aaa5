/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "util/fdstore.h"

#include <errno.h>
#include <fcntl.h>
#include <glib-unix.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "util/fd.h"

#define BARRIER_TIMEOUT_USEC (1 * G_USEC_PER_SEC)

gboolean fdstore_available(void)
{
    return g_getenv("NOTIFY_SOCKET") != NULL;
}

/* ---- sending ---------------------------------------------------------------------------------
 *
 * sd_pid_notify_with_fds() waits while the service manager does not read, and these messages are
 * sent for clients, as many as they like. So the protocol of sd_notify(3) is spoken here, without
 * waiting: what does not fit stands in line, in its order.
 */

#define PENDING_MAX 8192
#define RETRY_MSEC 20

typedef struct Notice {
    char *state;
    int fd; /* owned, -1 = none */
} Notice;

static GQueue pending = G_QUEUE_INIT;
static guint retry_timer;

static void notice_free(Notice *notice)
{
    g_free(notice->state);
    (void)fd_close(notice->fd);
    g_free(notice);
}

/* Returns: 0 or a negative errno. */
static int service_manager_address(struct sockaddr_un *ret_address, socklen_t *ret_length)
{
    const char *path = g_getenv("NOTIFY_SOCKET");
    size_t length = strlen(path);

    *ret_address = (struct sockaddr_un){.sun_family = AF_UNIX};
    if (path[0] != '/' && path[0] != '@')
        return -EAFNOSUPPORT;
    if (length >= sizeof ret_address->sun_path)
        return -E2BIG;
    memcpy(ret_address->sun_path, path, length);
    *ret_length = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + length);
    if (path[0] == '@')
        ret_address->sun_path[0] = '\0'; /* abstract: its length counts, no NUL ends it */
    else
        *ret_length += 1;
    return 0;
}

/* Returns: 0, -EAGAIN while the service manager's queue is full, or another negative errno. */
static int send_now(const char *state, int fd)
{
    union {
        struct cmsghdr header;
        char space[CMSG_SPACE(sizeof(int))];
    } control = {0};
    struct sockaddr_un address;
    struct iovec part = {.iov_base = (char *)state, .iov_len = strlen(state)};
    struct msghdr message = {.msg_name = &address, .msg_iov = &part, .msg_iovlen = 1};
    AUTO_FD socket_fd = -1;
    int r = service_manager_address(&address, &message.msg_namelen);

    if (r < 0)
        return r;
    socket_fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (socket_fd < 0)
        return -errno;
    if (fd >= 0) {
        message.msg_control = &control;
        message.msg_controllen = sizeof control;
        control.header.cmsg_level = SOL_SOCKET;
        control.header.cmsg_type = SCM_RIGHTS;
        control.header.cmsg_len = CMSG_LEN(sizeof(int));
        memcpy(CMSG_DATA(&control.header), &fd, sizeof fd);
    }
    return sendmsg(socket_fd, &message, MSG_NOSIGNAL) < 0 ? -errno : 0;
}

static void flush(void)
{
    Notice *notice = NULL;

    while ((notice = g_queue_peek_head(&pending))) {
        if (send_now(notice->state, notice->fd) == -EAGAIN)
            return;
        notice_free(g_queue_pop_head(&pending));
    }
}

static gboolean on_retry(gpointer data)
{
    flush();
    if (pending.length > 0)
        return G_SOURCE_CONTINUE;
    retry_timer = 0;
    return G_SOURCE_REMOVE;
}

static int stand_in_line(const char *state, int fd)
{
    int copy = -1;
    Notice *notice = NULL;

    if (pending.length >= PENDING_MAX)
        return -ENOBUFS;
    if (fd >= 0) {
        copy = fcntl(fd, F_DUPFD_CLOEXEC, 3);
        if (copy < 0)
            return -errno;
    }
    notice = g_new0(Notice, 1);
    notice->state = g_strdup(state);
    notice->fd = copy;
    g_queue_push_tail(&pending, notice);
    if (retry_timer == 0)
        retry_timer = g_timeout_add(RETRY_MSEC, on_retry, NULL);
    return 0;
}

/* @fd: borrowed, -1 = none. Returns: 0, or a negative errno; 0 where there is nobody to tell. */
static int notify(const char *state, int fd)
{
    int r;

    if (!fdstore_available())
        return 0;
    flush();
    if (pending.length > 0)
        return stand_in_line(state, fd);
    r = send_now(state, fd);
    return r == -EAGAIN ? stand_in_line(state, fd) : r;
}

/* ---- the store ------------------------------------------------------------------------------- */

int fdstore_keep(const char *name, int fd)
{
    g_autofree char *state = g_strdup_printf("FDSTORE=1\nFDPOLL=0\nFDNAME=%s", name);

    return notify(state, fd);
}

int fdstore_drop(const char *name)
{
    g_autofree char *state = g_strdup_printf("FDSTOREREMOVE=1\nFDNAME=%s", name);

    return notify(state, -1);
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
        if (notify("BARRIER=1", write_end) == 0) {
            barrier->tag = g_source_add_unix_fd(&barrier->base, barrier->fd, G_IO_HUP);
            ready_usec = g_get_monotonic_time() + BARRIER_TIMEOUT_USEC;
        }
    }
    g_source_set_ready_time(&barrier->base, ready_usec);
    g_source_set_callback(&barrier->base, (GSourceFunc)(void (*)(void))done, data, NULL);
    g_source_attach(&barrier->base, context);
    g_source_unref(&barrier->base);
}
