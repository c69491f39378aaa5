/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "probe/socket-table.h"

#include <arpa/inet.h>
#include <errno.h>
#include <gio/gio.h>
#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <linux/sock_diag.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "probe-test-util.h"
#include "probe/bind-probe.h"
#include "probe/cgroup.h"
#include "probe/socket-parse.h"
#include "util/fd.h"

static guint16 port_of(int fd)
{
    struct sockaddr_in6 address;
    socklen_t length = sizeof address;

    g_assert_no_errno(getsockname(fd, (struct sockaddr *)&address, &length));
    return g_ntohs(address.sin6_port);
}

static int hold(guint16 port, int type, const char *address, gboolean listening)
{
    int fd = bind_socket(port, type, address, TRUE);

    g_assert_cmpint(fd, >=, 0);
    if (listening)
        g_assert_no_errno(listen(fd, 8));
    return fd;
}

static SocketTable *dump(PortRange range, Protocol protocol)
{
    g_autoptr(GError) error = NULL;
    SocketTable *table = socket_table_dump(range, protocol, &error);

    g_assert_no_error(error);
    g_assert_nonnull(table);
    return table;
}

static guint32 inode_of(int fd)
{
    struct stat st;

    g_assert_no_errno(fstat(fd, &st));
    return (guint32)st.st_ino;
}

typedef struct Layout {
    int type;
    const char *address; /* to bind, NULL = dual stack */
    gboolean listening;
    const char *told; /* as the table tells it */
    gboolean v6only;
    SocketState state;
} Layout;

static const Layout layouts[] = {
    {SOCK_STREAM, NULL, TRUE, "::", FALSE, SOCKET_LISTENING},
    {SOCK_STREAM, "::", TRUE, "::", TRUE, SOCKET_LISTENING},
    {SOCK_STREAM, "0.0.0.0", TRUE, "0.0.0.0", FALSE, SOCKET_LISTENING},
    {SOCK_STREAM, "127.0.0.2", TRUE, "127.0.0.2", FALSE, SOCKET_LISTENING},
    {SOCK_STREAM, "::1", TRUE, "::1", TRUE, SOCKET_LISTENING},
    {SOCK_STREAM, "::ffff:127.0.0.1", TRUE, "::ffff:127.0.0.1", FALSE, SOCKET_LISTENING},
    {SOCK_STREAM, NULL, FALSE, "::", FALSE, SOCKET_BOUND},
    {SOCK_STREAM, "::", FALSE, "::", TRUE, SOCKET_BOUND},
    {SOCK_STREAM, "127.0.0.1", FALSE, "127.0.0.1", FALSE, SOCKET_BOUND},
    {SOCK_DGRAM, NULL, FALSE, "::", FALSE, SOCKET_LISTENING},
    {SOCK_DGRAM, "::", FALSE, "::", TRUE, SOCKET_LISTENING},
    {SOCK_DGRAM, "127.0.0.1", FALSE, "127.0.0.1", FALSE, SOCKET_LISTENING},
};

static gboolean kernel_tells_bound(void)
{
    AUTO_FD fd = hold(0, SOCK_STREAM, NULL, FALSE);
    guint16 port = port_of(fd);
    g_autoptr(SocketTable) table = dump((PortRange){port, port}, PROTOCOL_TCP);

    return table->entries->len == 1;
}

static void test_layouts(void)
{
    for (guint i = 0; i < G_N_ELEMENTS(layouts); i++) {
        const Layout *layout = &layouts[i];
        Protocol protocol = layout->type == SOCK_STREAM ? PROTOCOL_TCP : PROTOCOL_UDP;
        AUTO_FD fd = hold(0, layout->type, layout->address, layout->listening);
        guint16 port = port_of(fd);
        g_autoptr(SocketTable) table = NULL;
        g_autoptr(SocketTable) after = NULL;
        const SocketEntry *entry = NULL;
        g_autofree char *address = NULL;

        if (layout->state == SOCKET_BOUND && !kernel_tells_bound()) {
            g_test_message("bound sockets are not listed by this kernel");
            continue;
        }
        table = dump((PortRange){0, 0}, PROTOCOL_BOTH);
        entry = socket_table_find(table, port, protocol);
        g_assert_nonnull(entry);
        address = socket_entry_address(entry);
        g_assert_cmpstr(address, ==, layout->told);
        g_assert_cmpuint(entry->port, ==, port);
        g_assert_cmpint(entry->protocol, ==, protocol);
        g_assert_cmpint(entry->state, ==, layout->state);
        g_assert_cmpint(entry->listening, ==, layout->state == SOCKET_LISTENING);
        g_assert_cmpint(entry->v6, ==, strchr(layout->told, ':') != NULL);
        g_assert_cmpint(entry->v6only, ==, layout->v6only);
        g_assert_cmpuint(entry->uid, ==, getuid());
        g_assert_cmpuint(entry->inode, ==, inode_of(fd));
        g_assert_null(socket_table_find(table, port, protocol ^ PROTOCOL_BOTH));

        fd = fd_close(fd);
        after = dump((PortRange){port, port}, PROTOCOL_BOTH);
        g_assert_cmpuint(after->entries->len, ==, 0);
    }
}

