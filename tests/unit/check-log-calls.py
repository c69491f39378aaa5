#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Holds every log call of src/ and the ids of messages against the rules.

- What may be written at notice or above has a MESSAGE_ID out of the one header.
- Each id is random, stands there once, and is used; each catalog has exactly those.

usage: check-log-calls.py SOURCE_ROOT CATALOG... | check-log-calls.py --self-test
"""

import pathlib
import re
import sys

HEADER = "src/recovery/message-ids.h"
DEFINE = re.compile(r'^#define (MESSAGE_\w+) "([^"]*)"$', re.M)
# The module itself passes GLib's messages on with the id that it was given.
EXCEPT = "src/util/log.c"
CALL = re.compile(r"\b(log_(?:write|emerg|alert|crit|error|warning|notice))\s*\(")


def arguments(text, start):
    """The arguments of the call whose parenthesis opens before START."""
    depth, quoted, found, begin = 0, False, [], start
    for at in range(start, len(text)):
        c = text[at]
        if quoted:
            quoted = not (c == '"' and text[at - 1] != "\\")
        elif c == '"':
            quoted = True
        elif c in "([{":
            depth += 1
        elif c in ")]}" and depth > 0:
            depth -= 1
        elif c == ")" or (c == "," and depth == 0):
            found.append(" ".join(text[begin:at].split()))
            begin = at + 1
            if c == ")":
                return found
    return found


def check_calls(name, text, ids, used):
    """Messages about the log calls of one file; the ids it uses are added to USED."""
    wrong = []
    for match in CALL.finditer(text):
        line = text.count("\n", 0, match.start()) + 1
        found = arguments(text, match.end())
        if match[1] != "log_write":
            wrong.append(f"{name}:{line}: {match[1]}() writes without a MESSAGE_ID")
            continue
        names = re.findall(r"\bMESSAGE_\w+", found[1])
        used.update(names)
        if not names and found[0] not in ("LOG_INFO", "LOG_DEBUG"):
            wrong.append(f"{name}:{line}: a line at {found[0]} has no MESSAGE_ID")
        for unknown in set(names) - set(ids):
            wrong.append(f"{name}:{line}: {unknown} is not in {HEADER}")
    return wrong


def check_ids(defines, used, catalogs):
    """DEFINES: pairs of name and id. CATALOGS: texts by file name."""
    wrong = []
    values = [value for _, value in defines]
    for name, value in defines:
        if not re.fullmatch(r"[0-9a-f]{32}", value):
            wrong.append(f"{HEADER}: {name} is not 32 hexadecimal digits")
        if values.count(value) > 1:
            wrong.append(f"{HEADER}: {name} has the id of another")
        if name not in used:
            wrong.append(f"{HEADER}: {name} is never written")
    for file, text in catalogs.items():
        there = re.findall(r"^-- (\S+)$", text, re.M)
        for name, value in defines:
            if there.count(value) != 1:
                wrong.append(f"{file}: {there.count(value)} entries for {name}")
        for value in set(there) - set(values):
            wrong.append(f"{file}: {value} is no message of ours")
    return wrong


def check_tree(root, catalogs):
    defines = DEFINE.findall((root / HEADER).read_text(encoding="utf-8"))
    used, wrong = set(), []
    for path in sorted((root / "src").glob("**/*.c")):
        name, text = str(path.relative_to(root)), path.read_text(encoding="utf-8")
        if name != EXCEPT:
            wrong += check_calls(name, text, dict(defines), used)
            used.update(re.findall(r"log_set_library_message_id\((MESSAGE_\w+)\)", text))
        for stray in DEFINE.findall(text):
            wrong.append(f"{name}: {stray[0]} belongs into {HEADER}")
    return wrong + check_ids(defines, used, catalogs), len(defines)


def self_test():
    ids = {"MESSAGE_A": "a" * 32}
    for call, fault in (
        ('log_write(LOG_WARNING, NULL, NULL, 0, "x");', "no MESSAGE_ID"),
        ('log_write(ok ? LOG_INFO : LOG_ERR, NULL, NULL, 0, "x (%s)", f(1, 2));', "no MESSAGE_ID"),
        ('log_warning("x");', "without a MESSAGE_ID"),
        ('log_write(LOG_ERR, MESSAGE_B, NULL, 0, "x");', "is not in"),
        ('log_write(LOG_INFO, NULL, NULL, 0, "x");', None),
        ('log_write(priority, b ? MESSAGE_A : MESSAGE_A, NULL, 0, "x, (");', None),
        ('log_info("x");', None),
    ):
        found = check_calls("a.c", call, ids, set())
        assert (fault is None and not found) or (len(found) == 1 and fault in found[0]), (call, found)
    good = f"-- {'a' * 32}\nSubject: x\n"
    for defines, used, text, fault in (
        ([("MESSAGE_A", "a" * 32)], {"MESSAGE_A"}, good, None),
        ([("MESSAGE_A", "a" * 32)], set(), good, "never written"),
        ([("MESSAGE_A", "a" * 32)], {"MESSAGE_A"}, "", "0 entries"),
        ([("MESSAGE_A", "a" * 32)], {"MESSAGE_A"}, good + good, "2 entries"),
        ([("MESSAGE_A", "a" * 32)], {"MESSAGE_A"}, good + f"-- {'b' * 32}\n", "no message of ours"),
        ([("MESSAGE_A", "A" * 32)], {"MESSAGE_A"}, f"-- {'A' * 32}\n", "not 32 hexadecimal"),
    ):
        found = check_ids(defines, used, {"c": text})
        assert (fault is None and not found) or (len(found) == 1 and fault in found[0]), found


def main():
    if sys.argv[1:] == ["--self-test"]:
        self_test()
        return
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    catalogs = {path: pathlib.Path(path).read_text(encoding="utf-8") for path in sys.argv[2:]}
    wrong, count = check_tree(pathlib.Path(sys.argv[1]), catalogs)
    for message in wrong:
        print(message, file=sys.stderr)
    if wrong or count == 0:
        sys.exit(1)
    print(f"{count} kinds of messages, each explained in {len(catalogs)} languages")


main()
