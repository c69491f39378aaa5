/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Long answers that are not read. */
#include "fixture.h"

#include <unistd.h>

#include <string.h>

#include "bus/ports-iface.h"

#define LISTERS 12
#define LISTS 8
#define LIST_KIB 650 /* of 2,000 leases */

static gint64 server_kib(const Fixture *fixture)
{
    g_autofree char *path = g_strdup_printf("/proc/%d/status", (int)fixture->server);
    g_autofree char *text = NULL;
    const char *line = NULL;

    g_assert_true(g_file_get_contents(path, &text, NULL, NULL));
    line = strstr(text, "RssAnon:");
    g_assert_nonnull(line);
    return g_ascii_strtoll(line + strlen("RssAnon:"), NULL, 10);
}

/* Sanitizers and valgrind keep freed memory for a while. */
static gboolean under_tool(void)
{
    const char *preloaded = g_getenv("LD_PRELOAD");

#if defined(__SANITIZE_ADDRESS__)
    return TRUE;
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
    return TRUE;
#endif
#endif
    return preloaded && strstr(preloaded, "vgpreload");
}

static int on_list(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
    guint *answered = userdata;

    g_assert_false(sd_bus_message_is_method_error(m, NULL));
    *answered += 1;
    return 0;
}

static sd_bus *ask_for_lists(const Fixture *fixture, guint *answered)
{
    sd_bus *bus = fixture_connect(fixture->direct_address);

    for (guint i = 0; i < LISTS; i++)
        g_assert_cmpint(sd_bus_call_method_async(bus, NULL, PORTS_NAME, PORTS_PATH, PORTS_INTERFACE,
                                                 "List", on_list, answered, "a{sv}", 0),
                        >=, 0);
    g_assert_cmpint(sd_bus_flush(bus), >=, 0);
    return bus;
}

/* However many lists are asked for, a connection has one that it has not read; all come at last. */
static void test_unread_lists(void)
{
    g_autoptr(Fixture) fixture = fixture_new(FIXTURE_DIRECT, "\"block_size\": 2000");
    g_autoptr(sd_bus) worker = fixture_connect(fixture->direct_address);
    G_GNUC_UNUSED g_autoptr(sd_bus_message) block =
        call_ok(worker, "AllocateBlock", "sqa{sv}", "big", 2000, 0);
    sd_bus *listers[LISTERS];
    guint answered = 0;
    gint64 before = server_kib(fixture), grown;

    for (guint i = 0; i < LISTERS; i++)
        listers[i] = ask_for_lists(fixture, &answered);
    for (guint i = 0; i < 50 * LISTERS * LISTS; i++) /* each is a turn, which writes a portion */
        g_assert_cmpuint(lease_count(worker), ==, 2000);
    grown = server_kib(fixture) - before;
    g_test_message("%" G_GINT64_FORMAT " KiB for what is not read", grown);
    if (!under_tool()) {
        g_assert_cmpint(grown, >, LISTERS * LIST_KIB / 4); /* they were written at all */
        g_assert_cmpint(grown, <, LISTERS * LIST_KIB * 2);
    }
    for (guint i = 0; i < LISTERS; i++) {
        guint wanted = (i + 1) * LISTS;

        while (answered < wanted)
            if (sd_bus_process(listers[i], NULL) == 0)
                g_assert_cmpint(sd_bus_wait(listers[i], 10 * G_USEC_PER_SEC), >, 0);
        sd_bus_flush_close_unref(listers[i]);
    }
}

static int on_any(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
    return 0;
}

/* Two users fill all places and all bytes with what they do not read. */
static void test_unread_of_others(void)
{
    enum { CONNECTIONS = 120, EACH = 3 };
    static const uid_t uids[] = {65533, 65534};
    g_autoptr(Fixture) fixture = NULL;
    g_autoptr(sd_bus) root = NULL;
    g_autoptr(sd_bus_message) block = NULL;
    sd_bus *others[CONNECTIONS];

    if (getuid() != 0) {
        g_test_skip("not root");
        return;
    }
    fixture = fixture_new(FIXTURE_DIRECT, "\"block_size\": 2000");
    root = fixture_connect(fixture->direct_address);
    block = call_ok(root, "AllocateBlock", "sqa{sv}", "big", 2000, 0);
    for (guint i = 0; i < CONNECTIONS; i++) {
        others[i] = fixture_connect_as(fixture, uids[i % G_N_ELEMENTS(uids)]);
        for (guint j = 0; j < EACH; j++)
            g_assert_cmpint(sd_bus_call_method_async(others[i], NULL, PORTS_NAME, PORTS_PATH,
                                                     PORTS_INTERFACE, "List", on_any, NULL, "a{sv}",
                                                     0),
                            >=, 0);
        g_assert_cmpint(sd_bus_flush(others[i]), >=, 0);
    }
    for (guint i = 0; i < 20; i++) {
        G_GNUC_UNUSED g_autoptr(sd_bus_message) list = call_ok(root, "List", "a{sv}", 0);
        G_GNUC_UNUSED g_autoptr(sd_bus_message) scan = call_ok(root, "Scan", "qq", 1, 65535);
    }
    for (guint i = 0; i < CONNECTIONS; i++)
        sd_bus_close_unref(others[i]);
}

int main(int argc, char **argv)
{
    fixture_init(&argc, &argv);
    g_test_add_func("/bus/unread/lists", test_unread_lists);
    g_test_add_func("/bus/unread/of-others", test_unread_of_others);
    return g_test_run();
}
