/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The interface, method by method, on the direct socket of a real manager. */
#include "fixture.h"

#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>

#include "bus/ports-iface.h"
#include "probe/bind-probe.h"
#include "util/fd.h"

/* Reads an a{sv} to the end. Returns: key -> GVariant-like text of its value, owned. */
static GHashTable *read_dict(sd_bus_message *m)
{
    GHashTable *dict = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);

    g_assert_cmpint(sd_bus_message_enter_container(m, 'a', "{sv}"), >, 0);
    while (sd_bus_message_enter_container(m, 'e', "sv") > 0) {
        const char *key, *signature, *text;
        char *value = NULL;
        guint32 u;
        guint16 q;
        guint64 t;
        int b;

        g_assert_cmpint(sd_bus_message_read(m, "s", &key), >, 0);
        g_assert_cmpint(sd_bus_message_peek_type(m, NULL, &signature), >, 0);
        g_assert_cmpint(sd_bus_message_enter_container(m, 'v', signature), >, 0);
        switch (signature[0]) {
        case 's':
            g_assert_cmpint(sd_bus_message_read(m, "s", &text), >, 0);
            value = g_strdup(text);
            break;
        case 'q':
            g_assert_cmpint(sd_bus_message_read(m, "q", &q), >, 0);
            value = g_strdup_printf("%u", q);
            break;
        case 'u':
            g_assert_cmpint(sd_bus_message_read(m, "u", &u), >, 0);
            value = g_strdup_printf("%u", u);
            break;
        case 't':
            g_assert_cmpint(sd_bus_message_read(m, "t", &t), >, 0);
            value = g_strdup_printf("%" G_GUINT64_FORMAT, t);
            break;
        case 'b':
            g_assert_cmpint(sd_bus_message_read(m, "b", &b), >, 0);
            value = g_strdup(b ? "true" : "false");
            break;
        default: {
            g_autoptr(GString) list = g_string_new(NULL);

            g_assert_cmpstr(signature, ==, "aq");
            g_assert_cmpint(sd_bus_message_enter_container(m, 'a', "q"), >, 0);
            while (sd_bus_message_read(m, "q", &q) > 0)
                g_string_append_printf(list, "%s%u", list->len ? " " : "", q);
            g_assert_cmpint(sd_bus_message_exit_container(m), >, 0);
            value = g_strdup(list->str);
        }
        }
        g_hash_table_replace(dict, g_strdup(key), value);
        g_assert_cmpint(sd_bus_message_exit_container(m), >, 0);
        g_assert_cmpint(sd_bus_message_exit_container(m), >, 0);
    }
    g_assert_cmpint(sd_bus_message_exit_container(m), >, 0);
    return g_steal_pointer(&dict);
}

static const char *get(GHashTable *dict, const char *key)
{
    return g_hash_table_lookup(dict, key);
}

static int occupy(guint16 port)
{
    int fd = bind_socket(port, SOCK_STREAM, NULL, FALSE);

    g_assert_cmpint(fd, >=, 0);
    g_assert_cmpint(listen(fd, 1), ==, 0);
    return fd;
}

/* ---- Allocate ---- */

