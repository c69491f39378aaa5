# SPDX-License-Identifier: LGPL-2.1-or-later
"""How long a quiet user waits beside a loud one: what is measured, and the bars."""

import pathlib
import subprocess
import time

from harness import Lines
from ports import count

FLOOD = pathlib.Path(__file__).with_name("flood.py")
CONNECTIONS = 8
WINDOW = 64
P99_MAX = 5
ROUNDS = 5
LOUD_PER_SECOND_MIN = 900

# The loud one has its quota used up by these limits in no time.
CONFIG = {
    "service_types": {
        "quiet": {"port_range": [15000, 15099]},
        "greedy": {"port_range": [16000, 16999]},
    },
    "recovery": {
        "port_conflict": {"cooldown_ms": 0, "max_retries": 0},
        "health_monitoring": {"enabled": False},
    },
    "limits": {"leases_per_user": 64},
}


class Loud:
    """Somebody else who asks all the time."""

    # How Popen() has to give the pipes.
    PIPES = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}

    def __init__(self, process):
        """PROCESS: runs flood.py's "loud", with text pipes."""
        self.process = process
        self.lines = Lines(process.stdout)
        assert self.lines.next(60) == "ready"

    def finish(self):
        """How many calls it made, and how many answers and errors it got."""
        self.process.stdin.close()
        made, answers, errors = map(int, self.lines.next(60).split())
        assert self.process.wait(60) == 0
        self.process.stdout.close()
        return made, answers, errors

    def kill(self):
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()


class Fairness:
    """To mix into a test that says who the two are."""

    def start_loud(self, path):
        """A Loud on the socket PATH."""
        raise NotImplementedError

    def quiet(self, path, calls):
        """What flood.quiet() returns."""
        raise NotImplementedError

    def quiet_beside_loud(self, path, calls_of_loud=0):
        """The machine's other work may fall into a round, and not into each of them.

        CALLS_OF_LOUD: at least so many for each of the quiet one's."""
        self.quiet(path, 200)
        troubles = []
        for _ in range(ROUNDS):
            trouble = self.one_round(path, calls_of_loud)
            if trouble is None:
                return
            troubles.append(trouble)
        self.fail("; ".join(troubles))

    def one_round(self, path, calls_of_loud):
        """What was not as it has to be, or None."""
        calls = count(1000, 10000)
        before, median_before = self.quiet(path, calls)
        loud = self.start_loud(path)
        try:
            began = time.monotonic()
            beside, median = self.quiet(path, calls)
            seconds = time.monotonic() - began
            made, answers, errors = loud.finish()
        except BaseException:
            loud.kill()
            raise
        after, median_after = self.quiet(path, calls)
        # The clock of this machine in this minute: whatever else it does hits all three.
        alone, median_alone = max(before, after), max(median_before, median_after)
        answered = answers + errors
        print(f"p99 {alone:.0f} us alone, {beside:.0f} us beside {made} calls of {answered} "
              f"answered in {seconds:.1f} s ({beside / alone:.1f} times); "
              f"median {median_alone:.0f} and {median:.0f}")
        # Else nobody was in the way, or nobody but the quiet one was served.
        if answered <= LOUD_PER_SECOND_MIN * seconds or made <= calls_of_loud * calls:
            return f"the loud one made {made} calls only, {answered} answered, in {seconds:.1f} s"
        self.assertGreater(errors, answered // 2)  # its quota is used up
        if beside > P99_MAX * alone:
            return f"p99 {beside / alone:.1f} times what it is alone"
        if median > P99_MAX * median_alone:
            return f"median {median / median_alone:.1f} times what it is alone"
        return None
