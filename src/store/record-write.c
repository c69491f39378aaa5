/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Writing records. This is in the way of every grant, so the text is put together by hand in a
 * string that the caller uses again and again.
 */
#include "store/record.h"

#include <string.h>

#include "store/crc32c.h"

#define APPEND(out, literal) g_string_append_len((out), "" literal, sizeof(literal) - 1)

void record_append_uint(GString *out, guint64 value)
{
    char digits[20];
    size_t i = sizeof(digits);

    do {
        digits[--i] = (char)('0' + value % 10);
        value /= 10;
    } while (value > 0);
    g_string_append_len(out, digits + i, (gssize)(sizeof(digits) - i));
}

static void put_hex(char digits[8], guint32 value)
{
    for (guint i = 0; i < 8; i++)
        digits[i] = "0123456789abcdef"[(value >> (28 - 4 * i)) & 0xf];
}

void record_append_string(GString *out, const char *text)
{
    const char *p = text;

    g_string_append_c(out, '"');
    while (*p) {
        const char *plain = p;
        gunichar c;

        while (*p >= 0x20 && *p < 0x7f && *p != '"' && *p != '\\')
            p++;
        g_string_append_len(out, plain, p - plain);
        if (!*p)
            break;
        if (*p == '"' || *p == '\\') {
            g_string_append_c(out, '\\');
            g_string_append_c(out, *p++);
            continue;
        }
        c = g_utf8_get_char_validated(p, -1);
        if (c == (gunichar)-1 || c == (gunichar)-2) {
            /* names of cgroups, and so of units, may be any bytes */
            APPEND(out, "\\ufffd");
            p++;
        } else if (c < 0x20 || c == 0x7f) {
            g_string_append_printf(out, "\\u%04x", c);
            p++;
        } else {
            const char *next = g_utf8_next_char(p);

            g_string_append_len(out, p, next - p);
            p = next;
        }
    }
    g_string_append_c(out, '"');
}

/* The checksum's place is left open and filled in by end(). */
static size_t begin(GString *out)
{
    size_t start = out->len;

    APPEND(out, RECORD_MARKER "00000000\",");
    return start;
}

static void end(GString *out, size_t start)
{
    guint32 crc;

    g_string_append_c(out, '}');
    crc =
        crc32c(0, out->str + start + RECORD_PREFIX_LENGTH, out->len - start - RECORD_PREFIX_LENGTH);
    put_hex(out->str + start + RECORD_MARKER_LENGTH, crc);
}

#define APPEND_STRING(out, key, value)        \
    do {                                      \
        if (value) {                          \
            APPEND(out, ",\"" key "\":");     \
            record_append_string(out, value); \
        }                                     \
    } while (0)

/* The names of enums need no escapes. */
#define APPEND_NAME(out, key, value)    \
    do {                                \
        APPEND(out, ",\"" key "\":\""); \
        g_string_append(out, value);    \
        g_string_append_c(out, '"');    \
    } while (0)

#define APPEND_UINT(out, key, value)    \
    do {                                \
        APPEND(out, ",\"" key "\":");   \
        record_append_uint(out, value); \
    } while (0)

/* 0 and what JSON integers cannot say both mean "not known". */
#define APPEND_KNOWN(out, key, value)                      \
    do {                                                   \
        if ((value) > 0 && (guint64)(value) <= G_MAXINT64) \
            APPEND_UINT(out, key, (guint64)(value));       \
    } while (0)

static void append_lease(GString *out, const Lease *lease)
{
    APPEND(out, "\"lease\":\"");
    g_string_append_len(out, lease->id.text, ID_LENGTH);
    g_string_append_c(out, '"');
    APPEND_UINT(out, "port", lease->port);
    APPEND_NAME(out, "protocol", protocol_to_string(lease->protocol));
    APPEND_STRING(out, "address", lease->address);
    APPEND_STRING(out, "service_type", lease->service_type);
    APPEND_STRING(out, "instance", lease->instance);
    APPEND_STRING(out, "label", lease->label);
    APPEND_UINT(out, "uid", lease->uid);
    APPEND_KNOWN(out, "pid", lease->process.pid);
    APPEND_KNOWN(out, "start_ticks", lease->process.start_ticks);
    APPEND_KNOWN(out, "pidfd_inode", lease->process.pidfd_inode);
    APPEND_STRING(out, "unit", lease->unit);
    APPEND_NAME(out, "lifetime", lifetime_to_string(lease->lifetime));
    if (lease->hold != HOLD_NONE)
        APPEND_NAME(out, "hold", hold_to_string(lease->hold));
    APPEND_NAME(out, "health", health_to_string(lease->health));
    APPEND_KNOWN(out, "failures", lease->failures);
    if (lease->ever_seen)
        APPEND(out, ",\"ever_seen\":true");
    APPEND_KNOWN(out, "created_usec", lease->created_usec);
    APPEND_KNOWN(out, "last_seen_usec", lease->last_seen_usec);
    APPEND_KNOWN(out, "expires_usec", lease->expires_usec);
    APPEND_KNOWN(out, "ttl_ms", lease->ttl_msec);
    APPEND_STRING(out, "health_url", lease->health_url);
    APPEND_KNOWN(out, "health_timeout_ms", lease->health_timeout_msec);
    if (lease->on_unhealthy != ON_UNHEALTHY_RELEASE)
        APPEND_NAME(out, "on_unhealthy", on_unhealthy_to_string(lease->on_unhealthy));
}

