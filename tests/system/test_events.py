#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""What is said, to whom: the journal with its explanations, the level of the log, and what others see."""

import json
import queue
import subprocess
import threading
import time

import nspawn

NAME = "org.styxy.Ports"
PATH = "/org/styxy/Ports"
DIRECT = "unix:path=/run/styxy/bus"
UNIT = "styxyd.service"
LOG_CONTROL = (NAME, "/org/freedesktop/LogControl1", "org.freedesktop.LogControl1")

OWNER = 2001
OTHER = 2002
SECRET = "s3cret"

CONFIGURATION = {
    "recovery": {
        "health_monitoring": {
            "check_interval_ms": 100,
            "max_failures": 3,
            "startup_grace_ms": 1000,
            "http_timeout_ms": 500,
        }
    }
}

# Prints all that a user can learn: every answer and every signal, as text, until told to end.
SPY = """
import sys
from gi.repository import Gio, GLib
if sys.argv[1] == "system":
    bus = Gio.bus_get_sync(Gio.BusType.SYSTEM)
else:
    bus = Gio.DBusConnection.new_for_address_sync(
        sys.argv[1], Gio.DBusConnectionFlags.AUTHENTICATION_CLIENT
        | Gio.DBusConnectionFlags.MESSAGE_BUS_CONNECTION, None, None)
def call(method, arguments=None, interface="org.styxy.Ports"):
    try:
        answer = bus.call_sync("org.styxy.Ports", "/org/styxy/Ports", interface, method, arguments,
                               None, 0, 50000, None)
    except GLib.Error as error:
        answer = error.message
    print(method, answer, flush=True)
bus.signal_subscribe(None, None, None, None, None, 0, lambda _b, _s, _p, _i, name, arguments:
                     print("signal", name, arguments, flush=True))
call("Subscribe")
print("listening", flush=True)
def look(lease):
    call("GetLease", GLib.Variant("(s)", (lease,)))
    for filter in ({}, {"range": GLib.Variant("(qq)", (3000, 3099))}):
        call("List", GLib.Variant("(a{sv})", (filter,)))
    call("CheckPort", GLib.Variant("(qs)", (3003, "tcp")))
    call("Scan", GLib.Variant("(qq)", (1, 65535)))
    call("GetRecoveryReport")
    call("GetMetrics")
    call("Cleanup", GLib.Variant("(a{sv})", ({"dry_run": GLib.Variant("b", True)},)))
    call("Renew", GLib.Variant("(s)", (lease,)))
    call("Allocate", GLib.Variant("(sa{sv})", ("dev", {"port": GLib.Variant("q", 3003),
         "strict": GLib.Variant("b", True), "retries": GLib.Variant("u", 0)})))
    if sys.argv[2] == "stranger": # whom it is refused
        call("Release", GLib.Variant("(s)", (lease,)))
        call("ReleasePort", GLib.Variant("(qs)", (3003, "tcp")))
    call("GetAll", GLib.Variant("(s)", ("org.styxy.Ports",)), "org.freedesktop.DBus.Properties")
    print("looked", flush=True)
def order(channel, _condition):
    word = sys.stdin.readline().strip()
    if not word:
        loop.quit()
        return False
    look(word)
    return True
loop = GLib.MainLoop()
GLib.io_add_watch(sys.stdin.fileno(), GLib.IO_IN | GLib.IO_HUP, order)
loop.run()
"""


