#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Coming, staying and going under a real systemd: units, activation, policy, one user's own daemon."""

import json
import subprocess

import nspawn

NAME = "org.styxy.Ports"
PATH = "/org/styxy/Ports"
DIRECT = "unix:path=/run/styxy/bus"
UNIT = "styxyd.service"

ALICE = 2001
BOB = 2002

# systemd's own ids, sd-messages.h(3): a unit was started; a unit failed.
STARTED = "39f53479d3a045ac8e11786248231fbf"

NOT_AUTHORIZED = 4
UNREACHABLE = 5

# Calls List again and again, over a fresh connection each time where ADDRESS is given, and waits
# between calls for as long as the daemon stays around idle, give or take, so that calls meet it at
# every stage of leaving. Prints how many calls there were; any error is the exit status.
CALLER = """
import random, sys, threading
from gi.repository import Gio, GLib
address, calls, idle_msec, seed = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
dice = random.Random(seed)
pause = threading.Event()
def connect():
    if address == "system":
        return Gio.bus_get_sync(Gio.BusType.SYSTEM)
    flags = (Gio.DBusConnectionFlags.AUTHENTICATION_CLIENT
             | Gio.DBusConnectionFlags.MESSAGE_BUS_CONNECTION)
    return Gio.DBusConnection.new_for_address_sync(address, flags, None, None)
for call in range(calls):
    bus = connect()
    answer = bus.call_sync("org.styxy.Ports", "/org/styxy/Ports", "org.styxy.Ports", "List",
                           GLib.Variant("(a{sv})", ({},)), GLib.VariantType("(aa{sv})"), 0, 20000,
                           None)
    assert len(answer[0]) == 0, answer
    if address != "system":
        bus.close_sync()
    pause.wait(dice.uniform(0.5, 1.5) * idle_msec / 1000)
print(call + 1)
"""

# Owns the name as whoever runs it, says so on stdout, and stays until stdin closes.
OWNER = """
import sys
from gi.repository import Gio, GLib
bus = Gio.bus_get_sync(Gio.BusType.SYSTEM)
got = bus.call_sync("org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus",
                    "RequestName", GLib.Variant("(su)", ("org.styxy.Ports", 4)), None, 0, -1, None)[0]
print("owner" if got == 1 else f"refused {got}", flush=True)
sys.stdin.read()
"""

# Gets a socket of each protocol, and a lease for a process named by its pidfd.
SOCKETS = """
import os, socket, sys
from gi.repository import Gio, GLib
if sys.argv[1] == "system":
    bus = Gio.bus_get_sync(Gio.BusType.SYSTEM)
else:
    bus = Gio.DBusConnection.new_for_address_sync(
        "unix:path=/run/styxy/bus", Gio.DBusConnectionFlags.AUTHENTICATION_CLIENT
        | Gio.DBusConnectionFlags.MESSAGE_BUS_CONNECTION, None, None)
def call(method, signature, arguments, fds=None):
    return bus.call_with_unix_fd_list_sync(
        "org.styxy.Ports", "/org/styxy/Ports", "org.styxy.Ports", method,
        GLib.Variant(signature, arguments), None, 0, 20000, fds, None)
for protocol, kind in (("tcp", socket.SOCK_STREAM), ("udp", socket.SOCK_DGRAM)):
    answer, fds = call("AllocateSocket", "(sa{sv})", ("dev", {"protocol": GLib.Variant("s", protocol)}))
    port, lease, index, _ = answer.unpack()
    with socket.socket(fileno=fds.get(index)) as got:
        assert got.type == kind and got.getsockname()[1] == port, got
        if kind == socket.SOCK_STREAM:
            got.listen()
            socket.create_connection(("127.0.0.1", port), 5).close()
    call("Release", "(s)", (lease,))
mine = Gio.UnixFDList.new()
mine.append(os.pidfd_open(os.getpid()))
answer, _ = call("Allocate", "(sa{sv})", ("dev", {"pidfd": GLib.Variant("h", 0)}), mine)
lease, _ = call("GetLease", "(s)", (answer.unpack()[1],))
assert lease.unpack()[0]["pid"] == os.getpid(), lease
print("ok")
"""

