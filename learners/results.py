"""Results as a user meets them: one object a task, made when it is looked at, over columns that came in chunks."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from typing import Any

import numpy as np

from taskmaster.bus.errors import TaskCancelled, TaskFailed
from taskmaster.bus.messages import EventHead, TaskError
from taskmaster.bus.table import Buffer, Table

__all__ = ["Chunk", "Result"]

#: Bytes that a chunk, or an error, takes beside its columns and texts.
_AROUND_CHUNK = 1024
_AROUND_ERROR = 256


class Chunk:
    """Events of one row, not unpacked yet.

    ``positions`` counts those that have been taken; taking the next number from it is one step that no other thread can
    come between, so results can be taken from several threads without a lock for each.
    """

    __slots__ = (
        "_errors",
        "_inputs",
        "_outputs",
        "_times",
        "head",
        "input_tables",
        "nbytes",
        "output_table",
        "positions",
    )

    def __init__(
        self, head: EventHead, outputs: Table | None, times: Buffer | None, inputs: tuple[Table, ...], first: int = 0
    ) -> None:
        self.head = head
        self.output_table = outputs
        self.input_tables = inputs
        self.positions = count(first)
        #: about how much memory it takes as long as nothing is unpacked
        self.nbytes = _AROUND_CHUNK + sum([table.nbytes for table in inputs])
        if outputs is not None:
            self.nbytes += outputs.nbytes
        if times is not None:
            self.nbytes += len(times)
        if head.errors:
            self.nbytes += sum(
                [len(e.message) + len(e.traceback) + len(e.made_of) + _AROUND_ERROR for e in head.errors]
            )
        self._times = times
        self._inputs: list[Any] | None = None
        self._outputs: list[Any] | None = None
        self._errors: dict[int, TaskError] | None = None

    @property
    def is_about_tasks(self) -> bool:
        """Whether its tasks have ended by it."""
        return self.head.kind in ("done", "cancelled")

    def input(self, k: int) -> Any:
        """The input of its ``k``-th task."""
        if self._inputs is None:
            tables = self.input_tables
            self._inputs = tables[0].rows() if len(tables) == 1 else [row for table in tables for row in table.rows()]
        return self._inputs[k]

    def set_inputs(self, inputs: list[Any]) -> None:
        """What the inputs were before they were made fit to travel."""
        self._inputs = inputs

    def error(self, k: int) -> TaskError | None:
        """Why its ``k``-th task failed; None if it did not."""
        if not self.head.errors:
            return None
        if self._errors is None:
            self._errors = {error.position: error for error in self.head.errors}
        return self._errors.get(k)

    def output(self, k: int) -> Any:
        """The output of its ``k``-th task, which did not fail."""
        outputs = self._outputs
        if outputs is None:
            outputs = self._outputs = self._unpack_outputs()
        return outputs[k]

    def _unpack_outputs(self) -> list[Any]:
        table = self.output_table
        if table is None:
            return []
        names = table.layout.names
        # One output is its own value, several are a dict: a learner of one number should not have to name it.
        rows = table.rows() if len(names) != 1 or table.layout.bare else table_values(table)
        if not self.head.errors:
            return rows
        spread: list[Any] = [None] * self.head.n
        failed = {error.position for error in self.head.errors}
        for k, row in zip((k for k in range(self.head.n) if k not in failed), rows):
            spread[k] = row
        return spread

    def spread(self, outputs: list[Any]) -> None:
        """Take all of it at once: put the outputs into a list by the tasks' indices.

        Raises TaskFailed or TaskCancelled for the first task without one.
        """
        head = self.head
        if head.errors or self.output_table is None:
            k = head.errors[0].position if head.errors else 0
            raise Result(self, k).error or TaskCancelled(f"task {head.first + k} has no output")
        if self._outputs is None:
            self._outputs = self._unpack_outputs()
        outputs[head.first : head.first + head.n] = self._outputs

    def times(self, k: int) -> tuple[float, float]:
        """When its ``k``-th task started and finished, in seconds since 1970.

        Tasks too light to be timed one by one share their chunk's time evenly.
        """
        head = self.head
        if self._times is None:
            each = (head.finished - head.started) / head.n
            return head.started + k * each, head.started + (k + 1) * each
        offsets = np.frombuffer(self._times, "<f8")
        return head.started + (float(offsets[k - 1]) if k else 0.0), head.started + float(offsets[k])


def table_values(table: Table) -> list[Any]:
    """The values of a table of one named column."""
    column = table.column(table.layout.names[0])
    if isinstance(column, list):
        return column
    return column.tolist() if column.ndim == 1 and column.dtype.kind in "fib" else list(column)


class Result:
    """How one task ended.

    ``input, output = result`` unpacks it, and raises TaskFailed (TaskCancelled) where there is no output.
    """

    __slots__ = ("_chunk", "_k")

    def __init__(self, chunk: Chunk, k: int) -> None:
        self._chunk = chunk
        self._k = k

    @property
    def index(self) -> int:
        """The task's number in its run."""
        return self._chunk.head.first + self._k

    @property
    def seq(self) -> int:
        """The number of the event in its run."""
        return self._chunk.head.seq + self._k

    @property
    def outcome(self) -> str:
        """``done``, ``failed`` or ``cancelled``."""
        if self._chunk.head.kind == "cancelled":
            return "cancelled"
        return "done" if self._chunk.error(self._k) is None else "failed"

    @property
    def input(self) -> Any:
        """The point that was evaluated: as it was put, unless it was edited before it was approved."""
        return self._chunk.input(self._k)

    @property
    def is_edited(self) -> bool:
        """Whether somebody has given the task another input than it was put with."""
        return self._k in self._chunk.head.edited

    @property
    def output(self) -> Any:
        """What the evaluation returned: the value of the only output, or a dict of outputs.

        Raises TaskFailed or TaskCancelled where there is none.
        """
        chunk = self._chunk
        if chunk.head.errors or chunk.output_table is None:
            error = self.error
            if error is not None:
                raise error
        return chunk.output(self._k)

    @property
    def error(self) -> TaskFailed | TaskCancelled | None:
        """Why there is no output, with type, message and remote traceback; None if there is one."""
        if self._chunk.head.kind == "cancelled":
            return TaskCancelled(f"task {self.index} was cancelled")
        error = self._chunk.error(self._k)
        return None if error is None else TaskFailed(error.message, error.kind, error.traceback, error.made_of)

    @property
    def worker(self) -> str:
        """Who evaluated it."""
        return self._chunk.head.worker

    @property
    def attempt(self) -> int:
        """Which evaluation of it this was, from 1."""
        return self._chunk.head.attempt

    @property
    def started(self) -> float:
        """When its evaluation began, in seconds since 1970 by the worker's clock."""
        return self._chunk.times(self._k)[0]

    @property
    def finished(self) -> float:
        """When its evaluation ended, in seconds since 1970 by the worker's clock."""
        return self._chunk.times(self._k)[1]

    def __iter__(self) -> Iterator[Any]:
        return iter((self._chunk.input(self._k), self.output))

    def __repr__(self) -> str:
        text = f"<Result {self.index} {self.outcome}"
        if self.outcome == "done":
            text += f": {_short(self.input)} → {_short(self.output)}"
        return text + ">"


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:59] + "…"
