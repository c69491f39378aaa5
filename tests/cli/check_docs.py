#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Holds man pages and completions against what the programs say of themselves.

The programs' own help is right: every verb and option of it has an entry in the man page and in each
completion, at the verb that takes it, and none of these knows one that the program does not.

usage: check_docs.py SOURCE_ROOT MAN_FOLDER STYXYCTL STYXYD
"""

import functools
import pathlib
import re
import shutil
import subprocess
import sys
import unittest

SOURCE, MAN = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
STYXYCTL, STYXYD = sys.argv[3:5]
COMPLETIONS = SOURCE / "data/completions"
ENVIRONMENT = {"LC_ALL": "C.UTF-8", "PATH": "/usr/local/bin:/usr/bin:/bin"}


def said(*command):
    return subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, check=True,
                          stdin=subprocess.DEVNULL, timeout=60).stdout


def help_options(text):
    return set(re.findall(r"^ +(?:-\w,? )?\s*(--[a-z-]+)", text, re.M))


@functools.cache
def help_verbs():
    return set(re.findall(r"^  ([a-z]+)", said(STYXYCTL, "--help").split("Options:")[0], re.M))


@functools.cache
def options_of(verb):
    return help_options(said(STYXYCTL, verb, "--help"))


def plain(text):
    """A man page without its fonts and escapes."""
    return re.sub(r"\\f(?:\[[^]]*\]|.)", "", text).replace("\\-", "-").replace("\\&", "")


def section(text, name):
    return re.split(r"^\.SH ", text.split(f"\n.SH {name}\n", 1)[1], maxsplit=1, flags=re.M)[0]


def tags(text):
    """The line behind each .TP."""
    return re.findall(r"^\.TP\n(.*)$", text, re.M)


class ManPages(unittest.TestCase):
    page = plain((MAN / "styxyctl.1").read_text(encoding="utf-8"))

    def test_verbs(self):
        found = set()
        for tag in tags(section(self.page, "VERBS")):
            found.add(re.match(r'\.(?:BI?) "?([a-z]+)', tag)[1])
        self.assertEqual(found, help_verbs())

    def test_options(self):
        found = set()
        for tag in tags(section(self.page, "OPTIONS")):
            found.update(re.findall(r"--[a-z-]+", tag))
        known = set().union(*(options_of(verb) for verb in help_verbs()))
        self.assertEqual(found, known)
        mentioned = set(re.findall(r"--[a-z][a-z-]*", self.page))
        others = {"--directory"}  # of programs in examples
        self.assertLessEqual(mentioned - others, known)

    def test_options_stand_with_their_verbs(self):
        """The part for allocate and run has what both take, that for allocate alone the rest."""
        options = section(self.page, "OPTIONS")
        parts = dict(re.findall(r"^\.SS (.*)\n((?:(?!\.SS ).*\n)*)", options, re.M))
        listed = {name: set(re.findall(r"--[a-z-]+", " ".join(tags(text))))
                  for name, text in parts.items()}
        everywhere = set.intersection(*(options_of(verb) for verb in help_verbs()))
        allocate, run = options_of("allocate"), options_of("run")
        self.assertEqual(listed["For all verbs"], everywhere)
        self.assertEqual(listed["For allocate and run"] | everywhere, allocate & run)
        self.assertEqual(listed["For allocate alone"], allocate - run)

    def test_daemon(self):
        page = plain((MAN / "styxyd.8").read_text(encoding="utf-8"))
        found = set(re.findall(r"--[a-z-]+", " ".join(tags(section(page, "OPTIONS")))))
        self.assertEqual(found, help_options(said(STYXYD, "--help")))

    def test_configuration(self):
        """Each member that the daemon writes for a configuration has an entry."""
        page = plain((MAN / "core-ports.json.5").read_text(encoding="utf-8"))
        keys = set()
        for name in ("configuration.c", "configuration-fields.c", "configuration-write.c"):
            text = (SOURCE / "src/core" / name).read_text(encoding="utf-8")
            keys.update(re.findall(r'"([a-z]+(?:_[a-z]+)+)"', text))
        self.assertGreater(len(keys), 25)
        for key in sorted(keys):
            with self.subTest(key=key):
                self.assertRegex(page, rf"(?m)^\.(?:BR?|SS|SH|TP) ?.*\b(?i:{key})\b")

    def test_groff_is_content(self):
        if shutil.which("groff") is None:
            self.skipTest("groff is not installed")
        for page in ("styxyctl.1", "styxyd.8", "core-ports.json.5"):
            done = subprocess.run(["groff", "-man", "-ww", "-K", "utf8", "-Tutf8", "-z", str(MAN / page)],
                                  capture_output=True, text=True, check=False)
            self.assertEqual((done.returncode, done.stderr), (0, ""), page)


class Bash(unittest.TestCase):
    SCRIPT = r"""
        styxyctl() { :; }
        compopt() { :; }
        source "$1"; shift
        COMP_WORDS=(styxyctl "$@")
        COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
        _styxyctl
        printf '%s\n' "${COMPREPLY[@]}"
    """

    def complete(self, *words):
        text = said("bash", "--norc", "-c", self.SCRIPT, "bash", str(COMPLETIONS / "styxyctl.bash"), *words)
        return {word.rstrip("=") for word in text.split()}

    def test_verbs(self):
        self.assertEqual(self.complete(""), help_verbs())
        self.assertEqual(self.complete("--user", "re"), {verb for verb in help_verbs()
                                                          if verb.startswith("re")})

    def test_options(self):
        for verb in help_verbs():
            with self.subTest(verb=verb):
                self.assertEqual(self.complete(verb, "--"), options_of(verb))

    def test_values(self):
        """An option with a value takes its next word: that is no verb and no operand."""
        for verb in help_verbs():
            for option in re.findall(r"(--[a-z-]+)=", said(STYXYCTL, verb, "--help")):
                with self.subTest(verb=verb, option=option):
                    self.assertEqual(self.complete(verb, option, "x", "--"), options_of(verb))
        self.assertEqual(self.complete("list", "--json="), {"short", "pretty", "off"})
        self.assertEqual(self.complete("run", "dev", "--on-unhealthy", ""),
                         {"release", "restart", "notify"})


class Zsh(unittest.TestCase):
    text = (COMPLETIONS / "_styxyctl").read_text(encoding="utf-8")

    def block(self, name):
        return re.search(rf"^    {name}=\(\n(.*?)^    \)", self.text, re.M | re.S)[1]

    def test_verbs(self):
        self.assertEqual(set(re.findall(r"'([a-z]+):", self.block("verbs"))), help_verbs())

    def test_options(self):
        # the bus address and that of the port are one option to zsh
        parts = {name: set(re.findall(r"(?<![\w-])(--[a-z-]+)", self.block(name)))
                 for name in ("global", "grant")}
        branches = {}
        for names, body in re.findall(r"^        ([a-z* |]+)\)\n(.*?)^            ;;", self.text, re.M | re.S):
            found = set(re.findall(r"(?<![\w-])(--[a-z-]+)[\[=]|,(--[a-z-]+)\}", body))
            found = {one or other for one, other in found}
            for part in parts:
                if f"${part}" in body:
                    found |= parts[part]
            for name in names.replace(" ", "").split("|"):
                branches[name] = found
        for verb in help_verbs():
            with self.subTest(verb=verb):
                self.assertEqual(branches.get(verb, branches["*"]), options_of(verb))

    def test_syntax(self):
        if shutil.which("zsh") is None:
            self.skipTest("zsh is not installed")
        said("zsh", "-n", str(COMPLETIONS / "_styxyctl"))


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1], verbosity=2)