/* Of several sockets on one number: sorted, the listening one found first. */
static void test_order(void)
{
    AUTO_FD bound = hold(0, SOCK_STREAM, NULL, FALSE);
    guint16 port = port_of(bound);
    AUTO_FD udp = hold(port, SOCK_DGRAM, "127.0.0.1", FALSE);
    AUTO_FD listening = hold(port, SOCK_STREAM, "127.0.0.1", TRUE);
    g_autoptr(SocketTable) table = dump((PortRange){0, 0}, PROTOCOL_BOTH);
    const SocketEntry *entry = socket_table_find(table, port, PROTOCOL_BOTH);

    g_assert_nonnull(entry);
    g_assert_cmpuint(entry->inode, ==, inode_of(listening));
    entry = socket_table_find(table, port, PROTOCOL_UDP);
    g_assert_nonnull(entry);
    g_assert_cmpuint(entry->inode, ==, inode_of(udp));
    for (guint i = 1; i < table->entries->len; i++) {
        const SocketEntry *a = &g_array_index(table->entries, SocketEntry, i - 1);
        const SocketEntry *b = &g_array_index(table->entries, SocketEntry, i);

        g_assert_true(a->port < b->port || (a->port == b->port && a->protocol <= b->protocol));
    }
}

static void test_range(void)
{
    AUTO_FD fd = hold(0, SOCK_STREAM, NULL, TRUE);
    guint16 port = port_of(fd);
    const struct {
        PortRange range;
        gboolean expected;
    } cases[] = {
        {{0, 0}, TRUE},
        {{1, 65535}, TRUE},
        {{port, port}, TRUE},
        {{(guint16)(port - 1), port}, TRUE},
        {{port, (guint16)(port + 1)}, TRUE},
        {{1, (guint16)(port - 1)}, FALSE},
        {{(guint16)(port + 1), 65535}, FALSE},
    };

    for (guint i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autoptr(SocketTable) table = dump(cases[i].range, PROTOCOL_TCP);
        g_autoptr(SocketTable) udp = dump(cases[i].range, PROTOCOL_UDP);

        g_assert_cmpint(socket_table_find(table, port, PROTOCOL_TCP) != NULL, ==,
                        cases[i].expected);
        g_assert_null(socket_table_find(udp, port, PROTOCOL_BOTH));
        for (guint j = 0; j < table->entries->len; j++)
            g_assert_true(!port_range_is_set(cases[i].range) ||
                          port_range_contains(cases[i].range,
                                              g_array_index(table->entries, SocketEntry, j).port));
    }
}

static void connect_loopback(int fd, guint16 port)
{
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = g_htons(port),
                                  .sin_addr.s_addr = g_htonl(INADDR_LOOPBACK)};

    if (connect(fd, (struct sockaddr *)&address, sizeof address) < 0)
        g_assert_cmpint(errno, ==, EINPROGRESS);
}

/* Connections are for those who ask for them: a client on a port is no listener there. */
static void test_users(void)
{
    AUTO_FD listener = hold(0, SOCK_STREAM, "127.0.0.1", TRUE);
    AUTO_FD client = hold(0, SOCK_STREAM, "127.0.0.1", FALSE);
    guint16 port = port_of(client);
    g_autoptr(SocketTable) table = NULL;
    g_autoptr(SocketTable) users = NULL;
    g_autoptr(GError) error = NULL;
    const SocketEntry *entry = NULL;

    connect_loopback(client, port_of(listener));
    table = dump((PortRange){port, port}, PROTOCOL_TCP);
    g_assert_cmpuint(table->entries->len, ==, 0);

    users =
        socket_table_dump_deep((PortRange){port, port}, PROTOCOL_TCP, SOCKET_DEPTH_USERS, &error);
    g_assert_no_error(error);
    g_assert_cmpuint(users->entries->len, ==, 1);
    entry = socket_table_find(users, port, PROTOCOL_TCP);
    g_assert_cmpint(entry->state, ==, SOCKET_CONNECTED);
    g_assert_false(entry->listening);
    g_assert_cmpuint(entry->inode, ==, inode_of(client));
}

static void assert_holder(guint16 port, Protocol protocol, const char *address, int expected_fd)
{
    g_autoptr(GError) error = NULL;
    gboolean found = -1;
    SocketEntry entry = {0};

    g_assert_true(socket_table_holder(port, protocol, address, &found, &entry, &error));
    g_assert_no_error(error);
    g_assert_cmpint(found, ==, expected_fd >= 0);
    g_assert_cmpuint(entry.inode, ==, expected_fd >= 0 ? inode_of(expected_fd) : 0);
}

