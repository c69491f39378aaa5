#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""One user at full blast beside a quiet one, and connections without end."""

import os
import pathlib
import pwd
import socket
import subprocess
import sys
import time
import unittest

import harness
from fairness import CONFIG, CONNECTIONS, FLOOD, WINDOW, Fairness, Loud
from flood import Raw, allocate_blob, blob, quiet, values
from gi.repository import GLib
from harness import Lines, die_with_parent
from ports import World, can_change_uid, count


class Hostile(Fairness, unittest.TestCase):
    def setUp(self):
        self.world = World(CONFIG)
        self.addCleanup(self.world.close)
        self.world.start_daemon()
        os.chmod(self.world.runtime, 0o755)
        os.chmod(self.world.runtime / "bus", 0o666)

    def proc(self, name):
        return pathlib.Path(f"/proc/{self.world.daemon.pid}/{name}")

    # -- fairness ------------------------------------------------------------------------------

    def quiet(self, path, calls):
        return quiet(path, calls)

    def start_loud(self, path):
        def prepare():
            die_with_parent()
            if can_change_uid():
                nobody = pwd.getpwnam("nobody").pw_uid  # a broker takes nobody without a name
                os.setresuid(nobody, nobody, nobody)

        return Loud(subprocess.Popen(
            [sys.executable, str(FLOOD), "loud", path, str(CONNECTIONS), str(WINDOW)], text=True,
            preexec_fn=prepare, **Loud.PIPES))

    def test_a_quiet_user_beside_a_loud_one(self):
        self.quiet_beside_loud(str(self.world.runtime / "bus"), calls_of_loud=5)

    # -- long work -----------------------------------------------------------------------------

    def test_cleanups_of_those_who_have_left(self):
        """They wait for each other, and not for ever: else the row grows, and all wait longer."""
        path = str(self.world.runtime / "bus")
        cleanup = blob("Cleanup", GLib.Variant("(a{sv})", ({},)))
        metrics = blob("GetMetrics", None)
        witness = Raw(path)
        self.addCleanup(witness.close)
        before = values(witness.call(metrics))[0]["health_sweeps_total"]
        callers, calls = count(50, 500), 40
        for _ in range(callers):
            raw = Raw(path)
            for _ in range(calls):
                raw.send(cleanup)
            raw.close()
        values(witness.call(cleanup))
        done = values(witness.call(metrics))[0]["health_sweeps_total"] - before
        print(f"{done} of {callers * calls} cleanups whose callers had left were made")
        self.assertLess(done, callers * calls // 4)

    def test_a_cleanup_beside_a_loud_one(self):
        """Work in slices comes to its end although the loop never rests."""
        witness = Raw(str(self.world.runtime / "bus"))
        self.addCleanup(witness.close)
        for method in ("Cleanup", "Recover"):
            loud = self.start_loud(str(self.world.runtime / "bus"))
            self.addCleanup(loud.kill)
            began = time.monotonic()
            for _ in range(20):
                values(witness.call(blob(method, GLib.Variant("(a{sv})", ({},)))))
            seconds = time.monotonic() - began
            made, _, _ = loud.finish()
            print(f"20 times {method} in {seconds:.2f} s beside {made} calls")
            self.assertLess(seconds, 20)
            self.assertGreater(made, 1000)

    # -- connections ---------------------------------------------------------------------------

    def fds(self):
        return len(list(self.proc("fd").iterdir()))

    def memory(self):
        for line in self.proc("status").read_text().splitlines():
            if line.startswith("RssAnon:"):
                return int(line.split()[1])
        raise AssertionError("no RssAnon")

    def drop(self, path, number):
        """Connects and goes: at once, in the midst of the handshake, behind it, or with a call."""
        steps = (
            b"", b"\0", b"\0AUTH EXTER", b"\0AUTH EXTERNAL 30\r\n",
            b"\0AUTH EXTERNAL 30\r\nNEGOTIATE_UNIX_FD\r\n",
            b"\0AUTH EXTERNAL 30\r\nNEGOTIATE_UNIX_FD\r\nBEGIN\r\n",
            b"\0AUTH EXTERNAL 30\r\nBEGIN\r\n" + blob("GetMetrics", None),
            b"\0AUTH EXTERNAL 30\r\nBEGIN\r\n" + blob("GetMetrics", None)[:40],
            b"\0AUTH EXTERNAL 30\r\nBEGIN\r\n" + allocate_blob("quiet")[:-8] + b"\xff" * 8,
            b"GET / HTTP/1.1\r\n\r\n",
        )
        for i in range(number):
            with socket.socket(socket.AF_UNIX) as one:
                one.connect(path)
                try:
                    one.sendall(steps[i % len(steps)])
                except (BrokenPipeError, ConnectionResetError):
                    pass  # it was one too many, and cut off
                if i % 7 == 0:
                    one.shutdown(socket.SHUT_WR)

    def connect(self):
        """A connection once there is room again: those that were dropped may count still."""
        deadline = time.monotonic() + 20
        while True:
            try:
                return Raw(str(self.world.runtime / "bus"))
            except (ConnectionError, AssertionError):
                if time.monotonic() > deadline:
                    raise

    def settle(self, wanted):
        """Waits until as many descriptors are open. Returns how many are."""
        deadline = time.monotonic() + 20
        while self.fds() > wanted and time.monotonic() < deadline:
            self.connect().close()
        return self.fds()

    def test_connections_opened_and_dropped(self):
        path = str(self.world.runtime / "bus")
        self.drop(path, 4000)  # what is allocated once stays
        witness = self.connect()
        self.addCleanup(witness.close)
        values(witness.call(blob("GetMetrics", None)))
        fds = self.settle(self.fds() - 1)
        memory = self.memory()
        self.drop(path, count(10_000, 100_000))
        values(witness.call(blob("GetMetrics", None)))
        self.assertLessEqual(self.settle(fds), fds)
        print(f"{fds} descriptors, {memory} kB before and {self.memory()} kB after")
        self.assertLess(self.memory(), memory + 1024)


BROKER = """<busconfig><listen>unix:path={path}</listen><auth>EXTERNAL</auth>
<policy context="default"><allow user="*"/><allow own="*"/><allow send_destination="*"/>
<allow receive_sender="*"/></policy><limit name="max_replies_per_connection">1024</limit>
</busconfig>"""


class HostileOnTheBus(Hostile):
    """The same where all share the connection to a broker, which lets in other users."""

    def setUp(self):
        self.world = World(CONFIG)
        self.addCleanup(self.world.close)
        self.path = str(self.world.folder / "wide")
        config = self.world.folder / "wide.conf"
        config.write_text(BROKER.format(path=self.path), encoding="utf-8")
        broker = subprocess.Popen(
            ["dbus-daemon", f"--config-file={config}", "--nofork", "--nosyslog", "--nopidfile",
             "--print-address=1"], text=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            preexec_fn=die_with_parent)
        self.addCleanup(broker.stdout.close)
        self.addCleanup(broker.wait)
        self.addCleanup(broker.kill)
        Lines(broker.stdout).next()
        self.world.bus_address = f"unix:path={self.path}"
        self.world.start_daemon()

    def test_a_quiet_user_beside_a_loud_one(self):
        if not can_change_uid():
            self.skipTest("one user only")
        self.quiet_beside_loud(self.path)

    test_connections_opened_and_dropped = None
    test_cleanups_of_those_who_have_left = None
    test_a_cleanup_beside_a_loud_one = None


if __name__ == "__main__":
    harness.enter_namespace()
    unittest.main(verbosity=2)
