#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Who may do what: root, owner and others, with polkit saying yes, no, nothing, and late."""

import json
import select
import subprocess
import time

import nspawn

NAME = "org.styxy.Ports"
PATH = "/org/styxy/Ports"
UNIT = "styxyd.service"

OWNER = 2001  # nobody grants him anything
TRUSTED = 2002  # polkit grants him all
OTHER = 2003  # polkit grants him nothing

ASKED = 2004  # polkit would grant it to somebody who authenticates
NARROW = 2005  # polkit grants him what is about one unit

USERS = {"owner": OWNER, "trusted": TRUSTED, "other": OTHER, "asked": ASKED, "narrow": NARROW}

RULES = """
polkit.addRule(function (action, subject) {
    if (action.id.indexOf("org.styxy.Ports.") != 0)
        return polkit.Result.NOT_HANDLED;
    if (subject.user == "trusted")
        return polkit.Result.YES;
    if (subject.user == "asked")
        return polkit.Result.AUTH_ADMIN;
    if (subject.user == "narrow" && action.lookup("unit") == "mine.service" &&
        action.lookup("method") == "Allocate")
        return polkit.Result.YES;
    return polkit.Result.NO;
});
"""

NOT_OWNER = "org.styxy.Ports.Error.NotOwner"
NOT_AUTHORIZED = "org.styxy.Ports.Error.NotAuthorized"

# One user, with a connection to the bus, one to the direct socket, and one to the direct socket that
# a process made which has ended since. Takes calls as lines of JSON and answers each with a line, in
# the order in which the answers come.
AGENT = """
import json, os, socket, sys
from gi.repository import Gio, GLib
PATH = "/run/styxy/bus"
FLAGS = (Gio.DBusConnectionFlags.AUTHENTICATION_CLIENT
         | Gio.DBusConnectionFlags.MESSAGE_BUS_CONNECTION)
def over(fd):
    stream = Gio.Socket.new_from_fd(fd).connection_factory_create_connection()
    return Gio.DBusConnection.new_sync(stream, None, FLAGS, None, None)
def inherited():
    mine, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    pid = os.fork()
    if pid == 0:
        made = socket.socket(socket.AF_UNIX)
        made.connect(PATH)
        socket.send_fds(other, [b"x"], [made.fileno()])
        os._exit(0)
    fd = socket.recv_fds(mine, 1, 1)[1][0]
    os.waitpid(pid, 0)
    return over(fd)
def connect(where):
    if where == "bus":
        return Gio.bus_get_sync(Gio.BusType.SYSTEM)
    if where == "orphan":
        return inherited()
    return Gio.DBusConnection.new_for_address_sync("unix:path=" + PATH, FLAGS, None, None)
buses = {}
loop = GLib.MainLoop()
def say(*words):
    print(json.dumps(words), flush=True)
def call(number, where, path, interface, method, signature, text, interactive, pidfd):
    if where not in buses or buses[where].is_closed():
        buses[where] = connect(where)
    fds = None
    if pidfd:
        fds = Gio.UnixFDList.new()
        fd = os.pidfd_open(pidfd)
        fds.append(fd)
        os.close(fd)
    arguments = GLib.Variant.parse(GLib.VariantType(signature), text, None, None) if text else None
    def done(bus, result):
        try:
            say(number, "ok", bus.call_with_unix_fd_list_finish(result)[0].unpack())
        except GLib.Error as error:
            say(number, Gio.DBusError.get_remote_error(error) or "local", error.message)
    flags = Gio.DBusCallFlags.ALLOW_INTERACTIVE_AUTHORIZATION if interactive else 0
    buses[where].call_with_unix_fd_list(
        "org.styxy.Ports", path, interface, method, arguments, None, flags, 40000, fds, None, done)
rest = b""
def on_lines(fd, _condition):
    global rest
    data = os.read(fd, 65536)
    if not data:
        loop.quit()
        return False
    *lines, rest = (rest + data).split(b"\\n")
    for line in lines:
        words = json.loads(line)
        try:
            call(*words)
        except Exception as error:
            say(words[0], "local", repr(error))
    return True
GLib.io_add_watch(0, GLib.IOCondition.IN | GLib.IOCondition.HUP, on_lines)
loop.run()
"""


