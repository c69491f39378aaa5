/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "dict.h"

#include <string.h>

const DictKey dict_details[] = {
    {"attempts", "u", TRUE}, {"conflicts", "aq", TRUE}, {"reused", "b", TRUE},
    {"protocol", "s", TRUE}, {"hold", "s", FALSE},      {NULL},
};
const DictKey dict_lease[] = {
    {"lease", "s", TRUE},
    {"port", "q", TRUE},
    {"protocol", "s", TRUE},
    {"address", "s", FALSE},
    {"service_type", "s", FALSE},
    {"instance", "s", FALSE},
    {"label", "s", FALSE},
    {"uid", "u", TRUE},
    {"pid", "u", FALSE},
    {"unit", "s", FALSE},
    {"lifetime", "s", TRUE},
    {"hold", "s", TRUE},
    {"health", "s", TRUE},
    {"failures", "u", TRUE},
    {"created_usec", "t", TRUE},
    {"last_seen_usec", "t", FALSE},
    {"health_url", "s", FALSE},
    {"health_reason", "s", FALSE},
    {"last_check_usec", "t", FALSE},
    {NULL},
};
const DictKey dict_holder[] = {
    {"lease", "s", FALSE},
    {"service_type", "s", FALSE},
    {"protocol", "s", FALSE},
    {"address", "s", FALSE},
    {"uid", "u", FALSE},
    {"unit", "s", FALSE},
    {NULL},
};
const DictKey dict_socket[] = {
    {"port", "q", TRUE},  {"protocol", "s", TRUE}, {"address", "s", TRUE},       {"uid", "u", TRUE},
    {"unit", "s", FALSE}, {"lease", "s", FALSE},   {"service_type", "s", FALSE}, {NULL},
};
const DictKey dict_report[] = {
    {"trigger", "s", FALSE},
    {"ok", "b", FALSE},
    {"dry_run", "b", FALSE},
    {"started_usec", "t", FALSE},
    {"duration_usec", "t", FALSE},
    {"kept", "u", FALSE},
    {"released", "u", FALSE},
    {"repaired", "u", FALSE},
    {"backups", "as", FALSE},
    {"steps", "a(ssa{sv})", FALSE},
    {NULL},
};
const DictKey dict_step[] = {{"messages", "as", TRUE}, {"dry_run", "b", TRUE}, {NULL}};

#define TOLD                                     \
    {"protocol", "s", TRUE}, {"uid", "u", TRUE}, \
    {                                            \
        "instance", "s", FALSE                   \
    }

const DictKey dict_told_allocated[] = {
    TOLD, {"attempts", "u", TRUE}, {"conflicts", "aq", FALSE}, {NULL}};
const DictKey dict_told_released[] = {TOLD, {"service_type", "s", FALSE}, {NULL}};
const DictKey dict_told_health[] = {TOLD,
                                    {"service_type", "s", FALSE},
                                    {"before", "s", TRUE},
                                    {"why", "s", FALSE},
                                    {"failures", "u", TRUE},
                                    {NULL}};
const DictKey dict_told_restarted[] = {
    TOLD, {"service_type", "s", FALSE}, {"restarts", "u", TRUE}, {NULL}};
const DictKey dict_told_conflict[] = {{"protocol", "s", TRUE},
                                      {"address", "s", FALSE},
                                      {"unit", "s", FALSE},
                                      {"uid", "u", FALSE},
                                      {NULL}};
const DictKey dict_service_type[] = {
    {"description", "s", FALSE}, {"preferred_ports", "aq", FALSE}, {"port_range", "(qq)", TRUE},
    {"protocol", "s", TRUE},     {"instance_behavior", "s", TRUE}, {NULL},
};

/* Reads the variant of an entry whose key was read. */
static char *read_value(sd_bus_message *m, const DictKey *key, DictFunc func, void *data)
{
    union {
        const char *text;
        int flag;
        guint16 q;
        guint32 u;
        guint64 t;
    } value = {.t = 0};
    const char *type = NULL;
    guint64 number = 0;

    if (sd_bus_message_peek_type(m, NULL, &type) <= 0 || !type || strcmp(type, key->type) != 0)
        return g_strdup_printf("\"%s\" is of type %s and should be %s", key->name,
                               type ? type : "(none)", key->type);
    if (type[1] != '\0') {
        if (sd_bus_message_skip(m, "v") < 0)
            return g_strdup_printf("\"%s\" cannot be read", key->name);
    } else if (sd_bus_message_read(m, "v", type, &value) < 0) {
        return g_strdup_printf("\"%s\" cannot be read", key->name);
    }
    if (!func)
        return NULL;
    number = type[0] == 'q'   ? value.q
             : type[0] == 'u' ? value.u
             : type[0] == 't' ? value.t
             : type[0] == 'b' ? (guint64)value.flag
                              : 0;
    func(key->name, strcmp(type, "s") == 0 ? value.text : NULL, number, data);
    return NULL;
}

static char *read_entry(sd_bus_message *m, const DictKey *keys, guint64 *seen, DictFunc func,
                        void *data)
{
    const char *name = NULL;
    guint i = 0;

    if (sd_bus_message_read(m, "s", &name) <= 0)
        return g_strdup("a key cannot be read");
    while (keys[i].name && strcmp(keys[i].name, name) != 0)
        i++;
    if (!keys[i].name)
        return g_strdup_printf("nobody has documented the key \"%s\"", name);
    if (*seen & (G_GUINT64_CONSTANT(1) << i))
        return g_strdup_printf("\"%s\" is there twice", name);
    *seen |= G_GUINT64_CONSTANT(1) << i;
    return read_value(m, &keys[i], func, data);
}

char *dict_read(sd_bus_message *m, const DictKey *keys, DictFunc func, void *data)
{
    guint64 seen = 0;
    int r = sd_bus_message_enter_container(m, 'a', "{sv}");

    if (r <= 0)
        return g_strdup("there is no dictionary");
    while ((r = sd_bus_message_enter_container(m, 'e', "sv")) > 0) {
        char *wrong = read_entry(m, keys, &seen, func, data);

        if (wrong)
            return wrong;
        if (sd_bus_message_exit_container(m) < 0)
            return g_strdup("an entry does not end");
    }
    if (r < 0 || sd_bus_message_exit_container(m) < 0)
        return g_strdup("the dictionary cannot be read");
    for (guint i = 0; keys[i].name; i++)
        if (keys[i].required && !(seen & (G_GUINT64_CONSTANT(1) << i)))
            return g_strdup_printf("\"%s\" is missing", keys[i].name);
    return NULL;
}
