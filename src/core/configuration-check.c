/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "core/configuration-check.h"

#include <stdlib.h>

/* All pauses of one request together; clients give up far earlier. */
#define PAUSES_MAX_MSEC (60 * 60 * 1000.0)

/* What is suggested instead lies above the ports that only administrators may have. */
#define SUGGESTED_FIRST 1024

/** Claim: one port_range and whose it is: @type is NULL for auto_allocation. */
typedef struct Claim {
    PortRange range;
    const ServiceType *type;
} Claim;

static const ConfigNode *find(const ConfigNode *node, const char *key)
{
    return node && node->kind == JSON_EVENT_OBJECT ? config_node_member(node, key) : NULL;
}

/** node_of: where the range of @claim is written; NULL for the default of auto_allocation. */
static const ConfigNode *node_of(const Claim *claim, const ConfigNode *root)
{
    if (!claim->type)
        return find(find(root, "auto_allocation"), "port_range");
    return find(find(find(root, "service_types"), claim->type->name), "port_range");
}

static char *name_of(const Claim *claim, const ConfigNode *root)
{
    const ConfigNode *node = node_of(claim, root);
    g_autofree char *path = node ? config_node_path(node) : NULL;

    if (!node)
        return g_strdup("auto_allocation.port_range (the default)");
    return g_strdup_printf("%s (%s:%u)", path, node->file, node->line);
}

static int claim_compare(const void *a, const void *b)
{
    const Claim *x = a, *y = b;

    if (x->range.first != y->range.first)
        return x->range.first < y->range.first ? -1 : 1;
    return x->range.last < y->range.last ? -1 : x->range.last > y->range.last;
}

/** claims_of: every range, sorted. (transfer full) */
static GArray *claims_of(const Configuration *config)
{
    GArray *claims = g_array_new(FALSE, FALSE, sizeof(Claim));

    for (guint i = 0; i < config->service_types->len; i++) {
        const ServiceType *type = config->service_types->pdata[i];
        Claim claim = {type->range, type};

        g_array_append_val(claims, claim);
    }
    if (config->auto_enabled) {
        Claim claim = {config->auto_range, NULL};

        g_array_append_val(claims, claim);
    }
    g_array_sort(claims, claim_compare);
    return claims;
}

/** find_free: the lowest @length ports that nobody claims; FALSE where there are none. */
static gboolean find_free(const GArray *claims, guint length, guint *ret_first)
{
    guint first = SUGGESTED_FIRST;

    for (guint i = 0; i < claims->len; i++) {
        PortRange range = g_array_index(claims, Claim, i).range;

        if (range.first >= first + length)
            break;
        first = MAX(first, (guint)range.last + 1);
    }
    if (first + length - 1 > G_MAXUINT16)
        return FALSE;
    *ret_first = first;
    return TRUE;
}

/** later: whether @a was written after @b as far as can be told; a default is never to blame. */
static gboolean later(const Configuration *config, const ConfigNode *a, const ConfigNode *b)
{
    if (!a || !b)
        return !b;
    if (a->file == b->file)
        return a->line > b->line;
    for (char **file = config->files; *file; file++) {
        if (g_str_equal(*file, a->file))
            return FALSE;
        if (g_str_equal(*file, b->file))
            return TRUE;
    }
    return FALSE;
}

static gboolean fail_overlap(const Configuration *config, const GArray *claims, const Claim *a,
                             const Claim *b, const ConfigNode *root, GError **error)
{
    gboolean blame_a = later(config, node_of(a, root), node_of(b, root));
    const Claim *blamed = blame_a ? a : b, *other = blame_a ? b : a;
    g_autofree char *name = name_of(other, root), *way_out = NULL;
    guint length = port_range_length(blamed->range), first;

    if (find_free(claims, length, &first))
        way_out = g_strdup_printf("%u-%u is free, for example", first, first + length - 1);
    else
        way_out =
            g_strdup_printf("no %u consecutive ports are free, make one of them smaller", length);
    return config_node_fail(node_of(blamed, root), NULL, error, "%u-%u overlaps %u-%u of %s; %s",
                            blamed->range.first, blamed->range.last, other->range.first,
                            other->range.last, name, way_out);
}

