/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "model.h"

#include <string.h>

/* Ids of ended leases that are kept to be asked for again. */
#define ENDED_MAX 64

typedef enum Life {
    LIFE_UNKNOWN, /* an answer told of it, the signal has not come yet */
    LIFE_LIVING,
    LIFE_ENDED,
} Life;

typedef enum Asked {
    ASKED_BY_ROOT = 1,
    ASKED_BY_OTHER = 2,
} Asked;

typedef struct Known {
    char id[33];
    guint16 port;
    guint protocol;
    uid_t uid;
    gboolean answered; /* a caller knows of it; the members below are his */
    gboolean persistent, of_client, has_process, has_ttl, has_health_url;
    Life life;
    guint place; /* in ->living */
    guint asked; /* of Asked: who may have released it by its id */
    gboolean release_answered;
} Known;

struct Model {
    GHashTable *known;    /* id -> Known, owned: all but what is forgotten */
    GHashTable *released; /* id -> model_now(), owned: what is asked for later gets another one */
    guint64 now;
    GPtrArray *living; /* of Known, borrowed */
    Known *holder[2][65536];
    guint8 asked_port[65536]; /* of Asked */
    guint asked_instance;     /* of Asked */
    GPtrArray *ended;         /* of ids, owned */
};

Model *model_new(void)
{
    Model *model = g_new0(Model, 1);

    model->known = g_hash_table_new_full(g_str_hash, g_str_equal, NULL, g_free);
    model->released = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
    model->living = g_ptr_array_new();
    model->ended = g_ptr_array_new_with_free_func(g_free);
    return model;
}

Model *model_free(Model *model)
{
    g_hash_table_unref(model->known);
    g_hash_table_unref(model->released);
    g_ptr_array_unref(model->living);
    g_ptr_array_unref(model->ended);
    g_free(model);
    return NULL;
}

guint model_protocol(const char *text)
{
    if (g_strcmp0(text, "tcp") == 0)
        return MODEL_TCP;
    if (g_strcmp0(text, "udp") == 0)
        return MODEL_UDP;
    return g_strcmp0(text, "both") == 0 ? MODEL_TCP | MODEL_UDP : 0;
}

gboolean model_is_reason(const char *text)
{
    static const char *const reasons[] = {
        "released", "process-exited", "not-in-use", "never-bound",         "unhealthy",
        "expired",  "client-gone",    "orphaned",   "duplicate-singleton", "rebooted",
        NULL};

    return g_strv_contains(reasons, text);
}

static gboolean is_id(const char *text)
{
    return strlen(text) == 32 && strspn(text, "0123456789abcdef") == 32;
}

static Known *know(Model *model, const char *id)
{
    Known *known = g_hash_table_lookup(model->known, id);

    if (known)
        return known;
    known = g_new0(Known, 1);
    (void)g_strlcpy(known->id, id, sizeof known->id);
    g_hash_table_insert(model->known, known->id, known);
    return known;
}

static guint asked_by(uid_t uid)
{
    return uid == 0 ? ASKED_BY_ROOT : ASKED_BY_OTHER;
}

/* ---- life ---- */

static char *begin_life(Model *model, Known *known)
{
    for (guint i = 0; i < 2; i++) {
        const Known *holder = model->holder[i][known->port];

        if (!(known->protocol & (1u << i)))
            continue;
        if (holder && holder->answered)
            return g_strdup_printf("port %u is lease %s's although lease %s lives", known->port,
                                   known->id, holder->id);
        model->holder[i][known->port] = known;
    }
    known->life = LIFE_LIVING;
    known->place = model->living->len;
    g_ptr_array_add(model->living, known);
    return NULL;
}

static void end_life(Model *model, Known *known)
{
    Known *last = model->living->pdata[model->living->len - 1];

    for (guint i = 0; i < 2; i++)
        if (model->holder[i][known->port] == known)
            model->holder[i][known->port] = NULL;
    last->place = known->place;
    model->living->pdata[known->place] = last;
    g_ptr_array_set_size(model->living, (gint)model->living->len - 1);
    known->life = LIFE_ENDED;
    g_ptr_array_add(model->ended, g_strdup(known->id));
    if (model->ended->len > ENDED_MAX)
        g_ptr_array_remove_index_fast(model->ended, 0);
}

