"""One assignment through one driver: what is evaluated, what is reported of it, when, and what is noted meanwhile."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskmaster.bus import codec
from taskmaster.bus.fields import Field, Schema
from taskmaster.bus.messages import TaskError
from taskmaster.bus.table import Buffer, Layout, Part, Table, pack_columns, pack_values
from taskmaster.drivers import evaluation
from taskmaster.drivers.base import Driver, DriverContext
from taskmaster.drivers.evaluation import Evaluator
from taskmaster.drivers.progress import STARTED
from taskmaster.drivers.protocol import Assignment

NUMBER = (Field("y"),)


class Calls(Driver):
    """Calls a function with each point."""

    def __init__(self, function: Callable[[Any], Any], outputs: Sequence[Field] = ()) -> None:
        super().__init__(DriverContext("svm", {}, Schema((), "svm"), Schema(outputs, "svm", "output")))
        self.function = function

    def open(self) -> None:
        """Nothing to open."""

    def evaluate(self, point: Any) -> Any:
        """The function's result."""
        return self.function(point)


class CallsBatches(Calls):
    """Calls a function with the columns of many."""

    batch = True

    def evaluate_batch(self, columns: Any, n: int) -> Any:
        """The function's result for all rows."""
        return self.function(columns)


@dataclass
class Told:
    """One report, as a daemon would take it."""

    position: int
    n: int
    rows: list[Any]
    errors: tuple[TaskError, ...]
    started: float
    finished: float
    times: list[float] | None
    final: bool


