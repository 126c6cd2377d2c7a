"""Tables as the journal stores them, the frames one after the other, in a row or in a payload file; events and asks."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from taskmaster.bus import messages as m
from taskmaster.bus.errors import JournalDamaged
from taskmaster.bus.record_messages import MOST_ASKS
from taskmaster.bus.table import Buffer, Layout, Table
from taskmaster.daemon.journal.payloads import Payloads, size_of

__all__ = ["FiledTable", "decode_asks", "encode_asks", "read_event", "split_frames", "with_noted"]

_errors = msgspec.json.Decoder(tuple[m.TaskError, ...]).decode
_asks = msgspec.json.Decoder(tuple[m.Ask, ...]).decode


class FiledTable(Table):
    """Rows of a table that a payload file holds.

    It keeps the file's name and nothing else: thousands of large blocks may wait in a queue, and a map of a file costs
    a descriptor. The file is mapped when ``frames`` are asked for, through the bounded cache of
    :meth:`Payloads.read`; a slice of one that was not asked for has not been read. Asking raises JournalDamaged or
    JournalError where the file is not what was written.
    """

    __slots__ = ("_file", "_low", "_payloads", "_whole")

    in_memory = False

    def __init__(
        self, payloads: Payloads, file: str, layout: Layout, whole: int, low: int = 0, high: int | None = None
    ) -> None:
        # Not the base's: what it would set is computed here.
        self.layout = layout
        self.n = (whole if high is None else high) - low
        self._columns = self._rows = None
        self._payloads = payloads
        self._file = file
        self._whole = whole
        self._low = low

    @property
    def frames(self) -> list[Buffer]:  # type: ignore[override]  # of a table that is immutable, nobody sets them
        """The buffers, mapped for as long as somebody holds them."""
        frames = split_frames(self.layout, self._whole, self._payloads.read(self._file))
        return list(Table(self.layout, self._whole, frames).slice(self._low, self._low + self.n).frames)

    @property
    def nbytes(self) -> int:  # type: ignore[override]
        """Bytes of the buffers; of a whole table, and of numbers, without reading them."""
        if self.n == self._whole:
            return size_of(self._file)
        parts = self.layout.parts
        if any(part.is_objects for part in parts):
            return sum(map(len, self.frames))
        return self.n * sum(part.row_bytes for part in parts)

    def slice(self, low: int, high: int) -> FiledTable:
        """Rows ``low:high``, without reading them."""
        if low == 0 and high == self.n:
            return self
        return FiledTable(self._payloads, self._file, self.layout, self._whole, self._low + low, self._low + high)


def split_frames(layout: Layout, n: int, data: Buffer) -> list[Buffer]:
    """The frames of a table in what was stored one after the other; raises JournalDamaged if they do not fit."""
    view = memoryview(data)
    frames: list[Buffer] = []
    at = 0
    for size in _frame_sizes(layout, n, view):
        frames.append(view[at : at + size])
        at += size
    if at > view.nbytes:
        raise JournalDamaged(f"a table of {n} rows needs {at} bytes, the journal holds {view.nbytes}")
    return frames


def _frame_sizes(layout: Layout, n: int, view: memoryview) -> list[int]:
    sizes: list[int] = []
    for part in layout.parts:
        if not part.is_objects:
            sizes.append(n * part.row_bytes)
            continue
        at = sum(sizes)
        offsets = view[at : at + 4 * (n + 1)]
        if offsets.nbytes < 4 * (n + 1):
            raise JournalDamaged(f"a table of {n} rows is cut short")
        (first,), (last,) = struct.unpack_from("<I", offsets, 0), struct.unpack_from("<I", offsets, 4 * n)
        sizes += (4 * (n + 1), last - first)
    return sizes


def encode_asks(asks: Sequence[m.Ask]) -> str:
    """What was asked in a block, as a JSON list of arrays; where there is no order over several runs, nothing of it."""
    return msgspec.json.encode(asks).replace(b",null]", b"]").decode()


def decode_asks(text: str) -> tuple[m.Ask, ...]:
    """What was asked in a block; where it was written before it said for how many points, that is not known.

    Raises JournalDamaged.
    """
    try:
        return _asks(text)
    except msgspec.DecodeError as error:
        raise JournalDamaged(f"what the learner of a run was asked cannot be understood: {error}") from error


def with_noted(asks: tuple[m.Ask, ...], n: int, at: int, noted: tuple[m.Ask, ...]) -> tuple[m.Ask, ...]:
    """The asks of a block of ``n`` tasks with those ``noted`` behind its last task, from the number ``at`` of them on.

    As many as one submission may have at most: further ones are not kept. Nor is what comes again, late.
    """
    own = tuple(ask for ask in asks if ask.offset < n)
    behind = asks[len(own) :]
    if len(behind) < at + len(noted):
        behind = behind[:at] + tuple(m.Ask(n, ask.after, ask.asked, ask.order) for ask in noted)
    return own + behind[:MOST_ASKS]


def read_event(
    payloads: Payloads, layouts: Mapping[int, Layout], row: Sequence[Any]
) -> tuple[m.EventHead, list[Buffer]]:
    """The head and the frames of a row of `sql.SELECT_EVENTS`. Raises JournalDamaged where they do not fit."""
    seq, n, kind, first, layout, errors, timed, worker, attempt, started, finished, data, file = row
    try:
        failures = _errors(errors) if errors else ()
        outputs = layouts[layout] if layout is not None else None
    except (KeyError, msgspec.DecodeError) as error:
        raise JournalDamaged(f"event {seq} of its run cannot be understood: {error!r}") from error
    frames: list[Buffer] = []
    if outputs is not None or timed:
        content = memoryview(data if file is None else payloads.read(file))
        times = content.nbytes - 8 * n if timed else content.nbytes
        if times < 0:
            raise JournalDamaged(f"event {seq} of its run is cut short")
        if outputs is not None:
            frames = split_frames(outputs, n - len(failures), content[:times])
        if timed:
            frames.append(content[times:])
    head = m.EventHead(
        seq, n, kind, first, len(frames), outputs, failures, worker, attempt, started, finished, bool(timed)
    )
    return head, frames