static void test_allocate(void)
{
    g_autoptr(Fixture) fixture = fixture_new(FIXTURE_DIRECT, NULL);
    g_autoptr(sd_bus) bus = fixture_connect(fixture->direct_address);
    AUTO_FD holder = occupy(20001);
    g_autofree char *first = NULL, *again = NULL, *one = NULL, *same = NULL;
    g_autoptr(sd_bus_message) reply = NULL;
    g_autoptr(GHashTable) details = NULL;
    g_autoptr(sd_bus_message) released = NULL;
    Signals signals;
    const char *lease;
    guint16 port;

    signals_collect(&signals, bus);
    g_assert_cmpuint(allocate(bus, &first, "dev", "a{sv}", 1, "instance", "s", "a"), ==, 20000);
    reply = call_ok(bus, "Allocate", "sa{sv}", "dev", 0);
    g_assert_cmpint(sd_bus_message_read(reply, "qs", &port, &lease), >, 0);
    g_assert_cmpuint(port, ==, 20002);
    details = read_dict(reply);
    g_assert_cmpstr(get(details, "conflicts"), ==, "20001");
    g_assert_cmpstr(get(details, "attempts"), ==, "2");
    g_assert_cmpstr(get(details, "reused"), ==, "false");
    g_assert_cmpstr(get(details, "protocol"), ==, "tcp");
    signals_wait(&signals, bus, "PortConflict", 1);
    signals_wait(&signals, bus, "PortAllocated", 2);

    /* the same instance: the same lease; gone: the same port */
    g_assert_cmpuint(allocate(bus, &again, "dev", "a{sv}", 1, "instance", "s", "a"), ==, 20000);
    g_assert_cmpstr(first, ==, again);
    released = call_ok(bus, "Release", "s", first);
    g_assert_cmpuint(allocate(bus, NULL, "dev", "a{sv}", 0), ==, 20000);
    /* singletons */
    g_assert_cmpuint(allocate(bus, &one, "one", "a{sv}", 0), ==,
                     allocate(bus, &same, "one", "a{sv}", 0));
    g_assert_cmpstr(one, ==, same);
    /* options */
    g_assert_cmpuint(allocate(bus, NULL, "dev", "a{sv}", 1, "port", "q", 20050), ==, 20050);
    g_assert_cmpuint(allocate(bus, NULL, "dev", "a{sv}", 1, "range", "(qq)", 40000, 40010), ==,
                     40000);
    g_assert_cmpuint(
        allocate(bus, NULL, "dev", "a{sv}", 2, "port", "q", 20050, "protocol", "s", "udp"), ==,
        20050);
    signals_clear(&signals);
}

static void test_refused(void)
{
    g_autoptr(Fixture) fixture = fixture_new(FIXTURE_DIRECT, "\"block_size\": 4");
    g_autoptr(sd_bus) bus = fixture_connect(fixture->direct_address);
    AUTO_FD holder = occupy(20001);
    g_autofree char *taken = call_refused(bus, "PortInUse", "Allocate", "sa{sv}", "dev", 3, "port",
                                          "q", 20001, "strict", "b", 1, "retries", "u", 0);
    g_autofree char *lease = NULL, *leased = NULL, *none = NULL, *block = NULL;

    g_assert_nonnull(strstr(taken, "20001"));
    g_assert_nonnull(strstr(taken, "uid 0"));
    g_assert_cmpuint(allocate(bus, &lease, "tiny", "a{sv}", 0), ==, 20100);
    leased = call_refused(bus, "PortInUse", "Allocate", "sa{sv}", "tiny", 3, "port", "q", 20100,
                          "strict", "b", 1, "retries", "u", 0);
    g_assert_cmpuint(allocate(bus, NULL, "tiny", "a{sv}", 0), ==, 20101);
    none = call_refused(bus, "NoPortAvailable", "Allocate", "sa{sv}", "tiny", 1, "retries", "u", 0);
    block = call_refused(bus, "NoPortAvailable", "AllocateBlock", "sqa{sv}", "tiny", 2, 1,
                         "retries", "u", 0);
    g_assert_cmpuint(lease_count(bus), ==, 2);
}

static void test_socket(void)
{
    g_autoptr(Fixture) fixture = fixture_new(FIXTURE_DIRECT, NULL);
    g_autoptr(sd_bus) bus = fixture_connect(fixture->direct_address);
    g_autoptr(sd_bus_message) reply =
        call_ok(bus, "AllocateSocket", "sa{sv}", "dev", 1, "address", "s", "127.0.0.1");
    struct sockaddr_in address;
    socklen_t length = sizeof(address);
    const char *lease;
    guint16 port;
    int fd;

    g_assert_cmpint(sd_bus_message_read(reply, "qsh", &port, &lease, &fd), >, 0);
    g_assert_cmpint(getsockname(fd, (struct sockaddr *)&address, &length), ==, 0);
    g_assert_cmpint(address.sin_family, ==, AF_INET);
    g_assert_cmpuint(ntohs(address.sin_port), ==, port);
    g_assert_cmpuint(ntohl(address.sin_addr.s_addr), ==, INADDR_LOOPBACK);
    g_assert_cmpint(listen(fd, 1), ==, 0);
}

