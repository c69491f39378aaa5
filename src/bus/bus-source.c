/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "bus/bus-source.h"

#include <errno.h>
#include <sys/epoll.h>

#include "bus/sd-bus-auto.h"
#include "util/fd.h"

/* Messages in one turn of the loop, all connections together: who has been silent is seen again
 * after so many. A group has one message in a row, since seven users who ask all the time must not
 * make the eighth wait for more than seven of theirs. */
#define TURN_MAX 8
#define LINK_TURN_MAX 1
/* And after that time, for not all messages cost the same. */
#define TURN_USEC 1000
/* Messages read ahead for each that is handled, where callers share a connection: enough to find in
 * time who stands behind a crowd, and few beside what handling one costs. */
#define READ_AHEAD_MAX 16
/* As many as may be ready, or some would be heard of a turn later. */
#define EVENTS_MAX 512

/* Links that take turns with those of other groups as if they were one. */
typedef struct Group {
    GQueue ready; /* of BusLink, borrowed: in the order in which they get their turn */
    GList turn;   /* in the source's turns, while any is ready */
    guint n_links;
} Group;

struct BusSource {
    GSource *source;          /* owned */
    DeadlineQueue *deadlines; /* borrowed */
    int epoll_fd;             /* owned */
    gpointer epoll_tag;
    GQueue touched;    /* of BusLink, borrowed: to be read again before the next poll */
    GQueue turns;      /* of Group, borrowed: the next one first */
    GHashTable *users; /* uid -> Group, owned: of links that belong to a user */
    BusLink *current;  /* borrowed: the one being handled; NULL once it is freed meanwhile */
    BusLink *watched;  /* borrowed */
    guint n_links;
    BusWork work;
    void *work_data;
    gboolean work_pending;
};

typedef struct Shell {
    GSource base;
    BusSource *owner;
} Shell;

struct BusLink {
    BusSource *source; /* borrowed */
    sd_bus *bus;       /* owned reference */
    gboolean watched;
    BusLinkLimits limits;
    BusInput input; /* ->pump is NULL where sd-bus reads by itself */
    BusShare share; /* ->hand_in is NULL where messages are handled as they come */
    BusLinkClosed closed;
    void *data;
    Group *group; /* its own, or its user's */
    Group alone;
    uid_t uid;     /* of the user, where it has one */
    GList touched; /* intrusive: data is the link itself */
    GList ready;
    gboolean is_touched;
    gboolean is_ready;
    gboolean started;  /* past its handshake: sd-bus keeps to one descriptor from here on */
    gboolean blocked;  /* too much on its way out: only writing goes on */
    gboolean writable; /* the last poll said so, or that the peer has hung up */
    gboolean readable; /* input: there may be something to bring */
    gboolean hungry;   /* input: sd-bus has read all that was brought */
    int broken;        /* negative errno: to be reported as closed */
    gboolean reported; /* done so */
    int fd;
    guint32 events;
    guint64 timeout_usec;
    Deadline *timeout;
    Deadline *stalled;
};

static void push_ready(BusLink *link)
{
    Group *group = link->group;

    if (link->is_ready)
        return;
    link->is_ready = TRUE;
    g_queue_push_tail_link(&group->ready, &link->ready);
    if (group->ready.length == 1)
        g_queue_push_tail_link(&link->source->turns, &group->turn);
}

static void drop_ready(BusLink *link)
{
    Group *group = link->group;

    if (!link->is_ready)
        return;
    link->is_ready = FALSE;
    g_queue_unlink(&group->ready, &link->ready);
    if (group->ready.length == 0)
        g_queue_unlink(&link->source->turns, &group->turn);
}

/* The next link to get its turn; its group is behind the others then. */
static BusLink *pop_ready(BusSource *source)
{
    Group *group = source->turns.head->data;
    BusLink *link = group->ready.head->data;

    drop_ready(link);
    if (group->ready.length > 0) {
        g_queue_unlink(&source->turns, &group->turn);
        g_queue_push_tail_link(&source->turns, &group->turn);
    }
    return link;
}

void bus_link_touch(BusLink *link)
{
    if (link->is_touched)
        return;
    link->is_touched = TRUE;
    g_queue_push_tail_link(&link->source->touched, &link->touched);
}

