"""What people say and are told: requests that they answer, and tasks that they approve. See `messages`.

``who`` is what the person is called, for the record; empty: the user as the transport knows them. A claim is known by
the random ``claim`` of the wish for it, so that a repetition of that is known, too.
"""

from __future__ import annotations

from taskmaster.bus.layout import Layout
from taskmaster.bus.status import ProposedTask, RequestInfo
from taskmaster.bus.wire import Count, Intervals, Message, Name, Seconds, Text, Whole

__all__ = [
    "Answer",
    "Approve",
    "Claim",
    "Claimed",
    "Edit",
    "ListProposed",
    "ListRequests",
    "ProposedList",
    "Reject",
    "Release",
    "RequestList",
    "Waiting",
]

# ---------------------------------------------------------------------------------------------------------------------
# control socket, client → daemon


class ListRequests(Message, tag="list_requests"):
    """What waits for people's answers, of one Master or of all, behind task ``after[1]`` of run ``after[0]``."""

    id: Count
    master: Name | None = None
    after: tuple[Count, Whole] = (0, -1)


class Claim(Message, tag="claim"):
    """Take a request, so that nobody else does: the task ``index`` of ``run``, or (both None) the next one.

    For ``seconds``, or as long as the configuration says. Said again under the same ``claim`` it is the same claim.
    """

    id: Count
    master: Name
    claim: Name
    run: Count | None = None
    index: Count | None = None
    seconds: Seconds | None = None
    who: Name = ""


class Release(Message, tag="release"):
    """Give a request back that was taken under this ``claim``."""

    id: Count
    run: Count
    index: Count
    claim: Name


class Answer(Message, tag="answer"):
    """The answer to a request, with its output in the frames; without one it cannot be had, for a ``reason``.

    ``claim`` is the one it was taken under, if any.
    """

    id: Count
    run: Count
    index: Count
    layout: Layout | None = None
    reason: Text = ""
    claim: Name = ""
    who: Name = ""


class ListProposed(Message, tag="list_proposed"):
    """The tasks of one run, of one Master, or of all that wait for approval, behind ``after`` (run, index)."""

    id: Count
    master: Name | None = None
    run: Count | None = None
    after: tuple[Count, Whole] = (0, -1)


class Approve(Message, tag="approve"):
    """Let proposed tasks be evaluated. Those among ``intervals`` that are not proposed are passed over."""

    id: Count
    run: Count
    intervals: Intervals
    reason: Text = ""
    who: Name = ""


class Reject(Message, tag="reject"):
    """Have proposed tasks fail, for a ``reason``. Those among ``intervals`` that are not proposed are passed over."""

    id: Count
    run: Count
    intervals: Intervals
    reason: Text = ""
    who: Name = ""


class Edit(Message, tag="edit"):
    """Give a proposed task another input, in the frames; it stays proposed.

    ``edits`` is how often it has been edited already, by what its editor has seen; another number is refused.
    """

    id: Count
    run: Count
    index: Count
    layout: Layout
    edits: Count
    reason: Text = ""
    who: Name = ""


# ---------------------------------------------------------------------------------------------------------------------
# control socket, daemon → client


class RequestList(Message, tag="request_list"):
    """Answer to ListRequests: by their runs and numbers, as many as go into a message.

    If there are ``more``, they are asked for with ``after`` the last of these.
    """

    id: int
    requests: tuple[RequestInfo, ...] = ()
    more: bool = False


class Claimed(Message, tag="claimed"):
    """Answer to Claim; None where nothing waits that nobody has taken."""

    id: int
    request: RequestInfo | None = None


class ProposedList(Message, tag="proposed_list"):
    """Answer to ListProposed, as RequestList is. Of the run that was asked for they all lie before task ``end``."""

    id: int
    tasks: tuple[ProposedTask, ...] = ()
    more: bool = False
    end: int = 0


# ---------------------------------------------------------------------------------------------------------------------
# results socket, daemon → subscribers


class Waiting(Message, tag="waiting"):
    """How much of a Master waits for people. Said when that changes, and repeated.

    ``change`` counts what has happened in this epoch: where it is another one than before, it is worth while to look.
    """

    master: str
    epoch: int
    change: int
    requests: int = 0
    claimed: int = 0
    proposed: int = 0
