/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* One record: what is written is read back; what is wrong is refused by the name of its key. */
#include <string.h>

#include "fixture.h"
#include "store/crc32c.h"
#include "store/record.h"

static void test_crc32c(void)
{
    guint8 bytes[32];

    /* RFC 3720, B.4 */
    memset(bytes, 0, sizeof(bytes));
    g_assert_cmphex(crc32c(0, bytes, 32), ==, 0x8a9136aa);
    memset(bytes, 0xff, sizeof(bytes));
    g_assert_cmphex(crc32c(0, bytes, 32), ==, 0x62a8ab43);
    for (guint i = 0; i < 32; i++)
        bytes[i] = (guint8)i;
    g_assert_cmphex(crc32c(0, bytes, 32), ==, 0x46dd794e);
    for (guint i = 0; i < 32; i++)
        bytes[i] = (guint8)(31 - i);
    g_assert_cmphex(crc32c(0, bytes, 32), ==, 0x113fdb5c);
    g_assert_cmphex(crc32c(0, "123456789", 9), ==, 0xe3069283);
    g_assert_cmphex(crc32c(0, "", 0), ==, 0);
    for (guint cut = 0; cut <= 32; cut++)
        g_assert_cmphex(crc32c(crc32c(0, bytes, cut), bytes + cut, 32 - cut), ==, 0x113fdb5c);
}

/* Parses @members as a record with a checksum that holds. */
static gboolean parse_members(const char *members, Record *record, GError **error)
{
    g_autoptr(RecordParser) parser = record_parser_new();
    g_autofree char *text = NULL, *rest = g_strconcat(members, "}", NULL);

    text = g_strdup_printf("{\"crc\":\"%08x\",%s", crc32c(0, rest, strlen(rest)), rest);
    g_assert_true(record_verify(text, strlen(text)));
    return record_parse(parser, text, strlen(text), record, error);
}

static void test_leases(void)
{
    g_autoptr(RecordParser) parser = record_parser_new();
    g_autoptr(GString) text = g_string_new(NULL);
    g_auto(Record) record;

    record_init(&record);
    for (guint port = 1; port < 2000; port++) {
        g_autoptr(Lease) lease = fixture_lease((guint16)port);
        g_autoptr(GError) error = NULL;

        g_string_truncate(text, 0);
        record_write_lease(text, lease);
        g_assert_true(record_verify(text->str, text->len));
        g_assert_null(memchr(text->str, '\n', text->len));
        g_assert_true(record_parse(parser, text->str, text->len, &record, &error));
        g_assert_no_error(error);
        g_assert_cmpint(record.kind, ==, RECORD_OPS);
        g_assert_cmpuint(record.ops->len, ==, 1);
        g_assert_null(record.unknown_key);
        g_assert_true(lease_equal(lease, g_array_index(record.ops, RecordOp, 0).lease));
    }
}

/* The greatest and the smallest, and strings that would end a JSON string or a line. */
static void test_extremes(void)
{
    g_autoptr(RecordParser) parser = record_parser_new();
    g_autoptr(GString) text = g_string_new(NULL);
    g_autoptr(Lease) lease = lease_new();
    g_auto(Record) record;
    Lease *read;

    lease->id = id_random();
    lease->port = 65535;
    lease->protocol = PROTOCOL_BOTH;
    lease->uid = G_MAXUINT32;
    lease->failures = lease->ttl_msec = lease->health_timeout_msec = G_MAXUINT32;
    lease->process = (ProcessIdentity){G_MAXINT32, G_MAXINT64, G_MAXUINT64};
    lease->created_usec = lease->last_seen_usec = lease->expires_usec = G_MAXINT64;
    lease->unit =
        g_ref_string_new("{\"crc\":\"\n\r\t\x01\x7f\\x2d\xff\xc3(\xf0\x9f\x98\x80.service");
    record_init(&record);
    record_write_lease(text, lease);
    g_assert_null(memchr(text->str, '\n', text->len));
    g_assert_null(strstr(text->str + 1, RECORD_MARKER));
    g_assert_true(record_parse(parser, text->str, text->len, &record, NULL));
    read = g_array_index(record.ops, RecordOp, 0).lease;
    g_assert_cmpstr(read->unit, ==,
                    "{\"crc\":\"\n\r\t\x01\x7f\\x2d\xef\xbf\xbd\xef\xbf\xbd(\xf0\x9f\x98\x80"
                    ".service");
    /* what JSON integers cannot say is "not known" */
    g_assert_cmpuint(read->process.pidfd_inode, ==, 0);
    g_ref_string_release(g_steal_pointer(&lease->unit));
    lease->unit = g_ref_string_acquire(read->unit);
    lease->process.pidfd_inode = 0;
    g_assert_true(lease_equal(lease, read));
}

