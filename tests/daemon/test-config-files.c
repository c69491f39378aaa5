/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/config-files.h"

#include <glib/gstdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define TYPE(name, first) \
    "{\"service_types\":{\"" name "\":{\"port_range\":[" first "," first "]}}}"

/** Fixture: three folders of a temporary one, all there, all empty. */
typedef struct Fixture {
    char *root;
    char *vendor;
    char *admin;
    char *user;
    ConfigFolders folders;
} Fixture;

static void remove_tree(const char *path)
{
    g_autoptr(GDir) dir = NULL;
    const char *name;

    if (!g_file_test(path, G_FILE_TEST_IS_SYMLINK))
        dir = g_dir_open(path, 0, NULL);
    while (dir && (name = g_dir_read_name(dir))) {
        g_autofree char *below = g_build_filename(path, name, NULL);

        remove_tree(below);
    }
    g_assert_cmpint(g_remove(path), ==, 0);
}

static void setup(Fixture *f, gconstpointer data)
{
    char **const folders[] = {&f->vendor, &f->admin, &f->user};
    static const char *const names[] = {"vendor", "admin", "user"};

    f->root = g_dir_make_tmp("styxy-config-XXXXXX", NULL);
    g_assert_nonnull(f->root);
    for (size_t i = 0; i < G_N_ELEMENTS(folders); i++) {
        g_autofree char *drop_ins = g_build_filename(f->root, names[i], "core-ports.d", NULL);

        *folders[i] = g_build_filename(f->root, names[i], NULL);
        g_assert_cmpint(g_mkdir_with_parents(drop_ins, 0700), ==, 0);
    }
    f->folders = (ConfigFolders){f->vendor, f->admin, f->user};
}

static void teardown(Fixture *f, gconstpointer data)
{
    remove_tree(f->root);
    g_free(f->root);
    g_free(f->vendor);
    g_free(f->admin);
    g_free(f->user);
}

static char *path_of(const Fixture *f, const char *path)
{
    return g_build_filename(f->root, path, NULL);
}

static void put(const Fixture *f, const char *path, const char *text)
{
    g_autofree char *full = path_of(f, path);

    g_assert_true(g_file_set_contents(full, text, -1, NULL));
}

static void link_to(const Fixture *f, const char *path, const char *target)
{
    g_autofree char *full = path_of(f, path);

    g_assert_cmpint(symlink(target, full), ==, 0);
}

/** assert_files: loads, and @expected is the list of the files that count, below f->root. */
static void assert_files(const Fixture *f, const char *expected)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(Configuration) config = config_files_load(NULL, &f->folders, &error);
    g_autoptr(GString) files = g_string_new(NULL);

    g_assert_no_error(error);
    for (char **file = config->files; *file; file++) {
        g_assert_true(g_str_has_prefix(*file, f->root));
        g_string_append_printf(files, "%s%s", files->len ? " " : "", *file + strlen(f->root) + 1);
    }
    g_assert_cmpstr(files->str, ==, expected);
}

static void assert_fails(const Fixture *f, GQuark domain, int code, const char *part)
{
    g_autoptr(GError) error = NULL;

    g_assert_null(config_files_load(NULL, &f->folders, &error));
    g_test_message("%s", error->message);
    g_assert_error(error, domain, code);
    g_assert_nonnull(strstr(error->message, part));
}

static void test_main_file(Fixture *f, gconstpointer data)
{
    assert_fails(f, G_FILE_ERROR, G_FILE_ERROR_NOENT, "vendor/core-ports.json");
    put(f, "vendor/core-ports.json", TYPE("vendor", "1"));
    assert_files(f, "vendor/core-ports.json");
    put(f, "admin/core-ports.json", TYPE("admin", "2"));
    assert_files(f, "admin/core-ports.json");
    put(f, "user/core-ports.json", TYPE("user", "3"));
    assert_files(f, "user/core-ports.json");
    f->folders.user = NULL;
    assert_files(f, "admin/core-ports.json");
    f->folders.admin = "/nonexistent/styxy";
    assert_files(f, "vendor/core-ports.json");
}

