#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""The real daemon over every kind of state: it comes up, says what was wrong, keeps it, and works."""

import contextlib
import json
import os
import pathlib
import signal
import subprocess
import unittest

import harness
import ports
from harness import STYXYD, Occupant

CONFIG = {
    "service_types": {
        "dev": {"port_range": [3000, 3099]},
        "ai": {"port_range": [11400, 11409], "instance_behavior": "single"},
    },
    "recovery": {"health_monitoring": {"enabled": False}},
}
BACKUPS_MAX = 10
GIGABYTE = 1 << 30
OTHER_ID = "00112233445566778899aabbccddeeff"


def crc32c(text):
    crc = 0xFFFFFFFF
    for byte in text.encode():
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return f"{crc ^ 0xFFFFFFFF:08x}"


def record(members):
    """A record whose checksum is right, whatever its members say."""
    text = json.dumps(members, separators=(",", ":"))[1:]
    return '{"crc":"' + crc32c(text) + '",' + text


def boot_id():
    return pathlib.Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip().replace("-", "")


def lease(number, port, **more):
    return {"lease": f"{number:032x}", "port": port, "protocol": "tcp", "service_type": "dev", "uid": 0,
            "lifetime": "persistent", "health": "reserved", "created_usec": 1700000000000000 + number, **more}


def snapshot(leases, version=1):
    head = {"version": version, "boot_id": boot_id(), "sequence": 7}
    return (f'{{"version":{version},"boot_id":"{boot_id()}",\n"head":' + record(head)
            + ',\n"allocations":[\n' + ",\n".join(record(one) for one in leases) + "\n]}\n")


# What can be in the place of a file, and what the report says of it.
def empty(path):
    path.write_bytes(b"")


def brackets(path):
    path.write_bytes(b"[" * 80000)


def gigabyte(path):
    with open(path, "wb") as file:
        file.truncate(GIGABYTE)


def nul_bytes(path):
    path.write_bytes(b"\0" * 5000)


def directory(path):
    path.mkdir()
    (path / "inside").write_bytes(b"x")


def symlink(path):
    target = path.parent.parent / "elsewhere"
    target.write_text("not ours", encoding="ascii")
    path.symlink_to(target)


def wrong_types(path):
    path.write_text('{"version": "one", "allocations": {"port": []}, "singletonServices": 7}', encoding="ascii")


def noise(path):
    path.write_bytes(bytes(range(256)) * 40)


RUBBISH = [empty, brackets, gigabyte, nul_bytes, directory, symlink, wrong_types, noise]


