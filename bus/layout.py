"""What the frames of a table mean: its parts, columns, dtypes and shapes; and whether a peer may say so."""

from __future__ import annotations

import math
from typing import Annotated, Any, TypeAlias

import msgspec
import numpy as np
from msgspec import Meta

from taskmaster.bus import values
from taskmaster.bus.errors import ProtocolError

__all__ = ["BARE", "MAX_NDIM", "NUMPY", "OBJECTS", "PYTHON", "TUPLE", "Layout", "Part", "plan_of"]

#: The name of the only column of a table whose rows are values, not dicts of named values.
BARE = ""

#: How an item of a part looks in Python: a plain Python number, a numpy scalar or array, a tuple of Python numbers.
PYTHON, NUMPY, TUPLE = 0, 1, 2

OBJECTS = "O"
#: axes of one item at most; arrays with more travel as objects
MAX_NDIM = 16
_MAX_PARTS = 4096
_MAX_COLUMNS = 65_536
#: Characters of what a dtype is called.
_MAX_DTYPE = 1_000
#: Bytes of a row if no axis had length 0: with these, numpy can still count those of all rows.
_MAX_ROW_BYTES = 1 << 38


class Part(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Columns that share one buffer: ``(n, len(names), *shape)`` items of ``dtype``, row by row.

    ``dtype`` ``"O"`` stands for msgpack values: two frames (offsets, bytes), one name, no shape.
    """

    names: Annotated[tuple[str, ...], Meta(max_length=_MAX_COLUMNS)]
    dtype: Annotated[str, Meta(max_length=_MAX_DTYPE)]
    shape: Annotated[tuple[int, ...], Meta(max_length=1_000)] = ()
    form: int = PYTHON

    @property
    def is_objects(self) -> bool:
        return self.dtype == OBJECTS

    @property
    def row_shape(self) -> tuple[int, ...]:
        """Shape of one row of this part's buffer; a part of one name has no axis for it."""
        return self.shape if len(self.names) == 1 else (len(self.names), *self.shape)

    @property
    def items(self) -> int:
        """Items of one row, with an axis of length 0 counted as 1; not for objects."""
        return len(self.names) * math.prod(side or 1 for side in self.shape)

    @property
    def row_bytes(self) -> int:
        """Bytes of one row in this part's buffer; not for objects."""
        return _row_bytes(self, np.dtype(self.dtype))


class Layout(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What the frames of a table mean."""

    parts: Annotated[tuple[Part, ...], Meta(max_length=_MAX_PARTS)]

    @property
    def bare(self) -> bool:
        """Rows are values themselves, not dicts."""
        return len(self.parts) == 1 and self.parts[0].names == (BARE,)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(name for part in self.parts for name in part.names)

    @property
    def frame_count(self) -> int:
        parts = self.parts
        if len(parts) == 1:
            return 2 if parts[0].dtype == OBJECTS else 1
        return sum(2 if part.is_objects else 1 for part in parts)

    def check(self) -> None:
        """Raise ProtocolError unless this is a layout that :class:`Table` can hold."""
        if not 1 <= len(self.parts) <= _MAX_PARTS:
            raise ProtocolError(f"a table of {len(self.parts)} parts; 1 to {_MAX_PARTS} are allowed")
        names = self.names
        if len(set(names)) != len(names) or not 1 <= len(names) <= _MAX_COLUMNS:
            raise ProtocolError(f"a table names a column twice, or none, or more than {_MAX_COLUMNS}")
        for part in self.parts:
            if not part.names or part.form not in (PYTHON, NUMPY, TUPLE):
                raise ProtocolError("a part of a table is malformed")
            if part.is_objects:
                if len(part.names) != 1 or part.shape:
                    raise ProtocolError("a part of objects has one name and no shape")
                continue
            itemsize = values.check_dtype(part.dtype).itemsize
            if len(part.shape) > MAX_NDIM or any(side < 0 for side in part.shape):
                raise ProtocolError(f"shape {part.shape} is not allowed")
            if part.items * itemsize > _MAX_ROW_BYTES:
                raise ProtocolError(f"rows of shape {part.shape} are too large")
            if part.form == TUPLE and len(part.shape) != 1:
                raise ProtocolError(f"a tuple has one axis, not the shape {part.shape}")


#: numpy dtype (None for objects) and bytes of a row, for each part of a layout
_Plan: TypeAlias = tuple[tuple[np.dtype[Any] | None, int], ...]
_checked: dict[Layout, _Plan] = {}
#: Layouts that are remembered, and the most names (with what an object costs, in bytes) of one: a peer that sends ever
#: new layouts, or vast ones, must not fill the memory.
_REMEMBERED = 1024
_REMEMBERED_NAMES = 32_768


def plan_of(layout: Layout) -> _Plan:
    """How the parts of a layout lie in memory; checks the layout once, then remembers it."""
    known = _checked.get(layout)
    if known is None:
        layout.check()
        known = tuple(
            (None, 0) if part.is_objects else (np.dtype(part.dtype), _row_bytes(part, np.dtype(part.dtype)))
            for part in layout.parts
        )
        if sum(64 + len(name) for name in layout.names) <= _REMEMBERED_NAMES:
            if len(_checked) >= _REMEMBERED:
                _checked.clear()
            _checked[layout] = known
    return known


def _row_bytes(part: Part, dtype: np.dtype[Any]) -> int:
    return dtype.itemsize * len(part.names) * math.prod(part.shape)
