/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Files that nobody would write: survived, reported, kept aside, and the store works afterwards. */
#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fixture.h"
#include "store/crc32c.h"
#include "util/fd.h"

#define LEASE(id, port) \
    "\"lease\":\"" id "\",\"port\":" port ",\"protocol\":\"tcp\",\"service_type\":\"dev\""
#define ID_1 "00000000000000000000000000000001"
#define ID_2 "00000000000000000000000000000002"

static void append_record(GString *text, const char *members)
{
    g_autofree char *rest = g_strconcat(members, "}", NULL);

    g_string_append_printf(text, "{\"crc\":\"%08x\",%s", crc32c(0, rest, strlen(rest)), rest);
}

/* @members: of each record, NULL-terminated. */
static char *make_snapshot(const char *head, const char *const *members)
{
    GString *text = g_string_new("{\"version\":1,\"head\":");

    append_record(text, head);
    g_string_append(text, ",\n\"allocations\":[\n");
    for (guint i = 0; members[i]; i++) {
        append_record(text, members[i]);
        g_string_append(text, ",\n");
    }
    g_string_append(text, "],\"end\":");
    append_record(text, head);
    g_string_append(text, "}\n");
    return g_string_free(text, FALSE);
}

#define HEAD "\"version\":1,\"boot_id\":\"00112233445566778899aabbccddeeff\",\"sequence\":0"

static char *make_journal(const char *const *members)
{
    GString *text = g_string_new(NULL);

    append_record(text, HEAD);
    g_string_append_c(text, '\n');
    for (guint i = 0; members[i]; i++) {
        append_record(text, members[i]);
        g_string_append_c(text, '\n');
    }
    return g_string_free(text, FALSE);
}

static const StoreDamage *find_damage(const StoreContents *contents, const char *name)
{
    for (guint i = 0; i < contents->damage->len; i++) {
        const StoreDamage *damage = contents->damage->pdata[i];

        if (strcmp(damage->file, name) == 0)
            return damage;
    }
    return NULL;
}

/*
 * Loads what lies there: damage to @name is reported with @says in it and kept aside, and @n_leases
 * are left. Then the store starts, takes a lease, and all is well on the disk.
 */
static void assert_survived(Fixture *fixture, const char *name, const char *says, guint n_leases)
{
    g_autoptr(StoreContents) contents = NULL;
    g_autoptr(GError) error = NULL;
    const StoreDamage *damage;
    GStatBuf st;

    fixture_open(fixture);
    contents = store_load(fixture->store, FALSE, &error);
    g_assert_no_error(error);
    g_assert_false(contents->fresh);
    damage = find_damage(contents, name);
    g_assert_nonnull(damage);
    g_test_message("%s", damage->what);
    g_assert_nonnull(strstr(damage->what, says));
    g_assert_nonnull(damage->backup);
    g_assert_cmpint(g_lstat(damage->backup, &st), ==, 0);
    g_assert_cmpuint(contents->leases->len, ==, n_leases);

    fixture_take(fixture, contents);
    g_assert_true(store_start(fixture->store, &fixture->source, &fixture->boot_id, &error));
    g_assert_no_error(error);
    g_assert_true(fixture_grant(fixture, 4000, &error));
    g_assert_true(fixture_grant_durable(fixture, 4001, &error));
    fixture_assert_disk(fixture);
}

typedef struct Rubbish {
    const char *name;
    void (*make)(Fixture *fixture, const char *name);
    const char *says;
} Rubbish;

static void make_empty(Fixture *fixture, const char *name)
{
    fixture_write(fixture, name, "", 0);
}

static void make_brackets(Fixture *fixture, const char *name)
{
    g_autofree char *text = g_strnfill(80000, '[');

    fixture_write(fixture, name, text, 80000);
}