/* ---- what is asked for ---- */

guint64 model_now(const Model *model)
{
    return model->now;
}

void model_asks_release(Model *model, const char *lease, uid_t uid)
{
    Known *known = g_hash_table_lookup(model->known, lease);

    if (known)
        known->asked |= asked_by(uid);
}

void model_asks_release_port(Model *model, guint16 port, uid_t uid)
{
    model->asked_port[port] |= (guint8)asked_by(uid);
}

void model_asks_release_instance(Model *model, uid_t uid)
{
    model->asked_instance |= asked_by(uid);
}

/* Whether somebody who may has asked for its release. */
static gboolean may_be_released(const Model *model, const Known *known)
{
    guint asked = known->asked | model->asked_port[known->port];

    return (asked & (ASKED_BY_ROOT | asked_by(known->uid))) ||
           (model->asked_instance & asked_by(known->uid));
}

/* ---- answers ---- */

char *model_granted(Model *model, const Grant *grant, gboolean reused)
{
    const guint64 *released_at = g_hash_table_lookup(model->released, grant->lease);
    Known *known;

    if (!is_id(grant->lease) || grant->port == 0)
        return g_strdup_printf("lease %s on port %u was granted", grant->lease, grant->port);
    /* The answers of two connections may come in another order than they were given in. */
    if (released_at && grant->asked_at >= *released_at)
        return g_strdup_printf("lease %s was released and is granted", grant->lease);
    known = know(model, grant->lease);
    if ((known->life != LIFE_UNKNOWN || known->answered) && known->port != grant->port)
        return g_strdup_printf("lease %s is on port %u and was granted as %u", known->id,
                               known->port, grant->port);
    if (reused)
        return NULL;
    if (known->answered)
        return g_strdup_printf("lease %s was granted twice", known->id);
    if (known->life != LIFE_UNKNOWN && known->uid != grant->uid)
        return g_strdup_printf("lease %s of uid %u was granted to uid %u", known->id, known->uid,
                               grant->uid);
    known->port = grant->port;
    known->uid = grant->uid;
    known->answered = TRUE;
    known->persistent = grant->persistent;
    known->of_client = grant->of_client;
    known->has_process = grant->has_process;
    known->has_ttl = grant->has_ttl;
    known->has_health_url = grant->has_health_url;
    return NULL;
}

static char *check_owner(const Model *model, const char *lease, uid_t by, const char *what)
{
    const Known *known = g_hash_table_lookup(model->known, lease);

    if (known && (known->answered || known->life != LIFE_UNKNOWN) && by != 0 && known->uid != by)
        return g_strdup_printf("uid %u has %s lease %s of uid %u", by, what, lease, known->uid);
    return NULL;
}

char *model_released(Model *model, const char *lease, uid_t by)
{
    Known *known = g_hash_table_lookup(model->known, lease);

    if (known)
        known->release_answered = TRUE;
    model->now++;
    if (!g_hash_table_insert(model->released, g_strdup(lease),
                             g_memdup2(&model->now, sizeof model->now)))
        return g_strdup_printf("lease %s was released twice", lease);
    return check_owner(model, lease, by, "released");
}

char *model_renewed(Model *model, const char *lease, uid_t by)
{
    return check_owner(model, lease, by, "renewed");
}

char *model_looked_up(Model *model, const Grant *grant)
{
    const Known *known = g_hash_table_lookup(model->known, grant->lease);

    if (!is_id(grant->lease))
        return g_strdup_printf("\"%s\" is no lease", grant->lease);
    if (!known || known->life == LIFE_UNKNOWN)
        return NULL;
    if (known->port != grant->port || known->protocol != grant->protocol ||
        known->uid != grant->uid)
        return g_strdup_printf("lease %s is on port %u/%u of uid %u and was looked up as %u/%u of "
                               "uid %u",
                               known->id, known->port, known->protocol, known->uid, grant->port,
                               grant->protocol, grant->uid);
    return NULL;
}

/* ---- signals ---- */

