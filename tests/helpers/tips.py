"""Workers of heads, for tests of the daemon's decisions."""

from __future__ import annotations

from typing import Any

from helpers.heart import Hand, Heart
from taskmaster.bus import messages as m

__all__ = ["Tip"]


class Tip(Hand):
    """A worker that has a head, and carries out its orders when it is told to."""

    def __init__(self, heart: Heart, head: str) -> None:
        super().__init__(heart, "stm", local=False)
        self.head = head
        self.orders: list[m.HeadOrder] = []
        self.hello()
        self.say(m.Ready())

    def hello(self, *leases: m.LeaseId) -> None:
        self.session += 1
        self.heart.hands.pop(self.address, None)
        self.address = f"{self.token}-{self.session}".encode()
        self.heart.hands[self.address] = self
        version = m.PROTOCOL_VERSION
        self.say(m.WorkerHello(version, "stm", self.token, self.session, 1, self.number, "far", leases, head=self.head))

    @property
    def order(self) -> m.HeadOrder:
        """The latest order."""
        self.orders += [note for note in self.heard if isinstance(note, m.HeadOrder)]
        self.heard.clear()
        return max(self.orders, key=lambda order: order.number)

    def obey(self) -> None:
        """Carry out the latest order."""
        order = self.order
        state: Any = "ready" if order.what == "work" else "safe"
        self.say(m.HeadReport(state, f"ACME,{self.head}", "", order.number))

    def give_back(self, *errors: m.TaskError, doubt: bool = False) -> None:
        """The last word on a task that has not ended as it should."""
        at = self.assignments.pop(0)
        self.say(m.Outcome(at.lease, 0, int(doubt), None, errors, final=True, doubt=doubt))
