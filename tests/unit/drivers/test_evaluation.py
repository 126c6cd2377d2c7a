"""Whatever a user's function does, its task ends, once, and no other is the worse for it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.bench import NOTHING, Bench
from helpers.travelling import any_value, identical
from hypothesis import given, settings, strategies as st

from taskmaster.bus.fields import Field, Schema
from taskmaster.bus.messages import TaskError
from taskmaster.bus.table import BARE, Layout, Part, Table, pack_columns, pack_values
from taskmaster.drivers.evaluation import LIGHT_PIECE
from taskmaster.drivers.protocol import Assignment
from taskmaster.drivers.yielding import LOOK_SECONDS

LOSS = Schema([Field("loss", max=1)], "m", "output")
TWO = Schema([Field("loss"), Field("name", "str")], "m", "output")
NAME = Schema([Field("name", "str")], "m", "output")
VECTOR = Schema([Field("v", shape=(2,))], "m", "output")

#: One task alone, several timed one by one, and several in the light gear.
GEARS: dict[str, Callable[..., Bench]] = {
    "timed": Bench,
    "light": lambda *arguments: Bench(*arguments, light=True),
}
in_each_gear = pytest.mark.parametrize("gear", GEARS)


def error_of(function: Callable[[Any], Any], outputs: Schema | None = None) -> TaskError:
    """Of one task alone; among others it is the same."""
    [alone] = Bench(function, outputs).run([0])
    for gear in GEARS.values():
        among = gear(function, outputs).run([0, 0, 0])
        assert {error.message for error in among} == {alone.message}
        assert {error.kind for error in among} == {alone.kind}
    assert isinstance(alone, TaskError)
    return alone


# -- outputs ----------------------------------------------------------------------------------------------------------


@in_each_gear
def test_what_a_function_returns_is_its_output(gear: str) -> None:
    @settings(max_examples=30)
    @given(st.lists(any_value, min_size=1, max_size=4))
    def holds(outputs: list[Any]) -> None:
        given_ = list(outputs)
        assert identical(GEARS[gear](lambda k: given_[k]).run(list(range(len(outputs)))), outputs)

    holds()


@pytest.mark.parametrize(
    ("schema", "output", "arrives"),
    [
        (LOSS, 0.5, {"loss": 0.5}),
        (LOSS, 1, {"loss": 1.0}),
        (LOSS, np.float32(0.5), {"loss": 0.5}),
        (LOSS, np.array(0.5), {"loss": 0.5}),
        (LOSS, {"loss": 0.5}, {"loss": 0.5}),
        (TWO, {"name": "a", "loss": 2}, {"loss": 2.0, "name": "a"}),
    ],
)
@in_each_gear
def test_declared_outputs_arrive_by_name(gear: str, schema: Schema, output: Any, arrives: Any) -> None:
    for n in (1, 3):
        assert GEARS[gear](lambda _: output, schema).run([0] * n) == [arrives] * n


def test_outputs_of_a_shape_arrive_as_arrays() -> None:
    [row] = Bench(lambda _: [1, 2], VECTOR).run([0])
    assert identical(row, {"v": np.array([1.0, 2.0])})


def generate() -> Iterator[int]:
    yield 1


class NoArray:
    """As a tensor that requires gradients."""

    def __array__(self, *arguments: Any, **keywords: Any) -> Any:
        raise RuntimeError("call detach() first")


class NoWords:
    def __repr__(self) -> str:
        raise RuntimeError("no words")


class NoItems(dict[str, Any]):
    def __getitem__(self, key: str) -> Any:
        raise LookupError(f"no {key}")


@pytest.mark.parametrize(
    ("schema", "output", "kind", "said"),
    [
        (None, iter([1]), "TypeError", "builtins.list_iterator cannot travel"),
        (None, lambda: None, "TypeError", "builtins.function cannot travel"),
        (None, {"a": [{1}]}, "TypeError", "builtins.set cannot travel"),
        (None, {2**70: 1}, "TypeError", "64 bits at most"),
        (None, "\udcff", "TypeError", "no Unicode"),
        (LOSS, None, "InvalidOutput", "Master 'm': output 'loss' must be a number ≤ 1, got None"),
        (LOSS, 2.0, "InvalidOutput", "must be a number ≤ 1, got 2.0"),
        (LOSS, float("nan"), "InvalidOutput", "NaN is not allowed"),
        (LOSS, 10**400, "InvalidOutput", "must be a number"),
        (LOSS, "0.5", "InvalidOutput", "got '0.5'"),
        (LOSS, iter([1]), "InvalidOutput", "got <list_iterator"),
        (LOSS, NoWords(), "InvalidOutput", "a value of type NoWords that cannot be shown"),
        (LOSS, {"los": 1}, "InvalidOutput", "did you mean 'loss'?"),
        (LOSS, NoItems(loss=1), "LookupError", "no loss"),
        (TWO, {"loss": 1}, "InvalidOutput", "output 'name' is missing"),
        (TWO, (1, "a"), "InvalidOutput", "a function of 2 outputs (loss, name) returns a dict of them, not tuple"),
        (VECTOR, [1, 2, 3], "InvalidOutput", "got shape (3,)"),
        (VECTOR, NoArray(), "RuntimeError", "call detach() first"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_an_output_that_is_none_fails_its_task(schema: Schema | None, output: Any, kind: str, said: str) -> None:
    error = error_of(lambda _: output, schema)
    assert error.kind == kind
    assert said in error.message


# -- exceptions -------------------------------------------------------------------------------------------------------


class Unpicklable(Exception):
    def __init__(self) -> None:
        super().__init__("held", threading.Lock())


class Speechless(Exception):
    def __str__(self) -> str:
        raise ValueError("no words")


class Departing(Exception):
    def __str__(self) -> str:
        raise SystemExit("no words at all")


class Abort(BaseException):
    pass


def raising(error: BaseException) -> Callable[[Any], Any]:
    def function(_: Any) -> Any:
        raise error

    return function


@pytest.mark.parametrize(
    ("error", "kind", "said"),
    [
        (ValueError("no"), "ValueError", "no"),
        (KeyError("x"), "KeyError", "'x'"),
        (ValueError("one\ntwo\n"), "ValueError", "one\ntwo\n"),
        (Unpicklable(), f"{__name__}.Unpicklable", "('held', <unlocked _thread.lock"),
        (Speechless(), f"{__name__}.Speechless", "<its message cannot be shown: ValueError>"),
        (Departing(), f"{__name__}.Departing", "<its message cannot be shown: SystemExit>"),
        (Abort("now"), f"{__name__}.Abort", "now"),
        (SystemExit(3), "SystemExit", "3"),
        (GeneratorExit(), "GeneratorExit", ""),
        (MemoryError(), "MemoryError", ""),
        (ExceptionGroup("both", [ValueError("a"), TypeError("b")]), "ExceptionGroup", "both (2 sub-exceptions)"),
        (ValueError("caf\udce9"), "ValueError", "caf\\udce9"),
        (SyntaxError("no", (1, 2, 3, 4)), "SyntaxError", "no"),  # type: ignore[arg-type]
        (SyntaxError("no", (b"f", "a", "b", "c")), "SyntaxError", "no"),  # type: ignore[arg-type]
    ],
    ids=lambda value: type(value).__name__,
)
def test_whatever_is_raised_fails_its_task(error: BaseException, kind: str, said: str) -> None:
    told = error_of(raising(error))
    assert told.kind == kind
    assert told.message.startswith(said)
    assert "raise error" in told.traceback, "it shows the user's line"
    assert "/evaluation.py" not in told.traceback, "and nothing of ours"


def test_what_is_told_of_an_exception_has_limits() -> None:
    def deep(k: int) -> Any:
        if k == 0:
            raise type("E" * 10_000, (Exception,), {})("é" * 10**6)
        return shallow(k - 1)

    def shallow(k: int) -> Any:
        return deep(k)

    error = error_of(lambda _: deep(200))
    assert len(error.kind) == 256
    assert len(error.message) == 4096
    assert 15_000 < len(error.traceback) < 17_000
    assert "\n  …\n" in error.traceback, "its ends are there"


def test_what_is_meant_for_the_process_is_not_caught() -> None:
    for gear in GEARS.values():
        for n in (1, 3):
            with pytest.raises(KeyboardInterrupt):
                gear(raising(KeyboardInterrupt())).run([0] * n)


# -- several tasks ----------------------------------------------------------------------------------------------------

GOOD, RAISES, ODD = "good", "raises", "odd"


def perform(k: float) -> Any:
    plan = _plans[int(k)]
    if plan == RAISES:
        raise ValueError(f"task {int(k)}")
    return k if plan == GOOD else object()


_plans: list[str] = []


def check(ended: list[Any], plans: list[str]) -> None:
    for k, (end, plan) in enumerate(zip(ended, plans, strict=True)):
        if plan == GOOD:
            assert end == k
        elif plan == RAISES:
            assert (end.kind, end.message) == ("ValueError", f"task {k}")
        else:
            assert end.kind == "TypeError"


@in_each_gear
def test_each_task_ends_as_itself(gear: str) -> None:
    @settings(max_examples=40)
    @given(st.lists(st.sampled_from([GOOD, RAISES, ODD]), min_size=1, max_size=12), st.sampled_from([0.0, 10.0]))
    def holds(plans: list[str], hold: float) -> None:
        _plans[:] = plans
        bench = GEARS[gear](perform)
        check(bench.run([float(k) for k in range(len(plans))], hold=hold), plans)
        assert bench.started == len(plans)

    holds()


@in_each_gear
def test_a_held_report_waits_for_others(gear: str) -> None:
    bench = GEARS[gear](lambda x: x)
    assert bench.run([0.0, 1.0] * LIGHT_PIECE, hold=60.0) == [0.0, 1.0] * LIGHT_PIECE
    assert len(bench.outcomes) == 1
    assert bench.outcomes[0].timed == (gear == "timed")


def test_light_tasks_are_told_of_by_the_piece() -> None:
    bench = Bench(lambda x: x, light=True)
    bench.run([0.0] * (2 * LIGHT_PIECE + 1))
    assert [outcome.n for outcome in bench.outcomes] == [LIGHT_PIECE, LIGHT_PIECE, 1]


@in_each_gear
def test_a_task_has_started_before_its_function_is_called(gear: str) -> None:
    seen: list[int] = []
    bench: Bench = GEARS[gear](lambda _: seen.append(bench.started))
    bench.run([0, 0, 0])
    bench.run([0])
    assert seen == [1, 2, 3, 1]


# -- taken back -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch", [False, True])
@pytest.mark.parametrize("hold", [0.0, 60.0])
@given(st.lists(st.tuples(st.integers(0, 8), st.integers(0, 8)), max_size=3), st.integers(1, 8), st.booleans())
@settings(max_examples=40)
def test_what_was_taken_back_is_not_evaluated(
    batch: bool, hold: float, revoked: list[tuple[int, int]], n: int, light: bool
) -> None:
    revoked = [(low, min(high, n)) for low, high in revoked]
    bench = Bench(lambda x: x, batch=batch, light=light)
    ended = bench.run([float(k) for k in range(n)], revoked=revoked, hold=hold)
    gone = {k for low, high in revoked for k in range(low, high)}
    assert ended == [NOTHING if k in gone else float(k) for k in range(n)]


@pytest.mark.parametrize("batch", [False, True])
@pytest.mark.parametrize("n", [1, 3])
def test_a_lease_of_which_nothing_is_left_ends(batch: bool, n: int) -> None:
    bench = Bench(raising(AssertionError("it was taken back")), batch=batch)
    assert bench.run([0.0] * n, revoked=[(0, n)]) == [NOTHING] * n
    assert [(outcome.n, outcome.final) for outcome in bench.outcomes] == [(0, True)]


@pytest.mark.parametrize("batch", [False, True])
def test_what_is_taken_back_meanwhile_is_not_begun(batch: bool) -> None:
    bench = Bench(lambda x: x, batch=batch, light=True)
    bench.between = lambda assignment: assignment.revoked.add(LIGHT_PIECE + 5, 5 * LIGHT_PIECE)
    ended = bench.run([1.0] * 3 * LIGHT_PIECE, revoked=[(LIGHT_PIECE, LIGHT_PIECE + 1)])
    assert ended[:LIGHT_PIECE] == [1.0] * LIGHT_PIECE
    assert ended[LIGHT_PIECE] is NOTHING
    if not batch:  # the second piece has not begun: of it, four are left
        assert ended[LIGHT_PIECE + 1 : LIGHT_PIECE + 5] == [1.0] * 4
        assert set(ended[LIGHT_PIECE + 5 :]) == {NOTHING}
        assert bench.started == LIGHT_PIECE + 5


@given(st.integers(2, 12), st.data())
@settings(max_examples=30)
def test_what_is_taken_back_while_a_report_is_held_is_not_begun(n: int, data: st.DataObject) -> None:
    when = data.draw(st.integers(1, n - 1))
    low, high = sorted(data.draw(st.tuples(st.integers(0, n), st.integers(0, n))))
    begun: list[int] = []
    before: list[int] = []

    def evaluate(x: float) -> float:
        begun.append(int(x))
        if len(begun) == when:  # long enough for the slot to look around
            time.sleep(LOOK_SECONDS)
        return x

    def take_back(assignment: Assignment) -> None:
        if len(begun) >= when and not before:
            before.extend(begun)
            assignment.revoked.add(low, high)

    bench = Bench(evaluate)
    bench.between = take_back
    ended = bench.run([float(k) for k in range(n)], hold=60.0)
    assert begun == [k for k in range(n) if k in before or not low <= k < high]
    assert ended == [float(k) if k in begun else NOTHING for k in range(n)]


def test_a_half_that_was_taken_back_meanwhile_is_not_evaluated_after_the_last_word() -> None:
    """With threads, what is taken back is heard of while a slot evaluates."""
    calls: list[list[float]] = []

    def fail_at_first(x: Any) -> Any:
        calls.append(x.tolist())
        if len(x) == 4:
            bench._assignment.revoked.add(2, 4)
            raise ValueError("too many at once")
        return x

    bench = Bench(fail_at_first, batch=True)
    assert bench.run([0.0, 1.0, 2.0, 3.0]) == [0.0, 1.0, NOTHING, NOTHING]
    assert calls == [[0.0, 1.0, 2.0, 3.0], [0.0, 1.0]]


# -- batches ----------------------------------------------------------------------------------------------------------


def batch_of(function: Callable[[Any], Any], rows: Any, outputs: Schema | None = None) -> list[Any]:
    return Bench(function, outputs, batch=True).run(rows)


def test_a_batch_function_gets_columns() -> None:
    named = pack_columns({"x": np.arange(3.0), "y": ["a", "b", "c"]}, 3)
    assert batch_of(lambda X: [f"{x}{y}" for x, y in zip(X["x"], X["y"])], named) == ["0.0a", "1.0b", "2.0c"]
    assert batch_of(lambda x: x * 2, [1.0, 2.0]) == [2.0, 4.0]


@pytest.mark.parametrize(
    ("schema", "result"),
    [
        (LOSS, np.array([0.5, 1.0])),
        (LOSS, [0.5, 1]),
        (LOSS, {"loss": np.array([0.5, 1.0], "f4")}),
        (Schema([Field("loss"), Field("gain")], "m", "output"), np.array([[0.5, 0.0], [1.0, 0.0]])),
    ],
)
def test_a_batch_function_returns_columns(schema: Schema, result: Any) -> None:
    ended = batch_of(lambda _: result, [1.0, 2.0], schema)
    assert [row["loss"] for row in ended] == [0.5, 1.0]


def test_a_batch_function_may_return_columns_that_nobody_declared() -> None:
    assert batch_of(lambda x: {"a": x, 2: ["u", "v"]}, [1.0, 2.0]) == [{"a": 1.0, "2": "u"}, {"a": 2.0, "2": "v"}]


@pytest.mark.parametrize(
    ("schema", "function", "said"),
    [
        (None, lambda x: x[:-1], "the batch function's result has 0 values for 1 tasks"),
        (None, lambda x: [*x, 1], "has 2 values for 1 tasks"),
        (None, lambda _: None, "one value for each of the 1 tasks, not be a NoneType"),
        (None, lambda _: generate(), "cannot yield"),
        (None, lambda x: {"a": x, "b": 3}, "column 'b' must have one value for each of the 1 tasks, not be a int"),
        (None, lambda _: {}, "no column at all for 1 tasks"),
        (None, lambda x: {"a": np.ma.array(x, mask=True)}, "a masked array cannot travel"),
        (NAME, lambda x: x, "must be a string, got"),
        (LOSS, lambda _: 0.5, "column 'loss' must have one value for each of the 1 tasks"),
        (LOSS, lambda x: np.zeros(len(x) + 1), "column 'loss' has 2 values for 1 tasks"),
        (LOSS, lambda x: x + 5, "must be a number ≤ 1"),
        (LOSS, lambda x: {"los": x}, "did you mean 'loss'"),
        (TWO, lambda x: x, "a batch function of 2 outputs returns a dict of columns or an array (n, 2), not one of"),
        (None, raising(SystemExit("enough")), "enough"),
        (None, lambda x: [object()] * len(x), "builtins.object cannot travel"),
    ],
)
def test_a_batch_that_does_not_fit_fails_each_of_its_tasks(schema: Any, function: Any, said: str) -> None:
    ended = batch_of(function, [1.0, 2.0, 3.0], schema)
    assert all(said in error.message for error in ended)


@given(st.lists(st.booleans(), min_size=1, max_size=20))
def test_only_the_rows_that_raise_fail(bad: list[bool]) -> None:
    def function(x: Any) -> Any:
        if any(bad[int(k)] for k in x):
            raise ValueError("no")
        return x

    ended = batch_of(function, [float(k) for k in range(len(bad))])
    assert [isinstance(end, TaskError) for end in ended] == bad
    assert [end for end, wrong in zip(ended, bad) if not wrong] == [k for k, wrong in enumerate(bad) if not wrong]


# -- inputs that cannot be decoded ------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch", [False, True])
def test_an_input_that_cannot_be_decoded_fails_alone(batch: bool) -> None:
    pieces = [b"\x01", b"\xc1", b"\x02", b"\xc7\x00\x02"]
    offsets = np.cumsum([0, *map(len, pieces)]).astype("<u4")
    table = Table(Layout((Part((BARE,), "O"),)), 4, [offsets.tobytes(), b"".join(pieces)])
    ended = Bench(lambda x: x, batch=batch).run(table)
    assert ended[::2] == [1, 2]
    assert [error.kind for error in ended[1::2]] == ["taskmaster.bus.errors.ProtocolError"] * 2
    [alone] = Bench(lambda x: x, batch=batch).run(table.slice(1, 2))
    assert alone.kind == "taskmaster.bus.errors.ProtocolError"


def test_tracebacks_name_the_users_file() -> None:
    error = error_of(raising(ValueError("no")))
    assert f'File "{Path(__file__)}"' in error.traceback
    assert pack_values([error.traceback]).rows() == [error.traceback]
