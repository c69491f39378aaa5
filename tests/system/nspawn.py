# SPDX-License-Identifier: LGPL-2.1-or-later
"""A real systemd for tests: this machine's own root, booted as a throw-away overlay.

The overlay lives in a tmpfs in a mount namespace of the test's own, so that nothing is left mounted
or lying about, however the test ends. The machine has its own PID 1, journal, logind, bus, users
and an empty network; the build under test is installed into it before it boots.

Environment: STYXY_BUILD_DIR names the build. CI or STYXY_REQUIRE_SYSTEM turn a skip into a failure.
"""

import ctypes
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import traceback
import unittest

BOOT_SECONDS = 90
RUN_SECONDS = 60

CLONE_NEWNS = 0x00020000
PR_SET_PDEATHSIG = 1

LIBC = ctypes.CDLL(None, use_errno=True)


class Unavailable(Exception):
    """No machine can be booted here; the message says why."""


def _die_with_parent():
    LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def _own_mounts():
    if LIBC.unshare(CLONE_NEWNS) != 0:
        raise Unavailable(f"no mount namespace: {os.strerror(ctypes.get_errno())}")
    _mount("--make-rprivate", "/")


def _mount(*arguments):
    done = subprocess.run(["mount", *arguments], capture_output=True, text=True)
    if done.returncode != 0:
        raise Unavailable(f"mount {' '.join(arguments)}: {done.stderr.strip()}")


def _new_cgroup(name):
    """A cgroup below our own, or None where there is no cgroup2. Machines that share one, as they
    do on hosts with cgroup v1 beside it, take each other's services down."""
    own = None
    with open("/proc/self/cgroup", encoding="ascii") as lines:
        for line in lines:
            if line.startswith("0::/"):
                own = line.strip()[len("0::/"):]
    with open("/proc/self/mountinfo", encoding="ascii") as lines:
        for line in lines:
            fields = line.split()
            if own is not None and fields[fields.index("-") + 1] == "cgroup2" and fields[3] == "/":
                cgroup = pathlib.Path(fields[4]) / own / name
                cgroup.mkdir()
                return cgroup
    return None


def _remove_cgroup(cgroup):
    """Its processes are dead, but the kernel may be a moment behind."""
    for _ in range(100):
        try:
            for folder, _, _ in os.walk(cgroup, topdown=False):
                os.rmdir(folder)
            return
        except FileNotFoundError:
            return
        except OSError:
            time.sleep(0.02)
    print(f"{cgroup} stays behind", file=sys.stderr)


# Runs inside the machine: waits until a unit is in one of the given states, or says which it is in.
WAIT_UNIT = """
import sys
from gi.repository import Gio, GLib
unit, seconds, states, user = sys.argv[1], float(sys.argv[2]), sys.argv[3].split(","), sys.argv[4]
bus = Gio.bus_get_sync(Gio.BusType.SESSION if user == "user" else Gio.BusType.SYSTEM)
def call(path, interface, method, *arguments):
    return bus.call_sync("org.freedesktop.systemd1", path, interface, method,
                         *arguments, None, 0, -1, None)
call("/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager", "Subscribe", None)
path = call("/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager", "LoadUnit",
            GLib.Variant("(s)", (unit,)))[0]
loop = GLib.MainLoop()
seen = []
def look(*_):
    state = call(path, "org.freedesktop.DBus.Properties", "Get",
                 GLib.Variant("(ss)", ("org.freedesktop.systemd1.Unit", "ActiveState")))[0]
    seen.append(state)
    if state in states:
        loop.quit()
bus.signal_subscribe(None, "org.freedesktop.DBus.Properties", "PropertiesChanged", path, None, 0, look)
def late():
    sys.exit(f"{unit} is still not {' or '.join(states)} after {seconds} s: {' '.join(seen)}")
GLib.idle_add(look)
GLib.timeout_add(int(seconds * 1000), lambda: (loop.quit(), seen.append("LATE")))
loop.run()
if seen[-1] == "LATE":
    late()
print(seen[-1])
"""


