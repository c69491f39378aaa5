#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Units of users' own service managers: restarted by the user's own daemon, and not taken for
another user's by the system's."""

import json
import time

import nspawn
from services import SERVER, Signals

NAME = "org.styxy.Ports"
PATH = "/org/styxy/Ports"
UNIT = "styxyd.service"
ALICE, BOB = 2001, 2002
MAX_FAILURES = 3

CONFIGURATION = {
    "recovery": {
        "health_monitoring": {
            "check_interval_ms": 300,
            "max_failures": MAX_FAILURES,
            "startup_grace_ms": 20000,
            "process_grace_ms": 500,
            "http_timeout_ms": 2000,
        }
    }
}

# Of the system's daemon: who comes in the grace of a process has time to.
OF_SYSTEM = {
    "recovery": {"health_monitoring": {"check_interval_ms": 300, "process_grace_ms": 15000}}
}

# The instance is the port.
WEB = """
[Service]
Type=exec
ExecStart=/usr/bin/python3 /usr/local/bin/server.py %i /tmp/status.%i
"""

# Shares its port with others of its user.
SHARED = WEB.replace("%i /tmp/status.%i", "%i /tmp/status.%i shared")

# Waits until the port is listened on by so many sockets.
AWAIT_LISTENERS = """
import sys, time
end = time.monotonic() + 20
wanted = f":{int(sys.argv[1]):04X} 00000000:0000 0A"
while open("/proc/net/tcp").read().count(wanted) < int(sys.argv[2]):
    if time.monotonic() > end:
        sys.exit("they do not listen after 20 s")
    time.sleep(0.02)
