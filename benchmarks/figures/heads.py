"""Instruments: what heads cost beside a loop that a user would write, how busy they are kept, how fast they stop.

The instrument is the simulated probe with no settling time, in one process for all its heads, the same for both. The
loop is a process for each head with PyVISA alone: it sets, waits and reads as our heads do, but checks nothing, keeps
nothing and cannot be stopped.
"""

from __future__ import annotations

import contextlib
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.bench import Bench
from benchmarks.contest import Round, Row, at_least, at_most, compare, interleave, single
from benchmarks.rig import InstrumentTable
from taskmaster.drivers.simulated import Laboratory
from taskmaster.learners.client import Lab, Master

__all__ = ["busy", "images", "rate", "stop", "turn_around"]

_EVALUATED = Path(__file__).resolve().parents[1] / "evaluated"
_HEADS = 4
#: Side of the images, and the bytes that one has: ten million.
_SIDE = 1581
_LOOP = "PyVISA alone"


@dataclass(frozen=True)
class _Reading:
    """What a task gives: keys of the Master and of its commands."""

    outputs: str
    read: str


_NUMBERS = _Reading("{ current = {} }", '{ current = "MEAS:CURR?" }')
_IMAGES = _Reading(
    f"{{ image = {{ shape = [{_SIDE}, {_SIDE}] }} }}",
    f'{{ image = {{ query = "MEAS:IMAG? {_SIDE},{_SIDE}", parse = "block", dtype = "<f4" }} }}',
)


def _probe(probe: Laboratory, reading: _Reading) -> InstrumentTable:
    heads = "".join(
        f'[[masters.stm.heads]]\nname = "{head.name}"\nresource = "{head.resource}"\nidentity = "{head.identity}"\n'
        for head in probe.heads
    )
    return InstrumentTable(
        "stm",
        len(probe.heads),
        f"""[masters.stm]
driver = "visa"
quarantine_after = 100000
parameters = {{ x = {{ min = 0, max = 500 }}, y = {{ min = 0, max = 500 }} }}
outputs = {reading.outputs}
[masters.stm.commands]
open = ["TIP:APPROACH"]
set = ["POS {{x:.3f}},{{y:.3f}}"]
wait = {{ query = "*OPC?", until = "1" }}
read = {reading.read}
safe = ["TIP:WITHDRAW"]
{heads}""",
    )


def rate(bench: Bench) -> list[Row]:
    """Tasks a second of four heads."""
    n = bench.size(8000)
    with Laboratory("probe", heads=_HEADS, settling=0) as probe, bench.daemon(_probe(probe, _NUMBERS)) as (rig, lab):
        contestants = bench.contestants(_by_heads(rig.master(lab), n), **{_LOOP: _by_loops(probe, n, 0)})
        return compare("four heads", "tasks/s", interleave(contestants, bench.rounds), {_LOOP: (at_least(0.9), None)})


def images(bench: Bench) -> list[Row]:
    """Tasks a second, each of which reads an image of ten megabytes."""
    n = bench.size(80)
    with Laboratory("probe", heads=_HEADS, settling=0) as probe, bench.daemon(_probe(probe, _IMAGES)) as (rig, lab):
        contestants = bench.contestants(_by_heads(rig.master(lab), n), **{_LOOP: _by_loops(probe, n, _SIDE)})
        figures = interleave(contestants, bench.rounds)
        return compare("four heads, images of 10 MB", "tasks/s", figures, {_LOOP: (at_least(0.8), None)})


def _by_heads(master: Master, n: int) -> Round:
    seeds = iter(range(1, 1_000_000))

    def run() -> float:
        points = np.round(np.random.default_rng(next(seeds)).random((n, 2)) * 500, 3)
        with master.open() as run:
            began = time.perf_counter()
            run.tasks.put_many(points)
            done = sum(result.error is None for result in run.results)
            seconds = time.perf_counter() - began
        if done != n:
            raise RuntimeError(f"{done} of {n} tasks were done")
        return n / seconds

    return run


def _by_loops(probe: Laboratory, n: int, image: int) -> Round:
    seeds = iter(range(1, 1_000_000))

    def run() -> float:
        share = n // len(probe.heads)
        with contextlib.ExitStack() as stack:
            loops = [stack.enter_context(_loop(head.resource, share, image, next(seeds))) for head in probe.heads]
            time.sleep(0.5)  # all have connected
            began = time.perf_counter()
            for loop in loops:
                assert loop.stdin is not None
                loop.stdin.write("go\n")
                loop.stdin.flush()
            for loop in loops:
                assert loop.stdout is not None
                if not loop.stdout.readline():
                    raise RuntimeError("a loop has failed")
            return share * len(loops) / (time.perf_counter() - began)

    return run


@contextlib.contextmanager
def _loop(resource: str, count: int, image: int, seed: int) -> Iterator[subprocess.Popen[str]]:
    arguments = [sys.executable, str(_EVALUATED / "instruments.py"), resource, str(count), str(image), str(seed)]
    with subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as loop:
        yield loop


