/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "probe/bind-probe.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stddef.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#include "probe-test-util.h"
#include "util/fd.h"

static gboolean private_network;

enum {
    REUSE = 1 << 0,
    REUSEPORT = 1 << 1,
    V6ONLY = 1 << 2,
    DUAL = 1 << 3,
};

typedef enum How {
    BOUND,     /* bound, nothing else */
    LISTENING, /* TCP: bound and listening */
    CONNECTED, /* bound, then connected to somebody */
    ACCEPTED,  /* TCP: an accepted connection whose listener has gone */
} How;

typedef struct Occupant {
    const char *name;
    int type;
    const char *address;
    int flags;
    How how;
} Occupant;

static const Occupant occupants[] = {
    {"tcp4-any", SOCK_STREAM, "0.0.0.0", 0, LISTENING},
    {"tcp4-any-reuse", SOCK_STREAM, "0.0.0.0", REUSE, LISTENING},
    {"tcp4-any-reuseport", SOCK_STREAM, "0.0.0.0", REUSEPORT, LISTENING},
    {"tcp4-any-reuse-reuseport", SOCK_STREAM, "0.0.0.0", REUSE | REUSEPORT, LISTENING},
    {"tcp4-loopback", SOCK_STREAM, "127.0.0.1", REUSE, LISTENING},
    {"tcp4-loopback-2", SOCK_STREAM, "127.0.0.2", REUSE, LISTENING},
    {"tcp6-dual", SOCK_STREAM, "::", REUSE | DUAL, LISTENING},
    {"tcp6-v6only", SOCK_STREAM, "::", REUSE | V6ONLY, LISTENING},
    {"tcp6-loopback", SOCK_STREAM, "::1", REUSE, LISTENING},
    {"tcp6-mapped", SOCK_STREAM, "::ffff:127.0.0.1", REUSE | DUAL, LISTENING},
    {"tcp4-bound", SOCK_STREAM, "0.0.0.0", 0, BOUND},
    {"tcp4-bound-reuse", SOCK_STREAM, "0.0.0.0", REUSE, BOUND},
    {"tcp4-bound-reuseport", SOCK_STREAM, "127.0.0.1", REUSEPORT, BOUND},
    {"tcp4-bound-loopback-2-reuse", SOCK_STREAM, "127.0.0.2", REUSE, BOUND},
    {"tcp6-bound-dual-reuse", SOCK_STREAM, "::", REUSE | DUAL, BOUND},
    {"tcp6-bound-v6only-reuse", SOCK_STREAM, "::", REUSE | V6ONLY, BOUND},
    {"tcp6-bound-loopback-reuse", SOCK_STREAM, "::1", REUSE, BOUND},
    {"tcp4-client", SOCK_STREAM, "127.0.0.1", 0, CONNECTED},
    {"tcp4-client-reuse", SOCK_STREAM, "127.0.0.1", REUSE, CONNECTED},
    {"tcp6-client-reuse", SOCK_STREAM, "::1", REUSE, CONNECTED},
    {"tcp4-accepted", SOCK_STREAM, "127.0.0.1", 0, ACCEPTED},
    {"tcp4-accepted-reuse", SOCK_STREAM, "127.0.0.1", REUSE, ACCEPTED},
    {"udp4-any", SOCK_DGRAM, "0.0.0.0", 0, BOUND},
    {"udp4-any-reuse", SOCK_DGRAM, "0.0.0.0", REUSE, BOUND},
    {"udp4-any-reuseport", SOCK_DGRAM, "0.0.0.0", REUSEPORT, BOUND},
    {"udp4-loopback", SOCK_DGRAM, "127.0.0.1", 0, BOUND},
    {"udp4-loopback-2-reuse", SOCK_DGRAM, "127.0.0.2", REUSE, BOUND},
    {"udp6-dual", SOCK_DGRAM, "::", DUAL, BOUND},
    {"udp6-v6only-reuse", SOCK_DGRAM, "::", REUSE | V6ONLY, BOUND},
    {"udp6-loopback", SOCK_DGRAM, "::1", 0, BOUND},
    {"udp4-client", SOCK_DGRAM, "127.0.0.1", 0, CONNECTED},
};

typedef union Address {
    struct sockaddr any;
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;
} Address;

