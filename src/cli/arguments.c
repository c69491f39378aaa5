/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "cli/arguments.h"

#include <arpa/inet.h>
#include <glib/gi18n.h>
#include <string.h>

#include "cli/arguments-tables.h"

const char *arguments_operand(const Arguments *args, guint index)
{
    return index < args->operands->len ? g_ptr_array_index(args->operands, index) : NULL;
}

Arguments *arguments_free(Arguments *args)
{
    if (!args)
        return NULL;
    g_ptr_array_unref(args->operands);
    g_free(args);
    return NULL;
}

static gboolean usage_error(GError **error, const char *format, ...) G_GNUC_PRINTF(2, 3);

static gboolean usage_error(GError **error, const char *format, ...)
{
    g_autofree char *message = NULL;
    va_list list;

    va_start(list, format);
    message = g_strdup_vprintf(format, list);
    va_end(list);
    g_set_error_literal(error, CLI_ERROR, EXIT_STATUS_USAGE, message);
    return FALSE;
}

static gboolean bad_value(GError **error, const char *option, const char *value,
                          const char *expected)
{
    /* TRANSLATORS: an option, what was given, what it should have been */
    return usage_error(error, _("--%s: '%s' is not %s"), option, value, expected);
}

static gboolean is_ip_address(const char *text)
{
    guint8 bytes[16];

    return inet_pton(AF_INET, text, bytes) == 1 || inet_pton(AF_INET6, text, bytes) == 1;
}

static gboolean is_bus_address(const char *text)
{
    const char *colon = strchr(text, ':');

    return colon && colon > text && strchr(colon, '=');
}

static gboolean read_json_mode(const char *value, JsonMode *ret_mode)
{
    static const char *const names[] = {"off", "short", "pretty"};

    for (guint i = 0; i < G_N_ELEMENTS(names); i++)
        if (g_str_equal(value, names[i])) {
            *ret_mode = (JsonMode)i;
            return TRUE;
        }
    return FALSE;
}

static gboolean read_u32(const char *value, guint32 min, guint32 max, guint32 *ret_value)
{
    guint64 number;

    if (!number_parse(value, min, max, &number))
        return FALSE;
    *ret_value = (guint32)number;
    return TRUE;
}

static gboolean take_string(gboolean valid, const char *value, const char **ret_value)
{
    if (valid)
        *ret_value = value;
    return valid;
}

/* Reads the value of an option into its field. FALSE where it is not what the table promises. */
static gboolean read_value(Arguments *args, OptionId option, const char *value)
{
    switch (option) {
    case OPTION_BUS_ADDRESS:
        return take_string(is_bus_address(value), value, &args->bus_address);
    case OPTION_BIND_ADDRESS:
        return take_string(is_ip_address(value), value, &args->bind_address);
    case OPTION_JSON:
        return read_json_mode(value, &args->json);
    case OPTION_PORT:
        return port_parse(value, &args->port);
    case OPTION_RANGE:
        return port_range_parse(value, &args->range);
    case OPTION_PROTOCOL:
        return protocol_from_string(value, &args->protocol);
    case OPTION_INSTANCE:
        return take_string(instance_is_valid(value), value, &args->instance);
    case OPTION_LABEL:
        return take_string(label_is_valid(value), value, &args->label);
    case OPTION_TYPE:
        return take_string(service_type_is_valid(value), value, &args->type);
    case OPTION_PID:
        return read_u32(value, 1, G_MAXINT32, &args->pid);
    case OPTION_LIFETIME:
        return lifetime_from_string(value, &args->lifetime);
    case OPTION_HOLD:
        return hold_from_string(value, &args->hold);
    case OPTION_RETRIES:
        return read_u32(value, 0, G_MAXUINT32, &args->retries);
    case OPTION_TTL:
        return duration_parse(value, &args->ttl_msec);
    case OPTION_HEALTH_URL:
        return take_string(*value != '\0', value, &args->health_url);
    case OPTION_HEALTH_TIMEOUT:
        return duration_parse(value, &args->health_timeout_msec);
    case OPTION_ON_UNHEALTHY:
        return on_unhealthy_from_string(value, &args->on_unhealthy);
    case OPTION_COUNT:
        return read_u32(value, 1, G_MAXUINT16, &args->count);
    case OPTION_UID:
        /* (uid_t)-1 is "no user" everywhere in the kernel */
        return read_u32(value, 0, G_MAXUINT32 - 1, &args->uid);
    case OPTION_HEALTH:
        return health_from_string(value, &args->health);
    default:
        return TRUE;
    }
}

