"""What all optimisers of other libraries have in common as learners.

A library *suggests*: it hands out something of its own (a trial, a candidate, a vector of a generation) that stands for
a point. :class:`Optimizer` asks it for suggestions until there are as many new points as the Loop wants, remembers
which suggestions wait for which point, and answers them when the point is told or has failed.

**No point is evaluated twice** unless ``repeats`` says so. Many libraries know nothing of points that are in flight,
and where parameters are choices or whole numbers most come back to a point sooner or later. A suggestion of a point
that is in flight waits for the same result; one of a point that has been told is answered at once with what is known,
one that has failed as failed. That is what the library would have learnt from an evaluation, at no cost. Only when it
suggests nothing else for :data:`PATIENCE` times is it left alone until more is told.

**Randomness** comes from the run's seed. Some libraries draw from the generators that Python and NumPy share among all
of a process: :class:`OwnDice` lends them a state of the learner's own for as long as a call takes.
"""

from __future__ import annotations

import logging
import math
import random
import threading
import warnings
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Generic, TypeVar

import numpy as np

from taskmaster.bus.errors import CallerError, TaskCancelled
from taskmaster.bus.fields import Field
from taskmaster.learners.adapters.aims import Aims, Values, is_known
from taskmaster.learners.adapters.space import Key, Space
from taskmaster.learners.protocol import Point
from taskmaster.learners.record import Record

__all__ = ["OPTIONS", "PATIENCE", "Optimizer", "OwnDice", "Seedable"]

#: What all of them take, besides what is their library's own.
OPTIONS = ("minimize", "maximize", "constraints", "log", "repeats")

#: So many suggestions in a row without a new point, and the library has nothing new for now.
PATIENCE = 30

#: Seeds for libraries: what all of them take.
_SEEDS = 2**31 - 1

S = TypeVar("S")

#: Loops run in threads beside each other; what follows changes what these share.
_shared = threading.RLock()


class OwnDice:
    """The generators that a process shares, in a state of one's own: ``with dice: library.ask()``.

    They are Python's ``random`` and NumPy's legacy ``np.random``; outside of the block they go on as if nothing had
    been. One learner of a process is inside of such a block at a time. Other threads that draw from them meanwhile get
    in between: those two are not made for threads.
    """

    def __init__(self, seed: int) -> None:
        self._python = random.Random(seed).getstate()
        self._numpy = np.random.RandomState(seed).get_state()

    @contextmanager
    def __call__(self) -> Iterator[None]:
        with _shared:
            python, legacy = random.getstate(), np.random.get_state()
            random.setstate(self._python)
            np.random.set_state(self._numpy)
            try:
                yield
            finally:
                self._python, self._numpy = random.getstate(), np.random.get_state()
                random.setstate(python)
                np.random.set_state(legacy)


class Seedable(Record):
    """A learner that is seeded once: by its run before the first ask, unless it was given a ``seed`` of its own."""

    def __init__(self, seed: int | None) -> None:
        super().__init__()
        self._own_seed = seed
        self._rng: np.random.Generator | None = None
        self._begun = False

    def seed(self, rng: np.random.Generator) -> None:
        """Take ``rng`` as the source of randomness, unless a seed of its own was given. Before the first ask.

        Raises CallerError after the first ask.
        """
        if self._begun:
            raise CallerError(f"{type(self).__name__} has begun already: it can be seeded before the first ask only")
        self._rng = rng

    def _begin(self) -> int:
        """A seed for the library, as the run's or as its own says; new each time outside of a run."""
        self._begun = True
        rng = self._rng if self._rng is not None and self._own_seed is None else np.random.default_rng(self._own_seed)
        return int(rng.integers(1, _SEEDS))


