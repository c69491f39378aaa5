/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "store/worker.h"

typedef struct WorkerSource {
    GSource base;
    Worker *worker;
} WorkerSource;

struct Worker {
    GThread *thread;
    GAsyncQueue *jobs;
    GAsyncQueue *finished;
    GSource *source; /* made ready by the thread when it has finished something */
    guint pushed;    /* jobs not yet handed back; main loop only */
};

/* Pushed to end the thread, and never run. */
static WorkerJob the_end;

static void *work(void *data)
{
    Worker *worker = data;
    WorkerJob *job;

    while ((job = g_async_queue_pop(worker->jobs)) != &the_end) {
        job->run(job);
        g_async_queue_push(worker->finished, job);
        g_source_set_ready_time(worker->source, 0);
    }
    return NULL;
}

static void hand_back(Worker *worker, WorkerJob *job)
{
    worker->pushed--;
    job->done(job);
}

static gboolean dispatch(GSource *source, GSourceFunc callback, void *data)
{
    Worker *worker = ((WorkerSource *)source)->worker;
    WorkerJob *job;

    /* before the look: what comes afterwards makes the source ready again */
    g_source_set_ready_time(source, -1);
    while ((job = g_async_queue_try_pop(worker->finished)))
        hand_back(worker, job);
    return G_SOURCE_CONTINUE;
}

Worker *worker_new(const char *name, GMainContext *context)
{
    static GSourceFuncs funcs = {.dispatch = dispatch};
    Worker *worker = g_new0(Worker, 1);

    worker->jobs = g_async_queue_new();
    worker->finished = g_async_queue_new();
    worker->source = g_source_new(&funcs, sizeof(WorkerSource));
    ((WorkerSource *)worker->source)->worker = worker;
    g_source_set_static_name(worker->source, name);
    (void)g_source_attach(worker->source, context);
    worker->thread = g_thread_new(name, work, worker);
    return worker;
}

void worker_push(Worker *worker, WorkerJob *job)
{
    worker->pushed++;
    g_async_queue_push(worker->jobs, job);
}

gboolean worker_is_idle(const Worker *worker)
{
    return worker->pushed == 0;
}

void worker_drain(Worker *worker)
{
    while (worker->pushed > 0)
        hand_back(worker, g_async_queue_pop(worker->finished));
}

Worker *worker_free(Worker *worker)
{
    if (!worker)
        return NULL;
    worker_drain(worker);
    g_async_queue_push(worker->jobs, &the_end);
    (void)g_thread_join(worker->thread);
    g_source_destroy(worker->source);
    g_source_unref(worker->source);
    g_async_queue_unref(worker->jobs);
    g_async_queue_unref(worker->finished);
    g_free(worker);
    return NULL;
}
