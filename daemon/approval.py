"""Tasks that somebody has to approve before they are evaluated. Sans-I/O, see `master`.

A Master with ``approval = true`` takes submissions as any other does: they are acknowledged, durable and bounded, but
*proposed*, and not queued before somebody approves them. What was decided of which tasks, by whom and why, is in the
journal; and what is proposed at a start is what the journal says so of, so that a change of the configuration lets
nothing through that nobody has looked at.

Who rejects a task has it fail, of kind ``Rejected``. Who edits one gives it another input, which it is evaluated with
and which its events carry; the journal keeps the one it was put with, too.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from taskmaster.bus.errors import Conflict, UnknownTask
from taskmaster.bus.intervals import IntervalSet
from taskmaster.bus.table import Table
from taskmaster.daemon.effects import Decided, Effects
from taskmaster.daemon.run import Edited, Run, by_hand

__all__ = ["Proposals", "approve", "edit", "propose", "reject"]

#: Rejected tasks of one event: each has its error in the event's header, which has a limit.
_REJECTED = 1000


class Proposals:
    """The runs of a Master that have tasks proposed, and how much that is in all.

    Told of a run by :meth:`note` whenever tasks of it may have been proposed or decided upon: the totals are kept as
    differences, for each submission asks for them.
    """

    def __init__(self) -> None:
        #: tasks proposed, and bytes of the inputs of the runs they are of
        self.tasks = self.bytes = 0
        self._runs: dict[int, Run] = {}
        self._noted: dict[int, tuple[int, int]] = {}

    @property
    def runs(self) -> Collection[Run]:
        """Those that have any."""
        return self._runs.values()

    def note(self, run: Run) -> None:
        """Anything may have happened to this run."""
        tasks, size = self._noted.pop(run.id, (0, 0))
        self.tasks -= tasks
        self.bytes -= size
        self._runs.pop(run.id, None)
        if run.proposed:
            self._runs[run.id] = run
            self._noted[run.id] = len(run.proposed), run.input_bytes
            self.tasks += len(run.proposed)
            self.bytes += run.input_bytes


def propose(run: Run, first: int, end: int, user: str, out: Effects) -> None:
    """Have tasks that were just queued wait for approval."""
    run.queued.remove(first, end)
    run.proposed.add(first, end)
    out.records.append(Decided(run.id, first, end, "proposed", "", user, out.wall))


def approve(run: Run, intervals: Sequence[tuple[int, int]], who: str, reason: str, out: Effects) -> int:
    """Queue the proposed tasks among ``intervals``; returns how many."""
    parts = run.proposed.common(IntervalSet(sorted(intervals)))
    for low, high in parts:
        run.proposed.remove(low, high)
        run.queued.add(low, high)
        out.records.append(Decided(run.id, low, high, "approved", reason, who, out.wall))
    return sum(high - low for low, high in parts)


def reject(run: Run, intervals: Sequence[tuple[int, int]], who: str, reason: str, out: Effects) -> int:
    """Have the proposed tasks among ``intervals`` fail; returns how many."""
    parts = run.proposed.common(IntervalSet(sorted(intervals)))
    text = f"by {who}" + (f": {reason}" if reason else "")
    for low, high in parts:
        out.records.append(Decided(run.id, low, high, "rejected", reason, who, out.wall))
        for first, end in run.blocks.alike(low, high):
            for start in range(first, end, _REJECTED):
                stop = min(start + _REJECTED, end)
                run.fail(start, stop, "Rejected", text, by_hand(who), run.attempt(start), out)
    return sum(high - low for low, high in parts)


def edit(run: Run, index: int, table: Table, edits: int, who: str, reason: str, out: Effects) -> int:
    """Give a proposed task another input; returns how often it has been edited now.

    Raises UnknownTask if it is not proposed, Conflict if it was edited since it was looked at (the same again is none).
    """
    if index not in run.proposed:
        raise UnknownTask(
            f"run {run.name!r}: task {index} is not proposed (any more); 'taskmaster proposed' lists those that are"
        )
    known = run.edited.get(index, Edited())
    if run.inputs(index, index + 1)[0].digest() == table.digest():
        return known.times
    if edits != known.times:
        raise Conflict(
            f"run {run.name!r}: task {index} was edited by {known.who} meanwhile; look again ('taskmaster proposed "
            f"{run.master}') before you edit it"
        )
    run.blocks.replace(index, table)
    run.edited[index] = Edited(known.times + 1, who)
    out.records.append(Decided(run.id, index, index + 1, "edited", reason, who, out.wall, table))
    return known.times + 1
