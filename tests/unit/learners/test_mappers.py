"""Mappers: one interface, whatever evaluates; each loop within a loop stays where it is."""

from __future__ import annotations

import math
import pickle
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from hypothesis import given, strategies as st

from taskmaster.bus.errors import CallerError
from taskmaster.learners.mappers import (
    DynamicParallelMapper,
    GuidedMapper,
    Mapper,
    MapperInstance,
    SerialMapper,
    StaticParallelMapper,
    mapper as program_mapper,
)

PARALLEL: list[Callable[..., Mapper]] = [StaticParallelMapper, DynamicParallelMapper, GuidedMapper]
MAKE: list[Callable[[], Mapper]] = [
    SerialMapper,
    *(lambda kind=kind: kind("threads", 2) for kind in PARALLEL),
    lambda: MapperInstance(GuidedMapper("threads", 2)),
]


@pytest.fixture(params=MAKE, ids=["serial", "static", "dynamic", "guided", "instance"])
def mapper(request: pytest.FixtureRequest) -> Iterator[Mapper]:
    with request.param() as mapper:
        yield mapper


def test_it_is_the_builtin_map(mapper: Mapper) -> None:
    assert mapper.map(abs, range(-50, 50)) == [abs(x) for x in range(-50, 50)]
    assert mapper(pow, [1, 2, 3, 4], iter([2, 2, 2])) == [1, 4, 9], "it ends with the shortest"
    assert mapper(abs, []) == []
    assert mapper(lambda: 1, []) == []
    assert mapper.workers == (1 if isinstance(mapper, SerialMapper) else 2)


def test_what_a_call_raises_is_raised(mapper: Mapper) -> None:
    with pytest.raises(ZeroDivisionError):
        mapper(lambda x: 1 / x, [3, 2, 1, 0, "never"])
    assert mapper(abs, [-1]) == [1], "and it goes on"


def test_calls_run_at_the_same_time() -> None:
    for kind in PARALLEL:
        meeting = threading.Barrier(2)
        with kind("threads", 2) as mapper:
            mapper(lambda _, meeting=meeting: meeting.wait(30), range(2))


def test_a_mapping_within_a_mapping_is_a_loop() -> None:
    inner = MapperInstance(GuidedMapper("threads", 2))

    def nested(x: int) -> tuple[type[Mapper], int, list[int]]:
        return type(inner.current), inner.workers, inner(abs, [x, -x])

    with inner, StaticParallelMapper("threads", 2) as outer:
        assert outer(nested, [1, 2, 3]) == [(SerialMapper, 1, [x, x]) for x in (1, 2, 3)]
        assert isinstance(inner.current, GuidedMapper), "here it is not within another"
        assert inner(nested, [4]) == [(SerialMapper, 1, [4, 4])]


def test_a_program_chooses_its_mapper_in_one_place() -> None:
    assert isinstance(program_mapper.current, SerialMapper), "nothing is parallel that nobody has chosen"
    with program_mapper.using(DynamicParallelMapper("threads", 3)) as chosen:
        assert chosen is program_mapper
        assert program_mapper.workers == 3
        former = program_mapper.choose(SerialMapper())
        program_mapper.choose(former)
    assert isinstance(program_mapper.current, SerialMapper)
    with pytest.raises(RuntimeError):
        former(abs, [1])  # it was closed with its context
    with pytest.raises(CallerError, match="not with itself"):
        program_mapper.choose(program_mapper)
    elsewhere = pickle.loads(pickle.dumps(MapperInstance(GuidedMapper.__new__(GuidedMapper))))
    assert isinstance(elsewhere.current, SerialMapper)


def test_an_executor_that_is_given_stays_open() -> None:
    with ThreadPoolExecutor(3) as executor:
        with GuidedMapper(executor) as mapper:
            assert mapper.workers == 3
            assert mapper(abs, [-1, -2]) == [1, 2]
        assert executor.submit(abs, -3).result() == 3


def test_slips_are_said() -> None:
    with pytest.raises(CallerError, match="'threads', 'processes', a Master or an executor, not 'thread'"):
        GuidedMapper("thread")  # type: ignore[arg-type]
    with pytest.raises(CallerError, match="the number of workers must be a whole number from 1"):
        GuidedMapper("threads", 0)
    with ThreadPoolExecutor(1) as executor, pytest.raises(CallerError, match="has its own"):
        GuidedMapper(executor, 2)
    with pytest.raises(CallerError, match=r"a mapper is chosen, such as GuidedMapper\('processes'\), not 3"):
        program_mapper.choose(3)  # type: ignore[arg-type]
    with pytest.raises(CallerError, match="not 'guided'"):
        MapperInstance("guided")  # type: ignore[arg-type]
    assert repr(program_mapper) == "<MapperInstance: <SerialMapper on 1 worker>>"


class _Of(GuidedMapper, StaticParallelMapper):
    """Sizes for any number of workers, without any."""

    def __init__(self, workers: int) -> None:
        self._count = workers


@given(n=st.integers(0, 5000), workers=st.integers(1, 64))
def test_guided_chunks_shrink_to_single_calls(n: int, workers: int) -> None:
    sizes = list(GuidedMapper.sizes(_Of(workers), n))
    assert sum(sizes) == n
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[-1:] == [1] * min(n, 1), "the last call is handed out alone"
    assert all(size <= -(-n // (2 * workers)) for size in sizes)
    assert len(sizes) <= 2 * workers * (1 + math.log(max(n / (2 * workers), 1))) + 1, "they are few"


@given(n=st.integers(0, 5000), workers=st.integers(1, 64))
def test_static_parts_are_equal(n: int, workers: int) -> None:
    sizes: list[Any] = list(StaticParallelMapper.sizes(_Of(workers), n))
    assert sum(sizes) == n
    assert len(sizes) == min(n, workers)
    assert not sizes or max(sizes) - min(sizes) <= 1
