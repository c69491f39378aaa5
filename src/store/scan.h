/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>

/*
 * Finding the records of a file that may be damaged anywhere: a flipped byte costs its own record
 * at most, and one between two records costs nothing.
 */

/** SCAN_BYTES_MAX: no more of a file is read; 65,535 leases of the longest kind fit in it. */
#define SCAN_BYTES_MAX (128 * 1024 * 1024)

/** ScanGap: what lies between two whole records, or before the first, or after the last. */
typedef struct ScanGap {
    guint64 offset; /* in bytes from the start of the file */
    guint64 length;
    guint64 line;  /* of its first byte, counted from 1 */
    guint markers; /* records that begin in it and do not verify */
    gboolean has_newline;
    gboolean all_nul;
    gboolean begins_like_record; /* its first bytes are those of a record, as far as they go */
    char text[16];               /* its first bytes, NUL-terminated */
} ScanGap;

/** ScanRecord: one record whose checksum holds. All borrowed for the call. */
typedef struct ScanRecord {
    const char *text; /* not NUL-terminated */
    size_t length;
    guint64 offset;
    guint64 line;
    guint32 crc_before; /* CRC-32C of all that comes before it in the file */
    const ScanGap *gap; /* between it and the record before */
} ScanRecord;

typedef void (*ScanFunc)(const ScanRecord *record, void *data);

typedef struct ScanResult {
    guint64 bytes;      /* read */
    char start[24];     /* the first bytes, NUL-terminated */
    gboolean too_large; /* there is more than SCAN_BYTES_MAX; the rest was not read */
    ScanGap tail;       /* after the last whole record; length 0 = nothing */
} ScanResult;

/**
 * scan_file: calls @func for each record of @fd from its start on, in order.
 * @bytes_max: what is beyond is not looked at, as if the file ended there; SCAN_BYTES_MAX for all.
 *
 * Linear in the file, in constant memory (some MiB). Blocks on the disk.
 * Returns: 0, or the negative errno of a failed read; the records before it were seen then.
 */
int scan_file(int fd, guint64 bytes_max, ScanFunc func, void *data, ScanResult *ret_result);
