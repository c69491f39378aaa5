/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>

/** The longest rule that is taken, in bytes (dbus-daemon's own limit for one is 1024). */
#define MATCH_RULE_BYTES_MAX 1024

/** MatchSource: who sends, for match_rule_parse(). */
typedef struct MatchSource {
    const char *const *names; /* the sender's names, NULL-terminated */
    const char *path;
    const char *const *interfaces; /* of its signals, NULL-terminated */
} MatchSource;

/**
 * match_rule_parse: reads a match rule as AddMatch takes it (D-Bus specification, "Match Rules").
 * @source: borrowed.
 * @ret_selects: whether it can select a broadcast signal of @source.
 *
 * Returns: (transfer full): the rule in a form that is the same text for rules that mean the same;
 *     NULL when it is not a rule.
 */
char *match_rule_parse(const char *rule, const MatchSource *source, gboolean *ret_selects);
