#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Held ports under a real systemd: the same sockets before and after every death of the daemon."""

import json
import os
import subprocess
import time

import nspawn

NAME = "org.styxy.Ports"
PATH = "/org/styxy/Ports"
UNIT = "styxyd.service"
KILLS = int(os.environ.get("STYXY_HOLD_KILLS", "6"))

CONFIG = {
    "service_types": {"held": {"port_range": [12000, 12099]}},
    "recovery": {"port_conflict": {"cooldown_ms": 0, "max_retries": 0}},
}

# port -> inode of the TCP sockets that a process has, whether they listen or not, as JSON.
SOCKETS = """
import ctypes, json, os, socket, sys
pid = int(sys.argv[1])
libc = ctypes.CDLL(None, use_errno=True)
PIDFD_OPEN, PIDFD_GETFD = 434, 438
handle = libc.syscall(PIDFD_OPEN, pid, 0)
found = {}
for number in os.listdir(f"/proc/{pid}/fd"):
    fd = libc.syscall(PIDFD_GETFD, handle, int(number), 0)
    if fd < 0:
        continue
    try:
        copy = socket.socket(fileno=fd)
    except OSError:
        os.close(fd)
        continue
    with copy:
        if copy.family in (socket.AF_INET, socket.AF_INET6) and copy.type == socket.SOCK_STREAM:
            found[copy.getsockname()[1]] = os.fstat(fd).st_ino
print(json.dumps(found))
"""

# Tries all the time to get one of the ports: by number without SO_REUSEADDR in every layout, and
# whichever the kernel gives. Prints at the end when it began each round, and what it got when
# (CLOCK_MONOTONIC, which is the host's: the time before the attempt).
PROBER = """
import json, select, socket, sys, time
ports = [int(port) for port in sys.argv[1:]]
got, rounds = [], []
def bind(family, address, port, only):
    with socket.socket(family, socket.SOCK_STREAM) as one:
        if only is not None:
            one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, only)
        try:
            one.bind((address, port))
        except OSError:
            return None
        return one.getsockname()[1]
print("ready", flush=True)
while not select.select([sys.stdin], [], [], 0)[0]:
    rounds.append(round(time.monotonic(), 4))
    for port in ports:
        for layout in ((socket.AF_INET6, "::", port, 0), (socket.AF_INET6, "::1", port, 1),
                       (socket.AF_INET, "127.0.0.1", port, None), (socket.AF_INET, "", port, None)):
            before = time.monotonic()
            if bind(*layout):
                got.append([before, layout[1], port])
    for family, address in ((socket.AF_INET6, "::"), (socket.AF_INET, "")):
        for _ in range(20):
            before = time.monotonic()
            given = bind(family, address, 0, 0 if family == socket.AF_INET6 else None)
            if given in ports:
                got.append([before, "any", given])
print(json.dumps([rounds, got]))
"""

# Comes and goes on a port as a service does. Prints at the end how often it came; fails when it could not.
SERVICE = """
import select, socket, sys
starts = 0
print("ready", flush=True)
while not select.select([sys.stdin], [], [], 0.01)[0]:
    with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as service:
        service.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        service.bind(("::", int(sys.argv[1])))
        service.listen()
        with socket.create_connection(("::1", int(sys.argv[1])), 5):
            service.accept()[0].close()
    starts += 1
print(starts)
"""

# Asks for held ports and kills the daemon as soon as it has answered, again and again. Prints what
# it was granted when.
HASTE = """
import json, os, signal, sys, time
from gi.repository import Gio, GLib
bus = Gio.bus_get_sync(Gio.BusType.SYSTEM)
def call(method, arguments):
    return bus.call_sync("org.styxy.Ports", "/org/styxy/Ports", "org.styxy.Ports", method, arguments,
                         None, 0, 20000, None).unpack()
def daemon():
    end = time.monotonic() + 30
    while True:
        try:
            call("GetMetrics", None)
            return bus.call_sync("org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus",
                                 "GetConnectionUnixProcessID",
                                 GLib.Variant("(s)", ("org.styxy.Ports",)), None, 0, 20000, None).unpack()[0]
        except GLib.Error:  # it was asked while it died
            if time.monotonic() > end:
                raise
answers = []
for _ in range(int(sys.argv[1])):
    pid = daemon()
    port, lease, details = call("Allocate", GLib.Variant("(sa{sv})", ("held", {
        "hold": GLib.Variant("s", "soft")})))
    os.kill(pid, signal.SIGKILL)
    answers.append([port, lease, time.monotonic(), details.get("hold", "soft")])
daemon()
print(json.dumps(answers))
"""

