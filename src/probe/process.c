/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "probe/process.h"

#include <errno.h>
#include <fcntl.h>
#include <gio/gio.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>

#include "probe/cgroup.h"
#include "util/fd.h"

/*
 * Who a process is. A number alone is whoever has it today, so every answer here stands between two
 * looks at one pidfd: while the pidfd's process runs nobody else can have its number, and what was
 * read from /proc/PID in between is about it.
 */

/* statfs(2) of a pidfd since Linux 6.9; before, all pidfds shared one inode that says nothing. */
#define PIDFS_MAGIC 0x50494446

/* linux/pidfd.h of Linux 6.13, which older headers do not have. */
struct pidfd_info_request {
    guint64 mask;
    guint64 cgroup_id;
    guint32 pid, tgid, ppid;
    guint32 ruid, rgid, euid, egid, suid, sgid, fsuid, fsgid;
    gint32 exit_code;
};
#define PIDFD_INFO_WANT_CREDS (1u << 1)
#define PIDFD_INFO_WANT_CGROUP (1u << 2)
#define PIDFD_INFO_IOCTL _IOWR(0xff, 11, struct pidfd_info_request)

static int open_pidfd(pid_t pid)
{
    int fd = (int)syscall(SYS_pidfd_open, pid, 0);

    return fd < 0 ? -errno : fd;
}

/* A pidfd becomes readable when the last thread has ended, a zombie's too (pidfd_open(2)). */
static gboolean has_ended(int pidfd)
{
    struct pollfd item = {.fd = pidfd, .events = POLLIN};
    int n;

    do
        n = poll(&item, 1, 0);
    while (n < 0 && errno == EINTR);
    return n > 0;
}

/* Returns: 0 where the kernel has no inode of its own for each process. */
static guint64 inode_of(int pidfd)
{
    struct statfs fs;
    struct stat st;

    if (fstatfs(pidfd, &fs) < 0 || (guint64)fs.f_type != PIDFS_MAGIC || fstat(pidfd, &st) < 0)
        return 0;
    return st.st_ino;
}

/* Reads the beginning of a file in /proc, NUL-terminated. Returns: 0 or an errno. */
static int read_proc(const char *path, char *buffer, gsize size)
{
    AUTO_FD fd = open(path, O_RDONLY | O_CLOEXEC);
    gsize length = 0;

    if (fd < 0)
        return errno;
    while (length < size - 1) {
        ssize_t n = read(fd, buffer + length, size - 1 - length);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return errno;
        if (n == 0)
            break;
        length += (gsize)n;
    }
    buffer[length] = '\0';
    return 0;
}

static int read_proc_of(pid_t pid, const char *name, char *buffer, gsize size)
{
    char path[64];

    (void)snprintf(path, sizeof path, "/proc/%d/%s", (int)pid, name);
    return read_proc(path, buffer, size);
}

/* The text behind "key" at the beginning of a line, NULL = no such line. */
static const char *find_line(const char *text, const char *key)
{
    gsize length = strlen(key);

    while (text && strncmp(text, key, length) != 0) {
        text = strchr(text, '\n');
        if (text)
            text++;
    }
    return text ? text + length : NULL;
}

/* Returns: 0 or an errno. Source: proc_pid_stat(5). */
static int read_start(pid_t pid, guint64 *ret_start_ticks)
{
    char text[1024];
    int code = read_proc_of(pid, "stat", text, sizeof text);
    /* The name may hold spaces and parentheses; nothing behind its last one does. */
    char *end = code == 0 ? strrchr(text, ')') : NULL;
    guint64 value = 0;

    if (code != 0)
        return code;
    if (!end)
        return EBADMSG;
    /* Field 3 follows; field 22 is 20 spaces away from the parenthesis. */
    for (guint field = 2; end && field < 22; field++)
        end = strchr(end + 1, ' ');
    if (!end)
        return EBADMSG;
    value = g_ascii_strtoull(end + 1, NULL, 10);
    if (value == 0)
        return EBADMSG;
    *ret_start_ticks = value;
    return 0;
}

/* Returns: 0 or an errno. Source: proc_pid_status(5): real, effective, saved, file system uid. */
static int read_uid(pid_t pid, uid_t *ret_uid)
{
    char text[4096];
    int code = read_proc_of(pid, "status", text, sizeof text);
    const char *line = code == 0 ? find_line(text, "Uid:") : NULL;
    char *end = NULL;
    guint64 value;

    if (code != 0)
        return code;
    if (!line)
        return EBADMSG;
    value = g_ascii_strtoull(line, &end, 10);
    if (end == line || value > G_MAXUINT32)
        return EBADMSG;
    *ret_uid = (uid_t)value;
    return 0;
}

static char *read_unit(pid_t pid, uid_t *ret_user)
{
    g_autofree char *path = g_strdup_printf("/proc/%d/cgroup", (int)pid);
    g_autofree char *text = NULL;

    if (!g_file_get_contents(path, &text, NULL, NULL))
        return NULL;
    return cgroup_unit_of_process(text, ret_user);
}