static void test_journal_records(void)
{
    g_autoptr(RecordParser) parser = record_parser_new();
    g_autoptr(GString) text = g_string_new(NULL);
    guint64 sequence, undone[] = {1, 99, RECORD_SEQUENCE_MAX};
    const Id boot_id = {"00112233445566778899aabbccddeeff"};
    const RecordCounts counts = {1, 2, 3, 4, 0xdeadbeef};
    g_auto(Record) record;

    record_init(&record);
    record_write_undo(text, RECORD_SEQUENCE_MAX, undone, G_N_ELEMENTS(undone));
    g_assert_true(record_parse(parser, text->str, text->len, &record, NULL));
    g_assert_cmpint(record.kind, ==, RECORD_UNDO);
    g_assert_cmpmem(record.undone->data, record.undone->len * sizeof(guint64), undone,
                    sizeof(undone));
    g_assert_true(record_peek_sequence(text->str, text->len, &sequence));
    g_assert_cmpuint(sequence, ==, RECORD_SEQUENCE_MAX);

    g_string_truncate(text, 0);
    record_write_undo(text, RECORD_SEQUENCE_MAX + 1, undone, 1);
    g_assert_false(record_peek_sequence(text->str, text->len, &sequence));
    g_assert_false(record_parse(parser, text->str, text->len, &record, NULL));

    g_string_truncate(text, 0);
    record_write_ops(text, 7, NULL, 0);
    g_assert_true(record_parse(parser, text->str, text->len, &record, NULL));
    g_assert_cmpint(record.kind, ==, RECORD_OPS);
    g_assert_cmpuint(record.sequence, ==, 7);
    g_assert_cmpuint(record.ops->len, ==, 0);

    g_string_truncate(text, 0);
    record_write_head(text, &boot_id, 5);
    g_assert_true(record_parse(parser, text->str, text->len, &record, NULL));
    g_assert_cmpint(record.kind, ==, RECORD_HEAD);
    g_assert_cmpuint(record.sequence, ==, 5);
    g_assert_cmpstr(record.boot_id.text, ==, boot_id.text);
    g_assert_false(record_peek_sequence(text->str, text->len, &sequence));

    g_string_truncate(text, 0);
    record_write_end(text, &boot_id, 6, &counts);
    g_assert_true(record_parse(parser, text->str, text->len, &record, NULL));
    g_assert_cmpint(record.kind, ==, RECORD_END);
    g_assert_cmpuint(record.counts.allocations, ==, 1);
    g_assert_cmpuint(record.counts.sticky, ==, 2);
    g_assert_cmpuint(record.counts.chunks, ==, 3);
    g_assert_cmpuint(record.counts.body_bytes, ==, 4);
    g_assert_cmphex(record.counts.body_crc, ==, 0xdeadbeef);
}

