/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "bus/bulk.h"

#include <errno.h>

#include "bus/errors.h"
#include "bus/sd-bus-auto.h"

/* Answers that may wait, of all callers and of one: each costs nothing until its turn comes. */
#define WAITING_MAX 256
#define WAITING_PER_CALLER_MAX 8

struct BulkQueue {
    BusSource *source; /* borrowed */
    GQueue jobs;       /* of BulkJob, owned: the first is being written */
};

struct BulkJob {
    BulkQueue *queue;
    Call *call;            /* borrowed */
    sd_bus_message *reply; /* owned */
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
    g_free(queue);
    return NULL;
}

static void job_free(BulkJob *job)
{
    if (job->call)
        job->call->bulk = NULL;
    g_queue_unlink(&job->queue->jobs, &job->node);
    sd_bus_message_unref(job->reply);
    job->free_state(job->state);
    g_free(job);
}

void bulk_cancel(BulkJob *job)
{
    job_free(job);
}

static void refuse(BulkJob *job, Outcome outcome, const char *message)
{
    g_autoptr(GError) error = g_error_new_literal(OUTCOME_ERROR, (gint)outcome, message);
    Call *call = g_steal_pointer(&job->call);

    call->bulk = NULL;
    call_refuse(call, error);
}

/* Writes one portion. Returns: whether the job is over, and freed. */
static gboolean advance(BulkJob *job)
{
    int r = job->step(job->reply, job->call, &job->bytes, job->state);

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

        call->bulk = NULL;
        (void)call_send(call, job->reply); /* a broken connection ends by itself */
    }
    job_free(job);
    return TRUE;
}

static guint waiting_of(const BulkQueue *queue, const Caller *caller)
{
    guint n = 0;

    for (const GList *node = queue->jobs.head; node; node = node->next)
        n += ((const BulkJob *)node->data)->call->caller == caller;
    return n;
}

gboolean bulk_start(BulkQueue *queue, Call *call, sd_bus_message *reply, BulkStep step, void *state,
                    GDestroyNotify free_state, GError **error)
{
    BulkJob *job = NULL;

    if (queue->jobs.length >= WAITING_MAX ||
        waiting_of(queue, call->caller) >= WAITING_PER_CALLER_MAX) {
        g_set_error_literal(error, OUTCOME_ERROR, OUTCOME_BUSY,
                            "other long answers are being written, try again later");
        free_state(state);
        return FALSE;
    }
    job = g_new0(BulkJob, 1);
    job->queue = queue;
    job->call = call;
    job->reply = sd_bus_message_ref(reply);
    job->step = step;
    job->state = state;
    job->free_state = free_state;
    job->node.data = job;
    call->bulk = job;
    g_queue_push_tail_link(&queue->jobs, &job->node);
    if (queue->jobs.length > 1 || !advance(job))
        bus_source_wake(queue->source);
    return TRUE;
}

gboolean bulk_work(BulkQueue *queue)
{
    if (queue->jobs.head)
        (void)advance(queue->jobs.head->data);
    return queue->jobs.length > 0;
}