"""

# Of the same names, but the system's.
NAMESAKE = """
[Service]
Type=exec
ExecStart=/usr/bin/sleep infinity
"""


class UserUnitsTest(nspawn.MachineTest):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        machine = cls.machine
        machine.write("/usr/local/bin/server.py", SERVER)
        machine.write("/etc/styxy/core-ports.d/50-test.json", json.dumps(OF_SYSTEM))
        machine.write("/etc/systemd/system/web@.service", NAMESAKE)
        machine.run("systemctl", "daemon-reload")
        for name, uid in (("alice", ALICE), ("bob", BOB)):
            home = f"/home/{name}"
            machine.run("useradd", "-m", "-u", str(uid), "-U", name)
            machine.write(f"{home}/.config/systemd/user/web@.service", WEB)
            machine.write(f"{home}/.config/systemd/user/shared@.service", SHARED)
            machine.write(f"{home}/.config/styxy/core-ports.d/50-test.json",
                          json.dumps(CONFIGURATION))
            machine.run("chown", "-R", f"{name}:{name}", home)
            machine.run("loginctl", "enable-linger", name)
            machine.wait_unit(f"user@{uid}.service", "active")
        machine.wait_unit("styxyd.socket", "active", uid=ALICE)
        cls.signals = Signals(machine, ALICE)
        cls.signals_of_system = Signals(machine)

    def setUp(self):
        self.machine.run("sh", "-c", "rm -f /tmp/status.* /tmp/go.*")
        self.signals.drain()

    # -- what the tests are written in -----------------------------------------------------------

    def systemctl(self, *arguments, uid=ALICE):
        self.machine.run("systemctl", "--user", *arguments, uid=uid, user_bus=True)

    def call(self, method, *arguments, check=True, bus="--user"):
        """A method of alice's daemon, which the first one starts, or by BUS of the system's, called
        by her. CHECK=False: its whole answer."""
        done = self.machine.run(
            "busctl", bus, "--json=short", "call", NAME, PATH, NAME, method, *arguments,
            uid=ALICE, user_bus=True, check=check,
        )  # fmt: skip
        if not check:
            return done
        return json.loads(done.stdout)["data"] if done.stdout.strip() else None

    def allocate(self, port, pid, on_unhealthy, check=True):
        """A lease on PORT for the process PID, given back at the end. Returns its id. CHECK=False:
        the whole answer."""
        answer = self.call(
            "Allocate", "sa{sv}", "dev", "5", "port", "q", str(port), "strict", "b", "true",
            "pid", "u", str(pid), "health_url", "s", "http://127.0.0.1:{port}/health",
            "on_unhealthy", "s", on_unhealthy, check=check,
        )  # fmt: skip
        if not check:
            return answer
        self.addCleanup(self.call, "Release", "s", answer[1], check=False)
        return answer[1]

    def lease(self, lease):
        return {name: value["data"] for name, value in self.call("GetLease", "s", lease)[0].items()}

    def wait_failures(self, lease, failures, seconds=20):
        """Waits until so many checks in a row have failed, which no signal tells."""
        end = time.monotonic() + seconds
        while self.lease(lease)["failures"] < failures:
            self.assertLess(time.monotonic(), end, f"not {failures} failures in {seconds} s")

    def start_twins(self, port):
        """web@PORT of alice's manager and of the system's. Returns the pid of alice's."""
        unit = f"web@{port}.service"
        self.machine.run("systemctl", "start", unit)
        self.addCleanup(self.machine.run, "systemctl", "stop", unit)
        self.systemctl("start", unit)
        self.addCleanup(self.systemctl, "stop", unit)
        return int(self.machine.show(unit, "MainPID", uid=ALICE))

    def start_in_the_system(self, name, port, *arguments):
        """A service of the system that runs as alice and serves PORT. Returns its pid."""
        self.machine.run(
            "systemd-run", f"--unit={name}", f"--uid={ALICE}", "--service-type=exec",
            "/usr/bin/python3", "/usr/local/bin/server.py", str(port), f"/tmp/status.{port}",
            *arguments,
        )  # fmt: skip
        self.addCleanup(self.machine.run, "systemctl", "stop", name)
        return int(self.machine.show(name, "MainPID"))

    def invocation(self, unit, uid=0):
        return self.machine.show(unit, "InvocationID", uid=uid)

    # -- the tests -------------------------------------------------------------------------------

    def test_the_users_unit_is_restarted(self):
        unit = "web@3004.service"
        pid = self.start_twins(3004)
        before = self.invocation(unit, ALICE)
        of_system = self.invocation(unit)
        lease = self.allocate(3004, pid, "restart")
        self.assertEqual(self.machine.show(UNIT, "ActiveState", uid=ALICE), "active")
        self.assertEqual(self.lease(lease)["unit"], unit)
        self.signals.serve(3004, lease)

        self.machine.write("/tmp/status.3004", "500")
        values = self.signals.wait("ServiceRestarted", lease, seconds=30)
        self.assertEqual(values[1:3], [3004, unit])
        self.assertEqual(values[3]["uid"], ALICE)
        self.machine.run("rm", "/tmp/status.3004")
        self.signals.wait_health(lease, "active")

        self.assertNotEqual(self.invocation(unit, ALICE), before)
        self.assertNotEqual(int(self.machine.show(unit, "MainPID", uid=ALICE)), pid)
        self.assertEqual(self.invocation(unit), of_system)
        self.assertEqual(self.machine.show(unit, "ActiveState"), "active")
        self.assertEqual(self.lease(lease)["health"], "active")

    def test_a_crashed_unit_is_restarted(self):
        unit = "web@3005.service"
        pid = self.start_twins(3005)
        lease = self.allocate(3005, pid, "restart")
        self.signals.serve(3005, lease)
        self.systemctl("kill", "-s", "KILL", unit)
        values = self.signals.wait("ServiceRestarted", lease, seconds=30)
        self.assertEqual(values[1:3], [3005, unit])
        self.signals.wait_health(lease, "active")
        self.assertEqual(self.machine.show(unit, "ActiveState", uid=ALICE), "active")

    def test_a_system_unit_is_refused(self):
        pid = self.start_in_the_system("systems", 3006)
        answer = self.allocate(3006, pid, "restart", check=False)
        self.assertNotEqual(answer.returncode, 0)
        self.assertIn("styxyctl --system", answer.stdout + answer.stderr)
        self.assertEqual(self.call("List", "a{sv}", "0"), [[]])

    def test_of_a_system_unit_is_only_told(self):
        pid = self.start_in_the_system("told", 3007)
        before = self.invocation("told")
        lease = self.allocate(3007, pid, "notify")
        self.signals.serve(3007, lease)
        self.machine.write("/tmp/status.3007", "500")
        self.wait_failures(lease, MAX_FAILURES + 2)
        self.machine.run("rm", "/tmp/status.3007")
        self.signals.wait_health(lease, "failing")
        self.signals.wait_health(lease, "active")
        self.assertEqual(self.signals.told("ServiceRestarted", lease), [])
        self.assertEqual(self.invocation("told"), before)
        self.assertEqual(int(self.machine.show("told", "MainPID")), pid)

    def test_what_is_restarted_outlives_a_hand_over(self):
        """Her process in another unit serves on: a name that says another thing to her manager."""
        unit = "shared@3008.service"
        self.systemctl("start", unit)
        self.addCleanup(self.systemctl, "stop", unit)
        lease = self.allocate(3008, int(self.machine.show(unit, "MainPID", uid=ALICE)), "restart")
        self.signals.serve(3008, lease)
        self.start_in_the_system("other", 3008, "shared")
        self.machine.run("/usr/bin/python3", "-c", AWAIT_LISTENERS, "3008", "2")
        self.systemctl("kill", "-s", "KILL", unit)
        self.signals.wait_health(lease, "active", reason="its process ended and another")
        self.assertEqual(self.lease(lease)["unit"], unit)
        self.assertEqual(self.signals.told("ServiceRestarted", lease), [])
        self.machine.write("/tmp/status.3008", "500")
        values = self.signals.wait("ServiceRestarted", lease, seconds=30)
        self.assertEqual(values[1:3], [3008, unit])
        self.assertEqual(self.machine.show("other", "ActiveState"), "active")

    def test_anothers_unit_of_the_same_name_keeps_nothing(self):
        unit = "web@3009.service"
        self.systemctl("start", unit)
        self.addCleanup(self.systemctl, "stop", unit)
        pid = int(self.machine.show(unit, "MainPID", uid=ALICE))
        lease = self.call(
            "Allocate", "sa{sv}", "dev", "3", "port", "q", "3009", "strict", "b", "true",
            "pid", "u", str(pid), bus="--system",
        )[1]  # fmt: skip
        entry = self.call("GetLease", "s", lease, bus="--system")[0]
        self.assertEqual(entry["unit"]["data"], unit)
        self.signals_of_system.serve(3009, lease)

        self.systemctl("kill", "-s", "KILL", unit)
        self.systemctl("start", unit, uid=BOB)
        self.addCleanup(self.systemctl, "stop", unit, uid=BOB)
        self.machine.run("/usr/bin/python3", "-c", AWAIT_LISTENERS, "3009", "1")
        self.assertEqual(self.call("GetLease", "s", lease, bus="--system")[0]["health"]["data"],
                         "active")  # the grace is not over, or he came too late for this test
        values = self.signals_of_system.wait("StaleReleased", lease, seconds=60)
        self.assertEqual(values[2], "process-exited")


if __name__ == "__main__":
    nspawn.main()
