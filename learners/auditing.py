"""The part of both clients by which one reads who has done what: see `docs/security.md`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from datetime import datetime
from typing import Any, Protocol

from msgspec.structs import replace

from taskmaster.bus import messages as m
from taskmaster.bus.status import AuditEntry
from taskmaster.bus.table import Buffer
from taskmaster.learners.arguments import LARGEST, moment, text, whole

__all__ = ["AsyncAuditOfLab", "AuditOfLab"]


class _Lab(Protocol):
    def ask(self, message: m.ClientMessage, frames: Sequence[Buffer] = ()) -> Any: ...


class _AsyncLab(Protocol):
    async def ask(self, message: m.ClientMessage, frames: Sequence[Buffer] = ()) -> Any: ...


class AuditOfLab:
    """What a :class:`~taskmaster.learners.client.Lab` can tell of who has done what."""

    def audit(
        self: _Lab,
        master: str | None = None,
        *,
        user: str | None = None,
        since: float | datetime | None = None,
        until: float | datetime | None = None,
        after: int = 0,
    ) -> Iterator[AuditEntry]:
        """What operators and admins have done, and what somebody was refused, oldest first.

        Of one Master, of one user (the name of a key; ``"local"``: on the daemon's own machine; empty: the daemon by
        itself), of these times (seconds since 1970, or datetimes), behind the entry of this number. Over the network it
        takes the role admin. Raises NotAllowed.
        """
        question = _question(master, user, since, until, after)
        more = True
        while more:
            page = self.ask(question)
            assert isinstance(page, m.AuditPage)
            yield from page.entries
            question, more = replace(question, after=page.after), page.more


class AsyncAuditOfLab:
    """The same of a :class:`~taskmaster.learners.aio.Lab`."""

    async def audit(
        self: _AsyncLab,
        master: str | None = None,
        *,
        user: str | None = None,
        since: float | datetime | None = None,
        until: float | datetime | None = None,
        after: int = 0,
    ) -> AsyncIterator[AuditEntry]:
        """What operators and admins have done; see :meth:`taskmaster.learners.client.Lab.audit`."""
        question = _question(master, user, since, until, after)
        more = True
        while more:
            page = await self.ask(question)
            assert isinstance(page, m.AuditPage)
            for entry in page.entries:
                yield entry
            question, more = replace(question, after=page.after), page.more


def _question(
    master: str | None,
    user: str | None,
    since: float | datetime | None,
    until: float | datetime | None,
    after: int,
) -> m.ReadAudit:
    return m.ReadAudit(
        0,
        whole(after, "the number of an entry", 0, LARGEST),
        moment(since, "since"),
        moment(until, "until"),
        None if user is None else text(user, "a user"),
        None if master is None else text(master, "a Master's name"),
    )
