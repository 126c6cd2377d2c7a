"""What a Master's parameters and outputs are, and whether given values fit.

The same checks run in three places: in the client (so that a mistake raises where it was made), in the daemon (which
trusts no client) and, for outputs, in the worker. They work on whole columns; a Python loop over rows runs only to name
the first value that does not fit.
"""

from __future__ import annotations

import math
import struct
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from itertools import cycle
from operator import itemgetter
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from taskmaster.bus import table as tables
from taskmaster.bus.errors import InvalidOutput, InvalidTask
from taskmaster.bus.table import Layout, Part, Table
from taskmaster.bus.text import did_you_mean_or
from taskmaster.bus.values import keep, require_unmasked

__all__ = ["KINDS", "Field", "Schema", "shown"]

Number = int | float

#: Up to so many rows, Python is faster than numpy.
_FEW = 16

#: kind → (numpy type of its column, what to call it in messages)
KINDS: dict[str, tuple[str, str]] = {
    "float": ("<f8", "a number"),
    "int": ("<i8", "a whole number"),
    "bool": ("|b1", "true or false"),
    "str": ("O", "a string"),
    "any": ("O", "any value"),
}


#: kind → the kinds of dtype its column may come in
_DTYPES = {"float": "iuf", "int": "iu", "bool": "b"}


