"""What fits into a message: refused where it was put if it does not, and tables cut to blocks that do."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from taskmaster.bus.errors import InvalidTask
from taskmaster.bus.fields import Schema
from taskmaster.bus.table import Table, pack_values, split

__all__ = ["BLOCK_BYTES", "LIGHT", "MAX_MESSAGE", "Fit"]

#: Rows and bytes of a block at most, unless one row has more. A block is one message, one row of the journal and one
#: answer.
BLOCK_ROWS = 131_072
BLOCK_BYTES = 4 << 20
#: What a daemon takes in one message if it does not say.
MAX_MESSAGE = 64 << 20
#: Values that fit into any message.
LIGHT = frozenset({float, bool, type(None)})
#: Bytes that a value takes beside its own: its type, its shape, its length, its offset.
_AROUND = 128

Sizes = NDArray[np.int64]


class Fit:
    """How the inputs of one Master fit into messages of at most ``limit`` bytes."""

    def __init__(self, schema: Schema, master: str, limit: int) -> None:
        self.limit = limit
        #: bytes of a block at most, unless one row has more
        self.block_bytes = min(BLOCK_BYTES, limit)
        self._schema = schema
        self._master = master
        #: positions of fields whose values may have any size
        self._heavy = [k for k, field in enumerate(schema.fields) if _is_heavy(schema, k)]
        self._light_bytes = _AROUND * (len(schema.fields) - len(self._heavy))
        #: every row fits
        self.is_certain = bool(schema.fields) and not self._heavy and len(schema.fields) * _AROUND <= limit

    def require_row(self, row: Any) -> int:
        """About how many bytes a row takes that waits to be packed; InvalidTask if it fits into no message."""
        if self._schema.fields:
            size = self._light_bytes
            for k in self._heavy:
                size += _bound(row[k])
        else:
            size = _bound(row)
        if size > self.limit:
            table = self._schema.pack_rows([row]) if self._schema.fields else pack_values([row])
            if table.nbytes > self.limit:
                raise self._error(table.nbytes)
        return size

    def require(self, table: Table) -> None:
        """Raise InvalidTask if a row of ``table`` fits into no message."""
        if table.nbytes <= self.limit or not table.n:
            return
        sizes, around = _row_bytes(table)
        worst = int(np.argmax(sizes))
        if sizes[worst] + around > self.limit:
            raise self._error(int(sizes[worst]) + around, f" (point {worst} of the block; none of it was queued)")

    def blocks(self, table: Table) -> Iterator[Table]:
        """``table`` in blocks, each of which fits into a message."""
        if table.n == 1 or (table.nbytes <= self.block_bytes and table.n <= BLOCK_ROWS):
            yield table
            return
        if not any(part.is_objects for part in table.layout.parts):
            yield from split(table, self.block_bytes, BLOCK_ROWS)  # all rows are alike
            return
        sizes, around = _row_bytes(table)
        ends = np.cumsum(sizes)
        low = sent = 0
        while low < table.n:
            fitting = int(np.searchsorted(ends, sent + self.block_bytes - around, "right"))
            high = max(low + 1, min(fitting, low + BLOCK_ROWS))
            yield table.slice(low, high)
            low, sent = high, int(ends[high - 1])

    def _error(self, size: int, where: str = "") -> InvalidTask:
        return InvalidTask(
            f"Master {self._master!r}: a task of {size:,} bytes is more than the {self.limit:,} bytes that the daemon "
            f"takes in one message; put the name of a file in its place, or raise max_message of [daemon]{where}"
        )


def _is_heavy(schema: Schema, k: int) -> bool:
    field = schema.fields[k]
    return not field.choices and (bool(field.shape) or field.kind in ("str", "any"))


def _bound(value: Any) -> int:
    """Bytes that a value that is certain to travel (see `taskmaster.bus.values.keep`) takes at most."""
    if isinstance(value, str):
        return 4 * len(value) + _AROUND
    if isinstance(value, (bytes, msgspec.Raw)):
        return memoryview(value).nbytes + _AROUND
    if isinstance(value, (np.ndarray, np.generic)):
        return value.nbytes + _AROUND
    if isinstance(value, int):
        return value.bit_length() // 8 + _AROUND
    if isinstance(value, Sequence):  # of floats
        return 9 * len(value) + _AROUND
    return _AROUND


def _row_bytes(table: Table) -> tuple[Sizes, int]:
    """The bytes of each row, and what any number of rows takes besides."""
    sizes: Sizes = np.zeros(table.n, np.int64)
    around = at = 0
    for part in table.layout.parts:
        if part.is_objects:
            offsets = np.frombuffer(table.frames[at], "<u4").astype(np.int64)
            sizes += offsets[1:] - offsets[:-1] + 4
            around += 4
            at += 2
        else:
            sizes += part.row_bytes
            at += 1
    return sizes, around
