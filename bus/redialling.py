"""Coming again to a daemon that has not let one in: ZeroMQ gives up for good when a key is refused.

A key that is refused now may be in force later: it was revoked by mistake, had expired and is extended, or is yet to be
allowed. Programs that run for months are to come back then by themselves.
"""

from __future__ import annotations

import contextlib
import math

import zmq
from zmq.utils.monitor import parse_monitor_message

from taskmaster.bus import sockets
from taskmaster.bus.keys import Credentials

__all__ = ["Redial"]

#: Seconds after which one comes again, doubled up to the last: a handshake is work for the daemon.
FIRST_SECONDS, LAST_SECONDS = 5.0, 60.0


class Redial:
    """Connects a socket anew to :attr:`address`, some time after its key was refused there.

    It takes the socket's monitor, whose further ``events`` it passes on.
    """

    def __init__(self, socket: zmq.Socket[bytes], address: str, events: int = 0) -> None:
        self.address = address
        #: whether the key was refused when it was shown last
        self.is_refused = False
        self._socket = socket
        #: becomes readable when something has been heard
        self.news = socket.get_monitor_socket(zmq.EVENT_HANDSHAKE_FAILED_AUTH | zmq.EVENT_HANDSHAKE_SUCCEEDED | events)
        self.news.linger = 0
        self._pause = FIRST_SECONDS
        self._due = math.inf

    @classmethod
    def of(cls, credentials: Credentials | None, *sockets: tuple[zmq.Socket[bytes], str]) -> tuple[Redial, ...]:
        """One for each of these sockets and addresses; none where no key is shown that could be refused."""
        return () if credentials is None else tuple(cls(socket, address) for socket, address in sockets)

    def look(self, now: float) -> list[int]:
        """Once in a while, at a monotonic time: connect anew if that is due. Returns what events there were."""
        events = []
        while (frames := sockets.receive(self.news)) is not None:
            events.append(int(parse_monitor_message(frames)["event"]))
            if events[-1] == zmq.EVENT_HANDSHAKE_FAILED_AUTH:
                self.is_refused = True
                self._due = now + self._pause
                self._pause = min(2 * self._pause, LAST_SECONDS)
            elif events[-1] == zmq.EVENT_HANDSHAKE_SUCCEEDED:
                self.is_refused = False
                self._due, self._pause = math.inf, FIRST_SECONDS
        if now >= self._due:
            self._due = math.inf
            with contextlib.suppress(zmq.ZMQError):  # it has been disconnected already
                self._socket.disconnect(self.address)
            self._socket.connect(self.address)
        return events

    def close(self) -> None:
        """Listen no longer; to be called before the socket is closed."""
        self._socket.disable_monitor()
        self.news.close(linger=0)
