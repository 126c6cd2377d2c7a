"""The results socket: events and beacons to whoever subscribed, at bounded cost to the daemon.

ZeroMQ drops for a subscriber whose queue is full. Every event is numbered, beacons repeat the last number, and a
subscriber that sees a gap asks for the missing part from the journal, so dropping costs it time and nobody anything
else. What it costs the daemon is the queue: so large events are announced by a beacon only and fetched by replay, at
the subscriber's own pace.
"""

from __future__ import annotations

from collections.abc import Sequence

import zmq
from msgspec.structs import replace

from taskmaster.bus import codec, sockets, topics
from taskmaster.bus import messages as m
from taskmaster.bus.table import Buffer
from taskmaster.daemon.core import Core
from taskmaster.daemon.effects import Publication

__all__ = ["PUBLISHED_BYTES", "Publisher"]

#: Larger payloads are announced, not published. With the socket's mark of 256 messages this bounds what a stopped
#: subscriber can hold to 32 MB.
PUBLISHED_BYTES = 128 << 10
#: Events of a message at most; more go into a further one.
_EVENTS = 512


class Publisher:
    """Publishes for one daemon."""

    def __init__(self, socket: zmq.Socket[bytes], core: Core) -> None:
        self._socket = socket
        self._core = core
        self._epoch = core.identity.epoch
        #: prefixes that somebody is subscribed to
        self._prefixes: set[bytes] = set()
        #: run → whether anybody wants its events without, and with, inputs
        self._wanted: dict[int, tuple[bool, bool]] = {}

    def on_subscriptions(self) -> None:
        """Take note of who came and went; answer a subscription to a run with a beacon, so that it is known to hold.

        To a run that is not there as well: whoever follows it need not wait.
        """
        while (frames := sockets.receive(self._socket)) is not None:
            if len(frames) != 1 or not frames[0] or frames[0][0] not in (0, 1):
                continue
            prefix = frames[0][1:]
            self._wanted.clear()
            if frames[0][0] == 0:
                self._prefixes.discard(prefix)
                continue
            if len(prefix) <= 512 and len(self._prefixes) < 100_000:
                self._prefixes.add(prefix)
            self._beacon(prefix)

    def publish(self, publications: Sequence[Publication]) -> None:
        """Events that have become durable."""
        by_run: dict[int, list[Publication]] = {}
        for publication in publications:
            by_run.setdefault(publication.run, []).append(publication)
        for run, events in by_run.items():
            plain, full = self._who_wants(events[0].master, run)
            if plain:
                self._publish(topics.events_topic(events[0].master, run), run, events, inputs=False)
            if full:
                self._publish(topics.with_inputs_topic(events[0].master, run), run, events, inputs=True)

    def beacons(self) -> None:
        """Repeat where each run ends, or that it was deleted, to those who follow it."""
        for prefix in self._prefixes:
            self._beacon(prefix)

    def alarm(self, alarm: m.Alarm) -> None:
        """Tell everybody who listens."""
        sockets.send(self._socket, [topics.ALARMS, codec.encode(alarm)])

    def _publish(self, topic: bytes, run: int, events: Sequence[Publication], *, inputs: bool) -> None:
        heads: list[m.EventHead] = []
        frames: list[Buffer] = []
        size = 0
        for event in events:
            head, tables = event.head, event.inputs if inputs else ()
            size += codec.size_of(head) + sum(map(len, event.frames)) + sum(table.nbytes for table in tables)
            if size > PUBLISHED_BYTES or len(heads) == _EVENTS:
                break
            frames += event.frames
            if tables:
                table = codec.merge(tables)
                frames += table.frames
                head = replace(head, frames=len(event.frames) + len(table.frames), inputs=table.layout)
            heads.append(head)
        if heads:
            sockets.send(self._socket, [topic, self._encoded(run, heads), *frames])
        if len(heads) < len(events):
            self._beacon(topic)

    def _encoded(self, run: int, heads: Sequence[m.EventHead]) -> bytes:
        known = self._core.runs.get(run)
        if known is None:  # deleted in this very turn
            return codec.encode(m.Events(run, self._epoch, tuple(heads)))
        return codec.encode(m.Events(run, self._epoch, tuple(heads), known.next_index, known.writer))

    def _beacon(self, topic: bytes) -> None:
        number = topics.parse_topic(topic)
        if number is None:
            return
        run = self._core.runs.get(number)
        beacon = m.Beacon(number, self._epoch, run.next_seq) if run is not None else m.Gone(number, self._epoch)
        sockets.send(self._socket, [topic, codec.encode(beacon)])

    def _who_wants(self, master: str, run: int) -> tuple[bool, bool]:
        wanted = self._wanted.get(run)
        if wanted is None:
            plain, full = topics.events_topic(master, run), topics.with_inputs_topic(master, run)
            wanted = self._wanted[run] = (self._anybody(plain), self._anybody(full))
        return wanted

    def _anybody(self, topic: bytes) -> bool:
        return any(topic[:end] in self._prefixes for end in range(len(topic) + 1))
