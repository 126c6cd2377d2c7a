"""A device that does what a test says, and an engine around it without a worker."""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from taskmaster.bus.fields import Field, Schema
from taskmaster.bus.messages import TaskError
from taskmaster.bus.table import Buffer, Table, pack_matrix
from taskmaster.drivers.gpu.arrays import columns_of
from taskmaster.drivers.gpu.batching import Sizing
from taskmaster.drivers.gpu.device import Device, Fill, Flight, Memory
from taskmaster.drivers.gpu.engine import Engine
from taskmaster.drivers.gpu.rows import Inputs, Outputs
from taskmaster.drivers.progress import ProgressReader, ProgressWriter
from taskmaster.drivers.protocol import Assignment

__all__ = ["Bench", "ScriptedDevice"]

Evaluate = Callable[[Any], Any]


class _Scripted(Flight):
    def __init__(self, device: ScriptedDevice, rows: Any) -> None:
        self.device, self.rows, self.landed = device, rows, False

    @property
    def is_done(self) -> bool:
        return self.landed

    def wait(self) -> None:
        return

    def outputs(self) -> Any:
        return columns_of(self.device.evaluate(self.rows), len(self.rows), lambda column: column)


class ScriptedDevice(Device):
    """Batches are under way until a test lands them; then they come to what ``evaluate`` returns, or raises."""

    name = "scripted"
    is_asynchronous = True

    def __init__(self, evaluate: Evaluate, depth: int = 3, width: int = 1) -> None:
        self.evaluate, self.depth, self._width = evaluate, depth, width
        #: the rows of each batch that was begun
        self.begun: list[list[float]] = []
        #: how many were under way when each was begun
        self.beside: list[int] = []
        self.flights: list[_Scripted] = []
        self.trimmed = 0
        self.bytes_of_row = 0.0
        self.free = 0

    def begin(self, fill: Fill, n: int) -> Flight:
        rows = np.empty((n, self._width))
        fill(rows)
        flight = _Scripted(self, rows)
        self.begun.append(rows[:, 0].tolist())
        self.beside.append(len([flight for flight in self.flights if not flight.landed]))
        self.flights.append(flight)
        return flight

    def memory(self) -> Memory:
        return Memory(self.free, self.free)

    def row_bytes(self) -> float:
        return self.bytes_of_row

    def trim(self) -> None:
        self.trimmed += 1


class Bench:
    """An engine, what it is given, and what it has said."""

    def __init__(
        self,
        evaluate: Evaluate = lambda rows: 2 * rows[:, 0],
        *,
        depth: int = 3,
        most: int = 1 << 18,
        slots: int = 1024,
        linger: float = 0.0,
        output: Field | None = None,
    ) -> None:
        self.device = ScriptedDevice(evaluate, depth)
        self._folder = tempfile.TemporaryDirectory()
        path = Path(self._folder.name) / "progress"
        self.progress = ProgressReader(path)
        self.sizing = Sizing(most, depth)
        #: what was said: lease, position, outputs or error kinds of each, whether it was the last
        self.said: list[tuple[int, int, list[Any], bool]] = []
        self.times: list[float] = []
        self.errors: dict[tuple[int, int], TaskError] = {}
        self._numbers = itertools.count(1)
        schema = Schema((Field("x"),), "m")
        self.engine = Engine(
            self.device,
            Inputs(schema, "float64"),
            Outputs(Schema((output or Field("y", nan=True),), "m", "output")),
            self.sizing,
            self._report,
            ProgressWriter(path, slots),
            linger=linger,
        )

    def close(self) -> None:
        self.engine.close()
        self._folder.cleanup()

    def lease(self, values: Sequence[float], attempt: int = 1, run: int = 1) -> Assignment:
        """Give it a lease of points."""
        matrix = np.array(values, "<f8").reshape(-1, 1)
        lease = (1, next(self._numbers))
        assignment = Assignment(lease, run, 0, len(matrix), pack_matrix(matrix, ("x",)), attempt)
        self.engine.take(assignment)
        return assignment

    def land(self, count: int = 1) -> None:
        """So many batches that are under way end, and what follows from that is done."""
        for flight in [flight for flight in self.device.flights if not flight.landed][:count]:
            flight.landed = True
        self.engine.turn()

    def run(self) -> None:
        """Until there is nothing left to do."""
        self.engine.turn()
        while any(not flight.landed for flight in self.device.flights):
            self.land()

    @property
    def outputs(self) -> dict[int, dict[int, Any]]:
        """By lease and position."""
        found: dict[int, dict[int, Any]] = {}
        for lease, position, values, _ in self.said:
            for k, value in enumerate(values):
                assert position + k not in found.setdefault(lease, {}), "said twice"
                found[lease][position + k] = value
        return found

    @property
    def final(self) -> list[int]:
        """The leases whose last word was said, in that order."""
        return [lease for lease, _, _, final in self.said if final]

    def _report(
        self,
        assignment: Assignment,
        position: int,
        n: int,
        outputs: Table | None,
        errors: Sequence[TaskError],
        started: float,
        finished: float,
        times: Buffer | None,
        *,
        final: bool,
    ) -> None:
        failed = {error.position: error for error in errors}
        rows = iter(outputs.rows() if outputs is not None else ())
        values = [failed[k].kind if k in failed else next(rows)["y"] for k in range(n)]
        assert next(rows, None) is None, "more outputs than rows"
        self.said.append((assignment.lease[1], position, values, final))
        self.times.append(finished - started)
        self.errors |= {(assignment.lease[1], position + k): error for k, error in failed.items()}
