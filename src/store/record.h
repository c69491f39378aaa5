/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>

#include "core/lease.h"
#include "core/registry.h"
#include "store/store.h"

/*
 * One record is one line is one JSON object:
 *
 *     {"crc":"0a1b2c3d",MEMBERS}
 *
 * where the eight lower-case hex digits are the CRC-32C of the bytes after that first comma up to
 * and with the closing brace. RECORD_MARKER cannot occur inside a JSON string, whose quotes are
 * escaped, so a reader can find the records of a damaged file by it.
 *
 * Format version 1. In the journal:
 *     {"crc":…,"version":1,"boot_id":"…","sequence":N}     first line: the records after N follow
 *     {"crc":…,"seq":N,"ops":[OP,…]}                       one call, all of it or none
 *     {"crc":…,"seq":N,"undo":[N,…]}                       these records never happened
 *   where OP is one of
 *     {"put_lease":{LEASE}}      {"drop_lease":{"lease":"…","port":N,"reason":"…"}}
 *     {"put_sticky":{STICKY}}    {"drop_sticky":{STICKY}}    {"put_chunk":{CHUNK}}
 * In the snapshot:
 *     {"crc":…,"version":1,"boot_id":"…","sequence":N}     head: what is up to N is in here
 *     {"crc":…,LEASE}   {"crc":…,STICKY}   {"crc":…,CHUNK}
 *     {"crc":…,"version":1,"boot_id":"…","sequence":N,"allocations":N,"sticky":N,"chunks":N,
 *      "body_bytes":N,"body_crc":"…"}                      end: how much came before it
 * LEASE has the keys of the bus interface and a few more; STICKY is uid, service_type, instance,
 * sticky_port; CHUNK is service_type, chunk ([first, last]), uid. A key without a value is absent.
 */
#define RECORD_MARKER "{\"crc\":\""
#define RECORD_MARKER_LENGTH 8
#define RECORD_PREFIX_LENGTH (RECORD_MARKER_LENGTH + 8 + 2)
#define RECORD_BYTES_MAX (1024 * 1024)
#define RECORD_VERSION 1

/* A number near the end of the integers is nobody's honest count, and could not be gone on from. */
#define RECORD_SEQUENCE_MAX ((guint64)1 << 62)

/* ---- writing: each appends one whole record without a newline; never fails ---- */

void record_write_ops(GString *out, guint64 sequence, const StoreOp *ops, size_t n_ops);
void record_write_undo(GString *out, guint64 sequence, const guint64 *undone, size_t n_undone);
void record_write_head(GString *out, const Id *boot_id, guint64 sequence);
void record_write_lease(GString *out, const Lease *lease);
void record_write_sticky(GString *out, const StickyPort *sticky);
void record_write_chunk(GString *out, const Chunk *chunk);

/** RecordCounts: what a snapshot's end says of the text before it. */
typedef struct RecordCounts {
    guint64 allocations;
    guint64 sticky;
    guint64 chunks;
    guint64 body_bytes; /* up to the end record's marker */
    guint32 body_crc;
} RecordCounts;

void record_write_end(GString *out, const Id *boot_id, guint64 sequence,
                      const RecordCounts *counts);

/** record_append_string: @text as a JSON string with its quotes; bytes that are not UTF-8 become
 * U+FFFD. */
void record_append_string(GString *out, const char *text);
void record_append_uint(GString *out, guint64 value);

/* ---- reading ---- */

/** record_verify: whether @length bytes at @text are a record whose checksum holds. */
gboolean record_verify(const char *text, size_t length);

/** record_peek_sequence: the "seq" of a journal record; FALSE for all others. Does not parse. */
gboolean record_peek_sequence(const char *text, size_t length, guint64 *ret_sequence);

typedef enum RecordKind {
    RECORD_HEAD,
    RECORD_END,
    RECORD_OPS, /* also a lease, sticky port or chunk of a snapshot: one op, sequence 0 */
    RECORD_UNDO,
} RecordKind;

/** RecordOp: one op with everything it needs of its own. */
typedef struct RecordOp {
    StoreOpKind kind;
    Lease *lease;       /* PUT_LEASE: owned reference */
    Id lease_id;        /* DROP_LEASE */
    char *service_type; /* of sticky ports and chunks, owned */
    char *instance;     /* of sticky ports, owned */
    uid_t uid;
    guint16 port;
    PortRange range;
} RecordOp;

typedef struct Record {
    RecordKind kind;
    guint64 sequence;
    gint64 version;      /* HEAD and END */
    Id boot_id;          /* HEAD and END */
    RecordCounts counts; /* END */
    GArray *ops;         /* of RecordOp, never NULL */
    GArray *undone;      /* of guint64, never NULL */
    char *unknown_key;   /* the first key that this version does not know, or NULL */
    gboolean unshared;   /* set by the reader: leases get no strings that are shared with others */
} Record;

void record_init(Record *record);
void record_clear(Record *record);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Record, record_clear)

#define RECORD_ERROR record_error_quark()
GQuark record_error_quark(void);

/** RecordError: RECORD_ERROR_VERSION is a head or end of another version, whose version is then
 * set. */
typedef enum RecordError {
    RECORD_ERROR_INVALID,
    RECORD_ERROR_VERSION,
} RecordError;

/** RecordParser: what reading many records shares. */
typedef struct RecordParser RecordParser;
RecordParser *record_parser_new(void);
RecordParser *record_parser_free(RecordParser *parser);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(RecordParser, record_parser_free)

/**
 * record_parse: reads the members of one record.
 * @text: @length bytes, not trusted; the checksum is record_verify()'s concern. No NUL needed.
 * @record: initialised; emptied first.
 *
 * Returns: FALSE with @error in RECORD_ERROR, its message naming the key. @record is then only fit
 *     for record_clear() (and has ->version with RECORD_ERROR_VERSION).
 */
gboolean record_parse(RecordParser *parser, const char *text, size_t length, Record *record,
                      GError **error);
