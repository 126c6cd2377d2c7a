"""What a batch is evaluated on: a device of few words, and the one that every machine has.

A device takes a batch (:meth:`Device.begin`), which returns at once where the device works beside the processor, and is
asked later what came of it. Errors are of four kinds, and that is what the `engine` goes by: what the user's function
raises (which fails the rows that cause it), :class:`OutOfMemory`, :class:`DeviceBroken`, and KeyboardInterrupt.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from taskmaster.drivers.base import DeviceBroken
from taskmaster.drivers.gpu.arrays import Adapter, columns_of, padded_rows

__all__ = ["CpuDevice", "Device", "DeviceBroken", "Fill", "Flight", "Function", "Memory", "OutOfMemory", "Spans"]

#: Bytes of a line of the cache.
_LINE = 64

#: Writes the rows of a batch into an array ``(n, d)``.
Fill: TypeAlias = Callable[[Any], None]
#: The user's, or a kernel's.
Function: TypeAlias = Callable[[Any], Any]


class OutOfMemory(Exception):
    """The device has too little memory for so many rows."""


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes of a device's memory; 0 where that is of no interest."""

    free: int = 0
    total: int = 0


@dataclass(frozen=True, slots=True)
class Spans:
    """Seconds that a batch took to be copied in, evaluated and copied out, as the device measured them."""

    copy_in: float = 0.0
    kernel: float = 0.0
    copy_out: float = 0.0


class Flight(ABC):
    """A batch that is under way."""

    @property
    @abstractmethod
    def is_done(self) -> bool:
        """Whether :meth:`outputs` would not wait."""

    @abstractmethod
    def wait(self) -> None:
        """Until it is done; may be called by another thread. Raises nothing."""

    @abstractmethod
    def outputs(self) -> Any:
        """An array of numpy's ``(n, …)``, or a dict of such, by name. Raises what has gone wrong. To be called once."""

    def spans(self) -> Spans:
        """To be called after :meth:`outputs`."""
        return Spans()


class Device(ABC):
    """Where batches are evaluated."""

    #: for people
    name: str = ""
    #: batches that may be under way at a time
    depth: int = 1
    #: whether it works beside the processor, so that a batch is under way when `begin` has returned
    is_asynchronous: bool = False

    @abstractmethod
    def begin(self, fill: Fill, n: int) -> Flight:
        """Evaluate ``n`` rows. What goes wrong meanwhile, the flight says."""

    def memory(self) -> Memory:
        """What there is of it at present."""
        return Memory()

    def row_bytes(self) -> float:
        """Bytes of its memory that a row has taken at most, as far as it is known; 0: it is not."""
        return 0.0

    def trim(self) -> None:  # noqa: B027 - as below
        """Let go of memory that is only held."""

    def close(self) -> None:  # noqa: B027 - nothing to do is a fine default
        """Let go of everything."""


class _Landed(Flight):
    """A batch that was evaluated at once."""

    def __init__(self, outputs: Any, error: BaseException | None, seconds: float) -> None:
        self._outputs, self._error, self._seconds = outputs, error, seconds

    @property
    def is_done(self) -> bool:
        return True

    def wait(self) -> None:
        return

    def outputs(self) -> Any:
        if self._error is not None:
            raise self._error
        return self._outputs

    def spans(self) -> Spans:
        return Spans(kernel=self._seconds)


class CpuDevice(Device):
    """The processor, by numpy: declared, for development and tests."""

    name = "cpu"

    def __init__(self, function: Function, width: int, dtype: str, adapter: Adapter) -> None:
        self._function, self._width, self._dtype, self._adapter = function, width, np.dtype(dtype), adapter

    def begin(self, fill: Fill, n: int) -> Flight:
        began = time.perf_counter()
        outputs: Any = None
        error: BaseException | None = None
        try:
            outputs = self._evaluate(fill, n)
        except BaseException as raised:  # noqa: BLE001 - whatever the user's function raises is told of its rows
            error = raised
            if self._adapter.is_out_of_memory(raised):
                error = OutOfMemory(str(raised) or "there is too little memory for so many rows")
                error.__cause__ = raised
        return _Landed(outputs, error, time.perf_counter() - began)

    def _evaluate(self, fill: Fill, n: int) -> Any:
        size = padded_rows(n) if self._adapter.few_sizes else n
        rows = _aligned((size, self._width), self._dtype)
        fill(rows[:n])
        rows[n:] = rows[n - 1]
        result = self._function(self._adapter.inward(rows))
        columns = columns_of(result, size, self._adapter.outward)
        if isinstance(columns, dict):
            return {name: _own(column[:n], rows) for name, column in columns.items()}
        return _own(columns[:n], rows)


def _aligned(shape: tuple[int, int], dtype: np.dtype[Any]) -> Any:
    """An empty array that begins where a line of the processor's cache does: JAX copies any other."""
    nbytes = shape[0] * shape[1] * dtype.itemsize
    room = np.empty(nbytes + _LINE, "u1")
    at = -room.ctypes.data % _LINE
    return room[at : at + nbytes].view(dtype).reshape(shape)


def _own(column: Any, rows: Any) -> Any:
    """An array that nobody else writes to; a list stays one."""
    if isinstance(column, np.ndarray) and not column.flags.owndata:
        return column.copy()
    return column
