/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The a{sv} of Allocate, List and Recover, put together from the bytes: which method, then entry by
 * entry a key, a type and a value. What is taken keeps the promises of bus/options.h; a refusal
 * is an InvalidArgument that can be sent over a bus.
 */
#include <string.h>
#include <sys/socket.h>

#include "bus/options.h"
#include "bus/sd-bus-auto.h"
#include "fuzz.h"

#define ENTRIES_MAX 24

static const char *const keys[] = {
    "port",
    "strict",
    "range",
    "protocol",
    "address",
    "instance",
    "label",
    "lifetime",
    "hold",
    "retries",
    "ttl_ms",
    "pid",
    "health_url",
    "on_unhealthy",
    "uid",
    "health",
    "service_type",
    "dry_run",
    "health_timeout_ms",
};
/* of keys, in their order */
static const char own_types[] = "qbrssssssuuussussbu";

/* Input: what is left of the bytes; zeros when they are used up. */
typedef struct Input {
    const guint8 *data;
    size_t length;
} Input;

static sd_bus *bus; /* messages need one; nothing is sent on it */

static guint8 take_byte(Input *input)
{
    if (input->length == 0)
        return 0;
    input->length--;
    return *input->data++;
}

static guint32 take_number(Input *input, guint bytes)
{
    guint32 number = 0;

    for (guint i = 0; i < bytes; i++)
        number = number << 8 | take_byte(input);
    return number;
}

/* Whether sd-bus sends @text; it refuses characters that are none, U+FFFF say. */
static gboolean can_be_sent(const char *text)
{
    g_autoptr(sd_bus_message) m = NULL;

    g_assert_cmpint(sd_bus_message_new_method_call(bus, &m, NULL, "/", "a.b", "C"), >=, 0);
    return sd_bus_message_append(m, "s", text) >= 0;
}

/* Up to the next newline; no text of a message may hold a NUL or what is not UTF-8. */
static char *take_text(Input *input)
{
    const guint8 *newline = input->length > 0 ? memchr(input->data, '\n', input->length) : NULL;
    size_t length = newline ? (size_t)(newline - input->data) : input->length;
    g_autofree char *text = g_strndup((const char *)input->data, length);
    g_autofree char *valid = NULL;

    input->data += length + (newline != NULL);
    input->length -= length + (newline != NULL);
    valid = g_utf8_make_valid(text, -1);
    return can_be_sent(valid) ? g_steal_pointer(&valid) : g_strdup("?");
}

static void append_value(sd_bus_message *m, const char *key, char type, Input *input)
{
    g_autofree char *text = NULL;
    guint32 number;

    switch (type) {
    case 'q':
        number = take_number(input, 2);
        g_assert_cmpint(sd_bus_message_append(m, "{sv}", key, "q", number & 0xffff), >=, 0);
        break;
    case 'u':
        number = take_number(input, 4);
        g_assert_cmpint(sd_bus_message_append(m, "{sv}", key, "u", number), >=, 0);
        break;
    case 'b':
        number = take_number(input, 1) & 1;
        g_assert_cmpint(sd_bus_message_append(m, "{sv}", key, "b", (int)number), >=, 0);
        break;
    case 'r':
        number = take_number(input, 4);
        g_assert_cmpint(
            sd_bus_message_append(m, "{sv}", key, "(qq)", number >> 16, number & 0xffff), >=, 0);
        break;
    default:
        text = take_text(input);
        g_assert_cmpint(sd_bus_message_append(m, "{sv}", key, "s", text), >=, 0);
    }
}

static void append_entry(sd_bus_message *m, Input *input)
{
    guint8 choice = take_byte(input);
    guint index = choice % (G_N_ELEMENTS(keys) + 1);
    g_autofree char *other = index == G_N_ELEMENTS(keys) ? take_text(input) : NULL;
    char type = other ? 's' : own_types[index];

    if (choice >= 200)
        type = "qubrs"[take_byte(input) % 5];
    append_value(m, other ? other : keys[index], type, input);
}

