/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "bus/caller.h"

/*
 * Long answers, written in portions.
 *
 * A list of 60,000 leases takes half a second to write down: at one go it would keep everybody
 * waiting. So one answer at a time is written, a portion in each turn of the loop; short ones are
 * done with the first portion, within the call. An answer that would be longer than a broker
 * carries (dbus-daemon(1), max_message_size: 32 MiB unless configured, and it cuts off who sends
 * more) is refused instead.
 *
 * Nobody gets a second long answer before the first has left: the call waits while its connection
 * has something to read, or its user, or all together, have not read more than one or two of the
 * longest. Who does not read is cut off in the end (direct.c).
 */

/** BULK_BYTES_MAX: the longest answer, below every broker's limit with room for its header. */
#define BULK_BYTES_MAX ((size_t)30 * 1024 * 1024)

typedef struct BulkJob BulkJob;

/**
 * BulkStep: writes the next portion of the answer, some hundred elements.
 * @bytes: counts what was written so far.
 * Returns: a positive number while there is more, 0 when all is written, a negative errno.
 */
typedef int (*BulkStep)(sd_bus_message *reply, const Call *call, size_t *bytes, void *state);

BulkQueue *bulk_queue_new(BusSource *source);
/** bulk_queue_free: no job may be left. NULL is fine. Returns: NULL. */
BulkQueue *bulk_queue_free(BulkQueue *queue);

/**
 * bulk_start: answers @call with @reply as @step writes it, at once or later.
 * @reply: (transfer none): with the outer container open, which is closed here.
 * @state: taken over; freed with @free_state in any case.
 * Returns: FALSE with @error OUTCOME_BUSY when too many wait already; the call is then the
 * caller's.
 */
gboolean bulk_start(BulkQueue *queue, Call *call, sd_bus_message *reply, BulkStep step, void *state,
                    GDestroyNotify free_state, GError **error);

/**
 * bulk_hold: keeps a place for the answer of @call, which is not known yet.
 * @of_user_max: how many long answers of the user may wait, with this one.
 * Returns: FALSE with @error as bulk_start().
 */
gboolean bulk_hold(BulkQueue *queue, Call *call, guint of_user_max, GError **error);

/** bulk_fill: what stands in the place of @job, as for bulk_start(); may answer at once. */
void bulk_fill(BulkJob *job, sd_bus_message *reply, BulkStep step, void *state,
               GDestroyNotify free_state);

/** bulk_cancel: forgets a job; its call is left alone. */
void bulk_cancel(BulkJob *job);

/** bulk_forget_caller: the caller has gone, and what he had not read with him. */
void bulk_forget_caller(BulkQueue *queue, Caller *caller);

/**
 * bulk_work: writes one portion of one answer. Returns: whether there is more to do now. What waits
 * for a reader needs another call once something was sent.
 */
gboolean bulk_work(BulkQueue *queue);
