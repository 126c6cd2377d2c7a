"""The learner that drives one of python-adaptive's; what is relied on of them is said in the package's docstring."""

from __future__ import annotations

import math
import os
from collections import Counter, deque
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np

from taskmaster.bus.errors import CallerError, EvaluationError
from taskmaster.bus.fields import Field
from taskmaster.bus.text import count, did_you_mean
from taskmaster.learners.adapters.adaptive.composite import form_of, import_adaptive
from taskmaster.learners.adapters.adaptive.forms import Key
from taskmaster.learners.axes import Interval, Parameters, axes_of
from taskmaster.learners.protocol import Point
from taskmaster.learners.record import Record, chosen_output

__all__ = ["AdaptiveLearner"]

#: A file; of several learners one for each, or what makes its name of a learner.
Files: TypeAlias = "str | os.PathLike[str] | Sequence[str | os.PathLike[str]] | Callable[[Any], str | os.PathLike[str]]"

#: So many suggestions in a row without a new point, and there is nothing left to ask for now.
_PATIENCE = 10


class AdaptiveLearner(Record):
    """Drives a learner of python-adaptive; their ``function`` is not used and may be None.

    ``learner`` should be fresh (or hold what :meth:`load` brought), and from then on only be read: its ``data``,
    ``to_dataframe()``. ``names`` are the parameters its dimensions stand for; without, they are the Master's, in order,
    or points are adaptive's own: a float in one dimension, a tuple in more. ``output`` names the output to learn where
    there are several; it may be a vector where the learner takes one. ``retries`` is how often a point that the learner
    cannot do without (a corner of the domain) and that failed is asked again before :meth:`fail` raises
    EvaluationError; other points that fail are not asked again.

        AdaptiveLearner(adaptive.Learner2D(None, bounds=[(-2, 4), (-6, 0)]), names=["log_C", "log_gamma"])

    =====================  ==========================================================================================
    learner                a point has, in the order of ``names``
    =====================  ==========================================================================================
    Learner1D, 2D, ND      its coordinates
    IntegratorLearner      its coordinate
    AverageLearner         a seed: 0, 1, 2, …
    AverageLearner1D       a seed and a coordinate; or the coordinate alone, where what is measured is noisy by itself
    SequenceLearner        the item: a dict, or values for the names
    BalancingLearner       the learner's number, or the constants of its ``cdims``, and that learner's
    DataSaver              those of the learner within; its ``arg_picker`` gets the whole output
    =====================  ==========================================================================================

    Raises CallerError for what is no learner of adaptive, and names that are not as many as its dimensions.
    """

    def __init__(
        self,
        learner: Any,
        names: Sequence[str] | None = None,
        output: str | None = None,
        *,
        retries: int = 2,
    ) -> None:
        super().__init__()
        self._form = form_of(learner)
        self._names = None if names is None else self._check_names(tuple(names))
        self._output = output
        self._retries = retries
        self._in_flight: dict[Key, deque[Any]] = {}
        self._failures: Counter[Key] = Counter()
        self._retry: deque[tuple[Key, Any]] = deque()
        self._shape: tuple[int, ...] | None = None
        self._is_exhausted = False
        self._loss: float | None = None

    @classmethod
    def over(
        cls, parameters: Parameters, output: str | None = None, make: Callable[[Any], Any] | None = None
    ) -> AdaptiveLearner:
        """For these parameters: a Learner1D for one, a Learner2D for two, a LearnerND for more; or what ``make`` makes.

        ``parameters`` is a Master's ``parameters``, or ``{name: (min, max)}``; all must be real numbers with limits.
        ``make`` gets the bounds: one pair for one parameter, else a list of pairs.
        """
        axes = axes_of(parameters, "an adaptive learner")
        for axis in axes:
            if not isinstance(axis, Interval) or axis.whole or axis.low == axis.high:
                raise CallerError(
                    f"parameter {axis.name!r} is not a real number within limits, and an adaptive learner varies "
                    "no other; take Grid or Sobol, or a Master without this parameter"
                )
        bounds = [(axis.low, axis.high) for axis in axes if isinstance(axis, Interval)]
        given = bounds[0] if len(bounds) == 1 else bounds
        if make is None:
            adaptive = import_adaptive()
            kind = {1: adaptive.Learner1D, 2: adaptive.Learner2D}.get(len(bounds), adaptive.LearnerND)
            return cls(kind(None, bounds=given), [axis.name for axis in axes], output)
        return cls(make(given), [axis.name for axis in axes], output)

    @property
    def learner(self) -> Any:
        """The wrapped learner of python-adaptive."""
        return self._form.learner

    @property
    def npoints(self) -> int:
        """How many different points the learner knows the output of; of averaging ones, how many samples."""
        return self._form.npoints

    # -- what is adaptive's -------------------------------------------------------------------------------------------

    def plot(self, *arguments: Any, **options: Any) -> Any:
        """adaptive's own plot of what is known, for a notebook; needs holoviews."""
        return self.learner.plot(*arguments, **options)

    def save(self, file: Files, compress: bool = True) -> None:
        """Write what is known to a file, as adaptive does; its learners read it, and :meth:`load`.

        Of a BalancingLearner to a file for each of its learners: a list of them, or a function of the learner.
        Raises CallerError for as many files as it does not write, OSError.
        """
        self._save_or_load(self.learner.save, self._files(file), compress)

    def load(self, file: Files, compress: bool = True) -> None:
        """Begin with what adaptive or :meth:`save` has written. Raises CallerError after the first ask.

        A run does not need it for being resumed: that is done by replay. Raises FileNotFoundError for a file that is
        not there, where adaptive would begin with nothing.
        """
        if self._in_flight or self.data:
            raise CallerError(
                "what was saved can be loaded before the first ask only: it would not be in the run's record"
            )
        files = self._files(file)
        for name in files:
            os.stat(name)
        self._save_or_load(self.learner.load, files, compress)
        self._loss = None

    def _save_or_load(self, how: Callable[..., Any], files: list[str], compress: bool) -> None:
        how(files if self._several is not None else files[0], compress=compress)

    @property
    def _several(self) -> Sequence[Any] | None:
        """The learners of a BalancingLearner, of which adaptive keeps each in a file of its own."""
        return self.learner.learners if isinstance(self.learner, import_adaptive().BalancingLearner) else None

    def _files(self, file: Files) -> list[str]:
        """One, or one for each of several learners. Raises CallerError."""
        several = self._several
        if callable(file):
            return [os.fspath(file(learner)) for learner in ([self.learner] if several is None else several)]
        files = [file] if isinstance(file, (str, os.PathLike)) else list(file)
        wanted = 1 if several is None else len(several)
        if len(files) != wanted:
            raise CallerError(
                f"{self._kind} is kept in {count(wanted, 'file')}, "
                + ("which is named" if several is None else "one for each of its learners: name them in a list")
                + f"; got {file!r}"
            )
        return [os.fspath(name) for name in files]

    # -- the Master ---------------------------------------------------------------------------------------------------

    def bind(self, parameters: Sequence[Field], outputs: Sequence[Field] = ()) -> None:
        """Learn the Master's parameters and outputs: names for the dimensions, limits to keep.

        Raises CallerError naming both sides where dimensions and parameters, bounds and limits, or outputs do not fit.
        """
        if not self._form.takes_anything:
            self._check_outputs(outputs)
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
        self._form.check([fields[name] for name in names])
        self._names = names

    def _check_outputs(self, outputs: Sequence[Field]) -> None:
        if self._form.takes_whole and self._output is None:
            return
        learnt = chosen_output(outputs, self._output)
        if learnt is not None and (learnt.kind == "str" or len(learnt.shape) > 1):
            raise CallerError(
                f"{self._kind} learns a real number or a vector of them, but output {learnt.name!r} is "
                f"{learnt.describe()}; choose another with output=NAME"
            )

    def _check_names(self, names: tuple[str, ...]) -> tuple[str, ...]:
        width = self._form.width
        if width not in (None, len(names)) or len(set(names)) != len(names):
            raise CallerError(
                f"{self._kind} has {width} dimensions, which need as many parameters; got {', '.join(names)}"
            )
        return names

    # -- asking and telling -------------------------------------------------------------------------------------------

    def ask(self, n: int) -> list[Point]:
        """``n`` points; fewer only when the domain is resolved down to neighbouring floats, or all is told."""
        points = []
        for _ in range(min(n, len(self._retry))):
            key, native = self._retry.popleft()
            self._in_flight.setdefault(key, deque()).append(native)
            points.append(self._form.point(native, self._names))
        patience = _PATIENCE
        while len(points) < n and patience and not self._form.is_done():
            new = self._suggest(n - len(points))
            points += new
            patience = _PATIENCE if new else patience - 1
        self._is_exhausted = len(points) < n
        return points

    def _suggest(self, n: int) -> list[Point]:
        """What the learner suggests, without what is in flight, has failed or is known."""
        new: list[Point] = []
        for native in self._form.ask(n):
            if self._form.knows(native):
                self._form.forget(native)
                continue
            point = self._form.point(native, self._names)
            key = self._form.key(point, self._names)
            if self._form.repeats or (key not in self._in_flight and key not in self._failures):
                self._in_flight.setdefault(key, deque()).append(native)
                new.append(point)
        return new

    def tell(self, point: Point, output: Any) -> None:
        """Learn the output of ``point``, asked for or not. One that is not finite counts as a failure of the point.

        Raises CallerError if ``output`` is nothing that the learner can learn.
        """
        value, number = self._form.value(output, self._output)
        self._require_shape(number)
        key = self._key(point)
        super().tell(point, output)
        if not (math.isfinite(number) if type(number) is float else np.isfinite(number).all()):
            self.nfailed += 1
            self._give_up(key, f"its output is {number}", None)
            return
        self._is_exhausted = False
        native = self._taken(key)
        if self._failures.pop(key, 0):
            self._retry = deque(waiting for waiting in self._retry if waiting[0] != key)
        if native is None:
            native = self._form.unasked(key)
        if native is not None:
            self.learner.tell(native, value)
        self._loss = None

    def fail(self, point: Point, error: BaseException) -> None:
        """``point`` has no output. The learner works around it; a point that it needs is asked again.

        Raises EvaluationError for one that it needs that failed more than ``retries`` times.
        """
        super().fail(point, error)
        self._give_up(self._key(point), str(error).partition("\n")[0] or type(error).__name__, error)

    def _give_up(self, key: Key, why: str, error: BaseException | None) -> None:
        native = self._taken(key)
        if not self._form.is_needed(key):
            if not self._form.repeats:
                self._failures[key] += 1
            if native is not None:
                self._form.drop(native)
            return
        self._failures[key] += 1
        native = self._form.unasked(key) if native is None else native
        if self._failures[key] > self._retries:
            raise EvaluationError(
                f"{self._kind} cannot learn without {self._what_it_needs}, and "
                f"{self._form.point(native, self._names)!r} failed {self._failures[key]} times ({why}); "
                "mend the evaluation there, or choose bounds that leave it out"
            ) from error
        if native is not None and all(waiting[0] != key for waiting in self._retry):
            self._retry.append((key, native))

    def _taken(self, key: Key) -> Any:
        """The native point in flight that this is; None if it was not asked for."""
        waiting = self._in_flight.get(key)
        if waiting is None:
            return None
        native = waiting.popleft()
        if not waiting:
            del self._in_flight[key]
        return native

    def done(self) -> bool:
        """Whether it has reached its own end, or can resolve the domain no further; a Loop's goal is the usual stop."""
        if self._in_flight or self._retry:
            return False
        return self._is_exhausted or self._form.is_done()

    def loss(self) -> float:
        """The learner's loss over all told points: infinite at first, tends to 0. Computed once after each tell."""
        if self._loss is None:
            self._loss = float(self.learner.loss())
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
        return self._form.kind

    @property
    def _what_it_needs(self) -> str:
        return "the points it asks for" if self._form.needs_all else "the corners of its bounds"

    def _key(self, point: Point) -> Key:
        try:
            return self._form.key(point, self._names)
        except (KeyError, TypeError, ValueError, IndexError):
            width = self._form.width
            over = f"of {', '.join(self._names)}" if self._names else f"of {width or 'its'} coordinates"
            raise CallerError(f"{self.describe()} was told of {point!r}, which is no point {over}") from None

    def _require_shape(self, number: Any) -> None:
        shape = () if type(number) is float else np.shape(number)
        if self._shape is None:
            self._shape = shape
        elif shape != self._shape:
            raise CallerError(f"{self._kind} got an output of shape {shape} after others of {self._shape}")
