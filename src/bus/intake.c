/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "bus/intake.h"

#include <errno.h>
#include <gio/gio.h>
#include <gio/gunixfdlist.h>
#include <string.h>
#include <sys/socket.h>

#include "util/fd.h"

/* Bytes read at a time: some dozen calls. */
#define CHUNK_BYTES 16384

/* D-Bus specification, "Message Format": the fixed part of a header. No message is shorter than
 * this with one field, and sd-bus reads that much before it looks at the length. */
#define HEADER_BYTES 16
#define SHORTEST_BYTES (HEADER_BYTES + 8)

/* A message with descriptors is read and written anew, and what it could be made of takes a hundred
 * times as long as passing it on. No call of ours that carries one is nearly as long. */
#define FD_MESSAGE_BYTES_MAX 8192
#define LAST_KNOWN_FIELD G_DBUS_MESSAGE_HEADER_FIELD_NUM_UNIX_FDS

struct Intake {
    int client_fd; /* borrowed */
    int write_fd;  /* owned: the other end is sd-bus's */
    sd_bus *bus;   /* borrowed */
    char *uid_hex; /* owned: as the handshake spells the uid */
    size_t max;
    GByteArray *in;          /* owned: what came and was not handed on yet */
    guint peak;              /* the longest that it was */
    size_t vetted;           /* bytes at its beginning that may be handed on */
    int fds[INTAKE_FDS_MAX]; /* owned: of the messages that are coming in, in their order */
    guint n_fds;
    guint n_vetted_fds; /* of those: they go with the first byte of what is vetted */
    gboolean begun;     /* the first byte of the handshake, a NUL, was seen */
};

static void drop_fds(Intake *intake, guint n)
{
    for (guint i = 0; i < n; i++)
        (void)fd_close(intake->fds[i]);
    intake->n_fds -= n;
    memmove(intake->fds, intake->fds + n, intake->n_fds * sizeof(int));
}

/* ---- from the client ---- */

static int keep_fds(Intake *intake, struct msghdr *message)
{
    gboolean too_many = (message->msg_flags & MSG_CTRUNC) != 0;

    for (struct cmsghdr *c = CMSG_FIRSTHDR(message); c; c = CMSG_NXTHDR(message, c)) {
        size_t n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        int fds[INTAKE_FDS_MAX + 1];

        if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
            continue;
        memcpy(fds, CMSG_DATA(c), n * sizeof(int)); /* as many as the buffer had room for */
        for (size_t i = 0; i < n; i++) {
            if (intake->n_fds < INTAKE_FDS_MAX) {
                intake->fds[intake->n_fds++] = fds[i];
            } else {
                too_many = TRUE;
                (void)fd_close(fds[i]);
            }
        }
    }
    return too_many ? -EMSGSIZE : 0;
}

/* Returns: how many bytes came, 0 = none at the moment; *@ret_more: whether there may be more. */
static ssize_t receive(Intake *intake, gboolean *ret_more)
{
    union {
        struct cmsghdr header;
        char space[CMSG_SPACE(sizeof(int) * INTAKE_FDS_MAX)];
    } control;
    guint8 chunk[CHUNK_BYTES];
    struct iovec part = {.iov_base = chunk, .iov_len = sizeof(chunk)};
    struct msghdr message = {.msg_iov = &part,
                             .msg_iovlen = 1,
                             .msg_control = &control,
                             .msg_controllen = sizeof(control)};
    ssize_t n = recvmsg(intake->client_fd, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    int r;

    if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
        *ret_more = errno == EINTR;
        return 0;
    }
    if (n < 0)
        return -errno;
    r = keep_fds(intake, &message);
    if (r == 0 && n == 0)
        r = -ECONNRESET;
    g_byte_array_append(intake->in, chunk, (guint)n);
    intake->peak = MAX(intake->peak, intake->in->len);
    *ret_more = n == sizeof(chunk) || message.msg_controllen > 0; /* it stops behind descriptors */
    return r < 0 ? r : n;
}

/* ---- the handshake ---- */