void bus_link_wake(BusLink *link)
{
    push_ready(link);
}

void bus_link_fail(BusLink *link, int error)
{
    g_assert(error < 0);
    if (link->broken)
        return;
    link->broken = error;
    push_ready(link);
}

static void timed_out(void *data)
{
    BusLink *link = data;

    link->timeout = NULL;
    push_ready(link);
}

static void stalled(void *data)
{
    BusLink *link = data;

    link->stalled = NULL;
    bus_link_fail(link, -ETIMEDOUT);
}

/* Returns: the epoll events of @events, as poll(2) knows them. */
static guint32 epoll_events(int events)
{
    return ((events & G_IO_IN) ? EPOLLIN : 0) | ((events & G_IO_OUT) ? EPOLLOUT : 0);
}

static int watch_fd(BusLink *link, int fd, guint32 events)
{
    struct epoll_event event = {.events = events, .data.ptr = link};

    if (fd == link->fd && events == link->events && link->started)
        return 0;
    if (fd != link->fd && link->fd >= 0)
        (void)epoll_ctl(link->source->epoll_fd, EPOLL_CTL_DEL, link->fd, NULL); /* may be closed */
    /* While it connects, sd-bus may close a descriptor and get another under the same number. */
    if ((link->fd == fd && epoll_ctl(link->source->epoll_fd, EPOLL_CTL_MOD, fd, &event) == 0) ||
        epoll_ctl(link->source->epoll_fd, EPOLL_CTL_ADD, fd, &event) == 0) {
        link->fd = fd;
        link->events = events;
        return 0;
    }
    link->fd = -1;
    return -errno;
}

static void watch_timeout(BusLink *link, guint64 timeout_usec)
{
    if (link->timeout_usec == timeout_usec && (link->timeout || timeout_usec == G_MAXUINT64))
        return;
    link->timeout_usec = timeout_usec;
    link->timeout = deadline_cancel(link->timeout);
    if (timeout_usec != G_MAXUINT64)
        link->timeout =
            deadline_add(link->source->deadlines, (gint64)MIN(timeout_usec, (guint64)G_MAXINT64),
                         timed_out, link);
}

/* Looks at the queue of messages on their way out. Returns: a negative errno beyond the limits. */
static int watch_queue(BusLink *link)
{
    guint64 queued = 0;
    int r = sd_bus_get_n_queued_write(link->bus, &queued);

    if (r < 0)
        return r;
    if (queued > link->limits.queued_max)
        return -ENOBUFS;
    link->blocked = queued > link->limits.pause_reading;
    if (queued == 0)
        link->stalled = deadline_cancel(link->stalled);
    else if (!link->stalled && link->limits.stalled_usec > 0)
        link->stalled =
            deadline_add(link->source->deadlines,
                         g_get_monotonic_time() + link->limits.stalled_usec, stalled, link);
    return 0;
}

/* Reads anew what the connection waits for. Returns: a negative errno when it has ended. */
static int refresh(BusLink *link)
{
    guint64 timeout_usec = G_MAXUINT64;
    int fd = link->input.pump ? link->input.fd : sd_bus_get_fd(link->bus);
    int events = sd_bus_get_events(link->bus);
    int r = sd_bus_get_timeout(link->bus, &timeout_usec);

    if (fd < 0 || events < 0 || r < 0)
        return fd < 0 ? fd : events < 0 ? events : r;
    r = watch_queue(link);
    if (r < 0)
        return r;
    if (link->blocked)
        events &= ~G_IO_IN;
    r = watch_fd(link, fd, epoll_events(events));
    if (r < 0)
        return r;
    if (!link->started)
        link->started = sd_bus_is_ready(link->bus) > 0;
    if (timeout_usec != 0)
        watch_timeout(link, timeout_usec);
    else if (!link->blocked) /* messages were read already and wait to be handled */
        push_ready(link);
    return 0;
}

static void refresh_touched(BusSource *source)
{
    GList *node = NULL;

    if (source->watched)
        bus_link_touch(source->watched);
    while ((node = g_queue_pop_head_link(&source->touched))) {
        BusLink *link = node->data;
        int r;

        link->is_touched = FALSE;
        if (link->broken)
            continue;
        r = refresh(link);
        if (r < 0)
            bus_link_fail(link, r);
    }
}

