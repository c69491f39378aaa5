/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "probe/process.h"

#include <errno.h>
#include <fcntl.h>
#include <gio/gio.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "probe-test-util.h"
#include "probe/cgroup.h"
#include "util/fd.h"

#define DEADLINE_USEC (20 * G_USEC_PER_SEC)

static pid_t start_sleeper(void)
{
    pid_t pid = fork();

    g_assert_cmpint(pid, >=, 0);
    if (pid == 0) {
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
        for (;;)
            (void)pause();
    }
    return pid;
}

static void reap(pid_t pid)
{
    g_assert_cmpint(waitpid(pid, NULL, 0), ==, pid);
}

static void kill_and_reap(pid_t pid)
{
    g_assert_no_errno(kill(pid, SIGKILL));
    reap(pid);
}

/* Until it is a zombie that nobody has waited for. */
static void wait_for_zombie(pid_t pid)
{
    siginfo_t info;

    g_assert_no_errno(waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT));
}

static ProcessIdentity identify(pid_t pid)
{
    ProcessIdentity identity = {0};
    g_autoptr(GError) error = NULL;

    g_assert_true(process_identify(pid, -1, &identity, NULL, NULL, NULL, &error));
    g_assert_no_error(error);
    return identity;
}

/* As on a kernel without pidfs: pid and start time are all there is. */
static ProcessIdentity without_inode(ProcessIdentity identity)
{
    identity.pidfd_inode = 0;
    return identity;
}

static void assert_state(ProcessIdentity identity, ProcessState expected)
{
    ProcessIdentity weaker = without_inode(identity);

    g_assert_cmpint(process_check(&identity, NULL), ==, expected);
    g_assert_cmpint(process_check(&weaker, NULL), ==, expected);
}

static void assert_no_process(pid_t pid, int pidfd, int expected)
{
    ProcessIdentity identity = {.pid = 4711};
    g_autoptr(GError) error = NULL;
    int fd = -4;

    g_assert_false(process_identify(pid, pidfd, &identity, NULL, NULL, &fd, &error));
    g_assert_error(error, G_IO_ERROR, expected);
    g_assert_cmpint(identity.pid, ==, 4711);
    g_assert_cmpint(fd, ==, -4);
}

static void test_self(void)
{
    ProcessIdentity identity, by_fd;
    uid_t uid = 4711;
    AUTO_FD pidfd = -1;
    AUTO_FD alive = -1;
    guint before = test_count_fds();
    g_autofree char *unit = NULL;
    g_autoptr(GError) error = NULL;

    g_assert_true(process_identify(getpid(), -1, &identity, &uid, &unit, &pidfd, &error));
    g_assert_no_error(error);
    g_assert_cmpint(identity.pid, ==, getpid());
    g_assert_cmpuint(identity.start_ticks, >, 0);
    g_assert_cmpuint(uid, ==, getuid());
    g_assert_cmpint(fcntl(pidfd, F_GETFD) & FD_CLOEXEC, ==, FD_CLOEXEC);
    if (identity.pidfd_inode == 0)
        g_test_message("this kernel has no inode for each pidfd");

    g_assert_true(process_identify(1, pidfd, &by_fd, NULL, NULL, NULL, &error));
    g_assert_no_error(error);
    g_assert_cmpint(by_fd.pid, ==, identity.pid);
    g_assert_cmpuint(by_fd.start_ticks, ==, identity.start_ticks);
    g_assert_cmpuint(by_fd.pidfd_inode, ==, identity.pidfd_inode);

    g_assert_cmpint(process_check(&identity, &alive), ==, PROCESS_ALIVE);
    g_assert_cmpint(alive, >=, 0);
    pidfd = fd_close(pidfd);
    alive = fd_close(alive);
    g_assert_cmpuint(test_count_fds(), ==, before);
}

