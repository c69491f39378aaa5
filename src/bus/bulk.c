/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "bus/bulk.h"

#include <errno.h>

#include "bus/errors.h"
#include "bus/sd-bus-auto.h"

/* Answers that may wait, of all callers, of one user, and of one caller: half of them are for
 * others than one who asks without end. The last ones are for administrators. */
#define WAITING_MAX 256
#define WAITING_PER_USER_MAX 128
#define WAITING_PER_CALLER_MAX 8
#define WAITING_KEPT 16

/* Bytes of long answers that lie with slow readers: of one user and of all. Beyond it the next one
 * waits, unless it is an administrator's; it goes on when they read, or are cut off for not
 * reading. */
#define UNREAD_PER_USER_MAX BULK_BYTES_MAX
#define UNREAD_ALL_MAX (2 * BULK_BYTES_MAX)

struct BulkQueue {
    BusSource *source; /* borrowed */
    GQueue jobs;       /* of BulkJob, owned */
    BulkJob *current;  /* borrowed: the one that is being written, NULL = none is begun */
    GQueue unread;     /* of Caller, borrowed: of direct connections, with ->unread_bytes */
    size_t unread_bytes;
};

struct BulkJob {
    BulkQueue *queue;
    Call *call;            /* borrowed */
    sd_bus_message *reply; /* owned; NULL: the place is held, no more */
    BulkStep step;
    void *state; /* owned */
    GDestroyNotify free_state;
    size_t bytes;
    GList node;
};

BulkQueue *bulk_queue_new(BusSource *source)
{
    BulkQueue *queue = g_new0(BulkQueue, 1);

    queue->source = source;
    return queue;
}

BulkQueue *bulk_queue_free(BulkQueue *queue)
{
    if (!queue)
        return NULL;
    g_assert(queue->jobs.length == 0);
    g_assert(queue->unread.length == 0);
    g_free(queue);
    return NULL;
}

static void job_free(BulkJob *job)
{
    if (job->call)
        job->call->bulk = NULL;
    if (job->queue->current == job)
        job->queue->current = NULL;
    g_queue_unlink(&job->queue->jobs, &job->node);
    sd_bus_message_unref(job->reply);
    if (job->free_state)
        job->free_state(job->state);
    g_free(job);
}

void bulk_cancel(BulkJob *job)
{
    job_free(job);
}

/* ---- what is not read ---- */

static gboolean has_unsent(const Connection *connection)
{
    guint64 queued = 0;

    return sd_bus_get_n_queued_write(connection->bus, &queued) >= 0 && queued > 0;
}

void bulk_forget_caller(BulkQueue *queue, Caller *caller)
{
    if (caller->unread_bytes == 0)
        return;
    queue->unread_bytes -= caller->unread_bytes;
    caller->unread_bytes = 0;
    g_queue_unlink(&queue->unread, &caller->unread);
}

static void note_unread(BulkQueue *queue, Caller *caller, size_t bytes)
{
    if (!caller->connection->peer || bytes == 0 || !has_unsent(caller->connection))
        return; /* a broker reads at once and has its own bounds */
    if (caller->unread_bytes == 0) {
        caller->unread.data = caller;
        g_queue_push_tail_link(&queue->unread, &caller->unread);
    }
    caller->unread_bytes += bytes;
    queue->unread_bytes += bytes;
}

static void forget_what_was_read(BulkQueue *queue)
{
    GList *next = NULL;

    for (GList *node = queue->unread.head; node; node = next) {
        Caller *caller = node->data;

        next = node->next;
        if (!has_unsent(caller->connection))
            bulk_forget_caller(queue, caller);
    }
}

static size_t unread_of_user(const BulkQueue *queue, uid_t uid)
{
    size_t bytes = 0;

    for (const GList *node = queue->unread.head; node; node = node->next)
        if (((const Caller *)node->data)->uid == uid)
            bytes += ((const Caller *)node->data)->unread_bytes;
    return bytes;
}

/* An answer that is begun is finished, whatever lies there: one at a time is in the making. */
static BulkJob *next_job(BulkQueue *queue)
{
    if (queue->current || !queue->jobs.head)
        return queue->current;
    forget_what_was_read(queue);
    for (GList *node = queue->jobs.head; node; node = node->next) {
        BulkJob *job = node->data;
        const Caller *caller = job->call->caller;

        if (job->reply && !has_unsent(caller->connection) &&
            (queue->unread_bytes < UNREAD_ALL_MAX || caller->administrator) &&
            unread_of_user(queue, caller->uid) < UNREAD_PER_USER_MAX)
            return job;
    }
    return NULL;
}

