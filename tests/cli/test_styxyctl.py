#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""styxyctl against a real daemon on a private bus, and on the daemon's own socket."""

import contextlib
import json
import os
import pathlib
import pwd
import re
import shutil
import signal
import socket
import stat
import subprocess
import sys
import time
import unittest

import harness
from harness import DEADLINE, Lines, Occupant, Terminal, World

LEASE = re.compile(r"^[0-9a-f]{32}$")
OK, FAILED, USAGE, NOT_FOUND, NOT_AUTHORIZED, UNREACHABLE = range(6)


def documented_metrics():
    """The names that the description of the interface explains at GetMetrics."""
    text = (pathlib.Path(__file__).parents[2] / "dbus/org.styxy.Ports.xml").read_text(encoding="utf-8")
    comment = re.search(r"^        GetMetrics:\n.*?-->", text, re.M | re.S)[0]
    rows = re.findall(r"<term>(\w+)</term>\s*<listitem>(.+?)</listitem>", comment, re.S)
    return {name for name, explained in rows if explained.strip()}


def kill_if_there(pidfd):
    """Ends a process that a test may have left behind."""
    with contextlib.suppress(ProcessLookupError):
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)


class Case(unittest.TestCase):
    """One world for a class; no leases are left from one test to the next."""

    maxDiff = None

    @classmethod
    def setUpClass(cls):
        cls.world = World()
        cls.addClassCleanup(cls.world.close)
        cls.world.start_daemon()

    def setUp(self):
        self.addCleanup(self.world.release_all)

    def run(self, result=None):
        """Shows what the daemon said where a test failed."""
        before = len(result.failures) + len(result.errors)
        start = len(self.world.read_log())
        super().run(result)
        if len(result.failures) + len(result.errors) > before:
            print(self.world.read_log()[start:], file=sys.stderr)

    def refused(self, status, says, *words, **more):
        """It ends with STATUS and one line that holds SAYS on stderr, and prints nothing."""
        done = self.world.ctl(*words, **more)
        self.assertEqual((done.returncode, done.stdout), (status, ""), done)
        self.assertTrue(done.stderr.startswith("styxyctl: "), done.stderr)
        self.assertEqual(done.stderr.count("\n"), 1, done.stderr)
        self.assertIn(says, done.stderr)
        return done


