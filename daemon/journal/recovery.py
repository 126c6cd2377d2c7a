"""From the journal back to the daemon's memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from taskmaster.bus.errors import JournalDamaged
from taskmaster.bus.intervals import IntervalSet
from taskmaster.bus.messages import LeaseId
from taskmaster.daemon.core import Core
from taskmaster.daemon.effects import Effects, LeaseGranted, Recovered
from taskmaster.daemon.journal import sql
from taskmaster.daemon.journal.journal import Journal
from taskmaster.daemon.run import Block, Run
from taskmaster.daemon.supervision import started
from taskmaster.drivers.progress import Position

__all__ = ["restore"]

_metadata = msgspec.json.Decoder(dict[str, str]).decode

_RESTARTED = "the daemon was restarted"


def restore(core: Core, journal: Journal, progress: Mapping[str, Sequence[Position]], now: float, out: Effects) -> None:
    """Give ``core`` every run, block, lease and switch that the journal holds.

    ``progress`` says by token where the daemon's own former workers were, as far as that is known. They are gone;
    what they left is requeued, failed or held as the Master's ``on_lost`` says, appended to ``out``. Workers that had
    dialled in are awaited. Raises JournalDamaged where the journal contradicts itself.
    """
    for name, paused in journal.query(sql.SELECT_MASTERS):
        if name in core.masters:
            core.masters[name].paused = bool(paused)
    for row in list(journal.query(sql.SELECT_RUNS)):
        core.add_run(_restore_run(journal, row))
    core.next_run = (journal.query(sql.LAST_RUN).get or 0) + 1
    recorded = _restore_leases(core, journal, progress, now, out)
    # The files that say so are removed after the commit: one that was left is not to be taken into account twice.
    accounted = journal.meta("recovered") or 0
    for position in (at for slots in progress.values() for at in slots if at.lease[0] >= accounted):
        run = core.runs.get(position.run)
        if position.lease not in recorded and position.started and run is not None and run.master in core.masters:
            core.masters[run.master].restore_unrecorded(run, position.first + position.started - 1, _RESTARTED, out)
    if out.records:
        out.records.append(Recovered(core.identity.epoch))


def _restore_run(journal: Journal, row: tuple[object, ...]) -> Run:
    (run_id, master, name, seed, created, user, metadata, priority, closed, paused, writer, next_index, next_seq, done,
     failed, cancelled) = row
    run = Run(run_id, master, name, seed, created, user)  # type: ignore[arg-type]
    run.metadata = _metadata(metadata)  # type: ignore[arg-type]
    run.priority, run.closed, run.paused, run.writer = priority, bool(closed), bool(paused), writer  # type: ignore[assignment]
    run.next_index, run.next_seq = next_index, next_seq  # type: ignore[assignment]
    run.done, run.failed, run.cancelled = done, failed, cancelled  # type: ignore[assignment]
    run.claims = dict(journal.query(sql.SELECT_CLAIMS, (run.id,)))
    _count_on(journal, run)
    if run.done + run.failed + run.cancelled < run.next_index:
        _restore_tasks(journal, run)
    return run


def _count_on(journal: Journal, run: Run) -> None:
    """Bring the counts in the run's row, which lag behind, up to its last block and event."""
    last_index = journal.query(sql.LAST_INDEX, (run.id,)).get or 0
    last_seq = journal.query(sql.LAST_SEQ, (run.id,)).get or 0
    if last_index < run.next_index or last_seq < run.next_seq:
        raise JournalDamaged(
            f"run {run.name!r} of Master {run.master!r} had {run.next_index} tasks and {run.next_seq} events, the journal "
            f"holds {last_index} and {last_seq}; run 'taskmaster check --journal'"
        )
    for kind, n, failed in journal.query(sql.COUNT_EVENTS, (run.id, run.next_seq)):
        if kind == "cancelled":
            run.cancelled += n
        else:
            run.done += n - failed
            run.failed += failed
    run.next_index, run.next_seq = last_index, last_seq


def _restore_tasks(journal: Journal, run: Run) -> None:
    """Which tasks have no outcome yet, and their inputs."""
    ended = IntervalSet()
    for first, n in sorted(journal.query(sql.SELECT_ENDED, (run.id,))):
        ended.add(first, first + n)
    for low, high in ended.gaps(0, run.next_index):
        run.open.add(low, high)
        run.queued.add(low, high)
    if len(ended) != run.done + run.failed + run.cancelled:
        raise JournalDamaged(
            f"run {run.name!r} of Master {run.master!r} counts {run.done + run.failed + run.cancelled} outcomes, the "
            f"journal holds {len(ended)}; run 'taskmaster check --journal'"
        )
    layouts = journal.layouts()
    for first, n, layout, data, file in journal.query(sql.SELECT_BLOCKS, (run.id,)):
        if run.open.within(first, first + n):
            table = journal.stored_table(layouts[layout], n, data, file)
            run.input_bytes += table.nbytes
            run.add_block(Block(first, table))
    for kind, first, n in journal.query(sql.SELECT_HELD, (run.id,)):
        if kind == "held":
            run.held.add(first, first + n)
        else:
            run.held.remove(first, first + n)
    for low, high in run.held:
        for part in ended.within(low, high):
            run.held.remove(*part)
    for low, high in run.held:
        run.queued.remove(low, high)
    run.attempts = {task: used for task, used in journal.query(sql.SELECT_ATTEMPTS, (run.id,)) if task in run.open}


def _restore_leases(core: Core, journal: Journal, progress: Mapping[str, Sequence[Position]], now: float,
                    out: Effects) -> set[LeaseId]:
    """Returns which leases the journal knew of."""
    recorded = set()
    lost = set()
    for epoch, number, run_id, first, n, attempt, worker, local, time in list(journal.query(sql.SELECT_LEASES)):
        run = core.runs.get(run_id)
        if run is None or run.master not in core.masters:
            continue
        recorded.add((epoch, number))
        record = LeaseGranted((epoch, number), run_id, first, n, attempt, worker, bool(local), time)
        core.masters[run.master].restore_lease(record, run, now)
        if local:
            lost.add(worker)
    for token in sorted(lost):
        core.worker_lost(token, "WorkerLost", _RESTARTED, started(progress.get(token)), out)
    return recorded