/* A connection that cannot carry descriptors gets a reason, and no lease. */
static void test_socket_without_descriptors(void)
{
    g_autoptr(Fixture) fixture = fixture_new(FIXTURE_DIRECT, NULL);
    g_autoptr(sd_bus) bus = NULL;

    g_assert_cmpint(sd_bus_new(&bus), >=, 0);
    g_assert_cmpint(sd_bus_set_address(bus, fixture->direct_address), >=, 0);
    g_assert_cmpint(sd_bus_set_bus_client(bus, TRUE), >=, 0);
    g_assert_cmpint(sd_bus_negotiate_fds(bus, FALSE), >=, 0);
    g_assert_cmpint(sd_bus_start(bus), >=, 0);
    g_free(call_refused(bus, "InvalidArgument", "AllocateSocket", "sa{sv}", "dev", 0));
    g_assert_cmpuint(lease_count(bus), ==, 0);
}

static void test_block(void)
{
    g_autoptr(Fixture) fixture = fixture_new(FIXTURE_DIRECT, NULL);
    g_autoptr(sd_bus) bus = fixture_connect(fixture->direct_address);
    AUTO_FD holder = occupy(20002);
    g_autoptr(sd_bus_message) reply = call_ok(bus, "AllocateBlock", "sqa{sv}", "dev", 3, 0);
    guint16 port, expected = 20003;
    const char *lease;

    g_assert_cmpint(sd_bus_message_enter_container(reply, 'a', "(qs)"), >, 0);
    while (sd_bus_message_read(reply, "(qs)", &port, &lease) > 0)
        g_assert_cmpuint(port, ==, expected++);
    g_assert_cmpuint(expected, ==, 20006);
    g_assert_cmpuint(lease_count(bus), ==, 3);
}

/* ---- looking ---- */

static void test_get_lease(void)
{
    g_autoptr(Fixture) fixture = fixture_new(FIXTURE_DIRECT, NULL);
    g_autoptr(sd_bus) bus = fixture_connect(fixture->direct_address);
    g_autofree char *id = NULL;
    g_autoptr(sd_bus_message) reply = NULL;
    g_autoptr(GHashTable) lease = NULL;

    (void)allocate(bus, &id, "dev", "a{sv}", 5, "instance", "s", "i", "label", "s", "l", "lifetime",
                   "s", "persistent", "protocol", "s", "both", "address", "s", "::1");
    reply = call_ok(bus, "GetLease", "s", id);
    lease = read_dict(reply);
    g_assert_cmpstr(get(lease, "lease"), ==, id);
    g_assert_cmpstr(get(lease, "port"), ==, "20000");
    g_assert_cmpstr(get(lease, "protocol"), ==, "both");
    g_assert_cmpstr(get(lease, "address"), ==, "::1");
    g_assert_cmpstr(get(lease, "service_type"), ==, "dev");
    g_assert_cmpstr(get(lease, "instance"), ==, "i");
    g_assert_cmpstr(get(lease, "label"), ==, "l");
    g_assert_cmpstr(get(lease, "uid"), ==, "0");
    g_assert_cmpstr(get(lease, "lifetime"), ==, "persistent");
    g_assert_cmpstr(get(lease, "hold"), ==, "none");
    g_assert_cmpstr(get(lease, "health"), ==, "reserved");
    g_assert_cmpstr(get(lease, "failures"), ==, "0");
    g_assert_nonnull(get(lease, "created_usec"));
    g_assert_null(get(lease, "pid"));
    g_assert_null(get(lease, "health_url"));
    g_assert_null(get(lease, "last_seen_usec"));
}