static void test_not_a_process(void)
{
    pid_t pid = start_sleeper();
    AUTO_FD pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
    AUTO_FD file = open("/dev/null", O_RDONLY | O_CLOEXEC);
    int pipes[2];

    g_assert_no_errno(pipe2(pipes, O_CLOEXEC));
    assert_no_process(0, -1, G_IO_ERROR_INVALID_ARGUMENT);
    assert_no_process(-1, -1, G_IO_ERROR_INVALID_ARGUMENT);
    assert_no_process(1, file, G_IO_ERROR_INVALID_ARGUMENT);
    assert_no_process(1, pipes[0], G_IO_ERROR_INVALID_ARGUMENT);
    (void)fd_close(pipes[0]);
    (void)fd_close(pipes[1]);
    assert_no_process(1, pipes[0], G_IO_ERROR_INVALID_ARGUMENT); /* closed */

    g_assert_no_errno(kill(pid, SIGKILL));
    wait_for_zombie(pid);
    assert_no_process(pid, -1, G_IO_ERROR_NOT_FOUND);
    assert_no_process(1, pidfd, G_IO_ERROR_NOT_FOUND);
    reap(pid);
    assert_no_process(pid, -1, G_IO_ERROR_NOT_FOUND);
    assert_no_process(1, pidfd, G_IO_ERROR_NOT_FOUND);
}

static void test_dead(void)
{
    pid_t pid = start_sleeper();
    ProcessIdentity identity = identify(pid), other;

    assert_state(identity, PROCESS_ALIVE);
    /* The same number, another process. */
    other = identity;
    other.start_ticks++;
    other.pidfd_inode = 0;
    g_assert_cmpint(process_check(&other, NULL), ==, PROCESS_DEAD);
    if (identity.pidfd_inode != 0) {
        other = identity;
        other.pidfd_inode++;
        g_assert_cmpint(process_check(&other, NULL), ==, PROCESS_DEAD);
    }
    /* A number alone proves nothing. */
    other = (ProcessIdentity){.pid = pid};
    g_assert_cmpint(process_check(&other, NULL), ==, PROCESS_UNKNOWN);
    other = (ProcessIdentity){0};
    g_assert_cmpint(process_check(&other, NULL), ==, PROCESS_DEAD);

    g_assert_no_errno(kill(pid, SIGSTOP));
    assert_state(identity, PROCESS_ALIVE);
    g_assert_no_errno(kill(pid, SIGKILL));
    wait_for_zombie(pid);
    assert_state(identity, PROCESS_DEAD);
    reap(pid);
    assert_state(identity, PROCESS_DEAD);
}

static void test_out_of_descriptors(void)
{
    ProcessIdentity identity = identify(getpid());
    struct rlimit before, none;

    g_assert_no_errno(getrlimit(RLIMIT_NOFILE, &before));
    none = before;
    none.rlim_cur = 0;
    g_assert_no_errno(setrlimit(RLIMIT_NOFILE, &none));
    g_assert_cmpint(process_check(&identity, NULL), ==, PROCESS_UNKNOWN);
    assert_no_process(getpid(), -1, G_IO_ERROR_TOO_MANY_OPEN_FILES);
    g_assert_no_errno(setrlimit(RLIMIT_NOFILE, &before));
}

/* A name made to mislead who splits the line at spaces or at the first parenthesis. */
static void test_name(void)
{
    ProcessIdentity identity = identify(getpid());
    char before[16] = "";

    g_assert_no_errno(prctl(PR_GET_NAME, before));
    g_assert_no_errno(prctl(PR_SET_NAME, ") R 1 2 ) (x\n)"));
    g_assert_cmpuint(identify(getpid()).start_ticks, ==, identity.start_ticks);
    assert_state(identity, PROCESS_ALIVE);
    g_assert_no_errno(prctl(PR_SET_NAME, before));
}

static void test_exec(void)
{
    ProcessIdentity identity;
    int go[2], gone[2];
    char byte = 0;
    pid_t pid;

    g_assert_no_errno(pipe2(go, O_CLOEXEC));
    g_assert_no_errno(pipe2(gone, O_CLOEXEC));
    pid = fork();
    g_assert_cmpint(pid, >=, 0);
    if (pid == 0) {
        (void)!read(go[0], &byte, 1);
        (void)execlp("sleep", "sleep", "1000", NULL);
        _exit(1);
    }
    (void)fd_close(gone[1]);
    identity = identify(pid);
    g_assert_cmpint(write(go[1], &byte, 1), ==, 1);
    g_assert_cmpint(read(gone[0], &byte, 1), ==, 0); /* closed by the exec */
    assert_state(identity, PROCESS_ALIVE);
    g_assert_cmpuint(identify(pid).start_ticks, ==, identity.start_ticks);
    kill_and_reap(pid);
    assert_state(identity, PROCESS_DEAD);
    (void)fd_close(go[0]);
    (void)fd_close(go[1]);
    (void)fd_close(gone[0]);
}

static int thread_pipe[2];

