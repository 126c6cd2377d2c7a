"""Learners made of other things: SequenceLearner, DataSaver, BalancingLearner; and which form a learner has."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import ModuleType
from typing import Any

import numpy as np

from taskmaster.bus import values
from taskmaster.bus.errors import CallerError
from taskmaster.bus.fields import Field
from taskmaster.bus.text import lacking
from taskmaster.learners.adapters.adaptive.coordinates import ON_ANOTHER, Coordinates, Integral
from taskmaster.learners.adapters.adaptive.forms import Form, Key, check_seed, whole_seed
from taskmaster.learners.adapters.adaptive.samples import SeededLine, Seeds
from taskmaster.learners.protocol import Point
from taskmaster.learners.record import select

__all__ = ["form_of", "import_adaptive"]


class Items(Form):
    """SequenceLearner: anything that is in its sequence, with its place there."""

    repeats = True  # equal values may stand at several places
    takes_anything = True

    @property
    def width(self) -> None:
        return None

    def key(self, point: Point, names: Sequence[str] | None) -> Key:
        return values.encode(point)

    def point(self, native: Any, names: Sequence[str] | None) -> Point:
        item = native[1]
        if isinstance(item, (np.generic, np.ndarray)):
            item = item.tolist()
        if names is None or isinstance(item, Mapping):
            return item
        row = tuple(item) if isinstance(item, (list, tuple)) else (item,)
        if len(row) != len(names):
            raise CallerError(f"item {native[0]} of the sequence, {item!r}, is no point of {', '.join(names)}")
        return dict(zip(names, row))

    def unasked(self, key: Key) -> Any:
        return None

    def knows(self, native: Any) -> bool:
        return native[0] in self.learner.data

    def drop(self, native: Any) -> None:
        self.learner.pending_points.discard(native[0])

    def is_done(self) -> bool:
        return bool(self.learner.done())

    def value(self, output: Any, name: str | None) -> tuple[Any, Any]:
        return (output if name is None else select(output, name)), 0.0


class Saved(Form):
    """DataSaver: the points of the learner within, which learns what is picked of the whole output."""

    takes_whole = True

    def __init__(self, learner: Any, within: Form) -> None:
        super().__init__(learner)
        self.within = within
        self.kind = f"DataSaver of {within.kind}"
        self.repeats = within.repeats
        self.takes_anything = within.takes_anything
        self.needs_all = within.needs_all

    @property
    def width(self) -> int | None:
        return self.within.width

    def key(self, point: Point, names: Sequence[str] | None) -> Key:
        return self.within.key(point, names)

    def point(self, native: Any, names: Sequence[str] | None) -> Point:
        return self.within.point(native, names)

    def unasked(self, key: Key) -> Any:
        return self.within.unasked(key)

    def ask(self, n: int) -> list[Any]:
        return self.within.ask(n)

    def knows(self, native: Any) -> bool:
        return self.within.knows(native)

    def is_needed(self, key: Key) -> bool:
        return self.within.is_needed(key)

    def forget(self, native: Any) -> None:
        self.within.forget(native)

    def drop(self, native: Any) -> None:
        self.within.drop(native)

    def is_done(self) -> bool:
        return self.within.is_done()

    @property
    def npoints(self) -> int:
        return self.within.npoints

    def check(self, fields: Sequence[Field]) -> None:
        self.within.check(fields)

    def value(self, output: Any, name: str | None) -> tuple[Any, Any]:
        whole = output if name is None else select(output, name)
        try:
            picked = self.learner.arg_picker(whole)
        except (KeyError, IndexError, TypeError, AttributeError) as error:
            raise CallerError(f"the DataSaver's arg_picker cannot pick of {whole!r}: {error!r}") from error
        return whole, self.within.value(picked, None)[1]


class Balanced(Form):
    """BalancingLearner: a learner's number and what that one asks.

    Among the Master's parameters the number stands first; or the learners' constant values (``cdims``) are parameters
    of their own.
    """

    def __init__(self, learner: Any, children: Sequence[Form]) -> None:
        super().__init__(learner)
        self.children = children
        self.kind = f"BalancingLearner of {len(children)} {children[0].kind}"
        self.repeats = children[0].repeats
        self.takes_whole = children[0].takes_whole
        self.constants = _constants(learner._cdims_default, len(children))

    @property
    def width(self) -> int | None:
        width = self.children[0].width
        return None if width is None else width + len(self._own_names(("",)))

    def _own_names(self, names: Sequence[str]) -> Sequence[str]:
        """The parameters that say which learner it is."""
        return tuple(self.constants[0]) if self.constants else names[:1]

    def _child_names(self, names: Sequence[str] | None) -> Sequence[str] | None:
        return None if names is None else [name for name in names if name not in self._own_names(names)]

    def key(self, point: Point, names: Sequence[str] | None) -> Key:
        if names is None or not isinstance(point, Mapping):
            number, child = point
        else:
            own = {name: point[name] for name in self._own_names(names)}
            number = self.constants.index(own) if self.constants else next(iter(own.values()))
            child = {name: value for name, value in point.items() if name not in own}
        number = whole_seed(float(number))
        return number, self.children[number].key(child, self._child_names(names))

    def point(self, native: Any, names: Sequence[str] | None) -> Point:
        number, child = int(native[0]), native[1]
        within = self.children[number].point(child, self._child_names(names))
        if names is None:
            return number, within
        own = self.constants[number] if self.constants else {names[0]: number}
        return {name: (own | within)[name] for name in names}

    def unasked(self, key: Key) -> Any:
        native = self.children[key[0]].unasked(key[1])
        return None if native is None else (key[0], native)

    def ask(self, n: int) -> list[Any]:
        # One by one: an error of one of them, which is skipped, would take with it what others were asked.
        try:
            return [(int(number), native) for number, native in super().ask(1)]
        except ValueError as error:
            if ON_ANOTHER not in str(error):
                raise
            return []

    def _child(self, number: int) -> Form:
        return self.children[number]

    def knows(self, native: Any) -> bool:
        return self._child(native[0]).knows(native[1])

    def is_needed(self, key: Key) -> bool:
        return self._child(key[0]).is_needed(key[1])

    def forget(self, native: Any) -> None:
        self._child(native[0]).forget(native[1])

    @property
    def npoints(self) -> int:
        return sum(child.npoints for child in self.children)

    def check(self, fields: Sequence[Field]) -> None:
        own = self._own_names([field.name for field in fields])
        missing = [name for name in own if name not in [field.name for field in fields]]
        if missing:
            raise CallerError(f"the Master has no parameter {missing[0]!r}, which tells the learners from each other")
        if not self.constants:
            check_seed(self.kind, fields[0], len(self.children) - 1)
        for child in self.children:
            child.check([field for field in fields if field.name not in own])

    def value(self, output: Any, name: str | None) -> tuple[Any, Any]:
        return self.children[0].value(output, name)


# -- which one --------------------------------------------------------------------------------------------------------


def form_of(learner: Any) -> Form:
    """The form of this learner of python-adaptive. Raises CallerError for anything else."""
    adaptive = import_adaptive()
    if isinstance(learner, adaptive.DataSaver):
        return Saved(learner, form_of(learner.learner))
    if isinstance(learner, adaptive.BalancingLearner):
        children = [form_of(child) for child in learner.learners]
        for child in children:
            within = child.within if isinstance(child, Saved) else child
            if not isinstance(within, (Coordinates, Seeds)) or isinstance(within, Integral):
                raise CallerError(
                    "adaptive's BalancingLearner balances Learner1D, Learner2D, LearnerND and AverageLearner, and "
                    f"DataSavers of these; not {child.kind}. taskmaster.learners.Balancing balances any learners"
                )
        return Balanced(learner, children)
    if isinstance(learner, adaptive.AverageLearner1D):
        return SeededLine(learner)
    kinds: tuple[tuple[str, Callable[[Any], Form]], ...] = (
        ("Learner1D", lambda one: Coordinates(one, adaptive)),
        ("Learner2D", lambda one: Coordinates(one, adaptive)),
        ("LearnerND", lambda one: Coordinates(one, adaptive)),
        ("IntegratorLearner", lambda one: Integral(one, adaptive)),
        ("AverageLearner", Seeds),
        ("SequenceLearner", Items),
    )
    for name, make in kinds:
        if isinstance(learner, getattr(adaptive, name)):
            return make(learner)
    raise CallerError(f"AdaptiveLearner takes a learner of python-adaptive, not {learner!r}")


def import_adaptive() -> ModuleType:
    """The library. Raises CallerError saying what to install."""
    try:
        import adaptive
    except ImportError as error:
        raise CallerError(lacking("adaptive learners need", "adaptive", "adaptive", error)) from error
    module: ModuleType = adaptive
    return module


def _constants(cdims: Any, n: int) -> list[dict[str, Any]]:
    """adaptive's constant dimensions, one dict for each learner, from either form that it takes."""
    if cdims is None:
        return []
    if isinstance(cdims, tuple) and len(cdims) == 2:
        keys, rows = cdims
        cdims = [dict(zip(keys, row, strict=True)) for row in rows]
    constants = [dict(one) for one in cdims]
    if len(constants) != n or not all(one.keys() == constants[0].keys() for one in constants):
        raise CallerError(f"the BalancingLearner's cdims must be as many as its learners, {n}, with the same names")
    return constants
