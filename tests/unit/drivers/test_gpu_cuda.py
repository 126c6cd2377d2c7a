"""How a CUDA device is talked to, by a stand-in for CuPy: streams, pinned memory, and what errors mean."""

from __future__ import annotations

import contextlib
import sys
import traceback
import weakref
from typing import Any

import numpy as np
import pytest
from helpers.stand_in import Array, CudaError, NoMemory, StandIn

from taskmaster.bus.errors import ConfigError
from taskmaster.drivers.base import DeviceBroken
from taskmaster.drivers.gpu.arrays import Adapter
from taskmaster.drivers.gpu.cuda import DEPTH, CudaDevice, require_device
from taskmaster.drivers.gpu.device import OutOfMemory


@pytest.fixture
def cupy(monkeypatch: pytest.MonkeyPatch) -> StandIn:
    module = StandIn()
    monkeypatch.setitem(sys.modules, "cupy", module)
    return module


def device(function: Any, width: int = 2) -> CudaDevice:
    return CudaDevice(function, width, "<f8", Adapter())


def rows(n: int, at: float = 0.0) -> Any:
    return at + np.arange(2.0 * n).reshape(n, 2)


def begin(it: CudaDevice, values: Any) -> Any:
    return it.begin(lambda into: np.copyto(into, values), len(values))


def test_batches_are_under_way_together_and_keep_apart(cupy: StandIn) -> None:
    it = device(cupy.kernel(lambda x: x.sum(axis=1), lambda n: (n,)))
    for _ in range(3):
        values = [rows(5 + k, 100.0 * k) for k in range(DEPTH)]
        flights = [begin(it, value) for value in values]
        assert not any(flight.is_done for flight in flights), "nothing has waited"
        assert len({id(flight.lane.stream) for flight in flights}) == DEPTH, "or they could not overlap"
        for flight, value in zip(flights, values):
            flight.wait()
            assert flight.is_done
            got = flight.outputs()
            assert got.tolist() == value.sum(axis=1).tolist()
            assert flight.spans().kernel == 0.002


def test_outputs_are_nobody_elses_memory(cupy: StandIn) -> None:
    it = device(cupy.kernel(lambda x: x[:, 0], lambda n: (n,)))
    kept = [begin(it, rows(4, at)).outputs() for at in range(6)]
    assert [column[0] for column in kept] == [0, 1, 2, 3, 4, 5]


def test_outputs_by_name_of_any_shape_and_type(cupy: StandIn) -> None:
    single = cupy.kernel(lambda x: x[:, :1], lambda n: (n, 1), "f4")
    wide = cupy.kernel(lambda x: np.repeat(x, 3, axis=1), lambda n: (n, 6))

    def function(x: Any) -> Any:
        return {"a": single(x), "b": wide(x)[:, ::2], "c": [7] * len(x)}

    found = begin(device(function), rows(3)).outputs()
    assert (found["a"].dtype, found["a"].tolist()) == (np.dtype("f4"), [[0], [2], [4]])
    assert found["b"].shape == (3, 3)
    assert found["c"] == [7] * 3


def test_what_the_function_raises_comes_through_and_the_lane_is_free_again(cupy: StandIn) -> None:
    def function(x: Any) -> Any:
        raise ValueError("no")

    it = device(function)
    for _ in range(3 * DEPTH):
        flight = begin(it, rows(2))
        flight.wait()
        assert flight.is_done
        with pytest.raises(ValueError, match="no"):
            flight.outputs()


def test_out_of_memory_is_told_from_other_errors(cupy: StandIn) -> None:
    def function(x: Any) -> Any:
        raise NoMemory("Out of memory allocating 1 bytes")

    it = device(function)
    with pytest.raises(OutOfMemory, match="allocating 1 bytes"):
        begin(it, rows(2)).outputs()
    it.trim()
    assert cupy.trimmed


def test_an_exception_that_was_told_keeps_nothing(cupy: StandIn) -> None:
    seen = []

    def function(x: Any) -> Any:
        large = cupy.empty(len(x), "f8")
        seen.append(weakref.ref(large))
        raise ValueError("no")

    flight = begin(device(function), rows(2))
    with contextlib.suppress(ValueError):
        flight.outputs()
    assert seen[0]() is None, "without waiting for rubbish to be collected"
    assert flight.is_done


@pytest.mark.parametrize(
    "error",
    [
        CudaError("cudaErrorMemoryAllocation: out of memory", 2),
        RuntimeError("CUBLAS_STATUS_ALLOC_FAILED"),
        MemoryError("of the processor"),
    ],
)
def test_memory_that_no_pool_is_asked_for_runs_out_as_well(cupy: StandIn, error: Exception) -> None:
    def function(x: Any) -> Any:
        raise error

    with pytest.raises(OutOfMemory):
        begin(device(function), rows(2)).outputs()


def test_what_was_there_when_memory_ran_out_is_let_go_of(cupy: StandIn) -> None:
    """The next try, of half as many rows, wants it."""
    seen = []

    def function(x: Any) -> Any:
        large = cupy.empty(len(x), "f8")
        seen.append(weakref.ref(large))
        raise NoMemory("Out of memory allocating 1 bytes")

    it = device(function)
    flight = begin(it, rows(2))
    with pytest.raises(OutOfMemory) as caught:
        flight.outputs()
    assert seen[0]() is None
    assert "function" in "".join(traceback.format_exception(caught.value)), "where it was is known all the same"