# A server that tells systemd when it listens.
SERVER = """
import http.server, os, socket, sys
server = http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])),
                                         http.server.SimpleHTTPRequestHandler)
with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
    notify.connect(os.environ["NOTIFY_SOCKET"])
    notify.send(b"READY=1")
server.serve_forever()
"""


class ActivationTest(nspawn.MachineTest):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        for name, uid in (("alice", ALICE), ("bob", BOB)):
            cls.machine.run("useradd", "-m", "-u", str(uid), "-U", name)

    def setUp(self):
        self.machine.run("rm", "-rf", "/etc/styxy", "/etc/systemd/system/styxyd.service.d")
        self.machine.run("systemctl", "daemon-reload")
        self.machine.run("systemctl", "stop", UNIT)
        self.machine.run("systemctl", "reset-failed")
        self.machine.run("sh", "-c", "rm -rf /var/lib/styxy/*")
        self.machine.run("systemctl", "start", "styxyd.socket")

    # -- what the tests are written in -----------------------------------------------------------

    def stop(self):
        self.machine.run("systemctl", "stop", UNIT)
        self.assertEqual(self.machine.show(UNIT, "ActiveState"), "inactive")

    def drop_in(self, text):
        self.machine.write("/etc/systemd/system/styxyd.service.d/test.conf", text)
        self.machine.run("systemctl", "daemon-reload")

    def call(self, method, *arguments, bus="system", check=True, **options):
        """A method of ours by busctl. BUS: system, user or direct."""
        where = {"system": ["--system"], "user": ["--user"], "direct": [f"--address={DIRECT}"]}[bus]
        argv = ["busctl", *where, "--json=short", "call", NAME, PATH, NAME, method, *arguments]
        done = self.machine.run(*argv, check=check, user_bus=bus == "user", **options)
        if not check:
            return done
        return json.loads(done.stdout)["data"] if done.stdout.strip() else None

    def ctl(self, *arguments, **options):
        return self.machine.run("styxyctl", *arguments, **options)

    def owned(self):
        answer = self.machine.output(
            "busctl", "--json=short", "call", "org.freedesktop.DBus", "/org/freedesktop/DBus",
            "org.freedesktop.DBus", "NameHasOwner", "s", NAME,
        )  # fmt: skip
        return json.loads(answer)["data"][0]

    def starts(self):
        """How often the unit has been started since the boot."""
        return len(self.machine.journal("_PID=1", f"UNIT={UNIT}", f"MESSAGE_ID={STARTED}"))

    def active(self):
        return self.machine.show(UNIT, "ActiveState") == "active"

    # -- the files -------------------------------------------------------------------------------

    def test_units_are_clean(self):
        folder = "/lib/systemd/system"
        done = self.machine.run(
            "systemd-analyze", "verify", "--man=no", f"{folder}/{UNIT}", f"{folder}/styxyd.socket"
        )
        self.assertEqual(done.stdout + done.stderr, "")
        folder = "/usr/lib/systemd/user"
        done = self.machine.run(
            "systemd-analyze", "--user", "verify", "--man=no",
            f"{folder}/{UNIT}", f"{folder}/styxyd.socket", uid=ALICE,
            env={"XDG_RUNTIME_DIR": "/tmp"},
        )  # fmt: skip
        self.assertEqual(done.stdout + done.stderr, "")
        self.machine.run("systemd-analyze", "security", "--threshold=15", UNIT)

    def test_alias(self):
        self.assertEqual(self.machine.show("dbus-org.styxy.Ports.service", "Id"), UNIT)

    # -- coming ----------------------------------------------------------------------------------

    def test_first_call_on_the_bus_starts_it(self):
        self.assertFalse(self.owned())
        before = self.starts()
        self.call("List", "a{sv}", "0")
        self.assertTrue(self.active())
        self.assertTrue(self.owned())
        self.assertEqual(self.starts(), before + 1)

    def test_first_connection_starts_it(self):
        before = self.starts()
        self.call("List", "a{sv}", "0", bus="direct")
        self.assertTrue(self.active())
        self.assertTrue(self.owned())
        self.assertEqual(self.starts(), before + 1)

    def test_a_normal_user_starts_it_both_ways(self):
        for bus in ("system", "direct"):
            self.call("List", "a{sv}", "0", bus=bus, uid=ALICE)
            self.assertTrue(self.active())
            self.stop()

    def test_both_at_once_start_one(self):
        for _ in range(10):
            before = self.starts()
            callers = []
            for where in ("--system", f"--address={DIRECT}") * 3:
                callers.append(
                    self.machine.popen(
                        "busctl", where, "call", NAME, PATH, NAME, "List", "a{sv}", "0",
                        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                    )
                )  # fmt: skip
            for caller in callers:
                text, _ = caller.communicate(timeout=nspawn.RUN_SECONDS)
                self.assertEqual(caller.returncode, 0, text)
            self.assertEqual(self.starts(), before + 1)
            self.stop()

    def test_ready_means_owned(self):
        for _ in range(10):
            self.machine.run("systemctl", "start", UNIT)
            self.assertTrue(self.owned())
            self.stop()

    def test_not_ready_while_another_owns_the_name(self):
        uid = int(self.machine.output("id", "-u", "styxy"))
        other = self.machine.popen(
            "/usr/bin/python3", "-c", OWNER, uid=uid, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        try:
            self.assertEqual(other.stdout.readline().strip(), "owner")
            self.drop_in("[Unit]\nStartLimitIntervalSec=0\n[Service]\nRestart=no\n")
            before = self.starts()
            done = self.machine.run("systemctl", "start", UNIT, check=False)
            self.assertNotEqual(done.returncode, 0)
            self.assertEqual(self.starts(), before)
        finally:
            other.communicate(timeout=10)

    # -- going -----------------------------------------------------------------------------------

    def test_sigterm_leaves_cleanly(self):
        self.machine.run("systemctl", "start", UNIT)
        self.machine.run("systemctl", "kill", "--kill-whom=main", "-s", "TERM", UNIT)
        self.machine.wait_unit(UNIT, "inactive", "failed")
        self.assertEqual(self.machine.show(UNIT, "ActiveState"), "inactive")
        self.assertEqual(self.machine.show(UNIT, "Result"), "success")
        # CLD_EXITED with status 0, so not by the signal.
        self.assertEqual(self.machine.show(UNIT, "ExecMainCode"), "1")
        self.assertEqual(self.machine.show(UNIT, "ExecMainStatus"), "0")
        self.assertFalse(self.owned())

    def test_the_socket_outlives_the_service(self):
        self.machine.run("systemctl", "start", UNIT)
        self.stop()
        self.assertEqual(self.machine.output("stat", "-c", "%F %a", "/run/styxy/bus"), "socket 666")
        self.call("List", "a{sv}", "0", bus="direct", uid=ALICE)

    def test_sigkill_is_mended(self):
        port, lease = self.call("Allocate", "sa{sv}", "dev", "1", "lifetime", "s", "persistent")[:2]
        pid = self.machine.show(UNIT, "MainPID")
        self.machine.run("systemctl", "kill", "--kill-whom=main", "-s", "KILL", UNIT)
        got = self.call("GetLease", "s", lease)[0]
        self.assertEqual(got["port"]["data"], port)
        self.assertNotEqual(self.machine.show(UNIT, "MainPID"), pid)
        self.call("Release", "s", lease)

    def call_around_the_end(self, addresses, idle_msec):
        callers = [
            self.machine.popen(
                "/usr/bin/python3", "-c", CALLER, address, "100", str(idle_msec), address,
                uid=ALICE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            )
            for address in addresses
        ]  # fmt: skip
        for caller in callers:
            text, errors = caller.communicate(timeout=120)
            self.assertEqual((caller.returncode, text.strip()), (0, "100"), errors)

    def test_idle_exit_loses_no_call(self):
        idle_msec = 50
        self.drop_in(
            "[Unit]\nStartLimitIntervalSec=0\n[Service]\n"
            f"Environment=STYXY_IDLE_MSEC={idle_msec}\n"
        )
        # Each start of a socket-activated service counts against the socket's own limit as well.
        self.machine.write(
            "/etc/systemd/system/styxyd.socket.d/test.conf", "[Socket]\nTriggerLimitIntervalSec=0\n"
        )
        self.machine.run("systemctl", "daemon-reload")
        self.machine.run("systemctl", "restart", "styxyd.socket")
        wanted = self.starts() + 30
        for _ in range(4):  # on a busy machine fewer calls meet a daemon that is leaving
            for addresses in (["system"], [DIRECT], ["system", DIRECT]):
                with self.subTest(addresses=addresses):
                    self.call_around_the_end(addresses, idle_msec)
            if self.starts() > wanted:
                break
        self.assertGreater(self.starts(), wanted)
        self.machine.wait_unit(UNIT, "inactive")
        self.assertEqual(self.machine.show(UNIT, "Result"), "success")

    def test_a_lease_keeps_it_from_leaving(self):
        self.drop_in("[Service]\nEnvironment=STYXY_IDLE_MSEC=50\n")
        lease = self.call("Allocate", "sa{sv}", "dev", "1", "lifetime", "s", "persistent")[1]
        pid = self.machine.show(UNIT, "MainPID")
        with self.assertRaises(AssertionError):
            self.machine.wait_unit(UNIT, "inactive", seconds=1)
        self.assertEqual(self.machine.show(UNIT, "MainPID"), pid)
        self.call("Release", "s", lease)
        self.machine.wait_unit(UNIT, "inactive")

    # -- a configuration that only a person can mend ----------------------------------------------

    def test_bad_configuration(self):
        self.machine.write("/etc/styxy/core-ports.json", '{\n  "service_typos": {}\n}\n')
        done = self.machine.run("systemctl", "start", UNIT, check=False)
        self.assertNotEqual(done.returncode, 0)
        self.assertEqual(self.machine.show(UNIT, "ActiveState"), "failed")
        self.assertEqual(self.machine.show(UNIT, "ExecMainStatus"), "78")
        self.assertEqual(self.machine.show(UNIT, "NRestarts"), "0")
        messages = [
            entry["MESSAGE"]
            for entry in self.machine.journal(f"_SYSTEMD_UNIT={UNIT}")
            if "core-ports.json:2:" in str(entry["MESSAGE"])
        ]
        self.assertTrue(messages)
        self.assertIn("service_typos", messages[-1])

        # Callers get an error and no more than their own starts; a mended file is all it takes.
        done = self.ctl("list", check=False)
        self.assertEqual(done.returncode, UNREACHABLE, done.stderr)
        done = self.ctl(f"--address={DIRECT}", "list", check=False)
        self.assertEqual(done.returncode, UNREACHABLE, done.stderr)
        self.assertEqual(self.machine.wait_unit("styxyd.socket", "active"), "active")
        failures = [
            entry
            for entry in self.machine.journal("_PID=1", f"UNIT={UNIT}")
            if entry.get("EXIT_STATUS") == "78"
        ]
        self.assertLessEqual(len(failures), 4)
        self.machine.run("rm", "-r", "/etc/styxy")
        self.ctl(f"--address={DIRECT}", "list")
        self.ctl("list")

    # -- who may do what -------------------------------------------------------------------------

    def test_policy(self):
        own = [
            "busctl", "call", "org.freedesktop.DBus", "/org/freedesktop/DBus",
            "org.freedesktop.DBus", "RequestName", "su", NAME, "4",
        ]  # fmt: skip
        for uid in (0, ALICE):
            done = self.machine.run(*own, uid=uid, check=False)
            self.assertNotEqual(done.returncode, 0)
            self.assertIn("denied", done.stderr.lower())
        self.machine.run("systemctl", "start", UNIT)

        def member(interface, path, method, *arguments, uid=ALICE):
            return self.machine.run(
                "busctl", "call", NAME, path, interface, method, *arguments, uid=uid, check=False
            )

        for interface, method, arguments in (
            ("org.freedesktop.DBus.Peer", "Ping", []),
            ("org.freedesktop.DBus.Introspectable", "Introspect", []),
            ("org.freedesktop.DBus.Properties", "GetAll", ["s", NAME]),
            (NAME, "GetMetrics", []),
        ):
            done = member(interface, PATH, method, *arguments)
            self.assertEqual(done.returncode, 0, done.stderr)
        for uid in (0, ALICE):
            done = member("org.example.Other", PATH, "Anything", uid=uid)
            self.assertNotEqual(done.returncode, 0)
            self.assertIn("denied", done.stderr.lower())

    def test_only_the_owner_and_root_release(self):
        for bus in ("system", "direct"):
            with self.subTest(bus=bus):
                port, lease = self.call("Allocate", "sa{sv}", "dev", "0", bus=bus, uid=ALICE)[:2]
                for method, arguments in (
                    ("Release", ["s", lease]),
                    ("ReleasePort", ["qs", str(port), "tcp"]),
                ):
                    done = self.call(method, *arguments, bus=bus, uid=BOB, check=False)
                    self.assertNotEqual(done.returncode, 0)
                    self.assertIn("owne", done.stderr.lower())
                done = self.ctl("release", str(port), uid=BOB, check=False)
                self.assertEqual(done.returncode, NOT_AUTHORIZED, done.stderr)
                self.assertEqual(self.call("GetLease", "s", lease)[0]["uid"]["data"], ALICE)
                self.call("Release", "s", lease, bus=bus, uid=ALICE)
                lease = self.call("Allocate", "sa{sv}", "dev", "0", bus=bus, uid=ALICE)[1]
                self.call("Release", "s", lease, bus=bus, uid=0)

    # -- what the sandbox must not break ----------------------------------------------------------

    def test_the_holder_of_a_port_is_named(self):
        self.machine.run(
            "systemd-run", "--quiet", "--unit=web", "--uid=alice", "-p", "Type=notify", "-p",
            "NotifyAccess=all", "/usr/bin/python3", "-c", SERVER, "8005",
        )  # fmt: skip
        try:
            available, details = self.call("CheckPort", "qs", "8005", "tcp")
            self.assertFalse(available)
            self.assertEqual(details["uid"]["data"], ALICE)
            self.assertEqual(details["unit"]["data"], "web.service")
            self.assertEqual(details["address"]["data"], "127.0.0.1")
            port, lease, details = self.call("Allocate", "sa{sv}", "api", "1", "port", "q", "8005")
            self.assertNotEqual(port, 8005)
            self.assertEqual(details["conflicts"]["data"], [8005])
            self.call("Release", "s", lease)
        finally:
            self.machine.run("systemctl", "stop", "web.service")

    def test_the_log_has_fields(self):
        port, lease = self.call("Allocate", "sa{sv}", "dev", "0", uid=ALICE)[:2]
        self.call("Release", "s", lease, uid=ALICE)
        entries = self.machine.journal(f"_SYSTEMD_UNIT={UNIT}", f"STYXY_LEASE={lease}")
        self.assertGreaterEqual(len(entries), 2)
        for entry in entries:
            self.assertEqual(entry["STYXY_PORT"], str(port))
            self.assertEqual(entry["STYXY_SERVICE"], "dev")
            self.assertEqual(entry["STYXY_UID"], str(ALICE))
            self.assertEqual(entry["SYSLOG_IDENTIFIER"], "styxyd")
            self.assertRegex(entry["MESSAGE_ID"], "^[0-9a-f]{32}$")

    def test_a_socket_over_either_way(self):
        """The sandbox lets sockets and pidfds through, and TCP and UDP be bound."""
        for bus in ("system", "direct"):
            with self.subTest(bus=bus):
                done = self.machine.run("/usr/bin/python3", "-c", SOCKETS, bus, uid=ALICE)
                self.assertEqual(done.stdout, "ok\n", done.stderr)

    def test_a_daemon_that_stands_still_is_started_anew(self):
        self.drop_in("[Service]\nWatchdogSec=2s\n")
        port, lease = self.call("Allocate", "sa{sv}", "dev", "1", "lifetime", "s", "persistent")[:2]
        pid = self.machine.show(UNIT, "MainPID")
        # While it runs it feeds the dog: three times the interval, and it is the same.
        with self.assertRaises(AssertionError):
            self.machine.wait_unit(UNIT, "failed", "inactive", seconds=6)
        self.assertEqual(self.machine.show(UNIT, "MainPID"), pid)
        self.machine.run("kill", "-STOP", pid)
        for _ in range(10):  # the first waits in the queue of the one that is killed
            done = self.call("GetLease", "s", lease, check=False)
            if done.returncode == 0:
                break
        self.assertEqual(json.loads(done.stdout)["data"][0]["port"]["data"], port, done.stderr)
        self.assertNotEqual(self.machine.show(UNIT, "MainPID"), pid)
        self.assertEqual(self.machine.show(UNIT, "NRestarts"), "1")
        entries = self.machine.journal("_PID=1", f"UNIT={UNIT}")
        self.assertTrue([e for e in entries if "watchdog" in str(e["MESSAGE"]).lower()])
        self.call("Release", "s", lease)

    # -- the command line ------------------------------------------------------------------------

    def test_styxyctl(self):
        for where in ([], [f"--address={DIRECT}"]):
            with self.subTest(where=where):
                port = self.ctl(*where, "allocate", "dev", "--instance", "one", uid=ALICE).stdout
                self.assertRegex(port, r"\A30\d\d\n\Z")
                port = port.strip()
                listed = json.loads(self.ctl(*where, "list", "--json=short", uid=BOB).stdout)
                self.assertIn(port, json.dumps(listed))
                self.ctl(*where, "show", port, uid=ALICE)
                self.ctl(*where, "status", uid=ALICE)
                self.ctl(*where, "release", port, uid=ALICE)
                done = self.ctl(*where, "release", port, uid=ALICE, check=False)
                self.assertEqual(done.returncode, 3, done.stderr)

    def test_styxyctl_run(self):
        done = self.ctl("run", "dev", "--", "sh", "-c", "echo $PORT {port}; exit 7", uid=ALICE, check=False)
        self.assertEqual(done.returncode, 7, done.stderr)
        first, second = done.stdout.split()
        self.assertEqual(first, second)
        self.assertEqual(self.call("List", "a{sv}", "0")[0], [])

    # -- one user's own daemon -------------------------------------------------------------------

    def test_user_manager(self):
        self.machine.run("loginctl", "enable-linger", "alice")
        self.machine.wait_unit(f"user@{ALICE}.service", "active")
        self.assertEqual(self.machine.wait_unit("styxyd.socket", "active", uid=ALICE), "active")
        port, lease = self.call("Allocate", "sa{sv}", "dev", "0", bus="user", uid=ALICE)[:2]
        self.assertEqual(self.machine.show(UNIT, "ActiveState", uid=ALICE), "active")
        self.assertNotEqual(self.machine.show(UNIT, "MainPID", uid=ALICE), "0")
        # The system's daemon knows nothing of it.
        self.assertEqual(self.call("List", "a{sv}", "0")[0], [])
        direct = f"--address=unix:path=/run/user/{ALICE}/styxy/bus"
        listed = self.ctl(direct, "list", "--json=short", uid=ALICE, user_bus=True).stdout
        self.assertIn(lease, listed)
        self.ctl("--user", "release", str(port), uid=ALICE, user_bus=True)

        # The first connection starts it as well.
        self.machine.run("systemctl", "--user", "stop", UNIT, uid=ALICE, user_bus=True)
        self.ctl(direct, "list", uid=ALICE, user_bus=True)
        self.assertEqual(self.machine.show(UNIT, "ActiveState", uid=ALICE), "active")

    def test_session_bus_without_systemd(self):
        script = """
            set -e
            port=$(styxyctl --user allocate dev)
            styxyctl --user list >&2
            styxyctl --user "--address=unix:path=$XDG_RUNTIME_DIR/styxy/bus" release "$port"
            echo "port $port"
        """
        # What the bus starts inherits its output, so that is a file: nobody waits for the daemon here.
        home = "/home/bob"
        done = self.machine.run(
            "sh", "-c", 'cd; mkdir -p -m 0700 "$XDG_RUNTIME_DIR"; dbus-run-session -- sh -c "$1" >out 2>err',
            "sh", script, uid=BOB, check=False,
            env={"HOME": home, "XDG_RUNTIME_DIR": home + "/run", "STYXY_IDLE_MSEC": "200"},
        )  # fmt: skip
        errors = self.machine.output("cat", home + "/err")
        self.assertEqual(done.returncode, 0, errors)
        self.assertRegex(self.machine.output("cat", home + "/out"), r"\Aport 30\d\d\Z", errors)
        # The bus has gone, nobody is left to serve: so goes the daemon.
        for pid in self.machine.run("pgrep", "-u", "bob", "styxyd", check=False).stdout.split():
            self.machine.run("timeout", "20", "tail", f"--pid={pid}", "-f", "/dev/null")


if __name__ == "__main__":
    nspawn.main()
