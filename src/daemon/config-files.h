/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>

#include "core/configuration.h"

/*
 * Which files make up the configuration:
 *
 *     core-ports.json    of the user's folder, else the administrator's, else ours: the first there
 *     core-ports.d/NAME.json    of the administrator's and the user's folder, merged on top in
 * order of NAME (bytes, LC_ALL=C); of two with one NAME the user's alone counts
 *
 * As everywhere with systemd, a file in core-ports.d that is empty or a link to /dev/null masks the
 * administrator's of that name. Hidden files and names without ".json" are none of ours, so what
 * editors and dpkg leave behind does no harm. Everything else must be a readable file.
 */

/** CONFIG_FILES_MAX: more files than this in the two core-ports.d together are an error. */
#define CONFIG_FILES_MAX 1024

/** ConfigFolders: absolute paths, borrowed; NULL or a folder that is not there is passed over. */
typedef struct ConfigFolders {
    const char *vendor; /* /usr/share/styxy: core-ports.json alone */
    const char *admin;  /* /etc/styxy */
    const char *user;   /* $XDG_CONFIG_HOME/styxy, NULL for the system's daemon */
} ConfigFolders;

/**
 * config_folders: the folders that this build was made for.
 * @user: whether the daemon serves one user; g_get_user_config_dir() is asked then, once.
 * Strings belong to the process.
 */
ConfigFolders config_folders(gboolean user);

/**
 * config_files_load: reads, merges and checks the configuration; symbolic links are followed.
 * Blocks on the disk.
 * @file: (nullable): that file alone, whatever @folders says (--config=FILE).
 * @folders: (nullable): may be NULL where @file is not.
 *
 * Reads everything anew on each call and keeps nothing, so it serves start, Reload and
 * --check-config alike. Configuration.files names the files that were read, in order.
 *
 * Returns: (transfer full): NULL with @error: in CONFIGURATION_ERROR, "FILE:LINE: KEY.PATH:
 * message", where the contents are bad; in G_FILE_ERROR, naming the file, where one cannot be read
 * or there is none. Both mean a bad configuration (exit status 78 at start).
 */
Configuration *config_files_load(const char *file, const ConfigFolders *folders, GError **error);
