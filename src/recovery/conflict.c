/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Layer 1: a port that turns out to be taken costs the caller nothing.
 *
 * Within a round every candidate that the kernel refuses is a conflict: remembered, put on
 * cooldown, and the next one is tried at once. A round that finds nothing is followed by a pause on
 * a timer that grows, and another round, a bounded number of times. What is told about conflicts
 * (log, signal, who holds the port) comes a moment after the answer, from one picture of the socket
 * table. A caller can have a conflict for every port that he listens on, as often as he likes: so
 * all are counted, but only so many are told, and only so much time goes into who holds them.
 */
#include "recovery/job.h"

#include <errno.h>
#include <sys/socket.h>
#include <time.h>

#include "probe/bind-probe.h"
#include "recovery/events.h"
#include "recovery/metrics.h"
#include "recovery/ration.h"
#include "recovery/searches.h"
#include "util/fd.h"

/* Ports asked for at once, before the search takes its turns with the others'; and in each turn. */
#define PROBES_AT_ONCE 16
#define PROBES_PER_STEP 8
#define BACKOFF_MAX_MSEC 60000
/* Ports named in the message of a refusal; the caller has all of them in the details. */
#define PORTS_IN_MESSAGE 10
/* How long conflicts of what was granted wait before they are told. The answer is on its way
 * meanwhile, and neither the broker nor the caller has to share the processors with us. */
#define TELLING_USEC G_TIME_SPAN_MILLISECOND
/* With so many it is not waited. */
#define UNTOLD_MAX 1024
/* Told in a second, so that those who listen can read it all. */
#define TELLINGS_OF_USER 512
#define TELLINGS_OF_ALL 1024
/* Told of one request at a time: more than that are not told in a second in any case. */
#define UNTOLD_PER_JOB TELLINGS_OF_USER
/* Time for looks at who holds a port in a second: one look takes milliseconds where tens of
 * thousands of sockets are open. */
#define LOOKS_OF_USER_USEC (20 * G_TIME_SPAN_MILLISECOND)
#define LOOKS_OF_ALL_USEC (60 * G_TIME_SPAN_MILLISECOND)
/* A look that is not dearer than other calls is free. */
#define LOOK_FREE_USEC G_TIME_SPAN_MILLISECOND

/* ---- telling -------------------------------------------------------------------------------- */

static PortRange range_of(const GArray *conflicts)
{
    PortRange range = {G_MAXUINT16, 1};

    for (guint i = 0; i < conflicts->len; i++) {
        guint16 port = g_array_index(conflicts, ConflictInfo, i).port;

        range.first = MIN(range.first, port);
        range.last = MAX(range.last, port);
    }
    return range;
}

static const SocketEntry *find_holder(const SocketTable *table, guint16 port, Protocol protocol)
{
    return table ? socket_table_find(table, port, protocol) : NULL;
}

/*
 * One picture for all conflicts, and a deeper one where it does not show everybody. Who holds a
 * port is a courtesy: without an answer the conflict is told all the same.
 */
static SocketTable *picture_of(const GArray *conflicts)
{
    PortRange range = range_of(conflicts);
    g_autoptr(SocketTable) table =
        socket_table_dump_deep(range, PROTOCOL_BOTH, SOCKET_DEPTH_LISTENING, NULL);

    for (guint i = 0; i < conflicts->len; i++) {
        const ConflictInfo *conflict = &g_array_index(conflicts, ConflictInfo, i);

        if (!find_holder(table, conflict->port, conflict->protocol))
            return socket_table_dump_deep(range, PROTOCOL_BOTH, SOCKET_DEPTH_BOUND, NULL);
    }
    return g_steal_pointer(&table);
}

/* Of the processor: what others take from us meanwhile is not the user's. */
static gint64 processor_usec(void)
{
    struct timespec now = {0};

    (void)clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (gint64)now.tv_sec * G_USEC_PER_SEC + now.tv_nsec / 1000;
}

static gboolean may_look(Manager *manager, uid_t uid)
{
    return ration_left(manager->looks, uid, g_get_monotonic_time()) > 0;
}

static void have_looked(Manager *manager, uid_t uid, gint64 start_usec)
{
    gint64 used_usec = processor_usec() - start_usec;

    if (used_usec > LOOK_FREE_USEC)
        ration_use(manager->looks, uid, (guint64)used_usec, g_get_monotonic_time());
}

