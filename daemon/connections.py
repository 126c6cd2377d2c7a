"""The network connections of a daemon's sockets: how many from where, what each has sent that nobody has read yet.

ZeroMQ reads what peers send into queues that it bounds by messages. A message can be large, and one of many frames is
not counted before its last has come; so whoever sends without end fills the memory, and the loop does not even see it.
Two things are used that ZeroMQ tells of its connections: their descriptors when they come and go (zmq_socket_monitor),
and that of each message (ZMQ_SRCFD). By the first, TCP says how many bytes have come; by the second it is known how
many of them were in messages that were received here. What is between must be small, or the connection is ended: not by
ZeroMQ, which has no way to, but by a reset on its descriptor, which looks to it as if the peer had gone.

An honest peer that is hit connects again, and sends again what was not acknowledged.
"""

from __future__ import annotations

import contextlib
import ctypes
import logging
import socket as net
import struct
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import zmq

from taskmaster.bus import sockets
from taskmaster.bus.text import format_size
from taskmaster.daemon.memory import machine_bytes

__all__ = ["Connection", "Connections"]

log = logging.getLogger("taskmaster.daemon")

#: Events of one socket heeded in one turn.
_EVENTS = 1024
#: Connections looked at each time, which is once a second or more often; of very many a sixteenth, and all of them
#: where memory has grown by so much since all were.
_LOOK = 256
_ROUND = 16
_GROWTH = 128 << 20
#: Bytes that lie unread of all connections of one key at most, beside four messages of the greatest size; …
_UNREAD = 128 << 20
#: … and of all together, where an eighth of the machine's memory is less.
#:
#: What follows for the process: when all have been looked at, no key has more unread than that, nor have all together.
#: Until then it can grow by _GROWTH, and what comes until the next glance, before all are looked at. Only where as much
#: memory is given back meanwhile by something else does that go unseen; then each is looked at within _ROUND looks, and
#: what was seen of it counts until it is looked at again: so it is what comes in sixteen seconds. Beside this there are
#: only the _HEARTBEATS of each connection, which cannot be told from frames that trickle in: of 4096 connections a
#: quarter of a MiB a second, at most.
_UNREAD_IN_ALL = 512 << 20
#: Bytes a second that a connection may send beside messages: heartbeats, of which ours take 17.
_HEARTBEATS = 64
#: tcpi_bytes_received in Linux's struct tcp_info.
_RECEIVED_AT = 128
_RECEIVED_END = _RECEIVED_AT + 8
#: Descriptors that are not for connections: the journal's, workers', ZeroMQ's own.
_KEPT_BACK = 256
_libc = ctypes.CDLL(None, use_errno=True)
#: A struct sockaddr of AF_UNSPEC.
_NOBODY = struct.pack("=H14x", net.AF_UNSPEC)
_HEEDED = zmq.EVENT_ACCEPTED | zmq.EVENT_DISCONNECTED


@dataclass(slots=True)
class Connection:
    """A connection over the network."""

    descriptor: int
    address: str
    since: float
    #: by which of the sockets it has come, as far as that was told
    at: zmq.Socket[bytes] | None = None
    #: whose it is, by ZeroMQ's name for them, as far as a message has come by it
    user: str = ""
    #: bytes of what was received of it here
    read: int = 0
    #: bytes that were no messages yet, or waited, when it was looked at last
    unread: int = 0
    #: messages that came by it when its owner's key was not in force any more
    strange: int = 0
    is_ended: bool = False

    @property
    def owner(self) -> str:
        """Whose it is, as far as that is known: else the address, of which no key has the name."""
        return self.user or self.address


