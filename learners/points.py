"""Learners whose points do not depend on what they are told: lists, grids, random and low-discrepancy points.

The points of each form one stream. How many are asked for at a time only says where the stream is cut:
``ask(3) + ask(2)`` gives the points of ``ask(5)``. A stream is no generator of Python's, of which there is no copy: a
learner is copied to see what it would ask next, and pickled by whoever wants to keep it.
"""

from __future__ import annotations

import itertools
import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence as SequenceABC
from types import ModuleType
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from taskmaster.bus.errors import CallerError
from taskmaster.bus.fields import Field
from taskmaster.bus.text import lacking
from taskmaster.learners.axes import Axis, Interval, Levels, Parameters, axes_of, require_names, require_taken
from taskmaster.learners.protocol import Point
from taskmaster.learners.record import Record

__all__ = ["Grid", "Halton", "LatinHypercube", "Random", "Sequence", "Sobol", "sobol_rows"]

#: Points drawn at once from a generator; a power of two, as Sobol points want to be drawn.
_BLOCK = 64

#: As many Sobol points as SciPy's generator has at its default resolution of 30 bits.
_SOBOL_POINTS = 2**30


class _Stream(Record, ABC):
    """Hands out one stream of points, which is opened by the first ask."""

    def __init__(self) -> None:
        super().__init__()
        self._stream: Iterator[Any] | None = None
        self._ahead: list[Any] = []  # at most one row, taken from the stream to see whether it has ended
        self._unanswered = 0

    @abstractmethod
    def _open(self) -> Iterator[Any]:
        """What stands for the points, in order, made as it is taken."""

    @abstractmethod
    def _point(self, row: Any) -> Point:
        """The point that this stands for."""

    def ask(self, n: int) -> list[Point]:
        """The next ``n`` points, fewer where the stream ends."""
        if self._stream is None:
            self._stream = self._open()
        if n <= 0:
            return []
        ahead, self._ahead = self._ahead, []
        points = [self._point(row) for row in itertools.islice(itertools.chain(ahead, self._stream), n)]
        self._unanswered += len(points)
        return points

    def tell(self, point: Point, output: Any) -> None:
        """Keep the output of ``point``."""
        super().tell(point, output)
        self._unanswered -= 1

    def fail(self, point: Point, error: BaseException) -> None:
        """Count ``point`` as ended without an output; it is not asked again."""
        super().fail(point, error)
        self._unanswered -= 1

    def done(self) -> bool:
        """Whether the stream has ended and all its points were told or failed. Before the first ask: no."""
        if self._stream is None or self._unanswered > 0:
            return False
        if not self._ahead:
            self._ahead = list(itertools.islice(self._stream, 1))
        return not self._ahead


class Sequence(_Stream):
    """The given points, in their order.

    ``points`` is any iterable, also an endless one: it is consumed as points are asked for (by at most one more).
    With ``names``, each of its items is a row of values for these parameters, as in an array of shape ``(n, d)``
    with ``d = len(names)``, and becomes a dict; items that are dicts already stay as they are. Without, items are
    points as they stand, except that numpy scalars become Python's.

    Raises CallerError for what is no iterable of points, and for a row that has not a value for each name when it comes
    to it.
    """

    def __init__(self, points: Iterable[Any], names: SequenceABC[str] | None = None) -> None:
        super().__init__()
        if isinstance(points, (Mapping, str)) or not isinstance(points, Iterable):
            raise CallerError(f"Sequence takes an iterable of points, got {points!r}; a single point goes in a list")
        if isinstance(names, str):
            raise CallerError(f"names must be a list of parameter names; write [{names!r}]")
        self._points = points
        self._names = None if names is None else tuple(names)
        #: rows of which points were made
        self._made = 0

    def _open(self) -> Iterator[Any]:
        return iter(self._points)

    def bind(self, parameters: SequenceABC[Field], outputs: SequenceABC[Field] = ()) -> None:
        """See whether the Master has the parameters that ``names`` says. Raises CallerError."""
        if self._names is not None and parameters:
            require_names(self._names, parameters, "Sequence")

    def _point(self, item: Any) -> Point:
        i, self._made = self._made, self._made + 1
        if self._names is None or isinstance(item, Mapping):
            return item.item() if isinstance(item, np.generic) else item
        row = item.tolist() if isinstance(item, (np.ndarray, np.generic)) else item
        values = tuple(row) if isinstance(row, (list, tuple)) else (row,)
        if len(values) != len(self._names):
            names = ", ".join(self._names)
            raise CallerError(
                f"point {i} of the Sequence has {len(values)} values for the parameters {names}: {item!r}"
            )
        return {
            name: value.item() if isinstance(value, np.generic) else value
            for name, value in zip(self._names, values, strict=True)
        }

    def describe(self) -> str:
        """What it is, in a few words."""
        return f"Sequence of {len(self._points)} points" if isinstance(self._points, SequenceABC) else "Sequence"


