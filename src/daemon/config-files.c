/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/config-files.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "util/file.h"

#define MAIN_NAME "core-ports.json"
#define DROP_IN_FOLDER "core-ports.d"

/** Text: one file that was read; owns all of it. */
typedef struct Text {
    char *name; /* for messages */
    char *text;
    size_t length;
} Text;

static void text_free(void *data)
{
    Text *text = data;

    g_free(text->name);
    g_free(text->text);
    g_free(text);
}

ConfigFolders config_folders(gboolean user)
{
    static char *user_folder;
    ConfigFolders folders = {STYXY_DATADIR, STYXY_SYSCONFDIR, NULL};

    if (user) {
        if (!user_folder)
            user_folder = g_build_filename(g_get_user_config_dir(), "styxy", NULL);
        folders.user = user_folder;
    }
    return folders;
}

/** read_text: appends the contents of @path to @texts. */
static gboolean read_text(const char *path, GPtrArray *texts, GError **error)
{
    g_autofree char *contents = NULL;
    size_t length;
    Text *text;

    contents = file_read(AT_FDCWD, path, FILE_READ_FOLLOW, CONFIGURATION_BYTES_MAX, &length, error);
    if (!contents)
        return FALSE;
    text = g_new0(Text, 1);
    /* A path is bytes, a message is text. */
    text->name = g_filename_display_name(path);
    text->text = g_steal_pointer(&contents);
    text->length = length;
    g_ptr_array_add(texts, text);
    return TRUE;
}

/** read_main: the first core-ports.json of the user, the administrator and us. */
static gboolean read_main(const ConfigFolders *folders, GPtrArray *texts, GError **error)
{
    const char *const order[] = {folders->user, folders->admin, folders->vendor};
    g_autoptr(GString) places = g_string_new(NULL);

    for (size_t i = 0; i < G_N_ELEMENTS(order); i++) {
        g_autofree char *path = NULL, *name = NULL;
        g_autoptr(GError) problem = NULL;
        struct stat st;

        if (!order[i])
            continue;
        path = g_build_filename(order[i], MAIN_NAME, NULL);
        if (read_text(path, texts, &problem))
            return TRUE;
        /* A link that leads nowhere was meant for something: only a missing name goes on. */
        if (!g_error_matches(problem, G_FILE_ERROR, G_FILE_ERROR_NOENT) || lstat(path, &st) == 0) {
            g_propagate_error(error, g_steal_pointer(&problem));
            return FALSE;
        }
        name = g_filename_display_name(path);
        g_string_append_printf(places, "%s%s", places->len ? ", " : "", name);
    }
    g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_NOENT, "there is no configuration; looked for %s",
                places->str);
    return FALSE;
}

static gboolean is_drop_in(const char *name)
{
    return name[0] != '.' && g_str_has_suffix(name, ".json");
}

/** list_drop_ins: adds NAME -> path of each drop-in below @folder to @paths. */
static gboolean list_drop_ins(const char *folder, GHashTable *paths, GError **error)
{
    g_autofree char *place = g_build_filename(folder, DROP_IN_FOLDER, NULL);
    g_autoptr(GError) problem = NULL;
    g_autoptr(GDir) dir = g_dir_open(place, 0, &problem);
    const char *name;

    if (!dir) {
        if (g_error_matches(problem, G_FILE_ERROR, G_FILE_ERROR_NOENT))
            return TRUE;
        g_propagate_error(error, g_steal_pointer(&problem));
        return FALSE;
    }
    while ((name = g_dir_read_name(dir))) {
        if (!is_drop_in(name))
            continue;
        g_hash_table_replace(paths, g_strdup(name), g_build_filename(place, name, NULL));
        if (g_hash_table_size(paths) > CONFIG_FILES_MAX) {
            g_autofree char *shown = g_filename_display_name(place);

            g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_INVAL,
                        "more than %d files in %s and before it", CONFIG_FILES_MAX, shown);
            return FALSE;
        }
    }
    return TRUE;
}

/** is_mask: whether @path is there to hide another: empty, or a link to /dev/null. */
static gboolean is_mask(const char *path)
{
    struct stat st;

    if (stat(path, &st) < 0)
        return FALSE;
    return (S_ISREG(st.st_mode) && st.st_size == 0) ||
           (S_ISCHR(st.st_mode) && st.st_rdev == makedev(1, 3));
}

static int name_compare(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static gboolean read_drop_ins(const ConfigFolders *folders, GPtrArray *texts, GError **error)
{
    g_autoptr(GHashTable) paths = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
    g_autofree const char **names = NULL;
    guint n_names;

    if (folders->admin && !list_drop_ins(folders->admin, paths, error))
        return FALSE;
    if (folders->user && !list_drop_ins(folders->user, paths, error))
        return FALSE;
    names = (const char **)g_hash_table_get_keys_as_array(paths, &n_names);
    qsort(names, n_names, sizeof(char *), name_compare);
    for (guint i = 0; i < n_names; i++) {
        const char *path = g_hash_table_lookup(paths, names[i]);

        if (!is_mask(path) && !read_text(path, texts, error))
            return FALSE;
    }
    return TRUE;
}

Configuration *config_files_load(const char *file, const ConfigFolders *folders, GError **error)
{
    g_autoptr(GPtrArray) texts = g_ptr_array_new_with_free_func(text_free);
    g_autofree ConfigurationSource *sources = NULL;

    if (file) {
        if (!read_text(file, texts, error))
            return NULL;
    } else if (!read_main(folders, texts, error) || !read_drop_ins(folders, texts, error)) {
        return NULL;
    }
    sources = g_new(ConfigurationSource, texts->len);
    for (guint i = 0; i < texts->len; i++) {
        const Text *text = texts->pdata[i];

        sources[i] = (ConfigurationSource){text->name, text->text, text->length};
    }
    return configuration_parse(sources, texts->len, error);
}
