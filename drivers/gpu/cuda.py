"""A CUDA device, by CuPy: pinned buffers, and a stream for each batch that is under way.

Three batches are under way at a time, so that while the kernel of one runs, the rows of the next are copied in and the
outputs of the one before are copied out: a card has engines of their own for that. Each has a *lane*: a stream, in
which the three follow each other, and pinned memory for both ways, without which a copy would not be asynchronous.

Errors of kernels come late: at the next call, whatever that is for. So what a lane came to is only known when its
stream has ended, and a CUDA error is followed by a look at the device: where that fails, too, the context is of no use
any more ("sticky"), for nothing but the end of the process mends that (CUDA C Programming Guide, *Error Checking*).
"""

from __future__ import annotations

import contextlib
from collections import deque
from typing import Any

import numpy as np

from taskmaster.bus.errors import ConfigError
from taskmaster.drivers.gpu.arrays import Adapter, columns_of, padded_rows
from taskmaster.drivers.gpu.device import Device, DeviceBroken, Fill, Flight, Function, Memory, OutOfMemory, Spans

__all__ = ["CudaDevice", "require_device"]

#: Batches under way.
DEPTH = 3
#: Of fewer rows most of the memory that was taken is not theirs.
_TELLING_ROWS = 1024
#: Where a column begins in pinned memory.
_ALIGNED = 256
#: Pinned memory grows by this factor, at least: to have it takes long.
_GROWTH = 1.5


def require_device() -> None:
    """Raise ConfigError where no CUDA device can be had, saying why and what else there is."""
    remedy = "'device = \"cpu\"' evaluates on the processor, for development and tests"
    try:
        import cupy
    except ImportError as error:
        raise ConfigError(
            f"driver 'gpu' needs CuPy, which is not installed here ({error}): the extra [gpu]; {remedy}"
        ) from error
    try:
        if cupy.cuda.runtime.getDeviceCount() > 0:
            cupy.cuda.Device(0).use()
            cupy.cuda.runtime.memGetInfo()  # makes the context: a device that is lost, or full, shows here
            return
        problem = "CUDA shows none to this process"
    except (cupy.cuda.runtime.CUDARuntimeError, cupy.cuda.driver.CUDADriverError) as error:
        problem = str(error)
    raise ConfigError(f"driver 'gpu' has no CUDA device here: {problem}; {remedy}")


class CudaDevice(Device):
    """The first device that CUDA shows to this process."""

    depth = DEPTH
    is_asynchronous = True

    def __init__(self, function: Function, width: int, dtype: str, adapter: Adapter) -> None:
        import cupy

        self._cupy = cupy
        self._errors = (cupy.cuda.runtime.CUDARuntimeError, cupy.cuda.driver.CUDADriverError)
        self._function, self._width, self._dtype, self._adapter = function, width, np.dtype(dtype), adapter
        properties = cupy.cuda.runtime.getDeviceProperties(0)
        self.name = properties["name"].decode(errors="replace")
        self._lanes = deque(_Lane(cupy) for _ in range(DEPTH))
        self._row_bytes = 0.0

    def begin(self, fill: Fill, n: int) -> Flight:
        """See Device."""
        lane = self._lanes.popleft()
        flight = _CudaFlight(self, lane, n)
        try:
            self._launch(flight, fill, n)
        except BaseException as error:  # noqa: BLE001 - whatever the user's function raises is told of its rows
            flight.fail(error)
        return flight

    def _launch(self, flight: _CudaFlight, fill: Fill, n: int) -> None:
        cupy, lane = self._cupy, flight.lane
        size = padded_rows(n) if self._adapter.few_sizes else n
        staged = lane.inward((size, self._width), self._dtype)
        fill(staged[:n])
        staged[n:] = staged[n - 1]
        with lane.stream, self._adapter.scope(lane.stream) or contextlib.nullcontext():
            lane.began.record(lane.stream)
            rows = cupy.empty(staged.shape, self._dtype)
            rows.set(staged, stream=lane.stream)
            lane.copied.record(lane.stream)
            result = self._function(self._adapter.inward(rows))
            columns = columns_of(result, size, self._adapter.outward)
            lane.evaluated.record(lane.stream)
            named = columns if isinstance(columns, dict) else {"": columns}
            outputs = {name: column[:n] for name, column in named.items()}
            flight.fetch(outputs, is_named=isinstance(columns, dict))
            lane.ended.record(lane.stream)
            # Freed before the kernel has run, this memory could be had by another lane's kernel only through the
            # stream's own arena of the pool, in which it is in order; arrays of other libraries have no such arenas.
            flight.keep(rows, result, columns)

    def free_lane(self, lane: _Lane) -> None:
        """A batch has left it."""
        self._lanes.append(lane)

    def note_memory(self, n: int) -> None:
        """A batch of so many rows has been through: the pool holds what the largest have taken, perhaps several times.

        To take all of it for one's is cautious; a batch that is too large all the same is tried by halves.
        """
        if not self._row_bytes and n >= _TELLING_ROWS:
            self._row_bytes = self._cupy.get_default_memory_pool().total_bytes() / n

    def translated(self, error: BaseException) -> BaseException:
        """What an exception means: to be called when the lane that it is of has nothing under way."""
        if isinstance(error, self._cupy.cuda.memory.OutOfMemoryError) or self._adapter.is_out_of_memory(error):
            return OutOfMemory(str(error))
        if not isinstance(error, self._errors) and "CUDA" not in str(error):
            return error
        try:
            self._cupy.cuda.runtime.deviceSynchronize()
        except self._errors as again:
            broken = DeviceBroken(f"{self.name}: {error}")
            broken.__cause__ = again
            return broken
        return error

    def memory(self) -> Memory:
        """Free: what the pool holds and does not use, too."""
        try:
            free, total = self._cupy.cuda.runtime.memGetInfo()
        except self._errors as error:
            raise DeviceBroken(f"{self.name}: {error}") from error
        return Memory(free + self._cupy.get_default_memory_pool().free_bytes(), total)

    def row_bytes(self) -> float:
        """See Device."""
        return self._row_bytes

    def trim(self) -> None:
        """Give back what the pools hold and do not use."""
        self._cupy.get_default_memory_pool().free_all_blocks()
        self._adapter.trim()


