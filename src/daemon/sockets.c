/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/sockets.h"

#include <errno.h>
#include <glib-unix.h>
#include <glib/gstdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <systemd/sd-daemon.h>
#include <fcntl.h>

#include "recovery/events.h"
#include "util/fd.h"

static void clear_held(gpointer data)
{
    HeldSocket *held = data;

    held->fd = fd_close(held->fd);
    g_clear_pointer(&held->name, g_free);
}

void sockets_take(PassedSockets *sockets)
{
    char **names = NULL;
    int n = sd_listen_fds_with_names(1, &names);

    sockets->listen_fd = -1;
    sockets->held = g_array_new(FALSE, TRUE, sizeof(HeldSocket));
    g_array_set_clear_func(sockets->held, clear_held);
    for (int i = 0; i < n; i++) {
        int fd = SD_LISTEN_FDS_START + i;

        if (sockets->listen_fd < 0 && sd_is_socket(fd, AF_UNIX, SOCK_STREAM, 1) > 0) {
            (void)g_unix_set_fd_nonblocking(fd, TRUE, NULL);
            sockets->listen_fd = fd;
        } else if (sd_is_socket(fd, AF_INET, SOCK_STREAM, 0) > 0 ||
                   sd_is_socket(fd, AF_INET6, SOCK_STREAM, 0) > 0) {
            HeldSocket held = {.fd = fd, .name = g_strdup(names[i])};

            g_array_append_val(sockets->held, held);
        } else {
            event_descriptor_unknown(fd, names[i]);
            (void)fd_close(fd);
        }
    }
    for (int i = 0; i < n; i++)
        free(names[i]);
    free(names);
}

void sockets_clear(PassedSockets *sockets)
{
    sockets->listen_fd = fd_close(sockets->listen_fd);
    g_clear_pointer(&sockets->held, g_array_unref);
}

void sockets_refuse(const PassedSockets *sockets)
{
    for (guint i = 0; sockets->listen_fd >= 0 && i < SOMAXCONN; i++) {
        AUTO_FD fd = accept4(sockets->listen_fd, NULL, NULL, SOCK_CLOEXEC);

        if (fd < 0 && errno != EINTR && errno != ECONNABORTED)
            return;
    }
}

static int fail(GError **error, const char *doing, const char *path)
{
    int code = errno;

    g_set_error(error, G_FILE_ERROR, g_file_error_from_errno(code), "cannot %s %s: %s", doing, path,
                g_strerror(code));
    return -1;
}

static gboolean is_dead(const struct sockaddr_un *address)
{
    AUTO_FD fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    return fd >= 0 && connect(fd, (const struct sockaddr *)address, sizeof *address) < 0 &&
           errno == ECONNREFUSED;
}

int sockets_listen(const char *runtime_dir, GError **error)
{
    g_autofree char *path = g_build_filename(runtime_dir, "bus", NULL);
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    AUTO_FD fd = -1;

    if (strlen(path) >= sizeof address.sun_path) {
        errno = ENAMETOOLONG;
        return fail(error, "listen on", path);
    }
    (void)g_strlcpy(address.sun_path, path, sizeof address.sun_path);
    if (g_mkdir_with_parents(runtime_dir, 0755) < 0)
        return fail(error, "make the folder", runtime_dir);
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return fail(error, "make a socket for", path);
    if (bind(fd, (const struct sockaddr *)&address, sizeof address) < 0) {
        /* Left behind by a daemon that was killed. The state's lock has kept a living one out. */
        if (errno != EADDRINUSE || !is_dead(&address) || g_unlink(path) < 0 ||
            bind(fd, (const struct sockaddr *)&address, sizeof address) < 0)
            return fail(error, "listen on", path);
    }
    /* Anybody may call; what a caller may do is decided by who it is. */
    if (g_chmod(path, 0666) < 0 || listen(fd, SOMAXCONN) < 0)
        return fail(error, "listen on", path);
    return fd_steal(&fd);
}
