"""ZeroMQ as far as TaskMaster can tell: connections that keep order, break without a word, and come back.

What is modelled, because it is what the protocols have to live with:

- A connection delivers in order, after any delay. Between connections there is no order.
- When it breaks, what was on the way is lost from some message on, in each direction by itself. The connecting side
  finds out after a while, connects anew and goes on sending; neither program is told. What it sent in between is lost,
  what follows is not. The daemon sees a new routing id; what it sends to the old one is lost, or refused once the
  break is known to it.
- A message that survives the break may be read after messages of the new connection.
- ROUTER reads its connections in any order. XPUB drops for slow subscribers; SUB repeats its subscriptions to a new
  connection.
- When the daemon dies, whatever it had received or not yet sent on is gone.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import TypeAlias

import zmq

from simulation.agenda import Agenda
from taskmaster.bus.table import Buffer

__all__ = ["Dealer", "Fuse", "Killed", "Network", "Peer", "Router", "Subscriber", "Weather", "Xpub"]

Frames: TypeAlias = list[bytes]


class Killed(BaseException):
    """The daemon's process has been killed, at this very point of its code."""


@dataclass
class Weather:
    """How bad the network and the disk are. Seconds, and probabilities for each message."""

    #: typical delay of a local, and of a remote message
    near: float = 0.0002
    far: float = 0.005
    #: a remote message that takes seconds
    spike: float = 0.0
    #: a publication that a subscriber's full queue drops
    drop: float = 0.0
    #: a commit that takes long
    stall: float = 0.0
    #: what survives a broken connection may come after the next connection's messages
    stragglers: bool = False


class Fuse:
    """Kills the daemon after so many further steps outwards: each message it sends and both sides of a commit count."""

    def __init__(self) -> None:
        self.left: int | None = None

    def step(self) -> None:
        if self.left is None:
            return
        self.left -= 1
        if self.left < 0:
            self.left = None
            raise Killed


class Cable:
    """One direction of one connection."""

    def __init__(self, network: Network, deliver: Callable[[Frames], None], *, far: bool) -> None:
        self._network = network
        self._deliver = deliver
        self._far = far
        self._flying: deque[Frames] = deque()
        self._last = 0.0

    def send(self, frames: Frames) -> None:
        agenda = self._network.agenda
        self._last = max(self._last, agenda.monotonic() + self._network.delay(far=self._far))
        self._flying.append(frames)
        agenda.at(self._last, self._arrive)

    def _arrive(self) -> None:
        if self._flying:
            self._deliver(self._flying.popleft())

    def cut(self) -> None:
        """Lose what is on the way, from some message on."""
        rng = self._network.rng
        if rng.random() < 0.3:
            self.clear()
        while self._flying and rng.random() < 0.7:
            self._flying.pop()

    def clear(self) -> None:
        """Lose everything that is on the way."""
        self._flying.clear()

    @property
    def empty_at(self) -> float:
        """When the last message that is on the way arrives."""
        return self._last if self._flying else 0.0


class Connection:
    """A connection between a peer's socket and one of the daemon's."""

    def __init__(self, number: int, peer: Peer, socket: Router | Xpub, network: Network) -> None:
        self.id = b"c%07d" % number
        self.peer = peer
        self.socket = socket
        self.whole = True
        self.up = Cable(network, self._up, far=peer.far)
        self.down = Cable(network, self._down, far=peer.far)

    def _up(self, frames: Frames) -> None:
        self.socket.arrived(self, frames)

    def _down(self, frames: Frames) -> None:
        if not self.peer.closed:
            self.peer.receive(frames)

    def cut(self) -> None:
        """It breaks; whoever is at its ends will notice."""
        self.whole = False
        self.up.cut()
        self.down.cut()


