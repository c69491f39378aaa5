/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "core/charges.h"

typedef struct UserCharge {
    guint counts[_CHARGE_MAX];
    guint total;
} UserCharge;

struct Charges {
    GHashTable *users; /* uid -> UserCharge * */
};

Charges *charges_new(void)
{
    Charges *charges = g_new0(Charges, 1);

    charges->users = g_hash_table_new_full(NULL, NULL, NULL, g_free);
    return charges;
}

Charges *charges_free(Charges *charges)
{
    if (!charges)
        return NULL;
    g_hash_table_unref(charges->users);
    g_free(charges);
    return NULL;
}

void charges_add(Charges *charges, uid_t uid, ChargeKind kind, guint count)
{
    UserCharge *user = g_hash_table_lookup(charges->users, GUINT_TO_POINTER(uid));

    if (count == 0)
        return;
    if (!user) {
        user = g_new0(UserCharge, 1);
        g_hash_table_insert(charges->users, GUINT_TO_POINTER(uid), user);
    }
    user->counts[kind] += count;
    user->total += count;
}

void charges_drop(Charges *charges, uid_t uid, ChargeKind kind, guint count)
{
    UserCharge *user = g_hash_table_lookup(charges->users, GUINT_TO_POINTER(uid));

    if (count == 0)
        return;
    g_assert(user && user->counts[kind] >= count);
    user->counts[kind] -= count;
    user->total -= count;
    if (user->total == 0)
        g_hash_table_remove(charges->users, GUINT_TO_POINTER(uid));
}

guint charges_count(const Charges *charges, uid_t uid, ChargeKind kind)
{
    const UserCharge *user = g_hash_table_lookup(charges->users, GUINT_TO_POINTER(uid));

    return user ? user->counts[kind] : 0;
}