@dataclass
class Bench:
    """A slot with its driver; `told` is what it reported, ``cell`` what it noted."""

    driver: Driver
    between: Callable[[], None] = lambda: None
    told: list[Told] = field(default_factory=list)
    cell: memoryview = field(default_factory=lambda: memoryview(bytearray(7 * 8)).cast("Q"))

    def __post_init__(self) -> None:
        self.evaluator = Evaluator(self.driver, self.cell, self.report, lambda: self.between())

    def report(
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
        assert not (self.told and self.told[-1].final), "nothing is said of a lease after its last word"
        assert len(msgspec.msgpack.encode(errors)) < codec.MAX_HEADER
        good = n - len(errors)
        assert (outputs.n if outputs is not None else 0) == good
        rows = Table.checked(outputs.layout, good, list(map(bytes, outputs.frames))).rows() if outputs else []
        listed = None if times is None else np.frombuffer(times, "<f8").tolist()
        self.told.append(Told(position, n, rows, tuple(errors), started, finished, listed, final))

    def run(self, points: Sequence[Any] | Table, **keys: Any) -> dict[int, Any]:
        """Evaluate points; what has been told of each, by position: its output or its error."""
        assignment = self.assignment(points, **keys)
        self.told.clear()
        self.evaluator.run(assignment)
        return self.outcome

    def assignment(self, points: Sequence[Any] | Table, **keys: Any) -> Assignment:
        table = points if isinstance(points, Table) else pack_values(points)
        revoked = keys.pop("revoked", ())
        assignment = Assignment((1, 1), 1, 0, table.n, table, **keys)
        for low, high in revoked:
            assignment.revoked.add(low, high)
        return assignment

    @property
    def outcome(self) -> dict[int, Any]:
        assert [told.final for told in self.told] == [False] * (len(self.told) - 1) + [True]
        known: dict[int, Any] = {}
        for told in self.told:
            errors = {error.position: error for error in told.errors}
            assert set(errors) <= set(range(told.n))
            rows = iter(told.rows)
            for k in range(told.n):
                assert told.position + k not in known, "told twice"
                known[told.position + k] = errors[k] if k in errors else next(rows)
        return known


def square(x: float) -> float:
    return x * x


def raise_(error: BaseException) -> Any:
    raise error.with_traceback(None)


@pytest.fixture(params=["timed", "light"])
def gear(request: pytest.FixtureRequest) -> str:
    """Whether tasks are timed one by one, or run in pieces."""
    return str(request.param)


def bench(gear: str, function: Callable[[Any], Any], outputs: Sequence[Field] = ()) -> Bench:
    made = Bench(Calls(function, outputs))
    made.evaluator._seconds = 0.0 if gear == "light" else 1.0
    return made


# -- outcomes ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [1, 2, 600])
def test_every_task_is_told_of_once_with_its_own_output(gear: str, n: int) -> None:
    points = [float(k) for k in range(n)]
    assert bench(gear, square).run(points, hold=10.0) == dict(enumerate(map(square, points)))


@pytest.mark.parametrize("n", [1, 3])
@pytest.mark.parametrize("value", [None, "text", {"a": [1]}, (1.0, 2.0), 1j, [[]]])
def test_outputs_of_every_kind(gear: str, n: int, value: Any) -> None:
    assert bench(gear, lambda _: value).run([1.0] * n) == dict.fromkeys(range(n), value)


def test_a_point_of_named_parameters_is_a_dict() -> None:
    table = pack_columns({"a": [1.0, 2.0], "b": ["x", "y"]}, 2)
    assert bench("timed", lambda point: point).run(table) == {0: {"a": 1.0, "b": "x"}, 1: {"a": 2.0, "b": "y"}}


def test_an_output_that_does_not_fit_fails_its_own_task(gear: str) -> None:
    outcome = bench(gear, lambda x: None if x == 1.0 else x, NUMBER).run([0.0, 1.0, 2.0], hold=10.0)
    assert (outcome[0], outcome[2]) == ({"y": 0.0}, {"y": 2.0})
    assert (outcome[1].kind, "'y'" in outcome[1].message) == ("InvalidTask", True)


class Unpicklable(Exception):
    """It cannot be copied; nor need it be."""

    def __reduce__(self) -> Any:
        raise TypeError("cannot pickle this")


class Last(BaseException):
    """Not even an Exception."""


@pytest.mark.parametrize("n", [1, 5])
@pytest.mark.parametrize(
    ("error", "kind", "message"),
    [
        (ValueError("the sample\nis gone"), "ValueError", "the sample\nis gone"),
        (ValueError("long " * 100_000), "ValueError", ("long " * 1000)[:4096]),
        (Unpicklable(1, 2), "Unpicklable", "(1, 2)"),
        (Last("the end"), "Last", "the end"),
        (SystemExit("I would rather go"), "SystemExit", "I would rather go"),
        (GeneratorExit(), "GeneratorExit", ""),
        (StopIteration(3), "StopIteration", "3"),
        (OSError("no such file: \udcff"), "OSError", "no such file: \\udcff"),
    ],
)
def test_an_exception_fails_its_own_task(gear: str, n: int, error: BaseException, kind: str, message: str) -> None:
    at = n // 2
    outcome = bench(gear, lambda x: raise_(error) if x == at else x).run([float(k) for k in range(n)], hold=10.0)
    failed = outcome.pop(at)
    assert outcome == {k: float(k) for k in range(n) if k != at}
    assert (failed.kind.rpartition(".")[2], failed.message) == (kind, message)
    assert "in raise_" in failed.traceback
    assert "evaluation.py" not in failed.traceback.replace(__file__, "")


def test_tasks_that_fail_one_after_the_other_are_each_told(gear: str) -> None:
    outcome = bench(gear, lambda x: 1 / (x % 3)).run([float(k) for k in range(9)], hold=10.0)
    assert [k for k, told in outcome.items() if isinstance(told, TaskError)] == [0, 3, 6]


@pytest.mark.parametrize("n", [1, 4])
@pytest.mark.parametrize("kind", [Calls, CallsBatches])
def test_an_interrupt_from_the_keyboard_is_nobodys_failure(n: int, kind: type[Calls]) -> None:
    made = Bench(kind(lambda _: raise_(KeyboardInterrupt())))
    with pytest.raises(KeyboardInterrupt):
        made.run([1.0] * n)
    assert made.told == []


def test_a_point_that_cannot_be_decoded_fails_alone(gear: str) -> None:
    good = pack_values(["a", "b", "c"])
    offsets, blob = (bytes(frame) for frame in good.frames)
    table = Table(Layout((Part(("",), "O"),)), 3, (offsets, blob[:2] + b"\xc1\xc1" + blob[4:]))
    outcome = bench(gear, str.upper).run(table, hold=10.0)
    assert (outcome[0], outcome[1].kind, outcome[2]) == ("A", "ProtocolError", "C")
    (alone,) = bench(gear, str.upper).run(table.slice(1, 2)).values()
    assert alone.kind == "ProtocolError"


def test_the_errors_of_many_tasks_are_told_in_messages_that_can_be_sent(gear: str) -> None:
    """A header has room for eight million bytes; more would be dropped, sent again, dropped…"""
    loud = "\N{GRINNING FACE}" * 30_000
    made = bench(gear, lambda x: x if x % 10 == 0 else raise_(ValueError(loud)))
    outcome = made.run([float(k) for k in range(300)], hold=60.0)
    assert [outcome[k] for k in range(0, 300, 10)] == [float(k) for k in range(0, 300, 10)]
    assert sum(isinstance(told, TaskError) for told in outcome.values()) == 270
    assert len(made.told) > 1
    if gear == "timed":
        times = [at for told in made.told for at in told.times or ()]
        assert len(times) == 300
        assert times == sorted(times)


# -- when -------------------------------------------------------------------------------------------------------------


def test_times_are_monotone_and_within_what_is_reported() -> None:
    made = bench("timed", lambda x: time.sleep(x))
    before = time.time()
    made.run([0.001] * 20, hold=10.0)
    after = time.time()
    (told,) = made.told
    assert told.times is not None
    assert all(early < late for early, late in itertools.pairwise(told.times))
    assert told.times[0] >= 0.001
    assert told.times[-1] == pytest.approx(told.finished - told.started, abs=1e-6)
    assert before <= told.started <= told.finished <= after + 0.001


def test_only_while_tasks_are_light_they_are_not_timed_one_by_one() -> None:
    driver = Calls(square)
    made = Bench(driver)

    def timed(points: Sequence[float]) -> bool:
        made.run(points, hold=10.0)
        return made.told[0].times is not None

    assert timed([1.0] * 1000)  # the first lease is, until it is known that they are light
    assert not timed([1.0] * 1000)
    driver.function = lambda _: time.sleep(0.001)
    assert not timed([1.0] * 2)
    assert timed([1.0] * 2)


def test_without_a_hold_each_slow_task_is_told_as_it_ends() -> None:
    made = bench("timed", lambda x: time.sleep(0.003))
    made.run([1.0] * 4)
    assert [(told.position, told.n, told.times) for told in made.told] == [(k, 1, None) for k in range(4)]


def test_ended_tasks_wait_for_others_no_longer_than_the_hold() -> None:
    made = bench("timed", lambda x: time.sleep(0.002))
    made.run([1.0] * 20, hold=0.01)
    assert len(made.told) > 1
    for told in made.told[:-1]:
        before, last = (*(told.times or (0.0, told.finished - told.started)),)[-2:]
        assert before < 0.01 + evaluation.LOOK_SECONDS
        assert last >= 0.01 - 1e-6


def test_light_tasks_too_are_told_of_when_the_hold_is_over() -> None:
    made = bench("light", square)
    made.run([1.0] * 5000, hold=0.0)
    assert [told.n for told in made.told] == [evaluation.LIGHT_PIECE] * 9 + [5000 - 9 * evaluation.LIGHT_PIECE]


# -- revocations ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch", [False, True])
@given(data=st.data())
def test_just_what_is_not_revoked_is_evaluated(batch: bool, data: st.DataObject) -> None:
    n = data.draw(st.integers(1, 12))
    ends = st.integers(0, n)
    revoked = data.draw(st.lists(st.tuples(ends, ends), max_size=4))
    skipped = {k for low, high in revoked for k in range(low, high)}
    seen: list[float] = []

    def note(x: Any) -> Any:
        seen.extend(x if batch else [x])
        return x

    kind = CallsBatches if batch else Calls
    outcome = Bench(kind(note)).run([float(k) for k in range(n)], hold=10.0, revoked=revoked)
    assert seen == [float(k) for k in range(n) if k not in skipped]
    assert outcome == {k: float(k) for k in range(n) if k not in skipped}


@given(st.integers(2, 12), st.data())
def test_what_is_revoked_in_the_midst_is_skipped_as_far_as_it_has_not_begun(n: int, data: st.DataObject) -> None:
    when = data.draw(st.integers(1, n - 1))
    low, high = sorted(data.draw(st.tuples(st.integers(0, n), st.integers(0, n))))
    hold = data.draw(st.sampled_from([0.0, 10.0]))
    begun: list[int] = []
    heard: list[int] = []

    def evaluate(x: float) -> float:
        begun.append(int(x))
        if len(begun) == when:  # long enough for the slot to look around
            time.sleep(evaluation.LOOK_SECONDS)
        return x

    def between() -> None:
        if len(begun) >= when and not heard:
            heard.extend(begun)
            assignment.revoked.add(low, high)

    made = Bench(Calls(evaluate), between)
    assignment = made.assignment([float(k) for k in range(n)], hold=hold)
    made.evaluator.run(assignment)
    assert begun == [k for k in range(n) if k in heard or not low <= k < high]
    assert made.outcome == {k: float(k) for k in begun}


def test_a_lease_of_which_nothing_is_wanted_is_given_back_unevaluated(gear: str) -> None:
    for n in (1, 5):
        made = bench(gear, raise_)
        assert made.run([1.0] * n, revoked=[(0, n)]) == {}
        (told,) = made.told
        assert (told.n, told.final) == (0, True)
        assert made.cell[STARTED] == 0


def test_the_last_task_that_is_wanted_is_the_last_word(gear: str) -> None:
    made = bench(gear, square)
    assert made.run([3.0] * 5, revoked=[(2, 5)], hold=10.0) == {0: 9.0, 1: 9.0}
    assert [(told.n, told.final) for told in made.told] == [(2, True)]


# -- batches ----------------------------------------------------------------------------------------------------------


def test_a_batch_takes_all_rows_in_one_call() -> None:
    calls: list[int] = []

    def double(columns: Any) -> Any:
        calls.append(len(columns["x"]))
        return columns["x"] * 2

    made = Bench(CallsBatches(double, NUMBER))
    assert made.run(pack_columns({"x": np.arange(6.0)}, 6)) == {k: {"y": 2.0 * k} for k in range(6)}
    assert calls == [6]


@given(st.sets(st.integers(0, 12)), st.integers(1, 13))
def test_a_batch_that_raises_is_halved_until_just_the_rows_that_raise_have_failed(bad: set[int], n: int) -> None:
    def pick(xs: Any) -> Any:
        return raise_(ValueError("bad")) if bad & set(xs.tolist()) else xs

    made = Bench(CallsBatches(pick))
    outcome = made.run([float(k) for k in range(n)])
    assert {k for k, told in outcome.items() if isinstance(told, TaskError)} == {k for k in bad if k < n}
    assert all(outcome[k] == float(k) for k in range(n) if k not in bad)


@pytest.mark.parametrize("result", [[1.0], None, {}, 5.0, {"a": [1.0]}, SystemExit("no")])
def test_a_batch_of_the_wrong_length_fails_row_by_row(result: Any) -> None:
    def answer(xs: Any) -> Any:
        if isinstance(result, BaseException):
            raise result
        return result if len(xs) > 1 or not isinstance(result, (list, dict)) else result and [7.0]

    outcome = Bench(CallsBatches(answer)).run([1.0, 2.0, 3.0])
    if isinstance(result, (list, dict)) and result:  # alone, each row has the right length
        assert outcome == {0: 7.0, 1: 7.0, 2: 7.0}
    else:
        assert [told.position for told in outcome.values()] == [0, 0, 0]
        assert {told.kind for told in outcome.values()} <= {"TypeError", "ValueError", "SystemExit"}


def test_a_half_that_is_revoked_meanwhile_is_not_evaluated_after_the_last_word() -> None:
    """With threads, a revocation is heard while a slot evaluates."""
    seen: list[list[float]] = []

    def fail_at_first(xs: Any) -> Any:
        seen.append(xs.tolist())
        if len(xs) == 4:
            assignment.revoked.add(2, 4)
            raise ValueError("too many")
        return xs

    made = Bench(CallsBatches(fail_at_first))
    assignment = made.assignment([0.0, 1.0, 2.0, 3.0])
    made.evaluator.run(assignment)
    assert made.outcome == {0: 0.0, 1: 1.0}
    assert seen == [[0.0, 1.0, 2.0, 3.0], [0.0, 1.0]]


# -- what is noted for the case of a death ----------------------------------------------------------------------------


@pytest.mark.parametrize("n", [1, 7])
def test_a_task_is_noted_before_it_is_evaluated(gear: str, n: int) -> None:
    noted: list[int] = []
    made = bench(gear, lambda x: noted.append(made.cell[STARTED]))
    made.run([float(k) for k in range(n)], hold=10.0)
    assert noted == list(range(1, n + 1))


def test_a_batch_has_begun_as_a_whole() -> None:
    noted: list[int] = []

    def look(xs: Any) -> Any:
        noted.append(made.cell[STARTED])
        return xs

    made = Bench(CallsBatches(look))
    made.run([1.0] * 5, revoked=[(1, 2)])
    assert noted == [5, 5]


def test_the_daemon_is_heard_between_tasks_every_few_milliseconds() -> None:
    made = bench("timed", lambda x: time.sleep(0.001))
    heard: list[int] = []
    made.between = lambda: heard.append(made.cell[STARTED])
    made.run([1.0] * 30, hold=10.0)
    assert len(heard) >= 30 * 0.001 / evaluation.LOOK_SECONDS / 2
    assert heard == sorted(heard)