static socklen_t make_address(const char *text, guint16 port, Address *ret_address)
{
    *ret_address = (Address){.v6 = {0}};
    if (inet_pton(AF_INET, text, &ret_address->v4.sin_addr) == 1) {
        ret_address->v4.sin_family = AF_INET;
        ret_address->v4.sin_port = g_htons(port);
        return sizeof ret_address->v4;
    }
    g_assert_cmpint(inet_pton(AF_INET6, text, &ret_address->v6.sin6_addr), ==, 1);
    ret_address->v6.sin6_family = AF_INET6;
    ret_address->v6.sin6_port = g_htons(port);
    return sizeof ret_address->v6;
}

static guint16 port_of(int fd)
{
    Address address;
    socklen_t length = sizeof address;

    g_assert_no_errno(getsockname(fd, &address.any, &length));
    return g_ntohs(address.v4.sin_port); /* at the same place for both families */
}

static void set_option(int fd, int level, int option, int value)
{
    g_assert_no_errno(setsockopt(fd, level, option, &value, sizeof value));
}

static int open_bound(int type, const char *text, guint16 port, int flags)
{
    Address address;
    socklen_t length = make_address(text, port, &address);
    AUTO_FD fd = socket(address.any.sa_family, type | SOCK_CLOEXEC, 0);

    g_assert_cmpint(fd, >=, 0);
    if (flags & REUSE)
        set_option(fd, SOL_SOCKET, SO_REUSEADDR, 1);
    if (flags & REUSEPORT)
        set_option(fd, SOL_SOCKET, SO_REUSEPORT, 1);
    if (flags & (V6ONLY | DUAL))
        set_option(fd, IPPROTO_IPV6, IPV6_V6ONLY, (flags & V6ONLY) != 0);
    g_assert_no_errno(bind(fd, &address.any, length));
    return fd_steal(&fd);
}

static void connect_to(int fd, const char *text, guint16 port)
{
    Address address;
    socklen_t length = make_address(text, port, &address);

    g_assert_no_errno(connect(fd, &address.any, length));
}

/* Ends a connection with a reset, so that no TIME_WAIT follows. */
static void abort_on_close(int fd)
{
    const struct linger linger = {.l_onoff = 1};

    g_assert_no_errno(setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger));
}

static void wait_for_end(int fd)
{
    struct pollfd item = {.fd = fd, .events = POLLIN};
    char byte;

    g_assert_cmpint(poll(&item, 1, 5000), ==, 1);
    g_assert_cmpint(read(fd, &byte, 1), <=, 0);
}

/*
 * Until the other side has acknowledged the end of what was sent, which it may put off for 40 ms:
 * only then does the kernel keep the rest of the connection without its socket. Nothing tells of
 * it, so it is asked again and again, for 5 s at most.
 */
static void wait_for_fin_wait2(int fd)
{
    struct tcp_info info = {0};

    for (guint i = 0; i < 5000 && info.tcpi_state != TCP_FIN_WAIT2; i++) {
        socklen_t length = sizeof info;

        (void)poll(NULL, 0, 1);
        g_assert_no_errno(getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &length));
    }
    g_assert_cmpint(info.tcpi_state, ==, TCP_FIN_WAIT2);
}

static void assert_probe(guint16 port, Protocol protocol, const char *address, ProbeResult expected)
{
    int code = -1;

    g_assert_cmpint(bind_probe(port, protocol, address, &code), ==, expected);
    g_assert_cmpint(code, ==, expected == PROBE_FREE ? 0 : EADDRINUSE);
}

