/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The way of a request: the registry's rules, the search for a port that the kernel gives, the
 * record, the grant. Straight through where it can; a job waits where it must: for the disk, for
 * another request for the same lease, for a port that somebody may let go.
 */
#include "recovery/job.h"

#include <errno.h>
#include <sys/socket.h>

#include "probe/bind-probe.h"
#include "recovery/claims.h"
#include "recovery/events.h"
#include "recovery/expiry.h"
#include "recovery/health.h"
#include "recovery/metrics.h"
#include "recovery/release.h"
#include "recovery/searches.h"
#include "util/fd.h"

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

void job_close_held(ManagerJob *job)
{
    for (guint i = 0; i < job->held->len; i++)
        (void)fd_close(g_array_index(job->held, int, i));
    g_array_set_size(job->held, 0);
}

static void unqueue(ManagerJob *job)
{
    searches_remove(job->manager->searches, job);
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
    job_close_held(job);
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
        if (outcome == OUTCOME_NO_PORT_AVAILABLE)
            event_no_port(&job->request, result.attempts, result.conflicts->len);
    } else if (reused) {
        metrics_count(METRIC_ALLOCATIONS_REUSED);
    }
    if (!job->cancelled)
        job->done(&result, job->data);
    job_tell_conflicts(job);
    job_free(job);
    manager_wake_parked(manager);
}

void job_refuse(ManagerJob *job, GError *error)
{
    g_autoptr(GError) owned = error;

    finish(job, (Outcome)owned->code, owned, NULL, FALSE);
}

/* ---- the grant ------------------------------------------------------------------------------- */

void manager_arm_granted(Manager *manager, const GArray *changes)
{
    for (guint i = 0; i < changes->len; i++) {
        Lease *lease = g_array_index(changes, Change, i).lease;

        expiry_arm(manager, lease);
        health_watch(manager->health, lease);
    }
}

void manager_tell_granted(Manager *manager, const GArray *changes, guint attempts,
                          const GArray *conflicts)
{
    release_tell(manager);
    for (guint i = 0; i < changes->len; i++) {
        Lease *lease = g_array_index(changes, Change, i).lease;

        if (!lease->in_registry)
            continue;
        MANAGER_TELL(manager, allocated, lease, attempts, conflicts);
        event_granted(lease, attempts);
    }
}

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
    if (job->request.hold == HOLD_SOFT && !job->hold_refused) {
        for (guint i = 0; i < leases->len; i++)
            hold_table_add(manager->holds, leases->pdata[i], g_array_index(job->held, int, i));
        g_array_set_size(job->held, 0);
    }
    result.hold_refused = job->hold_refused;
    metrics_add(METRIC_ALLOCATIONS, leases->len);
    result.socket = job->held->len > 0 ? &g_array_index(job->held, int, 0) : &no_socket;
    unqueue(job);
    manager_arm_granted(manager, changes);
    if (job->options.want_socket && job->held->len > 0)
        health_socket_made(manager->health, leases->pdata[0], *result.socket);
    if (!job->cancelled)
        job->done(&result, job->data);
    manager_tell_granted(manager, changes, attempts, conflicts);
    job_leave_conflicts(job);
    if (job->cancelled) /* gone while the disk was busy: nothing may stay behind */
        for (guint i = 0; i < leases->len; i++)
            manager_end(manager, leases->pdata[i], REASON_CLIENT_GONE);
    job_free(job);
    manager_wake_parked(manager);
}

static void refuse_state(ManagerJob *job, const GError *cause)
{
    job_refuse(job, g_error_new(OUTCOME_ERROR, OUTCOME_STATE_UNAVAILABLE,
                                "the grant could not be recorded, so nothing was granted: %s",
                                cause->message));
}

static void on_disk(const GError *error, void *data)
{
    ManagerJob *job = data;

    job->on_disk = FALSE;
    job->manager->grants_on_disk--;
    if (error)
        refuse_state(job, error);
    else
        commit(job);
}

