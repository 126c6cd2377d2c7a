"""The columns of a run's table: which there are, of what kind, and their values batch by batch.

They follow from what was recorded, not from today's configuration, which may declare something else by now. So a run is
read twice, unless rows speak for themselves: first for what its columns are, then for what is in them. Only where
nothing was recorded, as of the outputs of a run without a success, do they follow from what is declared.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from taskmaster.bus.fields import Field
from taskmaster.bus.table import Layout, Part, Table
from taskmaster.learners.export.pages import Batch

__all__ = ["FIRST", "LAST", "Column", "Columns", "Kind", "Survey", "Values", "column_names"]

#: Columns of every table, before and after those of inputs and outputs.
FIRST = ("index", "seq")
LAST = ("outcome", "error", "worker", "attempt", "started", "finished")
#: What a column is called whose values have no name: those of a Master that declares nothing.
UNNAMED = {"input": "input", "output": "output"}

#: A batch's values of one column: an array if every row has a number, else a list with None where there is nothing.
Values: TypeAlias = NDArray[Any] | list[Any]

#: numpy's kind of dtype → ours
_NUMPY = {"b": "bool", "i": "int", "u": "int", "f": "float", "U": "str"}


@dataclass(frozen=True)
class Kind:
    """What a column holds: ``bool``, ``int``, ``float``, ``str``, or ``json`` for anything else.

    ``shape`` is that of each value, ``()`` for scalars; a side is -1 where values differ in it.
    """

    name: str
    shape: tuple[int, ...] = ()

    def joined(self, other: Kind) -> Kind:
        """The kind of a column that holds both."""
        if self == other:
            return self
        names = {self.name, other.name}
        if len(self.shape) != len(other.shape) or (len(names) > 1 and names != {"int", "float"}):
            return JSON
        shape = tuple(a if a == b else -1 for a, b in zip(self.shape, other.shape))
        return Kind(self.name if len(names) == 1 else "float", shape)


JSON = Kind("json")


@dataclass(frozen=True)
class Column:
    """One column of inputs or outputs: what it is called in the table, and in the Master."""

    name: str
    role: str
    source: str
    kind: Kind


def column_names(inputs: Iterable[str], outputs: Iterable[str]) -> tuple[dict[str, str], dict[str, str]]:
    """What the columns of these inputs and outputs are called: as they are, unless that is taken.

    A name that an input or output shares with another, or with a fixed column, becomes ``input.NAME``, ``output.NAME``.
    """
    given = {"input": list(inputs), "output": list(outputs)}
    taken = [*FIRST, *LAST, *(name or UNNAMED[role] for role, names in given.items() for name in names)]

    def named(role: str, name: str) -> str:
        plain = name or UNNAMED[role]
        return f"{role}.{plain}" if taken.count(plain) > 1 else plain

    named_inputs, named_outputs = ({name: named(role, name) for name in names} for role, names in given.items())
    return named_inputs, named_outputs


@dataclass
class Survey:
    """Gathers what the columns of a run are."""

    #: kinds by name; None where no value was seen yet
    inputs: dict[str, Kind | None] = field(default_factory=dict)
    outputs: dict[str, Kind | None] = field(default_factory=dict)
    #: tasks that have an outcome
    rows: int = 0
    _layouts: set[tuple[str, Layout]] = field(default_factory=set)

    def look(self, batch: Batch) -> None:
        """Take a batch into account."""
        self.rows += batch.head.n
        self._look(self.inputs, "input", batch.inputs)
        if batch.outputs is not None:
            self._look(self.outputs, "output", batch.outputs)

    def expect(self, inputs: Iterable[Field], outputs: Iterable[Field]) -> None:
        """Have the columns that are declared where none were seen, so that whoever reads the table finds them."""
        for kinds, declared in ((self.inputs, inputs), (self.outputs, outputs)):
            if not kinds:
                kinds.update((field.name, _kind_of_field(field)) for field in declared)

    def _look(self, kinds: dict[str, Kind | None], role: str, table: Table) -> None:
        if (role, table.layout) in self._layouts:
            return
        for part in table.layout.parts:
            for name in part.names:
                kinds.setdefault(name, None)
                for kind in _kinds(part, table):
                    kinds[name] = kind.joined(kinds[name] or kind)
        if not any(part.is_objects for part in table.layout.parts):
            self._layouts.add((role, table.layout))

    def columns(self) -> Columns:
        """The table's columns."""
        inputs, outputs = column_names(self.inputs, self.outputs)
        return Columns(
            [Column(inputs[name], "input", name, kind or JSON) for name, kind in self.inputs.items()],
            [Column(outputs[name], "output", name, kind or JSON) for name, kind in self.outputs.items()],
        )


