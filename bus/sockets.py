"""ZeroMQ sockets as TaskMaster uses them: bounded, non-blocking, drained in bulk.

Sockets are used raw with :class:`zmq.Poller` or their file descriptor, never through ``zmq.asyncio``: an ``await`` per
message costs three times the throughput.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import socket as unix
import stat
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import zmq
from zmq.utils import z85

from taskmaster.bus.codec import MAX_FRAMES
from taskmaster.bus.errors import AddressInUse, CallerError, ConfigError, DaemonError
from taskmaster.bus.keys import Credentials
from taskmaster.bus.onwire import Overlong
from taskmaster.bus.origins import Origins, begin_anywhere, find_first
from taskmaster.bus.table import Buffer

__all__ = [
    "ANY_PORT",
    "HANDSHAKE_SECONDS",
    "MAX_MESSAGE",
    "Sending",
    "bind",
    "borrowed",
    "client_sockets",
    "dealer",
    "guard",
    "is_readable",
    "publisher",
    "rebind",
    "receive",
    "receive_from",
    "remover",
    "router",
    "secure",
    "send",
    "send_tracked",
    "subscriber",
]

#: Bytes of one frame at most, by default: blocks are cut to a fraction of it by those who send them.
MAX_MESSAGE = 64 << 20

#: Messages ZeroMQ may queue per peer. Control and workers are bounded by protocol (windows, credit), so their mark
#: only has to be high enough never to be met by an honest peer.
CONTROL_HWM = 10_000
#: Publications queued per subscriber before its further ones are dropped; it then catches up by replay.
RESULTS_HWM = 256
#: The same that wait within the subscriber, who may follow hundreds of runs that have an event each in a moment.
_SUBSCRIBER_HWM = 1024

#: Bytes of what subscribers send at most: a topic, or what the handshake takes. ZeroMQ keeps a node for each byte.
_MAX_SUBSCRIPTION = 2048

#: What a handshake may take.
HANDSHAKE_SECONDS = 5.0

#: ZMTP heartbeats notice a dead TCP peer, so that its queue is freed; they say nothing about the program behind it.
_HEARTBEAT_MS = 5_000
_HEARTBEAT_TIMEOUT_MS = 20_000
_RECONNECT_MS = 50
_RECONNECT_MAX_MS = 1_000
#: Connections that may wait to be accepted: all come at once when a daemon is back. The kernel has a limit of its own
#: (net.core.somaxconn).
_BACKLOG = 4096

#: What closing and opening a port may take, and how often to try.
_REBIND_SECONDS = 5.0
_REBIND_LOOK_SECONDS = 0.001

ANY_PORT = "0"

_ADDRESS = re.compile(r"tcp://[^\s/]+:\d{1,5}|ipc://.+")

#: Frames below this size are copied into ZeroMQ; sharing a small one costs more than copying it.
_COPIED = 64 << 10

# The methods of the compiled base class: what pyzmq wraps around them is for options that are not used here, and costs
# as much again as the call itself.
_send: Callable[..., Any] = zmq.backend.Socket.send
_recv: Callable[..., bytes] = zmq.backend.Socket.recv
_get: Callable[..., Any] = zmq.backend.Socket.get
_NOBLOCK, _SEND_MORE = int(zmq.NOBLOCK), int(zmq.NOBLOCK | zmq.SNDMORE)
_RCVMORE, _EVENTS, _POLLIN = int(zmq.RCVMORE), int(zmq.EVENTS), int(zmq.POLLIN)


def _common(socket: zmq.Socket[bytes], hwm: int, max_message: int) -> zmq.Socket[bytes]:
    socket.linger = 0
    socket.sndhwm = hwm
    socket.rcvhwm = hwm
    socket.setsockopt(zmq.MAXMSGSIZE, max_message)
    socket.setsockopt(zmq.HEARTBEAT_IVL, _HEARTBEAT_MS)
    socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, _HEARTBEAT_TIMEOUT_MS)
    socket.setsockopt(zmq.HANDSHAKE_IVL, round(HANDSHAKE_SECONDS * 1e3))
    socket.setsockopt(zmq.RECONNECT_IVL, _RECONNECT_MS)
    socket.setsockopt(zmq.RECONNECT_IVL_MAX, _RECONNECT_MAX_MS)
    return socket


def router(context: zmq.Context[zmq.Socket[bytes]], max_message: int = MAX_MESSAGE) -> zmq.Socket[bytes]:
    """A daemon's ROUTER: says when a peer is gone or full instead of dropping in silence."""
    begin_anywhere()
    socket = _common(context.socket(zmq.ROUTER), CONTROL_HWM, max_message)
    socket.setsockopt(zmq.ROUTER_MANDATORY, 1)
    # Routing ids are ours: nobody who chooses one, not even that of somebody else, gets what was meant for them.
    socket.setsockopt(zmq.ROUTER_HANDOVER, 0)
    find_first(socket)
    return socket


