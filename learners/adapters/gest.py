"""gest-api (https://github.com/campa-consortium/gest-api), the interface that Xopt, Optimas and libEnsemble speak, both
ways.

:class:`GestLearner` has one of their generators choose points for a Master; :class:`LearnerGenerator` is a generator
that they can use, and that asks one of our learners.

What is relied on of gest-api 0.2, and what is done about it here:

- ``suggest(n)`` gives exactly ``n`` points or raises ValueError; then it is asked for as many as it likes, and what is
  more than wanted is kept.
- A generator that gives its points an ``_id`` gets it back with the result; what it never suggested comes without one.
  Constants, which it hands out with each point, stay here unless the Master has a parameter of that name.
- It may know nothing of points in flight: the guard of :mod:`.base` has none evaluated twice.
- There are no failures: a point that **failed** is never ingested; or, with ``failed_as_nan``, with NaN for its
  outputs.
- Generators have no seed in common. One that is made here, of a function, is given one; what draws from the generators
  that Python and NumPy share among a process is lent the run's (:class:`.base.OwnDice`).
"""

from __future__ import annotations

import inspect
import math
import weakref
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias, cast

import numpy as np

from taskmaster.bus.errors import CallerError, EvaluationError
from taskmaster.bus.fields import Field, shown
from taskmaster.bus.text import lacking
from taskmaster.learners.adapters.aims import Values
from taskmaster.learners.adapters.base import Optimizer, OwnDice
from taskmaster.learners.adapters.space import Space
from taskmaster.learners.adapters.vocs import aims_of, fields_of, outputs_of, vocs_of
from taskmaster.learners.own import find
from taskmaster.learners.protocol import Bindable, Failable, Learner, Point, Seeded, ask, describe, require
from taskmaster.learners.record import select

try:
    from gest_api.generator import Generator
    from gest_api.vocs import VOCS
except ImportError as error:
    raise CallerError(lacking("generators of gest-api need", "gest-api", "gest", error)) from error

__all__ = ["GestLearner", "LearnerGenerator", "fields_of", "generator_at", "vocs_of"]

#: A generator that is made already, or what makes one of VOCS and a seed.
GeneratorLike: TypeAlias = "Generator | Callable[[VOCS, int], Generator]"

#: Generators that a learner has asked; their points are those of a run.
_asked: weakref.WeakSet[Any] = weakref.WeakSet()

#: The key of a point's number, where a generator has them.
_ID = "_id"


# -- generators by name ------------------------------------------------------------------------------------------------


def generator_at(path: str, options: Mapping[str, Any]) -> Callable[[VOCS, int], Generator]:
    """What makes a generator of the class ``module:Class`` with these options, of VOCS and a seed. Raises CallerError;
    what the module raises when it is imported comes through.
    """
    module, _, name = path.rpartition(":" if ":" in path else ".")
    what = f"no generator can be imported from {path!r}"
    if not all([module, name, *module.split(".")]):
        raise CallerError(f"{what}: write gest:MODULE:CLASS")
    kind = find(f"{module}:{name}", f"{what}: there is no module {module!r}", called=f"gest:{path}")
    if not (isinstance(kind, type) and issubclass(kind, Generator)):
        raise CallerError(f"{path!r} is no generator of gest-api")
    takes = inspect.signature(kind).parameters
    seeded = next((name for name in ("seed", "random_seed", "random_state") if name in takes), None)

    def make(vocs: VOCS, seed: int) -> Generator:
        made: Generator = kind(vocs, **({seeded: seed} if seeded else {}) | dict(options))
        return made

    make.__name__ = name
    return make


# -- their generators as learners -------------------------------------------------------------------------------------