char *model_told_allocated(Model *model, const Grant *grant)
{
    Known *known;

    if (!is_id(grant->lease) || grant->port == 0 || grant->protocol == 0)
        return g_strdup_printf("PortAllocated tells of lease %s on port %u", grant->lease,
                               grant->port);
    known = know(model, grant->lease);
    /* Answers may overtake it, even that to the release. */
    if (known->life != LIFE_UNKNOWN ||
        (!known->release_answered && g_hash_table_contains(model->released, grant->lease)))
        return g_strdup_printf("PortAllocated tells of lease %s a second time", known->id);
    if (known->answered && (known->port != grant->port || known->uid != grant->uid))
        return g_strdup_printf("PortAllocated tells of lease %s on port %u of uid %u, the answer "
                               "of port %u of uid %u",
                               known->id, grant->port, grant->uid, known->port, known->uid);
    known->port = grant->port;
    known->protocol = grant->protocol;
    known->uid = grant->uid;
    return begin_life(model, known);
}

/* What an answer said of the lease must allow the reason of its end. */
static char *check_reason(const Model *model, const Known *known, const char *reason)
{
    gboolean fits = TRUE;

    if (!model_is_reason(reason))
        return g_strdup_printf("\"%s\" is no reason for the end of a lease", reason);
    if (!known->answered)
        return NULL; /* what was asked for is not known, and its answer may have failed */
    if (strcmp(reason, "released") == 0)
        fits = may_be_released(model, known);
    else if (strcmp(reason, "expired") == 0)
        fits = known->has_ttl;
    else if (strcmp(reason, "client-gone") == 0)
        fits = known->of_client;
    else if (strcmp(reason, "process-exited") == 0)
        fits = known->has_process;
    else if (strcmp(reason, "unhealthy") == 0)
        fits = known->has_health_url;
    else if (strcmp(reason, "rebooted") == 0)
        fits = FALSE;
    else
        fits = !known->persistent;
    return fits ? NULL
                : g_strdup_printf("lease %s on port %u of uid %u has ended as %s, which nothing "
                                  "explains",
                                  known->id, known->port, known->uid, reason);
}

char *model_told_released(Model *model, const Grant *grant, const char *reason)
{
    Known *known = g_hash_table_lookup(model->known, grant->lease);
    char *wrong;

    if (!known || known->life != LIFE_LIVING)
        return g_strdup_printf("PortReleased (%s) tells of lease %s, which %s", reason,
                               grant->lease, known ? "has ended" : "never was");
    if (known->port != grant->port)
        return g_strdup_printf("PortReleased tells of lease %s on port %u, not %u", known->id,
                               grant->port, known->port);
    wrong = check_reason(model, known, reason);
    if (!wrong)
        end_life(model, known);
    return wrong;
}

/* ---- List ---- */

char *model_compare(const Model *model, const GArray *listed)
{
    g_autofree guint8 *taken = g_malloc0(65536); /* of MODEL_TCP, MODEL_UDP */
    GHashTableIter iter;
    void *value;

    for (guint i = 0; i < listed->len; i++) {
        const Grant *grant = &g_array_index(listed, Grant, i);
        const Known *known = g_hash_table_lookup(model->known, grant->lease);

        if (taken[grant->port] & grant->protocol)
            return g_strdup_printf("List has port %u twice", grant->port);
        taken[grant->port] |= (guint8)grant->protocol;
        if (!known || known->life != LIFE_LIVING || known->port != grant->port ||
            known->uid != grant->uid)
            return g_strdup_printf("List has lease %s on port %u, no signal says so", grant->lease,
                                   grant->port);
    }
    if (listed->len != model->living->len)
        return g_strdup_printf("List has %u leases, by the signals there are %u", listed->len,
                               model->living->len);
    g_hash_table_iter_init(&iter, model->known);
    while (g_hash_table_iter_next(&iter, NULL, &value))
        if (((const Known *)value)->life == LIFE_UNKNOWN)
            return g_strdup_printf("lease %s was granted, and no signal says so",
                                   ((const Known *)value)->id);
    return NULL;
}

