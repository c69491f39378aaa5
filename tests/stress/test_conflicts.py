#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Layer 1 as its callers see it: conflicts, retries, blocks, and who gets the same port again."""

import itertools
import json
import os
import pathlib
import re
import socket
import subprocess
import threading
import time
import unittest

import harness
from harness import DEADLINE
from ports import Outsider, Refused, World, count

TYPES = {
    "dev": {"port_range": [3000, 3099]},
    "dns": {"port_range": [5300, 5309], "protocol": "udp"},
    "dual": {"port_range": [5400, 5409], "protocol": "both"},
    "blocks": {"port_range": [7000, 7299]},
    "cool": {"port_range": [6000, 6009]},  # for the one test that leaves ports on cooldown
    "tiny": {"port_range": [4000, 4001]},
    "ai": {"port_range": [11400, 11409], "instance_behavior": "single"},
}


def configuration(**changes):
    conflict = {"max_retries": 3, "backoff_ms": 100, "backoff_multiplier": 2, "cooldown_ms": 0}
    conflict.update(changes.pop("port_conflict", {}))
    return {
        "service_types": TYPES,
        "auto_allocation": {"enabled": True, "port_range": [20000, 31999], "chunk_size": 10,
                            "rules": {"monitoring-*": {"chunk_size": 20}}},
        "recovery": {"port_conflict": conflict},
        **changes,
    }  # fmt: skip


class Case(unittest.TestCase):
    config = configuration()
    maxDiff = None

    @classmethod
    def setUpClass(cls):
        cls.world = World(cls.config)
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

    def run(self, result=None):
        """Shows what the daemon said where a test failed."""
        before = len(result.failures) + len(result.errors)
        start = len(self.world.read_log())
        super().run(result)
        if len(result.failures) + len(result.errors) > before:
            print(self.world.read_log()[start:][-20000:])

    def signals(self):
        signals = self.world.signals()
        self.addCleanup(signals.close)
        return signals

    def another(self, direct=False):
        client = self.world.client(direct)
        self.addCleanup(client.close)
        return client

    def refused(self, name, function, *arguments, **options):
        with self.assertRaises(Refused) as caught:
            function(*arguments, **options)
        self.assertEqual(caught.exception.name, name, caught.exception)
        return caught.exception.message


