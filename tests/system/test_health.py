#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Layer 2 on real services: killed, restarted, moved to another process, and the daemon killed."""

import json
import queue
import time

import nspawn
from services import SERVER, Signals

NAME = "org.styxy.Ports"
PATH = "/org/styxy/Ports"
UNIT = "styxyd.service"
ALICE = 2001

INTERVAL = 0.3
GRACE = 0.5
CONFIGURATION = {
    # For what has to come up again in time, on a slow machine too.
    "service_types": {
        "patient": {"port_range": [3300, 3309], "health": {"startup_grace_ms": 20_000}}
    },
    "recovery": {
        "health_monitoring": {
            "check_interval_ms": int(INTERVAL * 1000),
            "max_failures": 3,
            "startup_grace_ms": 1500,
            "process_grace_ms": int(GRACE * 1000),
            "http_timeout_ms": 500,
        }
    }
}


# Serves a port, or the socket that it is given, and notes in /tmp/asked.PORT who asked.
NOTING = """
import http.server, os, socket, sys
port = int(sys.argv[1])
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        with open(f"/tmp/asked.{port}", "a") as asked:
            asked.write(self.path + "\\n")
        self.send_response(200)
        self.end_headers()
    def log_message(self, *_):
        pass
class Server(http.server.HTTPServer):
    def server_bind(self):
        if "LISTEN_FDS" in os.environ:
            self.socket = socket.socket(fileno=3)
        else:
            super().server_bind()
Server(("127.0.0.1", port), Handler).serve_forever()
"""

ACTIVATED = f"""
[Service]
User={ALICE}
ExecStart=/usr/bin/python3 /usr/local/bin/noting.py 3017
"""