/*
 * The pid of somebody's pidfd, 0 for one that our namespace has no number for, -1 for a process
 * that has been waited for, or -EBADF. It goes through fdinfo, since a stranger's descriptor may
 * belong to a file system that answers fstat() when it likes.
 */
static gint64 pid_of_pidfd(int pidfd)
{
    char path[64], text[1024];
    const char *line = NULL;
    char *end = NULL;
    gint64 pid;

    (void)snprintf(path, sizeof path, "/proc/self/fdinfo/%d", pidfd);
    if (read_proc(path, text, sizeof text) != 0)
        return -EBADF;
    line = find_line(text, "Pid:");
    if (!line)
        return -EBADF;
    pid = g_ascii_strtoll(line, &end, 10);
    return end == line || pid < -1 || pid > G_MAXINT32 ? -EBADF : pid;
}

static gboolean refuse(GError **error, int code, const char *format, ...) G_GNUC_PRINTF(3, 4);
static gboolean refuse(GError **error, int code, const char *format, ...)
{
    va_list arguments;

    if (!error)
        return FALSE;
    va_start(arguments, format);
    *error = g_error_new_valist(G_IO_ERROR, code, format, arguments);
    va_end(arguments);
    return FALSE;
}

static gboolean refuse_errno(GError **error, pid_t pid, int code)
{
    switch (code) {
    case ESRCH:
        return refuse(error, G_IO_ERROR_NOT_FOUND, "there is no process %d", (int)pid);
    case EINVAL:
    case ENOENT: /* of a thread, by the version of the kernel */
        return refuse(error, G_IO_ERROR_INVALID_ARGUMENT, "%d is not a process", (int)pid);
    default:
        return refuse(error, g_io_error_from_errno(code), "cannot look at process %d: %s", (int)pid,
                      g_strerror(code));
    }
}

/* Returns: a pidfd of our own for the process behind @pidfd, or a negative errno with @error set.
 */
static int reopen(int pidfd, pid_t *ret_pid, GError **error)
{
    gint64 pid = pid_of_pidfd(pidfd);
    AUTO_FD own = -1;

    if (pid > 0) {
        own = open_pidfd((pid_t)pid);
        if (own < 0 && own != -ESRCH) {
            (void)refuse_errno(error, (pid_t)pid, -own);
            return own;
        }
        /* Still its number, so it was when we opened by it. */
        pid = pid_of_pidfd(pidfd);
    }
    if (pid > 0 && own >= 0) {
        *ret_pid = (pid_t)pid;
        return fd_steal(&own);
    }
    if (pid == -EBADF)
        (void)refuse(error, G_IO_ERROR_INVALID_ARGUMENT, "the descriptor is not a pidfd");
    else if (pid == 0)
        (void)refuse(error, G_IO_ERROR_NOT_SUPPORTED,
                     "the process of the pidfd is in another pid namespace");
    else
        (void)refuse(error, G_IO_ERROR_NOT_FOUND, "the process of the pidfd has ended");
    return -ESRCH;
}

/* What /proc hides the kernel may tell by the pidfd. Returns: FALSE where it does not. */
static gboolean ask_pidfd(int pidfd, uid_t *ret_uid, char **ret_unit)
{
    struct pidfd_info_request info = {.mask = PIDFD_INFO_WANT_CREDS | PIDFD_INFO_WANT_CGROUP};

    if (ioctl(pidfd, PIDFD_INFO_IOCTL, &info) < 0 || !(info.mask & PIDFD_INFO_WANT_CREDS))
        return FALSE;
    *ret_uid = info.ruid;
    *ret_unit = info.mask & PIDFD_INFO_WANT_CGROUP ? cgroup_unit_of_id(info.cgroup_id, NULL) : NULL;
    return TRUE;
}

gboolean process_identify(pid_t pid, int pidfd, ProcessIdentity *ret_identity, uid_t *ret_uid,
                          char **ret_unit, int *ret_pidfd, GError **error)
{
    ProcessIdentity identity = {0};
    g_autofree char *unit = NULL;
    AUTO_FD own = -1;
    uid_t uid = 0;
    int code;

    if (pidfd >= 0) {
        own = reopen(pidfd, &pid, error);
        if (own < 0)
            return FALSE;
    } else {
        if (pid <= 0)
            return refuse_errno(error, pid, EINVAL);
        own = open_pidfd(pid);
        if (own < 0)
            return refuse_errno(error, pid, -own);
    }

    identity.pid = pid;
    identity.pidfd_inode = inode_of(own);
    code = read_start(pid, &identity.start_ticks);
    if (code == 0)
        code = read_uid(pid, &uid);
    if (code == 0)
        unit = read_unit(pid, NULL);
    else if (identity.pidfd_inode != 0 && ask_pidfd(own, &uid, &unit))
        code = 0;

    if (has_ended(own))
        return refuse_errno(error, pid, ESRCH);
    if (code != 0)
        return refuse(error, G_IO_ERROR_PERMISSION_DENIED, "cannot read about process %d: %s",
                      (int)pid, g_strerror(code));
    *ret_identity = identity;
    if (ret_uid)
        *ret_uid = uid;
    if (ret_unit)
        *ret_unit = g_steal_pointer(&unit);
    if (ret_pidfd)
        *ret_pidfd = fd_steal(&own);
    return TRUE;
}

