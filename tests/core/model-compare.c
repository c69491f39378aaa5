/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "model.h"

static const char *static_text(const char *const *texts, size_t n, const char *text)
{
    for (size_t i = 0; i < n; i++)
        if (model_same(texts[i], text))
            return texts[i];
    g_assert_not_reached();
}

static const MLease *model_at(guint port, Protocol protocol)
{
    for (guint bit = PROTOCOL_TCP; bit <= PROTOCOL_UDP; bit <<= 1)
        for (guint i = 0; i < model.leases->len && (protocol & bit); i++)
            if (LEASE_AT(i)->port == port && (LEASE_AT(i)->protocol & bit))
                return LEASE_AT(i);
    return NULL;
}

static int compare_places(gconstpointer a, gconstpointer b)
{
    const MLease *x = *(MLease *const *)a;
    const MLease *y = *(MLease *const *)b;

    return x->port != y->port ? x->port - y->port : (int)x->protocol - (int)y->protocol;
}

static void compare_walk(void)
{
    g_autoptr(GPtrArray) sorted = g_ptr_array_new();
    guint32 cursor = 0;

    for (guint i = 0; i < model.leases->len; i++) {
        const MLease *lease = LEASE_AT(i);

        g_ptr_array_add(sorted, LEASE_AT(i));
        g_assert_true(registry_find(model.real, lease->id) == lease->real);
        g_assert_cmpuint(lease->real->port, ==, lease->port);
        g_assert_cmpint(lease->real->protocol, ==, lease->protocol);
        g_assert_cmpint(lease->real->uid, ==, lease->uid);
        g_assert_cmpstr(lease->real->service_type, ==, lease->type);
        g_assert_cmpstr(lease->real->instance, ==, lease->instance);
    }
    g_ptr_array_sort(sorted, compare_places);
    for (guint i = 0; i < sorted->len; i++)
        g_assert_true(registry_next_port(model.real, &cursor) ==
                      ((const MLease *)sorted->pdata[i])->real);
    g_assert_null(registry_next_port(model.real, &cursor));
    g_assert_cmpuint(registry_count(model.real), ==, model.leases->len);
}

/* Each list is a walk over the model from its newest lease to its oldest. */
static void compare_lists(void)
{
    const Lease *by_uid[G_N_ELEMENTS(model_uids)];
    const Lease *by_type[G_N_ELEMENTS(model_types)];
    const Lease *by_client[G_N_ELEMENTS(model_clients)];
    guint by_pid[4] = {0};

    for (size_t i = 0; i < G_N_ELEMENTS(model_uids); i++) {
        by_uid[i] = registry_first_of_uid(model.real, model_uids[i]);
        g_assert_cmpuint(registry_count_of_uid(model.real, model_uids[i]), ==,
                         model_leases_of(model_uids[i]));
    }
    for (size_t i = 0; i < G_N_ELEMENTS(model_types); i++)
        by_type[i] = registry_first_of_type(model.real, model_types[i]);
    for (size_t i = 0; i < G_N_ELEMENTS(model_clients); i++)
        by_client[i] = registry_first_of_client(model.real, model_clients[i]);
    for (guint i = model.leases->len; i-- > 0;) {
        const MLease *lease = LEASE_AT(i);

        for (size_t j = 0; j < G_N_ELEMENTS(model_uids); j++)
            if (lease->uid == model_uids[j]) {
                g_assert_true(by_uid[j] == lease->real);
                by_uid[j] = by_uid[j]->by_uid.next;
            }
        for (size_t j = 0; j < G_N_ELEMENTS(model_types); j++)
            if (model_same(lease->type, model_types[j])) {
                g_assert_true(by_type[j] == lease->real);
                by_type[j] = by_type[j]->by_type.next;
            }
        for (size_t j = 0; j < G_N_ELEMENTS(model_clients); j++)
            if (model_same(lease->client, model_clients[j])) {
                g_assert_true(by_client[j] == lease->real);
                by_client[j] = by_client[j]->by_client.next;
            }
        by_pid[lease->pid]++;
    }
    for (size_t j = 0; j < G_N_ELEMENTS(model_uids); j++)
        g_assert_null(by_uid[j]);
    for (size_t j = 0; j < G_N_ELEMENTS(model_types); j++)
        g_assert_null(by_type[j]);
    for (size_t j = 0; j < G_N_ELEMENTS(model_clients); j++)
        g_assert_null(by_client[j]);
    for (pid_t pid = 1; pid < 4; pid++) { /* in the order in which they were named, no other */
        guint n = 0;

        for (const Lease *lease = registry_first_of_pid(model.real, pid); lease;
             lease = lease->by_pid.next) {
            g_assert_cmpint(lease->process.pid, ==, pid);
            n++;
        }
        g_assert_cmpuint(n, ==, by_pid[pid]);
    }
}

