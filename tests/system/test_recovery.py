#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""The word of the daemon under a real systemd: SIGKILL again and again while clients go on calling,
a disk that is full, a broker that goes away, and what a start says of all that."""

import json
import os
import pathlib
import random
import subprocess

import nspawn

NAME = "org.styxy.Ports"
PATH = "/org/styxy/Ports"
DIRECT = "unix:path=/run/styxy/bus"
UNIT = "styxyd.service"
STATE = "/var/lib/styxy"
KILLS = int(os.environ.get("STYXY_RECOVERY_KILLS", "30"))
SEED = int(os.environ.get("STYXY_RECOVERY_SEED", "0")) or random.SystemRandom().randrange(1, 1 << 31)

# The unit may be started twenty times in ten seconds.
KILL_EVERY_SECONDS = 0.6

CONFIG = {
    "service_types": {
        "load": {"port_range": [12000, 12499]},
        "small": {"port_range": [12500, 12599]},
    },
    "recovery": {
        "health_monitoring": {"enabled": False},
        # Kills during recovery are what a test here does: they are no crash loop.
        "system_recovery": {"max_recovery_attempts": 100},
    },
}

# Under this name in the machine, whose root need not have the source tree.
CLIENT = "/run/recovery_client.py"
CLIENT_TEXT = pathlib.Path(__file__).with_name("recovery_client.py").read_text(encoding="utf-8")

# Prints each signal of the daemon as a line of JSON, whoever owns the name, until its stdin is closed.
LISTENER = """
import json, os, sys
from gi.repository import Gio, GLib
bus = Gio.bus_get_sync(Gio.BusType.SYSTEM)
GLib.io_add_watch(0, GLib.PRIORITY_DEFAULT, GLib.IO_IN | GLib.IO_HUP, lambda *_: os._exit(0))
def told(_bus, _sender, _path, interface, member, arguments):
    print(json.dumps([member, arguments.unpack()]), flush=True)
for interface in ("org.styxy.Ports", "org.freedesktop.DBus.Properties"):
    bus.signal_subscribe("org.styxy.Ports", interface, None, "/org/styxy/Ports", None, 0, told)
# The broker knows the matches when it has answered something else.
bus.call_sync("org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus", "GetId",
              None, None, 0, -1, None)
print(json.dumps(["listening", []]), flush=True)
GLib.MainLoop().run()
"""

# Has a lease as long as its connection lives, and says which; goes on when it is told to.
HOLDER = """
import sys
from gi.repository import Gio, GLib
address = sys.argv[1]
flags = Gio.DBusConnectionFlags.AUTHENTICATION_CLIENT | Gio.DBusConnectionFlags.MESSAGE_BUS_CONNECTION
bus = (Gio.bus_get_sync(Gio.BusType.SYSTEM) if address == "system"
       else Gio.DBusConnection.new_for_address_sync(address, flags, None, None))
bus.set_exit_on_close(False)
port, lease, _ = bus.call_sync(
    "org.styxy.Ports", "/org/styxy/Ports", "org.styxy.Ports", "Allocate",
    GLib.Variant("(sa{sv})", ("small", {"lifetime": GLib.Variant("s", "client")})),
    None, 0, 20000, None).unpack()
