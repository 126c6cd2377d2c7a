"""A Master's parameters as coordinates of a unit cube, where distances mean something.

Real numbers fill an edge, linearly or by their logarithm. Whole numbers and listed numbers lie on an edge at equal
distances. Anything else that is listed gets an axis for each of its values, at equal distances from one another
("one-hot"), which share one length scale. A point that the search proposes is moved to the nearest that exists before
the model looks at it: the model then is as flat between the values as the function is (E. C. Garrido-Merchán,
D. Hernández-Lobato, Neurocomputing 380 (2020) 20).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from taskmaster.bus.errors import CallerError
from taskmaster.bus.fields import Field
from taskmaster.bus.text import did_you_mean_or
from taskmaster.learners.axes import Axis, Interval, Parameters, axes_of, distinct, require_taken
from taskmaster.learners.protocol import Point

__all__ = ["Floats", "Ints", "Key", "Space"]

Floats: TypeAlias = NDArray[np.float64]
Ints: TypeAlias = NDArray[np.intp]
#: A point's values in the order of the parameters: equal for equal points, also after they have travelled.
Key: TypeAlias = tuple[Any, ...]


class _Edge(Protocol):
    """One parameter."""

    name: str

    @property
    def columns(self) -> int:
        """Coordinates that it takes."""

    @property
    def count(self) -> float:
        """How many values it has."""

    def encode(self, value: Any) -> Sequence[float]:
        """The coordinates of a value. Raises ValueError or TypeError for what is none."""

    def decode(self, code: Floats) -> Any:
        """The value nearest to ``code``, of shape ``(columns,)``."""

    def values(self, codes: Floats) -> NDArray[Any]:
        """The values, ``(n,)``, at coordinates ``(n, columns)``, to a rounding."""

    def spread(self, u: Floats) -> Floats:
        """Coordinates, ``(n, columns)``, for numbers ``(n,)`` in [0, 1): evenly over all values."""

    def snap(self, codes: Floats) -> Floats:
        """The coordinates, ``(n, columns)``, of the values nearest to ``codes``."""

    def near(self, code: Floats) -> Floats:
        """Coordinates, ``(n, columns)``, of the values beside the one at ``code``; none where there is a slope."""


class _Real:
    """Real numbers, evenly or by their logarithm."""

    columns = 1
    count = math.inf

    def __init__(self, axis: Interval, log: bool) -> None:
        self.name = axis.name
        self._axis = axis
        self._log = log
        self._low, self._high = (math.log(axis.low), math.log(axis.high)) if log else (axis.low, axis.high)

    def encode(self, value: Any) -> Sequence[float]:
        number = math.log(value) if self._log else float(value)
        if not math.isfinite(number):
            raise ValueError("it is not finite")
        return ((number / 2 - self._low / 2) / (self._high / 2 - self._low / 2),)

    def decode(self, code: Floats) -> float:
        u = min(max(float(code[0]), 0.0), 1.0)
        if not self._log:
            return self._axis.at(u)
        return min(max(math.exp((1.0 - u) * self._low + u * self._high), self._axis.low), self._axis.high)

    def values(self, codes: Floats) -> NDArray[Any]:
        values = self._low + codes[:, 0] * (self._high - self._low)
        return np.exp(values) if self._log else values

    def spread(self, u: Floats) -> Floats:
        return u[:, None]

    def snap(self, codes: Floats) -> Floats:
        return np.clip(codes, 0.0, 1.0)

    def near(self, code: Floats) -> Floats:
        return np.empty((0, 1))


class _Steps:
    """Numbers at equal distances: the whole ones of an interval, or a list of them."""

    columns = 1

    def __init__(self, name: str, values: Sequence[Any]) -> None:
        self.name = name
        self._values = values
        self._index = {} if isinstance(values, range) else {value: i for i, value in enumerate(values)}

    @property
    def count(self) -> float:
        return len(self._values)

    def encode(self, value: Any) -> Sequence[float]:
        if not isinstance(self._values, range):
            return ((self._index[value] + 0.5) / len(self._values),)
        return ((float(value) - self._values.start + 0.5) / len(self._values),)

    def decode(self, code: Floats) -> Any:
        return self._values[int(min(max(math.floor(code[0] * len(self._values)), 0), len(self._values) - 1))]

    def values(self, codes: Floats) -> NDArray[Any]:
        n = len(self._values)
        which = np.clip(np.floor(codes[:, 0] * n), 0, n - 1).astype(np.intp)
        return which + self._values.start if isinstance(self._values, range) else np.array(self._values)[which]

    def spread(self, u: Floats) -> Floats:
        return self.snap(u[:, None])

    def snap(self, codes: Floats) -> Floats:
        n = len(self._values)
        return np.asarray((np.clip(np.floor(codes * n), 0, n - 1) + 0.5) / n)

    def near(self, code: Floats) -> Floats:
        n = len(self._values)
        beside: Floats = code[0] + np.array([[-1.0], [1.0]]) / n
        return beside[(beside[:, 0] > 0) & (beside[:, 0] < 1)]


class _Kinds:
    """Values without an order."""

    #: Two different ones are at distance one.
    _ON = math.sqrt(0.5)

    def __init__(self, name: str, values: Sequence[Any]) -> None:
        self.name = name
        self.columns = len(values)
        self._values = values

    @property
    def count(self) -> float:
        return len(self._values)

    def encode(self, value: Any) -> Sequence[float]:
        at = self._values.index(value)
        return [self._ON * (i == at) for i in range(self.columns)]

    def decode(self, code: Floats) -> Any:
        return self._values[int(np.argmax(code))]

    def values(self, codes: Floats) -> NDArray[Any]:
        values: NDArray[Any] = np.array(self._values, dtype=object)[np.argmax(codes, axis=1)]
        return values

    def spread(self, u: Floats) -> Floats:
        return self._on((u * self.columns).astype(np.intp))

    def snap(self, codes: Floats) -> Floats:
        return self._on(np.argmax(codes, axis=1))

    def near(self, code: Floats) -> Floats:
        return self._on(np.delete(np.arange(self.columns), np.argmax(code)))

    def _on(self, which: Ints) -> Floats:
        """The coordinates, ``(n, columns)``, of the values ``which``, ``(n,)``."""
        codes: Floats = self._ON * np.eye(self.columns)[which]
        return codes


class Space:
    """The parameters of a Master, or ``{name: (min, max)}``; ``log`` names those that vary by orders of magnitude."""

    def __init__(self, parameters: Parameters, learner: str, log: str | Collection[str] = ()) -> None:
        axes = distinct(axes_of(parameters, learner))
        self._axes = axes
        log = [log] if isinstance(log, str) else log
        self.names = tuple(axis.name for axis in axes)
        for name in log:
            if name not in self.names:
                raise CallerError(f"{learner} has no parameter {name!r}{did_you_mean_or(name, self.names)}")
        #: values of those that have one only
        self._fixed = {axis.name: value for axis in axes if (value := _only(axis)) is not _VARIES}
        self._edges = tuple(_edge(axis, axis.name in log, learner) for axis in axes if axis.name not in self._fixed)
        stops = np.cumsum([0, *(edge.columns for edge in self._edges)]).tolist()
        self._slices = tuple(slice(start, stop) for start, stop in itertools.pairwise(stops))
        #: coordinates of a point
        self.columns: int = stops[-1]
        #: to which parameter each coordinate belongs, ``(columns,)``
        self.groups: Ints = np.repeat(np.arange(len(self._edges)), [edge.columns for edge in self._edges])
        #: coordinates along which there are slopes, ``(columns,)``
        self.smooth = np.array([isinstance(self._edges[k], _Real) for k in self.groups], dtype=bool)
        #: how many points there are
        self.size: float = math.prod(edge.count for edge in self._edges)
        self._owner = learner

    def require_within(self, parameters: Sequence[Field]) -> None:
        """Raise CallerError where a Master with these ``parameters`` would not take points of this space."""
        require_taken(self._axes, parameters, self._owner)

    def key(self, point: Point) -> Key:
        """The values of ``point`` in order. Raises CallerError if it is no point of these parameters."""
        if not isinstance(point, Mapping) or point.keys() != set(self.names):
            raise CallerError(f"{self._owner} was told of {point!r}, which is no point of {', '.join(self.names)}")
        return tuple(point[name] for name in self.names)

    def encode(self, point: Point) -> Floats:
        """The coordinates, ``(columns,)``, of ``point``. Raises CallerError if it is no point of this space."""
        code = np.empty(self.columns)
        for edge, columns in zip(self._edges, self._slices):
            try:
                code[columns] = edge.encode(point[edge.name])
            except (KeyError, ValueError, TypeError, ArithmeticError):
                value = point[edge.name]
                raise CallerError(f"{self._owner} cannot learn from {value!r} for parameter {edge.name!r}") from None
        return code

    def decode(self, code: Floats) -> Point:
        """The point nearest to coordinates ``(columns,)``."""
        values = dict(self._fixed)
        for edge, columns in zip(self._edges, self._slices):
            values[edge.name] = edge.decode(code[columns])
        return {name: values[name] for name in self.names}

    def table(self, codes: Floats) -> dict[str, NDArray[Any]]:
        """The values at ``codes``, ``(n, columns)``: a column, ``(n,)``, for each parameter, to a rounding."""
        columns = {name: np.array([value] * len(codes)) for name, value in self._fixed.items()}
        columns.update((edge.name, edge.values(codes[:, s])) for edge, s in zip(self._edges, self._slices))
        return columns

    @property
    def numbers(self) -> dict[str, bool]:
        """Which of the parameters are numbers, by their names."""
        kinds = {edge.name: not isinstance(edge, _Kinds) for edge in self._edges}
        return {name: kinds.get(name, _is_number(self._fixed.get(name))) for name in self.names}

    @property
    def varied(self) -> int:
        """How many parameters have more than one value."""
        return len(self._edges)

    def spread(self, u: Floats) -> Floats:
        """Points, ``(n, columns)``, for ``u``, ``(n, varied)``, in [0, 1): evenly over all there are."""
        return np.concatenate([np.empty((len(u), 0)), *(e.spread(u[:, k]) for k, e in enumerate(self._edges))], axis=1)

    def all(self) -> Iterator[Floats]:
        """Every point, ``(columns,)``, of a space that has so many only."""
        for index in itertools.product(*(range(int(edge.count)) for edge in self._edges)):
            u = (np.array([index]) + 0.5) / np.array([edge.count for edge in self._edges])
            yield self.spread(u)[0]

    def snap(self, codes: Floats) -> Floats:
        """The coordinates, ``(n, columns)``, of the points nearest to ``codes``."""
        snapped = np.empty_like(codes)
        for edge, columns in zip(self._edges, self._slices):
            snapped[:, columns] = edge.snap(codes[:, columns])
        return snapped

    def near(self, code: Floats) -> Floats:
        """Points, ``(n, columns)``, that differ from ``code`` by a step of one parameter that goes in steps."""
        rows = [np.empty((0, self.columns))]
        for edge, columns in zip(self._edges, self._slices):
            beside = edge.near(code[columns])
            block = np.tile(code, (len(beside), 1))
            block[:, columns] = beside
            rows.append(block)
        return np.concatenate(rows)


_VARIES = object()


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _only(axis: Axis) -> Any:
    """The value of a parameter that has no other."""
    if isinstance(axis, Interval):
        return axis.at(0.0) if axis.low == axis.high else _VARIES
    return axis.values[0] if len(axis.values) == 1 else _VARIES


def _edge(axis: Axis, log: bool, learner: str) -> _Edge:
    if log and not (isinstance(axis, Interval) and not axis.whole and axis.low > 0):
        raise CallerError(
            f"{learner} varies parameter {axis.name!r} by its logarithm, for which it has to be a real number within "
            "limits above 0"
        )
    if isinstance(axis, Interval):
        return _Steps(axis.name, range(int(axis.low), int(axis.high) + 1)) if axis.whole else _Real(axis, log)
    if all(map(_is_number, axis.values)):
        return _Steps(axis.name, sorted(set(axis.values)))
    return _Kinds(axis.name, axis.values)
