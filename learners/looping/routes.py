"""One learner on several Masters: each point goes where it can be evaluated, at the least cost.

Each Master has a run of its own, under one name, and knows nothing of the others: these are the legs of one run, a
:class:`~taskmaster.learners.looping.routedrun.RoutedRun`. What the learner was asked and told is recorded with the legs
in such a way that all of them together tell the whole story, see `taskmaster.learners.merging`.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeAlias

from taskmaster.bus.errors import CallerError, InvalidTask, UnknownRun
from taskmaster.bus.fields import Field, Schema, shown
from taskmaster.learners.looping.routedrun import RoutedRun
from taskmaster.learners.marks import LegMark, mark_of, refuse_fork
from taskmaster.learners.routed import RoutedHistory
from taskmaster.learners.target import LegRun, Target
from taskmaster.learners.wholes import put_together

__all__ = ["Cost", "Routes"]

#: What it costs to have a point evaluated by this Master, which has so many in flight; infinite if it cannot.
Cost: TypeAlias = Callable[[Any, Target, int], float]


class Routes:
    """Several Masters as one, to drive a learner against.

    ``cost(point, master, in_flight)`` says what a point costs at a Master (seconds, money) that has so many in flight;
    infinite where it cannot be evaluated there. The least counts, and of equals the Master named first. By default it
    is how many tasks there are for each slot, where the Master's parameters take the point. ``parameters`` and
    ``outputs`` are the first Master's, unless they are given; they are recorded with the run then.

        Routes([lab["simulation"], lab["probe"]], cost=lambda point, master, n: n if master.name == "probe" else 10)

    Raises CallerError for what is no Master, and where one is there twice.
    """

    def __init__(
        self,
        masters: Sequence[Target],
        cost: Cost | None = None,
        *,
        parameters: Sequence[Field] | None = None,
        outputs: Sequence[Field] | None = None,
    ) -> None:
        self.masters = _different(masters)
        self.name = "+".join(master.name for master in self.masters)
        self.parameters = tuple(self.masters[0].parameters if parameters is None else parameters)
        self.outputs = tuple(self.masters[0].outputs if outputs is None else outputs)
        self._mark = LegMark(
            tuple(master.name for master in self.masters),
            -1,
            None if parameters is None else self.parameters,
            None if outputs is None else self.outputs,
        )
        self._cost = cost
        self._slots: list[int] = []
        self._schemas = [Schema(tuple(master.parameters), master.name) for master in self.masters]

    def wait_for_slots(self, timeout: float = 10.0) -> int:
        """How many tasks they evaluate at a time, together."""
        self._slots = [master.wait_for_slots(timeout) for master in self.masters]
        return sum(self._slots)

    def open(
        self, name: str | None = None, *, seed: int | None = None, metadata: Mapping[str, str] | None = None
    ) -> RoutedRun:
        """A run at each Master, all of one name and seed: new ones, or those that there are, to go on with.

        The Masters may come in any order then. Raises CallerError where they are not those of the run, or where one has
        a run of that name that is something else; Conflict if the run has another seed.
        """
        there = [None if name is None else _metadata(master, name) for master in self.masters]
        marks = self._marks(name, there)
        runs: dict[int, LegRun] = {}
        for k in sorted(range(len(marks)), key=lambda k: there[k] is None):  # new ones get the seed of the others
            run = self.masters[k].open(name, seed=seed, metadata={**(metadata or {}), **marks[k].metadata})
            name, seed = run.name, run.seed
            runs[k] = self._leg(run, marks[k])
        return RoutedRun(self, [runs[k] for k in range(len(marks))], marks)

    def history(self, name: str) -> RoutedHistory:
        """What is recorded of the run of this name up to now, to be replayed, or compared with another.

        Raises UnknownRun where a Master has none, CallerError where they are not the legs of one.
        """
        runs = [_recorded(master, name) for master in self.masters]
        return put_together(lambda: [run.history() for run in runs])

    def _marks(self, name: str | None, there: Sequence[Mapping[str, str] | None]) -> list[LegMark]:
        """Which leg the run at each Master is; ``there`` are the metadata of those that exist. Raises CallerError."""
        marks = [None if metadata is None else mark_of(metadata) for metadata in there]
        for master, metadata, mark in zip(self.masters, there, marks):
            if metadata is not None and mark is None:
                raise self._other(master, name)
            if mark is not None:
                refuse_fork(mark, f"{master.name}/{name}")
        names = self._mark.masters
        known = next((mark for mark in marks if mark is not None), self._mark)
        if any(mark is not None and mark.masters != known.masters for mark in marks):
            raise CallerError(f"the runs {name!r} of these Masters are legs of different ones; take another name")
        if Counter(known.masters) != Counter(names):
            raise CallerError(
                f"run {name!r} is over {known.over}: go on with it by Routes([{known.each()}]), not with "
                f"{' and '.join(map(repr, names))}, or take another name"
            )
        free = [k for k in range(len(names)) if k not in [mark.number for mark in marks if mark is not None]]
        made = []
        for own, mark in zip(names, marks):
            number = next((k for k in free if known.masters[k] == own), -1) if mark is None else mark.number
            if number < 0:
                raise CallerError(f"the runs {name!r} of these Masters are legs of different ones; take another name")
            if mark is None:
                free.remove(number)
            made.append(replace(known, number=number))
        return made

    def _leg(self, run: Any, mark: LegMark) -> LegRun:
        """A run that was opened as this leg. Raises CallerError where it is none."""
        if not isinstance(run, LegRun):
            raise CallerError(f"Master {run.master.name!r} cannot be one of several: {run!r} does not record an order")
        if mark_of(run.metadata) != mark:
            raise self._other(run.master, run.name)
        return run

    def _other(self, master: Target, name: str | None) -> CallerError:
        return CallerError(
            f"Master {master.name!r} has a run {name!r} already, and it is no leg of one over {self.name}; take "
            "another name, for a run has a leg at each of its Masters"
        )

    def choose(self, point: Any, in_flight: Sequence[int]) -> int:
        """Which of the Masters a point goes to, where they have so many in flight. Raises InvalidTask for none."""
        if self._cost is None and not self._slots:
            self.wait_for_slots()
        costs = [self._of(k, point, in_flight[k]) for k in range(len(self.masters))]
        least = min(costs)
        if not least < math.inf:
            names = ", ".join(repr(master.name) for master in self.masters)
            raise InvalidTask(f"none of the Masters {names} can evaluate {shown(point)}")
        return costs.index(least)

    def require(self, k: int, point: Any) -> None:
        """Raise InvalidTask unless the parameters of this Master take a point."""
        if self._schemas[k]:
            self._schemas[k].row(point)

    def _of(self, k: int, point: Any, in_flight: int) -> float:
        if self._cost is not None:
            return self._cost(point, self.masters[k], in_flight)
        try:
            self.require(k, point)
        except InvalidTask:
            return math.inf
        return (in_flight + 1) / max(1, self._slots[k])

    def __repr__(self) -> str:
        return f"<Routes to {', '.join(master.name for master in self.masters)}>"


def _different(masters: Sequence[Target]) -> tuple[Target, ...]:
    """These Masters. Raises CallerError where they are none, no Masters, or one of them twice."""
    given = tuple(masters) if isinstance(masters, Iterable) else (masters,)
    if not given:
        raise CallerError("Routes needs a Master to begin with")
    for k, master in enumerate(given):
        if not isinstance(master, Target) or isinstance(masters, Target):
            raise CallerError(f"Routes takes several Masters in a list, not {master!r}")
        if isinstance(master, Routes):
            raise CallerError(f"{master!r} is no Master of its own: name all the Masters in one Routes")
        if any(_place(master) == _place(other) for other in given[:k]):
            raise CallerError(f"Routes has Master {master.name!r} twice; a run of it can be open once")
    return given


def _place(master: Target) -> tuple[Any, str]:
    """What one Master has in common with itself, had twice from its daemon."""
    return getattr(getattr(master, "lab", None), "address", id(master)), master.name


def _metadata(master: Target, name: str) -> Mapping[str, str] | None:
    """Those of its run of this name; None if it has none, or does not say."""
    try:
        run = _recorded(master, name)
    except UnknownRun:
        return None
    if hasattr(master, "lab"):
        run.detach()
    return run.metadata  # type: ignore[no-any-return]


def _recorded(master: Any, name: str) -> Any:
    """The run of this name to be read: a daemon's, or a simulation's. Raises UnknownRun."""
    if hasattr(master, "lab"):
        return master.lab[master.name].watch(name, since="now")
    runs = getattr(master, "runs", {})
    if name not in runs:
        raise UnknownRun(f"Master {master.name!r} has no run {name!r}")
    return runs[name]
