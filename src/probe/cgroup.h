/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>
#include <sys/types.h>

/** CGROUP_NO_USER: the unit belongs to the system manager. */
#define CGROUP_NO_USER ((uid_t)-1)

/**
 * cgroup_unit_of_path: the systemd unit that a cgroup path lies in. Pure.
 * @path: as in /proc/PID/cgroup, "/system.slice/foo.service/worker" say; any text is survived.
 * @ret_user: (nullable): the uid whose user manager runs the unit, CGROUP_NO_USER for the system's;
 *     written on success only.
 *
 * The outermost unit counts, so a container is the unit that runs it, except below a user manager:
 * "foo.service" below "user@1000.service". The manager's own processes are "user@1000.service".
 * Slices hold units and are none themselves.
 *
 * Returns: (transfer full) (nullable): NULL where the path names no unit.
 */
char *cgroup_unit_of_path(const char *path, uid_t *ret_user);

/**
 * cgroup_unit_of_process: the same from the text of /proc/PID/cgroup: the line of cgroup2 ("0::"),
 * and where that names no unit the one of systemd's own hierarchy ("name=systemd"). Pure.
 */
char *cgroup_unit_of_process(const char *text, uid_t *ret_user);

/**
 * cgroup_prefix_of_unit: the part of a cgroup path that is the folder of @unit itself, "/a.slice/b"
 * say. Pure. Returns: (transfer full) (nullable): NULL where @unit is not in @path.
 */
char *cgroup_prefix_of_unit(const char *path, const char *unit);

/** cgroup_mount: (transfer none) (nullable): where the whole cgroup2 tree is mounted. */
const char *cgroup_mount(void);

/**
 * cgroup_unit_of_id: the systemd unit of the cgroup with that id (the inode of its folder).
 * @ret_user: (nullable): as cgroup_unit_of_path() tells it.
 *
 * Opens it by its handle where that is permitted (open_by_handle_at(2)), else walks the cgroup2
 * tree, bounded in depth and number, and remembers it; an id that is not found makes a new walk,
 * in parts of some milliseconds, one a call, which take at most a twentieth of the time: a unit on
 * a machine with thousands of cgroups may be found some calls later. Reads a memory file system
 * only. For one thread.
 *
 * Returns: (transfer full) (nullable): NULL where it cannot be known.
 */
char *cgroup_unit_of_id(guint64 id, uid_t *ret_user);
