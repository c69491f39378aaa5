/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* A journal without a snapshot. */
#include "fuzz.h"
#include "state-files.h"
#include "store/files.h"

int LLVMFuzzerTestOneInput(const guint8 *data, size_t length)
{
    state_files_check(FILE_JOURNAL, data, length);
    return 0;
}
