"""The control channel: who tests against a laboratory says there what goes wrong, and asks what arrived.

TCP; one JSON object a line each way. A request names what to ``do``, and with ``head`` one of the heads (all, if it is
null or left out). The answer has ``ok``: true with what was asked for, or false with ``error``.
"""

from __future__ import annotations

import contextlib
import inspect
import json
import os
import socket
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from taskmaster.bus.text import did_you_mean_or
from taskmaster.drivers.simulated.endpoints import listen
from taskmaster.drivers.simulated.faults import Fault
from taskmaster.drivers.simulated.loop import READABLE, WRITABLE, Loop
from taskmaster.drivers.simulated.station import Station

__all__ = ["ControlChannel", "requests"]

#: Actions in one answer.
_PAGE = 2000
#: Bytes of the longest request.
_LONGEST = 1 << 20

Result: TypeAlias = dict[str, Any]


class _Later:
    """A result that is not there yet."""

    def __init__(self, ready: Callable[[], Result | None], deadline: float) -> None:
        self.ready = ready
        self.deadline = deadline


class ControlChannel:
    """Listens for requests about these stations."""

    def __init__(self, loop: Loop, stations: Sequence[Station], host: str, port: int) -> None:
        """Raises AddressInUse."""
        self._loop = loop
        self._stations = {station.instrument.name: station for station in stations}
        self._listener = listen(host, port)
        self._waiting: list[tuple[_Later, _Conversation]] = []
        loop.watch(self._listener.fileno(), lambda _: self._accept())

    @property
    def address(self) -> str:
        host, port = self._listener.getsockname()
        return f"{host}:{port}"

    def _accept(self) -> None:
        with contextlib.suppress(BlockingIOError, ConnectionError):
            client, _ = self._listener.accept()
            _Conversation(self._loop, client, self.handle)

    def handle(self, line: bytes, conversation: _Conversation) -> None:
        """Answer a request, or have it wait."""
        try:
            result = self._do(line)
        except (ValueError, TypeError, KeyError) as error:
            conversation.send({"ok": False, "error": str(error.args[0] if error.args else error)})
            return
        if isinstance(result, _Later):
            self._waiting.append((result, conversation))
            self._loop.at(result.deadline, lambda: None)
            self._loop.after_turn = self._answer_who_waits
        else:
            conversation.send({"ok": True, **result})

    def _do(self, line: bytes) -> Result | _Later:
        request = json.loads(line)
        if not isinstance(request, dict):
            raise TypeError("a request is a JSON object")
        what = request.pop("do", None)
        handler = getattr(self, f"_do_{what}", None) if what in requests() else None
        if handler is None:
            raise ValueError(f"cannot do {what!r}{did_you_mean_or(str(what), requests())}")
        result: Result | _Later | None = handler(**request)
        return {} if result is None else result

    def _answer_who_waits(self) -> None:
        """After each turn, as long as anybody waits: whatever happened may be what they wait for."""
        now = self._loop.clock.real()
        waiting, self._waiting = self._waiting, []
        for later, conversation in waiting:
            result = later.ready()
            if result is not None:
                conversation.send({"ok": True, **result})
            elif now >= later.deadline:
                conversation.send({"ok": False, "error": "waited in vain"})
            elif conversation.is_open:
                self._waiting.append((later, conversation))
        if not self._waiting:
            self._loop.after_turn = lambda: None

    def _those(self, head: str | None) -> list[Station]:
        return list(self._stations.values()) if head is None else [self._one(head)]

    def _one(self, head: str) -> Station:
        if head not in self._stations:
            raise ValueError(f"no head {head!r}{did_you_mean_or(head, self._stations)}")
        return self._stations[head]

    # -- requests: what goes wrong ------------------------------------------------------------------------------------

    def _do_fault(self, head: str | None = None, **fault: Any) -> None:
        """Sets a fault: `kind`, `match`, `skip`, `count`, `seconds`, `text`, `scale`, `at`, `reset`"""
        for station in self._those(head):
            station.faults.add(Fault(**fault))

    def _do_clear(self, head: str | None = None, kind: str | None = None) -> None:
        """Ends all faults, or those of a `kind`"""
        for station in self._those(head):
            station.faults.clear(kind)

    def _do_unplug(self, head: str | None = None, seconds: float = 0.0, reset: bool = False) -> None:
        """Closes connections (resets them, with `reset`) and refuses new ones, for `seconds` if that is not 0"""
        for station in self._those(head):
            station.unplug(seconds, reset=reset)

    def _do_replug(self, head: str | None = None) -> None:
        """Lets clients in again"""
        for station in self._those(head):
            station.plug()

    def _do_power_cycle(self, head: str | None = None, seconds: float = 0.0, reset: bool = False) -> None:
        """Switches off, and on again after `seconds`, in the state of power-on"""
        for station in self._those(head):
            station.power_cycle(seconds, reset=reset)

    def _do_overheat(self, head: str | None = None, hot: bool = True) -> None:
        """Something gets too hot; with `hot` false, no longer"""
        for station in self._those(head):
            station.instrument.overheat(self._loop.clock.now(), hot=hot)

    # -- requests: what arrived ---------------------------------------------------------------------------------------

    def _do_actions(self, head: str, since: int = 0) -> Result:
        """What a head received: `counts` by command, a page of `actions` from number `since`, `total`, `forgotten`"""
        log = self._one(head).instrument.log
        actions = log.since(since, _PAGE)
        return {"counts": log.counts, "actions": actions, "total": log.total, "forgotten": log.forgotten}

    def _do_first_safe(self, head: str, mark: float) -> Result:
        """The `action` by which a head was first made safe at or after time `mark`, null if it was not"""
        return {"action": self._one(head).instrument.log.first_safe(mark)}

    def _do_mark(self) -> Result:
        """The `time`, for marks: `CLOCK_MONOTONIC`, the same for all processes of the machine"""
        return {"time": self._loop.clock.real()}

    def _do_wait(self, head: str, command: str, count: int, timeout: float = 30.0) -> _Later:
        """Answers when a head has received a `command` (empty: a connection) `count` times in all"""
        station = self._one(head)

        def ready() -> Result | None:
            seen = station.instrument.log.counts[command] if command else station.connected
            return {"count": seen} if seen >= count else None

        return _Later(ready, self._loop.clock.real() + timeout)

    def _do_statistics(self, head: str) -> Result:
        """Of a head: `plugged`, `connections`, `connected` so far, `lines`, `received` bytes, `answers`"""
        station = self._one(head)
        return {
            "plugged": station.plugged,
            "connections": len(station.connections),
            "connected": station.connected,
            "lines": station.lines,
            "received": station.received,
            "answers": station.answers,
        }

    # -- requests: time and truth -------------------------------------------------------------------------------------

    def _do_truth(self, head: str) -> Result:
        """The `state` of a head as it is, without noise or faults"""
        return {"state": self._one(head).instrument.truth(self._loop.clock.now())}

    def _do_time(self) -> Result:
        """Simulated `seconds` since the start, and the `factor`"""
        return {"seconds": self._loop.clock.now(), "factor": self._loop.clock.factor}

    def _do_advance(self, seconds: float) -> None:
        """Simulated time jumps forward by `seconds`"""
        self._loop.clock.advance(seconds)


