"""A head: what evaluates one task at a time on one piece of hardware.

Users subclass :class:`Head`; the ready drivers are subclasses. Whoever hosts a head calls its methods from one thread,
gives it a :class:`HeadContext`, and sets ``stopping`` from wherever a stop comes.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from taskmaster.bus.fields import Schema
from taskmaster.bus.messages import LONGEST_TOKEN
from taskmaster.drivers.instruments import attributes
from taskmaster.drivers.instruments.claims import Claim
from taskmaster.drivers.instruments.errors import Stopped

__all__ = ["Head", "HeadContext", "Reconciled", "State", "wait"]


class State(Enum):
    """What has become of a task in doubt."""

    DONE = "done"
    NOT_BEGUN = "not_begun"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Reconciled:
    """What a head found out about a task in doubt: one of `done(output)`, `not_begun()` and `unknown()`."""

    state: State
    output: Any = None

    @classmethod
    def done(cls, output: Any) -> Reconciled:
        """It was done, and this came out."""
        return cls(State.DONE, output)

    @classmethod
    def not_begun(cls) -> Reconciled:
        """The instrument has not acted on it."""
        return cls(State.NOT_BEGUN)

    @classmethod
    def unknown(cls) -> Reconciled:
        """It cannot be told: a person has to resolve it."""
        return cls(State.UNKNOWN)


def _no_action() -> None:
    """Nobody wants to know of the first action."""


def _no_checkpoint(token: bytes) -> None:
    """Nobody keeps tokens."""


def _nothing_due() -> float:
    """Nothing is watched."""
    return math.inf


@dataclass(frozen=True)
class HeadContext:
    """What a head gets from whoever hosts it. The defaults do for trying a head by itself."""

    #: as declared; "" where a Master has a single unnamed head
    name: str = ""
    master: str = ""
    #: this head's own table merged over the Master's, validated
    options: Mapping[str, Any] = field(default_factory=dict)
    #: None: not declared
    parameters: Schema | None = None
    outputs: Schema | None = None
    #: set by stop, deadman and cancel; cleared by the host alone
    stopping: threading.Event = field(default_factory=threading.Event)
    #: called before the first byte of a task that may act
    on_acting: Callable[[], None] = _no_action
    #: puts a token on disk before it returns
    on_checkpoint: Callable[[bytes], None] = _no_checkpoint
    #: polls what is due of what is watched, one thing at most; gives the moment at which it is to be called again
    on_between: Callable[[], float] = _nothing_due
    #: has a resource for this head, and names it to others as the holder
    claim: Callable[[str, str], Claim] = Claim

    @property
    def label(self) -> str:
        """Master and head, for messages: ``stm/tip-1``."""
        return "/".join(part for part in (self.master, self.name) if part) or "the head"


class Head:
    """Evaluates one task at a time on one piece of hardware.

    The host calls :meth:`open` before anything else and again after a :class:`LinkError`, :meth:`begin_task` and
    :meth:`evaluate` (or :meth:`resume`) for each task, :meth:`safe` when it is stopped, when a task is in doubt and at
    the end, and :meth:`close` last, all from one thread. Between tasks, and where one has failed, it stays as it is.
    """

    #: Whether it calls `begin_acting` itself, before the first byte of a task that may act. Where it does not, a task
    #: counts as acting from its beginning: one that is interrupted at its first line is in doubt, too.
    marks_acting = False

    def __init__(self, context: HeadContext | None = None) -> None:
        self.context = context or HeadContext()
        self.name = self.context.name
        self.options = self.context.options
        self.stopping = self.context.stopping
        #: whether the present task may have acted
        self.acting = False

    # -- what a subclass provides -------------------------------------------------------------------------------------

    def open(self) -> None:
        """Connect, identify, initialise; also after a reconnection.

        Raises Unreachable, WrongIdentity, Claimed, PermissionDenied, …
        """

    def connect(self) -> None:
        """Connect and identify, setting nothing, for a look at the instrument; :meth:`close` sets nothing then, either.

        Raises as `open` does, and NotImplementedError where that cannot be done without initialising.
        """
        raise NotImplementedError(
            f"{type(self).__name__} cannot be connected to without initialising: it has no connect(self)"
        )

    def identify(self) -> str:
        """What the instrument says it is; "" if it cannot say."""
        return ""

    def evaluate(self, x: Any) -> Any:
        """One task: set, wait, read. The output, or a generator: yields are progress, its return value is the output.

        ``x`` is the input as the learner sent it, or a dict of the declared parameters.
        """
        raise NotImplementedError(f"{type(self).__name__} has no evaluate(self, x)")

    def resume(self, x: Any, token: bytes) -> Any:
        """Go on with a task after a restart, from its last checkpoint; returns what `evaluate` does."""
        raise NotImplementedError(f"{type(self).__name__} has no resume(self, x, token)")

    @property
    def reconciles(self) -> bool:
        """Whether it has a way to find out what has become of a task."""
        return type(self).reconcile is not Head.reconcile

    def reconcile(self, x: Any, token: bytes) -> Reconciled:
        """What has become of a task in doubt; ``token`` is its last checkpoint, b"" if it has none.

        Called after `safe`, over a new connection: that of `connect`, or of `open` where the class has no `connect`.
        """
        return Reconciled.unknown()

    def read(self) -> Any:
        """The outputs as they are, setting nothing."""
        raise NotImplementedError(f"{type(self).__name__} cannot read without setting: it has no read(self)")

    def apply(self, x: Mapping[str, Any]) -> None:
        """Set, wait, and read nothing: what a programme does whenever its setpoints change. May be called again."""
        raise NotImplementedError(f"{type(self).__name__} cannot set without reading: it has no apply(self, x)")

    @property
    def applies(self) -> bool:
        """Whether it can set without reading."""
        return type(self).apply is not Head.apply

    @property
    def is_as_applied(self) -> bool:
        """Whether the instrument is as `apply` has left it, as far as is known: not over a new connection."""
        return True

    def look(self, table: Mapping[str, Any]) -> Any:
        """A value that is watched: that of the property or method of this head that ``table`` names as `method`.

        It may not act. Raises LinkErrors where the connection is lost by it.
        """
        return attributes.getter(self, table["method"])()

    def safe(self) -> None:
        """Bring to the declared safe state. May be called at any time after `open` was tried, and again."""

    def close(self) -> None:
        """Let go of the instrument as it is."""

    # -- what the base class offers -----------------------------------------------------------------------------------

    #: whether what it does has to wait for other heads of its controller
    takes_turns = False

    def turn(self) -> AbstractContextManager[None]:
        """Have it to itself, where it takes turns; the host awaits that before it begins a task. Raises Stopped."""
        return nullcontext()

    def begin_task(self) -> None:
        """The next task: nothing of it has acted. Called by the host before `evaluate`."""
        self.acting = False

    def begin_acting(self) -> None:
        """Mark the first byte of a task that may act; further calls for the same task do nothing.

        A task that breaks off before this call goes back to the queue, after it it is in doubt. The host calls it
        before each task of a head that does not say ``marks_acting = True``.
        """
        if not self.acting:
            self.context.on_acting()
            self.acting = True

    def checkpoint(self, token: bytes | str) -> None:
        """Keep what `resume` needs; on disk before this returns, if that has room.

        Raises ValueError for more than 1 MiB (a text in UTF-8): keep that in a file, and its name here.
        """
        data = token.encode() if isinstance(token, str) else token
        if len(data) > LONGEST_TOKEN:
            raise ValueError(
                f"{self.context.label}: a checkpoint of {len(data)} bytes; at most {LONGEST_TOKEN} are kept: write it "
                "to a file, and name that in the checkpoint"
            )
        self.context.on_checkpoint(data)

    def between(self) -> float:
        """Between two steps of an evaluation: what is watched may be polled now, one value at most.

        Called by `sleep` and at each `yield`; to be called in long evaluations that do neither. Gives the moment of
        :func:`time.monotonic` at which something is due again. Raises Stopped where an interlock trips, LinkErrors.
        """
        return self.context.on_between()

    def sleep(self, seconds: float) -> None:
        """Wait, while what is watched is polled; ends at once when the head is stopped. Raises Stopped, LinkErrors."""
        self.sleep_until(time.monotonic() + seconds)

    def sleep_until(self, moment: float) -> None:
        """Wait until a moment of :func:`time.monotonic`, as `sleep` does."""
        while True:
            due = self.between()
            now = time.monotonic()
            wait(self.stopping, min(moment, due) - now, self.context.label)
            if moment <= max(due, now):
                return

    # -- the instrument's own watchdog, by the names in the option `watchdog` ------------------------------------------

    def arm_watchdog(self) -> None:
        """Switch it on; called by the host after `open`."""
        self._call_watchdog("arm")

    def feed_watchdog(self) -> None:
        """Keep it from acting; called by the host for as long as the head may work."""
        self._call_watchdog("keep" if (self.options.get("watchdog") or {}).get("keep") else "arm")

    def disarm_watchdog(self) -> None:
        """Switch it off; called by the host once the head is safe."""
        self._call_watchdog("disarm")

    def _call_watchdog(self, what: str) -> None:
        name = (self.options.get("watchdog") or {}).get(what)
        if name:
            attributes.method(self, name)()


def wait(stopping: threading.Event, seconds: float, who: str) -> None:
    """Wait unless or until ``stopping`` is set. Raises Stopped, naming ``who``."""
    if stopping.is_set() or (seconds > 0 and stopping.wait(seconds)):
        raise Stopped(f"{who} was stopped")
