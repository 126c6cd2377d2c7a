"""What people say to the daemon of requests and of proposed tasks, and what they are told. Sans-I/O, see `core`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TypeVar

from msgspec.structs import replace

from taskmaster.bus import codec, messages as m
from taskmaster.bus.errors import CallerError
from taskmaster.bus.intervals import IntervalSet
from taskmaster.bus.status import ProposedTask, RequestInfo
from taskmaster.bus.table import Table
from taskmaster.daemon import approval
from taskmaster.daemon.effects import Effects, Query, Recheck, Reply, Sender
from taskmaster.daemon.master import Master
from taskmaster.daemon.requests import Claim
from taskmaster.daemon.roles import LOCAL, Peer
from taskmaster.daemon.run import Edited, Run, by_hand
from taskmaster.daemon.runs import Runs, encoded_input, no_run
from taskmaster.daemon.workforce import known_master

__all__ = ["People", "SubmittedAt", "who_says"]

#: Bytes of a list of tasks in one message: hundreds, whose inputs have to be read.
_LISTED_BYTES = 64 << 10
#: Characters of what a person is called.
_NAME = 200
#: Characters of a reason, which the journal keeps and events carry.
_REASON = 10_000

#: when a task (of a run, by its number) was put, in seconds since 1970
SubmittedAt = Callable[[int, int], float]

Info = TypeVar("Info", RequestInfo, ProposedTask)


class People:
    """Where people's messages are taken, for all Masters of a daemon."""

    def __init__(self, masters: Mapping[str, Master], runs: Runs) -> None:
        self._masters = masters
        self._runs = runs

    # -- requests -----------------------------------------------------------------------------------------------------

    def claim(self, sender: Sender, message: m.Claim, table: Table | None, out: Effects) -> None:
        """Somebody takes a request."""
        master = self._master(message.master)
        master.requests.require()
        run = None if message.run is None else self._run(message.run)
        if run is not None and run.master != message.master:
            raise CallerError(f"run {run.id} is not one of Master {message.master!r} but of {run.master!r}")
        claim = master.requests.claim(message, run, who_says(sender, message.who), paused=master.paused, out=out)
        if claim is None:
            out.replies.append(Reply(sender.address, m.Claimed(message.id)))
            return
        out.waiting.add(message.master)
        info = replace(_request_info(claim.run, claim.index, claim, 0.0), claim=claim.token)
        out.replies.append(Reply(sender.address, m.Claimed(message.id, info)))

    def release(self, sender: Sender, message: m.Release, table: Table | None, out: Effects) -> None:
        """Somebody gives a request back."""
        run = self._run(message.run)
        count = self._master(run.master).requests.release(run, message.index, message.claim, out)
        out.replies.append(Reply(sender.address, m.Done(message.id, count)))

    def answer(self, sender: Sender, message: m.Answer, table: Table | None, out: Effects) -> None:
        """Somebody answers a request. To one that has an outcome already the journal knows whether it was this one."""
        run = self._run(message.run)
        master = self._master(run.master)
        master.requests.require()
        who = who_says(sender, message.who)
        _check_reason(message.reason)
        if message.index < run.next_index and message.index not in run.open:
            out.verifications.append(Recheck(sender.address, message, by_hand(who), table))
            return
        master.requests.answer(run, message, table, who, out)
        master.ended += 1
        out.waiting.add(run.master)
        out.replies.append(Reply(sender.address, m.Done(message.id, 1)))

    # -- approval -----------------------------------------------------------------------------------------------------

    def decide(self, sender: Sender, message: m.Approve | m.Reject, table: Table | None, out: Effects) -> None:
        """Somebody approves or rejects proposed tasks."""
        run = self._run(message.run)
        for low, high in message.intervals:
            if not 0 <= low <= high:
                raise CallerError(f"run {run.name!r}: {low}…{high} is not an interval of task indices")
        _check_reason(message.reason)
        decision = approval.approve if isinstance(message, m.Approve) else approval.reject
        count = decision(run, message.intervals, who_says(sender, message.who), message.reason, out)
        if run.master in self._masters:
            self._masters[run.master].note(run, out)
            out.waiting.add(run.master)
        out.replies.append(Reply(sender.address, m.Done(message.id, count)))

    def edit(self, sender: Sender, message: m.Edit, table: Table | None, out: Effects) -> None:
        """Somebody gives a proposed task another input."""
        run = self._run(message.run)
        master = self._master(run.master)
        _check_reason(message.reason)
        if table is None:
            raise CallerError(f"run {run.name!r}: to edit task {message.index} needs the input that it is to have")
        if master.spec.parameters:
            master.spec.parameters.check(table, message.index)
        count = approval.edit(
            run, message.index, table, message.edits, who_says(sender, message.who), message.reason, out
        )
        master.note(run, out)
        out.waiting.add(run.master)
        out.replies.append(Reply(sender.address, m.Done(message.id, count)))

    # -- lists --------------------------------------------------------------------------------------------------------

    def query(
        self, sender: Sender, message: m.ListRequests | m.ListProposed, table: Table | None, out: Effects
    ) -> None:
        """Somebody wants to see what waits; it is answered by reading."""
        if message.master is not None:
            self._master(message.master)
        if isinstance(message, m.ListProposed) and message.run is not None:
            self._run(message.run)
        out.queries.append(Query(sender.address, message, sender.peer))

    def request_list(self, question: m.ListRequests, submitted_at: SubmittedAt, peer: Peer = LOCAL) -> m.RequestList:
        """The answer to a query for requests. Raises JournalError where an input cannot be read."""
        infos, more = _first_of(self._requests(question, submitted_at, peer))
        return m.RequestList(question.id, infos, more)

    def proposed_list(self, question: m.ListProposed, submitted_at: SubmittedAt, peer: Peer = LOCAL) -> m.ProposedList:
        """The answer to a query for proposed tasks. Raises JournalError where an input cannot be read."""
        infos, more = _first_of(self._proposed(question, submitted_at, peer))
        run = None if question.run is None else self._runs.get(question.run)
        return m.ProposedList(question.id, infos, more, 0 if run is None else run.proposed.end)

    def _requests(self, question: m.ListRequests, submitted_at: SubmittedAt, peer: Peer) -> Iterator[RequestInfo]:
        masters = [master for master in self._wanted(question, peer) if master.requests]
        waiting: dict[int, tuple[Master, Run]] = {}
        for master in masters:
            runs = [*master.backlog.runs, *(claim.run for claim in master.requests.claims)]
            waiting.update((run.id, (master, run)) for run in runs)
        for number, (master, run) in sorted(waiting.items()):
            for index in _behind(master.requests.requests_of(run), number, question.after):
                claim = master.requests.of(run, index)
                yield _request_info(run, index, claim, submitted_at(number, index))

    def _wanted(self, question: m.ListRequests | m.ListProposed, peer: Peer) -> list[Master]:
        named = self._masters.items()
        return [master for name, master in named if question.master in (None, name) and peer.sees(name)]

    def _proposed(self, question: m.ListProposed, submitted_at: SubmittedAt, peer: Peer) -> Iterator[ProposedTask]:
        masters = self._wanted(question, peer)
        runs = {run.id: run for master in masters for run in master.proposals.runs}
        for number, run in sorted(runs.items()):
            if question.run in (None, number):
                for index in _behind(run.proposed, number, question.after):
                    yield _proposed_task(run, index, submitted_at(number, index))

    # -- who and what -------------------------------------------------------------------------------------------------

    def _master(self, name: str) -> Master:
        return known_master(self._masters, name)

    def _run(self, number: int) -> Run:
        run = self._runs.get(number)
        if run is None:
            raise no_run(number)
        return run