class Grants(Case):
    """allocate, release, list, show and the questions about ports."""

    def test_the_port_alone(self):
        self.assertEqual(self.world.ok("allocate", "dev"), "3000\n")
        self.assertEqual(self.world.ok("allocate", "dev"), "3001\n")
        self.assertEqual(self.world.ok("allocate", "dev", "--port=3007"), "3007\n")

    def test_json(self):
        grant = self.world.json("allocate", "dev", "--protocol", "both")
        self.assertRegex(grant.pop("lease"), LEASE)
        self.assertEqual(grant, {"port": 3000, "details": {
            "attempts": 1, "conflicts": [], "reused": False, "protocol": "both"}})

    def test_conflicts_are_told(self):
        with Occupant(3000), Occupant(3001):
            done = self.world.ctl("allocate", "dev")
            self.assertEqual((done.returncode, done.stdout), (OK, "3002\n"))
            lines = done.stderr.splitlines()
            self.assertEqual(len(lines), 2, lines)
            user = pwd.getpwuid(os.getuid()).pw_name
            for line, port in zip(lines, (3000, 3001)):
                self.assertIn(f"port {port} is in use by ", line)
                self.assertIn(f"user {user}", line)
            self.assertEqual(self.world.ok("allocate", "dev", "--quiet"), "3003\n")

    def test_retries_are_told_meanwhile(self):
        """While the daemon waits for a port to become free, we say so; and it may become free."""
        with Occupant(3005):
            process = self.world.start("allocate", "dev", "--port=3005", "--strict", "--retries=8")
            self.addCleanup(self.world.end, process)
            self.addCleanup(process.kill)
            Lines(process.stderr).until("port 3005 is in use by user")
            self.assertIsNone(process.poll())
        self.assertEqual(process.wait(DEADLINE), OK)
        self.assertEqual(process.stdout.read(), b"3005\n")

    def test_strict(self):
        with Occupant(3005):
            done = self.world.ctl("allocate", "dev", "--port=3005", "--strict", "--quiet")
            self.assertEqual((done.returncode, done.stdout), (FAILED, ""))
            self.assertIn("3005", done.stderr)
        self.assertEqual(self.world.ok("allocate", "dev", "--port=3005", "--strict"), "3005\n")

    def test_exhausted(self):
        self.world.ok("allocate", "tiny")
        self.world.ok("allocate", "tiny")
        self.refused(FAILED, "", "allocate", "tiny", "--retries=0")

    def test_block(self):
        self.assertEqual(self.world.ok("allocate", "api", "--count=3"), "3010\n3011\n3012\n")
        block = self.world.json("allocate", "api", "--count=2")
        self.assertEqual([one["port"] for one in block["leases"]], [3013, 3014])

    def test_wrong_numbers(self):
        for wrong in ("80abc", "3.7", "0", "70000", "+5", " 5", "0x10", "-1", "", "080"):
            with self.subTest(wrong=wrong):
                self.refused(USAGE, wrong, "allocate", "dev", f"--port={wrong}")
                if not wrong.startswith("-"):
                    self.refused(USAGE, wrong, "release", wrong)
                    self.refused(USAGE, wrong, "check", wrong)
        self.assertEqual(self.world.json("list"), [])

    def test_what_the_daemon_refuses(self):
        self.refused(USAGE, "", "allocate", "dev", "--retries=4000000000")

    def test_full_disk_gives_back(self):
        with open("/dev/full", "w", encoding="utf-8") as full:
            done = self.world.ctl("allocate", "dev", stdout=full)
        self.assertEqual(done.returncode, FAILED)
        self.assertIn("cannot write", done.stderr)
        self.assertEqual(self.world.json("list"), [])

    def test_full_disk_leaves_what_was_there(self):
        lease = self.world.json("allocate", "dev", "--instance=a")["lease"]
        with open("/dev/full", "w", encoding="utf-8") as full:
            done = self.world.ctl("allocate", "dev", "--instance=a", stdout=full)
        self.assertEqual(done.returncode, FAILED)
        self.assertEqual([one["lease"] for one in self.world.json("list")], [lease])

    def test_release(self):
        self.world.ok("allocate", "dev")
        lease = self.world.json("allocate", "dev")["lease"]
        self.world.ok("allocate", "dns")
        self.assertEqual(self.world.ok("release", "3000", lease), "")
        self.refused(NOT_FOUND, "5300", "release", "5300/tcp")
        self.world.ok("release", "5300/udp")
        self.world.ok("allocate", "dns")
        self.world.ok("release", "5300")
        self.refused(NOT_FOUND, "", "release", lease)
        self.refused(NOT_FOUND, "", "release", "3000")

    def test_release_goes_on(self):
        self.world.ok("allocate", "dev")
        done = self.world.ctl("release", "3009", "3000", "3008")
        self.assertEqual(done.returncode, NOT_FOUND)
        self.assertEqual(len(done.stderr.splitlines()), 2, done.stderr)
        self.assertIn("3009: ", done.stderr)
        self.assertEqual(self.world.json("list"), [])

    def test_release_reads_all_first(self):
        self.world.ok("allocate", "dev")
        self.refused(USAGE, "30x", "release", "3000", "30x")
        self.assertEqual(len(self.world.json("list")), 1)

    def test_instance(self):
        first = self.world.json("allocate", "dev", "--instance=a")
        again = self.world.json("allocate", "dev", "--instance=a")
        self.assertEqual(first["lease"], again["lease"])
        self.assertTrue(again["details"]["reused"])
        self.assertEqual(len(self.world.json("list", "--instance", "a")), 1)
        self.world.ok("release", "--instance", "a")
        self.refused(NOT_FOUND, "'a'", "release", "--instance", "a")

    def test_list(self):
        self.assertEqual(self.world.json("list"), [])
        done = self.world.ctl("list")
        self.assertEqual((done.returncode, done.stdout, done.stderr),
                         (OK, "", "styxyctl: no leases\n"))
        self.world.ok("allocate", "dev", "--label=x.y", "--instance=i")
        self.world.ok("allocate", "dns")
        leases = self.world.json("list")
        self.assertEqual([one["port"] for one in leases], [3000, 5300])
        lease = leases[0]
        self.assertEqual((lease["label"], lease["instance"], lease["service_type"], lease["uid"]),
                         ("x.y", "i", "dev", os.getuid()))
        for words, ports in ((["--type=dns"], [5300]), (["--protocol=tcp"], [3000]),
                             ([f"--uid={os.getuid()}"], [3000, 5300]), (["--uid=4242"], []),
                             (["--health=reserved"], [3000, 5300]), (["--health=active"], [])):
            with self.subTest(words=words):
                found = self.world.json("list", *words)
                self.assertEqual([one["port"] for one in found], ports)
        table = self.world.ok("list").splitlines()
        self.assertEqual(len(table), 3)
        self.assertEqual(table[0].split()[:3], ["PORT", "PROTO", "TYPE"])
        self.assertIn(lease["lease"], table[1])
        self.assertNotIn("\x1b", "".join(table))

    def test_show(self):
        lease = self.world.json("allocate", "dev")["lease"]
        self.assertEqual(self.world.json("show", "3000"), self.world.json("show", lease))
        self.assertEqual(self.world.json("show", "3000/tcp")["lease"], lease)
        self.assertIn(f"lease: {lease}\n", self.world.ok("show", "3000"))
        self.refused(NOT_FOUND, "3000/udp", "show", "3000/udp")
        self.refused(NOT_FOUND, "3003", "show", "3003")
        self.refused(NOT_FOUND, "", "show", "0" * 32)

    def test_check(self):
        self.assertTrue(self.world.ok("check", "3004").startswith("3004/tcp: free\n"))
        with Occupant(3004):
            done = self.world.ctl("check", "3004", "--json=short")
            self.assertEqual((done.returncode, done.stderr), (FAILED, ""))
            answer = json.loads(done.stdout)
            self.assertEqual((answer["port"], answer["protocol"], answer["available"]),
                             (3004, "tcp", False))
            self.assertEqual(answer["details"]["uid"], os.getuid())
            self.assertEqual(self.world.ctl("check", "3004/udp").returncode, OK)
            self.assertIn("in use", self.world.ctl("check", "3004").stdout)

    def test_scan(self):
        with Occupant(3005), Occupant(5305, socket.SOCK_DGRAM):
            sockets = self.world.json("scan", "3000-5400")
            self.assertEqual([(one["port"], one["protocol"]) for one in sockets],
                             [(3005, "tcp"), (5305, "udp")])
            self.assertEqual([one["port"] for one in self.world.json("scan", "3005")], [3005])
            self.assertEqual(len(self.world.ok("scan", "3005").splitlines()), 2)
        self.refused(USAGE, "9-1", "scan", "9-1")
        done = self.world.ctl("scan", "3000-3001")
        self.assertEqual((done.returncode, done.stdout), (OK, ""))

    def test_suggest(self):
        self.assertEqual(self.world.ok("suggest", "dev"), "3000\n")
        self.assertEqual(self.world.json("suggest", "dev", "--count=3"), [3000, 3001, 3002])
        self.assertEqual(self.world.json("list"), [])
        self.world.ok("allocate", "tiny", "--count=2")
        done = self.world.ctl("suggest", "tiny")
        self.assertIn(done.returncode, (FAILED, NOT_FOUND))
        self.assertEqual(done.stdout, "")

    def test_health(self):
        self.world.ok("allocate", "dev")
        self.world.ok("allocate", "api")
        self.assertEqual(len(self.world.json("health")), 2)
        self.assertEqual([one["port"] for one in self.world.json("health", "3010")], [3010])
        table = self.world.ok("health", "3010").splitlines()
        self.assertEqual(len(table), 2)
        self.assertIn("reserved", table[1])


    def test_renew(self):
        lease = self.world.json("allocate", "dev", "--ttl=1h")["lease"]
        for name in (lease, "3000", "3000/tcp"):
            answer = self.world.json("renew", name)
            self.assertEqual(answer["lease"], lease)
            self.assertAlmostEqual(answer["expires_usec"] / 1e6, time.time() + 3600, delta=60)
        self.assertRegex(self.world.ok("renew", "3000"), r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\n$")
        self.world.ok("allocate", "dev")
        self.refused(USAGE, "ttl_ms", "renew", "3001")
        self.refused(NOT_FOUND, "3002", "renew", "3002")
        self.refused(NOT_FOUND, "", "renew", "0" * 32)


class Usage(unittest.TestCase):
    """What is wrong with the command line is said without asking anybody."""

    WRONG = [
        *([verb, operand] for verb in ("show", "health", "check", "release", "renew", "scan")
          for operand in ("80abc", "3.7", "0", "70000", "-1", "", "3000/sctp", "a" * 31)),
        *([verb] for verb in ("allocate", "run", "release", "renew", "show", "check", "suggest",
                              "config")),
        *([verb, "x"] for verb in ("list", "monitor", "status", "metrics", "cleanup", "recover",
                                   "reload")),
        *(["show", "3000", "3001"], ["check", "3000", "3001"], ["health", "3000", "3001"]),
        *(["allocate", "dev", option] for option in
          ("--port=80abc", "--port=3.7", "--port=0", "--port=70000", "--range=9-1", "--range=0-5",
           "--retries=x", "--ttl=0x5", "--pid=0", "--count=0", "--protocol=sctp", "--hold=hard",
           "--lifetime=long", "--on-unhealthy=cry", "--instance=a b", "--label=a\nb", "--port",
           "--socket", "--prometheus", "--frobnicate", "-x")),
        ["suggest", "dev", "--count=3.7"], ["list", "--uid=root"], ["list", "--health=ill"],
        ["list", "--type=a_b"], ["list", "--json=long"], ["run", "dev"], ["frobnicate"], [],
    ]

    def test_refused_before_and_after(self):
        environment = {"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8"}
        nowhere = "--address=unix:path=/nonexistent"
        for words in self.WRONG:
            for command in ([nowhere, *words], [*words, nowhere]):
                with self.subTest(command=command):
                    done = subprocess.run([harness.STYXYCTL, *command], capture_output=True, text=True,
                                          env=environment, stdin=subprocess.DEVNULL, check=False,
                                          timeout=DEADLINE)
                    self.assertEqual((done.returncode, done.stdout), (USAGE, ""), done)
                    self.assertTrue(done.stderr.startswith("styxyctl: "), done.stderr)
                    self.assertEqual(done.stderr.count("\n"), 1, done.stderr)

    def test_global_options_stand_anywhere(self):
        environment = {"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8",
                       "DBUS_SESSION_BUS_ADDRESS": "unix:path=/nonexistent",
                       "XDG_RUNTIME_DIR": "/nonexistent"}
        for option in ("--user", "--json=short", "--json=pretty", "--json=off", "-q", "--quiet",
                       "--no-pager"):
            for words in (["list"], ["show", "3000"], ["allocate", "dev"], ["metrics"], ["cleanup"]):
                for command in ([option, *words, "--user"], [*words, option, "--user"],
                                [words[0], option, "--user", *words[1:]]):
                    with self.subTest(command=command):
                        done = subprocess.run([harness.STYXYCTL, *command], capture_output=True,
                                              text=True, env=environment, check=False,
                                              stdin=subprocess.DEVNULL, timeout=DEADLINE)
                        self.assertEqual((done.returncode, done.stdout), (UNREACHABLE, ""), done)


class HealthCase(Case):
    """A daemon with settings of its own for its looks at the leases."""

    HEALTH = None

    @classmethod
    def setUpClass(cls):
        cls.world = World(cls.HEALTH)
        cls.addClassCleanup(cls.world.close)
        cls.world.start_daemon()


class Health(HealthCase):
    """health, with a daemon that looks often."""

    HEALTH = {"check_interval_ms": 50, "startup_grace_ms": 3600000, "max_failures": 1000}

    def test_table(self):
        process, events = self.world.monitor()
        self.addCleanup(self.world.end, process)
        self.world.ok("allocate", "dev", "--health-url=http://127.0.0.1:{port}/up")
        self.assertRegex(self.world.ok("health"), r"\n *3000 +tcp +dev +reserved +0 ")
        with Occupant(3000):
            events.until(lambda line: json.loads(line).get("health") == "active")
            lease = self.world.json("health", "3000")[0]
            self.assertEqual((lease["health"], lease["failures"]), ("active", 0))
            self.assertGreaterEqual(lease["last_check_usec"], lease["created_usec"])
        events.until(lambda line: json.loads(line).get("health") == "failing")
        lease = self.world.json("health", "3000")[0]
        self.assertEqual(lease["health"], "failing")
        self.assertGreater(lease["failures"], 0)
        header, row = self.world.ok("health", "3000", environment={"COLUMNS": "200"}).splitlines()
        self.assertEqual(re.split("  +", header.strip()),
                         ["PORT", "PROTO", "TYPE", "HEALTH", "FAILURES", "LAST SEEN", "LAST CHECK",
                          "REASON", "USER", "URL"])
        self.assertIn(lease["health_reason"], row)
        self.assertRegex(row, r"failing +\d+ +\d+s +\d+s ")
        self.refused(NOT_FOUND, "3009", "health", "3009")


class Cleanup(HealthCase):
    """cleanup, with a daemon that never looks by itself."""

    HEALTH = {"check_interval_ms": 3600000, "startup_grace_ms": 0}

    def test_cleanup(self):
        done = self.world.ctl("cleanup")
        self.assertEqual((done.returncode, done.stdout, done.stderr),
                         (OK, "", "styxyctl: nothing is stale\n"))
        lease = self.world.json("allocate", "dev")["lease"]
        self.world.ok("allocate", "api")
        found = [{"port": 3000, "lease": lease, "reason": "never-bound"}]
        with Occupant(3010):
            self.assertEqual(self.world.json("cleanup", "--dry-run"), found)
            self.assertEqual(self.world.json("cleanup", "-n"), found)
            self.assertEqual(len(self.world.json("list")), 2)
            table = self.world.ok("cleanup").splitlines()
            self.assertEqual(table[0].split(), ["PORT", "REASON", "LEASE"])
            self.assertEqual(table[1].split(), ["3000", "never-bound", lease])
            self.assertEqual(self.world.json("cleanup"), [])
            self.assertEqual([one["port"] for one in self.world.json("list")], [3010])

    def test_monitor_reads_well(self):
        process = self.world.start("monitor")
        self.addCleanup(self.world.end, process)
        Lines(process.stderr).until("waiting")
        lines = Lines(process.stdout)
        with Occupant(3000):
            lease = self.world.json("allocate", "dev", "--label=secret", "-q")["lease"]
        self.world.ok("cleanup", "-q")
        seen = "\n".join(lines.next() for _ in range(4))
        user = os.getuid()
        for wanted in (r"conflict +3000 dev protocol=tcp",
                       rf"allocated +3001 dev protocol=tcp, uid={user} .* {lease}$",
                       rf"stale +3001 never-bound .* {lease}$",
                       rf"released +3001 never-bound .* {lease}$"):
            self.assertRegex(seen, rf"(?m)^\d\d:\d\d:\d\d {wanted}")
        self.assertNotIn("secret", seen)


@unittest.skipUnless(os.geteuid() == 0 and shutil.which("setpriv"), "needs root and setpriv")
class OtherUser(Case):
    """What somebody else may do and see, on the daemon's own socket."""

    def setUp(self):
        super().setUp()
        self.world.folder.chmod(0o755)
        self.world.address = self.world.direct_address

    def other(self, *words):
        return subprocess.run(["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--",
                               *self.world.command(*words)], env=self.world.environment,
                              capture_output=True, text=True, stdin=subprocess.DEVNULL,
                              timeout=DEADLINE, check=False)

    def test_not_authorized(self):
        lease = self.world.json("allocate", "dev", "--ttl=1h")["lease"]
        for words in (["release", "3000"], ["release", lease], ["renew", "3000"], ["recover"],
                      ["recover", "-n"], ["reload"], ["allocate", "dev", "--port=80", "--strict"]):
            with self.subTest(words=words):
                done = self.other(*words)
                self.assertEqual((done.returncode, done.stdout), (NOT_AUTHORIZED, ""), done)
        self.assertEqual(len(self.world.json("list")), 1)

    def test_label_and_url_are_private(self):
        self.world.ok("allocate", "dev", "--label=s3cret-label",
                      "--health-url=http://127.0.0.1:{port}/s3cret-url")
        self.assertEqual(self.world.ok("--json=short", "list").count("s3cret"), 2)
        for words in (["list"], ["show", "3000"], ["health"], ["check", "3000"], ["scan"], ["status"],
                      ["suggest", "dev"], ["cleanup", "-n"], ["metrics"],
                      ["allocate", "dev", "--port=3000", "--strict", "--retries=0"]):
            for mode in ("--json=short", "--json=off"):
                with self.subTest(words=words, mode=mode):
                    done = self.other(*words, mode)
                    self.assertNotIn("s3cret", done.stdout + done.stderr)


class Daemon(Case):
    """status, metrics, config, reload, recover; and where there is nobody to talk to."""

    def test_status(self):
        self.world.ok("allocate", "dev")
        status = self.world.json("status")
        self.assertEqual((status["state"], status["lease_count"], status["service_type_count"]),
                         ("running", 1, len(harness.CONFIG["service_types"])))
        self.assertEqual(status["config_files"], [str(self.world.config)])
        text = self.world.ok("status")
        self.assertIn("running", text)
        self.assertIn("Leases: 1\n", text)
        self.assertRegex(text, r"\nRecovery: ok, \d+s ago \((startup|request)\), took \d+[mu]s; kept \d,")

    def test_metrics(self):
        before = self.world.json("metrics")["allocations_total"]
        self.world.ok("allocate", "dev")
        self.assertEqual(self.world.json("metrics")["allocations_total"], before + 1)
        self.assertRegex(self.world.ok("metrics"), rf"allocations_total +{before + 1}\n")
        self.assertEqual(set(self.world.json("metrics")), documented_metrics())
        self.assertIn("# TYPE styxy_leases gauge\nstyxy_leases 1\n",
                      self.world.ok("metrics", "--prometheus"))
        refused = self.world.json("metrics")["requests_refused_total"]
        self.refused(NOT_FOUND, "", "show", "0" * 32)
        self.assertEqual(self.world.json("metrics")["requests_refused_total"], refused + 1)
        self.assertIn(f"# TYPE styxy_allocations_total counter\n"
                      f"styxy_allocations_total {before + 1}\n",
                      self.world.ok("metrics", "--prometheus"))

    def test_config_show(self):
        shown = self.world.json("config", "show")
        self.assertEqual(sorted(shown["service_types"]), sorted(harness.CONFIG["service_types"]))
        text = self.world.ok("config", "show")
        self.assertIn(f"# {self.world.config}\n", text)
        self.assertRegex(text, r"\ndev +3000-3009 +3000, 3001 +tcp +multi +Dev\n")

    def test_config_sysctl(self):
        text = self.world.ok("config", "sysctl")
        self.assertIn("\nnet.ipv4.ip_local_reserved_ports = "
                      "3000-3019,4000-4001,5300-5309,11400-11409,20000-31999\n", text)
        path = self.world.folder / "sysctl.conf"
        path.write_text(text, encoding="utf-8")
        # the kernel of the namespace understands it, and says what it is then
        subprocess.run(["sysctl", "-q", "-p", str(path)], check=True)
        with open("/proc/sys/net/ipv4/ip_local_reserved_ports", encoding="utf-8") as now:
            self.assertEqual(now.read().strip(), "3000-3019,4000-4001,5300-5309,11400-11409,20000-31999")

    def test_config_check(self):
        bad = self.world.folder / "bad.json"
        bad.write_text('{\n  "service_types": {\n    "dev": { "port_range": [3000, 99999] }\n  }\n}',
                       encoding="utf-8")
        self.assertEqual(self.world.ctl("config", "check", str(self.world.config)).returncode, OK)
        done = self.world.ctl("config", "check", str(self.world.config), str(bad))
        self.assertEqual(done.returncode, FAILED)
        self.assertIn(f"{bad}:3: ", done.stderr)
        done = self.world.ctl("config", "check", str(bad),
                              environment={"STYXYD_PATH": "/nonexistent"})
        self.assertEqual(done.returncode, FAILED)
        self.assertIn("/nonexistent", done.stderr)

    def test_config_words(self):
        self.refused(USAGE, "'chekc'", "config", "chekc")
        self.refused(USAGE, "'x'", "config", "show", "x")
        self.refused(USAGE, "config", "config")

    def test_reload(self):
        good = self.world.config.read_text(encoding="utf-8")
        self.addCleanup(self.world.ok, "reload")
        self.addCleanup(self.world.config.write_text, good, encoding="utf-8")
        self.world.config.write_text("{", encoding="utf-8")
        self.refused(FAILED, "config.json", "reload")
        self.assertEqual(len(self.world.json("config", "show")["service_types"]), 5)
        more = json.loads(good)
        more["service_types"]["new"] = {"port_range": [6000, 6001]}
        self.world.config.write_text(json.dumps(more), encoding="utf-8")
        self.assertEqual(self.world.ok("reload"), "")
        self.assertIn("new", self.world.json("config", "show")["service_types"])

    def test_recover(self):
        self.world.ok("allocate", "dev")
        answer = self.world.json("recover", "--dry-run")
        self.assertTrue(answer["ok"])
        self.assertEqual([one["step"] for one in answer["steps"]],
                         ["validate-state", "validate-config", "clean-orphans",
                          "verify-singletons", "rebuild-indices"])
        self.assertEqual(len(self.world.ok("recover").splitlines()), 5)
        self.assertEqual(len(self.world.json("list")), 1)

    def test_unreachable(self):
        self.refused(UNREACHABLE, "/nonexistent", "--address=unix:path=/nonexistent", "list",
                     plain=True)
        nowhere = {"DBUS_SESSION_BUS_ADDRESS": "unix:path=/nonexistent",
                   "XDG_RUNTIME_DIR": "/nonexistent",
                   "DBUS_SYSTEM_BUS_ADDRESS": "unix:path=/nonexistent"}
        self.refused(UNREACHABLE, "systemctl --user start styxyd.socket", "--user", "status",
                     plain=True, environment=nowhere)
        if not os.path.exists("/run/styxy/bus"):
            self.refused(UNREACHABLE, "systemctl start styxyd.socket", "status", plain=True,
                         environment=nowhere)

    def test_fallback_to_the_socket(self):
        elsewhere = {"DBUS_SESSION_BUS_ADDRESS": "unix:path=/nonexistent",
                     "XDG_RUNTIME_DIR": str(self.world.folder)}
        self.assertEqual(self.world.ok("--user", "allocate", "dev", plain=True,
                                       environment=elsewhere), "3000\n")

    def test_version_and_help(self):
        self.assertRegex(self.world.ok("--version", plain=True), r"^styxyctl \d")
        text = self.world.ok("--help", plain=True)
        for verb in ("allocate", "run", "config", "reload"):
            self.assertIn(f"\n  {verb}", text)
        self.assertIn("--health-url=URL", self.world.ok("run", "--help", plain=True))


class NoDaemon(unittest.TestCase):
    """A bus on which the daemon is not, and cannot be started."""

    def test_unreachable(self):
        world = World()
        self.addCleanup(world.close)
        for words in (["list"], ["allocate", "dev"], ["run", "dev", "--", "true"], ["status"]):
            done = world.ctl(*words)
            self.assertEqual((done.returncode, done.stdout), (UNREACHABLE, ""), done)
            self.assertIn("systemctl status styxyd", done.stderr)


class Run(Case):
    """run: the command, its signals, its end, and ours."""

    def setUp(self):
        super().setUp()
        self.monitor, self.events = self.world.monitor()
        self.addCleanup(self.world.end, self.monitor)

    def event(self, name):
        """The next signal of this name."""
        return json.loads(self.events.until(lambda line: json.loads(line)["signal"] == name))

    def start(self, *words, **more):
        process = self.world.start("run", *words, **more)
        self.addCleanup(self.world.end, process)
        return process, Lines(process.stdout)

    def test_surroundings_and_status(self):
        done = self.world.ctl("run", "dev", "--", "sh", "-c", "echo $PORT {port} a{port}b; exit 7")
        self.assertEqual((done.returncode, done.stdout, done.stderr),
                         (7, "3000 3000 a3000b\n", ""))
        self.assertEqual(self.event("PortReleased")["reason"], "released")
        self.assertEqual(self.world.json("list"), [])
        self.assertEqual(self.world.ctl("run", "dev", "--", "sh", "-c", "kill -9 $$").returncode,
                         128 + signal.SIGKILL)

    def test_command_that_cannot_run(self):
        for command, status in (("/nonexistent/x", 127), ("no-such-program-here", 127),
                                ("/", 126), ("/etc/passwd", 126)):
            done = self.world.ctl("run", "dev", "--", command)
            self.assertEqual((done.returncode, done.stdout), (status, ""), done)
            self.assertIn(command, done.stderr)
            self.assertEqual(self.world.json("list"), [])

    def test_refused_does_not_run(self):
        with Occupant(3005):
            done = self.world.ctl("run", "dev", "--port=3005", "--strict", "-q", "--", "echo", "ran")
        self.assertEqual((done.returncode, done.stdout), (FAILED, ""), done)

    def test_real_server(self):
        page = self.world.folder / "page"
        page.mkdir()
        (page / "hello").write_text("hello\n", encoding="utf-8")
        with Occupant(3000):
            process, lines = self.start("dev", "-q", "--", sys.executable, "-u", "-m",
                                        "http.server", "--directory", str(page), "{port}")
            lines.until("port 3001")
            with socket.create_connection(("127.0.0.1", 3001), DEADLINE) as client:
                client.sendall(b"GET /hello HTTP/1.0\r\n\r\n")
                answer = client.makefile("rb").read()
            self.assertTrue(answer.endswith(b"\r\n\r\nhello\n"), answer)
            self.assertEqual(self.world.json("show", "3001")["lifetime"], "client")
            process.send_signal(signal.SIGINT)
            # python's server ends quietly at SIGINT
            self.assertIn(process.wait(DEADLINE), (0, 130))
        self.assertEqual(self.world.json("list"), [])

    def test_signals_pass(self):
        script = ("import os, signal, sys\n"
                  "for n in (1, 2, 3, 10, 12, 15, 28): signal.signal(n, lambda n, f: "
                  "print(n, flush=True) or (n == 15 and sys.exit(42)))\n"
                  "print('up', flush=True)\n"
                  "while True: signal.pause()\n")
        process, lines = self.start("dev", "--", sys.executable, "-c", script)
        self.assertEqual(lines.next(), "up")
        for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGUSR1,
                       signal.SIGUSR2, signal.SIGWINCH, signal.SIGTERM):
            process.send_signal(number)
            self.assertEqual(lines.next(), str(int(number)))
        self.assertEqual(process.wait(DEADLINE), 42)

    def test_killed(self):
        """SIGKILL of styxyctl: the command is told, and the port goes back."""
        script = ("import os, signal, sys\n"
                  "signal.signal(15, lambda n, f: print('told', flush=True) or sys.exit())\n"
                  "print(os.getpid(), flush=True)\n"
                  "while True: signal.pause()\n")
        process, lines = self.start("dev", "--", sys.executable, "-c", script)
        command = os.pidfd_open(int(lines.next()))
        self.addCleanup(os.close, command)
        self.addCleanup(kill_if_there, command)
        lease = self.world.json("show", "3000")["lease"]
        process.kill()
        self.assertEqual(lines.next(), "told")
        event = self.event("PortReleased")
        self.assertEqual((event["lease"], event["port"], event["reason"]),
                         (lease, 3000, "client-gone"))
        self.assertEqual(self.world.json("list"), [])

    def test_ignored_stays_ignored(self):
        """nohup styxyctl run: the command gets no SIGHUP either."""
        done = subprocess.run(
            ["sh", "-c", 'trap "" HUP; exec "$@"', "sh",
             *self.world.command("run", "dev", "--", "sh", "-c", "kill -HUP $$; echo alive")],
            env=self.world.environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            timeout=DEADLINE, check=False)
        self.assertEqual(done.stdout, b"alive\n")

    def test_released_by_another(self):
        process, lines = self.start("dev", "--", "sh", "-c", "echo up; read x < {port}.fifo; exit 5",
                                    cwd=self.world.folder)
        fifo = self.world.folder / "3000.fifo"
        if not fifo.exists():
            os.mkfifo(fifo)
        self.assertEqual(lines.next(), "up")
        self.world.ok("release", "3000")
        self.assertIn("was ended (released)", Lines(process.stderr).next())
        fifo.write_text("\n", encoding="utf-8")
        self.assertEqual(process.wait(DEADLINE), 5)

    def test_socket(self):
        script = ("import os, socket, sys\n"
                  "assert os.environ['LISTEN_PID'] == str(os.getpid()), os.environ\n"
                  "assert os.environ['LISTEN_FDS'] == '1'\n"
                  "assert os.environ['LISTEN_FDNAMES'] == 'dev'\n"
                  "s = socket.socket(fileno=3)\n"
                  "assert s.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) == 1\n"
                  "assert s.getsockname()[1] == int(os.environ['PORT']) == int(sys.argv[1])\n"
                  "assert os.get_blocking(3)\n"
                  "print(os.environ['PORT'], flush=True)\n"
                  "s.accept()[0].sendall(b'served')\n")
        process, lines = self.start("dev", "--socket", "--", sys.executable, "-c", script, "{port}")
        port = int(lines.next())
        with socket.create_connection(("127.0.0.1", port), DEADLINE) as client:
            self.assertEqual(client.makefile("rb").read(), b"served")
        self.assertEqual(process.wait(DEADLINE), 0)
        # nobody but the command had the socket
        with Occupant(port):
            pass

    def test_leaves_a_lease_that_was_there(self):
        """Another holds it, and may be serving on it."""
        lease = self.world.json("allocate", "dev", "--instance=a")["lease"]
        done = self.world.ctl("run", "dev", "--instance=a", "--", "echo", "{port}")
        self.assertEqual((done.returncode, done.stdout), (0, "3000\n"))
        self.assertEqual([one["lease"] for one in self.world.json("list")], [lease])

    def test_socket_udp(self):
        script = ("import os, socket\n"
                  "s = socket.socket(fileno=3)\n"
                  "assert s.type == socket.SOCK_DGRAM and s.getsockname()[1] == 5300\n"
                  "print('fine')\n")
        done = self.world.ctl("run", "dns", "--socket", "--", sys.executable, "-c", script)
        self.assertEqual((done.returncode, done.stdout, done.stderr), (0, "fine\n", ""))

    def outlive(self, number):
        """The command outlives the daemon, and has its port when there is one again."""
        script = "import sys\nprint('up', flush=True)\nsys.stdin.readline()\n"
        read_end, write_end = os.pipe()
        process = subprocess.Popen(
            self.world.command("run", "dev", "--", sys.executable, "-c", script),
            env=self.world.environment, stdin=read_end, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, preexec_fn=harness.die_with_parent)
        os.close(read_end)
        self.addCleanup(self.world.end, process)
        self.assertEqual(Lines(process.stdout).next(), "up")
        errors = Lines(process.stderr)
        self.world.stop_daemon(number)
        self.assertIn("lost the daemon", errors.next())
        self.world.start_daemon()
        self.assertIn("the daemon is back, port 3000 is leased", errors.next())
        self.assertEqual([one["port"] for one in self.world.json("list")], [3000])
        os.close(write_end)
        self.assertEqual(process.wait(DEADLINE), 0)
        self.assertEqual(self.world.json("list"), [])

    def test_outlives_a_killed_daemon(self):
        self.outlive(signal.SIGKILL)

    def test_outlives_a_restart(self):
        self.outlive(signal.SIGTERM)


