/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * One record of the store, its checksum not asked for. What is read survives being written and read
 * again, member by member; what is written verifies, and no longer does with one bit turned.
 */
#include <string.h>

#include "../store/fixture.h"
#include "fuzz.h"
#include "store/record.h"

/* Bits turned in one run. */
#define FLIPS 4

static void check_names(const RecordOp *op)
{
    const Lease *lease = op->lease;

    switch (op->kind) {
    case STORE_PUT_LEASE:
        g_assert_true(id_is_valid(lease->id.text));
        g_assert_cmpuint(lease->port, !=, 0);
        g_assert_cmpuint(lease->protocol & ~(guint)PROTOCOL_BOTH, ==, 0);
        g_assert_true(!lease->service_type || service_type_is_valid(lease->service_type));
        g_assert_true(!lease->instance || instance_is_valid(lease->instance));
        g_assert_true(!lease->label || label_is_valid(lease->label));
        break;
    case STORE_DROP_LEASE:
        g_assert_true(id_is_valid(op->lease_id.text));
        break;
    case STORE_PUT_STICKY:
    case STORE_DROP_STICKY:
        g_assert_true(service_type_is_valid(op->service_type));
        g_assert_true(instance_is_valid(op->instance));
        break;
    case STORE_PUT_CHUNK:
        g_assert_true(service_type_is_valid(op->service_type));
        g_assert_true(port_range_is_valid(op->range));
        break;
    default:
        g_assert_not_reached();
    }
}

static void write_ops(GString *out, const Record *record)
{
    guint n = record->ops->len;
    g_autofree StoreOp *ops = g_new0(StoreOp, n + 1);
    g_autofree StickyPort *sticky = g_new0(StickyPort, n + 1);
    g_autofree Chunk *chunks = g_new0(Chunk, n + 1);
    g_autoptr(GPtrArray) dropped = lease_array_new();

    for (guint i = 0; i < n; i++) {
        const RecordOp *op = &g_array_index(record->ops, RecordOp, i);
        Lease *gone = NULL;

        sticky[i] = (StickyPort){op->uid, op->service_type, op->instance, op->port};
        chunks[i] = (Chunk){op->service_type, op->range, op->uid};
        ops[i] = (StoreOp){.kind = op->kind,
                           .lease = op->lease,
                           .reason = REASON_RELEASED,
                           .sticky = &sticky[i],
                           .chunk = &chunks[i]};
        if (op->kind != STORE_DROP_LEASE)
            continue;
        gone = lease_new();
        g_ptr_array_add(dropped, gone);
        gone->id = op->lease_id;
        gone->port = op->port > 0 ? op->port : 1; /* it may be missing */
        ops[i].lease = gone;
    }
    if (record->sequence > 0)
        record_write_ops(out, record->sequence, ops, n);
    else if (ops[0].kind == STORE_PUT_LEASE)
        record_write_lease(out, ops[0].lease);
    else if (ops[0].kind == STORE_PUT_STICKY)
        record_write_sticky(out, ops[0].sticky);
    else
        record_write_chunk(out, ops[0].chunk);
}

static void write_record(GString *out, const Record *record)
{
    switch (record->kind) {
    case RECORD_HEAD:
        record_write_head(out, &record->boot_id, record->sequence);
        break;
    case RECORD_END:
        record_write_end(out, &record->boot_id, record->sequence, &record->counts);
        break;
    case RECORD_OPS:
        write_ops(out, record);
        break;
    case RECORD_UNDO:
        record_write_undo(out, record->sequence, (const guint64 *)(void *)record->undone->data,
                          record->undone->len);
        break;
    default:
        g_assert_not_reached();
    }
}

/* The members that the kind has; others may stand in a record too, and are not written again. */
static void check_same_op(const RecordOp *a, const RecordOp *b)
{
    switch (a->kind) {
    case STORE_PUT_LEASE:
        g_assert_true(lease_equal(a->lease, b->lease));
        return;
    case STORE_DROP_LEASE:
        g_assert_cmpstr(a->lease_id.text, ==, b->lease_id.text);
        if (a->port > 0)
            g_assert_cmpuint(a->port, ==, b->port);
        return;
    case STORE_PUT_CHUNK:
        g_assert_cmpuint(a->range.first, ==, b->range.first);
        g_assert_cmpuint(a->range.last, ==, b->range.last);
        break;
    default:
        g_assert_cmpstr(a->instance, ==, b->instance);
        g_assert_cmpuint(a->port, ==, b->port);
    }
    g_assert_cmpstr(a->service_type, ==, b->service_type);
    g_assert_cmpuint(a->uid, ==, b->uid);
}

