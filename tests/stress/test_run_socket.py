#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""styxyctl run --socket with servers that take their socket by the LISTEN_FDS protocol."""

import pathlib
import shutil
import signal
import socket
import sys
import time
import unittest
import urllib.request

import harness
from harness import DEADLINE
from ports import Outsider, World

CONFIG = {
    "service_types": {"web": {"port_range": [18100, 18199]}},
    "recovery": {"port_conflict": {"cooldown_ms": 0}, "health_monitoring": {"enabled": False}},
}

APPLICATION = """
def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"hello from gunicorn"]
"""

# Python's own: socketserver on a socket that it did not bind.
SOCKETSERVER = """
import http.server, os, socket, sys
assert int(os.environ["LISTEN_PID"]) == os.getpid(), os.environ
assert os.environ["LISTEN_FDS"] == "1" and os.environ["LISTEN_FDNAMES"] == "web", os.environ
class Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = b"hello from socketserver"
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *unused):
        pass
class Server(http.server.ThreadingHTTPServer):
    def __init__(self):
        super().__init__(("", 0), Page, bind_and_activate=False)
        self.socket = socket.socket(fileno=3)
        assert self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) == 1
        assert self.socket.getsockname()[1] == int(os.environ["PORT"])
Server().serve_forever()
"""

NODE = """
if (process.env.LISTEN_FDS !== "1" || process.env.LISTEN_PID !== String(process.pid)) process.exit(9);
require("http").createServer((q, a) => a.end("hello from node")).listen({fd: 3});
"""

DATAGRAMS = """
import os, socket, sys
assert os.environ["LISTEN_FDS"] == "1"
service = socket.socket(fileno=3)
assert service.type == socket.SOCK_DGRAM
data, sender = service.recvfrom(100)
service.sendto(data.upper(), sender)
"""


class RunSocket(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.world = World(CONFIG)
        cls.addClassCleanup(cls.world.close)
        cls.world.start_daemon()

    def setUp(self):
        self.client = self.world.client()
        self.addCleanup(self.client.close)

    def start(self, *words):
        process = self.world.start("run", "web", "--socket", *words)
        self.addCleanup(self.end, process)
        return process

    @staticmethod
    def end(process):
        if process.poll() is None:
            process.kill()
        process.wait()
        process.stdout.close()
        process.stderr.close()

    def leased(self, signals):
        return signals.wait("PortAllocated", 1)[0][0][1]

    @staticmethod
    def reach(port, address="127.0.0.1"):
        """A connection, as soon as somebody listens: that is soon after the grant was told."""
        deadline = time.monotonic() + DEADLINE
        while True:
            try:
                return socket.create_connection((address, port), DEADLINE)
            except ConnectionRefusedError:
                if time.monotonic() > deadline:
                    raise

    def fetch(self, port, address="127.0.0.1"):
        """It listens before the command begins, so once it listens this waits."""
        self.reach(port, address.strip("[]")).close()
        with urllib.request.urlopen(f"http://{address}:{port}/", timeout=DEADLINE) as page:
            return page.read().decode()

    def serve(self, says, *command):
        signals = self.world.signals()
        self.addCleanup(signals.close)
        with Outsider.holding([18100]):
            process = self.start("--", *command)
            port = self.leased(signals)
        self.assertGreater(port, 18100)
        for address in ("127.0.0.1", "[::1]") * 3:
            self.assertEqual(self.fetch(port, address), says)
        process.send_signal(signal.SIGTERM)
        process.wait(DEADLINE)
        signals.wait("PortReleased", 1)
        self.assertEqual(self.client.list(), [])
        # and at once again on the same port, for all the connections that linger
        signals.clear()
        process = self.start(f"--port={port}", "--strict", "--", *command)
        self.assertEqual(self.leased(signals), port)
        self.assertEqual(self.fetch(port), says)
        process.kill()  # even so
        process.wait(DEADLINE)
        signals.wait("PortReleased", 1)
        with self.assertRaises(OSError):
            while True:  # the command ends with us, and its socket with it
                socket.create_connection(("127.0.0.1", port), DEADLINE).close()

    def test_socketserver(self):
        self.serve("hello from socketserver", sys.executable, "-c", SOCKETSERVER)

    @unittest.skipUnless(shutil.which("gunicorn"), "gunicorn is not installed")
    def test_gunicorn(self):
        folder = pathlib.Path(self.world.folder)
        (folder / "page.py").write_text(APPLICATION, encoding="ascii")
        self.serve("hello from gunicorn", "gunicorn", f"--chdir={folder}", "--log-level=warning",
                   "page:application")

    @unittest.skipUnless(shutil.which("node"), "node is not installed")
    def test_node(self):
        self.serve("hello from node", "node", "-e", NODE)

    def test_same_port_by_instance(self):
        """A service that comes back finds its port, although its connections linger there."""
        ports = set()
        for _ in range(3):
            signals = self.world.signals()
            process = self.start("--instance=again", "--", sys.executable, "-c", SOCKETSERVER)
            port = self.leased(signals)
            ports.add(port)
            with self.reach(port) as caller:
                caller.sendall(b"GET / HTTP/1.0\r\n\r\n")
                while caller.recv(1000):  # it closes first
                    pass
            process.terminate()
            process.wait(DEADLINE)
            signals.wait("PortReleased", 1)
            signals.close()
        self.assertEqual(len(ports), 1)

    def test_udp(self):
        signals = self.world.signals()
        self.addCleanup(signals.close)
        process = self.start("--protocol=udp", "--", sys.executable, "-c", DATAGRAMS)
        port = self.leased(signals)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as caller:
            caller.settimeout(DEADLINE)
            caller.sendto(b"hello", ("127.0.0.1", port))
            self.assertEqual(caller.recv(100), b"HELLO")
        self.assertEqual(process.wait(DEADLINE), 0)

    def test_address(self):
        signals = self.world.signals()
        self.addCleanup(signals.close)
        self.start("--address=127.0.0.2", "--", sys.executable, "-c", SOCKETSERVER)
        port = self.leased(signals)
        self.assertEqual(self.fetch(port, "127.0.0.2"), "hello from socketserver")
        with self.assertRaises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port), DEADLINE)

    def test_status_passes_through(self):
        process = self.start("--", "sh", "-c", "exit 7")
        self.assertEqual(process.wait(DEADLINE), 7)


if __name__ == "__main__":
    harness.enter_namespace()
    unittest.main(verbosity=2)
