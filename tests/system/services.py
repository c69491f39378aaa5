# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the tests of health have the daemon look after, and how they hear of it."""

import json
import queue
import subprocess
import threading
import time

# Serves "fine" on a port once there is a file "go", or what the file says that it is told of: an
# HTTP status. So it can be named in an Allocate of its port before it takes that.
SERVER = """
import http.server, pathlib, sys, time
while not pathlib.Path("/tmp/go." + sys.argv[1]).exists():
    time.sleep(0.02)
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
Server(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""

# Prints each signal of ours as a line of JSON. Told of "user", those on the user's bus.
LISTENER = """
import json, sys
from gi.repository import Gio, GLib
bus = Gio.bus_get_sync(Gio.BusType.SESSION if sys.argv[1] == "user" else Gio.BusType.SYSTEM)
bus.signal_subscribe(None, "org.styxy.Ports", None, None, None, 0,
                     lambda _b, _s, _p, _i, name, arguments:
                     print(json.dumps([name, arguments.unpack()]), flush=True))
bus.call_sync("org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus", "GetId",
              None, None, 0, -1, None)
print(json.dumps(["listening", []]), flush=True)
GLib.MainLoop().run()
"""


class Signals:
    """The signals of the system's daemon, or of the user's whose UID is given, as they come."""

    def __init__(self, machine, uid=0):
        self.machine = machine
        self.heard = queue.Queue()
        self.since_drain = []
        self.process = machine.popen(
            "/usr/bin/python3", "-c", LISTENER, "user" if uid != 0 else "system",
            uid=uid, user_bus=uid != 0, stdout=subprocess.PIPE,
        )  # fmt: skip
        threading.Thread(target=self._read, daemon=True).start()
        self.wait("listening")

    def _read(self):
        for line in self.process.stdout:
            signal = json.loads(line)
            self.since_drain.append(signal)
            self.heard.put(signal)

    def wait(self, name, lease=None, seconds=20):
        """The arguments of the next signal NAME, of LEASE where one is given; what comes before it
        is passed over."""
        end = time.monotonic() + seconds
        passed = []
        while True:
            try:
                heard, values = self.heard.get(timeout=max(end - time.monotonic(), 0))
            except queue.Empty:
                raise AssertionError(f"no {name} in {seconds} s, but {passed}") from None
            if heard == name and (lease is None or values[0] == lease):
                return values
            passed.append((heard, values))

    def wait_health(self, lease, health, reason="", seconds=20):
        """The arguments of the next HealthChanged of LEASE to HEALTH with REASON in its details."""
        end = time.monotonic() + seconds
        while True:
            values = self.wait("HealthChanged", lease, end - time.monotonic())
            if values[2] == health and reason in str(values[3]):
                return values

    def serve(self, port, lease):
        """Lets a service take its PORT, and waits until that was seen."""
        self.machine.run("touch", f"/tmp/go.{port}")
        self.wait_health(lease, "active")

    def told(self, name, lease):
        """The arguments of all signals NAME of LEASE since the last drain, passed over or not."""
        return [
            values for heard, values in list(self.since_drain)
            if heard == name and values[0] == lease
        ]  # fmt: skip

    def drain(self):
        """Forgets what has come so far."""
        self.since_drain.clear()
        while not self.heard.empty():
            self.heard.get()
