"""Forks: a run that starts from the beginning of another one.

Everything else that the daemon decides follows from what it has in memory. What a fork holds is in the journal alone:
so it is made there, in a transaction of its own between two turns, and then taken up as a start of the daemon would.
"""

from __future__ import annotations

import logging

from taskmaster.bus import messages as m
from taskmaster.bus.errors import CallerError, DiskFull, JournalDamaged
from taskmaster.daemon.core import Core
from taskmaster.daemon.effects import Forking
from taskmaster.daemon.journal import Journal
from taskmaster.daemon.journal.forks import require_forkable
from taskmaster.daemon.journal.recovery import restore_run
from taskmaster.daemon.run import Run
from taskmaster.daemon.runs import run_info
from taskmaster.daemon.space import Space

__all__ = ["fork"]

log = logging.getLogger("taskmaster.daemon")


def fork(core: Core, journal: Journal, space: Space, forking: Forking, now: float) -> m.Forked | m.Refused:
    """Fork a run, at ``now`` seconds since 1970; returns the answer. Raises JournalError as any commit does."""
    message = forking.message
    try:
        record = core.forked(forking, now)
        if isinstance(record, Run):
            return m.Forked(message.id, run_info(record))
        require_forkable(journal, record.source)
        if not space.admits(0):
            raise space.error()
        journal.commit([record])
    except (CallerError, DiskFull, JournalDamaged) as error:
        return m.Refused(error.code, str(error), message.id)
    run = restore_run(core, journal, record.run)
    core.look_again = 0.0  # its open tasks may be evaluated
    log.info(
        "run %d (%s/%s) was forked from the first %d events of run %d by %s",
        run.id, run.master, run.name, record.at, record.source, record.user,
    )  # fmt: skip
    return m.Forked(message.id, run_info(run))
