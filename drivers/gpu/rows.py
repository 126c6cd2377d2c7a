"""From leases to the rows of a batch, and from what came of a batch to the outcomes of its leases.

Nothing here is done row by row but for rows that fail: leases of one point each come by the thousand.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from taskmaster.bus import table as tables
from taskmaster.bus.errors import InvalidOutput
from taskmaster.bus.fields import KINDS, Field, Schema
from taskmaster.bus.messages import TaskError
from taskmaster.bus.table import Table
from taskmaster.bus.values import require_unmasked
from taskmaster.drivers.gpu.batching import Batch, Piece
from taskmaster.drivers.outputs import task_error

__all__ = ["Ended", "Inputs", "Outputs"]

Array = NDArray[Any]

#: From so many leases on, their frames are joined before numpy looks at them.
_MANY = 4


class Inputs:
    """The rows of batches, ``(n, width)`` of ``dtype``: the parameters in their order, one column for each number.

    Where no type is asked for, it is that of the parameters, if they are all whole numbers or all true or false.
    """

    def __init__(self, schema: Schema, dtype: str | None = None) -> None:
        self._schema = schema
        self._widths = [math.prod(field.shape) for field in schema.fields]
        self.width = sum(self._widths)
        kinds = {field.kind for field in schema.fields}
        own = kinds.pop() if len(kinds) == 1 else "float"
        natural = KINDS[own][0] if own in ("int", "bool") else "float64"
        self.dtype = np.dtype(dtype or natural).str

    def fill(self, batch: Batch, into: Array) -> None:
        """Write a batch's rows."""
        pieces = batch.pieces
        if len(pieces) >= _MANY and self._fill_joined(pieces, into):
            return
        at = 0
        for piece in pieces:
            self._fill_piece(piece, into[at : at + piece.n])
            at += piece.n

    def _fill_joined(self, pieces: Sequence[Piece], into: Array) -> bool:
        """All at once, where all are matrices of doubles, as they nearly always are."""
        layout = pieces[0].assignment.table.layout
        part = layout.parts[0]
        if len(layout.parts) > 1 or part.dtype != "<f8" or part.shape or part.names != self._schema.names:
            return False
        if any(piece.assignment.table.layout != layout for piece in pieces):
            return False
        row = part.row_bytes
        joined = b"".join(
            memoryview(piece.assignment.table.frames[0])[piece.low * row : piece.high * row] for piece in pieces
        )
        into[...] = np.frombuffer(joined, "<f8").reshape(into.shape)
        return True

    def _fill_piece(self, piece: Piece, into: Array) -> None:
        table = piece.assignment.table.slice(piece.low, piece.high)
        matrix = table.matrix()
        if matrix is not None and table.layout.names == self._schema.names:
            into[...] = matrix
            return
        at = 0
        for field, width in zip(self._schema.fields, self._widths):
            into[:, at : at + width] = np.asarray(table.column(field.name)).reshape(piece.n, width)
            at += width


class Ended(NamedTuple):
    """What came of the rows of one piece."""

    piece: Piece
    outputs: Table | None
    errors: tuple[TaskError, ...]