def who_says(sender: Sender, who: str) -> str:
    """Who a message is from: as it says, else as the daemon knows them. Raises CallerError for what is no name."""
    if len(who) > _NAME or not (who or "x").isprintable():
        raise CallerError(f"{who[:40]!r} cannot name a person; use up to {_NAME} printable characters")
    if not sender.peer.is_local:
        return sender.user if who in ("", sender.user) else f"{sender.user} ({who})"
    return who or sender.user


def _check_reason(reason: str) -> None:
    if len(reason) > _REASON:
        raise CallerError(f"a reason of {len(reason)} characters; say it in {_REASON}")


def _behind(tasks: IntervalSet, run: int, after: tuple[int, int]) -> Iterator[int]:
    """The tasks of a run that lie behind one (run, index)."""
    if run < after[0]:
        return
    first = after[1] + 1 if run == after[0] else 0
    for low, high in tasks.within(max(0, first), tasks.end):
        yield from range(low, high)


def _first_of(infos: Iterable[Info]) -> tuple[tuple[Info, ...], bool]:
    """As many as go into a message, one at least if there is any; and whether there are more."""
    taken: list[Info] = []
    left = _LISTED_BYTES
    for info in infos:
        left -= codec.size_of(info)
        if left < 0 and taken:
            return tuple(taken), True
        taken.append(info)
    return tuple(taken), False


def _request_info(run: Run, index: int, claim: Claim | None, since: float) -> RequestInfo:
    value = encoded_input(run, index)
    who, until = (claim.who, claim.until) if claim is not None else ("", 0.0)
    return RequestInfo(run.id, run.master, run.name, index, since, value, value is None, who, until)


def _proposed_task(run: Run, index: int, since: float) -> ProposedTask:
    value = encoded_input(run, index)
    edited = run.edited.get(index, Edited())
    return ProposedTask(run.id, run.master, run.name, index, since, value, value is None, edited.times, edited.who)
