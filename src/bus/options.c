/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "bus/options.h"

#include <string.h>

#include "probe/http.h"

/* Bytes of a client's word that are repeated to it. */
#define EXCERPT_MAX 100

typedef union Value {
    guint16 port;
    guint32 number;
    int flag;
    int fd;
    const char *text;
    struct {
        guint16 first, last;
    } range;
} Value;

/** Key: one option: @signature is its D-Bus type, @apply puts a value of it into @target. */
typedef struct Key {
    const char *name;
    const char *signature;
    gboolean (*apply)(const char *name, const Value *value, void *target, GError **error);
} Key;

G_GNUC_PRINTF(2, 3)
static gboolean refuse(GError **error, const char *format, ...)
{
    g_autofree char *message = NULL;
    va_list ap;

    va_start(ap, format);
    message = g_strdup_vprintf(format, ap);
    va_end(ap);
    g_set_error_literal(error, OUTCOME_ERROR, OUTCOME_INVALID_ARGUMENT, message);
    return FALSE;
}

/*
 * A word of a client, for a message to it: bounded, and cut between two characters, because half a
 * character cannot be sent. Returns: (transfer full)
 */
static char *excerpt(const char *text)
{
    size_t length = strnlen(text, EXCERPT_MAX + 1);

    if (length <= EXCERPT_MAX)
        return g_strdup(text);
    for (length = EXCERPT_MAX; (text[length] & 0xc0) == 0x80; length--)
        ;
    return g_strdup_printf("%.*s...", (int)length, text);
}

static gboolean refuse_word(GError **error, const char *name, const char *text, const char *wanted)
{
    g_autofree char *word = excerpt(text);

    return refuse(error, "Option '%s': '%s' is not %s", name, word, wanted);
}

/* ---- the options of Allocate ---- */

static gboolean apply_port(const char *name, const Value *value, void *target, GError **error)
{
    AllocateArguments *arguments = target;

    if (value->port == 0)
        return refuse(error, "Option '%s': 0 is not a port (1 to 65535)", name);
    arguments->request.port = value->port;
    return TRUE;
}

static gboolean apply_strict(const char *name, const Value *value, void *target, GError **error)
{
    ((AllocateArguments *)target)->request.strict = value->flag;
    return TRUE;
}

static gboolean range_of(const char *name, const Value *value, PortRange *ret_range, GError **error)
{
    PortRange range = {value->range.first, value->range.last};

    if (!port_range_is_valid(range))
        return refuse(error, "Option '%s': %u to %u is not a range of ports (1 to 65535)", name,
                      value->range.first, value->range.last);
    *ret_range = range;
    return TRUE;
}

static gboolean apply_range(const char *name, const Value *value, void *target, GError **error)
{
    return range_of(name, value, &((AllocateArguments *)target)->request.range, error);
}

static gboolean protocol_of(const char *name, const char *text, Protocol *ret_value, GError **error)
{
    return protocol_from_string(text, ret_value) ||
           refuse_word(error, name, text, "'tcp', 'udp' or 'both'");
}

static gboolean apply_protocol(const char *name, const Value *value, void *target, GError **error)
{
    return protocol_of(name, value->text, &((AllocateArguments *)target)->request.protocol, error);
}

static gboolean apply_address(const char *name, const Value *value, void *target, GError **error)
{
    AllocateArguments *arguments = target;
    struct in_addr v4;
    struct in6_addr v6;

    if (inet_pton(AF_INET, value->text, &v4) == 1) {
        (void)inet_ntop(AF_INET, &v4, arguments->address, sizeof(arguments->address));
    } else if (inet_pton(AF_INET6, value->text, &v6) == 1) {
        if (IN6_IS_ADDR_V4MAPPED(&v6))
            (void)inet_ntop(AF_INET, &v6.s6_addr[12], arguments->address,
                            sizeof(arguments->address));
        else
            (void)inet_ntop(AF_INET6, &v6, arguments->address, sizeof(arguments->address));
    } else {
        return refuse_word(error, name, value->text, "a numeric IPv4 or IPv6 address");
    }
    arguments->request.address = arguments->address;
    return TRUE;
}

static gboolean instance_of(const char *name, const char *text, const char **ret_text,
                            GError **error)
{
    if (!instance_is_valid(text))
        return refuse_word(error, name, text, "1 to 100 characters of [A-Za-z0-9_-]");
    *ret_text = text;
    return TRUE;
}

static gboolean apply_instance(const char *name, const Value *value, void *target, GError **error)
{
    return instance_of(name, value->text, &((AllocateArguments *)target)->request.instance, error);
}

