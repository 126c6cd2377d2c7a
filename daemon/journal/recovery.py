"""From the journal back to the daemon's memory."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain, groupby
from typing import Any

import apsw
import numpy as np

from taskmaster.bus.errors import JournalDamaged
from taskmaster.bus.intervals import IntervalSet
from taskmaster.bus.messages import LeaseId, Where
from taskmaster.bus.table import Layout, Table, concatenate
from taskmaster.daemon.blocks import Block
from taskmaster.daemon.core import Core
from taskmaster.daemon.effects import Checkpointed, Effects, LeaseGranted, RequestClaimed
from taskmaster.daemon.held import Doubt
from taskmaster.daemon.journal import sql
from taskmaster.daemon.journal.failures import journal_error
from taskmaster.daemon.journal.journal import Journal
from taskmaster.daemon.journal.series import restore_series
from taskmaster.daemon.run import CLAIMS, Edited, Run
from taskmaster.daemon.runs import Resting
from taskmaster.daemon.supervision import started
from taskmaster.drivers.progress import Position

__all__ = ["restore", "restore_run"]

#: Blocks smaller than this are put together as they are read, up to this size: one by one, a million of them would take
#: seconds.
_GATHER_BYTES = 256 << 10
#: Up to so many gaps between the tasks that have ended, the blocks of each are looked up; else all are gone through.
_FEW_GAPS = 1000

_RESTARTED = "the daemon was restarted"


def restore(core: Core, journal: Journal, progress: Mapping[str, Sequence[Position]], now: float, out: Effects) -> None:
    """Give ``core`` every run, block, lease and switch that the journal holds.

    ``progress`` says by token where the daemon's own former workers were, as far as that is known. They are gone;
    what they left is requeued, failed or held as the Master's ``on_lost`` says, appended to ``out``. Workers that had
    dialled in are awaited. Raises JournalDamaged where the journal contradicts itself, JournalError where it cannot be
    read.
    """
    try:
        _restore(core, journal, progress, now, out)
    except apsw.Error as error:
        raise journal_error(error, f"the journal {journal.path} cannot be read") from error


def _restore(
    core: Core, journal: Journal, progress: Mapping[str, Sequence[Position]], now: float, out: Effects
) -> None:
    for name, paused in journal.query(sql.SELECT_MASTERS):
        if name in core.masters:
            core.masters[name].paused = bool(paused)
    _restore_heads(core, journal)
    _restore_runs(core, journal, out)
    core.runs.next_number = (journal.query(sql.LAST_RUN).get or 0) + 1
    _restore_claims(core, journal, out)
    recorded = _restore_leases(core, journal, progress, now, out)
    for at in (at for slots in progress.values() for at in slots):
        run = core.runs.get(at.run)
        if at.lease not in recorded and at.started and run is not None and run.master in core.masters:
            core.masters[run.master].restore_unrecorded(run, at.first + at.started - 1, at.attempt, _RESTARTED, out)
    restore_series(core, journal, now, out)


def _restore_heads(core: Core, journal: Journal) -> None:
    stopped = dict(journal.query(sql.SELECT_STOPPED))
    for name, master in core.masters.items():
        master.heads.restore(stopped.get(name, ""), list(journal.query(sql.SELECT_HEADS, (name,))))
        master.heads.restore_counts(list(journal.query(sql.SELECT_HEAD_COUNTS, (name,))))


def _restore_runs(core: Core, journal: Journal, out: Effects) -> None:
    """Those that are over, which is most, are taken over row by row; of the others everything is looked up."""
    claims = _Claims(journal)
    for row in journal.query(sql.SELECT_RUNS):
        state = _state(row, claims.of(row[0]))
        last_index, last_seq = row[16:]
        ended = state.done + state.failed + state.cancelled
        if (state.next_index, state.next_seq) == (last_index, last_seq) and ended == state.next_index:
            core.runs.add_resting(state)
        else:
            _take_up(core, journal, state, out)


def _state(row: Sequence[Any], claims: tuple[tuple[str, int], ...]) -> Resting:
    return Resting(*(*row[:8], bool(row[8]), bool(row[9]), *row[10:16], claims))


def _take_up(core: Core, journal: Journal, state: Resting, out: Effects) -> Run:
    run = _restore_run(journal, state)
    _restore_places(journal, run)
    core.runs.add(run)
    if run.master in core.masters:
        core.masters[run.master].restore_checkpoints(run)
    if run.held and run.master in core.masters:
        core.masters[run.master].restore_doubts(run, out)
    return run


def restore_run(core: Core, journal: Journal, number: int) -> Run:
    """Give ``core`` one run more that the journal holds, which nobody has opened yet and of which nothing is held."""
    try:
        (row,) = journal.query(sql.SELECT_RUN, (number,))
        return _take_up(core, journal, _state(row, ()), Effects())
    except apsw.Error as error:
        raise journal_error(error, f"the journal {journal.path} cannot be read") from error


def _restore_places(journal: Journal, run: Run) -> None:
    """Which heads the tasks of a run ask for, and from where they can go on."""
    queued, run.queued = run.queued, IntervalSet()
    for first, n, head, capability in journal.query(sql.SELECT_PLACES, (run.id,)):
        run.ask_for(first, first + n, Where(head, capability))
    for index, attempt, head, epoch, lease, number, time, token, lost in journal.query(
        sql.SELECT_CHECKPOINTS, (run.id,)
    ):
        checkpoint = Checkpointed(run.id, index, attempt, head, (epoch, lease), number, time, token, lost)
        run.checkpoints[checkpoint.index] = checkpoint
        if checkpoint.lost:
            run.place(checkpoint.index, checkpoint.index + 1, Where(head=checkpoint.head))
    for low, high in queued:
        run.queued.add(low, high)


class _Claims:
    """The claims of one run after the other, out of one query over all."""

    def __init__(self, journal: Journal) -> None:
        self._rows: Iterator[tuple[int, str, int]] = iter(journal.query(sql.SELECT_CLAIMS))
        self._next = next(self._rows, None)

    def of(self, run: int) -> tuple[tuple[str, int], ...]:
        """The latest of a run; to be called with increasing numbers."""
        found: deque[tuple[str, int]] = deque(maxlen=CLAIMS)
        while self._next is not None and self._next[0] <= run:
            if self._next[0] == run:
                found.append(self._next[1:])
            self._next = next(self._rows, None)
        return tuple(found)


def _restore_run(journal: Journal, state: Resting) -> Run:
    run = state.waken()
    _count_on(journal, run)
    if run.done + run.failed + run.cancelled < run.next_index:
        _restore_tasks(journal, run)
    return run


def _count_on(journal: Journal, run: Run) -> None:
    """Bring the counts in the run's row, which lag behind, up to its last block and event."""
    last_index = journal.query(sql.LAST_INDEX, (run.id,)).get or 0
    last_seq = journal.query(sql.LAST_SEQ, (run.id,)).get or 0
    if last_index < run.next_index or last_seq < run.next_seq:
        raise _damaged(
            journal, run, f"had {run.next_index} tasks and {run.next_seq} events, there are {last_index} and {last_seq}"
        )
    for kind, n, failed in journal.query(sql.COUNT_EVENTS, (run.id, run.next_seq)):
        if kind == "cancelled":
            run.cancelled += n
        else:
            run.done += n - failed
            run.failed += failed
    run.next_index, run.next_seq = last_index, last_seq


