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
#include <string.h>
#include <sys/socket.h>

#include "probe/cgroup.h"
#include "probe/socket-parse.h"
#include "util/fd.h"

/*
 * One dump is up to four questions to the kernel, one for each family and protocol, asked one after
 * the other on one netlink socket.
 */

/* What netlink fills at most in one go (netlink_recvmsg() caps it at 32 KiB). */
#define PACKET_BYTES (32 * 1024)
#define RECEIVE_TIMEOUT_SEC 1
#define INTERRUPTIONS_MAX 4
/* Rows from which on a count of all ports is the quicker sort, and an index of them worth it. */
#define COUNTED_MIN 2000

/* Bound but inactive TCP sockets, since Linux 6.8; older kernels know no such state and skip it. */
#define STATE_BOUND_INACTIVE 13

/* UDP knows two states: with a peer and without. */
#define UDP_STATES ((1u << TCP_CLOSE) | (1u << TCP_ESTABLISHED))

static const guint32 tcp_states[] = {
    [SOCKET_DEPTH_LISTENING] = 1u << TCP_LISTEN,
    [SOCKET_DEPTH_BOUND] = (1u << TCP_LISTEN) | (1u << STATE_BOUND_INACTIVE),
    [SOCKET_DEPTH_USERS] = G_MAXUINT32,
};

typedef struct Question {
    guint8 family;
    Protocol protocol;
} Question;

struct SocketDump {
    int fd;
    PortRange range;
    SocketDepth depth;
    Question questions[4];
    guint n_questions;
    guint current;       /* index into questions */
    gboolean asked;      /* the current question has been sent */
    guint first_entry;   /* where its rows begin in entries */
    guint interruptions; /* of the current question */
    guint32 sequence;
    guint8 *packet; /* PACKET_BYTES */
    GArray *entries;
};

static void set_error(GError **error, int code, const char *doing)
{
    g_set_error(error, G_IO_ERROR, g_io_error_from_errno(code), "cannot %s the socket table: %s",
                doing, g_strerror(code));
}

SocketDump *socket_dump_free(SocketDump *dump)
{
    if (!dump)
        return NULL;
    (void)fd_close(dump->fd);
    g_free(dump->packet);
    if (dump->entries)
        g_array_unref(dump->entries);
    g_free(dump);
    return NULL;
}

SocketDump *socket_dump_new(PortRange range, Protocol protocol, SocketDepth depth, GError **error)
{
    g_autoptr(SocketDump) dump = g_new0(SocketDump, 1);
    const struct timeval timeout = {.tv_sec = RECEIVE_TIMEOUT_SEC};
    static const guint8 families[] = {AF_INET, AF_INET6};

    dump->fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_SOCK_DIAG);
    if (dump->fd < 0) {
        set_error(error, errno, "open");
        return NULL;
    }
    if (setsockopt(dump->fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof timeout) < 0) {
        set_error(error, errno, "set a timeout for");
        return NULL;
    }
    dump->range = range;
    dump->depth = depth;
    dump->packet = g_malloc(PACKET_BYTES);
    dump->entries = g_array_new(FALSE, FALSE, sizeof(SocketEntry));
    for (guint i = 0; i < G_N_ELEMENTS(families); i++) {
        if (protocol & PROTOCOL_TCP)
            dump->questions[dump->n_questions++] = (Question){families[i], PROTOCOL_TCP};
        if (protocol & PROTOCOL_UDP)
            dump->questions[dump->n_questions++] = (Question){families[i], PROTOCOL_UDP};
    }
    return g_steal_pointer(&dump);
}

