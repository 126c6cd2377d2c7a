"""Messages to and from an instrument, whatever carries them.

What is common is here: every wait is cut into slices of at most 20 ms between which `stopping` is looked at, answers
end by their terminator or by the carrier's own end of message, and nothing is ever sent or asked twice. One thread
owns a transport.

A write that has begun is completed, unless the instrument does not take it: half a line would become part of the next
one, which may be the one that makes it safe.
"""

from __future__ import annotations

import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable

from taskmaster.drivers.instruments.errors import Garbled, Stopped, TimedOut, Unreachable
from taskmaster.drivers.instruments.streams import Stream

__all__ = ["LARGEST", "SLICE", "Transport", "shortened"]

#: Seconds after which a wait looks whether it is to stop. An emergency stop has 100 ms in all.
SLICE = 0.02
#: Bytes of an answer that are taken before it counts as nonsense: a little more than a 16-megapixel image of floats.
LARGEST = 1 << 27
#: Bytes that a block may have around its content.
_FRAME = 16
#: Of an answer that is shown in a message.
_SHOWN = 60
#: Seconds of silence after which a block without length has ended, where the carrier does not tell.
_BLOCK_SILENCE = 0.05


def shortened(data: bytes) -> str:
    """What was received, for a message: the beginning, and how much more there is."""
    if not data:
        return "nothing"
    more = f"… ({len(data)} bytes)" if len(data) > _SHOWN else ""
    return repr(bytes(data[:_SHOWN]))[1:] + more


