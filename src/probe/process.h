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
 * @pid: in our own pid namespace; not looked at with a @pidfd.
 * @pidfd: (nullable as -1): a pidfd to take it from, borrowed; any other descriptor is refused
 *     without touching what is behind it.
 * @ret_uid: (nullable): its real uid.
 * @ret_unit: (nullable) (transfer full): its systemd unit, NULL in it where there is none.
 * @ret_pidfd: (nullable): a new pidfd that the caller owns.
 *
 * The pidfd is opened first and checked last, so that all of it belongs to one process
 * (pidfd_open(2)). Where /proc hides the process (hidepid) the kernel is asked through the pidfd
 * (PIDFD_GET_INFO, Linux 6.13); start_ticks is 0 then. Does not block.
 *
 * Returns: FALSE with @error in G_IO_ERROR: NOT_FOUND when there is no such process, or it has
 *     ended and is a zombie; INVALID_ARGUMENT for what is no process (a thread, another kind of
 *     descriptor, a pid below 1); NOT_SUPPORTED for a pidfd from another pid namespace;
 *     PERMISSION_DENIED when nothing would tell enough to know it again; else what the kernel said.
 */
gboolean process_identify(pid_t pid, int pidfd, ProcessIdentity *ret_identity, uid_t *ret_uid,
                          char **ret_unit, int *ret_pidfd, GError **error);

/**
 * process_check: whether the process of @identity still runs: pid, start time and, where known,
 * the inode of its pidfd must all match. The boot must be the same: that is for the caller to know.
 * @ret_pidfd: (nullable): with PROCESS_ALIVE a pidfd that the caller owns, else -1.
 *
 * PROCESS_UNKNOWN where the kernel would not say (EMFILE, a hidden /proc and no inode to compare).
 * Does not block.
 */
ProcessState process_check(const ProcessIdentity *identity, int *ret_pidfd);

/**
 * process_unit: the systemd unit that the process of @identity runs in now.
 * @ret_unit: (transfer full): its name, never NULL.
 * @ret_user: the uid whose user manager runs the unit, CGROUP_NO_USER (probe/cgroup.h) for the
 *     system's.
 *
 * Returns: FALSE with @error in G_IO_ERROR; NOT_FOUND when the process has ended or is in no unit.
 */
gboolean process_unit(const ProcessIdentity *identity, char **ret_unit, uid_t *ret_user,
                      GError **error);

/**
 * process_unit_is_of: whether all processes of the unit that the process of @identity runs in are
 * of @uid. Says of a unit with User= that it is that user's; a job in cron.service is in a unit
 * that is not its user's, for cron itself runs there as root.
 *
 * Reads /proc and the cgroup2 tree, at most some thousand files; does not block on anything else.
 * Returns: FALSE also where that cannot be found out.
 */
gboolean process_unit_is_of(const ProcessIdentity *identity, uid_t uid);

/*
 * Any number of processes behind one descriptor in the main loop: the pidfds sit in an epoll
 * instance.
 */
typedef struct ProcessWatch ProcessWatch;

/**
 * ProcessExited: called from the main loop, once for each process that was added; its number is
 * free for adding again then. The callee may add, remove and free the watch. A number can have
 * passed to another process that is also being watched, so leases are to be judged by
 * process_check().
 */
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

/**
 * process_watch_remove: takes one process_watch_add() back, also between the end of the process and
 * its report. Of two processes with one number it is the younger's. An unknown pid is fine.
 */
void process_watch_remove(ProcessWatch *watch, pid_t pid);

/** process_watch_length: how many processes are being watched. */
guint process_watch_length(const ProcessWatch *watch);