static void test_holder(void)
{
    AUTO_FD bound = hold(0, SOCK_STREAM, NULL, FALSE);
    guint16 port = port_of(bound);
    AUTO_FD listener = -1;
    AUTO_FD client = -1;

    if (kernel_tells_bound())
        assert_holder(port, PROTOCOL_BOTH, NULL, bound);
    listener = hold(port, SOCK_STREAM, "127.0.0.1", TRUE);
    assert_holder(port, PROTOCOL_TCP, NULL, listener);
    if (kernel_tells_bound())
        assert_holder(port, PROTOCOL_TCP, "::1", bound);
    bound = fd_close(bound);
    assert_holder(port, PROTOCOL_TCP, "::1", -1);
    assert_holder(port, PROTOCOL_UDP, NULL, -1);

    client = hold(0, SOCK_STREAM, "127.0.0.1", FALSE);
    connect_loopback(client, port);
    assert_holder(port_of(client), PROTOCOL_BOTH, NULL, client);
}

static int compare_times(const void *a, const void *b)
{
    const gint64 *x = a, *y = b;

    return *x < *y ? -1 : *x > *y;
}

static gint64 median_usec(PortRange range)
{
    gint64 times[21];

    for (guint i = 0; i < G_N_ELEMENTS(times); i++) {
        gint64 begin = g_get_monotonic_time();
        g_autoptr(SocketTable) table =
            socket_table_dump_deep(range, PROTOCOL_TCP, SOCKET_DEPTH_LISTENING, NULL);

        g_assert_nonnull(table);
        times[i] = g_get_monotonic_time() - begin;
    }
    qsort(times, G_N_ELEMENTS(times), sizeof *times, compare_times);
    return times[G_N_ELEMENTS(times) / 2];
}

/* Many packets, in one go and in steps, and one port asked for among them. */
static void test_many(void)
{
    enum { MANY = 10000 };
    struct rlimit limit;
    g_autofree int *fds = NULL;
    guint n = MANY, steps = 0;
    guint16 last;
    gint64 whole_usec, one_usec, longest_usec = 0;
    g_autoptr(SocketTable) table = NULL;
    g_autoptr(SocketTable) stepped = NULL;
    g_autoptr(SocketDump) job = NULL;
    g_autoptr(GError) error = NULL;
    SocketDumpStatus status;

    g_assert_no_errno(getrlimit(RLIMIT_NOFILE, &limit));
    limit.rlim_cur = MIN(limit.rlim_max, MANY + 100);
    g_assert_no_errno(setrlimit(RLIMIT_NOFILE, &limit));
    n = (guint)MIN(limit.rlim_cur - 100, MANY);

    fds = g_new(int, n);
    for (guint i = 0; i < n; i++)
        fds[i] = hold(0, SOCK_STREAM, i % 2 ? "127.0.0.1" : NULL, TRUE);
    last = port_of(fds[n - 1]);

    {
        /* The kernel tells of IPv4's UDP before IPv6's TCP; in the table TCP is first. */
        AUTO_FD udp = hold(port_of(fds[0]), SOCK_DGRAM, "127.0.0.1", FALSE);

        table = dump((PortRange){0, 0}, PROTOCOL_BOTH);
        g_assert_cmpuint(socket_table_find(table, port_of(fds[0]), PROTOCOL_BOTH)->inode, ==,
                         inode_of(fds[0]));
        g_assert_cmpuint(socket_table_find(table, port_of(fds[0]), PROTOCOL_UDP)->inode, ==,
                         inode_of(udp));
    }
    for (guint i = 0; i < n; i++) {
        const SocketEntry *entry = socket_table_find(table, port_of(fds[i]), PROTOCOL_TCP);

        g_assert_nonnull(entry);
        g_assert_true(entry->listening);
    }

    job = socket_dump_new((PortRange){0, 0}, PROTOCOL_TCP, SOCKET_DEPTH_LISTENING, &error);
    g_assert_no_error(error);
    do {
        gint64 begin = g_get_monotonic_time();

        status = socket_dump_step(job, begin, &error);
        longest_usec = MAX(longest_usec, g_get_monotonic_time() - begin);
        steps++;
    } while (status == SOCKET_DUMP_MORE);
    g_assert_no_error(error);
    g_assert_cmpint(status, ==, SOCKET_DUMP_DONE);
    g_assert_cmpint(socket_dump_step(job, 0, &error), ==, SOCKET_DUMP_DONE);
    stepped = socket_dump_finish(g_steal_pointer(&job));
    g_assert_cmpuint(steps, >, n / 500);
    for (guint i = 0; i < n; i++)
        g_assert_nonnull(socket_table_find(stepped, port_of(fds[i]), PROTOCOL_TCP));

    whole_usec = median_usec((PortRange){0, 0});
    one_usec = median_usec((PortRange){last, last});
    g_test_message("%u listeners: all %" G_GINT64_FORMAT " us, one port %" G_GINT64_FORMAT
                   " us, %u steps, the longest %" G_GINT64_FORMAT " us",
                   n, whole_usec, one_usec, steps, longest_usec);
    if (n >= 5000)
        g_assert_cmpint(one_usec, <, whole_usec);
    for (guint i = 0; i < n; i++)
        (void)fd_close(fds[i]);
}