class GestLearner(Optimizer[Mapping[str, Any]]):
    """Asks a generator of gest-api.

    ``vocs`` are what it was made with: they say the parameters, and which outputs it is told. ``generator`` is one, or
    a function that makes one of VOCS and a seed, which is the run's. ``generations`` tells it of all points that it
    suggested together only when each has been answered, in the order of suggestion. ``repeats`` has points evaluated
    again when they are suggested again.

        GestLearner(vocs, lambda vocs, seed: UniformSample(vocs, random_seed=seed))

    Raises CallerError for VOCS that name what a Master cannot have, what is no generator, and a generator that has been
    asked for a run before.
    """

    def __init__(
        self,
        vocs: VOCS,
        generator: GeneratorLike,
        *,
        generations: bool = False,
        failed_as_nan: bool = False,
        seed: int | None = None,
        repeats: bool = False,
    ) -> None:
        if not isinstance(generator, Generator) and not callable(generator):
            raise CallerError(
                f"GestLearner takes a generator of gest-api, or what makes one of VOCS and a seed; got {generator!r}"
            )
        aims = aims_of(vocs, "GestLearner")
        super().__init__(Space(fields_of(vocs), "GestLearner"), aims, seed=seed, repeats=repeats)
        self.vocs = vocs
        if generator in _asked:
            raise CallerError(
                f"generator {type(generator).__name__} has been asked for a run before. A run is resumed by replay, "
                "which a generator goes through from its beginning: make it anew"
            )
        self._given = generator
        self._generator = generator if isinstance(generator, Generator) else None
        self._generations = generations
        self._failed_as_nan = failed_as_nan
        self._dice: OwnDice
        #: suggested and not handed out; and, in generations, what has been suggested together and how it ended
        self._ready: deque[Mapping[str, Any]] = deque()
        self._together: list[Mapping[str, Any]] = []
        self._ended: dict[int, dict[str, Any] | None] = {}
        #: what the Master returned for the points that were told, for those that are suggested again
        self._told: dict[Any, dict[str, Any]] = {}
        self._constants: dict[str, Any] = {name: constant.value for name, constant in vocs.constants.items()}
        self._passed_on: tuple[str, ...] = ()

    @property
    def generator(self) -> Generator:
        """The generator. Raises CallerError before the first ask, where it is made with the run's seed."""
        if self._generator is None:
            raise CallerError("the generator is made at the first ask, with the run's seed")
        return self._generator

    def bind(self, parameters: Sequence[Field], outputs: Sequence[Field] = ()) -> None:
        """Check that the Master takes the points, and constants that it has parameters for. Raises CallerError."""
        self._passed_on = tuple(field.name for field in parameters if field.name in self._constants)
        self.space.require_within([field for field in parameters if field.name not in self._constants])
        self.aims.require_among(outputs)
        has = [field.name for field in outputs]
        missing = [name for name in outputs_of(self.vocs) if name not in has]
        if len(has) > 1 and missing:
            raise CallerError(
                f"the Master has no output {missing[0]!r}, which the generator is to be told; it has {has}"
            )

    def finalize(self) -> None:
        """Have the generator end what it has going on; its data are complete then."""
        if self._generator is not None:
            self._generator.finalize()

    # -- gest-api -----------------------------------------------------------------------------------------------------

    def _open(self, seed: int, n: int) -> None:
        self._dice = OwnDice(seed)
        if self._generator is None and callable(self._given):
            with self._dice():
                made = self._given(self.vocs, seed)
            if not isinstance(made, Generator):
                raise CallerError(f"{self._library} made {made!r}, which is no generator of gest-api")
            self._generator = made
        _asked.add(self.generator)

    def _suggest(self) -> tuple[Mapping[str, Any], Point] | None:
        if not self._ready:
            if self._together:
                return None
            suggested = self._suggested()
            self._ready.extend(suggested)
            if self._generations:
                self._together = list(suggested)
        if not self._ready:
            return None
        suggestion = self._ready.popleft()
        passed_on = {name: self._constants[name] for name in self._passed_on}
        return suggestion, self._point(suggestion) | passed_on

    def _point(self, suggestion: Mapping[str, Any]) -> Point:
        return self.space.point(self._values(suggestion))

    def _values(self, suggestion: Mapping[str, Any]) -> dict[str, Any]:
        return {name: _plain(suggestion[name]) for name in self.space.names}

    def _suggested(self) -> list[Mapping[str, Any]]:
        with self._dice():
            try:
                suggested = self.generator.suggest(self._wanted)
            except ValueError:
                suggested = self.generator.suggest(None)
        points = suggested if isinstance(suggested, (list, tuple)) else [None]
        if not all(isinstance(one, Mapping) and all(name in one for name in self.space.names) for one in points):
            raise CallerError(
                f"suggest({self._wanted}) of {self._library} gave {shown(suggested)}: it has to give a list of dicts, "
                f"each with {', '.join(self.space.names)}"
            )
        # It may give the same dict again. And it is told that was measured where it suggested, so no point is moved.
        copied: list[Mapping[str, Any]] = [dict(cast("Mapping[str, Any]", one)) for one in points]
        for one in copied:
            self.space.require_inside(self._values(one), f"{self._library} suggested {shown(one)}")
        return copied

    def tell(self, point: Point, output: Any) -> None:
        """Learn the output of ``point``, asked for or not. One that is not finite counts as a failure of the point."""
        names = outputs_of(self.vocs)
        self._told[self.space.key(point)] = {name: _plain(select(output, name)) for name in names}
        super().tell(point, output)

    def _answer(self, suggestion: Mapping[str, Any], values: Values) -> None:
        self._ingest(suggestion, self._told[self.space.key(self._point(suggestion))])

    def _give_up(self, suggestion: Mapping[str, Any], cancelled: bool) -> None:
        self._ingest(suggestion, dict.fromkeys(outputs_of(self.vocs), math.nan) if self._failed_as_nan else None)

    def _learn(self, point: Point, values: Values) -> None:
        told = {name: point[name] for name in self.space.names} | self._constants | self._told[self.space.key(point)]
        with self._dice():
            self.generator.ingest([told])

    def _ingest(self, suggestion: Mapping[str, Any], outputs: dict[str, Any] | None) -> None:
        result = None if outputs is None else {**self._constants, **suggestion, **outputs}
        if self._generations:
            self._ended[id(suggestion)] = result
            if len(self._ended) < len(self._together):
                return
            results = [ended for one in self._together if (ended := self._ended[id(one)]) is not None]
            self._ended, self._together = {}, []
        else:
            results = [] if result is None else [result]
        if results:
            with self._dice():
                self.generator.ingest(results)

    @property
    def _library(self) -> str:
        given = self._generator or self._given
        return f"generator {getattr(given, '__name__', type(given).__name__)}"


