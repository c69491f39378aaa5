/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>

#include "cli/client.h"
#include "cli/numbers.h"
#include "cli/output.h"

/** What the daemon says about a lease, a{sv}, read for people. Absent keys read as NULL and 0. */

const char *dict_string(GVariant *dict, const char *key);
guint64 dict_number(GVariant *dict, const char *key); /* of any unsigned type, and b */
gboolean dict_has(GVariant *dict, const char *key);

/** dict_add: one entry more, in order; @value is sunk where floating. */
void dict_add(GVariantBuilder *dict, const char *key, GVariant *value);

/** user_name: the name of a uid, or its number. (transfer full) */
char *user_name(uid_t uid);

/** health_colour: of a word of the interface. */
const char *health_colour(const char *health);

/** value_to_text: any value in one line, for lists of keys and values. (transfer full) */
char *value_to_text(GVariant *value);

/** dict_to_line: "key=value, key=value" of an a{sv}, readable, without what is empty. (transfer
 * full) */
char *dict_to_line(GVariant *dict);

/** print_dict: "key: value" lines of an a{sv}, known times and users readable, keys in their order.
 */
void print_dict(GVariant *dict);

/**
 * lease_ref_read: a lease as the command line names it.
 * Returns: FALSE with @error in CLI_ERROR, EXIT_STATUS_USAGE.
 */
gboolean lease_ref_read(const Arguments *args, const char *text, LeaseRef *ret_ref, GError **error);

/**
 * lease_find: asks the daemon for the lease that @ref names; of two on one port the one on tcp.
 * Returns: (transfer full): a{sv}, or NULL with @error in CLI_ERROR (EXIT_STATUS_NOT_FOUND).
 */
GVariant *lease_find(Client *client, const LeaseRef *ref, GError **error);
