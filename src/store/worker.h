/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>

/*
 * A thread for what waits for the disk: jobs are done one after the other in the order in which
 * they were pushed, and each is handed back to the main loop when it is done.
 */
typedef struct Worker Worker;

/** WorkerJob: embedded as the first member of a job; @run in the thread, then @done in the main
 * loop. */
typedef struct WorkerJob WorkerJob;
struct WorkerJob {
    void (*run)(WorkerJob *job);
    void (*done)(WorkerJob *job); /* takes the job over */
};

/** worker_new: starts the thread. @context: where ->done is called; NULL = the default one. */
Worker *worker_new(const char *name, GMainContext *context);

/** worker_push: never blocks. From the main loop's thread. */
void worker_push(Worker *worker, WorkerJob *job);

/** worker_is_idle: whether every job pushed was handed back. */
gboolean worker_is_idle(const Worker *worker);

/**
 * worker_drain: blocks until all jobs were run and handed back, those included that ->done pushes;
 * calls their ->done itself.
 */
void worker_drain(Worker *worker);

/** worker_free: drains and ends the thread. NULL is fine. Returns: NULL. */
Worker *worker_free(Worker *worker);