class Network:
    """All connections. The daemon, when it is up, has its three sockets here."""

    def __init__(self, agenda: Agenda, rng: Random, weather: Weather) -> None:
        self.agenda = agenda
        self.rng = rng
        self.weather = weather
        self.fuse = Fuse()
        #: who is at the other end of each connection, for those who read
        self.names: dict[bytes, str] = {}
        self.sockets: dict[str, Router | Xpub] | None = None
        self.readable: Callable[[], None] = lambda: None
        #: told of each message the daemon has sent: socket, address or topic, frames
        self.observer: Callable[[str, bytes, Sequence[Buffer]], None] = lambda socket, to, frames: None
        self.peers: list[Peer] = []
        self._lonely: list[Peer] = []
        self._connections = 0

    def delay(self, *, far: bool) -> float:
        weather, rng = self.weather, self.rng
        if not far:
            return weather.near * rng.random()
        if weather.spike and rng.random() < weather.spike:
            return 8.0 * rng.random()
        return weather.far * rng.random() * 2

    def open(self) -> dict[str, Router | Xpub]:
        """The daemon comes up: its sockets. Peers that have waited connect in their own time."""
        self.sockets = {"control": Router(self, "control"), "results": Xpub(self), "workers": Router(self, "workers")}
        lonely, self._lonely = self._lonely, []
        for peer in lonely:
            self.agenda.after(self.rng.random() * (1.0 if peer.far else 0.1), self._connect, peer)
        return self.sockets

    def shut(self) -> None:
        """The daemon is gone, and all that was in its sockets."""
        sockets, self.sockets = self.sockets, None
        for socket in (sockets or {}).values():
            for connection in list(socket.connections.values()):
                connection.whole = False
                connection.up.clear()
                connection.down.cut()
                self.agenda.after(self.rng.random() * 0.5, self._noticed, connection)
            socket.connections.clear()

    def connect(self, peer: Peer) -> None:
        """Connect a peer's socket, as soon as that can be."""
        self.agenda.after(self.delay(far=peer.far), self._connect, peer)

    def _connect(self, peer: Peer) -> None:
        if peer.closed or peer.connection is not None:
            return
        if self.sockets is None:
            self._lonely.append(peer)
            return
        self._connections += 1
        socket = self.sockets[peer.kind]
        peer.connection = connection = Connection(self._connections, peer, socket, self)
        socket.connections[connection.id] = connection
        self.names[connection.id] = f"{peer.name} ({connection.id.decode()})"
        peer.connected()

    def cut(self, peer: Peer) -> None:
        """Break a peer's connection."""
        connection = peer.connection
        if connection is None or not connection.whole:
            return
        connection.cut()
        # Where nothing else is asked for, what survives arrives before anything that is sent by a new connection.
        quickest = 0.0 if self.weather.stragglers else max(0.0, connection.up.empty_at - self.agenda.now)
        patience = 15.0 if peer.far and self.rng.random() < 0.3 else 0.5
        self.agenda.after(self.rng.random() * patience, self._forget, connection)
        self.agenda.after(quickest + self.rng.random() * patience, self._noticed, connection)

    def closed(self, peer: Peer) -> None:
        """A peer's socket was closed with its process: what the system had taken from it may still arrive."""
        connection = peer.connection
        if peer in self.peers:
            self.peers.remove(peer)
        if connection is not None and connection.whole:
            connection.whole = False
            connection.up.cut()
            self.agenda.after(self.delay(far=peer.far), self._forget, connection)

    def _noticed(self, connection: Connection) -> None:
        peer = connection.peer
        if peer.connection is connection and not peer.closed:
            connection.down.clear()  # its end is closed now
            peer.connection = None
            self.connect(peer)

    def _forget(self, connection: Connection) -> None:
        """The daemon's side of a broken connection goes."""
        if connection.socket.connections.pop(connection.id, None) is not None:
            connection.socket.lost(connection)


class Peer:
    """A connecting socket."""

    def __init__(self, network: Network, name: str, kind: str, receive: Callable[[Frames], None], *, far: bool) -> None:
        self.network = network
        self.name = name
        self.kind = kind
        self.receive = receive
        self.far = far
        self.connection: Connection | None = None
        self.closed = False
        self._waiting: list[Frames] = []
        network.peers.append(self)
        network.connect(self)

    def send(self, frames: Sequence[Buffer]) -> None:
        message = [bytes(frame) for frame in frames]
        if self.connection is None:
            self._waiting.append(message)
        elif self.connection.whole:
            self.connection.up.send(message)

    def connected(self) -> None:
        """There is a (new) connection."""
        waiting, self._waiting = self._waiting, []
        for message in waiting:
            self.send(message)

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            self.network.closed(self)


class Dealer(Peer):
    """A DEALER of a client or worker."""