class Transport(ABC):
    """A connection to one instrument.

    Raises, from every method that talks: Unreachable, TimedOut, Garbled, after which the connection is closed and has
    to be opened again, and Stopped.
    """

    def __init__(
        self,
        resource: str,
        *,
        read_terminator: bytes = b"\n",
        write_terminator: bytes = b"\n",
        write_timeout: float = 5.0,
        largest: int = LARGEST,
        on_acting: Callable[[], None] = lambda: None,
    ) -> None:
        """``on_acting`` is called before each write that may act; more than ``largest`` bytes are no answer."""
        self.resource = resource
        self.stopping = threading.Event()
        self.on_acting = on_acting
        self._read_terminator = read_terminator
        self._write_terminator = write_terminator
        self._write_timeout = write_timeout
        self._largest = largest
        self._input = bytearray()
        #: the carrier has said that what is in `_input` ends a message
        self._ended = False
        #: messages that go out with the next one
        self.unsent = b""
        #: where bytes come and go while it is open, to what has bytes and not messages
        self._stream: Stream | None = None
        #: part of a line is in the instrument's input
        self._mid_line = False
        #: Whether what an instrument still says arrives after the connection was opened anew, as on a serial line.
        self._survives_reopening = False
        #: False where a wait cannot be cut into slices without losing data
        self._sliced = True
        #: Whether several messages may be sent as one: where there are no messages, but bytes.
        self._joins = False

    # -- what a carrier provides --------------------------------------------------------------------------------------

    @property
    @abstractmethod
    def is_open(self) -> bool:
        """Whether there is a connection, as far as is known."""

    @abstractmethod
    def _connect(self) -> None:
        """Make the connection. Raises Unreachable, PermissionDenied, WorkerError, Stopped."""

    @abstractmethod
    def _disconnect(self) -> None:
        """Let go of it; may be called again, and raises nothing that the network or the device causes."""

    @abstractmethod
    def _receive(self, seconds: float) -> tuple[bytes, bool]:
        """What has come, waiting at most so long for it: b"" is nothing; True if it ends a message. Unreachable."""

    @abstractmethod
    def _send(self, data: bytes | memoryview, seconds: float) -> int:
        """How many bytes were taken, waiting at most so long for the first. Raises Unreachable."""

    # -- what the rest uses -------------------------------------------------------------------------------------------

    def open(self, stopping: threading.Event, *, quiet: float = 0.0) -> None:
        """Connect; waits look at ``stopping`` from now on.

        Where a line carries over what the last connection left (a serial one), all input is thrown away
        until nothing has come for ``quiet`` seconds.
        """
        self.close()
        self.stopping = stopping
        self._heed()
        self._connect()
        if self._survives_reopening:
            if self._mid_line:
                self.write(b"", acts=False)
            self._await_silence(quiet)
        self._mid_line = False

    def close(self) -> None:
        """Disconnect; may be called again."""
        self._input.clear()
        self._ended = False
        self.unsent = b""
        self._stream = None
        self._disconnect()

    def write(self, data: bytes, *, acts: bool, more: bool = False) -> None:
        """Send one message and its terminator. ``acts``: it may change something, so that is marked before.

        With ``more`` it may wait for what is sent next: to a carrier of bytes they go together.
        """
        stream = self._stream
        if stream is None or self.stopping.is_set():
            self._require_open()
            self._heed()
        if acts:
            self.on_acting()
        message = self.unsent + data + self._write_terminator
        if more and self._joins:
            self.unsent = message
            return
        self.unsent = b""
        sent = self._send(message, SLICE) if stream is None else stream.send(message, SLICE)
        if sent < len(message):
            self._mid_line = True
            self._send_rest(memoryview(message)[sent:])
        self._mid_line = False

    def flush(self) -> None:
        """Send what has waited to be sent with more. Raises as `write` does."""
        if self.unsent:
            message, self.unsent = self.unsent, b""
            self.write(message.removesuffix(self._write_terminator), acts=False)

    def read(self, deadline: float) -> bytes:
        """One message without its terminator, by a moment of :func:`time.monotonic`."""
        searched, terminator, stream = 0, self._read_terminator, self._stream
        if stream is not None and terminator and not (self._input or self._ended or self.stopping.is_set()):
            # The usual case, in few steps: an answer that comes whole.
            left = deadline - time.monotonic()
            if left > 0:
                data = stream.receive(left if left < SLICE else SLICE)
                end = data.find(terminator)
                if end >= 0 and end == len(data) - len(terminator) and end <= self._largest:
                    return data[:end]
                self._take_in(data)
        while True:
            if terminator and self._input:
                end = self._input.find(terminator, max(0, searched - len(terminator)))
                if end >= 0:
                    return self._take(end, len(terminator))
            if self._ended:
                return self._take(len(self._input), 0)
            searched = len(self._input)
            self._await_more(deadline)

    def read_block(self, deadline: float, *, max_bytes: int | None = None) -> bytes:
        """The content of an IEEE 488.2 block, of definite (``#3100…``) or indefinite (``#0…``) length."""
        max_bytes = self._largest if max_bytes is None else max_bytes
        self._await(2, deadline)
        if not (self._input[:1] == b"#" and self._input[1:2].isdigit()):
            raise self._garbled("which is no block: a block begins with # and a digit")
        digits = self._input[1] - ord("0")
        if not digits:
            return self._read_indefinite(deadline, max_bytes)
        self._await(2 + digits, deadline)
        field = bytes(self._input[2 : 2 + digits])
        if not field.isdigit():
            raise self._garbled(f"whose length {shortened(field)} is no number")
        start, length = 2 + digits, int(field)
        if length > max_bytes:
            raise self._garbled(f"a block of {length} bytes, where at most {max_bytes} are expected")
        self._await(start + length, deadline)
        data = bytes(memoryview(self._input)[start : start + length])
        del self._input[: start + length]
        self._end_block(deadline)
        return data

    def drain(self) -> bytes:
        """What lies in the input, which is empty after: anything there is no answer to what is asked next."""
        if self._stream is not None and not self._input:
            self._ended = False
            self._input += self._stream.receive(0.0)
            if not self._input:
                return b""
        self._require_open()
        if self._sliced:
            while data := self._receive(0.0)[0]:
                self._input += data
                if len(self._input) > self._largest:
                    break
        self._ended = False
        if not self._input:
            return b""
        data = bytes(self._input)
        self._input.clear()
        return data

    @property
    def pending(self) -> bytes:
        """What came beyond the message that was read last, as far as it has been received."""
        return bytes(self._input)

    # -- how ----------------------------------------------------------------------------------------------------------

    def _heed(self) -> None:
        if self.stopping.is_set():
            raise Stopped(f"{self.resource}: stopped")

    def _require_open(self) -> None:
        if not self.is_open:
            raise Unreachable(f"{self.resource}: not connected")

    def _send_rest(self, data: memoryview) -> None:
        """An instrument that does not take its input: wait, but not for ever and not against a stop."""
        deadline = time.monotonic() + self._write_timeout
        while data:
            sent = self._send(data, SLICE)
            data = data[sent:]
            if not sent and (self.stopping.is_set() or time.monotonic() > deadline):
                self.close()
                self._heed()
                raise TimedOut(f"{self.resource}: did not take what was sent in {self._write_timeout:g} s")

    def _await_more(self, deadline: float) -> None:
        """At least one byte more, or the end of a message. Raises TimedOut, Stopped, Garbled."""
        while True:
            if not self.is_open or self.stopping.is_set():
                self._require_open()
                self._heed()
            left = deadline - time.monotonic()
            data, self._ended = self._receive(max(0.0, min(SLICE, left) if self._sliced else left))
            self._take_in(data)
            if data or self._ended:
                return
            if left <= 0:
                raise self._timed_out()

    def _take_in(self, data: bytes) -> None:
        self._input += data
        if len(self._input) > self._largest + _FRAME:
            raise self._garbled(f"more than {self._largest} bytes without an end")

    def _await(self, n: int, deadline: float) -> None:
        """At least ``n`` bytes."""
        while len(self._input) < n:
            if self._ended:
                raise self._garbled(f"a message that ends before {n} bytes")
            if n > 2 and self._input[:1] != b"#":
                raise self._garbled("which is no block")
            self._await_more(deadline)

    def _end_block(self, deadline: float) -> None:
        """What follows a block: its terminator, or the end of the message alone."""
        terminator = self._read_terminator
        while not self._ended and len(self._input) < len(terminator):
            self._await_more(deadline)
        if self._input[: len(terminator)] == terminator:
            del self._input[: len(terminator)]
        elif self._input or not self._ended:
            raise self._garbled("after the end of a block")
        self._ended = self._ended and bool(self._input)

    def _read_indefinite(self, deadline: float, max_bytes: int) -> bytes:
        terminator = self._read_terminator
        while not self._ended:
            if self._input.endswith(terminator or b"\n"):
                data, self._ended = self._receive(min(_BLOCK_SILENCE, max(0.0, deadline - time.monotonic())))
                self._input += data
                if not data:
                    break
            else:
                self._await_more(deadline)
            if len(self._input) > max_bytes + _FRAME:
                raise self._garbled(f"a block without end, where at most {max_bytes} bytes are expected")
        data = bytes(self._input[2:])
        self._input.clear()
        self._ended = False
        return data.removesuffix(terminator)

    def _take(self, length: int, terminator: int) -> bytes:
        data = bytes(self._input[:length])
        del self._input[: length + terminator]
        self._ended = self._ended and bool(self._input)
        return data

    def _await_silence(self, seconds: float) -> None:
        """Throw input away until nothing has come for so long."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            self._heed()
            if self._receive(min(SLICE, left))[0]:
                until = time.monotonic() + seconds
        self.drain()

    def _timed_out(self) -> TimedOut:
        received = bytes(self._input)
        self.close()
        return TimedOut(f"{self.resource}: no complete answer in time; received {shortened(received)}")

    def _garbled(self, why: str) -> Garbled:
        received = bytes(self._input)
        self.close()
        return Garbled(f"{self.resource}: received {shortened(received)}: {why}")