/* A dump that is given up half way leaves nothing behind. */
static void test_give_up(void)
{
    guint before = test_count_fds();
    g_autoptr(GError) error = NULL;

    for (guint i = 0; i < 100; i++) {
        g_autoptr(SocketDump) job =
            socket_dump_new((PortRange){0, 0}, PROTOCOL_BOTH, SOCKET_DEPTH_BOUND, &error);

        g_assert_no_error(error);
        g_assert_cmpint(socket_dump_step(job, 0, &error), !=, SOCKET_DUMP_FAILED);
    }
    g_assert_cmpuint(test_count_fds(), ==, before);
}

static void test_refused(void)
{
    struct rlimit before, none;
    g_autoptr(GError) error = NULL;

    g_assert_no_errno(getrlimit(RLIMIT_NOFILE, &before));
    none = before;
    none.rlim_cur = 0;
    g_assert_no_errno(setrlimit(RLIMIT_NOFILE, &none));
    g_assert_null(
        socket_table_dump_deep((PortRange){0, 0}, PROTOCOL_TCP, SOCKET_DEPTH_BOUND, &error));
    g_assert_no_errno(setrlimit(RLIMIT_NOFILE, &before));
    g_assert_error(error, G_IO_ERROR, G_IO_ERROR_TOO_MANY_OPEN_FILES);
}

static void test_covers(void)
{
    static const struct {
        const char *own;
        gboolean v6only;
        const char *asked;
        gboolean expected;
    } cases[] = {
        {"::", FALSE, NULL, TRUE},
        {"::", FALSE, "127.0.0.1", TRUE},
        {"::", FALSE, "::1", TRUE},
        {"::", TRUE, "127.0.0.1", FALSE},
        {"::", TRUE, "0.0.0.0", FALSE},
        {"::", TRUE, "::", TRUE},
        {"::", TRUE, "fe80::1%eth0", TRUE},
        {"0.0.0.0", FALSE, NULL, TRUE},
        {"0.0.0.0", FALSE, "127.0.0.1", TRUE},
        {"0.0.0.0", FALSE, "::ffff:127.0.0.1", TRUE},
        {"0.0.0.0", FALSE, "::1", FALSE},
        {"0.0.0.0", FALSE, "::", TRUE},
        {"127.0.0.1", FALSE, "0.0.0.0", TRUE},
        {"127.0.0.1", FALSE, "127.0.0.1", TRUE},
        {"127.0.0.1", FALSE, "127.0.0.2", FALSE},
        {"127.0.0.1", FALSE, "::1", FALSE},
        {"127.0.0.1", FALSE, NULL, TRUE},
        {"::ffff:127.0.0.1", FALSE, "127.0.0.1", TRUE},
        {"::1", FALSE, "::1", TRUE},
        {"::1", FALSE, "::2", FALSE},
        {"::1", FALSE, "127.0.0.1", FALSE},
        {"::1", FALSE, "0.0.0.0", FALSE},
        {"::1", FALSE, "::", TRUE},
        {"127.0.0.1", FALSE, "nonsense", TRUE},
    };

    for (guint i = 0; i < G_N_ELEMENTS(cases); i++) {
        SocketEntry entry = {.v6 = strchr(cases[i].own, ':') != NULL, .v6only = cases[i].v6only};

        g_assert_cmpint(inet_pton(entry.v6 ? AF_INET6 : AF_INET, cases[i].own, entry.address), ==,
                        1);
        if (socket_entry_covers(&entry, cases[i].asked) != cases[i].expected)
            g_error("%s (v6only %d) and %s: expected %d", cases[i].own, cases[i].v6only,
                    cases[i].asked ? cases[i].asked : "all", cases[i].expected);
    }
}

/* ---- the parser, on packets made here ---- */

#define SEQUENCE 7u

static void add_message(GByteArray *packet, guint16 type, guint16 flags, guint32 sequence,
                        const void *payload, guint length)
{
    static const guint8 padding[NLMSG_ALIGNTO];
    struct nlmsghdr header = {.nlmsg_len = (guint32)sizeof header + length,
                              .nlmsg_type = type,
                              .nlmsg_flags = flags,
                              .nlmsg_seq = sequence};

    g_byte_array_append(packet, (const guint8 *)&header, sizeof header);
    if (length > 0)
        g_byte_array_append(packet, payload, length);
    g_byte_array_append(packet, padding, NLMSG_ALIGN(length) - length);
}

