/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "method.h"

#include <errno.h>
#include <sys/syscall.h>
#include <unistd.h>

#define DEPTH_MAX 24
#define LIFE_MAX 1500
/* However busy the machine is: an answer that takes longer is no answer. */
#define ANSWER_USEC (90 * (guint64)G_USEC_PER_SEC)
#define MESSAGES_TURN 32

void fuzz_become(uid_t uid)
{
    /* setresuid(2) of glibc would change all threads. */
    if (syscall(SYS_setresuid, -1, uid, -1) < 0)
        g_error("setresuid: %s", g_strerror(errno));
}

static void pending_free(Pending *pending)
{
    if (pending->actor)
        g_queue_unlink(&pending->actor->pending, &pending->node);
    sd_bus_slot_unref(pending->slot);
    g_free(pending->text);
    g_free(pending);
}

static void lose(Pending *pending)
{
    Fuzz *fuzz = pending->actor->fuzz;

    fuzz->counts.unanswered++;
    /* A block may be as large as its number says. */
    fuzz->lost_grants += pending->may_grant ? MAX(pending->number, 1) : 0;
    pending_free(pending);
}

Actor *actor_new(Fuzz *fuzz, guint number)
{
    Actor *actor = g_new0(Actor, 1);

    actor->fuzz = fuzz;
    actor->number = number;
    actor->transport = number % 2 ? TRANSPORT_DIRECT : TRANSPORT_BUS;
    actor->uid = number / 2 % 2 ? OTHER_UID : 0;
    return actor;
}

void actor_free(Actor *actor)
{
    actor_drop(actor);
    g_free(actor);
}

void actor_drop(Actor *actor)
{
    while (actor->pending.head)
        lose(actor->pending.head->data);
    if (actor->bus) {
        sd_bus_close(actor->bus);
        actor->bus = sd_bus_unref(actor->bus);
    }
    actor->wanton = FALSE;
}

static void connect_actor(Actor *actor)
{
    Fuzz *fuzz = actor->fuzz;

    fuzz_become(actor->uid);
    actor->bus = world_connect(fuzz->world, actor->transport);
    fuzz_become(0);
    if (!actor->bus)
        fuzz_fail(fuzz, "actor %u cannot connect", actor->number);
    fuzz->counts.connections++;
    actor->depth = fuzz_one_in(fuzz, 3) ? 1 : 1 + fuzz_dice(fuzz, DEPTH_MAX);
    actor->life = 1 + fuzz_dice(fuzz, LIFE_MAX);
}

/* The connection is gone: fine where it had earned that. */
static void lost_connection(Actor *actor, const char *why)
{
    Fuzz *fuzz = actor->fuzz;

    fuzz_check_alive(fuzz); /* or it would be its end that is seen here */
    if (!actor->wanton)
        fuzz_fail(fuzz, "actor %u (uid %u, %s) was cut off: %s", actor->number, actor->uid,
                  actor->transport == TRANSPORT_BUS ? "bus" : "direct", why);
    fuzz->counts.cuts++;
    actor_drop(actor);
}

static int on_answer(sd_bus_message *reply, void *data, sd_bus_error *error)
{
    Pending *pending = data;
    Fuzz *fuzz = pending->actor->fuzz;

    if (sd_bus_message_is_method_error(reply, SD_BUS_ERROR_NO_REPLY) ||
        sd_bus_message_is_method_error(reply, "System.Error.ECONNRESET")) {
        if (g_get_monotonic_time() - pending->sent_usec >= (gint64)ANSWER_USEC)
            fuzz_fail(fuzz, "%s of actor %u is not answered",
                      pending->method ? pending->method->member : "a wrong call",
                      pending->actor->number);
        lost_connection(pending->actor, sd_bus_message_get_error(reply)->message);
        return 1;
    }
    fuzz->counts.answers++;
    answer_check(pending, reply);
    pending_free(pending);
    return 1;
}

void actor_send(Actor *actor, sd_bus_message *m, Pending *pending)
{
    Fuzz *fuzz = actor->fuzz;
    int r;

    fuzz->counts.calls++;
    if (!pending) {
        r = sd_bus_message_set_expect_reply(m, FALSE);
        if (r >= 0)
            r = sd_bus_send(actor->bus, m, NULL);
    } else {
        pending->actor = actor;
        pending->node.data = pending;
        pending->sent_usec = g_get_monotonic_time();
        g_queue_push_tail_link(&actor->pending, &pending->node);
        r = sd_bus_call_async(actor->bus, &pending->slot, m, on_answer, pending, ANSWER_USEC);
    }
    sd_bus_message_unref(m);
    if (r < 0)
        lost_connection(actor, g_strerror(-r));
}

void actor_step(Actor *actor)
{
    if (!actor->bus) {
        connect_actor(actor);
        return;
    }
    if (actor->life == 0) {
        actor_drop(actor);
        return;
    }
    if (actor->pending.length >= actor->depth)
        return;
    actor->life--;
    calls_make(actor);
}

void actor_process(Actor *actor)
{
    for (guint i = 0; i < MESSAGES_TURN && actor->bus; i++) {
        sd_bus *bus = sd_bus_ref(actor->bus); /* an answer may end the connection */
        int r = sd_bus_process(bus, NULL);

        if (r < 0 && actor->bus == bus)
            lost_connection(actor, g_strerror(-r));
        sd_bus_unref(bus);
        if (r == 0)
            return;
    }
}
