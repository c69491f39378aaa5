/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "bus/message-bytes.h"

#include <string.h>

/* What sd-bus has beside the text, with its header. */
#define MESSAGE_BYTES 1024
#define VALUE_BYTES 64

static int count_text(sd_bus_message *m, char type, size_t *bytes)
{
    const char *text = NULL;
    int r = sd_bus_message_read_basic(m, type, &text);

    if (r > 0)
        *bytes += strlen(text);
    return r;
}

static int count_values(sd_bus_message *m, size_t max, size_t *bytes);

static int count_container(sd_bus_message *m, char type, const char *contents, size_t max,
                           size_t *bytes)
{
    g_autofree char *inside = g_strdup(contents); /* sd-bus may move what it points to */
    const void *values = NULL;
    size_t size = 0;
    int r;

    if (type == SD_BUS_TYPE_ARRAY && inside[1] == '\0' && strchr("ynqiuxtd", inside[0])) {
        r = sd_bus_message_read_array(m, inside[0], &values, &size);
        *bytes += size;
        return r;
    }
    r = sd_bus_message_enter_container(m, type, inside);
    if (r <= 0)
        return r;
    r = count_values(m, max, bytes);
    return r < 0 || *bytes > max ? r : sd_bus_message_exit_container(m);
}

/* Counts up to the end of the container, or until there are more than @max. */
static int count_values(sd_bus_message *m, size_t max, size_t *bytes)
{
    const char *contents = NULL;
    char type = 0;
    int r = 0;

    while (*bytes <= max && (r = sd_bus_message_peek_type(m, &type, &contents)) > 0) {
        *bytes += VALUE_BYTES;
        if (strchr("sog", type))
            r = count_text(m, type, bytes);
        else if (strchr("arev", type))
            r = count_container(m, type, contents, max, bytes);
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
    size_t bytes = MESSAGE_BYTES + (path ? strlen(path) : 0);
    int r = count_values(m, max, &bytes);

    if (r >= 0)
        r = sd_bus_message_rewind(m, TRUE);
    if (r < 0)
        return r;
    *ret_bytes = bytes;
    return 0;
}