/* Returns: 0 or an errno. */
static int ask(SocketDump *dump)
{
    const Question *question = &dump->questions[dump->current];
    const struct sockaddr_nl kernel = {.nl_family = AF_NETLINK};
    struct {
        struct nlmsghdr header;
        struct inet_diag_req_v2 request;
        struct rtattr attribute;
        struct inet_diag_bc_op filter[4];
    } message = {
        .header = {.nlmsg_type = SOCK_DIAG_BY_FAMILY,
                   .nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP,
                   .nlmsg_seq = ++dump->sequence},
        .request = {.sdiag_family = question->family,
                    .sdiag_protocol =
                        question->protocol == PROTOCOL_TCP ? IPPROTO_TCP : IPPROTO_UDP,
                    .idiag_states =
                        question->protocol == PROTOCOL_UDP ? UDP_STATES : tcp_states[dump->depth]},
    };
    gsize length = offsetof(__typeof__(message), attribute);

    if (dump->range.first == dump->range.last) /* quicker than the filter, where it is enough */
        message.request.id.idiag_sport = g_htons(dump->range.first);
    if (port_range_is_set(dump->range)) {
        /*
         * "port >= first and port <= last" for the kernel's little machine: each test is an
         * operation and its operand, four bytes each; @no is the way from the test to four bytes
         * past the end, which means "leave the socket out".
         */
        message.filter[0] = (struct inet_diag_bc_op){.code = INET_DIAG_BC_S_GE, .yes = 8, .no = 20};
        message.filter[1].no = dump->range.first;
        message.filter[2] = (struct inet_diag_bc_op){.code = INET_DIAG_BC_S_LE, .yes = 8, .no = 12};
        message.filter[3].no = dump->range.last;
        message.attribute.rta_type = INET_DIAG_REQ_BYTECODE;
        message.attribute.rta_len = RTA_LENGTH(sizeof message.filter);
        length = sizeof message;
    }
    message.header.nlmsg_len = (guint32)length;

    for (;;) {
        ssize_t sent =
            sendto(dump->fd, &message, length, 0, (const struct sockaddr *)&kernel, sizeof kernel);

        if (sent >= 0)
            return (gsize)sent == length ? 0 : EMSGSIZE;
        if (errno != EINTR)
            return errno;
    }
}

/* Returns: 0 or an errno. */
static int receive(SocketDump *dump, gsize *ret_length)
{
    for (;;) {
        struct sockaddr_nl sender = {0};
        struct iovec part = {.iov_base = dump->packet, .iov_len = PACKET_BYTES};
        struct msghdr message = {
            .msg_name = &sender, .msg_namelen = sizeof sender, .msg_iov = &part, .msg_iovlen = 1};
        ssize_t n = recvmsg(dump->fd, &message, 0);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return errno == EAGAIN ? ETIMEDOUT : errno;
        if (message.msg_flags & MSG_TRUNC)
            return EMSGSIZE;
        if (message.msg_namelen != sizeof sender || sender.nl_family != AF_NETLINK ||
            sender.nl_pid != 0)
            continue; /* any process may send to a netlink socket; only the kernel is port 0 */
        if (n == 0)
            return EBADMSG;
        *ret_length = (gsize)n;
        return 0;
    }
}

/* The kernel has filtered already; one that ignores the filter must not widen the answer. */
static void drop_foreign_rows(SocketDump *dump)
{
    guint kept = dump->first_entry;

    if (!port_range_is_set(dump->range))
        return;
    for (guint i = dump->first_entry; i < dump->entries->len; i++) {
        SocketEntry entry = g_array_index(dump->entries, SocketEntry, i);

        if (port_range_contains(dump->range, entry.port))
            g_array_index(dump->entries, SocketEntry, kept++) = entry;
    }
    g_array_set_size(dump->entries, kept);
}

/* Throws the rows of the current question away and asks it again. Returns: 0 or an errno. */
static int start_again(SocketDump *dump)
{
    if (++dump->interruptions > INTERRUPTIONS_MAX)
        return EAGAIN;
    g_array_set_size(dump->entries, dump->first_entry);
    dump->asked = FALSE;
    return 0;
}

/* Reads one packet. Returns: 0 or an errno. */
static int step(SocketDump *dump)
{
    const Question *question = &dump->questions[dump->current];
    gsize length = 0;
    int code = 0;

    if (!dump->asked) {
        code = ask(dump);
        if (code != 0)
            return code;
        dump->asked = TRUE;
    }
    code = receive(dump, &length);
    if (code == ENOBUFS) /* the kernel dropped something: what we have is not whole */
        return start_again(dump);
    if (code != 0)
        return code;

    switch (socket_table_parse(dump->packet, length, dump->sequence, question->protocol,
                               dump->entries, &code)) {
    case SOCKET_PARSE_MORE:
        return 0;
    case SOCKET_PARSE_INTERRUPTED:
        return start_again(dump);
    case SOCKET_PARSE_FAILED:
        /* Without IPv6 in the kernel there is no such handler, and there are no such sockets. */
        if (code != ENOENT || question->family != AF_INET6)
            return code;
        break;
    case SOCKET_PARSE_DONE:
        break;
    }
    drop_foreign_rows(dump);
    dump->current++;
    dump->asked = FALSE;
    dump->interruptions = 0;
    dump->first_entry = dump->entries->len;
    return 0;
}

