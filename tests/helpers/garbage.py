"""Messages of the protocol with their frames, and what becomes of them on a bad day."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

import msgspec

from helpers.absurd import TO_CONTROL, TO_WORKERS
from taskmaster.bus import codec, messages as m
from taskmaster.bus.fields import Field
from taskmaster.bus.table import BARE, Buffer, Layout, Part, pack_columns, pack_values

__all__ = ["SAID", "mutated"]

_ONE = pack_values([1.0])
_LARGE = pack_columns({"x": [10**400, 10**5000], "y": ["", None]}, 2)


def _said() -> Iterator[list[bytes]]:
    opened, dispatch = m.Opened(1, 1, "none", "n", 1, 0, 0, 0), m.Dispatch((1, 1), 1, 0, 1, _ONE.layout)
    mixed = pack_columns({"x": [1.0, 2.0], "y": ["a", {"b": (1j, b"")}]}, 2)
    head = m.EventHead(0, 2, "done", 0, 4, mixed.layout, timed=True)
    failed = m.EventHead(2, 1, "done", 2, 1, None, (m.TaskError(0, "k", "m"),), inputs=_ONE.layout)
    said: list[tuple[msgspec.Struct, Sequence[Buffer]]] = [
        *(say(opened) for say in TO_CONTROL.values()),
        *(say(dispatch) for say in TO_WORKERS.values()),
        (m.Submit(1, 1, 0, 2, mixed.layout, (m.Ask(0, -1, 2),)), mixed.frames),
        (m.Submit(1, 1, 0, 2, _LARGE.layout), _LARGE.frames),
        (m.Dispatch((1, 1), 1, 0, 2, mixed.layout, 1, ((1, 0),), 0.1), mixed.frames),
        (m.Page(1, 1, 3, (head, failed)), [*mixed.frames, bytes(16), *_ONE.frames]),
        (m.Events(1, 1, (head,)), [*mixed.frames, bytes(16)]),
        (m.Welcome(1, 1, "m", "process", {"path": ["."]}, (Field("x"),)), ()),
        (m.Cancel(1, 1, ((0, 3), (5, 9))), ()),
        (m.Revoke((1, 1), ((0, 1),)), ()),
        (m.Settled(((1, 1),), 1), ()),
        (m.Goodbye("reason"), ()),
        (m.Refused(m.HELLO, "who are you?"), ()),
        (m.Interrupt("token", (1, 1), 0, 1), ()),
        (m.Submit(1, 1, 0, 1, Layout((Part((BARE,), "<U2"),))), [bytes(8)]),
    ]
    for message, frames in said:
        yield [codec.encode(message)[:3000], *map(bytes, frames)]


#: Messages, frame by frame, of every kind that has frames, and some without.
SAID = list(_said())


def mutated(chance: random.Random, said: Sequence[Sequence[bytes]] = SAID) -> list[bytes]:
    """A message with bits flipped, bytes cut off, inserted, doubled or moved from another, frames missing or twice."""
    frames = list(map(bytearray, chance.choice(said)))
    for _ in range(chance.randint(1, 4)):
        frame = chance.choice(frames)
        at = chance.randrange(len(frame) + 1)
        match chance.randrange(8):
            case 0 if at < len(frame):
                frame[at] ^= 1 << chance.randrange(8)
            case 1:
                del frame[at:]
            case 2:
                del frame[at : at + chance.randint(1, 8)]
            case 3:
                frame[at:at] = chance.randbytes(chance.randint(1, 8))
            case 4:  # an absurd length, or number
                frame[at : at + 1] = bytes([chance.choice(b"\xcf\xd3\xdd\xdf\xdb\xc6\xc9")]) + b"\xff" * 4
            case 5:
                other = bytes(chance.choice(said)[0])
                frame[at:at] = other[chance.randrange(len(other) or 1) :][:20]
            case 6 if len(frames) > 1:
                del frames[chance.randrange(1, len(frames))]
            case _:
                frames.insert(chance.randint(1, len(frames)), bytearray(frame))
    return list(map(bytes, frames))
