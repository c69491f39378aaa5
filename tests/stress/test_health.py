#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""The sweep beside services that live, start again and again, or answer HTTP in every bad way."""

import os
import pathlib
import resource
import socket
import struct
import subprocess
import threading
import time
import unittest

import harness
from ports import World, count


def config(**health):
    return {
        "service_types": {
            "live": {"port_range": [16000, 17999]},
            "web": {"port_range": [18000, 18099]},
            "other": {"port_range": [19000, 19099]},
        },
        "recovery": {"port_conflict": {"cooldown_ms": 0}, "health_monitoring": health},
        "limits": {"leases_per_user": 3000},
    }


class Case(unittest.TestCase):
    def begin(self, **health):
        self.world = World(config(**health))
        self.addCleanup(self.world.close)
        self.world.start_daemon()
        self.connect()

    def connect(self):
        self.client = self.world.client(direct=True)
        self.addCleanup(self.client.close)

    def wait_metric(self, name, value, seconds=60):
        end = time.monotonic() + seconds
        while (now := self.client.metrics()[name]) < value:
            self.assertLess(time.monotonic(), end, f"{name} is {now}, not {value}")
            time.sleep(0.01)
        return now


class Living(Case):
    def test_a_listening_service_keeps_its_lease(self):
        """1,000 services, 20 sweeps and more, and the daemon killed in between."""
        self.begin(check_interval_ms=50, startup_grace_ms=10_000, max_failures=1)
        leases, sockets, sweeps = set(), [], 0
        for number in range(1000):
            protocol = "udp" if number % 5 == 4 else "tcp"
            options = {"pid": os.getpid()} if number % 2 else {}
            port, lease, _ = self.client.allocate("live", protocol=protocol, **options)
            kind = socket.SOCK_DGRAM if protocol == "udp" else socket.SOCK_STREAM
            family, host = ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::"))[number % 2]
            server = socket.socket(family, kind)
            self.addCleanup(server.close)
            server.bind((host, port))
            if protocol == "tcp":
                server.listen(1)
            sockets.append(server)
            leases.add(lease)
        for _ in range(4):
            sweeps += self.wait_metric("health_sweeps_total", 5)
            metrics = self.client.metrics()
            self.assertEqual(metrics["stale_releases_total"], 0)
            self.world.kill_daemon()
            self.world.start_daemon()
            self.connect()
        self.wait_metric("health_sweeps_total", 2)
        listed = self.client.list()
        self.assertEqual({lease["lease"] for lease in listed}, leases)
        self.assertEqual({lease["health"] for lease in listed}, {"active"})
        print(f"{len(leases)} services, {sweeps} sweeps, 4 restarts of the daemon: 0 releases")
        # and the other way round, or none of it says anything
        for server in sockets:
            server.close()
        self.wait_metric("stale_releases_total", 1000)

    def start(self, port, reuse):
        with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as server:
            server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, reuse)
            server.bind(("::", port))
            server.listen(1)

    def test_no_start_of_a_service_is_disturbed(self):
        """A look that binds makes 128 of 20,000 such starts fail."""
        self.begin(check_interval_ms=20, startup_grace_ms=0, max_failures=1000)
        starts, failed = count(6000, 40_000), 0
        plain, _, _ = self.client.allocate("live")
        held, _, details = self.client.allocate("live", hold="soft")
        before = self.client.metrics()["health_sweeps_total"]
        for number in range(starts):
            try:
                self.start(*((plain, 0), (held, 1))[number % 2])
            except OSError:
                failed += 1
            if number % 500 == 0:
                time.sleep(0.05)
        sweeps = self.client.metrics()["health_sweeps_total"] - before
        print(f"{starts} starts beside {sweeps} sweeps: {failed} failed")
        self.assertEqual(failed, 0)
        self.assertGreater(sweeps, 10)