class Field(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """One parameter or output.

    ``min`` and ``max`` are inclusive and in ``unit``; ``shape`` is that of one value (``()`` a scalar, -1 any length
    along that axis); ``nan`` says whether NaN is a value it may take, and ``finite`` that infinity is
    none, also where there is no limit.
    """

    name: str
    kind: str = "float"
    unit: str = ""
    min: float | None = None
    max: float | None = None
    choices: tuple[str | float | bool, ...] = ()
    shape: tuple[int, ...] = ()
    nan: bool = False
    finite: bool = False
    description: str = ""

    @property
    def limits(self) -> tuple[float, float]:
        """``(min, max)``, infinite where there is none."""
        return (-math.inf if self.min is None else self.min, math.inf if self.max is None else self.max)

    @property
    def extremes(self) -> tuple[float, float]:
        """The lowest and the highest value that it takes."""
        low, high = self.limits
        return (max(low, -sys.float_info.max), min(high, sys.float_info.max)) if self.finite else (low, high)

    @property
    def is_bounded(self) -> bool:
        """A float with both limits: what continuous learners need."""
        return self.min is not None and self.max is not None

    def describe(self) -> str:
        """What is expected, for people: ``a number in [-2, 4] V``, ``a number in V``."""
        if self.choices:
            return "one of " + ", ".join(map(repr, self.choices))
        text = KINDS[self.kind][1]
        if self.shape:
            text = f"an array of shape {_shape_text(self.shape)}"
        if self.min is not None or self.max is not None:
            low, high = self.limits
            text += (
                f" in [{low:g}, {high:g}]" if self.is_bounded else f" ≥ {low:g}" if self.max is None else f" ≤ {high:g}"
            )
        elif self.unit:
            text += " in"
        return f"{text} {self.unit}".rstrip()


class Schema:
    """The declared fields of a Master's inputs or outputs, in order.

    ``owner`` and ``role`` ("parameter", "output") only serve messages. Every method that refuses a value raises
    InvalidTask (of outputs InvalidOutput) naming owner, field, value and what was expected.
    """

    def __init__(self, fields: Sequence[Field], owner: str, role: str = "parameter") -> None:
        self.fields = tuple(fields)
        self.names = tuple(field.name for field in self.fields)
        self.owner = owner
        self.role = role
        self._by_name = {field.name: field for field in self.fields}
        #: All fields are plain numbers without choices: rows pack into one float matrix, checked with two comparisons.
        self.is_matrix = bool(self.fields) and all(
            field.kind == "float" and not field.shape and not field.choices for field in self.fields
        )
        self._any_form = any(field.kind in ("any", "str") for field in self.fields)
        self._pick: Callable[[Any], Any] = itemgetter(*self.names) if len(self.names) > 1 else lambda _: ()
        self._quick = [field.extremes for field in self.fields]
        #: what fits every field
        self._narrowest = (
            max((low for low, _ in self._quick), default=0.0),
            min((high for _, high in self._quick), default=0.0),
        )
        #: of tables that `pack_rows` makes where `is_matrix`
        self._layout = Layout((Part(self.names, "<f8"),)) if self.is_matrix else None

    def __bool__(self) -> bool:
        return bool(self.fields)

    # -- one point ----------------------------------------------------------------------------------------------------

    def row(self, point: Mapping[str, Any]) -> tuple[Any, ...]:
        """The values of one point in the order of the fields, checked."""
        if type(point) is dict and len(point) == len(self.names) and self.is_matrix:
            try:
                row = self._pick(point) if len(self.names) > 1 else (point[self.names[0]],)
            except KeyError:
                return self._slow_row(point)
            for value, (low, high) in zip(row, self._quick):
                if type(value) is not float or not low <= value <= high:
                    return self._slow_row(point)
            return row
        return self._slow_row(point)

    def _slow_row(self, point: Any) -> tuple[Any, ...]:
        if not isinstance(point, Mapping):
            raise self._error(
                f"a point must be a dict of its {self.role}s ({', '.join(self.names)}), not {shown(point)}"
            )
        self.check_names(point)
        row = tuple(self._value(field, point[field.name]) for field in self.fields)
        return tuple(map(self._kept, self.fields, row)) if self._any_form else row

    def _kept(self, field: Field, value: Any) -> Any:
        if field.kind not in ("any", "str"):
            return value
        try:
            return keep(value)
        except TypeError as error:
            raise self._error(f"{self.role} {field.name!r}: {error}") from None

    def check_names(self, names: Collection[Any]) -> None:
        """See whether these are the names of the fields, in any order. Raises InvalidTask (or InvalidOutput)."""
        for name in names:
            if name not in self._by_name:
                raise self._error(f"{self.role} {name!r} is unknown{did_you_mean_or(str(name), self.names)}")
        missing = [name for name in self.names if name not in names]
        if missing:
            raise self._error(f"{self.role} {', '.join(map(repr, missing))} is missing")

    def _value(self, field: Field, value: Any) -> Any:
        """One value of one field as its column stores it."""
        if field.kind == "any" and not field.shape:
            return value
        if isinstance(value, np.ndarray) and not value.shape and not field.shape:
            self._require_unmasked(value, field)
            value = value[()]
        if field.shape or isinstance(value, np.ndarray):
            return self._array_value(field, value)
        if field.kind == "str" or (field.choices and isinstance(value, str)):
            result: Any = str.__str__(value) if isinstance(value, str) else None
        elif isinstance(value, (bool, np.bool_)) or field.kind == "bool":
            result = bool(value) if isinstance(value, (bool, np.bool_)) and field.kind == "bool" else None
        elif field.kind == "int":
            result = int(value) if _is_number(value) and _is_whole(value) else None
        elif field.kind == "float":
            result = _as_float(value) if _is_number(value) else None
        else:
            result = value
        if result is None:
            raise self._bad(field, value)
        self._check_value(field, result)
        return result

    def _check_value(self, field: Field, value: Any) -> None:
        if isinstance(value, float) and math.isnan(value):
            if not field.nan:
                raise self._bad(field, value, "NaN is not allowed")
        elif field.choices:
            if value not in field.choices:
                raise self._bad(field, value)
        elif isinstance(value, (int, float)) and not isinstance(value, bool):
            low, high = field.extremes
            if not low <= value <= high:
                raise self._bad(field, value, _not_finite(field, value))
            if field.kind == "int" and not -(2**63) <= value < 2**63:
                raise self._bad(field, value, "it does not fit 64 bits")

    def _array_value(self, field: Field, value: Any) -> Any:
        if field.kind in ("str", "any"):
            return value
        self._require_unmasked(value, field)
        try:
            array = np.asarray(value)
        except ValueError:
            raise self._bad(field, value, "its rows differ in length") from None
        if array.dtype.kind not in "biuf" or not _shape_fits(array.shape, field.shape):
            raise self._bad(field, value, f"got shape {_shape_text(array.shape)} of {array.dtype}")
        if (field.kind == "int" and array.dtype.kind == "f") or (field.kind == "bool") != (array.dtype.kind == "b"):
            raise self._bad(field, value, f"got an array of {array.dtype}")
        if field.kind == "int" and not _fits_int64(array).all():
            raise self._bad(field, value, "it does not fit 64 bits")
        array = array.astype(KINDS[field.kind][0])
        self._check_column(field, array.reshape(1, *array.shape), 0)
        return array if field.shape else array[()].item()

    # -- many points --------------------------------------------------------------------------------------------------

    def pack_rows(self, rows: Sequence[tuple[Any, ...]]) -> Table:
        """A table of rows that :meth:`row` has made."""
        if self._layout is not None:
            if len(rows) <= _FEW:
                values = [value for row in rows for value in row]
                return Table(self._layout, len(rows), (struct.pack(f"<{len(values)}d", *values),))
            matrix = np.array(rows, "<f8").reshape(len(rows), len(self.names))
            return tables.pack_matrix(matrix, self.names)
        columns = list(zip(*rows)) if rows else [()] * len(self.names)
        return self._pack({name: list(column) for name, column in zip(self.names, columns)}, len(rows))

    def pack_points(self, points: Any) -> Table:
        """A table from an ``(n, d)`` array in the fields' order, a dict of columns, or a list of points; checked."""
        if isinstance(points, np.ndarray):
            return self._pack_array(points)
        if isinstance(points, Mapping):
            return self._pack_columns(points)
        return self.pack_rows([self._located_row(i, point) for i, point in enumerate(points)])

    def _located_row(self, i: int, point: Any) -> tuple[Any, ...]:
        try:
            return self.row(point)
        except (InvalidTask, InvalidOutput) as error:
            raise type(error)(f"{error} (point {i} of the block; none of it was queued)") from None

    def _pack_array(self, array: NDArray[Any]) -> Table:
        self._require_unmasked(array)
        d = len(self.fields)
        if array.ndim == 1 and d == 1:
            array = array.reshape(-1, 1)
        if array.ndim != 2 or array.shape[1] != d:
            raise self._error(
                f"an array of points needs shape (n, {d}), one column for each of {', '.join(self.names)}; "
                f"got {_shape_text(array.shape)}"
            )
        if not self.is_matrix:
            return self._pack_columns({name: array[:, k] for k, name in enumerate(self.names)})
        if array.dtype.kind not in "iuf":
            raise self._error(f"an array of points needs a dtype of numbers, not {array.dtype}")
        matrix = np.array(array, dtype="<f8", order="C")  # a copy: the caller may change theirs while ours waits
        self._check_matrix(matrix)
        return tables.pack_matrix(matrix, self.names)

    def _pack_columns(self, columns: Mapping[str, Any]) -> Table:
        self.check_names(columns)
        lengths = {name: len(columns[name]) for name in self.names}
        if len(set(lengths.values())) != 1:
            raise self._error(f"the columns differ in length: {lengths}")
        n = next(iter(lengths.values()))
        checked: dict[str, Any] = {}
        for field in self.fields:
            self._require_unmasked(columns[field.name], field)
            column = np.asarray(columns[field.name]) if field.kind not in ("str", "any") else columns[field.name]
            if field.kind != "str" and _is_numbers(column) and not field.choices:
                checked[field.name] = self._convert_column(field, column)
            else:
                checked[field.name] = [self._value(field, value) for value in columns[field.name]]
        return self._pack(checked, n)

    def _convert_column(self, field: Field, column: NDArray[Any]) -> NDArray[Any]:
        if not _shape_fits(column.shape[1:], field.shape) or (field.kind == "bool") != (column.dtype.kind == "b"):
            raise self._bad(field, column[0] if len(column) else column)
        if field.kind == "int" and column.dtype.kind == "f":
            fractional = np.flatnonzero((column != np.floor(column)).reshape(len(column), -1).any(axis=1))
            if len(fractional):
                raise self._bad(field, column[fractional[0]])
        if field.kind == "int" and not (fits := _fits_int64(column)).all():
            raise self._bad(field, column[~fits][0], "it does not fit 64 bits")
        converted = column.astype(KINDS[field.kind][0])
        self._check_column(field, converted, 0)
        return converted

    def _pack(self, columns: Mapping[str, Any], n: int) -> Table:
        typed = {field.name: self._typed(field, columns[field.name]) for field in self.fields}
        return tables.pack_columns(typed, n)

    @staticmethod
    def _typed(field: Field, column: Any) -> Any:
        """A column in the one dtype of its field, so that blocks of a run share a layout; lists where values vary."""
        dtype = KINDS[field.kind][0]
        if dtype == "O" or field.choices or -1 in field.shape or isinstance(column, np.ndarray):
            return column
        return np.array(column, dtype).reshape(len(column), *field.shape)

    # -- a table from a peer ------------------------------------------------------------------------------------------

    def check(self, table: Table, first: int = 0) -> None:
        """Raise InvalidTask unless every row of ``table`` fits; ``first`` is the index of its first row."""
        if table.n <= _FEW and table.layout == self._layout and self._few_fit(table):
            return
        matrix = table.matrix() if self.is_matrix and table.layout.names == self.names else None
        if matrix is not None and matrix.dtype.str == "<f8":
            self._check_matrix(matrix, first)
            return
        if table.layout.bare and self.names:
            raise self._error(f"it takes its {self.role}s by name ({', '.join(self.names)}), not bare values")
        self.check_names(dict.fromkeys(table.layout.names))
        for field in self.fields:
            column = table.column(field.name)
            if isinstance(column, np.ndarray) and not field.choices and field.kind not in ("str", "any"):
                self._check_dtype(field, column)
                self._check_column(field, column, first)
                continue
            if _all_fit(field, column):
                continue
            for i, value in enumerate(column):
                try:
                    self._value(field, value)
                except (InvalidTask, InvalidOutput) as error:
                    raise type(error)(f"{error} (task {first + i})") from None

    def _few_fit(self, table: Table) -> bool:
        """Whether all of a few rows fit; numpy's overhead is a multiple of what there is to do for them."""
        values = struct.unpack(f"<{table.n * len(self.names)}d", table.frames[0])
        return all(low <= value <= high for value, (low, high) in zip(values, cycle(self._quick)))

    def _check_dtype(self, field: Field, column: NDArray[Any]) -> None:
        if column.dtype.kind not in _DTYPES[field.kind] or not _shape_fits(column.shape[1:], field.shape):
            got = f"shape {_shape_text(column.shape[1:])} of {column.dtype}"
            raise self._error(f"{self.role} {field.name!r} must be {field.describe()}, got {got}")

    def _check_matrix(self, matrix: NDArray[Any], first: int = 0) -> None:
        if len(matrix) == 0:
            return
        # min and max are NaN where there is one, so each comparison also finds NaN. Of all numbers at once they are had
        # twenty times as fast as of each column; column by column, faster than numpy's own reduction along the rows.
        with np.errstate(invalid="ignore"):
            if matrix.min() >= self._narrowest[0] and matrix.max() <= self._narrowest[1]:
                return
            for k, (low, high) in enumerate(self._quick):
                column = matrix[:, k]
                if not (column.min() >= low and column.max() <= high):
                    self._check_column(self.fields[k], column, first)

    def _check_column(self, field: Field, column: NDArray[Any], first: int) -> None:
        if column.dtype.kind == "b" or column.size == 0:
            return
        low, high = field.extremes
        wrong = ~((column >= low) & (column <= high))
        if field.nan and column.dtype.kind == "f":
            wrong &= ~np.isnan(column)
        if not wrong.any():
            return
        row = int(np.flatnonzero(wrong.reshape(len(column), -1).any(axis=1))[0])
        value = column[row][wrong[row]].flat[0] if column.ndim > 1 else column[row]
        reason = "NaN is not allowed" if column.dtype.kind == "f" and np.isnan(value) else _not_finite(field, value)
        where = f" (task {first + row})" if len(column) > 1 or first else ""
        raise self._bad(field, value.item(), reason, where)

    # -- messages -----------------------------------------------------------------------------------------------------

    def _bad(self, field: Field, value: Any, reason: str = "", where: str = "") -> InvalidTask | InvalidOutput:
        text = f"{self.role} {field.name!r} must be {field.describe()}, got {shown(value)}"
        return self._error(f"{text}{': ' + reason if reason else ''}{where}")

    def _require_unmasked(self, array: Any, field: Field | None = None) -> None:
        try:
            require_unmasked(array)
        except TypeError as error:
            raise self._error(f"{self.role} {field.name!r}: {error}" if field else str(error)) from None

    def _error(self, text: str) -> InvalidTask | InvalidOutput:
        kind = InvalidOutput if self.role == "output" else InvalidTask
        return kind(f"Master {self.owner!r}: {text}")


def _is_number(value: Any) -> bool:
    # numpy derives its time differences from the integers
    return isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, np.timedelta64)


