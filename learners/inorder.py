"""Results told in the order of asking, so that the points asked do not depend on which worker was faster.

A learner that is told each result as it comes asks other points next time: two workers never finish in the same order
twice. Where the same points must come out of every run, whatever the machine was doing and whatever was restarted
meanwhile, the learner has to be asked and told in a fixed order. That is what :class:`InOrder` does to a learner: it
keeps a result until all those asked for before it have come, and asks for one further point after each it passes on.

The price is a worker that may wait behind a slow task. It is small while ``ahead`` is a few times the slots and the
tasks take about equally long; it would be large where one in a hundred takes a thousand times as long as the others.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from taskmaster.bus.errors import CallerError
from taskmaster.bus.fields import Field
from taskmaster.learners.protocol import (
    Bindable,
    Endable,
    Failable,
    Learner,
    Lossy,
    Point,
    Seeded,
    describe,
)

__all__ = ["InOrder"]


class _Asked:
    """A point that the learner has asked for and not been told of."""

    __slots__ = ("pass_on", "point")

    def __init__(self, point: Point) -> None:
        self.point = point
        #: tells the learner how it ended; None as long as it has not
        self.pass_on: Callable[[], None] | None = None


class InOrder:
    """``learner``, asked and told in an order that is the same in every run.

    ``ahead`` points are asked for before the first is told, and from then on so many are out or waiting to be passed
    on; keep at least so many in flight. ``limit`` is how many are asked for in all, endlessly many by default.
    """

    def __init__(self, learner: Learner, ahead: int, limit: int | None = None) -> None:
        if ahead < 1:
            raise CallerError(f"InOrder needs at least one point ahead, not {ahead}")
        self.learner = learner
        self._left = math.inf if limit is None else limit
        #: points that may be asked for now
        self._due = ahead
        #: the learner has been told something since it was asked last
        self._news = True
        #: in the order of asking
        self._asked: deque[_Asked] = deque()
        #: asked for, and not handed out yet
        self._ready: deque[Point] = deque()

    # -- the protocol -------------------------------------------------------------------------------------------------

    def ask(self, n: int) -> Sequence[Point]:
        """At most ``n`` of the points that are due."""
        self._ask_learner()
        return [self._ready.popleft() for _ in range(min(n, len(self._ready)))]

    def tell(self, point: Point, output: Any) -> None:
        """Keep the output of ``point`` until its turn; one that was not asked for is passed on at once."""
        self._end(point, lambda: self.learner.tell(point, output))

    def fail(self, point: Point, error: BaseException) -> None:
        """Keep the failure of ``point`` until its turn."""
        learner = self.learner
        self._end(point, lambda: learner.fail(point, error) if isinstance(learner, Failable) else None)

    def done(self) -> bool:
        """Whether every point there will be has been told."""
        if self._asked:
            return False
        return self._left <= 0 or (isinstance(self.learner, Endable) and self.learner.done())

    def loss(self) -> float:
        """The learner's; NaN if it has none."""
        return self.learner.loss() if isinstance(self.learner, Lossy) else math.nan

    def seed(self, rng: np.random.Generator) -> None:
        """Seed the learner, if it uses randomness."""
        if isinstance(self.learner, Seeded):
            self.learner.seed(rng)

    def bind(self, parameters: Sequence[Field], outputs: Sequence[Field] = ()) -> None:
        """Let the learner know the Master, if it wants to."""
        if isinstance(self.learner, Bindable):
            self.learner.bind(parameters, outputs)

    def describe(self) -> str:
        """What it is, in a few words."""
        return f"{describe(self.learner)}, told in order"

    # -- the order ----------------------------------------------------------------------------------------------------

    def _end(self, point: Point, pass_on: Callable[[], None]) -> None:
        for asked in self._asked:
            if asked.pass_on is None and _same(asked.point, point):
                asked.pass_on = pass_on
                break
        else:
            pass_on()
        while self._asked and (ready := self._asked[0].pass_on) is not None:
            self._asked.popleft()
            ready()
            self._due += 1
            self._news = True
            self._ask_learner()

    def _ask_learner(self) -> None:
        """Ask for what is due, once after each result passed on: asking again could change what comes next."""
        n = int(min(self._due, self._left))
        if self._news and n > 0:
            self._news = False
            points = self.learner.ask(n)
            self._due -= len(points)
            self._left -= len(points)
            self._asked.extend(map(_Asked, points))
            self._ready.extend(points)


def _same(one: Any, other: Any) -> bool:
    """Whether these are the same point; one of them may have travelled to the daemon and back."""
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(_same(value, other[key]) for key, value in one.items())
    if isinstance(one, np.ndarray) or isinstance(other, np.ndarray):
        return np.array_equal(one, other)
    return bool(one == other)
