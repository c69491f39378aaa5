/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "core/configuration.h"

#include <string.h>

#include "core/configuration-fields.h"

/** Writer: @first is whether the next member is the first of its object. */
typedef struct Writer {
    GString *text;
    guint level;
    gboolean first;
} Writer;

static void write_string(Writer *w, const char *string)
{
    g_string_append_c(w->text, '"');
    for (; *string; string++) {
        if ((guchar)*string < 0x20)
            g_string_append_printf(w->text, "\\u%04x", (guint)(guchar)*string);
        else if (*string == '"' || *string == '\\')
            g_string_append_printf(w->text, "\\%c", *string);
        else
            g_string_append_c(w->text, *string);
    }
    g_string_append_c(w->text, '"');
}

static void write_line(Writer *w)
{
    g_string_append_printf(w->text, "\n%*s", (int)w->level * 2, "");
}

static void write_key(Writer *w, const char *key)
{
    if (!w->first)
        g_string_append_c(w->text, ',');
    w->first = FALSE;
    write_line(w);
    write_string(w, key);
    g_string_append(w->text, ": ");
}

static void open_object(Writer *w)
{
    g_string_append_c(w->text, '{');
    w->level++;
    w->first = TRUE;
}

static void close_object(Writer *w)
{
    w->level--;
    if (!w->first)
        write_line(w);
    g_string_append_c(w->text, '}');
    w->first = FALSE;
}

static void open_member(Writer *w, const char *key)
{
    write_key(w, key);
    open_object(w);
}

static void write_member(Writer *w, const char *key, const char *string)
{
    write_key(w, key);
    write_string(w, string);
}

/** write_real: the shortest of the usual forms that reads back as the same number. */
static void write_real(Writer *w, double value)
{
    char buffer[G_ASCII_DTOSTR_BUF_SIZE];

    g_ascii_formatd(buffer, sizeof(buffer), "%.15g", value);
    if (g_ascii_strtod(buffer, NULL) < value || g_ascii_strtod(buffer, NULL) > value)
        g_ascii_dtostr(buffer, sizeof(buffer), value);
    g_string_append(w->text, buffer);
}

static gboolean field_equal(const Field *field, const void *a, const void *b)
{
    const char *x = (const char *)a + field->offset, *y = (const char *)b + field->offset;

    return memcmp(x, y, field->kind == FIELD_REAL ? sizeof(double) : sizeof(guint32)) == 0;
}

/** write_block: the fields of @base; where @unless is given, those only that differ from it. */
static void write_block(Writer *w, const FieldBlock *block, const void *base, const void *unless)
{
    G_STATIC_ASSERT(sizeof(gboolean) == sizeof(guint32));

    for (size_t i = 0; i < block->n_fields; i++) {
        const Field *field = &block->fields[i];
        const void *place = (const char *)base + field->offset;

        if (unless && field_equal(field, base, unless))
            continue;
        write_key(w, field->key);
        switch (field->kind) {
        case FIELD_BOOL:
            g_string_append(w->text, *(const gboolean *)place ? "true" : "false");
            break;
        case FIELD_UINT:
            g_string_append_printf(w->text, "%u", *(const guint32 *)place);
            break;
        case FIELD_REAL:
            write_real(w, *(const double *)place);
            break;
        }
    }
}

static void write_range(Writer *w, PortRange range)
{
    write_key(w, "port_range");
    g_string_append_printf(w->text, "[%u, %u]", range.first, range.last);
}

static gboolean health_differs(const HealthSettings *a, const HealthSettings *b)
{
    for (size_t i = 0; i < type_health_block.n_fields; i++)
        if (!field_equal(&type_health_block.fields[i], a, b))
            return TRUE;
    return FALSE;
}

static void write_type(Writer *w, const ServiceType *type, const HealthSettings *health)
{
    open_member(w, type->name);
    if (type->description)
        write_member(w, "description", type->description);
    write_key(w, "preferred_ports");
    g_string_append_c(w->text, '[');
    for (size_t i = 0; i < type->n_preferred_ports; i++)
        g_string_append_printf(w->text, i ? ", %u" : "%u", type->preferred_ports[i]);
    g_string_append_c(w->text, ']');
    write_range(w, type->range);
    write_member(w, "protocol", protocol_to_string(type->protocol));
    write_member(w, "instance_behavior", type->single ? "single" : "multi");
    if (health_differs(&type->health, health)) {
        open_member(w, "health");
        write_block(w, &type_health_block, &type->health, health);
        close_object(w);
    }
    close_object(w);
}

static void write_auto(Writer *w, const Configuration *config)
{
    open_member(w, "auto_allocation");
    write_block(w, &auto_block, config, NULL);
    write_range(w, config->auto_range);
    open_member(w, "rules");
    for (size_t i = 0; i < config->n_auto_rules; i++) {
        open_member(w, config->auto_rules[i].pattern);
        write_block(w, &chunk_rule_block, &config->auto_rules[i], NULL);
        close_object(w);
    }
    close_object(w);
    close_object(w);
}

char *configuration_to_json(const Configuration *config)
{
    const struct {
        const char *key;
        const FieldBlock *block;
    } recovery[] = {
        {"port_conflict", &conflict_block},
        {"health_monitoring", &health_block},
        {"system_recovery", &system_block},
    };
    Writer w = {.text = g_string_new(NULL)};

    open_object(&w);
    open_member(&w, "service_types");
    for (guint i = 0; i < config->service_types->len; i++)
        write_type(&w, config->service_types->pdata[i], &config->health);
    close_object(&w);
    write_auto(&w, config);
    open_member(&w, "recovery");
    for (size_t i = 0; i < G_N_ELEMENTS(recovery); i++) {
        open_member(&w, recovery[i].key);
        write_block(&w, recovery[i].block, config, NULL);
        close_object(&w);
    }
    close_object(&w);
    open_member(&w, "limits");
    write_block(&w, &limits_block, config, NULL);
    close_object(&w);
    close_object(&w);
    g_string_append_c(w.text, '\n');
    return g_string_free(w.text, FALSE);
}