class Spy:
    def __init__(self, machine, uid, where):
        self.text = ""
        self.lines = queue.Queue()
        self.process = machine.popen("/usr/bin/python3", "-c", SPY, where,
                                     "stranger" if uid == OTHER else "known", uid=uid,
                                     stdin=subprocess.PIPE, stdout=subprocess.PIPE)  # fmt: skip
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()
        self.read_to("listening")

    def _read(self):
        for line in self.process.stdout:
            self.lines.put(line)
        self.lines.put("")

    def read_to(self, wanted, seconds=60):
        """Reads on to the line that holds WANTED; the empty one is the end."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                line = self.lines.get(timeout=max(deadline - time.monotonic(), 0))
            except queue.Empty:
                raise AssertionError(f"no {wanted!r} in {seconds} s: {self.text}") from None
            self.text += line
            if line and wanted in line:
                return
            if not line:
                raise AssertionError(f"it ended before {wanted!r}: {self.text}")

    def look(self, lease):
        self.process.stdin.write(lease + "\n")
        self.process.stdin.flush()
        self.read_to("looked")

    def end(self):
        """All that it learnt."""
        self.process.stdin.close()
        self.process.wait(30)
        self.reader.join(30)
        while not self.lines.empty():
            self.text += self.lines.get()
        self.process.stdout.close()
        return self.text

    def kill(self):
        self.process.kill()
        self.process.wait()


class EventsTest(nspawn.MachineTest):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        for name, uid in (("owner", OWNER), ("other", OTHER)):
            cls.machine.run("useradd", "-m", "-u", str(uid), "-U", name)
        cls.machine.write("/etc/styxy/core-ports.d/50-test.json", json.dumps(CONFIGURATION))
        # what is asked of polkit is refused at once, whatever agents and sessions there are
        cls.machine.write("/etc/polkit-1/rules.d/10-test.rules",
                          "polkit.addRule(function () { return polkit.Result.NO; });\n")  # fmt: skip
        cls.machine.run("systemctl", "restart", "polkit.service")
        cls.machine.run("journalctl", "--update-catalog")

    def setUp(self):
        self.machine.run("systemctl", "stop", UNIT)
        self.machine.run("systemctl", "reset-failed")
        self.machine.run("sh", "-c", "rm -rf /var/lib/styxy/*")
        self.machine.run("systemctl", "start", "polkit.service", "styxyd.socket", UNIT)
        self.invocation = self.machine.show(UNIT, "InvocationID")

    def log(self, *matches):
        return self.machine.journal(f"_SYSTEMD_INVOCATION_ID={self.invocation}", *matches)

    def explained(self, *matches, language="C.UTF-8"):
        self.machine.run("journalctl", "--sync")
        return self.machine.output("journalctl", "-x", "--no-pager", *matches,
                                   f"_SYSTEMD_INVOCATION_ID={self.invocation}",
                                   env={"LC_ALL": language})  # fmt: skip

    def ctl(self, *words, uid=0, **more):
        return self.machine.run("styxyctl", *words, uid=uid, **more)

    # -- the journal -----------------------------------------------------------------------------

    def test_fields_and_explanations(self):
        lease = json.loads(self.ctl("allocate", "dev", "--json=short", uid=OWNER).stdout)["lease"]
        self.ctl("release", lease, uid=OWNER)
        entries = self.log(f"STYXY_LEASE={lease}")
        self.assertEqual([one["MESSAGE"].split()[0] for one in entries], ["granted", "released"])
        for one in entries:
            self.assertEqual((one["STYXY_PORT"], one["STYXY_PROTO"], one["STYXY_SERVICE"],
                              one["STYXY_UID"], one["_SYSTEMD_UNIT"], one["SYSLOG_IDENTIFIER"]),
                             ("3000", "tcp", "dev", str(OWNER), UNIT, "styxyd"))  # fmt: skip
        self.assertEqual(entries[1]["STYXY_REASON"], "released")
        text = self.explained(f"STYXY_LEASE={lease}")
        self.assertIn("Subject: Port 3000 was granted", text)
        self.assertIn(f"was granted 3000/tcp with the lease {lease}", text)
        self.assertIn("Subject: Port 3000 was given back", text)
        self.assertNotIn("@STYXY", text)

    def test_the_catalog_is_complete(self):
        """As it is installed and compiled: in both languages, for all that this daemon has said."""
        listed = self.machine.output("journalctl", "--list-catalog", "--no-pager")
        self.ctl("recover")
        ids = {one["MESSAGE_ID"] for one in self.log() if int(one["PRIORITY"]) <= 5
               and one.get("SYSLOG_IDENTIFIER") == "styxyd"}  # fmt: skip
        self.assertGreaterEqual(len(ids), 2)
        for one in ids:
            self.assertRegex(listed, rf"(?m)^{one} ")
        for one in self.log():
            if one.get("SYSLOG_IDENTIFIER") == "styxyd" and int(one["PRIORITY"]) <= 5:
                self.assertIn("MESSAGE_ID", one)

    def test_german(self):
        self.ctl("reload")
        locales = self.machine.output("locale", "-a")
        if "de_DE.utf8" not in locales:
            self.machine.run("localedef", "-i", "de_DE", "-f", "UTF-8", "de_DE.UTF-8", check=False)
        text = self.explained(language="de_DE.UTF-8")
        if "de_DE.utf8" in self.machine.output("locale", "-a"):
            self.assertIn("Subject: Die Konfiguration wurde gelesen", text)

    def test_bad_configuration_is_explained_and_forges_nothing(self):
        name = "/etc/styxy/core-ports.d/60-bad.json"
        key = "x\nSTYXY_FORGED=1\nMESSAGE_ID=00000000000000000000000000000000"
        self.machine.write(name, json.dumps({key: 1}))
        try:
            self.assertEqual(self.ctl("reload", check=False).returncode, 1)
        finally:
            self.machine.run("rm", name)
        entry = [one for one in self.log() if "STYXY_ERROR" in one][-1]
        self.assertIn("60-bad.json:1", entry["STYXY_ERROR"])
        self.assertEqual(self.log("STYXY_FORGED=1"), [])
        self.assertEqual(self.machine.journal("MESSAGE_ID=" + "0" * 32), [])
        self.assertIn("Subject: The new configuration is not valid and was refused", self.explained())

    def test_labels_forge_nothing(self):
        for label in ("a\nSTYXY_PORT=1", "a\nPRIORITY=0", "a\n\nMESSAGE=forged", "\n"):
            done = self.machine.run(
                "busctl", "call", NAME, PATH, NAME, "Allocate", "sa{sv}", "dev", "1", "label", "s", label,
                uid=OWNER, check=False,
            )  # fmt: skip
            self.assertNotEqual(done.returncode, 0)
            self.assertIn("label", done.stderr)
        self.assertEqual(self.log("STYXY_PORT=1"), [])
        self.assertNotIn("forged", json.dumps(self.log()))

    # -- LogControl1 -----------------------------------------------------------------------------

    def test_level(self):
        level = ("systemctl", "service-log-level", UNIT)
        self.assertEqual(self.machine.output(*level), "info")
        self.machine.run(*level, "warning")
        self.assertEqual(self.machine.output(*level), "warning")
        lease = json.loads(self.ctl("allocate", "dev", "--json=short").stdout)["lease"]
        self.assertEqual(self.log(f"STYXY_LEASE={lease}"), [])
        self.machine.run("busctl", "set-property", *LOG_CONTROL, "LogLevel", "s", "debug")
        self.assertEqual(self.machine.output("busctl", "get-property", *LOG_CONTROL, "LogLevel"),
                         's "debug"')  # fmt: skip
        self.ctl("release", lease)
        self.assertEqual(len(self.log(f"STYXY_LEASE={lease}")), 1)
        refused = self.machine.run("busctl", "set-property", *LOG_CONTROL, "LogLevel", "s", "emerg",
                                   uid=OTHER, check=False)  # fmt: skip
        self.assertNotEqual(refused.returncode, 0)
        refused = self.machine.run(*level, "loud", check=False)
        self.assertNotEqual(refused.returncode, 0)
        self.assertEqual(self.machine.output(*level), "debug")
        self.assertEqual(self.machine.output("busctl", "get-property", *LOG_CONTROL,
                                             "SyslogIdentifier"), 's "styxyd"')  # fmt: skip

    # -- privacy ---------------------------------------------------------------------------------

    def test_what_others_see(self):
        """Through the whole life of a lease with a label and a health URL that only its owner knows."""
        spies = [Spy(self.machine, OTHER, where) for where in ("system", DIRECT)]
        known = [Spy(self.machine, uid, where) for uid in (OWNER, 0) for where in ("system", DIRECT)]
        for spy in (*spies, *known):
            self.addCleanup(spy.kill)
        lease = json.loads(self.ctl("allocate", "dev", "--port=3003", "--strict", f"--label={SECRET}",
                                    f"--health-url=http://127.0.0.1:3003/{SECRET}", "--json=short",
                                    "--on-unhealthy=notify", uid=OWNER).stdout)["lease"]  # fmt: skip
        for spy in (*spies, *known):
            spy.look(lease)
        # it serves, but not that page: its check fails
        server = self.machine.popen("/usr/bin/python3", "-m", "http.server", "3003", uid=OWNER,
                                    stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # fmt: skip
        try:
            for spy in spies:
                spy.read_to("'failing'")
        finally:
            server.kill()
            server.wait()
        self.ctl("recover")
        for spy in spies:
            spy.look(lease)
        self.ctl("release", lease, uid=OWNER)
        for spy in spies:
            spy.read_to("PortReleased")
        said = [spy.end() for spy in spies]
        told = [spy.end() for spy in known]
        for text in said:
            self.assertNotIn(SECRET, text)
            for name in ("PortAllocated", "HealthChanged", "RecoveryFinished", "PortReleased"):
                self.assertIn("signal " + name, text)
            self.assertIn("3003", text)
        for text in told:
            self.assertIn(f"'label': <'{SECRET}'>", text)
            self.assertIn("health_url", text)
            for line in text.splitlines():
                if line.startswith("signal"):
                    self.assertNotIn(SECRET, line)
        self.assertNotIn(SECRET, json.dumps(self.log()))
        self.assertEqual(self.machine.output("stat", "-c", "%a %U", "/var/lib/styxy"), "700 styxy")


if __name__ == "__main__":
    nspawn.main()
