/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "core/configuration.h"
#include "core/registry.h"

/* A configuration built by hand, and the two halves of a grant in one call. */

/** fixture_configuration: without service types; the limits and defaults of a fresh installation.
 */
Configuration *fixture_configuration(void);

/** fixture_add_type: @n_preferred ports follow from the first of @preferred. In order of name. */
ServiceType *fixture_add_type(Configuration *config, const char *name, guint16 first, guint16 last,
                              Protocol protocol, const guint16 *preferred, size_t n_preferred);

/** fixture_standard: with the types dev, api, ai, dns, game, low and web that the tests ask for. */
Configuration *fixture_standard(void);

/** FIXTURE_REQUEST_AS: a LeaseRequest of @of_uid for @n ports; more members may follow. */
#define FIXTURE_REQUEST_AS(of_uid, n, type, ...) \
    ((LeaseRequest){.service_type = (type), .uid = (of_uid), .count = (n), ##__VA_ARGS__})
/** FIXTURE_REQUEST: of uid 1000 for one port. */
#define FIXTURE_REQUEST(type, ...) FIXTURE_REQUEST_AS(1000, 1, type, ##__VA_ARGS__)

/** fixture_open: begins, and fails the test unless a reservation comes of it. */
Reservation *fixture_open(Registry *registry, const LeaseRequest *request);

/** fixture_commit: builds and commits the present candidate. Returns: (transfer none): its first
 * lease. */
Lease *fixture_commit(Registry *registry, Reservation *reservation);

/** fixture_grant: fixture_open(), reservation_next() and fixture_commit(). NULL when the round is
 * over. */
Lease *fixture_grant(Registry *registry, const LeaseRequest *request);

/** fixture_refused: begins, and fails the test unless it is refused; @ret_message: (transfer full)
 * (nullable). */
Outcome fixture_refused(Registry *registry, const LeaseRequest *request, char **ret_message);

/** fixture_lease: a lease as from disk, with an id of its own. */
Lease *fixture_lease(const char *service_type, guint16 port, Protocol protocol, uid_t uid);
