"""The driver `gpu`, beside a bare loop over the same arrays with the same kernel in the same run.

On a CUDA device that loop is CuPy's; without one, and asked for by name, all of it is measured on the processor with
numpy: that says what the driver, the daemon and the journal cost, and nothing of a card.
"""

from __future__ import annotations

import contextlib
import functools
import multiprocessing
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import zmq

from benchmarks.bench import Bench
from benchmarks.contest import Round, Row, at_least, at_most, compare, interleave, single
from benchmarks.evaluated import kernels
from taskmaster.bus import sockets
from taskmaster.bus.segments import Segments, Taken
from taskmaster.learners.client import Master, Run

__all__ = ["batches", "segments"]

FOLDER = Path(__file__).resolve().parents[1] / "evaluated"
#: Rows of a launch of the bare loop.
LAUNCH = 1 << 18
ROWS = 4_000_000
#: Device time of a row-thousand, in seconds, and what part of the bare loop's speed there has to be. (20 µs are fifty
#: million rows a second, which no journal takes: what it does take is the figure of the trivial kernel.)
KERNELS = (
    ("heavy, 1 ms a row-thousand", 1e-3, 0.95),
    ("compute-bound, 20 µs", 20e-6, 0.95),
    ("medium, 2 µs", 2e-6, 0.8),
)
#: Learners with a point each, and how many points one has.
LEARNERS, POINTS = 512, 6
#: Milliseconds that a launch takes for them, and how long an idle device waits for a full batch.
LAUNCHES = ((20.0, "0 s"), (500.0, "0 s"), (500.0, "50 ms"))
TRIPS = 200
#: Bytes of a block that goes through shared memory, and how many.
BLOCK, BLOCKS = 100_000_000, 8


@dataclass(frozen=True)
class KernelTable:
    """A Master that evaluates a kernel, or a point of it by the driver `process`."""

    name: str
    function: str
    device: str = "cpu"
    driver: str = "gpu"
    declared: bool = True
    linger: str = "0 s"
    slots: int = 1

    def toml(self, setup: str = "") -> str:
        """The tables of the configuration file."""
        own = f'device = "{self.device}"\nlinger = "{self.linger}"' if self.driver == "gpu" else "workers = 1"
        lines = [
            f"[masters.{self.name}]",
            f'driver = "{self.driver}"',
            own,
            f'function = "kernels:{self.function}"',
            f'path = ["{FOLDER}"]',
            f"[masters.{self.name}.parameters]",
            *(f"{name} = {{}}" for name in "abk"),
        ]
        if self.declared:
            lines += [f"[masters.{self.name}.outputs]", "y = {}"]
        return "\n".join([*lines, ""])


class _Bare:
    """The loop that anybody would write: copy in, evaluate, copy out, launch by launch."""

    def __init__(self, device: str) -> None:
        self.is_cuda = device == "cuda"
        if self.is_cuda:
            import cupy

            self._inward: Callable[[Any], Any] = cupy.asarray
            self._outward: Callable[[Any], Any] = cupy.asnumpy
        else:
            self._inward = self._outward = lambda array: array.copy()

    def evaluate(self, function: Callable[[Any], Any], rows: Any) -> Any:
        """All rows."""
        parts = [self._outward(function(self._inward(rows[low : low + LAUNCH]))) for low in range(0, len(rows), LAUNCH)]
        return np.concatenate(parts)

    def iterations(self, seconds: float) -> int:
        """How many sines a row has to be for a row-thousand to take so long."""
        rows = np.random.default_rng(0).random((LAUNCH, 3))
        k = 1
        while k < 1_000_000:
            rows[:, 2] = k
            on_device = self._inward(rows)
            self._outward(kernels.sines(on_device)[:1])
            began = time.perf_counter()
            self._outward(kernels.sines(on_device)[:1])
            took = (time.perf_counter() - began) / LAUNCH * 1000
            if took >= seconds:
                return k
            k = max(k + 1, int(0.9 * k * seconds / took))
        raise RuntimeError(f"no number of sines takes {seconds * 1e6:g} µs for a thousand rows")


def batches(bench: Bench, device: str = "cpu") -> list[Row]:
    """Everything that one device does."""
    where = "" if device == "cuda" else " (processor)"
    bare = _Bare(device)
    rows = np.random.default_rng(1).random((bench.size(ROWS), 3))
    found: list[Row] = []
    for name, seconds, limit in KERNELS:
        rows[:, 2] = bare.iterations(seconds)
        # Rows enough for some seconds, however slow a device is.
        some = rows[: max(8, min(len(rows), int(2.0 / seconds) * 1000))]
        found += _beside_bare(bench, f"{name}{where}, power", KernelTable("kernel", "sines", device), bare, some, limit)
    rows[:, 2] = 1
    found += _trivial(bench, where, device, rows)
    found += _round_trip(bench, where, device)
    found += _crowd(bench, where, device)
    return found


