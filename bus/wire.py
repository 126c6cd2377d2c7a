"""What all messages are made of: their base, and the numbers that may stand in them."""

from __future__ import annotations

from typing import Annotated, TypeAlias

import msgspec
from msgspec import Meta

from taskmaster.bus.text import LONGEST_TEXT

PROTOCOL_VERSION = 1
#: Code of the Refused that asks a worker to introduce itself (again).
HELLO = "hello"
#: Code of the Refused that says that one message was not heeded, and nothing more: whoever sent it goes on as before.
UNHEEDED = "unheeded"

#: What peers may say: whole numbers that SQLite, JSON and every client can hold, and times that are numbers.
Count: TypeAlias = Annotated[int, Meta(ge=0, le=2**53)]
Whole: TypeAlias = Annotated[int, Meta(ge=-(2**53), le=2**53)]
Slots: TypeAlias = Annotated[int, Meta(ge=1, le=65_536)]
Seconds: TypeAlias = Annotated[float, Meta(ge=-1e15, le=1e15)]

#: What peers may call something, and say of it: far longer than anybody means it, so that who is told so still hears in
#: which field. What a name may be, the daemon says; these bound what it looks at before.
LONGEST_NAME = 1_000
Name: TypeAlias = Annotated[str, Meta(max_length=LONGEST_NAME)]
Text: TypeAlias = Annotated[str, Meta(max_length=LONGEST_TEXT)]

#: ``(epoch, number)``: the daemon start that granted a lease, and a number unique in it.
LeaseId: TypeAlias = tuple[Count, Count]
#: What a series in time is made of.
Scalar: TypeAlias = bool | int | float | str | None
#: ``(low, high)``: the indices ``low ≤ i < high``.
Interval: TypeAlias = tuple[Count, Count]
#: As many as one message names.
MOST_INTERVALS = 1 << 16
Intervals: TypeAlias = Annotated[tuple[Interval, ...], Meta(max_length=MOST_INTERVALS)]
#: Frames of one segment.
MOST_SEGMENT_FRAMES = 10_000
#: What one message of a worker or of its host names at most: a lease for each of its slots, and as many again ahead of
#: time; the workers of a host, which says in several who has more; the slots of one worker; errors, see `portions`.
MOST_LEASES, MOST_TOKENS, MOST_POSITIONS, MOST_ERRORS = 1 << 17, 1 << 14, 1 << 16, 1 << 16
#: What a series in time that somebody tells is made of; the daemon takes fewer of them, and drops others.
Told: TypeAlias = bool | int | float | Text | None
Values: TypeAlias = Annotated[dict[Name, Told], Meta(max_length=1_000)]
#: What is recorded of a run or of its writer; how many bytes that may be in all, the daemon says.
Metadata: TypeAlias = Annotated[dict[Name, str], Meta(max_length=1_000)]


class Message(msgspec.Struct, tag_field="t", omit_defaults=True, gc=False):
    """Base of all messages."""


class Segment(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """Frames that are in memory which both sides can have, and not behind the message; see `taskmaster.bus.segments`.

    ``number`` names it among those of its sender, whose ``descriptor`` of the file with this ``inode`` it is. It holds
    frames of these ``sizes``, each from a multiple of 64 bytes on.
    """

    number: Count
    descriptor: Annotated[int, Meta(ge=0, le=2**31 - 1)]
    inode: Count
    sizes: Annotated[tuple[Count, ...], Meta(max_length=MOST_SEGMENT_FRAMES)]


class Where(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """Which heads of an instrument may evaluate a task: that of this name, those with this capability; empty: any."""

    head: Annotated[str, Meta(max_length=200)] = ""
    capability: Annotated[str, Meta(max_length=200)] = ""


class TaskError(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """Why the task at ``position`` (counted from the first of its event or outcome) has no output."""

    position: Count
    kind: str
    message: str
    traceback: str = ""
    #: ``(arguments, attributes)`` of the exception, encoded, as far as they can travel and are more than its message
    made_of: bytes = b""


class Refused(Message, tag="refused"):
    """A request (``id``) or a submission was not taken; see `taskmaster.bus.errors` for codes.

    A submission is named by its ``run``, ``writer`` and ``first``; its run ends at ``next_index``.
    """

    code: str
    message: str
    id: int = 0
    run: int = 0
    first: int = 0
    next_index: int = 0
    writer: int = 0
