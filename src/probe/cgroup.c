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
/* So long a part of a walk is; a thousand folders are walked in it. The next part comes with the
 * next question, and what it would have found is not known until then. */
#define WALK_SLICE_USEC 5000
/* But that many folders at least, when others have the processor. */
#define WALK_SLICE_FOLDERS_MIN 100
/* After a part as many times its own length pass before the next, and after the walk before the
 * next walk: a socket whose folder is gone is never found, and asking for it again must not become
 * a way to keep us busy. */
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
    char *mount;         /* NULL = no cgroup2 */
    gboolean no_handles; /* open_by_handle_at() is not for us */
    GHashTable *units;   /* id -> Found, of the last whole walk; NULL = none yet */
} cache;

/** Folder: one whose folders are still to be noted. */
typedef struct Folder {
    char *path; /* below the mount, "" at its root */
    guint depth;
    DIR *dir; /* NULL = not begun */
} Folder;

/* The walk under way, and when the next part of it or the next one may be. */
static struct {
    GHashTable *units; /* id -> Found; NULL = none is under way */
    GQueue folders;    /* of Folder, owned: those nearer the root first */
    gint64 took_usec;  /* all its parts */
    gint64 again_usec; /* CLOCK_MONOTONIC */
} walk = {.folders = G_QUEUE_INIT};

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

static GHashTable *units_new(void)
{
    return g_hash_table_new_full(g_int64_hash, g_int64_equal, g_free, found_free);
}

static void folder_free(Folder *folder)
{
    if (!folder)
        return;
    if (folder->dir)
        (void)closedir(folder->dir);
    g_free(folder->path);
    g_free(folder);
}

/* Takes over @path. */
static void push_folder(char *path, guint depth)
{
    Folder *folder = g_new(Folder, 1);

    *folder = (Folder){.path = path, .depth = depth};
    g_queue_push_tail(&walk.folders, folder);
}

/* The kernel counts the folders in a folder as its links, and most have none: they need not be read
 * through, which takes ten times as long as all else. */
static gboolean has_folders(int fd, const char *name)
{
    struct stat status;

    return fstatat(fd, name, &status, AT_SYMLINK_NOFOLLOW) < 0 || status.st_nlink != 2;
}

static void note_folder(const Folder *in, const struct dirent *item)
{
    g_autofree char *path = g_strconcat(in->path, "/", item->d_name, NULL);
    guint64 *key = g_new(guint64, 1);
    Found *found = g_new0(Found, 1);

    *key = item->d_ino;
    found->unit = cgroup_unit_of_path(path, &found->user);
    g_hash_table_replace(walk.units, key, found);
    if (in->depth < WALK_DEPTH_MAX && has_folders(dirfd(in->dir), item->d_name))
        push_folder(g_steal_pointer(&path), in->depth + 1);
}

/* One entry of the folder in front. Returns: whether it was a folder. */
static gboolean read_entry(void)
{
    Folder *folder = g_queue_peek_head(&walk.folders);
    g_autofree char *path = NULL;
    const struct dirent *item = NULL;

    if (!folder->dir) {
        path = g_strconcat(cache.mount, folder->path, NULL);
        folder->dir = opendir(path); /* close-on-exec */
    }
    item = folder->dir ? readdir(folder->dir) : NULL;
    if (!item) {
        folder_free(g_queue_pop_head(&walk.folders));
        return FALSE;
    }
    if (item->d_type != DT_DIR || item->d_name[0] == '.')
        return FALSE;
    note_folder(folder, item);
    return TRUE;
}

static void end_walk(void)
{
    Folder *folder = NULL;

    while ((folder = g_queue_pop_head(&walk.folders)))
        folder_free(folder);
    g_clear_pointer(&cache.units, g_hash_table_unref);
    cache.units = g_steal_pointer(&walk.units);
}

/* Begins a walk or goes on with it. The folders near the root come first: there are the units of
 * the system, and a user's crowd of folders lies below his own. */
static void go_on(void)
{
    gint64 begin_usec = g_get_monotonic_time();
    gint64 end_usec = begin_usec + WALK_SLICE_USEC;
    gint64 now_usec = begin_usec;
    guint folders = 0;

    if (!walk.units) {
        walk.units = units_new();
        walk.took_usec = 0;
        push_folder(g_strdup(""), 1);
    }
    while (walk.folders.length > 0 && g_hash_table_size(walk.units) < WALK_FOLDERS_MAX &&
           (now_usec < end_usec || folders < WALK_SLICE_FOLDERS_MIN)) {
        folders += read_entry() ? 1 : 0;
        now_usec = g_get_monotonic_time();
    }
    walk.took_usec += now_usec - begin_usec;
    walk.again_usec = now_usec + WALK_PAUSE_FACTOR * (now_usec - begin_usec);
    if (walk.folders.length > 0 && g_hash_table_size(walk.units) < WALK_FOLDERS_MAX)
        return;
    walk.again_usec = now_usec + WALK_PAUSE_FACTOR * walk.took_usec;
    end_walk();
}

static gboolean look_up_in(GHashTable *units, guint64 id, char **ret_unit, uid_t *ret_user)
{
    const Found *found = units ? g_hash_table_lookup(units, &id) : NULL;

    if (!found)
        return FALSE;
    *ret_unit = g_strdup(found->unit);
    if (ret_user && found->unit)
        *ret_user = found->user;
    return TRUE;
}

static gboolean look_up(guint64 id, char **ret_unit, uid_t *ret_user)
{
    return look_up_in(cache.units, id, ret_unit, ret_user) ||
           look_up_in(walk.units, id, ret_unit, ret_user);
}

char *cgroup_unit_of_id(guint64 id, uid_t *ret_user)
{
    char *unit = NULL;

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
    if (g_get_monotonic_time() < walk.again_usec)
        return NULL;
    go_on();
    (void)look_up(id, &unit, ret_user);
    return unit;
}
