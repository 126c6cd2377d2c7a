"""What is said of instruments' heads, on the control socket and on that of the workers, see `messages`."""

from __future__ import annotations

from typing import Literal

from taskmaster.bus.status import HeadInfo
from taskmaster.bus.wire import Count, LeaseId, Message, Scalar

__all__ = [
    "HeadList",
    "HeadOrder",
    "HeadReport",
    "ListHeads",
    "Polled",
    "Progress",
    "Reset",
    "Samples",
    "SetHead",
    "Stop",
    "Tripped",
]

# ---------------------------------------------------------------------------------------------------------------------
# control socket, client → daemon


class Stop(Message, tag="stop"):
    """Emergency stop of a Master's heads, or of all: what they do is broken off, each goes to its safe state at once.

    They stay there, and nothing is evaluated, until `Reset`; also when the daemon is restarted.
    """

    id: Count
    master: str | None = None
    reason: str = ""


class Reset(Message, tag="reset"):
    """Undo `Stop`, of a Master or of all."""

    id: Count
    master: str | None = None
    reason: str = ""


class ListHeads(Message, tag="list_heads"):
    """The heads of one Master, or of all."""

    id: Count
    master: str | None = None


class SetHead(Message, tag="set_head"):
    """Take a head out of service: it goes to its safe state when its task has ended. Or put it back into service."""

    id: Count
    master: str
    head: str
    inside: bool
    reason: str = ""


# ---------------------------------------------------------------------------------------------------------------------
# control socket, daemon → client


class HeadList(Message, tag="head_list"):
    """Answer to ListHeads."""

    id: int
    heads: tuple[HeadInfo, ...] = ()


# ---------------------------------------------------------------------------------------------------------------------
# workers socket, worker → daemon


class HeadReport(Message, tag="head"):
    """How the head of this worker is. Said whenever that changes, and again after each welcome.

    ``connecting``; ``ready``: open, identified, may be given tasks; ``faulty``: it cannot be opened, for the reason in
    ``error``, and is tried again; ``safe``: it has been brought to its safe state and stays there. ``order`` is the
    number of the latest order that it has carried out.
    """

    state: Literal["connecting", "ready", "faulty", "safe"]
    identity: str = ""
    error: str = ""
    order: LeaseId = (0, 0)


class Progress(Message, tag="progress"):
    """What the evaluation of the task at ``position`` of a lease has yielded, at a ``time`` in seconds since 1970.

    ``number`` counts them within this evaluation, from 1. They are not repeated: one lost on the way is a gap.
    """

    lease: LeaseId
    position: Count
    number: Count
    time: float
    values: dict[str, Scalar]


class Samples(Message, tag="samples"):
    """Monitored values of this worker's head, read at a ``time`` in seconds since 1970; None: it could not be had."""

    time: float
    values: dict[str, Scalar]


class Polled(Message, tag="polled"):
    """The value of an interlock that bounds one head's value by another's; None: it could not be had."""

    time: float
    interlock: str
    value: Scalar
    error: str = ""


class Tripped(Message, tag="tripped"):
    """An interlock has tripped at this worker's head, for a ``reason``; or holds again (empty)."""

    time: float
    interlock: str
    reason: str


# ---------------------------------------------------------------------------------------------------------------------
# workers socket, daemon → worker


class HeadOrder(Message, tag="order"):
    """What the head of this worker is to do from now on, said after each hello, too.

    ``number`` is (the daemon's epoch, a count): one that is lower than the last is not heeded.

    ``stop``: break off what is being evaluated, go to the safe state at once, and stay there. ``park``: the same, when
    what is being evaluated has ended; what has not begun is given back. ``work``: open the head again, and take tasks.
    """

    number: LeaseId
    what: Literal["stop", "park", "work"]
    reason: str = ""
