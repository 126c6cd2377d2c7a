"""Many small messages as one: what a message costs on its way is hardly its bytes.

Of each there is its header and how long its frames are, in the header of one `Several`; their frames are in one behind
it, each from a multiple of eight bytes on. They are taken as if each had come by itself, in their order.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from taskmaster.bus import codec
from taskmaster.bus.errors import ProtocolError
from taskmaster.bus.table import Buffer
from taskmaster.bus.worker_messages import MOST_PARTS, Several

__all__ = ["first_of", "parts"]

#: Bytes of a message that is small, and of the small ones that go as one.
SMALL_BYTES, JOINED_BYTES = 4 << 10, 256 << 10
_ALIGNED = 8


def first_of(messages: Sequence[Sequence[Buffer]]) -> tuple[int, Sequence[Buffer]]:
    """How many of these messages, from the first on, to send as one, and that one; there has to be one."""
    taken = size = 0
    for frames in messages[:MOST_PARTS]:
        own = sum(map(len, frames))
        size += own
        if own > SMALL_BYTES or size > JOINED_BYTES:
            break
        taken += 1
    if taken < 2:
        return 1, messages[0]
    sizes: list[tuple[bytes, tuple[int, ...]]] = []
    behind: list[Buffer] = []
    for header, *frames in messages[:taken]:
        sizes.append((bytes(header), tuple(map(len, frames))))
        for frame in frames:
            behind += [frame, bytes(-len(frame) % _ALIGNED)]
    joined = codec.encode(Several(tuple(sizes)))
    return taken, [joined, b"".join(behind)] if behind else [joined]


def parts(message: Several, frames: Sequence[Buffer]) -> Iterator[list[Buffer]]:
    """The messages that came as one. Raises ProtocolError, before the first, where its frames are not theirs."""
    size = sum(n + -n % _ALIGNED for _, sizes in message.parts for n in sizes)
    if sum(map(len, frames)) != size or len(frames) > 1:
        raise ProtocolError(f"several messages with {size} bytes behind them came with others")
    return _divided(message, memoryview(frames[0]) if frames else memoryview(b""))


def _divided(message: Several, behind: memoryview) -> Iterator[list[Buffer]]:
    at = 0
    for header, sizes in message.parts:
        frames: list[Buffer] = [header]
        for n in sizes:
            frames.append(behind[at : at + n])
            at += n + -n % _ALIGNED
        yield frames