static void add_row(GByteArray *packet, guint16 port, guint64 cgroup_id)
{
    struct {
        struct inet_diag_msg message;
        struct rtattr v6only;
        guint8 v6only_value[4];
        struct rtattr cgroup;
        guint8 cgroup_value[8];
    } row = {
        .message = {.idiag_family = AF_INET6,
                    .idiag_state = TCP_LISTEN,
                    .id.idiag_sport = g_htons(port),
                    .idiag_uid = 33,
                    .idiag_inode = 4711},
        .v6only = {.rta_len = RTA_LENGTH(1), .rta_type = INET_DIAG_SKV6ONLY},
        .v6only_value = {1},
        .cgroup = {.rta_len = RTA_LENGTH(8), .rta_type = INET_DIAG_CGROUP_ID},
    };

    memcpy(row.cgroup_value, &cgroup_id, sizeof cgroup_id);
    add_message(packet, SOCK_DIAG_BY_FAMILY, NLM_F_MULTI, SEQUENCE, &row, sizeof row);
}

static SocketParse parse(const GByteArray *packet, gsize length, GArray *entries, int *code)
{
    /* A copy of just that length: valgrind and ASan see each byte read past it. */
    g_autofree guint8 *copy = g_memdup2(packet->data, length);

    *code = 0;
    g_array_set_size(entries, 0);
    return socket_table_parse(copy, length, SEQUENCE, PROTOCOL_TCP, entries, code);
}

static void test_parse(void)
{
    g_autoptr(GByteArray) packet = g_byte_array_new();
    g_autoptr(GArray) entries = g_array_new(FALSE, FALSE, sizeof(SocketEntry));
    const gint32 denied = -EACCES, fine = 0, absurd = G_MININT32;
    const SocketEntry *entry = NULL;
    int code;

    add_row(packet, 8080, 1234567890123);
    add_row(packet, 0, 1); /* not bound: no row */
    add_message(packet, NLMSG_NOOP, 0, SEQUENCE, NULL, 0);
    add_message(packet, NLMSG_DONE, 0, SEQUENCE - 1, NULL, 0); /* of an older dump */
    add_row(packet, 9090, 2);
    g_assert_cmpint(parse(packet, packet->len, entries, &code), ==, SOCKET_PARSE_MORE);
    g_assert_cmpuint(entries->len, ==, 2);
    entry = &g_array_index(entries, SocketEntry, 0);
    g_assert_cmpuint(entry->port, ==, 8080);
    g_assert_cmpuint(entry->cgroup_id, ==, 1234567890123);
    g_assert_cmpuint(entry->uid, ==, 33);
    g_assert_cmpuint(entry->inode, ==, 4711);
    g_assert_true(entry->v6only);
    g_assert_cmpint(entry->state, ==, SOCKET_LISTENING);

    add_message(packet, NLMSG_DONE, 0, SEQUENCE, &fine, sizeof fine);
    g_assert_cmpint(parse(packet, packet->len, entries, &code), ==, SOCKET_PARSE_DONE);

    /* Cut anywhere it is an error or it asks for more: never whole, never read past the end. */
    for (gsize length = 0; length < packet->len; length++)
        g_assert_cmpint(parse(packet, length, entries, &code), !=, SOCKET_PARSE_DONE);

    g_byte_array_set_size(packet, 0);
    add_message(packet, NLMSG_DONE, 0, SEQUENCE, &denied, sizeof denied);
    g_assert_cmpint(parse(packet, packet->len, entries, &code), ==, SOCKET_PARSE_FAILED);
    g_assert_cmpint(code, ==, EACCES);
    g_byte_array_set_size(packet, 0);
    add_message(packet, NLMSG_ERROR, 0, SEQUENCE, &denied, sizeof denied);
    g_assert_cmpint(parse(packet, packet->len, entries, &code), ==, SOCKET_PARSE_FAILED);
    g_assert_cmpint(code, ==, EACCES);
    g_byte_array_set_size(packet, 0);
    add_message(packet, NLMSG_ERROR, 0, SEQUENCE, &fine, sizeof fine);
    g_assert_cmpint(parse(packet, packet->len, entries, &code), ==, SOCKET_PARSE_FAILED);
    g_assert_cmpint(code, ==, EBADMSG);
    g_byte_array_set_size(packet, 0);
    add_message(packet, NLMSG_ERROR, 0, SEQUENCE, &absurd, sizeof absurd);
    g_assert_cmpint(parse(packet, packet->len, entries, &code), ==, SOCKET_PARSE_FAILED);
    g_assert_cmpint(code, ==, EBADMSG);
    g_byte_array_set_size(packet, 0);
    add_message(packet, NLMSG_OVERRUN, 0, SEQUENCE, NULL, 0);
    g_assert_cmpint(parse(packet, packet->len, entries, &code), ==, SOCKET_PARSE_FAILED);
    g_assert_cmpint(code, ==, ENOBUFS);
    g_byte_array_set_size(packet, 0);
    add_message(packet, NLMSG_DONE, NLM_F_DUMP_INTR, SEQUENCE, NULL, 0);
    g_assert_cmpint(parse(packet, packet->len, entries, &code), ==, SOCKET_PARSE_INTERRUPTED);
    g_byte_array_set_size(packet, 0);
    add_message(packet, SOCK_DIAG_BY_FAMILY, 0, SEQUENCE, &denied, sizeof denied);
    g_assert_cmpint(parse(packet, packet->len, entries, &code), ==, SOCKET_PARSE_FAILED);
    g_assert_cmpint(code, ==, EBADMSG);
}