static gboolean apply_label(const char *name, const Value *value, void *target, GError **error)
{
    if (!label_is_valid(value->text))
        return refuse_word(error, name, value->text, "1 to 100 characters of [A-Za-z0-9_.-]");
    ((AllocateArguments *)target)->request.label = value->text;
    return TRUE;
}

static gboolean apply_lifetime(const char *name, const Value *value, void *target, GError **error)
{
    return lifetime_from_string(value->text, &((AllocateArguments *)target)->request.lifetime) ||
           refuse_word(error, name, value->text, "'auto', 'process', 'client' or 'persistent'");
}

static gboolean apply_hold(const char *name, const Value *value, void *target, GError **error)
{
    return hold_from_string(value->text, &((AllocateArguments *)target)->request.hold) ||
           refuse_word(error, name, value->text, "'none' or 'soft'");
}

static gboolean apply_retries(const char *name, const Value *value, void *target, GError **error)
{
    if (value->number > OPTIONS_RETRIES_MAX)
        return refuse(error, "Option '%s': %u is more than %d", name, value->number,
                      OPTIONS_RETRIES_MAX);
    ((AllocateArguments *)target)->options.retries = (gint)value->number;
    return TRUE;
}

static gboolean apply_ttl(const char *name, const Value *value, void *target, GError **error)
{
    if (value->number == 0)
        return refuse(error, "Option '%s': must be at least 1", name);
    ((AllocateArguments *)target)->request.ttl_msec = value->number;
    return TRUE;
}

static gboolean apply_pid(const char *name, const Value *value, void *target, GError **error)
{
    if (value->number == 0 || value->number > G_MAXINT32)
        return refuse(error, "Option '%s': %u is not a process id", name, value->number);
    ((AllocateArguments *)target)->pid = (pid_t)value->number;
    return TRUE;
}

static gboolean apply_pidfd(const char *name, const Value *value, void *target, GError **error)
{
    ((AllocateArguments *)target)->pidfd = value->fd;
    return TRUE;
}

static gboolean apply_health_url(const char *name, const Value *value, void *target, GError **error)
{
    if (strlen(value->text) > 2048)
        return refuse(error, "Option '%s': longer than 2048 bytes", name);
    ((AllocateArguments *)target)->request.health_url = value->text;
    return TRUE;
}

/* A check has a place of a few for its time, and others wait for it. */
#define HEALTH_TIMEOUT_MAX_MSEC 60000

static gboolean apply_health_timeout(const char *name, const Value *value, void *target,
                                     GError **error)
{
    if (value->number == 0)
        return refuse(error, "Option '%s': must be at least 1", name);
    if (value->number > HEALTH_TIMEOUT_MAX_MSEC)
        return refuse(error, "Option '%s': must be at most %d", name, HEALTH_TIMEOUT_MAX_MSEC);
    ((AllocateArguments *)target)->request.health_timeout_msec = value->number;
    return TRUE;
}

static gboolean apply_on_unhealthy(const char *name, const Value *value, void *target,
                                   GError **error)
{
    return on_unhealthy_from_string(value->text,
                                    &((AllocateArguments *)target)->request.on_unhealthy) ||
           refuse_word(error, name, value->text, "'release', 'restart' or 'notify'");
}

static const Key allocate_keys[] = {
    {"port", "q", apply_port},
    {"strict", "b", apply_strict},
    {"range", "(qq)", apply_range},
    {"protocol", "s", apply_protocol},
    {"address", "s", apply_address},
    {"instance", "s", apply_instance},
    {"label", "s", apply_label},
    {"lifetime", "s", apply_lifetime},
    {"hold", "s", apply_hold},
    {"retries", "u", apply_retries},
    {"ttl_ms", "u", apply_ttl},
    {"pid", "u", apply_pid},
    {"pidfd", "h", apply_pidfd},
    {"health_url", "s", apply_health_url},
    {"health_timeout_ms", "u", apply_health_timeout},
    {"on_unhealthy", "s", apply_on_unhealthy},
};

/* ---- the filter of List ---- */

static gboolean filter_service_type(const char *name, const Value *value, void *target,
                                    GError **error)
{
    if (!service_type_is_valid(value->text))
        return refuse_word(error, name, value->text, "1 to 50 characters of [A-Za-z0-9-]");
    ((LeaseFilter *)target)->service_type = value->text;
    return TRUE;
}

static gboolean filter_instance(const char *name, const Value *value, void *target, GError **error)
{
    return instance_of(name, value->text, &((LeaseFilter *)target)->instance, error);
}

static gboolean filter_uid(const char *name, const Value *value, void *target, GError **error)
{
    LeaseFilter *filter = target;

    filter->has_uid = TRUE;
    filter->uid = value->number;
    return TRUE;
}