static void test_drop_ins(Fixture *f, gconstpointer data)
{
    g_autoptr(Configuration) config = NULL;
    g_autoptr(GError) error = NULL;

    put(f, "vendor/core-ports.json", TYPE("base", "1"));
    put(f, "vendor/core-ports.d/10-not-read.json", "bad");
    put(f, "admin/core-ports.d/50-b.json", TYPE("b", "5"));
    put(f, "admin/core-ports.d/9-z.json", TYPE("b", "9"));
    put(f, "admin/core-ports.d/Z.json", TYPE("z", "20"));
    put(f, "admin/core-ports.d/a.json", "{\"service_types\":{\"z\":null}}");
    put(f, "admin/core-ports.d/.50-b.json.swp", "bad");
    put(f, "admin/core-ports.d/.hidden.json", "bad");
    put(f, "admin/core-ports.d/50-b.json~", "bad");
    put(f, "admin/core-ports.d/50-b.json.dpkg-new", "bad");
    put(f, "admin/core-ports.d/README", "bad");
    assert_files(f,
                 "vendor/core-ports.json admin/core-ports.d/50-b.json "
                 "admin/core-ports.d/9-z.json admin/core-ports.d/Z.json admin/core-ports.d/a.json");
    config = config_files_load(NULL, &f->folders, &error);
    g_assert_no_error(error);
    g_assert_nonnull(configuration_find_type(config, "base"));
    g_assert_null(configuration_find_type(config, "z"));
    g_assert_cmpuint(configuration_find_type(config, "b")->range.first, ==, 9);

    /* The user's come among the administrator's by name, and take the place of one of theirs. */
    put(f, "user/core-ports.d/60-u.json", TYPE("u", "30"));
    put(f, "user/core-ports.d/9-z.json", TYPE("b", "40"));
    assert_files(f,
                 "vendor/core-ports.json admin/core-ports.d/50-b.json user/core-ports.d/60-u.json "
                 "user/core-ports.d/9-z.json admin/core-ports.d/Z.json admin/core-ports.d/a.json");
    link_to(f, "user/core-ports.d/Z.json", "/dev/null");
    put(f, "user/core-ports.d/a.json", "");
    assert_files(f,
                 "vendor/core-ports.json admin/core-ports.d/50-b.json user/core-ports.d/60-u.json "
                 "user/core-ports.d/9-z.json");
    f->folders.user = NULL;
    assert_files(f,
                 "vendor/core-ports.json admin/core-ports.d/50-b.json "
                 "admin/core-ports.d/9-z.json admin/core-ports.d/Z.json admin/core-ports.d/a.json");
}

static void test_links(Fixture *f, gconstpointer data)
{
    put(f, "elsewhere", TYPE("far", "1"));
    link_to(f, "admin/core-ports.json", "../elsewhere");
    link_to(f, "admin/core-ports.d/x.json", "../../elsewhere");
    assert_files(f, "admin/core-ports.json admin/core-ports.d/x.json");
}

static void test_bad_contents(Fixture *f, gconstpointer data)
{
    put(f, "vendor/core-ports.json", TYPE("base", "7"));
    put(f, "admin/core-ports.d/x.json", "{\n\"service_types\":{\n\"x\":{\"port_range\":[7,8]}}}");
    assert_fails(f, CONFIGURATION_ERROR, 0,
                 "/admin/core-ports.d/x.json:3: service_types.x.port_range: 7-8 overlaps 7-7 of");
    put(f, "admin/core-ports.d/x.json", " ");
    assert_fails(f, CONFIGURATION_ERROR, 0,
                 "/admin/core-ports.d/x.json:1: top level: nothing there");
    put(f, "admin/core-ports.d/x.json", "{}");
    put(f, "admin/core-ports.json", "");
    assert_fails(f, CONFIGURATION_ERROR, 0, "/admin/core-ports.json:1: top level: nothing there");
}

/* What is there and cannot be read is never taken for what is not there. */
static void test_unreadable(Fixture *f, gconstpointer data)
{
    g_autofree char *folder = path_of(f, "admin/core-ports.d/x.json");
    g_autofree char *fifo = path_of(f, "admin/core-ports.d/y.json");
    g_autofree char *large = g_strnfill(CONFIGURATION_BYTES_MAX + 1, ' ');
    g_autofree char *dangling = path_of(f, "user/core-ports.json");
    g_autofree char *drop_ins = path_of(f, "user/core-ports.d");

    put(f, "vendor/core-ports.json", TYPE("base", "7"));
    g_assert_cmpint(g_mkdir(folder, 0700), ==, 0);
    assert_fails(f, G_FILE_ERROR, G_FILE_ERROR_INVAL, "admin/core-ports.d/x.json is not a regular");
    g_assert_cmpint(g_rmdir(folder), ==, 0);
    g_assert_cmpint(mkfifo(fifo, 0600), ==, 0);
    assert_fails(f, G_FILE_ERROR, G_FILE_ERROR_INVAL, "admin/core-ports.d/y.json is not a regular");
    g_assert_cmpint(g_unlink(fifo), ==, 0);
    link_to(f, "admin/core-ports.d/x.json", "/nonexistent/styxy");
    assert_fails(f, G_FILE_ERROR, G_FILE_ERROR_NOENT, "admin/core-ports.d/x.json");
    g_assert_cmpint(g_unlink(folder), ==, 0);
    put(f, "admin/core-ports.d/x.json", large);
    assert_fails(f, G_FILE_ERROR, G_FILE_ERROR_INVAL, "admin/core-ports.d/x.json is larger than");
    g_assert_cmpint(g_unlink(folder), ==, 0);
    assert_files(f, "vendor/core-ports.json");

    link_to(f, "user/core-ports.json", "/nonexistent/styxy");
    assert_fails(f, G_FILE_ERROR, G_FILE_ERROR_NOENT, "user/core-ports.json");
    f->folders.user = NULL;
    assert_files(f, "vendor/core-ports.json");
    f->folders.user = f->user;
    g_assert_cmpint(g_unlink(dangling), ==, 0);
    g_assert_cmpint(g_rmdir(drop_ins), ==, 0);
    assert_files(f, "vendor/core-ports.json");
    put(f, "user/core-ports.d", "");
    assert_fails(f, G_FILE_ERROR, G_FILE_ERROR_NOTDIR, "user/core-ports.d");
}

