#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Who may do what: root, owner and others, with polkit saying yes, no, nothing, and late."""

import json
import subprocess
import time

import nspawn

NAME = "org.styxy.Ports"
PATH = "/org/styxy/Ports"
DIRECT = "unix:path=/run/styxy/bus"
UNIT = "styxyd.service"

OWNER = 2001  # nobody grants him anything
TRUSTED = 2002  # polkit grants him all
OTHER = 2003  # polkit grants him nothing

RULES = """
polkit.addRule(function (action, subject) {
    if (action.id.indexOf("org.styxy.Ports.") == 0)
        return subject.user == "trusted" ? polkit.Result.YES : polkit.Result.NO;
});
"""

NOT_OWNER = "org.styxy.Ports.Error.NotOwner"
NOT_AUTHORIZED = "org.styxy.Ports.Error.NotAuthorized"

# One call, with the name of the error where it is refused, which busctl does not tell.
CALLER = """
import json, sys
from gi.repository import Gio, GLib
address, method, signature, arguments, interactive = sys.argv[1:6]
if address == "system":
    bus = Gio.bus_get_sync(Gio.BusType.SYSTEM)
else:
    bus = Gio.DBusConnection.new_for_address_sync(
        address, Gio.DBusConnectionFlags.AUTHENTICATION_CLIENT
        | Gio.DBusConnectionFlags.MESSAGE_BUS_CONNECTION, None, None)
flags = Gio.DBusCallFlags.ALLOW_INTERACTIVE_AUTHORIZATION if interactive == "yes" else 0
print("calling", flush=True)
try:
    answer = bus.call_sync("org.styxy.Ports", "/org/styxy/Ports", "org.styxy.Ports", method,
                           GLib.Variant.parse(GLib.VariantType(signature), arguments, None, None)
                           if signature != "()" else None, None, flags, 40000, None)
    print(json.dumps(["ok", answer.unpack()]))
except GLib.Error as error:
    print(json.dumps([Gio.DBusError.get_remote_error(error) or "local", error.message]))
"""


