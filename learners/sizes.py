"""What points take on the wire: a point that no message can carry is refused where it is put."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
import numpy as np

from taskmaster.bus.errors import InvalidTask
from taskmaster.bus.table import Table, split

__all__ = ["SMALL", "Limit", "weight"]

#: Types of which no value is large.
SMALL = frozenset((float, int, bool, type(None)))
_SCALAR_BYTES = 9
_ARRAY_BYTES = 64
#: What a message takes beside its table: its header, with the layout and the asks.
_HEADER_BYTES = 2048


def weight(value: Any) -> int:
    """Bytes that a value takes on the wire at most: it may be a little less."""
    if isinstance(value, np.ndarray):
        return int(value.nbytes) + _ARRAY_BYTES
    if isinstance(value, (bytes, bytearray)):
        return len(value) + _SCALAR_BYTES
    if isinstance(value, str):
        return (len(value) if value.isascii() else len(value.encode(errors="replace"))) + _SCALAR_BYTES
    if isinstance(value, (memoryview, msgspec.Raw)):
        return memoryview(value).nbytes + _SCALAR_BYTES
    if isinstance(value, Mapping):
        return sum(weight(key) + weight(item) for key, item in value.items()) + _SCALAR_BYTES
    if isinstance(value, (list, tuple)):
        return sum(map(weight, value)) + _SCALAR_BYTES
    return _SCALAR_BYTES if type(value) in SMALL else _ARRAY_BYTES


class Limit:
    """The largest message that the daemon takes, and what that is for the points of a Master."""

    def __init__(self, master: str, max_message: int) -> None:
        self._master = master
        self._max_message = max_message
        #: bytes of a point or of a block at most
        self.bytes = max(max_message - _HEADER_BYTES, max_message // 2)

    def require(self, size: int, what: str) -> None:
        """Raise InvalidTask if ``what`` takes more than a message can carry."""
        if size > self.bytes:
            raise InvalidTask(
                f"Master {self._master!r}: {what} takes {size} bytes, the daemon takes messages of {self._max_message} "
                "at most; put less, or the name of a file, or raise max_message of [daemon]"
            )

    def pieces(self, table: Table, max_bytes: int, max_rows: int) -> Iterator[Table]:
        """The table in blocks of about that size, of which each can be carried. InvalidTask names a row that cannot."""
        at = 0
        for piece in split(table, min(max_bytes, self.bytes), max_rows):
            yield from self._halves(piece, at)
            at += piece.n

    def _halves(self, table: Table, at: int) -> Iterator[Table]:
        if table.nbytes <= self.bytes:
            yield table
        elif table.n == 1:
            self.require(table.nbytes, f"point {at} of the block")
        else:
            middle = table.n // 2
            yield from self._halves(table.slice(0, middle), at)
            yield from self._halves(table.slice(middle, table.n), at + middle)
