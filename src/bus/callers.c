/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "bus/callers.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/ioctl.h>

#include "bus/errors.h"
#include "bus/message-bytes.h"
#include "bus/pace.h"
#include "bus/sd-bus-auto.h"
#include "recovery/events.h"

/* Names kept although nothing would be lost by forgetting them. */
#define CACHED_MAX 256
/* How many are looked at to find one that can be forgotten. */
#define EVICT_TRIES 8
/* Names kept at all: far above what a broker lets connect. */
#define CALLERS_MAX 16384
/* Matches of single names; a broker allows 512 a connection (dbus-daemon(1),
 * max_match_rules_per_connection). With more callers every departure on the bus is listened to. */
#define MATCHES_MAX 384
/* Messages that stand by, of one user (of one name while it is not known whose it is): so many
 * times limits.pending_requests_per_connection; and of all. */
#define PARKED_FACTOR 32
#define PARKED_ALL_MAX 16384
/* Their bytes. */
#define PARKED_BYTES_MAX ((size_t)4 * 1024 * 1024)
#define PARKED_BYTES_ALL_MAX ((size_t)64 * 1024 * 1024)
/* With so many at hand no more are read; the rest waits with the broker. */
#define AT_HAND_MAX 12288
#define AT_HAND_BYTES_MAX ((size_t)48 * 1024 * 1024)
/*
 * A dbus-daemon that is stopped says of every client that it left, and hangs up on us after that.
 * So a departure counts when the broker has brought another call since, or after this time.
 */
#define DEPARTURE_USEC (100 * G_TIME_SPAN_MILLISECOND)
/*
 * Others that follow put it off, and no longer than this: somebody could go on leaving. All that a
 * broker says at its end takes it some milliseconds.
 */
#define DEPARTURE_MAX_USEC (2 * G_TIME_SPAN_SECOND)

#define DEPARTURES                                                              \
    "type='signal',sender='org.freedesktop.DBus',path='/org/freedesktop/DBus'," \
    "interface='org.freedesktop.DBus',member='NameOwnerChanged'"

typedef struct Parked {
    sd_bus_message *message; /* owned */
    size_t bytes;
} Parked;

/* Somebody with messages that may be handled. */
typedef struct User {
    uid_t uid;
    GQueue entries; /* of Entry, borrowed: the next one first */
    guint n_parked;
    size_t bytes;
    GList turn;
} User;

typedef struct Entry {
    Callers *callers; /* borrowed */
    char *name;       /* owned: the unique name, and the key */
    gboolean known;   /* ->caller is filled in */
    Caller caller;
    sd_bus_slot *match; /* owned; NULL: the match of all departures covers it */
    sd_bus_slot *query; /* owned: the question about it, while it is asked */
    GQueue parked;      /* of Parked, owned: stand by */
    size_t bytes;       /* theirs */
    User *user;         /* borrowed: he waits for his turn; NULL = nothing does */
    GList turn;
    gboolean departed; /* what he sent before is handled still */
    GList departing;   /* in ->departing, once that is done; ->data is NULL when it is not */
    GList recent;
} Entry;

struct Callers {
    Connection *connection;      /* borrowed */
    GHashTable *entries;         /* name -> Entry, owned */
    GQueue recent;               /* of Entry: the last heard first */
    sd_bus_slot *departures;     /* owned: the match of all departures, NULL until it is needed */
    gboolean departures_refused; /* the last match asked for was refused */
    guint n_matches;
    GHashTable *users;       /* uid -> User, owned */
    GQueue turns;            /* of User: the next one first */
    sd_bus_message *granted; /* owned: it was handed in and has not come yet */
    Entry *ending;           /* borrowed: departed, and its last message has been handled */
    GQueue departing;        /* of Entry, borrowed: not known yet whether they are gone or lost */
    Deadline *departure;     /* owned: of the last one of those */
    gint64 departing_usec;   /* CLOCK_MONOTONIC: since when there are any */
    gboolean served;         /* a message had its turn without having stood by */
    Pace pace;
    Deadline *pause;  /* until somebody is served again; NULL = nobody is held back */
    gboolean hurried; /* nobody is */
    guint n_parked;
    size_t parked_bytes;
    gboolean leaving; /* who goes now is lost, and did not go by himself */
};