print(lease, flush=True)
sys.stdin.read()
"""


class RecoveryTest(nspawn.MachineTest):
    def setUp(self):
        self.machine.run("rm", "-rf", "/etc/systemd/system/styxyd.service.d")
        self.machine.run("systemctl", "daemon-reload")
        self.machine.run("systemctl", "stop", UNIT)
        self.machine.run("systemctl", "reset-failed", check=False)
        self.machine.run("sh", "-c", f"rm -rf {STATE}/*")
        self.machine.write("/etc/styxy/core-ports.json", json.dumps(CONFIG))
        self.machine.run("systemctl", "start", "styxyd.socket")

    def call(self, method, *arguments, bus="system", check=True):
        where = "--system" if bus == "system" else f"--address={DIRECT}"
        done = self.machine.run(
            "busctl", where, "--json=short", "call", NAME, PATH, NAME, method, *arguments, check=check)
        if not check:
            return done
        return json.loads(done.stdout)["data"] if done.stdout.strip() else None

    def property(self, name):
        return json.loads(self.machine.output(
            "busctl", "--json=short", "get-property", NAME, PATH, NAME, name))["data"]

    def allocate(self, **options):
        words = [word for key, value in options.items() for word in (key, "s", value)]
        return self.call("Allocate", "sa{sv}", "small", str(len(options)), *words)[:2]

    def leases(self):
        """lease -> what List says of it, plain values."""
        listed = [{key: value["data"] for key, value in lease.items()}
                  for lease in self.call("List", "a{sv}", "0")[0]]
        self.assertEqual(len({lease["port"] for lease in listed}), len(listed), listed)
        return {lease["lease"]: lease for lease in listed}

    def main_pid(self):
        return int(self.machine.show(UNIT, "MainPID"))

    def kill(self):
        self.machine.run("systemctl", "kill", "--kill-whom=main", "-s", "KILL", UNIT)

    def program(self, text, *arguments, **options):
        process = self.machine.popen(
            "/usr/bin/python3", "-c", text, *arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            **options)
        self.addCleanup(self.end, process)
        return process

    @staticmethod
    def end(process):
        # A kill would reach nsenter alone.
        process.stdin.close()
        process.wait(nspawn.RUN_SECONDS)
        process.stdout.close()

    def listen(self):
        """A listener whose signals are read with next_signal()."""
        listener = self.program(LISTENER)
        self.assertEqual(json.loads(listener.stdout.readline())[0], "listening")
        return listener

    def next_signal(self, listener, wanted):
        """Reads on to the first signal that WANTED says yes to; the test's own time limit ends a wait."""
        while True:
            line = listener.stdout.readline()
            self.assertTrue(line, "the listener ended")
            member, arguments = json.loads(line)
            if wanted(member, arguments):
                return member, arguments

    def await_state(self, listener, state):
        return self.next_signal(
            listener, lambda member, arguments: member == "PropertiesChanged"
            and arguments[1].get("State") == state)[1][1]

    # -- SIGKILL under load ----------------------------------------------------------------------

    def test_kills(self):
        """Every answer that a client got before, between and after the kills is true."""
        print(f"STYXY_RECOVERY_SEED={SEED}", flush=True)
        self.machine.write(CLIENT, CLIENT_TEXT)
        clients = []
        for number, address in enumerate(["system", DIRECT] * 2):
            clients.append(self.machine.popen(
                "/usr/bin/python3", CLIENT, "client", address, str(number), str(SEED + number),
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE))
        try:
            done = self.machine.run(
                "/usr/bin/python3", CLIENT, "killer", str(KILLS), str(SEED), str(KILL_EVERY_SECONDS),
                seconds=60 + 10 * KILLS, check=False)
            self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
            known = []
            for client in clients:
                text, errors = client.communicate(timeout=120)
                self.assertEqual(client.returncode, 0, text + errors)
                known.append(json.loads(text))
        finally:
            for client in clients:
                client.kill()

        # One more life, then all facts of all clients against the whole list. It is not to count
        # with the kills: a unit is not started more than so often in so many seconds.
        self.machine.run("systemctl", "reset-failed", check=False)
        self.kill()
        there = self.leases()
        held = {lease: port for facts in known for lease, port in facts["held"].items()}
        for lease, port in held.items():
            self.assertIn(lease, there, "granted, and lost")
            self.assertEqual(there[lease]["port"], port)
        for facts in known:
            for lease in facts["released"]:
                self.assertNotIn(lease, there, "released, and there again")
        unsure = {label for facts in known for label in facts["unsure"]}
        for lease, entry in there.items():
            self.assertTrue(lease in held or entry["label"] in unsure, f"nobody asked for {entry}")
        counts = {key: sum(facts[key] for facts in known) for key in ("grants", "releases", "lists", "cut")}
        print(f"{KILLS} kills: {counts}, {len(held)} held at the end", flush=True)
        # Without these there was no load, or nobody noticed the kills.
        self.assertGreater(counts["grants"], 5 * KILLS)
        self.assertGreater(counts["releases"], 2 * KILLS)
        self.assertGreater(counts["cut"], 0)

    # -- a full disk -----------------------------------------------------------------------------

    def small_disk(self):
        uid = self.machine.output("id", "-u", "styxy")
        gid = self.machine.output("id", "-g", "styxy")
        self.machine.run("mkdir", "-p", STATE)
        self.machine.run(
            "mount", "-t", "tmpfs", "-o", f"size=512k,mode=0700,uid={uid},gid={gid}", "tmpfs", STATE)

    def test_full_disk(self):
        self.small_disk()
        try:
            self.full_disk()
        finally:
            self.machine.run("systemctl", "stop", UNIT)
            self.machine.run("umount", STATE)

    def full_disk(self):
        listener = self.listen()
        kept = {}
        for lifetime in ("persistent", "auto"):
            port, lease = self.allocate(lifetime=lifetime)
            kept[lease] = port
        pid = self.main_pid()
        self.machine.run("dd", "if=/dev/zero", f"of={STATE}/fill", "bs=1k", check=False)
        for lifetime in ("auto", "persistent"):
            # What is left of the journal's last block takes a few records.
            for _ in range(60):
                done = self.call(
                    "Allocate", "sa{sv}", "small", "1", "lifetime", "s", lifetime, check=False)
                if done.returncode != 0:
                    break
                port, lease, _ = json.loads(done.stdout)["data"]
                kept[lease] = port
            self.assertNotEqual(done.returncode, 0)
            self.assertIn("nothing was granted", done.stderr)
        self.await_state(listener, "degraded")
        self.assertEqual(self.property("State"), "degraded")
        self.assertIn("state.journal", self.property("StateReason"))
        self.assertIn("No space left", self.property("StateReason"))
        # The end of a lease is a shorter record than a lease: it may fit, and then it is true.
        for lease in list(kept)[1:]:
            done = self.call("Release", "s", lease, check=False)
            if done.returncode != 0:
                break
            del kept[lease]
        self.assertIn("nothing was released", done.stderr)
        self.assertEqual({lease: entry["port"] for lease, entry in self.leases().items()}, kept)
        status = self.machine.output("styxyctl", "status")
        self.assertIn("degraded", status)

        # Nobody calls, and it comes back.
        listener = self.listen()
        self.machine.run("rm", f"{STATE}/fill")
        changed = self.await_state(listener, "running")
        self.assertEqual(changed["StateReason"], "")
        self.assertEqual(self.main_pid(), pid)
        words = [entry["MESSAGE"] for entry in self.machine.journal(f"_SYSTEMD_UNIT={UNIT}", f"_PID={pid}")]
        self.assertTrue([word for word in words if "the state cannot be written" in word], words)
        self.assertTrue([word for word in words if "the state can be written again" in word], words)
        self.call("Release", "s", list(kept)[0])
        del kept[list(kept)[0]]
        port, lease = self.allocate(lifetime="persistent")
        kept[lease] = port
        self.kill()
        self.assertEqual({lease: entry["port"] for lease, entry in self.leases().items()}, kept)

    def test_full_from_the_start(self):
        """A daemon that can't write its state comes up, serves what it knows and grants nothing."""
        self.small_disk()
        try:
            lease = self.allocate(lifetime="persistent")[1]
            self.machine.run("systemctl", "stop", UNIT)
            self.machine.run("dd", "if=/dev/zero", f"of={STATE}/fill", "bs=1k", check=False)
            listener = self.listen()
            self.assertEqual(list(self.leases()), [lease])
            self.assertEqual(self.property("State"), "degraded")
            done = self.call("Allocate", "sa{sv}", "small", "0", check=False)
            self.assertIn("nothing was granted", done.stderr)
            self.machine.run("rm", f"{STATE}/fill")
            self.await_state(listener, "running")
            another = self.allocate()[1]
            self.kill()
            self.assertEqual(set(self.leases()), {lease, another})
        finally:
            self.machine.run("systemctl", "stop", UNIT)
            self.machine.run("umount", STATE)

    # -- what a start says -----------------------------------------------------------------------

    STEPS = ["validate-state", "validate-config", "clean-orphans", "verify-singletons", "rebuild-indices"]

    def recovery(self, listener):
        """The signals of one recovery: trigger, steps by name, released leases, summary."""
        _, (trigger,) = self.next_signal(listener, lambda member, _: member == "RecoveryStarted")
        steps, released = {}, {}
        while True:
            member, arguments = self.next_signal(listener, lambda *_: True)
            if member == "RecoveryStep":
                steps[arguments[0]] = arguments[1]
            elif member == "PortReleased":
                released[arguments[0]] = arguments[2]
            elif member == "RecoveryFinished":
                return trigger, steps, released, arguments

    def test_signals_and_report(self):
        sleeper = self.machine.popen("sleep", "300", stdout=subprocess.PIPE)
        pid = self.machine.output("pgrep", "-nx", "sleep")
        orphan = self.call("Allocate", "sa{sv}", "small", "1", "pid", "u", pid)[1]
        kept = self.allocate(lifetime="persistent")[1]
        self.machine.run("systemctl", "stop", UNIT)
        self.machine.run("kill", "-KILL", pid)
        sleeper.wait()
        sleeper.stdout.close()
        listener = self.listen()
        self.call("GetMetrics")
        trigger, steps, released, (ok, summary) = self.recovery(listener)
        self.assertEqual((trigger, ok), ("startup", True))
        self.assertEqual(list(steps), self.STEPS)
        self.assertEqual(steps["clean-orphans"], "repaired")
        self.assertEqual(released, {orphan: "orphaned"})
        self.assertEqual((summary["kept"], summary["released"]), (1, 1))
        report = {key: value["data"] for key, value in self.call("GetRecoveryReport")[0].items()}
        self.assertEqual((report["trigger"], report["kept"], report["released"]), ("startup", 1, 1))
        self.assertEqual(list(self.leases()), [kept])

        # On request: nothing to mend, and a dry run tells nobody.
        ok, dry = self.call("Recover", "a{sv}", "1", "dry_run", "b", "true")
        self.assertEqual((ok, [step[0] for step in dry]), (True, self.STEPS))
        done = self.machine.run("styxyctl", "recover", "--dry-run")
        for step in self.STEPS:
            self.assertIn(step, done.stdout)
        self.machine.run("styxyctl", "recover")
        trigger, steps, released, (ok, _) = self.recovery(listener)
        self.assertEqual((trigger, ok, released), ("request", True, {}))
        self.assertIn("recover", self.machine.output("styxyctl", "status").lower())

    # -- without a broker ------------------------------------------------------------------------

    def test_broker_restart(self):
        """The direct socket is served meanwhile; leases of lost connections have a grace."""
        holders = [self.program(HOLDER, address) for address in ("system", DIRECT)]
        of_bus, of_direct = [holder.stdout.readline().strip() for holder in holders]
        pid = self.main_pid()
        broker = "dbus-broker.service" if self.broker == "dbus-broker" else "dbus.service"
        self.machine.run("systemctl", "stop", "dbus.socket", broker)
        try:
            for _ in range(5):
                port, lease = self.call("Allocate", "sa{sv}", "small", "0", bus="direct")[:2]
                self.call("Release", "s", lease, bus="direct")
            listed = self.call("List", "a{sv}", "0", bus="direct")[0]
            self.assertEqual({entry["lease"]["data"] for entry in listed}, {of_bus, of_direct})
        finally:
            self.machine.run("systemctl", "start", "dbus.socket", broker)
        # By itself: nobody's call starts or wakes it.
        self.machine.run("/usr/bin/python3", "-c", AWAIT_OWNER, NAME)
        self.assertEqual(self.main_pid(), pid)
        self.assertEqual(set(self.leases()), {of_bus, of_direct})
        # A connection that ends is no lost one: its lease ends at once.
        listener = self.listen()
        holders[1].stdin.close()
        self.next_signal(listener, lambda member, arguments: member == "PortReleased" and arguments[0] == of_direct)
        self.assertIn(of_bus, self.leases())


# Waits until somebody owns the name, without asking for it to be started.
AWAIT_OWNER = """
import sys
from gi.repository import Gio, GLib
loop = GLib.MainLoop()
Gio.bus_watch_name(Gio.BusType.SYSTEM, sys.argv[1], 0, lambda *_: loop.quit(), None)
GLib.timeout_add_seconds(60, lambda: sys.exit("nobody owns the name after 60 s"))
loop.run()
"""


if __name__ == "__main__":
    nspawn.main()
