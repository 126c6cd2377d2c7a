"""Adaptive sampling: the learners of python-adaptive (https://adaptive.readthedocs.io) against a Master.

What is relied on of adaptive 1.x, and what is done about it here:

- Its learners are deterministic: the same calls in the same order give bitwise the same points. LearnerND's randomness
  has a fixed seed of its own, and no decision depends on the order of a set of strings. So there is no ``seed`` here.
- A point that was asked for stays *pending* until it is told. Pending points are not suggested again and the learner
  interpolates across them. This is what becomes of a **failed point**: it stays pending, as adaptive's own runner
  leaves a point whose retries are used up, so the learner works around the hole instead of asking into it again.
- Learner2D and LearnerND cannot do without the **corners** of their domain: while one is pending, Learner2D takes all
  pending values for zero and its loss for infinite, and LearnerND never looks beyond the hull of what it has. Corners
  that fail are therefore asked again, ``retries`` times, and then it is an error. Corners are the first points asked,
  so this shows in the first seconds of a run. Learner1D does without the ends of its interval.
- NaN and infinite outputs spoil its state for good (a NaN in a sorted list of losses, in Learner2D's gradients), so
  they never reach it: such a point counts as failed.
- At the resolution of floats, or where two flat triangles share an edge, it can suggest a point that it has asked for
  already. Such suggestions are skipped: no point is evaluated twice.
- With a hundred points in flight, about once in 10⁴ points, rounding puts a suggestion of LearnerND onto a pending
  point and its ``ask`` raises ValueError, having moved on. The suggestion is skipped. LearnerND is asked for one point
  at a time (the points are those of asking for many at once) so that no others go down with the error. More rarely its
  ``tell`` raises AssertionError over volumes that do not add up; that leaves it unusable and is passed on. Fewer
  points in flight avoid both.

Cost of asking and telling a point, measured: Learner1D 0.1 ms; LearnerND 1 ms in two dimensions, 5 ms in three;
Learner2D grows with the points it knows, 0.15 ms at 100, 1.3 ms at 1000, 5 ms at 4000. It rebuilds its interpolation
once every ten points, however few are asked for at a time: asking in batches saves nothing. Its ``loss`` rebuilds it
too, at 5 and 23 ms for 1000 and 4000 points, so checking a goal on the loss at every tell costs more than the rest.
Where all processors are busy, OpenBLAS's threads, which wait for each other by spinning, can make Learner2D ten times
as slow: ``OPENBLAS_NUM_THREADS=1``, or threadpoolctl's ``threadpool_limits(1)``, keep it to one, which is enough.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Collection, Mapping, Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from taskmaster.bus.errors import CallerError, EvaluationError
from taskmaster.bus.fields import Field
from taskmaster.bus.text import did_you_mean, lacking
from taskmaster.learners.axes import Interval, Parameters, axes_of
from taskmaster.learners.protocol import Point
from taskmaster.learners.record import Record, chosen_output, select

if TYPE_CHECKING:
    from adaptive import Learner1D, Learner2D, LearnerND

__all__ = ["AdaptiveLearner"]

#: A point's coordinates: the same for the Master's form of a point and for adaptive's.
Key: TypeAlias = tuple[float, ...]

#: So many suggestions in a row without a new point, and there is nothing left to ask for now.
_PATIENCE = 10

#: What LearnerND's error says when rounding puts a suggestion onto a pending point.
_ON_ANOTHER = "Point already in triangulation"


class _Wrapped(Protocol):
    """What is used of python-adaptive's learners."""

    pending_points: set[Any]

    @property
    def data(self) -> Collection[Any]: ...
    @property
    def bounds(self) -> Any: ...
    def ask(self, n: int, /) -> tuple[list[Any], list[float]]: ...
    def tell(self, point: Any, value: Any, /) -> None: ...
    def loss(self) -> float: ...


