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
    Point,
    Seeded,
    ask,
    best_in_flight,
    describe,
    require,
)
from taskmaster.learners.record import Record

__all__ = ["Wrapper", "with_loss"]

K = TypeVar("K")


class Wrapper(Record):
    """Asks ``learner`` and tells it; keeps what was told, as the Master said it.

    It can do what the learner can. Of most of that a Loop makes nothing where the learner cannot: to be done never, to
    be seeded, bound or told of failures in vain, is to be without these. A loss is what a goal may be set on, so a
    wrapper has :meth:`Lossy.loss` only where the learner has it.

    Raises CallerError for what is no learner.
    """

    def __new__(cls, learner: object = None, *args: Any, **kwargs: Any) -> Wrapper:
        """One with a loss, where the learner has one."""
        return super().__new__(with_loss(cls) if isinstance(learner, Lossy) else cls)

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
        return self.learner.loss() if isinstance(self.learner, Lossy) else math.nan

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


class _Loss:
    """The loss of what is around learners that have one."""

    def loss(self) -> float:
        """The learner's; of several, the largest."""
        return self._loss()

    def _loss(self) -> float:
        raise NotImplementedError


#: Classes with a loss by those without.
_LOSSY: dict[type[Any], type[Any]] = {}


def with_loss(kind: type[K]) -> type[K]:
    """``kind`` with a ``loss()``, that is its ``_loss()``: under its name, since there is no other difference."""
    if issubclass(kind, Lossy):
        return kind
    if kind not in _LOSSY:
        names = {"__module__": kind.__module__, "__qualname__": kind.__qualname__, "__doc__": kind.__doc__}
        _LOSSY[kind] = type(kind.__name__, (kind, _Loss), names)
    return _LOSSY[kind]