/* Returns: NULL where @uid has looked enough for now, too. */
static SocketTable *look_at(Manager *manager, const GArray *conflicts, uid_t uid)
{
    gint64 start_usec = processor_usec();
    SocketTable *table = NULL;

    if (!may_look(manager, uid))
        return NULL;
    table = picture_of(conflicts);
    have_looked(manager, uid, start_usec);
    return table;
}

/* Who wanted one of the ports and may look; else just one of them. */
static uid_t find_looker(Manager *manager, const GArray *untold)
{
    for (guint i = 0; i < untold->len; i++) {
        uid_t uid = g_array_index(untold, ConflictInfo, i).wanted;

        if (may_look(manager, uid))
            return uid;
    }
    return g_array_index(untold, ConflictInfo, 0).wanted;
}

static void tell(Manager *manager, GArray *untold)
{
    g_autoptr(SocketTable) table = NULL;

    if (untold->len == 0)
        return;
    table = look_at(manager, untold, find_looker(manager, untold));
    for (guint i = 0; i < untold->len; i++) {
        ConflictInfo info = g_array_index(untold, ConflictInfo, i);
        const SocketEntry *holder = find_holder(table, info.port, info.protocol);
        g_autofree char *address = holder ? socket_entry_address(holder) : NULL;
        g_autofree char *unit = holder ? socket_entry_unit(holder, NULL) : NULL;

        info.address = address;
        info.unit = unit;
        info.has_uid = holder != NULL;
        info.uid = holder ? holder->uid : 0;
        event_conflict(&info);
        MANAGER_TELL(manager, conflict, &info);
    }
    g_array_set_size(untold, 0);
}

/* Leaves in the job what may be told of it now. */
static void take_ration(ManagerJob *job)
{
    Ration *tellings = job->manager->tellings;
    gint64 now_usec = g_get_monotonic_time();
    uid_t uid = job->request.uid;
    guint n = (guint)MIN(job->untold->len, ration_left(tellings, uid, now_usec));
    guint more = job->untold_more + job->untold->len - n;

    if (n > 0)
        ration_use(tellings, uid, n, now_usec);
    g_array_set_size(job->untold, n);
    job->untold_more = 0;
    if (more > 0)
        event_conflicts_not_told(more);
}

void job_tell_conflicts(ManagerJob *job)
{
    take_ration(job);
    tell(job->manager, job->untold);
}

static void note_conflict(ManagerJob *job, guint16 port, int code)
{
    ConflictInfo conflict = {.port = port,
                             .protocol = reservation_protocol(job->reservation),
                             .service_type = job->request.service_type,
                             .error = code,
                             .wanted = job->request.uid};

    metrics_count(METRIC_CONFLICTS);
    if (job->untold->len < UNTOLD_PER_JOB)
        g_array_append_val(job->untold, conflict);
    else
        job->untold_more++;
}

static void clear_untold(void *data)
{
    g_free((char *)((ConflictInfo *)data)->service_type);
}

void conflicts_init(Manager *manager)
{
    manager->untold = g_array_new(FALSE, FALSE, sizeof(ConflictInfo));
    g_array_set_clear_func(manager->untold, clear_untold);
    manager->tellings = ration_new(TELLINGS_OF_USER, TELLINGS_OF_ALL);
    manager->looks = ration_new(LOOKS_OF_USER_USEC, LOOKS_OF_ALL_USEC);
}

void conflicts_deinit(Manager *manager)
{
    conflicts_tell(manager);
    g_clear_pointer(&manager->untold, g_array_unref);
    manager->tellings = ration_free(manager->tellings);
    manager->looks = ration_free(manager->looks);
}

void conflicts_tell(Manager *manager)
{
    manager->telling = deadline_cancel(manager->telling);
    tell(manager, manager->untold);
}

static void on_telling(void *data)
{
    Manager *manager = data;

    manager->telling = NULL; /* gone already */
    conflicts_tell(manager);
}

void job_leave_conflicts(ManagerJob *job)
{
    Manager *manager = job->manager;

    take_ration(job);
    for (guint i = 0; i < job->untold->len; i++) {
        ConflictInfo info = g_array_index(job->untold, ConflictInfo, i);

        info.service_type = g_strdup(info.service_type);
        g_array_append_val(manager->untold, info);
    }
    g_array_set_size(job->untold, 0);
    if (manager->untold->len >= UNTOLD_MAX)
        conflicts_tell(manager);
    else if (manager->untold->len > 0 && !manager->telling)
        manager->telling = deadline_add(manager->deadlines, g_get_monotonic_time() + TELLING_USEC,
                                        on_telling, manager);
}

