/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "util/id.h"

#include <gio/gio.h>
#include <systemd/sd-id128.h>

Id id_random(void)
{
    sd_id128_t bits;
    Id id;
    int r = sd_id128_randomize(&bits);

    if (r < 0)
        g_error("the kernel gives no random numbers: %s", g_strerror(-r));
    (void)sd_id128_to_string(bits, id.text);
    return id;
}

gboolean id_of_boot(Id *ret_id, GError **error)
{
    sd_id128_t bits;
    int r = sd_id128_get_boot(&bits);

    if (r < 0) {
        g_set_error(error, G_IO_ERROR, g_io_error_from_errno(-r), "cannot read the boot id: %s",
                    g_strerror(-r));
        return FALSE;
    }
    (void)sd_id128_to_string(bits, ret_id->text);
    return TRUE;
}

gboolean id_is_valid(const char *text)
{
    size_t i;

    if (!text)
        return FALSE;
    for (i = 0; i < ID_LENGTH; i++)
        if (!g_ascii_isdigit(text[i]) && !(text[i] >= 'a' && text[i] <= 'f'))
            return FALSE;
    return text[i] == '\0';
}