/* ---- turns ---- */

static void join_turns(Entry *entry)
{
    Callers *callers = entry->callers;
    gpointer key = GUINT_TO_POINTER(entry->caller.uid);
    User *user = g_hash_table_lookup(callers->users, key);

    if (!user) {
        user = g_new0(User, 1);
        user->uid = entry->caller.uid;
        user->turn.data = user;
        g_hash_table_insert(callers->users, key, user);
        g_queue_push_tail_link(&callers->turns, &user->turn);
    }
    entry->user = user;
    entry->turn.data = entry;
    g_queue_push_tail_link(&user->entries, &entry->turn);
    user->n_parked += entry->parked.length;
    user->bytes += entry->bytes;
}

static void leave_turns(Entry *entry)
{
    Callers *callers = entry->callers;
    User *user = g_steal_pointer(&entry->user);

    if (!user)
        return;
    g_queue_unlink(&user->entries, &entry->turn);
    user->n_parked -= entry->parked.length;
    user->bytes -= entry->bytes;
    if (user->entries.length > 0)
        return;
    g_queue_unlink(&callers->turns, &user->turn);
    g_hash_table_remove(callers->users, GUINT_TO_POINTER(user->uid));
}

/* The first message of @entry. (transfer full) */
static sd_bus_message *unpark(Entry *entry)
{
    Parked *parked = g_queue_pop_head(&entry->parked);
    sd_bus_message *m = parked->message;

    entry->bytes -= parked->bytes;
    entry->callers->n_parked--;
    entry->callers->parked_bytes -= parked->bytes;
    if (entry->user) {
        entry->user->n_parked--;
        entry->user->bytes -= parked->bytes;
    }
    g_free(parked);
    return m;
}

static void drop_parked(Entry *entry)
{
    leave_turns(entry);
    while (entry->parked.length > 0)
        sd_bus_message_unref(unpark(entry));
}

/* Puts @entry, and its user, behind the others. */
static void rotate(Entry *entry)
{
    Callers *callers = entry->callers;
    User *user = entry->user;

    g_queue_unlink(&callers->turns, &user->turn);
    g_queue_push_tail_link(&callers->turns, &user->turn);
    if (entry->parked.length == 0) {
        leave_turns(entry);
        return;
    }
    g_queue_unlink(&user->entries, &entry->turn);
    g_queue_push_tail_link(&user->entries, &entry->turn);
}

/* ---- entries ---- */

static void entry_free(Entry *entry)
{
    Callers *callers = entry->callers;

    if (callers->connection->current == &entry->caller)
        callers->connection->current = NULL;
    if (callers->ending == entry)
        callers->ending = NULL;
    drop_parked(entry); /* the user's turns need his uid */
    if (entry->known && callers->leaving)
        caller_lost(&entry->caller);
    else if (entry->known)
        caller_gone(&entry->caller);
    if (entry->match) {
        callers->n_matches--;
        sd_bus_slot_unref(entry->match); /* takes the match back */
    }
    sd_bus_slot_unref(entry->query);
    g_queue_unlink(&callers->recent, &entry->recent);
    if (entry->departing.data)
        g_queue_unlink(&callers->departing, &entry->departing);
    g_free(entry->name);
    g_free(entry);
}

static void entry_drop(Entry *entry)
{
    g_hash_table_remove(entry->callers->entries, entry->name);
}

