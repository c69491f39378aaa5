/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * How long the daemon takes to answer, and not how long this program takes to ask: a message that
 * is ready, and no memory is asked for, since under a sanitizer that may take seconds at times.
 * What either of the two waited for a processor is the machine's, and is left out where the kernel
 * tells: the second number of /proc/PID/schedstat, in ns (Documentation/scheduler/sched-stats.rst).
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "fuzz-bus.h"
#include "util/fd.h"

#define PAUSE_USEC (20 * G_TIME_SPAN_MILLISECOND)
#define NONE_SECONDS 120
#define READY "AGREE_UNIX_FD\r\n" /* the end of the handshake's answer */
#define HEADER_BYTES 16           /* the fixed part of a D-Bus message's header */
#define METHOD_RETURN 2
/* By the clock, whatever either side waited for. */
#define LONGEST_USEC (5 * G_TIME_SPAN_SECOND)

struct Pinger {
    const World *world;
    GThread *thread;
    gint over; /* atomic */
    GArray *times_usec;
    char *wrong;
};

static int open_socket(const World *world)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    struct timeval timeout = {.tv_sec = NONE_SECONDS};
    AUTO_FD fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    char answer[512] = "";
    size_t got = 0;
    ssize_t n;

    (void)g_strlcpy(address.sun_path, world->direct + strlen("unix:path="),
                    sizeof address.sun_path);
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof timeout) < 0 ||
        connect(fd, (const struct sockaddr *)&address, sizeof address) < 0 ||
        send(fd, SASL, sizeof SASL - 1, MSG_NOSIGNAL) < 0)
        return -1;
    while (!strstr(answer, READY) && got < sizeof answer - 1) {
        n = recv(fd, answer + got, sizeof answer - 1 - got, 0);
        if (n <= 0)
            return -1;
        got += (size_t)n;
    }
    return fd_steal(&fd);
}

/* Returns: whether an answer came, to one question under way. */
static gboolean await_answer(int fd)
{
    guint8 answer[1024];
    size_t got = 0, size = HEADER_BYTES;

    while (got < size) {
        ssize_t n = recv(fd, answer + got, size - got, 0);

        if (n <= 0)
            return FALSE;
        got += (size_t)n;
        if (got == HEADER_BYTES) {
            guint32 body, fields;

            memcpy(&body, answer + 4, sizeof body); /* the daemon writes its own byte order */
            memcpy(&fields, answer + 12, sizeof fields);
            size += ((size_t)fields + 7) / 8 * 8 + body;
            if (size > sizeof answer)
                return FALSE;
        }
    }
    return answer[1] == METHOD_RETURN;
}

/* Returns: how long the owner of that file has waited for a processor; 0 where it is not known. */
static gint64 waited_usec(int fd)
{
    char text[128] = "";
    guint64 waited_ns = 0;

    if (fd < 0 || pread(fd, text, sizeof text - 1, 0) <= 0 ||
        sscanf(text, "%*u %" G_GUINT64_FORMAT, &waited_ns) != 1)
        return 0;
    return (gint64)(waited_ns / 1000);
}

static int open_statistics(pid_t pid)
{
    char path[64];

    (void)g_snprintf(path, sizeof path, "/proc/%d/schedstat", pid);
    return open(pid == 0 ? "/proc/thread-self/schedstat" : path, O_RDONLY | O_CLOEXEC);
}

static void *pinger_main(void *data)
{
    Pinger *pinger = data;
    AUTO_FD fd = open_socket(pinger->world);
    AUTO_FD mine = open_statistics(0);
    AUTO_FD daemons = open_statistics(pinger->world->daemon);
    g_autoptr(GByteArray) question = garbage_ping(G_BYTE_ORDER == G_BIG_ENDIAN, 0);

    if (fd < 0)
        pinger->wrong = g_strdup("Ping: no connection");
    while (fd >= 0 && !g_atomic_int_get(&pinger->over) && !pinger->wrong) {
        gint64 waited_before_usec = waited_usec(mine) + waited_usec(daemons);
        gint64 took_usec, sent_usec = g_get_monotonic_time();
        gboolean answered =
            send(fd, question->data, question->len, MSG_NOSIGNAL) == (ssize_t)question->len &&
            await_answer(fd);

        took_usec = g_get_monotonic_time() - sent_usec;
        if (!answered)
            pinger->wrong = g_strdup_printf("Ping: no answer: %s", g_strerror(errno));
        else if (took_usec > LONGEST_USEC)
            pinger->wrong = g_strdup_printf("Ping: %" G_GINT64_FORMAT " ms", took_usec / 1000);
        took_usec -= waited_usec(mine) + waited_usec(daemons) - waited_before_usec;
        took_usec = MAX(took_usec, 0);
        g_array_append_val(pinger->times_usec, took_usec);
        g_usleep(PAUSE_USEC);
    }
    return NULL;
}

Pinger *pinger_new(const World *world)
{
    Pinger *pinger = g_new0(Pinger, 1);

    pinger->world = world;
    pinger->times_usec = g_array_new(FALSE, FALSE, sizeof(gint64));
    pinger->thread = g_thread_new("ping", pinger_main, pinger);
    return pinger;
}

char *pinger_free(Pinger *pinger, GArray *times_usec)
{
    char *wrong = NULL;

    g_atomic_int_set(&pinger->over, TRUE);
    (void)g_thread_join(pinger->thread);
    g_array_append_vals(times_usec, pinger->times_usec->data, pinger->times_usec->len);
    g_array_unref(pinger->times_usec);
    wrong = pinger->wrong;
    g_free(pinger);
    return wrong;
}
