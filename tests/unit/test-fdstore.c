/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A service manager that reads late, or not at all, keeps nobody waiting and misses nothing. */
#include "util/fdstore.h"

#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "util/fd.h"

/* More than a queue of datagrams takes: net.unix.max_dgram_qlen is 10 to 512 on most machines. */
#define MESSAGES 3000

static int service_manager(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    size_t length = strlen(path);

    g_assert_cmpint(fd, >=, 0);
    g_assert_cmpuint(length, <, sizeof address.sun_path);
    memcpy(address.sun_path, path, length);
    if (path[0] == '@')
        address.sun_path[0] = '\0';
    g_assert_no_errno(bind(fd, (struct sockaddr *)&address,
                           (socklen_t)(offsetof(struct sockaddr_un, sun_path) + length)));
    g_assert_true(g_setenv("NOTIFY_SOCKET", path, TRUE));
    return fd;
}

/* Returns: whether there was a message; *@ret_fd: what came with it, -1 = nothing. */
static gboolean receive(int fd, char *text, size_t size, int *ret_fd)
{
    union {
        struct cmsghdr header;
        char space[CMSG_SPACE(sizeof(int))];
    } control;
    struct iovec part = {.iov_base = text, .iov_len = size - 1};
    struct msghdr message = {.msg_iov = &part,
                             .msg_iovlen = 1,
                             .msg_control = &control,
                             .msg_controllen = sizeof control};
    ssize_t n = recvmsg(fd, &message, MSG_CMSG_CLOEXEC);

    if (n < 0) {
        g_assert_cmpint(errno, ==, EAGAIN);
        return FALSE;
    }
    text[n] = '\0';
    *ret_fd = -1;
    if (CMSG_FIRSTHDR(&message))
        memcpy(ret_fd, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof *ret_fd);
    return TRUE;
}

static void set(void *data)
{
    *(gboolean *)data = TRUE;
}

static gboolean same_file(int a, int b)
{
    struct stat x, y;

    g_assert_no_errno(fstat(a, &x));
    g_assert_no_errno(fstat(b, &y));
    return x.st_dev == y.st_dev && x.st_ino == y.st_ino;
}

static void expect(int manager, const char *wanted, int with)
{
    char text[200];
    AUTO_FD fd = -1;

    while (!receive(manager, text, sizeof text, &fd))
        (void)g_main_context_iteration(NULL, TRUE); /* the timer of what stands in line */
    g_assert_cmpstr(text, ==, wanted);
    g_assert_cmpint(fd >= 0, ==, with >= 0);
    g_assert_true(with < 0 || same_file(fd, with));
}

static void reads_late(const char *path)
{
    AUTO_FD manager = service_manager(path);
    AUTO_FD kept = open("/dev/null", O_RDONLY | O_CLOEXEC);
    gboolean reached = FALSE;

    g_assert_cmpint(kept, >=, 0);
    for (guint i = 0; i < MESSAGES; i++) {
        g_autofree char *name = g_strdup_printf("lease-%u", i);

        g_assert_cmpint(i % 2 ? fdstore_drop(name) : fdstore_keep(name, kept), ==, 0);
    }
    for (guint i = 0; i < MESSAGES; i++) {
        g_autofree char *wanted = i % 2
                                      ? g_strdup_printf("FDSTOREREMOVE=1\nFDNAME=lease-%u", i)
                                      : g_strdup_printf("FDSTORE=1\nFDPOLL=0\nFDNAME=lease-%u", i);

        expect(manager, wanted, i % 2 ? -1 : kept);
    }
    fdstore_barrier(NULL, set, &reached);
    {
        char text[64];
        AUTO_FD fd = -1;

        g_assert_true(receive(manager, text, sizeof text, &fd));
        g_assert_cmpstr(text, ==, "BARRIER=1");
        g_assert_false(reached);
    }
    while (!reached) /* its end of the pipe is closed */
        (void)g_main_context_iteration(NULL, TRUE);
}

static void test_reads_late(void)
{
    g_autofree char *dir = g_dir_make_tmp("styxy-fdstore-XXXXXX", NULL);
    g_autofree char *path = g_build_filename(dir, "notify", NULL);

    reads_late(path);
    g_assert_no_errno(g_unlink(path));
    g_assert_no_errno(g_rmdir(dir));
}

static void test_abstract(void)
{
    g_autofree char *path = g_strdup_printf("@styxy-test-fdstore-%d", getpid());

    reads_late(path);
}

/* Never read: what stands in line has an end. */
static void test_full(void)
{
    g_autofree char *path = g_strdup_printf("@styxy-test-full-%d", getpid());
    AUTO_FD manager = service_manager(path);
    int r = 0;

    for (guint i = 0; r == 0 && i < 20000; i++)
        r = fdstore_drop("lease");
    g_assert_cmpint(r, ==, -ENOBUFS);
}

static void test_nobody(void)
{
    gboolean reached = FALSE;

    g_unsetenv("NOTIFY_SOCKET");
    g_assert_false(fdstore_available());
    g_assert_cmpint(fdstore_keep("lease", 0), ==, 0);
    fdstore_barrier(NULL, set, &reached);
    while (!reached)
        (void)g_main_context_iteration(NULL, TRUE);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/fdstore/nobody", test_nobody);
    g_test_add_func("/fdstore/reads-late", test_reads_late);
    g_test_add_func("/fdstore/abstract", test_abstract);
    g_test_add_func("/fdstore/full", test_full);
    return g_test_run();
}