static void *last_thread(void *data)
{
    pid_t tid = (pid_t)syscall(SYS_gettid);

    (void)!write(thread_pipe[1], &tid, sizeof tid);
    (void)pthread_join(*(pthread_t *)data, NULL);
    (void)!write(thread_pipe[1], "", 1);
    for (;;)
        (void)pause();
    return NULL;
}

/* The main thread has ended, and the rest of the process goes on: no zombie, whatever "ps" says. */
static void test_main_thread_ended(void)
{
    ProcessIdentity identity;
    pid_t pid, tid = 0;
    char byte;

    g_assert_no_errno(pipe2(thread_pipe, O_CLOEXEC));
    pid = fork();
    g_assert_cmpint(pid, >=, 0);
    if (pid == 0) {
        static pthread_t self;
        pthread_t thread;

        self = pthread_self();
        if (pthread_create(&thread, NULL, last_thread, &self) != 0)
            _exit(1);
        pthread_exit(NULL);
    }
    g_assert_cmpint(read(thread_pipe[0], &tid, sizeof tid), ==, sizeof tid);
    g_assert_cmpint(read(thread_pipe[0], &byte, 1), ==, 1);
    identity = identify(pid);
    assert_state(identity, PROCESS_ALIVE);

    assert_no_process(tid, -1, G_IO_ERROR_INVALID_ARGUMENT);
    identity.pid = tid; /* a recorded number that is a thread's now */
    assert_state(identity, PROCESS_DEAD);
    identity.pid = pid;
    kill_and_reap(pid);
    assert_state(identity, PROCESS_DEAD);
    (void)fd_close(thread_pipe[0]);
    (void)fd_close(thread_pipe[1]);
}

typedef struct Stranger {
    ProcessIdentity identity;
    gboolean hidden;
} Stranger;

static int look_at_stranger(void *data)
{
    const Stranger *stranger = data;
    ProcessIdentity weaker = without_inode(stranger->identity), found = {0};
    uid_t uid = 4711;
    g_autoptr(GError) error = NULL;

    if (stranger->hidden) {
        CHECK(unshare(CLONE_NEWNS) == 0);
        CHECK(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0);
        CHECK(mount("proc", "/proc", "proc", 0, "hidepid=2") == 0);
    }
    CHECK(setresgid(65534, 65534, 65534) == 0);
    CHECK(setresuid(65534, 65534, 65534) == 0);
    CHECK(kill(stranger->identity.pid, 0) < 0 && errno == EPERM);

    if (stranger->identity.pidfd_inode != 0)
        CHECK(process_check(&stranger->identity, NULL) == PROCESS_ALIVE);
    CHECK(process_check(&weaker, NULL) == (stranger->hidden ? PROCESS_UNKNOWN : PROCESS_ALIVE));

    if (process_identify(stranger->identity.pid, -1, &found, &uid, NULL, NULL, &error)) {
        CHECK(found.pid == stranger->identity.pid);
        CHECK(uid == 0);
        CHECK(found.pidfd_inode == stranger->identity.pidfd_inode);
        CHECK(found.start_ticks == (stranger->hidden ? 0 : stranger->identity.start_ticks));
    } else {
        CHECK(stranger->hidden);
        CHECK(g_error_matches(error, G_IO_ERROR, G_IO_ERROR_PERMISSION_DENIED));
    }
    return 0;
}

static void test_stranger(const void *hidden)
{
    Stranger stranger = {.hidden = GPOINTER_TO_INT(hidden)};
    pid_t pid;

    if (getuid() != 0) {
        g_test_skip("needs root to become somebody else");
        return;
    }
    pid = start_sleeper();
    stranger.identity = identify(pid);
    test_in_child(look_at_stranger, &stranger);
    kill_and_reap(pid);
}

/* ---- watching ---- */

typedef struct Log {
    ProcessWatch *watch;
    GHashTable *seen; /* pid -> times */
    guint n;
    pid_t remove; /* from within the callback */
    gboolean free_watch;
} Log;

static void on_exited(pid_t pid, void *data)
{
    Log *log = data;
    gpointer key = GINT_TO_POINTER(pid);

    log->n++;
    g_hash_table_insert(log->seen, key,
                        GINT_TO_POINTER(GPOINTER_TO_INT(g_hash_table_lookup(log->seen, key)) + 1));
    if (log->remove)
        process_watch_remove(log->watch, log->remove);
    if (log->free_watch)
        log->watch = process_watch_free(log->watch);
}

