/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "probe-test-util.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "util/fd.h"

gboolean test_private_network(void)
{
    struct ifreq request = {.ifr_name = "lo"};
    AUTO_FD fd = -1;

    if (unshare(CLONE_NEWNET) < 0)
        return FALSE;
    fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    g_assert_cmpint(fd, >=, 0);
    g_assert_no_errno(ioctl(fd, SIOCGIFFLAGS, &request));
    request.ifr_flags |= IFF_UP;
    g_assert_no_errno(ioctl(fd, SIOCSIFFLAGS, &request));
    return TRUE;
}

void test_in_child(int (*func)(void *data), void *data)
{
    int pipes[2], result = -1;
    pid_t pid;

    g_assert_no_errno(pipe2(pipes, O_CLOEXEC));
    pid = fork();
    g_assert_cmpint(pid, >=, 0);
    if (pid == 0) {
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
        result = func(data);
        (void)!write(pipes[1], &result, sizeof result);
        /* A leak finder would count what the parent's frames hold as lost at an exit. */
        (void)kill(getpid(), SIGKILL);
        _exit(0); /* the first process of a pid namespace does not die of its own signal */
    }
    (void)fd_close(pipes[1]);
    if (read(pipes[0], &result, sizeof result) != sizeof result)
        result = -1;
    (void)fd_close(pipes[0]);
    while (waitpid(pid, NULL, 0) < 0)
        g_assert_cmpint(errno, ==, EINTR);
    g_assert_cmpint(result, ==, 0);
}

gboolean test_under_tool(void)
{
    const char *preload = g_getenv("LD_PRELOAD");

#if defined(__SANITIZE_ADDRESS__)
    return TRUE;
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
    return TRUE;
#endif
#endif
    return preload && strstr(preload, "vgpreload");
}

guint test_count_fds(void)
{
    DIR *dir = opendir("/proc/self/fd");
    guint n = 0;

    g_assert_nonnull(dir);
    while (readdir(dir))
        n++;
    (void)closedir(dir);
    return n - 3; /* "." and ".." and the folder itself */
}

gboolean test_write_file(const char *path, const char *text)
{
    AUTO_FD fd = open(path, O_WRONLY | O_CLOEXEC);

    return fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);
}