class Subscriber(Peer):
    """A SUB."""

    def __init__(self, network: Network, name: str, receive: Callable[[Frames], None], *, far: bool) -> None:
        self._topics: list[bytes] = []
        super().__init__(network, name, "results", receive, far=far)

    def subscribe(self, topic: bytes) -> None:
        self._topics.append(topic)
        if self.connection is not None:
            self.send([b"\1" + topic])

    def unsubscribe(self, topic: bytes) -> None:
        if topic in self._topics:
            self._topics.remove(topic)
            if self.connection is not None:
                self.send([b"\0" + topic])

    def connected(self) -> None:
        for topic in self._topics:
            self.send([b"\1" + topic])


class Router:
    """The daemon's ROUTER."""

    def __init__(self, network: Network, kind: str) -> None:
        self.network = network
        self.kind = kind
        self.connections: dict[bytes, Connection] = {}
        self._pipes: dict[bytes, deque[Frames]] = {}

    @property
    def has_mail(self) -> bool:
        """Whether there is something to read."""
        return bool(self._pipes)

    def arrived(self, connection: Connection, frames: Frames) -> None:
        self._pipes.setdefault(connection.id, deque()).append(frames)
        self.network.readable()

    def lost(self, connection: Connection) -> None:
        """A connection is gone; what came by it can still be read."""

    def receive(self) -> Frames | None:
        pipes = self._pipes
        if not pipes:
            return None
        address = next(iter(pipes)) if len(pipes) == 1 else self.network.rng.choice(list(pipes))
        frames = pipes[address].popleft()
        if not pipes[address]:
            del pipes[address]
        return [address, *frames]

    def send(self, frames: Sequence[Buffer]) -> bool:
        self.network.fuse.step()
        address = bytes(frames[0])
        self.network.observer(self.kind, address, frames[1:])
        connection = self.connections.get(address)
        if connection is None:
            return False
        if connection.whole:
            connection.down.send([bytes(frame) for frame in frames[1:]])
        return True


class Xpub:
    """The daemon's XPUB, with XPUB_VERBOSE."""

    def __init__(self, network: Network) -> None:
        self.network = network
        self.connections: dict[bytes, Connection] = {}
        self._topics: dict[bytes, list[bytes]] = {}
        self._inbox: deque[Frames] = deque()
        self._waits_for_room = False

    def setsockopt(self, option: int, value: int) -> None:
        assert option == zmq.XPUB_NODROP
        self._waits_for_room = bool(value)

    def getsockopt(self, option: int) -> int:
        """That takes note of room that has come, which it is here by itself."""
        assert option == zmq.EVENTS
        return 0

    @property
    def has_mail(self) -> bool:
        return bool(self._inbox)

    def arrived(self, connection: Connection, frames: Frames) -> None:
        if connection.id not in self.connections:
            return
        on, topic = frames[0][0], frames[0][1:]
        topics = self._topics.setdefault(connection.id, [])
        if on:
            topics.append(topic)
            self._tell(frames[0])
        elif topic in topics:
            topics.remove(topic)
            self._tell_if_last(topic)

    def lost(self, connection: Connection) -> None:
        """A subscriber is gone: the last one for a topic takes the subscription with it."""
        for topic in self._topics.pop(connection.id, []):
            self._tell_if_last(topic)

    def _tell_if_last(self, topic: bytes) -> None:
        if not any(topic in topics for topics in self._topics.values()):
            self._tell(b"\0" + topic)

    def _tell(self, frame: bytes) -> None:
        self._inbox.append([frame])
        self.network.readable()

    def receive(self) -> Frames | None:
        return self._inbox.popleft() if self._inbox else None

    def send(self, frames: Sequence[Buffer]) -> bool:
        network = self.network
        network.fuse.step()
        topic = bytes(frames[0])
        followers = [
            connection
            for address, topics in self._topics.items()
            if any(topic.startswith(prefix) for prefix in topics) and (connection := self.connections[address]).whole
        ]
        drop = network.weather.drop
        with_room = [connection for connection in followers if not drop or network.rng.random() >= drop]
        if self._waits_for_room and len(with_room) < len(followers):
            return False
        network.observer("results", topic, frames[1:])
        message = [bytes(frame) for frame in frames]
        for connection in with_room:
            connection.down.send(message)
        return True