def _checked(got: Any, rows: Any, function: Callable[[Any], Any], tolerance: float) -> None:
    """Raise RuntimeError unless outputs are those of float64 on the processor."""
    expected = function(rows)
    if not np.allclose(got, expected, rtol=tolerance, atol=tolerance):
        worst = float(np.abs(got - expected).max())
        raise RuntimeError(f"outputs are off by {worst:g} from what the processor computes: nothing was measured")


def _through(master: Master, rows: Any) -> Any:
    """The outputs of all rows, in their order, through the daemon."""
    outputs: Any = None
    with master.open() as run:
        run.tasks.put_many(rows)
        for chunk in run.results.chunks(lambda core: core.open_tasks <= 0):
            table = chunk.output_table
            if table is None or chunk.head.errors:
                raise RuntimeError(f"rows have failed: {chunk.head.errors[:1]}")
            column = next(iter(table.columns().values()))
            if outputs is None:
                outputs = np.empty(len(rows), column.dtype)
            outputs[chunk.head.first : chunk.head.first + chunk.head.n] = column
    return outputs


def _rate(work: Callable[[], Any], rows: Any, function: Callable[[Any], Any], tolerance: float = 1e-9) -> Round:
    def run() -> float:
        began = time.perf_counter()
        got = work()
        seconds = time.perf_counter() - began
        _checked(got, rows, function, tolerance)
        return len(rows) / seconds

    return run


def _beside_bare(bench: Bench, name: str, table: KernelTable, bare: _Bare, rows: Any, limit: float) -> list[Row]:
    function = getattr(kernels, table.function)
    with bench.daemon(table) as (rig, lab):
        master = rig.master(lab)
        rounds = {
            "ours": _rate(lambda: _through(master, rows), rows, function),
            "bare loop": _rate(lambda: bare.evaluate(function, rows), rows, function),
        }
        figures = interleave(rounds, bench.rounds)
    return compare(name, "rows/s", figures, {"bare loop": (at_least(limit), None)})


def _trivial(bench: Bench, where: str, device: str, rows: Any) -> list[Row]:
    found = []
    for name, function, declared, durability, least in (
        ("trivial, power", "product", True, "power", 3e6),
        ("trivial, outputs of 4 bytes, crash", "short_product", False, "crash", 1e7),
    ):
        table = KernelTable("kernel", function, device, declared=declared)
        with bench.daemon(table, durability=durability) as (rig, lab):
            master = rig.master(lab)
            work = _rate(lambda master=master: _through(master, rows), rows, kernels.product, 1e-6)  # type: ignore[misc]
            figures = interleave({"ours": work}, bench.rounds)
        found.append(single(f"{name}{where}", "rows/s", figures["ours"], at_least(least)))
    return found


def _round_trip(bench: Bench, where: str, device: str) -> list[Row]:
    ours, theirs = KernelTable("kernel", "product", device), KernelTable("point", "product_of_point", driver="process")
    trips = bench.size(TRIPS)
    with bench.daemon(ours, theirs, durability="crash") as (_, lab), contextlib.ExitStack() as stack:
        runs = {name: stack.enter_context(lab[name].open()) for name in ("kernel", "point")}
        figures = interleave({name: _trips(run, trips) for name, run in runs.items()}, bench.rounds)
    beyond = [a - b for a, b in zip(figures["kernel"], figures["point"])]
    return [single(f"round trip over the process driver's{where}", "ms", beyond, at_most(0.3))]


def _trips(run: Run, trips: int) -> Round:
    def once() -> float:
        began = time.perf_counter()
        run.tasks.put({"a": 2.0, "b": 3.0, "k": 1.0})
        if run.results.get().output != 6.0:
            raise RuntimeError("two times three is six")
        return time.perf_counter() - began

    return lambda: float(np.median([once() for _ in range(trips)])) * 1e3


def _crowd(bench: Bench, where: str, device: str) -> list[Row]:
    """Many learners, each with one point in flight, beside one with as many."""
    learners, found = bench.size(LEARNERS), []
    for milliseconds, linger in LAUNCHES:
        point = {"a": 2.0, "b": 3.0, "k": milliseconds}
        table = KernelTable("kernel", "steady", device, linger=linger)
        with bench.daemon(table, durability="crash") as (rig, lab):
            master = rig.master(lab)
            rounds: dict[str, Round] = {
                "ours": functools.partial(_many, master, point, learners),
                "one learner with as many": functools.partial(_one, master, point, learners),
            }
            figures = interleave(rounds, bench.rounds)
        waits = "" if linger == "0 s" else f", linger {linger}"
        name = f"{learners} learners, a point each, {milliseconds:g} ms a launch{waits}{where}"
        found += compare(name, "points/s", figures, {"one learner with as many": (at_least(0.7), None)})
    return found


