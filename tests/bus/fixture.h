/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>
#include <sys/types.h>
#include <systemd/sd-bus.h>

#include "bus/sd-bus-auto.h"

/*
 * A real manager behind a real service, in a process of its own, with a direct socket and, where
 * asked for, on a private broker; all in a temporary folder and a network namespace of the test's.
 */
typedef enum FixtureFlags {
    FIXTURE_DIRECT = 0,
    FIXTURE_BROKER = 1 << 0,    /* with a dbus-daemon */
    FIXTURE_USER = 1 << 1,      /* the daemon's own uid counts as an administrator's */
    FIXTURE_FEW_FILES = 1 << 2, /* the server may open 64 descriptors */
    FIXTURE_NO_NAME = 1 << 3,   /* somebody else owns the name: the server gives up */
} FixtureFlags;

typedef struct Fixture {
    char *dir;            /* owned */
    char *direct_path;    /* owned: of the direct socket */
    char *direct_address; /* owned */
    char *bus_address;    /* owned; NULL without a broker */
    char *configuration;  /* owned: path of a file that Reload reads */
    FixtureFlags flags;
    pid_t server;
    pid_t broker;
    sd_bus *squatter; /* owned: the name's other owner; NULL = none */
    int events;       /* a byte for each thing that the server tells: 'r'eady, 'l'ost, 'f'atal */
} Fixture;

/**
 * fixture_init: g_test_init(), and a network namespace for this process and all that it starts.
 * Exits with 77 where that is not allowed.
 */
void fixture_init(int *argc, char ***argv);

/** fixture_new: @limits: (nullable): what stands in "limits" of the configuration. */
Fixture *fixture_new(FixtureFlags flags, const char *limits);
/** fixture_free: ends the server, which must leave with success. */
Fixture *fixture_free(Fixture *fixture);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Fixture, fixture_free)

/** fixture_wait_event: the next thing that the server tells; fails the test after ten seconds. */
char fixture_wait_event(Fixture *fixture);

/** fixture_start_broker, fixture_stop_broker: by hand; the address stays the same. @signal: that
 * ends the broker. */
void fixture_start_broker(Fixture *fixture);
void fixture_stop_broker(Fixture *fixture, int signal);

/** fixture_stop_server: asks it to leave; fixture_wait_server: until it has, with success. */
void fixture_stop_server(Fixture *fixture);
void fixture_wait_server(Fixture *fixture);

/** fixture_connect: a client connection that is through its handshake. Owned by the caller. */
sd_bus *fixture_connect(const char *address);
/** fixture_connect_as: the same to the direct socket, as somebody else. Root only. */
sd_bus *fixture_connect_as(const Fixture *fixture, uid_t uid);

/** fixture_write_configuration: @text replaces the file that Reload reads. */
void fixture_write_configuration(Fixture *fixture, const char *text);

/** fixture_as: runs @func in a process with that uid. Returns: what @func returned. */
int fixture_as(uid_t uid, int (*func)(Fixture *fixture, const void *data), Fixture *fixture,
               const void *data);

/**
 * call: calls a method of org.styxy.Ports.
 * Returns: the reply, owned by the caller; NULL with @error set.
 */
sd_bus_message *call(sd_bus *bus, sd_bus_error *error, const char *member, const char *types, ...);

/** call_ok: call() that must work. call_refused: that must fail with
 * org.styxy.Ports.Error.@refusal.
 */
#define call_ok(bus, member, ...)                                                   \
    ({                                                                              \
        g_auto(sd_bus_error) _error = SD_BUS_ERROR_NULL;                            \
        sd_bus_message *_reply = call((bus), &_error, (member), __VA_ARGS__);       \
        if (!_reply)                                                                \
            g_error("%s:%d: %s: %s: %s", __FILE__, __LINE__, (member), _error.name, \
                    _error.message);                                                \
        _reply;                                                                     \
    })
#define call_refused(bus, refusal, member, ...)                                         \
    ({                                                                                  \
        g_auto(sd_bus_error) _error = SD_BUS_ERROR_NULL;                                \
        g_autoptr(sd_bus_message) _reply = call((bus), &_error, (member), __VA_ARGS__); \
        g_assert_null(_reply);                                                          \
        g_assert_cmpstr(_error.name, ==, "org.styxy.Ports.Error." refusal);             \
        g_strdup(_error.message);                                                       \
    })

/** allocate: Allocate with options "a{sv}" of @types. Returns: the port, and the lease in
 * @ret_lease. */
guint16 allocate(sd_bus *bus, char **ret_lease, const char *service_type, const char *types, ...);

guint32 lease_count(sd_bus *bus);

/** wait_lease_count: until there are that many; fails the test after ten seconds. */
void wait_lease_count(sd_bus *bus, guint32 count);

/** collect_signals: counts signals of the interface by name: member -> count. */
typedef struct Signals {
    GHashTable *counts;
    GPtrArray *order; /* of char *: "PortAllocated", ... */
    sd_bus_slot *slot;
} Signals;
void signals_collect(Signals *signals, sd_bus *bus);
void signals_clear(Signals *signals);
guint signals_count(const Signals *signals, const char *member);
/** signals_wait: processes @bus until @member came @count times; fails the test after ten seconds.
 */
void signals_wait(Signals *signals, sd_bus *bus, const char *member, guint count);

/** wait_closed: until the other side has closed @fd; fails the test after @seconds. */
void wait_closed(int fd, int seconds);

/** connect_raw: a connected unix socket, nothing said yet. */
int connect_raw(const Fixture *fixture);
