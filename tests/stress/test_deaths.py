#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Processes that are killed: when their leases end, and that no number stands for two of them.

In a pid namespace of its own, where the kernel can be told which number comes next.
"""

import os
import signal
import socket
import sys
import time
import unittest

import harness
from ports import FULL, World, count

GRACE = 0.3
CONFIG = {
    "service_types": {"dead": {"port_range": [14000, 14999]}},
    "recovery": {
        "health_monitoring": {
            "check_interval_ms": 3_600_000,  # nobody but the processes' own ends is to be seen
            "process_grace_ms": int(GRACE * 1000),
        }
    },
    "limits": {"leases_per_user": 1000},
}
LAST_PID = "/proc/sys/kernel/ns_last_pid"


class Child:
    """A process that listens on the port it is told, if any, until it is killed."""

    def __init__(self):
        order, self.order = os.pipe()
        self.answer, answer = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            try:
                harness.die_with_parent()
                for fd in range(3, 4096):
                    if fd not in (order, answer):
                        try:
                            os.close(fd)
                        except OSError:
                            pass
                port = os.read(order, 8)
                server = socket.create_server(("127.0.0.1", int(port)))
                os.write(answer, b"x")
                while True:
                    server.accept()
            finally:
                os._exit(1)
        os.close(order)
        os.close(answer)

    def listen(self, port):
        os.write(self.order, str(port).encode())
        assert os.read(self.answer, 1) == b"x"

    def kill(self):
        os.kill(self.pid, signal.SIGKILL)

    def reap(self):
        os.waitpid(self.pid, 0)
        os.close(self.order)
        os.close(self.answer)


class Case(unittest.TestCase):
    def setUp(self):
        self.world = World(CONFIG)
        self.addCleanup(self.world.close)
        self.world.start_daemon()
        self.connect()

    def connect(self):
        self.client = self.world.client(direct=True)
        self.addCleanup(self.client.close)

    def leases(self):
        return {lease["lease"]: lease for lease in self.client.list()}


class Deaths(Case):
    def test_killed(self):
        number = count(200, 200)
        children = [Child() for _ in range(number)]  # forks before there are threads
        signals = self.world.signals()
        self.addCleanup(signals.close)
        leases, killed = [], {}
        for index, child in enumerate(children):
            port, lease, _ = self.client.allocate(
                "dead", pid=child.pid, lifetime=("auto", "process")[index % 2])
            if index % 4 < 2:
                child.listen(port)
            leases.append(lease)
        for index, (lease, child) in enumerate(zip(leases, children)):
            killed[lease] = time.monotonic()
            child.kill()
            child.reap()
            # some at once, some one by one
            if index % 20 >= 10:
                time.sleep(0.02)
        ends = signals.wait("StaleReleased", number, 60)
        self.assertEqual({arguments[0] for arguments, _ in ends}, set(leases))
        self.assertEqual({arguments[2] for arguments, _ in ends}, {"process-exited"})
        late = sorted(when - killed[arguments[0]] - GRACE for arguments, when in ends)
        self.assertEqual(len(signals.wait("PortReleased", number)), number)
        self.assertEqual(self.leases(), {})
        print(f"{number} deaths: StaleReleased after the grace: median {late[number // 2] * 1000:.1f} ms, "
              f"maximum {late[-1] * 1000:.1f} ms")
        self.assertGreater(late[0], -0.001)
        self.assertLess(late[-1], 0.1 if FULL else 2)

    def test_a_zombie_is_dead(self):
        child = Child()
        _, lease, _ = self.client.allocate("dead", pid=child.pid, lifetime="process")
        signals = self.world.signals()
        self.addCleanup(signals.close)
        child.kill()
        signals.wait("StaleReleased", 1)
        self.assertNotIn(lease, self.leases())
        with open(f"/proc/{child.pid}/stat", encoding="ascii") as stat:
            self.assertIn(") Z ", stat.read())
        child.reap()


class PidReuse(Case):
    def successor(self, pid):
        """Another process with that number, which must be free."""
        for _ in range(100):
            with open(LAST_PID, "w", encoding="ascii") as file:
                file.write(str(pid - 1))
            child = Child()
            if child.pid == pid:
                return child
            child.kill()
            child.reap()
        self.fail(f"nobody got the number {pid}")

    def test_within_the_grace(self):
        """The number is another's before anything is decided about the dead one."""
        signals = self.world.signals()
        self.addCleanup(signals.close)
        rounds, dead, living, later = count(30, 300), [], {}, []
        for index in range(rounds):
            first = Child()
            dead.append(self.client.allocate("dead", pid=first.pid, lifetime="process")[1])
            if index % 3 == 0:
                # and the daemon does not even look before the successor is there
                self.world.daemon.send_signal(signal.SIGSTOP)
            first.kill()
            first.reap()
            second = self.successor(first.pid)
            self.world.daemon.send_signal(signal.SIGCONT)
            later.append(second)
            living[self.client.allocate("dead", pid=second.pid, lifetime="process")[1]] = second
        ends = signals.wait("StaleReleased", rounds, 60)
        self.assertEqual({arguments[0] for arguments, _ in ends}, set(dead))
        self.assertEqual(set(self.leases()), set(living))
        for child in later:
            child.kill()
            child.reap()
        ends = signals.wait("StaleReleased", 2 * rounds, 60)
        self.assertEqual({arguments[0] for arguments, _ in ends[rounds:]}, set(living))
        self.assertEqual(len(ends), 2 * rounds)

    def test_while_the_daemon_is_away(self):
        rounds, dead, living, children = count(10, 50), set(), set(), []
        for _ in range(rounds):
            first, stays = Child(), Child()
            dead.add(self.client.allocate("dead", pid=first.pid, lifetime="process")[1])
            living.add(self.client.allocate("dead", pid=stays.pid, lifetime="process")[1])
            children += [stays]
            self.world.kill_daemon()
            first.kill()
            first.reap()
            second = self.successor(first.pid)
            children += [second]
            self.world.start_daemon()
            self.connect()
            # The state names that number, and who has it now asks for a lease of its own.
            living.add(self.client.allocate("dead", pid=second.pid, lifetime="process")[1])
        self.assertEqual(set(self.leases()), living)
        signals = self.world.signals()
        self.addCleanup(signals.close)
        for child in children:
            child.kill()
            child.reap()
        ends = signals.wait("StaleReleased", len(living), 60)
        self.assertEqual({arguments[0] for arguments, _ in ends}, living)


def enter_pid_namespace():
    if os.environ.get("STYXY_TEST_PIDS") == "1":
        return
    os.environ["STYXY_TEST_PIDS"] = "1"
    user = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    os.execvp("unshare", ["unshare", *user, "--net", "--mount", "--pid", "--fork", "--kill-child",
                          "--mount-proc", sys.executable, *sys.argv])


if __name__ == "__main__":
    enter_pid_namespace()
    os.environ["STYXY_TEST_NAMESPACE"] = "1"
    harness.enter_namespace()
    unittest.main(verbosity=2)