class Machine:
    """A booted machine. Use as a context manager, or start() and stop()."""

    def __init__(self, broker="dbus-broker", prepare=None):
        """BROKER: dbus-broker or dbus-daemon. PREPARE(root): changes the root before it boots."""
        self.broker = broker
        self.prepare = prepare
        self.top = None
        self.root = None
        self.leader = None
        self.nspawn = None
        self.cgroup = None

    # -- life ---------------------------------------------------------------------------------

    def start(self):
        if os.geteuid() != 0:
            raise Unavailable("not root")
        for program in ("systemd-nspawn", "nsenter", "setpriv", self.broker):
            if shutil.which(program) is None:
                raise Unavailable(f"{program} is not installed")
        try:
            self._build_root()
            self._install()
            if self.prepare is not None:
                self.prepare(self.root)
            self._boot()
        except BaseException:
            self.stop()
            raise
        return self

    def __enter__(self):
        return self.start()

    def __exit__(self, *_):
        self.stop()

    def _build_root(self):
        _own_mounts()
        self.top = pathlib.Path(tempfile.mkdtemp(prefix="styxy-machine-"))
        _mount("-t", "tmpfs", "-o", "mode=0755", "tmpfs", str(self.top))
        # What nspawn notes down while it runs; in a folder on disk it would leave it behind.
        notes = pathlib.Path("/run/systemd/nspawn")
        notes.mkdir(parents=True, exist_ok=True)
        _mount("-t", "tmpfs", "tmpfs", str(notes))
        self.root = self.top / "root"
        for folder in ("root", "upper", "work"):
            (self.top / folder).mkdir()
        options = f"lowerdir=/,upperdir={self.top}/upper,workdir={self.top}/work"
        _mount("-t", "overlay", "overlay", "-o", options, str(self.root))

        # The host's own services and a Styxy of the host's stay out.
        for folder in (
            "etc/systemd/system/multi-user.target.wants",
            "etc/systemd/system/timers.target.wants",
            "etc/systemd/system/getty.target.wants",
            "etc/systemd/system/styxyd.service.d",
            "etc/styxy",
            "var/lib/styxy",
            "var/log/journal",
            "run",
            "tmp",
        ):
            shutil.rmtree(self.root / folder, ignore_errors=True)
        for folder in ("run", "tmp"):
            (self.root / folder).mkdir(exist_ok=True)
        (self.root / "tmp").chmod(0o1777)
        for unit in ("console-getty.service", "systemd-networkd-wait-online.service"):
            self._link("etc/systemd/system/" + unit, "/dev/null")
        # With dbus-broker the bus is an alias in /etc; without it dbus.service is dbus-daemon's.
        for manager in ("system", "user"):
            link = f"etc/systemd/{manager}/dbus.service"
            if self.broker == "dbus-broker":
                self._link(link, f"/usr/lib/systemd/{manager}/dbus-broker.service")
            else:
                (self.root / link).unlink(missing_ok=True)
        (self.root / "etc/machine-id").write_text("", encoding="ascii")

    def _link(self, place, target):
        path = self.root / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        path.symlink_to(target)

    def _install(self):
        build = os.environ.get("STYXY_BUILD_DIR")
        if build is None:
            raise RuntimeError("STYXY_BUILD_DIR is not set")
        command = ["meson", "install", "-C", build, "--no-rebuild", "--quiet"]
        subprocess.run(
            [*command, "--destdir", str(self.root)],
            check=True,
            stdout=subprocess.DEVNULL,
            timeout=RUN_SECONDS,
        )
        subprocess.run(
            ["systemd-sysusers", f"--root={self.root}", "styxy.conf"],
            capture_output=True,
            check=True,
            timeout=RUN_SECONDS,
        )
        for scope in ([], ["--global"]):
            subprocess.run(
                ["systemctl", f"--root={self.root}", *scope, "--quiet", "enable", "styxyd.socket"],
                check=True,
                timeout=RUN_SECONDS,
            )

    def _boot(self):
        notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        with notify:
            notify.bind(str(self.top / "notify"))
            environment = dict(
                os.environ,
                NOTIFY_SOCKET=str(self.top / "notify"),
                SYSTEMD_NSPAWN_UNIFIED_HIERARCHY="1",
            )
            self.cgroup = _new_cgroup(f"styxy-machine-{os.getpid()}")
            with open(self.top / "console", "wb") as console:
                self.nspawn = subprocess.Popen(
                    [
                        "systemd-nspawn",
                        "--quiet",
                        f"--directory={self.root}",
                        "--boot",
                        "--keep-unit",
                        "--register=no",
                        "--private-network",
                        "--link-journal=no",
                        "--notify-ready=yes",
                        f"--machine=styxy-{os.getpid()}",
                        "systemd.unit=multi-user.target",
                    ],
                    stdin=subprocess.DEVNULL,
                    stdout=console,
                    stderr=subprocess.STDOUT,
                    env=environment,
                    preexec_fn=self._enter,
                )
            deadline = time.monotonic() + BOOT_SECONDS
            while True:
                try:
                    # nspawn that ends early says nothing here, so look after it now and then.
                    notify.settimeout(min(1.0, max(0.01, deadline - time.monotonic())))
                    words = notify.recv(4096).decode().splitlines()
                except TimeoutError:
                    if self.nspawn.poll() is not None:
                        raise Unavailable(f"systemd-nspawn ended: {self.console()}") from None
                    if time.monotonic() >= deadline:
                        raise RuntimeError(f"no boot in {BOOT_SECONDS} s: {self.console()}") from None
                    continue
                for word in words:
                    if word.startswith("X_NSPAWN_LEADER_PID="):
                        self.leader = int(word.partition("=")[2])
                if "READY=1" in words:
                    break
        if self.leader is None:
            raise RuntimeError("systemd-nspawn did not name its leader")

    def _enter(self):
        _die_with_parent()
        if self.cgroup is not None:
            (self.cgroup / "cgroup.procs").write_text("0", encoding="ascii")

    def stop(self):
        if self.nspawn is not None:
            # The end of its PID 1 ends everything in the machine at once.
            for victim in (self.leader, self.nspawn.pid):
                if victim is None or self.nspawn.poll() is not None:
                    continue
                try:
                    os.kill(victim, signal.SIGKILL)
                    self.nspawn.wait(timeout=10)
                except (ProcessLookupError, subprocess.TimeoutExpired):
                    pass
            self.nspawn = None
            self.leader = None
        if self.cgroup is not None:
            _remove_cgroup(self.cgroup)
            self.cgroup = None
        if self.top is not None:
            for mounted in (self.root, self.top, pathlib.Path("/run/systemd/nspawn")):
                if mounted is not None and os.path.ismount(mounted):
                    subprocess.run(["umount", "--lazy", str(mounted)], check=False)
            try:
                self.top.rmdir()
            except OSError as error:
                print(f"{self.top}: {error}", file=sys.stderr)
            self.top = None

    def console(self):
        """What the machine wrote to its console, the last lines."""
        try:
            text = (self.top / "console").read_text(encoding="utf-8", errors="replace")
        except OSError as error:
            return str(error)
        return "\n".join(text.splitlines()[-30:])

    # -- commands -----------------------------------------------------------------------------

    def command(self, *argv, uid=0, user_bus=False, env=None):
        """The argument list that runs ARGV in the machine, and the environment for it."""
        environment = {
            "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "LC_ALL": "C.UTF-8",
            "SYSTEMD_COLORS": "0",
            "SYSTEMD_PAGER": "",
        }
        if user_bus:
            environment["XDG_RUNTIME_DIR"] = f"/run/user/{uid}"
            environment["DBUS_SESSION_BUS_ADDRESS"] = f"unix:path=/run/user/{uid}/bus"
        if env is not None:
            environment.update(env)
        enter = ["nsenter", "-t", str(self.leader), "-a", "--"]
        if uid != 0:
            enter += ["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups", "--"]
        return [*enter, *argv], environment

    def popen(self, *argv, uid=0, user_bus=False, env=None, **options):
        """Starts ARGV in the machine; it dies with the test."""
        command, environment = self.command(*argv, uid=uid, user_bus=user_bus, env=env)
        options.setdefault("stdin", subprocess.DEVNULL)
        return subprocess.Popen(
            command, env=environment, text=True, preexec_fn=_die_with_parent, **options
        )

    def run(self, *argv, uid=0, user_bus=False, env=None, check=True, seconds=RUN_SECONDS, input=None):
        """Runs ARGV in the machine to its end. Returns a CompletedProcess with text in it."""
        command, environment = self.command(*argv, uid=uid, user_bus=user_bus, env=env)
        done = subprocess.run(
            command,
            env=environment,
            input="" if input is None else input,
            capture_output=True,
            text=True,
            timeout=seconds,
        )
        if check and done.returncode != 0:
            raise AssertionError(
                f"{' '.join(argv)}: exit status {done.returncode}\n{done.stdout}{done.stderr}"
            )
        return done

    def output(self, *argv, **options):
        return self.run(*argv, **options).stdout.strip()

    def write(self, path, text, mode=0o644):
        """Writes a file in the machine, with its folder."""
        self.run("mkdir", "-p", os.path.dirname(path))
        self.run("tee", path, input=text)
        self.run("chmod", f"{mode:o}", path)

    def wait_unit(self, unit, *states, seconds=30, uid=0):
        """Waits until UNIT's ActiveState is one of STATES. UID: of the user manager that has it."""
        user = uid != 0
        return self.output(
            "/usr/bin/python3", "-c", WAIT_UNIT, unit, str(seconds), ",".join(states),
            "user" if user else "system", uid=uid, user_bus=user, seconds=seconds + 30,
        )  # fmt: skip

    def show(self, unit, name, uid=0):
        """One property of a unit, as systemctl shows it."""
        scope = ["--user"] if uid != 0 else []
        return self.output(
            "systemctl", *scope, "show", "--value", "-p", name, unit, uid=uid, user_bus=uid != 0
        )

    def journal(self, *matches):
        """The journal's entries that match, oldest first, as dicts."""
        self.run("journalctl", "--sync")
        lines = self.output("journalctl", "-o", "json", "--all", "--no-pager", *matches)
        return [json.loads(line) for line in lines.splitlines()]

    def report(self):
        """What a person wants to see after a failure."""
        if self.leader is None:
            return self.console() if self.top is not None else ""
        done = self.run("journalctl", "--no-pager", "-n", "150", "-o", "short-precise", check=False)
        return done.stdout + done.stderr


