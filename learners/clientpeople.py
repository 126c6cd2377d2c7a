"""The part of the blocking client by which people work: requests that they answer, tasks that they approve."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence
from typing import Any, Protocol

from taskmaster.bus import messages as m
from taskmaster.bus.fields import Schema
from taskmaster.bus.status import ProposedTask, RequestInfo
from taskmaster.bus.table import Buffer
from taskmaster.learners import people
from taskmaster.learners.arguments import Whole
from taskmaster.learners.channel import Channel
from taskmaster.learners.core import ClientCore
from taskmaster.learners.people import Editing, Request
from taskmaster.learners.views import MasterView

__all__ = ["PeopleOfLab", "PeopleOfMaster"]


class _Lab(Protocol):
    _core: ClientCore
    _channel: Channel

    def ask(self, message: m.ClientMessage, frames: Sequence[Buffer] = ()) -> Any: ...


class PeopleOfLab:
    """What a :class:`~taskmaster.learners.client.Lab` can do for people."""

    def requests(self: _Lab, master: str | None = None, *, limit: int | None = None) -> tuple[RequestInfo, ...]:
        """The tasks that wait for people's answers, of one Master or of all; oldest run first.

        Only the first ones where there is a ``limit``. Raises UnknownMaster.
        """
        found: list[RequestInfo] = []
        more = True
        while more and (limit is None or len(found) < limit):
            reply = self.ask(people.requests_message(master, found))
            assert isinstance(reply, m.RequestList)
            found += reply.requests
            more = reply.more
        return tuple(found[:limit])

    def proposed(
        self: _Lab, master: str | None = None, *, run: Whole | None = None, limit: int | None = None
    ) -> tuple[ProposedTask, ...]:
        """The tasks that wait for approval, of one Master, of the run of this number, or all; oldest run first.

        Only the first ones where there is a ``limit``. Raises UnknownMaster or UnknownRun.
        """
        found: list[ProposedTask] = []
        more = True
        while more and (limit is None or len(found) < limit):
            reply = self.ask(people.proposed_message(master, run, found))
            assert isinstance(reply, m.ProposedList)
            found += reply.tasks
            more = reply.more
        return tuple(found[:limit])

    def approve(
        self: _Lab, run: Whole, indices: Iterable[Whole] | None = None, *, reason: str = "", who: str | None = None
    ) -> int:
        """Let proposed tasks of the run of this number be evaluated, all of them by default; returns how many.

        Those among ``indices`` that are not proposed are passed over. ``who`` approves is on record, by default the
        login name. Raises UnknownRun.
        """
        return _decide(self, m.Approve, run, indices, reason, who)

    def reject(
        self: _Lab, run: Whole, indices: Iterable[Whole] | None = None, *, reason: str = "", who: str | None = None
    ) -> int:
        """Have proposed tasks fail, of kind ``Rejected``; otherwise as :meth:`approve`."""
        return _decide(self, m.Reject, run, indices, reason, who)

    def edit(self: _Lab, run: Whole, index: Whole, point: Any, *, reason: str = "", who: str | None = None) -> None:
        """Have a proposed task be evaluated at another ``point``; it stays proposed.

        Its result has the new point as its input. Raises UnknownTask if it is not proposed, InvalidTask for a point
        that the Master does not take, Conflict if somebody else edits it at the same time.
        """
        editing = Editing(run, index, point, reason, who)
        self.ask(*editing.request(self.ask(editing.question), self._core))


def _decide(
    lab: _Lab,
    kind: type[m.Approve] | type[m.Reject],
    run: Whole,
    indices: Iterable[Whole] | None,
    reason: str,
    who: str | None,
) -> int:
    found = lab.ask(people.proposed_message(None, run, ())) if indices is None else None
    said = people.decisions(kind, run, indices, found, reason, who)
    return sum(int(lab.ask(one).count) for one in said)


class PeopleOfMaster(MasterView):
    """What a :class:`~taskmaster.learners.client.Master` can do for people."""

    lab: Any

    def requests(self) -> tuple[RequestInfo, ...]:
        """Its tasks that wait for people's answers, oldest run first."""
        found: tuple[RequestInfo, ...] = self.lab.requests(self.name)
        return found

    def follow_requests(self) -> Generator[tuple[RequestInfo, ...], None, None]:
        """Its requests, now and each time that another one comes, is taken, given back or answered."""
        core, channel = self._daemon, self.lab._channel
        with channel.lock:
            core.watch_people(self.name)
        try:
            seen: m.Waiting | None = None
            if not channel.wait(lambda: self.name in core.waiting, self.lab.patience):
                raise self.lab._deaf()
            while True:
                channel.wait(lambda: core.waiting.get(self.name) != seen)  # noqa: B023 - it is called now
                seen = core.waiting.get(self.name)
                yield self.requests()
        finally:
            with channel.lock:
                core.unwatch_people(self.name)
                if not channel.closed:
                    channel.flush()

    def claim(
        self, request: Request | None = None, *, seconds: float | None = None, who: str | None = None
    ) -> RequestInfo | None:
        """Take the next request, or a certain one, so that nobody else does; None where nothing waits.

        Others may take it when it was not answered for ``seconds``, by default as the configuration says. ``who`` takes
        it is shown to them, by default the login name. Raises NotAllowed if no people answer here or it is paused,
        UnknownTask if it is no request, Conflict if somebody else has it, Full if too many are taken.
        """
        reply = self.lab.ask(people.claim_message(self.name, request, seconds, who))
        assert isinstance(reply, m.Claimed)
        return reply.request

    def release(self, request: RequestInfo) -> bool:
        """Give back what :meth:`claim` has given; False if it was answered, or free, already."""
        return bool(self.lab.ask(people.release_message(request)).count)

    def answer(self, request: Request, output: Any, *, who: str | None = None) -> None:
        """Answer a request: the ``output`` of the Master, or a dict of several.

        It need not have been taken, or may have been for too long, as long as nobody else has. To say the same again
        does no harm. Raises InvalidOutput for an output that the Master does not declare so, Conflict if somebody else
        has taken it or it was answered otherwise, UnknownTask if it is no request; nothing has happened then.
        """
        self.lab.ask(*people.answer_message(Schema(self.outputs, self.name, "output"), request, output, who))

    def refuse(self, request: Request, reason: str, *, who: str | None = None) -> None:
        """Say that a request cannot be answered, and why: its task fails with that. Otherwise as :meth:`answer`."""
        self.lab.ask(people.refusal_message(request, reason, who))