void job_enqueue(ManagerJob *job)
{
    if (!job->queued)
        g_queue_push_tail_link(&job->manager->jobs, &job->link);
    job->queued = TRUE;
}

/* Only now its port is known, and a check may ask no other. */
static gboolean check_health_url(const ManagerJob *job, GError **error)
{
    const LeaseRequest *request = &job->request;
    gboolean any_local_port =
        job->manager->config->health_any_local_port || job->options.any_health_port;
    g_autoptr(GError) cause = NULL;

    for (guint i = 0; request->health_url && i < job->leases->len; i++) {
        const Lease *lease = job->leases->pdata[i];

        if (health_url_check(request->health_url, lease->port, lease->address, any_local_port,
                             &cause))
            continue;
        g_set_error(error, OUTCOME_ERROR, OUTCOME_INVALID_ARGUMENT,
                    "Option 'health_url': for port %u: %s ('{port}' stands for the port)",
                    lease->port, cause->message);
        return FALSE;
    }
    return TRUE;
}

void job_candidate_found(ManagerJob *job)
{
    Manager *manager = job->manager;
    g_autofree StoreOp *ops = NULL;
    g_autoptr(GError) error = NULL;
    Chunk chunk;
    size_t n = 0;

    job->leases = reservation_build(job->reservation, g_get_real_time());
    for (guint i = 0; job->hold_refused && i < job->leases->len; i++)
        ((Lease *)job->leases->pdata[i])->hold = HOLD_NONE;
    if (!check_health_url(job, &error)) {
        job_refuse(job, g_steal_pointer(&error));
        return;
    }
    ops = g_new0(StoreOp, job->leases->len + 1);
    if (reservation_new_chunk(job->reservation, &chunk))
        ops[n++] = (StoreOp){.kind = STORE_PUT_CHUNK, .chunk = &chunk};
    for (guint i = 0; i < job->leases->len; i++)
        ops[n++] = (StoreOp){.kind = STORE_PUT_LEASE, .lease = job->leases->pdata[i]};

    if (job->request.lifetime == LIFETIME_PERSISTENT) {
        if (!store_append_durable(manager->store, ops, n, job->request.uid, on_disk, job, &error)) {
            refuse_state(job, error);
            return;
        }
        metrics_count(METRIC_JOURNAL_RECORDS);
        job_enqueue(job);
        job->on_disk = TRUE;
        manager->grants_on_disk++;
        return;
    }
    if (!store_append(manager->store, ops, n, &error)) {
        refuse_state(job, error);
        return;
    }
    metrics_count(METRIC_JOURNAL_RECORDS);
    commit(job);
}

/* ---- waiting --------------------------------------------------------------------------------- */

static void on_timer(void *data)
{
    ManagerJob *job = data;

    job->timer = NULL;
    job_run(job);
}

void job_wait(ManagerJob *job, double msec)
{
    job_enqueue(job);
    job->timer = deadline_add(job->manager->deadlines,
                              g_get_monotonic_time() + (gint64)(msec * G_TIME_SPAN_MILLISECOND),
                              on_timer, job);
}

static void park(ManagerJob *job)
{
    job_enqueue(job);
    g_queue_push_tail_link(&job->manager->parked, &job->parked_link);
    job->is_parked = TRUE;
}

/*
 * The owner asks for the socket of a port that is his already. A hold of ours does not stand in the
 * way, nor do connections in TIME_WAIT; a service that has the port does.
 */
static int bind_reused(const ManagerJob *job, const Lease *lease)
{
    int type = lease->protocol == PROTOCOL_UDP ? SOCK_DGRAM : SOCK_STREAM;

    if (hold_table_holds(job->manager->holds, lease))
        return bind_socket(lease->port, type, lease->address, TRUE);
    return job_bind_returning(lease->port, type, lease->address);
}

/*
 * A singleton's number is for everybody, its socket is not: who gets that serves in the owner's
 * place, perhaps on a port that he himself may not bind.
 */
static gboolean may_have_socket(const ManagerJob *job, const Lease *lease)
{
    return job->request.uid == lease->uid || job->request.uid == 0;
}

