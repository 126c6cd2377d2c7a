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
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
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

    @contextmanager
    def turn(self, stopping: threading.Event, on_acting: Callable[[], None], who: str) -> Iterator[None]:
        """Have it to oneself; may be nested. What breaks off within ends the connection; a stop leaves it.

        Raises Stopped, LinkErrors with ``who`` before their message.
        """
        while not self._lock.acquire(timeout=SLICE):
            if stopping.is_set():
                raise Stopped(f"{who} was stopped")
        before, self._stopping = self._stopping, stopping
        self._transport.stopping, self._transport.on_acting = stopping, on_acting
        self._depth += 1
        try:
            yield
            if self._depth == 1:
                self._transport.flush()
        except LinkError as error:
            self._transport.close()
            self._pending |= not isinstance(error, Unreachable)
            if self._depth > 1:
                raise  # the outermost turn says whose it was
            raise type(error)(f"{who}: {error}") from error
        finally:
            self._depth -= 1
            if not self._depth:
                self._transport.discard()  # of what broke off
            self._stopping = self._transport.stopping = before
            self._lock.release()

    def connect(self, quiet: float) -> None:
        """A new connection, and the right instrument at its end.

        A line that carries over what was still to be said has to be quiet for ``quiet`` seconds, if something was.
        Raises Claimed, PermissionDenied, WorkerError, WrongIdentity, LinkErrors, Stopped.
        """
        self._have_resource()
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
        if self.in_step:
            try:
                if not self._transport.drain():
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
        late = self._transport.drain()
        if late:
            raise Garbled(
                f"{self._commands.resource}: {shortened(late)} had come before {message.decode()!r} was asked"
            )
        self._pending = True
        self._transport.write(message, acts=acts)
        self.said_at = time.monotonic()
        if deadline is None:
            deadline = self.said_at + self._commands.timeout
        try:
            value = self._answer(reply, values, deadline)
        except (TimedOut, Garbled) as error:
            of = f" for {output!r}" if output else ""
            raise type(error)(f"{message.decode()!r}{of}: {error}") from error
        self._pending = False
        return value

    def _answer(self, reply: Reply, values: Mapping[str, Any], deadline: float) -> Any:
        transport = self._transport
        data = transport.read_block(deadline) if reply.is_block else transport.read(deadline)
        if transport.pending:
            raise Garbled(f"received {shortened(data)}, and {shortened(transport.pending)} more")
        return reply.parse(data, values)

    def lose(self) -> None:
        """Disconnect."""
        self._transport.close()

    def close(self) -> None:
        """Disconnect, and let others have the resource; may be called again."""
        self._transport.close()
        if self._claim is not None:
            self._claim.close()
            self._claim = None