/* Answers what stands by with an error and forgets the name. */
static void entry_refuse(Entry *entry, Outcome outcome, const char *why)
{
    for (GList *node = entry->parked.head; node; node = node->next) {
        g_auto(sd_bus_error) error = SD_BUS_ERROR_NULL;

        (void)bus_error_set(&error, outcome, "it cannot be found out who is asking: %s", why);
        (void)sd_bus_reply_method_error(((Parked *)node->data)->message,
                                        &error); /* he may have gone */
    }
    entry_drop(entry);
}

/* ---- departures ---- */

static void settle_departures(Callers *callers)
{
    callers->departure = deadline_cancel(callers->departure);
    while (callers->departing.head)
        entry_drop(callers->departing.head->data);
}

static void on_departures_settled(void *data)
{
    Callers *callers = data;

    callers->departure = NULL; /* gone already */
    settle_departures(callers);
}

/* The name of @entry has left the bus, and all that it sent has been handled. */
static void depart(Entry *entry)
{
    Callers *callers = entry->callers;
    gint64 now_usec = g_get_monotonic_time();

    if (entry->known)
        caller_stops_waiting(&entry->caller);
    if (!entry->known || !caller_is_needed(&entry->caller)) {
        entry_drop(entry);
        return;
    }
    if (callers->departing.length == 0)
        callers->departing_usec = now_usec;
    entry->departing.data = entry;
    g_queue_push_tail_link(&callers->departing, &entry->departing);
    callers->departure = deadline_cancel(callers->departure);
    callers->departure =
        deadline_add(callers->connection->context->deadlines,
                     MIN(now_usec + DEPARTURE_USEC, callers->departing_usec + DEPARTURE_MAX_USEC),
                     on_departures_settled, callers);
}

static int on_departure(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
    Callers *callers = userdata;
    const char *name = NULL, *new_owner = NULL;
    Entry *entry = NULL;

    if (sd_bus_message_read(m, "sss", &name, NULL, &new_owner) < 0 || new_owner[0] != '\0')
        return 0;
    entry = g_hash_table_lookup(callers->entries, name);
    if (entry && entry->user)
        entry->departed = TRUE; /* what he sent came before */
    else if (entry && !entry->departing.data)
        depart(entry);
    return 0;
}

static int on_match_installed(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
    /* The slot's userdata is the Callers; the entry is found when its credentials come, which is
     * after this, because the broker answers in order. */
    Callers *callers = userdata;

    if (sd_bus_message_is_method_error(m, NULL))
        callers->departures_refused = TRUE;
    return 0;
}

/* Returns: a negative errno, or >= 0 when the departure of @entry will be noticed. */
static int watch(Entry *entry)
{
    Callers *callers = entry->callers;
    g_autofree char *rule = NULL;
    int r;

    if (callers->n_matches >= MATCHES_MAX) {
        if (callers->departures)
            return 0;
        return sd_bus_add_match_async(callers->connection->bus, &callers->departures,
                                      DEPARTURES ",arg2=''", on_departure, on_match_installed,
                                      callers);
    }
    rule = g_strdup_printf(DEPARTURES ",arg0='%s'", entry->name);
    r = sd_bus_add_match_async(callers->connection->bus, &entry->match, rule, on_departure,
                               on_match_installed, callers);
    if (r >= 0)
        callers->n_matches++;
    return r;
}

/* ---- identity ---- */

typedef struct Credentials {
    gboolean has_uid;
    guint32 uid;
    guint32 pid;
    int pidfd; /* borrowed from the message */
} Credentials;

static int read_credential(sd_bus_message *m, Credentials *credentials)
{
    const char *key = NULL;
    int r = sd_bus_message_read_basic(m, SD_BUS_TYPE_STRING, &key);

    if (r < 0)
        return r;
    if (g_str_equal(key, "UnixUserID")) {
        credentials->has_uid = TRUE;
        return sd_bus_message_read(m, "v", "u", &credentials->uid);
    }
    if (g_str_equal(key, "ProcessID"))
        return sd_bus_message_read(m, "v", "u", &credentials->pid);
    if (g_str_equal(key, "ProcessFD"))
        return sd_bus_message_read(m, "v", "h", &credentials->pidfd);
    return sd_bus_message_skip(m, "v");
}