static void append_sticky(GString *out, const StickyPort *sticky)
{
    APPEND(out, "\"uid\":");
    record_append_uint(out, sticky->uid);
    APPEND_STRING(out, "service_type", sticky->service_type);
    APPEND_STRING(out, "instance", sticky->instance);
    APPEND_UINT(out, "sticky_port", sticky->port);
}

static void append_chunk(GString *out, const Chunk *chunk)
{
    APPEND(out, "\"service_type\":");
    record_append_string(out, chunk->service_type);
    APPEND(out, ",\"chunk\":[");
    record_append_uint(out, chunk->range.first);
    g_string_append_c(out, ',');
    record_append_uint(out, chunk->range.last);
    g_string_append_c(out, ']');
    APPEND_UINT(out, "uid", chunk->uid);
}

static void append_op(GString *out, const StoreOp *op)
{
    switch (op->kind) {
    case STORE_PUT_LEASE:
        APPEND(out, "{\"put_lease\":{");
        append_lease(out, op->lease);
        break;
    case STORE_DROP_LEASE:
        APPEND(out, "{\"drop_lease\":{\"lease\":\"");
        g_string_append_len(out, op->lease->id.text, ID_LENGTH);
        g_string_append_c(out, '"');
        APPEND_UINT(out, "port", op->lease->port);
        APPEND_NAME(out, "reason", reason_to_string(op->reason));
        break;
    case STORE_PUT_STICKY:
        APPEND(out, "{\"put_sticky\":{");
        append_sticky(out, op->sticky);
        break;
    case STORE_DROP_STICKY:
        APPEND(out, "{\"drop_sticky\":{");
        append_sticky(out, op->sticky);
        break;
    case STORE_PUT_CHUNK:
        APPEND(out, "{\"put_chunk\":{");
        append_chunk(out, op->chunk);
        break;
    default:
        g_assert_not_reached();
    }
    APPEND(out, "}}");
}

void record_write_ops(GString *out, guint64 sequence, const StoreOp *ops, size_t n_ops)
{
    size_t start = begin(out);

    APPEND(out, "\"seq\":");
    record_append_uint(out, sequence);
    APPEND(out, ",\"ops\":[");
    for (size_t i = 0; i < n_ops; i++) {
        if (i > 0)
            g_string_append_c(out, ',');
        append_op(out, &ops[i]);
    }
    g_string_append_c(out, ']');
    end(out, start);
}

void record_write_undo(GString *out, guint64 sequence, const guint64 *undone, size_t n_undone)
{
    size_t start = begin(out);

    APPEND(out, "\"seq\":");
    record_append_uint(out, sequence);
    APPEND(out, ",\"undo\":[");
    for (size_t i = 0; i < n_undone; i++) {
        if (i > 0)
            g_string_append_c(out, ',');
        record_append_uint(out, undone[i]);
    }
    g_string_append_c(out, ']');
    end(out, start);
}

static void append_head(GString *out, const Id *boot_id, guint64 sequence)
{
    APPEND(out, "\"version\":");
    record_append_uint(out, RECORD_VERSION);
    APPEND(out, ",\"boot_id\":\"");
    g_string_append(out, boot_id->text);
    g_string_append_c(out, '"');
    APPEND_UINT(out, "sequence", sequence);
}

void record_write_head(GString *out, const Id *boot_id, guint64 sequence)
{
    size_t start = begin(out);

    append_head(out, boot_id, sequence);
    end(out, start);
}

void record_write_end(GString *out, const Id *boot_id, guint64 sequence, const RecordCounts *counts)
{
    size_t start = begin(out);
    char digits[8];

    append_head(out, boot_id, sequence);
    APPEND_UINT(out, "allocations", counts->allocations);
    APPEND_UINT(out, "sticky", counts->sticky);
    APPEND_UINT(out, "chunks", counts->chunks);
    APPEND_UINT(out, "body_bytes", counts->body_bytes);
    APPEND(out, ",\"body_crc\":\"");
    put_hex(digits, counts->body_crc);
    g_string_append_len(out, digits, sizeof(digits));
    g_string_append_c(out, '"');
    end(out, start);
}

void record_write_lease(GString *out, const Lease *lease)
{
    size_t start = begin(out);

    append_lease(out, lease);
    end(out, start);
}

void record_write_sticky(GString *out, const StickyPort *sticky)
{
    size_t start = begin(out);

    append_sticky(out, sticky);
    end(out, start);
}

void record_write_chunk(GString *out, const Chunk *chunk)
{
    size_t start = begin(out);

    append_chunk(out, chunk);
    end(out, start);
}
