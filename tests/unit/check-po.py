#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Holds the translations against the sources.

- POTFILES.in names every file with a text to translate, and no other.
- Each language has every text of today's sources, translated, none of them fuzzy, and no other.

usage: check-po.py SOURCE_ROOT
"""

import pathlib
import re
import subprocess
import sys
import tempfile

MARK = re.compile(r'\b(?:N?_|ngettext|Q_|C_|NC_)\s*\(\s*"')


def run(*command):
    """What is wrong, as the tool says it; empty where all is well."""
    done = subprocess.run(command, capture_output=True, text=True, check=False,
                          env={"LC_ALL": "C", "PATH": "/usr/local/bin:/usr/bin:/bin"})
    return done.returncode, (done.stdout + done.stderr).strip()


def check_potfiles(root):
    listed = [line for line in (root / "po/POTFILES.in").read_text(encoding="utf-8").splitlines()
              if line and not line.startswith("#")]
    marked = {str(path.relative_to(root)) for path in (root / "src").glob("**/*.c")
              if MARK.search(path.read_text(encoding="utf-8"))}
    marked |= {str(path.relative_to(root)) for path in (root / "data").glob("*.policy.in")}
    wrong = [f"POTFILES.in lacks {name}" for name in sorted(marked - set(listed))]
    wrong += [f"POTFILES.in names {name}, which has nothing to translate"
              for name in sorted(set(listed) - marked)]
    return wrong, listed


def extract(root, files, pot):
    """Writes the texts of today; needs gettext's rules for polkit's files."""
    status, said = run("xgettext", "--from-code=UTF-8", "--keyword=_", "--keyword=N_", "--add-comments",
                       f"--directory={root}", f"--output={pot}", *files)
    if status != 0:
        sys.exit(f"xgettext: {said}")


def check_language(path, pot):
    wrong = []
    status, said = run("msgfmt", "--check", "--statistics", "--output-file=/dev/null", str(path))
    if status != 0 or "fuzzy" in said or "untranslated" in said:
        wrong.append(f"{path.name}: {said}")
    status, said = run("msgcmp", str(path), str(pot))
    if status != 0:
        wrong.append(f"{path.name}: {said}")
    # the other way round: what no source has any more; a template counts as translated here
    status, said = run("msgcmp", "--use-untranslated", str(pot), str(path))
    if status != 0 or "not used" in said:
        wrong.append(f"{path.name}: {said}")
    return wrong


def main():
    root = pathlib.Path(sys.argv[1])
    languages = (root / "po/LINGUAS").read_text(encoding="utf-8").split("\n")
    languages = [word for line in languages if not line.startswith("#") for word in line.split()]
    wrong, files = check_potfiles(root)
    with tempfile.TemporaryDirectory() as folder:
        pot = pathlib.Path(folder) / "styxy.pot"
        extract(root, files, pot)
        for language in languages:
            wrong += check_language(root / f"po/{language}.po", pot)
    for message in wrong:
        print(message, file=sys.stderr)
    if wrong or not languages:
        sys.exit(1)
    print(f"{len(files)} files, complete in {' '.join(languages)}")


main()