class Grid(_Stream):
    """Every combination of the parameters' values; the last parameter varies fastest.

    ``parameters`` is a Master's ``parameters``, or a mapping from names to ``(min, max)`` or to lists of values.
    ``n`` is the number of evenly spaced values, both limits included, on each axis that is bounded rather than listed:
    one number for all, one for each of those axes in order, or a mapping from their names. Choices, lists and booleans
    are used as they are, and whole-number parameters without an ``n`` take every whole number.

    Raises CallerError for a parameter without limits or ``n``, and an ``n`` below 2.
    """

    def __init__(self, parameters: Parameters, n: int | SequenceABC[int] | Mapping[str, int] | None = None) -> None:
        super().__init__()
        axes = axes_of(parameters, "Grid")
        counts = _axis_counts([axis for axis in axes if isinstance(axis, Interval)], n)
        self._names = tuple(axis.name for axis in axes)
        self._values = tuple(_axis_values(axis, counts) for axis in axes)
        #: what it asks for; of whole numbers from here to there the ends say enough
        self._asked = tuple(
            axis if isinstance(axis, Interval) and axis.whole else Levels(axis.name, tuple(values))
            for axis, values in zip(axes, self._values, strict=True)
        )

    def __len__(self) -> int:
        return math.prod(map(len, self._values))

    def bind(self, parameters: SequenceABC[Field], outputs: SequenceABC[Field] = ()) -> None:
        """See whether the Master takes the points. Raises CallerError naming what does not fit."""
        require_taken(self._asked, parameters, "Grid")

    def _open(self) -> Iterator[int]:
        return iter(range(math.prod(map(len, self._values))))

    def _point(self, row: int) -> Point:
        values = []
        for axis in reversed(self._values):
            row, at = divmod(row, len(axis))
            values.append(axis[at])
        return dict(zip(self._names, reversed(values), strict=True))

    def describe(self) -> str:
        """What it is, in a few words."""
        return f"Grid of {' × '.join(str(len(values)) for values in self._values)} points over {', '.join(self._names)}"


def _axis_counts(axes: SequenceABC[Interval], n: int | SequenceABC[int] | Mapping[str, int] | None) -> dict[str, int]:
    """How many values each bounded axis takes, as far as ``n`` says."""
    names = [axis.name for axis in axes]
    if n is None:
        return {}
    if isinstance(n, Mapping):
        for name in n:
            if name not in names:
                raise CallerError(
                    f"n gives a number of values for {name!r}, which is no bounded parameter of this Grid"
                )
        counts = dict(n)
    elif isinstance(n, int):
        counts = dict.fromkeys(names, n)
    elif len(n) == len(names):
        counts = dict(zip(names, n, strict=True))
    else:
        bounded = f"{len(names)} bounded parameters ({', '.join(names)})" if names else "no bounded parameters"
        raise CallerError(f"n gives {len(n)} numbers of values, but this Grid has {bounded}; give one number for each")
    return {name: _at_least(2, count, f"n for parameter {name!r} of a Grid") for name, count in counts.items()}


def _axis_values(axis: Axis, counts: Mapping[str, int]) -> SequenceABC[Any]:
    if not isinstance(axis, Interval):
        return axis.values
    if axis.name in counts:
        return axis.grid(counts[axis.name])
    if axis.whole:
        return range(int(axis.low), int(axis.high) + 1)
    raise CallerError(
        f"parameter {axis.name!r} goes from {axis.low:g} to {axis.high:g}: say by n how many values a Grid shall take, "
        "or list them"
    )


class _Sampler(_Stream):
    """Points of the unit cube, mapped to the parameters.

    ``parameters`` is a Master's ``parameters``, or a mapping from names to ``(min, max)`` or to lists of values; values
    are uniform over an interval, or each of a list's (or of the whole numbers') equally likely. ``n`` ends the stream
    after so many points. ``seed`` fixes it; without, it follows the run's seed, or is new each time outside of a run.
    """

    def __init__(self, parameters: Parameters, seed: int | None = None, n: int | None = None) -> None:
        super().__init__()
        self._axes = axes_of(parameters, type(self).__name__)
        self._names = tuple(axis.name for axis in self._axes)
        self._n = None if n is None else _at_least(1, n, f"n of {type(self).__name__}")
        self._own_seed = seed
        self._rng: np.random.Generator | None = None

    def seed(self, rng: np.random.Generator) -> None:
        """Take ``rng`` as the source of randomness, unless a seed of its own was given. Before the first ask.

        Raises CallerError after the first ask.
        """
        if self._stream is not None:
            raise CallerError(
                f"{type(self).__name__} has been asked already: it can be seeded before the first ask only"
            )
        self._rng = rng

    def bind(self, parameters: SequenceABC[Field], outputs: SequenceABC[Field] = ()) -> None:
        """See whether the Master takes the points. Raises CallerError naming what does not fit."""
        require_taken(self._axes, parameters, type(self).__name__)

    @abstractmethod
    def _rows(self, rng: np.random.Generator) -> _Rows:
        """Points in [0, 1)ᵈ."""

    def _open(self) -> Iterator[SequenceABC[float]]:
        rng = self._rng if self._rng is not None and self._own_seed is None else np.random.default_rng(self._own_seed)
        rows = self._rows(rng)
        rows.left = rows.left if self._n is None else min(rows.left, self._n)
        return rows

    def _point(self, row: SequenceABC[float]) -> Point:
        return {axis.name: axis.at(u) for axis, u in zip(self._axes, row, strict=True)}

    def describe(self) -> str:
        """What it is, in a few words."""
        count = "" if self._n is None else f" of {self._n} points"
        return f"{type(self).__name__}{count} over {', '.join(self._names)}"


