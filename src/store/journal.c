/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "store/journal.h"

#include <errno.h>
#include <fcntl.h>

#include "store/record.h"
#include "store/sys.h"
#include "util/fd.h"

#define RESERVE_BYTES (64 * 1024)

int journal_create(int dir_fd, const char *name, const Id *boot_id, guint64 sequence,
                   Journal **ret_journal)
{
    g_autoptr(GString) head = g_string_new(NULL);
    AUTO_FD fd = -1;
    Journal *journal;
    int r;

    /* what an earlier attempt left; a file that somebody else holds open is not written into */
    r = sys_unlink(dir_fd, name);
    if (r < 0 && r != -ENOENT)
        return r;
    fd = sys_openat(dir_fd, name, O_WRONLY | O_CREAT | O_EXCL | O_APPEND);
    if (fd < 0)
        return fd;
    record_write_head(head, boot_id, sequence);
    g_string_append_c(head, '\n');
    r = sys_write_all(fd, head->str, head->len);
    if (r < 0)
        return r;

    journal = g_new0(Journal, 1);
    g_atomic_ref_count_init(&journal->references);
    g_mutex_init(&journal->lock);
    journal->fd = fd_steal(&fd);
    journal->size = head->len;
    *ret_journal = journal;
    return 0;
}

Journal *journal_ref(Journal *journal)
{
    g_atomic_ref_count_inc(&journal->references);
    return journal;
}

Journal *journal_unref(Journal *journal)
{
    if (!journal || !g_atomic_ref_count_dec(&journal->references))
        return NULL;
    (void)fd_close(journal->fd);
    g_mutex_clear(&journal->lock);
    g_free(journal);
    return NULL;
}

int journal_append(Journal *journal, const GString *line, gboolean *ret_dirty)
{
    ssize_t n = sys_write(journal->fd, line->str, line->len);

    *ret_dirty = FALSE;
    if (n == (ssize_t)line->len) {
        journal->size += line->len;
        return 0;
    }
    /* A short write is a full disk or a quota; the rest would fail likewise. */
    *ret_dirty = sys_ftruncate(journal->fd, journal->size) < 0;
    return n < 0 ? (int)n : -ENOSPC;
}

int journal_reserve(const Journal *journal)
{
    int r = sys_reserve(journal->fd, journal->size, RESERVE_BYTES);

    return r == -ENOSPC || r == -EDQUOT || r == -EFBIG || r == -EIO ? r : 0;
}