/* Whether @rest of a line, behind its command, is what a client of this uid may say. */
static gboolean claims_itself(const Intake *intake, const char *rest)
{
    return rest[0] == '\0' || (rest[0] == ' ' && strcmp(rest + 1, intake->uid_hex) == 0);
}

/*
 * Returns: what sd-bus is to get in place of @line. It was told to take everybody, since its socket
 * tells it nothing of the client; so who claims to be somebody else is turned away here.
 */
static const char *review(const Intake *intake, const char *line)
{
    if (g_str_has_prefix(line, "AUTH EXTERNAL"))
        return claims_itself(intake, line + strlen("AUTH EXTERNAL")) ? line : "AUTH";
    if (g_str_has_prefix(line, "AUTH"))
        return "AUTH";
    if (g_str_has_prefix(line, "DATA"))
        return claims_itself(intake, line + strlen("DATA")) ? line : "CANCEL";
    return line;
}

/* Returns: whether a line is vetted, or a negative errno. */
static int vet_line(Intake *intake)
{
    g_autofree char *line = NULL;
    const char *wanted = NULL;
    const guint8 *end = NULL;
    guint skip = intake->begun ? 0 : 1;
    size_t length;

    if (intake->in->len == 0)
        return 0;
    if (!intake->begun && intake->in->data[0] != '\0')
        return -EBADMSG;
    end = memmem(intake->in->data, intake->in->len, "\r\n", 2);
    if (!end)
        return intake->in->len > INTAKE_LINE_MAX ? -EMSGSIZE : 0;
    length = (size_t)(end - intake->in->data);
    if (length > INTAKE_LINE_MAX)
        return -EMSGSIZE;
    line = g_strndup((const char *)intake->in->data + skip, length - skip);
    if (strlen(line) != length - skip)
        return -EBADMSG;
    wanted = review(intake, line);
    if (wanted != line) {
        g_autoptr(GString) text = g_string_new_len("", skip);

        g_string_append(text, wanted);
        g_byte_array_remove_range(intake->in, 0, (guint)length);
        g_byte_array_prepend(intake->in, (const guint8 *)text->str, (guint)text->len);
        length = text->len;
    }
    intake->begun = TRUE;
    intake->vetted = length + 2;
    return 1;
}

/* ---- messages ---- */

static guint32 number_at(const guint8 *bytes, gboolean little_endian)
{
    guint32 value;

    memcpy(&value, bytes, sizeof(value));
    return little_endian ? GUINT32_FROM_LE(value) : GUINT32_FROM_BE(value);
}

/* Returns: the bytes of the message that begins at @bytes, 0 = too few to tell, or an errno. */
static gssize message_size(const Intake *intake, const guint8 *bytes, size_t available)
{
    guint64 size;

    if (available < HEADER_BYTES)
        return 0;
    if (bytes[0] != 'l' && bytes[0] != 'B')
        return -EBADMSG;
    size = HEADER_BYTES + (((guint64)number_at(bytes + 12, bytes[0] == 'l') + 7) & ~(guint64)7) +
           number_at(bytes + 4, bytes[0] == 'l');
    if (size < SHORTEST_BYTES)
        return -EBADMSG;
    return size > intake->max ? -EMSGSIZE : (gssize)size;
}

static gboolean is_well_formed_call(GDBusMessage *message)
{
    const char *destination = g_dbus_message_get_destination(message);
    const char *interface = g_dbus_message_get_interface(message);
    const char *member = g_dbus_message_get_member(message);

    return g_dbus_message_get_message_type(message) == G_DBUS_MESSAGE_TYPE_METHOD_CALL &&
           g_dbus_message_get_serial(message) != 0 && g_dbus_message_get_path(message) &&
           (!destination || g_dbus_is_name(destination)) &&
           (!interface || g_dbus_is_interface_name(interface)) && member &&
           g_dbus_is_member_name(member);
}

/* Leaves no field of the header that a call has no use for. */
static void strip(GDBusMessage *message)
{
    g_autofree guchar *fields = g_dbus_message_get_header_fields(message);

    for (const guchar *field = fields; *field; field++)
        if (*field > LAST_KNOWN_FIELD || *field == G_DBUS_MESSAGE_HEADER_FIELD_SENDER ||
            *field == G_DBUS_MESSAGE_HEADER_FIELD_ERROR_NAME ||
            *field == G_DBUS_MESSAGE_HEADER_FIELD_REPLY_SERIAL)
            g_dbus_message_set_header(message, *field, NULL);
}

