/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* What no client would send to the direct socket, and clients that do not read. None of it may
 * matter to anybody else, so nothing but that is looked at. */
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "fuzz-bus.h"

#define OPEN_MAX_CONNECTIONS 24

struct Garbage {
    Fuzz *fuzz;
    int fds[OPEN_MAX_CONNECTIONS]; /* owned, -1 = none: left open for a while */
    sd_bus *deaf;                  /* owned: has subscribed and does not read */
};

static int connect_raw(const Fuzz *fuzz)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    (void)g_strlcpy(address.sun_path, fuzz->world->direct + strlen("unix:path="),
                    sizeof address.sun_path);
    fuzz_become(fuzz_one_in(fuzz, 2) ? OTHER_UID : 0);
    (void)connect(fd, (const struct sockaddr *)&address, sizeof address);
    fuzz_become(0);
    return fd;
}

/* ---- a message by hand ---- */

static void put_u32(GByteArray *out, gboolean big, guint32 value)
{
    guint32 bytes = big ? GUINT32_TO_BE(value) : GUINT32_TO_LE(value);

    g_byte_array_append(out, (const guint8 *)&bytes, sizeof bytes);
}

static void pad(GByteArray *out, guint to)
{
    static const guint8 zeros[8];

    g_byte_array_append(out, zeros, (to - out->len % to) % to);
}

static void put_text(GByteArray *out, gboolean big, guint8 field, char type, const char *text)
{
    guint8 head[] = {field, 1, (guint8)type, 0};
    size_t length = strlen(text);

    pad(out, 8);
    g_byte_array_append(out, head, sizeof head);
    if (type == 'g') {
        guint8 short_length = (guint8)length;

        g_byte_array_append(out, &short_length, 1);
    } else {
        put_u32(out, big, (guint32)length);
    }
    g_byte_array_append(out, (const guint8 *)text, (guint)length + 1);
}

GByteArray *garbage_ping(gboolean big, guint32 fds)
{
    GByteArray *out = g_byte_array_new();
    guint8 head[] = {big ? 'B' : 'l', 1, 0, 1};
    guint32 length;

    g_byte_array_append(out, head, sizeof head);
    put_u32(out, big, 0);
    put_u32(out, big, 7);
    put_u32(out, big, 0);
    put_text(out, big, 1, 'o', "/org/styxy/Ports");
    put_text(out, big, 2, 's', "org.freedesktop.DBus.Peer");
    put_text(out, big, 3, 's', "Ping");
    if (fds > 0) {
        guint8 field[] = {9, 1, 'u', 0};

        pad(out, 8);
        g_byte_array_append(out, field, sizeof field);
        put_u32(out, big, fds);
    }
    length = big ? GUINT32_TO_BE(out->len - 16) : GUINT32_TO_LE(out->len - 16);
    memcpy(out->data + 12, &length, sizeof length);
    pad(out, 8);
    return out;
}

static void send_bytes(int fd, const void *data, size_t length)
{
    (void)send(fd, data, length, MSG_NOSIGNAL | MSG_DONTWAIT);
}

static void send_with_fd(int fd, const GByteArray *message)
{
    char control[CMSG_SPACE(sizeof(int))] = {0};
    struct iovec part = {message->data, message->len};
    struct msghdr header = {.msg_iov = &part,
                            .msg_iovlen = 1,
                            .msg_control = control,
                            .msg_controllen = sizeof control};
    struct cmsghdr *c = CMSG_FIRSTHDR(&header);

    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = SCM_RIGHTS;
    c->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(c), &fd, sizeof fd);
    (void)sendmsg(fd, &header, MSG_NOSIGNAL | MSG_DONTWAIT);
}

static void send_random(const Fuzz *fuzz, int fd)
{
    guint8 block[2048];
    guint n = 1 + fuzz_dice(fuzz, sizeof block);

    for (guint i = 0; i < n; i++)
        block[i] = (guint8)g_rand_int(fuzz->dice);
    send_bytes(fd, block, n);
}