class DirectRun(Run):
    """The same over the daemon's own socket."""

    def setUp(self):
        self.world.address = self.world.direct_address
        self.addCleanup(setattr, self.world, "address", self.world.bus_address)
        super().setUp()


class DirectGrants(Grants):
    """The same over the daemon's own socket."""

    def setUp(self):
        self.world.address = self.world.direct_address
        super().setUp()


class RealServers(Case):
    """Servers that people run, found by their port or by the socket they get."""

    def serve(self, program, words, up, stream):
        """Runs a server, fetches a page from it, ends it, and sees its lease gone."""
        if shutil.which(program) is None:
            self.skipTest(f"{program} is not installed")
        process = self.world.start("run", *words, cwd=self.world.folder)
        self.addCleanup(self.world.end, process)
        output = Lines(getattr(process, stream))
        output.until(up)
        port = self.world.json("list")[0]["port"]
        with socket.create_connection(("127.0.0.1", port), DEADLINE) as client:
            client.sendall(b"GET / HTTP/1.0\r\n\r\n")
            answer = client.makefile("rb").read()
        self.assertTrue(answer.endswith(b"\r\n\r\nstyxy\n"), answer)
        process.send_signal(signal.SIGTERM)
        self.assertIn(process.wait(DEADLINE), (0, 128 + signal.SIGTERM))
        self.assertEqual(self.world.json("list"), [])

    def test_nginx(self):
        (self.world.folder / "nginx.conf").write_text(
            "daemon off; master_process off; pid nginx.pid; error_log stderr notice; events {}\n"
            "http { access_log off; server { include listen.conf; return 200 'styxy\\n'; } }\n",
            encoding="utf-8")
        self.serve("nginx",
                   ["dev", "--", "sh", "-c", "echo 'listen {port};' > listen.conf; "
                    "exec nginx -p . -c nginx.conf -e stderr"],
                   "using the", "stderr")

    def test_node(self):
        script = ("require('http').createServer((q, r) => r.end('styxy\\n'))"
                  ".listen(process.env.PORT, () => console.log('up'))")
        self.serve("node", ["api", "--", "node", "-e", script], "up", "stdout")

    def test_node_socket(self):
        script = ("require('http').createServer((q, r) => r.end('styxy\\n'))"
                  ".listen({fd: 3}, () => console.log('up'))")
        self.serve("node", ["api", "--socket", "--", "node", "-e", script], "up", "stdout")

    def test_gunicorn_socket(self):
        (self.world.folder / "app.py").write_text(
            "def application(environ, start_response):\n"
            "    start_response('200 OK', [])\n"
            "    return [b'styxy\\n']\n", encoding="utf-8")
        self.serve("gunicorn", ["dev", "--socket", "--", "gunicorn", "app:application"],
                   "Booting worker", "stderr")


