/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "util/file.h"

#include <errno.h>
#include <fcntl.h>
#include <gio/gio.h>
#include <sys/stat.h>

#include "util/fd.h"

/* A file of /proc says that it has no bytes, and a sysctl gives what it has to the first read. */
#define FIRST_READ_OF_UNSIZED (256 * 1024)

static void set_errno_error(GError **error, int code, const char *doing, const char *path)
{
    g_set_error(error, G_FILE_ERROR, g_file_error_from_errno(code), "cannot %s %s: %s", doing, path,
                g_strerror(code));
}

char *file_read(int dir_fd, const char *path, FileReadFlags flags, size_t max_bytes,
                size_t *ret_length, GError **error)
{
    g_autofree char *text = NULL;
    AUTO_FD fd = -1;
    struct stat st;
    size_t length = 0, capacity;

    fd = openat(dir_fd, path,
                O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY |
                    (flags & FILE_READ_FOLLOW ? 0 : O_NOFOLLOW));
    if (fd < 0) {
        set_errno_error(error, errno, "open", path);
        return NULL;
    }
    if (fstat(fd, &st) < 0) {
        set_errno_error(error, errno, "look at", path);
        return NULL;
    }
    if (!S_ISREG(st.st_mode)) {
        g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_INVAL, "%s is not a regular file", path);
        return NULL;
    }

    /* The size is a hint: the file may grow while it is read. One byte more shows "too large". */
    capacity =
        MIN(st.st_size > 0 ? (size_t)st.st_size : (size_t)FIRST_READ_OF_UNSIZED, max_bytes) + 1;
    text = g_malloc(capacity + 1);
    for (;;) {
        ssize_t n = read(fd, text + length, capacity - length);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) {
            set_errno_error(error, errno, "read", path);
            return NULL;
        }
        if (n == 0)
            break;
        length += (size_t)n;
        if (length > max_bytes) {
            g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_INVAL,
                        "%s is larger than %" G_GSIZE_FORMAT " bytes", path, max_bytes);
            return NULL;
        }
        if (length == capacity) {
            capacity = MIN(capacity * 2, max_bytes + 1);
            text = g_realloc(text, capacity + 1);
        }
    }
    text[length] = '\0';
    *ret_length = length;
    return g_steal_pointer(&text);
}

int file_write_all(int fd, const void *data, size_t length)
{
    const char *p = data;

    while (length > 0) {
        ssize_t n = write(fd, p, length);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        p += n;
        length -= (size_t)n;
    }
    return 0;
}