static void check_same(const Record *one, const Record *two)
{
    g_assert_cmpint(one->kind, ==, two->kind);
    g_assert_cmpuint(one->sequence, ==, two->sequence);
    g_assert_cmpstr(one->boot_id.text, ==, two->boot_id.text);
    if (one->kind == RECORD_END)
        g_assert_cmpmem(&one->counts, sizeof one->counts, &two->counts, sizeof two->counts);
    g_assert_cmpuint(one->undone->len, ==, two->undone->len);
    for (guint i = 0; i < one->undone->len; i++)
        g_assert_cmpuint(g_array_index(one->undone, guint64, i), ==,
                         g_array_index(two->undone, guint64, i));
    g_assert_cmpuint(one->ops->len, ==, two->ops->len);
    for (guint i = 0; i < one->ops->len; i++) {
        const RecordOp *a = &g_array_index(one->ops, RecordOp, i);
        const RecordOp *b = &g_array_index(two->ops, RecordOp, i);

        g_assert_cmpint(a->kind, ==, b->kind);
        check_same_op(a, b);
    }
}

/* CRC-32C finds every single bit that is turned, wherever it is. */
static void check_flips(const GString *text, guint32 dice)
{
    g_autofree char *copy = g_memdup2(text->str, text->len);

    for (guint i = 0; i < FLIPS; i++) {
        gsize at = dice % text->len;
        char bit = (char)(1 << (dice / text->len % 8));

        copy[at] ^= bit;
        g_assert_false(record_verify(copy, text->len));
        copy[at] ^= bit;
        dice = dice * 1664525u + 1013904223u;
    }
    g_assert_true(record_verify(copy, text->len));
}

static void check_round_trip(RecordParser *parser, const Record *record, guint32 dice)
{
    g_autoptr(GString) text = g_string_new(NULL), again = g_string_new(NULL);
    g_autoptr(GError) error = NULL;
    g_auto(Record) copy;
    guint64 sequence = 0;

    record_init(&copy);
    write_record(text, record);
    g_assert_true(record_verify(text->str, text->len));
    g_assert_null(memchr(text->str, '\n', text->len));
    g_assert_cmpint(record_peek_sequence(text->str, text->len, &sequence), ==,
                    record->sequence > 0 &&
                        (record->kind == RECORD_OPS || record->kind == RECORD_UNDO));
    if (sequence > 0)
        g_assert_cmpuint(sequence, ==, record->sequence);
    g_assert_true(record_parse(parser, text->str, text->len, &copy, &error));
    g_assert_no_error(error);
    g_assert_null(copy.unknown_key);
    check_same(record, &copy);
    write_record(again, &copy);
    g_assert_cmpstr(text->str, ==, again->str);
    check_flips(text, dice);
}

int LLVMFuzzerTestOneInput(const guint8 *data, size_t length)
{
    g_autoptr(RecordParser) parser = record_parser_new();
    g_autoptr(GError) error = NULL;
    g_auto(Record) record;
    guint32 dice = 2166136261u;
    guint64 sequence;

    for (size_t i = 0; i < length; i++)
        dice = (dice ^ data[i]) * 16777619u;
    record_init(&record);
    (void)record_verify((const char *)data, length);
    (void)record_peek_sequence((const char *)data, length, &sequence);
    if (!record_parse(parser, (const char *)data, length, &record, &error)) {
        g_assert_true(error->domain == RECORD_ERROR);
        g_assert_true(g_utf8_validate(error->message, -1, NULL));
        return 0;
    }
    g_assert_no_error(error);
    for (guint i = 0; i < record.ops->len; i++)
        check_names(&g_array_index(record.ops, RecordOp, i));
    /* A head without its boot is good enough to be read, but never written. */
    if ((record.kind == RECORD_HEAD || record.kind == RECORD_END) && !record.boot_id.text[0])
        return 0;
    check_round_trip(parser, &record, dice);
    return 0;
}
