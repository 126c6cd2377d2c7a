"""Who is let in over the network, and who somebody is whose message has come.

Three parts. The :class:`Gate` knows which keys are in force. The :class:`Doorkeeper` is asked by ZeroMQ at each
handshake (ZAP, RFC 27) and answers by the gate; it is served by the broker's loop, so there is no authenticator that
could die alone: as long as the loop does not turn, nobody is admitted. Should it not answer all the same, which the
daemon sees by asking it, the daemon listens to the network no more. And each message is looked up at the gate again,
by what ZeroMQ says of the connection that it came by, so a key that is revoked, or expires, is worth nothing from that
moment on, also on connections that are open.

The keys are in a file that is read anew when it changes (:class:`KeyFile`), in a thread of its own: to read a thousand
takes longer than a turn should. With a mistake in it, it is refused whole, and what was in force stays so.
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import zmq

from taskmaster.bus.errors import ConfigError
from taskmaster.bus.keys import public_text
from taskmaster.bus.text import format_duration
from taskmaster.config.authorised import Grant, read_grants, require_trusted
from taskmaster.daemon.bounds import MOST_TOPICS, RATE, Bounds
from taskmaster.daemon.connections import Connections, size_on_wire
from taskmaster.daemon.memory import resident_bytes
from taskmaster.daemon.roles import LOCAL, Peer

__all__ = ["LOCAL_DOMAIN", "NETWORK_DOMAIN", "Doorkeeper", "Gate", "Gatehouse", "KeyFile", "open_gatehouse"]

log = logging.getLogger("taskmaster.daemon")

#: ZAP's domains: what is bound to the network, and to Unix sockets. They are the daemon's own word at its sockets.
NETWORK_DOMAIN = "taskmaster"
LOCAL_DOMAIN = "taskmaster-local"

_AUTHENTICATOR = "inproc://zeromq.zap.01"
#: Seconds between two questions that the daemon asks its own authenticator, and after which one without an answer is
#: trouble, …
_PROBE_SECONDS = 5.0
_PATIENCE_SECONDS = 15.0
#: … and after which a file of keys is that is still being read.
_READING_SECONDS = 15.0
#: Looks for its answer at the least, for the loop may have stood still.
_LOOKS = 3
#: Handshakes answered in one turn.
_HANDSHAKES = 64
#: Messages of a connection, and seconds, that are still answered when its owner's key is not in force any more: so that
#: an honest program is told why, and does not try for long.
LAST_WORDS = 100
LAST_WORDS_SECONDS = 10.0
#: Who comes by a Unix socket, for ZeroMQ.
_LOCAL_USER = "local"


class Gate:
    """The keys that are in force."""

    def __init__(self, grants: Sequence[Grant], now: float) -> None:
        self._grants: tuple[Grant, ...] = ()
        #: by what ZeroMQ calls whoever has shown the key
        self._peers: dict[str, Peer] = {_LOCAL_USER: LOCAL}
        self._in_force: frozenset[Peer] = frozenset()
        self._users: dict[bytes, str] = {}
        #: when the next of them expires, and when the last of the others has, in seconds since 1970
        self.next_expiry, self._last_expiry = math.inf, -math.inf
        self.update(grants, now)

    @property
    def grants(self) -> Sequence[Grant]:
        """All that is in the file, whether it holds or not: another object where it was read anew."""
        return self._grants

    def __len__(self) -> int:
        """How many keys are in force."""
        return len(self._users)

    def peer(self, user: str) -> Peer | None:
        """Who that is, by ZeroMQ's name for them; None where their key is not in force (any more)."""
        return self._peers.get(user)

    def user(self, key: bytes) -> str | None:
        """ZeroMQ's name for the owner of a public key; None where it is not in force."""
        return self._users.get(key)

    def is_in_force(self, peer: Peer) -> bool:
        """Whether somebody may just what they could when a message of theirs was taken."""
        return peer in self._in_force

    def update(self, grants: Sequence[Grant], now: float) -> bool:
        """Have these in force from now on (seconds since 1970); whether there is anybody who may less than before."""
        holding = [grant for grant in grants if grant.holds(now)]
        users = {grant.key: f"{grant.name} {public_text(grant.key)}" for grant in holding}
        peers = {_LOCAL_USER: LOCAL, **{users[grant.key]: _peer(grant) for grant in holding}}
        narrowed = any(peers.get(user) != peer for user, peer in self._peers.items())
        self._grants, self._users, self._peers = tuple(grants), users, peers
        self._in_force = frozenset(peers.values())
        ends = [grant.expires for grant in grants if grant.expires is not None and not grant.revoked]
        self.next_expiry = min((end for end in ends if end > now), default=math.inf)
        self._last_expiry = max((end for end in ends if end <= now), default=-math.inf)
        return narrowed

    def expire(self, now: float) -> bool:
        """Let go of what has expired, and take back what has not, as the clock was put back; whether any may less."""
        is_due = now >= self.next_expiry or now < self._last_expiry
        return is_due and self.update(self._grants, now)


def _peer(grant: Grant) -> Peer:
    return Peer(grant.name, grant.role, grant.masters, grant.code)