/* Every bit of every byte. */
static void test_verify(void)
{
    g_autoptr(GString) text = g_string_new(NULL);
    g_autoptr(Lease) lease = fixture_lease(4242);

    record_write_lease(text, lease);
    g_assert_true(record_verify(text->str, text->len));
    for (gsize i = 0; i < text->len; i++) {
        for (guint bit = 0; bit < 8; bit++) {
            text->str[i] ^= (char)(1 << bit);
            g_assert_false(record_verify(text->str, text->len));
            text->str[i] ^= (char)(1 << bit);
        }
        g_assert_false(record_verify(text->str, i));
    }
}

#define LEASE "\"lease\":\"00112233445566778899aabbccddeeff\""
#define GOOD LEASE ",\"port\":3000,\"protocol\":\"tcp\""

static void test_refused(void)
{
    static const struct {
        const char *members;
        const char *key; /* that the message names */
    } cases[] = {
        {LEASE ",\"port\":0,\"protocol\":\"tcp\"", "\"port\""},
        {LEASE ",\"port\":70000,\"protocol\":\"tcp\"", "\"port\""},
        {LEASE ",\"port\":-1,\"protocol\":\"tcp\"", "\"port\""},
        {LEASE ",\"port\":3000.0,\"protocol\":\"tcp\"", "\"port\""},
        {LEASE ",\"port\":3e3,\"protocol\":\"tcp\"", "\"port\""},
        {LEASE ",\"port\":\"3000\",\"protocol\":\"tcp\"", "\"port\""},
        {LEASE ",\"port\":null,\"protocol\":\"tcp\"", "\"port\""},
        {LEASE ",\"port\":[3000],\"protocol\":\"tcp\"", "\"port\""},
        {LEASE ",\"port\":99999999999999999999999,\"protocol\":\"tcp\"", "\"port\""},
        {LEASE ",\"protocol\":\"tcp\"", "\"port\""},
        {LEASE ",\"port\":3000", "\"protocol\""},
        {LEASE ",\"port\":3000,\"protocol\":\"sctp\"", "\"protocol\""},
        {LEASE ",\"port\":3000,\"protocol\":\"\"", "\"protocol\""},
        {LEASE ",\"port\":3000,\"protocol\":1", "\"protocol\""},
        {"\"lease\":\"short\",\"port\":3000,\"protocol\":\"tcp\"", "\"lease\""},
        {"\"lease\":\"00112233445566778899AABBCCDDEEFF\",\"port\":3000,\"protocol\":\"tcp\"",
         "\"lease\""},
        {"\"lease\":{},\"port\":3000,\"protocol\":\"tcp\"", "\"lease\""},
        {GOOD ",\"port\":3001", "twice"},
        {GOOD ",\"service_type\":\"a b\"", "\"service_type\""},
        {GOOD ",\"service_type\":\"\"", "\"service_type\""},
        {GOOD ",\"instance\":\"a/b\"", "\"instance\""},
        {GOOD ",\"label\":\"\\n\"", "\"label\""},
        {GOOD ",\"uid\":4294967296", "\"uid\""},
        {GOOD ",\"pid\":0", "\"pid\""},
        {GOOD ",\"ever_seen\":1", "\"ever_seen\""},
        {GOOD ",\"health\":\"well\"", "\"health\""},
        {GOOD ",\"lifetime\":[]", "\"lifetime\""},
        {GOOD ",\"created_usec\":9223372036854775808", "\"created_usec\""},
        {"\"sticky_port\":0,\"uid\":0,\"service_type\":\"dev\",\"instance\":\"x\"",
         "\"sticky_port\""},
        {"\"sticky_port\":1,\"uid\":0,\"service_type\":\"dev\"", "\"instance\""},
        {"\"sticky_port\":1,\"uid\":0,\"instance\":\"dev\"", "\"service_type\""},
        {"\"chunk\":[1],\"uid\":0,\"service_type\":\"dev\"", "\"chunk\""},
        {"\"chunk\":[1,2,3],\"uid\":0,\"service_type\":\"dev\"", "\"chunk\""},
        {"\"chunk\":[2,1],\"uid\":0,\"service_type\":\"dev\"", "\"chunk\""},
        {"\"chunk\":[0,1],\"uid\":0,\"service_type\":\"dev\"", "\"chunk\""},
        {"\"chunk\":{},\"uid\":0,\"service_type\":\"dev\"", "\"chunk\""},
        {"\"seq\":0,\"ops\":[]", "\"seq\""},
        {"\"seq\":1,\"ops\":{}", "\"ops\""},
        {"\"seq\":1,\"ops\":[1]", "\"ops\""},
        {"\"seq\":1,\"ops\":[{\"put_lease\":[]}]", "\"put_lease\""},
        {"\"seq\":1,\"ops\":[{\"drop_lease\":{\"port\":1}}]", "\"lease\""},
        {"\"seq\":1,\"ops\":[{\"put_lease\":{" LEASE ",\"protocol\":\"tcp\"}}]", "\"port\""},
        {"\"seq\":1,\"undo\":[0]", "\"undo\""},
        {"\"seq\":1,\"undo\":1", "\"undo\""},
        {"\"version\":\"1\"", "\"version\""},
        {"\"version\":1,\"boot_id\":\"x\"", "\"boot_id\""},
        {"\"version\":1,\"body_crc\":\"xyz\"", "\"body_crc\""},
        {"\"version\":1,\"body_crc\":\"0xabcdef\"", "\"body_crc\""},
        {"\"x\":1", "neither"},
        {"\"ops\":[", "not JSON"},
        {"\"lease\":\"\xff\"", "not JSON"},
        {"\"lease\":[[[[[[[[[[[[]]]]]]]]]]]]", "not JSON"},
        {"\"lease\":1}{\"crc\":1", "not JSON"},
    };

    for (gsize i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autoptr(GError) error = NULL;
        g_auto(Record) record;

        record_init(&record);
        g_test_message("case %" G_GSIZE_FORMAT ": %s", i, cases[i].key);
        g_assert_false(parse_members(cases[i].members, &record, &error));
        g_assert_error(error, RECORD_ERROR, RECORD_ERROR_INVALID);
        g_assert_nonnull(strstr(error->message, cases[i].key));
    }
}

