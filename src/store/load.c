/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Reading the state, at start or for a check. Of state.json and its predecessor the one is taken
 * with which the journals lose nothing; where both lose something, the newer.
 */
#include <errno.h>
#include <sys/stat.h>
#include <fcntl.h>

#include "store/backup.h"
#include "store/chain.h"
#include "store/files.h"
#include "store/store-private.h"
#include "store/sys.h"

static void free_damage(void *data)
{
    StoreDamage *damage = data;

    g_free(damage->file);
    g_free(damage->what);
    g_free(damage->backup);
    g_free(damage);
}

static void unref_lease(void *data)
{
    lease_unref(data);
}

/* Empties the tables of @chain (nullable) into what store_load() returns. */
static StoreContents *make_contents(Chain *chain)
{
    StoreContents *contents = g_new0(StoreContents, 1);
    GHashTableIter iter;
    void *key, *value;

    contents->leases = g_ptr_array_new_full(g_hash_table_size(chain->leases), unref_lease);
    contents->sticky =
        g_array_sized_new(FALSE, FALSE, sizeof(StickyPort), g_hash_table_size(chain->sticky));
    contents->chunks =
        g_array_sized_new(FALSE, FALSE, sizeof(Chunk), g_hash_table_size(chain->chunks));
    contents->damage = g_ptr_array_new_with_free_func(free_damage);
    contents->boot_id = chain->boot_id;
    contents->sequence = chain->sequence;
    contents->torn_tail = chain->torn_tail;

    g_hash_table_iter_init(&iter, chain->leases);
    while (g_hash_table_iter_next(&iter, &key, &value))
        g_ptr_array_add(contents->leases, lease_ref(value));
    for (GList *l = chain->sticky_order.head; l; l = l->next)
        g_array_append_vals(contents->sticky, (const StickyPort *)l->data, 1);
    g_hash_table_iter_init(&iter, chain->chunks);
    while (g_hash_table_iter_next(&iter, &key, &value))
        g_array_append_vals(contents->chunks, key, 1);
    contents->strings = g_steal_pointer(&chain->strings);
    return contents;
}

StoreContents *store_contents_free(StoreContents *contents)
{
    if (!contents)
        return NULL;
    g_ptr_array_unref(contents->leases);
    g_array_unref(contents->sticky);
    g_array_unref(contents->chunks);
    g_ptr_array_unref(contents->damage);
    g_string_chunk_free(contents->strings);
    g_free(contents->torn_backup);
    g_free(contents);
    return NULL;
}

static void add_damage(StoreContents *contents, const FileReport *file, const char *remedy,
                       gboolean made_good)
{
    StoreDamage *damage;

    if (file->what->len == 0)
        return;
    damage = g_new0(StoreDamage, 1);
    damage->file = g_strdup(file->name);
    damage->what = g_strconcat(file->what->str, remedy, NULL);
    damage->lost = made_good ? 0 : file->lost;
    g_ptr_array_add(contents->damage, damage);
}

/* A journal that is being written to must not get a second name. */
static BackupMode mode_for(const StoreReading *reading, const char *name)
{
    return reading->running && g_str_has_prefix(name, FILE_JOURNAL) ? BACKUP_COPY : BACKUP_LINK;
}

