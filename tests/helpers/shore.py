"""The daemon's side of a client core without sockets: what it was sent, and what it is told."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

import msgspec

from taskmaster.bus import codec, messages as m
from taskmaster.bus.fields import Field
from taskmaster.bus.table import Buffer, Table, pack_values
from taskmaster.learners.core import ClientCore
from taskmaster.learners.runcore import RunCore

__all__ = ["Shore", "done"]

T = TypeVar("T", bound=msgspec.Struct)


class Shore:
    """A client core that is connected to nothing but this, with a Master ``m``; ``now`` is its clock."""

    def __init__(self, *parameters: Field, max_message: int = 0) -> None:
        self.now = 100.0
        self.core = ClientCore("tcp://shore")
        self._decode = codec.client_decoder().decode
        self.core.describe(self.now)
        master = m.MasterInfo("m", "process", parameters)
        (asked,) = self.said(m.Describe)
        self.say(m.Described(asked.id, 1, "shore", 1, "tcp://results", "", (master,), max_message))

    def open(self, *, write: bool = True, next_index: int = 0, next_seq: int = 0) -> RunCore:
        """Run 1, as its writer 1 or as a reader."""
        opened = m.Opened(0, 1, "m", "run", 1, next_index, next_seq, seed=5)
        return self.core.opened(opened, write=write, since="start")

    def heard(self) -> list[tuple[Any, list[Buffer]]]:
        """The messages that the client has sent since this was asked last."""
        messages = [(self._decode(bytes(frames[0])), list(frames)) for frames in self.core.outbox]
        self.core.outbox.clear()
        return messages

    def messages(self) -> list[Any]:
        """The same without their frames."""
        return [message for message, _ in self.heard()]

    def said(self, kind: type[T]) -> list[T]:
        """Those of one kind; the others are forgotten."""
        return [message for message in self.messages() if isinstance(message, kind)]

    def say(self, message: m.DaemonMessage, frames: Sequence[Buffer] = ()) -> None:
        """Tell the client something."""
        self.core.on_control([codec.encode(message), *map(bytes, frames)], self.now)

    def publish(self, *heads: m.EventHead, frames: Sequence[Buffer] = (), next_index: int = 0) -> None:
        """Publish events of run 1."""
        message = m.Events(1, 1, heads, next_index, 1)
        topic = self.core.runs[1][0].topic
        self.core.on_publication([topic, codec.encode(message), *map(bytes, frames)], self.now)

    def beacon(self, *, epoch: int, next_seq: int) -> None:
        """Say where run 1 ends, and in which epoch."""
        frames = [self.core.runs[1][0].topic, codec.encode(m.Beacon(1, epoch, next_seq))]
        self.core.on_publication(frames, self.now)

    def wait(self, seconds: float) -> None:
        """Let time pass, with the ticks that belong to it."""
        for _ in range(round(seconds)):
            self.now += 1.0
            self.core.on_tick(self.now)


def done(seq: int, value: Any, *, own: bool = True) -> tuple[m.EventHead, list[Buffer]]:
    """The event ``seq``: the task of that index was evaluated to ``value``. Its input comes along if not ``own``."""
    outputs: Table = pack_values([value])
    inputs = None if own else pack_values([seq])
    frames = [*outputs.frames, *(inputs.frames if inputs is not None else ())]
    layout = inputs.layout if inputs is not None else None
    head = m.EventHead(seq, 1, "done", seq, len(frames), outputs.layout, (), "w", 1, 0.0, 0.0, False, layout)
    return head, frames