class DamageTest(unittest.TestCase):
    def setUp(self):
        self.world = ports.World(CONFIG)
        self.addCleanup(self.world.close)
        self.state = self.world.folder / "state"
        self.state.mkdir(mode=0o700)

    @contextlib.contextmanager
    def client(self):
        with self.world.client() as client:
            yield client

    def report(self, client):
        return client.call("GetRecoveryReport")[0]

    def state_of(self, client):
        return client.raw("org.freedesktop.DBus.Properties", "Get",
                          ports.GLib.Variant("(ss)", (ports.NAME, "State")))[0][0]

    def leases(self, client):
        return {entry["port"]: entry["lease"] for entry in client.list()}

    def copies(self):
        return sorted(path for path in self.state.iterdir() if ".corrupt." in path.name)

    def assert_works(self, client):
        """A grant is made, and outlives a SIGKILL."""
        port, granted, _ = client.allocate("dev", lifetime="persistent")
        self.world.kill_daemon()
        self.world.start_daemon()
        with self.client() as again:
            self.assertEqual(self.leases(again)[port], granted)
            again.release(granted)

    # -- absurd files ----------------------------------------------------------------------------

    def test_rubbish(self):
        for name in ("state.json", "state.journal"):
            for put in RUBBISH:
                with self.subTest(name=name, rubbish=put.__name__):
                    self.rubbish(name, put)

    def rubbish(self, name, put):
        subprocess.run(["rm", "-rf", str(self.state)], check=True)
        self.state.mkdir(mode=0o700)
        self.world.start_daemon()
        with self.client() as client:
            client.allocate("dev", lifetime="persistent")
        self.world.stop_daemon()
        (self.state / name).unlink()
        (self.state / "state.json.previous").unlink(missing_ok=True)
        put(self.state / name)
        self.world.start_daemon()
        with self.client() as client:
            report = self.report(client)
            steps = {step: (result, details) for step, result, details in report["steps"]}
            result, details = steps["validate-state"]
            said = "\n".join(details["messages"])
            self.assertEqual(result, "repaired", report)
            self.assertIn(name, said)
            self.assertTrue(report["ok"])
            self.assertEqual(self.state_of(client), "running")
            self.assertIn(name, self.world.read_log())
            copies = [path for path in self.copies() if path.name.startswith(name + ".corrupt.")]
            self.assertEqual(len(copies), 1)
            self.assertIn(str(copies[0]), report["backups"])
            self.assert_kept(copies[0], put)
            self.assert_works(client)
        self.world.stop_daemon()
        elsewhere = self.world.folder / "elsewhere"
        if elsewhere.exists():
            self.assertEqual(elsewhere.read_text(encoding="ascii"), "not ours")

    def assert_kept(self, copy, put):
        if put is directory:
            self.assertEqual((copy / "inside").read_bytes(), b"x")
        elif put is symlink:
            self.assertTrue(copy.is_symlink())
        elif put is gigabyte:
            self.assertEqual(copy.stat().st_size, GIGABYTE)
            # a gigabyte of nothing stays nothing on the disk
            self.assertLess(copy.stat().st_blocks * 512, 1 << 20)
        else:
            expected = self.world.folder / "expected"
            put(expected)
            self.assertEqual(copy.read_bytes(), expected.read_bytes())
            expected.unlink()

    def start_with(self, leases, **more):
        (self.state / "state.json").write_text(snapshot(leases, **more), encoding="ascii")
        self.world.start_daemon()

    def test_wrong_records(self):
        """Records that no daemon wrote, with checksums that are right."""
        same = lease(5, 3003)
        self.start_with([lease(1, 0), lease(2, 70000), lease(3, "3001"), lease(4, 3002), same, same,
                         lease(6, 3004), lease(7, 3004)])
        with self.client() as client:
            there = self.leases(client)
            self.assertEqual(there, {3002: f"{4:032x}", 3003: f"{5:032x}", 3004: f"{7:032x}"})
            report = self.report(client)
            said = "\n".join(report["steps"][0][2]["messages"])
            for words in ("port", "twice", "another record names the same port"):
                self.assertIn(words, said)
            self.assertEqual(len(report["backups"]), 1)
            self.assert_works(client)

    def test_future_version(self):
        self.start_with([lease(1, 3000)], version=99)
        with self.client() as client:
            self.assertEqual(self.leases(client), {})
            report = self.report(client)
            self.assertIn("version 99", "\n".join(report["steps"][0][2]["messages"]))
            kept = pathlib.Path(report["backups"][0]).read_text(encoding="ascii")
            self.assertEqual(kept, snapshot([lease(1, 3000)], version=99))
            self.assert_works(client)

    def test_copies_are_bounded(self):
        self.world.start_daemon()
        for _ in range(BACKUPS_MAX + 5):
            self.world.stop_daemon()
            (self.state / "state.json").write_bytes(b"rubbish")
            self.world.start_daemon()
            with self.client() as client:
                newest = self.report(client)["backups"]
            self.assertTrue(newest)
            for path in newest:
                self.assertTrue(os.path.exists(path), path)
        self.assertLessEqual(len(self.copies()), BACKUPS_MAX)

    def test_clock_set_back(self):
        """Copies from a time to come must not push out the one that was just made."""
        for number in range(BACKUPS_MAX):
            (self.state / f"state.json.corrupt.2999010{number}T000000Z").write_bytes(b"old")
        (self.state / "state.json").write_bytes(b"rubbish")
        self.world.start_daemon()
        with self.client() as client:
            (newest,) = self.report(client)["backups"]
        self.assertEqual(pathlib.Path(newest).read_bytes(), b"rubbish")
        self.assertLessEqual(len(self.copies()), BACKUPS_MAX)

    def test_lost_and_served(self):
        """A lease whose record is lost and whose service is there: nobody else gets the port."""
        self.world.start_daemon()
        with self.client() as client:
            for _ in range(3):
                client.allocate("dev", lifetime="persistent")
            lost = self.leases(client)[3001]
        self.world.stop_daemon()
        for name in ("state.json", "state.journal", "state.json.previous"):
            path = self.state / name
            if path.exists():
                path.write_bytes(path.read_bytes().replace(lost.encode(), lost[:-1].encode() + b"!"))
        with Occupant(3001):
            self.world.start_daemon()
            with self.client() as client:
                entries = {entry["port"]: entry for entry in client.list()}
                self.assertEqual(set(entries), {3000, 3001, 3002})
                self.assertEqual(entries[3001]["health"], "quarantined")
                self.assertNotEqual(entries[3001]["lease"], lost)
        # its service has gone while the daemon was away: so does the quarantine
        self.world.stop_daemon()
        self.world.start_daemon()
        with self.client() as client:
            self.assertEqual(set(self.leases(client)), {3000, 3002})

    # -- starts that come to nothing -------------------------------------------------------------

    def test_crash_loop(self):
        self.world.start_daemon()
        with self.client() as client:
            client.allocate("dev", lifetime="persistent")
        self.world.stop_daemon()
        kept = (self.state / "state.json").read_bytes()
        # as three starts leave it that died in the middle of it
        (self.state / "starts").write_text("3\n", encoding="ascii")
        self.world.start_daemon()
        with self.client() as client:
            self.assertEqual(self.state_of(client), "degraded")
            self.assertEqual(self.leases(client), {})
            self.assertFalse(self.report(client)["ok"])
            aside = [path for path in self.copies() if path.name.startswith("state.json.corrupt.")]
            self.assertEqual([path.read_bytes() for path in aside], [kept])
            self.assertIn("set aside", self.world.read_log())
            client.allocate("dev")
            self.assertIn("degraded", self.world.ok("status"))
        self.world.stop_daemon()
        self.world.start_daemon()
        with self.client() as client:
            self.assertEqual(self.state_of(client), "running")

    def test_starts_that_died_are_counted(self):
        """A daemon that dies while it recovers leaves the count behind; one that has recovered does not."""
        os.mkfifo(self.state / "state.json.new")
        self.world.start_daemon()
        self.assertEqual((self.state / "starts").read_text(encoding="ascii").strip(), "0")
        self.world.kill_daemon()
        self.world.start_daemon()
        self.assertEqual((self.state / "starts").read_text(encoding="ascii").strip(), "0")

    # -- switched off ----------------------------------------------------------------------------

    def test_switched_off(self):
        for setting in ({"enabled": False}, {"run_on_startup": False}):
            with self.subTest(setting=setting):
                subprocess.run(["rm", "-rf", str(self.state)], check=True)
                self.state.mkdir(mode=0o700)
                self.world.configure(
                    {**CONFIG, "recovery": {**CONFIG["recovery"], "system_recovery": setting}})
                # two of a singleton: recovery would end one
                self.start_with([lease(1, 11400, service_type="ai"), lease(2, 11401, service_type="ai")])
                with self.client() as client:
                    self.assertEqual(set(self.leases(client)), {11400, 11401})
                    # the crafted file has no end, which is damage, and what is kept is written whole
                    self.assertTrue(self.report(client)["backups"])
                self.world.kill_daemon()
                self.world.start_daemon()
                with self.client() as client:
                    self.assertEqual(set(self.leases(client)), {11400, 11401})
                    self.assertEqual(self.report(client)["backups"], [])
                self.world.stop_daemon()
                self.world.configure(CONFIG)
                self.world.start_daemon()
                with self.client() as client:
                    self.assertEqual(set(self.leases(client)), {11401})
                self.world.stop_daemon()

    # -- one daemon at a time --------------------------------------------------------------------

    def test_second_daemon(self):
        self.world.start_daemon()
        with self.client() as client:
            port, granted, _ = client.allocate("dev", lifetime="persistent")
            before = {path.name: path.stat().st_mtime_ns for path in self.state.iterdir()}
            done = subprocess.run(
                [STYXYD, f"--address={self.world.bus_address}", f"--config={self.world.config}",
                 f"--state-dir={self.state}", f"--runtime-dir={self.world.folder}/other"],
                env={**self.world.environment, "STYXY_IDLE_MSEC": "0"}, capture_output=True, text=True,
                timeout=harness.DEADLINE, check=False)
            self.assertEqual(done.returncode, 1, done.stderr)
            self.assertIn(f"another daemon is using the state in {self.state}", done.stderr)
            after = {path.name: path.stat().st_mtime_ns for path in self.state.iterdir()}
            self.assertEqual(before, after)
            self.assertEqual(self.leases(client), {port: granted})
        with self.world.client(direct=True) as direct:
            self.assertEqual(self.leases(direct), {port: granted})
            direct.release(granted)

    def test_limit_on_file_sizes(self):
        """EFBIG is a full disk: refused calls, and a daemon that lives on."""
        self.world.start_daemon()
        with self.client() as client:
            granted = client.allocate("dev")[1]
            size = (self.state / "state.journal").stat().st_size
            subprocess.run(["prlimit", f"--pid={self.world.daemon.pid}", f"--fsize={size}:"], check=True)
            for lifetime in ("auto", "persistent"):
                with self.assertRaises(ports.Refused) as refused:
                    client.allocate("dev", lifetime=lifetime)
                self.assertEqual(refused.exception.name, "StateUnavailable")
            with self.assertRaises(ports.Refused) as refused:
                client.release(granted)
            self.assertEqual(refused.exception.name, "StateUnavailable")
            self.assertEqual(self.state_of(client), "degraded")
            self.assertEqual(list(self.leases(client).values()), [granted])
            subprocess.run(["prlimit", f"--pid={self.world.daemon.pid}", "--fsize=unlimited:"], check=True)
            client.allocate("dev")
            self.assertEqual(self.state_of(client), "running")
            there = self.leases(client)
        self.world.stop_daemon(signal.SIGKILL)
        self.world.start_daemon()
        with self.client() as client:
            self.assertEqual(self.leases(client), there)


if __name__ == "__main__":
    harness.enter_namespace()
    unittest.main(verbosity=2)
