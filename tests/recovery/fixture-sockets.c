/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "fixture.h"

#include <errno.h>
#include <netinet/in.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "probe/process.h"
#include "util/fd.h"

static int open_on(guint16 port, int type, gboolean reuse_address)
{
    struct sockaddr_in6 address = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
    AUTO_FD fd = socket(AF_INET6, type | SOCK_CLOEXEC, 0);
    int on = 1;

    if (fd < 0)
        return -errno;
    if (reuse_address && setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) < 0)
        return -errno;
    if (bind(fd, (struct sockaddr *)&address, sizeof address) < 0)
        return -errno;
    if (type == SOCK_STREAM && listen(fd, 16) < 0)
        return -errno;
    return fd_steal(&fd);
}

int outsider_bind(guint16 port, int type)
{
    int fd = open_on(port, type, FALSE);

    g_assert_cmpint(fd, >=, 0);
    return fd;
}

int outsider_try(guint16 port, gboolean reuse_address, int *ret_fd)
{
    int fd = open_on(port, SOCK_STREAM, reuse_address);

    if (fd < 0)
        return -fd;
    if (ret_fd)
        *ret_fd = fd;
    else
        (void)fd_close(fd);
    return 0;
}

/* Children call nothing but the kernel: GLib's threads are not theirs. */
static G_NORETURN void be_grandchild(int orders)
{
    char byte;

    (void)prctl(PR_SET_PDEATHSIG, 0);
    (void)!read(orders, &byte, 1); /* until the test closes its end */
    _exit(0);
}

/* What a child has of the test, the lock on the state among it, would outlive the test's own. */
static void close_all_but(int one, int other)
{
    for (int fd = 3; fd < 1024; fd++)
        if (fd != one && fd != other)
            (void)close(fd);
}

static G_NORETURN void be_server(int orders, int reports, gboolean with_grandchild)
{
    guint16 port = 0;
    pid_t grandchild = 0;

    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    close_all_but(orders, reports);
    while (read(orders, &port, sizeof port) == sizeof port) {
        int fd = open_on(port, SOCK_STREAM, TRUE);

        if (fd < 0)
            grandchild = -1;
        else if (with_grandchild)
            grandchild = fork();
        if (grandchild == 0 && with_grandchild)
            be_grandchild(orders);
        (void)!write(reports, &grandchild, sizeof grandchild);
        for (;;)
            (void)pause();
    }
    _exit(0);
}

void server_start_later(Server *server, gboolean with_grandchild)
{
    int orders[2], reports[2];
    g_autoptr(GError) error = NULL;

    g_assert_no_errno(pipe(orders));
    g_assert_no_errno(pipe(reports));
    *server =
        (Server){.with_grandchild = with_grandchild, .orders = orders[1], .reports = reports[0]};
    server->pid = fork();
    g_assert_cmpint(server->pid, >=, 0);
    if (server->pid == 0)
        be_server(orders[0], reports[1], with_grandchild);
    (void)close(orders[0]);
    (void)close(reports[1]);
    (void)process_identify(server->pid, -1, &server->identity, NULL, NULL, NULL, &error);
    g_assert_no_error(error);
}

void server_listen(Server *server, guint16 port)
{
    g_assert_cmpint(write(server->orders, &port, sizeof port), ==, sizeof port);
    g_assert_cmpint(read(server->reports, &server->grandchild, sizeof server->grandchild), ==,
                    sizeof server->grandchild);
    g_assert_cmpint(server->grandchild, >=, 0);
}

void server_start(Server *server, guint16 port, gboolean with_grandchild)
{
    server_start_later(server, with_grandchild);
    if (port > 0)
        server_listen(server, port);
}

void server_kill(Server *server)
{
    if (server->pid <= 0)
        return;
    g_assert_no_errno(kill(server->pid, SIGKILL));
    while (waitpid(server->pid, NULL, 0) < 0)
        g_assert_cmpint(errno, ==, EINTR);
    server->pid = 0;
}

void server_end(Server *server)
{
    server_kill(server);
    if (server->grandchild > 0)
        (void)kill(server->grandchild, SIGKILL);
    server->grandchild = 0;
    server->orders = fd_close(server->orders);
    server->reports = fd_close(server->reports);
}
