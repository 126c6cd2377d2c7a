"""What is published, on its way to who follows: at once where there is room for it, else within a few milliseconds.

A PUB socket drops whatever finds a subscriber's queue full. After a turn in which hundreds of runs have an event each,
a queue is full though its subscriber keeps pace: ZeroMQ's own thread has only not come to it yet. So a message that
finds no room (XPUB_NODROP) waits here, with those of its topic that come after it. If there still is none when it has
waited long enough, it goes to those of its followers who have room, and the others will see the gap.

Its followers that have room wait as well, but hardly: whoever has missed a message counts for ZeroMQ as one who follows
nothing, and delays nobody, until half of their queue is read.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

import zmq

from taskmaster.bus import sockets
from taskmaster.bus.table import Buffer

__all__ = ["MOST", "WAIT_SECONDS", "Outbox"]

#: How long a message waits for room …
WAIT_SECONDS = 5e-3
#: … how often there is looked for some, and of how many topics in a row that have none.
_LOOK_SECONDS = 1e-3
_IN_VAIN = 64
#: What waits at a time; more is dropped for those who have no room.
MOST, _MOST_BYTES = 4096, 8 << 20


@dataclass(slots=True)
class _Held:
    """Messages of a topic that wait."""

    until: float
    messages: deque[Sequence[Buffer]] = field(default_factory=deque)


class Outbox:
    """Sends to those who follow. To be asked to :meth:`retry` when it is :attr:`due`.

    ``wait``: seconds that a message waits for room.
    """

    def __init__(self, socket: zmq.Socket[bytes], wait: float = WAIT_SECONDS) -> None:
        socket.setsockopt(zmq.XPUB_NODROP, 1)
        self._socket = socket
        self._wait = wait
        self._held: dict[bytes, _Held] = {}
        self._count = self._bytes = 0
        #: when there should be looked for room
        self.due = math.inf
        #: messages that have waited in vain
        self.dropped = 0

    def __len__(self) -> int:
        """How many messages wait."""
        return self._count

    def send(self, topic: bytes, frames: Sequence[Buffer]) -> None:
        """Publish a message; it must not change afterwards."""
        held = self._held.get(topic)
        if held is None:
            if self._fits(topic, frames):
                return
            now = time.monotonic()
            held = self._held[topic] = _Held(now + self._wait)
            self.due = min(self.due, now + _LOOK_SECONDS)
        held.messages.append(frames)
        self._count += 1
        self._bytes += sum(map(len, frames))
        if self._count > MOST or self._bytes > _MOST_BYTES:
            self._give_up(topic)

    def retry(self, now: float) -> None:
        """Send what there is room for by now, and drop what has waited long enough."""
        if now < self.due:
            return
        in_vain = 0
        for topic, held in list(self._held.items()):
            if in_vain < _IN_VAIN and self._send_held(topic, held):
                del self._held[topic]
            elif now >= held.until:
                self._give_up(topic)
            else:
                in_vain += 1
        self.due = now + _LOOK_SECONDS if self._held else math.inf

    def _send_held(self, topic: bytes, held: _Held) -> bool:
        """Send what there is room for; whether that was all."""
        while held.messages:
            if not self._fits(topic, held.messages[0]):
                return False
            self._forget(held.messages.popleft())
        return True

    def _give_up(self, topic: bytes) -> None:
        """Send all that waits of a topic to those who have room."""
        self._socket.setsockopt(zmq.XPUB_NODROP, 0)
        for frames in self._held.pop(topic).messages:
            sockets.send(self._socket, [topic, *frames])
            self._forget(frames)
            self.dropped += 1
        self._socket.setsockopt(zmq.XPUB_NODROP, 1)

    def _forget(self, frames: Sequence[Buffer]) -> None:
        self._count -= 1
        self._bytes -= sum(map(len, frames))

    def _fits(self, topic: bytes, frames: Sequence[Buffer]) -> bool:
        """Send to all who follow, if there is room for all."""
        if sockets.send(self._socket, [topic, *frames]):
            return True
        # Of room that has come ZeroMQ takes note only now and then while it sends.
        self._socket.getsockopt(zmq.EVENTS)
        return sockets.send(self._socket, [topic, *frames])