/* Attributes that promise more than the message holds, or less than their own head. */
static void test_parse_attributes(void)
{
    static const struct {
        guint16 promised;
        guint16 type;
        guint given; /* bytes behind the head */
        SocketParse expected;
    } cases[] = {
        {RTA_LENGTH(8), INET_DIAG_CGROUP_ID, 8, SOCKET_PARSE_MORE},
        {RTA_LENGTH(8), INET_DIAG_CGROUP_ID, 4, SOCKET_PARSE_FAILED},
        {RTA_LENGTH(4), INET_DIAG_CGROUP_ID, 4, SOCKET_PARSE_FAILED},
        {RTA_LENGTH(0), INET_DIAG_SKV6ONLY, 0, SOCKET_PARSE_FAILED},
        {RTA_LENGTH(1), INET_DIAG_SKV6ONLY, 0, SOCKET_PARSE_FAILED},
        {RTA_LENGTH(100), INET_DIAG_INFO, 8, SOCKET_PARSE_FAILED},
        {RTA_LENGTH(8), INET_DIAG_INFO, 8, SOCKET_PARSE_MORE},
        {0, INET_DIAG_INFO, 8, SOCKET_PARSE_FAILED},
        {3, INET_DIAG_INFO, 8, SOCKET_PARSE_FAILED},
        {G_MAXUINT16, INET_DIAG_INFO, 8, SOCKET_PARSE_FAILED},
    };
    g_autoptr(GArray) entries = g_array_new(FALSE, FALSE, sizeof(SocketEntry));

    for (guint i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autoptr(GByteArray) packet = g_byte_array_new();
        struct {
            struct inet_diag_msg message;
            struct rtattr attribute;
            guint8 value[8];
        } row = {
            .message = {.idiag_family = AF_INET,
                        .idiag_state = TCP_LISTEN,
                        .id.idiag_sport = g_htons(80)},
            .attribute = {.rta_len = cases[i].promised, .rta_type = cases[i].type},
        };
        int code;

        add_message(packet, SOCK_DIAG_BY_FAMILY, 0, SEQUENCE, &row,
                    (guint)offsetof(__typeof__(row), value) + cases[i].given);
        g_assert_cmpint(parse(packet, packet->len, entries, &code), ==, cases[i].expected);
        g_assert_cmpint(code, ==, cases[i].expected == SOCKET_PARSE_FAILED ? EBADMSG : 0);
    }
}

static void test_parse_damaged(void)
{
    g_autoptr(GArray) entries = g_array_new(FALSE, FALSE, sizeof(SocketEntry));
    guint failed = 0;
    int code;

    for (guint round = 0; round < 20000; round++) {
        g_autoptr(GByteArray) packet = g_byte_array_new();

        add_row(packet, 8080, 5);
        add_row(packet, 8081, 6);
        add_message(packet, NLMSG_DONE, 0, SEQUENCE, NULL, 0);
        for (gint i = g_test_rand_int_range(1, 6); i > 0; i--)
            packet->data[g_test_rand_int_range(0, (gint32)packet->len)] =
                (guint8)g_test_rand_int_range(0, 256);
        if (parse(packet, packet->len, entries, &code) == SOCKET_PARSE_FAILED) {
            g_assert_cmpint(code, >, 0);
            failed++;
        }
        g_assert_cmpuint(entries->len, <=, 2);
    }
    g_assert_cmpuint(failed, >, 0);
}

/* ---- units ---- */