class AdaptiveLearner(Record):
    """Drives a Learner1D, Learner2D or LearnerND of python-adaptive; their ``function`` is not used and may be None.

    ``learner`` should be fresh, and from then on only be read: its ``data``, ``plot()``, ``to_dataframe()``.
    ``names`` are the parameters its dimensions stand for; without, they are the Master's, in order, or points are bare:
    a float in one dimension, else a tuple. ``output`` names the output to learn where there are several; it may be a
    vector where the learner takes one. ``retries`` is how often a corner of the domain that failed is asked again
    before :meth:`fail` raises EvaluationError; other points that fail are not asked again.

        AdaptiveLearner(adaptive.Learner2D(None, bounds=[(-2, 4), (-6, 0)]), names=["log_C", "log_gamma"])
    """

    def __init__(
        self,
        learner: Learner1D | Learner2D | LearnerND,
        names: Sequence[str] | None = None,
        output: str | None = None,
        *,
        retries: int = 2,
    ) -> None:
        super().__init__()
        adaptive = _import_adaptive()
        kinds = (adaptive.Learner1D, adaptive.Learner2D, adaptive.LearnerND)
        if not isinstance(learner, kinds) or isinstance(learner, adaptive.AverageLearner1D):
            raise CallerError(
                f"AdaptiveLearner takes a Learner1D, Learner2D or LearnerND of python-adaptive, not {learner!r}"
            )
        self._learner: _Wrapped = learner
        self._box, self._is_corner = _domain(learner, is_line=isinstance(learner, adaptive.Learner1D))
        self._is_bare_float = isinstance(learner, adaptive.Learner1D)
        self._asks_singly = isinstance(learner, adaptive.LearnerND)
        self._names = None if names is None else self._check_names(tuple(names))
        self._output = output
        self._retries = retries
        self._in_flight: dict[Key, Any] = {}
        self._failures: Counter[Key] = Counter()
        self._retry: deque[Key] = deque()
        self._shape: tuple[int, ...] | None = None
        self._is_exhausted = False
        self._loss: float | None = None

    @classmethod
    def over(cls, parameters: Parameters, output: str | None = None) -> AdaptiveLearner:
        """For these parameters: a Learner1D for one, a Learner2D for two, a LearnerND for more.

        ``parameters`` is a Master's ``parameters``, or ``{name: (min, max)}``; all must be real numbers with limits.
        """
        adaptive = _import_adaptive()
        axes = axes_of(parameters, "an adaptive learner")
        for axis in axes:
            if not isinstance(axis, Interval) or axis.whole or axis.low == axis.high:
                raise CallerError(
                    f"parameter {axis.name!r} is not a real number within limits, and an adaptive learner varies "
                    "no other; take Grid or Sobol, or a Master without this parameter"
                )
        bounds = [(axis.low, axis.high) for axis in axes if isinstance(axis, Interval)]
        kind = {1: adaptive.Learner1D, 2: adaptive.Learner2D}.get(len(bounds), adaptive.LearnerND)
        learner = kind(None, bounds=bounds[0] if len(bounds) == 1 else bounds)
        return cls(learner, [axis.name for axis in axes], output)

    @property
    def learner(self) -> Any:
        """The wrapped learner of python-adaptive."""
        return self._learner

    @property
    def npoints(self) -> int:
        """How many different points the learner knows the output of."""
        return len(self._learner.data)

    # -- the Master ---------------------------------------------------------------------------------------------------

    def bind(self, parameters: Sequence[Field], outputs: Sequence[Field] = ()) -> None:
        """Learn the Master's parameters and outputs: names for the dimensions, limits to keep.

        Raises CallerError naming both sides where dimensions and parameters, bounds and limits, or outputs do not fit.
        """
        learnt = chosen_output(outputs, self._output)
        if learnt is not None and (learnt.kind == "str" or len(learnt.shape) > 1):
            raise CallerError(
                f"{self._kind} learns a real number or a vector of them, but output {learnt.name!r} is "
                f"{learnt.describe()}; choose another with output=NAME"
            )
        if not parameters:
            return
        fields = {field.name: field for field in parameters}
        names = self._check_names(tuple(fields)) if self._names is None else self._names
        for name in names:
            if name not in fields:
                raise CallerError(f"the Master has no parameter {name!r}{did_you_mean(name, fields)}")
        left_out = [name for name in fields if name not in names]
        if left_out:
            raise CallerError(
                f"{self.describe()} leaves out {', '.join(map(repr, left_out))}, which the Master needs with each point"
            )
        for name, bounds in zip(names, self._box, strict=True):
            self._check_limits(fields[name], bounds)
        self._names = names

    def _check_names(self, names: tuple[str, ...]) -> tuple[str, ...]:
        if len(names) != len(self._box) or len(set(names)) != len(names):
            raise CallerError(
                f"{self._kind} has {len(self._box)} dimensions, which need as many parameters; got {', '.join(names)}"
            )
        return names

    def _check_limits(self, field: Field, bounds: tuple[float, float]) -> None:
        if field.kind not in ("float", "any") or field.choices or field.shape:
            raise CallerError(f"{self._kind} gives real numbers, but parameter {field.name!r} takes {field.describe()}")
        low, high = field.limits
        if not (low <= bounds[0] and bounds[1] <= high):
            raise CallerError(
                f"{self._kind} asks for {field.name!r} within [{bounds[0]:g}, {bounds[1]:g}], but the Master's "
                f"parameter {field.name!r} takes {field.describe()}; give the learner bounds within these limits"
            )

    # -- asking and telling -------------------------------------------------------------------------------------------

    def ask(self, n: int) -> list[Point]:
        """``n`` points; fewer only when the domain is resolved down to neighbouring floats."""
        keys = [self._retry.popleft() for _ in range(min(n, len(self._retry)))]
        self._in_flight.update((key, self._native(key)) for key in keys)
        patience = _PATIENCE
        while len(keys) < n and patience:
            new = self._suggest(n - len(keys))
            keys += new
            patience = _PATIENCE if new else patience - 1
        self._is_exhausted = len(keys) < n
        return [self._point(key) for key in keys]

    def _suggest(self, n: int) -> list[Key]:
        """What the learner suggests, without what is in flight, has failed or is known."""
        keys = []
        for native in self._ask_wrapped(n):
            key = _key(native)
            if native in self._learner.data:
                self._learner.pending_points.discard(native)
            elif key not in self._in_flight and key not in self._failures:
                self._in_flight[key] = native
                keys.append(key)
        return keys

    def _ask_wrapped(self, n: int) -> list[Any]:
        if not self._asks_singly:
            return self._learner.ask(n)[0]
        try:
            return self._learner.ask(1)[0]
        except ValueError as error:
            if _ON_ANOTHER not in str(error):
                raise
            return []

    def tell(self, point: Point, output: Any) -> None:
        """Learn the output of ``point``, asked for or not. One that is not finite counts as a failure of the point.

        Raises CallerError if ``output`` is nothing that the learner can learn.
        """
        value, key = self._value(output), self._key(point)
        super().tell(point, output)
        if not np.isfinite(value).all():
            self.nfailed += 1
            self._give_up(key, f"its output is {value}", None)
            return
        self._is_exhausted = False
        native = self._in_flight.pop(key, None)
        if self._failures.pop(key, 0) and key in self._retry:
            self._retry.remove(key)
        self._learner.tell(self._native(key) if native is None else native, value)
        self._loss = None

    def fail(self, point: Point, error: BaseException) -> None:
        """``point`` has no output. The learner works around it; a corner of the domain is asked again.

        Raises EvaluationError for a corner that failed more than ``retries`` times.
        """
        super().fail(point, error)
        self._give_up(self._key(point), str(error).partition("\n")[0] or type(error).__name__, error)

    def _give_up(self, key: Key, why: str, error: BaseException | None) -> None:
        self._in_flight.pop(key, None)
        self._failures[key] += 1
        if not self._is_corner(key):
            return
        if self._failures[key] > self._retries:
            raise EvaluationError(
                f"{self._kind} cannot learn without the corners of its bounds, and {self._point(key)!r} failed "
                f"{self._failures[key]} times ({why}); mend the evaluation there, or choose bounds that leave it out"
            ) from error
        if key not in self._retry:
            self._retry.append(key)

    def done(self) -> bool:
        """Whether the domain is resolved down to neighbouring floats; a Loop's goal is the usual stop."""
        return self._is_exhausted and not self._in_flight and not self._retry

    def loss(self) -> float:
        """The learner's loss over all told points: infinite at first, tends to 0. Computed once after each tell."""
        if self._loss is None:
            self._loss = float(self._learner.loss())
        return self._loss

    def best(self, *, minimize: bool = False, output: str | None = None) -> tuple[Point, float]:
        """As in Record; ``output`` defaults to the one that is learnt."""
        return super().best(minimize=minimize, output=self._output if output is None else output)

    def describe(self) -> str:
        """What it is, in a few words."""
        return f"adaptive {self._kind}" + (f" over {', '.join(self._names)}" if self._names else "")

    # -- forms of a point and of an output ----------------------------------------------------------------------------

    @property
    def _kind(self) -> str:
        return type(self._learner).__name__

    def _point(self, key: Key) -> Point:
        if self._names is not None:
            return dict(zip(self._names, key, strict=True))
        return self._native(key)

    def _native(self, key: Key) -> Any:
        return key[0] if self._is_bare_float else key

    def _key(self, point: Point) -> Key:
        try:
            key = _key([point[name] for name in self._names or ()] if isinstance(point, Mapping) else point)
        except (KeyError, TypeError, ValueError):
            key = ()
        if len(key) != len(self._box):
            over = f"of {', '.join(self._names)}" if self._names else f"of {len(self._box)} coordinates"
            raise CallerError(f"{self.describe()} was told of {point!r}, which is no point {over}")
        return key

    def _value(self, output: Any) -> NDArray[np.float64] | float:
        value = select(output, self._output)
        try:
            array = np.asarray(value)
        except ValueError:  # rows that differ in length
            array = np.empty((0, 0))
        if array.dtype.kind not in "biuf" or array.ndim > 1 or array.size == 0:
            raise CallerError(
                f"{self._kind} learns a real number or a vector of them, not {value!r}; "
                "let the Master return such an output, and name it with output=NAME if it is one of several"
            )
        if self._shape is None:
            self._shape = array.shape
        elif array.shape != self._shape:
            raise CallerError(f"{self._kind} got an output of shape {array.shape} after others of {self._shape}")
        return float(array) if array.ndim == 0 else array.astype(np.float64)


def _key(native: Any) -> Key:
    """Coordinates as Python's floats, which compare and hash as numpy's and as whole numbers do."""
    if isinstance(native, (int, float, np.integer, np.floating)):
        return (float(native),)
    return tuple(float(value) for value in native)


def _domain(learner: _Wrapped, is_line: bool) -> tuple[list[tuple[float, float]], Callable[[Key], bool]]:
    """The box around the learner's domain, and which points are corners that it needs."""
    if is_line:
        return [(float(learner.bounds[0]), float(learner.bounds[1]))], lambda key: False
    if hasattr(learner.bounds, "vertices"):  # a scipy.spatial.ConvexHull
        vertices = frozenset(map(_key, learner.bounds.points[learner.bounds.vertices]))
        return [(min(side), max(side)) for side in zip(*vertices, strict=True)], vertices.__contains__
    box = [(float(low), float(high)) for low, high in learner.bounds]
    return box, lambda key: all(value in ends for value, ends in zip(key, box, strict=True))


def _import_adaptive() -> ModuleType:
    try:
        import adaptive
    except ImportError as error:
        raise CallerError(lacking("adaptive learners need", "adaptive", "adaptive", error)) from error
    module: ModuleType = adaptive
    return module
