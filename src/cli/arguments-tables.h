/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "cli/arguments.h"

/*
 * What the parser and the help text are both made from. Texts are marked for translation and
 * translated where they are used.
 */

typedef struct VerbInfo {
    const char *name;
    const char *synopsis; /* what follows the name */
    const char *summary;
    guint operands_min;
    guint operands_max;
    gboolean first_is_type; /* the first operand is a service type */
} VerbInfo;

typedef struct OptionInfo {
    OptionId id;
    const char *name;
    char letter;          /* '\0' = none; only options without a value have one */
    const char *metavar;  /* NULL = takes no value */
    const char *expected; /* what a value is, for errors; NULL without @metavar */
    const char *summary;
    guint32 verbs; /* 1 << VerbId */
} OptionInfo;

/** verb_info: @verb must be below _VERB_MAX. */
const VerbInfo *verb_info(VerbId verb);

/** option_find: by long name, or by letter where @name is NULL; NULL where there is none. */
const OptionInfo *option_find(const char *name, char letter);

/** option_name: the long name, never NULL. option_applies: whether @verb takes it. */
const char *option_name(OptionId option);
gboolean option_applies(OptionId option, VerbId verb);
