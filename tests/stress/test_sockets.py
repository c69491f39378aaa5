#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""AllocateSocket beside programs that take ports of the same range all the time.

usage: test_sockets.py --client ADDRESS NUMBER SEED FIRST    one client of test_contest
"""

import errno
import json
import os
import random
import socket
import subprocess
import sys
import tempfile
import unittest

import harness
from ports import SEED, Client, Outsider, Refused, World, count

FIRST, LAST = 16000, 16255
CLIENTS = 8
TCP_KINDS = ["tcp", "tcp-plain", "tcp-bound", "tcp-loopback", "tcp6-loopback", "tcp4"]
UDP_KINDS = ["udp", "udp4"]
ADDRESSES = [None, "0.0.0.0", "::", "127.0.0.1", "::1", "127.0.0.2"]
CONFIG = {
    "service_types": {
        "contest": {"port_range": [FIRST, LAST]},
        "quiet": {"port_range": [18000, 18099]},
    },
    "recovery": {
        "port_conflict": {"cooldown_ms": 0},
        "health_monitoring": {"enabled": False},
    },
    "limits": {"leases_per_user": 1000},
}


def use(got, protocol, address, port):
    """What a service does with its socket. Raises OSError where it cannot."""
    name = got.getsockname()
    assert name[1] == port, name
    if protocol == "udp":
        with socket.socket(got.family, socket.SOCK_DGRAM) as sender:
            loopback = "127.0.0.1" if got.family == socket.AF_INET else "::1"
            target = address if address not in (None, "0.0.0.0", "::") else loopback
            sender.sendto(b"x", (target, port))
        got.settimeout(harness.DEADLINE)
        assert got.recv(10) == b"x"
    else:
        got.listen(1)


def client_main(address, number, seed, first_choice):
    """Prints what happened as JSON; an exception is the exit status."""
    dice = random.Random(seed)
    held, refused, conflicts = [], [], 0
    with Client(address) as client:
        for _ in range(number):
            protocol = dice.choice(("tcp", "tcp", "udp"))
            where = dice.choice(ADDRESSES)
            options = {"protocol": protocol}
            if where is not None:
                options["address"] = where
            if dice.random() < 0.5:
                options["port"] = dice.randint(first_choice, LAST)
            try:
                port, lease, got, details = client.allocate_socket("contest", **options)
            except Refused as error:
                refused.append(str(error))
                continue
            conflicts += len(details["conflicts"])
            use(got, protocol, where, port)
            held.append((got, lease))
            if len(held) > 6:
                got, lease = held.pop(dice.randrange(len(held)))
                got.close()
                client.release(lease)
    print(json.dumps({"refused": refused, "conflicts": conflicts}))


class Case(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.world = World(CONFIG)
        cls.addClassCleanup(cls.world.close)
        cls.world.start_daemon()


class Contest(Case):
    def test_contest(self):
        each = count(3000, 10_000) // CLIENTS
        with tempfile.TemporaryDirectory() as folder:
            outsiders = [
                Outsider("churn", FIRST, LAST, SEED + n, os.path.join(folder, str(n)), 12,
                         *(UDP_KINDS if n % 4 == 3 else TCP_KINDS), stranger=False)
                for n in range(8)
            ]  # fmt: skip
            clients = [
                subprocess.Popen(
                    [sys.executable, __file__, "--client",
                     self.world.bus_address if n % 2 else self.world.direct_address,
                     str(each), str(SEED + n), str(FIRST)],
                    stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                    preexec_fn=harness.die_with_parent)
                for n in range(CLIENTS)
            ]  # fmt: skip
            answers = []
            for client in clients:
                out, err = client.communicate(timeout=240)
                self.assertEqual(client.returncode, 0, err)
                answers.append(json.loads(out))
            taken = sum(int(outsider.finish()) for outsider in outsiders)
        refused = [text for answer in answers for text in answer["refused"]]
        conflicts = sum(answer["conflicts"] for answer in answers)
        print(f"{each * CLIENTS} sockets, {len(refused)} refused, {conflicts} conflicts, {taken} ports "
              "taken and freed by others")
        self.assertLessEqual(len(refused), each * CLIENTS // 1000, refused[:5])
        self.assertGreater(conflicts, each * CLIENTS // 50)
        self.assertGreater(taken, each * CLIENTS)


class Forms(Case):
    """What comes, for each protocol and address, on both ways to the daemon."""

    def test_families(self):
        for direct in (False, True):
            with self.world.client(direct) as client:
                for protocol in ("tcp", "udp"):
                    for address in ADDRESSES:
                        with self.subTest(direct=direct, protocol=protocol, address=address):
                            self.family(client, protocol, address)

    def family(self, client, protocol, address):
        options = {} if address is None else {"address": address}
        port, lease, got, details = client.allocate_socket("quiet", protocol=protocol, **options)
        with got:
            self.assertEqual(details["protocol"], protocol)
            wanted = socket.AF_INET6 if address is None or ":" in address else socket.AF_INET
            self.assertEqual(got.family, wanted)
            self.assertEqual(got.getsockname()[0], address or "::")
            if address in (None, "::"):
                # no address is both families, "::" is IPv6 alone
                only = got.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)
                self.assertEqual(only, address == "::", address)
            self.assertEqual(got.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR), 0)
            self.assertFalse(os.get_inheritable(got.fileno()))
            if protocol == "tcp":
                self.assertEqual(got.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN), 0)
            use(got, protocol, address, port)
            if address is None and protocol == "tcp":
                for loopback in ("127.0.0.1", "::1"):
                    with socket.create_connection((loopback, port), harness.DEADLINE):
                        got.accept()[0].close()
        client.release(lease)

    def test_nobody_comes_between(self):
        """From the answer until listen() nobody else can bind, not even with SO_REUSEADDR."""
        with self.world.client() as client:
            port, lease, got, _ = client.allocate_socket("quiet")
            for address in ("::", "::1", "127.0.0.1", "0.0.0.0"):
                family = socket.AF_INET6 if ":" in address else socket.AF_INET
                with socket.socket(family, socket.SOCK_STREAM) as stranger:
                    stranger.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                    with self.assertRaises(OSError) as caught:
                        stranger.bind((address, port))
                    self.assertEqual(caught.exception.errno, errno.EADDRINUSE)
            got.close()
            client.release(lease)

    def test_the_daemon_keeps_nothing(self):
        pid = self.world.daemon.pid
        with self.world.client() as client:
            before = len(os.listdir(f"/proc/{pid}/fd"))
            for _ in range(50):
                _, lease, got, _ = client.allocate_socket("quiet")
                got.close()
                client.release(lease)
            client.metrics()
            self.assertEqual(len(os.listdir(f"/proc/{pid}/fd")), before)

    def test_wrong_wishes(self):
        with self.world.client() as client:
            for options in ({"protocol": "both"}, {"address": "192.0.2.1"}, {"address": "localhost"}):
                with self.subTest(**options), self.assertRaises(Refused) as caught:
                    client.allocate_socket("quiet", **options)
                self.assertEqual(caught.exception.name, "InvalidArgument")
            self.assertEqual(client.list(service_type="quiet"), [])


if __name__ == "__main__":
    if sys.argv[1:2] == ["--client"]:
        client_main(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), int(sys.argv[5]))
        sys.exit(0)
    harness.enter_namespace()
    unittest.main(verbosity=2)