def requests() -> dict[str, str]:
    """What can be requested → what that does."""
    named = inspect.getmembers(ControlChannel, inspect.isfunction)
    return {name.removeprefix("_do_"): str(inspect.getdoc(do)) for name, do in named if name.startswith("_do_")}


class _Conversation:
    """One client of the control channel."""

    def __init__(self, loop: Loop, client: socket.socket, handle: Callable[[bytes, _Conversation], None]) -> None:
        self._loop = loop
        self._client = client
        self._handle = handle
        self._received = b""
        self._unsent = b""
        self.is_open = True
        client.setblocking(False)
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        loop.watch(client.fileno(), self._on_ready)

    def send(self, answer: Result) -> None:
        if self.is_open:
            self._unsent += json.dumps(answer).encode() + b"\n"
            self._flush()

    def _on_ready(self, events: int) -> None:
        if events & WRITABLE:
            self._flush()
        if events & ~WRITABLE and self.is_open:
            self._receive()

    def _receive(self) -> None:
        try:
            data = os.read(self._client.fileno(), _LONGEST)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        *lines, self._received = (self._received + data).split(b"\n")
        if not data or len(self._received) > _LONGEST:
            self._close()
        for line in lines:
            self._handle(line, self)

    def _flush(self) -> None:
        try:
            sent = os.write(self._client.fileno(), self._unsent)
        except BlockingIOError:
            sent = 0
        except OSError:
            self._close()
            return
        self._unsent = self._unsent[sent:]
        self._loop.modify(self._client.fileno(), READABLE | (WRITABLE if self._unsent else 0))

    def _close(self) -> None:
        if self.is_open:
            self.is_open = False
            self._loop.forget(self._client.fileno())
            self._client.close()