def publisher(context: zmq.Context[zmq.Socket[bytes]]) -> zmq.Socket[bytes]:
    """The daemon's XPUB: hears of every subscription, and drops for the slow rather than wait for them."""
    socket = _common(context.socket(zmq.XPUB), RESULTS_HWM, _MAX_SUBSCRIPTION)
    socket.setsockopt(zmq.XPUB_VERBOSE, 1)
    return socket


def dealer(context: zmq.Context[zmq.Socket[bytes]], credentials: Credentials | None = None) -> zmq.Socket[bytes]:
    """A client's or worker's DEALER; with ``credentials`` it encrypts, and talks to the daemon with that key only."""
    socket = _common(context.socket(zmq.DEALER), CONTROL_HWM, -1)
    if credentials is not None:
        credentials.apply(socket)
    return socket


def subscriber(context: zmq.Context[zmq.Socket[bytes]], credentials: Credentials | None = None) -> zmq.Socket[bytes]:
    """A client's SUB; ``credentials`` as for :func:`dealer`."""
    socket = _common(context.socket(zmq.SUB), _SUBSCRIBER_HWM, -1)
    if credentials is not None:
        credentials.apply(socket)
    # What it sends are subscriptions, all of them at once after a reconnection; those beyond a mark would be dropped.
    socket.sndhwm = 0
    return socket


def client_sockets(
    address: str, credentials: Credentials | None = None
) -> tuple[zmq.Context[zmq.Socket[bytes]], zmq.Socket[bytes], zmq.Socket[bytes]]:
    """A client's context, its DEALER, which connects to ``address``, and its SUB, which is yet to be connected.

    Raises CallerError where that is no address that one can connect to; nothing is left open then.
    """
    if not isinstance(address, str) or not _ADDRESS.fullmatch(address):
        raise CallerError(f"{address!r} is no address of a daemon; write tcp://HOST:PORT or ipc:///PATH")
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    control, results = dealer(context, credentials), subscriber(context, credentials)
    try:
        control.connect(address)
    except (zmq.ZMQError, UnicodeEncodeError) as error:
        context.destroy(linger=0)
        reason = error.strerror if isinstance(error, zmq.ZMQError) else error.reason
        raise CallerError(f"cannot connect to {address!r}: {reason}; check the address") from error
    return context, control, results


def bind(socket: zmq.Socket[bytes], address: str, what: str, descriptor: int = -1) -> str:
    """Bind and return the address as bound (a free port chosen where asked for).

    With the ``descriptor`` of a socket that listens there already it is that one, which is closed with ``socket``.
    Raises AddressInUse, or ConfigError where the address itself is wrong.
    """
    wanted = address
    if address.startswith("tcp://") and address.rpartition(":")[2] in (ANY_PORT, "*"):
        wanted = address.rpartition(":")[0] + ":*"
    if address.startswith("ipc:///") and descriptor < 0:
        _require_free(Path(address.removeprefix("ipc://")), what)
    socket.setsockopt(zmq.BACKLOG, _BACKLOG)
    try:
        socket.setsockopt(zmq.USE_FD, descriptor)  # heeded by every bind until it is set again
        socket.bind(wanted)
    except zmq.ZMQError as error:
        if error.errno == errno.EADDRINUSE:
            raise AddressInUse(
                f"{what} cannot listen on {address}: another program does; stop it or choose another address"
            ) from error
        if error.errno in (errno.EINVAL, errno.ENODEV, errno.EPROTONOSUPPORT, errno.ENOENT, errno.ENAMETOOLONG):
            raise ConfigError(f"{what} cannot listen on {address}: {error.strerror}; check the address") from error
        raise DaemonError(f"{what} cannot listen on {address}: {error.strerror}") from error
    return socket.getsockopt_string(zmq.LAST_ENDPOINT)