# Releases a lease and binds its port without SO_REUSEADDR as soon as the answer is there.
RELEASE = """
import socket, sys
from gi.repository import Gio, GLib
bus = Gio.bus_get_sync(Gio.BusType.SYSTEM)
for pair in sys.argv[1:]:
    port, lease = pair.split(":")
    bus.call_sync("org.styxy.Ports", "/org/styxy/Ports", "org.styxy.Ports", "Release",
                  GLib.Variant("(s)", (lease,)), None, 0, 20000, None)
    with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as mine:
        mine.bind(("::", int(port)))
        mine.listen()
"""


class HoldTest(nspawn.MachineTest):
    def setUp(self):
        self.machine.run("rm", "-rf", "/etc/systemd/system/styxyd.service.d")
        self.machine.run("systemctl", "daemon-reload")
        self.machine.run("systemctl", "stop", UNIT)
        self.machine.run("systemctl", "reset-failed", check=False)
        self.machine.run("sh", "-c", "rm -rf /var/lib/styxy/*")
        self.machine.write("/etc/styxy/core-ports.json", json.dumps(CONFIG))
        self.windows = []

    def drop_in(self, text):
        self.machine.write("/etc/systemd/system/styxyd.service.d/test.conf", text)
        self.machine.run("systemctl", "daemon-reload")

    def call(self, method, *arguments):
        answer = self.machine.output(
            "busctl", "--system", "--json=short", "call", NAME, PATH, NAME, method, *arguments)
        return json.loads(answer)["data"] if answer else None

    def hold(self, number):
        """Allocates with a hold. Returns port -> lease."""
        held = {}
        for _ in range(number):
            port, lease, details = self.call(
                "Allocate", "sa{sv}", "held", "2", "hold", "s", "soft", "lifetime", "s", "persistent")
            self.assertNotIn("hold", details)
            held[port] = lease
        return held

    def main_pid(self):
        return int(self.machine.show(UNIT, "MainPID"))

    def stored(self):
        return int(self.machine.show(UNIT, "NFileDescriptorStore"))

    def sockets(self, pid):
        out = self.machine.output("/usr/bin/python3", "-c", SOCKETS, str(pid))
        return {int(port): inode for port, inode in json.loads(out).items()}

    def kill(self):
        """SIGKILL; returns when another daemon has answered. Notes from when to when there was none."""
        before = self.main_pid()
        killed = time.monotonic()
        self.machine.run("kill", "-KILL", str(before))
        self.machine.wait_unit(UNIT, "activating", "inactive", "failed", "active")
        self.call("GetMetrics")
        self.windows.append((killed, time.monotonic()))
        after = self.main_pid()
        self.assertNotIn(after, (0, before))
        return after

    def start(self, code, *arguments):
        process = self.machine.popen(
            "/usr/bin/python3", "-c", code, *map(str, arguments),
            stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.addCleanup(self.end, process)
        self.assertEqual(process.stdout.readline(), "ready\n")
        return process

    @staticmethod
    def end(process):
        if process.poll() is None:
            process.kill()
        process.wait()
        process.stdin.close()
        process.stdout.close()

    @staticmethod
    def finish(process):
        process.stdin.close()
        word = process.stdout.read()
        return json.loads(word), process.wait(30)

    def bindable(self, port):
        code = ("import socket, sys; s = socket.socket(socket.AF_INET6); "
                "s.bind(('::', int(sys.argv[1])))")
        return self.machine.run("/usr/bin/python3", "-c", code, str(port), check=False).returncode == 0

    def assert_probed(self, rounds):
        """It tried while there was no daemon, every time."""
        for killed, answered in self.windows:
            tries = sum(killed <= began <= answered for began in rounds)
            self.assertGreater(tries, 5, (killed, answered, len(rounds)))

    # -- the tests --------------------------------------------------------------------------------

    def test_the_same_sockets_after_every_kill(self):
        self.machine.run("sysctl", "-w", "net.ipv4.ip_local_port_range=12000 12099")
        held = self.hold(8)
        self.assertEqual(self.stored(), len(held))
        before = self.sockets(self.main_pid())
        self.assertEqual(set(before), set(held))
        self.assertEqual(self.sockets(1), before)

        prober = self.start(PROBER, *held)
        service = self.start(SERVICE, min(held))
        for _ in range(KILLS):
            pid = self.kill()
            self.assertEqual(self.sockets(pid), before)
            self.assertEqual(self.sockets(1), before)
            self.assertEqual(self.stored(), len(held))
        starts, status = self.finish(service)
        self.assertEqual(status, 0)
        self.assertGreater(starts, KILLS * 5)
        (rounds, got), status = self.finish(prober)
        self.assertEqual((status, got), (0, []))
        self.assert_probed(rounds)

        # the service's connections are in TIME_WAIT, which a bind without SO_REUSEADDR takes for use
        self.call("Release", "s", held.pop(min(held)))
        self.machine.run(
            "/usr/bin/python3", "-c", RELEASE, *(f"{port}:{lease}" for port, lease in held.items()))
        self.assertEqual(self.stored(), 0)
        self.assertEqual(self.sockets(1), {})

    def test_a_long_death(self):
        """Nobody restarts it for a while: systemd has the sockets, and nobody gets the ports."""
        self.drop_in("[Service]\nRestartSec=3s\n")
        held = self.hold(4)
        before = self.sockets(self.main_pid())
        prober = self.start(PROBER, *held)
        pid = self.main_pid()
        killed = time.monotonic()
        self.machine.run("kill", "-KILL", str(pid))
        self.machine.wait_unit(UNIT, "activating")
        self.assertEqual(self.sockets(1), before)
        self.machine.wait_unit(UNIT, "active")
        self.windows.append((killed, time.monotonic()))
        self.assertEqual(self.sockets(self.main_pid()), before)
        (rounds, got), status = self.finish(prober)
        self.assertEqual((status, got), (0, []))
        self.assert_probed(rounds)

    def test_killed_with_the_answer(self):
        """What was answered is held, even where the daemon dies in the very moment."""
        self.drop_in("[Unit]\nStartLimitIntervalSec=0\n[Service]\nRestartSec=100ms\n")
        prober = self.start(PROBER, *range(12000, 12012))
        answers = json.loads(self.machine.output("/usr/bin/python3", "-c", HASTE, str(KILLS * 2)))
        (_, got), status = self.finish(prober)
        self.assertEqual(status, 0)
        granted = {port: when for port, _, when, _ in answers}
        self.assertEqual(len(granted), KILLS * 2)
        self.assertEqual({hold for _, _, _, hold in answers}, {"soft"})
        self.assertEqual([one for one in got if one[0] > granted.get(one[2], float("inf"))], [])
        sockets = self.sockets(self.main_pid())
        self.assertEqual(set(sockets), set(granted))
        self.assertEqual(self.sockets(1), sockets)
        leases = self.call("List", "a{sv}", "0")[0]
        self.assertEqual({lease["lease"]["data"] for lease in leases},
                         {lease for _, lease, _, _ in answers})

    def test_the_same_sockets_after_a_restart(self):
        held = self.hold(3)
        before = self.sockets(self.main_pid())
        prober = self.start(PROBER, *held)
        self.machine.run("systemctl", "restart", UNIT)
        self.assertEqual(self.sockets(self.main_pid()), before)
        (_, got), status = self.finish(prober)
        self.assertEqual((status, got), (0, []))

    def test_strays_are_closed(self):
        held = self.hold(3)
        gone = min(held)
        # a state that does not know the lease takes the place of the one that does
        self.drop_in("[Service]\nRestartSec=2s\n")
        self.call("Release", "s", held[gone])
        self.machine.run("cp", "-a", "/var/lib/styxy", "/var/lib/styxy.after")
        again = self.hold(1)
        self.assertEqual(min(again), gone)
        stray = again[gone]
        before = self.sockets(self.main_pid())
        self.machine.run("kill", "-KILL", str(self.main_pid()))
        self.machine.run(
            "sh", "-c", "cp -a /var/lib/styxy.after/. /var/lib/styxy/ && rm -r /var/lib/styxy.after")
        self.machine.wait_unit(UNIT, "active")
        del before[gone]
        self.assertEqual(self.sockets(self.main_pid()), before)
        self.assertEqual(self.sockets(1), before)
        self.assertEqual(self.stored(), 2)
        self.assertTrue(self.bindable(gone))
        report = json.dumps(self.call("GetRecoveryReport"))
        self.assertIn(stray, report)

    def test_a_store_that_is_full(self):
        self.drop_in("[Service]\nFileDescriptorStoreMax=2\n")
        held = self.hold(5)
        self.assertEqual(self.stored(), 2)
        before = self.sockets(self.main_pid())
        pid = self.kill()
        after = self.sockets(pid)
        self.assertEqual(set(after), set(held))
        self.assertEqual(sum(after[port] == before[port] for port in held), 2)
        for port in held:
            self.assertFalse(self.bindable(port))

    def test_a_sweep_does_not_hurt(self):
        """What looks after leases leaves held ports alone, and a hold does not pass for a service."""
        held = self.hold(2)
        released = self.call("Cleanup", "a{sv}", "1", "dry_run", "b", "true")[0]
        self.assertEqual(released, [])
        for port in held:
            self.assertFalse(self.bindable(port))


if __name__ == "__main__":
    nspawn.main()
