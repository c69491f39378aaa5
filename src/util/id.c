/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "util/id.h"

#include <errno.h>
#include <gio/gio.h>
#include <pthread.h>
#include <string.h>
#include <sys/random.h>
#include <systemd/sd-id128.h>

/* A getrandom(2) costs as much as all else of an id. Each thread has its own, so nobody locks. */
#define POOL_IDS 64
static _Thread_local sd_id128_t pool[POOL_IDS];
static _Thread_local guint pool_left;

/* A child that drew on would draw what its parent draws. */
static void pool_forget(void)
{
    memset(pool, 0, sizeof pool);
    pool_left = 0;
}

static void pool_watch_forks(void)
{
    (void)pthread_atfork(NULL, NULL, pool_forget);
}

static void pool_fill(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    guint8 *bytes = (guint8 *)pool;
    gsize n = 0;

    (void)pthread_once(&once, pool_watch_forks);
    while (n < sizeof pool) {
        gssize got = getrandom(bytes + n, sizeof pool - n, 0);

        if (got < 0 && errno != EINTR)
            g_error("the kernel gives no random numbers: %s", g_strerror(errno));
        n += got > 0 ? (gsize)got : 0;
    }
    pool_left = POOL_IDS;
}

Id id_random(void)
{
    sd_id128_t bits;
    Id id;

    if (pool_left == 0)
        pool_fill();
    bits = pool[--pool_left];
    pool[pool_left] = SD_ID128_NULL; /* what is given out is not left lying about */
    /* The bits that say "random" (RFC 9562, 5.4), as sd_id128_randomize(3) sets them. */
    bits.bytes[6] = (bits.bytes[6] & 0x0f) | 0x40;
    bits.bytes[8] = (bits.bytes[8] & 0x3f) | 0x80;
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
