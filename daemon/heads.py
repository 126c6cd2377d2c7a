"""The heads of one Master's instrument: which may be given tasks, and which are to be in their safe state. Sans-I/O.

A head is one piece of hardware, evaluates one task at a time, and fails by itself. It has one worker process at a time;
that may change, the head stays. What it is to do is decided here and said in numbered orders (``work``, ``park``,
``stop``), which its worker confirms; a worker that has just dialled in is told the latest. So whatever is lost on the
way, a head is given no task before it is known to have heard that it may work.

Reasons to be safe, each of which holds by itself until it is lifted:

- *stopped*: an emergency stop of the whole Master, until it is reset;
- *tripped*: an interlock has, and the head has been put back in by nobody since; or it cannot be polled;
- *out*: somebody has taken the head out of service, or *quarantined*: it lost its connection several times in a row;
- *parked*: a task that it had is in doubt. Whoever resolves that has to find the instrument as it was left.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence

from taskmaster.bus import messages as m
from taskmaster.bus.errors import CallerError, NotAllowed, UnknownHead
from taskmaster.bus.messages import HeadName, Where
from taskmaster.bus.status import HeadInfo
from taskmaster.bus.text import did_you_mean_or
from taskmaster.bus.wanted import require_head
from taskmaster.daemon.effects import Effects, MasterStopped, ToWorker
from taskmaster.daemon.head import Head, Trip, Wanted
from taskmaster.daemon.headlog import HeadLog, said_by
from taskmaster.daemon.leases import Worker

__all__ = ["HeadBook"]

#: Heads of which it is said why they do not work, where none does.
_SAID = 4
#: Ends of a task that say nothing about how good the connection is: names of exceptions, without their modules.
_BROKEN_OFF = frozenset({"Stopped", "InterlockTripped"})


class HeadBook:
    """All heads of a Master, by name."""

    def __init__(self, master: str, epoch: int, specs: Iterable[HeadName], quarantine_after: int) -> None:
        self._master = master
        #: says what becomes of them
        self.log = HeadLog(master)
        self._quarantine_after = quarantine_after
        self.heads = {spec.name: Head(spec) for spec in specs}
        for head in self:
            head.order = (epoch, 1)
        self._of_worker: dict[str, Head] = {}
        #: who stopped the Master and why; empty if it is not stopped
        self.stopped = ""

    def __bool__(self) -> bool:
        return bool(self.heads)

    def __iter__(self) -> Iterator[Head]:
        return iter(self.heads.values())

    def of(self, worker: Worker) -> Head | None:
        """The head that a worker has."""
        return self._of_worker.get(worker.token)

    def had_by(self, worker: str) -> Head | None:
        """The head that a worker of this name has, or had: an only one may have no name, and its worker another."""
        return self.heads.get(worker) or self.heads.get("")

    def named(self, name: str) -> Head:
        """The head of this name. Raises UnknownHead, which says what there is."""
        head = self.heads.get(name)
        if head is None:
            raise UnknownHead(
                f"Master {self._master!r} has no head {name!r}{did_you_mean_or(name, self.heads, 'it has')}"
            )
        return head

    def require(self, where: Where) -> None:
        """Raise CallerError if a task that asks for this could never be evaluated."""
        require_head(self._master, [head.spec for head in self], where)

    # -- workers ------------------------------------------------------------------------------------------------------

    def require_free(self, name: str, token: str, now: float) -> None:
        """Raise CallerError if there is no such head, or another worker than this has it, or may have it still."""
        head = self.named(name)
        worker, silent = head.worker, head.silent
        if worker is not None and worker.token != token:
            raise CallerError(
                f"head {name!r} of Master {self._master!r} has a worker already (process {worker.pid}); two would give "
                "it orders at the same time"
            )
        if silent is not None and silent.token != token and now < head.silent_until:
            raise CallerError(
                f"head {name!r} of Master {self._master!r} had a worker that was not heard of any more, and may be "
                f"driving it still; another is given it in {head.silent_until - now:.0f} s, or when that worker's host "
                "says that it is gone"
            )

    def attach(self, worker: Worker, name: str, out: Effects) -> None:
        """A worker says hello for a head that is free, or its own again; it is told what the head is to do."""
        head = self.named(name)
        self._of_worker[worker.token] = head
        if head.silent is not None:
            head.silent, head.error = None, ""
        head.worker = worker
        head.usage.attach(out.wall)
        head.asked.clear()
        self._note(head, "connecting", out)
        self._say(head, out)

    def entrust(self, worker: Worker, key: str) -> None:
        """A worker came with this key: whose it is speaks for the head until another comes, also when it has gone."""
        head = self._of_worker.get(worker.token)
        if head is not None:
            head.keeper = key

    def require_keeper(self, name: str, key: str) -> None:
        """Raise NotAllowed where another than the owner of this key speaks for a head."""
        head = self.heads.get(name)
        if head is not None and head.keeper not in (None, key):
            raise NotAllowed(
                f"key {key!r} is not that of the worker that head {name!r} of Master {self._master!r} has, or had; "
                "its host speaks for it"
            )

    def detach(self, worker: Worker, out: Effects) -> None:
        """A worker is gone."""
        head = self._of_worker.pop(worker.token, None)
        if head is not None and head.worker is worker:
            head.worker = None
            head.trips.clear()  # whoever has it next will see for himself
            head.heard = 0
            head.usage.detach(out.wall)
            self._note(head, "away", out)
            self._tell(head, out)

    def reserve(self, worker: Worker, until: float) -> None:
        """A worker is silent, and not known to be dead: as long as it may go on alone, nobody else has its head."""
        head = self.had_by(worker.name)
        if head is not None and head.worker is None:
            head.silent, head.silent_until = worker, until
            head.error = "its worker is not heard of, and may be driving it still"

    def on_gone(self, token: str) -> None:
        """A worker has ended, its host says."""
        for head in self:
            if head.silent is not None and head.silent.token == token:
                head.silent = None
                head.error = ""

    def on_report(self, worker: Worker, report: m.HeadReport, out: Effects) -> None:
        """What a worker says of its head."""
        head = self._of_worker.get(worker.token)
        if head is None or head.worker is not worker:
            return
        head.obeyed = max(head.obeyed, min(report.order, head.order))
        head.identity = report.identity or head.identity
        if report.state == "ready" and report.error and report.error != head.error:
            self.log.alarm("warning", head, report.error, out)
        head.error = report.error
        self.log.note_error(head, report.error, out)
        head.left_safe = report.state == "safe"
        head.reached |= report.state in ("ready", "safe", "unsafe")
        if report.state == "unsafe":
            self.log.on_unsafe(head, report.error, out)
        elif report.state in ("safe", "ready"):
            head.unsafe = ""
        self._note(head, report.state, out)

    def on_unusable(self, worker: Worker, why: str, out: Effects) -> None:
        """A head cannot be had, whoever tries."""
        head = self._of_worker.get(worker.token)
        if head is not None:
            head.error = why
            self.log.note_error(head, why, out)

    def on_vouched(self, worker: Worker, out: Effects) -> None:
        """A guardian vouches for a worker from now on; it has to know whether that is to stop."""
        head = self._of_worker.get(worker.token)
        if head is not None:
            out.urgent.append(ToWorker(worker.host, m.Guard(worker.token, stop=head.wanted == "stop")))

    def on_guarded(self, report: m.Guarded, out: Effects) -> None:
        """A guardian has made a head safe whose worker could not, or has failed to."""
        head = self.heads.get(report.head)
        if head is None:
            return
        head.left_safe = not report.error
        if report.error:
            head.error = f"not safe: {report.error}"
            self.log.note_error(head, head.error, out)
            self.log.on_unsafe(head, f"{report.reason}: {report.error}", out)
        else:
            head.error = head.unsafe = ""
            self.log.record(head, "secured", report.reason, "guardian", out)
            self.log.alarm("warning", head, f"it was brought to its safe state: {report.reason}", out)

    def _note(self, head: Head, reported: str, out: Effects) -> None:
        if head.reported == reported:
            return
        head.reported = reported
        head.since = out.wall
        if reported == "faulty" and not head.is_missed:
            head.is_missed = True
            self.log.remark(head, f"{head.error}; tried again and again", out, good=False)
        elif reported == "ready" and head.is_missed:
            head.is_missed = False
            self.log.remark(head, f"it is back ({head.identity or 'it does not say who it is'})", out, good=True)

    # -- what makes them safe, and what lets them go on ---------------------------------------------------------------

    def on_done(self, worker: Worker, outcome: m.Outcome, out: Effects) -> None:
        """A head has ended tasks as it should, whatever came out."""
        head = self._of_worker.get(worker.token)
        if head is not None:
            seconds = outcome.finished - outcome.started
            head.failures = 0
            head.tasks += outcome.n
            head.busy_seconds += seconds
            head.usage.done(seconds, out.wall)
            if outcome.errors:
                self.log.mark_error(head, _shown(outcome.errors[-1]), out)
            head.is_counted = False

    def on_checkpoint(self, worker: Worker) -> None:
        """A task of a head has come further: whatever its connection is lost by, it is not for good."""
        head = self._of_worker.get(worker.token)
        if head is not None:
            head.failures = 0

    def on_failure(self, worker: Worker, kind: str, reason: str, out: Effects) -> None:
        """A head has lost its connection in the midst of its work, once more; or it was made to break that off."""
        head = self._of_worker.get(worker.token)
        if head is None or kind.rpartition(".")[2] in _BROKEN_OFF:
            return
        self.log.note_error(head, reason, out)
        head.failures += 1
        if head.failures >= self._quarantine_after and not head.quarantined:
            head.quarantined = f"{head.failures} times in a row: {reason}"
            self.log.record(head, "quarantined", head.quarantined, "", out)
            self._tell(head, out)

    def hold(self, worker: str, run: int, first: int, end: int, out: Effects) -> None:
        """Tasks that the worker of this name had are in doubt: its head is to be left as it is, but safe."""
        head = self.had_by(worker)
        if head is not None:
            head.doubts.update((run, index) for index in range(first, end))
            self._tell(head, out)

    def resolved(self, run: int, index: int, out: Effects) -> None:
        """A task is not in doubt any more."""
        for head in self:
            if (run, index) in head.doubts:
                head.doubts.discard((run, index))
                self._tell(head, out)

    def set_in(self, name: str, inside: bool, user: str, reason: str, out: Effects) -> None:
        """Take a head out of service, or put it back, out of quarantine, too.

        To take it out once more without a reason changes nothing: it is out for the one that was given.
        """
        head = self.named(name)
        if head.out and not inside and not reason:
            return
        head.out = "" if inside else said_by(user, reason)
        if inside:
            head.quarantined = head.tripped = ""
            head.failures = 0
        else:
            head.trips.clear()  # it is not watched any more
        self.log.record(head, "in" if inside else "out", reason, user, out)
        self._tell(head, out)

    def stop(self, user: str, reason: str, out: Effects) -> None:
        """Bring every head to its safe state now, whatever it is doing. Said again it is done again."""
        self.stopped = said_by(user, reason)
        out.remarks.append((True, f"Master {self._master!r}: stopped {self.stopped}; taskmaster reset {self._master}"))
        out.records.append(MasterStopped(self._master, self.stopped, user, out.wall))
        for head in self:
            self._order(head, "stop", out)

    def reset(self, user: str, reason: str, out: Effects) -> None:
        """Undo :meth:`stop`, and what interlocks have done that hold again."""
        if self.stopped:
            self.stopped = ""
            out.remarks.append((False, f"Master {self._master!r}: released {said_by(user, reason)}"))
            out.records.append(MasterStopped(self._master, "", user, out.wall, reason))
        for head in self:
            if head.tripped and not any(trip.action == "safe" for trip in head.trips.values()):
                head.tripped = ""
                self.log.record(head, "in", reason, user, out)
            self._tell(head, out)

    def rest(self, out: Effects) -> None:
        """The daemon stops: have what is being evaluated broken off. That is not recorded: it ends with the daemon."""
        for head in self:
            if head.worker is not None and head.worker.leases:
                self._order(head, "stop", out)

    def on_tick(self, now: float, out: Effects) -> None:
        """Once in a while: be louder about those that are not safe for long."""
        for head in self:
            self.log.mind(head, now, out)

    def record_counts(self, out: Effects) -> None:
        """Put on record what they have done."""
        for head in self:
            self.log.count(head, out)

    # -- interlocks ---------------------------------------------------------------------------------------------------

    def note_trip(self, head: Head, interlock: str, trip: Trip, out: Effects) -> bool:
        """How an interlock stands at a head at present; whether the head is kept safe by that, and was not before."""
        kept, latched = head.kept_safe, head.tripped
        if not trip.reason:
            head.trips.pop(interlock, None)
            self._tell(head, out)
            return False
        head.trips[interlock] = trip
        if trip.action != "safe":
            return False
        if not trip.lost and not latched:
            head.tripped = f"interlock {interlock}: {trip.reason}"
        self._order(head, "stop", out)
        return not kept or head.tripped != latched

    def is_news(self, head: Head, number: int) -> bool:
        """Whether this is not what its worker has said before; 0 is not counted."""
        return not number or number > head.heard

    def heard(self, head: Head, tripped: m.Tripped, out: Effects) -> None:
        """Answer what a worker has said of an interlock; for a trip it waits for that, and repeats it till then."""
        head.heard = max(head.heard, tripped.number)
        if tripped.reason:
            self._say(head, out, answers=True)

    # -- from the journal ---------------------------------------------------------------------------------------------

    def restore(self, stopped: str, heads: Sequence[tuple[str, str, str, str]]) -> None:
        """Why the Master is stopped, and (name, why out, why quarantined, what has tripped) of heads."""
        self.stopped = stopped
        for name, out, quarantined, tripped in heads:
            if name in self.heads:
                head = self.heads[name]
                head.out, head.quarantined, head.tripped = out, quarantined, tripped
        for head in self:
            head.wanted, head.watch = self._wanted(head), not head.out

    def restore_counts(self, heads: Iterable[tuple[str, int, float, str, float]]) -> None:
        """(name, tasks, seconds that they took, last error, when) of heads."""
        for name, tasks, seconds, error, at in heads:
            if (head := self.heads.get(name)) is not None:
                head.tasks, head.busy_seconds, head.last_error, head.last_error_time = tasks, seconds, error, at

    # -- orders -------------------------------------------------------------------------------------------------------

    def _wanted(self, head: Head) -> Wanted:
        if self.stopped or head.kept_safe:
            return "stop"
        return "park" if head.out or head.quarantined or head.doubts else "work"

    def _tell(self, head: Head, out: Effects) -> None:
        """Give the head another order, if another is in place."""
        wanted = self._wanted(head)
        if (wanted, not head.out) != (head.wanted, head.watch):
            self._order(head, wanted, out)

    def _order(self, head: Head, wanted: Wanted, out: Effects) -> None:
        head.order = (head.order[0], head.order[1] + 1)
        was, head.wanted = head.wanted, wanted
        head.watch = not head.out
        head.stop_since, head.stop_is_told = (math.inf, False) if wanted == "stop" else (None, False)
        head.since = out.wall
        self._say(head, out)
        worker = head.worker or head.silent
        if worker is not None and worker.host and "stop" in (was, wanted):
            out.urgent.append(ToWorker(worker.host, m.Guard(worker.token, stop=wanted == "stop")))

    def _say(self, head: Head, out: Effects, *, answers: bool = False) -> None:
        if head.worker is not None:
            reason = self.stopped or head.out or head.kept_safe or head.quarantined
            # To be safe comes before the record of it, and does no harm without; to work comes after, and that a trip
            # was heard: of what is not on disk the next daemon has to be told again.
            later = answers or head.wanted == "work"
            order = m.HeadOrder(head.order, head.wanted, reason, head.watch, head.heard if later else 0)
            (out.to_workers if later else out.urgent).append(ToWorker(head.worker.address, order))

    # -- looking ------------------------------------------------------------------------------------------------------

    def to_ask(self, worker: Worker) -> list[tuple[int, int]]:
        """Tasks in doubt that a worker's head can now be asked about: it is parked for them, and safe."""
        head = self._of_worker.get(worker.token)
        if head is None or head.wanted != "park" or head.reported != "safe" or head.obeyed != head.order:
            return []
        if head.out or head.quarantined:
            return []
        asked = sorted(head.doubts - head.asked)
        head.asked.update(asked)
        return asked

    def serve(self, where: Where) -> bool:
        """Whether there is a head that works and fits what a task asks for."""
        return any(head.works and head.fits(where) for head in self)

    def why_idle(self) -> str:
        """What keeps each of the heads, or of the first few, from work."""
        states = [(head.spec.name, *head._state(self._master, self.stopped)) for head in self]
        said = [" ".join(filter(None, (name, state, reason and f"({reason})"))) for name, state, reason in states]
        more = [f"and {len(said) - _SAID} more"] if len(said) > _SAID else []
        return "; ".join(said[:_SAID] + more)

    def infos(self, wall: float) -> tuple[HeadInfo, ...]:
        """All heads, for lists, at ``wall`` seconds since 1970."""
        return tuple(head.info(self._master, self.stopped, wall) for head in self)


def _shown(error: m.TaskError) -> str:
    return f"{error.kind.rpartition('.')[2]}: {error.message}"
