/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "probe/cgroup.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "util/fd.h"

/*
 * From a cgroup to the unit it belongs to. The kernel says of each socket in which cgroup it was
 * made, as a number; the number is the inode of a folder in the cgroup2 tree, and the folder's path
 * names the unit. Source: systemd.unit(5); "The unit name is the cgroup's folder name" is part of
 * systemd's interface (systemd.io/CONTROL_GROUP_INTERFACE).
 */

#define WALK_DEPTH_MAX 16
#define WALK_FOLDERS_MAX 20000
/* After a walk as many times its own length pass before the next: a socket whose folder is gone is
 * never found, and asking for it again must not become a way to keep us busy. */
#define WALK_PAUSE_FACTOR 20

/* struct file_handle for kernfs: type 0xfe, eight bytes of id (linux/exportfs.h, FILEID_KERNFS). */
#define HANDLE_TYPE_KERNFS 0xfe

static gboolean is_unit(const char *name)
{
    return (g_str_has_suffix(name, ".service") || g_str_has_suffix(name, ".scope") ||
            g_str_has_suffix(name, ".socket")) &&
           name[0] != '.';
}

/* user@1000.service */
static gboolean is_user_manager(const char *name, uid_t *ret_user)
{
    guint64 uid = 0;
    g_autofree char *digits = NULL;

    if (!g_str_has_prefix(name, "user@") || !g_str_has_suffix(name, ".service"))
        return FALSE;
    digits = g_strndup(name + strlen("user@"), strlen(name) - strlen("user@.service"));
    if (!g_ascii_string_to_unsigned(digits, 10, 0, G_MAXUINT32 - 1, &uid, NULL))
        return FALSE;
    *ret_user = (uid_t)uid;
    return TRUE;
}

char *cgroup_unit_of_path(const char *path, uid_t *ret_user)
{
    g_auto(GStrv) parts = g_strsplit(path ? path : "", "/", -1);
    const char *unit = NULL;
    uid_t manager = CGROUP_NO_USER; /* below the manager of that user */
    uid_t user = CGROUP_NO_USER;

    for (guint i = 0; parts[i]; i++) {
        /* A leading "_" keeps a name apart from the kernel's own files. */
        const char *name = parts[i][0] == '_' ? parts[i] + 1 : parts[i];

        if (name[0] == '\0' || g_str_has_suffix(name, ".slice"))
            continue;
        if (manager != CGROUP_NO_USER) {
            /* init.scope is the manager itself; the user names what lies below as he likes. */
            if (is_unit(name) && strcmp(name, "init.scope") != 0) {
                unit = name;
                user = manager;
            }
            break;
        }
        if (!is_unit(name))
            break;
        unit = name;
        if (!is_user_manager(name, &manager))
            break;
    }
    if (!unit || !g_utf8_validate(unit, -1, NULL))
        return NULL;
    if (ret_user)
        *ret_user = user;
    return g_strdup(unit);
}

char *cgroup_unit_of_process(const char *text, uid_t *ret_user)
{
    g_auto(GStrv) lines = g_strsplit(text, "\n", -1);
    static const char *const hierarchies[] = {"", "name=systemd"};

    for (guint h = 0; h < G_N_ELEMENTS(hierarchies); h++) {
        for (guint i = 0; lines[i]; i++) {
            g_auto(GStrv) fields = g_strsplit(lines[i], ":", 3); /* number:controllers:path */
            char *unit = NULL;

            if (g_strv_length(fields) != 3 || strcmp(fields[1], hierarchies[h]) != 0)
                continue;
            unit = cgroup_unit_of_path(fields[2], ret_user);
            if (unit)
                return unit;
        }
    }
    return NULL;
}

/*
 * Where cgroup2 is mounted: /sys/fs/cgroup, or /sys/fs/cgroup/unified beside the older hierarchies.
 * Only a mount of the whole tree counts (root "/"), since a part of it would give wrong paths.
 */
static char *find_mount(void)
{
    g_autofree char *text = NULL;
    g_auto(GStrv) lines = NULL;

    if (!g_file_get_contents("/proc/self/mountinfo", &text, NULL, NULL))
        return NULL;
    lines = g_strsplit(text, "\n", -1);
    for (guint i = 0; lines[i]; i++) {
        char *separator = strstr(lines[i], " - ");
        g_auto(GStrv) fields = NULL;

        if (!separator || !g_str_has_prefix(separator, " - cgroup2 "))
            continue;
        *separator = '\0';
        fields = g_strsplit(lines[i], " ", 6); /* id parent dev root mount-point ... */
        if (g_strv_length(fields) < 5 || strcmp(fields[3], "/") != 0)
            continue;
        return g_strcompress(fields[4]); /* octal escapes: proc_pid_mountinfo(5) */
    }
    return NULL;
}

typedef struct Found {
    char *unit; /* NULL for a folder outside of any */
    uid_t user;
} Found;