class Connections:
    """Of some sockets; ``most`` from one address, and in all what the process can have descriptors for.

    ``largest`` is the greatest size of a frame. To be made before any of the sockets is bound.
    """

    def __init__(self, watched: Sequence[zmq.Socket[bytes]], most: int, largest: int, descriptors: int) -> None:
        #: to be polled
        self.monitors = [_monitor(socket, f"inproc://connections-{k}") for k, socket in enumerate(watched)]
        self._sockets = dict(zip(self.monitors, watched, strict=True))
        self._monitor_of = dict(zip(watched, self.monitors, strict=True))
        self._most = most
        self._most_unread = _UNREAD + 4 * largest
        # With a small memory and vast messages: one must be able to come.
        self._most_in_all = max(_UNREAD_IN_ALL, machine_bytes() // 8, self._most_unread)
        self._room = max(descriptors // 2, descriptors - _KEPT_BACK)
        self._by_descriptor: dict[int, Connection] = {}
        self._by_address: Counter[str] = Counter()
        self._looked_at = 0
        self._memory = 0
        #: connections that were ended, of any kind
        self.ended = 0
        #: called for each that has gone
        self.on_end: Callable[[Connection], None] = lambda connection: None
        #: called in the order of events for those of any kind, Unix sockets' included: by which of the sockets, its
        #: descriptor, and whether it has come or gone
        self.on_event: Callable[[zmq.Socket[bytes], int, bool], None] = lambda socket, descriptor, comes: None

    def __len__(self) -> int:
        return len(self._by_descriptor)

    def __iter__(self) -> Iterator[Connection]:
        return iter(list(self._by_descriptor.values()))

    def heed(self, ready: Mapping[Any, int], now: float) -> None:
        """Take note of who came and went."""
        for monitor in self.monitors:
            if monitor in ready:
                for _ in range(_EVENTS):
                    if not monitor.poll(0):
                        break
                    self._heed_one(monitor, now)

    def catch_up(self, socket: zmq.Socket[bytes], now: float) -> None:
        """Take note of all who came and went by a socket before what was received of it last.

        To accept a connection takes ZeroMQ longer than this takes for it: so it ends.
        """
        monitor = self._monitor_of[socket]
        while sockets.is_readable(monitor):
            self._heed_one(monitor, now)

    def _heed_one(self, monitor: zmq.Socket[bytes], now: float) -> None:
        event, descriptor = struct.unpack("=HI", monitor.recv_multipart()[0])
        socket = self._sockets[monitor]
        known = self._by_descriptor.get(descriptor)
        # That one of another socket has gone may be told when its descriptor is that of a new one here.
        if event == zmq.EVENT_ACCEPTED or known is None or known.at in (None, socket):
            self._forget(descriptor)
        self.on_event(socket, descriptor, event == zmq.EVENT_ACCEPTED)
        if event == zmq.EVENT_ACCEPTED:
            self._on_accepted(socket, descriptor, now)

    def _on_accepted(self, socket: zmq.Socket[bytes], descriptor: int, now: float) -> None:
        address = _address_of(descriptor)
        if not address:
            return  # by a Unix socket, or gone already
        self._add(Connection(descriptor, address, now, socket))
        if self._by_address[address] > self._most:
            self._end(descriptor, address, f"there are {self._most} connections from there, which is the most")
        elif len(self._by_descriptor) > self._room:
            self._end(descriptor, address, f"there are {self._room} connections, for more there are no descriptors")

    def _add(self, connection: Connection) -> None:
        self._by_descriptor[connection.descriptor] = connection
        self._by_address[connection.address] += 1

    def _forget(self, descriptor: int) -> None:
        known = self._by_descriptor.pop(descriptor, None)
        if known is not None:
            self._by_address[known.address] -= 1
            if not self._by_address[known.address]:
                del self._by_address[known.address]
            self.on_end(known)

    def of(self, frame: zmq.Frame, user: str, now: float) -> Connection:
        """The connection by which a frame has come."""
        descriptor = int(frame.get(zmq.SRCFD))
        known = self._by_descriptor.get(descriptor)
        if known is None or known.user not in ("", user):
            self._forget(descriptor)  # somebody else's before, and it is to be told yet that it has ended
            known = Connection(descriptor, str(frame.get("Peer-Address")), now)
            self._add(known)
        known.user = user
        return known

    def end(self, connection: Connection, why: str) -> None:
        """End a connection; messages that are on their way from it may still come."""
        if connection.is_ended:
            return
        connection.is_ended = True
        self._end(connection.descriptor, connection.address, why)

    def _end(self, descriptor: int, address: str, why: str) -> None:
        self._note_ended(f"from {address}", why)
        with contextlib.suppress(OSError), sockets.borrowed(descriptor) as ours:
            # ZeroMQ may have closed it meanwhile, and the number be another file's: that is left alone.
            if ours.family in (net.AF_INET, net.AF_INET6) and ours.getpeername()[0] == address:
                _abort(ours)

    def _note_ended(self, which: str, why: str) -> None:
        self.ended += 1
        if self.ended & (self.ended - 1) == 0:  # 1, 2, 4, 8, …: a flood must not fill the log
            log.warning("ended connection %d, %s: %s", self.ended, which, why)

    def hang_up(self, descriptor: int, why: str) -> None:
        """End a connection of any kind, without prejudice: whoever it is of comes again."""
        self._note_ended(f"at descriptor {descriptor}", why)
        with contextlib.suppress(OSError), sockets.borrowed(descriptor) as ours:
            if ours.family in (net.AF_INET, net.AF_INET6):
                known = self._by_descriptor.get(descriptor)
                if known is not None and ours.getpeername()[0] == known.address:
                    _abort(ours)
            elif (
                ours.family == net.AF_UNIX and ours.getsockname()
            ):  # accepted at a path: not a pair of the daemon's own
                ours.shutdown(net.SHUT_RDWR)

    def glance(self, now: float, memory: int) -> None:
        """Between two looks: look at once where ``memory`` has grown by much. In a second networks bring gigabytes."""
        if memory > self._memory + _GROWTH:
            self.look(now, memory)

    def look(self, now: float, memory: int, *, stands: bool = False) -> None:
        """Once in a while: end those that have sent much that is not read. ``memory`` is what the process has.

        ``stands``: nothing is received for now. Then what came by a connection that ends stays in memory, and whoever
        has sent too much by one could go on by the next: so all of theirs end. Nobody is let in meanwhile.
        """
        self._measure(self._due(memory), now)
        for owner, unread in self._unread_by_owner().items():
            if unread > self._most_unread:
                theirs = [connection for connection in self if connection.owner == owner]
                self._bound(theirs, self._most_unread, "of what its owner has sent", now, whole=stands)
        if sum(connection.unread for connection in self._by_descriptor.values()) > self._most_in_all:
            self._bound(self, self._most_in_all, "of what all have sent", now, whole=stands)

    def _due(self, memory: int) -> list[Connection]:
        """The connections to be looked at now."""
        connections = list(self._by_descriptor.values())
        if memory > self._memory + _GROWTH:
            self._memory = memory
            return connections
        self._memory = min(self._memory, memory)
        start = self._looked_at % max(1, len(connections))
        n = max(_LOOK, len(connections) // _ROUND + 1)
        self._looked_at = start + n
        return (connections[start:] + connections[:start])[:n]

    def _measure(self, connections: Iterable[Connection], now: float) -> None:
        """Find what of these is unread."""
        for connection in connections:
            received = _received_by(connection.descriptor)
            if received is None:
                connection.unread = 0
                self._forget(connection.descriptor)
                continue
            unread = received - connection.read - int(_HEARTBEATS * (now - connection.since))
            if unread <= 0:
                # Level. What it might have sent beside messages, and has not, is not saved up for it: else whoever
                # has been there for months could send gigabytes that are not seen.
                connection.read, connection.since = received, now
            connection.unread = 0 if connection.is_ended else max(0, unread)

    def _unread_by_owner(self) -> Counter[str]:
        """Bytes that are unread, as they were seen last."""
        unread: Counter[str] = Counter()
        for connection in self._by_descriptor.values():
            if connection.unread:
                unread[connection.owner] += connection.unread
        return unread

    def _bound(
        self, connections: Iterable[Connection], most: int, what: str, now: float, *, whole: bool = False
    ) -> None:
        """Have no more than ``most`` bytes unread of all these, for which those end of which it is most, or all."""
        connections = list(connections)
        self._measure(connections, now)  # some were looked at a while ago
        unread = sum(connection.unread for connection in connections)
        for connection in sorted(connections, key=lambda connection: connection.unread, reverse=True):
            if unread <= most and not whole:
                return
            why = f"{format_size(unread)} {what} are no messages yet, or wait: {format_size(connection.unread)} by it"
            if not whole:
                unread -= connection.unread
            connection.unread = 0
            self.end(connection, why)


def _abort(connection: net.socket) -> None:
    """End a TCP connection at once, whatever lies in its queues: connect(2) to nobody, which sends a reset.

    After a shutdown(2) a peer that has filled our queue would be left waiting, and what it has sent kept.
    """
    if _libc.connect(connection.fileno(), _NOBODY, len(_NOBODY)):
        raise OSError(ctypes.get_errno(), "cannot end a connection")


def _monitor(socket: zmq.Socket[bytes], address: str) -> zmq.Socket[bytes]:
    """Where a socket's events come."""
    socket.monitor(address, _HEEDED)
    monitor: zmq.Socket[bytes] = socket.context.socket(zmq.PAIR)
    monitor.linger = 0
    monitor.rcvhwm = 0  # else ZeroMQ's thread would wait for us
    monitor.connect(address)
    return monitor


def _address_of(descriptor: int) -> str:
    try:
        with sockets.borrowed(descriptor) as ours:
            return str(ours.getpeername()[0]) if ours.family in (net.AF_INET, net.AF_INET6) else ""
    except OSError:
        return ""


def _received_by(descriptor: int) -> int | None:
    """Bytes that have come by a TCP connection; None where it is none (any more)."""
    # Not by a borrowed descriptor: it is asked for thousands in a turn, and there may be none left to borrow it by.
    info, size = ctypes.create_string_buffer(_RECEIVED_END), ctypes.c_uint32(_RECEIVED_END)
    if _libc.getsockopt(descriptor, net.IPPROTO_TCP, net.TCP_INFO, info, ctypes.byref(size)):
        return None
    return int.from_bytes(info.raw[_RECEIVED_AT:], sys.byteorder) if size.value >= _RECEIVED_END else None