static void test_occupant(const void *data)
{
    const Occupant *occupant = data;
    Protocol own = occupant->type == SOCK_STREAM ? PROTOCOL_TCP : PROTOCOL_UDP;
    AUTO_FD fd = open_bound(occupant->type, occupant->address, 0, occupant->flags);
    AUTO_FD other = -1;
    guint16 port = port_of(fd);

    switch (occupant->how) {
    case BOUND:
        break;
    case LISTENING:
        g_assert_no_errno(listen(fd, 8));
        break;
    case CONNECTED:
        other = open_bound(occupant->type, occupant->address, 0, 0);
        if (own == PROTOCOL_TCP) {
            g_assert_no_errno(listen(other, 8));
            abort_on_close(fd);
        }
        connect_to(fd, occupant->address, port_of(other));
        break;
    case ACCEPTED: {
        AUTO_FD listener = fd_steal(&fd);

        g_assert_no_errno(listen(listener, 8));
        other = open_bound(SOCK_STREAM, occupant->address, 0, 0);
        connect_to(other, occupant->address, port);
        fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
        g_assert_cmpint(fd, >=, 0);
        abort_on_close(fd);
        break;
    }
    }

    assert_probe(port, own, NULL, PROBE_BUSY);
    assert_probe(port, own, occupant->address, PROBE_BUSY);
    assert_probe(port, PROTOCOL_BOTH, NULL, PROBE_BUSY);
    assert_probe(port, own ^ PROTOCOL_BOTH, NULL, PROBE_FREE);

    fd = fd_close(fd);
    assert_probe(port, own, NULL, PROBE_FREE);
    assert_probe(port, own, occupant->address, PROBE_FREE);
    assert_probe(port, PROTOCOL_BOTH, NULL, PROBE_FREE);
}

/* A served connection that the server ends first; its side waits for a minute. */
static guint16 make_time_wait(int flags)
{
    AUTO_FD listener = open_bound(SOCK_STREAM, "127.0.0.1", 0, flags);
    AUTO_FD client = open_bound(SOCK_STREAM, "127.0.0.1", 0, 0);
    AUTO_FD served = -1;
    guint16 port = port_of(listener);

    g_assert_no_errno(listen(listener, 8));
    connect_to(client, "127.0.0.1", port);
    served = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    g_assert_cmpint(served, >=, 0);
    served = fd_close(served);
    wait_for_end(client);
    return port;
}

static void test_time_wait(void)
{
    guint16 port = make_time_wait(REUSE);
    AUTO_FD service = -1;

    /* It is there: a bind without SO_REUSEADDR is refused. */
    g_assert_cmpint(bind_socket(port, SOCK_STREAM, NULL, FALSE), ==, -EADDRINUSE);
    assert_probe(port, PROTOCOL_TCP, NULL, PROBE_FREE);
    assert_probe(port, PROTOCOL_TCP, "127.0.0.1", PROBE_FREE);
    assert_probe(port, PROTOCOL_BOTH, NULL, PROBE_FREE);

    /* A holder beside it counts, in whatever state. */
    service = open_bound(SOCK_STREAM, "0.0.0.0", port, REUSE);
    assert_probe(port, PROTOCOL_TCP, NULL, PROBE_BUSY);
    assert_probe(port, PROTOCOL_TCP, "127.0.0.1", PROBE_BUSY);
    g_assert_no_errno(listen(service, 8));
    assert_probe(port, PROTOCOL_TCP, NULL, PROBE_BUSY);
    service = fd_close(service);
    assert_probe(port, PROTOCOL_TCP, NULL, PROBE_FREE);

    /* One on an address of its own is in nobody's way but a wildcard's. */
    service = open_bound(SOCK_STREAM, "127.0.0.2", port, REUSE);
    assert_probe(port, PROTOCOL_TCP, NULL, PROBE_BUSY);
    assert_probe(port, PROTOCOL_TCP, "127.0.0.1", PROBE_FREE);
    service = fd_close(service);

    /* And the service it was found free for can start. */
    service = bind_socket(port, SOCK_STREAM, NULL, TRUE);
    g_assert_cmpint(service, >=, 0);
    g_assert_no_errno(listen(service, 8));
}

/* What a socket without SO_REUSEADDR leaves lets nobody by, so the truth is "busy". */
static void test_time_wait_blocking(void)
{
    guint16 port = make_time_wait(0);

    g_assert_cmpint(bind_socket(port, SOCK_STREAM, NULL, TRUE), ==, -EADDRINUSE);
    assert_probe(port, PROTOCOL_TCP, NULL, PROBE_BUSY);
}

/* The client never closes its side: nobody holds the server's, the kernel waits for the rest. */
static void test_orphan(void)
{
    AUTO_FD listener = open_bound(SOCK_STREAM, "127.0.0.1", 0, REUSE);
    AUTO_FD client = open_bound(SOCK_STREAM, "127.0.0.1", 0, 0);
    AUTO_FD served = -1;
    guint16 port = port_of(listener);

    g_assert_no_errno(listen(listener, 8));
    connect_to(client, "127.0.0.1", port);
    served = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    listener = fd_close(listener);

    g_assert_no_errno(shutdown(served, SHUT_WR));
    wait_for_end(client);
    wait_for_fin_wait2(served);
    assert_probe(port, PROTOCOL_TCP, NULL, PROBE_BUSY); /* half closed, and held */
    served = fd_close(served);
    assert_probe(port, PROTOCOL_TCP, NULL, PROBE_FREE);
    abort_on_close(client);
}

