/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>
#include <sys/types.h>
#include <systemd/sd-bus.h>

#include "bus/connection.h"

/** Caller: who is on the other side, as the broker or the kernel says, never as he says himself. */
struct Caller {
    Connection *connection; /* borrowed */
    char *name;             /* owned: key of his LIFETIME_CLIENT leases: ":1.7", "direct:7" */
    uid_t uid;
    pid_t pid;              /* 0 = not known; for information, not for decisions */
    int pidfd;              /* owned, -1 = not known */
    guint64 start_ticks;    /* without a pidfd: when the process started; 0 = not known */
    gboolean administrator; /* root, or the user himself where the daemon is his own */
    char *unit;             /* owned; caller_unit() fills it in */
    gboolean unit_known;
    GQueue calls;        /* of Call, owned by themselves */
    size_t unread_bytes; /* direct: long answers that have not left; 0 = none */
    GList unread;        /* intrusive, in the bulk queue, where there are any */
};

typedef struct AuthorityQuestion AuthorityQuestion;

/** Call: a method call that is answered later, or at least by another function. */
typedef struct Call {
    BusContext *context;     /* borrowed; NULL like ->caller */
    Caller *caller;          /* borrowed; NULL once he has gone: answers are dropped then */
    sd_bus_message *message; /* owned reference */
    ManagerJob *job;         /* borrowed; while the manager works on it */
    struct AuthorityQuestion *asking; /* borrowed; while polkit is being asked */
    GSList *grants;                   /* of char *, owned: what polkit has allowed so far */
    void *bulk;                       /* borrowed; while its answer is being written in portions */
    void *picture;                    /* borrowed; while the kernel is asked for its sockets */
    guint number;                     /* for the method's own use */
    GList node;
} Call;

/** caller_init: @name is copied, @pidfd is taken over. */
void caller_init(Caller *caller, Connection *connection, const char *name, uid_t uid, pid_t pid,
                 int pidfd);

/** caller_stops_waiting: what he waits for is cancelled, and nothing of it is answered. */
void caller_stops_waiting(Caller *caller);

/**
 * caller_gone: the caller has left: what he waits for is cancelled, his LIFETIME_CLIENT leases end,
 * and all that @caller owns is freed, not @caller itself.
 */
void caller_gone(Caller *caller);

/**
 * caller_lost: as caller_gone(), but the caller had no part in it (the broker went, or we do): his
 * LIFETIME_CLIENT leases may be claimed again.
 */
void caller_lost(Caller *caller);

/** caller_unit: (nullable) (transfer none): the systemd unit that he runs in, asked for once. */
const char *caller_unit(Caller *caller);

/** caller_has_leases: whether LIFETIME_CLIENT leases end when he leaves. */
gboolean caller_has_leases(const Caller *caller);

/** caller_is_needed: whether his departure would have to be noticed. */
gboolean caller_is_needed(const Caller *caller);

/**
 * call_new: keeps the call @m of the connection's present caller.
 * Returns: NULL with @error set (QuotaExceeded) when too many of his wait already.
 */
Call *call_new(Connection *connection, sd_bus_message *m, sd_bus_error *error);

/** call_free: answers nothing. Returns: NULL. */
Call *call_free(Call *call);

/** call_send: sends @reply unless the caller has gone, and frees the call. Returns: as
 * sd_bus_send(). */
int call_send(Call *call, sd_bus_message *reply);

/** call_refuse: answers with @error and frees the call. */
void call_refuse(Call *call, const GError *error);