static gboolean check_overlaps(const Configuration *config, const GArray *claims,
                               const ConfigNode *root, GError **error)
{
    for (guint i = 1; i < claims->len; i++) {
        const Claim *a = &g_array_index(claims, Claim, i - 1),
                    *b = &g_array_index(claims, Claim, i);

        /* Sorted, so that where any two overlap two neighbours do. */
        if (port_range_overlaps(a->range, b->range))
            return fail_overlap(config, claims, a, b, root, error);
    }
    return TRUE;
}

/** claim_at: whose range holds @port. @claims: sorted, free of overlaps. NULL = nobody's. */
static const Claim *claim_at(const GArray *claims, guint16 port)
{
    guint low = 0, high = claims->len;

    while (low < high) {
        guint middle = (low + high) / 2;
        const Claim *claim = &g_array_index(claims, Claim, middle);

        if (port_range_contains(claim->range, port))
            return claim;
        if (port < claim->range.first)
            high = middle;
        else
            low = middle + 1;
    }
    return NULL;
}

static gboolean check_preferred(const ServiceType *type, const GArray *claims,
                                const ConfigNode *root, GError **error)
{
    for (size_t i = 0; i < type->n_preferred_ports; i++) {
        const Claim *claim = claim_at(claims, type->preferred_ports[i]);
        const ConfigNode *ports;
        g_autofree char *name = NULL;

        if (!claim || claim->type == type)
            continue;
        name = name_of(claim, root);
        ports = find(find(find(root, "service_types"), type->name), "preferred_ports");
        return config_node_fail(
            ports->children->pdata[i], NULL, error,
            "port %u belongs to %u-%u of %s; choose one of %u-%u or one that is "
            "in no range",
            type->preferred_ports[i], claim->range.first, claim->range.last, name,
            type->range.first, type->range.last);
    }
    return TRUE;
}

static gboolean check_chunks(const Configuration *config, const ConfigNode *root, GError **error)
{
    const ConfigNode *block = find(root, "auto_allocation"), *rules = find(block, "rules");
    guint length = port_range_length(config->auto_range);
    const ConfigNode *place;

    if (config->auto_chunk_size > length) {
        /* One of the two is written there: the defaults fit each other. */
        place = find(block, "chunk_size") ? find(block, "chunk_size") : find(block, "port_range");
        return config_node_fail(
            place, NULL, error,
            "a chunk of %u ports does not fit into the %u ports of "
            "auto_allocation.port_range; make the chunk smaller or the range larger",
            config->auto_chunk_size, length);
    }
    for (size_t i = 0; i < config->n_auto_rules; i++)
        if (config->auto_rules[i].chunk_size > length) {
            place = find(find(rules, config->auto_rules[i].pattern), "chunk_size");
            return config_node_fail(
                place, NULL, error,
                "a chunk of %u ports does not fit into the %u ports of "
                "auto_allocation.port_range; make the chunk smaller or the range "
                "larger",
                config->auto_rules[i].chunk_size, length);
        }
    return TRUE;
}

static gboolean check_pauses(const Configuration *config, const ConfigNode *root, GError **error)
{
    double pause_msec = config->conflict_backoff_msec, sum_msec = 0;

    for (guint32 i = 0; i < config->conflict_max_retries; i++) {
        sum_msec += pause_msec;
        pause_msec *= config->conflict_backoff_multiplier;
    }
    if (sum_msec <= PAUSES_MAX_MSEC)
        return TRUE;
    return config_node_fail(
        find(find(root, "recovery"), "port_conflict"), NULL, error,
        "the pauses of %u retries from %u ms on, each %g times the one before, add "
        "up to %.0f s; at most %.0f s are allowed, lower one of the three",
        config->conflict_max_retries, config->conflict_backoff_msec,
        config->conflict_backoff_multiplier, sum_msec / 1000, PAUSES_MAX_MSEC / 1000);
}

gboolean configuration_check(const Configuration *config, const ConfigNode *root, GError **error)
{
    g_autoptr(GArray) claims = claims_of(config);

    if (!check_overlaps(config, claims, root, error))
        return FALSE;
    for (guint i = 0; i < config->service_types->len; i++)
        if (!check_preferred(config->service_types->pdata[i], claims, root, error))
            return FALSE;
    if (config->auto_enabled && !check_chunks(config, root, error))
        return FALSE;
    return check_pauses(config, root, error);
}