/* Whether the running process behind @pidfd is the one of @identity. */
static ProcessState compare(const ProcessIdentity *identity, int pidfd)
{
    guint64 inode = identity->pidfd_inode != 0 ? inode_of(pidfd) : 0;
    guint64 start_ticks = 0;

    if (inode != 0)
        return inode == identity->pidfd_inode ? PROCESS_ALIVE : PROCESS_DEAD;
    if (identity->start_ticks == 0 || read_start(identity->pid, &start_ticks) != 0)
        return PROCESS_UNKNOWN;
    return start_ticks == identity->start_ticks ? PROCESS_ALIVE : PROCESS_DEAD;
}

ProcessState process_check(const ProcessIdentity *identity, int *ret_pidfd)
{
    AUTO_FD pidfd = -1;
    ProcessState state;

    if (ret_pidfd)
        *ret_pidfd = -1;
    if (identity->pid <= 0)
        return PROCESS_DEAD;
    pidfd = open_pidfd(identity->pid);
    if (pidfd == -ESRCH || pidfd == -EINVAL || pidfd == -ENOENT)
        return PROCESS_DEAD; /* nobody has the number, or a thread of another process */
    if (pidfd < 0)
        return PROCESS_UNKNOWN;

    state = compare(identity, pidfd);
    if (has_ended(pidfd)) /* whoever it was */
        return PROCESS_DEAD;
    if (state == PROCESS_ALIVE && ret_pidfd)
        *ret_pidfd = fd_steal(&pidfd);
    return state;
}

/* ---- whose unit ------------------------------------------------------------------------------ */

#define MEMBERS_MAX 4096 /* processes and folders; a unit with more is nobody's */

/* @folder: of a cgroup. Returns: whether all processes in it and below are of @uid. */
static gboolean all_are_of(const char *folder, uid_t uid, guint *left)
{
    g_autofree char *list = g_build_filename(folder, "cgroup.procs", NULL);
    g_autofree char *text = NULL;
    g_auto(GStrv) lines = NULL;
    g_autoptr(GDir) dir = NULL;
    const char *name = NULL;

    /* Refused (EOPNOTSUPP) in a threaded cgroup: then it is not known. */
    if (!g_file_get_contents(list, &text, NULL, NULL))
        return FALSE;
    lines = g_strsplit(text, "\n", -1);
    for (guint i = 0; lines[i] && lines[i][0] != '\0'; i++) {
        uid_t member = 0;
        int code = read_uid((pid_t)g_ascii_strtoll(lines[i], NULL, 10), &member);

        if (code == ENOENT || code == ESRCH) /* has ended meanwhile */
            continue;
        if (code != 0 || member != uid || (*left)-- == 0)
            return FALSE;
    }
    dir = g_dir_open(folder, 0, NULL);
    while (dir && (name = g_dir_read_name(dir))) {
        g_autofree char *below = g_build_filename(folder, name, NULL);

        if (!g_file_test(below, G_FILE_TEST_IS_DIR))
            continue;
        if ((*left)-- == 0 || !all_are_of(below, uid, left))
            return FALSE;
    }
    return dir != NULL;
}

gboolean process_unit_is_of(const ProcessIdentity *identity, uid_t uid)
{
    g_autofree char *path = g_strdup_printf("/proc/%d/cgroup", (int)identity->pid);
    g_autofree char *unit = NULL, *text = NULL, *prefix = NULL, *folder = NULL;
    uid_t user;
    const char *line = NULL;
    guint left = MEMBERS_MAX;

    if (!cgroup_mount() || !g_file_get_contents(path, &text, NULL, NULL) ||
        !process_unit(identity, &unit, &user, NULL))
        return FALSE;
    line = find_line(text, "0::");
    if (line) {
        g_autofree char *own = g_strndup(line, strcspn(line, "\n"));

        prefix = cgroup_prefix_of_unit(own, unit);
    }
    if (!prefix)
        return FALSE;
    folder = g_build_filename(cgroup_mount(), prefix, NULL);
    return all_are_of(folder, uid, &left);
}

gboolean process_unit(const ProcessIdentity *identity, char **ret_unit, uid_t *ret_user,
                      GError **error)
{
    uid_t user = CGROUP_NO_USER;
    g_autofree char *unit = read_unit(identity->pid, &user);

    /* Looked at afterwards: if it runs now, the number was its own a moment ago. */
    switch (process_check(identity, NULL)) {
    case PROCESS_DEAD:
        return refuse_errno(error, identity->pid, ESRCH);
    case PROCESS_UNKNOWN:
        return refuse(error, G_IO_ERROR_FAILED, "cannot tell whether process %d still runs",
                      (int)identity->pid);
    case PROCESS_ALIVE:
        break;
    }
    if (!unit)
        return refuse(error, G_IO_ERROR_NOT_FOUND, "process %d is in no systemd unit",
                      (int)identity->pid);
    *ret_unit = g_steal_pointer(&unit);
    *ret_user = user;
    return TRUE;
}
