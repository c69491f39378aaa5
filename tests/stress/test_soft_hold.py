#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""A port that is held is nobody else's: not the kernel's to give away, not a stranger's to bind."""

import errno
import socket
import subprocess
import unittest

import harness
from ports import Outsider, Refused, World, count

# The kernel chooses from here, and half of it is held.
FIRST, LAST = 12000, 12199
CONFIG = {
    "service_types": {
        "held": {"port_range": [FIRST, LAST]},
        "elsewhere": {"port_range": [17000, 17099]},
        "udp": {"port_range": [17100, 17199], "protocol": "udp"},
        "both": {"port_range": [17200, 17299], "protocol": "both"},
    },
    "recovery": {
        "port_conflict": {"cooldown_ms": 0, "max_retries": 0},
        "health_monitoring": {"enabled": False},
    },
    "limits": {"leases_per_user": 1000},
}


def bind(port, reuse, address="::", listens=True):
    """A service's socket. Returns it, or the errno of its refusal."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    service = socket.socket(family, socket.SOCK_STREAM)
    try:
        if reuse:
            service.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        service.bind((address, port))
        if listens:
            service.listen()
    except OSError as error:
        service.close()
        return error.errno
    return service


class SoftHold(unittest.TestCase):
    nofile = None

    @classmethod
    def setUpClass(cls):
        cls.world = World(CONFIG, nofile=cls.nofile)
        cls.addClassCleanup(cls.world.close)
        cls.world.start_daemon()

    def setUp(self):
        self.client = self.world.client()
        self.addCleanup(self.clean)

    def clean(self):
        self.client.close()
        with self.world.client() as client:
            for lease in client.list():
                client.release(lease["lease"])

    def assert_free(self, port):
        service = bind(port, reuse=False)
        self.assertIsInstance(service, socket.socket)
        service.close()


class Kernel(SoftHold):
    def setUp(self):
        super().setUp()
        subprocess.run(
            ["sysctl", "-qw", f"net.ipv4.ip_local_port_range={FIRST} {LAST}"], check=True)
        self.held = set()
        while len(self.held) < (LAST - FIRST + 1) // 2:
            # one of each pair, even and odd alike: the kernel prefers the ones or the others
            number = len(self.held)
            port, _, details = self.client.allocate(
                "held", hold="soft", port=FIRST + 2 * number + number % 4 // 2, strict=True)
            self.assertNotIn("hold", details)
            self.held.add(port)
        self.assertEqual(self.client.metrics()["held_sockets"], len(self.held))

    def release_all(self):
        for lease in self.client.list():
            self.client.release(lease["lease"])

    @staticmethod
    def ports_of_binds(number):
        given = set()
        for turn in range(number):
            family = socket.AF_INET6 if turn % 2 else socket.AF_INET
            with socket.socket(family, socket.SOCK_STREAM) as anybody:
                if turn % 4 < 2:
                    anybody.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                anybody.bind(("::" if turn % 2 else "", 0))
                given.add(anybody.getsockname()[1])
        return given

    @staticmethod
    def ports_of_connects(number):
        given = set()
        with bind(17999, reuse=True) as listener:
            listener.settimeout(harness.DEADLINE)
            for turn in range(number):
                family = socket.AF_INET6 if turn % 2 else socket.AF_INET
                with socket.socket(family, socket.SOCK_STREAM) as anybody:
                    # no TIME_WAIT, or the range would be used up at once
                    anybody.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                    anybody.connect(("::1" if turn % 2 else "127.0.0.1", 17999))
                    given.add(anybody.getsockname()[1])
                    listener.accept()[0].close()
        return given

    def test_never_given_away(self):
        for ask in (self.ports_of_binds, self.ports_of_connects):
            with self.subTest(ask=ask.__name__):
                given = ask(count(20_000, 100_000))
                self.assertEqual(given & self.held, set())
                # everything else was given, of the half of the numbers that the kernel uses first
                self.assertGreater(len(given), 40)
        self.release_all()
        for ask in (self.ports_of_binds, self.ports_of_connects):
            # it was close: without a hold the kernel takes them
            self.assertNotEqual(ask(2000) & self.held, set())

    def test_used_up(self):
        """When all the others are taken, the kernel has nothing left rather than a held port."""
        taken = []
        self.addCleanup(lambda: [one.close() for one in taken])
        for _ in range(LAST - FIRST + 1):
            anybody = socket.socket(socket.AF_INET6, socket.SOCK_STREAM)
            taken.append(anybody)
            try:
                anybody.bind(("::", 0))
            except OSError as error:
                self.assertEqual(error.errno, errno.EADDRINUSE)
                break
            self.assertNotIn(anybody.getsockname()[1], self.held)
        else:
            self.fail("held ports were given away")
        self.assertEqual(len(taken) - 1, LAST - FIRST + 1 - len(self.held))


class Services(SoftHold):
    def test_with_and_without_reuse(self):
        for address in ({}, {"address": "127.0.0.1"}, {"address": "::1"}, {"address": "::"}):
            with self.subTest(**address):
                port, lease, _ = self.client.allocate("elsewhere", hold="soft", **address)
                self.assertEqual(self.client.call("GetLease", "(s)", lease)[0]["hold"], "soft")
                where = address.get("address", "::")
                for _ in range(3):  # it comes and goes
                    self.assertEqual(bind(port, reuse=False, address=where), errno.EADDRINUSE)
                    service = bind(port, reuse=True, address=where)
                    self.assertIsInstance(service, socket.socket)
                    with socket.create_connection(
                        (where if where != "::" else "::1", port), harness.DEADLINE):
                        service.accept()[0].close()
                    # what serves is alone, as it would be without us
                    self.assertEqual(bind(port, reuse=True, address=where), errno.EADDRINUSE)
                    service.close()
                self.assertEqual(bind(port, reuse=False, address=where), errno.EADDRINUSE)
                self.client.release(lease)
                service = bind(port, reuse=True, address=where)
                self.assertIsInstance(service, socket.socket)
                service.close()

    def test_free_with_the_answer(self):
        for _ in range(count(200, 2000)):
            port, lease, _ = self.client.allocate("elsewhere", hold="soft")
            self.assertEqual(bind(port, reuse=False), errno.EADDRINUSE)
            self.client.release(lease)
            self.assert_free(port)

    def test_conflicts(self):
        for kind in ("tcp", "tcp-plain", "tcp-bound", "tcp-loopback", "tcp6-loopback", "tcp4"):
            with self.subTest(kind=kind), Outsider.holding([17000, 17001], kind):
                port, lease, details = self.client.allocate("elsewhere", hold="soft")
                self.assertEqual((port, details["conflicts"]), (17002, [17000, 17001]))
                self.client.release(lease)

    def test_both_and_udp(self):
        with Outsider.holding([17200], "udp"):
            port, _, details = self.client.allocate("both", hold="soft")
        self.assertEqual((port, details["conflicts"]), (17201, [17200]))
        self.assertEqual(bind(port, reuse=False), errno.EADDRINUSE)
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as service:
            service.bind(("::", port))  # udp is never held
        with self.assertRaises(Refused) as caught:
            self.client.allocate("elsewhere", hold="soft", protocol="udp")
        self.assertEqual(caught.exception.name, "InvalidArgument")

    def test_blocks(self):
        leases, _ = self.client.allocate_block("elsewhere", 16, hold="soft")
        for port, _ in leases:
            self.assertEqual(bind(port, reuse=False), errno.EADDRINUSE)
        for port, lease in leases:
            self.client.release(lease)
            self.assert_free(port)

    def test_bound_anew_after_a_kill(self):
        """Nobody keeps the sockets here, so they are bound anew, beside a service that is there."""
        leases = [self.client.allocate("elsewhere", hold="soft") for _ in range(8)]
        service = bind(leases[0][0], reuse=True)
        for _ in range(3):
            self.world.kill_daemon()
            self.world.start_daemon()
            for port, _, _ in leases:
                self.assertEqual(bind(port, reuse=False), errno.EADDRINUSE)
        service.close()
        self.client = self.world.client()
        for port, lease, _ in leases:
            self.client.release(lease)
            if port != leases[0][0]:
                self.assert_free(port)


class FewDescriptors(SoftHold):
    nofile = 300

    def test_granted_without(self):
        holds = [self.client.allocate("elsewhere", hold="soft") for _ in range(60)]
        with_hold = [port for port, _, details in holds if "hold" not in details]
        without = [(port, lease) for port, lease, details in holds if details.get("hold") == "none"]
        self.assertGreater(len(with_hold), 10)
        self.assertGreater(len(without), 10)
        self.assertEqual(len(with_hold) + len(without), 60)
        self.assertEqual(self.client.metrics()["held_sockets"], len(with_hold))
        for port in with_hold:
            self.assertEqual(bind(port, reuse=False), errno.EADDRINUSE)
        for port, lease in without:
            self.assertEqual(self.client.call("GetLease", "(s)", lease)[0]["hold"], "none")
            self.assert_free(port)
        # and there is room for others still: callers, files, sockets to hand over
        with self.world.client(direct=True) as another:
            _, _, got, _ = another.allocate_socket("held")
            got.close()


if __name__ == "__main__":
    harness.enter_namespace()
    unittest.main(verbosity=2)