def _as_float(value: Any) -> float | None:
    """The float next to a number; None for a whole number beyond all floats."""
    try:
        return float(value)
    except OverflowError:
        return None


def _fits_int64(column: NDArray[Any]) -> NDArray[np.bool_]:
    """Which of whole numbers numpy can turn into int64 as they are; it would turn the others into something else."""
    if column.dtype.kind == "u":
        return np.asarray(column <= np.uint64(2**63 - 1))
    if column.dtype.kind == "f":
        return np.asarray((column >= -(2.0**63)) & (column < 2.0**63))
    return np.ones(column.shape, bool)


def _not_finite(field: Field, value: Any) -> str:
    return "it is not finite" if field.finite and value in (math.inf, -math.inf) else ""


def _all_fit(field: Field, column: Any) -> bool:
    """Whether all values of a column of strings, choices or anything are certain to fit; False: look at each."""
    if field.kind == "any" and not field.shape:
        return True
    if field.shape:
        return False
    if isinstance(column, np.ndarray):
        numbers = [choice for choice in field.choices if not isinstance(choice, str)]
        return (
            column.ndim == 1
            and column.dtype.kind in _DTYPES.get(field.kind, "")
            and bool(np.isin(column, numbers).all())
        )
    if not set(map(type, column)) <= {str} or (field.kind != "str" and not field.choices):
        return False
    return not field.choices or set(column) <= set(field.choices)


def _is_whole(number: Any) -> bool:
    return isinstance(number, (int, np.integer)) or (math.isfinite(number) and number == int(number))


def _shape_fits(shape: tuple[int, ...], declared: tuple[int, ...]) -> bool:
    return len(shape) == len(declared) and all(want in (-1, side) for side, want in zip(shape, declared))


def _is_numbers(column: Any) -> bool:
    return isinstance(column, np.ndarray) and column.dtype.kind in "biuf"


def _shape_text(shape: tuple[int, ...]) -> str:
    return (
        "(" + ", ".join("any" if side == -1 else str(side) for side in shape) + ("," if len(shape) == 1 else "") + ")"
    )


def shown(value: Any) -> str:
    """A value in a message: what Python writes for it, cut where that is long."""
    try:
        text = repr(value.item() if isinstance(value, np.generic) else value)
    except Exception:  # noqa: BLE001 - a user's class may raise anything here; a number of 5000 digits raises, too
        return f"a value of type {type(value).__name__} that cannot be shown"
    return text if len(text) <= 80 else text[:77] + "…"
