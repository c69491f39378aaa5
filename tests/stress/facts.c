/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "facts.h"

#include <string.h>

#define LEASE_LENGTH 32

typedef enum FactState {
    FACT_HELD,
    FACT_RELEASING, /* asked for, no answer yet, or none at all */
    FACT_RELEASED,
} FactState;

typedef struct Known {
    char *lease, *label, *service_type, *instance, *lifetime;
    guint16 port;
    FactState state;
    gboolean seen; /* by the comparison under way */
} Known;

struct Facts {
    GMutex lock;
    GHashTable *known;   /* lease id -> Known *, owned; also what is released, for good */
    GHashTable *pending; /* label -> GUINT: leases of a call without an answer */
    Known *holder[65536];
    FactsCounts counts;
};

static void known_free(void *data)
{
    Known *known = data;

    g_free(known->lease);
    g_free(known->label);
    g_free(known->service_type);
    g_free(known->instance);
    g_free(known->lifetime);
    g_free(known);
}

Facts *facts_new(void)
{
    Facts *facts = g_new0(Facts, 1);

    g_mutex_init(&facts->lock);
    facts->known = g_hash_table_new_full(g_str_hash, g_str_equal, NULL, known_free);
    facts->pending = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    return facts;
}

Facts *facts_free(Facts *facts)
{
    if (!facts)
        return NULL;
    g_hash_table_unref(facts->known);
    g_hash_table_unref(facts->pending);
    g_mutex_clear(&facts->lock);
    g_free(facts);
    return NULL;
}

static char *enter(Facts *facts, const Grant *grant)
{
    const Known *holder = facts->holder[grant->port];
    Known *known;

    if (g_hash_table_contains(facts->known, grant->lease))
        return g_strdup_printf("lease %s was granted a second time", grant->lease);
    if (holder)
        return g_strdup_printf("port %u was granted as lease %s (%s) while lease %s (%s) has it",
                               grant->port, grant->lease, grant->label, holder->lease,
                               holder->label);
    known = g_new0(Known, 1);
    known->lease = g_strdup(grant->lease);
    known->label = g_strdup(grant->label);
    known->service_type = g_strdup(grant->service_type);
    known->instance = g_strdup(grant->instance);
    known->lifetime = g_strdup(grant->lifetime);
    known->port = grant->port;
    g_hash_table_insert(facts->known, known->lease, known);
    facts->holder[grant->port] = known;
    return NULL;
}

char *facts_granted(Facts *facts, const Grant *grant)
{
    G_GNUC_UNUSED g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&facts->lock);

    facts->counts.granted++;
    return enter(facts, grant);
}

char *facts_handed_back(Facts *facts, const Grant *grant)
{
    G_GNUC_UNUSED g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&facts->lock);
    const Known *known = g_hash_table_lookup(facts->known, grant->lease);

    if (!known || known->state != FACT_HELD || known->port != grant->port ||
        g_strcmp0(known->instance, grant->instance) != 0)
        return g_strdup_printf("instance %s has got lease %s on port %u, which is not its own",
                               grant->instance, grant->lease, grant->port);
    return NULL;
}

void facts_maybe_granted(Facts *facts, const char *label, guint count)
{
    G_GNUC_UNUSED g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&facts->lock);

    facts->counts.unanswered++;
    g_hash_table_replace(facts->pending, g_strdup(label), GUINT_TO_POINTER(count));
}

void facts_releasing(Facts *facts, const char *lease)
{
    G_GNUC_UNUSED g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&facts->lock);
    Known *known = g_hash_table_lookup(facts->known, lease);

    g_assert_nonnull(known);
    known->state = FACT_RELEASING;
    if (facts->holder[known->port] == known)
        facts->holder[known->port] = NULL;
}

void facts_released(Facts *facts, const char *lease)
{
    G_GNUC_UNUSED g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&facts->lock);
    Known *known = g_hash_table_lookup(facts->known, lease);

    facts->counts.released++;
    known->state = FACT_RELEASED;
}

/* ---- after a restart ---- */

static char *compare_known(Facts *facts, Known *known, const Grant *grant)
{
    if (known->state == FACT_RELEASED)
        return g_strdup_printf("lease %s (%s) on port %u was released and is back", known->lease,
                               known->label, known->port);
    if (known->seen)
        return g_strdup_printf("lease %s is there twice", known->lease);
    if (known->port != grant->port || g_strcmp0(known->label, grant->label) != 0 ||
        g_strcmp0(known->service_type, grant->service_type) != 0 ||
        g_strcmp0(known->instance, grant->instance) != 0 ||
        g_strcmp0(known->lifetime, grant->lifetime) != 0)
        return g_strdup_printf("lease %s (%s) on port %u is now %s on port %u", known->lease,
                               known->label, known->port, grant->label, grant->port);
    known->seen = TRUE;
    known->state = FACT_HELD; /* the release without an answer was not carried out */
    facts->holder[known->port] = known;
    return NULL;
}

static char *compare_unknown(Facts *facts, const Grant *grant)
{
    guint left =
        GPOINTER_TO_UINT(grant->label ? g_hash_table_lookup(facts->pending, grant->label) : NULL);
    char *wrong;

    if (left == 0)
        return g_strdup_printf("lease %s (%s) on port %u: nobody has asked for it", grant->lease,
                               grant->label, grant->port);
    g_hash_table_replace(facts->pending, g_strdup(grant->label), GUINT_TO_POINTER(left - 1));
    wrong = enter(facts, grant);
    if (wrong)
        return wrong;
    ((Known *)g_hash_table_lookup(facts->known, grant->lease))->seen = TRUE;
    facts->counts.came_true++;
    return NULL;
}