static void mark(Arguments *args, OptionId option)
{
    /* of two that exclude each other the later counts, as of one that is repeated */
    if (option == OPTION_SYSTEM)
        args->given &= ~(G_GUINT64_CONSTANT(1) << OPTION_USER);
    if (option == OPTION_USER)
        args->given &= ~(G_GUINT64_CONSTANT(1) << OPTION_SYSTEM);
    args->given |= G_GUINT64_CONSTANT(1) << option;
}

/* --NAME, --NAME=VALUE or --NAME VALUE; the latter moves *@index on. */
static gboolean parse_long(Arguments *args, char **argv, size_t *index, GError **error)
{
    const char *text = argv[*index] + 2;
    const char *equals = strchr(text, '=');
    g_autofree char *name = equals ? g_strndup(text, (size_t)(equals - text)) : g_strdup(text);
    const OptionInfo *info = option_find(name, '\0');
    const char *value = equals ? equals + 1 : NULL;
    OptionId id;

    if (!info)
        return usage_error(error, _("unknown option '--%s'"), name);
    id = info->id;
    if (!info->metavar && value)
        return usage_error(error, _("--%s takes no value"), name);
    if (info->metavar && !value) {
        value = argv[*index + 1];
        if (!value)
            return usage_error(error, _("--%s needs a value: %s"), name, _(info->expected));
        (*index)++;
    }
    if (id == OPTION_BUS_ADDRESS && is_ip_address(value))
        id = OPTION_BIND_ADDRESS;
    if (value && !read_value(args, id, value))
        return bad_value(error, name, value, _(info->expected));
    mark(args, id);
    return TRUE;
}

static gboolean parse_short(Arguments *args, const char *letters, GError **error)
{
    for (const char *p = letters; *p; p++) {
        const OptionInfo *info = option_find(NULL, *p);

        if (!info)
            return usage_error(error, _("unknown option '-%.*s'"), (int)(g_utf8_next_char(p) - p),
                               p);
        mark(args, info->id);
    }
    return TRUE;
}

static gboolean parse_word(Arguments *args, const char *word, GError **error)
{
    if (args->verb != _VERB_MAX) {
        g_ptr_array_add(args->operands, (gpointer)word);
        return TRUE;
    }
    args->verb = verb_from_name(word);
    if (args->verb == _VERB_MAX)
        return usage_error(error, _("unknown verb '%s', see 'styxyctl --help'"), word);
    return TRUE;
}

static gboolean parse_words(Arguments *args, char **argv, GError **error)
{
    gboolean options_ended = FALSE;

    for (size_t i = 0; argv[i]; i++) {
        const char *word = argv[i];

        if (!options_ended && g_str_equal(word, "--")) {
            if (args->verb == VERB_RUN) {
                args->command = argv + i + 1;
                return TRUE;
            }
            options_ended = TRUE;
        } else if (!options_ended && g_str_has_prefix(word, "--")) {
            if (!parse_long(args, argv, &i, error))
                return FALSE;
        } else if (!options_ended && word[0] == '-' && word[1]) {
            if (!parse_short(args, word + 1, error))
                return FALSE;
        } else if (!parse_word(args, word, error)) {
            return FALSE;
        }
    }
    return TRUE;
}

