/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>
#include <systemd/sd-bus.h>

#include "bus/caller.h"

/*
 * org.freedesktop.PolicyKit1 over sd-bus (polkit(8), the interface Authority). The daemon is named
 * as owner of its actions in data/org.styxy.Ports.policy, so it may ask about others.
 */
typedef struct PolkitCheck PolkitCheck;

typedef enum PolkitAnswer {
    POLKIT_YES,
    POLKIT_NO,
    POLKIT_CHALLENGE, /* yes, if somebody authenticated; the caller did not allow to ask him */
    POLKIT_ABSENT,    /* nobody answered: that is a no */
} PolkitAnswer;

typedef void (*PolkitDone)(PolkitAnswer answer, void *data);

/**
 * polkit_check: asks whether @caller may do @action.
 * @details: name and value in turn, NULL-terminated, of what the action is about; NULL: none.
 * @interactive: a person may be asked, which can take minutes.
 * @done: called once, later, unless polkit_check_cancel() comes first.
 *
 * The subject of a caller on the bus is his unique name; that of one on the direct socket his pid,
 * start time and uid as the kernel gave them. Does not block.
 * Returns: (transfer none): NULL when nobody can be asked; @done is not called then.
 */
PolkitCheck *polkit_check(sd_bus *bus, Caller *caller, const char *action,
                          const char *const *details, gboolean interactive, PolkitDone done,
                          void *data);

/** polkit_check_cancel: nobody waits any more; an open dialog closes. */
void polkit_check_cancel(PolkitCheck *check);