/* The same inside a record whose checksum holds. */
static void make_bracket_record(Fixture *fixture, const char *name)
{
    g_autofree char *brackets = g_strnfill(80000, '[');
    g_autofree char *members = g_strconcat("\"seq\":1,\"ops\":", brackets, NULL);
    g_autoptr(GString) text = g_string_new(NULL);

    append_record(text, members);
    g_string_append_c(text, '\n');
    fixture_write(fixture, name, text->str, text->len);
}

static void make_gigabyte(Fixture *fixture, const char *name)
{
    g_autofree char *path = fixture_path(fixture, name);

    fixture_write(fixture, name, "x", 1);
    g_assert_cmpint(truncate(path, 1024 * 1024 * 1024), ==, 0);
}

static void make_nul_bytes(Fixture *fixture, const char *name)
{
    g_autofree char *text = g_malloc0(5000);

    fixture_write(fixture, name, text, 5000);
}

static void make_noise(Fixture *fixture, const char *name)
{
    g_autoptr(GRand) rand = g_rand_new_with_seed(7);
    g_autofree char *text = g_malloc(100000);

    for (guint i = 0; i < 100000; i++)
        text[i] = (char)g_rand_int(rand);
    fixture_write(fixture, name, text, 100000);
}

/* Markers without end: what a reader of bad habits would read again and again. */
static void make_markers(Fixture *fixture, const char *name)
{
    GString *text = g_string_new(NULL);

    while (text->len < 20 * 1024 * 1024)
        g_string_append(text, "{\"crc\":\"");
    fixture_write(fixture, name, text->str, text->len);
    (void)g_string_free(text, TRUE);
}

static void make_folder(Fixture *fixture, const char *name)
{
    g_autofree char *path = fixture_path(fixture, name);

    (void)g_unlink(path);
    g_assert_cmpint(g_mkdir(path, 0700), ==, 0);
}

static void make_symlink(Fixture *fixture, const char *name)
{
    g_autofree char *path = fixture_path(fixture, name);

    (void)g_unlink(path);
    g_assert_cmpint(symlink("/etc/passwd", path), ==, 0);
}

static void make_fifo(Fixture *fixture, const char *name)
{
    g_autofree char *path = fixture_path(fixture, name);

    (void)g_unlink(path);
    g_assert_cmpint(mkfifo(path, 0600), ==, 0);
}

static void make_other_json(Fixture *fixture, const char *name)
{
    static const char text[] = "{\"allocations\":{\"3000\":true},\"singletonServices\":[]}\n";

    fixture_write(fixture, name, text, strlen(text));
}

static void make_later_version(Fixture *fixture, const char *name)
{
    static const char text[] = "{\"version\":2,\"leases\":[1,2,3]}\n";

    fixture_write(fixture, name, text, strlen(text));
}

static const Rubbish rubbish[] = {
    {"empty", make_empty, "empty"},
    {"brackets", make_brackets, ""},
    {"bracket-record", make_bracket_record, ""},
    {"gigabyte", make_gigabyte, "larger than"},
    {"nul-bytes", make_nul_bytes, ""},
    {"noise", make_noise, ""},
    {"markers", make_markers, ""},
    {"folder", make_folder, "not a regular file"},
    {"symlink", make_symlink, "not a regular file"},
    {"fifo", make_fifo, "not a regular file"},
    {"other-json", make_other_json, ""},
    {"later-version", make_later_version, ""},
};

static void start_with_leases(Fixture *fixture)
{
    fixture_start(fixture);
    for (guint16 port = 3000; port < 3010; port++)
        g_assert_true(fixture_grant(fixture, port, NULL));
    fixture_settle(fixture);
    fixture_close(fixture);
}

/* The leases are in the journal. */
static void test_journal(const void *data)
{
    const Rubbish *kind = data;
    g_autoptr(Fixture) fixture = fixture_new();

    start_with_leases(fixture);
    kind->make(fixture, "state.journal");
    assert_survived(fixture, "state.journal", kind->says, 0);
}

