"""A peer that says whatever it likes, frame by frame: the protocol without the client around it."""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import Any, TypeVar

import msgspec
import zmq

from helpers.waiting import PATIENCE
from taskmaster.bus import codec, messages as m
from taskmaster.bus.table import Buffer, pack_values

__all__ = ["RawPeer"]

T = TypeVar("T", bound=msgspec.Struct)

_reply = msgspec.msgpack.Decoder(m.DaemonMessage | m.ToWorker).decode


class RawPeer:
    """A DEALER at one of the daemon's sockets."""

    def __init__(self, address: str, *, rcvhwm: int = 1000) -> None:
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._socket = self._context.socket(zmq.DEALER)
        self._socket.linger = 0
        self._socket.rcvhwm = rcvhwm
        self._socket.connect(address)

    def send(self, *frames: Buffer) -> None:
        """Send frames as they are."""
        self._socket.send_multipart(list(frames))

    def say(self, message: msgspec.Struct, frames: Sequence[Buffer] = ()) -> None:
        """Send a message of the protocol."""
        self.send(codec.encode(message), *frames)

    def hear(self, timeout: float = PATIENCE) -> tuple[Any, list[bytes]]:
        """The next message, and the frames that came with it. Raises AssertionError if none comes."""
        assert self._socket.poll(round(timeout * 1e3)), f"nothing was heard of the daemon for {timeout:g} s"
        header, *frames = self._socket.recv_multipart()
        return _reply(header), frames

    def ask(self, message: msgspec.Struct, kind: type[T], frames: Sequence[Buffer] = ()) -> T:
        """Say something and return the answer, which is of this ``kind``; what comes before it is dropped."""
        self.say(message, frames)
        return self.hear_of(kind)

    def hear_of(self, kind: type[T]) -> T:
        """The next message of this kind; what comes before it is dropped."""
        while True:
            message, _ = self.hear()
            if isinstance(message, kind):
                return message

    def submit(self, run: int, writer: int, first: int, points: Sequence[Any]) -> m.Ack | m.Refused:
        """Submit a block of values; returns the answer."""
        table = pack_values(points)
        self.say(m.Submit(run, writer, first, len(points), table.layout), table.frames)
        while True:
            message, _ = self.hear()
            if isinstance(message, m.Ack | m.Refused):
                return message

    def close(self) -> None:
        """Go."""
        self._context.destroy(0)

    def __enter__(self) -> RawPeer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