static void log_init(Log *log)
{
    g_autoptr(GError) error = NULL;

    *log = (Log){.seen = g_hash_table_new(NULL, NULL)};
    log->watch = process_watch_new(NULL, on_exited, log, &error);
    g_assert_no_error(error);
}

static void log_deinit(Log *log)
{
    log->watch = process_watch_free(log->watch);
    g_hash_table_unref(log->seen);
}

static guint times(const Log *log, pid_t pid)
{
    return (guint)GPOINTER_TO_INT(g_hash_table_lookup(log->seen, GINT_TO_POINTER(pid)));
}

static void watch_add(Log *log, pid_t pid)
{
    g_autoptr(GError) error = NULL;
    int pidfd = (int)syscall(SYS_pidfd_open, pid, 0);

    g_assert_cmpint(pidfd, >=, 0);
    g_assert_true(process_watch_add(log->watch, pid, pidfd, &error));
    g_assert_no_error(error);
}

static gboolean wake(void *data)
{
    return G_SOURCE_CONTINUE;
}

static void wait_for(const Log *log, guint n)
{
    gint64 deadline_usec = g_get_monotonic_time() + DEADLINE_USEC;
    guint ticker = g_timeout_add(50, wake, NULL); /* so that the deadline is looked at */

    while (log->n < n && g_get_monotonic_time() < deadline_usec)
        (void)g_main_context_iteration(NULL, TRUE);
    g_assert_true(g_source_remove(ticker));
    g_assert_cmpuint(log->n, ==, n);
}

/* What would still come has come after this: a later event has been seen. */
static void drain(Log *log)
{
    pid_t marker = start_sleeper();
    guint n = log->n;

    watch_add(log, marker);
    kill_and_reap(marker);
    wait_for(log, n + 1);
    while (g_main_context_iteration(NULL, FALSE))
        ;
    g_assert_cmpuint(log->n, ==, n + 1);
}

static void test_watch_many(void)
{
    enum { MANY = 1000 };
    g_autofree pid_t *pids = g_new(pid_t, MANY);
    guint before = test_count_fds();
    struct rlimit limit;
    Log log;

    g_assert_no_errno(getrlimit(RLIMIT_NOFILE, &limit));
    limit.rlim_cur = MIN(limit.rlim_max, MANY + 200);
    g_assert_no_errno(setrlimit(RLIMIT_NOFILE, &limit));
    log_init(&log);
    for (guint i = 0; i < MANY; i++) {
        pids[i] = start_sleeper();
        watch_add(&log, pids[i]);
    }
    g_assert_cmpuint(process_watch_length(log.watch), ==, MANY);
    for (guint i = 0; i < MANY; i += 10)
        process_watch_remove(log.watch, pids[i]);
    g_assert_false(g_main_context_iteration(NULL, FALSE));

    for (guint i = 0; i < MANY; i++)
        g_assert_no_errno(kill(pids[i], SIGKILL));
    wait_for(&log, MANY - MANY / 10);
    g_assert_cmpuint(process_watch_length(log.watch), ==, 0);
    drain(&log);
    for (guint i = 0; i < MANY; i++) {
        g_assert_cmpuint(times(&log, pids[i]), ==, i % 10 ? 1 : 0);
        reap(pids[i]);
    }
    log_deinit(&log);
    g_assert_cmpuint(test_count_fds(), ==, before);
}

static void test_watch_counts(void)
{
    pid_t pid = start_sleeper(), other = start_sleeper(), late = start_sleeper();
    Log log;

    log_init(&log);
    watch_add(&log, pid);
    watch_add(&log, pid);
    watch_add(&log, other);
    watch_add(&log, other);
    process_watch_remove(log.watch, pid);
    process_watch_remove(log.watch, other);
    process_watch_remove(log.watch, other);
    process_watch_remove(log.watch, other);
    process_watch_remove(log.watch, 1);
    kill_and_reap(other);
    kill_and_reap(pid);
    wait_for(&log, 1);
    g_assert_cmpuint(times(&log, pid), ==, 1);

    /* One that has ended before it is added. */
    g_assert_no_errno(kill(late, SIGKILL));
    wait_for_zombie(late);
    watch_add(&log, late);
    wait_for(&log, 2);
    g_assert_cmpuint(times(&log, late), ==, 1);
    reap(late);
    drain(&log);
    g_assert_cmpuint(times(&log, other), ==, 0);
    log_deinit(&log);
}