/* The leases are in the snapshot and in its copy. */
static void test_snapshot(const void *data)
{
    const Rubbish *kind = data;
    g_autoptr(Fixture) fixture = fixture_new();

    start_with_leases(fixture);
    fixture_start(fixture);
    fixture_settle(fixture);
    fixture_close(fixture);
    kind->make(fixture, "state.json");
    assert_survived(fixture, "state.json", kind->says, 10);
}

static void test_all(const void *data)
{
    const Rubbish *kind = data;
    g_autoptr(Fixture) fixture = fixture_new();

    start_with_leases(fixture);
    kind->make(fixture, "state.json");
    kind->make(fixture, "state.json.previous");
    kind->make(fixture, "state.journal");
    kind->make(fixture, "state.journal.old");
    assert_survived(fixture, "state.json", kind->says, 0);
}

/* ---- records whose checksum holds ---- */

static void assert_snapshot(const char *head, const char *const *members, const char *says,
                            guint n_leases)
{
    g_autoptr(Fixture) fixture = fixture_new();
    g_autofree char *text = make_snapshot(head, members);

    fixture_write(fixture, "state.json", text, strlen(text));
    assert_survived(fixture, "state.json", says, n_leases);
}

static void test_wrong_records(void)
{
    assert_snapshot(HEAD, (const char *[]){LEASE(ID_1, "0"), LEASE(ID_2, "2"), NULL}, "\"port\"",
                    1);
    assert_snapshot(HEAD, (const char *[]){LEASE(ID_1, "70000"), LEASE(ID_2, "2"), NULL},
                    "\"port\"", 1);
    assert_snapshot(HEAD, (const char *[]){LEASE(ID_1, "\"1\""), LEASE(ID_2, "2"), NULL},
                    "\"port\"", 1);
    assert_snapshot(HEAD, (const char *[]){LEASE(ID_1, "1"), "\"leases\":[]", NULL}, "neither", 1);
    assert_snapshot(HEAD, (const char *[]){LEASE(ID_1, "1") ",\"colour\":1", NULL}, "\"colour\"",
                    1);
    assert_snapshot(HEAD, (const char *[]){LEASE(ID_1, "1"), "\"seq\":1,\"ops\":[]", NULL},
                    "journal's", 1);
}

static void test_duplicates(void)
{
    g_autoptr(Fixture) fixture = fixture_new();
    g_autofree char *text = make_snapshot(
        HEAD, (const char *[]){LEASE(ID_1, "1"), LEASE(ID_1, "2"), LEASE(ID_2, "2"), NULL});

    fixture_write(fixture, "state.json", text, strlen(text));
    fixture_open(fixture);
    {
        g_autoptr(StoreContents) contents = store_load(fixture->store, FALSE, NULL);

        g_assert_nonnull(strstr(find_damage(contents, "state.json")->what, "twice"));
        /* the later of one id; two on one port are the recovery's concern */
        g_assert_cmpuint(contents->leases->len, ==, 2);
        for (guint i = 0; i < 2; i++)
            g_assert_cmpuint(((Lease *)contents->leases->pdata[i])->port, ==, 2);
    }
}

static void test_later_version(void)
{
    static const char head[] =
        "\"version\":2,\"boot_id\":\"00112233445566778899aabbccddeeff\",\"sequence\":0";
    g_autoptr(Fixture) fixture = fixture_new();
    g_autoptr(GString) text = g_string_new(NULL);

    assert_snapshot(head, (const char *[]){LEASE(ID_1, "1"), NULL}, "version 2", 0);

    /* a journal likewise */
    append_record(text, head);
    g_string_append_c(text, '\n');
    append_record(text, "\"seq\":1,\"ops\":[{\"put_lease\":{" LEASE(ID_1, "1") "}}]");
    g_string_append_c(text, '\n');
    fixture_write(fixture, "state.journal", text->str, text->len);
    assert_survived(fixture, "state.journal", "version 2", 0);
}