def _kind_of_field(field: Field) -> Kind:
    return JSON if field.kind == "any" or (field.kind == "str" and field.shape) else Kind(field.kind, field.shape)


def _kinds(part: Part, table: Table) -> Iterator[Kind]:
    """The kinds of the values in a part of a table; of objects that means looking at each."""
    if part.is_objects:
        yield from {_kind_of(value) for value in table.column(part.names[0]) if value is not None}
    else:
        yield _kind_of_array(np.dtype(part.dtype), part.shape)


def _kind_of(value: Any) -> Kind:
    if isinstance(value, np.ndarray):
        return _kind_of_array(value.dtype, value.shape)
    if isinstance(value, np.generic):
        return _kind_of_array(value.dtype, ())
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        return JSON
    for kind in (bool, int, float, str):
        if isinstance(value, kind):
            return Kind(kind.__name__)
    return JSON


def _kind_of_array(dtype: np.dtype[Any], shape: tuple[int, ...]) -> Kind:
    name = _NUMPY.get(dtype.kind)
    if name is None or dtype == np.uint64 or (name == "str" and shape):  # uint64 exceeds the other whole numbers
        return JSON
    return Kind(name, shape)


class Columns:
    """The columns of a table, and a batch's values in them."""

    def __init__(self, inputs: Sequence[Column], outputs: Sequence[Column]) -> None:
        self.inputs = tuple(inputs)
        self.outputs = tuple(outputs)

    @property
    def named(self) -> tuple[Column, ...]:
        """Those of inputs and outputs."""
        return (*self.inputs, *self.outputs)

    @property
    def names(self) -> tuple[str, ...]:
        """All, in their order."""
        return (*FIRST, *(column.name for column in self.named), *LAST)

    def values(self, batch: Batch) -> list[Values]:
        """A batch's values, for each of :attr:`names`."""
        head = batch.head
        failed = {error.position: error for error in head.errors}
        cancelled = head.kind == "cancelled"
        started, finished = _times(batch)
        outcomes = ["cancelled"] * head.n if cancelled else ["done"] * head.n
        for position in failed:
            outcomes[position] = "failed"
        errors = [_error_text(failed, k) for k in range(head.n)]
        here = None if cancelled else head
        return [
            np.arange(head.first, head.first + head.n),
            np.arange(head.seq, head.seq + head.n),
            *(_spread(batch.inputs, column, (), head.n) for column in self.inputs),
            *(_spread(batch.outputs, column, failed, head.n) for column in self.outputs),
            outcomes,
            errors,
            [here.worker or None if here else None] * head.n,
            [here.attempt if here else None] * head.n,
            started,
            finished,
        ]


def _error_text(failed: dict[int, Any], position: int) -> str | None:
    error = failed.get(position)
    return None if error is None else f"{error.kind}: {error.message}" if error.kind else error.message


def _times(batch: Batch) -> tuple[Values, Values]:
    """When each task started and finished, seconds since 1970; nothing where it was never evaluated."""
    head = batch.head
    if head.kind == "cancelled" or not head.started:
        return [None] * head.n, [None] * head.n
    if batch.times is None:
        ends = np.arange(1, head.n + 1) * ((head.finished - head.started) / head.n)
    else:
        ends = np.frombuffer(batch.times, "<f8")
    return head.started + np.concatenate(([0.0], ends[:-1])), head.started + ends


def _spread(table: Table | None, column: Column, without: Iterable[int], n: int) -> Values:
    """A column's values for all ``n`` tasks of a batch, of which those in ``without`` have none in ``table``."""
    if table is None or column.source not in table.layout.names:
        return [None] * n
    values = table.column(column.source)
    missing = set(without)
    if not missing:
        return values  # type: ignore[no-any-return]
    given = iter(values.tolist() if isinstance(values, np.ndarray) and values.ndim == 1 else values)
    return [None if k in missing else next(given) for k in range(n)]
