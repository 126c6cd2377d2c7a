"""Learners around a learner: a base that passes everything on."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np

from taskmaster.bus.errors import CallerError
from taskmaster.bus.fields import Field
from taskmaster.learners.protocol import (
    Bindable,
    Endable,
    Failable,
    Learner,
    Lossy,
    Optimizing,
    Point,
    Seeded,
    ask,
    best_in_flight,
    describe,
    loss_of,
    require,
)
from taskmaster.learners.record import Record

__all__ = ["Wrapper", "with_loss"]

K = TypeVar("K")


class Wrapper(Record):
    """Asks ``learner`` and tells it; keeps what was told, as the Master said it.

    It can do what the learner can. Of most of that a Loop makes nothing where the learner cannot: to be done never, to
    be seeded, bound or told of failures in vain, is to be without these. A loss is what a goal may be set on, and the
    best point what is shown in the place of others: so a wrapper has :meth:`Lossy.loss` and
    :meth:`Optimizing.incumbent` only where the learner has them.

    Raises CallerError for what is no learner.
    """

    def __new__(cls, learner: object = None, *args: Any, **kwargs: Any) -> Wrapper:
        """One with a loss, and a best point, where the learner has one."""
        kind = with_loss(cls) if isinstance(learner, Lossy) else cls
        return super().__new__(_with_incumbent(kind) if isinstance(learner, Optimizing) else kind)

    def __init__(self, learner: Learner) -> None:
        super().__init__()
        if isinstance(learner, type) or not isinstance(learner, Learner):
            raise CallerError(f"{type(self).__name__} goes around a learner, with ask() and tell(); got {learner!r}")
        require(learner)
        self.learner = learner

    def ask(self, n: int) -> Sequence[Point]:
        """At most ``n`` further points."""
        return ask(self.learner, n)

    def tell(self, point: Point, output: Any) -> None:
        """Pass on the output of ``point``."""
        self.learner.tell(point, output)
        super().tell(point, output)

    def fail(self, point: Point, error: BaseException) -> None:
        """Pass on that ``point`` has no output, if the learner wants to know."""
        self._fail(point, error)
        super().fail(point, error)

    def _fail(self, point: Point, error: BaseException) -> None:
        if isinstance(self.learner, Failable):
            self.learner.fail(point, error)

    def _loss(self) -> float:
        return loss_of(self.learner) if isinstance(self.learner, Lossy) else math.nan

    def _incumbent(self) -> tuple[Point, float]:
        if not isinstance(self.learner, Optimizing):
            raise CallerError(f"{describe(self.learner)} looks for no best point")
        return self.learner.incumbent()

    def done(self) -> bool:
        """Whether the learner is."""
        return isinstance(self.learner, Endable) and self.learner.done()

    def seed(self, rng: np.random.Generator) -> None:
        """Seed the learner, if it uses randomness."""
        if isinstance(self.learner, Seeded):
            self.learner.seed(rng)

    def bind(self, parameters: Sequence[Field], outputs: Sequence[Field] = ()) -> None:
        """Let the learner know the Master, if it wants to."""
        if isinstance(self.learner, Bindable):
            self.learner.bind(parameters, outputs)

    def best_in_flight(self, slots: int) -> int:
        """As many as the learner wants."""
        return best_in_flight(self.learner, slots)

    def describe(self) -> str:
        """What it is, in a few words."""
        return describe(self.learner)


class _Able:
    """What is made as it is needed, and found under no name: how it is made anew, of a pickle or a copy."""

    _made_of: tuple[type[Any], type[Any]]

    def __reduce__(self) -> tuple[Any, ...]:
        abilities = []
        kind: type[Any] = type(self)
        while "_made_of" in vars(kind):
            kind, ability = kind._made_of
            abilities.append(ability)
        return _anew, (kind, *reversed(abilities)), self.__dict__


class _Loss(_Able):
    """The loss of what is around learners that have one."""

    def loss(self) -> float:
        """The learner's; of several, the largest."""
        return self._loss()

    def _loss(self) -> float:
        raise NotImplementedError


class _Incumbent(_Able):
    """The best point of what is around a learner that looks for it."""

    def incumbent(self) -> tuple[Point, float]:
        """The learner's best point so far, as the Master has it, and the output that the learner goes by."""
        return self._incumbent()

    def _incumbent(self) -> tuple[Point, float]:
        raise NotImplementedError


#: Classes with an ability by those without.
_MADE: dict[tuple[type[Any], type[Any]], type[Any]] = {}


def with_loss(kind: type[K]) -> type[K]:
    """``kind`` with a ``loss()``, that is its ``_loss()``: under its name, since there is no other difference."""
    return kind if issubclass(kind, Lossy) else _with(kind, _Loss)


def _with_incumbent(kind: type[K]) -> type[K]:
    """The same with an ``incumbent()``."""
    return kind if issubclass(kind, Optimizing) else _with(kind, _Incumbent)


def _with(kind: type[K], ability: type[Any]) -> type[K]:
    made_of = kind, ability
    if made_of not in _MADE:
        names = {name: getattr(kind, name) for name in ("__module__", "__qualname__", "__doc__")}
        _MADE[made_of] = type(kind.__name__, made_of, {**names, "_made_of": made_of})
    return _MADE[made_of]


def _anew(kind: type[K], *abilities: type[Any]) -> K:
    for ability in abilities:
        kind = _with(kind, ability)
    return object.__new__(kind)
