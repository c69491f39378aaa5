/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>
#include <systemd/sd-bus.h>

#include "core/outcome.h"

/*
 * The only table that turns an Outcome into a bus error and that into an errno.
 */

#define BUS_ERROR_PREFIX "org.styxy.Ports.Error."

/** bus_errors_init: makes sd-bus know our errors (sd_bus_error_add_map(3)). More than once is fine.
 */
void bus_errors_init(void);

/** bus_error_name: the D-Bus name of a refusal; NULL for OUTCOME_OK alone. */
const char *bus_error_name(Outcome outcome);

/** bus_error_errno: the positive errno that sd-bus clients see with that error; 0 for OUTCOME_OK.
 */
int bus_error_errno(Outcome outcome);

/**
 * bus_error_set: fills @error with the error of @outcome (not OUTCOME_OK) and a message.
 * Returns: the negative errno, as a handler of sd-bus returns it.
 */
int bus_error_set(sd_bus_error *error, Outcome outcome, const char *format, ...)
    G_GNUC_PRINTF(3, 4);

/**
 * bus_error_set_gerror: the same for a GError: its code names the error where it is in
 * OUTCOME_ERROR, anything else becomes org.freedesktop.DBus.Error.Failed with its message.
 */
int bus_error_set_gerror(sd_bus_error *error, const GError *gerror);
