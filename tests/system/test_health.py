#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Layer 2 on real services: killed, restarted, moved to another process, and the daemon killed."""

import json
import queue
import subprocess
import threading
import time

import nspawn

NAME = "org.styxy.Ports"
PATH = "/org/styxy/Ports"
UNIT = "styxyd.service"
ALICE = 2001

INTERVAL = 0.3
GRACE = 0.5
CONFIGURATION = {
    "recovery": {
        "health_monitoring": {
            "check_interval_ms": int(INTERVAL * 1000),
            "max_failures": 3,
            "startup_grace_ms": 1500,
            "process_grace_ms": int(GRACE * 1000),
            "http_timeout_ms": 500,
        }
    }
}

# Serves "fine" on a port, or what the file says that it is told of: an HTTP status.
SERVER = """
import http.server, socket, sys, os
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        try:
            status = int(open(sys.argv[2]).read())
        except (FileNotFoundError, IndexError, ValueError):
            status = 200
        self.send_response(status)
        self.end_headers()
        self.wfile.write(b"fine")
    def log_message(self, *_):
        pass
class Server(http.server.ThreadingHTTPServer):
    allow_reuse_address = True
    allow_reuse_port = len(sys.argv) > 3
server = Server(("127.0.0.1", int(sys.argv[1])), Handler)
if "NOTIFY_SOCKET" in os.environ:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
        notify.connect(os.environ["NOTIFY_SOCKET"])
        notify.send(b"READY=1")
server.serve_forever()
"""

# Prints each signal of ours as a line of JSON.
LISTENER = """
import json, sys
from gi.repository import Gio, GLib
bus = Gio.bus_get_sync(Gio.BusType.SYSTEM)
bus.signal_subscribe(None, "org.styxy.Ports", None, None, None, 0,
                     lambda _b, _s, _p, _i, name, arguments:
                     print(json.dumps([name, arguments.unpack()]), flush=True))
bus.call_sync("org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus", "GetId",
              None, None, 0, -1, None)
print(json.dumps(["listening", []]), flush=True)
GLib.MainLoop().run()
"""


class Signals:
    """The signals of the daemon, as they come."""

    def __init__(self, machine):
        self.heard = queue.Queue()
        self.process = machine.popen("/usr/bin/python3", "-c", LISTENER, stdout=subprocess.PIPE)
        threading.Thread(target=self._read, daemon=True).start()
        self.wait("listening")

    def _read(self):
        for line in self.process.stdout:
            self.heard.put(json.loads(line))

    def wait(self, name, seconds=20, **arguments):
        """The arguments of the next signal NAME; what comes before it is passed over."""
        end = time.monotonic() + seconds
        passed = []
        while True:
            try:
                heard, values = self.heard.get(timeout=max(end - time.monotonic(), 0))
            except queue.Empty:
                raise AssertionError(f"no {name} in {seconds} s, but {passed}") from None
            if heard == name:
                return values
            passed.append((heard, values))

    def drain(self):
        values = []
        while not self.heard.empty():
            values.append(self.heard.get())
        return values


