/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "core/configuration-tree.h"

#include <string.h>

G_DEFINE_QUARK(styxy - configuration - error - quark, configuration_error)

/* What a message shows of a name or a string that somebody wrote. */
#define QUOTED_CHARACTERS_MAX 60

/** Builder: @open is the innermost object or array that is not yet closed, NULL before the root. */
typedef struct Builder {
    const char *file;
    ConfigNode *root;
    ConfigNode *open;
    char *failure; /* "FILE:LINE: PATH: message" */
} Builder;

ConfigNode *config_node_free(ConfigNode *node)
{
    if (!node)
        return NULL;
    /* As deep as the text was allowed to be, CONFIGURATION_DEPTH_MAX. */
    g_clear_pointer(&node->members, g_hash_table_unref);
    g_clear_pointer(&node->children, g_ptr_array_unref);
    g_free(node->key);
    g_free(node->text);
    g_free(node);
    return NULL;
}

static void destroy_node(void *node)
{
    (void)config_node_free(node);
}

static void append_printable(GString *into, const char *text)
{
    guint characters = 0;

    for (const char *p = text; *p; p = g_utf8_next_char(p)) {
        gunichar character = g_utf8_get_char(p);

        if (++characters > QUOTED_CHARACTERS_MAX) {
            g_string_append(into, "...");
            return;
        }
        if (g_unichar_isprint(character))
            g_string_append_unichar(into, character);
        else
            g_string_append_printf(into, "\\u%04x", character);
    }
}

char *config_quote(const char *text)
{
    GString *quoted = g_string_new("\"");

    append_printable(quoted, text);
    g_string_append_c(quoted, '"');
    return g_string_free(quoted, FALSE);
}

static void append_key(GString *path, const char *key)
{
    gboolean plain = key[0] != '\0';

    for (const char *p = key; *p && plain; p++)
        plain = g_ascii_isalnum(*p) || strchr("_-*?", *p);
    if (path->len > 0)
        g_string_append_c(path, '.');
    if (plain) {
        append_printable(path, key);
    } else {
        g_autofree char *quoted = config_quote(key);

        g_string_append(path, quoted);
    }
}

static void append_path(GString *path, const ConfigNode *node)
{
    if (!node->parent)
        return;
    append_path(path, node->parent);
    if (node->key)
        append_key(path, node->key);
    else
        g_string_append_printf(path, "[%u]", node->index);
}

static char *path_of(const ConfigNode *node, const char *key)
{
    GString *path = g_string_new(NULL);

    if (node)
        append_path(path, node);
    if (key)
        append_key(path, key);
    if (path->len == 0)
        g_string_append(path, "top level");
    return g_string_free(path, FALSE);
}

char *config_node_path(const ConfigNode *node)
{
    return path_of(node, NULL);
}

gboolean config_node_fail(const ConfigNode *node, const char *key, GError **error,
                          const char *format, ...)
{
    g_autofree char *path = path_of(node, key), *message = NULL;
    va_list args;

    va_start(args, format);
    message = g_strdup_vprintf(format, args);
    va_end(args);
    g_set_error(error, CONFIGURATION_ERROR, 0, "%s:%u: %s: %s", node->file, node->line, path,
                message);
    return FALSE;
}

char *config_node_describe(const ConfigNode *node)
{
    g_autofree char *quoted = NULL;
    GString *number;

    switch (node->kind) {
    case JSON_EVENT_OBJECT:
        return g_strdup("an object");
    case JSON_EVENT_ARRAY:
        return g_strdup("an array");
    case JSON_EVENT_STRING:
        quoted = config_quote(node->text);
        return g_strdup_printf("the string %s", quoted);
    case JSON_EVENT_NUMBER:
        number = g_string_new(NULL);
        append_printable(number, node->text);
        return g_string_free(number, FALSE);
    case JSON_EVENT_TRUE:
        return g_strdup("true");
    case JSON_EVENT_FALSE:
        return g_strdup("false");
    case JSON_EVENT_NULL:
    case JSON_EVENT_END: /* events that make no node */
    case JSON_EVENT_ERROR:
        break;
    }
    return g_strdup("null");
}

/** adopt: makes @node the child of @parent at @index, or its last one when that is the length. */
static void adopt(ConfigNode *parent, ConfigNode *node, guint index)
{
    node->parent = parent;
    node->index = index;
    if (index == parent->children->len)
        g_ptr_array_add(parent->children, node);
    else
        parent->children->pdata[index] = node;
    /* The key belongs to the node: an entry that stays must not keep that of the one it replaces.
     */
    if (parent->members)
        g_hash_table_replace(parent->members, node->key, node);
}

/** builder_fail: keeps the first thing that is wrong. */
static void builder_fail(Builder *builder, const JsonEvent *event, const char *message)
{
    g_autofree char *path = path_of(builder->open, event->key);

    if (!builder->failure)
        builder->failure =
            g_strdup_printf("%s:%u: %s: %s", builder->file, event->line, path, message);
}

