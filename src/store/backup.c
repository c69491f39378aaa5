/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "store/backup.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "store/sys.h"
#include "util/fd.h"

#define INFIX ".corrupt."

/* Files damaged within one second. */
#define SUFFIXES_MAX 1000

static GPtrArray *list_backups(int dir_fd)
{
    GPtrArray *names = g_ptr_array_new_with_free_func(g_free);
    struct dirent *entry;
    DIR *folder;
    int fd;

    fd = sys_openat(dir_fd, ".", O_RDONLY | O_DIRECTORY);
    if (fd < 0)
        return names;
    folder = fdopendir(fd);
    if (!folder) {
        (void)fd_close(fd);
        return names;
    }
    while ((entry = readdir(folder)))
        if (strstr(entry->d_name, INFIX))
            g_ptr_array_add(names, g_strdup(entry->d_name));
    (void)closedir(folder);
    return names;
}

/* Returns: (transfer full): the backup of @name that is the very same file, or NULL. */
static char *find_same(int dir_fd, const char *name, const struct stat *st)
{
    g_autoptr(GPtrArray) names = list_backups(dir_fd);
    g_autofree char *prefix = g_strconcat(name, INFIX, NULL);

    for (guint i = 0; i < names->len; i++) {
        struct stat other;

        if (g_str_has_prefix(names->pdata[i], prefix) &&
            fstatat(dir_fd, names->pdata[i], &other, AT_SYMLINK_NOFOLLOW) == 0 &&
            other.st_dev == st->st_dev && other.st_ino == st->st_ino)
            return g_strdup(names->pdata[i]);
    }
    return NULL;
}

gboolean backup_is_kept(int dir_fd, const char *name)
{
    g_autofree char *backup = NULL;
    struct stat st;

    if (fstatat(dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0 || st.st_nlink < 2)
        return FALSE;
    backup = find_same(dir_fd, name, &st);
    return backup != NULL;
}

static char *find_free_name(int dir_fd, const char *name)
{
    g_autoptr(GDateTime) now = g_date_time_new_now_utc();
    g_autofree char *time = g_date_time_format(now, "%Y%m%dT%H%M%SZ");

    for (guint i = 0; i < SUFFIXES_MAX; i++) {
        g_autofree char *candidate = i == 0 ? g_strconcat(name, INFIX, time, NULL)
                                            : g_strdup_printf("%s" INFIX "%s.%03u", name, time, i);
        struct stat st;

        if (fstatat(dir_fd, candidate, &st, AT_SYMLINK_NOFOLLOW) < 0 && errno == ENOENT)
            return g_steal_pointer(&candidate);
    }
    return NULL;
}

static int copy_bytes(int from, int to)
{
    g_autofree char *buffer = g_malloc(64 * 1024);
    ssize_t n;

    while ((n = sys_read(from, buffer, 64 * 1024)) > 0) {
        int r = sys_write_all(to, buffer, (size_t)n);

        if (r < 0)
            return r;
    }
    return (int)n;
}

int backup_copy(int dir_fd, const char *name, const char *backup)
{
    AUTO_FD from = -1, to = -1;
    int r;

    from = sys_openat(dir_fd, name, O_RDONLY | O_NONBLOCK);
    if (from < 0)
        return from;
    to = sys_openat(dir_fd, backup, O_WRONLY | O_CREAT | O_EXCL);
    if (to < 0)
        return to;
    r = copy_bytes(from, to);
    if (r == 0)
        r = sys_fsync(to);
    if (r < 0)
        (void)sys_unlink(dir_fd, backup); /* half a copy helps nobody */
    return r;
}

static int keep(int dir_fd, const char *name, const char *backup, BackupMode mode, mode_t type)
{
    int r;

    if (mode == BACKUP_MOVE || !S_ISREG(type))
        return sys_rename(dir_fd, name, backup);
    if (mode == BACKUP_COPY)
        return backup_copy(dir_fd, name, backup);
    r = sys_link(dir_fd, name, backup);
    /* file systems without hard links */
    if (r == -EPERM || r == -EOPNOTSUPP || r == -ENOSYS || r == -EMLINK)
        return backup_copy(dir_fd, name, backup);
    return r;
}

gboolean backup_make(int dir_fd, const char *dir, const char *name, BackupMode mode,
                     char **ret_path, GError **error)
{
    g_autofree char *backup = NULL;
    struct stat st;
    int r;

    if (fstatat(dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0) {
        sys_error(error, errno, "look at", dir, name);
        return FALSE;
    }
    if (mode == BACKUP_LINK && st.st_nlink > 1)
        backup = find_same(dir_fd, name, &st);
    if (backup) {
        *ret_path = g_build_filename(dir, backup, NULL);
        return TRUE;
    }
    backup = find_free_name(dir_fd, name);
    r = backup ? keep(dir_fd, name, backup, mode, st.st_mode) : -EEXIST;
    if (r < 0) {
        sys_error(error, r, "keep a copy of", dir, name);
        return FALSE;
    }
    *ret_path = g_build_filename(dir, backup, NULL);
    return TRUE;
}

static int compare_by_time(const void *a, const void *b)
{
    const char *one = *(char *const *)a, *two = *(char *const *)b;
    int order = strcmp(strstr(one, INFIX), strstr(two, INFIX));

    return order ? order : strcmp(one, two);
}

void backup_make_room(int dir_fd, guint max, guint n)
{
    g_autoptr(GPtrArray) names = list_backups(dir_fd);
    guint kept = max > n ? max - n : 0;

    g_ptr_array_sort(names, compare_by_time);
    for (guint i = 0; i + kept < names->len; i++)
        /* a folder that somebody put there is not ours to empty, but goes when it is */
        if (sys_unlink(dir_fd, names->pdata[i]) < 0)
            (void)unlinkat(dir_fd, names->pdata[i], AT_REMOVEDIR);
}
