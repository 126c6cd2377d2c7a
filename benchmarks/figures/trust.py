"""What it costs that nobody comes in unasked: encryption, roles, keys that change, thousands of connections."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from benchmarks.bench import Bench
from benchmarks.contest import Round, Row, at_least, at_most, compare, interleave, single
from benchmarks.rig import MasterTable, Rig
from taskmaster.bus import messages as m
from taskmaster.bus.keys import new_pair
from taskmaster.config.authorised import Grant, edit, read_grants
from taskmaster.daemon.permitting import Permitting
from taskmaster.daemon.roles import Peer
from taskmaster.daemon.run import Run as DaemonRun
from taskmaster.daemon.runs import Runs
from taskmaster.learners.client import Lab, Master, Run

__all__ = ["attack", "crowd", "curve", "reload", "roles"]

COLUMNS = 8
VECTORS = MasterTable("vectors", "square_rows", tuple(f"x{k}" for k in range(COLUMNS)), batch=True)
SQUARE = MasterTable("square", "square_point", ("x",))
#: That the idle ones are workers of.
OTHER = MasterTable("idle", "square_point", ("x",))
PLAIN = "loopback without keys"
ROWS, TRIPS, TURNS = 1_000_000, 200, 4
KEYS = 1_000
CHECKS = 200_000
#: Workers that do nothing, and how many of them one process has.
IDLE, EACH = 10_000, 2_500
_PATIENCE = 180.0
ATTACKED_TRIPS, ATTACK_SECONDS = 2_000, 5.0


def curve(bench: Bench) -> list[Row]:
    """With keys and without, both over TCP: a million rows as one block, and one task at a time."""
    with contextlib.ExitStack() as stack:
        labs = {
            network: stack.enter_context(bench.daemon(VECTORS, SQUARE, durability="crash", network=network))
            for network in ("keys", "plain")
        }
        array = np.random.default_rng(0).uniform(size=(bench.size(ROWS), COLUMNS))
        rates = interleave(
            {"ours": _rows(labs["keys"][1]["vectors"], array), PLAIN: _rows(labs["plain"][1]["vectors"], array)},
            bench.rounds,
        )
        trips = {
            name: _trips(stack.enter_context(labs[network][1]["square"].open()), bench.size(TRIPS))
            for name, network in (("ours", "keys"), (PLAIN, "plain"))
        }
        times = interleave(trips, bench.rounds * (1 if bench.quick else TURNS))
    return [
        *compare("with CurveZMQ: put_many 10⁶ × 8 doubles", "rows/s", rates, {PLAIN: (at_least(0.7), None)}),
        *compare("with CurveZMQ: round trip p50", "ms", times, {PLAIN: (at_most(1.4), None)}),
    ]


def _rows(master: Master, array: np.ndarray) -> Round:  # type: ignore[type-arg]
    expected = float((array * array).sum())

    def run() -> float:
        began = time.perf_counter()
        total = sum(master.map(array))
        seconds = time.perf_counter() - began
        if abs(total - expected) > 1e-6 * expected:
            raise RuntimeError(f"the sum over all rows is {total:g}, not {expected:g}: nothing was measured")
        return len(array) / seconds

    return run


def _trips(run: Run, trips: int, share: float = 0.5) -> Round:
    """Milliseconds that so large a share of the round trips keeps within: by default the median."""

    def measure() -> float:
        times = []
        for _ in range(trips):
            began = time.perf_counter()
            run.tasks.put({"x": 3.0})
            if run.results.get().output != 9.0:
                raise RuntimeError("3 · 3 is 9: nothing was measured")
            times.append(time.perf_counter() - began)
        return sorted(times)[int(share * (trips - 1))] * 1e3

    return measure


def roles(bench: Bench) -> list[Row]:
    """What it takes to permit a submission, beside what the daemon takes for a message: of one task at a time."""
    with bench.daemon(SQUARE, durability="crash", network="keys") as (rig, lab), rig.master(lab).open() as run:
        trip, trips = _trips(run, 1), 10 * bench.size(TRIPS)
        shares = []
        for _ in range(bench.rounds):
            used = rig.cpu()
            for _ in range(trips):
                trip()
            shares.append(100 * _check_seconds(bench.size(CHECKS)) / ((rig.cpu() - used) / trips / 2))
    return [single("role checks of a message's cost, two messages a task", "%", shares, at_most(2))]


def _check_seconds(n: int) -> float:
    runs = Runs({})
    runs.add(DaemonRun(1, "square", "run", 7, 0.0, "anna"))
    peer = Peer("anna", "learner", frozenset(["square"]))
    permitting, message = Permitting({}, runs), m.Submit(1, 1, 0, 1, None)  # type: ignore[arg-type]
    began = time.perf_counter()
    for _ in range(n):
        permitting.check(peer, message)
    return (time.perf_counter() - began) / n


def reload(bench: Bench) -> list[Row]:
    """A file of a thousand keys that changes: what reading takes, and how long nobody is answered meanwhile."""
    n = bench.size(KEYS)
    with bench.daemon(SQUARE, durability="crash", network="keys") as (rig, lab):
        keys = rig.folder / "keys.toml"
        edit(keys, {f"key-{k}": Grant(f"key-{k}", new_pair().public, "learner") for k in range(n)})
        reads = [_timed_read(keys) for _ in range(bench.rounds)]
        still, changing = [], []
        for k in range(bench.rounds):
            still.append(_longest_pause(lab, 3.0))
            edit(keys, {f"key-{k}": Grant(f"key-{k}", new_pair().public, "learner")})
            changing.append(_longest_pause(lab, 3.0))
    return [
        single(f"{n} keys: reading the file", "ms", reads, at_most(50)),
        *compare(
            f"{n} keys read anew: the longest wait for an answer",
            "ms",
            {"ours": changing, "nothing changes": still},
            {"nothing changes": (None, None)},
        ),
    ]


def _timed_read(keys: Path) -> float:
    began = time.perf_counter()
    read_grants(keys)
    return (time.perf_counter() - began) * 1e3


def _longest_pause(lab: Lab, seconds: float) -> float:
    """Milliseconds of the slowest of many answers."""
    slowest, end = 0.0, time.perf_counter() + seconds
    while (began := time.perf_counter()) < end:
        lab.ask(m.Ping(0))
        slowest = max(slowest, time.perf_counter() - began)
    return slowest * 1e3


def crowd(bench: Bench) -> list[Row]:
    """What idle workers take of the daemon's memory, that come over the network with keys and without."""
    rows = []
    for network, how in (("plain", "loopback"), ("keys", "CurveZMQ")):
        n = bench.size(IDLE)
        settings = ["lost_after = '10 min'", *(["max_connections = 30000"] if network == "keys" else [])]
        with (
            bench.rig(OTHER, durability="crash", network=network, settings=settings) as rig,
            rig,
            rig.connect() as lab,
        ):
            before, slots = rig.memory(), lab["idle"].slots
            with _idle(rig, n):
                grown = (rig.memory() - before) / n / 1e3
                if (there := lab["idle"].slots - slots) != n:
                    raise RuntimeError(f"{there} of {n} workers are there: nothing was measured")
        rows.append(single(f"{n} idle workers by {how}: memory each", "kB", [grown], at_most(40)))
    return rows


