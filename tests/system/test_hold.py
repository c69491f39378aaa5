#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Held ports under a real systemd: the same sockets before and after every death of the daemon."""

import json
import os
import subprocess
import unittest

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
# whichever the kernel gives. Prints at the end how often, and what it got.
PROBER = """
import json, select, socket, sys
ports = [int(port) for port in sys.argv[1:]]
got, rounds = [], 0
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
    rounds += 1
    for port in ports:
        for layout in ((socket.AF_INET6, "::", port, 0), (socket.AF_INET6, "::1", port, 1),
                       (socket.AF_INET, "127.0.0.1", port, None), (socket.AF_INET, "", port, None)):
            if bind(*layout):
                got.append([rounds, layout[1], port])
    for family, address in ((socket.AF_INET6, "::"), (socket.AF_INET, "")):
        for _ in range(20):
            given = bind(family, address, 0, 0 if family == socket.AF_INET6 else None)
            if given in ports:
                got.append([rounds, "any", given])
print(json.dumps([rounds, got[:20]]))
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
        """SIGKILL; returns when another daemon has answered."""
        before = self.main_pid()
        self.machine.run("kill", "-KILL", str(before))
        self.machine.wait_unit(UNIT, "activating", "inactive", "failed", "active")
        self.call("GetMetrics")
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
        self.assertGreater(rounds, KILLS * 10)

        # the service's connections are in TIME_WAIT, which a bind without SO_REUSEADDR takes for use
        self.call("Release", "s", held.pop(min(held)))
        self.machine.run(
            "/usr/bin/python3", "-c", RELEASE, *(f"{port}:{lease}" for port, lease in held.items()))
        self.assertEqual(self.stored(), 0)
        self.assertEqual(self.sockets(1), {})

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