class Doorkeeper:
    """Answers ZeroMQ's questions of whom to admit. To be made before any socket is bound."""

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], gate: Gate, bounds: Bounds) -> None:
        self._gate = gate
        self._bounds = bounds
        self.socket = context.socket(zmq.REP)
        self.socket.linger = 0
        self.socket.bind(_AUTHENTICATOR)
        #: handshakes that were refused
        self.refused = 0
        self._probe = context.socket(zmq.DEALER)
        self._probe.linger = 0
        self._probe.connect(_AUTHENTICATOR)
        #: when it was asked last, and when the first question was that has had no answer (monotonic)
        self._asked = -math.inf
        self._unanswered: float | None = None
        self._looks = 0

    def probe(self, now: float) -> None:
        """Once in a while: ask as ZeroMQ does, to see that whoever comes is answered."""
        while self._probe.poll(0):
            self._probe.recv_multipart()
            self._unanswered = None
        self._looks += 1
        if now < self._asked + _PROBE_SECONDS:
            return
        self._asked = now
        if self._unanswered is None:
            self._unanswered = now
            self._looks = 0
        with contextlib.suppress(zmq.Again):
            question = [b"", b"1.0", b"probe", LOCAL_DOMAIN.encode(), b"", b"", b"NULL"]
            self._probe.send_multipart(question, zmq.NOBLOCK)

    def trouble(self, now: float) -> str:
        """What is wrong with it; empty if nothing is."""
        if self._unanswered is None or now < self._unanswered + _PATIENCE_SECONDS or self._looks < _LOOKS:
            return ""
        return (
            f"the authenticator has not answered for {format_duration(now - self._unanswered)}: the daemon listens to "
            "the network no more; restart it"
        )

    def serve(self) -> None:
        """Answer what is asked."""
        for _ in range(_HANDSHAKES):
            if not self.socket.poll(0):
                return
            self.socket.send_multipart(self._answer(self.socket.recv_multipart()))

    def _answer(self, request: list[bytes]) -> list[bytes]:
        """To version, number, domain, address, identity, mechanism, credentials: RFC 27."""
        version, number, domain, address, _, mechanism, *credentials = request
        user: str | None = None
        if mechanism == b"CURVE" and domain == NETWORK_DOMAIN.encode() and len(credentials) == 1:
            user = self._gate.user(credentials[0])
        elif mechanism == b"NULL" and domain == LOCAL_DOMAIN.encode():
            user = _LOCAL_USER
        if user is None:
            self._note_refused(address, credentials)
            return [version, number, b"400", b"this key is not in force here", b"", b""]
        peer = self._gate.peer(user)
        now = time.monotonic()
        if peer is not None and (
            self._bounds.is_barred(peer.name, now) or not (peer.is_local or self._bounds.knock(peer.name, now))
        ):
            return [version, number, b"300", b"try again later", b"", b""]
        return [version, number, b"200", b"", user.encode(), b""]

    def _note_refused(self, address: bytes, credentials: list[bytes]) -> None:
        self.refused += 1
        if self.refused & (self.refused - 1) == 0:  # 1, 2, 4, 8, …: a flood must not fill the log
            shown = public_text(credentials[0]) if credentials and len(credentials[0]) == 32 else "no key"
            where = address.decode("ascii", "replace")
            log.warning("refused connection %d: %s shows %s, which is not in force", self.refused, where, shown)


def _read(path: Path) -> tuple[Grant, ...]:
    """The keys of a file that nobody but root and the daemon's own user can write. Raises ConfigError."""
    require_trusted(path, {0, os.geteuid()})
    return read_grants(path)


class KeyFile:
    """Looks whether the file of keys has changed, and reads it then."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen = self._look()
        self._reading: threading.Thread | None = None
        self._began = 0.0
        self._read: tuple[Grant, ...] | str | None = None
        #: what is wrong with the file as it is now; empty if nothing is
        self.trouble = ""

    def _look(self) -> tuple[int, ...]:
        try:
            there = os.stat(self._path)
        except OSError as error:
            return (error.errno or 0,)
        return there.st_mtime_ns, there.st_size, there.st_ino, there.st_uid, there.st_mode

    @property
    def origin(self) -> str:
        """Where it is, and whose, for the record."""
        owner = f" (of uid {self._seen[3]})" if len(self._seen) > 3 else ""
        return f"{self._path}{owner}"

    def look(self) -> None:
        """Once in a while: begin to read the file, if it is another one than before."""
        if self._reading is not None:
            return
        seen = self._look()
        if seen != self._seen:
            self._seen = seen
            self._began = time.monotonic()
            self._reading = threading.Thread(target=self._load, name="taskmaster-keys", daemon=True)
            self._reading.start()

    def _load(self) -> None:
        try:
            self._read = _read(self._path)
        except ConfigError as error:
            self._read = str(error)

    def take(self) -> tuple[Grant, ...] | None:
        """What was read since the last time; None if nothing was, or nothing that could be taken."""
        if self._reading is None:
            return None
        if self._reading.is_alive():
            took = time.monotonic() - self._began
            if took > _READING_SECONDS:
                self.trouble = f"{self._path}: has not been read for {format_duration(took)}; is its disk there?"
            return None
        self._reading.join()
        self._reading, read, self._read = None, self._read, None
        if read is None:  # whatever ended the thread, it has been printed; it begins anew
            self._seen = ()
            read = f"{self._path}: could not be read, see above"
        self.trouble = read if isinstance(read, str) else ""
        return None if isinstance(read, str) else read


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
            self.doorkeeper.serve()

    def look_at_connections(self, now: float) -> None:
        """Once in a while, and where messages have to wait: whether anybody sends what is not read."""
        if self.connections is not None:
            self.connections.look(now, resident_bytes())

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
    gate = Gate(_read(keys), now)
    bounds = Bounds(rate)
    return Gatehouse(gate, Doorkeeper(context, gate, bounds), file, bounds)