static void test_unit_of_path(void)
{
    static const struct {
        const char *path;
        const char *unit;
        uid_t user;
    } cases[] = {
        {"/system.slice/nginx.service", "nginx.service", CGROUP_NO_USER},
        {"/system.slice/nginx.service/worker", "nginx.service", CGROUP_NO_USER},
        {"/system.slice/system-getty.slice/getty@tty1.service", "getty@tty1.service",
         CGROUP_NO_USER},
        {"/system.slice/_cpu.service", "cpu.service", CGROUP_NO_USER},
        {"/system.slice/web.socket", "web.socket", CGROUP_NO_USER},
        {"/init.scope", "init.scope", CGROUP_NO_USER},
        {"/user.slice/user-1000.slice/session-3.scope", "session-3.scope", CGROUP_NO_USER},
        {"/user.slice/user-1000.slice/user@1000.service/app.slice/foo.service", "foo.service",
         1000},
        {"/user.slice/user-1000.slice/user@1000.service/app.slice/app-a.slice/b.scope/x", "b.scope",
         1000},
        {"/user.slice/user-1000.slice/user@1000.service/init.scope", "user@1000.service",
         CGROUP_NO_USER},
        {"/user.slice/user-1000.slice/user@1000.service", "user@1000.service", CGROUP_NO_USER},
        /* a user may call his units what he likes */
        {"/user.slice/user-1000.slice/user@1000.service/user@0.service/a.service", "user@0.service",
         1000},
        {"/machine.slice/machine-box.scope/payload/system.slice/nginx.service", "machine-box.scope",
         CGROUP_NO_USER},
        {"/system.slice/user@x.service/a.service", "user@x.service", CGROUP_NO_USER},
        {"/", NULL, 0},
        {"", NULL, 0},
        {NULL, NULL, 0},
        {"/system.slice", NULL, 0},
        {"/docker/0123", NULL, 0},
        {"/../../system.slice/x.service", NULL, 0},
        {"/system.slice/.service", NULL, 0},
        {"/system.slice/nginx.service (deleted)", NULL, 0},
        {"/system.slice/\xff.service", NULL, 0},
    };

    for (guint i = 0; i < G_N_ELEMENTS(cases); i++) {
        uid_t user = 4711;
        g_autofree char *unit = cgroup_unit_of_path(cases[i].path, &user);

        g_assert_cmpstr(unit, ==, cases[i].unit);
        g_assert_cmpuint(user, ==, cases[i].unit ? cases[i].user : 4711);
    }
}

/* Where this machine has its cgroup2 tree; made here when there is none. */
static char *cgroup_root(void)
{
    static const char *const usual[] = {"/sys/fs/cgroup", "/sys/fs/cgroup/unified"};

    for (guint i = 0; i < G_N_ELEMENTS(usual); i++) {
        g_autofree char *file = g_build_filename(usual[i], "cgroup.procs", NULL);
        g_autofree char *mark = g_build_filename(usual[i], "cgroup.controllers", NULL);

        if (g_file_test(mark, G_FILE_TEST_EXISTS) && access(file, W_OK) == 0)
            return g_strdup(usual[i]);
    }
    return NULL;
}

typedef struct UnitCase {
    const char *manager; /* the folder of a user's manager, "" = none */
    uid_t user;
} UnitCase;

typedef struct UnitLook {
    const SocketEntry *entry;
    uid_t user;
} UnitLook;

static int look_unprivileged(void *data)
{
    const UnitLook *look = data;
    g_autofree char *unit = NULL;
    uid_t user = 7;

    CHECK(setresgid(65534, 65534, 65534) == 0);
    CHECK(setresuid(65534, 65534, 65534) == 0);
    /* There may have been a walk a moment ago, by another case: the next one waits. */
    for (guint i = 0; i < 500 && !unit; i++) {
        unit = socket_entry_unit(look->entry, &user);
        if (!unit)
            g_usleep(10000);
    }
    CHECK(g_strcmp0(unit, "styxytest.service") == 0 && user == look->user);
    /* And from the memory of the walk. */
    g_free(unit);
    user = 7;
    unit = socket_entry_unit(look->entry, &user);
    CHECK(g_strcmp0(unit, "styxytest.service") == 0 && user == look->user);
    return 0;
}