static gboolean has_work(const BusSource *source)
{
    return source->turns.length > 0 || source->work_pending;
}

static gboolean prepare(GSource *base, gint *timeout)
{
    BusSource *source = ((Shell *)base)->owner;

    *timeout = -1;
    refresh_touched(source);
    return has_work(source);
}

static gboolean check(GSource *base)
{
    BusSource *source = ((Shell *)base)->owner;

    return has_work(source) || g_source_query_unix_fd(base, source->epoll_tag) != 0;
}

static void take_events(BusSource *source)
{
    struct epoll_event events[EVENTS_MAX];
    int n = epoll_wait(source->epoll_fd, events, EVENTS_MAX, 0);

    for (int i = 0; i < n; i++) {
        BusLink *link = events[i].data.ptr;

        link->writable = (events[i].events & ~(guint32)EPOLLIN) != 0;
        if (link->input.pump && (events[i].events & ~(guint32)EPOLLOUT) != 0)
            link->readable = TRUE;
        push_ready(link);
    }
}

/* Brings what came, where sd-bus waits for it. Returns: whether there is any, or an errno. */
static int feed(BusLink *link)
{
    int r;

    if (!link->input.pump || !link->hungry || !link->readable || link->blocked)
        return 0;
    r = link->input.pump(link->input.data, &link->readable);
    if (r > 0)
        link->hungry = FALSE;
    return r;
}

/* Reads what has come and lets one caller have his turn. Returns: as sd_bus_process(3). */
static int share_out(BusSource *source, BusLink *link, sd_bus *bus)
{
    const BusShare *share = &link->share;
    gboolean any = FALSE;
    int r;

    for (guint i = 0; i < READ_AHEAD_MAX && share->read_on(share->data); i++) {
        r = sd_bus_process(bus, NULL);
        if (source->current != link || r < 0)
            return r;
        if (r == 0)
            break;
        any = TRUE;
    }
    r = share->hand_in(share->data);
    if (r <= 0)
        return r < 0 ? r : any;
    return sd_bus_process(bus, NULL);
}

/* Returns: whether there may be more to do, or a negative errno. The link may be gone after it. */
static int step(BusSource *source, BusLink *link)
{
    g_autoptr(sd_bus) bus = sd_bus_ref(link->bus);
    int r, fed;

    do {
        fed = feed(link);
        if (fed < 0)
            return fed;
        link->writable = FALSE;
        r = link->share.hand_in ? share_out(source, link, bus) : sd_bus_process(bus, NULL);
        if (source->current != link || r < 0)
            return r;
        if (r > 0) {
            r = watch_queue(link);
            return r < 0 ? r : 1;
        }
        link->hungry = TRUE;
    } while (!fed && link->readable && !link->blocked);
    return link->readable && !link->blocked;
}

/*
 * Gives @link its turn. @budget: messages left in this turn of the loop.
 * Returns: what is left of it.
 */
static guint handle(BusSource *source, BusLink *link, guint budget)
{
    guint left = MIN(budget, LINK_TURN_MAX);
    int r = link->broken;

    budget -= left;
    source->current = link;
    while (r >= 0 && left > 0 && (!link->blocked || link->writable)) {
        left--;
        r = step(source, link);
        if (source->current != link)
            return budget + left;
        if (r == 0)
            break;
    }
    source->current = NULL;
    if (r < 0) {
        if (!link->reported) {
            link->broken = r;
            link->reported = TRUE;
            link->closed(r, link->data);
        }
        /* Who goes costs nobody his turn, or those who come would pile up. */
        return budget + left + 1;
    }
    if (r > 0 && left == 0 && !link->blocked)
        push_ready(link);
    bus_link_touch(link);
    return budget + left;
}

static gboolean dispatch(GSource *base, GSourceFunc callback, gpointer data)
{
    BusSource *source = ((Shell *)base)->owner;
    guint budget = TURN_MAX;
    gint64 end_usec = g_get_monotonic_time() + TURN_USEC;

    if (g_source_query_unix_fd(base, source->epoll_tag) != 0)
        take_events(source);
    do {
        if (source->turns.length == 0)
            break;
        budget = handle(source, pop_ready(source), budget);
    } while (budget > 0 && g_get_monotonic_time() < end_usec);
    if (source->work)
        source->work_pending = source->work(source->work_data);
    return G_SOURCE_CONTINUE;
}