/* ---- the end without a port -------------------------------------------------------------------
 */

/* "3000 (uid 33, unit nginx.service), 3001 (…) and 7 more" */
static char *name_holders(const ManagerJob *job)
{
    const GArray *ports = reservation_conflicts(job->reservation);
    Protocol protocol = reservation_protocol(job->reservation);
    g_autoptr(GArray) conflicts = g_array_new(FALSE, TRUE, sizeof(ConflictInfo));
    g_autoptr(SocketTable) table = NULL;
    GString *text = g_string_new(NULL);

    for (guint i = 0; i < ports->len && i < PORTS_IN_MESSAGE; i++) {
        ConflictInfo conflict = {.port = g_array_index(ports, guint16, i), .protocol = protocol};

        g_array_append_val(conflicts, conflict);
    }
    if (conflicts->len > 0)
        table = look_at(job->manager, conflicts, job->request.uid);
    for (guint i = 0; i < conflicts->len; i++) {
        guint16 port = g_array_index(ports, guint16, i);
        const SocketEntry *holder = find_holder(table, port, protocol);
        g_autofree char *unit = holder ? socket_entry_unit(holder, NULL) : NULL;

        g_string_append_printf(text, "%s%u", i > 0 ? ", " : "", port);
        if (holder)
            g_string_append_printf(text, " (uid %u%s%s)", holder->uid, unit ? ", unit " : "",
                                   unit ? unit : "");
    }
    if (ports->len > PORTS_IN_MESSAGE)
        g_string_append_printf(text, " and %u more", ports->len - PORTS_IN_MESSAGE);
    return g_string_free(text, FALSE);
}

static char *describe_holder(const ManagerJob *job, guint16 port)
{
    Protocol protocol = reservation_protocol(job->reservation);
    const Lease *lease = registry_find_port(job->manager->registry, port, protocol);
    gint64 start_usec = processor_usec();
    gboolean looked = FALSE;
    gboolean found = FALSE;
    SocketEntry holder;
    g_autofree char *address = NULL;
    g_autofree char *unit = NULL;

    if (lease)
        return g_strdup_printf("a lease of uid %u for service type %s", lease->uid,
                               lease->service_type);
    if (!may_look(job->manager, job->request.uid))
        return g_strdup("a program that is not looked up, since too many were just now");
    looked = socket_table_holder(port, protocol, job->request.address, &found, &holder, NULL);
    have_looked(job->manager, job->request.uid, start_usec);
    if (!looked || !found)
        return g_strdup("a program that the kernel does not name, or another request");
    address = socket_entry_address(&holder);
    unit = socket_entry_unit(&holder, NULL);
    return g_strdup_printf("uid %u%s%s on address %s", holder.uid, unit ? ", unit " : "",
                           unit ? unit : "", address);
}

/* Which of its ports a strict request did not get. */
static guint16 strict_obstacle(const ManagerJob *job)
{
    const GArray *conflicts = reservation_conflicts(job->reservation);

    return conflicts->len > 0 ? g_array_index(conflicts, guint16, conflicts->len - 1)
                              : job->request.port;
}

static void refuse_strict(ManagerJob *job)
{
    guint attempts = reservation_attempts(job->reservation);
    guint16 port = strict_obstacle(job);
    g_autofree char *holder = describe_holder(job, port);

    job_refuse(job, g_error_new(OUTCOME_ERROR, OUTCOME_PORT_IN_USE,
                                "port %u is in use by %s (%u attempts); without 'strict' another "
                                "port is granted",
                                port, holder, attempts));
}

static void refuse_exhausted(ManagerJob *job)
{
    const GArray *conflicts = reservation_conflicts(job->reservation);
    guint attempts = reservation_attempts(job->reservation);
    PortRange range = reservation_range(job->reservation);
    g_autofree char *ports = name_holders(job);
    GError *error = NULL;

    if (!job->manager->config->conflict_enabled && conflicts->len > 0)
        error = g_error_new(OUTCOME_ERROR, OUTCOME_NO_PORT_AVAILABLE,
                            "port %s is in use by another program, and recovery.port_conflict, "
                            "which would try others, is switched off (%u attempts)",
                            ports, attempts);
    else if (job->request.count > 1)
        error = g_error_new(OUTCOME_ERROR, OUTCOME_NO_PORT_AVAILABLE,
                            "no %u consecutive ports in %u-%u are free for service type %s: %s%s "
                            "(%u attempts); release leases, or ask for fewer or another range",
                            job->request.count, range.first, range.last, job->request.service_type,
                            conflicts->len > 0 ? "in use by other programs are "
                                               : "none is in use by other programs",
                            ports, attempts);
    else
        error = g_error_new(OUTCOME_ERROR, OUTCOME_NO_PORT_AVAILABLE,
                            "no port in %u-%u is free for service type %s: %s%s, all others are "
                            "leased (%u attempts); release leases, or ask for another range",
                            range.first, range.last, job->request.service_type,
                            conflicts->len > 0 ? "in use by other programs are "
                                               : "none is in use by other programs",
                            ports, attempts);
    job_refuse(job, error);
}

