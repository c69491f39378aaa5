/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "store/sys.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <unistd.h>

static SysHook the_hook;
static void *the_hook_data;

const char *sys_call_to_string(SysCall call)
{
    static const char *const names[_SYS_CALL_MAX] = {
        [SYS_CALL_OPEN] = "open",           [SYS_CALL_READ] = "read",
        [SYS_CALL_WRITE] = "write",         [SYS_CALL_FSYNC] = "fsync",
        [SYS_CALL_FDATASYNC] = "fdatasync", [SYS_CALL_FTRUNCATE] = "ftruncate",
        [SYS_CALL_FALLOCATE] = "fallocate", [SYS_CALL_RENAME] = "rename",
        [SYS_CALL_LINK] = "link",           [SYS_CALL_UNLINK] = "unlink",
        [SYS_CALL_FLOCK] = "flock",
    };

    g_assert((size_t)call < G_N_ELEMENTS(names));
    return names[call];
}

void sys_set_hook(SysHook hook, void *data)
{
    the_hook = hook;
    the_hook_data = data;
}

static inline int ask_hook(SysCall call, size_t *length)
{
    return G_LIKELY(!the_hook) ? 0 : the_hook(call, length, the_hook_data);
}

/* Asks the hook, then does EXPRESSION until it is not interrupted. */
#define DO_CALL(call, length, expression)     \
    do {                                      \
        int refused = ask_hook(call, length); \
        ssize_t r;                            \
                                              \
        if (refused)                          \
            return -refused;                  \
        do                                    \
            r = (expression);                 \
        while (r < 0 && errno == EINTR);      \
        return r < 0 ? -errno : r;            \
    } while (0)

int sys_openat(int dir_fd, const char *name, int flags)
{
    DO_CALL(SYS_CALL_OPEN, NULL,
            openat(dir_fd, name, flags | O_CLOEXEC | O_NOFOLLOW | O_NOCTTY, 0600));
}

ssize_t sys_read(int fd, void *buffer, size_t length)
{
    DO_CALL(SYS_CALL_READ, NULL, read(fd, buffer, length));
}

ssize_t sys_write(int fd, const void *data, size_t length)
{
    DO_CALL(SYS_CALL_WRITE, &length, write(fd, data, length));
}

int sys_write_all(int fd, const void *data, size_t length)
{
    const char *p = data;

    while (length > 0) {
        ssize_t n = sys_write(fd, p, length);

        if (n < 0)
            return (int)n;
        if (n == 0)
            return -EIO;
        p += n;
        length -= (size_t)n;
    }
    return 0;
}

int sys_fsync(int fd)
{
    DO_CALL(SYS_CALL_FSYNC, NULL, fsync(fd));
}

int sys_fdatasync(int fd)
{
    DO_CALL(SYS_CALL_FDATASYNC, NULL, fdatasync(fd));
}

int sys_ftruncate(int fd, guint64 length)
{
    DO_CALL(SYS_CALL_FTRUNCATE, NULL, ftruncate(fd, (off_t)length));
}

int sys_reserve(int fd, guint64 offset, guint64 length)
{
    DO_CALL(SYS_CALL_FALLOCATE, NULL,
            fallocate(fd, FALLOC_FL_KEEP_SIZE, (off_t)offset, (off_t)length));
}

int sys_rename(int dir_fd, const char *from, const char *to)
{
    DO_CALL(SYS_CALL_RENAME, NULL, renameat(dir_fd, from, dir_fd, to));
}

int sys_link(int dir_fd, const char *from, const char *to)
{
    DO_CALL(SYS_CALL_LINK, NULL, linkat(dir_fd, from, dir_fd, to, 0));
}

int sys_unlink(int dir_fd, const char *name)
{
    DO_CALL(SYS_CALL_UNLINK, NULL, unlinkat(dir_fd, name, 0));
}

int sys_flock(int fd)
{
    DO_CALL(SYS_CALL_FLOCK, NULL, flock(fd, LOCK_EX | LOCK_NB));
}

void sys_error(GError **error, int code, const char *doing, const char *dir, const char *name)
{
    code = ABS(code);
    g_set_error(error, G_FILE_ERROR, g_file_error_from_errno(code), "cannot %s %s/%s: %s", doing,
                dir, name, g_strerror(code));
}
