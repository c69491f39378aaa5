/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>

/** FileReadFlags: FILE_READ_FOLLOW lets @path be a symbolic link (what an administrator may do in
 * /etc). */
typedef enum FileReadFlags {
    FILE_READ_NONE = 0,
    FILE_READ_FOLLOW = 1 << 0,
} FileReadFlags;

/**
 * file_read: reads a regular file of at most @max_bytes as a whole.
 * @dir_fd: the folder that a relative @path starts from, or AT_FDCWD.
 *
 * A symbolic link (but see @flags), a directory, a FIFO or a device is an error, so nothing here
 * can hang or read without end (openat(2), O_NOFOLLOW and O_NONBLOCK). Empty files are fine. Blocks
 * on the disk.
 *
 * Returns: (transfer full): the bytes plus a NUL that *@ret_length does not count, or NULL with
 *     @error in G_FILE_ERROR; G_FILE_ERROR_NOENT where there is no such file, G_FILE_ERROR_INVAL
 *     where it is too large or not a regular file. The message names @path.
 */
char *file_read(int dir_fd, const char *path, FileReadFlags flags, size_t max_bytes,
                size_t *ret_length, GError **error);

/**
 * file_write_all: writes all of @data to @fd, going on after short writes and EINTR.
 *
 * Returns: 0, or a negative errno; then any part may have been written.
 */
int file_write_all(int fd, const void *data, size_t length);
