"""Functions that yield: their yields are progress, their return is the output, and they are broken off between."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Generator
from typing import Any

import pytest
from helpers.bench import NOTHING, Bench

from taskmaster.bus.fields import Field, Schema
from taskmaster.bus.messages import TaskError
from taskmaster.drivers.protocol import Assignment
from taskmaster.drivers.yields import EVERY

LOSS = Schema([Field("loss")], "m", "output")
GEARS: dict[str, Callable[..., Bench]] = {
    "timed": Bench,
    "light": lambda *arguments: Bench(*arguments, light=True),
}
in_each_gear = pytest.mark.parametrize("gear", GEARS)


def doubled(x: float) -> Generator[Any, None, float]:
    yield {"step": 0, "x": x}
    yield x
    return 2 * x


@in_each_gear
@pytest.mark.parametrize("n", [1, 2, 700])
def test_what_a_generator_returns_is_its_output(gear: str, n: int) -> None:
    bench = GEARS[gear](doubled, LOSS)
    for _ in range(2):
        assert bench.run([float(k) for k in range(n)]) == [{"loss": 2.0 * k} for k in range(n)]
        assert bench.started == n


def test_what_it_yields_is_told_with_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("taskmaster.drivers.yields.EVERY", 0.0)
    bench = Bench(doubled)
    before = time.time()
    bench.run([1.0, 2.0])
    bench.run([3.0])
    assert [(one.lease, one.position, one.number, one.values) for one in bench.told] == [
        ((1, 1), 0, 1, {"step": 0, "x": 1.0}),
        ((1, 1), 0, 2, {"progress": 1.0}),
        ((1, 1), 1, 1, {"step": 0, "x": 2.0}),
        ((1, 1), 1, 2, {"progress": 2.0}),
        ((1, 2), 0, 1, {"step": 0, "x": 3.0}),
        ((1, 2), 0, 2, {"progress": 3.0}),
    ]
    assert all(before <= one.time <= time.time() for one in bench.told)


def test_no_more_is_told_than_anybody_can_see() -> None:
    def busy(seconds: float) -> Generator[int, None, int]:
        end, k = time.monotonic() + seconds, 0
        while time.monotonic() < end:
            yield (k := k + 1)
        return k

    bench = Bench(busy)
    began = time.monotonic()
    bench.run([2.5 * EVERY])
    bench.run([0.0001] * 50)
    assert 3 <= len(bench.told) <= 2 + (time.monotonic() - began) / EVERY
    [output] = bench.run([1.5 * EVERY])
    assert bench.told[-1].values == {"progress": output}, "of one that takes its time the last, too"


def test_a_function_that_yields_now_and_then() -> None:
    def mixed(k: int) -> Any:
        if k == 7:
            raise ValueError("seven")
        return doubled(k) if k % 3 == 2 else k

    for gear in GEARS.values():
        bench = gear(mixed)
        for _ in range(2):
            ended = bench.run(list(range(20)))
            assert [one for k, one in enumerate(ended) if k != 7] == [
                2 * k if k % 3 == 2 else k for k in range(20) if k != 7
            ]
            assert ended[7].message == "seven"


@in_each_gear
def test_what_it_raises_fails_its_task_alone(gear: str) -> None:
    def raising(k: int) -> Generator[int, None, int]:
        yield k
        if k == 1:
            raise ArithmeticError("one")
        return k

    zero, one, two = GEARS[gear](raising).run([0, 1, 2])
    assert (zero, two) == (0, 2)
    assert (one.kind, one.message) == ("ArithmeticError", "one")
    assert "raise ArithmeticError" in one.traceback
    [alone] = Bench(raising).run([1])
    assert (alone.kind, alone.message) == ("ArithmeticError", "one")
    for traceback in (one.traceback, alone.traceback):
        assert [line.split('"')[1] for line in traceback.splitlines() if line.startswith("  File")] == [__file__]


def test_what_is_not_wanted_any_more_is_closed_and_the_next_goes_on() -> None:
    seen: list[Any] = []

    def endless(x: float) -> Generator[float, None, float]:
        try:
            while x < 1:
                yield x
                time.sleep(0.0005)
            return x
        except GeneratorExit:
            seen.append("closed")
            raise
        finally:
            seen.append(x)

    for rows in ([0.0], [0.0, 3.0]):
        seen.clear()
        bench = Bench(endless)
        bench.between = lambda assignment: assignment.revoked.add(0, 1)
        ended = bench.run(rows)
        assert seen == ["closed", *rows]
        assert ended[0] is NOTHING or ended[0].kind == "taskmaster.bus.errors.TaskCancelled"
        assert ended[1:] == rows[1:]


@pytest.mark.parametrize("rows", [[1.0], [1.0, 2.0]])
def test_what_comes_up_while_it_listens_is_no_failure_of_the_task(rows: list[float]) -> None:
    class Gone(Exception):
        pass

    def between(assignment: Assignment) -> None:
        raise Gone

    closed: list[bool] = []

    def endless(x: float) -> Generator[float, None, None]:
        try:
            while True:
                yield x
        finally:
            closed.append(True)

    bench = Bench(endless)
    bench.between = between
    with pytest.raises(Gone):
        bench.run(rows)
    assert closed
    assert bench.ended == [NOTHING] * len(rows)


def test_what_cannot_be_driven_says_so() -> None:
    async def awaited(x: float) -> float:
        await asyncio.sleep(0)
        return x

    async def stepped(x: float) -> Any:
        yield x

    for function in (awaited, stepped):
        for rows in ([1.0], [1.0, 2.0]):
            for one in Bench(function).run(rows):
                assert isinstance(one, TaskError)
                assert "evaluate is an async" in one.message

    [batch] = Bench(doubled, batch=True).run([1.0])
    assert batch.message == "a function of batches returns the columns of its outputs, and cannot yield"
    [called] = Bench(doubled, may_yield=False).run([1.0])
    assert "a value of type builtins.generator cannot travel" in called.message