SocketDumpStatus socket_dump_step(SocketDump *dump, gint64 until_usec, GError **error)
{
    do {
        int code;

        if (dump->current >= dump->n_questions)
            return SOCKET_DUMP_DONE;
        code = step(dump);
        if (code != 0) {
            set_error(error, code, "read");
            return SOCKET_DUMP_FAILED;
        }
    } while (g_get_monotonic_time() < until_usec);
    return dump->current < dump->n_questions ? SOCKET_DUMP_MORE : SOCKET_DUMP_DONE;
}

/* TCP before UDP, and by usefulness as an answer to "who is there". */
static guint rank(const SocketEntry *entry)
{
    return (entry->protocol == PROTOCOL_UDP ? 4u : 0u) + (guint)entry->state;
}

static int compare(gconstpointer a, gconstpointer b)
{
    const SocketEntry *x = a, *y = b;

    if (x->port != y->port)
        return x->port < y->port ? -1 : 1;
    if (rank(x) != rank(y))
        return rank(x) < rank(y) ? -1 : 1;
    return x->inode < y->inode ? -1 : x->inode > y->inode;
}

/*
 * A counting sort by port, then a sort of the few rows of one port: ten thousand rows take a fifth
 * of what a comparing sort needs. A few rows are compared: for them the count of every port there
 * is would be the dearest part, and a table of one port is asked for while a caller waits.
 */
static GArray *sort(GArray *entries)
{
    GArray *result = NULL;
    g_autofree guint32 *next = NULL;
    SocketEntry *rows = NULL;
    guint length = entries->len;

    if (length < COUNTED_MIN) {
        if (length > 1)
            qsort(entries->data, length, sizeof *rows, compare);
        return g_array_ref(entries);
    }
    result = g_array_sized_new(FALSE, FALSE, sizeof(SocketEntry), length);
    next = g_new0(guint32, 65536 + 1);
    g_array_set_size(result, length);
    rows = (SocketEntry *)(void *)result->data;
    for (guint i = 0; i < length; i++)
        next[g_array_index(entries, SocketEntry, i).port + 1]++;
    for (guint port = 0; port < 65536; port++)
        next[port + 1] += next[port];
    for (guint i = 0; i < length; i++) {
        const SocketEntry *entry = &g_array_index(entries, SocketEntry, i);

        rows[next[entry->port]++] = *entry;
    }
    for (guint i = 0, end; i < length; i = end) {
        for (end = i + 1; end < length && rows[end].port == rows[i].port;)
            end++;
        if (end - i > 1)
            qsort(rows + i, end - i, sizeof *rows, compare);
    }
    return result;
}

SocketTable *socket_dump_finish(SocketDump *dump)
{
    SocketTable *table = g_new0(SocketTable, 1);
    SocketEntry *rows = NULL;
    guint length, kept = 0;

    g_assert(dump->current == dump->n_questions);
    table->entries = sort(dump->entries);
    rows = (SocketEntry *)(void *)table->entries->data;
    length = table->entries->len;
    /* A socket that moved in its chain while the dump went by can be told twice. */
    for (guint i = 0; i < length; i++) {
        const SocketEntry *last = kept > 0 ? &rows[kept - 1] : NULL;

        if (last && rows[i].inode != 0 && last->inode == rows[i].inode &&
            last->port == rows[i].port && rank(last) == rank(&rows[i]))
            continue;
        if (kept != i)
            rows[kept] = rows[i];
        kept++;
    }
    g_array_set_size(table->entries, kept);
    if (kept >= COUNTED_MIN) {
        table->first = g_new0(guint32, 65536);
        for (guint i = kept; i > 0; i--)
            table->first[rows[i - 1].port] = i;
    }
    (void)socket_dump_free(dump);
    return table;
}