static void test_journal_order(void)
{
    static const struct {
        const char *members[5];
        const char *says;
        guint n_leases;
    } cases[] = {
        {{"\"seq\":1,\"ops\":[]", "\"seq\":4,\"ops\":[{\"put_lease\":{" LEASE(ID_1, "1") "}}]"},
         "records 2 to 3 are missing",
         1},
        {{"\"seq\":1,\"ops\":[{\"put_lease\":{" LEASE(ID_1, "1") "}}]",
          "\"seq\":1,\"ops\":[{\"put_lease\":{" LEASE(ID_2, "2") "}}]"},
         "comes after record 1",
         1},
        {{"\"seq\":1,\"ops\":[{\"put_lease\":{" LEASE(ID_1, "0") "}}]",
          "\"seq\":2,\"ops\":[{\"put_lease\":{" LEASE(ID_2, "2") "}}]"},
         "\"port\"",
         1},
        {{"\"seq\":4611686018427000000,\"ops\":[]", "\"seq\":1,\"ops\":[]"}, "comes after", 0},
        {{"\"seq\":9223372036854775807,\"ops\":[]"}, "\"seq\"", 0},
        {{LEASE(ID_1, "1")}, "not a journal's", 0},
    };

    for (guint i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autoptr(Fixture) fixture = fixture_new();
        g_autofree char *snapshot = make_snapshot(HEAD, (const char *[]){NULL});
        g_autofree char *text = make_journal(cases[i].members);

        fixture_write(fixture, "state.json", snapshot, strlen(snapshot));
        fixture_write(fixture, "state.journal", text, strlen(text));
        assert_survived(fixture, "state.journal", cases[i].says, cases[i].n_leases);
    }
}

/* What was taken back is not there, even though its record is whole. */
static void test_undone(void)
{
    g_autoptr(Fixture) fixture = fixture_new();
    g_autoptr(StoreContents) contents = NULL;
    g_autofree char *snapshot = make_snapshot(HEAD, (const char *[]){NULL});
    g_autofree char *text = make_journal((const char *[]){
        "\"seq\":1,\"ops\":[{\"put_lease\":{" LEASE(ID_1, "1") "}}]",
        "\"seq\":2,\"ops\":[{\"put_lease\":{" LEASE(ID_2, "2") "}}]",
        "\"seq\":3,\"undo\":[1]",
        NULL,
    });

    fixture_write(fixture, "state.json", snapshot, strlen(snapshot));
    fixture_write(fixture, "state.journal", text, strlen(text));
    fixture_open(fixture);
    contents = store_load(fixture->store, FALSE, NULL);
    g_assert_null(find_damage(contents, "state.journal"));
    g_assert_cmpuint(contents->leases->len, ==, 1);
    g_assert_cmpstr(((Lease *)contents->leases->pdata[0])->id.text, ==, ID_2);
}

/* ---- copies ---- */

static void load_once(Fixture *fixture)
{
    g_autoptr(StoreContents) contents = NULL;
    g_autoptr(GError) error = NULL;

    contents = store_load(fixture->store, FALSE, &error);
    g_assert_no_error(error);
    g_assert_cmpuint(contents->damage->len, >, 0);
}

static void test_copies_are_bounded(void)
{
    g_autoptr(Fixture) fixture = fixture_new();

    fixture->options.backups_max = 4;
    start_with_leases(fixture);
    fixture_open(fixture);
    for (guint i = 0; i < 10; i++) {
        g_autofree char *text = g_strdup_printf("rubbish %u", i);

        fixture_write(fixture, "state.journal", text, strlen(text));
        load_once(fixture);
        /* the same again, as in a loop of crashes, is no second copy */
        load_once(fixture);
        g_assert_cmpuint(fixture_count(fixture, ".corrupt."), ==, MIN(i + 1, 4));
    }
}

