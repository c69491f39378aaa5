/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>
#include <systemd/sd-bus.h>

/* Reading an a{sv} strictly: no other keys than the documented ones, each of its type, none twice.
 */

/** DictKey: one documented key. Tables end with a NULL name. */
typedef struct DictKey {
    const char *name;
    const char *type; /* of what is in the variant */
    gboolean required;
} DictKey;

/** DictFunc: one entry. @text: of type s, else NULL; @number: of types b, q, u, t, else 0. */
typedef void (*DictFunc)(const char *key, const char *text, guint64 number, void *data);

/**
 * dict_read: reads one a{sv} off @m.
 * @func: (nullable)
 * Returns: NULL, or what is wrong with it (transfer full).
 */
char *dict_read(sd_bus_message *m, const DictKey *keys, DictFunc func, void *data);

/* What the interface documents. */
extern const DictKey dict_details[], dict_lease[], dict_holder[], dict_socket[], dict_report[],
    dict_step[];
extern const DictKey dict_told_allocated[], dict_told_released[], dict_told_conflict[],
    dict_told_health[], dict_told_restarted[], dict_service_type[];