class Agent:
    """Calls as one user."""

    def __init__(self, machine, uid):
        self.process = machine.popen(
            "/usr/bin/python3", "-c", AGENT, uid=uid, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        self.number = 0
        self.answers = {}

    def begin(self, method, signature="()", text="", where="bus", interactive=False, pidfd=0,
              path=PATH, interface=NAME):  # fmt: skip
        self.number += 1
        words = [self.number, where, path, interface, method, signature, text, interactive, pidfd]
        self.process.stdin.write(json.dumps(words) + "\n")
        self.process.stdin.flush()
        return self.number

    def has(self, number):
        """Whether the answer is here already."""
        while select.select([self.process.stdout], [], [], 0)[0]:
            self.read()
        return number in self.answers

    def read(self):
        line = self.process.stdout.readline()
        assert line, "the agent has ended"
        number, status, answer = json.loads(line)
        self.answers[number] = (status, answer)

    def end(self, number):
        """(name of the error or "ok", its message or the values)"""
        while number not in self.answers:
            self.read()
        return self.answers.pop(number)

    def call(self, *words, **options):
        return self.end(self.begin(*words, **options))

    def close(self):
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()


class AuthorityTest(nspawn.MachineTest):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        for name, uid in USERS.items():
            cls.machine.run("useradd", "-m", "-u", str(uid), "-U", name)
        cls.machine.write("/etc/polkit-1/rules.d/10-test.rules", RULES)
        cls.owned = cls.service("owned", "owner")
        cls.shared = cls.shared_service("shared", OWNER, 1001)

    @classmethod
    def service(cls, name, user):
        """Starts a service of USER's. Returns its process."""
        cls.machine.run(
            "systemd-run", "--quiet", f"--unit={name}", f"--uid={user}", "sleep", "1000"
        )
        cls.addClassCleanup(cls.machine.run, "systemctl", "stop", name)
        return int(cls.machine.show(f"{name}.service", "MainPID"))

    @classmethod
    def shared_service(cls, name, uid, seconds):
        """Starts a service of root's in which a process of UID runs, which is returned."""
        cls.machine.run(
            "systemd-run", "--quiet", f"--unit={name}", "sh", "-c",
            f"setpriv --reuid={uid} --clear-groups sleep {seconds} & wait",
        )  # fmt: skip
        cls.addClassCleanup(cls.machine.run, "systemctl", "stop", name)
        for _ in range(100):
            found = cls.machine.run("pgrep", "-u", str(uid), "-f", f"^sleep {seconds}", check=False)
            if found.returncode == 0:
                return int(found.stdout)
        raise AssertionError(f"{name} has not come up")

    def setUp(self):
        self.machine.run("systemctl", "unmask", "--runtime", "polkit.service")
        self.machine.run("systemctl", "restart", "polkit.service")
        self.machine.run("systemctl", "stop", UNIT)
        self.machine.run("systemctl", "reset-failed")
        self.machine.run("sh", "-c", "rm -rf /var/lib/styxy/*")
        self.machine.run("systemctl", "start", "styxyd.socket", UNIT)
        self.agents = {}

    def agent(self, uid):
        if uid not in self.agents:
            self.agents[uid] = Agent(self.machine, uid)
            self.addCleanup(self.agents[uid].close)
        return self.agents[uid]

    def call(self, uid, method, signature="()", text="", **options):
        return self.agent(uid).call(method, signature, text, **options)

    def allocate(self, uid, options="{}", service="dev", **more):
        return self.call(uid, "Allocate", "(sa{sv})", f"('{service}', {options})", **more)

    def lease(self, uid, options="{}", **more):
        """(port, lease)"""
        status, answer = self.allocate(uid, options, **more)
        self.assertEqual(status, "ok", answer)
        return answer[0], answer[1]

    def release(self, uid, lease, **options):
        return self.call(uid, "Release", "(s)", f"('{lease}',)", **options)[0]

    def free_all(self):
        status, (leases,) = self.call(0, "List", "(a{sv})", "({},)")
        self.assertEqual(status, "ok")
        for lease in leases:
            self.assertEqual(self.release(0, lease["lease"]), "ok")

    # -- the table -------------------------------------------------------------------------------

    def guarded(self):
        """
        What not everybody may do: name -> (how to ask for it, who may by himself, how others are
        refused). To ask is a function that prepares it and returns what an Agent's call takes.
        """
        options = lambda text: (lambda: (("Allocate", "(sa{sv})", f"('dev', {text})"), {}))
        pid = self.owned

        def release():
            return ("Release", "(s)", f"('{self.lease(OWNER)[1]}',)"), {}

        def release_port():
            return ("ReleasePort", "(qs)", f"({self.lease(OWNER)[0]}, 'tcp')"), {}

        def renew():
            lease = self.lease(OWNER, "{'ttl_ms': <uint32 600000>}")[1]
            return ("Renew", "(s)", f"('{lease}',)"), {}

        def pidfd():
            text = "('dev', {'pidfd': <handle 0>})"
            return ("Allocate", "(sa{sv})", text), {"pidfd": pid}

        url = "'health_url': <'http://127.0.0.1:9/'>"
        return {
            "release": (release, {OWNER}, NOT_OWNER),
            "release by port": (release_port, {OWNER}, NOT_OWNER),
            "renew": (renew, {OWNER}, NOT_OWNER),
            "reload": (lambda: (("Reload",), {}), set(), NOT_AUTHORIZED),
            "recover": (lambda: (("Recover", "(a{sv})", "({},)"), {}), set(), NOT_AUTHORIZED),
            "low port": (options("{'port': <uint16 99>}"), set(), NOT_AUTHORIZED),
            "low port, strict": (
                options("{'port': <uint16 98>, 'strict': <true>}"), set(), NOT_AUTHORIZED),
            "low range": (
                options("{'range': <(uint16 900, uint16 1100)>}"), set(), NOT_AUTHORIZED),
            "process": (options(f"{{'pid': <uint32 {pid}>}}"), {OWNER}, NOT_OWNER),
            "process by pidfd": (pidfd, {OWNER}, NOT_OWNER),
            "other port's health": (options(f"{{{url}}}"), set(), NOT_AUTHORIZED),
            "restart": (
                options(f"{{'pid': <uint32 {pid}>, 'on_unhealthy': <'restart'>}}"), {OWNER},
                NOT_OWNER),
            "restart of what others run in, too": (
                options(f"{{'pid': <uint32 {self.shared}>, 'on_unhealthy': <'restart'>}}"), set(),
                None),
        }  # fmt: skip

    def try_all(self, uid, where, expect, **options):
        for name, (prepare, may, refusal) in self.guarded().items():
            with self.subTest(what=name, uid=uid, where=where, **options):
                words, more = prepare()
                status, answer = self.call(uid, *words, where=where, **more, **options)
                wanted, hint = ("ok", "") if expect == "ok" or uid in may else (refusal, expect)
                if wanted is None:  # the process is another's, or the unit is
                    wanted = NOT_AUTHORIZED if uid == OWNER else NOT_OWNER
                self.assertEqual(status, wanted, answer)
                self.assertIn(hint, answer if status != "ok" else "")
        self.free_all()

    def test_root_may(self):
        for where in ("bus", "direct"):
            self.try_all(0, where, "ok")

    def test_whom_polkit_says_yes_to(self):
        for where in ("bus", "direct"):
            self.try_all(TRUSTED, where, "ok")

    def test_whom_polkit_says_no_to(self):
        for where in ("bus", "direct"):
            for uid in (OWNER, OTHER):
                self.try_all(uid, where, "polkit does not grant it")

    def test_whom_polkit_would_ask(self):
        for where in ("bus", "direct"):
            self.try_all(ASKED, where, "to somebody who authenticates")
            # There is nobody to ask him, and that is a no; but it was tried.
            self.try_all(ASKED, where, "polkit", interactive=True)

    def test_without_polkit(self):
        self.machine.run("systemctl", "stop", "polkit.service")
        self.machine.run("systemctl", "mask", "--runtime", "polkit.service")
        for where in ("bus", "direct"):
            self.try_all(0, where, "ok")
            for uid in (OWNER, TRUSTED):
                self.try_all(uid, where, "polkit does not answer")

    def test_slow_polkit(self):
        """Everything waits, everything else goes on, and everything is granted in the end."""
        waiting = []
        polkitd = self.machine.output("pgrep", "-x", "polkitd")
        self.machine.run("kill", "-STOP", polkitd)
        try:
            for where in ("bus", "direct"):
                for name, (prepare, _, _) in self.guarded().items():
                    words, more = prepare()
                    number = self.agent(TRUSTED).begin(*words, where=where, interactive=True, **more)
                    waiting.append((where, name, number))
            begin = time.monotonic()
            for where in ("bus", "direct"):
                self.assertEqual(self.release(OWNER, self.lease(OWNER)[1], where=where), "ok")
                self.assertEqual(self.release(0, self.lease(OWNER)[1], where=where), "ok")
            self.assertLess(time.monotonic() - begin, 10)
            for where, name, number in waiting:
                self.assertFalse(self.agent(TRUSTED).has(number), (where, name))
        finally:
            self.machine.run("kill", "-CONT", polkitd)
        for where, name, number in waiting:
            status, answer = self.agent(TRUSTED).end(number)
            # The second to ask for one port gets what it may have by then, or none.
            if "strict" not in name:
                self.assertEqual(status, "ok", (where, name, answer))

    def test_nobody_else(self):
        """What no polkit grants, and what nobody is refused."""
        log = ("Set", "(ssv)", "('org.freedesktop.LogControl1', 'LogLevel', <'info'>)")
        for where in ("bus", "direct"):
            for uid, expected in ((0, "ok"), (TRUSTED, NOT_AUTHORIZED), (OTHER, NOT_AUTHORIZED)):
                with self.subTest(where=where, uid=uid):
                    status, answer = self.call(
                        uid, *log, where=where, path="/org/freedesktop/LogControl1",
                        interface="org.freedesktop.DBus.Properties",
                    )  # fmt: skip
                    self.assertEqual(status, expected, answer)
            lease = self.lease(OWNER, "{'instance': <'web'>, 'label': <'mine'>}", where=where)[1]
            for uid in (0, OTHER):  # of the caller's own alone
                self.assertEqual(
                    self.call(uid, "ReleaseInstance", "(s)", "('web',)", where=where), ("ok", [0]))
            for uid, seen in ((0, True), (OWNER, True), (OTHER, False), (TRUSTED, False)):
                with self.subTest(where=where, uid=uid):
                    status, (got,) = self.call(uid, "GetLease", "(s)", f"('{lease}',)", where=where)
                    self.assertEqual((status, "label" in got), ("ok", seen))
                    status, (all_,) = self.call(uid, "List", "(a{sv})", "({},)", where=where)
                    self.assertEqual((status, "label" in all_[0]), ("ok", seen))
                    # Who may not clean up for others cleans up for himself.
                    status, answer = self.call(
                        uid, "Cleanup", "(a{sv})", "({'dry_run': <true>},)", where=where)
                    self.assertEqual(status, "ok", answer)
            self.assertEqual(
                self.call(OWNER, "ReleaseInstance", "(s)", "('web',)", where=where), ("ok", [1]))

    def test_a_check_of_the_own_port_alone(self):
        for where in ("bus", "direct"):
            status, answer = self.allocate(
                OTHER, "{'health_url': <'http://127.0.0.1:{port}/'>}", where=where)
            self.assertEqual(status, "ok", answer)
            for url in ("http://192.0.2.1/", "http://example.org/", "ftp://127.0.0.1/"):
                status, _ = self.allocate(0, f"{{'health_url': <'{url}'>}}", where=where)
                self.assertEqual(status, "org.styxy.Ports.Error.InvalidArgument")

    # -- what a yes is good for ------------------------------------------------------------------

    def test_a_caller_that_has_ended(self):
        """Whoever got a connection from somebody else is not who polkit would be asked about."""
        self.assertEqual(self.release(TRUSTED, self.lease(OWNER)[1], where="orphan"), NOT_OWNER)
        self.assertEqual(
            self.release(TRUSTED, self.lease(TRUSTED)[1], where="orphan"), "ok")

    def stopped_polkit(self):
        polkitd = self.machine.output("pgrep", "-x", "polkitd")
        self.machine.run("kill", "-STOP", polkitd)
        return polkitd

    def test_another_lease_on_the_port(self):
        for where in ("bus", "direct"):
            port, lease = self.lease(OWNER)
            polkitd = self.stopped_polkit()
            try:
                number = self.agent(TRUSTED).begin(
                    "ReleasePort", "(qs)", f"({port}, 'tcp')", where=where, interactive=True)
                self.call(TRUSTED, "GetMetrics", where=where)  # it was taken
                self.assertEqual(self.release(OWNER, lease), "ok")
                again = self.lease(OWNER, f"{{'port': <uint16 {port}>, 'strict': <true>}}")[1]
            finally:
                self.machine.run("kill", "-CONT", polkitd)
            status, answer = self.agent(TRUSTED).end(number)
            self.assertEqual(status, NOT_OWNER, answer)
            self.assertIn("changed hands", answer)
            self.assertEqual(self.release(OWNER, again), "ok")

    def test_another_unit_of_the_process(self):
        pid = self.shared_service("mine", NARROW, 1002)
        self.service("precious", "root")
        options = f"{{'pid': <uint32 {pid}>, 'on_unhealthy': <'restart'>}}"
        status, answer = self.allocate(NARROW, options)
        self.assertEqual(status, "ok", answer)
        for where in ("bus", "direct"):
            polkitd = self.stopped_polkit()
            try:
                number = self.agent(NARROW).begin(
                    "Allocate", "(sa{sv})", f"('dev', {options})", where=where)
                self.call(NARROW, "GetMetrics", where=where)  # it was taken
                self.move(pid, "precious")
            finally:
                self.machine.run("kill", "-CONT", polkitd)
            status, answer = self.agent(NARROW).end(number)
            self.assertEqual(status, NOT_AUTHORIZED, answer)
            self.move(pid, "mine")

    def move(self, pid, unit):
        folder = self.machine.show(f"{unit}.service", "ControlGroup")
        self.machine.run("sh", "-c", f"echo {pid} >/sys/fs/cgroup{folder}/cgroup.procs")

    def test_too_many_questions(self):
        lease = self.lease(OWNER)[1]
        polkitd = self.stopped_polkit()
        try:
            agent = self.agent(TRUSTED)
            numbers = [agent.begin("Release", "(s)", f"('{lease}',)", where="direct", interactive=True)
                       for _ in range(33)]  # fmt: skip
            status, answer = agent.end(numbers[-1])
            self.assertEqual(status, "org.styxy.Ports.Error.QuotaExceeded", answer)
            self.assertIn("polkit", answer)
            self.assertFalse(agent.has(numbers[0]))
        finally:
            self.machine.run("kill", "-CONT", polkitd)
        self.assertEqual(agent.end(numbers[0])[0], "ok")

    def test_actions_are_known(self):
        known = self.machine.output("pkaction").splitlines()
        for name in ("manage-leases", "privileged-port", "reload", "recover", "watch-process",
                     "check-port", "restart-unit"):  # fmt: skip
            action = f"org.styxy.Ports.{name}"
            self.assertIn(action, known)
            text = self.machine.output("pkaction", "--verbose", "--action-id", action)
            self.assertRegex(text, r"implicit any: +auth_admin\n")
            self.assertRegex(text, r"implicit inactive: +auth_admin\n")
            self.assertRegex(text, r"implicit active: +auth_admin_keep\n")

    # -- polkit itself ---------------------------------------------------------------------------

    def test_who_leaves_while_polkit_thinks(self):
        lease = self.lease(OWNER)[1]
        polkitd = self.stopped_polkit()
        try:
            for where in ("bus", "direct"):
                agent = Agent(self.machine, TRUSTED)
                agent.begin("Release", "(s)", f"('{lease}',)", where=where, interactive=True)
                number = agent.begin("GetMetrics", where=where)
                self.assertEqual(agent.end(number)[0], "ok")  # both were taken
                # The one within: what was started here is the nsenter that waits for it.
                self.machine.run("pkill", "-KILL", "-u", str(TRUSTED), "-f", "python3")
                agent.close()
        finally:
            self.machine.run("kill", "-CONT", polkitd)
        status, _ = self.call(OWNER, "GetLease", "(s)", f"('{lease}',)")
        self.assertEqual(status, "ok")
        self.assertEqual(self.machine.show(UNIT, "NRestarts"), "0")
        self.assertEqual(self.release(OWNER, lease), "ok")


if __name__ == "__main__":
    nspawn.main()
