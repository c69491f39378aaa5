/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "fixture.h"

int main(int argc, char *argv[])
{
    g_test_init(&argc, &argv, NULL);
    return fixture_main();
}
