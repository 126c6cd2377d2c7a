"""Tests for a head of one's own: what a worker relies on, tried in turn, with the instrument or a simulated one.

In a test of pytest::

    from taskmaster.drivers.testing import CHECKS, Bench

    @pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
    def test_my_head(check):
        check(Bench(MyHead, points=[{"bias": 0.5}, {"bias": -1.0}], options={"resource": "ASRL/dev/ttyUSB0::INSTR"}))

or all of them by ``check_head(Bench(...))``. `Bench.of_config` takes a head as a configuration file has it, whatever
its driver: so an instrument of PyMeasure or one described by commands can be tried as well.

Each check makes a head of its own and lets go of it. It raises AssertionError, which says what a head has to do and
what this one did; the head's own exceptions come through. **They act on what they are given**: every point is set.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from taskmaster.bus.errors import TaskMasterError
from taskmaster.bus.fields import Schema
from taskmaster.drivers.generators import drive
from taskmaster.drivers.instruments.errors import LinkError, Stopped
from taskmaster.drivers.instruments.head import Head, HeadContext, Reconciled
from taskmaster.drivers.instruments.making import HeadMaker
from taskmaster.drivers.outputs import OutputPacker

__all__ = ["CHECKS", "STOP_SECONDS", "Bench", "check_head"]

#: How long a head may go on after it was stopped.
STOP_SECONDS = 0.1
#: So long after its beginning an evaluation is stopped.
_INTO_IT = 0.03


@dataclass(frozen=True)
class Bench:
    """A head, and what there is to try it with."""

    make: Callable[[HeadContext], Head]
    #: inputs that it can evaluate, at least one
    points: Sequence[Any]
    #: its own keys in the configuration
    options: Mapping[str, Any] = field(default_factory=dict)
    #: with which outputs are compared; None: they need only be such as can be sent
    outputs: Schema | None = None
    parameters: Schema | None = None
    name: str = ""
    master: str = "bench"
    #: a point that takes a while, to be stopped in it; by default the first
    slow: Any = None
    #: how many actions the instrument has seen so far, where it can be asked: what sets something, not queries
    actions: Callable[[], int] | None = None
    #: what pulls the plug, and what puts it in again, where that can be done
    unplug: Callable[[], None] | None = None
    replug: Callable[[], None] | None = None

    @classmethod
    def of_config(cls, path: str | Path, master: str, points: Sequence[Any], head: str = "", **more: Any) -> Bench:
        """A head of a Master as the file at ``path`` has it: its first, or the one named ``head``.

        ``more`` are further fields. Raises ConfigError.
        """
        from taskmaster.config.heads import heads_of
        from taskmaster.config.load import load  # here, since workers import this package without its validation

        config = load(path)
        if master not in config.masters:
            raise AssertionError(f"{path} has no Master {master!r}; it has {', '.join(config.masters)}")
        settings = config.masters[master]
        options = settings.options.model_dump()
        maker = HeadMaker(master, settings.driver, options, settings.parameter_fields, settings.output_fields)
        context = maker.context(head or str(heads_of(options)[0]["name"]))
        return cls(
            maker.make,
            points,
            options=context.options,
            outputs=context.outputs,
            parameters=context.parameters,
            name=context.name,
            master=master,
            **more,
        )


def check_head(bench: Bench) -> None:
    """All of :data:`CHECKS`, one after the other. Raises the first AssertionError."""
    for check in CHECKS:
        check(bench)


# -- the checks -------------------------------------------------------------------------------------------------------


def check_opens_evaluates_and_closes(bench: Bench) -> None:
    """From nothing to outputs, twice: a head is opened again after it was closed. Closing again does nothing."""
    with _trial(bench) as trial:
        for _ in range(2):
            trial.open()
            for point in bench.points:
                trial.require_output(trial.evaluate(point), f"the output of {point!r}")
            trial.head.close()
        trial.head.close()


def check_says_before_it_acts(bench: Bench) -> None:
    """`begin_acting` comes before the first action of a task: what breaks off earlier is done again elsewhere.

    Where a head does not say ``marks_acting = True``, who hosts it sees to that.
    """
    with _trial(bench) as trial:
        trial.open()
        for point in bench.points:
            before = trial.actions()
            trial.evaluate(point)
            after = trial.actions()
            if before is None or after is None or before == after:
                continue
            _require(trial.acted == 1, f"{point!r} acts, and evaluate does not call self.begin_acting() before it does")
            _require(
                trial.actions_at_first == before,
                f"{point!r}: {(trial.actions_at_first or 0) - before} actions came before self.begin_acting()",
            )


def check_is_made_safe_at_any_time(bench: Bench) -> None:
    """`safe` may come before anything else, again and again, and while the head is stopped; it opens again after."""
    with _trial(bench) as trial:
        trial.safe()
        trial.open()
        trial.safe()
        trial.safe()
        trial.evaluate(bench.points[0])
        trial.context.stopping.set()
        trial.safe()
        trial.context.stopping.clear()
        trial.head.close()
        trial.open()
        trial.require_output(trial.evaluate(bench.points[0]), "the output after it was made safe")


def check_heeds_a_stop(bench: Bench) -> None:
    """An evaluation ends within 100 ms of a stop, by `Stopped` or in order; the head can be used again."""
    point = bench.points[0] if bench.slow is None else bench.slow
    with _trial(bench) as trial:
        trial.open()
        trial.begin()
        stopped_at: list[float] = []

        def stop() -> None:
            stopped_at.append(time.monotonic())
            trial.context.stopping.set()

        timer = threading.Timer(_INTO_IT, stop)
        timer.start()
        try:
            trial.drive(trial.head.evaluate(point))
        except Stopped:
            pass
        ended = time.monotonic()
        timer.join()
        late = ended - stopped_at[0]
        _require(
            late <= STOP_SECONDS,
            f"the evaluation of {point!r} went on for {late * 1e3:.0f} ms after the head was stopped; wait with "
            "self.sleep(…), and look at self.stopping between steps",
        )
        trial.safe()
        trial.context.stopping.clear()
        trial.head.close()
        trial.open()
        trial.require_output(trial.evaluate(bench.points[0]), "the output after a stop")


def check_is_stopped_before_it_begins(bench: Bench) -> None:
    """A stop that comes before a task finds nothing done where the head says that it has not begun."""
    with _trial(bench) as trial:
        trial.open()
        before = trial.actions()
        trial.context.stopping.set()
        try:
            trial.evaluate(bench.points[0])
        except Stopped:
            after = trial.actions()
            _require(
                trial.acted == 1 or before == after,
                "it was stopped, had acted, and had not said so: call self.begin_acting() first",
            )
        trial.safe()


def check_yields_progress(bench: Bench) -> None:
    """A generator's progress can be sent; one that is given up in the middle cleans up and leaves the head usable."""
    with _trial(bench) as trial:
        trial.open()
        trial.begin()
        evaluation = trial.head.evaluate(bench.points[0])
        if not isinstance(evaluation, Generator):
            return
        try:
            trial.require_value(next(evaluation), "what evaluate yields")
        except StopIteration:
            pass
        evaluation.close()
        trial.safe()
        trial.require_output(trial.evaluate(bench.points[0]), "the output after a generator was given up")