def test_a_batch_that_raises_has_ended_when_what_it_has_begun_has(cupy: StandIn) -> None:
    """Else who asks for its outputs waits, and hears nobody meanwhile."""

    def function(x: Any) -> Any:
        cupy.kernel(lambda x: x[:, 0], lambda n: (n,))(x)
        raise ValueError("no")

    flight = begin(device(function), rows(2))
    assert not flight.is_done
    flight.wait()
    assert flight.is_done


def test_what_the_first_call_has_made_is_there_for_the_next_in_another_stream(cupy: StandIn) -> None:
    kept: dict[str, Any] = {}
    make = cupy.kernel(lambda x: np.full(3, 7.0), lambda n: (3,))

    def function(x: Any) -> Any:
        if not kept:
            kept["table"] = make(x)
        return cupy.kernel(lambda x: np.full(len(x), kept["table"][0]), lambda n: (n,))(x)

    it = device(function)
    first, second = begin(it, rows(2)), begin(it, rows(2))
    assert second.outputs().tolist() == [7, 7]
    assert first.outputs().tolist() == [7, 7]


def test_what_the_set_up_has_begun_is_waited_for(cupy: StandIn) -> None:
    device(cupy.kernel(lambda x: x[:, 0], lambda n: (n,)))
    assert cupy.synchronized


def test_as_many_batches_are_under_way_as_there_are_streams(cupy: StandIn) -> None:
    it = CudaDevice(cupy.kernel(lambda x: x[:, 0], lambda n: (n,)), 2, "<f8", Adapter(), streams=1)
    assert it.depth == 1
    begin(it, rows(2))
    with pytest.raises(IndexError):
        begin(it, rows(2))


def test_an_error_after_which_the_device_is_well_is_the_functions(cupy: StandIn) -> None:
    def function(x: Any) -> Any:
        raise CudaError("cudaErrorInvalidConfiguration: invalid configuration argument")

    with pytest.raises(CudaError, match="invalid configuration"):
        begin(device(function), rows(2)).outputs()


def test_an_error_that_stays_breaks_the_device(cupy: StandIn) -> None:
    it = device(cupy.kernel(lambda x: x[:, 0], lambda n: (n,)))
    flight = begin(it, rows(2))
    cupy.is_broken = True
    flight.wait()
    assert flight.is_done, "however it ended"
    with pytest.raises(DeviceBroken, match="Stand-in: cudaErrorIllegalAddress"):
        flight.outputs()


def test_an_error_of_a_library_tells_of_a_broken_device_as_well(cupy: StandIn) -> None:
    def function(x: Any) -> Any:
        cupy.is_broken = True
        raise RuntimeError("CUBLAS_STATUS_EXECUTION_FAILED")

    with pytest.raises(DeviceBroken, match="illegal memory access"):
        begin(device(function), rows(2)).outputs()


def test_where_nothing_can_be_compiled_it_is_no_rows_fault(cupy: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    def without_nvrtc(*operands: Any) -> Any:
        raise RuntimeError("CuPy failed to load libnvrtc.so.12")

    monkeypatch.setattr(Array, "__add__", without_nvrtc)
    with pytest.raises(RuntimeError, match="libnvrtc"):
        device(lambda x: x[:, 0])


def test_what_it_needs_is_known_from_large_batches(cupy: StandIn) -> None:
    it = device(cupy.kernel(lambda x: x[:, 0], lambda n: (n,)))
    begin(it, rows(10)).outputs()
    assert it.row_bytes() == 0
    cupy.held += 5 << 30  # what the function keeps: weights, say
    begin(it, rows(2048)).outputs()
    assert it.row_bytes() == 0, "that is not the rows'"
    cupy.held += 1 << 20
    begin(it, rows(3000)).outputs()
    assert it.row_bytes() == 0
    begin(it, rows(4096)).outputs()
    assert it.row_bytes() == (1 << 20) / 2048
    memory = it.memory()
    assert (memory.free, memory.total) == ((1 << 30) + (1 << 10), 1 << 31)


def test_a_function_that_is_compiled_for_each_size_gets_few_of_them(cupy: StandIn) -> None:
    sizes = []

    def function(x: Any) -> Any:
        sizes.append(len(x))
        return cupy.kernel(lambda x: x[:, 0], lambda n: (n,))(x)

    adapter = Adapter()
    adapter.few_sizes = True
    it = CudaDevice(function, 2, "<f8", adapter)
    for n in (1, 3, 5, 8, 9):
        assert begin(it, rows(n)).outputs().tolist() == rows(n)[:, 0].tolist()
    assert sizes == [1, 4, 8, 8, 16]


def test_without_a_device_it_is_said_what_else_there_is(cupy: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    require_device()
    cupy.cuda.runtime.getDeviceCount = lambda: 0
    with pytest.raises(ConfigError, match="no CUDA device here: CUDA shows none"):
        require_device()
    monkeypatch.setitem(sys.modules, "cupy", None)
    with pytest.raises(ConfigError, match=r"needs CuPy, which is not installed.*\[gpu\].*device = \"cpu\""):
        require_device()