class Silence(Case):
    def test_everything_stale_ends_in_time(self):
        """The defaults with a hundredth of their times: what takes 3 s here takes 300 s there."""
        scale = 100
        self.begin(check_interval_ms=30_000 // scale, startup_grace_ms=60_000 // scale,
                   process_grace_ms=2000 // scale, http_timeout_ms=5000 // scale)
        signals = self.world.signals()
        self.addCleanup(signals.close)
        dead = subprocess.Popen(["sleep", "1000"])
        begin, cases = {}, {}
        cases["process-exited"] = self.client.allocate("live", pid=dead.pid)[1]
        port, cases["not-in-use"], _ = self.client.allocate("live")
        abandoned = socket.create_server(("", port))
        port, cases["unhealthy"], _ = self.client.allocate(
            "web", health_url="http://127.0.0.1:{port}/")
        silent = socket.create_server(("", port))
        self.addCleanup(silent.close)
        begin["unhealthy"] = begin["never-bound"] = time.monotonic()
        cases["never-bound"] = self.client.allocate("live")[1]
        self.wait_metric("health_sweeps_total", 2)
        dead.kill()
        dead.wait()
        abandoned.close()
        begin["process-exited"] = begin["not-in-use"] = time.monotonic()
        ends = signals.wait("StaleReleased", 4, 60)
        took = {arguments[2]: when - begin[arguments[2]] for arguments, when in ends}
        self.assertEqual({arguments[2]: arguments[0] for arguments, _ in ends}, cases)
        print(", ".join(f"{reason} {seconds:.2f} s" for reason, seconds in sorted(took.items())))
        # Twice that, for a machine that is slow with everything but the clock.
        self.assertLess(max(took.values()), 2 * 300 / scale)


class Web:
    """Listens on ports, each with a behaviour of its own."""

    def __init__(self):
        self.asked = 0
        self.trapped = 0
        self.trap = socket.create_server(("127.0.0.1", 0))
        threading.Thread(target=self.watch_trap, daemon=True).start()

    def watch_trap(self):
        while True:
            self.trap.accept()
            self.trapped += 1

    def serve(self, port, behave):
        server = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.bind(("127.0.0.1", port))
        server.listen(100)
        threading.Thread(target=self.accept, args=(server, behave), daemon=True).start()

    def accept(self, server, behave):
        while True:
            conn, _ = server.accept()
            threading.Thread(target=self.one, args=(conn, behave), daemon=True).start()

    def one(self, conn, behave):
        try:
            with conn:
                conn.recv(4096)
                self.asked += 1
                behave(self, conn)
        except OSError:
            pass

    def answer(self, conn):
        conn.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfine")

    def hang(self, conn):
        conn.recv(1)

    def reset(self, conn):
        conn.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    def headers(self, conn):
        conn.sendall(b"HTTP/1.1 200 OK\r\n")
        while True:
            conn.sendall(b"X-Endless: " + b"x" * 1000 + b"\r\n")

    def gigabyte(self, conn):
        conn.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1073741824\r\n\r\n")
        for _ in range(1024):
            conn.sendall(bytes(1 << 20))

    def elsewhere(self, conn):
        target = f"http://127.0.0.1:{self.trap.getsockname()[1]}/"
        conn.sendall(f"HTTP/1.1 302 Found\r\nLocation: {target}\r\nContent-Length: 0\r\n\r\n".encode())

    def garbage(self, conn):
        conn.sendall(bytes(range(256)) * 40)


class Http(Case):
    BEHAVIOURS = {
        Web.answer: True, Web.hang: False, Web.reset: False, Web.headers: False,
        Web.gigabyte: True, Web.elsewhere: False, Web.garbage: False,
    }  # fmt: skip

    def resident_kib(self):
        status = pathlib.Path(f"/proc/{self.world.daemon.pid}/status").read_text(encoding="ascii")
        return int(status.split("VmRSS:")[1].split()[0])

    def test_bad_manners(self):
        self.begin(check_interval_ms=100, startup_grace_ms=0, max_failures=1000)
        web, expected, wanted = Web(), {}, count(1000, 10_000)
        for number in range(42):
            behave = list(self.BEHAVIOURS)[number % len(self.BEHAVIOURS)]
            port, lease, _ = self.client.allocate(
                "web", health_url="http://127.0.0.1:{port}/x", health_timeout_ms=300)
            web.serve(port, behave)
            expected[lease] = behave
        self.wait_metric("http_checks_total", wanted // 5)
        warm = self.resident_kib()
        begin, delays = time.monotonic(), []
        while self.client.metrics()["http_checks_total"] < wanted:
            before = time.monotonic()
            _, lease, _ = self.client.allocate("other")
            delays.append(time.monotonic() - before)
            self.client.release(lease)
            self.assertLess(before - begin, 100)
            time.sleep(0.01)
        grown = self.resident_kib() - warm
        for lease in self.client.list(service_type="web"):
            behave = expected[lease["lease"]]
            wanted_health = "active" if self.BEHAVIOURS[behave] else "failing"
            self.assertEqual(lease["health"], wanted_health, behave.__name__)
        delays.sort()
        print(f"{wanted} checks: {grown} KiB grown, {len(delays)} allocations beside them, "
              f"median {delays[len(delays) // 2] * 1000:.1f} ms, worst {delays[-1] * 1000:.1f} ms")
        self.assertLess(grown, 8192)
        self.assertGreater(len(delays), 20)
        self.assertLess(delays[-1], 2)
        self.assertEqual(web.trapped, 0)


if __name__ == "__main__":
    harness.enter_namespace()
    resource.setrlimit(resource.RLIMIT_NOFILE, (8192, 8192))
    unittest.main(verbosity=2)
