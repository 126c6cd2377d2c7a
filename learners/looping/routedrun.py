"""A run over several Masters, as a Loop drives a learner against it: the runs of each of them, its legs, as one.

Tasks are numbered in the order in which they were put, whichever leg they went to, and events in the order in which
they were taken. Both are on record with the legs (see `merging`): going on with runs that exist, what is recorded comes
in the order in which it came then. Results that came after the last ask that is on record come as they are finished.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, NoReturn

from taskmaster.bus.errors import CallerError, DaemonUnreachable
from taskmaster.bus.fields import Schema
from taskmaster.bus.messages import BY_HAND
from taskmaster.learners.history import AskedBlock
from taskmaster.learners.looping.legs import Leg, waiting
from taskmaster.learners.looping.noting import Notes
from taskmaster.learners.marks import LegMark, without_mark
from taskmaster.learners.merging import LegRecord, MergedRecord
from taskmaster.learners.results import Result
from taskmaster.learners.routed import RoutedHistory, RoutedResult
from taskmaster.learners.target import LegRun, TargetRun
from taskmaster.learners.wholes import put_together

if TYPE_CHECKING:
    from taskmaster.learners.looping.routes import Routes

__all__ = ["RoutedRun"]

#: Asks that may wait to be recorded with any of the Masters: so many take milliseconds to write and to send.
_MOST_NOTES = 8192


class RoutedRun:
    """Runs of several Masters as one; see :class:`~taskmaster.learners.looping.routes.Routes`.

    One thread puts and takes. ``runs`` are in the order of the Masters of ``routes``, and ``marks`` say which legs they
    are.
    """

    def __init__(self, routes: Routes, runs: Sequence[LegRun], marks: Sequence[LegMark]) -> None:
        #: the legs in the order of the Masters, and by their numbers
        self._given = [Leg(run, mark.number) for run, mark in zip(runs, marks)]
        self._legs = sorted(self._given, key=lambda leg: leg.number)
        self._mark = marks[0]
        first = self._legs[0].run
        self.master = routes
        self.name = first.name
        self.seed = first.seed
        self.metadata: Mapping[str, str] = without_mark(first.metadata)
        #: the index that the next task will get
        self.next_index = sum(run.next_index for run in runs)
        #: ``seq`` of the last event that was taken; -1 if there was none
        self.told = -1
        #: where points are put, and where results arrive: here
        self.tasks = self.results = self
        self._record = self._merged(keep=False)
        #: None as long as not all that is recorded was read
        self._notes: Notes | None = None
        #: what had been told when an ask was noted last
        self._noted_at = -2
        self._waiting = waiting(f"run {self.name!r} of {routes.name!r}", self._legs)

    @property
    def runs(self) -> tuple[TargetRun, ...]:
        """The run of each Master, in their order."""
        return tuple(leg.run for leg in self._given)

    @property
    def command_name(self) -> str | None:
        """What the command line knows it by: any leg, if one daemon has all of them; else None."""
        daemons = {getattr(getattr(leg.run.master, "lab", None), "address", None) for leg in self._legs}
        return None if len(daemons) > 1 or None in daemons else getattr(self._legs[0].run, "command_name", None)

    @property
    def expression(self) -> str:
        """What a program has it by."""
        return f"Routes([{self._mark.each()}]).history({self.name!r})"

    @property
    def open_tasks(self) -> int:
        """Tasks whose outcome has not arrived here."""
        return self.next_index - self.told - 1

    def clock(self) -> float:
        """Seconds, by the first Master's clock."""
        return self._legs[0].run.clock()

    def time(self) -> float:
        """Seconds since 1970."""
        return self._legs[0].run.time()

    def flush(self, timeout: float | None = None) -> None:
        """Wait, up to ``timeout`` seconds for each Master, until all that was put is recorded, and what was asked."""
        self._hand_over()
        for leg in self._legs:
            leg.run.flush(timeout)
        if self._notes is not None:
            self._notes.on_recorded()

    def close(self) -> None:
        """No further tasks, at any of the Masters, and no further results here."""
        self._hand_over()
        self._waiting.end()
        for leg in self._legs:
            leg.run.close()

    def detach(self) -> None:
        """No further results here; the runs are left as they are."""
        self._waiting.end()
        for leg in self._legs:
            leg.run.detach()

    def __enter__(self) -> RoutedRun:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.close()
        else:
            with contextlib.suppress(DaemonUnreachable):  # what has gone wrong before is what is to be raised
                self.detach()

    # -- what is recorded ---------------------------------------------------------------------------------------------

    def record(self) -> Iterator[AskedBlock]:
        """The tasks that it has, over all Masters, as they were put, and where the learner was asked for them."""
        if self.told < 0 and self._notes is None and not self._record.is_begun:
            self._record = self._merged(keep=True)  # it is read once for both: this, and the order of results
            return self._record.asks()
        return self._merged(keep=False).asks()

    def history(self) -> RoutedHistory:
        """What is recorded of it up to now, to be replayed, or compared with another."""
        return put_together(lambda: [leg.run.history() for leg in self._legs])

    def fork(self, name: str, at: int | None = None) -> NoReturn:
        """Raises CallerError: no daemon knows where the legs that others have stood at an event of its own."""
        raise CallerError(
            f"run {self.name!r} of {self.master.name!r} is over several Masters, and cannot be forked. To look at its "
            "learner where it was, replay it up to there: replay(learner, run, until=n); to go another way, begin a "
            "new run"
        )

    def _merged(self, *, keep: bool) -> MergedRecord:
        return MergedRecord([_leg_record(leg.run) for leg in self._legs], keep=keep)

    def _known(self) -> Notes:
        """Where new asks are noted, behind all that is recorded."""
        if self._notes is None:
            record = self._record
            record.read_all()
            self._notes = Notes(self._legs, record.number, record.after, record.task)
        return self._notes

    def _hand_over(self) -> None:
        if self._notes is not None:
            self._notes.hand_over()

    # -- tasks --------------------------------------------------------------------------------------------------------

    def put(self, point: Any) -> int:
        """Put a point where it costs least; returns its index. Raises InvalidTask."""
        return self._put(self.master.choose(point, [leg.in_flight for leg in self._given]), point)

    def put_many(self, points: Sequence[Any]) -> list[int]:
        """Put several. Raises InvalidTask, and has put none, if there is one that no Master takes."""
        in_flight = [leg.in_flight for leg in self._given]
        chosen = []
        for point in points:
            k = self.master.choose(point, in_flight)
            self.master.require(k, point)
            in_flight[k] += 1
            chosen.append(k)
        return [self._put(k, point) for k, point in zip(chosen, points)]

    def _put(self, k: int, point: Any) -> int:
        leg, notes = self._given[k], self._known()
        if len(notes) > _MOST_NOTES:
            self.flush()
        if self._noted_at != self.told:
            self.new_ask()
        self._waiting.level()
        notes.before_put(leg)
        there = leg.run.tasks.put(point)
        notes.on_put(leg)
        index = self.next_index
        self._record.add(leg.number, there, index)
        self.next_index = index + 1
        return index

    def new_ask(self, after: int | None = None, asked: int = BY_HAND) -> None:
        """What is put next was asked for together: it is noted with the Masters that it goes to."""
        self._known().on_ask(self.told if after is None else after, asked)
        self._noted_at = self.told

    def gather(self, on: bool = True) -> None:
        """Whether what is put may be kept until :meth:`send`, or until a result is waited for."""
        for leg in self._legs:
            leg.run.tasks.gather(on)

    def send(self, *, listen: bool = True) -> None:
        """Let go what was gathered."""
        for leg in self._legs:
            leg.run.tasks.send(listen=listen)

    # -- results ------------------------------------------------------------------------------------------------------

    def get(self, timeout: float | None = None) -> Result:
        """The next result: as recorded, and behind that of those that are here the one that was finished first.

        Raises TimeoutError after ``timeout`` seconds, and what waiting at one of the Masters raises.
        """
        self.send()
        due = self._record.due()
        leg, own = self._waiting.take(lambda: self._next(due), timeout)
        leg.told = own.seq
        leg.taken += 1
        self.told += 1
        if due is None:
            self._known().on_told(leg)
        else:
            self._record.on_told()
        index = self._record.take(leg.number, own.index)
        return RoutedResult(own, index, self.told, leg.run.master.name, leg.number)

    def rouse(self, on: bool = True) -> None:
        """Have :meth:`get` raise TimeoutError now; from any thread, and from a signal's handler."""
        self._waiting.rouse(on)

    def __iter__(self) -> Iterator[Result]:
        """Results until no task is open."""
        while self.open_tasks:
            yield self.get()

    def _next(self, due: int | None) -> Leg | None:
        """Whose result is next, of what has come; ``due`` is the leg of which the record says so."""
        if due is not None and self._legs[due].result is not None:
            return self._legs[due]
        here = [leg for leg in self._legs if leg.result is not None]
        if here and due is None:
            return min(here, key=_finished)
        return next((leg for leg in self._legs if leg.came and leg.result is None), None)


def _leg_record(run: LegRun) -> LegRecord:
    master = run.master
    schema = Schema(tuple(master.parameters), master.name)
    return LegRecord(f"{master.name}/{run.name}", schema, run.record(), run.next_index)


def _finished(leg: Leg) -> float:
    assert leg.result is not None
    return leg.result.finished
