/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "cli/exit-status.h"

G_DEFINE_QUARK(styxy - cli - error - quark, cli_error)

#define OURS "org.styxy.Ports.Error."
#define BUS "org.freedesktop.DBus.Error."

static const struct {
    const char *name;
    ExitStatus status;
} table[] = {
    /* the same wrong input ends alike, whoever notices it */
    {OURS "InvalidArgument", EXIT_STATUS_USAGE},
    {OURS "UnknownLease", EXIT_STATUS_NOT_FOUND},
    {OURS "NotOwner", EXIT_STATUS_NOT_AUTHORIZED},
    {OURS "NotAuthorized", EXIT_STATUS_NOT_AUTHORIZED},
    {BUS "AccessDenied", EXIT_STATUS_NOT_AUTHORIZED},
    {BUS "AuthFailed", EXIT_STATUS_NOT_AUTHORIZED},
    {BUS "InteractiveAuthorizationRequired", EXIT_STATUS_NOT_AUTHORIZED},
    {BUS "ServiceUnknown", EXIT_STATUS_UNREACHABLE},
    {BUS "NameHasNoOwner", EXIT_STATUS_UNREACHABLE},
    {BUS "NoReply", EXIT_STATUS_UNREACHABLE},
    {BUS "Timeout", EXIT_STATUS_UNREACHABLE},
    {BUS "TimedOut", EXIT_STATUS_UNREACHABLE},
    {BUS "Disconnected", EXIT_STATUS_UNREACHABLE},
    {BUS "NoServer", EXIT_STATUS_UNREACHABLE},
    {BUS "Spawn.ExecFailed", EXIT_STATUS_UNREACHABLE},
    {BUS "Spawn.ForkFailed", EXIT_STATUS_UNREACHABLE},
    {BUS "Spawn.ChildExited", EXIT_STATUS_UNREACHABLE},
    {BUS "Spawn.ChildSignaled", EXIT_STATUS_UNREACHABLE},
    {BUS "Spawn.Failed", EXIT_STATUS_UNREACHABLE},
    {BUS "Spawn.FileInvalid", EXIT_STATUS_UNREACHABLE},
    {BUS "Spawn.ServiceNotFound", EXIT_STATUS_UNREACHABLE},
    /* how dbus-broker and systemd report a unit that cannot be started for an activation */
    {"org.freedesktop.systemd1.NoSuchUnit", EXIT_STATUS_UNREACHABLE},
    {"org.freedesktop.systemd1.LoadFailed", EXIT_STATUS_UNREACHABLE},
    {"org.freedesktop.systemd1.UnitMasked", EXIT_STATUS_UNREACHABLE},
};

ExitStatus exit_status_from_bus_error(const char *name)
{
    if (name)
        for (size_t i = 0; i < G_N_ELEMENTS(table); i++)
            if (g_str_equal(table[i].name, name))
                return table[i].status;
    return EXIT_STATUS_FAILED;
}
