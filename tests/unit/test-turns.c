/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Who has put in many makes nobody wait for more than one of his at a time. */
#include "util/turns.h"

typedef struct Thing {
    guint owner, number;
    GList link;
} Thing;

static void push(Turns *turns, Thing *thing, guint owner, guint number)
{
    *thing = (Thing){.owner = owner, .number = number};
    thing->link.data = thing;
    turns_push(turns, owner, &thing->link);
}

static void assert_next(Turns *turns, guint owner, guint number)
{
    GList *link = turns_pop(turns);
    const Thing *thing = NULL;

    g_assert_nonnull(link);
    g_assert_null(link->next);
    g_assert_null(link->prev);
    thing = link->data;
    g_assert_cmpuint(thing->owner, ==, owner);
    g_assert_cmpuint(thing->number, ==, number);
}

static void test_order(void)
{
    Turns *turns = turns_new();
    Thing things[8];

    g_assert_true(turns_is_empty(turns));
    g_assert_null(turns_pop(turns));
    for (guint i = 0; i < 5; i++)
        push(turns, &things[i], 0, i);
    push(turns, &things[5], G_MAXUINT, 0);
    push(turns, &things[6], 7, 0);
    push(turns, &things[7], 7, 1);
    assert_next(turns, 0, 0);
    assert_next(turns, G_MAXUINT, 0);
    assert_next(turns, 7, 0);
    assert_next(turns, 0, 1);
    /* who comes back has his turn after those who are there */
    push(turns, &things[5], G_MAXUINT, 1);
    assert_next(turns, 7, 1);
    assert_next(turns, 0, 2);
    assert_next(turns, G_MAXUINT, 1);
    assert_next(turns, 0, 3);
    g_assert_false(turns_is_empty(turns));
    assert_next(turns, 0, 4);
    g_assert_true(turns_is_empty(turns));
    g_assert_null(turns_pop(turns));
    g_assert_null(turns_free(turns));
    g_assert_null(turns_free(NULL));
}

int main(int argc, char *argv[])
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/turns/order", test_order);
    return g_test_run();
}
