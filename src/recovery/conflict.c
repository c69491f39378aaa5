/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Layer 1: a port that turns out to be taken costs the caller nothing.
 *
 * Within a round every candidate that the kernel refuses is a conflict: remembered, put on
 * cooldown, and the next one is tried at once. A round that finds nothing is followed by a pause on
 * a timer that grows, and another round, a bounded number of times. What is told about conflicts
 * (log, signal, who holds the port) comes after the answer, from one picture of the socket table.
 */
#include "recovery/manager-private.h"

#include <errno.h>
#include <sys/socket.h>

#include "probe/bind-probe.h"
#include "recovery/events.h"
#include "recovery/holders.h"
#include "recovery/metrics.h"
#include "util/fd.h"

/* Candidates asked for in one turn of the loop, so that a block of thousands keeps nobody waiting.
 */
#define PROBES_PER_TURN 256
#define BACKOFF_MAX_MSEC 60000

struct ManagerJob {
    Manager *manager;     /* borrowed: the manager cancels its jobs before it goes */
    LeaseRequest request; /* strings owned */
    AllocateOptions options;
    AllocateDone done;
    void *data;

    Reservation *reservation;
    GPtrArray *leases; /* while their record is on its way to the disk */
    GArray *held;      /* of int: sockets bound for the candidate */
    GArray *untold;    /* of ConflictInfo without holder: found since the last telling */
    guint round;
    double backoff_msec;
    Deadline *timer;
    gboolean queued;
    gboolean is_parked;
    gboolean hold_refused; /* no descriptor left for the hold: granted without */
    gboolean on_disk;
    gboolean cancelled;
    gboolean *gone; /* set while manager_allocate() is on the stack */
    GList link;
    GList parked_link;
};

static void job_run(ManagerJob *job);

static void copy_request(LeaseRequest *copy, const LeaseRequest *request)
{
    *copy = *request;
    copy->service_type = g_strdup(request->service_type);
    copy->address = g_strdup(request->address);
    copy->instance = g_strdup(request->instance);
    copy->label = g_strdup(request->label);
    copy->unit = g_strdup(request->unit);
    copy->client = g_strdup(request->client);
    copy->health_url = g_strdup(request->health_url);
}

static void close_held(ManagerJob *job)
{
    for (guint i = 0; i < job->held->len; i++)
        (void)fd_close(g_array_index(job->held, int, i));
    g_array_set_size(job->held, 0);
}

static void unqueue(ManagerJob *job)
{
    if (job->is_parked)
        g_queue_unlink(&job->manager->parked, &job->parked_link);
    if (job->queued)
        g_queue_unlink(&job->manager->jobs, &job->link);
    job->is_parked = job->queued = FALSE;
}

static void job_free(ManagerJob *job)
{
    if (job->gone)
        *job->gone = TRUE;
    job->timer = deadline_cancel(job->timer);
    unqueue(job);
    close_held(job);
    g_array_unref(job->held);
    g_array_unref(job->untold);
    g_clear_pointer(&job->leases, g_ptr_array_unref);
    job->reservation = reservation_free(job->reservation);
    g_free((char *)job->request.service_type);
    g_free((char *)job->request.address);
    g_free((char *)job->request.instance);
    g_free((char *)job->request.label);
    g_free((char *)job->request.unit);
    g_free((char *)job->request.client);
    g_free((char *)job->request.health_url);
    g_free(job);
}

/* ---- telling -------------------------------------------------------------------------------- */

static void tell_conflicts(ManagerJob *job)
{
    g_autoptr(GArray) ports = g_array_new(FALSE, FALSE, sizeof(guint16));
    g_autoptr(SocketTable) table = NULL;

    if (job->untold->len == 0)
        return;
    for (guint i = 0; i < job->untold->len; i++)
        g_array_append_val(ports, g_array_index(job->untold, ConflictInfo, i).port);
    table = holders_picture(ports);
    for (guint i = 0; i < job->untold->len; i++) {
        ConflictInfo info = g_array_index(job->untold, ConflictInfo, i);
        const SocketEntry *holder = holders_find(table, info.port, info.protocol);
        g_autofree char *address = holder ? socket_entry_address(holder) : NULL;
        g_autofree char *unit = holder ? socket_entry_unit(holder) : NULL;

        info.address = address;
        info.unit = unit;
        info.has_uid = holder != NULL;
        info.uid = holder ? holder->uid : 0;
        metrics_count(METRIC_CONFLICTS);
        event_conflict(&info);
        MANAGER_TELL(job->manager, conflict, &info);
    }
    g_array_set_size(job->untold, 0);
}

