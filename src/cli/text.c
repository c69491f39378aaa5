/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "cli/text.h"

#include <string.h>

char *text_clean(const char *text)
{
    g_autofree char *valid = g_utf8_make_valid(text, -1);
    GString *clean = g_string_sized_new(strlen(valid));

    for (const char *p = valid; *p; p = g_utf8_next_char(p)) {
        gunichar c = g_utf8_get_char(p);

        if (g_unichar_iscntrl(c) || c == 0x2028 || c == 0x2029)
            g_string_append_c(clean, '?');
        else
            g_string_append_unichar(clean, c);
    }
    return g_string_free(clean, FALSE);
}

static guint char_width(gunichar c)
{
    if (g_unichar_iszerowidth(c))
        return 0;
    return g_unichar_iswide(c) ? 2 : 1;
}

guint text_width(const char *text)
{
    guint width = 0;

    for (const char *p = text; *p; p = g_utf8_next_char(p))
        width += char_width(g_utf8_get_char(p));
    return width;
}

char *text_fit(const char *text, guint width)
{
    const char *p = text;
    guint used = 0;

    if (text_width(text) <= width)
        return g_strdup(text);
    if (width == 0)
        return g_strdup("");
    /* one cell stays free for the ellipsis */
    while (used + char_width(g_utf8_get_char(p)) < width) {
        used += char_width(g_utf8_get_char(p));
        p = g_utf8_next_char(p);
    }
    return g_strdup_printf("%.*s%s", (int)(p - text), text, g_get_charset(NULL) ? "…" : "~");
}

char *text_ago(gint64 usec)
{
    gint64 seconds = MAX(usec, 0) / G_USEC_PER_SEC;

    if (seconds < 60)
        return g_strdup_printf("%" G_GINT64_FORMAT "s", seconds);
    if (seconds < 60 * 60)
        return g_strdup_printf("%" G_GINT64_FORMAT "min", seconds / 60);
    if (seconds < 48 * 60 * 60)
        return g_strdup_printf("%" G_GINT64_FORMAT "h", seconds / (60 * 60));
    return g_strdup_printf("%" G_GINT64_FORMAT "d", seconds / (24 * 60 * 60));
}

char *text_duration(guint64 usec)
{
    if (usec < 1000)
        return g_strdup_printf("%" G_GUINT64_FORMAT "us", usec);
    if (usec < G_USEC_PER_SEC)
        return g_strdup_printf("%" G_GUINT64_FORMAT "ms", usec / 1000);
    return g_strdup_printf("%" G_GUINT64_FORMAT ".%us", usec / G_USEC_PER_SEC,
                           (guint)(usec / (G_USEC_PER_SEC / 10) % 10));
}

char *text_time(gint64 usec)
{
    g_autoptr(GDateTime) time = g_date_time_new_from_unix_local(usec / G_USEC_PER_SEC);

    return time ? g_date_time_format(time, "%Y-%m-%d %H:%M:%S") : g_strdup("-");
}
