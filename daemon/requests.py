"""The tasks of a Master that people evaluate: who has taken which, until when, and what they answer. Sans-I/O.

Such a Master has no workers. Its tasks wait in the queues of their runs as any others do, and there they are requests:
somebody takes one (a *claim*), so that two do not do the same work, and answers it, or gives it back. A claim is what a
lease is to a worker, with three differences, which are why it is none:

- nobody watches a person. A claim expires, after which others may take the request; the answer of who had it is taken
  all the same as long as there is no other claim and no other answer, for the work has been done;
- people go home. A claim outlives the daemon, and a daemon that stops does not wait for it;
- a request may be answered by somebody who has not taken it, if nobody has.

Which request is next is decided as for workers: runs take turns by their priority and by the time that their tasks
take, see `backlog`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from taskmaster.bus import messages as m
from taskmaster.bus.errors import CallerError, Conflict, Full, NotAllowed, UnknownTask
from taskmaster.bus.intervals import IntervalSet
from taskmaster.bus.messages import EventHead
from taskmaster.bus.table import Table
from taskmaster.daemon.backlog import Backlog
from taskmaster.daemon.effects import ClaimEnded, Effects, RequestClaimed
from taskmaster.daemon.run import Run, by_hand
from taskmaster.daemon.scheduling import UNKNOWN_SECONDS
from taskmaster.daemon.spec import MasterSpec

__all__ = ["Claim", "RequestBook"]

#: Characters of what a claim is known by.
_TOKEN = 64
#: A claim that is to last longer is a mistake: a year.
_LONGEST_SECONDS = 366 * 86400.0


@dataclass(eq=False)
class Claim:
    """A request that somebody has taken."""

    run: Run
    index: int
    token: str
    who: str
    #: in seconds since 1970, for people and for the next start
    since: float
    until: float
    #: when it expires, in monotonic seconds; None: not decided yet
    deadline: float | None = None
    #: what the task is expected to take, which its run was charged
    seconds: float = 0.0

    @property
    def record(self) -> RequestClaimed:
        """This claim for the journal."""
        return RequestClaimed(self.run.id, self.index, self.token, self.who, self.since, self.until)


class RequestBook:
    """The claims of one Master. What they are claims to is removed from the queues of the runs, and stays open."""

    def __init__(self, spec: MasterSpec, backlog: Backlog) -> None:
        self._spec = spec
        self._backlog = backlog
        self._claims: dict[tuple[int, int], Claim] = {}
        self._by_token: dict[str, Claim] = {}

    def __bool__(self) -> bool:
        """Whether people evaluate here at all."""
        return self._spec.people > 0

    def __len__(self) -> int:
        return len(self._claims)

    @property
    def claims(self) -> Iterator[Claim]:
        """All of them."""
        return iter(self._claims.values())

    def of(self, run: Run, index: int) -> Claim | None:
        """The claim to a task, if there is one."""
        return self._claims.get((run.id, index))

    def tasks_of(self, run: Run) -> IntervalSet:
        """The tasks of a run that somebody has taken."""
        return IntervalSet((index, index + 1) for number, index in self._claims if number == run.id)

    def requests_of(self, run: Run) -> IntervalSet:
        """All tasks of a run that wait for an answer."""
        found = run.queued.copy()
        for low, high in self.tasks_of(run):
            found.add(low, high)
        return found

    def require(self) -> None:
        """Raise NotAllowed where people do not evaluate."""
        if not self:
            raise NotAllowed(
                f"Master {self._spec.name!r} is not answered by people but by its driver {self._spec.driver!r}"
            )

    # -- taking -------------------------------------------------------------------------------------------------------

    def claim(self, wish: m.Claim, run: Run | None, who: str, *, paused: bool, out: Effects) -> Claim | None:
        """Take the next request, or the task ``wish.index`` of ``run``; None where nothing waits.

        A wish that was granted already is granted again, the same. Raises NotAllowed while the Master or the run is
        paused, UnknownTask if the task is no request, Conflict if somebody else has it, Full if too many are taken.
        """
        known = self._by_token.get(wish.claim)
        if known is not None:
            return known
        seconds = self._duration(wish)
        if paused or (run is not None and run.paused):
            where = f"run {run.name!r} of Master" if run is not None and not paused else "Master"
            raise NotAllowed(f"{where} {self._spec.name!r} is paused; resume it first")
        if run is None:
            run = self._backlog.next()
            if run is None:
                return None
            index = run.queued.first[0]
        else:
            index = wish.index or 0
            former = self._require_free(run, index, who)
            if former is not None:
                return self._take_over(former, wish.claim, seconds, out)
        self._require_room()
        return self._take(run, index, wish.claim, who, seconds, out)

    def _duration(self, wish: m.Claim) -> float:
        if not wish.claim or len(wish.claim) > _TOKEN:
            raise CallerError(f"a claim needs a random text of its own, of up to {_TOKEN} characters")
        if (wish.run is None) != (wish.index is None):
            raise CallerError("to take a certain request, name both the run and the index of its task")
        seconds = self._spec.claim_expires if wish.seconds is None else wish.seconds
        if not 0 < seconds <= _LONGEST_SECONDS:
            raise CallerError(f"a request can be taken for up to a year, not for {seconds:g} s")
        return seconds

    def _require_free(self, run: Run, index: int, who: str) -> Claim | None:
        """Require that somebody may take this task; returns the claim of theirs to it, if there is one."""
        claim = self.of(run, index)
        if claim is not None and claim.who != who:
            raise Conflict(_taken(claim))
        if claim is None:
            self._require_request(run, index)
        return claim

    def _require_request(self, run: Run, index: int) -> None:
        if index in run.queued:
            return
        if index in run.proposed:
            raise NotAllowed(
                f"run {run.name!r}: task {index} waits for approval; 'taskmaster approve {run.id} {index}' first"
            )
        if index in run.held:
            raise NotAllowed(f"run {run.name!r}: task {index} is in doubt; 'taskmaster resolve {run.id} {index}' first")
        raise UnknownTask(f"run {run.name!r}: task {index} waits for nobody; 'taskmaster requests' lists those that do")

    def _require_room(self) -> None:
        if len(self._claims) >= self._spec.people:
            others = ", ".join(f"task {c.index} of run {c.run.id} by {c.who}" for c in list(self._claims.values())[:5])
            raise Full(
                f"Master {self._spec.name!r} lets {self._spec.people} requests be taken at a time, and so many are "
                f"({others}); answer or release one, or raise its 'people'"
            )

    def _take(self, run: Run, index: int, token: str, who: str, seconds: float, out: Effects) -> Claim:
        run.queued.remove(index, index + 1)
        claim = Claim(run, index, token, who, out.wall, out.wall + seconds)
        claim.seconds = run.estimate.seconds or UNKNOWN_SECONDS
        self._backlog.clock = max(self._backlog.clock, run.virtual_time)
        run.virtual_time += claim.seconds
        self._keep(claim)
        self._backlog.note(run)
        out.records.append(claim.record)
        return claim

    def _take_over(self, claim: Claim, token: str, seconds: float, out: Effects) -> Claim:
        """The same person takes it once more: the program that had it may be gone."""
        del self._by_token[claim.token]
        claim.token, claim.until, claim.deadline = token, out.wall + seconds, None
        self._keep(claim)
        out.records.append(claim.record)
        return claim

    def _keep(self, claim: Claim) -> None:
        self._claims[claim.run.id, claim.index] = self._by_token[claim.token] = claim

    # -- giving back --------------------------------------------------------------------------------------------------

    def release(self, run: Run, index: int, token: str, out: Effects) -> int:
        """Give back what was taken under this claim; returns 0 where that is not so (any more)."""
        claim = self.of(run, index)
        if claim is None or claim.token != token:
            return 0
        self._give_back(claim, out)
        return 1

    def expire(self, now: float, out: Effects) -> float:
        """Free what was taken for too long; returns when to look again. To be called each turn."""
        due = math.inf
        for claim in list(self._claims.values()):
            if claim.deadline is None:
                claim.deadline = now + max(0.0, claim.until - out.wall)
            if claim.deadline <= now:
                self._give_back(claim, out)
            else:
                due = min(due, claim.deadline)
        return due

    def _give_back(self, claim: Claim, out: Effects) -> None:
        self._end(claim, out)
        claim.run.virtual_time -= claim.seconds
        claim.run.queued.add(claim.index, claim.index + 1)
        self._backlog.note(claim.run)
        out.waiting.add(self._spec.name)

    def cancel(self, run: Run, wanted: IntervalSet, out: Effects) -> list[tuple[int, int]]:
        """Nobody wants these tasks any more; returns those of them that somebody had taken."""
        taken = self.tasks_of(run).common(wanted)
        for low, high in taken:
            for index in range(low, high):
                self._end(self._claims[run.id, index], out)
        return taken

    def _end(self, claim: Claim, out: Effects) -> None:
        del self._claims[claim.run.id, claim.index], self._by_token[claim.token]
        out.records.append(ClaimEnded(claim.run.id, claim.index))

    # -- answering ----------------------------------------------------------------------------------------------------

    def answer(self, run: Run, answer: m.Answer, output: Table | None, who: str, out: Effects) -> None:
        """End an open task with a person's ``output``, or without (then ``answer`` says why it cannot be had).

        Raises Conflict if somebody else has taken it, UnknownTask or NotAllowed if it is no request; InvalidOutput for
        an output that is not as declared. Nothing has changed then.
        """
        index = answer.index
        claim = self.of(run, index)
        if claim is None:
            self._require_request(run, index)
        elif claim.token != answer.claim and (answer.claim or claim.who != who):
            raise Conflict(_taken(claim))
        if output is None and not answer.reason:
            raise CallerError(
                f"run {run.name!r}: an answer to task {index} needs an output, or a reason for having none"
            )
        if output is not None and self._spec.outputs:
            self._spec.outputs.check(output, index)
        started = out.wall
        if claim is not None:
            started = claim.since
            self._settle(claim, out)
        if output is None:
            run.fail(index, index + 1, "CannotBeDone", answer.reason, by_hand(who), run.attempt(index), out)
        else:
            head = EventHead(
                0,
                1,
                "done",
                index,
                len(output.frames),
                output.layout,
                worker=by_hand(who),
                attempt=run.attempt(index),
                started=started,
                finished=out.wall,
            )
            run.finish(head, tuple(output.frames), out)
        self._backlog.note(run)

    def _settle(self, claim: Claim, out: Effects) -> None:
        """A request is answered: learn what it took, and count that for its run."""
        self._end(claim, out)
        seconds = max(0.0, out.wall - claim.since)
        claim.run.virtual_time += seconds - claim.seconds
        claim.run.estimate.learn(1, seconds)

    # -- restoring ----------------------------------------------------------------------------------------------------

    def restore(self, run: Run, record: RequestClaimed, out: Effects) -> None:
        """A claim from before the daemon's start; one that is over is struck out."""
        if self and record.task in run.queued:
            run.queued.remove(record.task, record.task + 1)
            self._keep(Claim(run, record.task, record.claim, record.who, record.since, record.until))
            self._backlog.note(run)
        else:
            out.records.append(ClaimEnded(record.run, record.task))


def _taken(claim: Claim) -> str:
    return (
        f"run {claim.run.name!r}: task {claim.index} has been taken by {claim.who}; it is free when they have given it "
        "back or left it for too long ('taskmaster requests'), and your answer can be given then"
    )
