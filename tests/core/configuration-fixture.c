/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What the registry asks of a configuration, for the tests of this folder that are linked without
 * core/configuration.c.
 */
#include "core/configuration.h"

Configuration *configuration_ref(Configuration *config)
{
    config->references++;
    return config;
}

Configuration *configuration_unref(Configuration *config)
{
    if (!config || --config->references > 0)
        return NULL;
    for (guint i = 0; i < config->service_types->len; i++) {
        ServiceType *type = config->service_types->pdata[i];

        g_free(type->name);
        g_free(type->description);
        g_free(type->preferred_ports);
        g_free(type);
    }
    g_ptr_array_unref(config->service_types);
    g_hash_table_unref(config->by_name);
    for (size_t i = 0; i < config->n_auto_rules; i++)
        g_free(config->auto_rules[i].pattern);
    g_free(config->auto_rules);
    g_strfreev(config->files);
    g_free(config);
    return NULL;
}

const ServiceType *configuration_find_type(const Configuration *config, const char *name)
{
    return g_hash_table_lookup(config->by_name, name);
}

guint32 configuration_chunk_size(const Configuration *config, const char *name)
{
    for (size_t i = 0; i < config->n_auto_rules; i++)
        if (g_pattern_match_simple(config->auto_rules[i].pattern, name))
            return config->auto_rules[i].chunk_size;
    return config->auto_chunk_size;
}
