"""Where two recorded runs part: the first thing that a learner would have noticed, or done, differently."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from taskmaster.bus import values
from taskmaster.bus.fields import shown
from taskmaster.bus.messages import AGAIN, BY_HAND, FOUND, KEPT
from taskmaster.learners.history import Recording, Replayable
from taskmaster.learners.playback import LOST, segments
from taskmaster.learners.results import Result
from taskmaster.learners.wholes import whole_recording

__all__ = ["Parting", "part"]


@dataclass(frozen=True)
class Parting:
    """The first difference of two runs."""

    #: so many events had been told when what differs was asked for, or came: these they have in common. (What was asked
    #: for and put later only, because the goal had no use for it before, counts as asked then.)
    told: int
    #: what is different: ``points``, ``asks``, ``results``, or ``end`` where one has no more
    what: str
    #: what there is in either, in words
    one: str
    other: str

    def __str__(self) -> str:
        return f"after {self.told} events, {self.what}: {self.one} in the one, {self.other} in the other"


#: When it was (events told before), what it is about, its bits, and its words.
_Move: TypeAlias = "tuple[int, str, bytes, str]"


def part(one: Replayable | Sequence[Replayable], other: Replayable | Sequence[Replayable]) -> Parting | None:
    """The first difference of two runs, to the bit; None if there is none.

    Compared are the points in the order in which they were put, what the learners were asked when, and how tasks ended
    in which order; not who evaluated, and when. Where there are several differences, the one counts that comes first by
    the events that had been told. Of a run over several Masters either is any leg, or all legs in a list, see
    :func:`~taskmaster.learners.replay.replay`.
    """
    kinds = (_points, _asks, _results)
    mine, yours = whole_recording(one), whole_recording(other)
    found = [parting for kind in kinds if (parting := _first(kind(mine), kind(yours))) is not None]
    return min(found, key=lambda parting: parting.told, default=None)


#: What an ask is that is none.
_NOT_ASKED = {
    AGAIN: "a task was put again",
    BY_HAND: "tasks were put by hand",
    FOUND: "lost tasks were put again",
    LOST: "a task was lost",
}


def _first(one: Iterator[_Move], other: Iterator[_Move]) -> Parting | None:
    for mine, yours in itertools.zip_longest(one, other):
        if mine is None or yours is None:
            told, what, _, words = mine or yours
            end = f"no further {what}"
            return Parting(told, "end", *((words, end) if yours is None else (end, words)))
        if mine[2] != yours[2]:
            return Parting(min(mine[0], yours[0]), mine[1], mine[3], yours[3])
    return None


def _points(history: Recording) -> Iterator[_Move]:
    for segment in segments(history.asks()):
        rows = segment.block.points.rows()
        told = max(0, segment.ask.after + 1)
        for k in range(segment.low, segment.high):
            yield told, "points", values.encode(rows[k]), f"task {segment.block.first + k} is {shown(rows[k])}"


def _asks(history: Recording) -> Iterator[_Move]:
    for segment in segments(history.asks()):
        ask = segment.ask
        if segment.begins and ask.asked != KEPT:
            what = _NOT_ASKED.get(ask.asked)
            words = f"after event {ask.after} {what or f'{ask.asked} points were asked for'}"
            yield max(0, ask.after + 1), "asks", values.encode((ask.after, ask.asked)), words


def _results(history: Recording) -> Iterator[_Move]:
    for result in history.results():
        yield result.seq, "results", values.encode(_as_told(result)), f"event {result.seq}, {result!r}"


def _as_told(result: Result) -> tuple[Any, ...]:
    error = result.error
    told = result.output if error is None else (type(error).__name__, str(error))
    return result.seq, result.index, result.input if result.is_edited else None, told