def attack(bench: Bench) -> list[Row]:
    """An honest learner's round trips, alone and while ten thousand others are connected and a hundred mean harm.

    Whoever attacks shares the processors of this machine. What that alone costs is seen where the same hundred attack
    another daemon beside the one that is measured.
    """
    n, trips = bench.size(IDLE), bench.size(ATTACKED_TRIPS)
    settings = ["lost_after = '10 min'", "max_connections = 30000"]
    with contextlib.ExitStack() as stack:
        rig = stack.enter_context(bench.rig(SQUARE, OTHER, durability="crash", network="keys", settings=settings))
        lab = stack.enter_context(stack.enter_context(rig).connect())
        trip = _trips(stack.enter_context(rig.master(lab).open()), trips, 0.99)
        trip()
        alone = [trip() for _ in range(bench.rounds)]
        stack.enter_context(_idle(rig, n))
        crowded = [trip() for _ in range(bench.rounds)]
        with _hostile(rig):
            attacked = [trip() for _ in range(bench.rounds)]
        other = stack.enter_context(bench.rig(SQUARE, durability="crash", network="keys"))
        stack.enter_context(other)
        with _hostile(other):
            beside = [trip() for _ in range(bench.rounds)]
    figures = {"ours": attacked, f"with {n} idle ones": crowded, "at another daemon beside it": beside, "alone": alone}
    limits = {"alone": (at_most(2), None), f"with {n} idle ones": (None, None)}
    limits["at another daemon beside it"] = (None, None)
    return compare("round trip p99 with 10⁴ idle and 100 hostile peers", "ms", figures, limits)


@contextlib.contextmanager
def _hostile(rig: Rig) -> Iterator[None]:
    """A hundred peers that mean harm."""
    with _beside("hostile.py", [*rig.addresses, rig.daemon_key.hex(), str(rig.folder / "mad.key")]):
        time.sleep(ATTACK_SECONDS)  # until they are at it: what is measured is the middle of it
        yield


@contextlib.contextmanager
def _beside(script: str, *calls: Sequence[str]) -> Iterator[None]:
    """Programs that run until the context ends, once each of them has said that it is there."""
    program = str(Path(__file__).resolve().parent.parent / "evaluated" / script)
    with contextlib.ExitStack() as stack:
        processes = []
        for arguments in calls:
            command = [sys.executable, program, *arguments]
            process = stack.enter_context(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE))
            stack.callback(process.kill)
            watchdog = threading.Timer(_PATIENCE, process.kill)
            watchdog.start()
            stack.callback(watchdog.cancel)
            processes.append((process, watchdog))
        for process, watchdog in processes:
            assert process.stdout is not None
            if not process.stdout.readline():
                raise RuntimeError(f"{script} did not get on: nothing was measured")
            watchdog.cancel()
        yield


@contextlib.contextmanager
def _idle(rig: Rig, n: int) -> Iterator[None]:
    """So many workers that wait, in processes of their own."""
    keys = [rig.daemon_key.hex(), str(rig.folder / "worker.key")] if rig.daemon_key else []
    calls = [[rig.addresses[1], str(min(EACH, n - first)), str(first), *keys] for first in range(0, n, EACH)]
    with _beside("crowd.py", *calls):
        yield
