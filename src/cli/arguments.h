/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>

#include "cli/exit-status.h"
#include "cli/numbers.h"
#include "core/names.h"

typedef enum VerbId {
    VERB_ALLOCATE,
    VERB_RUN,
    VERB_RELEASE,
    VERB_RENEW,
    VERB_LIST,
    VERB_SHOW,
    VERB_CHECK,
    VERB_SCAN,
    VERB_SUGGEST,
    VERB_MONITOR,
    VERB_STATUS,
    VERB_METRICS,
    VERB_HEALTH,
    VERB_CLEANUP,
    VERB_RECOVER,
    VERB_CONFIG,
    VERB_RELOAD,
    _VERB_MAX,
} VerbId;

/** OptionId: bit numbers in Arguments.given; those up to OPTION_VERSION belong to every verb. */
typedef enum OptionId {
    OPTION_SYSTEM,
    OPTION_USER,
    OPTION_BUS_ADDRESS,
    OPTION_JSON,
    OPTION_QUIET,
    OPTION_NO_PAGER,
    OPTION_HELP,
    OPTION_VERSION,
    OPTION_PORT,
    OPTION_STRICT,
    OPTION_RANGE,
    OPTION_PROTOCOL,
    OPTION_BIND_ADDRESS,
    OPTION_INSTANCE,
    OPTION_LABEL,
    OPTION_PID,
    OPTION_LIFETIME,
    OPTION_HOLD,
    OPTION_RETRIES,
    OPTION_TTL,
    OPTION_HEALTH_URL,
    OPTION_HEALTH_TIMEOUT,
    OPTION_ON_UNHEALTHY,
    OPTION_COUNT,
    OPTION_SOCKET,
    OPTION_TYPE,
    OPTION_UID,
    OPTION_HEALTH,
    OPTION_DRY_RUN,
    OPTION_PROMETHEUS,
    _OPTION_MAX,
} OptionId;

typedef enum JsonMode {
    JSON_MODE_OFF,
    JSON_MODE_SHORT,
    JSON_MODE_PRETTY,
} JsonMode;

/**
 * Arguments: a command line that was read and checked. Strings are borrowed from argv; a value
 * counts only where its option's bit is set in @given.
 */
typedef struct Arguments {
    VerbId verb; /* _VERB_MAX where --help or --version stands alone */
    guint64 given;
    GPtrArray *operands; /* of const char *, what follows the verb; without the command of run */
    char **command;      /* run: what follows "--", NULL-terminated; NULL for other verbs */
    const char *bus_address;
    JsonMode json;
    guint16 port;
    PortRange range;
    Protocol protocol;
    const char *bind_address;
    const char *instance;
    const char *label;
    guint32 pid;
    Lifetime lifetime;
    Hold hold;
    guint32 retries;
    guint32 ttl_msec;
    const char *health_url;
    guint32 health_timeout_msec;
    OnUnhealthy on_unhealthy;
    guint32 count;
    const char *type;
    guint32 uid;
    Health health;
} Arguments;

static inline gboolean arguments_has(const Arguments *args, OptionId option)
{
    return (args->given >> option) & 1;
}

/** arguments_operand: the operand at @index, NULL where there are fewer. */
const char *arguments_operand(const Arguments *args, guint index);

/**
 * arguments_parse: reads a command line.
 * @argv: NULL-terminated, without the program's name; borrowed for the life of the result.
 *
 * Options may stand before the verb, after it and between operands; "--" ends them. The last of a
 * repeated option counts. Pure: asks nothing of the system.
 *
 * --address means the bus, except where its value is a numeric IP address, which no D-Bus address
 * is: then it is the address that allocate and run bind to.
 *
 * Returns: (transfer full): or NULL with @error in CLI_ERROR, EXIT_STATUS_USAGE.
 */
Arguments *arguments_parse(char **argv, GError **error);
Arguments *arguments_free(Arguments *args);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Arguments, arguments_free)

/** verb_name, verb_from_name: the table of verbs by name. verb_from_name() gives _VERB_MAX for
 * none. */
const char *verb_name(VerbId verb);
VerbId verb_from_name(const char *name);

/** arguments_help: the help text of @verb, or of the program for _VERB_MAX. (transfer full) */
char *arguments_help(VerbId verb);