static void test_leaves_nothing(void)
{
    static const Protocol protocols[] = {PROTOCOL_TCP, PROTOCOL_UDP, PROTOCOL_BOTH};
    static const char *const addresses[] = {NULL, "0.0.0.0", "127.0.0.1", "::", "::1"};
    guint before = test_count_fds();

    for (guint round = 0; round < 200; round++) {
        for (guint p = 0; p < G_N_ELEMENTS(protocols); p++) {
            for (guint a = 0; a < G_N_ELEMENTS(addresses); a++) {
                int type = protocols[p] == PROTOCOL_UDP ? SOCK_DGRAM : SOCK_STREAM;
                AUTO_FD finder = open_bound(type, "::", 0, DUAL);
                AUTO_FD fd = -1;
                guint16 port = port_of(finder);

                finder = fd_close(finder);
                assert_probe(port, protocols[p], addresses[a], PROBE_FREE);
                fd = open_bound(type, "::", port, DUAL); /* without SO_REUSEADDR */
                assert_probe(port, protocols[p], addresses[a], PROBE_BUSY);
            }
        }
    }
    g_assert_cmpuint(test_count_fds(), ==, before);
}

static void test_bind_socket(void)
{
    AUTO_FD dual = bind_socket(0, SOCK_STREAM, NULL, TRUE);
    guint16 port = port_of(dual);
    AUTO_FD second = -1;
    AUTO_FD v6 = -1;
    AUTO_FD v4 = -1;
    int value = -1;
    socklen_t length = sizeof value;

    g_assert_cmpint(fcntl(dual, F_GETFD) & FD_CLOEXEC, ==, FD_CLOEXEC);
    g_assert_cmpint(fcntl(dual, F_GETFL) & O_NONBLOCK, ==, O_NONBLOCK);
    g_assert_no_errno(getsockopt(dual, IPPROTO_IPV6, IPV6_V6ONLY, &value, &length));
    g_assert_cmpint(value, ==, 0);
    g_assert_no_errno(getsockopt(dual, SOL_SOCKET, SO_ACCEPTCONN, &value, &length));
    g_assert_cmpint(value, ==, 0);

    /* Beside a held one: with SO_REUSEADDR a service starts, without it is refused. */
    g_assert_cmpint(bind_socket(port, SOCK_STREAM, NULL, FALSE), ==, -EADDRINUSE);
    second = bind_socket(port, SOCK_STREAM, NULL, TRUE);
    g_assert_cmpint(second, >=, 0);
    g_assert_no_errno(listen(second, 8));
    dual = fd_close(dual);
    second = fd_close(second);

    /* Each family alone on one number. */
    v6 = bind_socket(0, SOCK_DGRAM, "::", FALSE);
    g_assert_cmpint(v6, >=, 0);
    v4 = bind_socket(port_of(v6), SOCK_DGRAM, "0.0.0.0", FALSE);
    g_assert_cmpint(v4, >=, 0);
    g_assert_cmpint(bind_socket(port_of(v6), SOCK_DGRAM, NULL, FALSE), ==, -EADDRINUSE);

    g_assert_cmpint(bind_socket(0, SOCK_STREAM, "localhost", FALSE), ==, -EINVAL);
    g_assert_cmpint(bind_socket(0, SOCK_STREAM, "192.0.2.1", FALSE), ==, -EADDRNOTAVAIL);
}

static void assert_unknown(guint16 port, const char *address, int expected)
{
    int code = -1;

    g_assert_cmpint(bind_probe(port, PROTOCOL_TCP, address, &code), ==, PROBE_UNKNOWN);
    g_assert_cmpint(code, ==, expected);
}

