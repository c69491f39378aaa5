# SPDX-License-Identifier: LGPL-2.1-or-later
"""A private bus with a real daemon on it, and styxyctl in front.

Everything happens in a network namespace of its own, so fixed ports harm nobody. Waiting is for
events, each with a deadline: READY=1 of the daemon, a line of the monitor, the end of a process.
"""

import ctypes
import json
import os
import pathlib
import pty
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

STYXYCTL = os.environ.get("STYXYCTL", "")
STYXYD = os.environ.get("STYXYD_PATH", "")
DEADLINE = 20

CONFIG = {
    "service_types": {
        "dev": {"port_range": [3000, 3009], "preferred_ports": [3000, 3001], "description": "Dev"},
        "api": {"port_range": [3010, 3019]},
        "dns": {"port_range": [5300, 5309], "protocol": "udp"},
        "ai": {"port_range": [11400, 11409], "instance_behavior": "single"},
        "tiny": {"port_range": [4000, 4001]},
    },
    "recovery": {"port_conflict": {"max_retries": 0, "cooldown_ms": 0}},
}


def enter_namespace():
    """Starts this program again in a network namespace of its own; ends with 77 where none is to be had."""
    if os.environ.get("STYXY_TEST_NAMESPACE") != "1":
        command = ["unshare", "--net"] + ([] if os.geteuid() == 0 else ["--map-root-user"])
        if subprocess.run(command + ["true"], check=False, stderr=subprocess.DEVNULL).returncode:
            print("no network namespace can be had here, skipping", file=sys.stderr)
            sys.exit(77)
        os.environ["STYXY_TEST_NAMESPACE"] = "1"
        os.execvp("unshare", command + [sys.executable] + sys.argv)
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)


