#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Holds the source tree against the rules of the house.

Reads src/ and tests/ and complains about
- an #include that points upward or sideways between the folders of src/,
- an #include in quotes that does not name a folder,
- a user of sd-bus outside the folders that speak D-Bus,
- a C file, header or script without an SPDX line,
- a C file or header that has grown too long.

usage: check-includes.py SOURCE_ROOT | check-includes.py --self-test
"""

import pathlib
import re
import sys
import tempfile

# What each folder of src/ may include, besides itself. Nothing else is allowed: store/ and probe/
# stand side by side and know nothing of each other.
MAY_INCLUDE = {
    "util": [],
    "core": ["util"],
    "store": ["core", "util"],
    "probe": ["core", "util"],
    "recovery": ["probe", "store", "core", "util"],
    "bus": ["recovery", "probe", "store", "core", "util"],
    "daemon": ["bus", "recovery", "probe", "store", "core", "util"],
    "cli": ["core", "util"],
}

SPEAKS_DBUS = ["bus", "cli"]
LINES_MAX = 900

INCLUDE = re.compile(r'^\s*#\s*include\s*(?:"([^"]*)"|<([^>]*)>)')
SPDX = "SPDX-License-Identifier: LGPL-2.1-or-later"


def check_include(folder, name, quoted):
    """Returns what is wrong with one #include of a file in src/FOLDER, or None."""
    if not quoted:
        if name == "systemd/sd-bus.h" and folder not in SPEAKS_DBUS:
            return f"{folder}/ includes <{name}>: only {' and '.join(SPEAKS_DBUS)} speak D-Bus"
        return None
    if name == "config.h":
        return None
    if "/" not in name:
        return f'"{name}" does not say which folder it is in'
    target = name.split("/")[0]
    if target not in MAY_INCLUDE:
        return f'"{name}": there is no folder {target}/'
    if target != folder and target not in MAY_INCLUDE[folder]:
        return f'"{name}": {folder}/ may not reach into {target}/'
    return None


def check_text(path, text):
    """Returns what is wrong with any file, wherever it lies: a list of messages."""
    wrong = []
    lines = text.splitlines()
    if not any(SPDX in line for line in lines[:3]):
        wrong.append(f"{path}:1: no line with {SPDX}")
    if path.suffix in (".c", ".h") and len(lines) > LINES_MAX:
        wrong.append(f"{path}:{len(lines)}: longer than {LINES_MAX} lines")
    return wrong


def check_tree(root):
    """Returns all messages about the tree under ROOT, and the number of files read."""
    wrong = []
    files = 0
    for path in sorted((root / "src").glob("**/*.[ch]")):
        files += 1
        place = path.relative_to(root)
        text = path.read_text(encoding="utf-8")
        wrong += check_text(place, text)
        folder = place.parts[1]
        if folder not in MAY_INCLUDE:
            wrong.append(f"{place}:1: {folder}/ is not a folder that this check knows")
            continue
        for number, line in enumerate(text.splitlines(), 1):
            match = INCLUDE.match(line)
            if match is None:
                continue
            message = check_include(folder, match[1] or match[2], match[1] is not None)
            if message is not None:
                wrong.append(f"{place}:{number}: {message}")
    for top in ("tests", "tools"):
        for path in sorted((root / top).glob("**/*")):
            if path.suffix in (".c", ".h", ".py", ".sh") and path.is_file():
                files += 1
                wrong += check_text(path.relative_to(root), path.read_text(encoding="utf-8"))
    return wrong, files


def self_test():
    """Builds small trees with one fault each and sees it found."""
    head = f"/* {SPDX} */\n"
    cases = [
        ("src/core/a.c", head + '#include "util/fd.h"\n#include "core/b.h"\n', None),
        ("src/daemon/a.c", head + '#include "bus/iface.h"\n#include <systemd/sd-daemon.h>\n', None),
        ("src/bus/a.c", head + "#include <systemd/sd-bus.h>\n", None),
        ("src/core/a.c", head + '#include "store/store.h"\n', "core/ may not reach into store/"),
        ("src/util/a.h", head + '  #  include  "core/lease.h"\n', "util/ may not reach into core/"),
        ("src/store/a.c", head + '#include "probe/process.h"\n', "may not reach into probe/"),
        ("src/probe/a.c", head + '#include "store/store.h"\n', "may not reach into store/"),
        ("src/cli/a.c", head + '#include "bus/errors.h"\n', "cli/ may not reach into bus/"),
        ("src/bus/a.c", head + '#include "cli/verb.h"\n', "bus/ may not reach into cli/"),
        ("src/bus/a.c", head + '#include "daemon/main.h"\n', "bus/ may not reach into daemon/"),
        ("src/core/a.c", head + '#include "lease.h"\n', "does not say which folder"),
        ("src/core/a.c", head + '#include "cores/lease.h"\n', "no folder cores/"),
        ("src/recovery/a.c", head + "#include <systemd/sd-bus.h>\n", "speak D-Bus"),
        ("src/extra/a.c", head, "not a folder that this check knows"),
        ("src/core/a.c", "int a;\n", "no line with"),
        ("tests/x/a.py", "pass\n", "no line with"),
        ("src/core/a.c", head + "\n" * LINES_MAX, "longer than"),
        ("src/core/a.c", head + "\n" * (LINES_MAX - 1), None),
    ]
    for name, text, expected in cases:
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / name
            path.parent.mkdir(parents=True)
            path.write_text(text, encoding="utf-8")
            wrong, files = check_tree(pathlib.Path(folder))
        assert files == 1, name
        if expected is None:
            assert wrong == [], wrong
        else:
            assert len(wrong) == 1 and expected in wrong[0], (name, text[:80], wrong)
    print(f"{len(cases)} faults and non-faults told apart")


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    if sys.argv[1] == "--self-test":
        self_test()
        return
    wrong, files = check_tree(pathlib.Path(sys.argv[1]))
    for message in wrong:
        print(message, file=sys.stderr)
    if files == 0:
        sys.exit(f"{sys.argv[1]}: nothing to read")
    if wrong:
        sys.exit(1)
    print(f"{files} files, nothing wrong")


main()
