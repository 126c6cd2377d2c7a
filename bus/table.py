"""A table: the inputs or outputs of many tasks in a few buffers.

Rows are tasks. Numbers live in columns (`parts`), as they came or as numpy made them, so a million tasks are a handful
of buffers that travel as raw frames, go to disk as they are, and are sliced without a copy. What is not numeric is a
part of msgpack values with an offset per row, which can be sliced just as well without decoding anything.

Nothing here makes a Python object per row until somebody looks at the rows.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate, pairwise
from typing import Any, ClassVar, TypeAlias

import msgspec
import numpy as np
from numpy.typing import NDArray

from taskmaster.bus import values
from taskmaster.bus.errors import ProtocolError
from taskmaster.bus.layout import BARE, MAX_NDIM, NUMPY, OBJECTS, PYTHON, TUPLE, Layout, Part, plan_of

__all__ = [
    "BARE",
    "NUMPY",
    "PYTHON",
    "TUPLE",
    "Layout",
    "Part",
    "Table",
    "pack_column",
    "pack_columns",
    "pack_matrix",
    "pack_values",
]

Array: TypeAlias = NDArray[Any]
Buffer: TypeAlias = bytes | bytearray | memoryview

_OFFSET = np.dtype("<u4")
#: Rows of a message's table.
_MAX_ROWS = 1 << 24
#: Items in the columns of no bytes (an axis of length 0): they are cheap to send, but not to make or to evaluate.
_MAX_HOLLOW = 1 << 20
#: Up to so many numbers are unpacked without numpy.
_FEW = 16
#: From so many objects on it is worth a look whether all of them are words.
_MANY = 64


class Table:
    """``n`` rows in ``frames`` as ``layout`` says. Immutable once made; slices share its buffers.

    Frames are flat: the length of one is its size in bytes.
    """

    __slots__ = ("_columns", "_rows", "frames", "layout", "n", "nbytes")

    #: Whether its buffers can be had without reading a file.
    in_memory: ClassVar[bool] = True

    def __init__(self, layout: Layout, n: int, frames: Sequence[Buffer]) -> None:
        self.layout = layout
        self.n = n
        self.frames = frames
        self.nbytes = len(frames[0]) if len(frames) == 1 else sum(map(len, frames))
        self._columns: dict[str, Any] | None = None
        self._rows: list[Any] | None = None

    @classmethod
    def checked(cls, layout: Layout, n: int, frames: Sequence[Buffer]) -> Table:
        """A table from a peer's frames; ProtocolError unless they are just what ``layout`` and ``n`` call for."""
        plan = plan_of(layout)
        if len(frames) != layout.frame_count:
            raise ProtocolError(f"a table of {layout.frame_count} frames came with {len(frames)}")
        if not 0 <= n <= _MAX_ROWS:
            raise ProtocolError(f"a table of {n} rows; up to {_MAX_ROWS} are allowed")
        at = hollow = 0
        for k, (dtype, row_bytes) in enumerate(plan):
            if dtype is None:
                _check_offsets(frames[at], frames[at + 1], n)
                at += 2
                continue
            if len(frames[at]) != n * row_bytes:
                raise ProtocolError(
                    f"column {layout.parts[k].names[0]!r} needs {n * row_bytes} bytes for {n} rows, "
                    f"not {len(frames[at])}"
                )
            if not row_bytes:
                hollow += n * layout.parts[k].items
            values.check_text(dtype, frames[at])
            at += 1
        if hollow > _MAX_HOLLOW:
            raise ProtocolError(f"a table of {hollow} items without content; up to {_MAX_HOLLOW} are allowed")
        return cls(layout, n, frames)

    def __len__(self) -> int:
        return self.n

    def __repr__(self) -> str:
        return f"<Table of {self.n} rows: {', '.join(self.layout.names)}, {self.nbytes} bytes>"

    def slice(self, low: int, high: int) -> Table:
        """Rows ``low:high``, sharing this table's buffers."""
        if low == 0 and high == self.n:
            return self
        frames: list[Buffer] = []
        at = 0
        for dtype, size in plan_of(self.layout):
            view = memoryview(self.frames[at])
            if dtype is None:
                offsets = view[low * 4 : (high + 1) * 4]
                first, last = np.frombuffer(offsets, _OFFSET)[[0, -1]].tolist()
                base = int(np.frombuffer(view[:4], _OFFSET)[0])
                frames += (offsets, memoryview(self.frames[at + 1])[first - base : last - base])
                at += 2
            else:
                frames.append(view[low * size : high * size])
                at += 1
        return Table(self.layout, high - low, frames)

    def take(self, positions: Sequence[int]) -> Table:
        """The rows at ``positions``, copied."""
        frames: list[Buffer] = []
        at = 0
        index = np.asarray(positions, dtype=np.intp)
        for part, (dtype, _) in zip(self.layout.parts, plan_of(self.layout)):
            if dtype is None:
                pieces = self._pieces(at)
                frames += _join([bytes(pieces[i]) for i in index.tolist()])
                at += 2
            else:
                frames.append(self._array(part, dtype, at)[index].tobytes())
                at += 1
        return Table(self.layout, len(index), frames)

    def digest(self, content: bytes | None = None) -> bytes:
        """SHA-256 over layout, count and the SHA-256 of the frames (``content``, if that is known already)."""
        head = msgspec.msgpack.encode((self.layout, self.n))
        return hashlib.sha256(head + (content or content_digest(self.frames))).digest()

    def column(self, name: str) -> Any:
        """All values of one column: a numpy array ``(n, *shape)``, or a list where they are objects."""
        return self.columns()[name]

    def columns(self) -> dict[str, Any]:
        """Every column by name, as :meth:`column` gives it; arrays are read-only views of the buffers."""
        if self._columns is None:
            columns: dict[str, Any] = {}
            at = 0
            for part, (dtype, _) in zip(self.layout.parts, plan_of(self.layout)):
                if dtype is None:
                    columns[part.names[0]] = self._objects(at)
                    at += 2
                    continue
                array = self._array(part, dtype, at)
                if len(part.names) == 1:
                    columns[part.names[0]] = array
                else:
                    columns.update((name, array[:, k]) for k, name in enumerate(part.names))
                at += 1
            self._columns = columns
        return self._columns

    def matrix(self) -> Array | None:
        """The rows as one ``(n, d)`` array in the order of the columns, without a copy; None if there is no such."""
        part = self.layout.parts[0]
        if len(self.layout.parts) != 1 or part.is_objects or part.shape:
            return None
        return self._array(part, np.dtype(part.dtype), 0).reshape(self.n, len(part.names))

    def rows(self) -> list[Any]:
        """Every row as Python sees it: the value itself, or a dict. Made once, on the first call."""
        if self._rows is None:
            self._rows = self._make_rows()
        return self._rows

    def _make_rows(self) -> list[Any]:
        layout = self.layout
        part = layout.parts[0]
        if len(layout.parts) == 1 and _form(part) == PYTHON and not part.is_objects:
            if self.n * len(part.names) <= _FEW and part.dtype == "<f8" and not part.shape:
                return self._few_rows(part.names)
            rows: list[Any] = self._array(part, np.dtype(part.dtype), 0).tolist()
            if layout.bare:
                return rows
            if len(part.names) > 1:
                names = part.names
                return [dict(zip(names, row)) for row in rows]
            name = part.names[0]
            return [{name: row} for row in rows]
        lists = [_items(column, form) for column, form in zip(self.columns().values(), _forms(layout))]
        if layout.bare:
            return lists[0]
        names = layout.names
        return [dict(zip(names, row)) for row in zip(*lists)]

    def _few_rows(self, names: tuple[str, ...]) -> list[Any]:
        """Rows of single numbers, where numpy's overhead would be most of it."""
        numbers = struct.unpack(f"<{self.n * len(names)}d", self.frames[0])
        if self.layout.bare:
            return list(numbers)
        if len(names) == 1:
            return [{names[0]: number} for number in numbers]
        rows = zip(*[iter(numbers)] * len(names))
        return [dict(zip(names, row)) for row in rows]

    def _array(self, part: Part, dtype: np.dtype[Any], at: int) -> Array:
        array = np.frombuffer(self.frames[at], dtype).reshape((self.n, *part.row_shape))
        array.flags.writeable = False
        return array

    def _objects(self, at: int) -> list[Any]:
        """The values of the objects part whose frames start at ``at``."""
        if self.n >= _MANY:
            words = values.decode_words(np.frombuffer(self.frames[at], _OFFSET), self.frames[at + 1])
            if words is not None:
                return words
        return [values.decode(piece) for piece in self._pieces(at)]

    def _pieces(self, at: int) -> list[memoryview]:
        """The encoded values of the objects part whose frames start at ``at``."""
        offsets = np.frombuffer(self.frames[at], _OFFSET).tolist()
        blob = memoryview(self.frames[at + 1])
        base = offsets[0]
        return [blob[low - base : high - base] for low, high in pairwise(offsets)]


