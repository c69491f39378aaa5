#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Grants in a range in which outsiders take and free ports all the time.

An outsider notes when it surely had each port, on the clock that times the calls. A grant of a port
that one of them had from before the call until after the answer is a lie. Everything else, taken
just before the answer say, nobody can see.
"""

import bisect
import os
import random
import tempfile
import time
import unittest

import harness
from ports import SEED, Outsider, Refused, World, count, read_intervals

FIRST, LAST = 15000, 15199
KINDS = ["tcp", "tcp-plain", "tcp-bound", "tcp-loopback", "tcp6-loopback", "tcp4", "udp", "udp4"]
UDP_KINDS = {"udp", "udp4"}
CONFIG = {
    "service_types": {"churn": {"port_range": [FIRST, LAST]}},
    "recovery": {
        "port_conflict": {"cooldown_ms": 0},
        "health_monitoring": {"enabled": False},
    },
}


class Churn(unittest.TestCase):
    def setUp(self):
        self.world = World(CONFIG)
        self.addCleanup(self.world.close)
        self.world.start_daemon()

    def outsiders(self, folder):
        """Two for each protocol. TCP in one half is refused by what has no SO_REUSEADDR."""
        kinds = {"tcp": [kind for kind in KINDS if kind not in UDP_KINDS], "udp": sorted(UDP_KINDS)}
        for protocol, wanted in kinds.items():
            for number in range(2):
                log = os.path.join(folder, f"{protocol}{number}")
                outsider = Outsider("churn", FIRST, LAST, SEED + number, log, 60, *wanted,
                                    stranger=False)
                yield protocol, log, outsider

    def test_churn(self):
        grants, failures, conflicts = [], [], 0
        dice = random.Random(SEED)
        wanted = count(20_000, 100_000)
        with tempfile.TemporaryDirectory() as folder:
            outsiders = list(self.outsiders(folder))
            client = self.world.client(direct=True)
            self.addCleanup(client.close)
            held = []
            for number in range(wanted):
                protocol = dice.choice(("tcp", "tcp", "udp", "both"))
                address = {} if dice.random() < 0.8 else {"address": dice.choice(("127.0.0.1", "::1"))}
                options = {"port": dice.randint(FIRST, LAST)} if number % 2 else {}
                began = time.monotonic_ns()
                try:
                    port, lease, details = client.allocate("churn", protocol=protocol, **address,
                                                           **options)  # fmt: skip
                except Refused as error:
                    failures.append(str(error))
                    continue
                ended = time.monotonic_ns()
                conflicts += len(details["conflicts"])
                grants.append((port, protocol, address.get("address"), began, ended))
                held.append(lease)
                if len(held) > 20:
                    client.release(held.pop(dice.randrange(len(held))))
            taken = sum(int(outsider.finish()) for _, _, outsider in outsiders)
            intervals = {}
            for protocol, log, _ in outsiders:
                for port, spans in read_intervals(log).items():
                    intervals.setdefault((port, protocol), []).extend(spans)
        for spans in intervals.values():
            spans.sort()
        print(f"{len(grants)} grants, {len(failures)} failures, {conflicts} conflicts, "
              f"{taken} ports taken and freed by others")
        for failure in failures[:10]:
            print(failure)
        self.assertGreaterEqual(len(grants), wanted * 0.999)
        # else nothing was in the way, and nothing proven
        self.assertGreater(conflicts, wanted / 20)
        self.assertGreater(taken, wanted)
        self.assertEqual(self.violations(grants, intervals), [])

    @staticmethod
    def violations(grants, intervals):
        """Grants on every address of a port that an outsider had all the while."""
        found = []
        for port, protocol, address, began, ended in grants:
            if address is not None:
                continue  # the outsider's may have been another one
            for one in ("tcp", "udp") if protocol == "both" else (protocol,):
                spans = intervals.get((port, one), [])
                for since, until in spans[: bisect.bisect_left(spans, (began, 0))]:
                    if until > ended:
                        found.append((port, one, began - since, until - ended))
        return found


if __name__ == "__main__":
    harness.enter_namespace()
    unittest.main(verbosity=2)