def _own(name: str, kind: str, heads: int, kwargs: str = "") -> InstrumentTable:
    declared = "".join(f'[[masters.{name}.heads]]\nname = "head-{k}"\n' for k in range(heads))
    return InstrumentTable(
        name,
        heads,
        f"""[masters.{name}]
driver = "instrument"
class = "instruments:{kind}"
path = ["{_EVALUATED}"]
{kwargs}
parameters = {{ x = {{}} }}
outputs = {{ y = {{}} }}
{declared}""",
    )


def turn_around(bench: Bench) -> list[Row]:
    """From the end of one evaluation of 25 ms to the beginning of the next at the same head, with many waiting.

    Of a run whose tasks are known to be short the next one is granted, and on disk, before the one in hand ends. The
    first task of a run, of which nobody knows how long it will take, is not: between that and the one before lie an
    outcome and a lease, which are one commit. That is taken off from the 99th percentile.
    """
    n, runs = bench.size(1000), bench.size(300)
    known, _ = _gaps(bench, lambda master: list(master.map([{"x": float(k)} for k in range(n)])))
    unknown, commit = _gaps(bench, lambda master: _one_by_one(master, runs))
    return [
        single("a head's turn-around, p50", "ms", [float(np.percentile(known, 50))]),
        single("a head's turn-around, p99", "ms", [float(np.percentile(known, 99))], at_most(2)),
        single("the same to the first task of a run, p50", "ms", [float(np.percentile(unknown, 50))]),
        single(
            "the same to the first task of a run, p99 less a commit",
            "ms",
            [float(np.percentile(unknown, 99)) - 1e3 * commit],
            at_most(2),
        ),
    ]


def _one_by_one(master: Master, runs: int) -> None:
    """A run for each task, all of them waiting from the beginning."""
    master.pause()
    opened = [master.open(f"run-{k}") for k in range(runs)]
    for k, run in enumerate(opened):
        run.tasks.put({"x": float(k)})
        run.flush()
    master.resume()
    for run in opened:
        run.results.get()
    for run in opened:
        run.close()


def _gaps(bench: Bench, work: Callable[[Master], object]) -> tuple[NDArray[np.float64], float]:
    """Milliseconds between one evaluation and the next, and the seconds that a commit takes."""
    with bench.rig() as around:
        folder = around.folder
        folder.mkdir(parents=True, exist_ok=True)
        table = _own("watch", "Stopwatch", 1, f'kwargs = {{ folder = "{folder}" }}')
        with bench.daemon(table, durability="power") as (rig, lab):
            work(rig.master(lab))
            commit = lab.status().journal.commit_p50
        times = np.frombuffer((folder / "times-head-0").read_bytes(), "<i8").reshape(-1, 2)
    return (times[1:, 0] - times[:-1, 1]) / 1e6, commit


def busy(bench: Bench) -> list[Row]:
    """Share of the time in which 64 heads with tasks of 100 ms are at work."""
    heads, each = (4, 5) if bench.quick else (64, 50)
    with bench.daemon(_own("sleep", "Sleeper", heads)) as (rig, lab):
        began = time.perf_counter()
        list(rig.master(lab).map([{"x": float(k)} for k in range(heads * each)]))
        seconds = time.perf_counter() - began
        share = sum(info.busy for info in lab.heads()) / (heads * seconds)
    return [single(f"{heads} heads, tasks of 100 ms: busy", "%", [100 * share], at_least(98))]


def stop(bench: Bench) -> list[Row]:
    """From the call of `lab.stop` until the last of four heads has got its first safe byte, all of them at work."""
    stops = 5 if bench.quick else 1000
    taken = []
    with contextlib.ExitStack() as stack:
        probe = stack.enter_context(Laboratory("probe", heads=_HEADS, settling=0))
        rig, lab = stack.enter_context(bench.daemon(_probe(probe, _NUMBERS)))
        run = stack.enter_context(rig.master(lab).open())
        run.tasks.put_many(np.random.default_rng(1).random((200_000, 2)) * 500)
        for _ in range(stops):
            taken.append(_stopped(lab, probe))
            _go_on(lab)
        run.cancel()
        for held in lab.held():
            lab.resolve(held.run, held.index, "fail")
    p50, p99 = statistics.median(taken), float(np.percentile(taken, 99))
    return [
        single("emergency stop, p50", "ms", [1e3 * p50]),
        single(f"emergency stop, p99 of {stops}", "ms", [1e3 * p99], at_most(100)),
    ]


def _stopped(lab: Lab, probe: Laboratory) -> float:
    """Seconds until the last head was told to be safe."""
    began = time.monotonic()
    lab.stop("stm")
    deadline = began + 10.0
    first: dict[str, float] = {}
    while len(first) < len(probe.heads):
        if time.monotonic() > deadline:
            raise RuntimeError(f"only {sorted(first)} were made safe")
        for head in probe.heads:
            if head.name not in first and (at := probe.control.first_safe(head.name, began)) is not None:
                first[head.name] = at
    return max(first.values()) - began


def _go_on(lab: Lab) -> None:
    """Have every head at work again."""
    lab.reset("stm")
    done = {info.head: info.tasks for info in lab.heads()}
    while True:
        for held in lab.held():
            lab.resolve(held.run, held.index, "fail", attempt=held.attempt)
        if all(info.tasks > done[info.head] for info in lab.heads()):
            return