static void send_broken_sasl(const Fuzz *fuzz, int fd)
{
    static const char *const lines[] = {"AUTH\r\n",
                                        "AUTH EXTERNAL zz\r\n",
                                        "AUTH ANONYMOUS\r\n",
                                        "BEGIN\r\n",
                                        "CANCEL\r\n",
                                        "AUTH DBUS_COOKIE_SHA1 30\r\n",
                                        "DATA 30\r\n",
                                        "NEGOTIATE_UNIX_FD\r\n",
                                        "ERROR\r\n",
                                        "\r\n",
                                        "AUTH EXTERNAL 30\r\n",
                                        "\n\n\n\n",
                                        "REJECTED EXTERNAL\r\n"};

    if (!fuzz_one_in(fuzz, 5))
        send_bytes(fd, "\0", 1);
    for (guint i = 0; i < 1 + fuzz_dice(fuzz, 40); i++) {
        const char *line = lines[fuzz_dice(fuzz, G_N_ELEMENTS(lines))];

        send_bytes(fd, line, strlen(line));
    }
}

/* A good handshake, then a message that is not. */
static void send_bad_message(const Fuzz *fuzz, int fd)
{
    gboolean big = fuzz_one_in(fuzz, 2);
    guint what = fuzz_dice(fuzz, 8);
    g_autoptr(GByteArray) message = garbage_ping(big, what == 1 ? 3 : what == 2 ? 1 : 0);

    send_bytes(fd, SASL, sizeof SASL - 1);
    switch (what) {
    case 0: /* cut short */
        send_bytes(fd, message->data, fuzz_dice(fuzz, message->len));
        return;
    case 3: /* with a descriptor that its header knows nothing of */
        send_with_fd(fd, message);
        return;
    case 4: /* longer than any message may be */
        memset(message->data + 4 + 8 * fuzz_dice(fuzz, 2), 0xff, 4);
        break;
    case 5: /* one bit, or some */
    case 6:
        for (guint i = 0; i < 1 + fuzz_dice(fuzz, 4); i++)
            message->data[fuzz_dice(fuzz, message->len)] ^= (guint8)(1 << fuzz_dice(fuzz, 8));
        break;
    default:
        break;
    }
    send_bytes(fd, message->data, message->len);
    if (what == 7)
        send_random(fuzz, fd);
}

/* ---- one that does not read ---- */

static void start_deaf(Garbage *garbage)
{
    const Fuzz *fuzz = garbage->fuzz;

    garbage->deaf = world_connect(fuzz->world, TRANSPORT_DIRECT);
    if (!garbage->deaf || sd_bus_call_method(garbage->deaf, "org.styxy.Ports", "/org/styxy/Ports",
                                             "org.styxy.Ports", "Subscribe", NULL, NULL, "") < 0)
        fuzz_fail(fuzz, "nobody can subscribe");
}

static void step_deaf(Garbage *garbage)
{
    int r = 0;

    if (!garbage->deaf) {
        start_deaf(garbage);
        return;
    }
    for (guint i = 0; i < 50 && r >= 0; i++)
        r = sd_bus_call_method_async(garbage->deaf, NULL, "org.styxy.Ports", "/org/styxy/Ports",
                                     "org.styxy.Ports", "GetMetrics", NULL, NULL, "");
    if (r < 0 || fuzz_one_in(garbage->fuzz, 8)) {
        sd_bus_close(garbage->deaf);
        garbage->deaf = sd_bus_unref(garbage->deaf);
    }
}

void garbage_step(Garbage *garbage)
{
    const Fuzz *fuzz = garbage->fuzz;
    int *place = &garbage->fds[fuzz_dice(fuzz, OPEN_MAX_CONNECTIONS)];

    garbage->fuzz->counts.garbage++;
    if (fuzz_one_in(fuzz, 8)) {
        step_deaf(garbage);
        return;
    }
    if (*place >= 0)
        (void)close(*place);
    *place = connect_raw(fuzz);
    switch (fuzz_dice(fuzz, 5)) {
    case 0:
        send_random(fuzz, *place);
        break;
    case 1:
        send_broken_sasl(fuzz, *place);
        break;
    case 2: /* nothing: until it is shown the door */
        break;
    default:
        send_bad_message(fuzz, *place);
    }
}

Garbage *garbage_new(Fuzz *fuzz)
{
    Garbage *garbage = g_new0(Garbage, 1);

    garbage->fuzz = fuzz;
    for (guint i = 0; i < OPEN_MAX_CONNECTIONS; i++)
        garbage->fds[i] = -1;
    return garbage;
}

void garbage_free(Garbage *garbage)
{
    for (guint i = 0; i < OPEN_MAX_CONNECTIONS; i++)
        if (garbage->fds[i] >= 0)
            (void)close(garbage->fds[i]);
    if (garbage->deaf)
        sd_bus_close(garbage->deaf);
    sd_bus_unref(garbage->deaf);
    g_free(garbage);
}
