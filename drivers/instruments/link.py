"""A conversation with one instrument, in which every answer belongs to the question before it.

That holds only as long as both sides are in step. So the input is drained before each question, and anything in it,
anything missing and anything that cannot be read ends the connection: the next one begins with the instrument's
identity. Nothing is asked or sent twice.

Several heads of one controller share a link and take turns. Each turn has its own event to be stopped by.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any

from taskmaster.drivers.instruments.claims import Claim
from taskmaster.drivers.instruments.commands import Commands
from taskmaster.drivers.instruments.errors import Garbled, LinkError, Stopped, TimedOut, Unreachable, WrongIdentity
from taskmaster.drivers.instruments.replies import NO_VALUES, Reply
from taskmaster.drivers.instruments.serialport import SerialTransport
from taskmaster.drivers.instruments.transport import SLICE, Transport, shortened
from taskmaster.drivers.instruments.visa import VisaTransport

__all__ = ["Link"]


def _transport(commands: Commands) -> Transport:
    if commands.driver == "serial":
        connection = {k: v for k, v in commands.connection.items() if k not in ("backend", "connect_timeout")}
        return SerialTransport(commands.resource, **connection)
    return VisaTransport(commands.resource, **commands.connection)


class Link:
    """The one connection of this process to an instrument. All methods but `turn` and `close` need the turn."""

    def __init__(self, commands: Commands, holder: str) -> None:
        """As ``commands`` say it is reached and identified; ``holder`` is named to others who want the resource."""
        self._commands = commands
        self._holder = holder
        self._transport = _transport(commands)
        self._claim: Claim | None = None
        self._lock = threading.RLock()
        #: turns within turns
        self._depth = 0
        self._stopping = threading.Event()
        #: moment of :func:`time.monotonic` at which anything was last said to the instrument
        self.said_at = -math.inf
        #: an answer may still come, or may not have been read to its end
        self._pending = False
        #: the input was found empty, and nothing was sent since
        self._drained = False
        #: counts connections: what was sent over an earlier one may no longer hold
        self.generation = 0

    @property
    def is_open(self) -> bool:
        """Whether there is a connection, as far as is known."""
        return self._transport.is_open

    @property
    def in_step(self) -> bool:
        """Whether nothing is outstanding on it."""
        return self.is_open and not self._pending

    def turn(self, stopping: threading.Event, on_acting: Callable[[], None], who: str) -> _Turn:
        """Have it to oneself, in a ``with``; may be nested. What breaks off within ends the connection, not a stop.

        Raises Stopped, LinkErrors with ``who`` before their message.
        """
        return _Turn(self, stopping, on_acting, who)

    def _begin(self, turn: _Turn) -> None:
        while not self._lock.acquire(timeout=SLICE):
            if turn.stopping.is_set():
                raise Stopped(f"{turn.who} was stopped")
        turn.before, self._stopping = self._stopping, turn.stopping
        self._transport.stopping, self._transport.on_acting = turn.stopping, turn.on_acting
        self._depth += 1

    def _end(self, turn: _Turn, error: BaseException | None) -> None:
        try:
            if error is None:
                if self._depth == 1 and self._transport.unsent:
                    self._transport.flush()
            elif isinstance(error, LinkError):
                self._break_off(error)
        except LinkError as failed:
            self._break_off(failed)
            error = failed
        finally:
            self._depth -= 1
            outermost = not self._depth  # as soon as the lock is released, others count, too
            if outermost:
                self._transport.unsent = b""  # of what broke off
                self._drained = False  # something may come before the next turn
            self._stopping = self._transport.stopping = turn.before
            self._lock.release()
        if isinstance(error, LinkError) and outermost:  # it says whose it was
            raise type(error)(f"{turn.who}: {error}") from error

    def _break_off(self, error: LinkError) -> None:
        self._transport.close()
        self._drained = False
        self._pending |= not isinstance(error, Unreachable)

    def connect(self, quiet: float) -> None:
        """A new connection, and the right instrument at its end.

        A line that carries over what was still to be said has to be quiet for ``quiet`` seconds, if something was.
        Raises Claimed, PermissionDenied, WorkerError, WrongIdentity, LinkErrors, Stopped.
        """
        self._have_resource()
        self._drained = False
        self._transport.open(self._stopping, quiet=quiet if self._pending else 0.0)
        self._pending = False
        self.generation += 1
        self._check_identity()

    def _have_resource(self) -> None:
        """Claim it, anew where it is another device by now: after an unplug a tty may have another's former number."""
        if self._claim is not None and not self._claim.holds(self._commands.resource):
            self._claim.close()
            self._claim = None
        if self._claim is None:
            self._claim = Claim(self._commands.resource, self._holder)

    def get_in_step(self, quiet: float) -> None:
        """Connect anew, but where there is a connection on which nothing is outstanding. Raises as `connect` does."""
        if self._transport.is_open and not self._pending:
            try:
                if not self._transport.drain():
                    self._drained = True
                    return
                self._pending = True
            except LinkError:
                self._transport.close()
        self.connect(quiet)

    def _check_identity(self) -> None:
        identity, question = self._commands.identity, self._commands.identify
        if identity is None or question is None:
            return
        found = str(self.ask(question.line.format(self._commands.values), question.reply))
        if identity.fullmatch(found) is None:
            self._transport.close()
            raise WrongIdentity(
                f"{self._holder}: {self._commands.resource} is {found!r}, but `identity` is {identity.pattern!r}; "
                "nothing is sent to it. Connect the right instrument, or correct one"
            )

    def drain(self) -> bytes:
        """What lies in the input; also finds out that the instrument has hung up. Raises Unreachable."""
        return self._transport.drain()

    def tell(self, message: bytes, *, acts: bool, more: bool = False) -> None:
        """Send one message that has no answer; with ``more`` together with the next, or at the end of this turn.

        Raises LinkErrors, Stopped.
        """
        self._transport.write(message, acts=acts, more=more)
        self._drained = self._drained and bool(self._transport.unsent)
        self.said_at = time.monotonic()

    def ask(
        self,
        message: bytes,
        reply: Reply,
        values: Mapping[str, Any] = NO_VALUES,
        *,
        acts: bool = False,
        deadline: float | None = None,
        output: str = "",
    ) -> Any:
        """The answer to this question and no other, as a value. Raises LinkErrors, Stopped.

        ``values`` are those in the question, on which a shape may depend; ``output`` names the answer in messages;
        ``acts``: the message may change something, so that is marked before it is sent.
        """
        transport = self._transport
        if not self._drained and (late := transport.drain()):
            raise Garbled(
                f"{self._commands.resource}: {shortened(late)} had come before {message.decode()!r} was asked"
            )
        self._drained = False
        self._pending = True
        transport.write(message, acts=acts)
        self.said_at = time.monotonic()
        if deadline is None:
            deadline = self.said_at + self._commands.timeout
        try:
            data = transport.read_block(deadline) if reply.is_block else transport.read(deadline)
            if transport.pending:
                raise Garbled(f"received {shortened(data)}, and {shortened(transport.pending)} more")
            value = reply.parse(data, values)
        except (TimedOut, Garbled) as error:
            of = f" for {output!r}" if output else ""
            raise type(error)(f"{message.decode()!r}{of}: {error}") from error
        self._pending = False
        return value

    def lose(self) -> None:
        """Disconnect."""
        self._transport.close()

    def close(self) -> None:
        """Disconnect, and let others have the resource; may be called again."""
        self._transport.close()
        if self._claim is not None:
            self._claim.close()
            self._claim = None


class _Turn:
    """A turn at a link. (No generator: there is one for each task.)"""

    __slots__ = ("_link", "before", "on_acting", "stopping", "who")

    def __init__(self, link: Link, stopping: threading.Event, on_acting: Callable[[], None], who: str) -> None:
        self._link = link
        self.stopping = stopping
        self.on_acting = on_acting
        self.who = who
        self.before = stopping

    def __enter__(self) -> None:
        self._link._begin(self)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._link._end(self, error)
