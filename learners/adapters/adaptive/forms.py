"""What points of python-adaptive's learners look like, and what else tells its learners from each other.

adaptive calls coordinates, seeds, pairs of an index and a value, and pairs of a learner's number and any of these a
*point*. A :class:`Form` turns what one of its learners asks (a *native* point) into the Master's form of a point and
back, and knows what that learner can do without.
"""

from __future__ import annotations

import copy
import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from taskmaster.bus.errors import CallerError
from taskmaster.bus.fields import Field
from taskmaster.learners.protocol import Point
from taskmaster.learners.record import select

__all__ = ["Form", "Key", "check_limits", "check_seed", "floats", "whole_seed"]

#: What tells points from each other: coordinates, or the encoding of any value.
Key: TypeAlias = Any


class Form(ABC):
    """How one kind of learner is asked and told."""

    #: a point is asked again, because its evaluations differ
    repeats = False
    #: outputs need not be numbers
    takes_anything = False
    #: it is told whole outputs, and picks of them itself
    takes_whole = False
    #: it cannot do without any of its points
    needs_all = False

    def __init__(self, learner: Any) -> None:
        self.learner = learner
        self.kind = type(learner).__name__

    def __deepcopy__(self, memo: dict[int, Any]) -> Form:
        """A copy with all that the learner holds: copied as adaptive does it would forget what is pending."""
        copied = memo[id(self)] = object.__new__(type(self))
        own = {name: value for name, value in vars(self).items() if name != "learner"}
        copied.__dict__.update(copy.deepcopy(own, memo))  # first what is within it, which are forms, too
        copied.learner = memo[id(self.learner)] = object.__new__(type(self.learner))
        copied.learner.__dict__.update(copy.deepcopy(vars(self.learner), memo))
        return copied

    @property
    @abstractmethod
    def width(self) -> int | None:
        """How many parameters its points have; None: as many as the Master has."""

    @abstractmethod
    def key(self, point: Point, names: Sequence[str] | None) -> Key:
        """What tells a point of the Master's from others. Raises KeyError, TypeError or ValueError if it is none."""

    @abstractmethod
    def point(self, native: Any, names: Sequence[str] | None) -> Point:
        """The Master's form of a native point."""

    @abstractmethod
    def unasked(self, key: Key) -> Any:
        """The native form of a point that was not asked for; None if it cannot be learnt."""

    def ask(self, n: int) -> list[Any]:
        """At most ``n`` native points; those that it knows or has asked before may be among them."""
        native: list[Any] = self.learner.ask(n)[0]
        return native

    def knows(self, native: Any) -> bool:
        """Whether it has been told the output of this point."""
        return native in self.learner.data

    def is_needed(self, key: Key) -> bool:
        """Whether it cannot go on without this point."""
        return False

    def forget(self, native: Any) -> None:
        """It suggested what it knows: that is not pending."""
        self.learner.pending_points.discard(native)

    def drop(self, native: Any) -> None:  # noqa: B027 - most have nothing to do
        """The point has failed; usually it stays pending for good."""

    def is_done(self) -> bool:
        """Whether it has reached its own end, where it has one."""
        return False

    @property
    def npoints(self) -> int:
        """How many outputs it has been told."""
        return len(self.learner.data)

    def check(self, fields: Sequence[Field]) -> None:  # noqa: B027 - it may take anything
        """Raise CallerError where parameters, one for each of its dimensions, do not take what it asks."""

    def value(self, output: Any, name: str | None) -> tuple[Any, Any]:
        """What is to be told of ``output``, and the number or vector of it that is learnt. Raises CallerError."""
        value = select(output, name)
        if type(value) is float:  # as most are: numpy would take longer than the rest of it
            return value, value
        try:
            array = np.asarray(value)
        except ValueError:  # rows that differ in length
            array = np.empty((0, 0))
        if array.dtype.kind not in "biuf" or array.ndim > 1 or array.size == 0:
            raise CallerError(
                f"{self.kind} learns a real number or a vector of them, not {value!r}; "
                "let the Master return such an output, and name it with output=NAME if it is one of several"
            )
        number: float | NDArray[np.float64] = float(array) if array.ndim == 0 else array.astype(np.float64)
        return number, number


# -- coordinates, seeds and limits ------------------------------------------------------------------------------------


def floats(native: Any) -> tuple[float, ...]:
    """Coordinates as Python's floats, which compare and hash as numpy's and as whole numbers do."""
    if type(native) is float:
        return (native,)
    if isinstance(native, (int, float, np.integer, np.floating)):
        return (float(native),)
    return tuple(float(value) for value in native)


def whole_seed(value: float) -> int:
    """A seed, or a learner's number, that has been a float. Raises ValueError."""
    if value != int(value) or value < 0:
        raise ValueError
    return int(value)


def check_limits(kind: str, field: Field, bounds: tuple[float, float]) -> None:
    """Raise CallerError if ``field`` does not take every real number within ``bounds``."""
    if field.kind not in ("float", "any") or field.choices or field.shape:
        raise CallerError(f"{kind} gives real numbers, but parameter {field.name!r} takes {field.describe()}")
    low, high = field.limits
    if not (low <= bounds[0] and bounds[1] <= high):
        raise CallerError(
            f"{kind} asks for {field.name!r} within [{bounds[0]:g}, {bounds[1]:g}], but the Master's "
            f"parameter {field.name!r} takes {field.describe()}; give the learner bounds within these limits"
        )


def check_seed(kind: str, field: Field, most: int | None = None) -> None:
    """Raise CallerError if ``field`` does not take whole numbers from 0 to ``most``; or, without, as far as is needed.

    A real number within limits is none of those: before long they would be beyond.
    """
    low, high = field.limits
    is_enough = (field.kind == "int" or math.isinf(high)) if most is None else high >= most
    if field.kind not in ("int", "float", "any") or field.choices or field.shape or low > 0 or not is_enough:
        to = "on, as seeds" if most is None else f"to {most}"
        raise CallerError(
            f"{kind} gives whole numbers from 0 {to}, but parameter {field.name!r} takes {field.describe()}"
        )