/* Two ends in one batch: the first callback takes the second back. */
static void test_watch_remove_within(void)
{
    pid_t a = start_sleeper(), b = start_sleeper();
    Log log;

    log_init(&log);
    watch_add(&log, a);
    watch_add(&log, b);
    g_assert_no_errno(kill(a, SIGKILL));
    g_assert_no_errno(kill(b, SIGKILL));
    wait_for_zombie(a);
    wait_for_zombie(b);
    log.remove = b;
    (void)g_main_context_iteration(NULL, FALSE);
    log.remove = 0;
    drain(&log);
    /* which of them came first is the kernel's choice */
    g_assert_cmpuint(times(&log, a), ==, 1);
    g_assert_cmpuint(times(&log, b), <=, 1);
    g_assert_cmpuint(log.n, ==, times(&log, a) + times(&log, b) + 1);
    g_assert_cmpuint(process_watch_length(log.watch), ==, 0);
    reap(a);
    reap(b);
    log_deinit(&log);
}

static void test_watch_free_within(void)
{
    pid_t pids[3];
    guint before = test_count_fds();
    Log log;

    log_init(&log);
    for (guint i = 0; i < G_N_ELEMENTS(pids); i++) {
        pids[i] = start_sleeper();
        watch_add(&log, pids[i]);
        g_assert_no_errno(kill(pids[i], SIGKILL));
        wait_for_zombie(pids[i]);
    }
    log.free_watch = TRUE;
    wait_for(&log, 1);
    while (g_main_context_iteration(NULL, FALSE))
        ;
    g_assert_cmpuint(log.n, ==, 1);
    g_assert_null(log.watch);
    for (guint i = 0; i < G_N_ELEMENTS(pids); i++)
        reap(pids[i]);
    log_deinit(&log);
    g_assert_cmpuint(test_count_fds(), ==, before);
}

static void test_watch_refused(void)
{
    g_autoptr(GError) error = NULL;
    Log log;

    log_init(&log);
    /* epoll takes no plain file */
    g_assert_false(process_watch_add(log.watch, 1, open("/proc/self/stat", O_RDONLY), &error));
    g_assert_error(error, G_IO_ERROR, G_IO_ERROR_PERMISSION_DENIED);
    g_assert_cmpuint(process_watch_length(log.watch), ==, 0);
    log_deinit(&log);
}

/* ---- one number, two processes ---- */

static pid_t start_sleeper_as(pid_t wanted)
{
    /* Somebody else of the namespace could be quicker; here there is nobody else. */
    for (guint i = 0; i < 100; i++) {
        g_autofree char *text = g_strdup_printf("%d", (int)wanted - 1);
        pid_t pid;

        if (!test_write_file("/proc/sys/kernel/ns_last_pid", text))
            return -1;
        pid = start_sleeper();
        if (pid == wanted)
            return pid;
        kill_and_reap(pid);
    }
    return -1;
}

/* The first process of a new pid namespace. */
static int reuse(void *data)
{
    ProcessIdentity first, second;
    gint64 ticks = sysconf(_SC_CLK_TCK), started_usec;
    pid_t pid;
    Log log;

    CHECK(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0);
    CHECK(mount("proc", "/proc", "proc", 0, NULL) == 0);
    log_init(&log);
    pid = start_sleeper();
    started_usec = g_get_monotonic_time();
    first = identify(pid);
    watch_add(&log, pid);
    kill_and_reap(pid);
    CHECK(process_check(&first, NULL) == PROCESS_DEAD);

    /* The start time is in clock ticks; two processes of one tick are told apart by inode only. */
    while (g_get_monotonic_time() < started_usec + 2 * G_USEC_PER_SEC / ticks)
        ;
    CHECK(start_sleeper_as(pid) == pid);
    second = identify(pid);
    CHECK(second.pid == first.pid);
    CHECK(second.start_ticks != first.start_ticks);
    CHECK(first.pidfd_inode == 0 || second.pidfd_inode != first.pidfd_inode);
    CHECK(process_check(&first, NULL) == PROCESS_DEAD);
    first = without_inode(first);
    CHECK(process_check(&first, NULL) == PROCESS_DEAD);
    CHECK(process_check(&second, NULL) == PROCESS_ALIVE);

    /* Added before the end of the first was told: one end now, the other when it comes. */
    watch_add(&log, pid);
    wait_for(&log, 1);
    drain(&log);
    CHECK(times(&log, pid) == 1);
    CHECK(process_watch_length(log.watch) == 1);
    kill_and_reap(pid);
    wait_for(&log, 3);
    CHECK(times(&log, pid) == 2);
    CHECK(process_check(&second, NULL) == PROCESS_DEAD);
    log_deinit(&log);
    return 0;
}

