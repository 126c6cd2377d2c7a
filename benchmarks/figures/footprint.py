"""What the daemon costs while nobody wants anything of it, and how fast everything is there when somebody does."""

from __future__ import annotations

import subprocess
import sys
import time

from benchmarks.bench import Bench
from benchmarks.contest import Row, at_most, single
from benchmarks.rig import MasterTable

__all__ = ["idle", "imports", "start"]

SQUARE = MasterTable("square", "square_point", ("x",))
IDLE_SECONDS = 12.0
STARTS = 5
_IMPORT = """
import time
began = time.perf_counter()
import taskmaster.learners, taskmaster.learners.client
print(time.perf_counter() - began)
"""


def idle(bench: Bench) -> list[Row]:
    """Memory and processor time of a daemon whose workers and one client are connected and have been busy before."""
    with bench.daemon(SQUARE) as (rig, lab):
        rig.master(lab).map([{"x": float(x)} for x in range(1000)])
        memory = rig.memory()
        began, used = time.perf_counter(), rig.cpu()
        time.sleep(1.0 if bench.quick else IDLE_SECONDS)
        share = (rig.cpu() - used) / (time.perf_counter() - began)
    return [
        single("idle daemon: memory", "MB", [memory / 1e6], at_most(70)),
        single("idle daemon: processor", "%", [share * 100], at_most(0.5)),
    ]


def start(bench: Bench) -> list[Row]:
    """From the call of the program until it says that it is ready, on a new state directory and on a used one."""
    fresh, again = [], []
    for _ in range(1 if bench.quick else STARTS):
        with bench.rig(SQUARE) as rig:
            fresh.append(rig.start())
            rig.stop()
            again.append(rig.start())
            rig.stop()
    return [
        single("daemon: start until ready", "s", fresh, at_most(0.7)),
        single("daemon: start again until ready", "s", again, at_most(0.7)),
    ]


def imports(bench: Bench) -> list[Row]:
    """What a learner's program waits for at its first line."""
    times = [
        float(subprocess.run([sys.executable, "-c", _IMPORT], capture_output=True, check=True, text=True).stdout)
        for _ in range(1 if bench.quick else STARTS + 1)
    ]
    return [single("import taskmaster.learners", "s", times[1:] or times, at_most(0.25))]
