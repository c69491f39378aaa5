/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "fuzz-bus.h"

/** Method: what can be called, how its arguments are made and its answer is judged. */
struct Method {
    const char *interface;
    const char *member;
    const char *answer;      /* the signature of the answer */
    guint weight;            /* how often, compared to the others */
    gboolean administrators; /* nobody else's calls succeed */
    gboolean direct;         /* on a bus it would be the broker's */
    void (*make)(Fuzz *fuzz, sd_bus_message *m, Pending *pending);
    /* Judges a good answer; NULL = its signature is all. Returns: what is wrong, or NULL. */
    char *(*judge)(Pending *pending, sd_bus_message *reply);
};

/* answers.c: one for each method whose answer says something */
char *judge_allocate(Pending *pending, sd_bus_message *reply);
char *judge_allocate_socket(Pending *pending, sd_bus_message *reply);
char *judge_allocate_block(Pending *pending, sd_bus_message *reply);
char *judge_release(Pending *pending, sd_bus_message *reply);
char *judge_renew(Pending *pending, sd_bus_message *reply);
char *judge_get_lease(Pending *pending, sd_bus_message *reply);
char *judge_list(Pending *pending, sd_bus_message *reply);
char *judge_check_port(Pending *pending, sd_bus_message *reply);
char *judge_scan(Pending *pending, sd_bus_message *reply);
char *judge_suggest(Pending *pending, sd_bus_message *reply);
char *judge_cleanup(Pending *pending, sd_bus_message *reply);
char *judge_recover(Pending *pending, sd_bus_message *reply);
char *judge_report(Pending *pending, sd_bus_message *reply);

/** read_lease: one a{sv} of a lease as @viewer may see it. */
char *read_lease(sd_bus_message *m, uid_t viewer, Grant *ret_grant);
