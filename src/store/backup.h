/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>

/*
 * Damaged files are kept as NAME.corrupt.<UTC time>, a bounded number of them.
 */

typedef enum BackupMode {
    BACKUP_LINK, /* a second name: no bytes are copied; @name must be replaced, not written to, from
                    here on. What is not a regular file is moved. */
    BACKUP_COPY, /* for a file that is still being written to */
    BACKUP_MOVE, /* the name is free afterwards */
} BackupMode;

/**
 * backup_make: keeps the file @name of the folder @dir_fd. The same file is kept once only, however
 * often it is asked for with BACKUP_LINK. Blocks on the disk.
 * @dir: the folder's path, for messages and the answer.
 * @ret_path: (transfer full): the copy's path.
 * Returns: FALSE with @error in G_FILE_ERROR; nothing is there then.
 */
gboolean backup_make(int dir_fd, const char *dir, const char *name, BackupMode mode,
                     char **ret_path, GError **error);

/** backup_is_kept: whether BACKUP_LINK would find that the very same file is kept already. */
gboolean backup_is_kept(int dir_fd, const char *name);

/**
 * backup_make_room: removes the oldest, all names together, so that with @n new ones there are @max
 * at most. Before they are made: by a clock that was set back the new ones would be the oldest.
 * Best effort.
 */
void backup_make_room(int dir_fd, guint max, guint n);

/**
 * backup_copy: copies the regular file @name byte for byte to the new name @copy and syncs it.
 * Blocks on the disk. Returns: 0, or a negative errno: nothing is there then.
 */
int backup_copy(int dir_fd, const char *name, const char *copy);
