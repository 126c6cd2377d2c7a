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
from dataclasses import dataclass
from typing import Any

from taskmaster.learners.arguments import whole
from taskmaster.learners.looping.points import same_point
from taskmaster.learners.protocol import Learner, Point, ask
from taskmaster.learners.wrapper import Wrapper

__all__ = ["InOrder"]


@dataclass(frozen=True, slots=True)
class _End:
    """How a point has ended, to be passed on: no function that does so, which a copy would share with its original."""

    point: Point
    output: Any = None
    error: BaseException | None = None


@dataclass(eq=False, slots=True)
class _Asked:
    """A point that the learner has asked for and not been told of."""

    point: Point
    #: None as long as it has not
    end: _End | None = None


class InOrder(Wrapper):
    """``learner``, asked and told in an order that is the same in every run.

    ``ahead`` points are asked for before the first is told, and from then on so many are out or waiting to be passed
    on; keep at least so many in flight. ``limit`` is how many are asked for in all, endlessly many by default.

    It keeps in ``data`` what was told, as it came; the learner has it in order.

    Raises CallerError for what is no learner, and ``ahead`` or ``limit`` below 1.
    """

    def __init__(self, learner: Learner, ahead: int, limit: int | None = None) -> None:
        super().__init__(learner)
        #: points that may be asked for now
        self._due = whole(ahead, "ahead of InOrder", 1, 2**53)
        self._left = math.inf if limit is None else whole(limit, "limit of InOrder", 1, 2**53)
        #: the learner has been told something since it was asked last
        self._has_news = True
        #: in the order of asking
        self._asked: deque[_Asked] = deque()
        #: asked for, and not handed out yet
        self._ready: deque[Point] = deque()
        #: what was told last, and whether the learner raised meanwhile: then it will be told again
        self._latest: Point = None
        self._is_broken_off = False

    # -- the protocol -------------------------------------------------------------------------------------------------

    def ask(self, n: int) -> list[Point]:
        """At most ``n`` of the points that are due."""
        self._ask_learner()
        return [self._ready.popleft() for _ in range(min(n, len(self._ready)))]

    def tell(self, point: Point, output: Any) -> None:
        """Keep the output of ``point`` until its turn; one that was not asked for is passed on at once."""
        self._take(_End(point, output))

    def fail(self, point: Point, error: BaseException) -> None:
        """Keep the failure of ``point`` until its turn."""
        self._take(_End(point, error=error))

    def done(self) -> bool:
        """Whether every point there will be has been told."""
        if self._asked:
            return False
        return self._left <= 0 or super().done()

    def describe(self) -> str:
        """What it is, in a few words."""
        return f"{super().describe()}, told in order"

    # -- the order ----------------------------------------------------------------------------------------------------

    def _take(self, end: _End) -> None:
        if not (self._is_broken_off and end.point is self._latest):
            own = self._own(end.point)
            if own is None:
                self._tell_learner(end)
                self._record(end)
                return
            own.end = end
            self._record(end)
        self._latest, self._is_broken_off = end.point, True
        self._pass_on()
        self._is_broken_off = False

    def _record(self, end: _End) -> None:
        if end.error is None:
            super(Wrapper, self).tell(end.point, end.output)
        else:
            super(Wrapper, self).fail(end.point, end.error)

    def _tell_learner(self, end: _End) -> None:
        if end.error is None:
            self.learner.tell(end.point, end.output)
        else:
            self._fail(end.point, end.error)

    def _own(self, point: Point) -> _Asked | None:
        waiting = [asked for asked in self._asked if asked.end is None]
        own = next((asked for asked in waiting if asked.point is point), None)
        return own or next((asked for asked in waiting if same_point(asked.point, point)), None)

    def _pass_on(self) -> None:
        """Pass on what it is the turn of, and ask after each. If the learner raises, it goes on there when called."""
        while True:
            self._ask_learner()
            if not self._asked or (end := self._asked[0].end) is None:
                return
            self._tell_learner(end)
            self._asked.popleft()
            self._due += 1
            self._has_news = True

    def _ask_learner(self) -> None:
        """Ask for what is due, once after each result passed on: asking again could change what comes next."""
        n = int(min(self._due, self._left))
        if self._has_news and n > 0:
            points = ask(self.learner, n)
            self._has_news = False
            self._due -= len(points)
            self._left -= len(points)
            self._asked.extend(map(_Asked, points))
            self._ready.extend(points)
