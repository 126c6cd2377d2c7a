"""A CUDA device, by CuPy: pinned buffers, and a stream for each batch that is under way.

Three batches are under way at a time, so that while the kernel of one runs, the rows of the next are copied in and the
outputs of the one before are copied out: a card has engines of their own for that. Each has a *lane*: a stream, in
which the three follow each other, and pinned memory for both ways, without which a copy would not be asynchronous.

The streams wait for each other in one respect: what the function has made of its own when it was called first (a table
that it keeps, say) is there when it is called again, in another stream.

Errors of kernels come late: at the next call, whatever that is for. So what a lane came to is only known when its
stream has ended, and an error is followed by another look at the stream, in which nothing is left to go wrong: where
that fails, too, the context is of no use any more ("sticky"), for nothing but the end of the process mends that (CUDA C
Programming Guide, *Error Checking*).
"""

from __future__ import annotations

import contextlib
import traceback
from collections import deque
from typing import Any, NoReturn

import numpy as np

from taskmaster.bus.errors import ConfigError
from taskmaster.drivers.gpu.arrays import Adapter, columns_of, padded_rows
from taskmaster.drivers.gpu.device import Device, DeviceBroken, Fill, Flight, Function, Memory, OutOfMemory, Spans

__all__ = ["DEPTH", "CudaDevice", "require_device"]

#: Batches under way.
DEPTH = 3
#: Of fewer rows most of the memory that was taken is not theirs.
_TELLING_ROWS = 1024
#: Where a column begins in pinned memory.
_ALIGNED = 256
#: Pinned memory grows by this factor, at least: to have it takes long.
_GROWTH = 1.5
#: cudaErrorMemoryAllocation, and CUDA_ERROR_OUT_OF_MEMORY
_NO_MEMORY = 2


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

    is_asynchronous = True

    def __init__(self, function: Function, width: int, dtype: str, adapter: Adapter, streams: int = DEPTH) -> None:
        import cupy

        self.depth = streams

        self._cupy = cupy
        self._errors = (cupy.cuda.runtime.CUDARuntimeError, cupy.cuda.driver.CUDADriverError)
        self._function, self._width, self._dtype, self._adapter = function, width, np.dtype(dtype), adapter
        properties = cupy.cuda.runtime.getDeviceProperties(0)
        self.name = properties["name"].decode(errors="replace")
        self._lanes = deque(_Lane(cupy) for _ in range(streams))
        self._row_bytes = 0.0
        #: rows of a batch, and what the pools held after it
        self._noted = (0, 0)
        #: when the function was called first
        self._called: Any = None
        if type(adapter) is Adapter:
            # Compiles a kernel: where CuPy cannot (without NVRTC, say), this worker says so, and not each row.
            cupy.empty(1, self._dtype) + cupy.empty(1, self._dtype)
        # What modules and the set-up have begun, in the default stream, for which the lanes' do not wait.
        cupy.cuda.runtime.deviceSynchronize()

    def begin(self, fill: Fill, n: int) -> Flight:
        """See Device."""
        lane = self._lanes.popleft()
        flight = _CudaFlight(self, lane, n)
        try:
            self._launch(flight, fill, n)
        except BaseException as error:  # noqa: BLE001 - whatever the user's function raises is told of its rows
            flight.fail(error)
            with contextlib.suppress(*self._errors):  # what it has put into the stream before that has to end
                lane.ended.record(lane.stream)
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
            if self._called is not None:
                lane.stream.wait_event(self._called)
            lane.copied.record(lane.stream)
            result = self._function(self._adapter.inward(rows))
            columns = columns_of(result, size, self._adapter.outward)
            lane.evaluated.record(lane.stream)
            if self._called is None:
                self._called = self._cupy.cuda.Event()
                self._called.record(lane.stream)
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
        """A batch of so many rows has been through: the pools hold what the largest have taken, perhaps several times.

        What they hold more than after a batch of half as many, is those rows' (and not the function's own, whatever it
        keeps). To take all of it for one batch's is cautious; one that is too large all the same is tried by halves.
        """
        before, held_before = self._noted
        if n < max(_TELLING_ROWS, 2 * before):
            return
        pool, others = self._cupy.get_default_memory_pool(), self._adapter.held()[0]
        held = pool.total_bytes() + others
        if before:
            self._row_bytes = max(0.0, (held - held_before) / (n - before))
        self._noted = (n, held)

    def explain(self, error: BaseException, lane: _Lane) -> None:
        """Raise what an exception means, if that is something else; ``lane``, which it is of, has nothing under way."""
        if self._is_out_of_memory(error):
            # What is left of it where it was raised is memory that the next try wants.
            traceback.clear_frames(error.__traceback__)
            raise OutOfMemory(str(error)) from error
        try:
            lane.stream.synchronize()
        except self._errors as again:
            self._break(error, again)

    def _break(self, error: BaseException, again: BaseException) -> NoReturn:
        raise DeviceBroken(f"{self.name}: {error}") from again

    def _is_out_of_memory(self, error: BaseException) -> bool:
        if isinstance(error, self._cupy.cuda.memory.OutOfMemoryError) or self._adapter.is_out_of_memory(error):
            return True
        if isinstance(error, self._errors):  # pinned memory, and what no pool is asked for
            return getattr(error, "status", None) == _NO_MEMORY
        return "_ALLOC_FAILED" in str(error)[:200]  # of cuBLAS, cuFFT, cuSOLVER

    def memory(self) -> Memory:
        """Free: what the pools hold and do not use, too."""
        try:
            free, total = self._cupy.cuda.runtime.memGetInfo()
        except self._errors as error:
            raise DeviceBroken(f"{self.name}: {error}") from error
        return Memory(free + self._cupy.get_default_memory_pool().free_bytes() + self._adapter.held()[1], total)

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
        """It went wrong when it was begun: nothing of it is to be had, though some of it may be under way."""
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
        return self._was_awaited or bool(self.lane.ended.done)

    def wait(self) -> None:
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
            device.explain(error, lane)
            raise
        finally:
            # Of an exception nothing here is to stay: what it was raised amid may be large.
            self._kept, self._fetched, self._error = (), {}, None
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
