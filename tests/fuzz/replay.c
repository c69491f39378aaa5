/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Takes libFuzzer's place where it is not there: runs a target over the files of the folders that
 * are named, and over every cut of each, so that what was found once stays found in all builds.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fuzz.h"

/* Longer files are cut at this many places, evenly. */
#ifndef CUTS_MAX
#define CUTS_MAX 512
#endif

static void replay(const char *path)
{
    g_autofree char *text = NULL;
    g_autoptr(GError) error = NULL;
    size_t length, stride;

    if (!g_file_get_contents(path, &text, &length, &error))
        g_error("%s", error->message);
    stride = length / CUTS_MAX + 1;
    for (size_t cut = 0; cut <= length;
         cut += cut < length && length - cut < stride ? length - cut : stride) {
        /* A block of just that size shows a sanitizer each byte too many. */
        g_autofree guint8 *block = g_malloc(cut + (cut == 0));

        memcpy(block, text, cut);

        (void)LLVMFuzzerTestOneInput(block, cut);
    }
}

int main(int argc, char **argv)
{
    guint files = 0;

    for (int i = 1; i < argc; i++) {
        g_autoptr(GError) error = NULL;
        g_autoptr(GDir) dir = g_dir_open(argv[i], 0, &error);
        const char *name;

        if (!dir)
            g_error("%s", error->message);
        while ((name = g_dir_read_name(dir))) {
            g_autofree char *path = g_build_filename(argv[i], name, NULL);

            replay(path);
            files++;
        }
    }
    printf("%u files and their cuts\n", files);
    /* An empty corpus would prove nothing. */
    return files > 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