class HealthTest(nspawn.MachineTest):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.machine.run("useradd", "-m", "-u", str(ALICE), "-U", "alice")
        cls.machine.write("/usr/local/bin/server.py", SERVER)
        cls.machine.write("/usr/local/bin/noting.py", NOTING)
        cls.machine.write("/etc/styxy/core-ports.d/50-test.json", json.dumps(CONFIGURATION))
        cls.machine.run("systemctl", "restart", UNIT)
        cls.signals = Signals(cls.machine)

    def setUp(self):
        self.machine.run("sh", "-c", "rm -f /tmp/status.* /tmp/go.* /tmp/asked.*")
        self.signals.drain()

    def service(self, name, port, *more, properties=()):
        """Starts a transient service that will serve PORT; returns its main pid."""
        self.machine.run(
            "systemd-run", f"--unit={name}", "--service-type=exec",
            *(word for text in properties for word in ("-p", text)),
            "/usr/bin/python3", "/usr/local/bin/server.py", str(port), f"/tmp/status.{port}", *more,
        )  # fmt: skip
        return int(self.machine.show(name, "MainPID"))

    def allocate(self, port, *options, service_type="dev"):
        """A lease on PORT with further options as busctl writes them; returns its id."""
        count = 2 + len(options) // 3
        answer = self.machine.output(
            "busctl", "--json=short", "call", NAME, PATH, NAME, "Allocate", "sa{sv}", service_type,
            str(count), "port", "q", str(port), "strict", "b", "true", *options,
        )  # fmt: skip
        granted, lease, _ = json.loads(answer)["data"]
        self.assertEqual(granted, port)
        return lease

    def leases(self):
        answer = self.machine.output(
            "busctl", "--json=short", "call", NAME, PATH, NAME, "List", "a{sv}", "0"
        )
        return {entry["lease"]["data"]: entry for entry in json.loads(answer)["data"][0]}

    def expect_end(self, lease, reason, seconds=20):
        seen = []
        end = time.monotonic() + seconds
        while {"PortReleased", "StaleReleased"} - {name for name, _ in seen}:
            try:
                name, values = self.signals.heard.get(timeout=max(end - time.monotonic(), 0))
            except queue.Empty:
                self.fail(f"lease {lease} did not end, but {seen}")
            if name in ("PortReleased", "StaleReleased") and values[0] == lease:
                self.assertEqual(values[2], reason)
                seen.append((name, values))
        self.assertEqual(len(seen), 2)
        self.assertNotIn(lease, self.leases())

    # -- the tests -------------------------------------------------------------------------------

    def test_unit_killed(self):
        pid = self.service("killed", 3001)
        lease = self.allocate(3001, "pid", "u", str(pid))
        self.signals.serve(3001, lease)
        begin = time.monotonic()
        self.machine.run("systemctl", "kill", "-s", "KILL", "killed")
        self.expect_end(lease, "process-exited")
        self.assertLess(time.monotonic() - begin, GRACE + 5)

    def test_unit_that_systemd_restarts_is_waited_for(self):
        pid = self.service("again", 3302, properties=("Restart=always", "RestartSec=1s"))
        lease = self.allocate(3302, "pid", "u", str(pid), service_type="patient")
        self.signals.serve(3302, lease)
        self.machine.run("systemctl", "kill", "-s", "KILL", "again")
        # The grace of the process is over when its successor comes, which takes the lease over.
        values = self.signals.wait_health(lease, "active")
        self.assertIn("another of the same owner", json.dumps(values))
        self.assertNotEqual(int(self.machine.show("again", "MainPID")), pid)
        self.assertIn(lease, self.leases())
        self.machine.run("systemctl", "stop", "again")
        self.expect_end(lease, "not-in-use")

    def test_handover(self):
        first = self.service("first", 3003, "share")
        lease = self.allocate(3003, "pid", "u", str(first))
        self.signals.serve(3003, lease)
        self.service("second", 3003, "share")
        self.wait_listeners(3003, 2)
        self.machine.run("systemctl", "kill", "-s", "KILL", "first")
        values = self.signals.wait_health(lease, "active")
        self.assertIn("another of the same owner", json.dumps(values))
        entry = self.leases()[lease]
        self.assertEqual(entry["unit"]["data"], "second.service")
        self.assertNotIn("pid", entry)
        self.machine.run("systemctl", "stop", "second")
        self.expect_end(lease, "not-in-use")

    def wait_listeners(self, port, number):
        self.machine.run(
            "sh", "-c",
            f"for i in $(seq 200); do "
            f"[ $(ss -Hltn sport = :{port} | wc -l) = {number} ] && exit 0; sleep 0.05; done; exit 1",
        )  # fmt: skip

    def sick_service(self, name, port):
        pid = self.service(name, port)
        lease = self.allocate(
            port, "pid", "u", str(pid), "health_url", "s", "http://127.0.0.1:{port}/",
            "on_unhealthy", "s", "restart",
        )  # fmt: skip
        self.signals.serve(port, lease)
        return pid, lease

    def test_restart_of_a_failing_service(self):
        pid, lease = self.sick_service("sick", 3004)
        self.machine.write("/tmp/status.3004", "503")
        values = self.signals.wait("ServiceRestarted", lease, seconds=30)
        self.assertEqual(values[2], "sick.service")
        self.machine.run("rm", "-f", "/tmp/status.3004")
        self.signals.wait_health(lease, "active")
        self.assertNotEqual(int(self.machine.show("sick", "MainPID")), pid)
        self.assertIn(lease, self.leases())
        self.machine.run("busctl", "call", NAME, PATH, NAME, "Release", "s", lease)
        self.machine.run("systemctl", "stop", "sick")

    def test_restart_of_a_crashed_service(self):
        """It failed, and nobody wanted that."""
        _, lease = self.sick_service("crashed", 3010)
        self.machine.run("systemctl", "kill", "-s", "KILL", "crashed")
        self.signals.wait("ServiceRestarted", lease, seconds=30)
        self.signals.wait_health(lease, "active")
        self.machine.run("systemctl", "stop", "crashed")
        self.expect_end(lease, "not-in-use")  # whose process it is now nobody told

    def test_no_restart_of_a_stopped_service(self):
        """Somebody stopped it: it stays as that one wanted it."""
        _, lease = self.sick_service("stopped", 3011)
        self.machine.run("systemctl", "stop", "stopped")
        self.expect_end(lease, "process-exited")
        self.assertEqual(self.machine.show("stopped", "ActiveState"), "inactive")

    def test_restarts_in_vain_end(self):
        _, lease = self.sick_service("vain", 3012)
        self.machine.write("/tmp/status.3012", "503")
        for _ in range(3):
            self.signals.wait("ServiceRestarted", lease, seconds=60)
        self.expect_end(lease, "unhealthy", seconds=60)
        self.machine.run("systemctl", "stop", "vain")

    def test_failing_http_releases(self):
        self.service("ill", 3005)
        lease = self.allocate(3005, "health_url", "s", "http://127.0.0.1:{port}/")
        self.signals.serve(3005, lease)
        self.machine.write("/tmp/status.3005", "500")
        self.expect_end(lease, "unhealthy", seconds=30)
        self.machine.run("systemctl", "stop", "ill")

    def test_abandoned_port(self):
        self.service("left", 3006)
        lease = self.allocate(3006)
        self.signals.serve(3006, lease)
        self.machine.run("systemctl", "stop", "left")
        self.expect_end(lease, "not-in-use")

    def test_never_bound(self):
        lease = self.allocate(3007)
        self.expect_end(lease, "never-bound")

    def test_daemon_killed_in_the_middle(self):
        """The process dies while nobody looks: the daemon that comes back knows."""
        stays = self.service("stays", 3008)
        goes = self.service("goes", 3009)
        kept = self.allocate(3008, "pid", "u", str(stays))
        lost = self.allocate(3009, "pid", "u", str(goes))
        self.signals.serve(3008, kept)
        self.signals.serve(3009, lost)
        daemon = self.machine.show(UNIT, "MainPID")
        self.machine.run(
            "sh", "-c",
            f"kill -STOP {daemon} && kill -KILL {goes} && kill -KILL {daemon}",
        )  # fmt: skip
        self.expect_end(lost, "orphaned")
        self.assertIn(kept, self.leases())
        self.machine.run("kill", "-KILL", str(stays))
        self.expect_end(kept, "process-exited")

    # -- whose service is asked ------------------------------------------------------------------

    def allocate_as_alice(self, port, unit):
        """A persistent lease of alice's on PORT, asked for in UNIT; returns its id."""
        answer = self.machine.output(
            "systemd-run", "--quiet", "--wait", "--pipe", f"--uid={ALICE}", f"--unit={unit}",
            "busctl", "--json=short", "call", NAME, PATH, NAME, "Allocate", "sa{sv}", "dev",
            "4", "port", "q", str(port), "strict", "b", "true", "lifetime", "s", "persistent",
            "health_url", "s", "http://127.0.0.1:{port}/well",
        )  # fmt: skip
        lease = json.loads(answer)["data"][1]
        self.addCleanup(self.machine.run, "busctl", "call", NAME, PATH, NAME, "Release", "s", lease)
        return lease

    def noting(self, port, name, *properties):
        """Starts a service that notes who asks it; returns its pid."""
        self.machine.run(
            "systemd-run", f"--unit={name}", "--service-type=exec",
            *(word for text in properties for word in ("-p", text)),
            "/usr/bin/python3", "/usr/local/bin/noting.py", str(port),
        )  # fmt: skip
        self.addCleanup(self.machine.run, "systemctl", "stop", name, check=False)
        return int(self.machine.show(name, "MainPID"))

    def wait_asked(self, port):
        self.machine.run(
            "sh", "-c",
            f"for i in $(seq 400); do [ -s /tmp/asked.{port} ] && exit 0; sleep 0.05; done; exit 1",
        )  # fmt: skip

    def wait_reason(self, lease, text, seconds=20):
        end = time.monotonic() + seconds
        while text not in (reason := str(self.leases()[lease].get("health_reason"))):
            self.assertLess(time.monotonic(), end, f"{reason}, not {text}")

    def test_the_service_of_another_is_not_asked(self):
        lease = self.allocate_as_alice(3014, "asks")
        self.noting(3014, "roots-own")
        self.signals.wait_health(lease, "active")
        self.wait_reason(lease, "somebody else listens")
        time.sleep(3 * INTERVAL)
        self.machine.run("test", "!", "-e", "/tmp/asked.3014")
        self.machine.run("systemctl", "stop", "roots-own")
        self.noting(3014, "alices-own", f"User={ALICE}")
        self.wait_asked(3014)

    def test_a_unit_of_another_user_is_asked(self):
        pid = self.service("by-unit", 3016, properties=(f"User={ALICE}",))
        lease = self.allocate(
            3016, "pid", "u", str(pid), "health_url", "s", "http://127.0.0.1:{port}/")
        self.signals.serve(3016, lease)
        self.machine.write("/tmp/status.3016", "503")
        self.signals.wait_health(lease, "failing", "status 503")
        self.machine.run("systemctl", "stop", "by-unit")

    def test_a_socket_unit_is_asked(self):
        lease = self.allocate_as_alice(3017, "activated")
        self.machine.write("/etc/systemd/system/activated.socket",
                           "[Socket]\nListenStream=127.0.0.1:3017\n")
        self.machine.write("/etc/systemd/system/activated.service", ACTIVATED)
        self.machine.run("systemctl", "daemon-reload")
        self.machine.run("systemctl", "start", "activated.socket")
        self.addCleanup(self.machine.run, "systemctl", "stop", "activated.socket",
                        "activated.service")
        _, details = json.loads(self.machine.output(
            "busctl", "--json=short", "call", NAME, PATH, NAME, "CheckPort", "qs", "3017", "tcp",
        ))["data"]  # fmt: skip
        # Without BPF firewalls systemd makes it in its own cgroup, and whose it is cannot be told.
        if details.get("unit", {}).get("data") == "activated.socket":
            self.wait_asked(3017)
        else:
            print(f"made in {details.get('unit')}", end=" ")
            self.wait_reason(lease, "somebody else listens")

    def test_a_socket_that_was_handed_over_is_asked(self):
        self.machine.run(
            "systemd-run", "--unit=handed", f"--uid={ALICE}", "styxyctl", "run", "dev",
            "--port=3018", "--strict", "--socket", "--health-url=http://127.0.0.1:{port}/", "--",
            "/usr/bin/python3", "/usr/local/bin/noting.py", "3018",
        )  # fmt: skip
        self.addCleanup(self.machine.run, "systemctl", "stop", "handed")
        self.wait_asked(3018)

    # -- whose unit ------------------------------------------------------------------------------

    RESTART = (
        "busctl", "call", NAME, PATH, NAME, "Allocate", "sa{sv}", "dev", "1",
        "on_unhealthy", "s", "restart",
    )  # fmt: skip

    def as_alice(self, *more):
        return self.machine.run(
            "systemd-run", "--quiet", "--wait", "--pipe", *more, *self.RESTART, check=False
        )

    def test_own_service_may_be_restarted(self):
        answer = self.as_alice(f"--uid={ALICE}", "--unit=alices")
        self.assertEqual(answer.returncode, 0, answer.stderr)

    def test_a_user_in_a_service_of_root_may_not(self):
        """As a job of cron is in cron.service: its own unit by the cgroup, and not its own."""
        answer = self.as_alice("--unit=roots", "sh", "-c", f'setpriv --reuid={ALICE} --clear-groups "$@"; true', "sh")
        self.assertIn("administrators", answer.stdout + answer.stderr)

    def test_a_user_unit_is_the_user_daemons(self):
        self.machine.run("loginctl", "enable-linger", "alice")
        self.machine.wait_unit(f"user@{ALICE}.service", "active")
        answer = self.machine.run(
            "systemd-run", "--user", "--quiet", "--wait", "--pipe", *self.RESTART,
            uid=ALICE, user_bus=True, check=False,
        )  # fmt: skip
        self.assertIn("styxyctl --user", answer.stdout + answer.stderr)


if __name__ == "__main__":
    nspawn.main()