/* What the daemon does not have: held it must not be, and of a block all or none. */
static char *settle(Facts *facts, GHashTable *asked)
{
    GHashTableIter iter;
    void *key, *value;

    g_hash_table_iter_init(&iter, facts->known);
    while (g_hash_table_iter_next(&iter, NULL, &value)) {
        Known *known = value;

        if (!known->seen && known->state == FACT_HELD)
            return g_strdup_printf("lease %s (%s) on port %u, lifetime %s, is lost", known->lease,
                                   known->label, known->port, known->lifetime);
        if (!known->seen)
            known->state = FACT_RELEASED;
        known->seen = FALSE;
    }
    g_hash_table_iter_init(&iter, facts->pending);
    while (g_hash_table_iter_next(&iter, &key, &value)) {
        guint count = GPOINTER_TO_UINT(g_hash_table_lookup(asked, key));
        guint left = GPOINTER_TO_UINT(value);

        if (left != 0 && left != count)
            return g_strdup_printf("of the block %s only %u of %u leases are there",
                                   (const char *)key, count - left, count);
    }
    g_hash_table_remove_all(facts->pending);
    return NULL;
}

static gboolean copy_entry(void *key, void *value, void *data)
{
    g_hash_table_insert(data, g_strdup(key), value);
    return FALSE;
}

char *facts_compare(Facts *facts, const GArray *grants)
{
    G_GNUC_UNUSED g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&facts->lock);
    g_autoptr(GHashTable) asked = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    g_autofree guint8 *taken = g_malloc0(65536);

    (void)g_hash_table_find(facts->pending, copy_entry, asked);
    for (guint i = 0; i < grants->len; i++) {
        const Grant *grant = &g_array_index(grants, Grant, i);
        Known *known = g_hash_table_lookup(facts->known, grant->lease);
        char *wrong;

        if (taken[grant->port]++)
            return g_strdup_printf("port %u is there twice", grant->port);
        wrong = known ? compare_known(facts, known, grant) : compare_unknown(facts, grant);
        if (wrong)
            return wrong;
    }
    return settle(facts, asked);
}

/* ---- the files ---- */

/* The number after the first @key in @text, 0 without one. */
static guint64 number_after(const char *text, const char *key)
{
    const char *at = strstr(text, key);

    return at ? g_ascii_strtoull(at + strlen(key), NULL, 10) : 0;
}

/* Applies each mention of a lease in one line of a journal to @there: a set of lease ids. */
static void collect_line(const char *text, GHashTable *there)
{
    static const char marker[] = "{\"lease\":\"";
    static const char drop[] = "\"drop_lease\":";

    for (const char *at = text; (at = strstr(at, marker)); at += strlen(marker)) {
        const char *id = at + strlen(marker);
        gboolean is_drop =
            at - text >= (ptrdiff_t)strlen(drop) && g_str_has_prefix(at - strlen(drop), drop);

        if (strnlen(id, LEASE_LENGTH) < LEASE_LENGTH)
            return;
        if (is_drop) {
            g_autofree char *gone = g_strndup(id, LEASE_LENGTH);

            g_hash_table_remove(there, gone);
        } else {
            g_hash_table_add(there, g_strndup(id, LEASE_LENGTH));
        }
    }
}

/*
 * @sequence: of the snapshot: what came before it is in it. A kill right after a snapshot that was
 * made at a start leaves the journals from before it.
 */
static void collect(const char *text, guint64 sequence, GHashTable *there)
{
    g_auto(GStrv) lines = g_strsplit(text, "\n", -1);

    for (guint i = 0; lines[i]; i++)
        if (number_after(lines[i], "\"seq\":") > sequence)
            collect_line(lines[i], there);
}

/* In the snapshot the id of a record comes after its checksum. */
static void collect_snapshot(const char *text, GHashTable *there)
{
    static const char marker[] = "\",\"lease\":\"";

    for (const char *at = text; (at = strstr(at, marker)); at += strlen(marker))
        if (strnlen(at + strlen(marker), LEASE_LENGTH) == LEASE_LENGTH)
            g_hash_table_add(there, g_strndup(at + strlen(marker), LEASE_LENGTH));
}

char *facts_check_files(Facts *facts, const char *state)
{
    static const char *const journals[] = {"state.journal.old", "state.journal"};
    G_GNUC_UNUSED g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&facts->lock);
    g_autoptr(GHashTable) there = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    g_autofree char *path = g_build_filename(state, "state.json", NULL);
    g_autofree char *snapshot = NULL;
    guint64 sequence = 0;
    GHashTableIter iter;
    void *value;

    if (g_file_get_contents(path, &snapshot, NULL, NULL)) {
        sequence = number_after(snapshot, "\"sequence\":");
        collect_snapshot(snapshot, there);
    }
    for (guint i = 0; i < G_N_ELEMENTS(journals); i++) {
        g_autofree char *name = g_build_filename(state, journals[i], NULL);
        g_autofree char *journal = NULL;

        if (g_file_get_contents(name, &journal, NULL, NULL))
            collect(journal, sequence, there);
    }
    g_hash_table_iter_init(&iter, facts->known);
    while (g_hash_table_iter_next(&iter, NULL, &value)) {
        const Known *known = value;
        gboolean is_there = g_hash_table_contains(there, known->lease);

        if (known->state == FACT_HELD && !is_there)
            return g_strdup_printf("the files do not know of lease %s (%s), which was granted",
                                   known->lease, known->label);
        if (known->state == FACT_RELEASED && is_there)
            return g_strdup_printf("the files still have lease %s (%s), which was released",
                                   known->lease, known->label);
    }
    return NULL;
}

FactsCounts facts_counts(Facts *facts)
{
    G_GNUC_UNUSED g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&facts->lock);

    return facts->counts;
}