def content_digest(frames: Iterable[Buffer]) -> bytes:
    """SHA-256 of frames one after the other."""
    digest = hashlib.sha256()
    for frame in frames:
        digest.update(frame)
    return digest.digest()


def _check_offsets(offsets: Buffer, blob: Buffer, n: int) -> None:
    if len(offsets) != 4 * (n + 1):
        raise ProtocolError(f"{n} objects need {4 * (n + 1)} bytes of offsets, not {len(offsets)}")
    array = np.frombuffer(offsets, _OFFSET)
    if bool((array[1:] < array[:-1]).any()) or int(array[-1]) - int(array[0]) != len(blob):
        raise ProtocolError("the offsets of a column of objects do not fit its bytes")


def _forms(layout: Layout) -> list[int]:
    return [form for part in layout.parts for form in [_form(part)] * len(part.names)]


def _form(part: Part) -> int:
    """How items look: those of times have numpy's form only, as what Python makes of them cannot travel on."""
    return NUMPY if part.dtype.lstrip("<>|")[0] in "mM" else part.form


def _items(column: Any, form: int) -> list[Any]:
    if isinstance(column, list):
        return column
    if form == NUMPY:
        return list(column)
    items: list[Any] = column.tolist()
    return [tuple(item) for item in items] if form == TUPLE else items