static int read_credentials(sd_bus_message *m, Credentials *ret_credentials)
{
    Credentials credentials = {.pidfd = -1};
    int r = sd_bus_message_enter_container(m, SD_BUS_TYPE_ARRAY, "{sv}");

    while (r >= 0 && (r = sd_bus_message_enter_container(m, SD_BUS_TYPE_DICT_ENTRY, "sv")) > 0) {
        r = read_credential(m, &credentials);
        if (r >= 0)
            r = sd_bus_message_exit_container(m);
    }
    if (r < 0)
        return r;
    if (!credentials.has_uid)
        return -ENODATA;
    *ret_credentials = credentials;
    return 0;
}

static int on_credentials(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
    Entry *entry = userdata;
    Callers *callers = entry->callers;
    Credentials credentials;
    int r;

    entry->query = sd_bus_slot_unref(entry->query);
    if (sd_bus_message_is_method_error(m, NULL)) {
        entry_refuse(entry, OUTCOME_NOT_AUTHORIZED, sd_bus_message_get_error(m)->message);
        return 1;
    }
    r = read_credentials(m, &credentials);
    if (r < 0) {
        entry_refuse(entry, OUTCOME_NOT_AUTHORIZED, g_strerror(-r));
        return 1;
    }
    if (callers->departures_refused) {
        callers->departures_refused = FALSE;
        if (!entry->match) /* to be tried anew by the next one */
            callers->departures = sd_bus_slot_unref(callers->departures);
        event_caller_not_served(entry->name);
        entry_refuse(entry, OUTCOME_BUSY, "the bus is at its limit of matches");
        return 1;
    }
    caller_init(&entry->caller, callers->connection, entry->name, credentials.uid,
                (pid_t)credentials.pid,
                credentials.pidfd < 0 ? -1 : fcntl(credentials.pidfd, F_DUPFD_CLOEXEC, 3));
    entry->known = TRUE;
    if (entry->parked.length > 0)
        join_turns(entry);
    return 1;
}

static int ask(Entry *entry)
{
    int r = watch(entry); /* first, so that no departure falls between */

    if (r < 0)
        return r;
    return sd_bus_call_method_async(entry->callers->connection->bus, &entry->query,
                                    "org.freedesktop.DBus", "/org/freedesktop/DBus",
                                    "org.freedesktop.DBus", "GetConnectionCredentials",
                                    on_credentials, entry, "s", entry->name);
}

/* ---- the book ---- */

static gboolean can_be_forgotten(const Entry *entry)
{
    return entry->known && entry->parked.length == 0 && !caller_is_needed(&entry->caller);
}

static void touch(Entry *entry)
{
    g_queue_unlink(&entry->callers->recent, &entry->recent);
    g_queue_push_head_link(&entry->callers->recent, &entry->recent);
}

static void make_room(Callers *callers)
{
    for (guint i = 0; i < EVICT_TRIES && callers->recent.length > CACHED_MAX; i++) {
        Entry *oldest = callers->recent.tail->data;

        if (can_be_forgotten(oldest))
            entry_drop(oldest);
        else
            touch(oldest);
    }
}

