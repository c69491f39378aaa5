/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Every byte of the state is cut off and flipped once: loading always works, at most the record
 * that holds the byte is lost, and a copy is kept whenever something was lost.
 */
#include <glib/gstdio.h>
#include <string.h>

#include "fixture.h"

#define FIRST_PORT 3000
#define N_LEASES 50

typedef struct Damaged {
    const char *name;
    const char *sound; /* the file as it was */
    size_t length;
    GHashTable *line_ports; /* line, from 0 -> port of its lease */
} Damaged;

static guint line_of(const Damaged *file, size_t at)
{
    guint line = 0;

    for (size_t i = 0; i < at; i++)
        line += file->sound[i] == '\n';
    return line;
}

/* The lines of the file and the lease that each holds. */
static void find_lines(Fixture *fixture, Damaged *file)
{
    g_auto(GStrv) lines = g_strsplit(file->sound, "\n", -1);

    file->line_ports = g_hash_table_new(NULL, NULL);
    for (guint i = 0; lines[i]; i++) {
        const char *port = strstr(lines[i], "\"port\":");

        if (port && strstr(lines[i], "\"crc\""))
            g_hash_table_insert(file->line_ports, GUINT_TO_POINTER(i),
                                GUINT_TO_POINTER(g_ascii_strtoull(port + 7, NULL, 10)));
    }
    g_assert_cmpuint(g_hash_table_size(file->line_ports), ==, N_LEASES);
}

static void assert_copy(const char *path, const char *text, size_t length)
{
    g_autofree char *copy = NULL;
    g_autoptr(GError) error = NULL;
    size_t copy_length;

    g_assert_nonnull(path);
    (void)g_file_get_contents(path, &copy, &copy_length, &error);
    g_assert_no_error(error);
    g_assert_cmpmem(copy, copy_length, text, length);
    (void)g_unlink(path);
}

static gboolean ends_with_record(const Damaged *file, const char *text, size_t length)
{
    return strcmp(file->name, "state.journal") == 0 && text == file->sound && length > 0 &&
           (text[length - 1] == '\n' || text[length] == '\n');
}

/*
 * Writes @text in the place of the file, loads, and checks.
 * @may_lose: leases of this line and of those after it up to @lose_to (not included) may be
 * missing; no other. Returns: the number of leases that are missing.
 */
static guint try_text(Fixture *fixture, const Damaged *file, const char *text, size_t length,
                      guint may_lose, guint lose_to)
{
    g_autoptr(StoreContents) contents = NULL;
    g_autoptr(GHashTable) found = g_hash_table_new(NULL, NULL);
    g_autoptr(GError) error = NULL;
    GHashTableIter iter;
    void *line, *port;
    guint missing = 0, copies = 0;

    fixture_write(fixture, file->name, text, length);
    contents = store_load(fixture->store, FALSE, &error);
    g_assert_no_error(error);
    for (guint i = 0; i < contents->leases->len; i++) {
        const Lease *lease = contents->leases->pdata[i];
        const Lease *known = g_tree_lookup(fixture->leases, GUINT_TO_POINTER(lease->port));

        g_assert_nonnull(known);
        g_assert_true(lease_equal(lease, known));
        g_assert_true(g_hash_table_add(found, GUINT_TO_POINTER(lease->port)));
    }
    g_hash_table_iter_init(&iter, file->line_ports);
    while (g_hash_table_iter_next(&iter, &line, &port)) {
        if (g_hash_table_contains(found, port))
            continue;
        g_assert_cmpuint(GPOINTER_TO_UINT(line), >=, may_lose);
        g_assert_cmpuint(GPOINTER_TO_UINT(line), <, lose_to);
        missing++;
    }
    for (guint i = 0; i < contents->damage->len; i++) {
        StoreDamage *damage = contents->damage->pdata[i];

        if (strcmp(damage->file, file->name) == 0) {
            assert_copy(damage->backup, text, length);
            copies++;
        }
    }
    if (contents->torn_tail && contents->damage->len == 0) {
        g_assert_cmpstr(file->name, ==, "state.journal");
        assert_copy(contents->torn_backup, text, length);
        copies++;
    }
    g_assert_cmpuint(copies, <=, 1);
    /* a journal that ends with a whole record looks like one to which nothing was added yet */
    if (missing > 0 && !ends_with_record(file, text, length))
        g_assert_cmpuint(copies, ==, 1);
    g_assert_false(contents->fresh);
    return missing;
}

