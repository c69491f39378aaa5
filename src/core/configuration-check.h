/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>

#include "core/configuration-tree.h"

/**
 * configuration_check: what only the whole can be asked: overlapping ranges, preferred ports within
 * the range of another, chunks larger than their range, pauses without end.
 * @config: complete but for that.
 * @root: the tree that it was read from, for the places of the mistakes.
 * Returns: FALSE with @error in CONFIGURATION_ERROR. O(n log n) in service types and ports.
 */
gboolean configuration_check(const Configuration *config, const ConfigNode *root, GError **error);