class MachineTest(unittest.TestCase):
    """Tests that share one machine, booted once for the class."""

    machine = None
    broker = os.environ.get("STYXY_TEST_BROKER", "dbus-broker")
    failed = False

    @classmethod
    def prepare(cls, root):
        """To override: changes the root before it boots."""

    @classmethod
    def setUpClass(cls):
        try:
            cls.machine = Machine(cls.broker, cls.prepare).start()
        except Unavailable as error:
            if os.environ.get("CI") or os.environ.get("STYXY_REQUIRE_SYSTEM"):
                raise
            raise unittest.SkipTest(f"no machine: {error}") from None
        # Also when a later step of a subclass's own setUpClass fails.
        cls.addClassCleanup(cls.machine.stop)

    def run(self, result=None):
        before = len(result.failures) + len(result.errors)
        super().run(result)
        if len(result.failures) + len(result.errors) > before and not MachineTest.failed:
            MachineTest.failed = True
            try:
                print(f"--- after {self.id()}\n{self.machine.report()}---", file=sys.stderr)
            except Exception:
                traceback.print_exc()
        return result


def main():
    """Runs the tests of the calling module. Exit status: 0, 1, or 77 when all were skipped."""

    def stopped(number, _frame):
        sys.exit(128 + number)

    signal.signal(signal.SIGTERM, stopped)
    signal.signal(signal.SIGINT, stopped)
    program = unittest.main(exit=False, verbosity=2)
    result = program.result
    if not result.wasSuccessful():
        sys.exit(1)
    if result.skipped and result.testsRun == len(result.skipped) or result.testsRun == 0:
        sys.exit(77)
    sys.exit(0)
