#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""One user at full blast beside a quiet one, through the brokers of a real systemd."""

import json
import pathlib
import sys

sys.path.append(str(pathlib.Path(__file__).parents[1] / "system"))

import nspawn  # noqa: E402
from fairness import CONFIG, CONNECTIONS, FLOOD, WINDOW, Fairness, Loud  # noqa: E402

QUIET_UID, LOUD_UID = 1, 65534  # daemon and nobody: dbus-daemon takes nobody without a name
BUS = "/run/dbus/system_bus_socket"
PROGRAM = ("/usr/bin/python3", "/usr/local/bin/flood.py")


class ThroughDbusBroker(Fairness, nspawn.MachineTest):
    broker = "dbus-broker"

    def quiet(self, path, calls):
        said = self.machine.output(*PROGRAM, "quiet", path, str(calls), uid=QUIET_UID,
                                   seconds=240)
        return tuple(map(float, said.split()))

    def start_loud(self, path):
        return Loud(self.machine.popen(*PROGRAM, "loud", path, str(CONNECTIONS), str(WINDOW),
                                       uid=LOUD_UID, **Loud.PIPES))

    def test_a_quiet_user_beside_a_loud_one(self):
        self.machine.write("/etc/styxy/core-ports.d/50-test.json", json.dumps(CONFIG))
        self.machine.write("/usr/local/bin/flood.py", FLOOD.read_text(encoding="utf-8"))
        self.quiet_beside_loud(BUS)


class ThroughDbusDaemon(ThroughDbusBroker):
    broker = "dbus-daemon"


if __name__ == "__main__":
    nspawn.main()
