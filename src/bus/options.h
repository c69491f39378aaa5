/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <arpa/inet.h>
#include <glib.h>
#include <systemd/sd-bus.h>

#include "core/registry.h"
#include "recovery/manager.h"

/** Rounds after the first that a caller may ask for. */
#define OPTIONS_RETRIES_MAX 100

/** AllocateArguments: what a caller of an Allocate method wrote; strings borrowed from its message.
 */
typedef struct AllocateArguments {
    LeaseRequest
        request; /* without uid, privileged, unit and client, which the caller doesn't say */
    AllocateOptions options;
    pid_t pid;                      /* 0 = not given */
    int pidfd;                      /* borrowed from the message, -1 = not given */
    char *health_url;               /* owned: see options_resolve_health_url(), which fills it in */
    char address[INET6_ADDRSTRLEN]; /* what request.address points to */
} AllocateArguments;

/**
 * options_parse_allocate: reads an a{sv} from @m into @ret_arguments, which it fills as a whole:
 * count 1, retries -1, everything not given zero, but not the service type.
 *
 * An address is normalised (inet_ntop(3); IPv4 mapped into IPv6 becomes IPv4).
 *
 * Returns: FALSE with @error OUTCOME_INVALID_ARGUMENT, whose message names the key: an unknown or a
 *     repeated key, another type than the key has (given and wanted one are named), a value out of
 *     bounds, or a combination that cannot be.
 */
gboolean options_parse_allocate(sd_bus_message *m, AllocateArguments *ret_arguments,
                                GError **error);

/**
 * options_resolve_health_url: what the option health_url means: "{port}" stands for the granted
 * port, and so does the preferred port (option 'port') where the URL names it.
 * @ret_foreign: whether it names another port of this machine's than that, or another loopback
 *     address than the lease's (http_url_targets()).
 *
 * Returns: FALSE with @error OUTCOME_INVALID_ARGUMENT when no health check may ever ask it
 *     (http_url_check()).
 */
gboolean options_resolve_health_url(AllocateArguments *arguments, gboolean *ret_foreign,
                                    GError **error);

/** LeaseFilter: of List; strings borrowed from the message, NULL = any. */
typedef struct LeaseFilter {
    const char *service_type;
    const char *instance;
    gboolean has_uid;
    uid_t uid;
    Protocol protocol; /* 0 = any; leases that have one of these */
    gboolean has_health;
    Health health;
    PortRange range; /* {0, 0} = all */
} LeaseFilter;

/** options_parse_filter: reads the a{sv} of List; errors as options_parse_allocate(). */
gboolean options_parse_filter(sd_bus_message *m, LeaseFilter *ret_filter, GError **error);

/** options_parse_dry_run: reads the a{sv} of Recover; errors as options_parse_allocate(). */
gboolean options_parse_dry_run(sd_bus_message *m, gboolean *ret_dry_run, GError **error);

/** options_check_service_type: FALSE with OUTCOME_INVALID_ARGUMENT unless @text is a valid name. */
gboolean options_check_service_type(const char *text, GError **error);
