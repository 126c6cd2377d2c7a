"""Leases on their way to workers: large frames in segments, many small leases for one worker as one message."""

from __future__ import annotations

from collections.abc import Sequence

import zmq

from taskmaster.bus import codec, sockets
from taskmaster.bus.joining import first_of
from taskmaster.bus.table import Buffer
from taskmaster.daemon.effects import Dispatched
from taskmaster.daemon.handover import Handover

__all__ = ["Dispatching"]


class Dispatching:
    """Sends leases by the workers' socket."""

    def __init__(self, workers: zmq.Socket[bytes], handover: Handover) -> None:
        self._workers = workers
        self._handover = handover

    def dispatch(self, dispatches: Sequence[Dispatched]) -> None:
        """Send these, to each worker in their order.

        An unreachable worker is found out by the count of dispatches in its next `Settled`, or by its silence.
        """
        joined: dict[bytes, list[Sequence[Buffer]]] = {}
        for dispatch in dispatches:
            framed = self._framed(dispatch)
            if dispatch.joins:
                joined.setdefault(dispatch.address, []).append(framed)
            else:
                sockets.send(self._workers, [dispatch.address, *framed])
        for address, messages in joined.items():
            while messages:
                count, frames = first_of(messages)
                sockets.send(self._workers, [address, *frames])
                del messages[:count]

    def _framed(self, dispatch: Dispatched) -> Sequence[Buffer]:
        tables = dispatch.tables
        table = tables[0] if len(tables) == 1 else codec.concatenate(tables)
        message, frames = self._handover.give(dispatch.address, dispatch.message, table.frames)
        return [codec.encode(message), *frames]
