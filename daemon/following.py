"""Who follows what at a results socket that leaves it to us whose subscriptions hold (XPUB_MANUAL), by connection.

The invariant: *what one connection says is about that connection only*. Of each there is a set of topics. One that it
asks for twice is in it once; one that it cancels without having asked for it changes nothing; one that it was refused
is counted for nobody; and when the connection ends, just what is in its set is let go of. How many follow a topic is
counted from these sets, and from nothing else.

ZeroMQ tells of the end of each subscription when a connection goes, but not whose it was: that is not heeded. That a
connection has come or gone its monitor tells, with the descriptor, which each message has, too. The monitor is heard
before each message that was read is looked at, for descriptors are used again.

ZeroMQ knows by its queue whose the subscription is that was received last, and this queue is shifted by whatever is
received that is no subscription: from then on, until all has been read, others would get what is granted. (libzmq
4.3.5: ``xpub_t::xread_activated`` notes no pipe for it, ``xrecv`` takes one off.) So nothing is granted meanwhile.
Whoever has sent it is kept out; those who have asked meanwhile are hung up on, and ask again when they are back.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import zmq

from taskmaster.bus import sockets
from taskmaster.daemon.connections import Connections
from taskmaster.daemon.gatehouse import Gatehouse
from taskmaster.daemon.roles import Peer, may_follow

__all__ = ["FEW", "TOPICS", "TOPIC_BYTES", "Follower", "Followers", "Following"]

log = logging.getLogger("taskmaster.daemon")

#: Topics that are granted to those who follow many, and what a connection follows that gets further ones all the same.
TOPICS = 100_000
FEW = 200
#: Characters of a topic at most; no run's is longer.
TOPIC_BYTES = 512
#: A topic counts as one more for each so many characters: ZeroMQ keeps a node for each.
_WEIGHTY = 64
_NO_SUBSCRIPTION = "sends what is no subscription"


@dataclass(slots=True)
class Follower:
    """A connection."""

    #: ZeroMQ's name for whoever it is of, as far as a message has come by it, and theirs
    user: str = ""
    name: str = ""
    #: what ZeroMQ keeps of it: the topics that it has asked for, and whether these were granted
    topics: dict[bytes, bool] = field(default_factory=dict)
    #: it is being ended: what still comes by it counts for nothing
    is_out: bool = False


class Followers:
    """The connections of a results socket, by their descriptors."""

    def __init__(self) -> None:
        self._connections: dict[int, Follower] = {}
        #: by how many connections each topic is followed
        self._counts: dict[bytes, int] = {}

    def __len__(self) -> int:
        """How many topics are followed."""
        return len(self._counts)

    def __contains__(self, topic: bytes) -> bool:
        """Whether anybody follows a topic."""
        return topic in self._counts

    def come(self, descriptor: int) -> None:
        """A connection was accepted."""
        self._connections[descriptor] = Follower()

    def get(self, descriptor: int) -> Follower | None:
        """A connection; None where it has ended."""
        return self._connections.get(descriptor)

    def go(self, descriptor: int) -> Follower | None:
        """A connection has ended; returns it. What it followed is to be :meth:`dropped <drop>`."""
        return self._connections.pop(descriptor, None)

    def of_network(self) -> list[int]:
        """The connections that have come by the network, as far as anything came by them."""
        return [descriptor for descriptor, follower in self._connections.items() if follower.name]

    def grant(self, follower: Follower, topic: bytes) -> None:
        """Let a connection follow a topic."""
        if not follower.topics.get(topic):
            follower.topics[topic] = True
            self._counts[topic] = self._counts.get(topic, 0) + 1

    def drop(self, follower: Follower, topic: bytes) -> bool:
        """Have a connection follow a topic no more; whether it was the last that did."""
        if not follower.topics.pop(topic, False):
            return False
        self._counts[topic] -= 1
        if self._counts[topic]:
            return False
        del self._counts[topic]
        return True


class Following:
    """Takes subscriptions from a socket, and has those hold that may.

    ``on_change`` is called with a topic and whether somebody has subscribed to it, or nobody follows it any more.
    """

    def __init__(
        self, socket: zmq.Socket[bytes], gatehouse: Gatehouse, on_change: Callable[[bytes, bool], None]
    ) -> None:
        if gatehouse.connections is None:
            raise ValueError("subscriptions are known by their connections: have these watched before")
        socket.setsockopt(zmq.XPUB_MANUAL, 1)
        self._socket = socket
        self._gatehouse = gatehouse
        self._connections: Connections = gatehouse.connections
        self._connections.on_event = self._on_event
        self._on_change = on_change
        self.followers = Followers()
        #: subscriptions that were not granted
        self.refused = 0
        #: ZeroMQ does not know whose the subscription is that was received last, until all have been
        self._shifted = False

    def _on_event(self, socket: zmq.Socket[bytes], descriptor: int, comes: bool) -> None:
        if socket is not self._socket:
            return
        self._forget(descriptor)
        if comes:
            self.followers.come(descriptor)

    def _forget(self, descriptor: int) -> None:
        """A connection has ended: let go of what it followed."""
        follower = self.followers.go(descriptor)
        if follower is not None:
            self._empty(follower)

    def _empty(self, follower: Follower) -> None:
        if follower.name and follower.topics:
            self._gatehouse.bounds.follow(follower.name, -sum(map(_weight, follower.topics)))
        for topic in list(follower.topics):
            if self.followers.drop(follower, topic):
                self._on_change(topic, False)

    def on_readmitted(self) -> None:
        """All connections over the network have been closed at once, of which the monitor says nothing."""
        for descriptor in self.followers.of_network():
            self._forget(descriptor)

    def take(self) -> bool:
        """Take one message from the socket; whether there was one."""
        received = sockets.receive_from(self._socket)
        if received is None:
            self._shifted = False
            return False
        frames, user, origin = received
        is_subscription = len(frames) == 1 and frames[0][:1] in (b"\0", b"\1")
        if not all(frame[:1] in (b"\0", b"\1") for frame in frames or [b""]):
            self._shifted = True
        if not user:
            return True  # of a connection that has ended: the monitor tells that
        self._connections.catch_up(self._socket, time.monotonic())
        descriptor = int(origin.get(zmq.SRCFD))
        follower = self.followers.get(descriptor)
        if follower is None or follower.is_out:
            return True
        peer = self._gatehouse.gate.peer(user)
        if peer is None:
            self._gatehouse.bears_stranger(user, frames, origin)
            self._refuse(frames[0][1:] if is_subscription else b"")
            return True
        is_first = follower.user != user
        if is_first:  # till now there was what somebody had left here who had this descriptor before
            self._empty(follower)
            follower.user, follower.name = user, "" if peer.is_local else peer.name
        if not is_subscription or len(frames[0]) > 1 + TOPIC_BYTES:
            follower.is_out = not self._gatehouse.bears(
                peer, user, frames, origin, fault=_NO_SUBSCRIPTION, is_first=is_first
            )
        elif frames[0][0]:
            self._on_subscription(follower, peer, frames, origin, descriptor, is_first)
        else:
            self._on_cancel(follower, peer, frames, origin)
        return True

    def _on_subscription(
        self, follower: Follower, peer: Peer, frames: list[bytes], origin: zmq.Frame, descriptor: int, is_first: bool
    ) -> None:
        topic = frames[0][1:]
        is_new = topic not in follower.topics
        follower.topics.setdefault(topic, False)
        weight = _weight(topic) if is_new else 0
        if not self._gatehouse.bears(peer, follower.user, frames, origin, weight, is_first=is_first):
            follower.is_out = True
        elif not may_follow(peer, topic) or not self._has_room(topic, follower, peer):
            self._refuse(topic)
        elif self._shifted:
            follower.is_out = True
            self._connections.hang_up(descriptor, "its subscriptions came amid what is none; it is to come again")
        else:
            self._socket.subscribe(topic)
            self.followers.grant(follower, topic)
            self._on_change(topic, True)

    def _on_cancel(self, follower: Follower, peer: Peer, frames: list[bytes], origin: zmq.Frame) -> None:
        topic = frames[0][1:]
        held = follower.topics.get(topic)
        if held and not self._shifted:
            self._socket.unsubscribe(topic)
        if self.followers.drop(follower, topic):
            self._on_change(topic, False)
        if not self._gatehouse.bears(peer, follower.user, frames, origin, 0 if held is None else -_weight(topic)):
            follower.is_out = True

    def _has_room(self, topic: bytes, follower: Follower, peer: Peer) -> bool:
        """Whether a topic may be followed: beyond a bound by those who follow few, whatever the others do."""
        return len(self.followers) < TOPICS or topic in self.followers or peer.is_local or len(follower.topics) <= FEW

    def _refuse(self, topic: bytes) -> None:
        self.refused += 1
        if self.refused & (self.refused - 1) == 0:  # 1, 2, 4, 8, …: a flood must not fill the log
            log.warning("refused subscription %d, to %.80r", self.refused, topic)


def _weight(topic: bytes) -> int:
    return 1 + len(topic) // _WEIGHTY