static void refuse(ManagerJob *job)
{
    if (job->request.strict)
        refuse_strict(job);
    else
        refuse_exhausted(job);
}

/* ---- the search ------------------------------------------------------------------------------ */

int job_bind_returning(guint16 port, int type, const char *address)
{
    int fd = bind_socket(port, type, address, FALSE);

    if (fd == -EADDRINUSE && type == SOCK_STREAM &&
        bind_probe(port, PROTOCOL_TCP, address, NULL) == PROBE_FREE)
        return bind_socket(port, type, address, TRUE);
    return fd;
}

/*
 * For a caller that wants the socket the bind is the probe. No SO_REUSEADDR, so that nobody can
 * bind beside it before it listens. A port with connections in TIME_WAIT cannot be had like that
 * and is passed over, except by who comes back for this very port.
 */
static int bind_for_caller(ManagerJob *job, guint16 port, Protocol protocol)
{
    const LeaseRequest *request = &job->request;
    int type = protocol == PROTOCOL_UDP ? SOCK_DGRAM : SOCK_STREAM;
    int fd = request->strict || request->instance
                 ? job_bind_returning(port, type, request->address)
                 : bind_socket(port, type, request->address, FALSE);

    if (fd < 0)
        return fd;
    g_array_append_val(job->held, fd);
    return 0;
}

static gboolean wants_hold(ManagerJob *job)
{
    if (job->request.hold != HOLD_SOFT || job->hold_refused)
        return FALSE;
    job->hold_refused = !(reservation_protocol(job->reservation) & PROTOCOL_TCP) ||
                        !hold_table_has_room(job->manager->holds, job->request.count);
    return !job->hold_refused;
}

/*
 * A port below net.ipv4.ip_unprivileged_port_start that the daemon may not bind: whether anybody
 * has it is in the socket table all the same.
 */
static ProbeResult look_up_privileged(guint16 port, Protocol protocol, const char *address)
{
    gboolean found = FALSE;
    SocketEntry holder;

    if (!socket_table_holder(port, protocol, address, &found, &holder, NULL))
        return PROBE_UNKNOWN;
    return found ? PROBE_BUSY : PROBE_FREE;
}

static ProbeResult probe(ManagerJob *job, guint16 port, Protocol protocol, int *ret_error)
{
    ProbeResult result = bind_probe(port, protocol, job->request.address, ret_error);

    if (result == PROBE_UNKNOWN && *ret_error == EACCES)
        return look_up_privileged(port, protocol, job->request.address);
    return result;
}

static ProbeResult try_port(ManagerJob *job, guint16 port, int *ret_error)
{
    Protocol protocol = reservation_protocol(job->reservation);
    Protocol probed = protocol;
    int r = 0;

    if (job->options.want_socket) {
        r = bind_for_caller(job, port, protocol);
        probed = protocol == PROTOCOL_BOTH ? PROTOCOL_UDP : 0;
    } else if (wants_hold(job)) {
        int fd = hold_bind(port, job->request.address);

        if (fd >= 0) {
            g_array_append_val(job->held, fd);
            probed &= ~PROTOCOL_TCP;
        } else if (fd == -EMFILE || fd == -ENFILE || fd == -EACCES) {
            job->hold_refused = TRUE;
            job_close_held(job);
        } else {
            r = fd;
        }
    }
    if (r < 0) {
        *ret_error = -r;
        return r == -EADDRINUSE ? PROBE_BUSY : PROBE_UNKNOWN;
    }
    return probed ? probe(job, port, probed, ret_error) : PROBE_FREE;
}

