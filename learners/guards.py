"""Guards for learners that would have the same thing measured twice."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from taskmaster.bus import values
from taskmaster.bus.errors import CallerError, TaskFailed
from taskmaster.bus.fields import Field
from taskmaster.bus.text import did_you_mean_or
from taskmaster.learners.axes import Parameters
from taskmaster.learners.inflight import Entry, InFlight
from taskmaster.learners.protocol import Learner, Point, Seeded, ask
from taskmaster.learners.space import Floats, Space
from taskmaster.learners.wrapper import Wrapper

__all__ = ["Dedup", "Pending"]

#: Asks in a row without a new point, after which there is none for now.
_PATIENCE = 100


@dataclass(frozen=True)
class _End:
    """How a point has ended, to be passed on: no function that does so, which a copy would share with its original."""

    output: Any = None
    error: BaseException | None = None


class Dedup(Wrapper):
    """``learner``, none of whose points is evaluated twice.

    A point that has ended is answered from memory, at once; one that is in flight is shared, and the learner told as
    often as it asked. ``resolution`` gives parameters a step within which two values count as the same.

        Dedup(learner, {"temperature": 0.5})

    Raises CallerError for what is no learner, and a resolution that is no number above 0; in :meth:`bind`, one of a
    parameter that is no number.
    """

    def __init__(self, learner: Learner, resolution: Mapping[str, float] | None = None) -> None:
        super().__init__(learner)
        if resolution is not None and not isinstance(resolution, Mapping):
            raise CallerError(
                f'the resolution of Dedup is a step for each of some parameters, like {{"x": 0.5}}; got {resolution!r}'
            )
        self._resolution = dict(resolution or {})
        for name, step in self._resolution.items():
            if not (isinstance(step, (int, float)) and step > 0 and math.isfinite(step)):
                raise CallerError(f"the resolution of parameter {name!r} must be a number above 0, got {step!r}")
        #: of those in flight: the points as the learner asked them, the one that is evaluated first
        self._sharing: dict[Hashable, list[Point]] = {}
        #: of those that have ended the output, or why there is none
        self._ended: dict[Hashable, _End] = {}

    def ask(self, n: int) -> list[Point]:
        """At most ``n`` points that nobody has measured, nor is measuring."""
        fresh: list[Point] = []
        patience = _PATIENCE
        while len(fresh) < n and patience:
            asked = ask(self.learner, n - len(fresh))
            if not asked:
                break
            new = [point for point in asked if self._is_new(point)]
            fresh += new
            patience = _PATIENCE if new else patience - 1
        return fresh

    def bind(self, parameters: Sequence[Field], outputs: Sequence[Field] = ()) -> None:
        """Let the learner know the Master. Raises CallerError for a resolution of what is no number there."""
        fields = {field.name: field for field in parameters}
        for name in self._resolution if fields else ():
            if name not in fields:
                raise CallerError(f"the Master has no parameter {name!r}{did_you_mean_or(name, fields)}")
            if fields[name].kind not in ("float", "int", "any") or fields[name].choices:
                raise CallerError(
                    f"Dedup has a resolution for parameter {name!r}, which takes {fields[name].describe()}: "
                    "such values are the same or not"
                )
        super().bind(parameters, outputs)

    def _is_new(self, point: Point) -> bool:
        key = self._key(point)
        if key in self._ended:
            self._pass_on(point, self._ended[key])
            return False
        sharing = self._sharing.setdefault(key, [])
        sharing.append(point)
        return len(sharing) == 1

    def tell(self, point: Point, output: Any) -> None:
        """Pass on the output of ``point`` for each point of the learner that it stands for."""
        self._end(point, _End(output))
        super(Wrapper, self).tell(point, output)

    def fail(self, point: Point, error: BaseException) -> None:
        """Pass on the failure of ``point`` for each point of the learner that it stands for."""
        self._end(point, _End(error=error))
        super(Wrapper, self).fail(point, error)

    def _pass_on(self, asked: Point, end: _End) -> None:
        if end.error is None:
            self.learner.tell(asked, end.output)
        else:
            self._fail(asked, end.error)

    def _end(self, point: Point, end: _End) -> None:
        key = self._key(point)
        sharing = self._sharing.setdefault(key, [point])
        while sharing:
            self._pass_on(sharing[0], end)  # if it raises it is told again, and goes on there
            del sharing[0]
        del self._sharing[key]
        self._ended[key] = end

    def done(self) -> bool:
        """Whether the learner is, with nothing in flight."""
        return not self._sharing and super().done()

    def _key(self, point: Point) -> Hashable:
        if not isinstance(point, Mapping):
            return values.encode(point)
        return tuple((name, self._level(name, point[name])) for name in sorted(point))

    def _level(self, name: str, value: Any) -> Hashable:
        if name in self._resolution:
            try:
                step: int = round(value / self._resolution[name])
            except (TypeError, ValueError, OverflowError):
                raise CallerError(
                    f"Dedup has a resolution for parameter {name!r}, but {value!r} is no number"
                ) from None
            return step
        level: Hashable = value if isinstance(value, Hashable) else values.encode(value)
        return level

    def describe(self) -> str:
        """What it is, in a few words."""
        return f"{super().describe()}, nothing twice"


class Pending(Wrapper):
    """``learner``, which forgets what is in flight and would ask for it again; it gets points beside it.

    A point within ``radius`` of one in flight (in shares of each parameter's range, the largest counts) is moved at
    random until it is further away; where there is no room it waits until there is. The learner is told what was
    evaluated, as of a point that it never asked, and then that its own had no output. ``parameters`` are as for other
    learners; without, they are the Master's.

    It is for learners that forget. GaussianProcess, Evolution and what comes of libraries remember what is in flight.

    Raises CallerError for what is no learner, a radius that is no share, and parameters without limits.
    """

    def __init__(self, learner: Learner, radius: float = 0.02, parameters: Parameters | None = None) -> None:
        super().__init__(learner)
        if isinstance(radius, bool) or not isinstance(radius, (int, float)) or not 0 < radius < 1:
            raise CallerError(
                f"the radius of Pending is a share of a parameter's range, above 0 and below 1; not {radius!r}"
            )
        self._radius = radius
        self._space = None if parameters is None else Space(parameters, "Pending")
        self._rng = np.random.default_rng(0)
        self._in_flight: InFlight[_Moved] = InFlight()
        #: what the learner has asked and there was no room for
        self._held: deque[Point] = deque()

    def seed(self, rng: np.random.Generator) -> None:
        """Share ``rng`` with the learner: each gets a stream of its own."""
        if isinstance(self.learner, Seeded):
            self._rng, theirs = rng.spawn(2)
            self.learner.seed(theirs)
        else:
            self._rng = rng

    def bind(self, parameters: Sequence[Field], outputs: Sequence[Field] = ()) -> None:
        """Learn the Master's parameters, unless others were given, and let the learner know it."""
        super().bind(parameters, outputs)
        if self._space is None:
            self._space = Space(parameters, "Pending")
        self._space.require_within(parameters)

    def ask(self, n: int) -> list[Point]:
        """At most ``n`` points, none beside one in flight."""
        space = self._known_space()
        points: list[Point] = []
        held, self._held = self._held, deque()
        while held and len(points) < n:
            points += self._placed(space, held.popleft())
        self._held += held
        # One that remembers nothing would be asked again and again for what has to wait as well.
        if len(points) < n and not self._held:
            for point in ask(self.learner, n - len(points)):
                points += self._placed(space, point)
        return points

    def _placed(self, space: Space, point: Point) -> list[Point]:
        """``point``, or one beside it that is far enough from all in flight; none if it has to wait for room."""
        code = tried = space.encode(point)
        others = np.array([entry.what.code for entry in self._in_flight]).reshape(-1, space.columns)
        for attempt in range(_PATIENCE):
            if not len(others) or np.abs(others - tried).max(axis=1).min() > self._radius:
                placed = point if tried is code else space.decode(tried)
                self._in_flight.add(placed, _Moved(point, space.encode(placed)))
                return [placed]
            step = self._radius * (2.0 + 0.1 * attempt) * self._rng.standard_normal(space.columns)
            tried = space.snap((code + step)[None, :])[0]
        self._held.append(point)
        return []

    def tell(self, point: Point, output: Any) -> None:
        """Pass on the output of ``point``."""
        super().tell(point, output)
        entry = self._ended(point)
        if entry is not None and entry.point is not entry.what.asked:
            why = f"{entry.what.asked!r} lay beside a point in flight; {point!r} was evaluated in its place"
            self._fail(entry.what.asked, TaskFailed(why, "Moved"))

    def fail(self, point: Point, error: BaseException) -> None:
        """Pass on that ``point`` has no output, as of the one that the learner asked."""
        entry = self._ended(point)
        self._fail(point if entry is None else entry.what.asked, error)
        super(Wrapper, self).fail(point, error)

    def _ended(self, point: Point) -> Entry[_Moved] | None:
        entry = self._in_flight.find(point)
        if entry is not None:
            self._in_flight.end(entry)
        return entry

    def done(self) -> bool:
        """Whether the learner is, and none of its points is in flight or waits for room."""
        return not self._held and not self._in_flight and super().done()

    def _known_space(self) -> Space:
        if self._space is None:
            raise CallerError("Pending does not know the parameters: pass them, or use it with a Loop, which does")
        return self._space

    def describe(self) -> str:
        """What it is, in a few words."""
        return f"{super().describe()}, apart from those in flight"


@dataclass(frozen=True)
class _Moved:
    """What a point in flight stands for: the one that the learner asked, and where it lies itself."""

    asked: Point
    code: Floats
