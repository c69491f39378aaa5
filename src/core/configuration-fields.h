/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>

#include "core/configuration.h"

/*
 * Every plain value of the configuration: its key, its bounds, its default and its place in the
 * structure, one line each. Reading, defaults and writing all go by these tables.
 */

typedef enum FieldKind {
    FIELD_BOOL, /* gboolean */
    FIELD_UINT, /* guint32, a JSON integer */
    FIELD_REAL, /* double, any JSON number */
} FieldKind;

typedef struct Field {
    const char *key;
    FieldKind kind;
    size_t offset; /* from the beginning of the structure that the block belongs to */
    double least, most, fallback;
} Field;

/** FieldBlock: the plain values of one JSON object. */
typedef struct FieldBlock {
    const Field *fields;
    size_t n_fields;
    const char *others[2]; /* keys that the object may have besides, up to the first NULL */
} FieldBlock;

extern const FieldBlock auto_block; /* offsets in Configuration, as for those below */
extern const FieldBlock conflict_block;
extern const FieldBlock health_block;
extern const FieldBlock system_block;
extern const FieldBlock limits_block;
extern const FieldBlock type_health_block; /* offsets in HealthSettings; fallback unused */
extern const FieldBlock chunk_rule_block;  /* offsets in ChunkRule; fallback unused */

extern const char *const root_keys[];
extern const char *const recovery_keys[];
extern const char *const service_type_keys[];

#define AUTO_RANGE_DEFAULT ((PortRange){20000, 31999})

/** fields_set_defaults: fills the fields of @block in the structure at @base. */
void fields_set_defaults(const FieldBlock *block, void *base);

/** fields_keys: all keys that the object of @block may have, NULL-terminated. (transfer full) */
char **fields_keys(const FieldBlock *block);