/* Returns the result for the candidate as a whole; *ret_port is the port that decided it. */
static ProbeResult try_candidate(ManagerJob *job, guint16 first, guint16 *ret_port, int *ret_error)
{
    for (guint i = 0; i < job->request.count; i++) {
        guint16 port = (guint16)(first + i);
        ProbeResult result = try_port(job, port, ret_error);

        if (result != PROBE_FREE) {
            job_close_held(job);
            *ret_port = port;
            return result;
        }
    }
    return PROBE_FREE;
}

static void refuse_unknown(ManagerJob *job, guint16 port, int code)
{
    GError *error = NULL;

    if (code == EADDRNOTAVAIL)
        error = g_error_new(OUTCOME_ERROR, OUTCOME_INVALID_ARGUMENT,
                            "address %s is not one of this machine's", job->request.address);
    else if (code == EINVAL && job->request.address)
        error = g_error_new(OUTCOME_ERROR, OUTCOME_INVALID_ARGUMENT,
                            "the kernel binds nothing to address %s: a link-local or multicast "
                            "address needs an interface beside it; leave 'address' out for all",
                            job->request.address);
    else if (code == EACCES || code == EPERM)
        error = g_error_new(OUTCOME_ERROR, OUTCOME_NOT_AUTHORIZED,
                            "the daemon may not bind port %u (%s); it needs CAP_NET_BIND_SERVICE "
                            "for that",
                            port, g_strerror(code));
    else
        error = g_error_new(OUTCOME_ERROR, OUTCOME_BUSY,
                            "the kernel could not be asked about port %u (%s); try again later",
                            port, g_strerror(code));
    job_refuse(job, error);
}

static guint rounds_allowed(const ManagerJob *job)
{
    const Configuration *config = job->manager->config;

    if (!config->conflict_enabled)
        return 1;
    return 1 +
           (job->options.retries >= 0 ? (guint)job->options.retries : config->conflict_max_retries);
}

/*
 * Where a program may let go, or another request for the very port may come to nothing. Leases end
 * by their own rules.
 */
static gboolean waiting_can_help(const ManagerJob *job)
{
    if (!job->request.strict)
        return reservation_conflicts(job->reservation)->len > 0;
    for (guint i = 0; i < job->request.count; i++)
        if (registry_find_port(job->manager->registry, (guint16)(job->request.port + i),
                               reservation_protocol(job->reservation)))
            return FALSE;
    return TRUE;
}

static void end_round(ManagerJob *job)
{
    const Configuration *config = job->manager->config;

    if (job_reuse(job))
        return;
    if (++job->round >= rounds_allowed(job) || !waiting_can_help(job)) {
        refuse(job);
        return;
    }
    searches_remove(job->manager->searches, job);
    job_tell_conflicts(job);
    metrics_count(METRIC_CONFLICT_RETRIES);
    job_wait(job, job->backoff_msec);
    job_yield(job);
    job->backoff_msec =
        MIN(job->backoff_msec * config->conflict_backoff_multiplier, BACKOFF_MAX_MSEC);
    reservation_restart(job->reservation);
}

/* Whoever ends the job or lets it wait takes it out of the searches. Returns: TRUE = it goes on. */
static gboolean search(ManagerJob *job, guint probes_max)
{
    Searches *searches = job->manager->searches;
    gint64 now_usec = g_get_monotonic_time();

    for (guint probes = 0; probes < probes_max; probes += job->request.count) {
        guint16 busy_port = 0;
        guint16 first = reservation_next(job->reservation, now_usec);
        int code = 0;

        if (first == 0) {
            end_round(job);
            return FALSE;
        }
        switch (try_candidate(job, first, &busy_port, &code)) {
        case PROBE_FREE:
            searches_remove(searches, job);
            if (job_take_place(job))
                job_candidate_found(job);
            return FALSE;
        case PROBE_UNKNOWN:
            refuse_unknown(job, busy_port, code);
            return FALSE;
        case PROBE_BUSY:
            reservation_conflict(job->reservation, busy_port, now_usec);
            note_conflict(job, busy_port, code);
            if (!job->manager->config->conflict_enabled) {
                refuse(job);
                return FALSE;
            }
        }
    }
    return TRUE;
}

void job_step(ManagerJob *job)
{
    (void)search(job, PROBES_PER_STEP);
}

/* The first candidate is free nearly always. Who searches already has others only in his turns. */
void job_search(ManagerJob *job)
{
    Searches *searches = job->manager->searches;
    guint probes_max = searches_has(searches, job->request.uid) ? 1 : PROBES_AT_ONCE;

    if (!search(job, probes_max))
        return;
    job_enqueue(job);
    searches_add(searches, job);
    job_yield(job);
}