static void test_unknown(void)
{
    AUTO_FD fd = open_bound(SOCK_STREAM, "::", 0, DUAL);
    guint16 port = port_of(fd);
    struct rlimit before, none;

    assert_unknown(0, NULL, EINVAL);
    assert_unknown(port, "", EINVAL);
    assert_unknown(port, "127.0.0.1.", EINVAL);
    assert_unknown(port, "127.1", EINVAL);
    assert_unknown(port, "example.org", EINVAL);
    assert_unknown(port, "[::1]", EINVAL);
    assert_unknown(port, "127.0.0.1%lo", EINVAL);
    assert_unknown(port, "192.0.2.1", EADDRNOTAVAIL);
    assert_unknown(port, "2001:db8::1", EADDRNOTAVAIL);
    assert_unknown(port, "fe80::1%no-such-link", EADDRNOTAVAIL);

    g_assert_no_errno(getrlimit(RLIMIT_NOFILE, &before));
    none = before;
    none.rlim_cur = 0;
    g_assert_no_errno(setrlimit(RLIMIT_NOFILE, &none));
    assert_unknown(port, NULL, EMFILE);
    g_assert_no_errno(setrlimit(RLIMIT_NOFILE, &before));
}

static void test_bindv6only(void)
{
    static const char sysctl[] = "/proc/sys/net/ipv6/bindv6only";
    AUTO_FD v4 = -1;
    guint16 port;

    if (!private_network || !test_write_file(sysctl, "1")) {
        g_test_skip("needs a network namespace of its own (root)");
        return;
    }
    v4 = open_bound(SOCK_STREAM, "0.0.0.0", 0, REUSE);
    port = port_of(v4);
    g_assert_no_errno(listen(v4, 8));
    assert_probe(port, PROTOCOL_TCP, NULL, PROBE_BUSY);
    g_assert_cmpint(bind_socket(port, SOCK_STREAM, NULL, TRUE), ==, -EADDRINUSE);
    v4 = fd_close(v4);
    assert_probe(port, PROTOCOL_TCP, NULL, PROBE_FREE);
    g_assert_true(test_write_file(sysctl, "0"));
}

/* IPv6 is there and switched off on every link: no address, but sockets of the family still work.
 */
static void test_ipv6_disabled(void)
{
    static const char sysctl[] = "/proc/sys/net/ipv6/conf/all/disable_ipv6";
    AUTO_FD fd = -1;
    guint16 port;

    if (!private_network || !test_write_file(sysctl, "1")) {
        g_test_skip("needs a network namespace of its own (root)");
        return;
    }
    fd = open_bound(SOCK_STREAM, "127.0.0.2", 0, REUSE);
    port = port_of(fd);
    g_assert_no_errno(listen(fd, 8));
    assert_probe(port, PROTOCOL_TCP, NULL, PROBE_BUSY);
    assert_probe(port, PROTOCOL_UDP, NULL, PROBE_FREE);
    fd = fd_close(fd);
    assert_probe(port, PROTOCOL_BOTH, NULL, PROBE_FREE);
    assert_probe(port, PROTOCOL_TCP, "127.0.0.1", PROBE_FREE);
    fd = bind_socket(port, SOCK_STREAM, NULL, TRUE);
    g_assert_cmpint(fd, >=, 0);
    g_assert_true(test_write_file(sysctl, "0"));
}

/* As on a kernel without IPv6: socket(AF_INET6) gives EAFNOSUPPORT. */
static int without_ipv6(void *data)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_socket, 0, 3),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[0])),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AF_INET6, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EAFNOSUPPORT),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    const struct sock_fprog program = {.len = G_N_ELEMENTS(code), .filter = code};
    AUTO_FD fd = -1;
    guint16 port;
    int error = -1;

    CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
    CHECK(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0);
    CHECK(socket(AF_INET6, SOCK_STREAM, 0) < 0 && errno == EAFNOSUPPORT);

    fd = bind_socket(0, SOCK_STREAM, NULL, TRUE);
    CHECK(fd >= 0);
    port = port_of(fd);
    CHECK(bind_probe(port, PROTOCOL_TCP, NULL, &error) == PROBE_BUSY);
    CHECK(bind_probe(port, PROTOCOL_UDP, NULL, &error) == PROBE_FREE);
    fd = fd_close(fd);
    CHECK(bind_probe(port, PROTOCOL_BOTH, NULL, &error) == PROBE_FREE);
    fd = open_bound(SOCK_STREAM, "127.0.0.2", port, REUSE);
    CHECK(bind_probe(port, PROTOCOL_BOTH, NULL, &error) == PROBE_BUSY);
    CHECK(bind_probe(port, PROTOCOL_TCP, "::1", &error) == PROBE_UNKNOWN);
    CHECK(error == EAFNOSUPPORT);
    return 0;
}

