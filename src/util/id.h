/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>

/** ID_LENGTH: the characters of an id, without the terminating NUL: 128 bits as lower-case hex. */
#define ID_LENGTH 32

/** Id: 128 bits as lower-case hexadecimal text, always NUL-terminated. */
typedef struct Id {
    char text[ID_LENGTH + 1];
} Id;

/**
 * id_random: draws 128 random bits, less the six that a UUID fixes.
 *
 * Unguessable and never repeated in practice, so an id can serve as a fence: a version 4 UUID
 * without its dashes (RFC 9562). Does not block once the kernel's random pool is ready
 * (getrandom(2)), which is asked for some dozens at a time. Any thread, and after fork(2) too.
 *
 * Returns: the new id; the process is aborted where the kernel has no randomness to give.
 */
Id id_random(void);

/**
 * id_of_boot: reads the id of the running boot (random(4), /proc/sys/kernel/random/boot_id).
 *
 * Returns: FALSE and sets @error where the kernel does not tell; *@ret_id is then untouched.
 */
gboolean id_of_boot(Id *ret_id, GError **error);

/** id_is_valid: whether @text is exactly ID_LENGTH lower-case hexadecimal digits. NULL is not. */
gboolean id_is_valid(const char *text);
