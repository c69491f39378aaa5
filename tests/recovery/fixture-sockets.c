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
static G_NORETURN void sit(void)
{
    for (;;)
        (void)pause();
}

static G_NORETURN void be_grandchild(int control)
{
    char byte;

    (void)prctl(PR_SET_PDEATHSIG, 0);
    (void)!read(control, &byte, 1); /* until the test closes its end */
    _exit(0);
}

/* What a child has of the test, the lock on the state among it, would outlive the test's own. */
static void close_all_but(int one, int other)
{
    for (int fd = 3; fd < 1024; fd++)
        if (fd != one && fd != other)
            (void)close(fd);
}

static G_NORETURN void be_server(guint16 port, gboolean with_grandchild, int report, int control)
{
    int fd = port ? open_on(port, SOCK_STREAM, TRUE) : 0;
    pid_t grandchild = 0;

    if (fd >= 0 && with_grandchild) {
        grandchild = fork();
        if (grandchild == 0) {
            (void)close(report);
            be_grandchild(control);
        }
    }
    if (fd < 0)
        grandchild = -1;
    (void)!write(report, &grandchild, sizeof grandchild);
    (void)close(report);
    sit();
}

void server_start(Server *server, guint16 port, gboolean with_grandchild)
{
    int report[2], control[2];
    g_autoptr(GError) error = NULL;

    *server = (Server){.control = -1};
    g_assert_no_errno(pipe(report));
    g_assert_no_errno(pipe(control));
    server->pid = fork();
    g_assert_cmpint(server->pid, >=, 0);
    if (server->pid == 0) {
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
        close_all_but(report[1], control[0]);
        be_server(port, with_grandchild, report[1], control[0]);
    }
    (void)close(report[1]);
    (void)close(control[0]);
    server->control = control[1];
    g_assert_cmpint(read(report[0], &server->grandchild, sizeof server->grandchild), ==,
                    sizeof server->grandchild);
    g_assert_cmpint(server->grandchild, >=, 0);
    (void)close(report[0]);
    (void)process_identify(server->pid, -1, &server->identity, NULL, NULL, NULL, &error);
    g_assert_no_error(error);
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
    server->control = fd_close(server->control);
}
