/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

#include "cli/variant.h"

static sd_bus *start(int fd, gboolean server)
{
    sd_id128_t id = SD_ID128_NULL;
    sd_bus *bus = NULL;

    g_assert_cmpint(sd_bus_new(&bus), >=, 0);
    g_assert_cmpint(sd_bus_set_fd(bus, fd, fd), >=, 0);
    if (server)
        g_assert_cmpint(sd_bus_set_server(bus, 1, id), >=, 0);
    g_assert_cmpint(sd_bus_negotiate_fds(bus, 1), >=, 0);
    g_assert_cmpint(sd_bus_set_anonymous(bus, 1), >=, 0);
    g_assert_cmpint(sd_bus_start(bus), >=, 0);
    return bus;
}

/* A client's end of a connection that is ready to carry descriptors; its messages go nowhere. */
static void connect_pair(sd_bus **ret_client, sd_bus **ret_server)
{
    sd_bus *client, *server;
    int pair[2];

    g_assert_cmpint(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair), ==,
                    0);
    client = start(pair[0], FALSE);
    server = start(pair[1], TRUE);
    for (int i = 0; i < 50 && (sd_bus_is_ready(client) <= 0 || sd_bus_is_ready(server) <= 0); i++) {
        (void)sd_bus_process(server, NULL);
        (void)sd_bus_process(client, NULL);
    }
    g_assert_cmpint(sd_bus_is_ready(client), >, 0);
    *ret_client = client;
    *ret_server = server;
}

static void disconnect_pair(sd_bus *client, sd_bus *server)
{
    (void)sd_bus_close_unref(client);
    (void)sd_bus_close_unref(server);
}

/* What was appended to a message comes out of it again, whatever the type. */
static void test_round_trip(void)
{
    static const char *const texts[] = {
        "()",
        "('', true, byte 0x01, int16 -2, uint16 3, int32 -4, uint32 5, int64 -6, uint64 7, 8.5)",
        "(objectpath '/a', signature 'a{sv}')",
        "(@as [], @a{sv} {}, @aa{sv} [])",
        "([(uint16 1, 'x'), (2, 'y')], {'k': <uint16 80>, 'r': <(uint16 1, uint16 2)>})",
        "(<<<['a', 'b']>>>, [{'deep': <{'er': <[{'est': <true>}]>}>}])",
        "(@a(ssa{sv}) [('step', 'ok', {'messages': <@as []>})],)",
    };
    sd_bus *client, *server;

    connect_pair(&client, &server);
    for (size_t i = 0; i < G_N_ELEMENTS(texts); i++) {
        g_autoptr(GVariant) value = g_variant_new_parsed(texts[i]);
        g_autoptr(GVariant) back = NULL;
        sd_bus_message *message = NULL;

        (void)g_variant_ref_sink(value);
        g_test_message("%s", texts[i]);
        g_assert_cmpint(sd_bus_message_new_signal(client, &message, "/a", "a.b", "C"), >=, 0);
        g_assert_cmpint(variant_append(message, value), >=, 0);
        g_assert_cmpint(sd_bus_message_seal(message, 1, 0), >=, 0);
        g_assert_cmpint(variant_read(message, NULL, &back), ==, 0);
        g_assert_cmpvariant(back, value);
        (void)sd_bus_message_unref(message);
    }
    disconnect_pair(client, server);
}

/* A descriptor comes as a copy of its own; without a place for it the message is refused. */
static void test_descriptor(void)
{
    g_autoptr(GArray) fds = g_array_new(FALSE, FALSE, sizeof(int));
    g_autoptr(GVariant) value = NULL;
    sd_bus_message *message = NULL;
    sd_bus *client, *server;

    connect_pair(&client, &server);
    g_assert_cmpint(sd_bus_message_new_signal(client, &message, "/a", "a.b", "C"), >=, 0);
    g_assert_cmpint(sd_bus_message_append(message, "qh", 80, STDIN_FILENO), >=, 0);
    g_assert_cmpint(sd_bus_message_seal(message, 1, 0), >=, 0);

    g_assert_cmpint(variant_read(message, NULL, &value), ==, -EBADMSG);
    g_assert_null(value);
    g_assert_cmpint(sd_bus_message_rewind(message, 1), >=, 0);
    g_assert_cmpint(variant_read(message, fds, &value), ==, 0);
    g_assert_cmpstr(g_variant_get_type_string(value), ==, "(qh)");
    g_assert_cmpuint(fds->len, ==, 1);
    g_assert_cmpint(g_array_index(fds, int, 0), >=, 3);

    (void)close(g_array_index(fds, int, 0));
    (void)sd_bus_message_unref(message);
    disconnect_pair(client, server);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/variant/round-trip", test_round_trip);
    g_test_add_func("/variant/descriptor", test_descriptor);
    return g_test_run();
}
