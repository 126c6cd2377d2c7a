"""Forks: a run that starts from the beginning of another one.

Everything else that the daemon decides follows from what it has in memory. What a fork holds is in the journal alone:
so it is made there, in a transaction of its own between two turns, and then taken up as a start of the daemon would.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from taskmaster.bus import messages as m
from taskmaster.bus.errors import CallerError, DiskFull, JournalDamaged
from taskmaster.daemon.auditing import in_words
from taskmaster.daemon.bounds import TOKEN_BYTES
from taskmaster.daemon.core import Core
from taskmaster.daemon.effects import Forking, RunForked
from taskmaster.daemon.journal import Journal
from taskmaster.daemon.journal.forks import Fork, require_forkable
from taskmaster.daemon.journal.recovery import restore_run
from taskmaster.daemon.run import Run
from taskmaster.daemon.runs import run_info
from taskmaster.daemon.space import Space
from taskmaster.daemon.workforce import as_seen_by

__all__ = ["fork"]

log = logging.getLogger("taskmaster.daemon")


#: Rows of the journal that cost as much to copy as a message to take.
_TOKEN_ROWS = 50
#: About what a row takes.
_ROW_BYTES = 100


def fork(
    core: Core,
    journal: Journal,
    space: Space,
    forking: Forking,
    now: float,
    charge: Callable[[str, float], None] = lambda user, tokens: None,
) -> m.Forked | m.Refused:
    """Fork a run, at ``now`` seconds since 1970; returns the answer. Raises JournalError as any commit does.

    What that costs is charged to whoever wants it, in what a message costs.
    """
    message = forking.message
    try:
        record = core.opening.forked(forking, now)
        if isinstance(record, Run):
            return m.Forked(message.id, run_info(record))
        rows = require_forkable(journal, record.source)
        tasks, size = _waiting(core, journal, record)
        core.masters[record.master].require_room(record.user, tasks, size)
        user = "" if forking.sender.peer.is_local else forking.sender.user
        if not space.admits(rows * _ROW_BYTES + size, user):
            raise space.error(user)
        entry = core.auditor.of_fork(forking.sender, message, now)
        journal.commit([record] if entry is None else [record, entry])
        space.take(size, rows, user)
    except (CallerError, DiskFull, JournalDamaged) as error:
        return m.Refused(error.code, str(as_seen_by(forking.sender.peer, error)), message.id)
    if entry is not None:
        log.info("%s", in_words(entry))
    charge(forking.sender.user, rows / _TOKEN_ROWS + size / TOKEN_BYTES)
    run = restore_run(core, journal, record.run)
    core.look_again = 0.0  # its open tasks may be evaluated
    log.info(
        "run %d (%s/%s) was forked from the first %d events of run %d by %s",
        run.id, run.master, run.name, record.at, record.source, record.user,
    )  # fmt: skip
    return m.Forked(message.id, run_info(run))


def _waiting(core: Core, journal: Journal, record: RunForked) -> tuple[int, int]:
    """How many tasks of a fork will wait to be evaluated, and about how many bytes of inputs these have."""
    source = core.runs.require(record.source)
    if not source.open:
        return 0, 0
    end, _ = Fork(journal, record).end()
    tasks = sum(high - low for low, high in source.open.within(0, end))
    return tasks, source.input_bytes * tasks // len(source.open)
