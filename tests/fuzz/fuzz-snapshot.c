/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* A snapshot without a journal. */
#include "fuzz.h"
#include "state-files.h"
#include "store/files.h"

int LLVMFuzzerTestOneInput(const guint8 *data, size_t length)
{
    state_files_check(FILE_SNAPSHOT, data, length);
    return 0;
}
