"""Forks of simulated runs: a run from the beginning of another, by the daemon's rules (`daemon.journal.forks`).

A fork has the first ``at`` events, and the tasks that had been put by then: those before the first of which it is
recorded that it was put when a later event had been told. Of these, the ones that had not ended keep the outcomes that
they had later, in that order, behind those events. Tasks without any outcome are open.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from taskmaster.bus.errors import CallerError, Conflict
from taskmaster.bus.messages import Ask
from taskmaster.bus.status import WriterInfo
from taskmaster.learners.arguments import LARGEST, text, whole
from taskmaster.learners.simulate.journal import RunJournal

if TYPE_CHECKING:
    from taskmaster.learners.simulate.master import SimulatedMaster

__all__ = ["fork"]


def fork(master: SimulatedMaster, source: RunJournal, name: str, at: int | None) -> RunJournal:
    """A run ``name`` that starts from the first ``at`` events of this one, or all; the same one if it was made before.

    Raises CallerError where there are not so many events, Conflict where another run has that name.
    """
    events = len(source.events)
    name, at = text(name, "a run's name"), events if at is None else whole(at, "at", 0, LARGEST)
    if not name:
        raise CallerError("a fork needs a name, by which it is opened")
    if at > events:
        raise CallerError(f"run {source.name!r} has {events} events, it cannot be forked at {at}")
    origin = {"forked_from": f"{master.name}/{source.name}", "forked_at": str(at)}
    known = master.journals.get(name)
    if known is not None and origin.items() <= known.metadata.items():
        return known
    if known is not None:
        raise Conflict(f"Master {master.name!r} has a run {name!r} already; choose another name")
    made = master.begin(name, source.seed, {**source.metadata, **origin}, source.priority)
    end, made.asks = _beginning(source, at)
    made.writers = [_as_forked(writer) for writer in source.writers if writer.first < end]
    _take_over(source, made, at, end)
    if source.closed_at is not None and source.closed_at <= at:
        made.closed_at = len(made.events)
    return made


def _beginning(source: RunJournal, at: int) -> tuple[int, list[Ask]]:
    """Where the tasks end that had been put by then, and what the learner had been asked."""
    told_of = max((task.index + 1 for task in source.events[:at]), default=0)
    for position, ask in enumerate(source.asks):
        if ask.after >= at:
            if ask.offset >= told_of:
                return ask.offset, source.asks[:position]
            # The record contradicts itself: a task has ended that nobody had a reason to put.
            return told_of, [one for one in source.asks if one.offset < told_of and one.after < at]
    return source.next_index, source.asks[:]


def _as_forked(writer: WriterInfo) -> WriterInfo:
    return WriterInfo(writer.writer, writer.first, writer.user, writer.time, writer.metadata, True)


def _take_over(source: RunJournal, made: RunJournal, at: int, end: int) -> None:
    """The tasks below ``end``, with the outcomes that they have; those without any are put."""
    puts = [task.copied(made) for task in source.puts[:end]]
    made.puts, made.next_index = puts, end
    for seq, task in enumerate(source.events):
        if seq < at or task.index < end:
            copy = puts[task.index]
            copy._seq = len(made.events)
            made.events.append(copy)
    left = [task for task in puts if not task._outcome]
    made.unended = {task.index: task for task in left}
    made.master.workers.put_many(made, left)
