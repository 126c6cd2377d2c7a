"""Who is let in over the network, and who somebody is whose message has come.

Three parts. The :class:`~taskmaster.daemon.gate.Gate` knows which keys are in force. The
:class:`~taskmaster.daemon.doorkeeper.Doorkeeper` is asked by ZeroMQ at each handshake, and answers by the gate. And
each message is looked up at the gate again, by what ZeroMQ says of the connection that it came by, so a key that is
revoked, or expires, is worth nothing from that moment on, also on connections that are open.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import zmq

from taskmaster.bus.onwire import size_on_wire
from taskmaster.bus.text import format_duration
from taskmaster.daemon.bounds import MOST_TOPICS, RATE, Bounds
from taskmaster.daemon.connections import Connections
from taskmaster.daemon.doorkeeper import Doorkeeper
from taskmaster.daemon.gate import Gate, KeyFile, read_keys
from taskmaster.daemon.memory import resident_bytes
from taskmaster.daemon.roles import Peer

__all__ = ["LAST_WORDS", "Gatehouse", "open_gatehouse"]

log = logging.getLogger("taskmaster.daemon")

#: Messages of a connection, and seconds, that are still answered when its owner's key is not in force any more: so that
#: an honest program is told why, and does not try for long.
LAST_WORDS = 100
LAST_WORDS_SECONDS = 10.0


class Gatehouse:
    """All three of a daemon, and what whoever is let in may take of its attention."""

    def __init__(self, gate: Gate, doorkeeper: Doorkeeper, file: KeyFile, bounds: Bounds) -> None:
        self.gate = gate
        self.doorkeeper = doorkeeper
        self.file = file
        self.bounds = bounds
        self.connections: Connections | None = None
        #: what is wrong with the authenticator, for good; empty if nothing is
        self.trouble = ""
        #: has the daemon listen to the network no more
        self.shut: Callable[[], None] = lambda: None
        #: when connections are ended of those whose keys are not in force (monotonic)
        self._evict_at = math.inf

    def watch(self, connections: Connections) -> None:
        """The connections of the daemon's sockets."""
        self.connections = connections

    @property
    def sockets(self) -> list[zmq.Socket[bytes]]:
        """What is to be polled."""
        monitors = [] if self.connections is None else self.connections.monitors
        return [self.doorkeeper.socket, *monitors]

    def serve(self, ready: Mapping[Any, int], now: float) -> None:
        """See to who comes and goes, as far as the poll says that there is anything; ``now`` is monotonic."""
        if self.connections is not None:
            self.connections.heed(ready, now)
        if self.doorkeeper.socket in ready:
            self.doorkeeper.serve(now)

    def end_all(self, socket: zmq.Socket[bytes], why: str, *, silent: bool) -> int:
        """End the connections by one of the daemon's sockets, or just those that have said nothing; how many."""
        if self.connections is None:
            return 0
        theirs = [one for one in self.connections if one.at in (socket, None) and not one.is_ended]
        ending = [one for one in theirs if not (silent and one.user)]
        for connection in ending:
            self.connections.end(connection, why)
        return len(ending)

    def glance(self, now: float) -> None:
        """Several times a second: whether it is time to look at connections, and to read the file of keys anew."""
        self.file.look()
        if self.connections is not None:
            self.connections.glance(now, resident_bytes())

    def look_at_connections(self, now: float, *, stands: bool = False) -> None:
        """Once in a while: whether anybody sends what is not read; ``stands`` where nothing is received for now."""
        if self.connections is not None:
            self.connections.look(now, resident_bytes(), stands=stands)

    def bears(
        self,
        peer: Peer,
        user: str,
        frames: Sequence[bytes],
        origin: zmq.Frame,
        topics: int = 0,
        *,
        fault: str = "",
        is_first: bool = False,
    ) -> bool:
        """Whether a message of somebody who was let in is within bounds; else they are shown the door.

        ``user`` is ZeroMQ's name for them, ``topics`` how many more they follow by it. A ``fault`` is what no program
        does that means no harm: it is out of bounds. ``is_first``: till now their connection had been silent.
        """
        if peer.is_local or self.connections is None:
            return True
        now = time.monotonic()
        connection = self.connections.of(origin, user, now)
        size = size_on_wire(frames)
        if is_first and not fault:
            self.bounds.speak(peer.name)
        connection.read += size
        passes = self.bounds.passes(peer.name, size, now)  # it opens the account, too
        within = self.bounds.follow(peer.name, topics) if topics else True
        if passes and within and not fault:
            return True
        seconds = self.bounds.bar(peer.name, now)
        if seconds:
            what = f"follows more than {MOST_TOPICS} topics" if not within else "sends more than is borne"
            log.warning(
                "key %r, from %s, %s; it is kept out for %s",
                peer.name,
                connection.address,
                fault or what,
                format_duration(seconds),
            )
        self.connections.end(connection, f"key {peer.name!r} is kept out")
        return False

    def bears_stranger(self, user: str, frames: Sequence[bytes], origin: zmq.Frame) -> bool:
        """Whether to answer a message of somebody whose key is not in force any more; else their connection ends."""
        if self.connections is None:
            return True
        now = time.monotonic()
        self._evict_at = min(self._evict_at, now + LAST_WORDS_SECONDS)
        connection = self.connections.of(origin, user, now)
        connection.read += size_on_wire(frames)
        connection.strange += 1
        if connection.strange <= LAST_WORDS and not connection.is_ended:
            return True
        self.connections.end(connection, "its key is not in force any more")
        return False

    def evict(self, now: float) -> None:
        """Once in a while: end connections of those who have had the time to hear that their key is not in force."""
        if self.connections is None or now < self._evict_at:
            return
        self._evict_at = math.inf
        for connection in self.connections:
            if connection.user and self.gate.peer(connection.user) is None:
                self.connections.end(connection, "its key is not in force any more")

    def look(self, now: float) -> bool:
        """Once in a while, and when the file was read, at ``now`` seconds since 1970: whether anybody may less now."""
        self.doorkeeper.probe(time.monotonic())
        self.doorkeeper.look(time.monotonic())
        if not self.trouble and (trouble := self.doorkeeper.trouble(time.monotonic())):
            self.trouble = trouble
            self.shut()
        self.bounds.tidy(time.monotonic())
        self.look_at_connections(time.monotonic())
        self.file.look()
        narrowed = self.gate.expire(now)
        read = self.file.take()
        if read is not None:
            narrowed = self.gate.update(read, now) or narrowed
            log.info("the keys were read anew; %d are in force", len(self.gate))
        if narrowed:
            self._evict_at = min(self._evict_at, time.monotonic() + LAST_WORDS_SECONDS)
        self.evict(time.monotonic())
        return narrowed

    @property
    def refusal(self) -> str:
        """Why the file of keys is not in force as it is now; empty if it is."""
        return (
            self.file.trouble and f"the changed keys are refused, those from before stay in force: {self.file.trouble}"
        )


def open_gatehouse(context: zmq.Context[zmq.Socket[bytes]], keys: Path, now: float, rate: float = RATE) -> Gatehouse:
    """A gatehouse for the keys in a file, at ``now`` seconds since 1970. Raises ConfigError where that is wrong.

    Of each key so many messages a second are borne.
    """
    file = KeyFile(keys)
    gate = Gate(read_keys(keys), now)
    bounds = Bounds(rate)
    return Gatehouse(gate, Doorkeeper(context, gate, bounds), file, bounds)