/*
 * @whole: a second copy of everything is there, so nothing may be lost at all.
 * @step: 1 for every byte.
 */
static void flip_all(Fixture *fixture, const Damaged *file, gboolean whole, guint mask, guint step)
{
    g_autofree char *text = g_memdup2(file->sound, file->length);
    guint lost = 0;

    for (size_t i = 0; i < file->length; i += step) {
        char flip = (char)(mask ? mask : 1u << i % 8);
        guint line = line_of(file, i);

        text[i] ^= flip;
        lost += try_text(fixture, file, text, file->length, line, whole ? line : line + 1);
        text[i] ^= flip;
    }
    /* most bytes belong to leases, and the test would be none if it never lost one */
    if (whole)
        g_assert_cmpuint(lost, ==, 0);
    else
        g_assert_cmpuint(lost, >, file->length / step / 2);
}

static void cut_all(Fixture *fixture, const Damaged *file, gboolean whole, guint step)
{
    for (size_t i = 0; i < file->length; i += step)
        (void)try_text(fixture, file, file->sound, i, whole ? G_MAXUINT : line_of(file, i),
                       G_MAXUINT);
}

static void grant_all(Fixture *fixture)
{
    for (guint i = 0; i < N_LEASES; i++)
        g_assert_true(fixture_grant(fixture, (guint16)(FIRST_PORT + i), NULL));
}

static void try_file(Fixture *fixture, const char *name, gboolean whole)
{
    g_autofree char *sound = NULL;
    /* where nothing may be lost, a seventh of the bytes will do when time is short */
    guint step = whole && !g_test_slow() ? 7 : 1;
    Damaged file = {.name = name};

    fixture_close(fixture);
    sound = fixture_read(fixture, name, &file.length);
    file.sound = sound;
    find_lines(fixture, &file);
    fixture_open(fixture);
    flip_all(fixture, &file, whole, 0, step);
    if (g_test_slow())
        for (guint mask = 1; mask < 256; mask++)
            flip_all(fixture, &file, whole, mask, step);
    cut_all(fixture, &file, whole, step);
    g_hash_table_unref(file.line_ports);
}

static void test_journal(void)
{
    g_autoptr(Fixture) fixture = fixture_new();

    fixture_start(fixture);
    grant_all(fixture);
    try_file(fixture, "state.journal", FALSE);
}

/* The leases are in the snapshot, and what came before is not: as after a first start. */
static void make_snapshot(Fixture *fixture)
{
    fixture_start(fixture);
    grant_all(fixture);
    fixture_close(fixture);
    fixture_start(fixture);
    fixture_close(fixture);
}

static void test_snapshot(void)
{
    g_autoptr(Fixture) fixture = fixture_new();
    g_autofree char *previous = fixture_path(fixture, "state.json.previous");

    make_snapshot(fixture);
    g_assert_cmpint(g_unlink(previous), ==, 0);
    try_file(fixture, "state.json", FALSE);
}

static void test_snapshot_and_previous(void)
{
    g_autoptr(Fixture) fixture = fixture_new();

    make_snapshot(fixture);
    try_file(fixture, "state.json", TRUE);
}

/* The previous snapshot is an older one, and the old journal leads from it to now. */
static void test_snapshot_and_older(void)
{
    g_autoptr(Fixture) fixture = fixture_new();

    fixture_start(fixture);
    fixture_settle(fixture);
    grant_all(fixture);
    store_compact(fixture->store);
    fixture_settle(fixture);
    try_file(fixture, "state.json", TRUE);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/bytes/journal", test_journal);
    g_test_add_func("/bytes/snapshot", test_snapshot);
    g_test_add_func("/bytes/snapshot-and-previous", test_snapshot_and_previous);
    g_test_add_func("/bytes/snapshot-and-older", test_snapshot_and_older);
    return g_test_run();
}