class AuthorityTest(nspawn.MachineTest):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        for name, uid in (("owner", OWNER), ("trusted", TRUSTED), ("other", OTHER)):
            cls.machine.run("useradd", "-m", "-u", str(uid), "-U", name)
        cls.machine.write("/etc/polkit-1/rules.d/10-test.rules", RULES)

    def setUp(self):
        self.machine.run("systemctl", "unmask", "--runtime", "polkit.service")
        self.machine.run("systemctl", "restart", "polkit.service")
        self.machine.run("systemctl", "stop", UNIT)
        self.machine.run("systemctl", "reset-failed")
        self.machine.run("sh", "-c", "rm -rf /var/lib/styxy/*")
        self.machine.run("systemctl", "start", "styxyd.socket", UNIT)

    def argv(self, uid, method, signature, arguments, where, interactive):
        address = "system" if where == "bus" else DIRECT
        return ("/usr/bin/python3", "-c", CALLER, address, method, signature, arguments,
                "yes" if interactive else "no")  # fmt: skip

    def call(self, uid, method, signature="()", arguments="", where="bus", interactive=False):
        done = self.machine.run(
            *self.argv(uid, method, signature, arguments, where, interactive), uid=uid
        )
        return json.loads(done.stdout.splitlines()[-1])

    def allocate(self, uid, options="{}", where="bus", service="dev"):
        status, answer = self.call(uid, "Allocate", "(sa{sv})", f"('{service}', {options})", where)
        return status, answer

    def lease(self, uid):
        status, answer = self.allocate(uid)
        self.assertEqual(status, "ok", answer)
        return answer[1]

    def release(self, uid, lease, where="bus", interactive=False):
        return self.call(uid, "Release", "(s)", f"('{lease}',)", where, interactive)[0]

    # -- the table -------------------------------------------------------------------------------

    def test_release(self):
        for where in ("bus", "direct"):
            for uid, expected in ((0, "ok"), (OWNER, "ok"), (TRUSTED, "ok"), (OTHER, NOT_OWNER)):
                with self.subTest(where=where, uid=uid):
                    lease = self.lease(OWNER)
                    self.assertEqual(self.release(uid, lease, where), expected)
                    if expected != "ok":
                        self.assertEqual(self.release(OWNER, lease), "ok")

    def test_administration(self):
        for where in ("bus", "direct"):
            for method, signature, arguments in (
                ("Reload", "()", ""),
                ("Recover", "(a{sv})", "({},)"),
            ):
                for uid, expected in ((0, "ok"), (TRUSTED, "ok"), (OTHER, NOT_AUTHORIZED)):
                    with self.subTest(where=where, method=method, uid=uid):
                        status, answer = self.call(uid, method, signature, arguments, where)
                        self.assertEqual(status, expected, answer)

    def test_privileged_port(self):
        for where in ("bus", "direct"):
            for uid, expected in ((0, "ok"), (TRUSTED, "ok"), (OTHER, NOT_AUTHORIZED)):
                with self.subTest(where=where, uid=uid):
                    status, answer = self.allocate(
                        uid, "{'port': <uint16 99>, 'strict': <true>}", where
                    )
                    self.assertEqual(status, expected, answer)
                    if expected == "ok":
                        self.assertEqual(answer[0], 99)
                        self.assertEqual(self.release(0, answer[1]), "ok")

    def test_foreign_process(self):
        sleeper = self.machine.popen("sleep", "60", uid=OWNER)
        try:
            pid = self.machine.output("pgrep", "-u", str(OWNER), "-x", "sleep")
            for uid, expected in ((0, "ok"), (OWNER, "ok"), (TRUSTED, "ok"), (OTHER, NOT_OWNER)):
                with self.subTest(uid=uid):
                    status, answer = self.allocate(uid, f"{{'pid': <uint32 {pid}>}}")
                    self.assertEqual(status, expected, answer)
        finally:
            sleeper.kill()
            sleeper.wait()

    def test_foreign_health_check(self):
        option = "{'health_url': <'http://127.0.0.1:9/'>}"
        for uid, expected in ((0, "ok"), (TRUSTED, "ok"), (OTHER, NOT_AUTHORIZED)):
            with self.subTest(uid=uid):
                status, answer = self.allocate(uid, option)
                self.assertEqual(status, expected, answer)
        status, answer = self.allocate(OTHER, "{'health_url': <'http://127.0.0.1:{port}/'>}")
        self.assertEqual(status, "ok", answer)
        for url in ("http://192.0.2.1/", "http://example.org/", "ftp://127.0.0.1/"):
            status, _ = self.allocate(0, f"{{'health_url': <'{url}'>}}")
            self.assertEqual(status, "org.styxy.Ports.Error.InvalidArgument")

    def test_cleanup_is_of_the_own_leases(self):
        """Nobody is refused; who may not clean up for others cleans up for himself."""
        self.lease(OWNER)
        for uid in (OTHER, TRUSTED, 0):
            status, answer = self.call(uid, "Cleanup", "(a{sv})", "({'dry_run': <true>},)")
            self.assertEqual(status, "ok", answer)

    def test_privacy(self):
        status, answer = self.allocate(OWNER, "{'label': <'mine'>}")
        self.assertEqual(status, "ok", answer)
        for uid, seen in ((0, True), (OWNER, True), (OTHER, False)):
            status, got = self.call(uid, "GetLease", "(s)", f"('{answer[1]}',)")
            self.assertEqual(status, "ok", got)
            self.assertEqual("label" in got[0], seen)

    # -- polkit itself ---------------------------------------------------------------------------

    def test_no_polkit_is_no(self):
        lease = self.lease(OWNER)
        self.machine.run("systemctl", "stop", "polkit.service")
        self.machine.run("systemctl", "mask", "--runtime", "polkit.service")
        for where in ("bus", "direct"):
            self.assertEqual(self.release(TRUSTED, lease, where), NOT_OWNER)
            self.assertEqual(self.release(TRUSTED, lease, where, interactive=True), NOT_OWNER)
        self.assertEqual(self.release(OWNER, lease), "ok")

    def test_slow_polkit_holds_up_nobody_else(self):
        lease = self.lease(OWNER)
        polkitd = self.machine.output("pgrep", "-x", "polkitd")
        self.machine.run("kill", "-STOP", polkitd)
        try:
            asking = self.machine.popen(
                *self.argv(TRUSTED, "Release", "(s)", f"('{lease}',)", "bus", True),
                uid=TRUSTED, stdout=subprocess.PIPE,
            )  # fmt: skip
            self.assertEqual(asking.stdout.readline(), "calling\n")
            begin = time.monotonic()
            self.assertEqual(self.release(OWNER, self.lease(OWNER)), "ok")
            self.assertLess(time.monotonic() - begin, 5)
            self.assertIsNone(asking.poll())
        finally:
            self.machine.run("kill", "-CONT", polkitd)
        self.assertEqual(json.loads(asking.communicate(timeout=30)[0].splitlines()[-1])[0], "ok")

    def test_who_leaves_while_polkit_thinks(self):
        lease = self.lease(OWNER)
        polkitd = self.machine.output("pgrep", "-x", "polkitd")
        self.machine.run("kill", "-STOP", polkitd)
        try:
            for where in ("bus", "direct"):
                asking = self.machine.popen(
                    *self.argv(TRUSTED, "Release", "(s)", f"('{lease}',)", where, True),
                    uid=TRUSTED, stdout=subprocess.PIPE,
                )  # fmt: skip
                self.assertEqual(asking.stdout.readline(), "calling\n")
                # The one within: what was started here is the nsenter that waits for it.
                self.machine.run("pkill", "-KILL", "-u", str(TRUSTED), "-f", "Release")
                asking.communicate(timeout=30)
        finally:
            self.machine.run("kill", "-CONT", polkitd)
        status, _ = self.call(OWNER, "GetLease", "(s)", f"('{lease}',)")
        self.assertEqual(status, "ok")
        self.assertEqual(self.machine.show(UNIT, "NRestarts"), "0")
        self.assertEqual(self.release(OWNER, lease), "ok")


if __name__ == "__main__":
    nspawn.main()