def _join(pieces: Sequence[bytes]) -> tuple[bytes, bytes]:
    """The two frames of a part of objects."""
    offsets = np.fromiter(accumulate(map(len, pieces), initial=0), np.int64, len(pieces) + 1)
    if offsets[-1] > 0xFFFFFFFF:
        raise ValueError("a block of objects may not exceed 4 GiB; submit fewer at once")
    return offsets.astype(_OFFSET).tobytes(), b"".join(pieces)


def concatenate(tables: Sequence[Table]) -> Table:
    """One table of the rows of all ``tables``, which share one layout."""
    layout = tables[0].layout
    frames: list[Buffer] = []
    at = 0
    for part in layout.parts:
        if part.is_objects:
            frames += _join_offsets([(table.frames[at], table.frames[at + 1]) for table in tables])
            at += 2
        else:
            frames.append(b"".join([table.frames[at] for table in tables]))
            at += 1
    return Table(layout, sum(table.n for table in tables), frames)


def _join_offsets(pairs: Sequence[tuple[Buffer, Buffer]]) -> tuple[bytes, bytes]:
    arrays = []
    end = 0
    for raw, blob in pairs:
        offsets = np.frombuffer(raw, _OFFSET).astype(np.int64)
        arrays.append(offsets[:-1] - offsets[0] + end)
        end += len(blob)
    arrays.append(np.array([end]))
    return np.concatenate(arrays).astype(_OFFSET).tobytes(), b"".join([blob for _, blob in pairs])


# ---------------------------------------------------------------------------------------------------------------------
# Packing


