"""Messages to frames and back, with limits.

:func:`encode` gives the header of a message; a :class:`Decoder` turns a peer's frames into one of the messages that
socket takes, or raises ProtocolError. Nothing a peer sends can raise anything else here.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

import msgspec

from taskmaster.bus import messages as m, values
from taskmaster.bus.errors import ProtocolError, TooLarge
from taskmaster.bus.status import HeldTask, ProposedTask, RequestInfo, RunInfo
from taskmaster.bus.table import Buffer, Layout, Table, concatenate, pack_values

__all__ = [
    "MAX_FRAMES",
    "MAX_HEADER",
    "Decoder",
    "concatenate",
    "encode",
    "event_tables",
    "merge",
    "request_id",
    "size_of",
    "table_of",
]

#: Frames of one message at most; a page of events has the most, see `daemon/journal/pages.py`.
MAX_FRAMES = 8192
#: Bytes of the msgpack frame at most.
MAX_HEADER = 8 << 20

T = TypeVar("T")

_encode = msgspec.msgpack.Encoder().encode


def encode(message: msgspec.Struct) -> bytes:
    """The header frame of a message. Raises TooLarge where its receiver would refuse it: every message passes here."""
    header = _encode(message)
    if len(header) > MAX_HEADER:
        raise TooLarge(
            f"a message {type(message).__name__} would have a header of {len(header)} bytes, at most {MAX_HEADER} are "
            "allowed; ask for less, or say it in several"
        )
    return header


def size_of(part: m.EventHead | m.TaskError | RunInfo | HeldTask | RequestInfo | ProposedTask) -> int:
    """Bytes that an event, an error of one, or what is said of a run or task takes in the header of its message."""
    return len(_encode(part))


class Decoder(Generic[T]):
    """Decodes the messages that one side of one socket takes; ``extension`` is for those in which values travel."""

    def __init__(self, union: Any, extension: Callable[[int, memoryview], Any] | None = None) -> None:
        self._decode = msgspec.msgpack.Decoder(union, ext_hook=extension).decode

    def decode(self, header: Buffer) -> T:
        """The message in a header frame. Raises ProtocolError."""
        if len(header) > MAX_HEADER:
            raise ProtocolError(f"a header of {len(header)} bytes; at most {MAX_HEADER} are allowed")
        try:
            return self._decode(header)  # type: ignore[no-any-return]
        except (msgspec.DecodeError, RecursionError, ValueError, TypeError, OverflowError, struct.error) as error:
            raise ProtocolError(f"not a message of this socket: {error}") from error


class _Numbered(msgspec.Struct, gc=False):
    """Whatever it is, as far as it has a number."""

    id: m.Count = 0


_numbered = Decoder[_Numbered](_Numbered)


def request_id(header: Buffer) -> int:
    """The ``id`` of a request that cannot be read otherwise, so that it can be refused; 0 where even that cannot."""
    try:
        return _numbered.decode(header).id
    except ProtocolError:
        return 0


def client_decoder() -> Decoder[m.ClientMessage]:
    """For the daemon's control socket."""
    return Decoder(m.ClientMessage)


def daemon_decoder() -> Decoder[m.DaemonMessage]:
    """For a client's control socket."""
    return Decoder(m.DaemonMessage, values.extension)


def publication_decoder() -> Decoder[m.Publication]:
    """For a subscriber."""
    return Decoder(m.Publication)


def worker_decoder() -> Decoder[m.WorkerMessage]:
    """For the daemon's workers socket."""
    return Decoder(m.WorkerMessage)


def to_worker_decoder() -> Decoder[m.ToWorker]:
    """For a worker."""
    return Decoder(m.ToWorker)


def to_host_decoder() -> Decoder[m.ToHost]:
    """For a host of workers."""
    return Decoder(m.ToHost)


def table_of(layout: Layout | None, n: int, frames: Sequence[Buffer]) -> Table | None:
    """The table in a message's frames, checked; None where there is none, and then there may be no frames."""
    if layout is None:
        if frames:
            raise ProtocolError(f"{len(frames)} frames that no layout speaks of")
        return None
    return Table.checked(layout, n, frames)


def event_tables(head: m.EventHead, frames: Sequence[Buffer]) -> tuple[Table | None, Buffer | None, Table | None]:
    """Outputs, finish times and inputs of an event in its frames."""
    if head.n < 0 or len(frames) != head.frames:
        raise ProtocolError(f"an event of {head.frames} frames came with {len(frames)}")
    if head.kind == "done":
        _check_errors(head)
    at = head.outputs.frame_count if head.outputs is not None else 0
    outputs = table_of(head.outputs, head.n - len(head.errors), frames[:at])
    times = None
    if head.timed:
        if at >= len(frames) or memoryview(frames[at]).nbytes != 8 * head.n:
            raise ProtocolError("an event's finish times do not fit its tasks")
        times = frames[at]
        at += 1
    return outputs, times, table_of(head.inputs, head.n, frames[at:])


def _check_errors(head: m.EventHead) -> None:
    """Each task has an output or one error."""
    end = 0
    for error in head.errors:
        if not end <= error.position < head.n:
            raise ProtocolError(f"an error of task {error.position} of {head.n}, which has one already or is none")
        end = error.position + 1
    if head.outputs is None and head.n > len(head.errors):
        raise ProtocolError(f"{head.n} tasks came with {len(head.errors)} errors and without outputs")


def merge(tables: Sequence[Table]) -> Table:
    """One table of the rows of several, which need not share a layout. Raises ProtocolError for rows that cannot be."""
    if len(tables) == 1:
        return tables[0]
    if len({table.layout for table in tables}) == 1:
        return concatenate(tables)
    try:
        return pack_values([row for table in tables for row in table.rows()])
    except TypeError as error:
        raise ProtocolError(f"a value that came cannot travel on: {error}") from error