static void test_without_ipv6(void)
{
    test_in_child(without_ipv6, NULL);
}

static int as_nobody(void *data)
{
    int error = -1;

    CHECK(setresgid(65534, 65534, 65534) == 0);
    CHECK(setresuid(65534, 65534, 65534) == 0);
    CHECK(bind_probe(81, PROTOCOL_TCP, NULL, &error) == PROBE_UNKNOWN);
    CHECK(error == EACCES);
    CHECK(bind_probe(80, PROTOCOL_TCP, NULL, &error) == PROBE_BUSY);
    CHECK(error == EADDRINUSE);
    CHECK(bind_probe(80, PROTOCOL_TCP, "127.0.0.2", &error) == PROBE_UNKNOWN);
    CHECK(bind_probe(80, PROTOCOL_UDP, NULL, &error) == PROBE_UNKNOWN);
    CHECK(error == EACCES);
    CHECK(bind_probe(2000, PROTOCOL_BOTH, NULL, &error) == PROBE_FREE);
    return 0;
}

static void test_privileged_port(void)
{
    AUTO_FD fd = -1;

    if (!private_network) {
        g_test_skip("needs a network namespace of its own (root)");
        return;
    }
    fd = open_bound(SOCK_STREAM, "127.0.0.1", 80, 0);
    g_assert_no_errno(listen(fd, 8));
    assert_probe(81, PROTOCOL_TCP, NULL, PROBE_FREE);
    test_in_child(as_nobody, NULL);
}

static int compare_times(const void *a, const void *b)
{
    const gint64 *x = a, *y = b;

    return *x < *y ? -1 : *x > *y;
}

/* Told, not judged: a busy machine must not fail a test. */
static void report_speed(const char *what, guint16 port, guint rounds)
{
    enum { BATCH = 10 };
    g_autofree gint64 *times = g_new(gint64, rounds);

    for (guint i = 0; i < rounds; i++) {
        gint64 begin = g_get_monotonic_time();

        for (guint j = 0; j < BATCH; j++)
            (void)bind_probe(port, PROTOCOL_TCP, NULL, NULL);
        times[i] = g_get_monotonic_time() - begin;
    }
    qsort(times, rounds, sizeof *times, compare_times);
    g_test_message("%s: p50 %.1f us a probe", what, (double)times[rounds / 2] / BATCH);
}

static void test_speed(void)
{
    AUTO_FD fd = open_bound(SOCK_STREAM, "::", 0, DUAL);
    guint16 port = port_of(fd);

    g_assert_no_errno(listen(fd, 8));
    report_speed("busy", port, 2001);
    fd = fd_close(fd);
    report_speed("free", port, 2001);
    report_speed("TIME_WAIT", make_time_wait(REUSE), 11);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    private_network = test_private_network();

    for (guint i = 0; i < G_N_ELEMENTS(occupants); i++) {
        g_autofree char *path = g_strconcat("/bind-probe/occupant/", occupants[i].name, NULL);

        g_test_add_data_func(path, &occupants[i], test_occupant);
    }
    g_test_add_func("/bind-probe/time-wait", test_time_wait);
    g_test_add_func("/bind-probe/time-wait-blocking", test_time_wait_blocking);
    g_test_add_func("/bind-probe/orphan", test_orphan);
    g_test_add_func("/bind-probe/leaves-nothing", test_leaves_nothing);
    g_test_add_func("/bind-probe/bind-socket", test_bind_socket);
    g_test_add_func("/bind-probe/unknown", test_unknown);
    g_test_add_func("/bind-probe/bindv6only", test_bindv6only);
    g_test_add_func("/bind-probe/without-ipv6", test_without_ipv6);
    g_test_add_func("/bind-probe/privileged-port", test_privileged_port);
    g_test_add_func("/bind-probe/speed", test_speed);
    g_test_add_func("/bind-probe/ipv6-disabled", test_ipv6_disabled); /* ::1 does not come back */
    return g_test_run();
}