/* Returns: the ports, in the order in which they came. */
static GArray *list(sd_bus *bus, const char *types, ...)
{
    g_autoptr(sd_bus_message) m = NULL;
    g_autoptr(sd_bus_message) reply = NULL;
    GArray *ports = g_array_new(FALSE, FALSE, sizeof(guint16));
    va_list ap;

    g_assert_cmpint(
        sd_bus_message_new_method_call(bus, &m, PORTS_NAME, PORTS_PATH, PORTS_INTERFACE, "List"),
        >=, 0);
    va_start(ap, types);
    g_assert_cmpint(sd_bus_message_appendv(m, types, ap), >=, 0);
    va_end(ap);
    g_assert_cmpint(sd_bus_call(bus, m, 60 * G_USEC_PER_SEC, NULL, &reply), >=, 0);
    g_assert_cmpint(sd_bus_message_enter_container(reply, 'a', "a{sv}"), >, 0);
    while (!sd_bus_message_at_end(reply, FALSE)) {
        g_autoptr(GHashTable) lease = read_dict(reply);
        guint16 port = (guint16)atoi(get(lease, "port"));

        g_array_append_val(ports, port);
    }
    return ports;
}

#define LISTED(count, first, ...)                                            \
    do {                                                                     \
        g_autoptr(GArray) ports = list(bus, __VA_ARGS__);                    \
        g_assert_cmpuint(ports->len, ==, (count));                           \
        if (ports->len > 0)                                                  \
            g_assert_cmpuint(g_array_index(ports, guint16, 0), ==, (first)); \
    } while (0)

static void test_list(void)
{
    g_autoptr(Fixture) fixture = fixture_new(FIXTURE_DIRECT, NULL);
    g_autoptr(sd_bus) bus = fixture_connect(fixture->direct_address);

    LISTED(0, 0, "a{sv}", 0);
    (void)allocate(bus, NULL, "one", "a{sv}", 0);
    (void)allocate(bus, NULL, "dev", "a{sv}", 1, "instance", "s", "x");
    (void)allocate(bus, NULL, "dev", "a{sv}", 1, "protocol", "s", "udp");
    (void)allocate(bus, NULL, "tiny", "a{sv}", 1, "protocol", "s", "both");
    LISTED(4, 20000, "a{sv}", 0);
    LISTED(2, 20000, "a{sv}", 1, "service_type", "s", "dev");
    LISTED(1, 20000, "a{sv}", 1, "instance", "s", "x");
    LISTED(2, 20001 - 1, "a{sv}", 2, "service_type", "s", "dev", "uid", "u", 0);
    LISTED(0, 0, "a{sv}", 1, "uid", "u", 1);
    LISTED(3, 20000, "a{sv}", 1, "protocol", "s", "tcp");
    LISTED(4, 20000, "a{sv}", 1, "health", "s", "reserved");
    LISTED(0, 0, "a{sv}", 1, "health", "s", "active");
    LISTED(2, 20100, "a{sv}", 1, "range", "(qq)", 20100, 20200);
}

static int on_list(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
    g_assert_false(sd_bus_message_is_method_error(m, NULL));
    *(gboolean *)userdata = TRUE;
    return 0;
}

/* A list of thousands is whole, in order, and does not keep others waiting. */
static void test_long_list(void)
{
    g_autoptr(Fixture) fixture = fixture_new(FIXTURE_DIRECT, "\"leases_per_user\": 65535");
    g_autoptr(sd_bus) bus = fixture_connect(fixture->direct_address);
    g_autoptr(sd_bus) other = fixture_connect(fixture->direct_address);
    g_autoptr(GArray) ports = NULL;
    guint calls = 0, total = 100 * 128;
    gboolean listed = FALSE;

    for (guint i = 0; i < total / 128; i++)
        sd_bus_message_unref(call_ok(bus, "AllocateBlock", "sqa{sv}", "big", 128, 0));
    ports = list(bus, "a{sv}", 0);
    g_assert_cmpuint(ports->len, ==, total);
    for (guint i = 0; i < ports->len; i++)
        g_assert_cmpuint(g_array_index(ports, guint16, i), ==, 30000 + i);

    g_assert_cmpint(sd_bus_call_method_async(bus, NULL, PORTS_NAME, PORTS_PATH, PORTS_INTERFACE,
                                             "List", on_list, &listed, "a{sv}", 0),
                    >=, 0);
    while (!listed) {
        g_assert_cmpint(sd_bus_process(bus, NULL), >=, 0);
        g_assert_cmpuint(lease_count(other), ==, total);
        calls++;
    }
    g_assert_cmpuint(calls, >, 10);
}