static void test_other_version(void)
{
    g_autoptr(GError) error = NULL;
    g_auto(Record) record;

    record_init(&record);
    g_assert_false(parse_members("\"version\":2,\"boot_id\":[1]", &record, &error));
    g_assert_error(error, RECORD_ERROR, RECORD_ERROR_VERSION);
    g_assert_cmpint(record.version, ==, 2);
}

static void test_unknown_keys(void)
{
    g_autoptr(GError) error = NULL;
    g_auto(Record) record;

    record_init(&record);
    g_assert_true(parse_members(GOOD ",\"colour\":[{\"x\":[]}],\"shape\":1", &record, &error));
    g_assert_no_error(error);
    g_assert_cmpstr(record.unknown_key, ==, "colour");
    g_assert_cmpuint(g_array_index(record.ops, RecordOp, 0).lease->port, ==, 3000);
    g_assert_true(parse_members("\"seq\":1,\"ops\":[{\"paint\":1}]", &record, &error));
    g_assert_cmpstr(record.unknown_key, ==, "paint");
    g_assert_true(parse_members("\"seq\":1,\"ops\":[]", &record, &error));
    g_assert_null(record.unknown_key);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/record/crc32c", test_crc32c);
    g_test_add_func("/record/leases", test_leases);
    g_test_add_func("/record/extremes", test_extremes);
    g_test_add_func("/record/journal", test_journal_records);
    g_test_add_func("/record/verify", test_verify);
    g_test_add_func("/record/refused", test_refused);
    g_test_add_func("/record/other-version", test_other_version);
    g_test_add_func("/record/unknown-keys", test_unknown_keys);
    return g_test_run();
}
