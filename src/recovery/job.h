/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "recovery/manager-private.h"

/*
 * A request on its way: allocate.c begins and ends it, conflict.c searches for its port.
 */
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
    guint untold_more; /* those beside them that are only counted */
    guint round;
    double backoff_msec;
    Deadline *timer;
    gboolean queued;
    gboolean is_parked;
    gboolean hold_refused; /* granted without: no descriptor left for it, or udp */
    gboolean on_disk;
    gboolean cancelled;
    gboolean *gone; /* set while manager_allocate() is on the stack */
    GList link;
    GList parked_link;
    GQueue *searching; /* borrowed: where among the searches, NULL = not; see searches.c */
    GList search_link;
};

/** job_search: looks for a free candidate, over as many rounds and turns of the loop as it takes.
 */
void job_search(ManagerJob *job);

/**
 * job_take_place: before a search and before the grant: nobody else may have been granted the same
 * lease since the place was given up.
 * Returns: FALSE where somebody was, or is about to: the job has ended with that lease, or waits.
 */
gboolean job_take_place(ManagerJob *job);

/** job_reuse: Returns: whether the job has ended with a lease that was granted to another request
 * meanwhile. */
gboolean job_reuse(ManagerJob *job);

/** job_yield: whoever waits for the same lease may go on: this one has long to search or pauses. */
void job_yield(ManagerJob *job);

/** job_step: a few candidates more, of a job among the searches. The job may end in it. */
void job_step(ManagerJob *job);

/**
 * job_bind_returning: a socket for who comes back for this very port: past connections in TIME_WAIT
 * that its service left, for which it would wait a minute else. It has only those to fear then that
 * take the port by number, with SO_REUSEADDR, before it listens.
 * @type, @address, and what is returned: as of bind_socket(). Does not block.
 */
int job_bind_returning(guint16 port, int type, const char *address);

/** job_close_held: gives up the sockets that were bound for the candidate. */
void job_close_held(ManagerJob *job);

/**
 * job_tell_conflicts: logs and tells what was refused since the last telling, as much of it as may
 * be told; the rest is counted.
 */
void job_tell_conflicts(ManagerJob *job);

/** job_leave_conflicts: as job_tell_conflicts(), but a moment later, of a request that is granted:
 * the answer goes first. */
void job_leave_conflicts(ManagerJob *job);

/** job_candidate_found: the kernel gives the candidate: it is recorded and granted. */
void job_candidate_found(ManagerJob *job);

/** job_refuse: the end of the job. @error: taken over, in OUTCOME_ERROR. */
void job_refuse(ManagerJob *job, GError *error);

/** job_enqueue: among the jobs that wait. */
void job_enqueue(ManagerJob *job);

/** job_wait: goes on later: in @msec, or in another turn of the loop (0). */
void job_wait(ManagerJob *job, double msec);
