/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>
#include <sys/types.h>

/*
 * Model: what must hold, whatever is called. It is fed from two sides: the signals, which tell the
 * daemon's own story in its order, and the answers that callers get, in any order among
 * connections. Both must fit, and both must fit List when all is quiet.
 *
 * What contradicts is returned as a text (transfer full), NULL = all is well.
 */
typedef struct Model Model;

#define MODEL_TCP 1u
#define MODEL_UDP 2u

/** Grant: one lease as an answer, a signal or List tells of it. Borrowed strings. */
typedef struct Grant {
    const char *lease;
    guint16 port;
    guint protocol; /* MODEL_TCP | MODEL_UDP; 0 = not known */
    uid_t uid;
    gboolean persistent;
    gboolean of_client;
    gboolean has_process, has_ttl, has_health_url;
    guint64 asked_at; /* model_now() when the call was sent */
} Grant;

Model *model_new(void);
Model *model_free(Model *model);

/** model_protocol: "tcp", "udp", "both"; 0 for anything else. */
guint model_protocol(const char *text);
/** model_is_reason: whether @text is a documented reason for the end of a lease. */
gboolean model_is_reason(const char *text);

/** model_now: the model's time, which goes on with each answer to Release. */
guint64 model_now(const Model *model);

/* Before a call that may end leases: from here on it may have been carried out. */
void model_asks_release(Model *model, const char *lease, uid_t uid);
void model_asks_release_port(Model *model, guint16 port, uid_t uid);
void model_asks_release_instance(Model *model, uid_t uid);

/** model_granted: an answer to a caller of @grant->uid. @reused: the lease of an earlier answer. */
char *model_granted(Model *model, const Grant *grant, gboolean reused);
/** model_released: the answer to Release. */
char *model_released(Model *model, const char *lease, uid_t by);
/** model_renewed: the answer to Renew. */
char *model_renewed(Model *model, const char *lease, uid_t by);
/** model_looked_up: the answer to GetLease, or an entry of a List. */
char *model_looked_up(Model *model, const Grant *grant);

char *model_told_allocated(Model *model, const Grant *grant);
char *model_told_released(Model *model, const Grant *grant, const char *reason);

/**
 * model_compare: while no call is under way: @listed (of Grant) is all that the daemon has.
 * Returns: (transfer full): the first difference; signals may still be on their way.
 */
char *model_compare(const Model *model, const GArray *listed);
/** model_settle: after a comparison without a difference: forgets what is over. Returns: as all. */
char *model_settle(Model *model, guint quota);

/**
 * model_restarted: the daemon was started anew and has @listed. Checks that nothing persistent is
 * lost and nothing that was released is back, and goes on from there.
 * @unanswered: calls that may grant and whose answer is not known.
 */
char *model_restarted(Model *model, const GArray *listed, guint unanswered);

/** model_any_lease: some lease that lives, or one that has ended; NULL = there is none. */
const char *model_any_lease(const Model *model, GRand *dice);
/** model_any_port: the port of some lease that lives; 0 = there is none. */
guint16 model_any_port(const Model *model, GRand *dice);
guint model_living(const Model *model);
