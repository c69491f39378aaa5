/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "core/configuration.h"

#include <string.h>

#include "core/configuration-check.h"
#include "core/configuration-fields.h"
#include "core/configuration-tree.h"

#define DESCRIPTION_CHARACTERS_MAX 200
#define PATTERN_CHARACTERS_MAX 50

static ServiceType *service_type_free(ServiceType *type)
{
    if (!type)
        return NULL;
    g_free(type->name);
    g_free(type->description);
    g_free(type->preferred_ports);
    g_free(type);
    return NULL;
}
G_DEFINE_AUTOPTR_CLEANUP_FUNC(ServiceType, service_type_free)

static void destroy_service_type(void *type)
{
    (void)service_type_free(type);
}

/** must_be: the error of a value of the wrong type, or out of bounds. */
static gboolean must_be(const ConfigNode *node, GError **error, const char *wanted)
{
    g_autofree char *what = config_node_describe(node);

    return config_node_fail(node, NULL, error, "must be %s, not %s", wanted, what);
}

static gboolean check_object(const ConfigNode *node, const char *const *known, GError **error)
{
    if (node->kind != JSON_EVENT_OBJECT)
        return must_be(node, error, "an object, { ... }");
    return !known || config_node_check_keys(node, known, error);
}

/** read_whole: an integer as RFC 8259 writes it, without point, exponent or sign. */
static gboolean read_whole(const ConfigNode *node, guint32 least, guint32 most, guint32 *ret_value,
                           GError **error)
{
    g_autofree char *wanted = g_strdup_printf("a whole number from %u to %u", least, most);
    guint64 value;

    if (node->kind != JSON_EVENT_NUMBER ||
        !g_ascii_string_to_unsigned(node->text, 10, least, most, &value, NULL))
        return must_be(node, error, wanted);
    *ret_value = (guint32)value;
    return TRUE;
}

static gboolean read_real(const ConfigNode *node, double least, double most, double *ret_value,
                          GError **error)
{
    g_autofree char *wanted = g_strdup_printf("a number from %g to %g", least, most);
    double value;

    if (node->kind != JSON_EVENT_NUMBER)
        return must_be(node, error, wanted);
    value = g_ascii_strtod(node->text, NULL);
    if (!(value >= least && value <= most))
        return must_be(node, error, wanted);
    *ret_value = value;
    return TRUE;
}

static gboolean read_field(const ConfigNode *node, const Field *field, void *base, GError **error)
{
    void *place = (char *)base + field->offset;

    switch (field->kind) {
    case FIELD_BOOL:
        if (node->kind != JSON_EVENT_TRUE && node->kind != JSON_EVENT_FALSE)
            return must_be(node, error, "true or false");
        *(gboolean *)place = node->kind == JSON_EVENT_TRUE;
        return TRUE;
    case FIELD_UINT:
        return read_whole(node, (guint32)field->least, (guint32)field->most, place, error);
    case FIELD_REAL:
        break;
    }
    return read_real(node, field->least, field->most, place, error);
}

/** read_block: the plain values of @node (nullable) into @base; what is not given stays there. */
static gboolean read_block(const ConfigNode *node, const FieldBlock *block, void *base,
                           GError **error)
{
    g_auto(GStrv) keys = fields_keys(block);

    if (!node)
        return TRUE;
    if (!check_object(node, (const char *const *)keys, error))
        return FALSE;
    for (size_t i = 0; i < block->n_fields; i++) {
        const ConfigNode *value = config_node_member(node, block->fields[i].key);

        if (value && !read_field(value, &block->fields[i], base, error))
            return FALSE;
    }
    return TRUE;
}

static gboolean read_port(const ConfigNode *node, guint16 *ret_port, GError **error)
{
    guint32 port = 0; /* gcc -O3 does not see that a failure returns FALSE */

    if (!read_whole(node, 1, G_MAXUINT16, &port, error))
        return FALSE;
    *ret_port = (guint16)port;
    return TRUE;
}

static gboolean read_range(const ConfigNode *node, PortRange *ret_range, GError **error)
{
    PortRange range;

    if (node->kind != JSON_EVENT_ARRAY)
        return must_be(node, error, "an array of two ports, [first, last]");
    if (node->children->len != 2)
        return config_node_fail(node, NULL, error, "must be two ports, [first, last], not %u",
                                node->children->len);
    if (!read_port(node->children->pdata[0], &range.first, error) ||
        !read_port(node->children->pdata[1], &range.last, error))
        return FALSE;
    if (range.first > range.last)
        return config_node_fail(node, NULL, error,
                                "the first port, %u, is above the last, %u; write [%u, %u]",
                                range.first, range.last, range.last, range.first);
    *ret_range = range;
    return TRUE;
}

static gboolean read_preferred(const ConfigNode *node, ServiceType *type, GError **error)
{
    g_autofree PortSet *seen = g_new0(PortSet, 1);

    if (node->kind != JSON_EVENT_ARRAY)
        return must_be(node, error, "an array of ports, [3000, 3001]");
    type->preferred_ports = g_new0(guint16, node->children->len);
    for (guint i = 0; i < node->children->len; i++) {
        guint16 port;

        if (!read_port(node->children->pdata[i], &port, error))
            return FALSE;
        if (port_set_contains(seen, port))
            return config_node_fail(node->children->pdata[i], NULL, error,
                                    "port %u is listed twice, once is enough", port);
        port_set_add(seen, port);
        type->preferred_ports[type->n_preferred_ports++] = port;
    }
    return TRUE;
}