def _damaged(journal: Journal, run: Run, what: str) -> JournalDamaged:
    return JournalDamaged(
        f"the journal {journal.path} is damaged: run {run.name!r} of Master {run.master!r} {what}; 'taskmaster check "
        f"--journal {journal.folder}' shows what can be kept"
    )


def _restore_tasks(journal: Journal, run: Run) -> None:
    """Which tasks have no outcome yet, and their inputs."""
    for low, high in _without_outcome(journal, run):
        run.open.add(low, high)
        run.queued.add(low, high)
    for block in _blocks(journal, run):
        run.blocks.add(block)
    for kind, first, n, *what in journal.query(sql.SELECT_HELD, (run.id,)):
        if kind == "held":
            for low, high in run.open.within(first, first + n):
                run.held.add(Doubt(low, high, *what))
        else:
            run.held.remove(first, first + n)
    for low, high in run.held:
        run.queued.remove(low, high)
    _restore_approvals(journal, run)
    for first, end, used in _stretches(journal.query(sql.SELECT_ATTEMPTS, (run.id,))):
        for low, high in run.open.within(first, end):
            run.attempts.set(low, high, used)


def _restore_approvals(journal: Journal, run: Run) -> None:
    """Which open tasks are proposed, and which have another input than they were put with."""
    layouts = journal.layouts()
    for first, n, what, user, layout, data in journal.query(sql.SELECT_APPROVALS, (run.id,)):
        for low, high in run.open.within(first, first + n):
            if what == "proposed":
                run.proposed.add(low, high)
            elif what == "edited":
                run.blocks.replace(low, journal.stored_table(layouts[layout], 1, data, None))
                run.edited[low] = Edited(run.edited.get(low, Edited()).times + 1, user)
            else:
                run.proposed.remove(low, high)
    for low, high in run.proposed:
        run.queued.remove(low, high)


