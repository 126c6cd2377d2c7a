"""An instrument at its place in the laboratory: connections to it, what is wrong with them, who waits for what."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from typing import Protocol

from taskmaster.drivers.simulated.faults import Fault, Faults
from taskmaster.drivers.simulated.loop import READABLE, WRITABLE, Loop
from taskmaster.drivers.simulated.scpi import Instrument, Pending

__all__ = ["Connection", "Endpoint", "Station"]

#: Bytes read at once, and the longest line.
_CHUNK = 65536
#: Lines of one connection before others have their turn: some hundred microseconds.
_LINES_A_TURN = 32
#: Bytes that may wait to be sent before no more is read.
_MOST_UNSENT = 1 << 20


class Endpoint(Protocol):
    """A way to reach an instrument."""

    def open(self) -> None:
        """Let clients in."""

    def close(self) -> None:
        """Let nobody in."""

    def address(self) -> dict[str, str]:
        """Where it is, for the announcement."""


class Station:
    """One instrument with its endpoints and connections."""

    def __init__(self, loop: Loop, instrument: Instrument, seed: int) -> None:
        self.loop = loop
        self.instrument = instrument
        self.faults = Faults(seed)
        self.endpoints: list[Endpoint] = []
        self.connections: set[Connection] = set()
        #: connections so far
        self.connected = 0
        #: lines and bytes received, answers sent
        self.lines = self.received = self.answers = 0
        self.plugged = False
        self.last_heard = 0.0
        #: when to look whether nothing was heard
        self._look_at = math.inf
        self._plugging = 0

    def plug(self) -> None:
        """Let clients in."""
        if not self.plugged:
            self.plugged = True
            self._plugging += 1
            for endpoint in self.endpoints:
                endpoint.open()

    def unplug(self, seconds: float = 0.0, *, reset: bool = False) -> None:
        """Close all connections and refuse others, for so many seconds, or until :meth:`plug` if 0."""
        self.plugged = False
        self._plugging += 1
        for endpoint in self.endpoints:
            endpoint.close()
        for connection in list(self.connections):
            connection.close(reset=reset)
        if seconds:
            plugging = self._plugging
            self.loop.after(seconds, lambda: self.plug() if plugging == self._plugging else None)

    def power_cycle(self, seconds: float = 0.0, *, reset: bool = False) -> None:
        """Off, and on again after so many seconds, at once if 0."""
        self.unplug(seconds, reset=reset)
        self.instrument.power_cycle()
        if not seconds:
            self.plug()

    def strike(self, fault: Fault) -> None:
        """Carry out a cut."""
        if fault.kind == "power":
            self.power_cycle(fault.seconds, reset=fault.reset)
        else:
            self.unplug(fault.seconds, reset=fault.reset)

    def close(self) -> None:
        """For good."""
        self.unplug()

    # -- the instrument's own watchdog --------------------------------------------------------------------------------

    def watch_silence(self) -> None:
        """See to it that the instrument notices when nothing is heard."""
        silence = self.instrument.watchdog
        if silence and (due := self.last_heard + silence) < self._look_at:
            self._look_at = due
            self.loop.at(due, lambda: self._on_silence(due))

    def _on_silence(self, due: float) -> None:
        if due != self._look_at:
            return  # the watchdog's time was shortened meanwhile, and it has been looked
        self._look_at = math.inf
        silence = self.instrument.watchdog
        if silence and self.loop.clock.real() - self.last_heard >= silence:
            self.instrument.bark()
            self.instrument.watchdog = 0.0  # it has done what it is for; a client that comes back arms it again
        self.watch_silence()


class Connection:
    """One client's lines, over any descriptor: each is carried out in order, and answered before the next."""

    def __init__(self, station: Station, fd: int, release: Callable[[bool], None]) -> None:
        """``release(reset)`` closes whatever the descriptor belongs to."""
        self._station = station
        self._instrument = station.instrument
        self._loop = station.loop
        self._fd = fd
        self._release = release
        self._received = b""
        self._unsent = b""
        #: an answer is awaited, what follows has to wait
        self._blocked = False
        #: there are lines left over for the next turn
        self._queued = False
        self._discarding = False
        self._events = READABLE
        self.is_open = True
        station.connections.add(self)
        station.connected += 1
        self._loop.watch(fd, self._on_ready)

    def close(self, *, reset: bool = False) -> None:
        """End it; what was not sent is lost."""
        if self.is_open:
            self.is_open = False
            self._station.connections.discard(self)
            self._loop.forget(self._fd)
            self._release(reset)

    # -- receiving ----------------------------------------------------------------------------------------------------

    def _on_ready(self, events: int) -> None:
        if events & WRITABLE:
            self._flush()
        if events & ~WRITABLE and self.is_open:
            self._receive()

    def _receive(self) -> None:
        try:
            data = os.read(self._fd, _CHUNK)
        except BlockingIOError:
            return
        except OSError:  # reset by the client
            data = b""
        if not data:
            self.close()
            return
        self._station.received += len(data)
        self._received = self._received + data if self._received else data
        if not (self._blocked or self._queued):
            self._carry_out()
        self._watch_what_matters()

    def _carry_out(self) -> None:
        """Some of the lines that are there."""
        self._queued = False
        lines = 0
        start = 0
        received, terminator = self._received, self._instrument.hears
        while not self._blocked and self.is_open and len(self._unsent) <= _MOST_UNSENT:
            end = received.find(terminator, start)
            if end < 0:
                break
            if lines == _LINES_A_TURN:
                self._queued = True
                self._loop.soon(self._carry_out_more)
                break
            line = received[start:end]
            start = end + len(terminator)
            lines += 1
            if self._discarding:
                self._discarding = False
            else:
                self._carry_out_line(line[:-1] if line.endswith(b"\r") else line)
        self._received = received[start:]
        if len(self._received) > _CHUNK and terminator not in self._received:
            self._received = b""
            if not self._discarding:
                self._discarding = True
                self._instrument.report(-363)

    def _carry_out_more(self) -> None:
        if self.is_open and not self._blocked:
            self._carry_out()
            self._watch_what_matters()

    def _carry_out_line(self, line: bytes) -> None:
        station = self._station
        station.lines += 1
        station.last_heard = self._loop.clock.real()
        if station.faults:
            cut = station.faults.cut(line, before=True)
            if cut is not None:
                station.strike(cut)
                return
        answer = self._instrument.execute(line)
        if self._instrument.watchdog:
            station.watch_silence()
        if isinstance(answer, Pending):
            self._wait_for(line, answer)
        else:
            self._answer(line, answer)

    def _wait_for(self, line: bytes, pending: Pending) -> None:
        self._blocked = True

        def go_on() -> None:
            if self.is_open:
                answer = self._instrument.go_on(pending.parts, pending.rest)
                if isinstance(answer, Pending):
                    self._wait_for(line, answer)
                    return
                self._blocked = False
                self._answer(line, answer)
                self._carry_out_more()

        self._loop.at_simulated(pending.until, go_on)

    # -- answering ----------------------------------------------------------------------------------------------------

    def _answer(self, line: bytes, answer: bytes | None) -> None:
        if self._station.faults:
            self._answer_faultily(line, answer)
        elif answer is not None:
            self._station.answers += 1
            self._send(answer + self._instrument.says)

    def _answer_faultily(self, line: bytes, answer: bytes | None) -> None:
        faults = self._station.faults
        cut = faults.cut(line, before=False)
        if cut is not None:
            if cut.at == "within" and answer is not None:
                self._send(answer[: len(answer) // 2])
            self._station.strike(cut)
            return
        if answer is None:
            return
        delivery = faults.deliver(line, answer)
        data = delivery.data
        if data is not None and data.endswith(b"\n"):
            data = data[:-1] + self._instrument.says
        if not delivery.delay:
            self._deliver(data)
        elif delivery.in_order:
            self._blocked = True
            self._loop.after(delivery.delay, lambda: self._deliver_and_go_on(data))
        else:
            self._loop.after(delivery.delay, lambda: self._deliver(data))

    def _deliver(self, data: bytes | None) -> None:
        if data is not None and self.is_open:
            self._station.answers += 1
            self._send(data)

    def _deliver_and_go_on(self, data: bytes | None) -> None:
        self._blocked = False
        self._deliver(data)
        self._carry_out_more()

    def _send(self, data: bytes) -> None:
        if self._unsent:
            self._unsent += data
            return
        try:
            sent = os.write(self._fd, data)
        except BlockingIOError:
            sent = 0
        except OSError:  # the client has gone; reading will notice
            return
        if sent < len(data):
            self._unsent = data[sent:]
            self._watch_what_matters()

    def _flush(self) -> None:
        data, self._unsent = self._unsent, b""
        self._send(data)
        if not self._queued:  # lines may have waited for the client to take its answers
            self._carry_out_more()
        self._watch_what_matters()

    def _watch_what_matters(self) -> None:
        """Read no more than is needed: who does not take answers, or has sent far ahead, has to wait."""
        if not self.is_open:
            return
        full = len(self._unsent) > _MOST_UNSENT or len(self._received) > _CHUNK
        events = (0 if full else READABLE) | (WRITABLE if self._unsent else 0)
        if events != self._events:
            self._events = events
            self._loop.modify(self._fd, events)