/* Writes @message down, which says that it has the first @n_fds descriptors. (transfer full) */
static guchar *write_anew(Intake *intake, GDBusMessage *message, guint n_fds, gsize *ret_size)
{
    g_autoptr(GUnixFDList) list = g_unix_fd_list_new_from_array(intake->fds, (gint)n_fds);
    g_autofree gint *fds = NULL;
    guchar *blob = NULL;

    if (n_fds > 0) /* it compares the numbers */
        g_dbus_message_set_unix_fd_list(message, list);
    blob = g_dbus_message_to_blob(message, ret_size, G_DBUS_CAPABILITY_FLAGS_UNIX_FD_PASSING, NULL);
    fds = g_unix_fd_list_steal_fds(list, NULL); /* they are ours on */
    return blob;
}

/*
 * The first message, of @size bytes, with descriptors waiting: takes those that it says are its
 * own, and writes it anew. Returns: 1, or a negative errno.
 */
static int vet_with_fds(Intake *intake, size_t size)
{
    g_autoptr(GDBusMessage) message = g_dbus_message_new_from_blob(
        intake->in->data, size, G_DBUS_CAPABILITY_FLAGS_UNIX_FD_PASSING, NULL);
    g_autofree guchar *blob = NULL;
    gsize blob_size = 0;
    guint n_fds;

    if (!message || !is_well_formed_call(message))
        return -EBADMSG;
    n_fds = g_dbus_message_get_num_unix_fds(message);
    if (n_fds > intake->n_fds)
        return -EBADMSG;
    strip(message);
    blob = write_anew(intake, message, n_fds, &blob_size);
    if (!blob)
        return -EBADMSG;
    g_byte_array_remove_range(intake->in, 0, (guint)size);
    g_byte_array_prepend(intake->in, blob, (guint)blob_size);
    intake->vetted = blob_size;
    intake->n_vetted_fds = n_fds;
    return 1;
}

/*
 * How many descriptors the message at @bytes says are its own. D-Bus specification, "Message
 * Format": fields of a code and a variant each, at multiples of 8; those that there are hold a
 * number or text. Returns: that, or -EBADMSG.
 */
static gint64 declared_fds(const guint8 *bytes)
{
    gboolean little_endian = bytes[0] == 'l';
    size_t at = HEADER_BYTES, end = at + number_at(bytes + 12, little_endian);

    for (; at < end; at = (at + 7) & ~(size_t)7) {
        const guint8 *field = bytes + at;
        size_t left = end - at;

        if (left < 5 || field[1] != 1 || field[3] != '\0')
            return -EBADMSG;
        if (field[2] == 'g') {
            at += 4 + 1 + (size_t)field[4] +
                  1; /* where that is beyond the end, sd-bus refuses the message */
            continue;
        }
        if (left < 8 || !memchr("uso", field[2], 3))
            return -EBADMSG;
        if (field[0] == G_DBUS_MESSAGE_HEADER_FIELD_NUM_UNIX_FDS)
            return field[2] == 'u' ? (gint64)number_at(field + 4, little_endian) : -EBADMSG;
        at += 8;
        if (field[2] == 'u')
            continue;
        if (number_at(field + 4, little_endian) >= left - 8)
            return -EBADMSG;
        at += number_at(field + 4, little_endian) + 1;
    }
    return 0;
}

/* The same for one that is too long for that: it must not have any. They are a later one's. */
static int vet_long(Intake *intake, size_t size)
{
    gint64 n_fds = declared_fds(intake->in->data);

    if (n_fds != 0)
        return n_fds < 0 ? (int)n_fds : -EMSGSIZE;
    intake->vetted = size;
    return 1;
}