static sd_bus_message *message_of(Input *input)
{
    sd_bus_message *m = NULL;

    g_assert_cmpint(sd_bus_message_new_method_call(bus, &m, NULL, "/", "a.b", "C"), >=, 0);
    g_assert_cmpint(sd_bus_message_open_container(m, 'a', "{sv}"), >=, 0);
    for (guint i = 0; i < ENTRIES_MAX && input->length > 0; i++)
        append_entry(m, input);
    g_assert_cmpint(sd_bus_message_close_container(m), >=, 0);
    g_assert_cmpint(sd_bus_message_seal(m, 1, 0), >=, 0);
    g_assert_cmpint(sd_bus_message_rewind(m, TRUE), >=, 0);
    return m;
}

static void check_refusal(const GError *error)
{
    g_assert_error(error, OUTCOME_ERROR, OUTCOME_INVALID_ARGUMENT);
    g_assert_cmpuint(strlen(error->message), >, 0);
    g_assert_cmpuint(strlen(error->message), <, 1024);
    g_assert_true(g_utf8_validate(error->message, -1, NULL));
}

static void check_allocate(sd_bus_message *m)
{
    AllocateArguments arguments;
    const LeaseRequest *request = &arguments.request;
    g_autoptr(GError) error = NULL;
    gboolean foreign;

    if (!options_parse_allocate(m, &arguments, &error)) {
        check_refusal(error);
        return;
    }
    g_assert_no_error(error);
    g_assert_cmpuint(request->count, ==, 1);
    g_assert_true(!request->strict || request->port > 0);
    g_assert_true(!port_range_is_set(request->range) || port_range_is_valid(request->range));
    g_assert_cmpuint(request->protocol & ~(guint)PROTOCOL_BOTH, ==, 0);
    g_assert_true(!request->instance || instance_is_valid(request->instance));
    g_assert_true(!request->label || label_is_valid(request->label));
    g_assert_cmpint(arguments.options.retries, >=, -1);
    g_assert_cmpint(arguments.options.retries, <=, OPTIONS_RETRIES_MAX);
    g_assert_cmpint(arguments.pidfd, ==, -1);
    g_assert_true(request->lifetime != LIFETIME_PROCESS || arguments.pid > 0);
    g_assert_true(!request->address || strlen(request->address) < INET6_ADDRSTRLEN);
    if (!options_resolve_health_url(&arguments, &foreign, &error))
        check_refusal(error);
    g_free(arguments.health_url);
}

static void check_filter(sd_bus_message *m)
{
    g_autoptr(GError) error = NULL;
    LeaseFilter filter;

    if (!options_parse_filter(m, &filter, &error)) {
        check_refusal(error);
        return;
    }
    g_assert_no_error(error);
    g_assert_true(!filter.service_type || service_type_is_valid(filter.service_type));
    g_assert_true(!filter.instance || instance_is_valid(filter.instance));
    g_assert_true(!port_range_is_set(filter.range) || port_range_is_valid(filter.range));
}

static void check_dry_run(sd_bus_message *m)
{
    g_autoptr(GError) error = NULL;
    gboolean dry_run = 2;

    if (options_parse_dry_run(m, &dry_run, &error)) {
        g_assert_no_error(error);
        g_assert_true(dry_run == TRUE || dry_run == FALSE);
    } else {
        check_refusal(error);
        g_assert_cmpint(dry_run, ==, 2);
    }
}

static void make_bus(void)
{
    int pair[2];

    g_assert_cmpint(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), ==, 0);
    g_assert_cmpint(sd_bus_new(&bus), >=, 0);
    g_assert_cmpint(sd_bus_set_fd(bus, pair[0], pair[0]), >=, 0);
    g_assert_cmpint(sd_bus_start(bus), >=, 0);
}

int LLVMFuzzerTestOneInput(const guint8 *data, size_t length)
{
    Input input = {data, length};
    g_autoptr(sd_bus_message) m = NULL;
    guint8 method = take_byte(&input);

    if (!bus)
        make_bus();
    m = message_of(&input);
    if (method % 4 == 1)
        check_filter(m);
    else if (method % 4 == 2)
        check_dry_run(m);
    else
        check_allocate(m);
    return 0;
}
