"""Messages about the record of a run: what its learner was asked, the points it gave, and a run that starts from it."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from taskmaster.bus.status import RunInfo, WriterInfo
from taskmaster.bus.table import Layout
from taskmaster.bus.wire import Count, Message, Metadata, Name, Whole

__all__ = [
    "AGAIN",
    "BY_HAND",
    "FOUND",
    "KEPT",
    "MOST_ASKS",
    "Ask",
    "Asks",
    "AsksPage",
    "BlockHead",
    "Fork",
    "Forked",
    "NoteAsks",
    "NoteWriter",
    "Order",
    "ReadAsks",
    "ReadWriters",
    "WriterList",
]

#: What `Ask.asked` says where it is no number of points: they had been asked for before and kept back; …
KEPT = 0
#: … nobody has said that a learner was asked; …
BY_HAND = -1
#: … the task that failed by event `Ask.after` is put again; …
AGAIN = -2
#: … of a leg: tasks that had been put, and are on no disk because the loop was killed, are to be put another time.
FOUND = -3

#: Of one submission: as many as its header has room for, whatever the numbers.
MOST_ASKS = 1 << 16


class Order(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """Where an ask stands among all of a learner whose points go to several runs, the *legs* of one.

    ``number`` counts these asks from 0, ``after`` and ``first`` are the last event told and the first task as counted
    over all legs, and ``told`` says of the events told since the ask before of which leg each was. The same ask may be
    recorded with several legs. Where ``asked`` is :data:`KEPT` and ``number`` that of an ask before, it says only which
    tasks follow.
    """

    number: Count
    after: Whole
    first: Count
    told: tuple[Count, ...] = ()


class Ask(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """The learner was asked for ``asked`` points when event ``after`` was the last it had been told of (-1: none).

    What it gave are the tasks from ``offset`` of their block on, up to the next of these; they may be none. ``asked``
    is :data:`KEPT`, :data:`BY_HAND` or :data:`AGAIN` where it was not asked. Of the leg of a run over several Masters
    there is an ``order``: some of what the learner gave may have gone to other legs.
    """

    offset: Count
    after: Whole
    asked: Whole = BY_HAND
    order: Order | None = None


Asks = Annotated[tuple[Ask, ...], Meta(max_length=MOST_ASKS)]


class NoteAsks(Message, tag="note_asks"):
    """What the learner of a run was asked behind task ``first - 1``, of which no tasks have come: to be recorded.

    The offsets of ``asks`` do not count. ``at`` is how many were recorded there before, so that a repetition changes
    nothing.
    """

    id: Count
    run: Count
    writer: Count
    first: Count
    at: Count
    asks: Asks


class ReadAsks(Message, tag="read_asks"):
    """What was the learner of a run asked, and which points has it given? From task ``first`` on."""

    id: Count
    run: Count
    first: Count = 0


class BlockHead(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """Tasks ``first … first + n - 1`` as they were put: a table in ``frames`` frames, and the asks that began in it."""

    first: int
    n: int
    layout: Layout
    frames: int
    asks: tuple[Ask, ...] = ()


class AsksPage(Message, tag="asks_page"):
    """Answer to ReadAsks: tasks contiguous from the one asked for, whose run's end at ``next_index`` now."""

    id: int
    run: int
    next_index: int
    blocks: tuple[BlockHead, ...] = ()


class NoteWriter(Message, tag="note_writer"):
    """What the writer of a run says of itself: which learner asks from here on. In place of what it said before."""

    id: Count
    run: Count
    writer: Count
    metadata: Metadata


class ReadWriters(Message, tag="read_writers"):
    """Who has opened a run for writing? Those behind writer ``after``."""

    id: Count
    run: Count
    after: Count = 0


class WriterList(Message, tag="writer_list"):
    """Answer to ReadWriters: ``more`` are to be had behind the last of these."""

    id: int
    run: int
    writers: tuple[WriterInfo, ...]
    more: bool = False


class Fork(Message, tag="fork"):
    """Make a run ``name`` of the same Master that starts from the first ``at`` events of this one (None: all)."""

    id: Count
    run: Count
    name: Name
    at: Count | None = None


class Forked(Message, tag="forked"):
    """Answer to Fork: the new run."""

    id: int
    run: RunInfo
