/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "store/scan.h"

#include <errno.h>
#include <string.h>

#include "store/crc32c.h"
#include "store/record.h"
#include "store/sys.h"

/* A record and the marker after it always fit. */
#define WINDOW_BYTES (4 * (size_t)RECORD_BYTES_MAX)
#define LOOK_AHEAD (RECORD_BYTES_MAX + RECORD_MARKER_LENGTH)

/* Bytes that may follow a record's closing brace and hold braces themselves, when damaged. */
#define ENDS_TRIED 4

typedef struct Scan {
    int fd;
    guint64 bytes_max;
    char *window;
    size_t position; /* the next byte to look at */
    size_t end;
    gboolean at_eof;
    guint64 offset; /* of window[position] in the file */
    guint64 line;   /* of window[position] */
    guint32 crc;    /* of all bytes before position */
    ScanGap gap;
    ScanResult result;
} Scan;

/* Makes LOOK_AHEAD bytes available from the position on, or all that there are. */
static int fill(Scan *scan)
{
    if (scan->at_eof || scan->end - scan->position >= LOOK_AHEAD)
        return 0;
    memmove(scan->window, scan->window + scan->position, scan->end - scan->position);
    scan->end -= scan->position;
    scan->position = 0;
    while (scan->end < WINDOW_BYTES) {
        size_t room = MIN(WINDOW_BYTES - scan->end, scan->bytes_max - scan->result.bytes);
        ssize_t n;

        if (room == 0) {
            char more;

            n = scan->bytes_max < SCAN_BYTES_MAX ? 0 : sys_read(scan->fd, &more, 1);
            if (n < 0)
                return (int)n;
            scan->result.too_large = n > 0;
            scan->at_eof = TRUE;
            return 0;
        }
        n = sys_read(scan->fd, scan->window + scan->end, room);
        if (n == -EIO) /* worth a second try: what cannot be read is lost */
            n = sys_read(scan->fd, scan->window + scan->end, room);
        if (n < 0)
            return (int)n;
        if (n == 0) {
            scan->at_eof = TRUE;
            return 0;
        }
        if (scan->result.bytes < sizeof(scan->result.start) - 1)
            memcpy(scan->result.start + scan->result.bytes, scan->window + scan->end,
                   MIN((size_t)n, sizeof(scan->result.start) - 1 - scan->result.bytes));
        scan->end += (size_t)n;
        scan->result.bytes += (size_t)n;
    }
    return 0;
}

static guint count_newlines(const char *text, size_t length)
{
    const char *end = text + length;
    guint n = 0;

    while ((text = memchr(text, '\n', (size_t)(end - text)))) {
        n++;
        text++;
    }
    return n;
}

static void advance(Scan *scan, size_t length)
{
    const char *text = scan->window + scan->position;

    scan->crc = crc32c(scan->crc, text, length);
    scan->line += count_newlines(text, length);
    scan->offset += length;
    scan->position += length;
}

static void begin_gap(Scan *scan)
{
    scan->gap = (ScanGap){
        .offset = scan->offset,
        .line = scan->line,
        .all_nul = TRUE,
        .begins_like_record = TRUE,
    };
}

/* Counts @length bytes from the position on as not belonging to a whole record. */
static void pass_over(Scan *scan, size_t length)
{
    const char *text = scan->window + scan->position;
    ScanGap *gap = &scan->gap;

    for (size_t i = 0; i < length && gap->length + i < sizeof(gap->text) - 1; i++) {
        guint64 at = gap->length + i;

        gap->text[at] = text[i];
        if (at < RECORD_MARKER_LENGTH && text[i] != RECORD_MARKER[at])
            gap->begins_like_record = FALSE;
    }
    if (gap->all_nul && length > 0 && (text[0] || memcmp(text, text + 1, length - 1) != 0))
        gap->all_nul = FALSE;
    gap->has_newline = gap->has_newline || memchr(text, '\n', length);
    gap->length += length;
    advance(scan, length);
}

/*
 * Looks for the end of the record that begins at @text: at one of the last braces before @limit.
 * Returns: its length, 0 = no end makes it whole.
 */
static size_t try_ends(const char *text, size_t limit)
{
    for (guint i = 0; i < ENDS_TRIED; i++) {
        const char *brace = memrchr(text, '}', limit);

        if (!brace)
            return 0;
        limit = (size_t)(brace - text);
        if (record_verify(text, limit + 1))
            return limit + 1;
    }
    return 0;
}

/* @region: bytes from the record's marker to the next marker. */
static size_t find_record(const char *text, size_t region)
{
    const char *newline = memchr(text, '\n', region);
    size_t length = 0;

    if (newline)
        length = try_ends(text, (size_t)(newline - text));
    /* the newline may be a flipped byte of the record, or be flipped itself */
    return length > 0 ? length : try_ends(text, region);
}

static void emit(Scan *scan, size_t length, ScanFunc func, void *data)
{
    ScanRecord record = {
        .text = scan->window + scan->position,
        .length = length,
        .offset = scan->offset,
        .line = scan->line,
        .crc_before = scan->crc,
        .gap = &scan->gap,
    };

    func(&record, data);
    advance(scan, length);
    /* the newline belongs to the record, so that nothing lies between two of a sound journal */
    if (scan->position < scan->end && scan->window[scan->position] == '\n')
        advance(scan, 1);
    begin_gap(scan);
}

/* One usually stands right there, after the record before. */
static char *find_marker(char *text, size_t length)
{
    if (length >= RECORD_MARKER_LENGTH && memcmp(text, RECORD_MARKER, RECORD_MARKER_LENGTH) == 0)
        return text;
    return memmem(text, length, RECORD_MARKER, RECORD_MARKER_LENGTH);
}

int scan_file(int fd, guint64 bytes_max, ScanFunc func, void *data, ScanResult *ret_result)
{
    g_autofree char *window = g_malloc(WINDOW_BYTES);
    Scan scan = {
        .fd = fd, .bytes_max = MIN(bytes_max, SCAN_BYTES_MAX), .window = window, .line = 1};
    int r;

    begin_gap(&scan);
    for (;;) {
        char *text, *marker, *next;
        size_t available, region, length;

        r = fill(&scan);
        if (r < 0)
            return r;
        text = window + scan.position;
        available = scan.end - scan.position;
        if (available == 0)
            break;

        marker = find_marker(text, available);
        if (!marker) {
            /* a marker may be cut by the window's end */
            if (!scan.at_eof)
                available -= RECORD_MARKER_LENGTH - 1;
            pass_over(&scan, available);
            continue;
        }
        if (marker > text) {
            pass_over(&scan, (size_t)(marker - text));
            continue;
        }
        region = MIN(available, LOOK_AHEAD);
        next = find_marker(text + RECORD_MARKER_LENGTH, region - RECORD_MARKER_LENGTH);
        region = MIN(next ? (size_t)(next - text) : region, RECORD_BYTES_MAX);
        length = find_record(text, region);
        if (length > 0) {
            emit(&scan, length, func, data);
            continue;
        }
        scan.gap.markers++;
        pass_over(&scan, RECORD_MARKER_LENGTH);
    }
    scan.result.tail = scan.gap;
    *ret_result = scan.result;
    return 0;
}
