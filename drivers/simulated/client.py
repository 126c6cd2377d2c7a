"""A laboratory under control, from the outside: start one, say what goes wrong, ask what arrived."""

from __future__ import annotations

import contextlib
import json
import os
import select
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from taskmaster.bus.errors import CallerError, PeerError
from taskmaster.drivers.simulated.actions import Action, Actions
from taskmaster.drivers.simulated.faults import FaultKind

__all__ = ["HeadAddress", "Laboratory", "SimulatorControl"]

#: Seconds that a simulator may take to start, to answer, and to end.
_PATIENCE = 30.0


class SimulatorControl:
    """The control channel of one simulator; may be shared by threads.

    Where a method takes ``head=None``, that means all heads. Raises CallerError for what the simulator cannot do,
    PeerError if it does not answer, TimeoutError from :meth:`wait`.
    """

    def __init__(self, address: str) -> None:
        """``address`` is ``host:port``, the `control` of a simulator's announcement."""
        host, _, port = address.rpartition(":")
        self.address = address
        try:
            self._socket = socket.create_connection((host, int(port)), timeout=_PATIENCE)
        except OSError as error:
            raise PeerError(f"no simulator answers at {address}: {error}; is it running?") from error
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._lines = self._socket.makefile("rb")
        self._lock = threading.Lock()

    def close(self) -> None:
        self._lines.close()
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    # -- what goes wrong ----------------------------------------------------------------------------------------------

    def fault(self, kind: FaultKind, head: str | None = None, **options: Any) -> None:
        """Set a fault; its options are the attributes of :class:`taskmaster.drivers.simulated.faults.Fault`."""
        self._ask("fault", kind=kind, head=head, **options)

    def clear(self, head: str | None = None, kind: FaultKind | None = None) -> None:
        """End all faults, or those of a kind."""
        self._ask("clear", head=head, kind=kind)

    def unplug(self, head: str | None = None, seconds: float = 0.0, *, reset: bool = False) -> None:
        """Close connections and refuse others, for some real seconds, or until :meth:`replug` if 0."""
        self._ask("unplug", head=head, seconds=seconds, reset=reset)

    def replug(self, head: str | None = None) -> None:
        """Let clients in again."""
        self._ask("replug", head=head)

    def power_cycle(self, head: str | None = None, seconds: float = 0.0, *, reset: bool = False) -> None:
        """Off, and on again after some real seconds, in the state of power-on."""
        self._ask("power_cycle", head=head, seconds=seconds, reset=reset)

    def overheat(self, head: str | None = None, *, hot: bool = True) -> None:
        """Something gets too hot; with ``hot=False`` it cools down again."""
        self._ask("overheat", head=head, hot=hot)

    # -- what arrived -------------------------------------------------------------------------------------------------

    def actions(self, head: str, since: int = 0) -> Actions:
        """What a head has received: counts, and the actions from a number on, which may be very many."""
        actions: list[Action] = []
        while True:
            page = self._ask("actions", head=head, since=since)
            actions.extend(map(_action, page["actions"]))
            if not page["actions"] or actions[-1].number + 1 >= page["total"]:
                return Actions(page["counts"], tuple(actions), page["forgotten"])
            since = actions[-1].number + 1

    def first_safe(self, head: str, mark: float) -> float | None:
        """When a head was first made safe at or after a time of :func:`time.monotonic`; None: not yet."""
        action = self._ask("first_safe", head=head, mark=mark)["action"]
        return None if action is None else _action(action).time

    def mark(self) -> float:
        """The simulator's time; on the same machine, that of :func:`time.monotonic`."""
        return float(self._ask("mark")["time"])

    def wait(self, head: str, command: str, count: int = 1, timeout: float = _PATIENCE / 2) -> int:
        """Wait until a head has received a command ``count`` times in all; returns how often it has.

        ``command`` is the short form, as in ``MEAS:CURR?``; with an empty one, connections are counted.
        """
        try:
            return int(self._ask("wait", head=head, command=command, count=count, timeout=timeout)["count"])
        except CallerError as error:
            if "in vain" not in str(error):
                raise
            raise TimeoutError(f"{head} did not receive {count} × {command or 'a connection'} in {timeout} s") from None

    def statistics(self, head: str) -> dict[str, int]:
        """`plugged`, `connections`, `connected`, `lines`, `received`, `answers`."""
        return self._ask("statistics", head=head)

    # -- time and truth -----------------------------------------------------------------------------------------------

    def truth(self, head: str) -> dict[str, float]:
        """The state of a head as it is, without noise or faults."""
        state: dict[str, float] = self._ask("truth", head=head)["state"]
        return state

    def time(self) -> float:
        """Simulated seconds since the start."""
        return float(self._ask("time")["seconds"])

    def advance(self, seconds: float) -> None:
        """Have simulated time jump forward."""
        self._ask("advance", seconds=seconds)

    def _ask(self, do: str, **arguments: Any) -> dict[str, Any]:
        request = json.dumps({"do": do, **arguments}).encode() + b"\n"
        try:
            with self._lock:
                self._socket.sendall(request)
                line = self._lines.readline()
        except OSError as error:
            raise PeerError(f"the simulator at {self.address} does not answer: {error}") from error
        if not line.endswith(b"\n"):
            raise PeerError(f"the simulator at {self.address} has ended")
        answer: dict[str, Any] = json.loads(line)
        if not answer.pop("ok"):
            raise CallerError(f"simulator at {self.address}, {do}: {answer['error']}")
        return answer