class Conflicts(Case):
    def test_first_ports_are_held(self):
        for number, kind in itertools.product((1, 3, 10, 99), ("tcp", "tcp-loopback", "tcp-bound")):
            with self.subTest(number=number, kind=kind):
                self.first_ports_are_held(number, kind)

    def first_ports_are_held(self, number, kind):
        signals = self.signals()
        held = list(range(3000, 3000 + number))
        before = self.client.metrics()["conflicts_total"]
        with Outsider.holding(held, kind) as outsider:
            port, lease, details = self.client.allocate("dev")
            self.assertEqual(port, 3000 + number)
            self.assertEqual(details["conflicts"], held)
            self.assertEqual(details["attempts"], number + 1)
            told = signals.wait("PortConflict", number)
        self.assertEqual([arguments[:2] for arguments, _ in told], [(p, "dev") for p in held])
        for (_, _, about), _ in told:
            self.assertEqual(about["uid"], outsider.uid)
            self.assertIn("address", about)
        self.assertEqual(self.client.metrics()["conflicts_total"], before + number)
        self.client.release(lease)

    def test_all_protocols(self):
        for kind, protocol, wanted in (
            ("udp", "udp", 3001), ("udp4", "udp", 3001), ("udp", "tcp", 3000),
            ("tcp4", "udp", 3000), ("udp", "both", 3001), ("tcp6-loopback", "both", 3001),
        ):  # fmt: skip
            with self.subTest(kind=kind, protocol=protocol), Outsider.holding([3000], kind):
                port, lease, details = self.client.allocate("dev", protocol=protocol)
                self.assertEqual(port, wanted)
                self.assertEqual(details["protocol"], protocol)
                self.assertEqual(details["conflicts"], [3000] if wanted == 3001 else [])
                self.client.release(lease)

    def test_a_lease_on_both_takes_both(self):
        port, _, details = self.client.allocate("dual")
        self.assertEqual((port, details["protocol"]), (5400, "both"))
        self.assertEqual(self.client.allocate("dual", protocol="tcp")[0], 5401)
        self.assertEqual(self.client.allocate("dual", protocol="udp")[0], 5401)
        self.assertEqual(self.client.allocate("dual")[0], 5402)

    def test_what_a_type_cannot_be(self):
        self.refused("InvalidArgument", self.client.allocate_socket, "dual", protocol="both")
        self.refused("InvalidArgument", self.client.allocate, "dns", protocol="udp", hold="soft")
        _, lease, details = self.client.allocate("dns", hold="soft")
        self.assertEqual(details["hold"], "none")
        self.client.release(lease)
        for protocol, type_ in (("tcp", socket.SOCK_STREAM), ("udp", socket.SOCK_DGRAM)):
            port, _, got, _ = self.client.allocate_socket("dual", protocol=protocol)
            with got:
                self.assertEqual((got.getsockname()[1], got.type), (port, type_))
        self.assertEqual(len(self.client.list()), 2)

    def test_cooldown(self):
        config = configuration(port_conflict={"cooldown_ms": 60000})
        self.reconfigure(config)
        with Outsider.holding([6000, 6001]):
            self.assertEqual(self.client.allocate("cool")[2]["conflicts"], [6000, 6001])
            self.assertEqual(self.client.allocate("cool")[2]["conflicts"], [])
        # free again, and still not the first choice, but the last resort
        self.assertEqual(self.client.allocate("cool")[0], 6004)
        self.assertEqual(self.client.allocate("cool", range=(6000, 6001))[0], 6000)

    def reconfigure(self, config):
        self.world.configure(config)
        self.addCleanup(self.client.call, "Reload")
        self.addCleanup(self.world.configure, self.config)
        self.client.call("Reload")

    def test_switched_off(self):
        self.reconfigure(configuration(port_conflict={"enabled": False}))
        with Outsider.holding([3000]) as outsider:
            began = time.monotonic()
            message = self.refused("NoPortAvailable", self.client.allocate, "dev", retries=5)
            self.assertLess(time.monotonic() - began, 2)
            self.assertIn(f"3000 (uid {outsider.uid}", message)
            self.assertIn("(1 attempts)", message)
            self.refused("PortInUse", self.client.allocate, "dev", port=3000, strict=True, retries=5)
        self.assertEqual(self.client.allocate("dev")[0], 3000)

    def test_styxyctl_tells_as_it_happens(self):
        with Outsider.holding([4000, 4001]) as outsider:
            process = self.world.start("allocate", "tiny", "--retries=20")
            lines = harness.Lines(process.stderr)
            for port in (4000, 4001):
                lines.until(f"port {port} is in use")
            self.assertIsNone(process.poll())
            lines.until("again")
            outsider.tell("free", 4001)
            self.assertEqual(process.stdout.readline(), b"4001\n")
            self.assertEqual(process.wait(DEADLINE), 0)
        process.stdout.close()
        process.stderr.close()