static void test_check_port(void)
{
    g_autoptr(Fixture) fixture = fixture_new(FIXTURE_DIRECT, NULL);
    g_autoptr(sd_bus) bus = fixture_connect(fixture->direct_address);
    AUTO_FD holder = occupy(20001);
    g_autofree char *id = NULL;
    const struct {
        guint16 port;
        gboolean available;
        const char *key;
    } cases[] = {{20000, FALSE, "lease"}, {20001, FALSE, "uid"}, {20002, TRUE, NULL}};

    (void)allocate(bus, &id, "dev", "a{sv}", 0);
    for (guint i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autoptr(sd_bus_message) reply = call_ok(bus, "CheckPort", "qs", cases[i].port, "tcp");
        g_autoptr(GHashTable) details = NULL;
        int available;

        g_assert_cmpint(sd_bus_message_read(reply, "b", &available), >, 0);
        g_assert_cmpint(available, ==, cases[i].available);
        details = read_dict(reply);
        if (cases[i].key)
            g_assert_nonnull(get(details, cases[i].key));
        else
            g_assert_cmpuint(g_hash_table_size(details), ==, 0);
        if (i == 0) {
            g_assert_cmpstr(get(details, "lease"), ==, id);
            g_assert_cmpstr(get(details, "service_type"), ==, "dev");
        } else if (i == 1) {
            g_assert_cmpstr(get(details, "protocol"), ==, "tcp");
            g_assert_cmpstr(get(details, "address"), ==, "::");
            g_assert_null(get(details, "lease"));
        }
    }
}

static void test_scan(void)
{
    g_autoptr(Fixture) fixture = fixture_new(FIXTURE_DIRECT, NULL);
    g_autoptr(sd_bus) bus = fixture_connect(fixture->direct_address);
    AUTO_FD foreign = occupy(20001);
    AUTO_FD ours = -1;
    g_autoptr(sd_bus_message) reply = NULL;
    guint n = 0;

    g_assert_cmpuint(allocate(bus, NULL, "dev", "a{sv}", 0), ==, 20000);
    ours = occupy(20000);
    reply = call_ok(bus, "Scan", "qq", 1, 65535);
    g_assert_cmpint(sd_bus_message_enter_container(reply, 'a', "a{sv}"), >, 0);
    for (; !sd_bus_message_at_end(reply, FALSE); n++) {
        g_autoptr(GHashTable) entry = read_dict(reply);

        g_assert_cmpstr(get(entry, "port"), ==, n == 0 ? "20000" : "20001");
        g_assert_cmpstr(get(entry, "protocol"), ==, "tcp");
        g_assert_cmpstr(get(entry, "uid"), ==, "0");
        g_assert_true((get(entry, "lease") != NULL) == (n == 0));
        g_assert_cmpstr(get(entry, "service_type"), ==, n == 0 ? "dev" : NULL);
    }
    g_assert_cmpuint(n, ==, 2);
}

static void test_suggest(void)
{
    g_autoptr(Fixture) fixture = fixture_new(FIXTURE_DIRECT, NULL);
    g_autoptr(sd_bus) bus = fixture_connect(fixture->direct_address);
    g_autoptr(sd_bus_message) reply = NULL;
    const guint16 *ports = NULL;
    size_t bytes = 0;

    (void)allocate(bus, NULL, "dev", "a{sv}", 0);
    reply = call_ok(bus, "Suggest", "su", "dev", 3);
    g_assert_cmpint(sd_bus_message_read_array(reply, 'q', (const void **)&ports, &bytes), >, 0);
    g_assert_cmpuint(bytes, ==, 6);
    g_assert_cmpuint(ports[0], ==, 20001);
    g_assert_cmpuint(ports[2], ==, 20003);
    g_assert_cmpuint(lease_count(bus), ==, 1);
}