static int in_new_namespace(void *data)
{
    if (unshare(CLONE_NEWPID | CLONE_NEWNS) < 0)
        return 77;
    test_in_child(reuse, NULL);
    return 0;
}

static void test_reuse(void)
{
    if (getuid() != 0 || access("/proc/sys/kernel/ns_last_pid", W_OK) < 0) {
        g_test_skip("needs root and CONFIG_CHECKPOINT_RESTORE to choose a pid");
        return;
    }
    test_in_child(in_new_namespace, NULL);
}

/* ---- units ---- */

static void test_unit_text(void)
{
    static const struct {
        const char *text, *unit;
    } cases[] = {
        {"0::/system.slice/a.service\n", "a.service"},
        {"12:cpu:/x\n1:name=systemd:/system.slice/b.service\n0::/\n", "b.service"},
        {"1:name=systemd:/system.slice/b.service\n0::/system.slice/a.service\n", "a.service"},
        {"4:memory:/system.slice/c.service\n0::/\n", NULL},
        {"0::/system.slice/a:b.service\n", "a:b.service"},
        {"0::/\n", NULL},
        {"", NULL},
        {"nonsense\n:\n::\n", NULL},
    };

    for (guint i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autofree char *unit = cgroup_unit_of_process(cases[i].text, NULL);

        g_assert_cmpstr(unit, ==, cases[i].unit);
    }
}

static void test_unit(void)
{
    pid_t pid = start_sleeper();
    ProcessIdentity identity = identify(pid);
    g_autofree char *unit = NULL;
    uid_t user = 4711;
    g_autoptr(GError) error = NULL;

    if (process_unit(&identity, &unit, &user, &error)) {
        g_assert_nonnull(unit);
        g_assert_cmpuint(user, !=, 4711);
    } else {
        g_assert_error(error, G_IO_ERROR, G_IO_ERROR_NOT_FOUND);
        g_assert_cmpuint(user, ==, 4711);
    }
    g_clear_error(&error);
    g_clear_pointer(&unit, g_free);
    kill_and_reap(pid);
    g_assert_false(process_unit(&identity, &unit, &user, &error));
    g_assert_error(error, G_IO_ERROR, G_IO_ERROR_NOT_FOUND);
    g_assert_null(unit);
}

/* Linux before 5.3, or an old valgrind: all that can be asked for is that nothing is made up. */
static void test_without_pidfd(void)
{
    ProcessIdentity identity = {.pid = getpid(), .start_ticks = 1};

    assert_no_process(getpid(), -1, G_IO_ERROR_NOT_SUPPORTED);
    g_assert_cmpint(process_check(&identity, NULL), ==, PROCESS_UNKNOWN);
    g_test_skip("there is no pidfd_open() here");
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    (void)g_main_context_default(); /* before descriptors are counted: it has one */
    g_test_add_func("/process/unit-text", test_unit_text);
    if (syscall(SYS_pidfd_open, getpid(), 0) < 0 && errno == ENOSYS) {
        g_test_add_func("/process/without-pidfd", test_without_pidfd);
        return g_test_run();
    }
    g_test_add_func("/process/self", test_self);
    g_test_add_func("/process/not-a-process", test_not_a_process);
    g_test_add_func("/process/dead", test_dead);
    g_test_add_func("/process/out-of-descriptors", test_out_of_descriptors);
    g_test_add_func("/process/name", test_name);
    g_test_add_func("/process/exec", test_exec);
    g_test_add_func("/process/main-thread-ended", test_main_thread_ended);
    g_test_add_data_func("/process/stranger", GINT_TO_POINTER(FALSE), test_stranger);
    g_test_add_data_func("/process/stranger-hidden", GINT_TO_POINTER(TRUE), test_stranger);
    g_test_add_func("/process/watch/many", test_watch_many);
    g_test_add_func("/process/watch/counts", test_watch_counts);
    g_test_add_func("/process/watch/remove-within", test_watch_remove_within);
    g_test_add_func("/process/watch/free-within", test_watch_free_within);
    g_test_add_func("/process/watch/refused", test_watch_refused);
    g_test_add_func("/process/reuse", test_reuse);
    g_test_add_func("/process/unit", test_unit);
    return g_test_run();
}
