/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>
#include <sys/types.h>

/*
 * Every call by which the store changes or reads the disk, in one place, so that the tests can make
 * each of them fail, fall short, or be the last one of a dying process.
 *
 * All return what the system call returns, or a negative errno; none sets errno for the caller.
 * EINTR is dealt with here. Any thread.
 */
typedef enum SysCall {
    SYS_CALL_OPEN,
    SYS_CALL_READ,
    SYS_CALL_WRITE,
    SYS_CALL_FSYNC,
    SYS_CALL_FDATASYNC,
    SYS_CALL_FTRUNCATE,
    SYS_CALL_FALLOCATE,
    SYS_CALL_RENAME,
    SYS_CALL_LINK,
    SYS_CALL_UNLINK,
    SYS_CALL_FLOCK,
    _SYS_CALL_MAX,
} SysCall;

const char *sys_call_to_string(SysCall call);

/**
 * SysHook: asked before each call, in the thread of the call.
 * @length: of SYS_CALL_WRITE, may be made smaller for a short write; NULL for the others.
 * Returns: 0 to let it happen, or an errno that the call fails with.
 */
typedef int (*SysHook)(SysCall call, size_t *length, void *data);

/** sys_set_hook: for tests; NULL undoes it. Not while other threads are in a call. */
void sys_set_hook(SysHook hook, void *data);

/** sys_openat: O_CLOEXEC, O_NOFOLLOW and O_NOCTTY are added to @flags; new files get mode 0600. */
int sys_openat(int dir_fd, const char *name, int flags);
ssize_t sys_read(int fd, void *buffer, size_t length);
/** sys_write: one write(2), may be short. */
ssize_t sys_write(int fd, const void *data, size_t length);
/** sys_write_all: as many as it takes. Returns: 0 or a negative errno; any part may be written
 * then. */
int sys_write_all(int fd, const void *data, size_t length);
int sys_fsync(int fd);
int sys_fdatasync(int fd);
int sys_ftruncate(int fd, guint64 length);
/** sys_reserve: room on the disk for @length bytes from @offset on; the file's size stays. */
int sys_reserve(int fd, guint64 offset, guint64 length);
/** Both names in the folder @dir_fd. */
int sys_rename(int dir_fd, const char *from, const char *to);
int sys_link(int dir_fd, const char *from, const char *to);
int sys_unlink(int dir_fd, const char *name);
/** sys_flock: an exclusive lock without waiting; -EWOULDBLOCK where another has it. */
int sys_flock(int fd);

/** sys_error: "cannot DOING NAME: TEXT" in G_FILE_ERROR. @code: an errno, either sign. */
void sys_error(GError **error, int code, const char *doing, const char *dir, const char *name);
