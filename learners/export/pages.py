"""Reading a recorded run, a page at a time."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from types import TracebackType

import zmq

from taskmaster.bus import codec, messages as m, sockets
from taskmaster.bus.errors import DaemonUnreachable, ProtocolError, from_code
from taskmaster.bus.keys import Credentials
from taskmaster.bus.table import Buffer, Table

__all__ = ["Batch", "PageReader"]

#: Seconds after which a page is asked for again, and after which the daemon is given up.
RESEND_SECONDS = 2.0
ANSWER_SECONDS = 30.0


@dataclass(frozen=True)
class Batch:
    """Tasks of one event row that have ended: ``outputs`` are those of the tasks that are not in ``head.errors``."""

    head: m.EventHead
    inputs: Table
    outputs: Table | None
    #: seconds after ``head.started`` at which each task ended, float64; None where they were not timed one by one
    times: Buffer | None


class PageReader:
    """A connection of its own to a daemon's control socket, which asks for one page after the other.

    The next page is asked for when the last has been used up, so that whoever writes slowly does not fill the memory:
    a run that is followed through a `Lab` is sent as fast as the network goes.
    """

    def __init__(self, address: str, credentials: Credentials | None = None) -> None:
        self._address = address
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._socket = sockets.dealer(self._context, credentials)
        self._socket.connect(address)
        self._decoder = codec.daemon_decoder()
        self._ids = count(1)

    def batches(self, run: int, until: int) -> Iterator[Batch]:
        """What has become of the tasks of a run, in the order of its events, up to the one numbered ``until``.

        Raises UnknownRun, JournalError where the journal cannot be read, DaemonUnreachable where no daemon answers.
        """
        since = 0
        while since < until:
            page, frames = self._page(run, since)
            began, at = since, 0
            for head in page.events:
                own = frames[at : at + head.frames]
                at += head.frames
                if not since <= head.seq < until:
                    continue
                since = head.seq + head.n
                if head.kind in ("done", "cancelled"):
                    yield _batch(head, own)
            if since == began:
                return

    def _page(self, run: int, since: int) -> tuple[m.Page, list[bytes]]:
        request = m.Replay(next(self._ids), run, since, inputs=True)
        message = codec.encode(request)
        deadline = time.monotonic() + ANSWER_SECONDS
        while time.monotonic() < deadline:
            sockets.send(self._socket, [message])
            again = time.monotonic() + RESEND_SECONDS
            while self._socket.poll(max(0, int((again - time.monotonic()) * 1e3))):
                answer = self._answer(request.id)
                if answer is not None:
                    return answer
        raise DaemonUnreachable(f"the daemon at {self._address} did not answer within {ANSWER_SECONDS:g} s")

    def _answer(self, request: int) -> tuple[m.Page, list[bytes]] | None:
        frames = sockets.receive(self._socket)
        if not frames:
            return None
        message = self._decoder.decode(frames[0])
        if getattr(message, "id", 0) != request:
            return None
        if isinstance(message, m.Refused):
            raise from_code(message.code, message.message)
        if not isinstance(message, m.Page) or sum(head.frames for head in message.events) != len(frames) - 1:
            raise ProtocolError(f"the daemon at {self._address} answered a replay with something else than its page")
        return message, frames[1:]

    def close(self) -> None:
        """Disconnect."""
        self._socket.close(linger=0)
        self._context.term()

    def __enter__(self) -> PageReader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _batch(head: m.EventHead, frames: Sequence[Buffer]) -> Batch:
    outputs, times, inputs = codec.event_tables(head, frames)
    if inputs is None:
        raise ProtocolError(f"event {head.seq} of its run came without the inputs that were asked for")
    return Batch(head, inputs, outputs, times)