class Monitor(Case):
    """monitor, as text and as JSON."""

    def check_events(self):
        process, lines = self.world.monitor()
        self.addCleanup(self.world.end, process)
        lease = self.world.json("allocate", "dev")["lease"]
        self.world.ok("release", "3000")
        event = json.loads(lines.next())
        self.assertGreater(event.pop("time_usec"), 1600000000000000)
        self.assertEqual(event.pop("details")["protocol"], "tcp")
        self.assertEqual(event, {"signal": "PortAllocated", "lease": lease, "port": 3000,
                                 "service_type": "dev"})
        event = json.loads(lines.next())
        self.assertEqual((event["signal"], event["lease"], event["reason"]),
                         ("PortReleased", lease, "released"))
        process.send_signal(signal.SIGINT)
        self.assertEqual(process.wait(DEADLINE), OK)

    def test_json(self):
        self.check_events()

    def test_direct(self):
        self.world.address = self.world.direct_address
        self.addCleanup(setattr, self.world, "address", self.world.bus_address)
        self.check_events()

    def test_text(self):
        process = self.world.start("monitor")
        self.addCleanup(self.world.end, process)
        Lines(process.stderr).until("waiting")
        lease = self.world.json("allocate", "dev")["lease"]
        line = Lines(process.stdout).next()
        self.assertRegex(line, rf"^\d\d:\d\d:\d\d allocated +3000 dev .*{lease}$")
        process.send_signal(signal.SIGTERM)
        self.assertEqual(process.wait(DEADLINE), OK)

    def test_end_of_the_direct_daemon(self):
        self.world.address = self.world.direct_address
        self.addCleanup(setattr, self.world, "address", self.world.bus_address)
        process, _ = self.world.monitor()
        self.addCleanup(self.world.end, process)
        self.world.stop_daemon()
        self.addCleanup(self.world.start_daemon)
        self.assertEqual(process.wait(DEADLINE), UNREACHABLE)

    def test_daemon_comes_and_goes(self):
        process = self.world.start("monitor")
        self.addCleanup(self.world.end, process)
        errors = Lines(process.stderr)
        errors.until("waiting")
        self.world.stop_daemon()
        errors.until("the daemon has left")
        self.world.start_daemon()
        errors.until("the daemon is there")
        self.world.ok("allocate", "dev")
        Lines(process.stdout).until("allocated")