/* @reused: a reference, taken over. */
static void reuse(ManagerJob *job, Lease *reused)
{
    g_autoptr(GPtrArray) leases = lease_array_new();

    g_ptr_array_add(leases, reused);
    if (job->options.want_socket) {
        int fd;

        if (!may_have_socket(job, reused)) {
            job_refuse(job, g_error_new(OUTCOME_ERROR, OUTCOME_NOT_OWNER,
                                        "the lease of service type %s on port %u is uid %u's, who "
                                        "alone may have its socket; Allocate tells its port",
                                        reused->service_type, reused->port, reused->uid));
            return;
        }
        fd = bind_reused(job, reused);

        if (fd < 0) {
            job_refuse(job, g_error_new(OUTCOME_ERROR, OUTCOME_PORT_IN_USE,
                                        "lease %s has port %u already and its socket cannot be "
                                        "bound (%s); stop its service, or release it",
                                        reused->id.text, reused->port, g_strerror(-fd)));
            return;
        }
        g_array_append_val(job->held, fd);
        health_socket_made(job->manager->health, reused, fd);
    }
    claims_take(job->manager, reused, &job->request);
    finish(job, OUTCOME_OK, NULL, leases, TRUE);
}

gboolean job_reuse(ManagerJob *job)
{
    Lease *reusable = reservation_reusable(job->reservation);

    if (!reusable || reusable->ending)
        return FALSE;
    job_close_held(job);
    reuse(job, lease_ref(reusable));
    return TRUE;
}

gboolean job_take_place(ManagerJob *job)
{
    if (job_reuse(job))
        return FALSE;
    if (reservation_resume(job->reservation))
        return TRUE;
    job_close_held(job);
    reservation_restart(job->reservation);
    park(job);
    return FALSE;
}

void job_yield(ManagerJob *job)
{
    if (reservation_yield(job->reservation))
        manager_wake_parked(job->manager);
}

static void begin(ManagerJob *job)
{
    Manager *manager = job->manager;
    g_autoptr(GError) error = NULL;
    Lease *reused = claims_find(manager, &job->request);
    Outcome outcome = OUTCOME_OK;

    if (reused)
        (void)lease_ref(reused);
    else
        outcome = registry_begin(manager->registry, &job->request, g_get_monotonic_time(),
                                 &job->reservation, &reused, &error);
    if (outcome == OUTCOME_BUSY || (reused && reused->ending)) {
        (void)lease_unref(reused);
        park(job);
    } else if (outcome != OUTCOME_OK) {
        job_refuse(job, g_steal_pointer(&error));
    } else if (reused) {
        reuse(job, reused);
    } else {
        job_search(job);
    }
}

static void job_run(ManagerJob *job)
{
    if (!job->reservation)
        begin(job);
    else if (job_take_place(job))
        job_search(job);
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
    /* The caller's socket reserves the port by itself, and lets nobody bind beside it. */
    job->hold_refused = options->want_socket && request->hold == HOLD_SOFT;
    job->done = done;
    job->data = data;
    job->held = g_array_new(FALSE, FALSE, sizeof(int));
    job->untold = g_array_new(FALSE, FALSE, sizeof(ConflictInfo));
    job->backoff_msec = manager->config->conflict_backoff_msec;
    job->link.data = job->parked_link.data = job->search_link.data = job;
    job->gone = &gone;
    begin(job);
    if (gone)
        return NULL;
    job->gone = NULL;
    return job;
}

void manager_job_cancel(ManagerJob *job)
{
    Manager *manager = job->manager;

    job->cancelled = TRUE;
    if (job->on_disk) /* the end of the sync finds out what became of the record */
        return;
    job_free(job);
    manager_wake_parked(manager);
}

void manager_wake_parked(Manager *manager)
{
    GList *link = NULL;

    /* Through the queue of deadlines, so that a chain of requests is not a chain of calls. */
    while ((link = g_queue_pop_head_link(&manager->parked))) {
        ManagerJob *job = link->data;

        job->is_parked = FALSE;
        job_wait(job, 0);
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
