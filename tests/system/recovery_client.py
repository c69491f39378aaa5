# SPDX-License-Identifier: LGPL-2.1-or-later
"""The two halves of the kill test, run inside the machine.

client ADDRESS NUMBER SEED   allocates, releases and lists until the file /run/recovery-done is there;
                             judges every answer by what it was told before; prints its facts as JSON
killer KILLS SEED SECONDS    kills the daemon, SECONDS apart at least; makes that file at the end
"""

import json
import os
import random
import subprocess
import sys
import threading
import time

from gi.repository import Gio, GLib

NAME, PATH = "org.styxy.Ports", "/org/styxy/Ports"
DONE = "/run/recovery-done"
CALL_MSEC = 30000
RECONNECT_SECONDS = 30
HELD_MAX = 25

# What a client may see when whom it talks to dies: never more than that nobody answers. The last ones
# are a broker's, for a call that it kept for a daemon that was killed before it was ready.
CUT_REMOTE = {
    "org.freedesktop.DBus.Error.NoReply",
    "org.freedesktop.DBus.Error.Disconnected",
    "org.freedesktop.DBus.Error.NameHasNoOwner",
    "org.freedesktop.DBus.Error.ServiceUnknown",
}
CUT_LOCAL = {Gio.IOErrorEnum.CLOSED, Gio.IOErrorEnum.BROKEN_PIPE, Gio.IOErrorEnum.CONNECTION_CLOSED}


class Cut(Exception):
    """The connection or the daemon is gone, the call has no answer."""


def is_cut(error):
    remote = Gio.DBusError.get_remote_error(error)
    if remote is not None:
        return remote in CUT_REMOTE
    return error.domain == GLib.quark_to_string(Gio.io_error_quark()) and error.code in CUT_LOCAL


class Client:
    def __init__(self, address, number, seed):
        self.address = address
        self.number = number
        self.dice = random.Random(seed)
        self.bus = None
        self.held = {}  # lease -> port
        self.released = set()
        self.leaving = set()  # leases whose release had no answer
        self.unsure = set()  # labels of grants that had no answer
        self.counts = {"grants": 0, "releases": 0, "lists": 0, "cut": 0}
        self.calls = 0

    def connect(self):
        if self.address == "system":
            self.bus = Gio.bus_get_sync(Gio.BusType.SYSTEM)
            return
        flags = (Gio.DBusConnectionFlags.AUTHENTICATION_CLIENT
                 | Gio.DBusConnectionFlags.MESSAGE_BUS_CONNECTION)
        deadline = time.monotonic() + RECONNECT_SECONDS
        while True:
            try:
                self.bus = Gio.DBusConnection.new_for_address_sync(self.address, flags, None, None)
                return
            except GLib.Error:
                # accepted, and then killed; the socket itself is always there
                if time.monotonic() > deadline:
                    raise

    def call(self, method, signature, *arguments):
        self.calls += 1
        try:
            return self.bus.call_sync(
                NAME, PATH, NAME, method, GLib.Variant(signature, arguments), None, 0, CALL_MSEC, None
            ).unpack()
        except GLib.Error as error:
            if not is_cut(error):
                raise
            self.counts["cut"] += 1
            if self.address != "system":
                self.connect()
            raise Cut from None

    def allocate(self):
        label = f"client-{self.number}-{self.calls}"
        lifetime = self.dice.choice(("auto", "persistent"))
        options = {"label": GLib.Variant("s", label), "lifetime": GLib.Variant("s", lifetime)}
        try:
            port, lease, _ = self.call("Allocate", "(sa{sv})", "load", options)
        except Cut:
            self.unsure.add(label)
            return
        assert lease not in self.held and lease not in self.released, f"{lease} was granted before"
        assert port not in self.held.values(), f"port {port} was granted twice"
        self.held[lease] = port
        self.counts["grants"] += 1

    def release(self):
        lease = self.dice.choice(sorted(self.held))
        port = self.held.pop(lease)
        again = False
        while True:
            try:
                self.call("Release", "(s)", lease)
            except Cut:
                again = True
                continue
            except GLib.Error as error:
                # only after a release that had no answer
                remote = Gio.DBusError.get_remote_error(error)
                assert again and remote == NAME + ".Error.UnknownLease", (lease, port, error)
            self.released.add(lease)
            self.counts["releases"] += 1
            return

    def list(self):
        try:
            leases = self.call("List", "(a{sv})", {})[0]
        except Cut:
            return
        self.counts["lists"] += 1
        ports = [lease["port"] for lease in leases]
        assert len(set(ports)) == len(ports), f"a port twice: {sorted(ports)}"
        there = {lease["lease"]: lease["port"] for lease in leases}
        for lease, port in self.held.items():
            assert there.get(lease) == port, f"{lease} on {port}: {there.get(lease)}"
        back = self.released & set(there)
        assert not back, f"released, and there again: {back}"

    def run(self):
        self.connect()
        while not os.path.exists(DONE):
            if self.dice.random() < 0.1:
                self.list()
            elif not self.held or (len(self.held) < HELD_MAX and self.dice.random() < 0.55):
                self.allocate()
            else:
                self.release()
        self.list()
        print(json.dumps({"held": self.held, "released": sorted(self.released),
                          "unsure": sorted(self.unsure), **self.counts}))


def main_pid():
    done = subprocess.run(["systemctl", "show", "--value", "-p", "MainPID", "styxyd.service"],
                          capture_output=True, text=True, check=True)
    return int(done.stdout)


def answers():
    """Returns when a daemon has answered."""
    bus = Gio.bus_get_sync(Gio.BusType.SYSTEM)
    while True:
        try:
            bus.call_sync(NAME, PATH, NAME, "GetMetrics", None, None, 0, CALL_MSEC, None)
            return
        except GLib.Error as error:
            if not is_cut(error):
                raise


def killer(kills, seed, seconds):
    dice = random.Random(seed)
    pause = threading.Event()
    try:
        for _ in range(kills):
            earliest = time.monotonic() + seconds
            # now and then one that has perhaps not even recovered
            if dice.random() < 0.8:
                answers()
            pause.wait(dice.uniform(0, 0.3))
            pid = main_pid()
            if pid > 0:
                os.kill(pid, 9)
            pause.wait(max(0, earliest - time.monotonic()))
        answers()
    finally:
        with open(DONE, "w", encoding="ascii"):
            pass


if __name__ == "__main__":
    if sys.argv[1] == "killer":
        killer(int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4]))
    else:
        Client(sys.argv[2], int(sys.argv[3]), int(sys.argv[4])).run()