/* Rules between options; those of one option alone are in read_value(). */
static gboolean check_combination(const Arguments *args, GError **error)
{
    if (args->verb == VERB_ALLOCATE && arguments_has(args, OPTION_LIFETIME)) {
        if (args->lifetime == LIFETIME_CLIENT)
            return usage_error(error, _("--lifetime=client would end with styxyctl, at once; use "
                                        "'styxyctl run', or --lifetime=process with --pid"));
        if (args->lifetime == LIFETIME_PROCESS && !arguments_has(args, OPTION_PID))
            return usage_error(error, _("--lifetime=process needs --pid, the process to end with"));
    }
    if (arguments_has(args, OPTION_STRICT) && !arguments_has(args, OPTION_PORT))
        return usage_error(error, _("--strict needs --port, the only one to accept"));
    if (args->verb == VERB_RUN && arguments_has(args, OPTION_SOCKET) &&
        arguments_has(args, OPTION_PROTOCOL) && args->protocol == PROTOCOL_BOTH)
        return usage_error(error,
                           _("--socket hands over one socket; choose --protocol=tcp or udp"));
    if (args->verb == VERB_RELEASE && arguments_has(args, OPTION_INSTANCE) &&
        (args->operands->len > 0 || arguments_has(args, OPTION_PROTOCOL)))
        return usage_error(error, _("release takes either leases or --instance"));
    return TRUE;
}

static gboolean check_operands(const Arguments *args, GError **error)
{
    const VerbInfo *info = verb_info(args->verb);
    guint n = args->operands->len;

    if (args->verb == VERB_RUN && n > info->operands_max)
        return usage_error(error, _("put '--' before the command: styxyctl run %s -- %s …"),
                           arguments_operand(args, 0), arguments_operand(args, 1));
    if (n < info->operands_min &&
        !(args->verb == VERB_RELEASE && arguments_has(args, OPTION_INSTANCE)))
        return usage_error(error, _("%s needs more: styxyctl %s %s"), info->name, info->name,
                           _(info->synopsis));
    if (n > info->operands_max)
        return usage_error(error, _("%s does not take '%s', see 'styxyctl %s --help'"), info->name,
                           arguments_operand(args, info->operands_max), info->name);
    if (args->verb == VERB_RUN && (!args->command || !args->command[0]))
        return usage_error(error, _("run needs a command: styxyctl run %s -- COMMAND…"),
                           arguments_operand(args, 0));
    if (info->first_is_type && n > 0 && !service_type_is_valid(arguments_operand(args, 0)))
        return usage_error(error, _("'%s' is not a service type: 1 to 50 letters, digits and '-'"),
                           arguments_operand(args, 0));
    return TRUE;
}

static gboolean check(const Arguments *args, GError **error)
{
    if (arguments_has(args, OPTION_HELP) || arguments_has(args, OPTION_VERSION))
        return TRUE;
    if (args->verb == _VERB_MAX)
        return usage_error(error, _("no verb given, see 'styxyctl --help'"));
    for (guint id = 0; id < _OPTION_MAX; id++)
        if (arguments_has(args, (OptionId)id) && !option_applies((OptionId)id, args->verb))
            return usage_error(error, _("%s does not take --%s, see 'styxyctl %s --help'"),
                               verb_name(args->verb), option_name((OptionId)id),
                               verb_name(args->verb));
    return check_operands(args, error) && check_combination(args, error);
}

Arguments *arguments_parse(char **argv, GError **error)
{
    g_autoptr(Arguments) args = g_new0(Arguments, 1);

    args->verb = _VERB_MAX;
    args->operands = g_ptr_array_new();
    if (!parse_words(args, argv, error)) {
        /* most likely an option of the command */
        if (args->verb == VERB_RUN && args->operands->len > 1)
            g_prefix_error(error, "%s: ", _("put '--' before the command"));
        return NULL;
    }
    if (!check(args, error))
        return NULL;
    return g_steal_pointer(&args);
}