def check_resumes_from_its_checkpoint(bench: Bench) -> None:
    """Whoever leaves a checkpoint can go on from it, in a new object, without doing what was done."""
    with _trial(bench) as trial:
        trial.open()
        trial.evaluate(bench.points[0])
        if not trial.tokens:
            return
    with _trial(bench) as again:
        again.open()
        again.begin()
        output = again.drive(again.head.resume(bench.points[0], trial.tokens[-1]))
        again.require_output(output, "the output of resume")


def check_reconciles(bench: Bench) -> None:
    """`reconcile` tells what became of a task, or that it is unknown; it does nothing."""
    with _trial(bench) as trial:
        trial.open()
        before = trial.actions()
        found = trial.head.reconcile(bench.points[0], b"")
        _require(isinstance(found, Reconciled), f"reconcile has to return a Reconciled, not {found!r}")
        _require(before == trial.actions(), "reconcile acts; it may only look")


def check_reads_without_acting(bench: Bench) -> None:
    """`read` gives the outputs as they are and sets nothing, where there is a `read`."""
    with _trial(bench) as trial:
        trial.open()
        trial.evaluate(bench.points[0])
        trial.head.begin_task()
        trial.acted = 0
        before = trial.actions()
        try:
            output = trial.head.read()
        except (NotImplementedError, TaskMasterError):
            return  # it cannot be read without a task
        trial.require_output(output, "what read gives")
        _require(trial.acted == 0 and before == trial.actions(), "read acts; it may only look")