static int check_room(const Entry *entry, size_t bytes, sd_bus_error *error)
{
    const Callers *callers = entry->callers;
    guint limit = manager_configuration(callers->connection->context->manager)
                      ->limit_pending_requests_per_connection;
    guint n = entry->user ? entry->user->n_parked : entry->parked.length;
    size_t kept = entry->user ? entry->user->bytes : entry->bytes;

    if (!entry->user && entry->known) { /* another connection of his may have some */
        const User *user = g_hash_table_lookup(callers->users, GUINT_TO_POINTER(entry->caller.uid));

        n = user ? user->n_parked : 0;
        kept = user ? user->bytes : 0;
    }
    if (n >= (guint64)PARKED_FACTOR * limit)
        return bus_error_set(error, OUTCOME_QUOTA_EXCEEDED,
                             "%u calls wait for their turn already, %d times "
                             "limits.pending_requests_per_connection: wait for answers",
                             n, PARKED_FACTOR);
    if (kept + bytes > PARKED_BYTES_MAX)
        return bus_error_set(error, OUTCOME_QUOTA_EXCEEDED,
                             "the calls that wait for their turn are longer than %zu bytes "
                             "together: send less at a time",
                             PARKED_BYTES_MAX);
    if (callers->n_parked >= PARKED_ALL_MAX || callers->parked_bytes + bytes > PARKED_BYTES_ALL_MAX)
        return bus_error_set(error, OUTCOME_BUSY, "too many calls wait for their turn");
    return 0;
}

static int park(Entry *entry, sd_bus_message *m, sd_bus_error *error)
{
    Parked *parked = NULL;
    size_t bytes = 0;
    int r = message_bytes(m, PARKED_BYTES_MAX, &bytes);

    if (r == -E2BIG)
        return bus_error_set(error, OUTCOME_INVALID_ARGUMENT, "a call has %d values at most",
                             MESSAGE_VALUES_MAX);
    if (r < 0)
        return bus_error_set(error, OUTCOME_INVALID_ARGUMENT, "the arguments cannot be read: %s",
                             g_strerror(-r));
    r = check_room(entry, bytes, error);
    if (r < 0)
        return r;
    parked = g_new(Parked, 1);
    *parked = (Parked){.message = sd_bus_message_ref(m), .bytes = bytes};
    g_queue_push_tail(&entry->parked, parked);
    entry->bytes += bytes;
    entry->callers->n_parked++;
    entry->callers->parked_bytes += bytes;
    if (entry->user) {
        entry->user->n_parked++;
        entry->user->bytes += bytes;
    } else if (entry->known) {
        join_turns(entry);
    }
    return 0;
}

static int admit_new(Callers *callers, const char *name, sd_bus_message *m, sd_bus_error *error)
{
    Entry *entry = NULL;
    int r;

    make_room(callers);
    if (callers->recent.length >= CALLERS_MAX)
        return bus_error_set(error, OUTCOME_BUSY, "too many callers at a time");
    entry = g_new0(Entry, 1);
    entry->callers = callers;
    entry->name = g_strdup(name);
    entry->recent.data = entry;
    g_queue_push_head_link(&callers->recent, &entry->recent);
    g_hash_table_insert(callers->entries, entry->name, entry);
    r = park(entry, m, error);
    if (r >= 0 && (r = ask(entry)) < 0)
        (void)bus_error_set(error, OUTCOME_BUSY, "it cannot be found out who is asking: %s",
                            g_strerror(-r));
    if (r < 0)
        entry_drop(entry);
    return r < 0 ? r : 0;
}

/* Whether more has come. sd-bus reads message by message, so the rest is with the kernel. */
static gboolean more_has_come(const Callers *callers)
{
    int fd = sd_bus_get_fd(callers->connection->bus);
    int bytes = 0;

    return fd >= 0 && ioctl(fd, FIONREAD, &bytes) == 0 && bytes > 0;
}

int callers_admit(Callers *callers, sd_bus_message *m, gboolean anonymous, Caller **ret_caller,
                  sd_bus_error *error)
{
    const char *name = sd_bus_message_get_sender(m);
    Entry *entry = NULL;
    gboolean granted = m == callers->granted;
    gboolean alone = FALSE;

    if (granted) {
        callers->granted = sd_bus_message_unref(callers->granted);
    } else {
        settle_departures(callers); /* a broker that stops brings no calls */
        alone = callers->turns.length == 0 && !more_has_come(callers);
    }
    if (name)
        entry = g_hash_table_lookup(callers->entries, name);
    if (!name) /* no broker lets such a message through */
        return bus_error_set(error, OUTCOME_NOT_AUTHORIZED, "the message has no sender");
    if (!entry && anonymous && alone)
        return 1;
    if (!entry)
        return admit_new(callers, name, m, error);
    if (!granted && (!alone || !entry->known))
        return park(entry, m, error);
    if (!granted) {
        callers->served = TRUE;
        pace_served(&callers->pace, entry->caller.uid, 1, g_get_monotonic_time());
    }
    if (granted && entry->departed && entry->parked.length == 0)
        callers->ending = entry;
    touch(entry);
    if (!anonymous)
        *ret_caller = &entry->caller;
    return 1;
}

