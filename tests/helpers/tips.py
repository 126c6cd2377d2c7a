"""Heads as the daemon's decisions see them: workers that do what they are told when they are told to."""

from __future__ import annotations

from typing import Any

from helpers.heart import Hand, Heart
from taskmaster.bus import messages as m
from taskmaster.bus.status import HeadInfo
from taskmaster.bus.table import pack_values
from taskmaster.daemon.roles import LOCAL, Peer

__all__ = ["TIPS", "Tip", "heads", "states", "tips", "told"]

TIPS = (m.HeadName("tip-1"), m.HeadName("tip-2", ("cold",)))


class Tip(Hand):
    """A worker that has a head, and carries out its orders when it is told to."""

    def __init__(self, heart: Heart, head: str, peer: Peer = LOCAL) -> None:
        super().__init__(heart, "stm", local=False, peer=peer)
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
        self.heard[:] = [note for note in self.heard if not isinstance(note, m.HeadOrder)]
        return max(self.orders, key=lambda order: order.number)

    def obey(self) -> None:
        """Carry out the latest order."""
        order = self.order
        state: Any = "ready" if order.what == "work" else "safe"
        self.say(m.HeadReport(state, f"ACME,{self.head}", "", order.number))

    def give_back(self, *errors: m.TaskError, doubt: bool = False, position: int = 0) -> None:
        """The last word on a lease, of which the task at this position has not ended as it should."""
        at = self.assignments.pop(0)
        self.say(m.Outcome(at.lease, position, int(doubt), None, errors, final=True, doubt=doubt))

    def keep(self, number: int, token: bytes, time: float = 0.0, position: int = 0) -> None:
        """Leave a checkpoint of its task."""
        self.say(m.Checkpoint(self.assignments[0].lease, number, time or self.heart.now, token, position))

    def asked(self) -> list[m.Reconcile]:
        """What it is asked about tasks in doubt."""
        asked = [note for note in self.heard if isinstance(note, m.Reconcile)]
        self.heard[:] = [note for note in self.heard if not isinstance(note, m.Reconcile)]
        return asked

    def answer(self, question: m.Reconcile, state: Any, value: object = None) -> None:
        """What has become of that task."""
        table = pack_values([value]) if state == "done" else None
        layout = table.layout if table is not None else None
        self.say(m.Reconciled(question.run, question.index, question.attempt, state, layout), table)


def heads(heart: Heart) -> dict[str, HeadInfo]:
    return {info.head: info for info in heart.ask(m.ListHeads(9), m.HeadList).heads}


def states(heart: Heart) -> list[str]:
    return [info.state for info in heads(heart).values()]


def told(tip: Tip) -> str:
    """What a head is to do."""
    return tip.order.what


def tips(heart: Heart) -> tuple[Tip, Tip]:
    """Both heads, at work."""
    pair = Tip(heart, "tip-1"), Tip(heart, "tip-2")
    for tip in pair:
        tip.obey()
    return pair