class _Lane:
    """What one batch at a time has to itself."""

    def __init__(self, cupy: Any) -> None:
        self._cupy = cupy
        self.stream = cupy.cuda.Stream(non_blocking=True)
        # To wait for one must not take a processor from the daemon: block.
        self.began, self.copied, self.evaluated = (cupy.cuda.Event() for _ in range(3))
        self.ended = cupy.cuda.Event(block=True)
        self._in: Any = None
        self._out: Any = None

    def inward(self, shape: tuple[int, int], dtype: np.dtype[Any]) -> Any:
        """Pinned memory for rows."""
        count = shape[0] * shape[1]
        self._in = self._at_least(self._in, count * dtype.itemsize)
        return np.frombuffer(self._in, dtype, count).reshape(shape)

    def outward(self, nbytes: int) -> Any:
        """Pinned memory for outputs."""
        self._out = self._at_least(self._out, nbytes)
        return self._out

    def _at_least(self, pinned: Any, nbytes: int) -> Any:
        before = 0 if pinned is None else memoryview(pinned).nbytes
        if before >= nbytes and pinned is not None:
            return pinned
        return self._cupy.cuda.alloc_pinned_memory(max(_ALIGNED, nbytes, int(before * _GROWTH)))


class _CudaFlight(Flight):
    """A batch in its lane."""

    def __init__(self, device: CudaDevice, lane: _Lane, n: int) -> None:
        self._device, self.lane, self._n = device, lane, n
        self._error: BaseException | None = None
        self._fetched: dict[str, Any] = {}
        self._is_named = False
        self._kept: tuple[Any, ...] = ()
        self._spans = Spans()
        #: somebody has waited for its end, however that was: of a broken device no event ever says that it is done
        self._was_awaited = False

    def fail(self, error: BaseException) -> None:
        """It went wrong when it was begun: nothing of it is to be had."""
        self._error = error

    def keep(self, *objects: Any) -> None:
        """Have these until it has ended."""
        self._kept = objects

    def fetch(self, outputs: dict[str, Any], *, is_named: bool) -> None:
        """Begin to copy outputs out."""
        self._is_named = is_named
        cupy = self._device._cupy
        on_device = {name: column for name, column in outputs.items() if isinstance(column, cupy.ndarray)}
        nbytes = sum(_padded(column.nbytes) for column in on_device.values())
        pinned, at = self.lane.outward(nbytes), 0
        for name, column in outputs.items():
            if name not in on_device or not column.size:
                self._fetched[name] = cupy.asnumpy(column) if name in on_device else column
                continue
            host = np.frombuffer(pinned, column.dtype, column.size, at).reshape(column.shape)
            cupy.ascontiguousarray(column).get(stream=self.lane.stream, out=host, blocking=False)
            self._fetched[name] = host
            at += _padded(column.nbytes)

    @property
    def is_done(self) -> bool:
        return self._error is not None or self._was_awaited or bool(self.lane.ended.done)

    def wait(self) -> None:
        if self._error is None:
            # What is wrong, whoever takes the outputs is told again.
            with contextlib.suppress(*self._device._errors):
                self.lane.ended.synchronize()
        self._was_awaited = True

    def outputs(self) -> Any:
        lane, device = self.lane, self._device
        try:
            lane.stream.synchronize()
            if self._error is not None:
                raise self._error
            found = {
                name: column.copy() if isinstance(column, np.ndarray) else column
                for name, column in self._fetched.items()
            }
            self._spans = self._measured()
        except BaseException as error:
            meant = device.translated(error)
            if meant is error:
                raise
            raise meant from error
        finally:
            self._kept, self._fetched = (), {}
            device.free_lane(lane)
        device.note_memory(self._n)
        return found if self._is_named else found[""]

    def _measured(self) -> Spans:
        lane, elapsed = self.lane, self._device._cupy.cuda.get_elapsed_time
        return Spans(
            elapsed(lane.began, lane.copied) / 1e3,
            elapsed(lane.copied, lane.evaluated) / 1e3,
            elapsed(lane.evaluated, lane.ended) / 1e3,
        )

    def spans(self) -> Spans:
        return self._spans


def _padded(nbytes: int) -> int:
    return -(-nbytes // _ALIGNED) * _ALIGNED
