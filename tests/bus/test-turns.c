/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* On the direct socket: many connections of one user have one user's turns. */
#include "fixture.h"

#include <signal.h>
#include <unistd.h>

#include "bus/ports-iface.h"

#define NOBODY 65534
#define CONNECTIONS 40

typedef struct Asker {
    sd_bus *bus; /* owned */
    guint16 port;
} Asker;

static int on_granted(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
    Asker *asker = userdata;

    g_assert_cmpint(sd_bus_message_read(m, "q", &asker->port), >, 0);
    return 0;
}

static void asker_ask(Asker *asker)
{
    g_assert_cmpint(sd_bus_call_method_async(asker->bus, NULL, PORTS_NAME, PORTS_PATH,
                                             PORTS_INTERFACE, "Allocate", on_granted, asker,
                                             "sa{sv}", "dev", 0),
                    >=, 0);
    g_assert_cmpint(sd_bus_flush(asker->bus), >=, 0);
}

static void asker_wait(Asker *asker)
{
    gint64 end_usec = g_get_monotonic_time() + 10 * G_USEC_PER_SEC;

    while (asker->port == 0 && g_get_monotonic_time() < end_usec)
        if (sd_bus_process(asker->bus, NULL) == 0)
            (void)sd_bus_wait(asker->bus, G_USEC_PER_SEC);
    g_assert_cmpuint(asker->port, >, 0);
}

/* All of it is there at once: ports are given from the lowest on, so they say who came when. */
static void test_users_take_turns(void)
{
    g_autoptr(Fixture) fixture = fixture_new(FIXTURE_DIRECT, NULL);
    Asker many[CONNECTIONS] = {0}, quiet[2] = {0};

    for (guint i = 0; i < CONNECTIONS; i++)
        many[i].bus = fixture_connect_as(fixture, NOBODY);
    for (guint i = 0; i < G_N_ELEMENTS(quiet); i++)
        quiet[i].bus = fixture_connect_as(fixture, 0);
    g_assert_cmpint(kill(fixture->server, SIGSTOP), ==, 0);
    for (guint i = 0; i < CONNECTIONS; i++)
        asker_ask(&many[i]);
    for (guint i = 0; i < G_N_ELEMENTS(quiet); i++)
        asker_ask(&quiet[i]);
    g_assert_cmpint(kill(fixture->server, SIGCONT), ==, 0);
    for (guint i = 0; i < G_N_ELEMENTS(quiet); i++) {
        asker_wait(&quiet[i]);
        g_test_message("%u were served before", quiet[i].port - 20000);
        /* the server may have been stopped in the midst of a turn */
        g_assert_cmpuint(quiet[i].port, <=, 20000 + 2 * i + 1 + 8);
    }
    for (guint i = 0; i < CONNECTIONS; i++) {
        asker_wait(&many[i]);
        (void)sd_bus_flush_close_unref(many[i].bus);
    }
    for (guint i = 0; i < G_N_ELEMENTS(quiet); i++)
        (void)sd_bus_flush_close_unref(quiet[i].bus);
}

int main(int argc, char *argv[])
{
    fixture_init(&argc, &argv);
    g_test_add_func("/bus/turns/users", test_users_take_turns);
    return g_test_run();
}