static gboolean read_description(const ConfigNode *node, char **ret_description, GError **error)
{
    if (node->kind != JSON_EVENT_STRING)
        return must_be(node, error, "a string");
    if (g_utf8_strlen(node->text, -1) > DESCRIPTION_CHARACTERS_MAX)
        return config_node_fail(node, NULL, error, "longer than %d characters, say it in one line",
                                DESCRIPTION_CHARACTERS_MAX);
    for (const char *p = node->text; *p; p = g_utf8_next_char(p))
        if (!g_unichar_isprint(g_utf8_get_char(p)))
            return must_be(node, error, "one line of printable characters");
    *ret_description = g_strdup(node->text);
    return TRUE;
}

static gboolean read_type_members(const ConfigNode *node, ServiceType *type, GError **error)
{
    const ConfigNode *value;

    value = config_node_member(node, "port_range");
    if (!value)
        return config_node_fail(node, "port_range", error,
                                "is missing; give the type its ports as [first, last]");
    if (!read_range(value, &type->range, error))
        return FALSE;
    value = config_node_member(node, "description");
    if (value && !read_description(value, &type->description, error))
        return FALSE;
    value = config_node_member(node, "preferred_ports");
    if (value && !read_preferred(value, type, error))
        return FALSE;
    value = config_node_member(node, "protocol");
    if (value &&
        (value->kind != JSON_EVENT_STRING || !protocol_from_string(value->text, &type->protocol)))
        return must_be(value, error, "\"tcp\", \"udp\" or \"both\"");
    value = config_node_member(node, "instance_behavior");
    if (value) {
        type->single = value->kind == JSON_EVENT_STRING && g_str_equal(value->text, "single");
        if (!type->single &&
            (value->kind != JSON_EVENT_STRING || !g_str_equal(value->text, "multi")))
            return must_be(value, error, "\"multi\" or \"single\"");
    }
    return read_block(config_node_member(node, "health"), &type_health_block, &type->health, error);
}

static gboolean read_type(Configuration *config, const ConfigNode *node, GError **error)
{
    g_autoptr(ServiceType) type = g_new0(ServiceType, 1);

    if (!service_type_is_valid(node->key))
        return config_node_fail(node, NULL, error,
                                "the name of a service type is 1 to 50 letters, digits and \"-\"");
    if (!check_object(node, service_type_keys, error))
        return FALSE;
    type->name = g_strdup(node->key);
    type->protocol = PROTOCOL_TCP;
    type->health = config->health;
    if (!read_type_members(node, type, error))
        return FALSE;
    g_ptr_array_add(config->service_types, g_steal_pointer(&type));
    return TRUE;
}

static int type_compare(const void *a, const void *b)
{
    const ServiceType *const *x = a, *const *y = b;

    return strcmp((*x)->name, (*y)->name);
}

static gboolean read_types(Configuration *config, const ConfigNode *root, GError **error)
{
    const ConfigNode *node = config_node_member(root, "service_types");

    if (!node)
        return config_node_fail(root, "service_types", error,
                                "is missing; it names the service types and their ports, "
                                "{ \"dev\": { \"port_range\": [3000, 3099] } } for example");
    if (!check_object(node, NULL, error))
        return FALSE;
    for (guint i = 0; i < node->children->len; i++) {
        const ConfigNode *child = node->children->pdata[i];

        if (!child->removed && !read_type(config, child, error))
            return FALSE;
    }
    g_ptr_array_sort(config->service_types, type_compare);
    for (guint i = 0; i < config->service_types->len; i++) {
        ServiceType *type = config->service_types->pdata[i];

        g_hash_table_insert(config->by_name, type->name, type);
    }
    return TRUE;
}

static gboolean pattern_is_valid(const char *text)
{
    size_t length = 0;

    for (; text[length]; length++)
        if (length == PATTERN_CHARACTERS_MAX ||
            (!g_ascii_isalnum(text[length]) && !strchr("-*?", text[length])))
            return FALSE;
    return length > 0;
}

static gboolean read_rules(Configuration *config, const ConfigNode *node, GError **error)
{
    if (!node)
        return TRUE;
    if (!check_object(node, NULL, error))
        return FALSE;
    config->auto_rules = g_new0(ChunkRule, node->children->len);
    for (guint i = 0; i < node->children->len; i++) {
        const ConfigNode *child = node->children->pdata[i];
        ChunkRule *rule = &config->auto_rules[config->n_auto_rules];

        if (child->removed)
            continue;
        if (!pattern_is_valid(child->key))
            return config_node_fail(child, NULL, error,
                                    "a pattern is 1 to %d letters, digits, \"-\", \"*\" and \"?\"",
                                    PATTERN_CHARACTERS_MAX);
        if (!read_block(child, &chunk_rule_block, rule, error))
            return FALSE;
        if (!config_node_member(child, "chunk_size"))
            return config_node_fail(child, "chunk_size", error,
                                    "is missing; say how many ports such a type gets");
        rule->pattern = g_strdup(child->key);
        config->n_auto_rules++;
    }
    return TRUE;
}

