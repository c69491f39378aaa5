# SPDX-License-Identifier: LGPL-2.1-or-later
"""The interface as a Python client sees it, outsiders that take ports, and a daemon to try them on."""

import array
import json
import os
import pathlib
import resource
import signal
import socket
import subprocess
import sys
import threading
import time

import harness
from gi.repository import Gio, GLib
from harness import DEADLINE, Lines, die_with_parent

NAME, PATH = "org.styxy.Ports", "/org/styxy/Ports"
ERROR = NAME + ".Error."

FULL = os.environ.get("STYXY_STRESS_FULL") == "1"
SEED = int(os.environ.get("STYXY_STRESS_SEED", "20240817"))

OUTSIDER = str(pathlib.Path(__file__).with_name("outsider.py"))
STRANGER_UID = 4711

SIGNATURES = {
    "port": "q", "strict": "b", "range": "(qq)", "protocol": "s", "address": "s", "instance": "s",
    "label": "s", "pid": "u", "lifetime": "s", "hold": "s", "retries": "u", "ttl_ms": "u",
    "service_type": "s", "uid": "u", "dry_run": "b",
    "health_url": "s", "health_timeout_ms": "u", "on_unhealthy": "s",
}  # fmt: skip


def count(few, many):
    """How often: FEW in every run, MANY with STYXY_STRESS_FULL=1."""
    return many if FULL else few


class Refused(Exception):
    """An error of the daemon's. NAME without the prefix."""

    def __init__(self, name, message):
        super().__init__(f"{name}: {message}")
        self.name = name
        self.message = message


class Client:
    """A connection of its own, to a bus or to the direct socket."""

    def __init__(self, address):
        flags = (
            Gio.DBusConnectionFlags.AUTHENTICATION_CLIENT
            | Gio.DBusConnectionFlags.MESSAGE_BUS_CONNECTION
        )
        self.bus = Gio.DBusConnection.new_for_address_sync(address, flags, None, None)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        if not self.bus.is_closed():
            self.bus.close_sync()

    def raw(self, interface, method, arguments, fds=None, seconds=DEADLINE):
        try:
            answer, fds = self.bus.call_with_unix_fd_list_sync(
                NAME, PATH, interface, method, arguments, None, 0, int(seconds * 1000), fds, None)
        except GLib.Error as error:
            name = Gio.DBusError.get_remote_error(error)
            if name is None or not name.startswith(ERROR):
                raise
            Gio.DBusError.strip_remote_error(error)
            raise Refused(name.removeprefix(ERROR), error.message) from None
        return answer.unpack(), fds

    def call(self, method, signature="()", *arguments, **more):
        return self.raw(NAME, method, GLib.Variant(signature, arguments), **more)[0]

    @staticmethod
    def options(options):
        return {key: GLib.Variant(SIGNATURES[key], value) for key, value in options.items()}

    def allocate(self, service_type, seconds=DEADLINE, **options):
        """(port, lease, details)"""
        return self.call("Allocate", "(sa{sv})", service_type, self.options(options),
                         seconds=seconds)

    def allocate_socket(self, service_type, **options):
        """(port, lease, socket, details)"""
        (port, lease, index, details), fds = self.raw(
            NAME, "AllocateSocket",
            GLib.Variant("(sa{sv})", (service_type, self.options(options))))
        return port, lease, socket.socket(fileno=fds.get(index)), details

    def allocate_block(self, service_type, number, **options):
        """([(port, lease)], details)"""
        return self.call("AllocateBlock", "(sqa{sv})", service_type, number, self.options(options))

    def release(self, lease):
        self.call("Release", "(s)", lease)

    def list(self, **options):
        return self.call("List", "(a{sv})", self.options(options))[0]

    def metrics(self):
        return self.call("GetMetrics")[0]

    def ping(self):
        self.raw("org.freedesktop.DBus.Peer", "Ping", None)

    def begin(self, method, signature, *arguments):
        """Sends a call and does not wait. Returns a function that does."""
        return Pending(self, method, GLib.Variant(signature, arguments))


class Pending:
    """A call under way, sent from a thread of its own."""

    def __init__(self, client, method, arguments):
        self.result = self.error = None
        self.finished = None

        def work():
            try:
                self.result = client.raw(NAME, method, arguments)[0]
            except Exception as error:  # handed on by wait()
                self.error = error
            self.finished = time.monotonic()

        self.thread = threading.Thread(target=work, daemon=True)
        self.thread.start()

    def done(self):
        return not self.thread.is_alive()

    def wait(self, seconds=DEADLINE):
        self.thread.join(seconds)
        assert not self.thread.is_alive(), "no answer in time"
        if self.error:
            raise self.error
        return self.result


