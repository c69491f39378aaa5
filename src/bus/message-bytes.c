/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "bus/message-bytes.h"

#include <errno.h>
#include <string.h>

#define PATH_BYTES_MAX 255

/* What sd-bus has beside the text, with its header. */
#define MESSAGE_BYTES 1024
#define VALUE_BYTES 64

typedef struct Count {
    size_t bytes, max;
    guint values;
} Count;

static int count_text(sd_bus_message *m, char type, Count *count)
{
    const char *text = NULL;
    int r = sd_bus_message_read_basic(m, type, &text);

    if (r > 0)
        count->bytes += strlen(text);
    return r;
}

static int count_values(sd_bus_message *m, Count *count);

static int count_container(sd_bus_message *m, char type, const char *contents, Count *count)
{
    g_autofree char *inside = g_strdup(contents); /* sd-bus may move what it points to */
    const void *values = NULL;
    size_t size = 0;
    int r;

    if (type == SD_BUS_TYPE_ARRAY && inside[1] == '\0' && strchr("ynqiuxtd", inside[0])) {
        r = sd_bus_message_read_array(m, inside[0], &values, &size);
        count->bytes += size;
        return r;
    }
    r = sd_bus_message_enter_container(m, type, inside);
    if (r <= 0)
        return r;
    r = count_values(m, count);
    return r < 0 || count->bytes > count->max ? r : sd_bus_message_exit_container(m);
}

/* Counts up to the end of the container, or until it is too much. */
static int count_values(sd_bus_message *m, Count *count)
{
    const char *contents = NULL;
    char type = 0;
    int r = 0;

    while (count->bytes <= count->max && (r = sd_bus_message_peek_type(m, &type, &contents)) > 0) {
        count->bytes += VALUE_BYTES;
        if (++count->values > MESSAGE_VALUES_MAX)
            return -E2BIG;
        if (strchr("sog", type))
            r = count_text(m, type, count);
        else if (strchr("arev", type))
            r = count_container(m, type, contents, count);
        else
            r = sd_bus_message_skip(m, (char[]){type, '\0'});
        if (r < 0)
            return r;
    }
    return r < 0 ? r : 0;
}

int message_bytes(sd_bus_message *m, size_t max, size_t *ret_bytes)
{
    const char *path = sd_bus_message_get_path(m);
    Count count = {.bytes = MESSAGE_BYTES + (path ? strlen(path) : 0), .max = max};
    int r = count_values(m, &count);

    if (r >= 0)
        r = sd_bus_message_rewind(m, TRUE);
    if (r < 0)
        return r;
    *ret_bytes = count.bytes;
    return 0;
}

int message_check_path(sd_bus_message *m, sd_bus_error *error)
{
    const char *path = sd_bus_message_get_path(m);

    if (!path || strnlen(path, PATH_BYTES_MAX + 1) <= PATH_BYTES_MAX)
        return 0;
    return sd_bus_error_setf(error, SD_BUS_ERROR_UNKNOWN_OBJECT,
                             "the object path is longer than %d bytes: there is no such object",
                             PATH_BYTES_MAX);
}