static gboolean filter_protocol(const char *name, const Value *value, void *target, GError **error)
{
    return protocol_of(name, value->text, &((LeaseFilter *)target)->protocol, error);
}

static gboolean filter_health(const char *name, const Value *value, void *target, GError **error)
{
    LeaseFilter *filter = target;

    filter->has_health = TRUE;
    return health_from_string(value->text, &filter->health) ||
           refuse_word(error, name, value->text,
                       "'reserved', 'active', 'failing', 'dormant' or 'quarantined'");
}

static gboolean filter_range(const char *name, const Value *value, void *target, GError **error)
{
    return range_of(name, value, &((LeaseFilter *)target)->range, error);
}

static const Key filter_keys[] = {
    {"service_type", "s", filter_service_type},
    {"instance", "s", filter_instance},
    {"uid", "u", filter_uid},
    {"protocol", "s", filter_protocol},
    {"health", "s", filter_health},
    {"range", "(qq)", filter_range},
};

/* ---- the option of Recover ---- */

static gboolean apply_dry_run(const char *name, const Value *value, void *target, GError **error)
{
    *(gboolean *)target = value->flag;
    return TRUE;
}

static const Key dry_run_keys[] = {
    {"dry_run", "b", apply_dry_run},
};

/* ---- reading ---- */

G_STATIC_ASSERT(G_N_ELEMENTS(allocate_keys) <= 32 && G_N_ELEMENTS(filter_keys) <= 32);

static int read_value(sd_bus_message *m, const char *signature, Value *ret_value)
{
    int r = sd_bus_message_enter_container(m, SD_BUS_TYPE_VARIANT, signature);

    if (r < 0)
        return r;
    if (signature[0] == SD_BUS_TYPE_STRUCT_BEGIN)
        r = sd_bus_message_read(m, signature, &ret_value->range.first, &ret_value->range.last);
    else
        r = sd_bus_message_read_basic(m, signature[0], ret_value);
    return r < 0 ? r : sd_bus_message_exit_container(m);
}

static gboolean unreadable(GError **error, int r)
{
    return refuse(error, "The options cannot be read: %s", g_strerror(-r));
}

/* Reads one entry, whose dict entry was entered already. @seen: a bit for each key had so far. */
static gboolean parse_entry(sd_bus_message *m, const Key *keys, size_t n_keys, guint32 *seen,
                            void *target, GError **error)
{
    const char *name = NULL, *signature = NULL;
    Value value = {0};
    size_t i = 0;
    int r = sd_bus_message_read_basic(m, SD_BUS_TYPE_STRING, &name);

    if (r < 0)
        return unreadable(error, r);
    while (i < n_keys && strcmp(keys[i].name, name) != 0)
        i++;
    if (i == n_keys) {
        g_autofree char *word = excerpt(name);

        return refuse(error, "Unknown option '%s'", word);
    }
    if (*seen & (1u << i))
        return refuse(error, "Option '%s' is given twice", name);
    *seen |= 1u << i;

    r = sd_bus_message_peek_type(m, NULL, &signature);
    if (r < 0)
        return unreadable(error, r);
    if (strcmp(signature, keys[i].signature) != 0)
        return refuse(error, "Option '%s' is of type '%s' and should be '%s'", name, signature,
                      keys[i].signature);
    r = read_value(m, signature, &value);
    if (r < 0)
        return unreadable(error, r);
    return keys[i].apply(keys[i].name, &value, target, error);
}

static gboolean parse(sd_bus_message *m, const Key *keys, size_t n_keys, void *target,
                      GError **error)
{
    guint32 seen = 0;
    int r = sd_bus_message_enter_container(m, SD_BUS_TYPE_ARRAY, "{sv}");

    /* Ends by itself: no key may come twice. */
    while (r >= 0 && (r = sd_bus_message_enter_container(m, SD_BUS_TYPE_DICT_ENTRY, "sv")) > 0) {
        if (!parse_entry(m, keys, n_keys, &seen, target, error))
            return FALSE;
        r = sd_bus_message_exit_container(m);
    }
    if (r >= 0)
        r = sd_bus_message_exit_container(m);
    return r >= 0 || unreadable(error, r);
}