def _action(fields: list[Any]) -> Action:
    number, when, simulated, kind, command, arguments, *rest = fields
    return Action(number, when, simulated, kind, command, tuple(arguments), *rest)


@dataclass(frozen=True)
class HeadAddress:
    """Where one head is reached."""

    name: str
    identity: str
    #: ``host:port`` and the same as a VISA resource
    address: str
    resource: str
    #: path of the pseudo-terminal and the same as a VISA resource, if it has one
    pty: str | None = None
    pty_resource: str | None = None


class Laboratory:
    """A simulator in a process of its own, which ends with this one at the latest.

    >>> with Laboratory("probe", heads=2, settling=0) as probe:
    ...     probe.control.unplug("tip-1")
    ...     probe["tip-2"].resource
    'TCPIP0::127.0.0.1::…::SOCKET'
    """

    def __init__(
        self,
        simulator: str,
        environment: Mapping[str, str] | None = None,
        *,
        stdin: bytes | None = None,
        **options: object,
    ) -> None:
        """``options`` are those of the command line: ``heads=4`` is ``--heads 4``; ``stdin`` is what it reads.

        Raises PeerError if it fails.
        """
        command = [sys.executable, "-m", "taskmaster.drivers.simulated", simulator, "--parent", str(os.getpid())]
        for name, value in options.items():
            command += [f"--{name.replace('_', '-')}", str(value)]
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL if stdin is None else subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            process_group=0,
        )
        try:
            self._send(stdin)
            announcement = self._announcement(simulator)
            self.heads = tuple(HeadAddress(**head) for head in announcement["heads"])
            self.control = SimulatorControl(announcement["control"])
        except BaseException:
            self._end()
            raise

    def _send(self, data: bytes | None) -> None:
        if self.process.stdin is not None:
            # One that has ended says why by itself.
            with contextlib.suppress(BrokenPipeError), self.process.stdin as pipe:
                pipe.write(data or b"")

    def _announcement(self, simulator: str) -> dict[str, Any]:
        assert self.process.stdout is not None
        descriptor, line, deadline = self.process.stdout.fileno(), b"", time.monotonic() + _PATIENCE
        while not line.endswith(b"\n"):
            ready, _, _ = select.select([descriptor], [], [], max(0.0, deadline - time.monotonic()))
            data = os.read(descriptor, 65536) if ready else b""
            if not data:
                raise PeerError(f"the simulator {simulator!r} did not start; standard error says why")
            line += data
        announcement: dict[str, Any] = json.loads(line)
        return announcement

    def __getitem__(self, name: str) -> HeadAddress:
        return next(head for head in self.heads if head.name == name)

    def close(self) -> int:
        """End it; returns its exit status."""
        self.control.close()
        return self._end()

    def _end(self) -> int:
        assert self.process.stdout is not None
        self.process.terminate()
        try:
            status = self.process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            status = self.process.wait()
        with contextlib.closing(self.process.stdout):
            return status

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