/* ---- ending ---- */

static void test_release(void)
{
    g_autoptr(Fixture) fixture = fixture_new(FIXTURE_DIRECT, NULL);
    g_autoptr(sd_bus) bus = fixture_connect(fixture->direct_address);
    g_autofree char *lease = NULL, *twice = NULL;
    g_autoptr(sd_bus_message) reply = NULL;
    guint32 count = 0;

    (void)allocate(bus, &lease, "dev", "a{sv}", 1, "lifetime", "s", "persistent");
    sd_bus_message_unref(call_ok(bus, "Release", "s", lease));
    twice = call_refused(bus, "UnknownLease", "Release", "s", lease);
    for (guint i = 0; i < 3; i++)
        (void)allocate(bus, NULL, i ? "dev" : "tiny", "a{sv}", 2, "instance", "s",
                       i == 2 ? "other" : "mine", "lifetime", "s", "persistent");
    reply = call_ok(bus, "ReleaseInstance", "s", "mine");
    g_assert_cmpint(sd_bus_message_read(reply, "u", &count), >, 0);
    g_assert_cmpuint(count, ==, 2);
    g_assert_cmpuint(lease_count(bus), ==, 1);
    /* tcp and udp on one number, given back together */
    (void)allocate(bus, NULL, "dev", "a{sv}", 2, "port", "q", 20050, "protocol", "s", "udp");
    (void)allocate(bus, NULL, "dev", "a{sv}", 2, "port", "q", 20050, "protocol", "s", "tcp");
    sd_bus_message_unref(call_ok(bus, "ReleasePort", "qs", 20050, "both"));
    g_assert_cmpuint(lease_count(bus), ==, 1);
}

static void test_renew(void)
{
    g_autoptr(Fixture) fixture = fixture_new(FIXTURE_DIRECT, NULL);
    g_autoptr(sd_bus) bus = fixture_connect(fixture->direct_address);
    g_autofree char *lease = NULL, *endless = NULL;
    g_autoptr(sd_bus_message) reply = NULL;
    guint64 expires_usec = 0;

    (void)allocate(bus, &lease, "dev", "a{sv}", 1, "ttl_ms", "u", 60000);
    reply = call_ok(bus, "Renew", "s", lease);
    g_assert_cmpint(sd_bus_message_read(reply, "t", &expires_usec), >, 0);
    g_assert_cmpuint(expires_usec, >, (guint64)g_get_real_time() + 50 * G_USEC_PER_SEC);
    g_assert_cmpuint(expires_usec, <, (guint64)g_get_real_time() + 70 * G_USEC_PER_SEC);
    (void)allocate(bus, &endless, "dev", "a{sv}", 0);
    g_free(call_refused(bus, "InvalidArgument", "Renew", "s", endless));
}

/* ---- the daemon ---- */

static void test_reload(void)
{
    g_autoptr(Fixture) fixture = fixture_new(FIXTURE_DIRECT, NULL);
    g_autoptr(sd_bus) bus = fixture_connect(fixture->direct_address);
    g_autofree char *bad = NULL;
    Signals signals;

    signals_collect(&signals, bus);
    fixture_write_configuration(fixture, "{\n \"service_types\": {},\n \"colour\": 1 }");
    bad = call_refused(bus, "InvalidArgument", "Reload", NULL);
    g_assert_nonnull(strstr(bad, "test.json:3: colour"));
    (void)allocate(bus, NULL, "dev", "a{sv}", 0); /* the running one is kept */
    g_assert_cmpuint(signals_count(&signals, "PropertiesChanged"), ==, 0);
    fixture_write_configuration(fixture,
                                "{ \"service_types\": { \"new\": { \"port_range\": [50000, 50009] "
                                "} } }");
    sd_bus_message_unref(call_ok(bus, "Reload", NULL));
    g_assert_cmpuint(allocate(bus, NULL, "new", "a{sv}", 0), ==, 50000);
    signals_wait(&signals, bus, "PropertiesChanged", 1);
    signals_clear(&signals);
}