def rebind(socket: zmq.Socket[bytes], endpoint: str, descriptor: int = -1) -> None:
    """Close every connection that came by an endpoint and listen there again: whoever may come in comes in anew.

    ``descriptor`` as of :func:`bind`.
    """
    socket.unbind(endpoint)
    socket.setsockopt(zmq.USE_FD, descriptor)
    # The port is free when ZeroMQ's own thread has closed it, which takes a moment.
    deadline = time.monotonic() + _REBIND_SECONDS
    while True:
        try:
            socket.bind(endpoint)
            return
        except zmq.ZMQError as error:
            if error.errno != errno.EADDRINUSE or time.monotonic() > deadline:
                raise
            time.sleep(_REBIND_LOOK_SECONDS)


@contextlib.contextmanager
def borrowed(descriptor: int) -> Iterator[unix.socket]:
    """A socket whose ``descriptor`` is somebody else's, for a look at it. Raises OSError where it is none."""
    ours = os.dup(descriptor)
    try:
        peek = unix.socket(fileno=ours)
    except OSError:
        os.close(ours)
        raise
    with peek:
        yield peek


def _require_free(path: Path, what: str) -> None:
    """ZeroMQ removes whatever lies at a Unix socket's path before it binds it: also what somebody listens at."""
    try:
        kind = path.lstat().st_mode
    except OSError:
        return
    if not stat.S_ISSOCK(kind):
        raise ConfigError(f"{what} cannot listen on ipc://{path}: that is no socket but something else; move it away")
    with unix.socket(unix.AF_UNIX) as peer:
        try:
            peer.connect(str(path))
        except OSError:
            return  # left behind by somebody who has ended
    raise AddressInUse(f"{what} cannot listen on ipc://{path}: another program does; stop it or choose another address")


def remover(endpoint: str) -> Callable[[], None]:
    """A function that removes the file of a Unix socket that was just bound, which ZeroMQ leaves behind.

    It is to be called before the socket is closed: till then no other file can have its number, so that one at which
    somebody else listens meanwhile is told from it, and left alone.
    """
    if not endpoint.startswith("ipc:///"):
        return lambda: None
    path = Path(endpoint.removeprefix("ipc://"))
    bound = path.lstat()

    def remove() -> None:
        with contextlib.suppress(OSError):  # it is gone, or cannot be had: nothing worse than a file left behind
            there = path.lstat()
            if (there.st_dev, there.st_ino) == (bound.st_dev, bound.st_ino):
                path.unlink()

    return remove


def send(socket: zmq.Socket[bytes], frames: Sequence[Buffer | zmq.Frame]) -> bool:
    """Send one message without blocking; large frames are not copied. False if it cannot be sent now.

    A frame that is sent must not change afterwards.
    """
    try:
        for k in range(len(frames) - 1):
            _send(socket, frames[k], _SEND_MORE, len(frames[k]) < _COPIED, False)
        last = frames[-1]
        _send(socket, last, _NOBLOCK, len(last) < _COPIED and not isinstance(last, zmq.Frame), False)
    except zmq.Again:
        return False
    except zmq.ZMQError as error:
        if error.errno == errno.EHOSTUNREACH:  # ROUTER_MANDATORY: that peer is gone
            return False
        raise
    return True


class Sending(Protocol):
    """A message on its way."""

    @property
    def done(self) -> bool:
        """Whether ZeroMQ has let go of it: the network has taken it all, or its receiver is gone."""


