"""What a learner has been told so far, and the best of it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from taskmaster.bus.errors import CallerError
from taskmaster.bus.fields import Field
from taskmaster.bus.text import did_you_mean_or
from taskmaster.learners.making import LOST, Given, remembering
from taskmaster.learners.protocol import Point, describe

__all__ = ["TO_OPTIMISE", "Record", "SeveralOutputs", "chosen_output", "real", "select"]


class SeveralOutputs(CallerError):
    """There are several outputs, and nobody has said which one a learner learns."""


class Record:
    """A base for learners: keeps what it is told.

    ``data`` holds ``(point, output)`` in the order of telling, ``nfailed`` counts the points that ended without output.
    """

    #: what it was made with; nobody knows of one that was pickled
    _made_by: Given | None = None

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if "__init__" in vars(cls):
            cls.__init__ = remembering(vars(cls)["__init__"])  # type: ignore[method-assign]

    def __init__(self) -> None:
        self.data: list[tuple[Point, Any]] = []
        self.nfailed = 0

    def __repr__(self) -> str:
        return f"<{describe(self)}, {self.npoints} told>"

    def made_with(self) -> dict[str, Any]:
        """What it was made with, by the names of the arguments: recorded with its run."""
        return dict(LOST) if self._made_by is None else self._made_by.settings()

    @property
    def npoints(self) -> int:
        """How many points have an output."""
        return len(self.data)

    def tell(self, point: Point, output: Any) -> None:
        """Keep the output of ``point``."""
        self.data.append((point, output))

    def fail(self, point: Point, error: BaseException) -> None:
        """Count ``point`` as ended without an output."""
        self.nfailed += 1

    def best(self, *, minimize: bool = False, output: str | None = None) -> tuple[Point, float]:
        """The point with the largest output, or the smallest, and that output; the earliest of equals.

        ``output`` names the one to compare, where there are several. NaN is no candidate. Raises CallerError while no
        point has an output, or if the outputs are not single numbers.
        """
        candidates = [(point, value) for point, told in self.data if not math.isnan(value := _number(told, output))]
        if not candidates:
            raise CallerError(f"there is no best point: none of the {self.npoints} outputs told so far is a number")
        choose = min if minimize else max
        return choose(candidates, key=lambda candidate: candidate[1])


#: How one output of several is named; and by those that optimise some of them.
_BY_NAME = "output=NAME"
TO_OPTIMISE = "minimize=NAME, or maximize=NAME"


def select(told: Any, name: str | None, by: str = _BY_NAME) -> Any:
    """The output called ``name`` of what a Master returned, or its only one; ``by`` is how it is named.

    Raises CallerError.
    """
    if not isinstance(told, Mapping):
        return told
    if name is None:
        if len(told) == 1:
            return next(iter(told.values()))
        raise SeveralOutputs(f"there are several outputs, {', '.join(map(repr, told))}: say which with {by}")
    if name not in told:
        raise CallerError(f"no output is called {name!r}{did_you_mean_or(name, told)}")
    return told[name]


def real(told: Any, name: str | None, learner: str) -> float:
    """The real number that ``learner`` learns: the output called ``name``, or the only one. Raises CallerError."""
    value = select(told, name)
    if not isinstance(value, (bool, int, float, np.bool_, np.integer, np.floating)):
        raise CallerError(f"{learner} learns a real number, not {value!r}; name the output with output=NAME")
    return float(value)


def chosen_output(outputs: Sequence[Field], name: str | None, by: str = _BY_NAME) -> Field | None:
    """The one of a Master's declared outputs that ``name`` says, or the only one; None if none are declared.

    ``by`` is how it is named. Raises CallerError if ``name`` is none of them, or is None and there are several.
    """
    names = tuple(field.name for field in outputs)
    if name is None and len(names) > 1:
        several = ", ".join(map(repr, names))
        raise SeveralOutputs(f"the Master has several outputs, {several}: say which with {by}")
    if name is not None and names and name not in names:
        raise CallerError(f"the Master has no output {name!r}{did_you_mean_or(name, names, 'it has')}")
    return next((field for field in outputs if name in (None, field.name)), None)


def _number(told: Any, name: str | None) -> float:
    value = select(told, name)
    if isinstance(value, (bool, int, float, np.bool_, np.integer, np.floating)):
        return float(value)
    raise CallerError(f"outputs of type {type(value).__name__} have no best one; it takes single numbers")
