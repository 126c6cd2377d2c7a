"""Points in an order that saves travel: for a probe that has to go to them, or a chamber that has to get there."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from taskmaster.bus.errors import CallerError
from taskmaster.bus.fields import Field
from taskmaster.learners.arguments import whole
from taskmaster.learners.protocol import Learner, Point, ask
from taskmaster.learners.travel import Travel
from taskmaster.learners.wrapper import Wrapper

__all__ = ["MoveCost"]

#: For each of the points kept ready, so many others may go before one.
_PATIENCE = 4


class MoveCost(Wrapper):
    """``learner``, whose points are handed out nearest first.

    ``ahead`` points are kept ready, and of them the one is next that ``travel`` takes least to from the last one, or
    from the nearest of the last ``heads``. The more are kept ready, the shorter are the ways, and the older is what the
    learner knew when it asked. A point that has been passed over ``4 × ahead`` times goes next wherever it lies.

    A GaussianProcess weighs ways against what it expects, if it is given ``travel`` itself: better than by this.

        MoveCost(Sobol(lab["probe"].parameters), Travel({"x": 2e-6, "y": 2e-6}), ahead=32)

    Raises CallerError for what is no learner, ``travel`` that is no Travel, and ``ahead`` or ``heads`` below 1; in
    :meth:`bind`, a way between what is no parameter.
    """

    def __init__(self, learner: Learner, travel: Travel, *, ahead: int = 16, heads: int = 1) -> None:
        super().__init__(learner)
        if not isinstance(travel, Travel):
            raise CallerError(f"MoveCost needs a Travel, which says what ways take; got {travel!r}")
        self._travel = travel
        self._ahead = whole(ahead, "ahead of MoveCost", 1, 2**31)
        #: asked for and not handed out, the earliest first
        self._ready: list[Point] = []
        #: how many were handed out when each of them came
        self._since: list[int] = []
        self._handed = 0
        self._last: deque[Point] = deque(maxlen=whole(heads, "heads of MoveCost", 1, 2**31))

    def bind(self, parameters: Sequence[Field], outputs: Sequence[Field] = ()) -> None:
        """Let the learner know the Master. Raises CallerError for ways between what is none of its parameters."""
        if parameters:
            self._travel.require_of(parameters)
        super().bind(parameters, outputs)

    def ask(self, n: int) -> list[Point]:
        """The ``n`` nearest of the points that are ready, one after the other."""
        points: list[Point] = []
        while len(points) < n:
            self._fill()
            if not self._ready:
                break
            points.append(self._take())
        return points

    def done(self) -> bool:
        """Whether the learner is, and all its points were handed out."""
        return not self._ready and super().done()

    def describe(self) -> str:
        """What it is, in a few words."""
        return f"{super().describe()}, nearest first"

    def _fill(self) -> None:
        missing = self._ahead - len(self._ready)
        if missing > 0 and not super().done():
            points = ask(self.learner, missing)
            self._ready += points
            self._since += [self._handed] * len(points)

    def _take(self) -> Point:
        i = 0
        if self._last and self._handed - self._since[0] < _PATIENCE * self._ahead:
            i = min((self._travel.nearest(start, self._ready) for start in self._last), key=lambda found: found[1])[0]
        del self._since[i]
        self._handed += 1
        point = self._ready.pop(i)
        self._last.append(point)
        return point