class OnTerminal(Case):
    """Widths, colours, the pager, and job control."""

    def show(self, *words, columns=80, **environment):
        terminal = Terminal(self.world.command(*words),
                            {**self.world.environment, "PAGER": "cat", **environment}, columns)
        return terminal.finish()

    def test_fits_and_colours(self):
        self.world.ok("allocate", "dev", "--label=" + "l" * 60)
        for columns in (200, 80, 50, 20):
            text, status = self.show("list", COLUMNS=str(columns))
            self.assertEqual(status, OK)
            self.assertIn("\x1b[1mPORT", text)
            for line in text.splitlines():
                self.assertLessEqual(len(re.sub(r"\x1b\[\d*m", "", line)), columns)
        for environment in ({"NO_COLOR": "1"}, {"TERM": "dumb"}):
            text, _ = self.show("list", **environment)
            self.assertNotIn("\x1b", text)
        self.assertIn("\x1b", self.show("list", NO_COLOR="")[0])

    def test_pager(self):
        pager = self.world.folder / "pager"
        pager.write_text('#!/bin/sh\necho "paged $LESS"\nexec cat\n', encoding="utf-8")
        pager.chmod(pager.stat().st_mode | stat.S_IXUSR)
        self.world.ok("allocate", "dev")
        text, status = self.show("list", PAGER=str(pager))
        self.assertEqual(status, OK)
        self.assertIn("paged FRSXMK", text)
        self.assertIn("3000", text)
        self.assertIn("paged", self.show("list", PAGER="cat", SYSTEMD_PAGER=str(pager))[0])
        for words, environment in ((["list", "--no-pager"], {"PAGER": str(pager)}),
                                   (["list"], {"PAGER": ""}), (["suggest", "dev"], {})):
            self.assertNotIn("paged", self.show(*words, **environment)[0])
        self.assertNotIn("paged", self.world.ok("list", environment={"PAGER": str(pager)}))

    def test_interrupt(self):
        """Ctrl-C goes to the command once, and the status says so."""
        script = ("import signal\n"
                  "signal.signal(2, signal.SIG_DFL)\n"
                  "signal.pthread_sigmask(signal.SIG_BLOCK, {2})\n"
                  "print('up', flush=True)\n"
                  "print('got', int(signal.sigwait({2})), flush=True)\n"
                  "print('more', signal.sigtimedwait({2}, 0.2), 'end', flush=True)\n"
                  "signal.pthread_sigmask(signal.SIG_UNBLOCK, {2})\n"
                  "while True: signal.pause()\n")
        terminal = Terminal(self.world.command("run", "dev", "--", sys.executable, "-c", script),
                            self.world.environment)
        terminal.expect("up")
        terminal.send("\x03")
        self.assertIn("got 2\r\nmore None end", terminal.expect("end"))
        terminal.send("\x03")
        self.assertEqual(terminal.finish()[1], 130)
        self.assertEqual(self.world.json("list"), [])

    def test_stop_and_go_on(self):
        """Ctrl-Z brings the shell back, fg the command; the lease stays meanwhile."""
        environment = {**self.world.environment, "PS1": "", "PS2": "", "HISTFILE": "/dev/null"}
        shell = Terminal(["bash", "--norc", "--noprofile", "--noediting", "-i"], environment)
        command = " ".join(self.world.command("run", "dev", "--", "sh", "-c"))
        shell.send("stty -echo; PS1='ready> '\n")
        shell.expect("ready> ")
        shell.send(f"{command} 'echo up-$PORT; read line; echo got-$line; exit 3'\n")
        shell.expect("up-3000")
        shell.send("\x1a")
        shell.expect("ready> ")
        self.assertEqual(len(self.world.json("list")), 1)
        shell.send("fg\n")
        shell.expect("styxyctl")
        shell.send("word\n")
        shell.expect("got-word")
        shell.expect("ready> ")
        shell.send("echo status-$?\n")
        shell.expect("status-3")
        shell.send("exit\n")
        shell.finish()
        self.assertEqual(self.world.json("list"), [])


if __name__ == "__main__":
    harness.enter_namespace()
    unittest.main(verbosity=2)