static gboolean can_read_on(const Callers *callers)
{
    return callers->n_parked < AT_HAND_MAX && callers->parked_bytes < AT_HAND_BYTES_MAX;
}

gboolean callers_read_on(Callers *callers)
{
    if (callers->ending)
        depart(g_steal_pointer(&callers->ending));
    if (callers->served || callers->granted)
        return FALSE;
    return callers->turns.length == 0 || can_read_on(callers);
}

static void on_pause_over(void *data)
{
    Callers *callers = data;

    callers->pause = NULL;
    bus_link_wake(callers->connection->link);
}

/* Nobody is held back where leases wait for the end of it, or where nothing more could be read. */
static gint64 due_of(const Callers *callers, const User *user, gint64 now_usec)
{
    const Entry *first = user->entries.head->data;

    if (callers->hurried || !can_read_on(callers) ||
        (first->departed && caller_has_leases(&first->caller)))
        return now_usec;
    return pace_due(&callers->pace, user->uid, user->n_parked, now_usec);
}

/* The next user who may be served now (nullable). */
static User *next_user(Callers *callers)
{
    gint64 now_usec = g_get_monotonic_time(), due_usec = G_MAXINT64;

    for (const GList *turn = callers->turns.head; turn; turn = turn->next) {
        User *user = turn->data;
        gint64 user_due_usec = due_of(callers, user, now_usec);

        if (user_due_usec <= now_usec) {
            pace_served(&callers->pace, user->uid, user->n_parked, now_usec);
            return user;
        }
        due_usec = MIN(due_usec, user_due_usec);
    }
    if (!callers->pause && callers->turns.head)
        callers->pause =
            deadline_add(callers->connection->context->deadlines, due_usec, on_pause_over, callers);
    return NULL;
}

int callers_hand_in(Callers *callers)
{
    const User *user = NULL;
    Entry *entry = NULL;
    int r;

    if (callers->served || callers->granted) {
        callers->served = FALSE;
        return callers->granted != NULL;
    }
    user = next_user(callers);
    if (!user)
        return 0;
    entry = user->entries.head->data;
    callers->granted = unpark(entry);
    rotate(entry);
    r = sd_bus_enqueue_for_read(callers->connection->bus, callers->granted);
    return r < 0 ? r : 1;
}

void callers_hurry(Callers *callers)
{
    callers->hurried = TRUE;
    bus_link_wake(callers->connection->link);
}

guint callers_waiting(const Callers *callers)
{
    return callers->n_parked;
}

Callers *callers_new(Connection *connection)
{
    Callers *callers = g_new0(Callers, 1);

    callers->connection = connection;
    callers->users = g_hash_table_new_full(NULL, NULL, NULL, g_free);
    callers->entries =
        g_hash_table_new_full(g_str_hash, g_str_equal, NULL, (GDestroyNotify)entry_free);
    return callers;
}

Callers *callers_free(Callers *callers)
{
    if (!callers)
        return NULL;
    callers->leaving = TRUE;
    callers->departure = deadline_cancel(callers->departure);
    callers->pause = deadline_cancel(callers->pause);
    g_hash_table_unref(callers->entries);
    g_hash_table_unref(callers->users);
    sd_bus_message_unref(callers->granted);
    sd_bus_slot_unref(callers->departures);
    g_free(callers);
    return NULL;
}