static GSourceFuncs source_funcs = {.prepare = prepare, .check = check, .dispatch = dispatch};

BusSource *bus_source_new(GMainContext *context, DeadlineQueue *deadlines, GError **error)
{
    BusSource *source = NULL;
    int fd = epoll_create1(EPOLL_CLOEXEC);

    if (fd < 0) {
        g_set_error(error, G_FILE_ERROR, g_file_error_from_errno(errno),
                    "Cannot make an epoll instance: %s", g_strerror(errno));
        return NULL;
    }
    source = g_new0(BusSource, 1);
    source->epoll_fd = fd;
    source->users = g_hash_table_new_full(NULL, NULL, NULL, g_free);
    source->deadlines = deadlines;
    source->source = g_source_new(&source_funcs, sizeof(Shell));
    ((Shell *)source->source)->owner = source;
    g_source_set_static_name(source->source, "bus");
    source->epoll_tag = g_source_add_unix_fd(source->source, fd, G_IO_IN);
    g_source_attach(source->source, context);
    return source;
}

BusSource *bus_source_free(BusSource *source)
{
    if (!source)
        return NULL;
    g_assert(source->n_links == 0);
    g_source_destroy(source->source);
    g_source_unref(source->source);
    source->epoll_fd = fd_close(source->epoll_fd);
    g_hash_table_unref(source->users);
    g_free(source);
    return NULL;
}

void bus_source_set_work(BusSource *source, BusWork work, void *data)
{
    source->work = work;
    source->work_data = data;
}

void bus_source_wake(BusSource *source)
{
    source->work_pending = TRUE;
}

BusLink *bus_link_new(BusSource *source, sd_bus *bus, gboolean watched, const BusLinkLimits *limits,
                      const BusInput *input, BusLinkClosed closed, void *data)
{
    BusLink *link = g_new0(BusLink, 1);

    g_assert(!watched || !source->watched);
    link->source = source;
    link->bus = sd_bus_ref(bus);
    link->watched = watched;
    link->limits = *limits;
    if (input)
        link->input = *input;
    link->hungry = TRUE;
    link->closed = closed;
    link->data = data;
    link->touched.data = link;
    link->ready.data = link;
    link->alone.turn.data = &link->alone;
    link->group = &link->alone;
    link->fd = -1;
    link->timeout_usec = G_MAXUINT64;
    source->n_links++;
    if (watched)
        source->watched = link;
    bus_link_touch(link);
    return link;
}

void bus_link_set_share(BusLink *link, const BusShare *share)
{
    g_assert(!link->input.pump);
    link->share = *share;
}

void bus_link_set_user(BusLink *link, uid_t uid)
{
    GHashTable *users = link->source->users;
    Group *group = g_hash_table_lookup(users, GUINT_TO_POINTER(uid));

    g_assert(!link->is_ready && link->group == &link->alone);
    if (!group) {
        group = g_new0(Group, 1);
        group->turn.data = group;
        g_hash_table_insert(users, GUINT_TO_POINTER(uid), group);
    }
    group->n_links++;
    link->group = group;
    link->uid = uid;
}

static void leave_group(BusLink *link)
{
    drop_ready(link);
    if (link->group != &link->alone && --link->group->n_links == 0)
        g_hash_table_remove(link->source->users, GUINT_TO_POINTER(link->uid));
    link->group = NULL;
}

BusLink *bus_link_free(BusLink *link)
{
    BusSource *source = NULL;

    if (!link)
        return NULL;
    source = link->source;
    if (link->is_touched)
        g_queue_unlink(&source->touched, &link->touched);
    leave_group(link);
    if (source->current == link)
        source->current = NULL;
    if (source->watched == link)
        source->watched = NULL;
    if (link->fd >= 0)
        (void)epoll_ctl(source->epoll_fd, EPOLL_CTL_DEL, link->fd, NULL); /* may be closed */
    link->timeout = deadline_cancel(link->timeout);
    link->stalled = deadline_cancel(link->stalled);
    source->n_links--;
    sd_bus_unref(link->bus);
    g_free(link);
    return NULL;
}