/* Returns: whether a message or more are vetted, or a negative errno. */
static int vet_messages(Intake *intake)
{
    size_t end = 0;
    gssize size;

    while ((size = message_size(intake, intake->in->data + end, intake->in->len - end)) > 0) {
        if ((size_t)size > intake->in->len - end)
            break;
        if (intake->n_fds > 0)
            return size > FD_MESSAGE_BYTES_MAX ? vet_long(intake, (size_t)size)
                                               : vet_with_fds(intake, (size_t)size);
        end += (size_t)size;
    }
    if (size < 0 && end == 0) /* what came before it is served */
        return (int)size;
    intake->vetted = end;
    return end > 0;
}

/* ---- to sd-bus ---- */

static int hand_on(Intake *intake)
{
    union {
        struct cmsghdr header;
        char space[CMSG_SPACE(sizeof(int) * INTAKE_FDS_MAX)];
    } control = {0};
    size_t fds_bytes = sizeof(int) * intake->n_vetted_fds;
    struct iovec part = {.iov_base = intake->in->data, .iov_len = intake->vetted};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
    ssize_t n;

    if (fds_bytes > 0) {
        message.msg_control = &control;
        message.msg_controllen = CMSG_SPACE(fds_bytes);
        control.header.cmsg_level = SOL_SOCKET;
        control.header.cmsg_type = SCM_RIGHTS;
        control.header.cmsg_len = CMSG_LEN(fds_bytes);
        memcpy(CMSG_DATA(&control.header), intake->fds, fds_bytes);
    }
    n = sendmsg(intake->write_fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (n < 0)
        return errno == EAGAIN ? 0 : -errno; /* EAGAIN: it will have been read when we come again */
    drop_fds(intake, intake->n_vetted_fds);
    intake->n_vetted_fds = 0;
    intake->vetted -= (size_t)n;
    g_byte_array_remove_range(intake->in, 0, (guint)n);
    if (intake->in->len > 0)
        return 1;
    if (intake->peak > CHUNK_BYTES) { /* a silent connection keeps no large buffer */
        g_byte_array_unref(intake->in);
        intake->in = g_byte_array_new();
        intake->peak = 0;
    }
    /* Descriptors come with the first byte of their message: these are nobody's. */
    return intake->n_fds > 0 ? -EBADMSG : 1;
}

int intake_pump(Intake *intake, gboolean *ret_more)
{
    gboolean more = TRUE;
    int r = 0;

    *ret_more = FALSE;
    if (intake->vetted == 0) {
        int (*vet)(Intake *) = sd_bus_is_ready(intake->bus) > 0 ? vet_messages : vet_line;

        r = intake->in->len > 0 ? vet(intake) : 0;
        if (r == 0) {
            ssize_t n = receive(intake, &more);

            if (n <= 0) {
                *ret_more = n == 0 && more;
                return (int)n;
            }
            r = vet(intake);
        }
        if (r < 0)
            return r;
    }
    if (intake->vetted > 0)
        r = hand_on(intake);
    *ret_more = more || intake->in->len > 0;
    return r;
}

/* ---- life ---- */

static char *uid_in_hex(uid_t uid)
{
    g_autofree char *decimal = g_strdup_printf("%u", uid);
    GString *hex = g_string_new(NULL);

    for (const char *digit = decimal; *digit; digit++)
        g_string_append_printf(hex, "%02x", (guint)*digit);
    return g_string_free(hex, FALSE);
}

Intake *intake_new(int client_fd, sd_bus *bus, uid_t uid, size_t message_bytes_max,
                   int *ret_read_fd)
{
    Intake *intake = NULL;
    int pair[2];

    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) < 0)
        return NULL;
    intake = g_new0(Intake, 1);
    intake->client_fd = client_fd;
    intake->write_fd = pair[1];
    intake->bus = bus;
    intake->uid_hex = uid_in_hex(uid);
    intake->max = message_bytes_max;
    intake->in = g_byte_array_new();
    *ret_read_fd = pair[0];
    return intake;
}

Intake *intake_free(Intake *intake)
{
    if (!intake)
        return NULL;
    drop_fds(intake, intake->n_fds);
    (void)fd_close(intake->write_fd);
    g_byte_array_unref(intake->in);
    g_free(intake->uid_hex);
    g_free(intake);
    return NULL;
}