static void test_properties(void)
{
    g_autoptr(Fixture) fixture = fixture_new(FIXTURE_DIRECT, NULL);
    g_autoptr(sd_bus) bus = fixture_connect(fixture->direct_address);
    const struct {
        const char *name, *type;
    } properties[] = {{"Version", "s"},           {"State", "s"},
                      {"StateReason", "s"},       {"ServiceTypes", "a{sa{sv}}"},
                      {"ConfigFiles", "as"},      {"LeaseCount", "u"},
                      {"AutoAllocation", "a{sv}"}};
    g_autoptr(sd_bus_message) state = NULL;
    const char *text = NULL;

    for (guint i = 0; i < G_N_ELEMENTS(properties); i++) {
        g_autoptr(sd_bus_message) reply = NULL;

        g_assert_cmpint(sd_bus_get_property(bus, PORTS_NAME, PORTS_PATH, PORTS_INTERFACE,
                                            properties[i].name, NULL, &reply, properties[i].type),
                        >=, 0);
    }
    g_assert_cmpint(sd_bus_get_property(bus, PORTS_NAME, PORTS_PATH, PORTS_INTERFACE, "State", NULL,
                                        &state, "s"),
                    >=, 0);
    g_assert_cmpint(sd_bus_message_read(state, "s", &text), >, 0);
    g_assert_cmpstr(text, ==, "running");
}

static void test_metrics_and_recovery(void)
{
    g_autoptr(Fixture) fixture = fixture_new(FIXTURE_DIRECT, NULL);
    g_autoptr(sd_bus) bus = fixture_connect(fixture->direct_address);
    g_autoptr(sd_bus_message) metrics = NULL;
    g_autoptr(sd_bus_message) recovered = NULL;
    g_autoptr(sd_bus_message) report = NULL;
    const char *name = NULL;
    guint64 value = 0, allocations = 0;
    int ok = 0;

    (void)allocate(bus, NULL, "dev", "a{sv}", 0);
    metrics = call_ok(bus, "GetMetrics", NULL);
    g_assert_cmpint(sd_bus_message_enter_container(metrics, 'a', "{st}"), >, 0);
    while (sd_bus_message_read(metrics, "{st}", &name, &value) > 0)
        if (g_str_equal(name, "allocations_total"))
            allocations = value;
    g_assert_cmpuint(allocations, ==, 1);
    recovered = call_ok(bus, "Recover", "a{sv}", 1, "dry_run", "b", 1);
    g_assert_cmpint(sd_bus_message_read(recovered, "b", &ok), >, 0);
    g_assert_true(ok);
    g_assert_cmpint(sd_bus_message_skip(recovered, "a(ssa{sv})"), >, 0);
    report = call_ok(bus, "GetRecoveryReport", NULL);
    g_assert_true(sd_bus_message_has_signature(report, "a{sv}"));
    g_assert_cmpuint(lease_count(bus), ==, 1);
}

int main(int argc, char **argv)
{
    fixture_init(&argc, &argv);
    g_test_add_func("/bus/interface/allocate", test_allocate);
    g_test_add_func("/bus/interface/refused", test_refused);
    g_test_add_func("/bus/interface/socket", test_socket);
    g_test_add_func("/bus/interface/socket-without-descriptors", test_socket_without_descriptors);
    g_test_add_func("/bus/interface/block", test_block);
    g_test_add_func("/bus/interface/get-lease", test_get_lease);
    g_test_add_func("/bus/interface/list", test_list);
    g_test_add_func("/bus/interface/long-list", test_long_list);
    g_test_add_func("/bus/interface/check-port", test_check_port);
    g_test_add_func("/bus/interface/scan", test_scan);
    g_test_add_func("/bus/interface/suggest", test_suggest);
    g_test_add_func("/bus/interface/release", test_release);
    g_test_add_func("/bus/interface/renew", test_renew);
    g_test_add_func("/bus/interface/reload", test_reload);
    g_test_add_func("/bus/interface/properties", test_properties);
    g_test_add_func("/bus/interface/metrics-and-recovery", test_metrics_and_recovery);
    return g_test_run();
}
