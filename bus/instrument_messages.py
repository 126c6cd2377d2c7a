"""What is said of instruments' heads, on the control socket and on that of the workers, see `messages`."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias

from msgspec import Meta

from taskmaster.bus.fields import Field
from taskmaster.bus.status import HeadInfo
from taskmaster.bus.table import Layout
from taskmaster.bus.wire import Count, LeaseId, Message, Name, Seconds, Text, Told, Values

__all__ = [
    "LONGEST_TOKEN",
    "Alive",
    "Checkpoint",
    "Guard",
    "Guarded",
    "GuardianHello",
    "GuardianPlan",
    "HeadList",
    "HeadOrder",
    "HeadReport",
    "ListHeads",
    "Polled",
    "Progress",
    "Reconcile",
    "Reconciled",
    "Reset",
    "Rest",
    "Samples",
    "SetHead",
    "Stop",
    "Token",
    "Tripped",
]

#: Bytes of the longest checkpoint.
LONGEST_TOKEN = 1 << 20
#: What `resume` needs to go on with a task: an evaluation that has more to keep keeps it in a file, and names that.
Token: TypeAlias = Annotated[bytes, Meta(max_length=LONGEST_TOKEN)]

# ---------------------------------------------------------------------------------------------------------------------
# control socket, client → daemon


class Stop(Message, tag="stop"):
    """Emergency stop of a Master's heads, or of all: what they do is broken off, each goes to its safe state at once.

    They stay there, and nothing is evaluated, until `Reset`; also when the daemon is restarted.
    """

    id: Count
    master: Name | None = None
    reason: Text = ""
    who: Name = ""


class Reset(Message, tag="reset"):
    """Undo `Stop`, of a Master or of all."""

    id: Count
    master: Name | None = None
    reason: Text = ""
    who: Name = ""


class ListHeads(Message, tag="list_heads"):
    """The heads of one Master, or of all."""

    id: Count
    master: Name | None = None


class SetHead(Message, tag="set_head"):
    """Take a head out of service: it goes to its safe state when its task has ended. Or put it back into service."""

    id: Count
    master: Name
    head: Name
    inside: bool
    reason: Text = ""
    who: Name = ""


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
    ``error``, and is tried again; ``safe``: it has been brought to its safe state and stays there; ``unsafe``: it
    cannot be brought there, for the reason in ``error``, and that is tried again. ``order`` is the number of the latest
    order that it has carried out.
    """

    state: Literal["connecting", "ready", "faulty", "safe", "unsafe"]
    identity: Text = ""
    error: Text = ""
    order: LeaseId = (0, 0)


class Progress(Message, tag="progress"):
    """What the evaluation of the task at ``position`` of a lease has yielded, at a ``time`` in seconds since 1970.

    ``number`` counts them within this evaluation, from 1. They are not repeated: one lost on the way is a gap.
    """

    lease: LeaseId
    position: Count
    number: Count
    time: Seconds
    values: Values


class Samples(Message, tag="samples"):
    """Monitored values of this worker's head, read at a ``time`` in seconds since 1970; None: it could not be had."""

    time: Seconds
    values: Values


class Polled(Message, tag="polled"):
    """The value of an interlock that bounds one head's value by another's; None: it could not be had."""

    time: Seconds
    interlock: Name
    value: Told
    error: Text = ""


class Tripped(Message, tag="tripped"):
    """An interlock has tripped at this worker's head, for a ``reason``; or holds again (empty).

    Said when that changes, and of each interlock that ever was again after each welcome; before that the weightiest
    trip of each that the daemon has not answered (`HeadOrder.heard`), though it holds again by now. ``lost``: because
    its value could not be had, and not for a value that was out of bounds. ``number`` counts what this worker says so.
    """

    time: Seconds
    interlock: Name
    reason: Text
    lost: bool = False
    number: Count = 0


class Checkpoint(Message, tag="checkpoint"):
    """The evaluation of the task at ``position`` of a lease can go on from here, at a ``time`` in seconds since 1970.

    Only the last one of a task counts; ``number`` counts them. Said again after each welcome, until the task has ended.
    """

    lease: LeaseId
    number: Count
    time: Seconds
    token: Token
    position: Count = 0


class Reconciled(Message, tag="reconciled"):
    """What a head has found out about a task in doubt: ``done``, with its output in the frames; ``not_begun``; or that
    it cannot be told (``unknown``), for the ``reason``.
    """

    run: Count
    index: Count
    attempt: Count
    state: Literal["done", "not_begun", "unknown"]
    layout: Layout | None = None
    reason: Text = ""


class GuardianHello(Message, tag="guardian"):
    """Who hosts the heads' workers of a Master, and sees to it that a head whose worker cannot do so is made safe.

    Said at first, and again when asked to. ``token`` names this process.
    """

    version: Count
    master: Name
    token: Name
    pid: Count = 0
    host: Name = ""


class Guarded(Message, tag="guarded"):
    """A guardian has brought a head to its safe state because its worker could not, or has tried to (``error``)."""

    time: Seconds
    master: Name
    head: Name
    reason: Text
    error: Text = ""


# ---------------------------------------------------------------------------------------------------------------------
# workers socket, daemon → worker


class HeadOrder(Message, tag="order"):
    """What the head of this worker is to do from now on, said after each hello, too.

    ``number`` is (the daemon's epoch, a count): one that is lower than the last is not heeded.

    ``stop``: break off what is being evaluated, go to the safe state at once, and stay there. ``park``: the same, when
    what is being evaluated has ended; what has not begun is given back. ``work``: open the head again, and take tasks.

    A head that is safe is still watched: interlocks and monitored values are polled. Not without ``watch``: then its
    connection is closed, for somebody uses the instrument by hand.

    ``heard`` is the number of this worker's latest `Tripped` that was taken into account, and is on disk; every trip is
    answered so, by the same order once more if need be. A head that has made itself safe does not work before.
    """

    number: LeaseId
    what: Literal["stop", "park", "work"]
    reason: str = ""
    watch: bool = True
    heard: Count = 0


class Alive(Message, tag="alive"):
    """Answers a heartbeat of a head's worker, and of a guardian: the daemon is there.

    Who has heard nothing from it for the Master's ``deadman`` brings its head to the safe state.
    """


class Reconcile(Message, tag="reconcile"):
    """Find out what has become of a task in doubt, whose input is in the frames. ``token`` is its last checkpoint."""

    run: Count
    index: Count
    attempt: Count
    layout: Layout
    token: Token = b""


# ---------------------------------------------------------------------------------------------------------------------
# workers socket, daemon → guardian


class GuardianPlan(Message, tag="plan"):
    """Answers GuardianHello: which heads there are, and how each is reached by who has to make it safe.

    ``release`` is the daemon's. A worker of another release, or that was started with other options, is replaced when
    its task has ended.
    """

    master: str
    release: str
    driver: str
    options: dict[str, Any]
    environment: dict[str, str]
    parameters: tuple[Field, ...] = ()
    outputs: tuple[Field, ...] = ()
    heads: tuple[str, ...] = ()
    timeout: float | None = None
    heartbeat: Seconds = 1.0
    lost_after: Seconds = 10.0


class Guard(Message, tag="guard"):
    """The worker with this token has been told to stop (or not to, any more): if it is not safe soon, make it so."""

    token: str
    stop: bool


class Rest(Message, tag="rest"):
    """The daemon stops. Heads without a task go to their safe state, and their workers end.

    With ``stop`` so do the others, at once; else what they have in hand goes on, and waits for the daemon to be back.
    """

    stop: bool = True