static void test_no_copies(void)
{
    g_autoptr(Fixture) fixture = fixture_new();
    g_autofree char *snapshot = fixture_path(fixture, "state.json");

    fixture->options.backup_corrupted = FALSE;
    start_with_leases(fixture);
    fixture_write(fixture, "state.journal", "rubbish", 7);
    fixture_open(fixture);
    load_once(fixture);
    g_assert_cmpuint(fixture_count(fixture, ".corrupt."), ==, 0);
    /* what cannot be replaced is moved all the same */
    (void)g_unlink(snapshot);
    g_assert_cmpint(g_mkdir(snapshot, 0700), ==, 0);
    load_once(fixture);
    g_assert_cmpuint(fixture_count(fixture, ".corrupt."), ==, 1);
}

static void test_dry_run(void)
{
    g_autoptr(Fixture) fixture = fixture_new();
    g_autoptr(StoreContents) contents = NULL;
    g_autofree char *text = NULL;
    size_t length;

    start_with_leases(fixture);
    fixture_write(fixture, "state.journal", "rubbish", 7);
    fixture_open(fixture);
    contents = store_load(fixture->store, TRUE, NULL);
    g_assert_cmpuint(contents->damage->len, ==, 1);
    g_assert_null(find_damage(contents, "state.journal")->backup);
    g_assert_cmpuint(fixture_count(fixture, ".corrupt."), ==, 0);
    text = fixture_read(fixture, "state.journal", &length);
    g_assert_cmpmem(text, length, "rubbish", 7);
}

/* While the store works, too: what is written to afterwards must not change the copy. */
static void test_while_working(void)
{
    g_autoptr(Fixture) fixture = fixture_new();
    g_autofree char *path = fixture_path(fixture, "state.journal"), *copy = NULL, *again = NULL;
    g_autoptr(StoreContents) contents = NULL;
    AUTO_FD fd = -1;

    fixture_start(fixture);
    for (guint16 port = 3000; port < 3010; port++)
        g_assert_true(fixture_grant(fixture, port, NULL));
    fixture_settle(fixture);
    fd = g_open(path, O_WRONLY | O_CLOEXEC, 0);
    g_assert_cmpint(pwrite(fd, "rubbish", 7, 600), ==, 7);

    contents = store_load(fixture->store, FALSE, NULL);
    g_assert_cmpuint(contents->damage->len, ==, 1);
    g_assert_true(
        g_file_get_contents(find_damage(contents, "state.journal")->backup, &copy, NULL, NULL));
    g_assert_true(fixture_grant(fixture, 3010, NULL));
    g_assert_true(
        g_file_get_contents(find_damage(contents, "state.journal")->backup, &again, NULL, NULL));
    g_assert_cmpstr(copy, ==, again);
    /* memory is what counts, and it was written anew */
    fixture_settle(fixture);
    fixture_assert_disk_holds(fixture);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    for (guint i = 0; i < G_N_ELEMENTS(rubbish); i++) {
        static const struct {
            const char *where;
            void (*test)(const void *data);
        } places[] = {{"journal", test_journal}, {"snapshot", test_snapshot}, {"all", test_all}};

        for (guint k = 0; k < G_N_ELEMENTS(places); k++) {
            g_autofree char *path =
                g_strdup_printf("/damage/%s/%s", places[k].where, rubbish[i].name);

            g_test_add_data_func(path, &rubbish[i], places[k].test);
        }
    }
    g_test_add_func("/damage/wrong-records", test_wrong_records);
    g_test_add_func("/damage/duplicates", test_duplicates);
    g_test_add_func("/damage/later-version", test_later_version);
    g_test_add_func("/damage/journal-order", test_journal_order);
    g_test_add_func("/damage/undone", test_undone);
    g_test_add_func("/damage/copies-are-bounded", test_copies_are_bounded);
    g_test_add_func("/damage/no-copies", test_no_copies);
    g_test_add_func("/damage/dry-run", test_dry_run);
    g_test_add_func("/damage/while-working", test_while_working);
    return g_test_run();
}