static void test_one_file(Fixture *f, gconstpointer data)
{
    g_autofree char *path = path_of(f, "own.conf");
    g_autoptr(Configuration) config = NULL;
    g_autoptr(GError) error = NULL;

    put(f, "admin/core-ports.d/x.json", "bad");
    g_assert_null(config_files_load(path, NULL, &error));
    g_assert_error(error, G_FILE_ERROR, G_FILE_ERROR_NOENT);
    g_clear_error(&error);
    put(f, "own.conf", TYPE("own", "7"));
    config = config_files_load(path, &f->folders, &error);
    g_assert_no_error(error);
    g_assert_cmpuint(config->service_types->len, ==, 1);
    g_assert_cmpstr(config->files[0], ==, path);
    g_assert_null(config->files[1]);
}

static void test_too_many(Fixture *f, gconstpointer data)
{
    put(f, "vendor/core-ports.json", TYPE("base", "7"));
    for (int i = 0; i <= CONFIG_FILES_MAX; i++) {
        g_autofree char *path =
            g_strdup_printf("%s/core-ports.d/%d.json", i % 2 ? "admin" : "user", i);

        if (i == CONFIG_FILES_MAX) {
            g_autoptr(GError) error = NULL;
            g_autoptr(Configuration) config = config_files_load(NULL, &f->folders, &error);

            g_assert_no_error(error);
            g_assert_cmpuint(g_strv_length(config->files), ==, CONFIG_FILES_MAX + 1);
        }
        put(f, path, "{}");
    }
    assert_fails(f, G_FILE_ERROR, G_FILE_ERROR_INVAL, "more than 1024 files");
}

/* A name that is not UTF-8 still makes a message that is. */
static void test_odd_name(Fixture *f, gconstpointer data)
{
    g_autoptr(GError) error = NULL;

    put(f, "vendor/core-ports.json", TYPE("base", "7"));
    put(f, "admin/core-ports.d/\xff.json", "[]");
    g_assert_null(config_files_load(NULL, &f->folders, &error));
    g_assert_true(error->domain == CONFIGURATION_ERROR);
    g_assert_true(g_utf8_validate(error->message, -1, NULL));
}

static void test_folders(void)
{
    ConfigFolders system = config_folders(FALSE), user = config_folders(TRUE);

    g_assert_cmpstr(system.vendor, ==, STYXY_DATADIR);
    g_assert_cmpstr(system.admin, ==, STYXY_SYSCONFDIR);
    g_assert_null(system.user);
    g_assert_cmpstr(user.vendor, ==, STYXY_DATADIR);
    g_assert_cmpstr(user.admin, ==, STYXY_SYSCONFDIR);
    g_assert_true(g_str_has_prefix(user.user, g_get_user_config_dir()));
    g_assert_true(g_str_has_suffix(user.user, "/styxy"));
}

int main(int argc, char **argv)
{
    static const struct {
        const char *path;
        void (*func)(Fixture *, gconstpointer);
    } tests[] = {
        {"/config-files/main-file", test_main_file},
        {"/config-files/drop-ins", test_drop_ins},
        {"/config-files/links", test_links},
        {"/config-files/bad-contents", test_bad_contents},
        {"/config-files/unreadable", test_unreadable},
        {"/config-files/one-file", test_one_file},
        {"/config-files/too-many", test_too_many},
        {"/config-files/odd-name", test_odd_name},
    };

    g_test_init(&argc, &argv, NULL);
    for (size_t i = 0; i < G_N_ELEMENTS(tests); i++)
        g_test_add(tests[i].path, Fixture, NULL, setup, tests[i].func, teardown);
    g_test_add_func("/config-files/folders", test_folders);
    return g_test_run();
}