static struct {
    gboolean looked;
    char *mount;          /* NULL = no cgroup2 */
    gboolean no_handles;  /* open_by_handle_at() is not for us */
    GHashTable *units;    /* id -> Found */
    gint64 walked_usec;   /* when the last walk began */
    gint64 walk_end_usec; /* and ended */
} cache;

const char *cgroup_mount(void)
{
    if (!cache.looked) {
        cache.looked = TRUE;
        cache.mount = find_mount();
    }
    return cache.mount;
}

char *cgroup_prefix_of_unit(const char *path, const char *unit)
{
    g_autoptr(GString) prefix = g_string_new(NULL);
    g_auto(GStrv) parts = g_strsplit(path, "/", -1);

    for (guint i = 0; parts[i]; i++) {
        const char *name = parts[i][0] == '_' ? parts[i] + 1 : parts[i];

        if (parts[i][0] == '\0')
            continue;
        g_string_append_printf(prefix, "/%s", parts[i]);
        if (strcmp(name, unit) == 0)
            return g_strdup(prefix->str);
    }
    return NULL;
}

static char *open_by_id(guint64 id, uid_t *ret_user)
{
    AUTO_FD mount_fd = -1;
    AUTO_FD fd = -1;
    g_autofree char *link = NULL;
    g_autofree char *target = NULL;
    union {
        struct file_handle handle;
        guint8 bytes[sizeof(struct file_handle) + sizeof(guint64)];
    } u = {.handle = {.handle_bytes = sizeof id, .handle_type = HANDLE_TYPE_KERNFS}};

    mount_fd = open(cache.mount, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (mount_fd < 0)
        return NULL;
    memcpy(u.handle.f_handle, &id, sizeof id);
    fd = open_by_handle_at(mount_fd, &u.handle, O_PATH | O_CLOEXEC);
    if (fd < 0) {
        cache.no_handles = errno != ESTALE; /* ESTALE: allowed, but there is no such folder */
        return NULL;
    }
    link = g_strdup_printf("/proc/self/fd/%d", fd);
    target = g_file_read_link(link, NULL);
    if (!target || !g_str_has_prefix(target, cache.mount))
        return NULL;
    return cgroup_unit_of_path(target + strlen(cache.mount), ret_user);
}

static void found_free(void *data)
{
    Found *found = data;

    g_free(found->unit);
    g_free(found);
}

/* @dir_fd: taken over. @path: below the mount, "" at its root. */
static void walk(int dir_fd, const char *path, guint depth, guint *folders)
{
    DIR *dir = fdopendir(dir_fd);
    struct dirent *item = NULL;

    if (!dir) {
        (void)fd_close(dir_fd);
        return;
    }
    while ((item = readdir(dir)) && *folders < WALK_FOLDERS_MAX) {
        g_autofree char *below = NULL;
        guint64 *key = NULL;
        Found *found = NULL;
        int fd = -1;

        if (item->d_type != DT_DIR || item->d_name[0] == '.')
            continue;
        (*folders)++;
        below = g_strconcat(path, "/", item->d_name, NULL);
        key = g_new(guint64, 1);
        *key = item->d_ino;
        found = g_new0(Found, 1);
        found->unit = cgroup_unit_of_path(below, &found->user);
        g_hash_table_replace(cache.units, key, found);
        if (depth >= WALK_DEPTH_MAX)
            continue;
        fd = openat(dirfd(dir), item->d_name,
                    O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
        if (fd >= 0)
            walk(fd, below, depth + 1, folders);
    }
    (void)closedir(dir);
}

static void refresh(void)
{
    guint folders = 0;
    int fd = open(cache.mount, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    cache.walked_usec = g_get_monotonic_time();
    if (!cache.units)
        cache.units = g_hash_table_new_full(g_int64_hash, g_int64_equal, g_free, found_free);
    g_hash_table_remove_all(cache.units);
    if (fd >= 0)
        walk(fd, "", 1, &folders);
    cache.walk_end_usec = g_get_monotonic_time();
}

static gboolean look_up(guint64 id, char **ret_unit, uid_t *ret_user)
{
    const Found *found = cache.units ? g_hash_table_lookup(cache.units, &id) : NULL;

    if (!found)
        return FALSE;
    *ret_unit = g_strdup(found->unit);
    if (ret_user && found->unit)
        *ret_user = found->user;
    return TRUE;
}

char *cgroup_unit_of_id(guint64 id, uid_t *ret_user)
{
    char *unit = NULL;
    gint64 pause_usec;

    if (id <= 1) /* not known, or the root */
        return NULL;
    if (!cgroup_mount())
        return NULL;
    if (look_up(id, &unit, ret_user))
        return unit;
    if (!cache.no_handles) {
        g_autofree char *opened = open_by_id(id, ret_user);

        if (!cache.no_handles)
            return g_steal_pointer(&opened);
    }
    pause_usec = WALK_PAUSE_FACTOR * (cache.walk_end_usec - cache.walked_usec);
    if (cache.units && g_get_monotonic_time() - cache.walk_end_usec < pause_usec)
        return NULL;
    refresh();
    (void)look_up(id, &unit, ret_user);
    return unit;
}
