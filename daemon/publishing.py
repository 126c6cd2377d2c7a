"""The results socket: events and beacons to whoever subscribed, at bounded cost to the daemon.

A subscriber whose queue stays full misses what comes meanwhile (`outbox`). Every event is numbered, beacons repeat the
last number, and a subscriber that sees a gap asks for the missing part from the journal, so dropping costs it time and
nobody anything else. What it costs the daemon is the queue: so large events are announced by a beacon only and fetched
by replay, at the subscriber's own pace.

The invariant: the topics that are remembered here are those of connections that are there and may follow them, each
for as long as any such connection does; nobody's coming, going, asking or cancelling has another's remembered or
forgotten. Without keys ZeroMQ counts them; with keys see :mod:`taskmaster.daemon.following`.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

import zmq
from msgspec.structs import replace

from taskmaster.bus import codec, messages as m, sockets, topics
from taskmaster.bus.table import Buffer
from taskmaster.daemon.core import Core
from taskmaster.daemon.effects import Publication
from taskmaster.daemon.following import TOPIC_BYTES, Following
from taskmaster.daemon.gatehouse import Gatehouse
from taskmaster.daemon.outbox import Outbox
from taskmaster.daemon.series_publishing import SeriesPublisher

__all__ = ["PUBLISHED_BYTES", "Publisher"]

log = logging.getLogger("taskmaster.daemon")

#: Larger payloads are announced, not published. With the socket's mark of 256 messages this bounds what a stopped
#: subscriber can hold to 32 MB.
PUBLISHED_BYTES = 128 << 10
#: Events of a message at most; more go into a further one.
_EVENTS = 512
#: Subscriptions and cancellations taken note of in one turn; the others wait in the socket.
DRAIN_SUBSCRIPTIONS = 1024
#: Topics that are remembered. Beyond them nobody is forgotten: what anybody might want is then published unasked.
TOPICS = 100_000
#: Beacons of one second; where more runs are followed, they take turns.
BEACONS = 5_000
#: The same for runs that there are not: whoever follows one is told again now and then.
GONE = 500


class Publisher:
    """Publishes for one daemon.

    With a ``gatehouse`` subscriptions hold for those only who may hear what they are to, and as long as what they send
    is within bounds.
    """

    def __init__(self, socket: zmq.Socket[bytes], core: Core, gatehouse: Gatehouse | None = None) -> None:
        self._socket = socket
        self._following = None if gatehouse is None else Following(socket, gatehouse, self._on_change)
        self.outbox = Outbox(socket)
        self._core = core
        self._epoch = core.identity.epoch
        #: prefixes that somebody is subscribed to; those of a run's events with its number
        self._prefixes: dict[bytes, int | None] = {}
        #: somebody may be subscribed to what is not among them
        self._overflowed = False
        #: since then, the topics of what was published: their followers need beacons too
        self._unasked: dict[bytes, int] = {}
        self._beats = 0
        #: run → whether anybody wants its events without, and with, inputs
        self._wanted: dict[int, tuple[bool, bool]] = {}
        #: progress and samples
        self.series = SeriesPublisher(core, self._send, self._anybody, PUBLISHED_BYTES)

    def on_subscriptions(self) -> None:
        """Take note of who came and went; answer a subscription to a run with a beacon, so that it is known to hold.

        To a run that is not there as well: whoever follows it need not wait.
        """
        for _ in range(DRAIN_SUBSCRIPTIONS):
            if self._following is not None:
                if not self._following.take():
                    return
                continue
            frames = sockets.receive(self._socket)
            if frames is None:
                return
            if len(frames) == 1 and 1 <= len(frames[0]) <= 1 + TOPIC_BYTES and frames[0][0] in (0, 1):
                self._on_change(frames[0][1:], frames[0][0] == 1)

    def on_readmitted(self) -> None:
        """All who had come by the network were sent away; those who may come in do so anew."""
        if self._following is not None:
            self._following.on_readmitted()

    def _on_change(self, topic: bytes, comes: bool) -> None:
        """Somebody has subscribed to a topic, or nobody follows it any more."""
        self._wanted.clear()
        self._on_subscription(topic, comes=comes)
        self.series.on_subscription(topic, comes=comes)

    def _on_subscription(self, prefix: bytes, *, comes: bool) -> None:
        if not comes:
            self._prefixes.pop(prefix, None)
            return
        run = self._run_of(prefix)
        if len(self._prefixes) < TOPICS:
            self._prefixes[prefix] = run
        elif prefix not in self._prefixes and not self._overflowed:
            self._overflowed = True
            log.warning("more than %d topics are subscribed to; from now on all events are published", TOPICS)
        if run is not None:
            self._beacon(prefix, run)
        elif (master := topics.parse_people_topic(prefix)) is not None:
            self.waiting(master)

    def waiting(self, master: str) -> None:
        """Say how much of a Master waits for people, to those who want to know."""
        topic = topics.people_topic(master)
        if master in self._core.masters and self._anybody(topic):
            self.outbox.send(topic, [codec.encode(self._core.masters[master].waiting())])

    def _run_of(self, topic: bytes) -> int | None:
        """The run whose events are published under just this topic, if there is, or may be, one."""
        number = topics.parse_topic(topic)
        run = self._core.runs.look(number) if number is not None else None
        return number if run is None or topic.startswith(run.master.encode() + b"/") else None

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
            self.series.on_events(events[0].master, run)

    def beacons(self) -> None:
        """Repeat where each run ends, or that it was deleted, to those who follow it."""
        runs = self._core.runs
        followed = [(topic, run) for topic, run in self._prefixes.items() if run is not None]
        followed += self._unasked.items()
        there = [pair for pair in followed if pair[1] in runs]
        gone = [pair for pair in followed if pair[1] not in runs]
        for pairs, most in ((there, BEACONS), (gone, GONE)):
            start = self._beats * most % max(1, len(pairs))
            for topic, run in (pairs[start:] + pairs[:start])[:most]:
                self._beacon(topic, run)
        for master in self._core.masters:
            self.waiting(master)
        self._beats += 1
        self.series.beacons()

    def alarm(self, alarm: m.Alarm) -> None:
        """Tell everybody who listens."""
        self.outbox.send(topics.ALARMS, [codec.encode(alarm)])

    def _publish(self, topic: bytes, run: int, events: Sequence[Publication], *, inputs: bool) -> None:
        heads: list[m.EventHead] = []
        frames: list[Buffer] = []
        size = 0
        for event in events:
            # Of a task that was edited, whoever has put it has another input.
            head, tables = event.head, event.inputs if inputs or event.head.edited else ()
            size += codec.size_of(head) + sum(map(len, event.frames)) + sum(table.nbytes for table in tables)
            if size > PUBLISHED_BYTES or len(heads) == _EVENTS:
                break
            frames += event.frames
            if tables:
                table = codec.merge(tables)
                frames += table.frames
                head = replace(head, frames=len(event.frames) + len(table.frames), inputs=table.layout)
            heads.append(head)
        if self._overflowed and topic not in self._prefixes:
            self._unasked[topic] = run
            if len(self._unasked) > TOPICS:
                del self._unasked[next(iter(self._unasked))]
        if heads:
            self.outbox.send(topic, [self._encoded(run, heads), *frames])
        if len(heads) < len(events):
            self._beacon(topic, run)

    def _encoded(self, run: int, heads: Sequence[m.EventHead]) -> bytes:
        known = self._core.runs.look(run)
        if known is None:  # deleted in this very turn
            return codec.encode(m.Events(run, self._epoch, tuple(heads)))
        return codec.encode(m.Events(run, self._epoch, tuple(heads), known.next_index, known.writer))

    def _beacon(self, topic: bytes, number: int) -> None:
        run = self._core.runs.look(number)
        beacon = (
            m.Beacon(number, self._epoch, run.next_seq, run.next_index)
            if run is not None
            else m.Gone(number, self._epoch)
        )
        self.outbox.send(topic, [codec.encode(beacon)])

    def _who_wants(self, master: str, run: int) -> tuple[bool, bool]:
        wanted = self._wanted.get(run)
        if wanted is None:
            plain, full = topics.events_topic(master, run), topics.with_inputs_topic(master, run)
            wanted = self._wanted[run] = (self._anybody(plain), self._anybody(full))
        return wanted

    def _send(self, topic: bytes, message: bytes) -> None:
        self.outbox.send(topic, [message])

    def _anybody(self, topic: bytes) -> bool:
        return self._overflowed or any(topic[:end] in self._prefixes for end in range(len(topic) + 1))