def send_tracked(socket: zmq.Socket[bytes], frames: Sequence[Buffer]) -> Sending | None:
    """:func:`send` a message of two frames or more, and tell how it gets on. None if it cannot be sent now."""
    # What comes behind the last frame is sent after it, what comes before it before. Of a copy ZeroMQ would not tell.
    last = zmq.Frame(frames[-1], track=True, copy=False, copy_threshold=0)
    return last.tracker if send(socket, [*frames[:-1], last]) else None


def secure(socket: zmq.Socket[bytes], secret: bytes, domain: str) -> None:
    """Have what a socket is bound to from now on encrypt by CURVE with this secret key, and admit whom ZAP admits.

    With ``domain`` enforced nobody is admitted as long as no authenticator is there.
    """
    socket.curve_server = True
    socket.curve_secretkey = z85.encode(secret)
    _ask_at_the_door(socket, domain)


def guard(socket: zmq.Socket[bytes], domain: str) -> None:
    """Have ZAP asked of whom a socket admits, in the clear, where it is bound from now on."""
    _ask_at_the_door(socket, domain)


def _ask_at_the_door(socket: zmq.Socket[bytes], domain: str) -> None:
    socket.setsockopt_string(zmq.ZAP_DOMAIN, domain)
    socket.setsockopt(zmq.ZAP_ENFORCE_DOMAIN, 1)


def is_readable(socket: zmq.Socket[bytes]) -> bool:
    """Whether there is a message to be received, now."""
    return bool(_get(socket, _EVENTS) & _POLLIN)


def receive_from(
    socket: zmq.Socket[bytes], max_frames: int = MAX_FRAMES, origins: Origins | None = None
) -> tuple[list[bytes], str, zmq.Frame] | None:
    """As :func:`receive`, with who the authenticator said that it comes from; empty where it was not asked.

    It is ZeroMQ's own word on the connection that the message came by, whatever the message says. The first frame as
    ZeroMQ has it knows which connection that was.
    """
    if not _get(socket, _EVENTS) & _POLLIN:
        return None
    first: zmq.Frame = _recv(socket, _NOBLOCK, copy=False)  # type: ignore[assignment]
    try:
        user = first.get("User-Id")
    except zmq.ZMQError:
        user = ""
    frames = [first.bytes]
    if origins is not None and frames[0] not in origins:
        origins.note(frames[0], first)
    while _get(socket, _RCVMORE):
        frame = _recv(socket, _NOBLOCK)
        if len(frames) < max_frames:
            frames.append(frame)
        else:
            return _skip_rest(socket, [*frames, frame]), str(user), first
    return frames, str(user), first


def receive(
    socket: zmq.Socket[bytes], max_frames: int = MAX_FRAMES, origins: Origins | None = None
) -> list[bytes] | None:
    """One message without blocking, or None. A message of too many frames comes as `Overlong`, which is empty.

    ``origins`` gets to know where it came from. One of a single empty frame says nothing (see `bus.origins`), and is
    left out.
    """
    while True:
        if not _get(socket, _EVENTS) & _POLLIN:  # asking is cheaper than the exception for an empty socket
            return None
        frames = [_recv(socket, _NOBLOCK)]
        if frames[0] or _get(socket, _RCVMORE):
            break
    if origins is not None and frames[0] not in origins and _get(socket, _RCVMORE):
        second: zmq.Frame = _recv(socket, _NOBLOCK, copy=False)  # type: ignore[assignment]
        origins.note(frames[0], second)
        frames.append(second.bytes)
    while _get(socket, _RCVMORE):
        frame = _recv(socket, _NOBLOCK)
        if len(frames) < max_frames:
            frames.append(frame)
        else:
            return _skip_rest(socket, [*frames, frame])
    return frames


def _skip_rest(socket: zmq.Socket[bytes], frames: list[bytes]) -> Overlong:
    overlong = Overlong(frames)
    while _get(socket, _RCVMORE):
        overlong.add(_recv(socket, _NOBLOCK))
    return overlong