/* ---- the end of a job ------------------------------------------------------------------------ */

static void finish(ManagerJob *job, Outcome outcome, const GError *error, GPtrArray *leases,
                   gboolean reused)
{
    Manager *manager = job->manager;
    g_autoptr(GPtrArray) none = g_ptr_array_new();
    g_autoptr(GArray) no_conflicts = g_array_new(FALSE, FALSE, sizeof(guint16));
    int no_socket = -1;
    AllocateResult result = {
        .outcome = outcome,
        .error = error,
        .leases = leases ? leases : none,
        .reused = reused,
        .attempts = job->reservation ? reservation_attempts(job->reservation) : 0,
        .conflicts = job->reservation ? reservation_conflicts(job->reservation) : no_conflicts,
        .socket = job->held->len > 0 ? &g_array_index(job->held, int, 0) : &no_socket,
    };

    /* Out of the queues first: the callee may ask whether the manager is idle. */
    unqueue(job);
    if (outcome != OUTCOME_OK) {
        metrics_count(METRIC_ALLOCATIONS_REFUSED);
        if (outcome == OUTCOME_QUOTA_EXCEEDED)
            metrics_count(METRIC_QUOTA_REFUSALS);
        if (outcome == OUTCOME_NO_PORT_AVAILABLE)
            event_no_port(&job->request, result.attempts, result.conflicts->len);
    } else if (reused) {
        metrics_count(METRIC_ALLOCATIONS_REUSED);
    }
    if (!job->cancelled)
        job->done(&result, job->data);
    tell_conflicts(job);
    job_free(job);
    manager_wake_parked(manager);
}

static void finish_error(ManagerJob *job, Outcome outcome, GError *error)
{
    g_autoptr(GError) owned = error;

    finish(job, outcome, owned, NULL, FALSE);
}

static void finish_exhausted(ManagerJob *job)
{
    const GArray *conflicts = reservation_conflicts(job->reservation);
    guint attempts = reservation_attempts(job->reservation);
    PortRange range = reservation_range(job->reservation);
    Protocol protocol = reservation_protocol(job->reservation);
    g_autofree char *held = conflicts->len > 0 ? holders_list(conflicts, protocol) : NULL;
    const char *rest = job->manager->config->conflict_enabled
                           ? "all others are leased"
                           : "others are not tried without recovery.port_conflict";

    if (job->request.strict)
        finish_error(job, OUTCOME_PORT_IN_USE,
                     g_error_new(OUTCOME_ERROR, OUTCOME_PORT_IN_USE,
                                 "%s is in use: %s (%u attempts); without 'strict' another port is "
                                 "granted",
                                 job->request.count > 1 ? "a port of the block" : "the port",
                                 held ? held : "another request is just being granted it",
                                 attempts));
    else
        finish_error(
            job, OUTCOME_NO_PORT_AVAILABLE,
            g_error_new(OUTCOME_ERROR, OUTCOME_NO_PORT_AVAILABLE,
                        "no port in %u-%u is free for service type %s: %s%s, %s (%u "
                        "attempts); release leases, or ask for another range",
                        range.first, range.last, job->request.service_type,
                        held ? "in use by other programs are " : "none is in use by other programs",
                        held ? held : "", rest, attempts));
}

/* ---- the grant ------------------------------------------------------------------------------- */

static void commit(ManagerJob *job)
{
    Manager *manager = job->manager;
    g_autoptr(GArray) changes = change_array_new();
    g_autoptr(GPtrArray) leases = g_steal_pointer(&job->leases);
    guint attempts = reservation_attempts(job->reservation);
    g_autoptr(GArray) conflicts = g_array_copy((GArray *)reservation_conflicts(job->reservation));
    Reservation *reservation = g_steal_pointer(&job->reservation);
    AllocateResult result = {
        .outcome = OUTCOME_OK, .leases = leases, .attempts = attempts, .conflicts = conflicts};
    int no_socket = -1;

    registry_commit(manager->registry, reservation, leases, changes);
    if (job->request.hold == HOLD_SOFT && !job->hold_refused)
        for (guint i = 0; i < leases->len; i++)
            hold_table_add(manager->holds, leases->pdata[i], g_array_index(job->held, int, i));
    if (job->request.hold == HOLD_SOFT)
        g_array_set_size(job->held, 0);
    result.hold_refused = job->hold_refused;
    metrics_add(METRIC_ALLOCATIONS, leases->len);
    result.socket = job->held->len > 0 ? &g_array_index(job->held, int, 0) : &no_socket;
    unqueue(job);
    if (!job->cancelled)
        job->done(&result, job->data);
    manager_tell_granted(manager, changes, attempts, conflicts);
    tell_conflicts(job);
    if (job->cancelled) /* gone while the disk was busy: nothing may stay behind */
        for (guint i = 0; i < leases->len; i++)
            manager_end(manager, leases->pdata[i], REASON_CLIENT_GONE);
    job_free(job);
    manager_wake_parked(manager);
}