static gboolean check_combination(const AllocateArguments *arguments, GError **error)
{
    const LeaseRequest *request = &arguments->request;

    if (request->strict && request->port == 0)
        return refuse(error, "Option 'strict' needs option 'port'");
    if (request->strict && port_range_is_set(request->range) &&
        !port_range_contains(request->range, request->port))
        return refuse(error, "Option 'port': %u is outside of option 'range', and 'strict'",
                      request->port);
    if (arguments->pid != 0 && arguments->pidfd >= 0)
        return refuse(error, "Options 'pid' and 'pidfd' exclude each other");
    if (request->lifetime == LIFETIME_PROCESS && arguments->pid == 0 && arguments->pidfd < 0)
        return refuse(error, "Option 'lifetime': 'process' needs option 'pid' or 'pidfd'");
    if (request->health_timeout_msec != 0 && !request->health_url)
        return refuse(error, "Option 'health_timeout_ms' needs option 'health_url'");
    if (request->hold == HOLD_SOFT && request->protocol == PROTOCOL_UDP)
        return refuse(error, "Option 'hold': 'soft' is for tcp; a held udp socket would take the "
                             "datagrams of its service");
    return TRUE;
}

/* ---- health_url ---- */

#define PORT_WORD "{port}"

/* Returns: @url with @from in place of @to in its authority, or NULL when that is not there. */
static char *replace_in_authority(const char *url, const char *from, const char *to)
{
    const char *authority = strstr(url, "://");
    const char *end = authority ? authority + 3 + strcspn(authority + 3, "/?#") : NULL;
    const char *found = authority ? g_strstr_len(authority, end - authority, from) : NULL;

    if (!found)
        return NULL;
    return g_strdup_printf("%.*s%s%s", (int)(found - url), url, to, found + strlen(from));
}

/* Whether the port of @url is the word for the lease's. Elsewhere in the authority it is none. */
static gboolean names_own_port(const char *url)
{
    const char *authority = strstr(url, "://");
    const char *end = authority ? authority + 3 + strcspn(authority + 3, "/?#") : NULL;

    return end && (size_t)(end - authority) > strlen(":" PORT_WORD) &&
           g_str_has_prefix(end - strlen(":" PORT_WORD), ":" PORT_WORD);
}

static gboolean refuse_health_url(GError **error, const GError *cause)
{
    return refuse(error, "Option 'health_url': %s", cause->message);
}

gboolean options_resolve_health_url(AllocateArguments *arguments, gboolean *ret_foreign,
                                    GError **error)
{
    const char *url = arguments->request.health_url;
    const char *address = arguments->request.address;
    guint16 port = arguments->request.port;
    g_autoptr(GError) cause = NULL;
    g_autofree char *sample = NULL;
    g_autofree char *number = NULL;

    *ret_foreign = FALSE;
    if (!url)
        return TRUE;
    if (names_own_port(url)) {
        sample = replace_in_authority(url, PORT_WORD, "1");
        if (!http_url_check(sample, 1, NULL, TRUE, &cause))
            return refuse_health_url(error, cause);
        *ret_foreign = !http_url_check(sample, 1, address, FALSE, NULL);
        arguments->health_url = g_strdup(url);
        return TRUE;
    }
    if (!http_url_check(url, 0, NULL, TRUE, &cause))
        return refuse_health_url(error, cause);
    *ret_foreign = port == 0 || !http_url_check(url, port, address, FALSE, NULL);
    number = g_strdup_printf(":%u", port);
    if (!*ret_foreign)
        arguments->health_url = replace_in_authority(url, number, ":" PORT_WORD);
    if (!arguments->health_url)
        arguments->health_url = g_strdup(url);
    return TRUE;
}

gboolean options_parse_allocate(sd_bus_message *m, AllocateArguments *ret_arguments, GError **error)
{
    memset(ret_arguments, 0, sizeof(*ret_arguments));
    ret_arguments->request.count = 1;
    ret_arguments->options.retries = -1;
    ret_arguments->pidfd = -1;
    return parse(m, allocate_keys, G_N_ELEMENTS(allocate_keys), ret_arguments, error) &&
           check_combination(ret_arguments, error);
}

gboolean options_parse_filter(sd_bus_message *m, LeaseFilter *ret_filter, GError **error)
{
    memset(ret_filter, 0, sizeof(*ret_filter));
    return parse(m, filter_keys, G_N_ELEMENTS(filter_keys), ret_filter, error);
}

gboolean options_parse_dry_run(sd_bus_message *m, gboolean *ret_dry_run, GError **error)
{
    gboolean dry_run = FALSE;

    if (!parse(m, dry_run_keys, G_N_ELEMENTS(dry_run_keys), &dry_run, error))
        return FALSE;
    *ret_dry_run = dry_run;
    return TRUE;
}

gboolean options_check_service_type(const char *text, GError **error)
{
    g_autofree char *word = NULL;

    if (service_type_is_valid(text))
        return TRUE;
    word = excerpt(text);
    return refuse(error, "Service type '%s' is not 1 to 50 characters of [A-Za-z0-9-]", word);
}
