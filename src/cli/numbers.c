/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "cli/numbers.h"

#include <string.h>

static gboolean parse_digits(const char *text, size_t length, guint64 min, guint64 max,
                             guint64 *ret_value)
{
    guint64 value = 0;

    if (length == 0 || (length > 1 && text[0] == '0'))
        return FALSE;
    for (size_t i = 0; i < length; i++) {
        guint64 digit;

        if (!g_ascii_isdigit(text[i]))
            return FALSE;
        digit = (guint64)(text[i] - '0');
        if (value > (G_MAXUINT64 - digit) / 10)
            return FALSE;
        value = value * 10 + digit;
    }
    if (value < min || value > max)
        return FALSE;
    *ret_value = value;
    return TRUE;
}

gboolean number_parse(const char *text, guint64 min, guint64 max, guint64 *ret_value)
{
    return text && parse_digits(text, strlen(text), min, max, ret_value);
}

gboolean port_parse(const char *text, guint16 *ret_port)
{
    guint64 value;

    if (!number_parse(text, 1, G_MAXUINT16, &value))
        return FALSE;
    *ret_port = (guint16)value;
    return TRUE;
}

gboolean port_range_parse(const char *text, PortRange *ret_range)
{
    const char *dash = text ? strchr(text, '-') : NULL;
    guint64 first, last;

    if (!text)
        return FALSE;
    if (!dash) {
        if (!number_parse(text, 1, G_MAXUINT16, &first))
            return FALSE;
        last = first;
    } else if (!parse_digits(text, (size_t)(dash - text), 1, G_MAXUINT16, &first) ||
               !number_parse(dash + 1, first, G_MAXUINT16, &last)) {
        return FALSE;
    }
    *ret_range = (PortRange){.first = (guint16)first, .last = (guint16)last};
    return TRUE;
}

gboolean port_protocol_parse(const char *text, guint16 *ret_port, Protocol *ret_protocol)
{
    const char *slash = text ? strchr(text, '/') : NULL;
    size_t length = text ? (slash ? (size_t)(slash - text) : strlen(text)) : 0;
    Protocol protocol = 0;
    guint64 value;

    if (!text || !parse_digits(text, length, 1, G_MAXUINT16, &value))
        return FALSE;
    if (slash && !protocol_from_string(slash + 1, &protocol))
        return FALSE;
    *ret_port = (guint16)value;
    *ret_protocol = protocol;
    return TRUE;
}

gboolean duration_parse(const char *text, guint32 *ret_msec)
{
    static const struct {
        const char *suffix;
        guint64 msec;
    } units[] = {{"", 1000}, {"s", 1000}, {"ms", 1}, {"min", 60000}, {"m", 60000}, {"h", 3600000}};
    size_t digits = text ? strspn(text, "0123456789") : 0;
    guint64 value;

    for (size_t i = 0; text && i < G_N_ELEMENTS(units); i++) {
        if (!g_str_equal(text + digits, units[i].suffix))
            continue;
        if (!parse_digits(text, digits, 1, G_MAXUINT32 / units[i].msec, &value))
            return FALSE;
        *ret_msec = (guint32)(value * units[i].msec);
        return TRUE;
    }
    return FALSE;
}

gboolean lease_ref_parse(const char *text, LeaseRef *ret_ref)
{
    LeaseRef ref = {.port = 0};

    /* 32 decimal digits are an id too, and never a port */
    if (id_is_valid(text))
        memcpy(ref.id.text, text, sizeof(ref.id.text));
    else if (!port_protocol_parse(text, &ref.port, &ref.protocol))
        return FALSE;
    *ret_ref = ref;
    return TRUE;
}