/* ---- writing ---- */

static void refuse(BulkJob *job, Outcome outcome, const char *message)
{
    g_autoptr(GError) error = g_error_new_literal(OUTCOME_ERROR, (gint)outcome, message);
    Call *call = g_steal_pointer(&job->call);

    call->bulk = NULL;
    call_refuse(call, error);
}

/* Users take turns: the others of @uid wait behind those of everybody else. */
static void let_others_first(BulkQueue *queue, uid_t uid)
{
    GList *node = queue->jobs.head, *next = NULL;

    for (guint n = queue->jobs.length; n > 0; n--, node = next) {
        next = node->next;
        if (((const BulkJob *)node->data)->call->caller->uid != uid)
            continue;
        g_queue_unlink(&queue->jobs, node);
        g_queue_push_tail_link(&queue->jobs, node);
    }
}

/* Writes one portion. Returns: whether the job is over, and freed. */
static gboolean advance(BulkJob *job)
{
    BulkQueue *queue = job->queue;
    uid_t uid = job->call->caller->uid;
    int r = job->step(job->reply, job->call, &job->bytes, job->state);

    job->queue->current = job;
    if (r > 0 && job->bytes <= BULK_BYTES_MAX)
        return FALSE;
    if (r >= 0 && job->bytes > BULK_BYTES_MAX) {
        refuse(job, OUTCOME_QUOTA_EXCEEDED,
               "the answer would be longer than a message may be: ask for less at a time, "
               "with 'range' for one");
    } else if (r < 0 || sd_bus_message_close_container(job->reply) < 0) {
        refuse(job, OUTCOME_BUSY, "the answer could not be put together");
    } else {
        Call *call = g_steal_pointer(&job->call);
        Caller *caller = call->caller;

        call->bulk = NULL;
        (void)call_send(call, job->reply); /* a broken connection ends by itself */
        note_unread(job->queue, caller, job->bytes);
    }
    job_free(job);
    let_others_first(queue, uid);
    return TRUE;
}

static gboolean has_room(const BulkQueue *queue, const Caller *caller, guint of_user_max)
{
    guint of_user = 0, of_caller = 0;

    for (const GList *node = queue->jobs.head; node; node = node->next) {
        const Caller *other = ((const BulkJob *)node->data)->call->caller;

        of_user += other->uid == caller->uid;
        of_caller += other == caller;
    }
    return queue->jobs.length < WAITING_MAX - (caller->administrator ? 0 : WAITING_KEPT) &&
           of_user < of_user_max && of_caller < WAITING_PER_CALLER_MAX;
}

gboolean bulk_hold(BulkQueue *queue, Call *call, guint of_user_max, GError **error)
{
    BulkJob *job = NULL;

    if (!has_room(queue, call->caller, of_user_max)) {
        g_set_error_literal(error, OUTCOME_ERROR, OUTCOME_BUSY,
                            "other long answers are being written, try again later");
        return FALSE;
    }
    job = g_new0(BulkJob, 1);
    job->queue = queue;
    job->call = call;
    job->node.data = job;
    call->bulk = job;
    g_queue_push_tail_link(&queue->jobs, &job->node);
    return TRUE;
}

void bulk_fill(BulkJob *job, sd_bus_message *reply, BulkStep step, void *state,
               GDestroyNotify free_state)
{
    BulkQueue *queue = job->queue;

    job->reply = sd_bus_message_ref(reply);
    job->step = step;
    job->state = state;
    job->free_state = free_state;
    if (next_job(queue) != job || !advance(job))
        bus_source_wake(queue->source);
}

gboolean bulk_start(BulkQueue *queue, Call *call, sd_bus_message *reply, BulkStep step, void *state,
                    GDestroyNotify free_state, GError **error)
{
    if (!bulk_hold(queue, call, WAITING_PER_USER_MAX, error)) {
        free_state(state);
        return FALSE;
    }
    bulk_fill(call->bulk, reply, step, state, free_state);
    return TRUE;
}

gboolean bulk_work(BulkQueue *queue)
{
    BulkJob *job = next_job(queue);

    if (job)
        (void)advance(job);
    return next_job(queue) != NULL; /* those who do not read wake us when they do */
}