static gboolean read_auto(Configuration *config, const ConfigNode *node, GError **error)
{
    const ConfigNode *range;

    config->auto_range = AUTO_RANGE_DEFAULT;
    if (!node)
        return TRUE;
    if (!read_block(node, &auto_block, config, error))
        return FALSE;
    range = config_node_member(node, "port_range");
    if (range && !read_range(range, &config->auto_range, error))
        return FALSE;
    return read_rules(config, config_node_member(node, "rules"), error);
}

static gboolean read_recovery(Configuration *config, const ConfigNode *node, GError **error)
{
    if (!node)
        return TRUE;
    return check_object(node, recovery_keys, error) &&
           read_block(config_node_member(node, "port_conflict"), &conflict_block, config, error) &&
           read_block(config_node_member(node, "health_monitoring"), &health_block, config,
                      error) &&
           read_block(config_node_member(node, "system_recovery"), &system_block, config, error);
}

/** merge_sources: (transfer full): the tree of all sources together. */
static ConfigNode *merge_sources(const ConfigurationSource *sources, size_t n_sources,
                                 GError **error)
{
    g_autoptr(ConfigNode) root = NULL;

    for (size_t i = 0; i < n_sources; i++) {
        ConfigNode *next = config_tree_parse(&sources[i], error);

        if (!next)
            return NULL;
        if (root)
            config_tree_merge(root, next);
        else
            root = next;
    }
    if (!root)
        g_set_error_literal(error, CONFIGURATION_ERROR, 0,
                            "(no file):1: top level: there is no configuration to read");
    return g_steal_pointer(&root);
}

static Configuration *configuration_new(const ConfigurationSource *sources, size_t n_sources)
{
    Configuration *config = g_new0(Configuration, 1);

    config->references = 1;
    config->service_types = g_ptr_array_new_with_free_func(destroy_service_type);
    config->by_name = g_hash_table_new(g_str_hash, g_str_equal);
    config->files = g_new0(char *, n_sources + 1);
    for (size_t i = 0; i < n_sources; i++)
        config->files[i] = g_strdup(sources[i].name);
    fields_set_defaults(&auto_block, config);
    fields_set_defaults(&conflict_block, config);
    fields_set_defaults(&health_block, config);
    fields_set_defaults(&system_block, config);
    fields_set_defaults(&limits_block, config);
    return config;
}

Configuration *configuration_parse(const ConfigurationSource *sources, size_t n_sources,
                                   GError **error)
{
    g_autoptr(ConfigNode) root = merge_sources(sources, n_sources, error);
    g_autoptr(Configuration) config = NULL;

    if (!root)
        return NULL;
    config = configuration_new(sources, n_sources);
    /* Recovery goes before the types, which take over its health settings. */
    if (!config_node_check_keys(root, root_keys, error) ||
        !read_recovery(config, config_node_member(root, "recovery"), error) ||
        !read_types(config, root, error) ||
        !read_auto(config, config_node_member(root, "auto_allocation"), error) ||
        !read_block(config_node_member(root, "limits"), &limits_block, config, error) ||
        !configuration_check(config, root, error))
        return NULL;
    return g_steal_pointer(&config);
}

Configuration *configuration_ref(Configuration *config)
{
    g_assert(config->references > 0);
    config->references++;
    return config;
}

Configuration *configuration_unref(Configuration *config)
{
    if (!config)
        return NULL;
    g_assert(config->references > 0);
    if (--config->references > 0)
        return NULL;
    g_hash_table_unref(config->by_name);
    g_ptr_array_unref(config->service_types);
    for (size_t i = 0; i < config->n_auto_rules; i++)
        g_free(config->auto_rules[i].pattern);
    g_free(config->auto_rules);
    g_strfreev(config->files);
    g_free(config);
    return NULL;
}

const ServiceType *configuration_find_type(const Configuration *config, const char *name)
{
    return g_hash_table_lookup(config->by_name, name);
}

/**
 * pattern_matches: goes back to the last star only, which is enough, so that no pattern takes more
 * than the product of both lengths.
 */
static gboolean pattern_matches(const char *pattern, const char *name)
{
    const char *star = NULL, *resume = NULL;

    while (*name) {
        if (*pattern == '*') {
            star = ++pattern;
            resume = name;
        } else if (*pattern == '?' || *pattern == *name) {
            pattern++;
            name++;
        } else if (star) {
            pattern = star;
            name = ++resume;
        } else {
            return FALSE;
        }
    }
    while (*pattern == '*')
        pattern++;
    return *pattern == '\0';
}

guint32 configuration_chunk_size(const Configuration *config, const char *name)
{
    for (size_t i = 0; i < config->n_auto_rules; i++)
        if (pattern_matches(config->auto_rules[i].pattern, name))
            return config->auto_rules[i].chunk_size;
    return config->auto_chunk_size;
}
