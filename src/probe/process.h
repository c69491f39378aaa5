/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>
#include <sys/types.h>

#include "core/lease.h"

typedef enum ProcessState {
    PROCESS_ALIVE, /* EPERM counts as alive */
    PROCESS_DEAD,  /* gone, a zombie, or another process under the same number */
    PROCESS_UNKNOWN,
} ProcessState;

/**
 * process_identify: takes the identity of a running process.
 * @pidfd: (nullable as -1): a pidfd to take it from; else @pid is opened.
 * @ret_uid: (nullable): its real uid.
 * @ret_unit: (nullable) (transfer full): its systemd unit, NULL in it where there is none.
 * @ret_pidfd: (nullable): a new pidfd that the caller owns.
 *
 * The pidfd is opened first and checked last, so that all of it belongs to one process
 * (pidfd_open(2)). Does not block.
 *
 * Returns: FALSE with @error in G_IO_ERROR; G_IO_ERROR_NOT_FOUND when there is no such process.
 */
gboolean process_identify(pid_t pid, int pidfd, ProcessIdentity *ret_identity, uid_t *ret_uid,
                          char **ret_unit, int *ret_pidfd, GError **error);

/**
 * process_check: whether the process of @identity still runs: pid, start time and, where known,
 * the inode of its pidfd must all match.
 * @ret_pidfd: (nullable): with PROCESS_ALIVE a pidfd that the caller owns, else -1.
 */
ProcessState process_check(const ProcessIdentity *identity, int *ret_pidfd);

/*
 * Any number of processes behind one descriptor in the main loop: the pidfds sit in an epoll
 * instance.
 */
typedef struct ProcessWatch ProcessWatch;

/** ProcessExited: called from the main loop, once for each @key that was added. */
typedef void (*ProcessExited)(pid_t pid, void *data);

/** process_watch_new: Returns: NULL with @error when the kernel gives no epoll instance. */
ProcessWatch *process_watch_new(GMainContext *context, ProcessExited exited, void *data,
                                GError **error);
ProcessWatch *process_watch_free(ProcessWatch *watch);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(ProcessWatch, process_watch_free)

/**
 * process_watch_add: reports the end of the process behind @pidfd. A process that has ended already
 * is reported in the next turn. Adding a pid twice counts: it is dropped after as many removals.
 * @pidfd: taken over in any case.
 * Returns: FALSE with @error (EMFILE, ENOSPC of epoll); nothing is watched then.
 */
gboolean process_watch_add(ProcessWatch *watch, pid_t pid, int pidfd, GError **error);
void process_watch_remove(ProcessWatch *watch, pid_t pid);