static void refuse_state(ManagerJob *job, const GError *cause)
{
    finish_error(job, OUTCOME_STATE_UNAVAILABLE,
                 g_error_new(OUTCOME_ERROR, OUTCOME_STATE_UNAVAILABLE,
                             "the grant could not be recorded, so nothing was granted: %s",
                             cause->message));
}

static void on_disk(const GError *error, void *data)
{
    ManagerJob *job = data;

    job->on_disk = FALSE;
    if (error)
        refuse_state(job, error);
    else
        commit(job);
}

static void enqueue(ManagerJob *job)
{
    if (!job->queued)
        g_queue_push_tail_link(&job->manager->jobs, &job->link);
    job->queued = TRUE;
}

static void record(ManagerJob *job)
{
    Manager *manager = job->manager;
    g_autofree StoreOp *ops = NULL;
    g_autoptr(GError) error = NULL;
    Chunk chunk;
    size_t n = 0;

    job->leases = reservation_build(job->reservation, g_get_real_time());
    for (guint i = 0; job->hold_refused && i < job->leases->len; i++)
        ((Lease *)job->leases->pdata[i])->hold = HOLD_NONE;
    ops = g_new0(StoreOp, job->leases->len + 1);
    if (reservation_new_chunk(job->reservation, &chunk))
        ops[n++] = (StoreOp){.kind = STORE_PUT_CHUNK, .chunk = &chunk};
    for (guint i = 0; i < job->leases->len; i++)
        ops[n++] = (StoreOp){.kind = STORE_PUT_LEASE, .lease = job->leases->pdata[i]};

    if (job->request.lifetime == LIFETIME_PERSISTENT) {
        enqueue(job);
        job->on_disk = TRUE;
        if (!store_append_durable(manager->store, ops, n, on_disk, job, &error)) {
            job->on_disk = FALSE;
            refuse_state(job, error);
        }
        return;
    }
    if (!store_append(manager->store, ops, n, &error)) {
        refuse_state(job, error);
        return;
    }
    commit(job);
}

/* ---- the search ------------------------------------------------------------------------------ */

/*
 * For a caller that wants the socket the bind is the probe. No SO_REUSEADDR, so that nobody can
 * bind beside it before it listens; a port with connections in TIME_WAIT is passed over for that
 * reason.
 */
static int bind_for_caller(ManagerJob *job, guint16 port, Protocol protocol)
{
    int type = protocol == PROTOCOL_UDP ? SOCK_DGRAM : SOCK_STREAM;
    int fd = bind_socket(port, type, job->request.address, FALSE);

    if (fd < 0)
        return fd;
    g_array_append_val(job->held, fd);
    return 0;
}

static gboolean wants_hold(ManagerJob *job)
{
    if (job->request.hold != HOLD_SOFT || job->hold_refused)
        return FALSE;
    job->hold_refused = !hold_table_has_room(job->manager->holds);
    return !job->hold_refused;
}

/*
 * A port below net.ipv4.ip_unprivileged_port_start that the daemon may not bind: whether anybody
 * has it is in the socket table all the same.
 */
static ProbeResult look_up_privileged(guint16 port, Protocol protocol)
{
    g_autoptr(SocketTable) table = socket_table_dump((PortRange){port, port}, protocol, NULL);

    if (!table)
        return PROBE_UNKNOWN;
    return holders_find(table, port, protocol) ? PROBE_BUSY : PROBE_FREE;
}

static ProbeResult probe(ManagerJob *job, guint16 port, Protocol protocol, int *ret_error)
{
    ProbeResult result = bind_probe(port, protocol, job->request.address, ret_error);

    if (result == PROBE_UNKNOWN && *ret_error == EACCES)
        return look_up_privileged(port, protocol);
    return result;
}