class Optimizer(Seedable, ABC, Generic[S]):
    """A library's optimiser; ``S`` is what it calls a suggestion.

    ``most`` is how many points it can have in flight at most: those that were made to ask one after the other are not
    asked for more before that one is answered.
    """

    def __init__(self, space: Space, aims: Aims, *, seed: int | None, repeats: bool, most: int | None = None) -> None:
        super().__init__(seed)
        self.space = space
        self.aims = aims
        self._repeats = repeats
        self._size = math.prod(space.sizes)
        self._most = most
        self._waiting: dict[Key, deque[S]] = {}
        self._in_flight = 0
        self._wanted = 0  # new points, while suggestions are being asked for
        self._known: dict[Key, Values | None] = {}  # None: it failed
        self._is_exhausted = False

    # -- the library --------------------------------------------------------------------------------------------------

    @abstractmethod
    def _open(self, seed: int, n: int) -> None:
        """Make the library's optimiser; ``n`` points are wanted at the first ask."""

    @abstractmethod
    def _suggest(self) -> tuple[S, Point] | None:
        """The next suggestion; None if there can be none before more is answered."""

    @abstractmethod
    def _answer(self, suggestion: S, values: Values) -> None:
        """The point of ``suggestion`` was evaluated: all values are finite."""

    @abstractmethod
    def _give_up(self, suggestion: S, cancelled: bool) -> None:
        """The point of ``suggestion`` has no output."""

    def _learn(self, point: Point, values: Values) -> None:
        """Learn of a point that was not suggested, if the library can."""

    # -- the protocol -------------------------------------------------------------------------------------------------

    def bind(self, parameters: Sequence[Field], outputs: Sequence[Field] = ()) -> None:
        """Check that the Master takes the points, and has the outputs. Raises CallerError."""
        self.space.require_within(parameters)
        self.aims.require_among(outputs)

    def best_in_flight(self, slots: int) -> int:
        """One for each slot: what is chosen earlier is chosen from older knowledge: dearer than idle slots."""
        return slots

    def ask(self, n: int) -> list[Point]:
        """``n`` points that are neither in flight nor known; fewer while the library has no more."""
        if n <= 0:
            return []
        self._ensure_open(n)
        if self._most is not None:
            n = min(n, self._most - self._in_flight)
        points: list[Point] = []
        patience = PATIENCE
        while len(points) < n and patience and not self._is_all_asked:
            self._wanted = n - len(points)
            suggested = self._suggest()
            if suggested is None:
                break
            suggestion, point = suggested
            if self._is_new(suggestion, point):
                points.append(point)
                patience = PATIENCE
            else:
                patience -= 1
        self._in_flight += len(points)
        self._is_exhausted = not points and n > 0
        return points

    @property
    def _is_all_asked(self) -> bool:
        """Whether there is no point but those in flight and those known: then suggestions would come for nothing."""
        return not self._repeats and len(self._waiting) + len(self._known) >= self._size

    def _ensure_open(self, n: int) -> None:
        if not self._begun:
            self._open(self._begin(), n)

    def _is_new(self, suggestion: S, point: Point) -> bool:
        """Whether the point has to be evaluated; if not, the suggestion is answered, or waits with another one."""
        key = self.space.key(point)
        waiting = self._waiting.get(key)
        if waiting is not None and not self._repeats:
            waiting.append(suggestion)
            return False
        if key in self._known and not self._repeats:
            self._reply(suggestion, self._known[key], cancelled=False)
            return False
        self._waiting.setdefault(key, deque()).append(suggestion)
        return True

    def tell(self, point: Point, output: Any) -> None:
        """Learn the output of ``point``, asked for or not. One that is not finite counts as a failure of the point.

        Raises CallerError if ``output`` lacks what is optimised.
        """
        values, key = self.aims.read(output), self.space.key(point)
        self._ensure_open(1)
        super().tell(point, output)
        known = values if is_known(values) else None
        if known is None:
            self.nfailed += 1
        if key not in self._waiting and known is not None:
            self._known[key] = known
            self._learn(point, known)
        self._end(key, known, cancelled=False)

    def fail(self, point: Point, error: BaseException) -> None:
        """``point`` has no output, and is not asked again."""
        super().fail(point, error)
        self._ensure_open(1)
        self._end(self.space.key(point), None, cancelled=isinstance(error, TaskCancelled))

    def _end(self, key: Key, values: Values | None, cancelled: bool) -> None:
        self._is_exhausted = False
        waiting = self._waiting.get(key)
        if waiting is None:
            return
        self._in_flight -= 1
        self._known[key] = values
        answered = [waiting.popleft()] if self._repeats else list(waiting)
        if not self._repeats or not waiting:
            del self._waiting[key]
        for suggestion in answered:
            self._reply(suggestion, values, cancelled)

    def _reply(self, suggestion: S, values: Values | None, cancelled: bool) -> None:
        if values is None:
            self._give_up(suggestion, cancelled)
        else:
            self._answer(suggestion, values)

    def done(self) -> bool:
        """Whether the library has nothing new left to ask; a Loop's goal is the usual stop."""
        return self._is_exhausted and not self._in_flight

    def best(self, *, minimize: bool | None = None, output: str | None = None) -> tuple[Point, float]:
        """As in Record; without arguments the best of the (first) objective among points that keep the constraints.

        Raises CallerError while there is none.
        """
        name, more = self.aims.objectives[0]
        if minimize is not None or output is not None:
            return super().best(minimize=bool(minimize), output=output or name)
        kept = [
            (values.losses[0], i)
            for i, (_, told) in enumerate(self.data)
            if is_known(values := self.aims.read(told)) and all(excess <= 0 for excess in values.violations)
        ]
        if not kept:
            raise CallerError(f"there is no best point: none of the {self.npoints} told so far keeps the constraints")
        loss, i = min(kept)
        return self.data[i][0], -loss if more else loss

    @property
    def objectives(self) -> tuple[tuple[str | None, bool], ...]:
        """The outputs that it optimises, None for the only one there is; and whether the largest value is wanted."""
        return self.aims.objectives

    def incumbent(self) -> tuple[Point, float]:
        """The best point so far by the (first) objective, and its output."""
        return self.best()

    @property
    def _library(self) -> str:
        """What it is called, with the name of the algorithm."""
        return type(self).__name__

    def describe(self) -> str:
        """What it is, in a few words."""
        return f"{self._library} over {', '.join(self.space.names)}, {self.aims.describe()}"


@contextmanager
def ignoring(*categories: type[Warning], message: str = "") -> Iterator[None]:
    """A library's warnings of these kinds (that begin with ``message``) about what is so for a reason are left out."""
    with _shared, warnings.catch_warnings():
        for category in categories:
            warnings.filterwarnings("ignore", message, category)
        yield


#: Says, when Ax is imported, which SQLAlchemy there is.
_CHATTY = "ax.storage.sqa_store.with_db_settings_base"


@contextmanager
def importing() -> Iterator[None]:
    """A library is imported: what it does that another gives up, and what it says of itself, is not for its users."""
    chatty = logging.getLogger(_CHATTY)
    before, chatty.disabled = chatty.disabled, True
    try:
        with ignoring(DeprecationWarning):
            yield
    finally:
        chatty.disabled = before