def check_comes_back_after_an_unplug(bench: Bench) -> None:
    """An instrument that is gone is a `LinkError`; when it is there again, so is the head."""
    if bench.unplug is None or bench.replug is None:
        return
    with _trial(bench) as trial:
        trial.open()
        trial.evaluate(bench.points[0])
        bench.unplug()
        try:
            for call in (lambda: trial.evaluate(bench.points[0]), trial.head.open):
                _require_lost(call)
        finally:
            bench.replug()
        trial.head.close()
        trial.open()
        trial.require_output(trial.evaluate(bench.points[0]), "the output after it came back")


#: Each takes a :class:`Bench`.
CHECKS: tuple[Callable[[Bench], None], ...] = (
    check_opens_evaluates_and_closes,
    check_says_before_it_acts,
    check_is_made_safe_at_any_time,
    check_heeds_a_stop,
    check_is_stopped_before_it_begins,
    check_yields_progress,
    check_resumes_from_its_checkpoint,
    check_reconciles,
    check_reads_without_acting,
    check_comes_back_after_an_unplug,
)


# -- how --------------------------------------------------------------------------------------------------------------


class _Trial:
    """One head on the bench, in the place of a worker."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        self._packer = OutputPacker(bench.outputs or Schema((), bench.master, "output"))
        self._anything = OutputPacker(Schema((), bench.master, "output"))
        self.tokens: list[bytes] = []
        #: how often the present task has begun to act, and what the instrument had seen by the first time
        self.acted = 0
        self.actions_at_first: int | None = None
        self.context = HeadContext(
            bench.name, bench.master, bench.options, bench.parameters, bench.outputs, threading.Event(),
            self._acts, self.tokens.append,
        )  # fmt: skip
        self.head = bench.make(self.context)
        _require(isinstance(self.head, Head), f"{self.head!r} is no Head: derive its class from taskmaster's Head")

    def open(self) -> None:
        self.head.open()
        identity = self.head.identify()
        _require(isinstance(identity, str), f"identify has to return text, not {identity!r}")

    def begin(self) -> None:
        """As whoever hosts it does before each task."""
        self.head.begin_task()
        self.acted, self.actions_at_first = 0, None
        if not self.head.marks_acting:
            self.head.begin_acting()

    def evaluate(self, point: Any) -> Any:
        self.begin()
        return self.drive(self.head.evaluate(point))

    def drive(self, evaluation: Any) -> Any:
        return drive(evaluation, lambda value: self.require_value(value, "what evaluate yields"), self.context.stopping)

    def safe(self) -> None:
        begun = time.monotonic()
        self.head.safe()
        _require(time.monotonic() - begun < 60, "safe takes more than a minute: whoever is in danger has less")

    def actions(self) -> int | None:
        """What the instrument has seen, if it can be asked."""
        return None if self._bench.actions is None else self._bench.actions()

    def require_output(self, output: Any, what: str) -> None:
        _, errors = self._packer.pack((0,), (output,))
        _require(not errors, f"{what}, {output!r}, is not what is declared: {errors[0].message if errors else ''}")

    def require_value(self, value: Any, what: str) -> None:
        _, errors = self._anything.pack((0,), (value,))
        _require(not errors, f"{what}, {value!r}, cannot be sent: {errors[0].message if errors else ''}")

    def _acts(self) -> None:
        self.acted += 1
        if self.acted == 1:
            self.actions_at_first = self.actions()


@contextmanager
def _trial(bench: Bench) -> Iterator[_Trial]:
    _require(bool(bench.points), "there is no point to try")
    trial = _Trial(bench)
    try:
        yield trial
    finally:
        trial.head.close()


def _require(fulfilled: bool, otherwise: str) -> None:
    if not fulfilled:
        raise AssertionError(otherwise)


def _require_lost(call: Callable[[], Any]) -> None:
    try:
        call()
    except LinkError:
        return
    raise AssertionError(
        "the plug is out, and nothing says so: raise a LinkError (Unreachable, TimedOut, Garbled), so that the task is "
        "not taken for done and the connection is made anew"
    )