SocketTable *socket_table_dump_deep(PortRange range, Protocol protocol, SocketDepth depth,
                                    GError **error)
{
    g_autoptr(SocketDump) dump = socket_dump_new(range, protocol, depth, error);

    if (!dump || socket_dump_step(dump, G_MAXINT64, error) != SOCKET_DUMP_DONE)
        return NULL;
    return socket_dump_finish(g_steal_pointer(&dump));
}

gboolean socket_table_holder(guint16 port, Protocol protocol, const char *address,
                             gboolean *ret_found, SocketEntry *ret_entry, GError **error)
{
    for (guint depth = SOCKET_DEPTH_LISTENING; depth <= SOCKET_DEPTH_USERS; depth++) {
        g_autoptr(SocketTable) table =
            socket_table_dump_deep((PortRange){port, port}, protocol, depth, error);

        if (!table)
            return FALSE;
        for (guint i = 0; i < table->entries->len; i++) {
            const SocketEntry *entry = &g_array_index(table->entries, SocketEntry, i);

            if (entry->state == SOCKET_LINGERING || !socket_entry_covers(entry, address))
                continue;
            *ret_entry = *entry;
            *ret_found = TRUE;
            return TRUE;
        }
        if (!(protocol & PROTOCOL_TCP))
            break;
    }
    *ret_found = FALSE;
    return TRUE;
}

SocketTable *socket_table_ref(SocketTable *table)
{
    table->references++;
    return table;
}

SocketTable *socket_table_free(SocketTable *table)
{
    if (!table)
        return NULL;
    if (table->references > 0) {
        table->references--;
        return NULL;
    }
    g_array_unref(table->entries);
    g_free(table->first);
    g_free(table);
    return NULL;
}

guint socket_table_from(const SocketTable *table, guint16 port)
{
    guint low = 0, high = table->entries->len;

    while (low < high) {
        guint middle = low + (high - low) / 2;

        if (g_array_index(table->entries, SocketEntry, middle).port < port)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

const SocketEntry *socket_table_find(const SocketTable *table, guint16 port, Protocol protocol)
{
    guint low;

    if (table->first && table->first[port] == 0)
        return NULL;
    low = table->first ? table->first[port] - 1 : socket_table_from(table, port);
    for (; low < table->entries->len; low++) {
        const SocketEntry *entry = &g_array_index(table->entries, SocketEntry, low);

        if (entry->port != port)
            break;
        if (entry->protocol & protocol)
            return entry;
    }
    return NULL;
}

char *socket_entry_address(const SocketEntry *entry)
{
    char text[INET6_ADDRSTRLEN];

    if (!inet_ntop(entry->v6 ? AF_INET6 : AF_INET, entry->address, text, sizeof text))
        return g_strdup("?");
    return g_strdup(text);
}

gboolean socket_entry_covers(const SocketEntry *entry, const char *address)
{
    static const guint8 zero[16];
    static const guint8 mapped_prefix[12] = {[10] = 0xff, [11] = 0xff};
    guint8 own[16], asked[16];
    gboolean own_v4, asked_v4;
    g_autofree char *plain = NULL;

    if (!address)
        return TRUE;
    plain = g_strndup(address, strcspn(address, "%"));
    memcpy(asked, mapped_prefix, sizeof mapped_prefix);
    if (inet_pton(AF_INET, plain, asked + 12) != 1 && inet_pton(AF_INET6, plain, asked) != 1)
        return TRUE;
    memcpy(own, mapped_prefix, sizeof mapped_prefix);
    memcpy(entry->v6 ? own : own + 12, entry->address, entry->v6 ? 16 : 4);

    own_v4 = memcmp(own, mapped_prefix, 12) == 0;
    asked_v4 = memcmp(asked, mapped_prefix, 12) == 0;
    if (memcmp(own, zero, 16) == 0)
        return !(asked_v4 && entry->v6only);
    if (memcmp(asked, zero, 16) == 0) /* "::" is asked for as a dual stack, as servers bind it */
        return TRUE;
    if (own_v4 != asked_v4)
        return FALSE;
    return memcmp(own, asked, 16) == 0 || (own_v4 && memcmp(own + 12, zero, 4) == 0) ||
           (asked_v4 && memcmp(asked + 12, zero, 4) == 0);
}

char *socket_entry_unit(const SocketEntry *entry, uid_t *ret_user)
{
    return cgroup_unit_of_id(entry->cgroup_id, ret_user);
}
