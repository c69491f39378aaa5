#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""dfuzzer(1), where it is installed: every method and property of every interface, on a private bus.

STYXY_DFUZZER_ITERATIONS: calls of each method, 100 unless set.
"""

import os
import subprocess
import unittest

import harness

# dfuzzer(1), "Exit status"
ALL_WELL, WARNINGS_ONLY = 0, 3
SECONDS = 240
# Some of what it has to have called: one that never asks is content, too.
MEMBERS = ("Allocate", "AllocateSocket", "ReleasePort", "Recover")
REPORTS = ("ERROR: AddressSanitizer", "ERROR: LeakSanitizer", "runtime error:", "-CRITICAL **",
           "assertion failed")


class Dfuzzer(unittest.TestCase):
    def test_all_there_is(self):
        world = harness.World()
        self.addCleanup(world.close)
        world.start_daemon()
        # It tries both buses: one is the daemon's, of the other there is none.
        environment = {**world.environment, "DBUS_SESSION_BUS_ADDRESS": world.bus_address,
                       "DBUS_SYSTEM_BUS_ADDRESS": f"unix:path={world.folder}/none"}
        done = subprocess.run(
            ["dfuzzer", "-v", "-s", "-n", "org.styxy.Ports",
             "-I", os.environ.get("STYXY_DFUZZER_ITERATIONS", "100")],
            env=environment, cwd=world.folder, stdin=subprocess.DEVNULL, capture_output=True,
            text=True, errors="replace", timeout=SECONDS, check=False,
            preexec_fn=harness.die_with_parent)
        print(done.stderr[-5000:], done.stdout[-5000:])
        self.assertIn(done.returncode, (ALL_WELL, WARNINGS_ONLY))
        for member in MEMBERS:
            self.assertRegex(done.stdout, rf"(?m)PASS \[M\] {member}$")
        self.assertIsNone(world.daemon.poll(), "the daemon has ended")
        world.ok("status")
        self.assertEqual(world.stop_daemon(), 0)
        for report in REPORTS:
            self.assertNotIn(report, world.read_log())


if __name__ == "__main__":
    harness.enter_namespace()
    unittest.main(verbosity=2)