static void compare_instances(void)
{
    for (size_t t = 0; t < G_N_ELEMENTS(model_types); t++)
        for (size_t u = 0; u < G_N_ELEMENTS(model_uids); u++)
            for (size_t n = 0; n < G_N_ELEMENTS(model_instances); n++) {
                const Lease *expected = NULL;

                for (guint i = 0; i < model.leases->len; i++)
                    if (LEASE_AT(i)->uid == model_uids[u] &&
                        model_same(LEASE_AT(i)->type, model_types[t]) &&
                        model_same(LEASE_AT(i)->instance, model_instances[n]))
                        expected = LEASE_AT(i)->real;
                g_assert_true(registry_find_instance(model.real, model_uids[u], model_types[t],
                                                     model_instances[n]) == expected);
            }
}

static void collect_sticky(const StickyPort *sticky, void *data)
{
    StickyPort copy = *sticky;

    copy.service_type = static_text(model_types, G_N_ELEMENTS(model_types), sticky->service_type);
    copy.instance = static_text(model_instances, G_N_ELEMENTS(model_instances), sticky->instance);
    g_array_append_val(data, copy);
}

static void collect_chunk(const Chunk *chunk, void *data)
{
    const Chunk *known = model_known_chunk(chunk->service_type);

    g_assert_nonnull(known);
    g_assert_cmpuint(chunk->range.first, ==, known->range.first);
    g_assert_cmpuint(chunk->range.last, ==, known->range.last);
    g_assert_cmpuint(chunk->uid, ==, known->uid);
    (*(guint *)data)++;
}

static void compare_memory(void)
{
    g_autoptr(GArray) stickies = g_array_new(FALSE, FALSE, sizeof(StickyPort));
    guint n_chunks = 0;

    registry_foreach_sticky(model.real, collect_sticky, stickies);
    g_assert_cmpuint(stickies->len, ==, model.stickies->len);
    for (size_t u = 0; u < G_N_ELEMENTS(model_uids); u++) {
        guint j = 0;

        for (guint i = 0; i < model.stickies->len; i++) {
            const StickyPort *found;

            if (STICKY_AT(i)->uid != model_uids[u])
                continue;
            while (j < stickies->len && g_array_index(stickies, StickyPort, j).uid != model_uids[u])
                j++;
            g_assert_cmpuint(j, <, stickies->len);
            found = &g_array_index(stickies, StickyPort, j++);
            g_assert_true(found->service_type == STICKY_AT(i)->service_type &&
                          found->instance == STICKY_AT(i)->instance);
            g_assert_cmpuint(found->port, ==, STICKY_AT(i)->port);
        }
    }
    registry_foreach_chunk(model.real, collect_chunk, &n_chunks);
    g_assert_cmpuint(n_chunks, ==, model.chunks->len);
}

/* What a fresh request would be offered, one after the other, without what cools down. */
static void compare_suggestions(void)
{
    const char *name = PICK(model_types);
    uid_t uid = PICK(model_uids);
    const ServiceType *type = model_find_type(model.config, name);
    PortRange range = type ? type->range : model_would_be_chunk(name);
    Protocol protocol = type ? type->protocol : PROTOCOL_TCP;
    Outcome refusal =
        model.config->auto_enabled ? OUTCOME_NO_PORT_AVAILABLE : OUTCOME_UNKNOWN_SERVICE_TYPE;
    guint count = (guint)g_test_rand_int_range(0, 14);
    g_autoptr(GArray) expected = g_array_new(FALSE, FALSE, sizeof(guint16));
    g_autoptr(GArray) all = g_array_new(FALSE, FALSE, sizeof(guint16));
    g_autoptr(GError) error = NULL;
    g_autoptr(GArray) ports =
        registry_suggest(model.real, name, uid, count, model.now_usec, &error);

    if (!type && (!model.config->auto_enabled || range.first == 0)) {
        g_assert_null(ports);
        g_assert_error(error, OUTCOME_ERROR, (int)refusal);
        return;
    }
    g_assert_no_error(error);
    for (size_t i = 0; type && i < type->n_preferred_ports; i++)
        model_put(all, type->preferred_ports[i]);
    for (guint port = range.first; port <= range.last; port++)
        model_put(all, port);
    for (guint i = 0; i < all->len && expected->len < count; i++) {
        guint port = g_array_index(all, guint16, i);

        if ((uid == 0 || port >= 1024) && !model_is_taken(port, protocol) &&
            !model_is_cooling(port, protocol))
            model_put(expected, port);
    }
    g_assert_cmpmem(ports->data, ports->len * sizeof(guint16), expected->data,
                    expected->len * sizeof(guint16));
}

void model_compare(void)
{
    static const Protocol protocols[] = {PROTOCOL_TCP, PROTOCOL_UDP, PROTOCOL_BOTH};

    compare_walk();
    compare_lists();
    compare_instances();
    compare_memory();
    compare_suggestions();
    for (guint i = 0; i < 20; i++) {
        guint16 port = model_random_port();
        Protocol protocol = PICK(protocols);
        const MLease *expected = model_at(port, protocol);

        g_assert_true(registry_find_port(model.real, port, protocol) ==
                      (expected ? expected->real : NULL));
    }
}