def _restore_claims(core: Core, journal: Journal, out: Effects) -> None:
    """Requests that somebody had taken are taken still."""
    for row in list(journal.query(sql.SELECT_CLAIMED)):
        record = RequestClaimed(*row)
        run = core.runs.get(record.run)
        if run is not None and run.master in core.masters:
            core.masters[run.master].requests.restore(run, record, out)


def _stretches(rows: Iterable[tuple[int, int]]) -> Iterator[tuple[int, int, int]]:
    """``(first, end, count)`` of neighbouring tasks that have the same count."""
    for _, group in groupby(enumerate(rows), key=lambda row: (row[1][0] - row[0], row[1][1])):
        tasks = [row for _, row in group]
        yield tasks[0][0], tasks[-1][0] + 1, tasks[0][1]


def _without_outcome(journal: Journal, run: Run) -> list[tuple[int, int]]:
    """The tasks that have none, as intervals. One row for each task is the rule where results come one by one."""
    rows = journal.query(sql.SELECT_ENDED, (run.id,))
    ended = np.fromiter(chain.from_iterable(rows), np.int64).reshape(-1, 2)
    ended = ended[np.argsort(ended[:, 0], kind="stable")]
    counted, have = run.done + run.failed + run.cancelled, int(ended[:, 1].sum())
    if have != counted:
        raise _damaged(journal, run, f"counts {counted} outcomes, there are {have}")
    starts = np.append(ended[:, 0], run.next_index)
    ends = np.concatenate([[0], ended.sum(axis=1)])
    if (starts < ends).any():
        raise _damaged(journal, run, f"has two outcomes of task {int(starts[starts < ends][0])}")
    gaps = starts > ends
    return list(zip(ends[gaps].tolist(), starts[gaps].tolist()))


def _blocks(journal: Journal, run: Run) -> Iterator[Block]:
    """The blocks of which any task is open, small neighbours put together."""
    layouts = journal.layouts()
    first = end = size = 0
    layout = 0
    gathered: list[tuple[int, bytes]] = []
    for at, n, number, data, file in _block_rows(journal, run):
        small = file is None and len(data) < _GATHER_BYTES
        if gathered and (not small or at != end or number != layout or size + len(data) > _GATHER_BYTES):
            yield Block(first, _gather(journal, layouts[layout], gathered))
            gathered.clear()
        if not small:
            if file is not None:
                journal.payloads.read(file)  # looked through now, when the daemon can still refuse to start
            yield Block(at, journal.stored_table(layouts[number], n, data, file))
            continue
        if not gathered:
            first, layout, size = at, number, 0
        gathered.append((n, data))
        size += len(data)
        end = at + n
    if gathered:
        yield Block(first, _gather(journal, layouts[layout], gathered))


def _block_rows(journal: Journal, run: Run) -> Iterator[tuple[int, int, int, bytes, str | None]]:
    if run.open.pieces > _FEW_GAPS:
        for row in journal.query(sql.SELECT_BLOCKS, (run.id,)):
            if run.open.within(row[0], row[0] + row[1]):
                yield row
        return
    end = 0
    for low, high in run.open:
        if high > end:
            for row in journal.query(sql.SELECT_BLOCKS_OF, (run.id, max(low, end), high)):
                end = row[0] + row[1]
                yield row


def _gather(journal: Journal, layout: Layout, rows: Sequence[tuple[int, bytes]]) -> Table:
    """One table of the rows of several."""
    if len(layout.parts) == 1 and not layout.parts[0].is_objects:
        return Table(layout, sum(n for n, _ in rows), [b"".join([data for _, data in rows])])
    tables = [journal.stored_table(layout, n, data, None) for n, data in rows]
    return concatenate(tables) if len(tables) > 1 else tables[0]


def _restore_leases(
    core: Core, journal: Journal, progress: Mapping[str, Sequence[Position]], now: float, out: Effects
) -> set[LeaseId]:
    """Returns which leases the journal knew of."""
    recorded = set()
    lost = set()
    for epoch, number, run_id, first, n, attempt, worker, local, time, name in list(journal.query(sql.SELECT_LEASES)):
        run = core.runs.get(run_id)
        if run is None or run.master not in core.masters:
            continue
        recorded.add((epoch, number))
        record = LeaseGranted((epoch, number), run_id, first, n, attempt, worker, bool(local), time, name)
        core.masters[run.master].restore_lease(record, run, now)
        if local:
            lost.add(worker)
    for token in sorted(lost):
        core.workforce.lost(token, "WorkerLost", _RESTARTED, started(progress.get(token)), out)
    return recorded
