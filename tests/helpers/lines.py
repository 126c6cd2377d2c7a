"""A worker's protocol without a connection, and who is at the other end of it."""

from __future__ import annotations

from typing import Any, TypeVar

from taskmaster.bus import codec, messages as m
from taskmaster.bus.messages import LeaseId
from taskmaster.bus.table import Buffer, pack_values
from taskmaster.drivers.protocol import Assignment, WorkerProtocol

__all__ = ["A", "B", "C", "Line"]

A, B, C = (7, 1), (7, 2), (7, 3)

Said = TypeVar("Said", bound=m.Message)


class Line:
    """A worker's protocol, and the daemon's end of its connection."""

    def __init__(self) -> None:
        self.worker = WorkerProtocol("svm", "token", pid=11, host="far")
        self.now = 100.0
        self.epoch = 7
        self._decoder = codec.worker_decoder()

    def said(self) -> list[Any]:
        """What the worker has said since this was last asked, decoded as the daemon decodes it."""
        frames, self.worker.outbox = self.worker.outbox, []
        return [self._decoder.decode(bytes(message[0])) for message in frames]

    def heard(self, kind: type[Said]) -> Said:
        """The same, where it is to be one message."""
        (message,) = self.said()
        assert isinstance(message, kind)
        return message

    def tell(self, message: m.Message, *frames: Buffer) -> None:
        self.worker.on_frames([codec.encode(message), *map(bytes, frames)], self.now)

    def greet(self) -> m.WorkerHello:
        """Have it say hello, and hear that; what it said before is lost."""
        self.worker.outbox.clear()
        self.worker.hello(self.now)
        return self.heard(m.WorkerHello)

    def welcome(self, session: int) -> list[Any]:
        """Welcome it to a session; returns what it says to that."""
        self.tell(m.Welcome(self.epoch, session, "svm", "process", {}))
        return self.said()

    def dispatch(self, lease: LeaseId, n: int = 1, *, settled: tuple[LeaseId, ...] = ()) -> None:
        table = pack_values([float(k) for k in range(n)])
        self.tell(m.Dispatch(lease, 1, 0, n, table.layout, settled=settled), *table.frames)

    def report(self, assignment: Assignment, position: int = 0, n: int = 1, *, final: bool = True) -> None:
        outputs = pack_values([1.0] * n)
        self.worker.report(assignment, position, n, outputs, (), 1.0, 2.0, None, final=final, now=self.now)

    def begin(self) -> Assignment:
        assignment = self.worker.begin()
        assert assignment is not None
        return assignment

    @property
    def waiting(self) -> list[LeaseId]:
        return [assignment.lease for assignment in self.worker.queue]

    def outcomes(self) -> list[LeaseId]:
        return [message.lease for message in self.said() if isinstance(message, m.Outcome)]