static ProbeResult try_port(ManagerJob *job, guint16 port, int *ret_error)
{
    Protocol protocol = reservation_protocol(job->reservation);
    Protocol probed = protocol;
    int r = 0;

    if (job->options.want_socket) {
        r = bind_for_caller(job, port, protocol);
        probed = 0;
    } else if (wants_hold(job)) {
        int fd = hold_bind(port, job->request.address);

        if (fd >= 0) {
            g_array_append_val(job->held, fd);
            probed &= ~PROTOCOL_TCP;
        } else if (fd == -EMFILE || fd == -ENFILE || fd == -EACCES) {
            job->hold_refused = TRUE;
            close_held(job);
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
            close_held(job);
            *ret_port = port;
            return result;
        }
    }
    return PROBE_FREE;
}

static void refuse_unknown(ManagerJob *job, guint16 port, int code)
{
    if (code == EADDRNOTAVAIL)
        finish_error(job, OUTCOME_INVALID_ARGUMENT,
                     g_error_new(OUTCOME_ERROR, OUTCOME_INVALID_ARGUMENT,
                                 "address %s is not one of this machine's", job->request.address));
    else if (code == EACCES || code == EPERM)
        finish_error(job, OUTCOME_NOT_AUTHORIZED,
                     g_error_new(OUTCOME_ERROR, OUTCOME_NOT_AUTHORIZED,
                                 "the daemon may not bind port %u (%s); it needs "
                                 "CAP_NET_BIND_SERVICE for that",
                                 port, g_strerror(code)));
    else
        finish_error(
            job, OUTCOME_BUSY,
            g_error_new(OUTCOME_ERROR, OUTCOME_BUSY,
                        "the kernel could not be asked about port %u (%s); try again later", port,
                        g_strerror(code)));
}

static void on_timer(void *data)
{
    ManagerJob *job = data;

    job->timer = NULL;
    job_run(job);
}

static void wait_msec(ManagerJob *job, double msec)
{
    enqueue(job);
    job->timer = deadline_add(job->manager->deadlines,
                              g_get_monotonic_time() + (gint64)(msec * G_TIME_SPAN_MILLISECOND),
                              on_timer, job);
}

static guint rounds_allowed(const ManagerJob *job)
{
    const Configuration *config = job->manager->config;

    if (!config->conflict_enabled)
        return 1;
    return 1 +
           (job->options.retries >= 0 ? (guint)job->options.retries : config->conflict_max_retries);
}

static void end_round(ManagerJob *job)
{
    const Configuration *config = job->manager->config;
    gboolean kernel_refused = reservation_conflicts(job->reservation)->len > 0;

    /* Waiting can help only where a program may let go; leases end by their own rules. */
    if (++job->round >= rounds_allowed(job) || !kernel_refused) {
        finish_exhausted(job);
        return;
    }
    tell_conflicts(job);
    metrics_count(METRIC_CONFLICT_RETRIES);
    wait_msec(job, job->backoff_msec);
    job->backoff_msec =
        MIN(job->backoff_msec * config->conflict_backoff_multiplier, BACKOFF_MAX_MSEC);
    reservation_restart(job->reservation);
}

static void search(ManagerJob *job)
{
    gint64 now_usec = g_get_monotonic_time();
    guint probes = 0;

    for (;;) {
        guint16 first, busy_port = 0;
        int code = 0;
        ConflictInfo conflict;

        if (probes >= PROBES_PER_TURN) {
            wait_msec(job, 0);
            return;
        }
        first = reservation_next(job->reservation, now_usec);
        if (first == 0) {
            end_round(job);
            return;
        }
        probes += job->request.count;
        switch (try_candidate(job, first, &busy_port, &code)) {
        case PROBE_FREE:
            record(job);
            return;
        case PROBE_UNKNOWN:
            refuse_unknown(job, busy_port, code);
            return;
        case PROBE_BUSY:
            reservation_conflict(job->reservation, busy_port, now_usec);
            conflict = (ConflictInfo){.port = busy_port,
                                      .protocol = reservation_protocol(job->reservation),
                                      .service_type = job->request.service_type,
                                      .error = code};
            g_array_append_val(job->untold, conflict);
            if (!job->manager->config->conflict_enabled) {
                finish_exhausted(job);
                return;
            }
        }
    }
}

static void park(ManagerJob *job)
{
    enqueue(job);
    g_queue_push_tail_link(&job->manager->parked, &job->parked_link);
    job->is_parked = TRUE;
}