def die_with_parent():
    """Nothing is left behind where a test is killed."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)


def wait_readable(fd, deadline):
    left = deadline - time.monotonic()
    poll = select.poll()  # select() knows 1,024 descriptors
    poll.register(fd, select.POLLIN)
    if left <= 0 or not poll.poll(left * 1000):
        raise AssertionError("nothing came in time")


class Lines:
    """Reads lines of a pipe, each with a deadline."""

    def __init__(self, stream):
        self.fd = stream.fileno()
        self.stream = stream
        self.buffer = b""

    def next(self, seconds=DEADLINE):
        deadline = time.monotonic() + seconds
        while b"\n" not in self.buffer:
            wait_readable(self.fd, deadline)
            data = os.read(self.fd, 65536)
            if not data:
                raise AssertionError(f"the stream ended, after {self.buffer!r}")
            self.buffer += data
        line, self.buffer = self.buffer.split(b"\n", 1)
        return line.decode()

    def until(self, wanted, seconds=DEADLINE):
        """Reads on to the first line for which WANTED is true, or which holds it."""
        deadline = time.monotonic() + seconds
        while True:
            line = self.next(max(deadline - time.monotonic(), 0.001))
            if wanted(line) if callable(wanted) else wanted in line:
                return line


class Occupant:
    """A socket that somebody else has, on every address."""

    def __init__(self, port, kind=socket.SOCK_STREAM):
        self.socket = socket.socket(socket.AF_INET6, kind)
        self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        # else what a test before left in TIME_WAIT would be in the way
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(("::", port))
        if kind == socket.SOCK_STREAM:
            self.socket.listen(5)

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        self.socket.close()


class World:
    """A folder, a bus, a daemon."""

    def __init__(self, health=None):
        """HEALTH: settings of recovery.health_monitoring."""
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="styxy-cli-"))
        self.config = self.folder / "config.json"
        recovery = {**CONFIG["recovery"], "health_monitoring": health or {}}
        self.config.write_text(json.dumps({**CONFIG, "recovery": recovery}), encoding="utf-8")
        self.runtime = self.folder / "styxy"
        self.log = open(self.folder / "daemon.log", "ab")
        self.bus_address = f"unix:path={self.folder}/bus"
        self.direct_address = f"unix:path={self.runtime}/bus"
        self.address = self.bus_address
        self.daemon = None
        self.bus = subprocess.Popen(
            ["dbus-daemon", "--session", "--nofork", "--print-address=1",
             f"--address={self.bus_address}"],
            stdout=subprocess.PIPE, preexec_fn=die_with_parent)
        Lines(self.bus.stdout).next()
        self.environment = {k: v for k, v in os.environ.items()
                            if not k.startswith(("LC_", "DBUS_", "LANG", "NO_COLOR"))}
        self.environment.update(LC_ALL="C.UTF-8", TERM="xterm", STYXYD_PATH=STYXYD)

    def start_daemon(self):
        """Starts the daemon and returns when it says READY=1."""
        path = str(self.folder / "notify")
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
            if os.path.exists(path):
                os.unlink(path)
            notify.bind(path)
            self.daemon = subprocess.Popen(
                [STYXYD, f"--address={self.bus_address}", f"--config={self.config}",
                 f"--state-dir={self.folder}/state", f"--runtime-dir={self.runtime}"],
                env={**self.environment, "NOTIFY_SOCKET": path, "STYXY_IDLE_MSEC": "0"}, stderr=self.log,
                preexec_fn=die_with_parent)
            deadline = time.monotonic() + DEADLINE
            while True:
                try:
                    wait_readable(notify.fileno(), deadline)
                except AssertionError:
                    raise AssertionError("the daemon is not ready:\n" + self.read_log()) from None
                if b"READY=1" in notify.recv(4096).split(b"\n"):
                    return

    def read_log(self):
        return (self.folder / "daemon.log").read_text(encoding="utf-8", errors="replace")

    def stop_daemon(self, number=signal.SIGTERM):
        if self.daemon:
            self.daemon.send_signal(number)
            status = self.daemon.wait(DEADLINE)
            self.daemon = None
            return status
        return None

    def close(self):
        self.stop_daemon(signal.SIGKILL)
        self.bus.kill()
        self.bus.wait()
        self.bus.stdout.close()
        self.log.close()
        shutil.rmtree(self.folder)

    # ---- styxyctl ----

    def command(self, *words):
        return [STYXYCTL, f"--address={self.address}", *words]

    def ctl(self, *words, environment=None, plain=False, stdout=subprocess.PIPE):
        """Runs styxyctl to its end. PLAIN: without --address."""
        command = [STYXYCTL, *words] if plain else self.command(*words)
        return subprocess.run(command, env={**self.environment, **(environment or {})},
                              stdin=subprocess.DEVNULL, stdout=stdout, stderr=subprocess.PIPE,
                              text=True, timeout=DEADLINE, check=False)

    def ok(self, *words, **more):
        """What it printed; it must have succeeded and said nothing else."""
        done = self.ctl(*words, **more)
        assert done.returncode == 0 and done.stderr == "", (words, done)
        return done.stdout

    def json(self, *words, **more):
        return json.loads(self.ok("--json=short", *words, **more))

    def start(self, *words, **more):
        """Starts styxyctl with pipes on stdout and stderr."""
        return subprocess.Popen(self.command(*words), env=self.environment,
                                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                stderr=subprocess.PIPE, preexec_fn=die_with_parent, **more)

    @staticmethod
    def end(process):
        """For cleanups: whatever state it is in. What it started may still have the pipes."""
        process.kill()
        process.wait()
        for stream in (process.stdout, process.stderr):
            if stream:
                stream.close()

    def monitor(self):
        """Follows the signals: a process and the lines of its JSON. It listens when this returns."""
        process = self.start("monitor", "--json=short")
        Lines(process.stderr).until("waiting")
        return process, Lines(process.stdout)

    def release_all(self):
        for lease in self.json("list"):
            self.ok("release", lease["lease"])


class Terminal:
    """A terminal of COLUMNS cells with a program on it, in a session of its own."""

    def __init__(self, command, environment, columns=80):
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            die_with_parent()
            os.execvpe(command[0], command, environment)
        # TIOCSWINSZ; the program has it by SIGWINCH where it was faster
        import fcntl
        import struct
        import termios
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        self.text = ""

    def send(self, text):
        os.write(self.fd, text.encode())

    def expect(self, wanted, seconds=DEADLINE):
        """Reads on until WANTED was printed, and returns everything up to there."""
        deadline = time.monotonic() + seconds
        while wanted not in self.text:
            wait_readable(self.fd, deadline)
            try:
                data = os.read(self.fd, 65536)
            except OSError:
                data = b""
            if not data:
                raise AssertionError(f"the terminal was closed, after {self.text!r}")
            self.text += data.decode("utf-8", "replace")
        end = self.text.index(wanted) + len(wanted)
        before, self.text = self.text[:end], self.text[end:]
        return before

    def finish(self):
        """The rest of the output and the exit status."""
        deadline = time.monotonic() + DEADLINE
        while True:
            try:
                wait_readable(self.fd, deadline)
                data = os.read(self.fd, 65536)
            except OSError:
                data = b""
            if not data:
                break
            self.text += data.decode("utf-8", "replace")
        _, status = os.waitpid(self.pid, 0)
        os.close(self.fd)
        return self.text, os.waitstatus_to_exitcode(status)