char *model_settle(Model *model, guint quota)
{
    g_autoptr(GHashTable) charged = g_hash_table_new(NULL, NULL);
    GHashTableIter iter;
    void *value;

    g_hash_table_iter_init(&iter, model->known);
    while (g_hash_table_iter_next(&iter, NULL, &value)) {
        Known *known = value;
        void *uid = GUINT_TO_POINTER(known->uid);
        guint n = GPOINTER_TO_UINT(g_hash_table_lookup(charged, uid)) + 1;

        if (known->life != LIFE_LIVING) {
            g_hash_table_iter_remove(&iter);
            continue;
        }
        if (known->release_answered)
            return g_strdup_printf("lease %s was released and lives", known->id);
        known->asked = 0;
        g_hash_table_insert(charged, uid, GUINT_TO_POINTER(n));
        if (known->uid != 0 && n > quota)
            return g_strdup_printf("uid %u has more than its %u leases", known->uid, quota);
    }
    memset(model->asked_port, 0, sizeof model->asked_port);
    model->asked_instance = 0;
    return NULL;
}

/* ---- another life of the daemon ---- */

/* Whether only a release can end it. */
static gboolean is_safe(const Known *known)
{
    return known->persistent && !known->has_ttl && !known->has_process && !known->has_health_url;
}

static char *take(Model *model, const Grant *grant, guint *unanswered)
{
    Known *known = know(model, grant->lease);

    if (g_hash_table_contains(model->released, grant->lease) || known->life == LIFE_ENDED)
        return g_strdup_printf("lease %s on port %u had ended and is back", known->id, grant->port);
    if (!known->answered && known->life == LIFE_UNKNOWN && (*unanswered)-- == 0)
        return g_strdup_printf("lease %s on port %u: nobody has asked for it", known->id,
                               grant->port);
    if ((known->answered || known->life == LIFE_LIVING) &&
        (known->port != grant->port || known->uid != grant->uid))
        return g_strdup_printf("lease %s was on port %u of uid %u and is on port %u of uid %u",
                               known->id, known->port, known->uid, grant->port, grant->uid);
    if (known->life == LIFE_LIVING)
        end_life(model, known);
    known->port = grant->port;
    known->protocol = grant->protocol;
    known->uid = grant->uid;
    return begin_life(model, known);
}

char *model_restarted(Model *model, const GArray *listed, guint unanswered)
{
    g_autoptr(GHashTable) there = g_hash_table_new(g_str_hash, g_str_equal);
    GHashTableIter iter;
    void *value;

    for (guint i = 0; i < listed->len; i++)
        g_hash_table_add(there, (void *)g_array_index(listed, Grant, i).lease);
    g_hash_table_iter_init(&iter, model->known);
    while (g_hash_table_iter_next(&iter, NULL, &value)) {
        Known *known = value;

        if (g_hash_table_contains(there, known->id))
            continue;
        if (known->answered && is_safe(known) && known->life != LIFE_ENDED &&
            !may_be_released(model, known))
            return g_strdup_printf("lease %s on port %u of uid %u is persistent, and lost",
                                   known->id, known->port, known->uid);
        if (known->life == LIFE_LIVING)
            end_life(model, known);
        known->life = LIFE_ENDED;
    }
    for (guint i = 0; i < listed->len; i++) {
        char *wrong = take(model, &g_array_index(listed, Grant, i), &unanswered);

        if (wrong)
            return wrong;
    }
    return NULL;
}

/* ---- for the callers ---- */

const char *model_any_lease(const Model *model, GRand *dice)
{
    gboolean ended = model->living->len == 0 || g_rand_int_range(dice, 0, 8) == 0;

    if (ended && model->ended->len > 0)
        return model->ended->pdata[g_rand_int_range(dice, 0, (gint32)model->ended->len)];
    if (model->living->len == 0)
        return NULL;
    return ((const Known *)
                model->living->pdata[g_rand_int_range(dice, 0, (gint32)model->living->len)])
        ->id;
}

guint16 model_any_port(const Model *model, GRand *dice)
{
    if (model->living->len == 0)
        return 0;
    return ((const Known *)
                model->living->pdata[g_rand_int_range(dice, 0, (gint32)model->living->len)])
        ->port;
}

guint model_living(const Model *model)
{
    return model->living->len;
}
