/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "cli/numbers.h"

static void test_port(void)
{
    static const struct {
        const char *text;
        guint16 port; /* 0 = refused */
    } cases[] = {
        {"1", 1},
        {"80", 80},
        {"65535", 65535},
        {"0", 0},
        {"65536", 0},
        {"70000", 0},
        {"80abc", 0},
        {"3.7", 0},
        {"+5", 0},
        {"-5", 0},
        {" 5", 0},
        {"5 ", 0},
        {"0x10", 0},
        {"080", 0},
        {"", 0},
        {"5\n", 0},
        {"1e3", 0},
        {"٣", 0},
        {"8080/tcp", 0},
        {"18446744073709551617", 0},
        {"99999999999999999999999999", 0},
    };

    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        guint16 port = 7;

        g_test_message("'%s'", cases[i].text);
        g_assert_cmpint(port_parse(cases[i].text, &port), ==, cases[i].port != 0);
        g_assert_cmpuint(port, ==, cases[i].port ? cases[i].port : 7);
    }
    g_assert_false(port_parse(NULL, NULL));
}

static void test_number_bounds(void)
{
    guint64 value = 7;

    g_assert_true(number_parse("18446744073709551615", 0, G_MAXUINT64, &value));
    g_assert_cmpuint(value, ==, G_MAXUINT64);
    g_assert_false(number_parse("18446744073709551616", 0, G_MAXUINT64, &value));
    g_assert_true(number_parse("0", 0, 5, &value));
    g_assert_cmpuint(value, ==, 0);
    g_assert_false(number_parse("00", 0, 5, &value));
    g_assert_true(number_parse("5", 5, 5, &value));
    g_assert_false(number_parse("6", 0, 5, &value));
    g_assert_false(number_parse("4", 5, 9, &value));
    g_assert_cmpuint(value, ==, 5);
}

static void test_range(void)
{
    static const struct {
        const char *text;
        guint16 first, last;
    } cases[] = {
        {"3000-3099", 3000, 3099},
        {"3000-3000", 3000, 3000},
        {"1-65535", 1, 65535},
        {"80", 80, 80},
        {"3099-3000", 0, 0},
        {"3000-", 0, 0},
        {"-3000", 0, 0},
        {"0-10", 0, 0},
        {"1-70000", 0, 0},
        {"1-2-3", 0, 0},
        {"1 - 2", 0, 0},
        {"a-b", 0, 0},
        {"", 0, 0},
        {"-", 0, 0},
        {"3000:3099", 0, 0},
    };

    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        PortRange range = {7, 7};

        g_test_message("'%s'", cases[i].text);
        g_assert_cmpint(port_range_parse(cases[i].text, &range), ==, cases[i].first != 0);
        g_assert_cmpuint(range.first, ==, cases[i].first ? cases[i].first : 7);
        g_assert_cmpuint(range.last, ==, cases[i].first ? cases[i].last : 7);
    }
}

static void test_port_protocol(void)
{
    static const struct {
        const char *text;
        guint16 port;
        int protocol;
    } cases[] = {
        {"53", 53, 0},
        {"53/udp", 53, PROTOCOL_UDP},
        {"53/tcp", 53, PROTOCOL_TCP},
        {"53/both", 53, PROTOCOL_BOTH},
        {"53/", 0, 0},
        {"/udp", 0, 0},
        {"53/UDP", 0, 0},
        {"53/udp/tcp", 0, 0},
        {"0/udp", 0, 0},
        {"53 /udp", 0, 0},
        {"70000/udp", 0, 0},
    };

    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        Protocol protocol = PROTOCOL_UDP;
        guint16 port = 7;

        g_test_message("'%s'", cases[i].text);
        g_assert_cmpint(port_protocol_parse(cases[i].text, &port, &protocol), ==,
                        cases[i].port != 0);
        g_assert_cmpuint(port, ==, cases[i].port ? cases[i].port : 7);
        g_assert_cmpint((int)protocol, ==, cases[i].port ? cases[i].protocol : PROTOCOL_UDP);
    }
}

static void test_duration(void)
{
    static const struct {
        const char *text;
        guint32 msec; /* 0 = refused */
    } cases[] = {
        {"30", 30000},
        {"30s", 30000},
        {"1500ms", 1500},
        {"5min", 300000},
        {"5m", 300000},
        {"1h", 3600000},
        {"4294967295ms", G_MAXUINT32},
        {"4294967296ms", 0},
        {"4294967s", 4294967000},
        {"4294968s", 0},
        {"1194h", 0},
        {"0", 0},
        {"0ms", 0},
        {"3.7", 0},
        {"-1", 0},
        {"+1", 0},
        {" 1", 0},
        {"1 s", 0},
        {"s", 0},
        {"", 0},
        {"1d", 0},
        {"1S", 0},
    };

    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        guint32 msec = 7;

        g_test_message("'%s'", cases[i].text);
        g_assert_cmpint(duration_parse(cases[i].text, &msec), ==, cases[i].msec != 0);
        g_assert_cmpuint(msec, ==, cases[i].msec ? cases[i].msec : 7);
    }
}

static void test_lease_ref(void)
{
    LeaseRef ref;

    g_assert_true(lease_ref_parse("3000", &ref));
    g_assert_cmpuint(ref.port, ==, 3000);
    g_assert_cmpstr(ref.id.text, ==, "");
    g_assert_true(lease_ref_parse("53/udp", &ref));
    g_assert_cmpint(ref.protocol, ==, PROTOCOL_UDP);
    /* digits alone, and still an id: it has the length of one */
    g_assert_true(lease_ref_parse("00000000000000000000000000003000", &ref));
    g_assert_cmpuint(ref.port, ==, 0);
    g_assert_cmpstr(ref.id.text, ==, "00000000000000000000000000003000");
    g_assert_true(lease_ref_parse("0123456789abcdef0123456789abcdef", &ref));
    g_assert_false(lease_ref_parse("0123456789ABCDEF0123456789abcdef", &ref));
    g_assert_false(lease_ref_parse("0123456789abcdef0123456789abcde", &ref));
    g_assert_false(lease_ref_parse("70000", &ref));
    g_assert_false(lease_ref_parse("dev", &ref));
    g_assert_false(lease_ref_parse("", &ref));
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/numbers/port", test_port);
    g_test_add_func("/numbers/bounds", test_number_bounds);
    g_test_add_func("/numbers/range", test_range);
    g_test_add_func("/numbers/port-protocol", test_port_protocol);
    g_test_add_func("/numbers/duration", test_duration);
    g_test_add_func("/numbers/lease-ref", test_lease_ref);
    return g_test_run();
}