class Random(_Sampler):
    """Independent uniform points; endless unless ``n`` is given.

    Raises CallerError for parameters without limits.
    """

    def _rows(self, rng: np.random.Generator) -> _Rows:
        return _Rows(_Uniform(rng, len(self._axes)))


class Sobol(_Sampler):
    """A scrambled Sobol sequence: fills the space far more evenly than random points; best in powers of two.

    I. M. Sobol', USSR Comp. Math. 7 (1967) 86; scrambling of J. Matoušek, J. Complexity 14 (1998) 527, by SciPy.
    At most 2³⁰ points.

    Raises CallerError for parameters without limits, and at the first ask where SciPy is not installed.
    """

    def _rows(self, rng: np.random.Generator) -> _Rows:
        return sobol_rows(len(self._axes), rng)


class Halton(_Sampler):
    """A scrambled Halton sequence: evenly filling at any number of points; for up to some ten parameters.

    J. H. Halton, Numer. Math. 2 (1960) 84; scrambling of A. B. Owen, arXiv:1706.02808 (2017), by SciPy.

    Raises CallerError for parameters without limits, and at the first ask where SciPy is not installed.
    """

    def _rows(self, rng: np.random.Generator) -> _Rows:
        return _Rows(_qmc().Halton(len(self._axes), rng=rng))


class LatinHypercube(_Sampler):
    """``n`` points of which each parameter's ``n`` equal shares get one.

    M. D. McKay, R. J. Beckman, W. J. Conover, Technometrics 21 (1979) 239, by SciPy.

    Raises CallerError for parameters without limits, ``n`` below 1, and at the first ask where SciPy is not installed.
    """

    def __init__(self, parameters: Parameters, n: int, seed: int | None = None) -> None:
        super().__init__(parameters, seed, n)

    def _rows(self, rng: np.random.Generator) -> _Rows:
        n = self._n or 1
        return _Rows(_qmc().LatinHypercube(len(self._axes), rng=rng), block=n, left=n)


class _Draws(Protocol):
    """Draws points in [0, 1)ᵈ."""

    def random(self, n: int, /) -> NDArray[np.float64]:
        """``n`` of them, ``(n, d)``."""


class _Uniform:
    """Draws independent ones."""

    def __init__(self, rng: np.random.Generator, d: int) -> None:
        self._rng = rng
        self._d = d

    def random(self, n: int, /) -> NDArray[np.float64]:
        return self._rng.random((n, self._d))


class _Rows:
    """Rows of what an engine draws, ``block`` at a time: the numbers are others where they are drawn otherwise."""

    def __init__(self, engine: _Draws, *, block: int = _BLOCK, left: float = math.inf) -> None:
        #: how many more there are
        self.left = left
        self._engine = engine
        self._block = block
        self._rows: list[SequenceABC[float]] = []
        self._at = 0

    def __iter__(self) -> _Rows:
        return self

    def __next__(self) -> SequenceABC[float]:
        if self.left <= 0:
            raise StopIteration
        if self._at == len(self._rows):
            self._rows, self._at = self._engine.random(self._block).tolist(), 0
        row = self._rows[self._at]
        self._at += 1
        self.left -= 1
        return row


def sobol_rows(d: int, rng: np.random.Generator) -> _Rows:
    """The points of a scrambled Sobol sequence in [0, 1)ᵈ. Raises CallerError where SciPy is not installed."""
    # Blocks of a power of two from the start: SciPy warns of other first draws, whatever comes after.
    return _Rows(_qmc().Sobol(d, rng=rng), left=_SOBOL_POINTS)


def _qmc() -> ModuleType:
    try:
        from scipy.stats import qmc
    except ImportError as error:
        raise CallerError(lacking("Sobol, Halton and LatinHypercube need", "scipy", "qmc", error)) from error
    module: ModuleType = qmc
    return module


def _at_least(least: int, n: object, what: str) -> int:
    if not isinstance(n, int) or isinstance(n, bool) or n < least:
        raise CallerError(f"{what} must be a whole number, at least {least}; got {n!r}")
    return n
