"""Several heads on one controller: one process, one connection or one lock, N heads that take turns.

Heads described by commands share a :class:`~taskmaster.drivers.instruments.link.Link`, which takes care of the turns.
Heads of classes each have an object of their own; what shares is the claim to the resource, and the turn: whoever has
it calls the library, everybody else waits. A turn lasts for one evaluation, or for one step of a generator.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from taskmaster.drivers.instruments.claims import Claim
from taskmaster.drivers.instruments.commands import Commands
from taskmaster.drivers.instruments.errors import Stopped
from taskmaster.drivers.instruments.head import Head, Reconciled
from taskmaster.drivers.instruments.link import Link
from taskmaster.drivers.instruments.transport import SLICE

__all__ = ["Controller", "SharedHead"]


class Controller:
    """What the heads of one controller have in common. Used by the threads of all of them."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._link: Link | None = None
        self._claim: Claim | None = None
        self._claims = 0

    def link(self, commands: Commands, holder: str) -> Link:
        """The one connection, as the first of the heads has described it."""
        with self._lock:
            if self._link is None:
                self._link = Link(commands, holder)
            return self._link

    @contextmanager
    def turn(self, stopping: threading.Event | None, who: str) -> Iterator[None]:
        """Have the controller to oneself; may be nested. Raises Stopped where ``stopping`` is set before that."""
        while not self._lock.acquire(timeout=SLICE):
            if stopping is not None and stopping.is_set():
                raise Stopped(f"{who} was stopped while another head had its turn")
        try:
            yield
        finally:
            self._lock.release()

    def claim(self, resource: str, holder: str) -> Claim:
        """The resource, which the heads hold together; each closes what it got. Raises Claimed, PermissionDenied."""
        with self._lock:
            if self._claim is None:
                self._claim = Claim(resource, holder)
            self._claims += 1
            return _Share(self._claim, self._give_up)

    def _give_up(self) -> None:
        with self._lock:
            self._claims -= 1
            if not self._claims and self._claim is not None:
                self._claim.close()
                self._claim = None


class _Share(Claim):
    """One head's share of a claim."""

    def __init__(self, claim: Claim, give_up: Callable[[], None]) -> None:
        self.resource, self.path = claim.resource, claim.path
        self._held = True
        self._give_up = give_up

    def close(self) -> None:
        if self._held:
            self._held = False
            self._give_up()


class SharedHead(Head):
    """A head whose every call waits for its turn."""

    def __init__(self, head: Head, controller: Controller) -> None:
        super().__init__(head.context)
        self.head = head
        self.marks_acting = head.marks_acting
        self._controller = controller

    def _turn(self, *, heed: bool = True) -> Any:
        return self._controller.turn(self.stopping if heed else None, self.context.label)

    takes_turns = True

    def turn(self) -> AbstractContextManager[None]:
        return self._controller.turn(self.stopping, self.context.label)

    @property
    def reconciles(self) -> bool:
        return self.head.reconciles

    def begin_task(self) -> None:
        self.head.begin_task()

    @property
    def acting(self) -> bool:
        return self.head.acting

    @acting.setter
    def acting(self, acting: bool) -> None: ...  # only the head itself knows

    def connect(self) -> None:
        with self._turn():
            self.head.connect()

    def open(self) -> None:
        with self._turn():
            self.head.open()

    def identify(self) -> str:
        with self._turn():
            return self.head.identify()

    def evaluate(self, x: Any) -> Any:
        return self._taken_in_turn(lambda: self.head.evaluate(x))

    def resume(self, x: Any, token: bytes) -> Any:
        return self._taken_in_turn(lambda: self.head.resume(x, token))

    def _taken_in_turn(self, call: Callable[[], Any]) -> Any:
        with self._turn():
            evaluation = call()
        return self._stepped(evaluation) if isinstance(evaluation, Generator) else evaluation

    def _stepped(self, evaluation: Generator[Any, Any, Any]) -> Generator[Any, Any, Any]:
        """One turn a step: an evaluation of weeks leaves the others theirs."""
        try:
            while True:
                with self._turn():
                    try:
                        value = next(evaluation)
                    except StopIteration as end:
                        return end.value
                yield value
        finally:
            with self._turn(heed=False):
                evaluation.close()

    def reconcile(self, x: Any, token: bytes) -> Reconciled:
        with self._turn():
            return self.head.reconcile(x, token)

    def read(self) -> Any:
        with self._turn():
            return self.head.read()

    @property
    def applies(self) -> bool:
        return self.head.applies

    def apply(self, x: Mapping[str, Any]) -> None:
        with self._turn():
            self.head.apply(x)

    @property
    def is_as_applied(self) -> bool:
        return self.head.is_as_applied

    def look(self, table: Mapping[str, Any]) -> Any:
        with self._turn():
            return self.head.look(table)

    def safe(self) -> None:
        with self._turn(heed=False):
            self.head.safe()

    def arm_watchdog(self) -> None:
        with self._turn():
            self.head.arm_watchdog()

    def feed_watchdog(self) -> None:
        with self._turn():
            self.head.feed_watchdog()

    def disarm_watchdog(self) -> None:
        with self._turn(heed=False):
            self.head.disarm_watchdog()

    def close(self) -> None:
        with self._turn(heed=False):
            self.head.close()