def _plain(value: Any) -> Any:
    """A value as Python's; some generators give arrays of one where there is one variable."""
    is_single = isinstance(value, np.generic) or (isinstance(value, np.ndarray) and value.size == 1)
    return value.item() if is_single else value


# -- our learners as generators ---------------------------------------------------------------------------------------


class LearnerGenerator(Generator):  # type: ignore[misc] # gest-api has no types
    """A generator of gest-api that asks one of our learners.

    ``learner`` chooses points over ``fields_of(vocs)``; ``seed`` fixes its randomness. Each point has an ``_id``, so
    what is suggested by one learner is never taken for another's, and twice the same point not for one. A result whose
    outputs are missing (None) or NaN counts as failed.

        LearnerGenerator(vocs, Sobol(fields_of(vocs)), seed=1)

    Raises CallerError for what is no learner, or does not fit the VOCS, such as one that minimises what they maximise;
    ValueError for VOCS that name no output.
    """

    returns_id = True

    def __init__(self, vocs: VOCS, learner: Learner, *, seed: int | None = None) -> None:
        super().__init__(vocs)
        require(learner)
        self.vocs = vocs
        self.learner = learner
        _require_direction(learner, vocs)
        if isinstance(learner, Bindable):
            outputs = [Field(name) for name in outputs_of(vocs)]
            learner.bind(fields_of(vocs), outputs)
        if isinstance(learner, Seeded):
            learner.seed(np.random.default_rng(seed))
        self._constants = {name: constant.value for name, constant in vocs.constants.items()}
        self._ready: deque[Point] = deque()
        self._pending: dict[int, Point] = {}
        self._next = 0

    def _validate_vocs(self, vocs: VOCS) -> None:
        try:
            fields_of(vocs)
        except CallerError as error:
            raise ValueError(str(error)) from error
        if not outputs_of(vocs):
            raise ValueError("the VOCS name no output: a learner is told one at least")

    def suggest(self, num_points: int | None = None) -> list[dict[str, Any]]:
        """``num_points`` points, by default one. Raises ValueError where the learner has no more before it is told
        more.

        What it has given by then is handed out first at the next call.
        """
        wanted = 1 if num_points is None else num_points
        if len(self._ready) < wanted:
            self._ready.extend(ask(self.learner, wanted - len(self._ready)))
        if num_points is None:
            wanted = min(wanted, len(self._ready))
        if len(self._ready) < wanted:
            raise ValueError(
                f"{describe(self.learner)} has {len(self._ready)} points where {wanted} are wanted; "
                f"{len(self._pending)} have not been ingested: ingest them, or suggest fewer"
            )
        return [self._numbered(self._ready.popleft()) for _ in range(wanted)]

    def _numbered(self, point: Point) -> dict[str, Any]:
        number, self._next = self._next, self._next + 1
        self._pending[number] = point
        return {**point, **self._constants, _ID: number}

    def ingest(self, results: list[dict[str, Any]]) -> None:
        """Tell the learner. Raises ValueError for an ``_id`` that was not suggested, or was ingested before."""
        for result in results:
            number = result.get(_ID)
            if number is not None and int(number) not in self._pending:
                raise ValueError(
                    f"no point with _id {number} is pending: it was not suggested here, or ingested before"
                )
        for result in results:
            number = result.get(_ID)
            point = (
                {name: _plain(result[name]) for name in self.vocs.variables}
                if number is None
                else self._pending.pop(int(number))
            )
            self._tell(point, {name: _plain(result.get(name)) for name in outputs_of(self.vocs)})

    def _tell(self, point: Point, outputs: dict[str, Any]) -> None:
        missing = [name for name, value in outputs.items() if value is None or value != value]
        if not missing:
            self.learner.tell(point, next(iter(outputs.values())) if len(outputs) == 1 else outputs)
        elif isinstance(self.learner, Failable):
            self.learner.fail(point, EvaluationError(f"there is no {' and no '.join(missing)}"))

    def __repr__(self) -> str:
        return f"<generator of {describe(self.learner)}, {len(self._pending)} pending>"


def _require_direction(learner: Learner, vocs: VOCS) -> None:
    """Raise CallerError where an optimiser is after the other end of an output than the VOCS."""
    aims = dict(aims_of(vocs, "LearnerGenerator").objectives)
    only = next(iter(aims)) if len(aims) == 1 else None
    for name, more in getattr(learner, "objectives", ()):
        output = only if name is None else name
        if output in aims and aims[output] is not more:
            theirs, own = ("maximise", "minimises") if aims[output] else ("minimise", "maximises")
            raise CallerError(
                f"the VOCS {theirs} {output!r}, and the learner ({describe(learner)}) {own} it: make it with "
                f"{'maximize' if aims[output] else 'minimize'}, or choose the other objective in the VOCS"
            )