static void build(const JsonEvent *event, void *data)
{
    Builder *builder = data;
    ConfigNode *node;

    if (event->kind == JSON_EVENT_ERROR) {
        g_autofree char *message = g_strdup_printf("%s (column %u)", event->text, event->column);

        builder_fail(builder, event, message);
        return;
    }
    if (builder->failure)
        return;
    if (event->kind == JSON_EVENT_END) {
        builder->open = builder->open->parent;
        return;
    }
    if (event->key && builder->open->children->len == CONFIGURATION_MEMBERS_MAX) {
        builder_fail(builder, event,
                     "one more than the " G_STRINGIFY(
                         CONFIGURATION_MEMBERS_MAX) " members an object may have");
        return;
    }
    node = g_new0(ConfigNode, 1);
    node->kind = event->kind;
    node->key = g_strdup(event->key);
    node->text = g_strdup(event->text);
    node->file = builder->file;
    node->line = event->line;
    if (node->kind == JSON_EVENT_OBJECT || node->kind == JSON_EVENT_ARRAY)
        node->children = g_ptr_array_new_with_free_func(destroy_node);
    if (node->kind == JSON_EVENT_OBJECT)
        node->members = g_hash_table_new(g_str_hash, g_str_equal);
    if (builder->open)
        adopt(builder->open, node, builder->open->children->len);
    else
        builder->root = node;
    if (node->children)
        builder->open = node;
}

ConfigNode *config_tree_parse(const ConfigurationSource *source, GError **error)
{
    g_autoptr(ConfigNode) root = NULL;
    Builder builder = {.file = source->name};

    if (source->length > CONFIGURATION_BYTES_MAX) {
        g_set_error(error, CONFIGURATION_ERROR, 0,
                    "%s:1: top level: larger than %d bytes, no configuration needs that",
                    source->name, CONFIGURATION_BYTES_MAX);
        return NULL;
    }
    (void)json_check(source->text, source->length, CONFIGURATION_DEPTH_MAX, build, &builder, NULL);
    root = builder.root;
    if (builder.failure) {
        g_set_error_literal(error, CONFIGURATION_ERROR, 0, builder.failure);
        g_free(builder.failure);
        return NULL;
    }
    if (root->kind != JSON_EVENT_OBJECT) {
        g_autofree char *what = config_node_describe(root);

        (void)config_node_fail(root, NULL, error, "must be an object, { ... }, not %s", what);
        return NULL;
    }
    return g_steal_pointer(&root);
}

/** settle: what merging a value onto nothing does: the nulls in its objects only take away. */
static void settle(ConfigNode *node)
{
    if (node->kind == JSON_EVENT_NULL)
        node->removed = TRUE;
    if (node->kind == JSON_EVENT_OBJECT)
        for (guint i = 0; i < node->children->len; i++)
            settle(node->children->pdata[i]);
}

void config_tree_merge(ConfigNode *target, ConfigNode *patch)
{
    target->file = patch->file;
    target->line = patch->line;
    for (guint i = 0; i < patch->children->len; i++) {
        ConfigNode *child = g_steal_pointer(&patch->children->pdata[i]);
        ConfigNode *old = g_hash_table_lookup(target->members, child->key);

        if (old && old->kind == JSON_EVENT_OBJECT && child->kind == JSON_EVENT_OBJECT) {
            config_tree_merge(old, child);
            continue;
        }
        settle(child);
        adopt(target, child, old ? old->index : target->children->len);
        (void)config_node_free(old);
    }
    (void)config_node_free(patch);
}

const ConfigNode *config_node_member(const ConfigNode *object, const char *key)
{
    const ConfigNode *node = g_hash_table_lookup(object->members, key);

    return node && !node->removed ? node : NULL;
}

/**
 * distance: the least number of characters to insert, drop, change or swap with their neighbour.
 * Both at most DISTANCE_LENGTH_MAX bytes.
 */
#define DISTANCE_LENGTH_MAX 40
static guint distance(const char *a, const char *b)
{
    guint rows[3][DISTANCE_LENGTH_MAX + 1];
    size_t length_a = strlen(a), length_b = strlen(b);

    for (size_t j = 0; j <= length_b; j++)
        rows[0][j] = (guint)j;
    for (size_t i = 1; i <= length_a; i++) {
        guint *row = rows[i % 3], *above = rows[(i - 1) % 3], *above2 = rows[(i + 1) % 3];

        row[0] = (guint)i;
        for (size_t j = 1; j <= length_b; j++) {
            row[j] = MIN(above[j], row[j - 1]) + 1;
            row[j] = MIN(row[j], above[j - 1] + (a[i - 1] != b[j - 1]));
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
                row[j] = MIN(row[j], above2[j - 2] + 1);
        }
    }
    return rows[length_a % 3][length_b];
}

static const char *nearest(const char *key, const char *const *known)
{
    const char *best = NULL;
    guint best_distance = 0;

    if (strlen(key) > DISTANCE_LENGTH_MAX)
        return NULL;
    for (; *known; known++) {
        guint d = distance(key, *known);

        if (d <= MAX(2, strlen(*known) / 3) && d < strlen(*known) && (!best || d < best_distance)) {
            best = *known;
            best_distance = d;
        }
    }
    return best;
}

gboolean config_node_check_keys(const ConfigNode *object, const char *const *known, GError **error)
{
    for (guint i = 0; i < object->children->len; i++) {
        const ConfigNode *node = object->children->pdata[i];
        g_autofree char *all = NULL;
        const char *near;

        if (g_strv_contains(known, node->key))
            continue;
        near = nearest(node->key, known);
        all = g_strjoinv(", ", (char **)known);
        if (near)
            return config_node_fail(
                node, NULL, error, "unknown key, did you mean \"%s\"? (known here: %s)", near, all);
        return config_node_fail(node, NULL, error, "unknown key (known here: %s)", all);
    }
    return TRUE;
}
