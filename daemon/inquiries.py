"""What is asked of the daemon, and found out by looking it up: in the journal, in what is decided, in how it all is.

Answers are given after the turn's commit, see :mod:`taskmaster.daemon.answering`; so they tell of what is on disk.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from msgspec.structs import replace

from taskmaster.bus import messages as m
from taskmaster.bus.errors import CallerError, TaskMasterError
from taskmaster.bus.status import DaemonStatus, MasterStatus
from taskmaster.daemon.alarms import AlarmBook
from taskmaster.daemon.answering import Answer, Question
from taskmaster.daemon.auditing import cut, put
from taskmaster.daemon.core import Core
from taskmaster.daemon.effects import Effects, Recheck, Verify, WasForked, WasOpened
from taskmaster.daemon.journal import Journal, sql
from taskmaster.daemon.journal.asks import read_asks
from taskmaster.daemon.journal.audit import read_audit
from taskmaster.daemon.journal.pages import read_page, recheck, same_block
from taskmaster.daemon.journal.seriespages import read_series
from taskmaster.daemon.journal.writers import read_writers
from taskmaster.daemon.looking import look_up
from taskmaster.daemon.roles import Peer

__all__ = ["MOST_LISTED", "Inquiries"]

log = logging.getLogger("taskmaster.daemon")

#: A status that took longer than this to find out holds for so many times as long: nobody is to keep the loop busy with
#: questions that take a few bytes.
_QUICK_STATUS_SECONDS, _STATUS_REST = 0.01, 20.0
#: Workers of a Master that are listed in an answer.
MOST_LISTED = 500


class Inquiries:
    """Finds answers. ``find_status`` looks how everything is."""

    def __init__(
        self, core: Core, journal: Journal, alarms: AlarmBook, find_status: Callable[[], DaemonStatus]
    ) -> None:
        self._core = core
        self._journal = journal
        self._alarms = alarms
        self._find_status = find_status
        self._status: DaemonStatus | None = None
        self._status_until = 0.0

    def verify(self, verification: Verify) -> m.DaemonMessage | None:
        """The reply to a submission that was there before: the same again, or another under its number?"""
        submit, run = verification.submit, self._core.runs.get(verification.submit.run)
        if run is None:
            return None
        if same_block(self._journal, submit, verification.table):
            return m.Ack(submit.run, run.next_index, run.writer)
        return m.Refused(
            "conflict",
            f"run {run.name!r} of Master {run.master!r} has other tasks under the numbers {submit.first} to "
            f"{submit.first + submit.n - 1}; open the run again and go on from task {run.next_index}",
            0,
            submit.run,
            submit.first,
            run.next_index,
            submit.writer,
        )

    def recheck(self, said: Recheck, out: Effects) -> m.DaemonMessage:
        """The reply to an answer to a task that has ended: this one, or another?

        ``out`` gets what is to be on record of it.
        """
        reply: m.DaemonMessage
        try:
            reply = recheck(self._journal, self._core.runs.require(said.answer.run), said)
        except TaskMasterError as error:
            if not isinstance(error, CallerError):
                log.error("%s", error)
            reply = m.Refused(error.code, str(error), said.answer.id)
        if said.entry is not None:
            became = {} if isinstance(reply, m.Done) else {"outcome": "refused", "why": cut(reply.message)}
            put(replace(said.entry, **became), out)
        return reply

    def _submitted_at(self, run: int, index: int) -> float:
        return float(self._journal.query(sql.SUBMITTED_AT, (run, index)).get or 0.0)

    def answer(self, question: Question, peer: Peer) -> Answer:
        """What somebody is told who has asked this."""
        try:
            if isinstance(question, m.Replay):
                return read_page(self._journal, self._core.runs.require(question.run), question)
            if isinstance(question, m.ReadAsks):
                return read_asks(self._journal, self._core.runs.require(question.run), question)
            if isinstance(question, m.ReadWriters):
                return read_writers(self._journal, self._core.runs.require(question.run), question), ()
            if isinstance(question, m.ReadAudit):
                return read_audit(self._journal, question), ()
            if isinstance(question, (m.Describe, m.ListRuns, m.ListHeads, WasOpened, WasForked)):
                return look_up(self._core, question, peer, time.time()), ()
            if isinstance(question, m.ListHeld):
                return self._core.held_list(question, peer), ()
            if isinstance(question, m.ListAlarms):
                return m.AlarmList(question.id, self._alarms.infos(peer)), ()
            if isinstance(question, (m.ReadProgress, m.ReadSamples)):
                return self._series(question), ()
            if isinstance(question, m.ListRequests):
                return self._core.people.request_list(question, self._submitted_at, peer), ()
            if isinstance(question, m.ListProposed):
                return self._core.people.proposed_list(question, self._submitted_at, peer), ()
            return m.StatusReport(question.id, self._status_for(peer)), ()
        except TaskMasterError as error:
            log.error("%s", error)
            return m.Refused(error.code, str(error), question.id), ()

    def status(self) -> DaemonStatus:
        """How everything is; with thousands of workers, as it was a moment ago, for to find out takes a while then."""
        began = time.monotonic()
        if self._status is None or began >= self._status_until:
            self._status = self._find_status()
            took = time.monotonic() - began
            self._status_until = began + (took * _STATUS_REST if took > _QUICK_STATUS_SECONDS else 0.0)
        return self._status

    def _status_for(self, peer: Peer) -> DaemonStatus:
        """The same without the Masters that somebody may not know of, and without most of thousands of workers."""
        status = self.status()
        masters = tuple(_shortened(master) for master in status.masters if peer.sees(master.name))
        if not peer.is_bounded:
            return replace(status, masters=masters)
        return replace(status, masters=masters, alarms=len(self._alarms.infos(peer)))

    def _series(self, question: m.ReadProgress | m.ReadSamples) -> m.SeriesPage:
        units = self._core.masters[question.master].spec.units if isinstance(question, m.ReadSamples) else {}
        return read_series(self._journal, self._core.series, question, units)


def _shortened(master: MasterStatus) -> MasterStatus:
    more = len(master.workers) - MOST_LISTED
    return master if more <= 0 else replace(master, workers=master.workers[:MOST_LISTED], unlisted=more)