class HealthTest(nspawn.MachineTest):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.machine.run("useradd", "-m", "-u", str(ALICE), "-U", "alice")
        cls.machine.write("/usr/local/bin/server.py", SERVER)
        cls.machine.write("/etc/styxy/core-ports.d/50-test.json", json.dumps(CONFIGURATION))
        cls.machine.run("systemctl", "restart", UNIT)
        cls.signals = Signals(cls.machine)

    def setUp(self):
        self.machine.run("sh", "-c", "rm -f /tmp/status.*")
        self.signals.drain()

    def service(self, name, port, *more, properties=(), kind="notify"):
        """Starts a transient service that serves PORT; returns its main pid."""
        self.machine.run(
            "systemd-run", f"--unit={name}", f"--service-type={kind}", "-p", "NotifyAccess=all",
            *(word for text in properties for word in ("-p", text)),
            "/usr/bin/python3", "/usr/local/bin/server.py", str(port), f"/tmp/status.{port}", *more,
        )  # fmt: skip
        return int(self.machine.show(name, "MainPID"))

    def allocate(self, port, *options):
        """A lease on PORT with further options as busctl writes them; returns its id."""
        count = 2 + len(options) // 3
        answer = self.machine.output(
            "busctl", "--json=short", "call", NAME, PATH, NAME, "Allocate", "sa{sv}", "dev",
            str(count), "port", "q", str(port), "strict", "b", "true", *options,
        )  # fmt: skip
        granted, lease, _ = json.loads(answer)["data"]
        self.assertEqual(granted, port)
        return lease

    def leases(self):
        answer = self.machine.output(
            "busctl", "--json=short", "call", NAME, PATH, NAME, "List", "a{sv}", "0"
        )
        return {entry["lease"]["data"]: entry for entry in json.loads(answer)["data"][0]}

    def expect_end(self, lease, reason, seconds=20):
        seen = []
        end = time.monotonic() + seconds
        while {"PortReleased", "StaleReleased"} - {name for name, _ in seen}:
            try:
                name, values = self.signals.heard.get(timeout=max(end - time.monotonic(), 0))
            except queue.Empty:
                self.fail(f"lease {lease} did not end, but {seen}")
            if name in ("PortReleased", "StaleReleased") and values[0] == lease:
                self.assertEqual(values[2], reason)
                seen.append((name, values))
        self.assertEqual(len(seen), 2)
        self.assertNotIn(lease, self.leases())

    # -- the tests -------------------------------------------------------------------------------

    def test_unit_killed(self):
        pid = self.service("killed", 3001)
        lease = self.allocate(3001, "pid", "u", str(pid))
        self.signals.wait("HealthChanged")
        begin = time.monotonic()
        self.machine.run("systemctl", "kill", "-s", "KILL", "killed")
        self.expect_end(lease, "process-exited")
        self.assertLess(time.monotonic() - begin, GRACE + 5)

    def test_unit_that_systemd_restarts_is_waited_for(self):
        # The port is asked for with no process to begin with, so that the restart keeps it.
        pid = self.service(
            "again", 3002, properties=("Restart=always", "RestartSec=1s")
        )
        lease = self.allocate(3002, "pid", "u", str(pid))
        self.signals.wait("HealthChanged")
        self.machine.run("systemctl", "kill", "-s", "KILL", "again")
        self.machine.wait_unit("again.service", "active")
        # Well past the grace of the process and several sweeps.
        self.signals.wait("HealthChanged")
        self.assertIn(lease, self.leases())
        self.machine.run("systemctl", "stop", "again")
        self.expect_end(lease, "not-in-use")

    def test_handover(self):
        first = self.service("first", 3003, "share")
        lease = self.allocate(3003, "pid", "u", str(first))
        self.service("second", 3003, "share")
        self.machine.run("systemctl", "kill", "-s", "KILL", "first")
        values = self.signals.wait("HealthChanged", seconds=10)
        while values[0] != lease or "process" not in json.dumps(values):
            values = self.signals.wait("HealthChanged", seconds=10)
        self.assertIn(lease, self.leases())
        self.machine.run("systemctl", "stop", "second")
        self.expect_end(lease, "not-in-use")

    def test_restart_of_a_failing_service(self):
        pid = self.service("sick", 3004)
        lease = self.allocate(
            3004, "pid", "u", str(pid), "health_url", "s", "http://127.0.0.1:{port}/",
            "on_unhealthy", "s", "restart",
        )  # fmt: skip
        self.signals.wait("HealthChanged")
        self.machine.write("/tmp/status.3004", "503")
        values = self.signals.wait("ServiceRestarted", seconds=30)
        self.assertEqual((values[0], values[2]), (lease, "sick.service"))
        self.machine.run("rm", "-f", "/tmp/status.3004")
        self.machine.wait_unit("sick.service", "active")
        self.assertNotEqual(int(self.machine.show("sick", "MainPID")), pid)
        self.assertIn(lease, self.leases())
        self.machine.run("busctl", "call", NAME, PATH, NAME, "Release", "s", lease)
        self.machine.run("systemctl", "stop", "sick")

    def test_failing_http_releases(self):
        self.service("ill", 3005)
        lease = self.allocate(3005, "health_url", "s", "http://127.0.0.1:{port}/")
        self.signals.wait("HealthChanged")
        self.machine.write("/tmp/status.3005", "500")
        self.expect_end(lease, "unhealthy", seconds=30)
        self.machine.run("systemctl", "stop", "ill")

    def test_abandoned_port(self):
        self.service("left", 3006)
        lease = self.allocate(3006)
        self.signals.wait("HealthChanged")
        self.machine.run("systemctl", "stop", "left")
        self.expect_end(lease, "not-in-use")

    def test_never_bound(self):
        lease = self.allocate(3007)
        self.expect_end(lease, "never-bound")

    def test_daemon_killed_in_the_middle(self):
        """The process dies while nobody looks: the daemon that comes back knows."""
        stays = self.service("stays", 3008)
        goes = self.service("goes", 3009)
        kept = self.allocate(3008, "pid", "u", str(stays))
        lost = self.allocate(3009, "pid", "u", str(goes))
        self.signals.wait("HealthChanged")
        self.signals.wait("HealthChanged")
        self.machine.run(
            "sh", "-c",
            f"systemctl kill -s STOP {UNIT} && kill -KILL {goes} && systemctl kill -s KILL {UNIT}",
        )  # fmt: skip
        self.expect_end(lost, "orphaned")
        self.assertIn(kept, self.leases())
        self.machine.run("kill", "-KILL", str(stays))
        self.expect_end(kept, "process-exited")


if __name__ == "__main__":
    nspawn.main()
