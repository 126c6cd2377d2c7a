"""What is recorded of a routed run: of all its legs together, to be replayed and compared as that of any other run."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

from taskmaster.bus.errors import CallerError, TaskCancelled, TaskFailed
from taskmaster.bus.fields import Schema
from taskmaster.learners.history import AskedBlock, History, Recording
from taskmaster.learners.marks import LegMark, without_mark
from taskmaster.learners.merging import LegRecord, MergedRecord
from taskmaster.learners.results import Result

__all__ = ["RoutedHistory", "RoutedResult"]


class RoutedResult(Result):
    """A result of one of the Masters, numbered as a task and an event of them all."""

    __slots__ = ("_index", "_own", "_seq", "leg", "master")

    def __init__(self, own: Result, index: int, seq: int, master: str, leg: int) -> None:
        self._own = own
        self._index = index
        self._seq = seq
        #: the name of the Master that evaluated it, and which of the legs that is
        self.master = master
        self.leg = leg

    @property
    def index(self) -> int:
        """The task's number in the routed run."""
        return self._index

    @property
    def seq(self) -> int:
        """The number of the event in the routed run."""
        return self._seq

    @property
    def outcome(self) -> str:
        """``done``, ``failed`` or ``cancelled``."""
        return self._own.outcome

    @property
    def input(self) -> Any:
        """The point that was evaluated."""
        return self._own.input

    @property
    def is_edited(self) -> bool:
        """Whether somebody has given the task another input than it was put with."""
        return self._own.is_edited

    @property
    def output(self) -> Any:
        """What the evaluation returned. Raises TaskFailed or TaskCancelled where there is none."""
        return self._own.output

    @property
    def error(self) -> TaskFailed | TaskCancelled | None:
        """Why there is no output; None if there is one."""
        return self._own.error

    @property
    def worker(self) -> str:
        """Who evaluated it."""
        return self._own.worker

    @property
    def attempt(self) -> int:
        """Which evaluation of it this was, from 1."""
        return self._own.attempt

    @property
    def started(self) -> float:
        """When its evaluation began, in seconds since 1970 by the worker's clock."""
        return self._own.started

    @property
    def finished(self) -> float:
        """When its evaluation ended, in seconds since 1970 by the worker's clock."""
        return self._own.finished

    def __iter__(self) -> Iterator[Any]:
        return iter((self.input, self.output))


class RoutedHistory:
    """The legs of a routed run as one :class:`~taskmaster.learners.history.Recording`.

    ``legs`` are what is recorded of each, in their order and as it was at one time, ``mark`` is that of any. Tasks are
    numbered in the order in which they were put, and events, of which there are those only that tell how a task ended,
    as they were told. The results that came after the last ask that is on record come in the order in which they were
    finished.
    """

    def __init__(self, legs: Sequence[Recording], mark: LegMark) -> None:
        #: what is recorded of each
        self.legs = tuple(legs)
        first = self.legs[0]
        self.name, self.seed, self.metadata = first.name, first.seed, without_mark(first.metadata)
        #: the Masters' names
        self.master = "+".join(leg.master for leg in self.legs)
        #: ``MASTER+MASTER/NAME``
        self.title = f"{self.master}/{self.name}"
        self.created = min(leg.created for leg in self.legs)
        #: what the learner was given: the first Master's, unless it was recorded that it was something else
        self.parameters = first.parameters if mark.parameters is None else mark.parameters
        self.outputs = first.outputs if mark.outputs is None else mark.outputs
        #: how many tasks they have, and how many of these have ended: that is how many events there are
        self.next_index = sum(leg.next_index for leg in self.legs)
        self.next_seq = self.ended = sum(leg.ended for leg in self.legs)

    @property
    def command_name(self) -> str | None:
        """What the command line knows it by: any leg, if one daemon has all of them; else None."""
        daemons = {leg.lab.address if isinstance(leg, History) else None for leg in self.legs}
        return None if len(daemons) > 1 or None in daemons else getattr(self.legs[0], "command_name", None)

    def __repr__(self) -> str:
        return f"<RoutedHistory of {self.title}: {self.next_index} tasks, {self.next_seq} events>"

    def asks(self) -> Iterator[AskedBlock]:
        """Its tasks as they were put, with what the learner was asked."""
        return self.reading().asks()

    def results(self, until: float = math.inf) -> Iterator[Result]:
        """How its tasks ended, in the order in which that was told, up to the one before event ``until``."""
        return _Reading(self, keep=False).results(until)

    def reading(self) -> _Reading:
        """To read what was asked and how it ended at the same time, each page once."""
        return _Reading(self, keep=True)


class _Reading:
    """A routed history read once for both."""

    def __init__(self, history: RoutedHistory, *, keep: bool) -> None:
        self._history = history
        readings = [leg.reading() for leg in history.legs]
        records = [
            LegRecord(leg.title, Schema(tuple(leg.parameters), leg.master), reading.asks(), leg.next_index)
            for leg, reading in zip(history.legs, readings)
        ]
        self._merged = MergedRecord(records, keep=keep)
        self._results = [reading.results() for reading in readings]
        #: of each leg the next result, once it was looked at
        self._heads: list[Result | None] = [None] * len(readings)

    def asks(self) -> Iterator[AskedBlock]:
        """See :meth:`RoutedHistory.asks`."""
        return self._merged.asks()

    def results(self, until: float = math.inf) -> Iterator[Result]:
        """See :meth:`RoutedHistory.results`."""
        legs, merged = self._history.legs, self._merged
        for seq in range(int(min(until, self._history.next_seq))):
            k = merged.due()
            if k is not None:
                merged.on_told()
            else:
                k = min((k for k in range(len(legs)) if self._head(k) is not None), key=self._finished, default=0)
            own = self._head(k)
            if own is None:
                raise CallerError(
                    f"the learner of run {self._history.title!r} was told as event {seq} of a result of "
                    f"{legs[k].title!r}, which is not there: it came while this was read (try again), or its journal "
                    "was restored from an earlier copy"
                )
            self._heads[k] = None
            yield RoutedResult(own, merged.take(k, own.index), seq, legs[k].master, k)

    def _head(self, leg: int) -> Result | None:
        if self._heads[leg] is None:
            self._heads[leg] = next(self._results[leg], None)
        return self._heads[leg]

    def _finished(self, leg: int) -> float:
        head = self._heads[leg]
        assert head is not None
        return head.finished