/* What the service type's protocol makes impossible where the request itself names none. */
static const char *misfit(const ManagerJob *job)
{
    Protocol protocol = reservation_protocol(job->reservation);

    if (job->options.want_socket && protocol == PROTOCOL_BOTH)
        return "one socket cannot be both 'tcp' and 'udp', as this service type is: give option "
               "'protocol'";
    if (job->request.hold == HOLD_SOFT && !(protocol & PROTOCOL_TCP))
        return "Option 'hold': 'soft' is for tcp, and this service type is udp";
    return NULL;
}

/*
 * The same lease once more, and its socket: the one handed out first is with its owner, or closed,
 * and then there is another. A holder of ours has SO_REUSEADDR, so it takes that to bind beside it.
 */
static void finish_reused(ManagerJob *job, Lease *lease)
{
    g_autoptr(GPtrArray) leases = lease_array_new();
    int type = lease->protocol == PROTOCOL_UDP ? SOCK_DGRAM : SOCK_STREAM;
    int fd;

    g_ptr_array_add(leases, lease_ref(lease));
    if (job->options.want_socket) {
        fd = bind_socket(lease->port, type, lease->address,
                         hold_table_holds(job->manager->holds, lease));
        if (fd < 0) {
            finish_error(job, OUTCOME_PORT_IN_USE,
                         g_error_new(OUTCOME_ERROR, OUTCOME_PORT_IN_USE,
                                     "lease %s of port %u lives already, and its port cannot be "
                                     "bound once more: %s",
                                     lease->id.text, lease->port, g_strerror(-fd)));
            return;
        }
        g_array_append_val(job->held, fd);
    }
    finish(job, OUTCOME_OK, NULL, leases, TRUE);
}

static void begin(ManagerJob *job)
{
    Manager *manager = job->manager;
    g_autoptr(GError) error = NULL;
    Lease *reused = NULL;
    Outcome outcome = registry_begin(manager->registry, &job->request, g_get_monotonic_time(),
                                     &job->reservation, &reused, &error);

    if (outcome == OUTCOME_BUSY || (reused && reused->ending)) {
        (void)lease_unref(reused);
        park(job);
    } else if (outcome != OUTCOME_OK) {
        finish_error(job, outcome, g_steal_pointer(&error));
    } else if (reused) {
        finish_reused(job, reused);
        (void)lease_unref(reused);
    } else if (misfit(job)) {
        finish_error(job, OUTCOME_INVALID_ARGUMENT,
                     g_error_new_literal(OUTCOME_ERROR, OUTCOME_INVALID_ARGUMENT, misfit(job)));
    } else {
        search(job);
    }
}

static void job_run(ManagerJob *job)
{
    if (job->reservation)
        search(job);
    else
        begin(job);
}

/* ---- the outside ----------------------------------------------------------------------------- */

ManagerJob *manager_allocate(Manager *manager, const LeaseRequest *request,
                             const AllocateOptions *options, AllocateDone done, void *data)
{
    ManagerJob *job = g_new0(ManagerJob, 1);
    gboolean gone = FALSE;

    job->manager = manager;
    copy_request(&job->request, request);
    job->request.count = MAX(request->count, 1);
    job->options = *options;
    job->done = done;
    job->data = data;
    job->held = g_array_new(FALSE, FALSE, sizeof(int));
    job->untold = g_array_new(FALSE, FALSE, sizeof(ConflictInfo));
    job->backoff_msec = manager->config->conflict_backoff_msec;
    job->link.data = job->parked_link.data = job;
    job->gone = &gone;
    begin(job);
    if (gone)
        return NULL;
    job->gone = NULL;
    return job;
}

void manager_job_cancel(ManagerJob *job)
{
    job->cancelled = TRUE;
    if (!job->on_disk) /* else the end of the sync finds out what became of the record */
        job_free(job);
}

void manager_wake_parked(Manager *manager)
{
    GList *link = NULL;

    /* Through the queue of deadlines, so that a chain of requests is not a chain of calls. */
    while ((link = g_queue_pop_head_link(&manager->parked))) {
        ManagerJob *job = link->data;

        job->is_parked = FALSE;
        wait_msec(job, 0);
    }
}

void manager_jobs_cancel_all(Manager *manager)
{
    GList *link = NULL;

    while ((link = g_queue_peek_head_link(&manager->jobs))) {
        ManagerJob *job = link->data;

        g_assert(!job->on_disk);
        job_free(job);
    }
}
