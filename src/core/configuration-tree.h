/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>

#include "core/configuration.h"
#include "util/json-check.h"

/*
 * JSON as a tree whose nodes know where they were written, so that a mistake found long after
 * parsing and merging is still reported with its file, line and key. For core/configuration alone.
 */

/** ConfigNode: one value. Owned by its parent, the root by the caller. */
typedef struct ConfigNode ConfigNode;
struct ConfigNode {
    JsonEventKind kind; /* OBJECT, ARRAY, STRING, NUMBER, TRUE, FALSE or NULL */
    gboolean removed; /* a null of a later file took the member away; only its key matters still */
    ConfigNode *parent;  /* borrowed, NULL for the root */
    guint index;         /* place among the children of the parent */
    char *key;           /* name of a member; NULL for an element and the root */
    char *text;          /* STRING: decoded; NUMBER: as written */
    const char *file;    /* borrowed from the ConfigurationSource */
    guint line;          /* from 1 */
    GPtrArray *children; /* OBJECT, ARRAY: of ConfigNode, in file order; NULL otherwise */
    GHashTable *members; /* OBJECT: key -> ConfigNode, borrowed */
};

/**
 * config_tree_parse: reads one source, whose root must be an object.
 * Returns: (transfer full): NULL with @error in CONFIGURATION_ERROR, "FILE:LINE: KEY.PATH:
 * message".
 */
ConfigNode *config_tree_parse(const ConfigurationSource *source, GError **error);

/** config_node_free: frees the node and all below; never a child of another node. Returns: NULL. */
ConfigNode *config_node_free(ConfigNode *node);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(ConfigNode, config_node_free)

/**
 * config_tree_merge: merges @patch on top of @target by RFC 7396, both objects, and consumes
 * @patch. A member keeps its place among the others when it is replaced; new ones are appended.
 * Objects that are in both are reported at the line of the later one.
 */
void config_tree_merge(ConfigNode *target, ConfigNode *patch);

/** config_node_member: (nullable): the member @key of @object; NULL where it is removed or missing.
 */
const ConfigNode *config_node_member(const ConfigNode *object, const char *key);

/** config_node_path: "service_types.dev.port_range[0]", "top level" for the root. (transfer full)
 */
char *config_node_path(const ConfigNode *node);

/**
 * config_node_fail: sets @error to "FILE:LINE: PATH: message", the place that of @node.
 * @key: (nullable): a member of @node that is not there, appended to the path.
 * Returns: FALSE.
 */
gboolean config_node_fail(const ConfigNode *node, const char *key, GError **error,
                          const char *format, ...) G_GNUC_PRINTF(4, 5);

/**
 * config_node_check_keys: whether every member of @object is one of @known (NULL-terminated). A
 * removed member counts too, so that a slip in a null is not lost.
 */
gboolean config_node_check_keys(const ConfigNode *object, const char *const *known, GError **error);

/** config_node_describe: "a string", "null" and so on, for messages; a scalar with its value.
 * (transfer full) */
char *config_node_describe(const ConfigNode *node);

/** config_quote: @text for a message: shortened, in double quotes, nothing unprintable. (transfer
 * full) */
char *config_quote(const char *text);