static void test_unit(gconstpointer data)
{
    const UnitCase *unit_case = data;
    g_autofree char *root = cgroup_root();
    g_autofree char *slice = g_strdup_printf("%s/styxytest%d.slice", root, getpid());
    g_autofree char *manager = g_build_filename(slice, unit_case->manager, NULL);
    g_autofree char *folder = g_build_filename(manager, "styxytest.service", NULL);
    g_autofree char *procs = g_build_filename(folder, "cgroup.procs", NULL);
    g_autofree char *unit = NULL;
    g_autoptr(SocketTable) table = NULL;
    const SocketEntry *entry = NULL;
    SocketEntry gone;
    UnitLook look;
    uid_t user = 7;
    int pipes[2];
    guint16 port = 0;
    pid_t pid;

    if (!root || mkdir(slice, 0755) < 0 ||
        (mkdir(manager, 0755) < 0 && unit_case->manager[0] != '\0') || mkdir(folder, 0755) < 0) {
        (void)rmdir(manager);
        (void)rmdir(slice);
        g_test_skip("needs a cgroup2 tree to make a folder in (root)");
        return;
    }
    g_assert_no_errno(pipe(pipes));
    pid = fork();
    g_assert_cmpint(pid, >=, 0);
    if (pid == 0) {
        int fd;

        (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (!test_write_file(procs, "0"))
            _exit(1);
        fd = hold(0, SOCK_STREAM, NULL, TRUE);
        port = port_of(fd);
        if (write(pipes[1], &port, sizeof port) != sizeof port)
            _exit(1);
        for (;;)
            (void)pause();
    }
    (void)fd_close(pipes[1]);
    g_assert_cmpint(read(pipes[0], &port, sizeof port), ==, sizeof port);
    (void)fd_close(pipes[0]);

    table = dump((PortRange){port, port}, PROTOCOL_TCP);
    entry = socket_table_find(table, port, PROTOCOL_TCP);
    g_assert_nonnull(entry);
    g_assert_cmpuint(entry->cgroup_id, !=, 0);
    look = (UnitLook){entry, unit_case->user};
    if (getuid() == 0)
        test_in_child(look_unprivileged, &look);
    unit = socket_entry_unit(entry, &user);
    g_assert_cmpstr(unit, ==, "styxytest.service");
    g_assert_cmpuint(user, ==, unit_case->user);

    g_assert_no_errno(kill(pid, SIGKILL));
    g_assert_cmpint(waitpid(pid, NULL, 0), ==, pid);
    g_assert_no_errno(rmdir(folder));
    if (unit_case->manager[0] != '\0')
        g_assert_no_errno(rmdir(manager));
    g_assert_no_errno(rmdir(slice));
    gone = *entry;
    gone.cgroup_id = G_GUINT64_CONSTANT(0x7fffffff12345678);
    g_assert_null(socket_entry_unit(&gone, NULL));
    gone.cgroup_id = 0;
    g_assert_null(socket_entry_unit(&gone, NULL));
}

/* More folders than one part of a walk has time for: three of this test at once still fit into a
 * whole one. */
#define CROWD 6000

static int look_past_a_crowd(void *data)
{
    const SocketEntry entry = {.cgroup_id = *(const guint64 *)data};
    g_autofree char *unit = NULL;

    CHECK(setresgid(65534, 65534, 65534) == 0);
    CHECK(setresuid(65534, 65534, 65534) == 0);
    unit = socket_entry_unit(&entry, NULL);
    CHECK(!unit); /* it is not found in one go, which nobody could wait for */
    for (guint i = 0; i < 3000 && !unit; i++) {
        g_usleep(10000);
        unit = socket_entry_unit(&entry, NULL);
    }
    CHECK(g_strcmp0(unit, "styxytest.service") == 0);
    return 0;
}

static void test_unit_in_a_crowd(void)
{
    g_autofree char *root = cgroup_root();
    g_autofree char *slice = g_strdup_printf("%s/styxycrowd%d.slice", root, getpid());
    g_autofree char *deep = g_build_filename(slice, "a.slice", NULL);
    g_autofree char *folder = g_build_filename(deep, "styxytest.service", NULL);
    g_autofree char *leaf = g_build_filename(folder, "leaf", NULL);
    struct stat status;
    guint crowd = 0;
    guint64 id;

    if (getuid() != 0 || !root || mkdir(slice, 0755) < 0) {
        g_test_skip("needs a cgroup2 tree to make a folder in (root)");
        return;
    }
    g_assert_no_errno(mkdir(deep, 0755));
    g_assert_no_errno(mkdir(folder, 0755));
    g_assert_no_errno(mkdir(leaf, 0755));
    for (; crowd < CROWD; crowd++) {
        g_autofree char *path = g_strdup_printf("%s/%u", slice, crowd);

        if (mkdir(path, 0755) < 0)
            break;
    }
    g_assert_no_errno(stat(leaf, &status));
    id = status.st_ino;
    if (crowd == CROWD)
        test_in_child(look_past_a_crowd, &id);
    else
        g_test_skip("so many cgroups may not be made here");
    for (guint i = 0; i < crowd; i++) {
        g_autofree char *path = g_strdup_printf("%s/%u", slice, i);

        g_assert_no_errno(rmdir(path));
    }
    g_assert_no_errno(rmdir(leaf));
    g_assert_no_errno(rmdir(folder));
    g_assert_no_errno(rmdir(deep));
    g_assert_no_errno(rmdir(slice));
}

int main(int argc, char **argv)
{
    static const UnitCase of_system = {"", CGROUP_NO_USER}, of_user = {"user@1001.service", 1001};

    g_test_init(&argc, &argv, NULL);
    (void)test_private_network(); /* quieter, and not needed */

    g_test_add_func("/socket-table/layouts", test_layouts);
    g_test_add_func("/socket-table/order", test_order);
    g_test_add_func("/socket-table/range", test_range);
    g_test_add_func("/socket-table/users", test_users);
    g_test_add_func("/socket-table/holder", test_holder);
    g_test_add_func("/socket-table/many", test_many);
    g_test_add_func("/socket-table/give-up", test_give_up);
    g_test_add_func("/socket-table/refused", test_refused);
    g_test_add_func("/socket-table/covers", test_covers);
    g_test_add_func("/socket-table/parse", test_parse);
    g_test_add_func("/socket-table/parse-attributes", test_parse_attributes);
    g_test_add_func("/socket-table/parse-damaged", test_parse_damaged);
    g_test_add_func("/socket-table/unit-in-a-crowd", test_unit_in_a_crowd);
    g_test_add_func("/socket-table/unit-of-path", test_unit_of_path);
    g_test_add_data_func("/socket-table/unit", &of_system, test_unit);
    g_test_add_data_func("/socket-table/unit-of-user", &of_user, test_unit);
    return g_test_run();
}