static gboolean is_regular(const StoreReading *reading, const char *name)
{
    struct stat st;

    return fstatat(reading->dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0 || S_ISREG(st.st_mode);
}

static gboolean is_there(const StoreReading *reading, const char *name)
{
    struct stat st;

    return fstatat(reading->dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0;
}

/* What cannot be replaced by a file is moved out of the way in any case. */
static gboolean is_to_be_kept(const StoreReading *reading, const StoreDamage *damage)
{
    return is_there(reading, damage->file) &&
           (reading->backup_corrupted || !is_regular(reading, damage->file));
}

static gboolean make_backups(const StoreReading *reading, StoreContents *contents, GError **error)
{
    gboolean keep_torn = contents->torn_tail && contents->damage->len == 0 &&
                         reading->backup_corrupted && is_there(reading, FILE_JOURNAL);
    guint n = keep_torn && !backup_is_kept(reading->dir_fd, FILE_JOURNAL);

    for (guint i = 0; i < contents->damage->len; i++)
        n += is_to_be_kept(reading, contents->damage->pdata[i]) &&
             !backup_is_kept(reading->dir_fd, ((StoreDamage *)contents->damage->pdata[i])->file);
    backup_make_room(reading->dir_fd, reading->backups_max, n);
    for (guint i = 0; i < contents->damage->len; i++) {
        StoreDamage *damage = contents->damage->pdata[i];

        if (is_to_be_kept(reading, damage) &&
            !backup_make(reading->dir_fd, reading->dir, damage->file,
                         mode_for(reading, damage->file), &damage->backup, error))
            return FALSE;
    }
    return !keep_torn ||
           backup_make(reading->dir_fd, reading->dir, FILE_JOURNAL, mode_for(reading, FILE_JOURNAL),
                       &contents->torn_backup, error);
}

/* Whether the older snapshot with the journals is the whole story although the newer is not. */
static gboolean is_better(const Chain *previous, const Chain *chain)
{
    if (!previous->snapshot.exists || !previous->usable)
        return FALSE;
    return !chain->usable || chain_lost(previous) == 0;
}

StoreContents *store_read(const StoreReading *reading, GError **error)
{
    const ChainLimits *limits = reading->limits.unshared ? &reading->limits : NULL;
    g_autoptr(Chain) chain =
        chain_read(reading->dir_fd, reading->dir, FILE_SNAPSHOT, limits, error);
    g_autoptr(Chain) previous = NULL;
    g_autoptr(StoreContents) contents = NULL;
    Chain *taken;
    gboolean from_previous;

    if (!chain)
        return NULL;
    if (chain_lost(chain) > 0 || (!chain->snapshot.exists && chain->snapshot.what->len > 0)) {
        previous = chain_read(reading->dir_fd, reading->dir, FILE_PREVIOUS, limits, error);
        if (!previous)
            return NULL;
    }
    from_previous = previous && is_better(previous, chain);
    taken = from_previous ? previous : chain;

    contents = make_contents(taken);
    contents->from_previous = from_previous;
    contents->fresh = !chain->snapshot.exists && !chain->journals[0].exists &&
                      !chain->journals[1].exists && !from_previous;
    add_damage(contents, &chain->snapshot,
               from_previous ? "; " FILE_PREVIOUS " was used instead" : "", from_previous);
    if (from_previous)
        add_damage(contents, &previous->snapshot, "", FALSE);
    add_damage(contents, &taken->journals[0], "", FALSE);
    add_damage(contents, &taken->journals[1], "", FALSE);
    if (!reading->dry_run && !make_backups(reading, contents, error))
        return NULL;
    return g_steal_pointer(&contents);
}

StoreReading store_reading(const Store *store, gboolean dry_run)
{
    return (StoreReading){
        .dir_fd = store->dir_fd,
        .dir = store->dir,
        .backup_corrupted = store->backup_corrupted,
        .backups_max = store->backups_max,
        .running = store->state != STORE_NEW,
        .dry_run = dry_run,
    };
}

void store_have_read(Store *store, const StoreContents *contents, gboolean dry_run)
{
    /* a number that was given is not given again, whatever became of the record */
    store->sequence = MAX(store->sequence, contents->sequence);
    /* memory is the truth: the damaged files are needed no more once it is written */
    if (!dry_run && contents->damage->len > 0 && store->state != STORE_NEW)
        store_compact(store);
}

StoreContents *store_load(Store *store, gboolean dry_run, GError **error)
{
    StoreReading reading = store_reading(store, dry_run);
    StoreContents *contents = store_read(&reading, error);

    if (contents)
        store_have_read(store, contents, dry_run);
    return contents;
}
