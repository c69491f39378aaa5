/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "bus/connection.h"

/*
 * The handlers of org.styxy.Ports, for its table alone. Each reads, validates, asks the authority,
 * acts and replies; userdata is the Connection, whose ->current says who is asking.
 */

/* ports-allocate.c */
int ports_allocate(sd_bus_message *m, void *userdata, sd_bus_error *error);
int ports_allocate_socket(sd_bus_message *m, void *userdata, sd_bus_error *error);
int ports_allocate_block(sd_bus_message *m, void *userdata, sd_bus_error *error);

/* ports-release.c */
int ports_release(sd_bus_message *m, void *userdata, sd_bus_error *error);
int ports_release_port(sd_bus_message *m, void *userdata, sd_bus_error *error);
int ports_release_instance(sd_bus_message *m, void *userdata, sd_bus_error *error);
int ports_renew(sd_bus_message *m, void *userdata, sd_bus_error *error);

/* ports-query.c */
int ports_get_lease(sd_bus_message *m, void *userdata, sd_bus_error *error);
int ports_list(sd_bus_message *m, void *userdata, sd_bus_error *error);
int ports_suggest(sd_bus_message *m, void *userdata, sd_bus_error *error);

/* ports-sockets.c */
int ports_check_port(sd_bus_message *m, void *userdata, sd_bus_error *error);
int ports_scan(sd_bus_message *m, void *userdata, sd_bus_error *error);

/* ports-admin.c */
int ports_get_metrics(sd_bus_message *m, void *userdata, sd_bus_error *error);
int ports_reload(sd_bus_message *m, void *userdata, sd_bus_error *error);
int ports_cleanup(sd_bus_message *m, void *userdata, sd_bus_error *error);
int ports_recover(sd_bus_message *m, void *userdata, sd_bus_error *error);
int ports_get_recovery_report(sd_bus_message *m, void *userdata, sd_bus_error *error);
int ports_subscribe(sd_bus_message *m, void *userdata, sd_bus_error *error);
int ports_unsubscribe(sd_bus_message *m, void *userdata, sd_bus_error *error);

/* ports-properties.c */
int ports_get_version(sd_bus *bus, const char *path, const char *interface, const char *property,
                      sd_bus_message *reply, void *userdata, sd_bus_error *error);
int ports_get_state(sd_bus *bus, const char *path, const char *interface, const char *property,
                    sd_bus_message *reply, void *userdata, sd_bus_error *error);
int ports_get_state_reason(sd_bus *bus, const char *path, const char *interface,
                           const char *property, sd_bus_message *reply, void *userdata,
                           sd_bus_error *error);
int ports_get_lease_count(sd_bus *bus, const char *path, const char *interface,
                          const char *property, sd_bus_message *reply, void *userdata,
                          sd_bus_error *error);
int ports_get_service_types(sd_bus *bus, const char *path, const char *interface,
                            const char *property, sd_bus_message *reply, void *userdata,
                            sd_bus_error *error);
int ports_get_auto_allocation(sd_bus *bus, const char *path, const char *interface,
                              const char *property, sd_bus_message *reply, void *userdata,
                              sd_bus_error *error);
int ports_get_config_files(sd_bus *bus, const char *path, const char *interface,
                           const char *property, sd_bus_message *reply, void *userdata,
                           sd_bus_error *error);