def pack_column(name: str, column: Any) -> tuple[Part, list[Buffer]]:
    """One column from a numpy array ``(n, *shape)`` or a sequence of ``n`` Python values.

    A list of Python numbers of one type becomes an array, and comes back as such: floats as floats, ints as ints.
    """
    if isinstance(column, np.ndarray):
        values.require_unmasked(column)
        if column.dtype.kind in "biufcSUmM" and column.dtype.itemsize and column.ndim - 1 <= MAX_NDIM:
            array = np.ascontiguousarray(column)
            form = PYTHON if array.ndim == 1 and array.dtype.str in ("<f8", "<i8", "|b1") else NUMPY
            return Part((name,), array.dtype.str, array.shape[1:], form), [_frame(array)]
        column = list(column)
    kinds = set(map(type, column))
    if len(kinds) == 1:
        packed = _pack_uniform(name, column, kinds.pop())
        if packed is not None:
            return packed
    return Part((name,), OBJECTS), list(_join([values.encode(value) for value in column]))


def _pack_uniform(name: str, column: Sequence[Any], kind: type) -> tuple[Part, list[Buffer]] | None:
    """A column of values of one type as an array; None where that type, or these values, do not form one."""
    if kind is float:
        return Part((name,), "<f8"), [_frame(np.array(column, "<f8"))]
    if kind is bool:
        return Part((name,), "|b1"), [_frame(np.array(column, "|b1"))]
    if kind is int:
        try:
            return Part((name,), "<i8"), [_frame(np.array(column, "<i8"))]
        except OverflowError:
            return None
    if kind is tuple:
        if len({len(item) for item in column}) != 1 or {type(v) for item in column for v in item} != {float}:
            return None
        array = np.array(column, "<f8")
        return Part((name,), "<f8", array.shape[1:], TUPLE), [_frame(array)]
    if kind is np.ndarray and not column[0].shape:
        return None  # as a column they would come back as numpy's scalars
    if kind is np.ndarray or issubclass(kind, np.generic):
        if len({(item.dtype, item.shape) for item in column}) != 1 or column[0].dtype.kind not in "biufc":
            return None
        if column[0].ndim > MAX_NDIM:
            return None
        array = np.stack(column)
        return Part((name,), array.dtype.str, array.shape[1:], NUMPY), [_frame(array)]
    return None


def pack_values(rows: Sequence[Any]) -> Table:
    """A table of bare values."""
    part, frames = pack_column(BARE, rows)
    return Table(Layout((part,)), len(rows), frames)


def pack_columns(columns: Mapping[str, Any], n: int) -> Table:
    """A table of named columns of ``n`` values each; scalar columns of one dtype share a buffer."""
    packed = [pack_column(name, column) for name, column in columns.items()]
    if len(packed) > 1 and len({(part.dtype, part.shape, part.form) for part, _ in packed}) == 1:
        part = packed[0][0]
        if not part.is_objects and not part.shape:
            dtype = np.dtype(part.dtype)
            matrix = np.empty((n, len(packed)), dtype)  # not `column_stack`, which turns the byte order
            for k, (_, frames) in enumerate(packed):
                matrix[:, k] = np.frombuffer(frames[0], dtype)
            return Table(Layout((Part(tuple(columns), part.dtype, (), part.form),)), n, [_frame(matrix)])
    return Table(Layout(tuple(part for part, _ in packed)), n, [frame for _, frames in packed for frame in frames])


def pack_matrix(matrix: Array, names: Sequence[str]) -> Table:
    """A table of the rows of an ``(n, d)`` array, named by ``names``, without a copy where it is contiguous."""
    matrix = np.ascontiguousarray(matrix)
    form = PYTHON if matrix.dtype.str in ("<f8", "<i8", "|b1") else NUMPY
    return Table(Layout((Part(tuple(names), matrix.dtype.str, (), form),)), len(matrix), [_frame(matrix)])


def _frame(array: Array) -> Buffer:
    """The memory of a contiguous array as a flat buffer; the array stays alive with it."""
    return array.data.cast("B") if array.size and array.dtype.kind in "biufc" else array.tobytes()


def split(table: Table, max_bytes: int, max_rows: int) -> Iterable[Table]:
    """``table`` in slices of at most ``max_rows`` rows and about ``max_bytes`` bytes (at least one row each)."""
    per_row = max(1, table.nbytes // max(1, table.n))
    step = max(1, min(max_rows, max_bytes // per_row))
    for low in range(0, table.n, step):
        yield table.slice(low, min(low + step, table.n))
