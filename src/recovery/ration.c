/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "recovery/ration.h"

struct Ration {
    guint64 user_max, total_max;
    guint64 total;      /* used in this second */
    GHashTable *users;  /* uid -> guint64 *, owned: used in this second */
    gint64 second_usec; /* when it began */
};

Ration *ration_new(guint64 user_max, guint64 total_max)
{
    Ration *ration = g_new0(Ration, 1);

    ration->user_max = user_max;
    ration->total_max = total_max;
    ration->users = g_hash_table_new_full(NULL, NULL, NULL, g_free);
    return ration;
}

Ration *ration_free(Ration *ration)
{
    if (!ration)
        return NULL;
    g_hash_table_unref(ration->users);
    g_free(ration);
    return NULL;
}

static void begin_second(Ration *ration, gint64 now_usec)
{
    if (now_usec - ration->second_usec < G_USEC_PER_SEC)
        return;
    ration->second_usec = now_usec;
    ration->total = 0;
    g_hash_table_remove_all(ration->users);
}

guint64 ration_left(Ration *ration, uid_t uid, gint64 now_usec)
{
    const guint64 *used = NULL;
    guint64 of_user, of_total;

    begin_second(ration, now_usec);
    used = g_hash_table_lookup(ration->users, GUINT_TO_POINTER(uid));
    of_user = used ? ration->user_max - MIN(*used, ration->user_max) : ration->user_max;
    of_total = ration->total_max - MIN(ration->total, ration->total_max);
    return MIN(of_user, of_total);
}

void ration_use(Ration *ration, uid_t uid, guint64 amount, gint64 now_usec)
{
    guint64 *used = NULL;

    begin_second(ration, now_usec);
    used = g_hash_table_lookup(ration->users, GUINT_TO_POINTER(uid));
    if (!used) {
        used = g_new0(guint64, 1);
        g_hash_table_insert(ration->users, GUINT_TO_POINTER(uid), used);
    }
    *used += amount;
    ration->total += amount;
}
