"""Questions to the daemon that have not been answered, and when to ask them again."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from taskmaster.bus import codec, messages as m
from taskmaster.bus.errors import CallerError, DaemonUnreachable, ProtocolError, TaskMasterError, TooLarge
from taskmaster.bus.table import Buffer
from taskmaster.learners.runcore import RunCore

__all__ = ["Request", "Requests", "unanswered"]

#: Seconds after which an unanswered request is sent again, doubled up to the second figure. Those are small, and so are
#: most answers; pages are not, and are asked for again only when it is known that they were lost, see `runcore`.
AGAIN_SECONDS = 2.0
AGAIN_LONGEST_SECONDS = 4.0

_as_the_daemon = codec.client_decoder()


class Request:
    """A question to the daemon. ``reply`` or ``error`` is set when the answer has come."""

    __slots__ = ("again_in", "attached", "error", "frames", "id", "message", "reply", "run", "sent_at")

    def __init__(self, message: m.ClientMessage, frames: list[Buffer], run: RunCore | None) -> None:
        self.id: int = message.id  # type: ignore[union-attr]
        self.message = message
        self.frames = frames
        #: the run that asks by itself (for a page, where the daemon stands); None where somebody waits for the answer
        self.run = run
        self.sent_at = 0.0
        self.again_in = AGAIN_SECONDS
        self.reply: m.DaemonMessage | None = None
        #: the frames that came with it
        self.attached: Sequence[bytes] = ()
        self.error: TaskMasterError | None = None

    @property
    def answered(self) -> bool:
        return self.reply is not None or self.error is not None


def unanswered(address: str, request: Request, patience: float | None) -> DaemonUnreachable:
    """That the daemon at ``address`` took more than ``patience`` seconds to answer."""
    return DaemonUnreachable(
        f"the daemon at {address} did not answer ({type(request.message).__name__}) within {patience or 0:g} s; it is "
        "not asked any further, but what it was asked may have been carried out, or may still be: look before you ask "
        "again (a program that is to wait for it: connect(patience=None))"
    )


class Requests:
    """The requests of one client that are out, by their numbers. They are sent by way of ``outbox``."""

    def __init__(self, outbox: deque[list[Buffer]]) -> None:
        self._outbox = outbox
        self._out: dict[int, Request] = {}
        self._next_id = 1

    def __len__(self) -> int:
        return len(self._out)

    def make(
        self,
        message: m.ClientMessage,
        frames: Sequence[Buffer],
        now: float,
        max_message: int,
        run: RunCore | None = None,
    ) -> Request:
        """Send a request; its ``id`` is filled in here.

        Raises CallerError for one that the daemon could not read, TooLarge if it takes none that large.
        """
        message.id = self._next_id  # type: ignore[union-attr]
        header = _header(message)
        for frame in (header, *frames):
            if len(frame) > max_message:
                raise TooLarge(
                    f"{type(message).__name__} needs a message of {len(frame):,} bytes; the daemon takes up to "
                    f"{max_message:,}: ask for less at a time, or raise max_message of [daemon]"
                )
        self._next_id += 1
        request = Request(message, [header, *frames], run)
        self._out[request.id] = request
        self._send(request, now)
        return request

    def answered(self, number: int) -> Request | None:
        """The request of this number, which is answered now; None if nobody waits for it any more."""
        return self._out.pop(number, None)

    def withdraw(self, request: Request) -> None:
        """Ask no further. What has left this process may be carried out all the same."""
        self._out.pop(request.id, None)
        for k, frames in enumerate(self._outbox):
            if frames is request.frames:
                del self._outbox[k]
                return

    def withdraw_of(self, run: RunCore, kind: type[m.ClientMessage] | None = None) -> None:
        """Withdraw what a run has asked by itself: all of it, or the messages of one kind."""
        for request in [request for request in self._out.values() if request.run is run]:
            if kind is None or isinstance(request.message, kind):
                self.withdraw(request)

    def ask_again(self, run: RunCore, message: m.ClientMessage, now: float) -> bool:
        """Send the same question of a run's once more, if it is out: the daemon drops it where it has it still."""
        for request in self._out.values():
            if request.run is run and isinstance(request.message, m.Replay):
                message.id = request.id  # type: ignore[union-attr]
                if message == request.message:
                    self._send(request, now)
                    return True
        return False

    def fail_all(self, error: TaskMasterError) -> None:
        """Nobody is there any more who could answer."""
        for request in self._out.values():
            request.error = error
        self._out.clear()

    def repeat(self, now: float) -> None:
        """Send again what has not been answered for a while."""
        for request in self._out.values():
            asks_by_itself = request.run is not None and isinstance(request.message, m.Replay)
            if now - request.sent_at > request.again_in and not asks_by_itself:
                request.again_in = min(2 * request.again_in, AGAIN_LONGEST_SECONDS)
                self._send(request, now)

    def _send(self, request: Request, now: float) -> None:
        request.sent_at = now
        self._outbox.append(request.frames)


def _header(message: m.ClientMessage) -> bytes:
    """A request's header, read as the daemon will read it: what that would refuse is refused where it is asked."""
    try:
        header = codec.encode(message)
        _as_the_daemon.decode(header)
    except (TypeError, ValueError, OverflowError, RecursionError, ProtocolError) as error:
        reason = error.__cause__ or error
        raise CallerError(f"{type(message).__name__} cannot be asked of the daemon like this: {reason}") from error
    return header
