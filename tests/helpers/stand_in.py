"""A stand-in for CuPy, of numpy: what `drivers/gpu/cuda.py` asks of it, where there is no device to ask it of.

Work that is put into a stream is done when the stream, or an event in it, is waited for: so what would be too early, or
in memory that is used again, shows.
"""

from __future__ import annotations

import types
from collections.abc import Callable
from typing import Any

import numpy as np

__all__ = ["CudaError", "StandIn"]


class CudaError(RuntimeError):
    """As CuPy's."""

    def __init__(self, message: str, status: int = 700) -> None:
        super().__init__(message)
        self.status = status


class NoMemory(MemoryError):
    """As CuPy's."""


class Array(np.ndarray[Any, Any]):
    """An array on the device."""

    def set(self, array: Any, stream: Any = None) -> None:
        assert stream is not None, "else it would not be asynchronous"
        assert stream.module.is_pinned(array), "nor so"
        stream.put(lambda: np.copyto(self.view(np.ndarray), array))

    def get(self, stream: Any = None, out: Any = None, blocking: bool = True) -> None:
        assert stream is not None
        assert not blocking
        assert stream.module.is_pinned(out)
        assert out.flags.c_contiguous
        assert out.dtype == self.dtype
        stream.put(lambda: np.copyto(out, self.view(np.ndarray)))


class Stream:
    """Work in its order."""

    def __init__(self, module: StandIn, non_blocking: bool = False) -> None:
        assert non_blocking
        self.module, self.waiting = module, list[Callable[[], None]]()
        self.ptr = id(self)

    def put(self, work: Callable[[], None]) -> None:
        self.waiting.append(work)

    def wait_event(self, event: Event) -> None:
        self.put(lambda: None if event.passed else event.synchronize())

    def synchronize(self) -> None:
        while self.waiting:
            self.waiting.pop(0)()
        self.module.require_whole()

    def __enter__(self) -> Stream:
        self.module.current.append(self)
        return self

    def __exit__(self, *error: object) -> None:
        self.module.current.pop()


class Event:
    """A place in a stream."""

    def __init__(self, block: bool = False) -> None:
        self.stream: Stream | None = None
        self.passed = True

    def record(self, stream: Stream) -> None:
        self.stream, self.passed = stream, False
        stream.put(self._pass)

    def _pass(self) -> None:
        self.passed = True

    @property
    def done(self) -> bool:
        return self.passed

    def synchronize(self) -> None:
        assert self.stream is not None
        self.stream.synchronize()


class StandIn(types.ModuleType):
    """The module. ``is_broken``: its context is of no use any more."""

    def __init__(self) -> None:
        super().__init__("cupy")
        self.is_broken = False
        self.free = 1 << 30
        self.trimmed = self.synchronized = 0
        self.held = 1 << 20
        self.pinned: list[Any] = []
        self.current: list[Stream] = []
        self.ndarray = Array
        runtime = types.SimpleNamespace(
            CUDARuntimeError=CudaError,
            deviceSynchronize=self._synchronize,
            getDeviceProperties=lambda number: {"name": b"Stand-in"},
            getDeviceCount=lambda: 1,
            memGetInfo=lambda: (self.free, 1 << 31),
        )
        self.cuda = types.SimpleNamespace(
            runtime=runtime,
            driver=types.SimpleNamespace(CUDADriverError=CudaError),
            memory=types.SimpleNamespace(OutOfMemoryError=NoMemory),
            Stream=lambda non_blocking=False: Stream(self, non_blocking),
            Event=Event,
            Device=lambda number: types.SimpleNamespace(use=lambda: None),
            alloc_pinned_memory=self._pin,
            get_elapsed_time=lambda start, end: 2.0,
        )
        self.pool = types.SimpleNamespace(
            total_bytes=lambda: self.held, free_bytes=lambda: 1 << 10, free_all_blocks=self._trim
        )

    def _trim(self) -> None:
        self.trimmed += 1

    def _pin(self, nbytes: int) -> Any:
        self.pinned.append(np.empty(nbytes, "u1"))
        return self.pinned[-1]

    def is_pinned(self, array: Any) -> bool:
        return any(np.may_share_memory(array, memory) for memory in self.pinned)

    def _synchronize(self) -> None:
        self.synchronized += 1
        self.require_whole()

    def require_whole(self) -> None:
        if self.is_broken:
            raise CudaError("cudaErrorIllegalAddress: an illegal memory access was encountered")

    def get_default_memory_pool(self) -> Any:
        return self.pool

    def empty(self, shape: Any, dtype: Any) -> Any:
        return np.full(shape, 99, dtype).view(Array)

    def asnumpy(self, array: Any) -> Any:
        return np.asarray(array)

    def ascontiguousarray(self, array: Any) -> Any:
        return array if array.flags.c_contiguous else np.ascontiguousarray(array).view(Array)

    def kernel(self, function: Callable[[Any], Any], shape: Callable[[int], Any], dtype: str = "f8") -> Any:
        """A function that puts what it does into the current stream, as a kernel would."""

        def launch(rows: Any) -> Any:
            result = self.empty(shape(len(rows)), dtype)
            self.current[-1].put(lambda: np.copyto(result.view(np.ndarray), function(rows.view(np.ndarray))))
            return result

        return launch