class Outputs:
    """Packs what a batch came to, as the Master's outputs are declared."""

    def __init__(self, schema: Schema) -> None:
        self._schema = schema

    def pack(self, result: Any, batch: Batch) -> list[Ended]:
        """What came of each piece. A row that its outputs forbid fails; InvalidOutput, or ValueError, where all do."""
        n = batch.rows
        table = self._table(result, n)
        errors = self._forbidden(table)
        if not errors:
            return list(_shared(table, batch))
        return list(_divided(table, errors, batch))

    def _table(self, result: Any, n: int) -> Table:
        if not self._schema:
            if isinstance(result, Mapping):
                if not result:
                    raise ValueError(f"the function returned no column at all for {n} rows")
                table = tables.pack_columns({name: _as_sent(column) for name, column in result.items()}, n)
            else:
                table = tables.pack_values(_as_sent(result))
            return Table.checked(table.layout, table.n, table.frames)
        columns = self._columns(result)
        self._schema.check_names(columns)
        packed = {field.name: self._column(field, columns[field.name]) for field in self._schema.fields}
        table = tables.pack_columns(packed, n)
        return Table.checked(table.layout, table.n, table.frames)

    def _columns(self, result: Any) -> Mapping[str, Any]:
        if isinstance(result, Mapping):
            return result
        names = self._schema.names
        if len(names) == 1:
            return {names[0]: result}
        shape = np.shape(result)
        if len(shape) < 2 or shape[1] != len(names):
            raise InvalidOutput(
                f"Master {self._schema.owner!r}: a function of {len(names)} outputs ({', '.join(names)}) returns a "
                f"dict of columns or an array (n, {len(names)}), not one of shape {tuple(shape)}"
            )
        return {name: result[:, k] for k, name in enumerate(names)}

    def _column(self, field: Field, column: Any) -> Any:
        """A column as it is sent: doubles, unless numbers come in fewer bytes."""
        if field.kind in ("str", "any"):
            return column
        require_unmasked(column)
        array = np.asarray(column)
        scalar = not field.shape and array.ndim == 2 and array.shape[1] == 1
        array = array[:, 0] if scalar else array
        kind = array.dtype.kind
        fits = kind == "b" if field.kind == "bool" else kind in ("iu" if field.kind == "int" else "iuf")
        shape = array.shape[1:]
        if not fits or len(shape) != len(field.shape) or any(w not in (-1, s) for s, w in zip(shape, field.shape)):
            raise InvalidOutput(
                f"Master {self._schema.owner!r}: output {field.name!r} must be {field.describe()}, got a column of "
                f"shape {array.shape} of {array.dtype}"
            )
        if kind == "f" and array.dtype.itemsize == 2:  # numbers of two bytes are of no interest to anybody else
            return array.astype("<f4")
        return array

    def _forbidden(self, table: Table) -> list[TaskError]:
        """The rows that do not fit the schema."""
        if not self._schema:
            return []
        try:
            self._schema.check(table)
        except InvalidOutput:
            return [error for k in self._suspects(table) if (error := self._error_of(table, k)) is not None]
        return []

    def _suspects(self, table: Table) -> Sequence[int]:
        """The rows that may not fit; all, where columns are not numbers."""
        wrong = np.zeros(table.n, bool)
        for field in self._schema.fields:
            column = table.column(field.name)
            if field.choices or not isinstance(column, np.ndarray):
                return range(table.n)
            low, high = field.extremes
            bad = ~((column >= low) & (column <= high))
            if field.nan and column.dtype.kind == "f":
                bad &= ~np.isnan(column)
            wrong |= bad.reshape(table.n, -1).any(axis=1)
        return [int(k) for k in np.flatnonzero(wrong)]

    def _error_of(self, table: Table, k: int) -> TaskError | None:
        try:
            self._schema.check(table.slice(k, k + 1))
        except InvalidOutput as error:
            return task_error(k, error)
        return None


def _as_sent(column: Any) -> Any:
    return np.ascontiguousarray(column) if isinstance(column, np.ndarray) else list(column)


def _shared(table: Table, batch: Batch) -> list[Ended]:
    ended, at = [], 0
    for piece in batch.pieces:
        ended.append(Ended(piece, table.slice(at, at + piece.n) if piece.n else None, ()))
        at += piece.n
    return ended


def _divided(table: Table, errors: Sequence[TaskError], batch: Batch) -> list[Ended]:
    """The same where some rows have failed, whose outputs are left out."""
    bad = np.zeros(table.n, bool)
    bad[[error.position for error in errors]] = True
    by_row = {error.position: error for error in errors}
    ended, at = [], 0
    for piece in batch.pieces:
        stop = at + piece.n
        failed = np.flatnonzero(bad[at:stop]).tolist()
        part: Table | None = table.slice(at, stop) if piece.n else None
        if failed and part is not None:
            good = np.flatnonzero(~bad[at:stop])
            part = part.take(good.tolist()) if len(good) else None
        told = tuple(_at(by_row[at + k], k) for k in failed)
        ended.append(Ended(piece, part, told))
        at = stop
    return ended


def _at(error: TaskError, position: int) -> TaskError:
    return TaskError(position, error.kind, error.message, error.traceback, error.made_of)