def _one(master: Master, point: dict[str, float], in_flight: int) -> float:
    total = in_flight * POINTS
    with master.open() as run:
        began = time.perf_counter()
        run.tasks.put_many(np.tile(list(point.values()), (in_flight, 1)))
        for k in range(total):
            run.results.get()
            if in_flight + k < total:
                run.tasks.put(point)
        return total / (time.perf_counter() - began)


def _many(master: Master, point: dict[str, float], learners: int) -> float:
    """Each waits for its own results alone; in a few threads, as Python has no use for more."""
    runs = [master.open() for _ in range(learners)]
    threads = 4

    def learn(own: Sequence[Run]) -> None:
        for _ in range(POINTS):
            for run in own:
                run.tasks.put(point)
                run.tasks.send()
            for run in own:
                run.results.get()

    began = time.perf_counter()
    workers = [threading.Thread(target=learn, args=(runs[k::threads],)) for k in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    seconds = time.perf_counter() - began
    for run in runs:
        run.close()
    return learners * POINTS / seconds


# -- shared memory -----------------------------------------------------------------------------------------------------


def segments(bench: Bench) -> list[Row]:
    """Large blocks from one process to another: in memory that both have, and through the socket."""
    size = bench.size(BLOCK)
    block = np.random.default_rng(0).random(size // 8)
    made = Segments()
    with _receiver(bench) as (socket, child, pid_of_us):
        rounds = {
            "ours": _blocks(child, _by_segment(socket, made, block, pid_of_us), made, block),
            "the socket": _blocks(child, _by_socket(socket, block), made, block),
        }
        figures = interleave(rounds, bench.rounds)
        made.close()
    name = f"blocks of {size / 1e6:.0f} MB to another process"
    return compare(name, "MB/s", figures, {"the socket": (at_least(3.0), None)})


def _blocks(child: Connection, send: Callable[[], None], made: Segments, block: Any) -> Round:
    expected = float(block[::512].sum())

    def run() -> float:
        began = time.perf_counter()
        for _ in range(BLOCKS):
            send()
            found, ended = child.recv()
            made.reuse(number for _, number in ended)
            if abs(found - expected) > 1e-9 * expected:
                raise RuntimeError("what arrived is not what was sent: nothing was measured")
        return BLOCKS * block.nbytes / 1e6 / (time.perf_counter() - began)

    return run


def _by_segment(socket: zmq.Socket[bytes], made: Segments, block: Any, pid: int) -> Callable[[], None]:
    def send() -> None:
        segment = made.put([block.data.cast("B")])
        socket.send_multipart([repr((pid, segment.number, segment.descriptor, segment.inode, segment.sizes)).encode()])

    return send


def _by_socket(socket: zmq.Socket[bytes], block: Any) -> Callable[[], None]:
    return lambda: socket.send_multipart([b"", block.data.cast("B")], copy=False)


@contextlib.contextmanager
def _receiver(bench: Bench) -> Iterator[tuple[zmq.Socket[bytes], Connection, int]]:
    """Another process, by a socket as workers have one; it says the sum of every 512th number of each block."""
    import os
    import tempfile

    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    with tempfile.TemporaryDirectory() as folder:
        socket = context.socket(zmq.PAIR)
        socket.bind(f"ipc://{folder}/blocks")
        ours, theirs = multiprocessing.Pipe()
        process = multiprocessing.get_context("spawn").Process(target=_receive, args=(f"ipc://{folder}/blocks", theirs))
        process.start()
        try:
            yield socket, ours, os.getpid()
        finally:
            socket.send_multipart([b"end"])
            process.join(10)
            socket.close(linger=0)
            context.term()


def _receive(address: str, said: Connection) -> None:
    import ast

    from taskmaster.bus.wire import Segment

    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    socket = context.socket(zmq.PAIR)
    socket.connect(address)
    taken = Taken()
    while True:
        socket.poll()
        frames = sockets.receive(socket)
        if frames is None:
            continue
        if frames[0] == b"end":
            return
        if len(frames) > 1:
            block: Any = frames[1]
        else:
            pid, *fields = ast.literal_eval(bytes(frames[0]).decode())
            [block] = taken.take(pid, Segment(*fields))
        found = float(np.frombuffer(block, "<f8")[::512].sum())
        del block, frames
        said.send((found, taken.ended()))
