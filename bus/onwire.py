"""What messages take on their way by ZMTP 3.1 with CurveZMQ, which puts a box around each frame."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["Overlong", "size_on_wire"]

#: What is put around each frame: a box, whose length is told in one byte or in eight, …
_BOX = 33
_AROUND_SHORT, _SHORT = 2 + _BOX, 255 - _BOX
_AROUND_LONG = 9 + _BOX
#: … and the name of the command that a subscription has become since ZMTP 3.1.
_SUBSCRIBE = 9


class Overlong(list[bytes]):
    """In the place of a message of more frames than are taken: none of them."""

    def __init__(self, frames: Sequence[bytes]) -> None:
        """``frames`` are those that were read before it was seen, the peer's routing id first."""
        super().__init__()
        self.frames = len(frames) - 1
        self.on_wire = size_on_wire(frames)

    def add(self, frame: bytes) -> None:
        """One more was read."""
        self.frames += 1
        self.on_wire += len(frame) + _around(frame)


def size_on_wire(frames: Sequence[bytes]) -> int:
    """Bytes that a message took on its way, as :func:`~taskmaster.bus.sockets.receive_from` gives it.

    It is exact but for subscriptions: what were counted too much, somebody could send without being seen.
    """
    if isinstance(frames, Overlong):
        return frames.on_wire
    if len(frames) == 1:  # by an XPUB, for a ROUTER puts the peer's routing id, which was not sent, before it
        return len(frames[0]) + _around(frames[0]) + _SUBSCRIBE
    return sum(len(frame) + _around(frame) for frame in frames[1:])


def _around(frame: bytes) -> int:
    return _AROUND_SHORT if len(frame) <= _SHORT else _AROUND_LONG
