"""A real worker with one driver, and a daemon's end of its connection that a test speaks for.

A driver takes part as a :class:`Subject`, which says how it is configured so that it evaluates :func:`evaluate`, or
:func:`evaluate_batch`, between :func:`set_up` and :func:`tear_down`.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import msgspec
import zmq

from helpers.waiting import PATIENCE, all_ended
from taskmaster.bus import codec, messages as m, sockets
from taskmaster.bus.fields import Field
from taskmaster.bus.table import Buffer, pack_columns
from taskmaster.drivers.host import HostedWorker, spawn

__all__ = ["BAD", "INTERRUPT", "NO_OUTPUT", "SUBJECTS", "WORSE", "Stage", "Subject"]

Kind = TypeVar("Kind", bound=msgspec.Struct)

#: Inputs that are answered otherwise than with their double: an exception, one that is no Exception, an output that is
#: not what is declared, and Ctrl-C.
BAD, WORSE, NO_OUTPUT, INTERRUPT = -1.0, -2.0, -3.0, -4.0

_MARKS = "DRIVER_SUITE_MARKS"
_TESTS = Path(__file__).parents[1]
_OURS = f"{__name__}:"


@dataclass(frozen=True)
class Subject:
    """A driver, and what is in the configuration of a Master that has it."""

    driver: str
    options: Mapping[str, Any] = field(default_factory=dict)
    #: How to say what is evaluated, and by what it can be made impossible to open after :func:`set_up`.
    evaluates: Mapping[str, Any] = field(default_factory=lambda: {"function": f"{_OURS}evaluate"})
    broken: Mapping[str, Any] = field(default_factory=lambda: {"function": f"{_OURS}nowhere"})
    slots: int = 1


_BATCH = {"batch": True}
_EVALUATES_BATCH = {"function": f"{_OURS}evaluate_batch"}

#: Every driver that ships with TaskMaster.
SUBJECTS = {
    "process": Subject("process"),
    "process, batch": Subject("process", _BATCH, _EVALUATES_BATCH),
    "thread": Subject("thread", {"threads": 3}, slots=3),
    "thread, batch": Subject("thread", {"threads": 2, **_BATCH}, _EVALUATES_BATCH, slots=2),
    "gpu": Subject("gpu", {"device": "cpu", "batch": 8}, {"function": f"{_OURS}evaluate_rows"}, slots=8),
}


class Stage:
    """A worker process with a subject's driver. To be used in a ``with`` statement, which ends it."""

    def __init__(self, folder: Path, subject: Subject, *, broken: bool = False) -> None:
        self.subject = subject
        self._options = {
            "path": [str(_TESTS)],
            "setup": f"{_OURS}set_up",
            "teardown": f"{_OURS}tear_down",
            **subject.options,
            **(subject.broken if broken else subject.evaluates),
        }
        self._marks = folder / "marks"
        self._leases = 0
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._socket = sockets.router(self._context)
        address = sockets.bind(self._socket, f"ipc://{folder}/workers", "the stage")
        self.worker: HostedWorker = spawn(
            address, "m", folder, time.monotonic(), [(_MARKS, str(self._marks))], path=[_TESTS]
        )
        self._decode = codec.worker_decoder().decode

    def __enter__(self) -> Stage:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.worker.process.kill()
        self.worker.bury()
        self._context.destroy(linger=0)

    def hear(self, *kinds: type[Kind]) -> tuple[Kind, list[bytes]]:
        """The next message of one of these kinds and its frames; each hello before it is answered."""
        deadline = time.monotonic() + PATIENCE
        while self._socket.poll(max(0, round((deadline - time.monotonic()) * 1e3))):
            self._name, header, *frames = self._socket.recv_multipart()
            message = self._decode(header)
            if isinstance(message, m.WorkerHello):
                self._welcome(message)
            if isinstance(message, kinds):
                return message, frames
        raise AssertionError(f"the worker said no {' or '.join(kind.__name__ for kind in kinds)}")

    def say(self, message: msgspec.Struct, *frames: Buffer) -> None:
        """Tell it something."""
        self._socket.send_multipart([self._name, codec.encode(message), *frames])

    def evaluate(self, points: list[float]) -> dict[int, Any]:
        """Have it evaluate a lease of points; returns the output or the TaskError of each, by position."""
        self.dispatch(points)
        ended: dict[int, Any] = {}
        final = False
        while not final:
            outcome, frames = self.hear(m.Outcome)
            errors = {error.position: error for error in outcome.errors}
            n, timed = outcome.n, outcome.timed
            head = m.EventHead(0, n, "done", 0, len(frames), outcome.outputs, outcome.errors, timed=timed)
            table, _, _ = codec.event_tables(head, frames)
            rows = iter(table.rows() if table is not None else ())
            ended |= {outcome.position + k: errors[k] if k in errors else next(rows) for k in range(outcome.n)}
            final = outcome.final
        self.say(m.Settled((outcome.lease,)))
        return ended

    def dispatch(self, points: list[float]) -> None:
        """Grant it a lease of points."""
        self._leases += 1
        table = pack_columns({"x": points}, len(points))
        self.say(m.Dispatch((1, self._leases), 1, 0, table.n, table.layout), *table.frames)

    def exit_status(self) -> int | None:
        """How it ended, when it has."""
        assert all_ended([self.worker.pidfd])
        return self.worker.exit_status

    @property
    def marks(self) -> list[str]:
        """What was done in it, in order; an evaluation counts once however often there is another next to it."""
        lines = self._marks.read_text().split() if self._marks.exists() else []
        return [line for k, line in enumerate(lines) if lines[k - 1 : k] != [line]]

    def _welcome(self, hello: m.WorkerHello) -> None:
        self.slots = hello.slots
        fields = (Field("x"),), (Field("y"),)
        self.say(m.Welcome(1, hello.session, "m", self.subject.driver, self._options, *fields))


# ---------------------------------------------------------------------------------------------------------------------
# In the worker


def _mark(what: str) -> None:
    descriptor = os.open(os.environ[_MARKS], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(descriptor, f"{what}\n".encode())
    finally:
        os.close(descriptor)


def set_up() -> None:
    """What a driver does first."""
    _mark("opened")


def set_up_in_vain() -> None:
    """The same, and there is much to say of what is wrong."""
    set_up()
    raise OSError("no such folder: " + "x" * 1_000_000 + "\udcff")


def tear_down() -> None:
    """What it does last."""
    _mark("closed")


def evaluate(point: dict[str, float]) -> float | None:
    """The double, unless the point asks for something else."""
    _mark("evaluated")
    x = point["x"]
    if x == BAD:
        raise ValueError("a bad point")
    if x == WORSE:
        raise SystemExit("a worse point")
    if x == INTERRUPT:
        raise KeyboardInterrupt
    return None if x == NO_OUTPUT else 2 * x


def evaluate_batch(columns: dict[str, Any]) -> list[float | None]:
    """The same for many points at once."""
    return [evaluate({"x": x}) for x in columns["x"].tolist()]


def evaluate_rows(rows: Any) -> list[float | None]:
    """The same for the rows of an array."""
    return evaluate_batch({"x": rows[:, 0]})