class Retries(Case):
    def pauses(self, signals, port):
        times = [when for arguments, when in signals.named("PortConflict") if arguments[0] == port]
        return [b - a for a, b in zip(times, times[1:])]

    def check_pauses(self, pauses, wanted):
        """They come when they come on a busy machine: a late first signal makes a pause shorter."""
        self.assertEqual(len(pauses), len(wanted), pauses)
        self.assertGreater(sum(pauses), sum(wanted) * 0.7, pauses)
        self.assertLess(sum(pauses), sum(wanted) + 5, pauses)
        self.assertGreater(pauses[-1] - pauses[0], (wanted[-1] - wanted[0]) * 0.3, pauses)

    def test_strict(self):
        signals = self.signals()
        with Outsider.holding([3005]) as outsider:
            began = time.monotonic()
            message = self.refused("PortInUse", self.client.allocate, "dev", port=3005, strict=True)
            took = time.monotonic() - began
            signals.wait("PortConflict", 4)
        self.assertIn(f"port 3005 is in use by uid {outsider.uid} ", message)
        self.assertIn("(4 attempts)", message)
        self.assertGreater(took, 0.7)
        self.check_pauses(self.pauses(signals, 3005), [0.1, 0.2, 0.4])

    def test_exhausted(self):
        signals = self.signals()
        with Outsider.holding([4000, 4001]) as outsider:
            message = self.refused("NoPortAvailable", self.client.allocate, "tiny", retries=2)
            signals.wait("PortConflict", 6)
        for port in (4000, 4001):
            self.assertIn(f"{port} (uid {outsider.uid}", message)
            self.check_pauses(self.pauses(signals, port), [0.1, 0.2])
        self.assertIn("(6 attempts)", message)

    def test_retries_of_the_call(self):
        with Outsider.holding([3005]):
            for retries, least in ((0, 0), (1, 0.1), (2, 0.3)):
                began = time.monotonic()
                message = self.refused("PortInUse", self.client.allocate, "dev", port=3005,
                                       strict=True, retries=retries)  # fmt: skip
                self.assertIn(f"({retries + 1} attempts)", message)
                self.assertGreaterEqual(time.monotonic() - began, least)
        self.refused("InvalidArgument", self.client.allocate, "dev", retries=101)
        self.refused("InvalidArgument", self.client.allocate, "dev", retries=2**32 - 1)

    def test_leased_ports_are_not_waited_for(self):
        self.client.allocate("tiny")
        self.client.allocate("tiny")
        began = time.monotonic()
        self.refused("NoPortAvailable", self.client.allocate, "tiny", retries=100)
        self.refused("PortInUse", self.client.allocate, "tiny", port=4000, strict=True, retries=100)
        self.refused("PortInUse", self.client.allocate_block, "tiny", 2, port=4000, strict=True,
                     retries=100)
        self.assertLess(time.monotonic() - began, 10)  # where it waited that would be 90 minutes

    def test_freed_in_the_pause(self):
        signals = self.signals()
        with Outsider.holding([3005]) as outsider:
            pending = self.client.begin(
                "Allocate", "(sa{sv})", "dev",
                self.client.options({"port": 3005, "strict": True, "retries": 10}))  # fmt: skip
            signals.wait("PortConflict", 1)
            outsider.tell("free", 3005)
            port, _, details = pending.wait()
        self.assertEqual((port, details["conflicts"]), (3005, [3005]))
        self.assertGreaterEqual(details["attempts"], 2)

    def test_others_are_served_meanwhile(self):
        others = [self.another(), self.another(direct=True)]
        with Outsider.holding([3005]):
            waiting = [
                self.another().begin(
                    "Allocate", "(sa{sv})", "dev",
                    self.client.options({"port": 3005, "strict": True, "retries": 5}))
                for _ in range(3)
            ]  # fmt: skip
            self.wait_for_waiting(3)
            times = []
            while not all(pending.done() for pending in waiting):
                for other in others:
                    began = time.monotonic()
                    _, lease, _ = other.allocate("blocks")
                    times.append(time.monotonic() - began)
                    other.release(lease)
            for pending in waiting:
                with self.assertRaises(Refused):
                    pending.wait()
        times.sort()
        # of three seconds; who waited for a pause would have come four times
        self.assertGreater(len(times), 100)
        self.assertLess(times[len(times) // 2], 0.05)

    def wait_for_waiting(self, number):
        deadline = time.monotonic() + DEADLINE
        while self.client.metrics()["requests_waiting"] != number:
            self.assertLess(time.monotonic(), deadline, self.client.metrics())

    def test_who_leaves_leaves_nothing(self):
        signals = self.signals()
        for direct in (False, True):
            for options in ({"port": 3005, "strict": True}, {"range": (3005, 3005)},
                            {"range": (3005, 3005), "instance": "gone"}):
                with self.subTest(direct=direct, **options), Outsider.holding([3005]) as outsider:
                    signals.clear()
                    guest = self.world.client(direct)
                    before = self.client.metrics()["leases"]
                    pending = guest.begin("Allocate", "(sa{sv})", "dev",
                                          guest.options({"retries": 50, **options}))
                    signals.wait("PortConflict", 1)
                    self.wait_for_waiting(1)
                    guest.close()
                    self.wait_for_waiting(0)
                    with self.assertRaises(Exception):
                        pending.wait()
                    outsider.tell("free", 3005)
                    self.assertEqual(self.client.metrics()["leases"], before)
                    self.assertEqual(signals.named("PortAllocated"), [])
                    port, lease, _ = self.client.allocate("dev", **options)
                    self.assertEqual(port, 3005)
                    self.client.release(lease)


class Blocks(Case):
    def test_conflicts_move_it_on(self):
        with Outsider.holding([7003, 7010]):
            leases, details = self.client.allocate_block("blocks", 8)
        self.assertEqual([port for port, _ in leases], list(range(7011, 7019)))
        self.assertEqual(details["conflicts"], [7003, 7010])
        self.assertEqual(len({lease for _, lease in leases}), 8)

    def test_all_sizes(self):
        leases, _ = self.client.allocate_block("blocks", 128)
        self.assertEqual([port for port, _ in leases], list(range(7000, 7128)))
        self.refused("InvalidArgument", self.client.allocate_block, "blocks", 129)
        self.refused("InvalidArgument", self.client.allocate_block, "blocks", 0)
        self.assertEqual(len(self.client.allocate_block("blocks", 128)[0]), 128)
        self.refused("NoPortAvailable", self.client.allocate_block, "blocks", 45, retries=0)
        self.assertEqual(len(self.client.allocate_block("blocks", 44)[0]), 44)

    def test_strict(self):
        with Outsider.holding([7003]) as outsider:
            message = self.refused("PortInUse", self.client.allocate_block, "blocks", 8, port=7000,
                                   strict=True, retries=0)  # fmt: skip
        self.assertIn(f"port 7003 is in use by uid {outsider.uid} ", message)
        self.assertEqual(self.client.list(), [])

    def test_nobody_sees_a_part(self):
        stop = threading.Event()
        wrong, looks = [], [0]
        watcher = self.another()

        def watch():
            while not stop.is_set():
                seen = len(watcher.list(service_type="blocks"))
                looks[0] += 1
                if seen not in (0, 16):
                    wrong.append(seen)

        thread = threading.Thread(target=watch)
        thread.start()
        with Outsider.holding(range(7015, 7215, 16)):
            for _ in range(count(100, 1000)):
                leases, details = self.client.allocate_block("blocks", 16)
                self.assertEqual(leases[0][0], 7208)
                self.assertEqual(len(details["conflicts"]), 13)
                self.release_block(leases)
        stop.set()
        thread.join()
        self.assertGreater(looks[0], 50)
        self.assertEqual([seen for seen in wrong if seen > 16], [])
        # what is seen beneath 16 is what a release has begun, never what a grant has
        self.assertTrue(all(0 < seen < 16 for seen in wrong))

    def release_block(self, leases):
        for _, lease in leases:
            self.client.release(lease)

    def test_grants_are_seen_whole(self):
        """As above, and nothing is released while somebody looks."""
        watcher = self.another()
        seen = set()
        with Outsider.holding([7003, 7040]):
            for block in range(8):
                pending = self.client.begin("AllocateBlock", "(sqa{sv})", "blocks", 16,
                                            self.client.options({"range": (7000, 7299)}))
                while not pending.done():
                    seen.add(len(watcher.list(service_type="blocks")))
                pending.wait()
                seen.add(len(watcher.list(service_type="blocks")))
                self.assertEqual(max(seen), (block + 1) * 16)
        self.assertEqual([number for number in seen if number % 16], [])

    def test_ends_with_its_client(self):
        guest = self.another()
        guest.allocate_block("blocks", 16, lifetime="client")
        signals = self.signals()
        guest.close()
        signals.wait("PortReleased", 16)
        self.assertEqual(self.client.list(), [])


class SamePort(Case):
    def test_same_instance_same_lease(self):
        port, lease, details = self.client.allocate("dev", instance="web")
        self.assertFalse(details["reused"])
        for other in (self.another(), self.another(direct=True)):
            again = other.allocate("dev", instance="web")
            self.assertEqual(again[:2], (port, lease))
            self.assertTrue(again[2]["reused"])
        self.assertNotEqual(self.client.allocate("dev", instance="other")[0], port)
        self.assertNotEqual(self.client.allocate("dev")[0], port)

    def test_same_port_again(self):
        ports = {}
        for i in range(10):
            ports[f"i{i}"] = self.client.allocate("dev", instance=f"i{i}")[0]
        self.assertEqual(len(set(ports.values())), 10)
        for instance in ports:
            self.assertEqual(self.client.call("ReleaseInstance", "(s)", instance)[0], 1)
        self.world.kill_daemon()
        self.world.start_daemon()
        self.client = self.another()
        for instance in reversed(ports):
            self.assertEqual(self.client.allocate("dev", instance=instance)[0], ports[instance])
        self.client.call("ReleaseInstance", "(s)", "i3")
        with Outsider.holding([ports["i3"]]):
            port, _, details = self.client.allocate("dev", instance="i3")
        self.assertNotEqual(port, ports["i3"])
        self.assertEqual(details["conflicts"], [ports["i3"]])

    def test_a_socket_again(self):
        port, lease, first, _ = self.client.allocate_socket("dev", instance="web")
        first.listen()
        self.assertIn(lease, self.refused("PortInUse", self.client.allocate_socket, "dev",
                                          instance="web"))  # fmt: skip
        first.close()
        again = self.client.allocate_socket("dev", instance="web")
        with again[2]:
            self.assertEqual(again[:2], (port, lease))
            self.assertTrue(again[3]["reused"])
            self.assertEqual(again[2].getsockname()[1], port)
            again[2].listen()

    def test_concurrent_claims_get_one(self):
        for options in ({"instance": "one"}, {"instance": "two", "lifetime": "persistent"}):
            with self.subTest(**options):
                self.claim("dev", options)

    def test_singleton(self):
        self.claim("ai", {})
        self.claim("ai", {"lifetime": "persistent"})

    def claim(self, service_type, options):
        clients = [self.another(direct=i % 2 == 0) for i in range(10)]
        pending = [client.begin("Allocate", "(sa{sv})", service_type, client.options(options))
                   for client in clients]
        answers = [one.wait() for one in pending]
        self.assertEqual(len({answer[:2] for answer in answers}), 1, answers)
        self.assertEqual(sorted(answer[2]["reused"] for answer in answers), [False] + [True] * 9)
        self.client.release(answers[0][1])
        self.assertNotEqual(self.client.allocate(service_type, **options)[1], answers[0][1])
        self.clean_leases()

    def clean_leases(self):
        for lease in self.client.list():
            self.client.release(lease["lease"])

    def test_singleton_of_a_waiting_claim(self):
        """The second waits for what the first gets, and gets its turn when the first gets nothing."""
        signals = self.signals()
        with Outsider.holding(range(11400, 11410)) as outsider:
            guest = self.world.client()
            first = guest.begin("Allocate", "(sa{sv})", "ai", guest.options({"retries": 50}))
            signals.wait("PortConflict", 10)
            second = self.another().begin("Allocate", "(sa{sv})", "ai",
                                          guest.options({"retries": 50}))
            guest.close()
            outsider.tell("free", 11404)
            port, _, details = second.wait()
        self.assertEqual((port, details["reused"]), (11404, False))
        with self.assertRaises(Exception):
            first.wait()

    def test_stale_singleton_can_be_claimed_again(self):
        with subprocess.Popen(["sleep", "1000"]) as owner:
            signals = self.signals()
            port, lease, _ = self.client.allocate("ai", pid=owner.pid, lifetime="process")
            owner.kill()
        ended = signals.wait("PortReleased", 1)[0][0]
        self.assertEqual(ended[:3], (lease, port, "process-exited"))
        self.assertEqual(self.client.allocate("ai")[0], port)

    def test_ttl(self):
        signals = self.signals()
        port, lease, _ = self.client.allocate("dev", ttl_ms=2000)
        for _ in range(3):
            before = time.time()
            expires = self.client.call("Renew", "(s)", lease)[0] / 1e6
            self.assertTrue(before + 2 - 0.001 <= expires <= time.time() + 2 + 0.001)
        renewed = time.monotonic()
        (ended, when), = signals.wait("PortReleased", 1)
        self.assertEqual(ended[:3], (lease, port, "expired"))
        self.assertGreater(when - renewed, 1.5)
        self.refused("UnknownLease", self.client.call, "Renew", "(s)", lease)
        # also what lies in the past when the daemon comes back
        _, lease, _ = self.client.allocate("dev", ttl_ms=50)
        self.world.kill_daemon()
        time_is_up = time.monotonic() + 0.05
        while time.monotonic() < time_is_up:
            pass
        self.world.start_daemon()
        self.client = self.another()
        self.assertEqual(self.client.list(), [])


    def test_ttl_of_another_namespace(self):
        """An owner that the daemon cannot see: its port stays its own for as long as it renews."""
        signals = self.signals()
        port, lease, _ = self.client.allocate("dev", ttl_ms=1500)
        end = time.monotonic() + 3.5
        while time.monotonic() < end:
            self.client.call("Renew", "(s)", lease)
            self.refused("PortInUse", self.client.allocate, "dev", port=port, strict=True, retries=0)
        self.assertEqual(signals.named("PortReleased"), [])
        (ended, _), = signals.wait("PortReleased", 1)
        self.assertEqual(ended[:3], (lease, port, "expired"))


class Ranges(Case):
    def test_ranges_of_the_kernel(self):
        """The warning comes with Reload, and goes when its advice was followed."""
        sysctl = ["sysctl", "-qw"]
        before = pathlib.Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()
        self.addCleanup(subprocess.run,
                        [*sysctl, f"net.ipv4.ip_local_port_range={before[0]} {before[1]}"], check=True)
        self.addCleanup(subprocess.run, [*sysctl, "net.ipv4.ip_local_reserved_ports="], check=True)
        self.assertEqual(self.warned_types(), [])
        subprocess.run([*sysctl, "net.ipv4.ip_local_port_range=5000 25000"], check=True)
        self.assertEqual(self.warned_types(), ["ai", "blocks", "cool", "dns", "dual", "unknown"])
        config = self.world.ok("config", "sysctl")
        path = self.world.folder / "reserved.conf"
        path.write_text(config, encoding="utf-8")
        subprocess.run(["sysctl", "-q", "-p", str(path)], check=True)
        self.assertEqual(self.warned_types(), [])

    def warned_types(self):
        """Which ranges a Reload warns of."""
        start = len(self.world.read_log())
        self.client.call("Reload")
        found = []
        for line in self.world.read_log()[start:].splitlines():
            if "that the kernel takes outgoing ports from" in line:
                named = re.search(r"of service type (\S+) overlap", line)
                found.append(named[1] if named else "unknown")
        return sorted(found)


class UnknownTypes(Case):
    config = configuration(limits={"auto_types_per_user": 32})

    def test_ten_at_once(self):
        clients = [self.another(direct=i % 2 == 0) for i in range(10)]
        names = [f"new-{i}" for i in range(9)] + ["monitoring-x"]
        pending = [client.begin("Allocate", "(sa{sv})", name, {})
                   for client, name in zip(clients, names)]
        first = {name: one.wait()[0] for name, one in zip(names, pending)}
        chunks = self.fill(names)
        taken = [port for ports in chunks.values() for port in ports]
        self.assertEqual(len(taken), len(set(taken)))
        for name, ports in chunks.items():
            self.assertEqual(len(ports), 20 if name == "monitoring-x" else 10)
            self.assertEqual(ports, list(range(min(ports), max(ports) + 1)))
            self.assertIn(first[name], ports)
            self.assertTrue(20000 <= min(ports) and max(ports) <= 31999)
        self.clean_all()
        self.world.kill_daemon()
        self.world.start_daemon()
        self.client = self.another()
        for name in reversed(names):
            self.assertEqual(self.client.allocate(name)[0], min(chunks[name]), name)

    def fill(self, names):
        """Everything there is of each type."""
        chunks = {}
        for name in names:
            while True:
                try:
                    self.client.allocate(name)
                except Refused as error:
                    self.assertEqual(error.name, "NoPortAvailable")
                    break
            chunks[name] = sorted(l["port"] for l in self.client.list(service_type=name))
        return chunks

    def clean_all(self):
        for lease in self.client.list():
            self.client.release(lease["lease"])

    def test_a_rejected_request_leaves_nothing(self):
        first, lease, _ = self.client.allocate("probe-before")
        self.client.release(lease)
        for i in range(5):
            self.refused("InvalidArgument", self.client.allocate, f"bad-{i}", range=(9, 3))
            self.refused("InvalidArgument", self.client.allocate_socket, f"bad-{i}", hold="soft")
            self.refused("InvalidArgument", self.client.allocate, f"bad_{i}")
        with Outsider.holding(range(first + 10, first + 20)):
            self.refused("NoPortAvailable", self.client.allocate, "bad-after", retries=0)
            guest = self.world.client()
            signals = self.signals()
            pending = guest.begin("Allocate", "(sa{sv})", "bad-waits", guest.options({"retries": 50}))
            signals.wait("PortConflict", 10)
            guest.close()
            with self.assertRaises(Exception):
                pending.wait()
        deadline = time.monotonic() + DEADLINE
        while self.client.metrics()["requests_waiting"]:
            self.assertLess(time.monotonic(), deadline)
        self.assertEqual(self.client.allocate("probe-after")[0], first + 10)

    @unittest.skipUnless(harness.os.geteuid() == 0, "needs another uid")
    def test_bounded_for_each_user(self):
        code = (
            "import sys, os; os.setresuid(4711, 4711, 4711)\n"
            "from ports import Client, Refused\n"
            "client = Client(sys.argv[1]); got = 0\n"
            "try:\n"
            "    while got < 100:\n"
            "        client.release(client.allocate(f'many-{got}')[1]); got += 1\n"
            "except Refused as error: print(error.name, got)\n"
        )
        done = subprocess.run(
            [harness.sys.executable, "-c", code, self.world.direct_address], text=True,
            stdout=subprocess.PIPE, timeout=60, check=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(harness.sys.path)})  # fmt: skip
        self.assertEqual(done.stdout.split(), ["QuotaExceeded", "32"])

    def test_switched_off(self):
        self.client.allocate("known-before")
        config = json.loads(json.dumps(self.config))
        config["auto_allocation"]["enabled"] = False
        self.world.configure(config)
        self.addCleanup(self.client.call, "Reload")
        self.addCleanup(self.world.configure, self.config)
        self.client.call("Reload")
        for name in ("known-before", "unheard-of"):
            message = self.refused("UnknownServiceType", self.client.allocate, name)
            self.assertIn("dev", message)


if __name__ == "__main__":
    harness.enter_namespace()
    unittest.main(verbosity=2)