class Signals:
    """Notes the signals of the daemon, each with the time it came, on a connection of its own."""

    def __init__(self, address):
        self.seen = []
        self.client = Client(address)
        self.changed = threading.Condition()
        self.context = GLib.MainContext.new()
        self.loop = GLib.MainLoop.new(self.context, False)
        started = threading.Event()

        def work():
            self.context.push_thread_default()
            self.client.bus.signal_subscribe(None, NAME, None, PATH, None, 0, self._note)
            started.set()
            self.loop.run()

        self.thread = threading.Thread(target=work, daemon=True)
        self.thread.start()
        started.wait(DEADLINE)
        self.client.ping()  # behind the AddMatch

    def _note(self, _bus, _sender, _path, _interface, name, arguments):
        with self.changed:
            self.seen.append((name, arguments.unpack(), time.monotonic()))
            self.changed.notify_all()

    def named(self, name):
        with self.changed:
            return [(arguments, when) for seen, arguments, when in self.seen if seen == name]

    def wait(self, name, number, seconds=DEADLINE):
        """Waits until NUMBER signals of that name came, and returns them all."""
        with self.changed:
            came = self.changed.wait_for(
                lambda: sum(seen == name for seen, _, _ in self.seen) >= number, seconds)
            assert came, f"{number} {name} wanted: {self.seen}"
        return self.named(name)

    def clear(self):
        with self.changed:
            self.seen.clear()

    def close(self):
        self.loop.quit()
        self.thread.join(DEADLINE)
        self.client.close()


class Outsider:
    """A process of somebody else's with ports of its own."""

    def __init__(self, *arguments, stranger=True):
        self.uid = STRANGER_UID if stranger and can_change_uid() else os.geteuid()

        def prepare():
            die_with_parent()
            if self.uid != os.geteuid():
                os.setresuid(self.uid, self.uid, self.uid)

        self.process = subprocess.Popen(
            [sys.executable, OUTSIDER, *map(str, arguments)], text=True, preexec_fn=prepare,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.lines = Lines(self.process.stdout)
        self.expect("ready")

    @classmethod
    def holding(cls, ports, kind="tcp", **more):
        return cls("hold", kind, *ports, **more)

    def expect(self, word):
        line = self.lines.next(60)
        assert line == word, line

    def tell(self, word, port):
        self.process.stdin.write(f"{word} {port}\n")
        self.process.stdin.flush()
        self.expect("done")

    def finish(self):
        """Ends it. Returns its last words."""
        self.process.stdin.close()
        assert self.process.wait(60) == 0
        words = self.lines.buffer.decode() + self.process.stdout.read()
        self.process.stdout.close()
        return words.strip()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.finish()


def can_change_uid():
    if os.geteuid() != 0:
        return False
    spans = [line.split() for line in pathlib.Path("/proc/self/uid_map").read_text().splitlines()]
    return any(int(first) <= STRANGER_UID < int(first) + int(n) for first, _, n in spans)


def read_intervals(path):
    """port -> [(from, to)] of a churning outsider, CLOCK_MONOTONIC ns."""
    notes = array.array("Q")
    notes.frombytes(pathlib.Path(path).read_bytes())
    held = {}
    for i in range(0, len(notes), 3):
        held.setdefault(notes[i], []).append((notes[i + 1], notes[i + 2]))
    return held


class World(harness.World):
    """The world of the styxyctl tests, with a configuration of one's own."""

    def __init__(self, config, environment=None, nofile=None):
        super().__init__()
        self.configure(config)
        self.nofile = nofile
        self.environment.update(environment or {})
        os.chmod(self.folder, 0o755)

    def configure(self, config):
        self.config.write_text(json.dumps(config), encoding="utf-8")

    def start_daemon(self):
        before = resource.getrlimit(resource.RLIMIT_NOFILE)
        if self.nofile:
            resource.setrlimit(resource.RLIMIT_NOFILE, (self.nofile, before[1]))
        try:
            super().start_daemon()
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, before)

    def client(self, direct=False):
        return Client(self.direct_address if direct else self.bus_address)

    def signals(self):
        return Signals(self.bus_address)

    def kill_daemon(self):
        self.stop_daemon(signal.SIGKILL)
