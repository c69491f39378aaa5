/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "probe/process.h"

#include <errno.h>
#include <gio/gio.h>
#include <poll.h>
#include <sys/epoll.h>

#include "util/fd.h"

/*
 * Ends of processes, thousands of them behind the one descriptor that the main loop polls.
 *
 * The kernel's events carry an entry; entries of a batch are taken out of reach (into "due") before
 * the first callback, so that a callback may remove and add at will.
 */

/* Ends told in one turn; more would keep the bus waiting behind a fallen service manager. */
#define BATCH 64

typedef struct Entry {
    pid_t pid;
    int pidfd;    /* owned */
    int epoll_fd; /* borrowed: where the pidfd is registered */
    guint count;
} Entry;

typedef struct WatchSource {
    GSource base;
    ProcessWatch *watch;
} WatchSource;

struct ProcessWatch {
    int epoll_fd;
    GSource *source;     /* owned */
    GHashTable *entries; /* pid -> Entry, borrowed from all: the youngest of that number */
    GHashTable *all;     /* set of Entry, owned: what is in the epoll instance */
    GQueue due;          /* of Entry, owned: has ended, not told yet */
    ProcessExited exited;
    void *data;
};

static void entry_free(void *data)
{
    Entry *entry = data;

    /* Not left to close(): a copy of the descriptor elsewhere would keep it registered. */
    (void)epoll_ctl(entry->epoll_fd, EPOLL_CTL_DEL, entry->pidfd, NULL);
    (void)fd_close(entry->pidfd);
    g_free(entry);
}

static void forget_number(ProcessWatch *watch, const Entry *entry)
{
    if (g_hash_table_lookup(watch->entries, GINT_TO_POINTER(entry->pid)) == entry)
        g_hash_table_remove(watch->entries, GINT_TO_POINTER(entry->pid));
}

static gboolean dispatch(GSource *source, GSourceFunc callback, gpointer data)
{
    ProcessWatch *watch = ((WatchSource *)source)->watch;
    struct epoll_event events[BATCH];
    int n = epoll_wait(watch->epoll_fd, events, BATCH, 0);

    for (int i = 0; i < n; i++) {
        Entry *entry = events[i].data.ptr;

        forget_number(watch, entry);
        g_hash_table_steal(watch->all, entry);
        g_queue_push_tail(&watch->due, entry);
    }
    for (;;) {
        Entry *entry = g_queue_pop_head(&watch->due);
        pid_t pid;

        if (!entry)
            return G_SOURCE_CONTINUE;
        pid = entry->pid;
        entry_free(entry);
        watch->exited(pid, watch->data);
        if (g_source_is_destroyed(source)) /* the callback freed the watch */
            return G_SOURCE_REMOVE;
    }
}

static GSourceFuncs source_funcs = {.dispatch = dispatch};

ProcessWatch *process_watch_new(GMainContext *context, ProcessExited exited, void *data,
                                GError **error)
{
    AUTO_FD epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    ProcessWatch *watch = NULL;
    int code = errno;

    if (epoll_fd < 0) {
        g_set_error(error, G_IO_ERROR, g_io_error_from_errno(code), "cannot watch processes: %s",
                    g_strerror(code));
        return NULL;
    }
    watch = g_new0(ProcessWatch, 1);
    watch->epoll_fd = fd_steal(&epoll_fd);
    watch->exited = exited;
    watch->data = data;
    watch->entries = g_hash_table_new(NULL, NULL);
    watch->all = g_hash_table_new_full(NULL, NULL, entry_free, NULL);
    g_queue_init(&watch->due);

    watch->source = g_source_new(&source_funcs, sizeof(WatchSource));
    ((WatchSource *)watch->source)->watch = watch;
    g_source_set_static_name(watch->source, "processes");
    (void)g_source_add_unix_fd(watch->source, watch->epoll_fd, G_IO_IN);
    g_source_attach(watch->source, context);
    return watch;
}

ProcessWatch *process_watch_free(ProcessWatch *watch)
{
    if (!watch)
        return NULL;
    g_source_destroy(watch->source);
    g_source_unref(watch->source);
    g_hash_table_unref(watch->entries);
    g_hash_table_unref(watch->all);
    g_queue_clear_full(&watch->due, entry_free);
    (void)fd_close(watch->epoll_fd);
    g_free(watch);
    return NULL;
}

static gboolean has_ended(int pidfd)
{
    struct pollfd item = {.fd = pidfd, .events = POLLIN};

    return poll(&item, 1, 0) > 0;
}

gboolean process_watch_add(ProcessWatch *watch, pid_t pid, int pidfd, GError **error)
{
    Entry *entry = g_hash_table_lookup(watch->entries, GINT_TO_POINTER(pid));
    struct epoll_event event = {.events = EPOLLIN};

    /* An ended one cannot be who is added now, unless that has ended as well: told once each. */
    if (entry && !has_ended(entry->pidfd)) {
        entry->count++;
        (void)fd_close(pidfd);
        return TRUE;
    }
    entry = g_new(Entry, 1);
    *entry = (Entry){.pid = pid, .pidfd = pidfd, .epoll_fd = watch->epoll_fd, .count = 1};
    event.data.ptr = entry;
    if (epoll_ctl(watch->epoll_fd, EPOLL_CTL_ADD, pidfd, &event) < 0) {
        int code = errno;

        entry_free(entry);
        g_set_error(error, G_IO_ERROR, g_io_error_from_errno(code), "cannot watch process %d: %s",
                    (int)pid, g_strerror(code));
        return FALSE;
    }
    (void)g_hash_table_replace(watch->entries, GINT_TO_POINTER(pid), entry);
    (void)g_hash_table_add(watch->all, entry);
    return TRUE;
}

void process_watch_remove(ProcessWatch *watch, pid_t pid)
{
    Entry *entry = g_hash_table_lookup(watch->entries, GINT_TO_POINTER(pid));

    if (entry) {
        if (--entry->count > 0)
            return;
        forget_number(watch, entry);
        (void)g_hash_table_remove(watch->all, entry);
        return;
    }
    for (GList *link = watch->due.head; link; link = link->next) {
        entry = link->data;
        if (entry->pid != pid)
            continue;
        if (--entry->count == 0) {
            g_queue_delete_link(&watch->due, link);
            entry_free(entry);
        }
        return;
    }
}

guint process_watch_length(const ProcessWatch *watch)
{
    return g_hash_table_size(watch->all) + watch->due.length;
}
